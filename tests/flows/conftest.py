"""One Prefect test server for all tests of flows, and a recipe that learns in seconds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import catalog
from models.recipes import Recipe


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary Prefect server with a database of its own."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        home = tmp_path_factory.mktemp("prefect")
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture
def quick_recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Nights with one signal: the chapter's network, trained for two epochs on two years."""
    from datetime import date

    quick = catalog.recipe("sp500_next_close").with_changes(
        max_epochs=2, train_from=date(2016, 6, 1)
    )
    monkeypatch.setitem(catalog.RECIPES, "sp500_next_close", (quick,))
    monkeypatch.setenv("LOOKBACK_SIGNALS", '["sp500_next_close"]')
    return quick


@pytest.fixture
def drops(tmp_path: Path) -> Path:
    """An empty folder of drops."""
    for kind in ("bars", "observations", "documents"):
        (tmp_path / "drops" / kind).mkdir(parents=True)
    return tmp_path / "drops"
