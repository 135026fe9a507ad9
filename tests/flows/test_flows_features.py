"""The commands about feature views, and nights with a view that fails."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from db.errors import LookbackError, ShortHistoryError
from db.publishing import publish
from db.tables import observations
from db.warehouse import open_warehouse
from features.catalog import feature_view
from features.materialize import Materialized, materialize
from flows import steps, tasks
from flows.cli import main


def lookback(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def closes(settings, calendar) -> pd.DataFrame:
    """Eighty closes of the S&P 500 up to 2018-12-28, published with their view."""
    last = pd.Timestamp("2018-12-28").date()
    days = [calendar.offset(last, -back) for back in range(79, 0, -1)] + [last]
    rows = pd.DataFrame(
        {
            "source": "sample.SP500",
            "series": "SP500",
            "period": pd.to_datetime(days),
            "value": [2500.0 + number for number in range(80)],
            "known_at": [pd.Timestamp(calendar.close(day)) + pd.Timedelta(hours=4) for day in days],
            "ingested_at": pd.Timestamp("2019-01-01", tz="UTC"),
            "run_id": "run",
        }
    )
    with open_warehouse(settings, "test") as warehouse:
        warehouse.append(observations, rows)
        materialize(warehouse, feature_view("sp500_close"))
        publish(warehouse)
    return rows


def test_list_shows_coverage_size_and_windows(closes) -> None:
    rows = json.loads(lookback("features", "list", "--windows", "--json").stdout)
    (found,) = [row for row in rows if row["view"] == "sp500_close"]
    assert found["version"] == feature_view("sp500_close").version
    assert (found["declared"], found["rows"], found["entities"]) == (True, 80, 1)
    assert (found["coverage"], found["windows"]) == (1.0, 80 - 63 + 1)
    assert found["mib"] > 0
    assert found["watermark"].startswith("2018-12-29 01:00")
    shown = lookback("features", "list")
    assert shown.exit_code == 0
    assert "sp500_close" in shown.stdout


def test_a_window_is_what_was_known_at_the_cutoff_of_its_night(closes) -> None:
    shown = lookback("features", "window", "sp500_close", "--as-of", "2018-12-27", "--json")
    window = json.loads(shown.stdout)
    assert [row["close"] for row in window] == closes["value"].iloc[16:79].tolist()
    assert [row["date"] for row in window] == closes["period"].iloc[16:79].astype(str).tolist()
    earlier = lookback(
        *("features", "window", "sp500_close", "--as-of", "2018-12-27"),
        *("--cutoff", "2018-12-27T12:00"),
    )
    assert earlier.exit_code == 1
    assert "has no window as of 2018-12-27 that was known at 2018-12-27 12:00 UTC" in earlier.stderr
    newest = lookback("features", "window", "sp500_close", "--cutoff", "2018-12-27T12:00", "--json")
    assert json.loads(newest.stdout)[-1]["date"] == "2018-12-26"


def test_a_view_that_fails_is_missing_and_the_others_go_on(
    settings, sample_night, monkeypatch
) -> None:
    run = steps.Run(settings, "nightly", sample_night)

    def outcome(run, view, name):
        if name == "price_factors":
            raise LookbackError("feature view price_factors failed for AAPL: ValueError: no")
        return None if name == "market_beta" else Materialized(name, view.version, 1, 0, 0.1)

    monkeypatch.setattr(tasks, "materialize", outcome)
    done = [one.view for one in tasks.materialize_all(run)]
    assert {"sp500_close", "equity_weekly_return"} <= set(done)
    assert {"price_factors", "market_beta"}.isdisjoint(done)
    assert run.missing == ["feature view price_factors failed for AAPL: ValueError: no"]


def test_a_young_history_is_no_failure(settings, sample_night, monkeypatch) -> None:
    run = steps.Run(settings, "nightly", sample_night)

    def young(*_):
        raise ShortHistoryError("its window of 63 rows is longer than any history")

    monkeypatch.setattr(steps, "materialize_view", young)
    assert tasks.materialize.fn(run, feature_view("sp500_close"), "sp500_close") is None
    assert run.missing == []
