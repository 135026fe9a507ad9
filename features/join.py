"""Point-in-time join: for each row of a spine, what views gave at its instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    As an ASOF join on `known_at`: while rows of an entity were only added, each with a later
    date than those before it, they lie in the order in which they became known, and a spine
    row finds the newest by bisection. A correction, a withdrawn value or a row that came
    after later ones begins such a run anew.
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
    names = [view.name for view in views]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"feature view {twice[0]} is to be joined twice")
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
    runs, run = _runs(view, _vintages(warehouse, view, names, cutoff), code, instants)
    broken = np.zeros(len(code), bool)
    if not len(runs.run):
        return _Found(np.full(len(code), -1), np.zeros(len(code), "int64"), broken)
    at = runs.at(run, instants)
    there = at >= 0
    row = np.where(there, runs.row[at], -1)
    since = at - runs.begins(view, warehouse.settings)[at]
    codes = {name: number for number, name in enumerate(names)}
    by_run = np.flatnonzero(there)[np.argsort(run[there], kind="stable")]
    sorted_runs = run[by_run]
    for entity, session, until, known, resolved, kind, action in _breaks(warehouse, cutoff):
        for number in runs.of_code.get(codes.get(entity, -1), ()):
            rows = runs.rows_of(number)
            spine = by_run[slice(*np.searchsorted(sorted_runs, (number, number + 1)))]
            if rows.start == rows.stop or not len(spine):
                continue
            # as judged at each row's own instant: a suspicion counts, a jump or a known split
            # does not
            moment = instants[spine]
            counts = (
                (known <= moment) & ((resolved > moment) | (kind != "jump")) & (action > moment)
            )
            days = runs.day[rows]
            first = rows.start + int(np.searchsorted(days, session))
            past = counts & (at[spine] >= first)
            since[spine[past]] = np.minimum(since[spine[past]], at[spine[past]] - first)
            ends = past & (resolved <= moment) & (until is not None)
            if ends.any():
                end = rows.start + int(np.searchsorted(days, until, side="right"))
                broken[spine[ends & (at[spine] < end)]] = True
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
class _Vintages:
    """All values of a view that were ever known, by entity: arrays of shape (n,).

    `until` is when a value was replaced or withdrawn; `row` its place in the view's table.
    """

    code: Ints
    day: Ints
    known_at: Ints
    until: Ints
    row: Ints

    def at(self, rows: Any) -> _Vintages:
        """These rows."""
        return _Vintages(
            self.code[rows], self.day[rows], self.known_at[rows], self.until[rows], self.row[rows]
        )

    def disorderly(self) -> Ints:
        """Entities of which something was replaced, or known before an earlier date, sorted."""
        same = self.code[1:] == self.code[:-1]
        late = same & ((self.day[1:] <= self.day[:-1]) | (self.known_at[1:] < self.known_at[:-1]))
        ended = self.until < FOREVER
        ended[1:] |= late
        return np.unique(self.code[ended])

    def events(self) -> Ints:
        """When a value was replaced, withdrawn or came after later dates; of one entity."""
        order = np.lexsort((self.day, self.known_at))
        day, known = self.day[order], self.known_at[order]
        reach = np.maximum.accumulate(day)
        before = np.searchsorted(known, known) - 1  # the last row that was known earlier
        late = (before >= 0) & (day <= reach[before])
        return np.unique(np.concatenate([known[late], self.until[self.until < FOREVER]]))


def _vintages(
    warehouse: Warehouse, view: FeatureView, names: Sequence[str | None], cutoff: datetime
) -> _Vintages:
    table = warehouse.native.execute(
        f"""
        -- one row per value that was ever known, in the order of the table
        SELECT entity, date - DATE '1970-01-01' AS day, epoch_us(known_at) AS known,
            coalesce(epoch_us(known_until), {FOREVER}) AS until, rowid AS position
        FROM {view.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > known_at)
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
    every = _Vintages(
        code,
        table["day"].to_numpy().astype("int64"),
        table["known"].to_numpy(),
        table["until"].to_numpy(),
        table["position"].to_numpy(),
    )
    return every.at(order)


