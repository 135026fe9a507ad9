"""`lookback backfill` on the sample profile: the rows of nights, walk-forward, taken up."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from db.clock import night
from db.errors import StoreError, UsageError
from db.publishing import query_published
from db.settings import Settings, load_settings
from db.sources.catalog import sources
from flows import steps
from flows.backfill import Asked, fill_in
from flows.cli import main

LAST = date(2019, 1, 31)
ROWS = """
    SELECT * EXCLUDE (role, run_id, published_at)
    FROM signals
    WHERE role = '{role}' AND as_of >= DATE '2018-12-24'
    ORDER BY ALL
"""


@pytest.fixture
def store(quick_recipe, calendar, own_home: Path) -> Settings:
    """The S&P 500 of the sample profile, taken over and materialized; no night has run."""
    settings = load_settings()
    run = steps.Run(settings, "nightly", night(settings, calendar, LAST))
    (source,) = (each for each in sources(settings) if each.name == "sample.SP500")
    (request,) = steps.requests(run, [source])
    steps.take_over(run, steps.fetch(run, source, request))
    from features.catalog import feature_views

    steps.materialize_view(run, feature_views()["sp500_close"], lambda *_: None)
    return settings


def frame(settings: Settings, query: str) -> pd.DataFrame:
    columns, rows = query_published(settings, query)
    return pd.DataFrame(rows, columns=columns)


def test_past_nights_are_filled_in_walk_forward_and_taken_up(store: Settings) -> None:
    asked = Asked(date(2018, 12, 28), date(2019, 1, 7), retrain="year")
    report = fill_in(store, asked)
    assert (report.exit_code, report.missing) == (0, ())
    # one version for the last two sessions of 2018, another for the first four of 2019
    assert [(row["nights"], row["new"]) for row in report.scored] == [(2, 2), (4, 4)]
    assert [row["model_version"][:8] for row in report.scored] == ["20171229", "20181231"]
    versions = frame(
        store, "SELECT DISTINCT stage, cutoff < DATE '2019-01-02' AS before FROM model_versions"
    )
    assert versions.values.tolist() == [["walk-forward", True]]
    assert frame(store, "SELECT count(*) AS n FROM ops.promotions")["n"].tolist() == [0]
    found = frame(
        store,
        """
        SELECT s.as_of, s.role, s.tradable_from, o.realised, o.tradable_return
        FROM signals s
        LEFT JOIN outcomes o USING (signal, entity, as_of, horizon, role, model_version)
        ORDER BY as_of
        """,
    )
    assert set(found["role"]) == {"backfill"}
    assert (found["tradable_from"] > found["as_of"]).all()
    # the newest night of a store without nights is the last one asked for: what comes after
    # it is not known yet
    assert found["realised"].notna().tolist() == [True] * 5 + [False]
    assert found["tradable_return"].notna().tolist() == [True] * 4 + [False] * 2
    runs = frame(store, "SELECT flow, status, exit_code, session FROM runs")
    assert runs.values.tolist() == [["backfill", "completed", 0, date(2019, 1, 7)]]

    again = fill_in(store, asked)
    assert [(row["rows"], row["new"], row["revised"]) for row in again.scored] == [
        (2, 0, 0),
        (4, 0, 0),
    ]


def test_the_champion_of_the_time_gives_the_rows_of_the_nights(
    store: Settings, prefect_server: None
) -> None:
    from flows.nightly import nightly

    nights = [date(2018, 12, 26), date(2018, 12, 27)]
    for session in nights:
        assert nightly(session=session).exit_code == 0
    result = CliRunner().invoke(
        main, ["backfill", "--from", "2018-12-25", "--to", "2018-12-27", "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["new"] for row in report["scored"]] == [2]
    live, filled = (frame(store, ROWS.format(role=role)) for role in ("live", "backfill"))
    pd.testing.assert_frame_equal(live, filled)
    assert len(live) == 2
    # nights come first: what they have not brought in cannot be filled in
    with pytest.raises(UsageError, match="--to 2019-01-04 lies after the newest night, 2018-12-27"):
        fill_in(store, Asked(date(2018, 12, 27), date(2019, 1, 4)))
    # nothing that a backfill writes is a newest signal
    newest = frame(store, "SELECT role, as_of FROM signals_latest")
    assert newest.values.tolist() == [["live", date(2018, 12, 27)]]


def test_wrong_dates_and_names_are_one_line(store: Settings) -> None:
    with pytest.raises(UsageError, match="--from 2018-01-05 lies after --to 2018-01-01"):
        fill_in(store, Asked(date(2018, 1, 5), date(2018, 1, 1)))
    with pytest.raises(UsageError, match="no signal 'sp5000'"):
        fill_in(store, Asked(date(2018, 1, 1), date(2018, 1, 5), signals=("sp5000",)))
    with pytest.raises(UsageError, match="has no recipe 'best', only chapter"):
        fill_in(store, Asked(date(2018, 1, 2), date(2018, 1, 5), recipe="best"))


def test_without_a_store_there_is_nothing_to_fill_in(own_home: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*; run: lookback nightly"):
        fill_in(load_settings(), Asked(date(2018, 1, 2), date(2018, 1, 5)))
    assert not own_home.exists()


def test_too_little_history_is_missing_and_the_rest_is_filled_in(store: Settings) -> None:
    report = fill_in(store, Asked(date(1990, 12, 20), date(1991, 1, 4)))
    assert report.exit_code == 3
    assert all("sp500_next_close, 199" in line for line in report.missing)
    assert report.scored == ()
