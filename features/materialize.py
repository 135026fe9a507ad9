"""Bringing the tables of feature views up to date with the raw tables.

A value has `known_at` and, once something replaced it, `known_until`: a read as of any
cut-off finds the value that was valid then. What was known goes from state to state: a
state begins when a correction, or a row that came after later ones, became known, and
within one only new dates are added. Work starts from the raw rows that have arrived since
the view last read them: each names an entity, the first date that it reaches and the
instant from which it was known. The table is taken back to that instant for those dates,
and the states from there on are gone through again, on the rows of those dates and as many
before them as the view remembers. So a late row gives the table that it would have given in
time, and a night costs what the night changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from db.errors import ShortHistoryError
from db.sessions import sessions
from db.tables import exchange_sessions
from db.tables import feature_views as views_table
from features.arrivals import Touched, present_rows, reflected_rows, touched_by, whole_reach
from features.evaluate import Values
from features.reads import RawReads
from features.sql import write_macros
from features.states import ROWS_AT_ONCE, Computed, Move, go_through
from features.view import FeatureView

if TYPE_CHECKING:
    from db.warehouse import Warehouse


@dataclass(frozen=True)
class Materialized:
    """What one call did: rows added, rows replaced by a newer vintage, seconds."""

    view: str
    version: str
    added: int
    replaced: int
    seconds: float


def materialize(
    warehouse: Warehouse,
    view: FeatureView,
    *,
    rebuild: bool = False,
    move: Move | None = None,
    reads: RawReads | None = None,
) -> Materialized:
    """Bring a view up to date, in one transaction; nothing new in raw means no work.

    Parameters
    ----------
    warehouse : the open store.
    view : what to bring up to date.
    rebuild : forget what there is and compute all of it; the rows are the same.
    move : is told how many entities are done, and of how many.
    reads : what the views of one night share; its own if left out.

    Raises
    ------
    ShortHistoryError
        The view is new and its window longer than any history; nothing was written.
    LookbackError
        The view's SQL or transform fails; the message names the view, nothing was written.
    """
    started = time.perf_counter()
    with warehouse.transaction():
        _write_sessions(warehouse)
        if rebuild:
            warehouse.native.execute(f"DROP TABLE IF EXISTS {view.table}")
        reflected = {} if rebuild else reflected_rows(warehouse, view)
        present = present_rows(warehouse, view)
        if any(present[table][0] < count for table, (count, _) in reflected.items()):
            # raw rows were taken away, which Lookback never does: nothing stands any more
            warehouse.native.execute(f"DROP TABLE IF EXISTS {view.table}")
            reflected = {}
        new = not _is_there(warehouse, view)
        if new:
            _create_table(warehouse, view)
            reflected = {}
        touched = touched_by(warehouse, view, reflected)
        added = replaced = 0
        if touched and new:
            added, replaced = _fill(warehouse, view, touched, move)
        elif touched:
            replaced = _rewind(warehouse, view, touched)
            for state in go_through(warehouse, view, touched, move, reads or RawReads()):
                more, gone = _write(warehouse, view, state)
                added, replaced = added + more, replaced + gone
        write_macros(warehouse, view)
        _record(warehouse, view, present)
    return Materialized(view.name, view.version, added, replaced, time.perf_counter() - started)


# --------------------------------------------------------------------------- taking it back


def _rewind(warehouse: Warehouse, view: FeatureView, touched: Touched) -> int:
    """Take the dates reached back to what was known before anything new; rows removed."""
    relation, condition = _reach(view, touched)
    removed = 0
    with warehouse.relation(relation, "reached"):
        removed = _changed(
            warehouse,
            f"DELETE FROM {view.table} t USING reached e WHERE {condition} "
            "AND epoch_us(t.known_at) >= e.since",
        )
        _changed(
            warehouse,
            f"UPDATE {view.table} AS t SET known_until = NULL FROM reached e WHERE {condition} "
            "AND epoch_us(t.known_until) >= e.since",
        )
    return removed


def _reach(view: FeatureView, touched: Touched) -> tuple[pa.Table, str]:
    """Entities with first date and instant for SQL, and how rows `t` of the view meet them."""
    if view.whole:
        first, since = whole_reach(touched)
        table = pa.table({"first": pa.array(np.array([first])), "since": [since]})
        return table, f"t.date >= DATE '{first}' AND t.date >= e.first"
    table = pa.table(
        {
            "entity": pa.array(touched.names, pa.string()),
            "first": pa.array(touched.first),
            "since": touched.since,
        }
    )
    # the constant lets DuckDB pass over what lies before it
    earliest = touched.first.min()
    return table, f"t.date >= DATE '{earliest}' AND t.entity = e.entity AND t.date >= e.first"


def _fill(
    warehouse: Warehouse, view: FeatureView, touched: Touched, move: Move | None
) -> tuple[int, int]:
    """Write a new table; rows added and replaced.

    The first state of every entity goes in at once and in the order in which nights will
    add to it, by date: so a night finds what it needs at the table's end.
    """
    firsts, later = [], []
    for state in go_through(warehouse, view, touched, move, None):
        if state.number:
            later.append(state)
        else:
            firsts.append(state.values)
    added, replaced = _insert(warehouse, view, Values.concatenated(firsts, view)), 0
    for state in later:
        more, gone = _write(warehouse, view, state)
        added, replaced = added + more, replaced + gone
    _require_windows(warehouse, view)
    return added, replaced


# --------------------------------------------------------------------------- writing


def _write(warehouse: Warehouse, view: FeatureView, state: Computed) -> tuple[int, int]:
    """Write the values of one state at the dates that it reaches; rows added, replaced.

    A value that changed was not known before its state began; one that is gone was known
    until then.
    """
    values, reached, earliest = state.values, state.reached, state.earliest
    meets = (
        "s.entity = t.entity AND t.date >= s.first" if "entity" in reached.column_names else "true"
    )
    same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM c.{name}" for name in view.names)
    features = ", ".join(f"CAST(c.{name} AS {_type(view)}) AS {name}" for name in view.names)
    with warehouse.relation(values.table(view), "given"), warehouse.relation(reached, "reached"):
        warehouse.native.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE standing AS
            -- one row per value that holds at the dates reached, with when the state began
            SELECT t.*, s.begins
            FROM {view.table} t
            JOIN reached s ON {meets}
            WHERE t.date >= DATE '{earliest}' AND t.known_until IS NULL
            """
        )
        warehouse.native.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE fresh AS
            -- one row per new or changed value
            WITH computed AS (
                SELECT c.entity, c.date, {features}, c.known_at FROM given c
            )
            SELECT c.* REPLACE (
                CASE WHEN t.entity IS NULL THEN c.known_at
                    ELSE greatest(c.known_at, t.begins) END AS known_at
            )
            FROM computed c
            LEFT JOIN standing t ON t.entity = c.entity AND t.date = c.date
            WHERE t.entity IS NULL OR NOT ({same})
            """
        )
        warehouse.native.execute(
            """
            CREATE OR REPLACE TEMP TABLE ended AS
            -- one row per value that was replaced, or that is gone
            SELECT t.entity, t.date, coalesce(f.known_at, t.begins) AS at
            FROM standing t
            LEFT JOIN fresh f ON f.entity = t.entity AND f.date = t.date
            WHERE f.entity IS NOT NULL
                OR NOT EXISTS (FROM given c WHERE c.entity = t.entity AND c.date = t.date)
            """
        )
    (endings,) = warehouse.one("SELECT count(*) FROM ended") or (0,)
    if endings:
        _changed(
            warehouse,
            f"""
            UPDATE {view.table} AS t
            SET known_until = e.at
            FROM ended e
            WHERE t.known_until IS NULL AND t.date >= DATE '{earliest}'
                AND t.entity = e.entity AND t.date = e.date
            """,
        )
    columns = f"entity, date, {', '.join(view.names)}, known_at"
    added = _changed(
        warehouse,
        f"INSERT INTO {view.table} ({columns}) SELECT {columns} FROM fresh ORDER BY date, entity",
    )
    return added, int(endings)


def _insert(warehouse: Warehouse, view: FeatureView, values: Values) -> int:
    """Insert values that nothing stands in the way of, in the order of dates; rows added."""
    order = np.lexsort((values.entity, values.date))
    columns = f"entity, date, {', '.join(view.names)}, known_at"
    for begin in range(0, len(order), ROWS_AT_ONCE):
        part = values.at(order[begin : begin + ROWS_AT_ONCE])
        with warehouse.relation(part.table(view), "given"):
            _changed(warehouse, f"INSERT INTO {view.table} ({columns}) SELECT {columns} FROM given")
    return len(order)


def _is_there(warehouse: Warehouse, view: FeatureView) -> bool:
    schema, table = view.table.split(".")
    return bool(
        warehouse.one(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", schema, table
        )
    )


def _create_table(warehouse: Warehouse, view: FeatureView) -> None:
    values = ", ".join(f"{name} {_type(view)}" for name in view.names)
    warehouse.native.execute(
        f"""
        CREATE TABLE {view.table} (
            entity VARCHAR NOT NULL, date DATE NOT NULL, {values},
            known_at TIMESTAMPTZ NOT NULL, known_until TIMESTAMPTZ
        )
        """
    )


def _type(view: FeatureView) -> str:
    return "FLOAT" if view.stored == "float32" else "DOUBLE"


def _changed(warehouse: Warehouse, statement: str) -> int:
    """Rows that a statement added, changed or removed."""
    found = warehouse.native.execute(statement).fetchone()
    return int(found[0]) if found else 0


# --------------------------------------------------------------------------- keeping the books


def _require_windows(warehouse: Warehouse, view: FeatureView) -> None:
    """A window longer than any history would never be read: say so at once."""
    longest = warehouse.one(
        f"""
        -- the entity with the most values that hold
        SELECT entity, count(*) AS rows
        FROM {view.table}
        WHERE known_until IS NULL
        GROUP BY entity
        ORDER BY rows DESC, entity
        LIMIT 1
        """
    )
    if longest is not None and longest[1] < view.window:
        raise ShortHistoryError(
            f"feature view {view.name}: its window of {view.window} rows is longer than any "
            f"history; the longest, of {longest[0]}, has {longest[1]}"
        )


def _write_sessions(warehouse: Warehouse) -> None:
    """Keep the sessions of the exchange where SQL can read them."""
    calendar = sessions(warehouse.settings.calendar)
    if warehouse.one("SELECT count(*), max(session) FROM main.sessions") == (
        len(calendar.days),
        calendar.days[-1].astype(object),
    ):
        return
    warehouse.native.execute("DELETE FROM main.sessions")
    warehouse.append(exchange_sessions, calendar.table())


def _record(
    warehouse: Warehouse, view: FeatureView, present: Mapping[str, tuple[int, datetime | None]]
) -> None:
    counts = warehouse.one(
        f"""
        SELECT count(*), min(date), max(date), count(DISTINCT entity)
        FROM {view.table}
        """
    )
    assert counts is not None
    rows, first, last, entities = counts
    known = [newest for _, newest in present.values() if newest is not None]
    warehouse.upsert(
        views_table,
        {
            "view": view.name,
            "version": view.version,
            "entity": view.entity,
            "window": view.window,
            "horizon": view.horizon,
            "horizon_unit": view.horizon_unit,
            "declaration": view.declaration,
            "description": view.description,
            "rows": rows,
            "entities": entities,
            "first_date": first,
            "last_date": last,
            "watermark": max(known) if known else None,
            "reflected": {table: count for table, (count, _) in present.items()},
            "materialized_at": datetime.now(UTC),
        },
    )
