"""Vintages: what was known stays known as it was, and histories are never mixed."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.availability import AfterClose
from db.sessions import sessions
from db.settings import load_settings
from db.sources.source import Request
from db.staging import Staged, stage
from db.vintages import compare
from db.warehouse import Warehouse, open_warehouse
from tests.db.deliveries import (
    Told,
    as_of,
    bars,
    counts,
    daily,
    days,
    deliver,
    monthly,
    night_of,
    series,
)

pytestmark = pytest.mark.usefixtures("by_predicates")

DAYS = days(20)


def path(*values: float) -> pd.DataFrame:
    return series(dict(zip(DAYS, values, strict=False)))


def keys(*values: float) -> dict[str, float]:
    return {str(day.date()): value for day, value in zip(DAYS, values, strict=False)}


def known_at(warehouse: Warehouse) -> list[tuple[str, float, str]]:
    rows = warehouse.sql(
        "SELECT period, value, known_at FROM raw.observations ORDER BY period, known_at, value"
    )
    return [(str(period), value, f"{instant:%Y-%m-%d %H:%M}") for period, value, instant in rows]


# ------------------------------------------------------------------------ observations


def test_a_changed_value_is_a_vintage_and_old_cutoffs_see_the_old_one(
    warehouse: Warehouse,
) -> None:
    source = daily(path(1.0, 2.0, 3.0))
    assert counts(deliver(warehouse, source, DAYS[2])) == (3, 0, 3, 0)
    source.rows = path(1.0, 2.5, 3.0, 4.0)
    assert counts(deliver(warehouse, source, DAYS[3])) == (4, 2, 2, 0)
    assert known_at(warehouse) == [
        ("2018-12-03", 1.0, "2018-12-03 22:00"),
        ("2018-12-04", 2.0, "2018-12-04 22:00"),
        ("2018-12-04", 2.5, "2018-12-08 03:00"),  # the night's time
        ("2018-12-06", 3.0, "2018-12-06 22:00"),
        ("2018-12-07", 4.0, "2018-12-07 22:00"),
    ]
    cutoff = night_of(DAYS[2]).cutoff
    assert as_of(warehouse, "observations", cutoff) == keys(1.0, 2.0, 3.0)
    just_before = night_of(DAYS[3]).now - timedelta(microseconds=1)
    assert as_of(warehouse, "observations", just_before) == keys(1.0, 2.0, 3.0, 4.0)
    assert as_of(warehouse, "observations", night_of(DAYS[3]).now) == keys(1.0, 2.5, 3.0, 4.0)


def test_a_late_row_is_known_by_rule_however_late_it_was_fetched(warehouse: Warehouse) -> None:
    rows = path(1.0, 2.0, 3.0, 4.0)
    source = daily(rows.drop(index=1))
    deliver(warehouse, source, DAYS[3])
    source.rows = rows
    night = night_of(DAYS[4], late=timedelta(hours=30))
    assert counts(deliver(warehouse, source, night)) == (4, 3, 1, 0)
    (row,) = warehouse.sql("SELECT known_at, ingested_at FROM raw.observations WHERE value = 2.0")
    assert row == (sessions().close(DAYS[1].date()) + timedelta(hours=1), night.now)
    assert as_of(warehouse, "observations", night_of(DAYS[1]).cutoff) == keys(1.0, 2.0)


def test_a_late_correction_is_known_from_the_time_it_was_fetched(warehouse: Warehouse) -> None:
    source = daily(path(1.0, 2.0))
    deliver(warehouse, source, DAYS[1])
    source.rows = path(1.0, 2.5)
    night = night_of(DAYS[2], late=timedelta(days=3))
    deliver(warehouse, source, night)
    assert as_of(warehouse, "observations", night.cutoff)["2018-12-04"] == 2.0
    assert as_of(warehouse, "observations", night.now)["2018-12-04"] == 2.5


def test_values_that_go_back_and_forth_are_all_kept(warehouse: Warehouse) -> None:
    source = daily(path(1.0, 2.0))
    for number, value in enumerate([2.0, 9.0, 2.0, 9.0, 9.0], start=1):
        source.rows = path(1.0, value)
        deliver(warehouse, source, DAYS[number])
    assert [value for _, value, _ in known_at(warehouse)] == [1.0, 2.0, 9.0, 2.0, 9.0]
    seen = [
        as_of(warehouse, "observations", night_of(DAYS[number]).cutoff)["2018-12-04"]
        for number in range(1, 6)
    ]
    assert seen == [2.0, 9.0, 2.0, 9.0, 9.0]


def test_two_corrections_at_one_replayed_time_keep_the_later(warehouse: Warehouse) -> None:
    source = daily(path(1.0, 2.0))
    for value in (2.0, 3.0, 4.0):
        source.rows = path(1.0, value)
        deliver(warehouse, source, night_of(DAYS[4]))
        warehouse.native.execute(
            "UPDATE raw.observations SET ingested_at = ingested_at - INTERVAL 1 MINUTE"
        )
    assert as_of(warehouse, "observations")["2018-12-04"] == 4.0
    assert counts(deliver(warehouse, source, night_of(DAYS[4]))) == (2, 2, 0, 0)


def test_an_older_night_that_is_replayed_later_does_not_correct_for_ever(
    warehouse: Warehouse,
) -> None:
    source = daily(path(1.0, 2.0))
    deliver(warehouse, source, DAYS[1])
    source.rows = path(1.0, 3.0)
    deliver(warehouse, source, DAYS[9])
    source.rows = path(1.0, 4.0)
    source.everything = True
    replayed_today = night_of(DAYS[19]).now
    delivery = deliver(warehouse, source, night_of(DAYS[5]), fetched_at=replayed_today)
    assert counts(delivery) == (2, 1, 1, 0)
    assert as_of(warehouse, "observations")["2018-12-04"] == 4.0
    assert as_of(warehouse, "observations", night_of(DAYS[5]).cutoff)["2018-12-04"] == 2.0
    for night in (DAYS[5], DAYS[9], DAYS[10]):
        assert counts(deliver(warehouse, source, night)) == (2, 2, 0, 0)


def test_monthly_values_are_revised(warehouse: Warehouse) -> None:
    months = pd.date_range("2018-01-01", "2018-10-01", freq="MS")
    source = monthly(series(dict.fromkeys(months, 100.0)))
    first, second = pd.Timestamp("2018-11-16"), pd.Timestamp("2018-12-17")
    deliver(warehouse, source, first)
    revised = dict.fromkeys([*months, pd.Timestamp("2018-11-01")], 100.0)
    revised |= {pd.Timestamp("2018-09-01"): 101.0, pd.Timestamp("2018-10-01"): 102.0}
    source.rows = series(revised)
    assert counts(deliver(warehouse, source, second)) == (11, 8, 3, 0)
    before = as_of(warehouse, "observations", night_of(first).cutoff)
    assert (before["2018-09-01"], before["2018-10-01"]) == (100.0, 100.0)
    after = as_of(warehouse, "observations", night_of(second).cutoff)
    assert (after["2018-09-01"], after["2018-10-01"], after["2018-11-01"]) == (101.0, 102.0, 100.0)
    # October's first value was out on November 15th, not a second before
    out = pd.Timestamp("2018-11-16", tz="UTC")
    assert "2018-10-01" in as_of(warehouse, "observations", out.to_pydatetime())
    earlier = (out - pd.Timedelta(seconds=1)).to_pydatetime()
    assert "2018-10-01" not in as_of(warehouse, "observations", earlier)


def released(*rows: tuple[int, float, str]) -> pd.DataFrame:
    """Rows of session number, value, release date."""
    return pd.DataFrame(
        {
            "series": "X",
            "period": [DAYS[number] for number, _, _ in rows],
            "value": [value for _, value, _ in rows],
            "known_at": pd.to_datetime([at for _, _, at in rows], utc=True).as_unit("us"),
        }
    )


def test_true_release_dates_win_over_the_rule(warehouse: Warehouse) -> None:
    source = daily(released((0, 1.0, "2018-12-04 13:30"), (1, 2.0, "2018-12-10 13:30")))
    deliver(warehouse, source, DAYS[9])
    assert [row[2] for row in known_at(warehouse)] == ["2018-12-04 13:30", "2018-12-10 13:30"]


def test_all_releases_of_a_value_come_at_once_and_again(warehouse: Warehouse) -> None:
    rows = [
        (0, 1.0, "2018-12-04 13:30"),
        (0, 1.1, "2018-12-06 13:30"),
        (0, 1.2, "2018-12-10 13:30"),
        (1, 2.0, "2018-12-06 13:30"),
    ]
    source = daily(released(*rows), everything=True)
    assert counts(deliver(warehouse, source, DAYS[6])) == (4, 0, 4, 0)
    stored = known_at(warehouse)
    for night in (7, 8):
        assert counts(deliver(warehouse, source, DAYS[night])) == (4, 4, 0, 0)
    # a later release, fetched some nights after it, is known from its date
    source.rows = released(*rows, (0, 1.3, "2018-12-13 13:30"))
    assert counts(deliver(warehouse, source, DAYS[12])) == (5, 4, 1, 0)
    assert counts(deliver(warehouse, source, DAYS[13])) == (5, 5, 0, 0)
    source.rows = released(*rows, (0, 1.3, "2018-12-13 13:30"), (0, 1.0, "2018-12-20 13:30"))
    assert counts(deliver(warehouse, source, DAYS[14])) == (6, 5, 1, 0)
    assert counts(deliver(warehouse, source, DAYS[15])) == (6, 6, 0, 0)
    assert set(stored) < set(known_at(warehouse))
    for instant, value in (
        ("2018-12-05", 1.0),
        ("2018-12-07", 1.1),
        ("2018-12-13 13:29", 1.2),
        ("2018-12-13 13:30", 1.3),
        ("2018-12-21", 1.0),
    ):
        at = pd.Timestamp(instant, tz="UTC").to_pydatetime()
        assert as_of(warehouse, "observations", at)["2018-12-03"] == value


def test_a_value_rewritten_under_its_old_release_date_is_known_when_fetched(
    warehouse: Warehouse,
) -> None:
    source = daily(released((0, 1.0, "2018-12-04 13:30")))
    deliver(warehouse, source, DAYS[4])
    source.rows = released((0, 1.5, "2018-12-04 13:30"))
    deliver(warehouse, source, DAYS[5])
    assert as_of(warehouse, "observations", night_of(DAYS[4]).cutoff)["2018-12-03"] == 1.0
    assert as_of(warehouse, "observations", night_of(DAYS[5]).cutoff)["2018-12-03"] == 1.5


def test_a_missing_release_date_falls_back_to_the_rule(warehouse: Warehouse) -> None:
    frame = released((0, 1.0, "2018-12-04 13:30"), (1, 2.0, "2018-12-10 13:30"))
    frame.loc[1, "known_at"] = pd.NaT
    deliver(warehouse, daily(frame), DAYS[9])
    assert [row[2] for row in known_at(warehouse)] == ["2018-12-04 13:30", "2018-12-04 22:00"]


# -------------------------------------------------------------------------------- bars


def test_a_corrected_raw_bar_is_a_vintage_of_its_history(warehouse: Warehouse) -> None:
    source = Told(bars({"A": [10.0, 11.0, 12.0]}), adjustment="raw")
    deliver(warehouse, source, DAYS[2])
    source.rows = bars({"A": [10.0, 11.5, 12.0, 12.5]})
    assert counts(deliver(warehouse, source, DAYS[3])) == (4, 2, 2, 0)
    assert warehouse.sql("SELECT DISTINCT history, adjustment FROM raw.bars") == [(0, "raw")]
    second = ("A", "2018-12-04")
    assert as_of(warehouse, "bars", night_of(DAYS[2]).cutoff)[second] == 11.0
    assert as_of(warehouse, "bars", night_of(DAYS[3]).cutoff)[second] == 11.5


def test_a_restated_history_is_taken_over_whole(warehouse: Warehouse) -> None:
    source = Told(bars({"A": np.arange(100.0, 115.0), "B": np.arange(50.0, 65.0)}))
    deliver(warehouse, source, DAYS[14])
    halved = bars({"A": np.arange(100.0, 116.0) / 2, "B": np.arange(50.0, 66.0)})
    source.rows = halved
    # eleven sessions of overlap and the new one of B, all sixteen of A
    assert counts(deliver(warehouse, source, DAYS[15])) == (28, 11, 17, 0)
    assert source.requests[-1].entities == ["A"]
    assert warehouse.sql(
        "SELECT entity, history, count(*) FROM raw.bars GROUP BY ALL ORDER BY ALL"
    ) == [("A", 0, 15), ("A", 1, 16), ("B", 0, 16)]
    now = as_of(warehouse, "bars", night_of(DAYS[15]).cutoff)
    assert now == {(r.entity, str(r.session.date())): r.adj_close for r in halved.itertuples()}
    before = as_of(warehouse, "bars", night_of(DAYS[15]).now - timedelta(seconds=1))
    assert [before["A", str(day.date())] for day in DAYS[:15]] == list(np.arange(100.0, 115.0))
    assert ("A", str(DAYS[15].date())) not in before
    # the next nights go on in the new history
    source.rows = bars({"A": np.arange(100.0, 117.0) / 2, "B": np.arange(50.0, 67.0)})
    deliver(warehouse, source, DAYS[16])
    assert warehouse.one(
        "SELECT history FROM raw.bars WHERE entity = 'A' AND session = ?", DAYS[16].date()
    ) == (1,)


def test_a_late_bar_of_a_restated_history_is_not_known_before_it(warehouse: Warehouse) -> None:
    whole = np.arange(100.0, 106.0)
    source = Told(bars({"A": whole}))
    deliver(warehouse, source, DAYS[5])
    holed = [None if number == 2 else value / 2 for number, value in enumerate(whole)]
    source.rows = bars({"A": holed})
    deliver(warehouse, source, DAYS[6])
    source.rows = bars({"A": whole / 2})
    deliver(warehouse, source, DAYS[7])
    late = ("A", str(DAYS[2].date()))
    assert as_of(warehouse, "bars", night_of(DAYS[5]).cutoff)[late] == 102.0
    assert as_of(warehouse, "bars")[late] == 51.0
    assert warehouse.one("SELECT min(known_at) FROM raw.bars WHERE history = 1") == (
        night_of(DAYS[6]).now,
    )


def test_a_symbol_that_was_away_comes_back_with_its_whole_history(warehouse: Warehouse) -> None:
    names = {"A": np.arange(10.0, 30.0), "B": np.arange(50.0, 70.0)}
    source = Told(bars({"A": names["A"][:3], "B": names["B"][:3]}))
    deliver(warehouse, source, DAYS[2])
    for number in (6, 10, 14, 17):  # A is not answered for, longer than the overlap
        source.rows = bars({"B": names["B"][: number + 1]})
        deliver(warehouse, source, DAYS[number])
    # meanwhile it paid a dividend: its first three prices have another scale
    source.rows = bars(
        {"A": names["A"][:19] * 0.9, "B": names["B"][:19], "C": np.arange(1.0, 20.0)}
    )
    deliver(warehouse, source, DAYS[18])
    now = as_of(warehouse, "bars", night_of(DAYS[18]).cutoff)
    assert [now["A", str(day.date())] for day in DAYS[:19]] == list(names["A"][:19] * 0.9)
    # C is new to the settings: its history comes at once, not ten sessions of it
    assert sum(entity == "C" for entity, _ in now) == 19
    before = as_of(warehouse, "bars", night_of(DAYS[17]).cutoff)
    assert [before.get(("A", str(day.date()))) for day in DAYS[:4]] == [10.0, 11.0, 12.0, None]


factors = st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.98])


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(nights=st.lists(st.tuples(factors, factors, st.booleans()), min_size=2, max_size=6))
def test_at_any_cutoff_the_store_shows_what_the_vendor_showed_then(
    nights: list[tuple[float, float, bool]], empty_store: Path
) -> None:
    """As if later deliveries had never come; two symbols, rescaled at any time."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copyfile(empty_store, home / "warehouse.duckdb")
        with open_warehouse(load_settings(home=home), "test") as warehouse:
            _check_every_cutoff(warehouse, nights)


