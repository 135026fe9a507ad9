"""Bringing the tables of feature views up to date with the raw tables.

A value has `known_at` and, once something replaced it, `known_until`: a read as of any
cut-off finds the value that was valid then. What was known goes from state to state: a
state begins when a correction, or a value that came after later ones, became known, and
within one only new dates are added. Work starts from the entities whose raw rows were
ingested since the view's watermark; their tables are taken back to the time at which the
first of those rows was known, and the states from there on are gone through again. So a
late row gives the table that it would have given in time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from db.errors import LookbackError
from db.tables import feature_views as views_table
from features.view import FeatureView

if TYPE_CHECKING:
    from db.warehouse import Warehouse

RAW_ENTITY = {"observations": "series", "bars": "entity"}
RAW_DATE = {"observations": "period", "bars": "session"}


@dataclass(frozen=True)
class Materialized:
    """What one call did: rows added, rows replaced by a newer vintage, seconds."""

    view: str
    version: str
    added: int
    replaced: int
    seconds: float


def materialize(warehouse: Warehouse, view: FeatureView) -> Materialized:
    """Bring a view up to date, in one transaction; nothing new in raw means no work.

    Raises
    ------
    LookbackError
        The view's SQL fails; the message names the view, and nothing was written.
    """
    import duckdb

    started = time.perf_counter()
    added = replaced = 0
    with warehouse.transaction():
        _create_table(warehouse, view)
        watermark = _watermark(warehouse, view)
        try:
            newest = _touch(warehouse, view, watermark)
            if newest:
                replaced += _rewind(warehouse, view)
                for until in _states(warehouse, view):
                    more, gone = _bring_up_to(warehouse, view, until)
                    added, replaced = added + more, replaced + gone
        except duckdb.Error as error:
            cause = str(error).splitlines()[0]
            raise LookbackError(f"feature view {view.name} failed: {cause}") from None
        _record(warehouse, view, newest or watermark)
    return Materialized(view.name, view.version, added, replaced, time.perf_counter() - started)


def _create_table(warehouse: Warehouse, view: FeatureView) -> None:
    values = ", ".join(f"{feature} DOUBLE" for feature in view.features)
    warehouse.native.execute(
        f"""
        CREATE TABLE IF NOT EXISTS {view.table} (
            entity VARCHAR NOT NULL, date DATE NOT NULL, {values},
            known_at TIMESTAMPTZ NOT NULL, known_until TIMESTAMPTZ
        )
        """
    )


def _watermark(warehouse: Warehouse, view: FeatureView) -> datetime | None:
    found = warehouse.one(
        "SELECT watermark FROM main.feature_views WHERE view = ? AND version = ?",
        view.name,
        view.version,
    )
    return found[0] if found else None


def _touch(warehouse: Warehouse, view: FeatureView, watermark: datetime | None) -> Any:
    """Note the entities with raw rows newer than the watermark; when the newest was ingested."""
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE touched AS
        -- one row per entity that something new arrived for, and when the first of it was known
        SELECT {RAW_ENTITY[view.source]} AS entity, max(ingested_at) AS newest,
            min(known_at) AS since
        FROM raw.{view.source}
        WHERE ingested_at > $1 OR $1 IS NULL
        GROUP BY ALL
        """,
        (watermark,),
    )
    found = warehouse.one("SELECT max(newest) FROM touched")
    return found[0] if found else None


def _rewind(warehouse: Warehouse, view: FeatureView) -> int:
    """Take touched entities back to what was known before anything new; rows removed."""
    removed = _changed(
        warehouse,
        f"""
        DELETE FROM {view.table} t
        USING touched e
        WHERE t.entity = e.entity AND t.known_at >= e.since
        """,
    )
    _changed(
        warehouse,
        f"""
        UPDATE {view.table} AS t
        SET known_until = NULL
        FROM touched e
        WHERE t.entity = e.entity AND t.known_until >= e.since
        """,
    )
    return removed


