"""What all tests share: a home of their own, the sample night's clock, reference data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings as examples

from db.clock import SAMPLE_SESSION, Night, night
from db.sessions import Sessions, sessions
from db.settings import Settings, load_settings

# How long an example takes says something of the machine only.
examples.register_profile("untimed", examples(), deadline=None)
examples.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in one process: the tests of a file, and all that need Prefect's test server."""
    for item in items:
        needs_server = "prefect_server" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("prefect" if needs_server else str(item.path)))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path) -> Iterator[Path]:
    """A LOOKBACK_HOME and a PREFECT_HOME for every test; no setting leaks in, or out.

    What a command sets for its own process, as `lookback reproduce` does the Keras backend,
    ends with the test that ran it.
    """
    home = tmp_path / "home"
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("LOOKBACK_")]:
            if name != "LOOKBACK_REFERENCE_DATA":
                del os.environ[name]
        os.environ["LOOKBACK_HOME"] = str(home)
        os.environ["LOOKBACK_CONFIG"] = str(tmp_path / "lookback.toml")
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        yield home


@pytest.fixture
def settings(own_home: Path) -> Settings:
    """Settings of the sample profile in the test's home."""
    return load_settings(lock_wait_seconds=5)


@pytest.fixture(scope="session")
def calendar() -> Sessions:
    """The New York Stock Exchange's sessions."""
    return sessions("XNYS")


@pytest.fixture
def sample_night(settings: Settings, calendar: Sessions) -> Night:
    """The sample profile's night, 2018-12-28."""
    return night(settings, calendar, SAMPLE_SESSION)


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data, or a skip that says what is missing."""
    folder = os.environ.get("LOOKBACK_REFERENCE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LOOKBACK_REFERENCE_DATA is not set to a folder: real data is not there")
    return Path(folder)
