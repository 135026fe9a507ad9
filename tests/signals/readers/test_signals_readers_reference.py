"""The real tools on real histories: symbols of the reference panel, last week's reversal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from db.publishing import publish
from db.sessions import Sessions
from db.tables import signal_revisions, signals
from db.warehouse import open_warehouse
from flows.reference import reference_store
from signals import readers
from tests.signals.readers.published_history import REVERSAL, scores
from tests.signals.readers.test_signals_readers_examples import MADE, run

SYMBOLS = 60


@pytest.fixture(scope="module")
def panel(
    reference_data: Path, calendar: Sessions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A published store of some symbols of the panel, with scores of three years."""
    home = tmp_path_factory.mktemp("panel")
    drops, views = ("bars/us_equities.parquet",), {"price_factors"}
    settings = reference_store(home, drops, views, lambda said: None, symbols=SYMBOLS)
    with open_warehouse(settings, "test") as warehouse:
        publish(warehouse)
    close = readers.prices(home, start="2014-12-26", end="2017-12-29", largest_move=3)
    rows = scores(calendar, close).dropna(subset="value")
    with open_warehouse(settings, "test") as warehouse:
        warehouse.append(signals, rows)
        warehouse.append(signal_revisions, rows.assign(revision=0))
        publish(warehouse)
    return home


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("example", list(MADE))
def test_a_tool_takes_the_panel(example: str, panel: Path, tmp_path: Path) -> None:
    done = run(example, "--signals", str(panel), "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    said, file = MADE[example]
    assert said in done.stdout
    assert file is None or (tmp_path / file).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.reference
def test_symbols_come_and_go_in_the_panel(panel: Path) -> None:
    found = readers.read(panel, signal=REVERSAL)
    close = readers.prices(panel, entities=found.entities, start="2015-01-02", largest_move=3)
    assert len(found.entities) > 40
    assert close.iloc[0].isna().any()
    held = readers.portfolio_returns(readers.weights(found, close), close, cost_bps=10)
    assert (held["net"] <= held["gross"]).all()
    assert held["gross"].abs().max() < 0.3
    assert pd.notna(held["turnover"]).all()
