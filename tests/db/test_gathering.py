"""Gathering: another order of the same rows, once for each period that has ended."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from db import gathering
from db.gathering import gather
from db.tables import signals
from db.warehouse import Warehouse


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ROWS_WORTH_GATHERING", 4)


def put(warehouse: Warehouse, days: list[date], signal: str = "s", role: str = "live") -> None:
    """Append two entities a date, as nights do."""
    instant = pd.Timestamp("2018-12-29 03:00", tz="UTC")
    for day in days:
        rows = {
            "signal": signal,
            "entity": ["A", "B"],
            "as_of": day,
            "horizon": 1,
            "horizon_unit": "week",
            "role": role,
            "known_at": instant,
            "tradable_from": day,
            "value": [day.month, 100 + day.day],
            "model": "m",
            "model_version": "v",
            "feature_view": "f",
            "feature_version": "fv",
            "data_snapshot": "d",
            "published_at": instant,
            "run_id": "r",
        }
        warehouse.append(signals, pd.DataFrame(rows))


def order(warehouse: Warehouse) -> list[tuple[int, int, str]]:
    """Year, month and entity of the rows as they lie in the table."""
    return warehouse.sql(
        "SELECT year(as_of), month(as_of), entity FROM main.signals ORDER BY rowid"
    )


def content(warehouse: Warehouse) -> list[tuple[object, ...]]:
    return warehouse.sql("SELECT * FROM main.signals ORDER BY ALL")


def fifth(year: int, *months: int) -> list[date]:
    return [date(year, month, 5) for month in months]


def test_a_year_that_ended_is_gathered_by_entity_and_once(warehouse: Warehouse) -> None:
    put(warehouse, fifth(2017, 1, 2, 3))
    assert gather(warehouse) == 0
    put(warehouse, fifth(2018, 1, 2))
    before = content(warehouse)
    assert gather(warehouse) == 6
    expected = [(2017, month, entity) for entity in "AB" for month in (1, 2, 3)]
    assert [row for row in order(warehouse) if row[0] == 2017] == expected
    assert [row[2] for row in order(warehouse) if row[0] == 2018] == ["A", "B"] * 2
    assert content(warehouse) == before
    assert gather(warehouse) == 0


def test_a_year_that_a_backfill_added_to_is_gathered_again(warehouse: Warehouse) -> None:
    put(warehouse, [*fifth(2017, *range(1, 7)), date(2018, 1, 5)])
    assert gather(warehouse) == 12
    put(warehouse, fifth(2017, 7))
    assert gather(warehouse) == 0
    put(warehouse, fifth(2017, 8))
    assert gather(warehouse) == 16


def test_roles_lie_apart(warehouse: Warehouse) -> None:
    put(warehouse, fifth(2017, 1, 2))
    put(warehouse, fifth(2017, 1, 2), role="backfill")
    put(warehouse, fifth(2018, 1))
    gather(warehouse)
    found = warehouse.sql(
        "SELECT role, entity FROM main.signals WHERE year(as_of) = 2017 ORDER BY rowid"
    )
    assert found == [(role, entity) for role in ("backfill", "live") for entity in "AABB"]


def test_the_newest_year_is_gathered_by_quarter_if_it_is_large(warehouse: Warehouse) -> None:
    put(warehouse, [date(2018, month, day) for month in range(1, 8) for day in (5, 6)])
    before = content(warehouse)
    assert gather(warehouse) == 24
    assert content(warehouse) == before
    for quarter in (1, 2):
        entities = [row[2] for row in order(warehouse) if (row[1] + 2) // 3 == quarter]
        assert entities == ["A"] * 6 + ["B"] * 6
    assert [row[2] for row in order(warehouse) if row[1] == 7] == ["A", "B"] * 2
    names = warehouse.sql("SELECT name, done FROM ops.progress ORDER BY name")
    assert names == [("gathered s 2018Q1", 12), ("gathered s 2018Q2", 12)]
    put(warehouse, fifth(2019, 1))  # the year has ended: now all of it
    assert gather(warehouse) == 28
    entities = [row[2] for row in order(warehouse) if row[0] == 2018]
    assert entities == ["A"] * 14 + ["B"] * 14


def test_each_signal_has_its_own_periods(warehouse: Warehouse) -> None:
    put(warehouse, fifth(2017, 1, 2), signal="it's")
    put(warehouse, fifth(2017, 1, 2), signal="other")
    put(warehouse, fifth(2018, 1), signal="other")
    assert gather(warehouse) == 4
    assert warehouse.sql("SELECT name FROM ops.progress") == [("gathered other 2017",)]


def test_a_night_gathers_only_so_much_and_the_next_goes_on(warehouse: Warehouse) -> None:
    for year in (2015, 2016, 2017, 2018):
        put(warehouse, fifth(year, 1, 2))
    before = content(warehouse)
    assert [gather(warehouse, 7) for _ in range(4)] == [4, 4, 4, 0]
    assert content(warehouse) == before


def test_gathering_that_fails_changes_nothing(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(warehouse, [*fifth(2017, 1, 2), date(2018, 1, 5)])
    before = order(warehouse)
    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "upsert", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gather(warehouse)
    assert order(warehouse) == before
    assert gather(warehouse) == 4
