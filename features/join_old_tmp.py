"""Point-in-time join: for each row of a spine, what views gave at its instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from db.errors import UsageError
from features.rolling import Ints
from features.vintages import FOREVER
from features.windows import require_cutoff, require_materialized, steps

if TYPE_CHECKING:
    from db.settings import Settings
    from db.warehouse import Warehouse
    from features.view import FeatureView

SPINE_COLUMNS = ("symbol", "timestamp")


def join(
    warehouse: Warehouse,
    spine: pd.DataFrame | pa.Table,
    views: Sequence[FeatureView],
    cutoff: datetime,
) -> pa.Table:
    """The newest values of views known at each instant of a spine.

    Parameters
    ----------
    warehouse : the open store; the views must have been materialized.
    spine : rows (n) with columns `symbol` (the views' entity) and `timestamp` (with a time
        zone); others are kept. Views of a single entity, such as a macro pair, are joined to
        every symbol.
    views : what to join. Their features follow the spine's columns, named
        `<view>__<feature>`, with `<view>__date` and `<view>__known_at`.
    cutoff : UTC instant; no row of the spine may lie after it.

    Returns
    -------
    One row for each of the spine's, in its order (n). Of each view the row of the newest
    date among those with `known_at <= timestamp` that nothing had replaced by then; nulls
    where there is none, and for a feature that looks back over a price break (as judged at
    that instant) or a long gap, as in windows.

    Raises
    ------
    LookAheadError
        No cut-off was given, or one without a time zone.
    UsageError
        The spine lacks a column, has instants without a zone or after the cut-off, or has
        a column that a feature is called.
    LookbackError
        A view has not been materialized.

    Notes
    -----
    As an ASOF join on `known_at`: the view's rows in the order of entity and `known_at`, each
    spine row finds the last one by bisection. Rows that came after later ones, and all but
    the newest date of those that became known together, are passed over: at no instant are
    they the newest. Where the row that was found had been replaced or withdrawn by the
    instant, which a correction may do, those few spine rows are gone through one by one.
    """
    require_cutoff(cutoff, f"joining {', '.join(view.name for view in views)}")
    result = given = _checked(spine, views, cutoff)
    instants = given["timestamp"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    symbols = _one_array(given["symbol"].cast(pa.string())).dictionary_encode()
    for view in views:
        require_materialized(warehouse, view)
        found = _find(warehouse, view, symbols, instants, cutoff)
        for name, column in _values(warehouse, view, found).items():
            result = result.append_column(name, column)
    return result


@dataclass(frozen=True)
class _Found:
    """What each row of the spine meets: arrays of shape (n,).

    Attributes
    ----------
    row : row of the view's table, -1 where there is none.
    since : rows of the same entity before it that no break or long gap parts from it.
    broken : whether it lies in a spike.
    """

    row: Ints
    since: Ints
    broken: npt.NDArray[np.bool_]


def _checked(
    spine: pd.DataFrame | pa.Table, views: Sequence[FeatureView], cutoff: datetime
) -> pa.Table:
    table = (
        spine if isinstance(spine, pa.Table) else pa.Table.from_pandas(spine, preserve_index=False)
    )
    missing = [name for name in SPINE_COLUMNS if name not in table.column_names]
    if missing:
        raise UsageError(
            f"the spine has no column {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    instants = table["timestamp"]
    if not pa.types.is_timestamp(instants.type) or instants.type.tz is None:
        raise UsageError(f"the spine's timestamps must have a time zone; they are {instants.type}")
    if instants.null_count or table["symbol"].null_count:
        raise UsageError("the spine has rows without a symbol or a timestamp")
    late = pc.sum(pc.greater(instants, pa.scalar(cutoff, instants.type))).as_py()
    if late:
        raise UsageError(f"{late:,} rows of the spine lie after the cut-off {cutoff.isoformat()}")
    taken = {name for view in views for name in _columns(view)} & set(table.column_names)
    if taken:
        raise UsageError(f"the spine has columns that features are called: {sorted(taken)[0]}")
    return table


def _columns(view: FeatureView) -> dict[str, str]:
    """Name in the result -> column of the view's table."""
    names = {f"{view.name}__{name}": name for name in view.names}
    return {**names, f"{view.name}__date": "date", f"{view.name}__known_at": "known_at"}


