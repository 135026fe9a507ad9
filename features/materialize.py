"""Bringing the tables of feature views up to date with the raw tables.

A value has `known_at` and, once another vintage replaced it, `known_until`: a read as of
any cut-off finds the value that was valid then. Work starts from the entities whose raw
rows were ingested since the view's watermark.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
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
            for instant in _instants(warehouse, view, watermark) if newest else ():
                more, gone = _bring_up_to(warehouse, view, instant)
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
    """Note the entities with raw rows newer than the watermark; returns the newest of those."""
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE touched AS
        -- one row per entity that something new arrived for
        SELECT {RAW_ENTITY[view.source]} AS entity, max(ingested_at) AS newest
        FROM raw.{view.source}
        WHERE ingested_at > $1 OR $1 IS NULL
        GROUP BY ALL
        """,
        (watermark,),
    )
    found = warehouse.one("SELECT max(newest) FROM touched")
    return found[0] if found else None


def _instants(
    warehouse: Warehouse, view: FeatureView, watermark: datetime | None
) -> list[datetime | None]:
    """Times at which a new vintage replaced an older one, oldest first; then the end of time.

    Each is visited, so that a read between two corrections finds the first of them.
    """
    key = f"source, {RAW_ENTITY[view.source]}, {RAW_DATE[view.source]}"
    corrections = warehouse.sql(
        f"""
        SELECT DISTINCT known_at
        FROM (
            SELECT known_at, ingested_at,
                row_number() OVER (PARTITION BY {key} ORDER BY known_at, ingested_at) AS vintage
            FROM raw.{view.source}
            WHERE {RAW_ENTITY[view.source]} IN (SELECT entity FROM touched)
        )
        WHERE vintage > 1 AND (ingested_at > $1 OR $1 IS NULL)
        ORDER BY known_at
        """,
        watermark,
    )
    return [*(instant for (instant,) in corrections), None]


def _bring_up_to(
    warehouse: Warehouse, view: FeatureView, instant: datetime | None
) -> tuple[int, int]:
    """Add what is new or different as of an instant (None: all); close what it replaces."""
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE computed AS
        WITH known AS (
            FROM raw.{view.source}_as_of(coalesce($1, 'infinity'::TIMESTAMPTZ))
            WHERE {RAW_ENTITY[view.source]} IN (SELECT entity FROM touched)
        )
        SELECT entity, CAST(date AS DATE) AS date, {", ".join(view.features)}, known_at
        FROM ({view.sql})
        """,
        (instant,),
    )
    same = " AND ".join(
        f"t.{feature} IS NOT DISTINCT FROM c.{feature}" for feature in view.features
    )
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE fresh AS
        SELECT c.*
        FROM computed c
        ANTI JOIN {view.table} t
            ON t.known_until IS NULL AND t.entity = c.entity AND t.date = c.date AND {same}
        """
    )
    replaced = warehouse.native.execute(
        f"""
        UPDATE {view.table} AS t
        SET known_until = f.known_at
        FROM fresh f
        WHERE t.known_until IS NULL AND t.entity = f.entity AND t.date = f.date
        """
    ).fetchone()
    columns = f"entity, date, {', '.join(view.features)}, known_at"
    added = warehouse.native.execute(
        f"""
        INSERT INTO {view.table} ({columns})
        SELECT {columns} FROM fresh ORDER BY entity, date
        """
    ).fetchone()
    return (added[0] if added else 0), (replaced[0] if replaced else 0)


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
