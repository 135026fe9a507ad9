"""Views in SQL: the macros give what Python reads, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from features.catalog import feature_view
from features.materialize import materialize
from features.view import Feature, FeatureView, Input
from features.windows import read_windows

MOVES = FeatureView(
    name="moves",
    description="closes and their changes",
    entity="series",
    inputs=(Input("observations", memory=2),),
    sql="""
        SELECT series AS entity, period AS date, value AS close,
            value / lag(value, 2) OVER s AS change,
            greatest(known_at, lag(known_at, 1) OVER s, lag(known_at, 2) OVER s) AS known_at
        FROM observations
        WINDOW s AS (PARTITION BY series ORDER BY period)
    """,
    features=(Feature("close"), Feature("change", memory=2)),
    window=4,
    target="close",
    horizon=1,
    horizon_unit="session",
)


def in_sql(warehouse, view, cutoff, on=None):
    source = f"{view.table}_windows(?)" if on is None else f"{view.table}_windows_on(?, ?)"
    found = warehouse.native.execute(
        f"FROM {source} ORDER BY as_of, entity", (cutoff,) if on is None else (cutoff, on)
    ).fetchnumpy()
    keys = list(zip(found["as_of"].astype("M8[D]"), found["entity"], strict=True))
    values = [np.stack(found[name]) for name in view.names] if keys else []
    known = pd.DatetimeIndex(found["known_at"], tz="UTC")
    return keys, np.stack(values, axis=-1) if values else None, known


def require_equal(warehouse, view, cutoff, on=None):
    windows = read_windows(warehouse, view, cutoff, as_of=on)
    keys, values, known = in_sql(warehouse, view, cutoff, on)
    index = windows.index
    assert keys == list(zip(index["as_of"].to_numpy("M8[D]"), index["entity"], strict=True))
    if keys:
        np.testing.assert_array_equal(values, windows.X)
        assert known.tolist() == index["known_at"].tolist()
    return len(keys)


@pytest.fixture
def days(calendar):
    start = pd.Timestamp("2018-01-02").date()
    return [str(calendar.offset(start, number)) for number in range(60)]


@pytest.fixture
def broken(raw, days):
    """Three series: a spike, a jump, a level; holes short and long; a correction; a late row."""
    rng = np.random.default_rng(7)
    for series in ("A", "B", "C"):
        kept = [day for day in days if not (series == "B" and days[20] <= day < days[26])]
        kept = [day for day in kept if not (series == "C" and day in days[30:33])]
        raw.observe({day: float(rng.uniform(50, 100)) for day in kept}, series=series)
    raw.append_break("spike", days[10], until=days[12], resolved=days[13], entity="A")
    raw.append_break("jump", days[40], resolved=days[50], entity="A")
    raw.append_break("level", days[45], resolved=days[55], entity="C")
    raw.observe({days[15]: 1.0}, known_at=raw.known_at(days[18]), series="A")
    raw.observe({days[31]: 2.0}, known_at=raw.known_at(days[36]), series="C")
    materialize(raw.warehouse, MOVES)
    return raw


def test_windows_in_sql_are_those_of_python_at_every_cutoff(broken, days):
    counts = [
        require_equal(broken.warehouse, MOVES, broken.known_at(day) + timedelta(hours=hours))
        for day in days[::3]
        for hours in (-1, 1)
    ]
    assert counts[-1] > counts[len(counts) // 2] > 0


def test_windows_on_a_day_are_those_of_all_days(broken, days):
    cutoff = broken.known_at(days[-1])
    found = [
        require_equal(broken.warehouse, MOVES, cutoff, pd.Timestamp(day).date()) for day in days
    ]
    assert max(found) == 3
    assert min(found[4:]) < 3


def test_values_in_sql_are_masked_behind_breaks_and_gaps(broken, days):
    found = broken.warehouse.frame(
        "SELECT date, close, change FROM features.moves_as_of(?) WHERE entity = 'B' ORDER BY date",
        broken.known_at(days[-1]),
    )
    empty = found.loc[found["change"].isna(), "date"].dt.strftime("%Y-%m-%d").tolist()
    assert empty == [*days[:2], *days[26:28]]
    assert found["close"].notna().all()


def test_each_version_has_macros_and_the_last_one_the_short_names(broken, days):
    longer = replace(MOVES, window=6)
    materialize(broken.warehouse, longer)
    cutoff = broken.known_at(days[-1])
    lengths = {
        name: len(
            broken.warehouse.one(f"SELECT close FROM features.{name}_windows(?) LIMIT 1", cutoff)[0]
        )
        for name in (f"moves_{MOVES.version}", f"moves_{longer.version}", "moves")
    }
    assert list(lengths.values()) == [4, 6, 6]


def test_the_calendar_is_there_for_sql(broken, calendar):
    materialize(broken.warehouse, feature_view("sp500_close"))
    rows = broken.warehouse.sql(
        "SELECT session, number, week_end, month_end FROM sessions "
        "WHERE session BETWEEN DATE '2018-03-26' AND DATE '2018-04-02' ORDER BY 1"
    )
    # Good Friday
    assert [str(row[0])[5:] for row in rows] == ["03-26", "03-27", "03-28", "03-29", "04-02"]
    assert [str(row[2])[5:] for row in rows] == ["03-29"] * 4 + ["04-06"]
    assert [str(row[3])[5:] for row in rows] == ["03-29"] * 4 + ["04-30"]
    assert np.diff([row[1] for row in rows]).tolist() == [1, 1, 1, 1]