def _find(
    warehouse: Warehouse,
    view: FeatureView,
    symbols: pa.DictionaryArray,
    instants: Ints,
    cutoff: datetime,
) -> _Found:
    """The newest row of the view known at each instant, and what parts it from those before."""
    names = symbols.dictionary.to_pylist()
    code = symbols.indices.to_numpy().astype("int64")
    if _is_for_all(view):
        names, code = [None], np.zeros(len(instants), "int64")
    newest = _Newest.of(warehouse, view, names, cutoff)
    at = newest.at(code, instants)
    there = at >= 0
    row = np.where(there, newest.row[at], -1)
    ended = np.flatnonzero(there & (newest.until[at] <= instants))
    if len(ended):
        row[ended] = _one_by_one(warehouse, view, names, code[ended], instants[ended])
        at[ended] = newest.place(row[ended])
    since = at - newest.begins(view, warehouse.settings)[at]
    broken = np.zeros(len(at), bool)
    codes = {name: number for number, name in enumerate(names)}
    by_code = np.flatnonzero(there)[np.argsort(code[there], kind="stable")]
    sorted_codes = code[by_code]
    for entity, session, until, known, resolved, kind, action in _breaks(warehouse, cutoff):
        if entity not in codes:
            continue
        rows = newest.rows_of(codes[entity])
        spine = by_code[slice(*np.searchsorted(sorted_codes, (codes[entity], codes[entity] + 1)))]
        if rows.start == rows.stop or not len(spine):
            continue
        # as judged at each row's own instant: a suspicion counts, a jump or a known split does not
        moment = instants[spine]
        counts = (known <= moment) & ((resolved > moment) | (kind != "jump")) & (action > moment)
        days = newest.day[rows]
        first = rows.start + int(np.searchsorted(days, session))
        past = counts & (at[spine] >= first)
        since[spine[past]] = np.minimum(since[spine[past]], at[spine[past]] - first)
        ends = past & (resolved <= moment) & (until is not None)
        if ends.any():
            end = rows.start + int(np.searchsorted(days, until, side="right"))
            inside = spine[ends & (at[spine] < end)]
            broken[inside] = True
            after = spine[ends & (at[spine] >= end)]
            since[after] = np.minimum(since[after], at[after] - end)
    return _Found(row, since, broken)


def _breaks(warehouse: Warehouse, cutoff: datetime) -> list[tuple[Any, ...]]:
    """Price breaks with the instants (microseconds) from which they say what."""
    return warehouse.sql(
        f"""
        SELECT b.entity, b.session - DATE '1970-01-01', b.until_session - DATE '1970-01-01',
            epoch_us(b.known_at), coalesce(epoch_us(b.resolved_at), {FOREVER}), b.kind,
            coalesce(min(epoch_us(a.known_at)), {FOREVER})
        FROM raw.price_breaks b
        LEFT JOIN raw.corporate_actions a
            ON a.entity = b.entity AND a.ex_date = b.session AND a.kind = 'split'
        WHERE b.known_at <= $1
        GROUP BY ALL
        ORDER BY ALL
        """,
        cutoff,
    )


def _is_for_all(view: FeatureView) -> bool:
    """Whether the view has one entity of its own, whose values every symbol shares."""
    return not view.own_inputs