@dataclass(frozen=True)
class _Runs:
    """Rows of a view by run and date: arrays of shape (n,).

    A run is what was known of an entity while rows were only added, each later than those
    before it: at an instant the first of its rows were known, up to that `known_at`.
    `of_code` holds the runs of each entity.
    """

    run: Ints
    day: Ints
    known_at: Ints
    row: Ints
    of_code: Mapping[int, Sequence[int]]

    def rows_of(self, run: int) -> slice:
        """Where the rows of a run lie."""
        start, stop = np.searchsorted(self.run, (run, run + 1))
        return slice(int(start), int(stop))

    def begins(self, view: FeatureView, settings: Settings) -> Ints:
        """Where the stretch of each row begins that no long gap interrupts, (n,)."""
        days, of_day = np.unique(self.day, return_inverse=True)
        number = steps(view, days.astype("datetime64[D]"), settings)[of_day]
        parted = np.ones(len(self.run), bool)
        parted[1:] = (self.run[1:] != self.run[:-1]) | (np.diff(number) > view.largest_gap + 1)
        return np.maximum.accumulate(np.where(parted, np.arange(len(parted)), 0))

    def at(self, run: Ints, instants: Ints) -> Ints:
        """Position of the newest row of each run known at each instant; -1 for none: (m,)."""
        levels = pd.unique(self.known_at)
        levels.sort()
        # instants as ranks, so that run and instant fit into one number however many
        width = len(levels) + 1
        keys = self.run * width + np.searchsorted(levels, self.known_at, side="right")
        wanted = run * width + np.searchsorted(levels, instants, side="right")
        order = np.argsort(wanted)  # ordered searches stay in the cache
        found = np.empty(len(run), "int64")
        found[order] = np.searchsorted(keys, wanted[order], side="right") - 1
        return np.where((found >= 0) & (self.run[found] == run), found, -1)


def _runs(view: FeatureView, vintages: _Vintages, code: Ints, instants: Ints) -> tuple[_Runs, Ints]:
    """Runs of every entity, and which of them each row of the spine meets, (m,).

    Most entities have one run; of the others only those that the spine meets are made.
    """
    memory = max(feature.memory for feature in view.features)
    disorderly = vintages.disorderly()
    orderly = vintages.at(~np.isin(vintages.code, disorderly)) if len(disorderly) else vintages
    run = code.copy()
    parts, numbers = [orderly], [orderly.code]
    of_code: dict[int, list[int]] = {int(one): [int(one)] for one in np.unique(orderly.code)}
    fresh = int(max(code.max(initial=-1), vintages.code.max(initial=-1))) + 1
    by_code = np.argsort(code, kind="stable") if len(disorderly) else code
    for one in disorderly:
        spine = by_code[slice(*np.searchsorted(code, (one, one + 1), sorter=by_code))]
        own = vintages.at(slice(*np.searchsorted(vintages.code, (one, one + 1))))
        events = np.r_[np.iinfo(np.int64).min, own.events(), FOREVER]
        state = np.searchsorted(events, instants[spine], side="right") - 1
        for number in np.unique(state):
            part = _known_between(own, events[number], events[number + 1], memory)
            parts.append(part)
            numbers.append(np.full(len(part.code), fresh))
            of_code.setdefault(int(one), []).append(fresh)
            run[spine[state == number]] = fresh
            fresh += 1
    return (
        _Runs(
            np.concatenate(numbers),
            np.concatenate([part.day for part in parts]),
            np.concatenate([part.known_at for part in parts]),
            np.concatenate([part.row for part in parts]),
            of_code,
        ),
        run,
    )


def _known_between(own: _Vintages, begin: int, end: int, memory: int) -> _Vintages:
    """What an entity's values were from `begin` until `end`, by date; all known by `begin` first.

    Of those only as many as the newest of them may look back over.
    """
    held = np.flatnonzero((own.known_at < end) & (own.until > begin))
    part = own.at(held[np.argsort(own.day[held])])
    before = int((part.known_at <= begin).sum())
    part = part.at(slice(max(before - memory - 1, 0), None))
    return replace(part, known_at=np.maximum(part.known_at, begin))


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
