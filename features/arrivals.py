"""What is new in the raw tables for a view, and what it reaches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.evaluate import raw_inputs
from features.rolling import Ints
from features.view import FeatureView, Input
from features.vintages import RAW_INPUTS, Days

if TYPE_CHECKING:
    from db.warehouse import Warehouse


@dataclass(frozen=True)
class Touched:
    """What new raw rows reach: arrays of shape (n,), sorted by name.

    Attributes
    ----------
    names : entities of the view's own inputs.
    first : datetime64[D], first date that something changed for.
    since : microseconds since 1970, UTC: when the first of it was known.
    shared : the same for rows that all entities read: (first date, since), None if none.
    """

    names: npt.NDArray[np.object_]
    first: Days
    since: Ints
    shared: tuple[np.datetime64, int] | None = None

    def __bool__(self) -> bool:
        return bool(len(self.names)) or self.shared is not None


def _raw_tables(view: FeatureView) -> tuple[str, ...]:
    """Raw tables that a change of the view's values can come from."""
    tables: dict[str, None] = {}
    for given in raw_inputs(view).values():
        tables[given.table] = None
        beside = RAW_INPUTS[given.table].beside
        if beside:
            tables[beside] = None
    return tuple(tables)


def present_rows(warehouse: Warehouse, view: FeatureView) -> dict[str, tuple[int, datetime | None]]:
    """Rows of each raw table (they are only ever appended to) and their newest known_at."""
    found = {}
    for table in _raw_tables(view):
        row = warehouse.one(f"SELECT count(*), max(known_at) FROM raw.{table}")
        assert row is not None
        found[table] = (int(row[0]), row[1])
    return found


def reflected_rows(warehouse: Warehouse, view: FeatureView) -> dict[str, tuple[int, Any]]:
    """Rows of each raw table that the view has read."""
    row = warehouse.one(
        "SELECT reflected FROM main.feature_views WHERE view = ? AND version = ?",
        view.name,
        view.version,
    )
    if row is None or row[0] is None:
        return {}
    return {table: (count, None) for table, count in json.loads(row[0]).items()}


def touched_by(
    warehouse: Warehouse, view: FeatureView, reflected: Mapping[str, tuple[int, Any]]
) -> Touched:
    """What the raw rows beyond those that the view has read reach."""
    parts: list[pa.Table] = []
    shared: list[tuple[np.datetime64, int]] = []
    for given in raw_inputs(view).values():
        for table, entity, date in _tables_of(given):
            read = reflected.get(table, (0, None))[0]
            condition = asked_for(entity, "$2", "$3")
            found = warehouse.native.execute(
                f"""
                -- one row per entity that something new arrived for
                SELECT {entity} AS entity, min({date}) AS first, min(epoch_us(known_at)) AS since
                FROM raw.{table}
                WHERE rowid >= $1 AND {condition}
                GROUP BY ALL
                """,
                (read, list(given.entities), given.without),
            ).to_arrow_table()
            if not found.num_rows:
                continue
            if table == given.table:
                found = pa.concat_tables([found, *_taken_over(warehouse, given, read)])
            if given.shared:
                shared.append(
                    (found["first"].to_numpy().min(), int(found["since"].to_numpy().min()))
                )
            else:
                parts.append(found)
    all_of_it = None
    if shared:
        first, since = min(date for date, _ in shared), min(known for _, known in shared)
        all_of_it = (first.astype("datetime64[D]"), since)
        parts.extend(_everybody(warehouse, view, all_of_it))
    if not any(part.num_rows for part in parts):
        # shared rows reach nobody where there is no entity of the view's own
        all_of_it = all_of_it if view.whole else None
        return Touched(np.empty(0, object), np.empty(0, "M8[D]"), np.empty(0, "int64"), all_of_it)
    joined = pa.concat_tables(parts).group_by("entity", use_threads=False)
    least = joined.aggregate([("first", "min"), ("since", "min")]).sort_by("entity")
    return Touched(
        np.array(least["entity"].to_pylist(), object),
        least["first_min"].to_numpy().astype("datetime64[D]"),
        least["since_min"].to_numpy(),
        all_of_it,
    )


def _taken_over(warehouse: Warehouse, given: Input, read: int) -> Iterator[pa.Table]:
    """Entities whose older rows may have been withdrawn: all dates that they had are reached."""
    raw = RAW_INPUTS[given.table]
    candidates = f"""
        SELECT DISTINCT {raw.entity} FROM raw.{given.table}
        WHERE rowid >= $1 AND {raw.may_take_over} AND {asked_for(raw.entity, "$2", "$3")}
    """
    chosen = (read, list(given.entities), given.without)
    # mostly there is none, and the whole table need not be gone through
    if not warehouse.native.execute(f"{candidates} LIMIT 1", chosen).fetchone():
        return
    yield warehouse.native.execute(
        f"""
        -- one row per entity with another history, or another source, than those read
        SELECT {raw.entity} AS entity, min({raw.date}) AS first,
            min(epoch_us(known_at)) FILTER (rowid >= $1) AS since
        FROM raw.{given.table}
        WHERE {raw.entity} IN ({candidates})
        GROUP BY ALL
        HAVING {raw.takes_over}
        """,
        chosen,
    ).to_arrow_table()


def _tables_of(given: Input) -> Iterator[tuple[str, str, str]]:
    """Tables whose rows make a raw input's values: name, entity and date column."""
    raw = RAW_INPUTS[given.table]
    yield given.table, raw.entity, raw.date
    if raw.beside:
        yield raw.beside, "entity", "ex_date"


def _everybody(
    warehouse: Warehouse, view: FeatureView, change: tuple[np.datetime64, int]
) -> Iterator[pa.Table]:
    """Entities of the view's own inputs that a change of a shared one reaches.

    Those with a row from its first date on: a value's date is one that all inputs have.
    """
    first, since = change
    for given in raw_inputs(view).values():
        if given.shared:
            continue
        raw = RAW_INPUTS[given.table]
        condition = asked_for(raw.entity, "$3", "$4")
        yield warehouse.native.execute(
            f"SELECT DISTINCT {raw.entity} AS entity, $1 AS first, CAST($2 AS BIGINT) AS since "
            f"FROM raw.{given.table} WHERE {raw.date} >= $1 AND {condition}",
            (first.astype(object), since, list(given.entities), given.without),
        ).to_arrow_table()


def asked_for(entity: str, entities: str, without: str) -> str:
    """SQL condition of an input's entities; two parameters say which and which not."""
    return (
        f"(len({entities}::VARCHAR[]) = 0 OR list_contains({entities}::VARCHAR[], {entity})) "
        f"AND ({without} = '' OR NOT starts_with({entity}, {without}))"
    )


def whole_reach(touched: Touched) -> tuple[np.datetime64, int]:
    """First date and instant over everything touched."""
    firsts, sinces = list(touched.first), list(touched.since)
    if touched.shared:
        firsts.append(touched.shared[0])
        sinces.append(np.int64(touched.shared[1]))
    return min(firsts), int(min(sinces))
