"""Staging: what is asked of a source, and what it delivered on disk."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from db.clock import Night
from db.errors import SourceError
from db.sessions import Sessions
from db.settings import load_settings
from db.sources.source import BAR_COLUMNS, Fetched, Request
from db.staging import request_for, stage, stage_whole
from db.tables import watermarks
from db.warehouse import Warehouse
from tests.db.deliveries import Told, bars, daily, days, deliver, monthly, night_of, series

NIGHT = night_of(date(2018, 12, 28))
WHOLE = Request(start=None, until=NIGHT.now)


def test_the_first_night_asks_for_everything(warehouse: Warehouse, calendar: Sessions) -> None:
    request = request_for(warehouse, daily(series({})), NIGHT, calendar)
    assert request == Request(start=None, until=NIGHT.now)


def test_later_nights_ask_from_the_overlap_on(warehouse: Warehouse, calendar: Sessions) -> None:
    warehouse.insert(
        watermarks,
        {
            "source": "told.X",
            "last_date": date(2018, 12, 27),
            "state": {"etag": "abc", "sizes": [1, 2]},
            "fetched_at": NIGHT.now,
        },
    )
    source = daily(series({}))
    request = request_for(warehouse, source, NIGHT, calendar)
    assert request.start == calendar.offset(date(2018, 12, 27), -10) == date(2018, 12, 12)
    assert request.until == NIGHT.now
    assert dict(request.state) == {"etag": "abc", "sizes": [1, 2]}
    source.frequency = "month"
    assert request_for(warehouse, source, NIGHT, calendar).start == date(2017, 12, 27)
    short = Warehouse(warehouse.connection, load_settings(overlap_sessions=1))
    source.frequency = "session"
    assert request_for(short, source, NIGHT, calendar).start == date(2018, 12, 26)


def test_a_source_without_rows_is_asked_for_everything_again(
    warehouse: Warehouse, calendar: Sessions
) -> None:
    warehouse.insert(
        watermarks,
        {"source": "told.X", "last_date": None, "state": {"n": 1}, "fetched_at": NIGHT.now},
    )
    request = request_for(warehouse, daily(series({})), NIGHT, calendar)
    assert (request.start, dict(request.state)) == (None, {"n": 1})


def test_a_late_night_asks_until_its_own_time(warehouse: Warehouse, calendar: Sessions) -> None:
    late = night_of(date(2018, 12, 26), late=timedelta(days=2))
    assert request_for(warehouse, daily(series({})), late, calendar).until == late.now


def test_rows_lie_on_disk_with_all_columns_of_their_kind(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    told = Told(bars({"A": [1.0, 2.0]}), problems=("told.bars: B: no answer",), state={"seen": 2})
    staged = stage(told, WHOLE, tmp_path / "run")
    frame = pd.read_parquet(staged.rows)
    assert tuple(frame.columns) == BAR_COLUMNS
    assert frame["open"].isna().all()
    assert list(frame["adj_close"]) == [1.0, 2.0]
    assert (staged.fetched, staged.problems, staged.state) == (
        2,
        ("told.bars: B: no answer",),
        {"seen": 2},
    )
    assert staged.actions is None
    assert before <= staged.fetched_at <= datetime.now(UTC)


def test_the_vendors_other_columns_stay_behind_and_release_dates_come_along(
    tmp_path: Path,
) -> None:
    released = pd.Timestamp("2018-12-14 13:30", tz="UTC")
    frame = series({"2018-12-03": 1.0}, known_at=released, note="n", realtime_start="x")
    staged = stage(daily(frame), WHOLE, tmp_path)
    found = pd.read_parquet(staged.rows)
    assert list(found.columns) == ["series", "period", "value", "known_at"]
    assert found["known_at"][0] == released


def test_a_missing_key_column_is_the_sources_fault(tmp_path: Path) -> None:
    frame = series({"2018-12-03": 1.0}).drop(columns=["series", "period"])
    with pytest.raises(SourceError, match=r"told\.X delivered no column period, series"):
        stage(daily(frame), WHOLE, tmp_path)


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([1.5, "n/a", None], ["1.5", "n/a", None]),
        (["1.50", "2,5", "."], ["1.50", "2,5", "."]),
        ([1, "x", float("nan")], ["1", "x", None]),
        ([True, 2.0, "3"], ["True", "2.0", "3"]),
    ],
)
def test_mixed_columns_are_kept_as_text(
    values: list[Any], stored: list[Any], tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {
            "series": "X",
            "period": pd.to_datetime(days(3)),
            "value": pd.Series(values, dtype="object"),
        }
    )
    staged = stage(daily(frame), WHOLE, tmp_path)
    assert pq.read_table(staged.rows)["value"].to_pylist() == stored
    assert list(frame["value"].isna()) == [value is None for value in stored]  # not altered


def test_no_rows_are_staged_as_no_rows(tmp_path: Path) -> None:
    for told in (Told(bars({})), daily(series({})), Told(pd.DataFrame(columns=BAR_COLUMNS))):
        staged = stage(told, WHOLE, tmp_path)
        assert staged.fetched == len(pd.read_parquet(staged.rows)) == 0


def test_actions_are_staged_beside_the_rows(tmp_path: Path) -> None:
    actions = pd.DataFrame(
        {
            "entity": ["A"],
            "ex_date": pd.to_datetime(["2018-12-04"]),
            "kind": ["split"],
            "factor": [2.0],
            "vendor_note": ["2:1"],
        }
    )
    staged = stage(Told(bars({"A": [2.0, 1.0]}), actions=actions), WHOLE, tmp_path)
    assert staged.actions is not None
    assert pd.read_parquet(staged.actions).to_dict("records") == [
        {"entity": "A", "ex_date": pd.Timestamp("2018-12-04"), "kind": "split", "factor": 2.0}
    ]


def test_a_source_that_fails_stages_nothing(tmp_path: Path) -> None:
    class Down(Told):
        def fetch(self, request: Request) -> Fetched:
            raise SourceError("told.bars: no answer")

    with pytest.raises(SourceError, match="no answer"):
        stage(Down(bars({})), WHOLE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_whole_histories_replace_the_newest_part(tmp_path: Path) -> None:
    told = Told(bars({"A": np.arange(1.0, 9.0), "B": np.arange(11.0, 19.0)}))
    newest = Request(start=days(8)[6].date(), until=NIGHT.now, state={"kept": 1})
    staged = stage(told, newest, tmp_path)
    told.problems = ("told.bars: A: some sessions are missing",)
    whole = stage_whole(staged, ["A"])
    frame = pd.read_parquet(whole.rows)
    assert frame.groupby("entity").size().to_dict() == {"A": 8, "B": 2}
    assert whole.fetched == len(frame) == 10
    assert told.requests[-1] == Request(
        start=None, until=NIGHT.now, entities=["A"], state={"kept": 1}
    )
    assert whole.request == newest  # what the night asked for
    assert whole.problems == told.problems
    assert whole.fetched_at == staged.fetched_at


def test_an_action_of_both_fetches_counts_as_the_later_says_it(tmp_path: Path) -> None:
    told = Told(bars({"A": [1.0, 2.0]}), actions=_dividends({"2018-12-03": 0.5}))
    newest = Request(start=days(8)[1].date(), until=NIGHT.now)
    staged = stage(told, newest, tmp_path)
    told.actions = _dividends({"2018-12-03": 0.6, "2018-12-04": 0.7})
    whole = stage_whole(staged, ["A"])
    assert whole.actions is not None
    assert pd.read_parquet(whole.actions)["factor"].to_list() == [0.6, 0.7]


def _dividends(factors: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "entity": "A",
            "ex_date": pd.to_datetime(list(factors)),
            "kind": "dividend",
            "factor": list(factors.values()),
        }
    )


def test_monthly_series_are_asked_for_a_year_of_revisions(
    warehouse: Warehouse, calendar: Sessions, by_predicates: None
) -> None:
    months = pd.date_range("2016-01-01", "2018-11-01", freq="MS")
    source = monthly(series(dict.fromkeys(months, 1.0)))
    deliver(warehouse, source, NIGHT)
    assert request_for(warehouse, source, NIGHT, calendar).start == date(2017, 11, 1)


def test_a_night_is_frozen() -> None:
    with pytest.raises(AttributeError):
        NIGHT.session = date(2018, 12, 27)  # type: ignore[misc]
    assert isinstance(NIGHT, Night)