def _check_every_cutoff(warehouse: Warehouse, nights: list[tuple[float, float, bool]]) -> None:
    start = 12  # more sessions than the overlap reaches back
    held = {"A": np.linspace(100, 110, start), "B": np.linspace(20, 30, start)}
    source = Told(bars(held))
    shown: list[tuple[Any, dict[Any, float]]] = []
    for number in range(len(nights) + 1):
        if number:
            *scales, skipped = nights[number - 1]
            for (name, prices), scale in zip(list(held.items()), scales, strict=True):
                held[name] = np.append(prices * scale, prices[-1] * scale * 1.01)
            if skipped:  # nothing is asked for on this night
                continue
            source.rows = bars(held)
        night = night_of(DAYS[start + number - 1])
        deliver(warehouse, source, night)
        shown.append(
            (
                night.cutoff,
                {(r.entity, str(r.session.date())): r.adj_close for r in source.rows.itertuples()},
            )
        )
    for cutoff, rows in shown:
        assert as_of(warehouse, "bars", cutoff) == rows
        for instant in (cutoff - timedelta(hours=5), cutoff + timedelta(hours=12)):
            visible = as_of(warehouse, "bars", instant)
            for name in held:  # every price of a symbol is of one delivery
                prices = {key: value for key, value in visible.items() if key[0] == name}
                assert any(prices.items() <= given.items() for _, given in shown)


