"""A published file with three years of a signal: real closes of twenty stocks, made-up scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from db.sessions import Sessions
from db.settings import Settings
from db.warehouse import open_warehouse
from signals import readers
from tests.signals.readers.published_history import REVERSAL, closes, scores, store


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store without rows."""
    home = tmp_path_factory.mktemp("empty")
    with open_warehouse(Settings(home=home, profile="sample"), "test"):
        pass
    return home / "warehouse.duckdb"


@pytest.fixture(scope="session")
def history(empty: Path, calendar: Sessions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the store; nobody changes it."""
    close = closes()
    home = tmp_path_factory.mktemp("history")
    return store(home, empty, scores(calendar, close.loc[:"2018-12-21"]), close)


@pytest.fixture(scope="session")
def reversal(history: Path) -> readers.Signals:
    """The signal of the store."""
    return readers.read(history, signal=REVERSAL)


@pytest.fixture(scope="session")
def close(history: Path) -> pd.DataFrame:
    """The closes of the store."""
    return readers.prices(history)