def _states(warehouse: Warehouse, view: FeatureView) -> list[datetime | None]:
    """Note what states the touched entities went through; the ends of those, oldest first.

    The last state of each entity has not ended: None.
    """
    entity, date = RAW_ENTITY[view.source], RAW_DATE[view.source]
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE states AS
        -- one row per touched entity and state: when it began and when the next one did
        WITH later AS (
            -- on most nights nothing is known later than what is new: then there is no state
            -- but the last, and no history to go through
            SELECT DISTINCT t.entity
            FROM raw.{view.source} r
            JOIN touched t ON t.entity = r.{entity} AND r.known_at > t.since
        ),
        arrivals AS (
            SELECT {entity} AS entity, known_at,
                row_number() OVER (
                    PARTITION BY source, {entity}, {date} ORDER BY known_at, ingested_at
                ) > 1 AS corrects,
                known_at > min(known_at) OVER (
                    PARTITION BY source, {entity} ORDER BY {date} DESC
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS overtaken
            FROM raw.{view.source}
            WHERE {entity} IN (SELECT entity FROM later)
        ),
        beginnings AS (
            SELECT entity, since AS begins FROM touched
            UNION
            SELECT a.entity, a.known_at
            FROM arrivals a
            JOIN touched t ON t.entity = a.entity AND a.known_at > t.since
            WHERE a.corrects OR a.overtaken
        )
        SELECT entity, begins,
            lead(begins) OVER (PARTITION BY entity ORDER BY begins) AS ends
        FROM beginnings
        """
    )
    return [
        ends
        for (ends,) in warehouse.sql("SELECT DISTINCT ends FROM states ORDER BY ends NULLS LAST")
    ]


def _bring_up_to(
    warehouse: Warehouse, view: FeatureView, until: datetime | None
) -> tuple[int, int]:
    """Write the states that end at an instant (None: those that last); rows added, replaced."""
    _compute(warehouse, view, until)
    same = " AND ".join(
        f"t.{feature} IS NOT DISTINCT FROM c.{feature}" for feature in view.features
    )
    values = ", ".join(f"c.{feature}" for feature in view.features)
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE fresh AS
        -- one row per new or changed value; a change was not known before its state began
        SELECT c.entity, c.date, {values},
            CASE WHEN t.entity IS NULL THEN c.known_at
                ELSE greatest(c.known_at, s.begins) END AS known_at
        FROM computed c
        LEFT JOIN current_states s ON s.entity = c.entity
        LEFT JOIN {view.table} t
            ON t.known_until IS NULL AND t.entity = c.entity AND t.date = c.date
        WHERE t.entity IS NULL OR NOT ({same})
        """
    )
    replaced = _changed(
        warehouse,
        f"""
        UPDATE {view.table} AS t
        SET known_until = f.known_at
        FROM fresh f
        WHERE t.known_until IS NULL AND t.entity = f.entity AND t.date = f.date
        """,
    )
    withdrawn = _changed(
        warehouse,
        f"""
        UPDATE {view.table} AS t
        SET known_until = s.begins
        FROM current_states s
        WHERE t.known_until IS NULL AND t.entity = s.entity
            AND NOT EXISTS (FROM computed c WHERE c.entity = t.entity AND c.date = t.date)
        """,
    )
    columns = f"entity, date, {', '.join(view.features)}, known_at"
    added = _changed(
        warehouse,
        f"""
        INSERT INTO {view.table} ({columns})
        SELECT {columns} FROM fresh ORDER BY entity, date
        """,
    )
    return added, replaced + withdrawn


def _compute(warehouse: Warehouse, view: FeatureView, until: datetime | None) -> None:
    """Run the view's SQL on what was known when a state ended."""
    warehouse.native.execute(
        """
        CREATE OR REPLACE TEMP TABLE current_states AS
        SELECT entity, begins FROM states WHERE ends IS NOT DISTINCT FROM $1
        """,
        (until,),
    )
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE computed AS
        WITH known AS (
            FROM raw.{view.source}_as_of(coalesce($1, 'infinity'::TIMESTAMPTZ))
            WHERE {RAW_ENTITY[view.source]} IN (SELECT entity FROM current_states)
        )
        SELECT entity, CAST(date AS DATE) AS date, {", ".join(view.features)}, known_at
        FROM (
{view.sql}
        )
        """,
        (until - timedelta(microseconds=1) if until else None,),
    )
    doubled = warehouse.one(
        "SELECT entity, date, count(*) FROM computed GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
    )
    if doubled is not None:
        entity, date, count = doubled
        raise LookbackError(
            f"feature view {view.name} gives {count} rows for {entity} on {date}, where one is "
            "wanted; does its SQL read more than one source?"
        )


def _changed(warehouse: Warehouse, statement: str) -> int:
    """Rows that a statement added, changed or removed."""
    found = warehouse.native.execute(statement).fetchone()
    return int(found[0]) if found else 0


def _record(warehouse: Warehouse, view: FeatureView, watermark: datetime | None) -> None:
    found = warehouse.one(
        f"SELECT count(*), count(DISTINCT entity), min(date), max(date) FROM {view.table}"
    )
    assert found is not None
    rows, entities, first, last = found
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
            "rows": rows,
            "entities": entities,
            "first_date": first,
            "last_date": last,
            "watermark": watermark,
            "materialized_at": datetime.now(UTC),
        },
    )