# ----------------------------------------------------------------------------- compare


def statuses(warehouse: Warehouse, source: Told, folder: Path) -> list[str]:
    staged: Staged = stage(source, Request(None, night_of(DAYS[9]).now), folder)
    return list(compare(warehouse, staged))


def test_status_of_every_row(warehouse: Warehouse, tmp_path: Path) -> None:
    source = daily(path(1.0, 2.0, float("nan"), 4.0))
    deliver(warehouse, source, DAYS[3])
    source.rows = path(1.0, 2.1, float("nan"), 4.0, 5.0)
    expected = ["unchanged", "changed", "held", "unchanged", "new"]
    assert statuses(warehouse, source, tmp_path) == expected
    shuffled = source.rows.sample(frac=1, random_state=3)
    source.rows = shuffled
    assert statuses(warehouse, source, tmp_path) == [expected[row] for row in shuffled.index]


def test_another_source_has_vintages_of_its_own(warehouse: Warehouse, tmp_path: Path) -> None:
    deliver(warehouse, daily(path(1.0, float("nan"))), DAYS[3])
    other = daily(path(1.0, float("nan")), name="other.X")
    assert statuses(warehouse, other, tmp_path) == ["new", "new"]


def test_a_blank_that_fills_and_a_value_that_goes_blank(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    rows = bars({"A": [1.0, 2.0]}).assign(volume=[10.0, None])
    source = Told(rows, adjustment="raw")
    deliver(warehouse, source, DAYS[1])
    assert statuses(warehouse, source, tmp_path) == ["unchanged", "unchanged"]
    source.rows = rows.assign(volume=[None, 10.0])
    assert statuses(warehouse, source, tmp_path) == ["changed", "changed"]


def test_rules_know_their_hours() -> None:
    assert Told(bars({})).availability == AfterClose(1)