@dataclass(frozen=True)
class _Newest:
    """Rows of a view that were its newest at some instant, by entity and `known_at`: (n,)."""

    code: Ints
    day: Ints
    known_at: Ints
    until: Ints
    row: Ints

    @staticmethod
    def of(
        warehouse: Warehouse, view: FeatureView, names: Sequence[str | None], cutoff: datetime
    ) -> _Newest:
        table = warehouse.native.execute(
            f"""
            -- one row per value that was ever known, in the order of the table
            SELECT entity, date - DATE '1970-01-01' AS day, epoch_us(known_at) AS known,
                coalesce(epoch_us(known_until), {FOREVER}) AS until, rowid AS position
            FROM {view.table}
            WHERE known_at <= $1
            """,
            (cutoff,),
        ).to_arrow_table()
        entities = _one_array(table["entity"]).dictionary_encode()
        place = {name: number for number, name in enumerate(names)}
        codes = np.array(
            [
                place.get(None if None in place else name, -1)
                for name in entities.dictionary.to_pylist()
            ],
            "int64",
        )
        code = codes[entities.indices.to_numpy()] if len(codes) else np.empty(0, "int64")
        wanted = np.flatnonzero(code >= 0)
        small = code[wanted].astype("uint16") if len(names) < 2**16 else code[wanted]
        order = wanted[np.argsort(small, kind="stable")]  # a radix sort where 16 bits do
        code, known, day = (
            code[order],
            table["known"].to_numpy()[order],
            table["day"].to_numpy()[order],
        )
        same = code[1:] == code[:-1]
        if (same & (known[1:] <= known[:-1])).any() or (same & (day[1:] <= day[:-1])).any():
            again = np.lexsort((day, known, code))
            order, code, known, day = order[again], code[again], known[again], day[again]
            reach = np.maximum.accumulate((code << 32) + day)
            last = np.r_[(code[1:] != code[:-1]) | (known[1:] != known[:-1]), True][: len(code)]
            # a row that came after later ones was never the newest
            keep = ((code << 32) + day >= reach) & last
            order, code, known, day = order[keep], code[keep], known[keep], day[keep]
        return _Newest(
            code, day, known, table["until"].to_numpy()[order], table["position"].to_numpy()[order]
        )

    def rows_of(self, code: int) -> slice:
        """Where the rows of an entity lie."""
        start, stop = np.searchsorted(self.code, (code, code + 1))
        return slice(int(start), int(stop))

    def place(self, rows: Ints) -> Ints:
        """Where rows of the table stand here; those that were never the newest nowhere: -1."""
        order = np.argsort(self.row)
        at = np.minimum(np.searchsorted(self.row[order], rows), max(len(order) - 1, 0))
        return np.where((rows >= 0) & (self.row[order][at] == rows), order[at], -1)

    def begins(self, view: FeatureView, settings: Settings) -> Ints:
        """Where the stretch of each row begins that no long gap interrupts, (n,)."""
        if not len(self.code):
            return np.zeros(0, "int64")
        days, of_day = np.unique(self.day, return_inverse=True)
        number = steps(view, days.astype("datetime64[D]"), settings)[of_day]
        parted = np.ones(len(self.code), bool)
        parted[1:] = (self.code[1:] != self.code[:-1]) | (np.diff(number) > view.largest_gap + 1)
        return np.maximum.accumulate(np.where(parted, np.arange(len(parted)), 0))

    def at(self, code: Ints, instants: Ints) -> Ints:
        """Position of the newest row of each entity known at each instant; -1 for none: (m,)."""
        if not len(self.code):
            return np.full(len(code), -1)
        levels = pd.unique(self.known_at)
        levels.sort()
        # instants as ranks, so that entity and instant fit into one number however many
        width = len(levels) + 1
        keys = self.code * width + np.searchsorted(levels, self.known_at, side="right")
        wanted = code * width + np.searchsorted(levels, instants, side="right")
        order = np.argsort(wanted)  # ordered searches stay in the cache
        found = np.empty(len(code), "int64")
        found[order] = np.searchsorted(keys, wanted[order], side="right") - 1
        return np.where((found >= 0) & (self.code[found] == code), found, -1)


def _one_by_one(
    warehouse: Warehouse,
    view: FeatureView,
    names: Sequence[str | None],
    code: Ints,
    instants: Ints,
) -> Ints:
    """As `_find`, looking at every value that was valid at the instant: (m,)."""
    asked = pa.table(
        {
            "number": np.arange(len(code)),
            "entity": pa.array([names[one] for one in code], pa.string()),
            "instant": instants,
        }
    )
    same = "true" if _is_for_all(view) else "f.entity = s.entity"
    with warehouse.relation(asked, "spine_asked"):
        found = warehouse.native.execute(
            f"""
            SELECT s.number, f.rowid AS position
            FROM spine_asked s
            JOIN {view.table} f
                ON {same} AND epoch_us(f.known_at) <= s.instant
                AND (f.known_until IS NULL OR epoch_us(f.known_until) > s.instant)
            QUALIFY row_number() OVER (PARTITION BY s.number ORDER BY f.date DESC) = 1
            """
        ).fetchnumpy()
    rows = np.full(len(code), -1)
    rows[found["number"]] = found["position"]
    return rows


def _values(
    warehouse: Warehouse, view: FeatureView, found: _Found
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The view's columns at what was found; null where there is nothing that stands."""
    chosen = ", ".join(f"f.{column} AS {name}" for name, column in _columns(view).items())
    distinct, back = np.unique(found.row, return_inverse=True)
    with warehouse.relation(pa.table({"position": distinct}), "spine_found"):
        table = warehouse.native.execute(
            f"""
            SELECT p.position, {chosen}
            FROM spine_found p
            LEFT JOIN {view.table} f ON f.rowid = p.position
            """
        ).to_arrow_table()
    order = pa.array(np.argsort(table["position"].to_numpy())[back])
    values = {name: table[name].combine_chunks().take(order) for name in _columns(view)}
    for feature in view.features:
        name = f"{view.name}__{feature.name}"
        gone = found.broken | (found.since < feature.memory)
        if gone.any():
            values[name] = pc.if_else(
                pa.array(gone), pa.scalar(None, values[name].type), values[name]
            )
    return values


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
