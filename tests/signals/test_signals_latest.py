"""What readers look at first, brought up to date by what is new, equals what all rows give."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import duckdb
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from db.publishing import publish, query_published
from db.sessions import Sessions
from db.settings import Settings
from db.warehouse import Warehouse, open_warehouse
from signals import latest
from signals.declaration import SIGNALS
from signals.latest import refresh_latest, refresh_wide
from signals.scoring import published, write

FRIDAY = date(2018, 12, 14)
MONDAY = date(2018, 12, 17)
SESSIONS = [FRIDAY, MONDAY, date(2018, 12, 18), date(2018, 12, 19)]
EVENING = datetime(2018, 12, 20, 3, tzinfo=UTC)
SIGNAL = SIGNALS["macro_path"]

# One row per (signal, entity, horizon, horizon_unit), found among all rows: what it means.
MEANING = """
    SELECT *
    FROM main.signals
    WHERE role = 'live'
    QUALIFY row_number() OVER (
        PARTITION BY signal, entity, horizon, horizon_unit
        ORDER BY as_of DESC, published_at DESC, model_version
    ) = 1
    ORDER BY ALL
"""


def put(
    warehouse: Warehouse,
    as_of: date = FRIDAY,
    entities: Sequence[str] = ("A",),
    value: float = 1.0,
    version: str = "v1",
    role: str = "live",
    horizons: Sequence[int] = (1,),
    hours: int = 0,
    signal=SIGNAL,
) -> None:
    """Publish rows of one version and date as scoring does: new ones, or revisions."""
    at = pd.Timestamp(EVENING + timedelta(hours=hours))
    keys = [(entity, horizon) for entity in entities for horizon in horizons]
    rows = pd.DataFrame(
        {
            "signal": signal.name,
            "entity": [entity for entity, _ in keys],
            "as_of": pd.Timestamp(as_of),
            "horizon": [horizon for _, horizon in keys],
            "horizon_unit": "month",
            "role": role,
            "known_at": at,
            "tradable_from": pd.Timestamp(as_of) + pd.Timedelta(days=3),
            "value": value,
            "q05": None,
            "q50": None,
            "q95": None,
            "probability": None,
            "rank": None,
            "model": "m",
            "model_version": version,
            "feature_view": "f",
            "feature_version": "fv",
            "data_snapshot": "d",
            "published_at": at,
            "run_id": "r",
        }
    )
    made_by = SimpleNamespace(model_version=version)
    span = (rows["as_of"].min(), rows["as_of"].max())
    write(warehouse, rows, published(warehouse, signal, made_by, span, role))


def shown(warehouse: Warehouse) -> list[tuple]:
    return warehouse.sql("SELECT * EXCLUDE (age) FROM main.signals_latest ORDER BY ALL")


def emptied(warehouse: Warehouse) -> None:
    """Tables as new: rows that were only deleted would still have had row ids."""
    for table in ("signals", "signal_revisions", "signals_latest"):
        warehouse.native.execute(
            f"CREATE OR REPLACE TABLE main.{table} AS FROM main.{table} LIMIT 0"
        )
    warehouse.native.execute("DELETE FROM ops.progress")


# -------------------------------------------------------------------------------- latest

entities = st.lists(st.sampled_from("ABC"), min_size=1, max_size=3, unique=True)
publications = st.fixed_dictionaries(
    {
        "as_of": st.sampled_from(SESSIONS),
        "entities": entities,
        "value": st.sampled_from([1.0, 2.0]),
        "version": st.sampled_from(["v1", "v2"]),
        "role": st.sampled_from(["live", "live", "live", "backfill", "challenger"]),
        "horizons": st.sampled_from([(1,), (1, 2)]),
        # a night that is caught up may be published before one that ran already
        "hours": st.integers(-3, 3),
    }
)


@examples(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nights=st.lists(st.lists(publications, max_size=3), min_size=1, max_size=6))
def test_night_by_night_equals_all_at_once(
    warehouse: Warehouse, calendar: Sessions, nights: list[list[dict]]
) -> None:
    emptied(warehouse)
    for night in nights:
        for rows in night:
            put(warehouse, **rows)
        refresh_latest(warehouse, calendar, FRIDAY)
        assert shown(warehouse) == warehouse.sql(MEANING)
        newest = max([FRIDAY, *(row[2] for row in shown(warehouse))])
        for as_of, age in warehouse.sql("SELECT as_of, age FROM main.signals_latest"):
            assert age == calendar.age(as_of, newest)


def test_all_rows_are_read_once_only(
    warehouse: Warehouse, calendar: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(warehouse)
    refresh_latest(warehouse, calendar, FRIDAY)
    monkeypatch.setattr(latest, "_newest", lambda _: 1 / 0)
    put(warehouse, MONDAY, value=3.0)
    refresh_latest(warehouse, calendar, MONDAY)
    assert warehouse.sql("SELECT value, age FROM main.signals_latest") == [(3.0, 0)]


@pytest.mark.parametrize("mark", [None, 10**9, 0])
def test_a_mark_that_is_missing_or_wrong_does_no_harm(
    mark: int | None, warehouse: Warehouse, calendar: Sessions
) -> None:
    put(warehouse, entities="AB")
    refresh_latest(warehouse, calendar, FRIDAY)
    put(warehouse, MONDAY)
    warehouse.native.execute("DELETE FROM main.signals_latest" if mark is None else "SELECT 1")
    if mark is None:
        warehouse.native.execute("DELETE FROM ops.progress")
    else:
        warehouse.native.execute("UPDATE ops.progress SET done = ?", (mark,))
    refresh_latest(warehouse, calendar, MONDAY)
    assert shown(warehouse) == warehouse.sql(MEANING)
    assert warehouse.sql("SELECT name, done FROM ops.progress") == [("signals_latest", 3)]


def test_revisions_that_were_removed_are_noticed(warehouse: Warehouse, calendar: Sessions) -> None:
    """Nobody should; but then row ids no longer count them."""
    put(warehouse, entities="AB")
    put(warehouse, MONDAY, entities="AB", value=2.0)
    refresh_latest(warehouse, calendar, MONDAY)
    for table in ("signals", "signal_revisions"):
        warehouse.native.execute(f"DELETE FROM main.{table} WHERE as_of = ?", (FRIDAY,))
    put(warehouse, SESSIONS[2], value=3.0)
    refresh_latest(warehouse, calendar, MONDAY)
    assert shown(warehouse) == warehouse.sql(MEANING)


def test_a_refresh_that_fails_is_made_up_for(
    warehouse: Warehouse, calendar: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(warehouse)
    refresh_latest(warehouse, calendar, FRIDAY)
    put(warehouse, MONDAY, value=2.0)
    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "upsert", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refresh_latest(warehouse, calendar, MONDAY)
    assert warehouse.sql("SELECT as_of FROM main.signals_latest") == [(FRIDAY,)]
    refresh_latest(warehouse, calendar, MONDAY)
    assert shown(warehouse) == warehouse.sql(MEANING)


def test_a_store_that_was_restored_goes_its_own_way(
    settings: Settings, warehouse: Warehouse, calendar: Sessions
) -> None:
    """What the mark counts is in the file with it."""
    put(warehouse, entities="AB")
    refresh_latest(warehouse, calendar, FRIDAY)
    warehouse.native.execute("CHECKPOINT")
    backup = settings.home / "backup"
    shutil.copy(settings.warehouse, backup)
    put(warehouse, MONDAY, value=2.0)
    refresh_latest(warehouse, calendar, MONDAY)
    restored = replace_home(settings, backup)
    with open_warehouse(restored, "test") as other:
        put(other, SESSIONS[2], entities="B", value=5.0)
        refresh_latest(other, calendar, MONDAY)
        assert shown(other) == other.sql(MEANING)


def replace_home(settings: Settings, file) -> Settings:
    """Settings of a home beside, whose store is a copy of a file."""
    home = settings.home / "restored"
    home.mkdir()
    shutil.copy(file, home / "warehouse.duckdb")
    return settings.model_copy(update={"home": home})


# ---------------------------------------------------------------------------------- wide


def wide(warehouse: Warehouse) -> list[dict]:
    refresh_wide(warehouse)
    found = warehouse.native.execute("SELECT * FROM main.signals_wide ORDER BY as_of, entity")
    names = [name for name, *_ in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def test_wide_has_one_row_per_entity_and_date_and_one_column_per_signal(
    warehouse: Warehouse,
) -> None:
    put(warehouse, entities="AB", value=1.0)
    put(warehouse, entities="A", value=2.0, signal=SIGNALS["macro_outlook"])
    put(warehouse, MONDAY, entities="A", value=3.0)
    assert wide(warehouse) == [
        {"entity": "A", "as_of": FRIDAY, "macro_path": 1.0, "macro_outlook": 2.0},
        {"entity": "B", "as_of": FRIDAY, "macro_path": 1.0},
        {"entity": "A", "as_of": MONDAY, "macro_path": 3.0},
    ]


def test_wide_has_a_column_for_each_of_several_horizons(warehouse: Warehouse) -> None:
    put(warehouse, horizons=(1,), value=1.0)
    put(warehouse, horizons=(12,), value=12.0, version="v2")
    (row,) = wide(warehouse)
    assert row == {"entity": "A", "as_of": FRIDAY, "macro_path_1": 1.0, "macro_path_12": 12.0}


def test_wide_prefers_live_rows_then_the_version_published_last(warehouse: Warehouse) -> None:
    put(warehouse, value=1.0, version="v1", hours=0)
    put(warehouse, value=2.0, version="v2", hours=1)
    put(warehouse, value=3.0, version="v3", role="backfill", hours=2)
    put(warehouse, value=4.0, version="v4", role="challenger", hours=3)
    put(warehouse, MONDAY, value=5.0, version="v3", role="backfill", hours=2)
    put(warehouse, SESSIONS[2], value=6.0, version="v4", role="challenger", hours=3)
    assert [(row["as_of"], row["macro_path"]) for row in wide(warehouse)] == [
        (FRIDAY, 2.0),
        (MONDAY, 5.0),
    ]


def test_wide_of_an_empty_store_has_a_column_for_every_declared_signal(
    warehouse: Warehouse,
) -> None:
    assert wide(warehouse) == []
    # one row per column
    columns = warehouse.sql(
        """
        SELECT column_name, data_type, comment IS NOT NULL
        FROM duckdb_columns()
        WHERE table_name = 'signals_wide'
        ORDER BY column_index
        """
    )
    named = [("entity", "VARCHAR", True), ("as_of", "DATE", True)]
    assert columns == [*named, *((name, "DOUBLE", True) for name in SIGNALS)]


def test_wide_takes_any_name_and_travels_with_the_file(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    name = """it's "odd"; DROP TABLE signals"""
    odd = replace(SIGNAL, name=name, unit="it's a unit")
    monkeypatch.setattr(latest, "SIGNALS", {name: odd})
    put(warehouse, signal=odd, value=7.0)
    assert wide(warehouse) == [{"entity": "A", "as_of": FRIDAY, name: 7.0}]
    publish(warehouse)
    columns, rows = query_published(settings, "FROM signals_wide")
    assert (columns, rows) == (["entity", "as_of", name], [("A", FRIDAY, 7.0)])
    with duckdb.connect() as reader:
        reader.execute(f"ATTACH '{settings.published.resolve()}' AS theirs (READ_ONLY)")
        assert reader.execute("FROM theirs.signals_wide").fetchall() == rows
