"""States of knowledge: what a view's values were from one correction to the next.

A state begins when a correction, or a row that came after later ones, became known; within
one only new dates are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.arrivals import Touched, asked_for, whole_reach
from features.evaluate import Values, evaluate, instants_of, key_of, raw_inputs
from features.reads import RawReads, own_history, start_of
from features.rolling import Ints, Rows
from features.view import FeatureView, Input
from features.vintages import (
    ALWAYS,
    FOREVER,
    NEVER,
    RAW_INPUTS,
    Asked,
    Vintages,
    load,
)

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# Raw rows that are held at once, about 100 bytes each.
ROWS_AT_ONCE = 2_000_000

Move = Callable[[float, float], None]


@dataclass(frozen=True)
class State:
    """What some entities' knowledge was from an instant until another, in microseconds.

    Arrays of shape (n,) over the entities that went through it: positions, begin, until.
    Shared rows are seen until `common`: where those only grew, all of them may be, and
    values that were not known by an entity's own `until` go.
    """

    codes: npt.NDArray[np.int64]
    begins: Ints
    until: Ints
    common: int


@dataclass(frozen=True)
class Computed:
    """Values of one state of some entities, and what to do with them.

    Attributes
    ----------
    number : states of these entities before it that are gone through again.
    values : from the dates reached on.
    reached : for SQL: entity (not for a view of all at once), first, begins.
    earliest : the first of the dates reached.
    """

    number: int
    values: Values
    reached: pa.Table
    earliest: np.datetime64


def go_through(
    warehouse: Warehouse,
    view: FeatureView,
    touched: Touched,
    move: Move | None,
    reads: RawReads | None,
) -> Iterator[Computed]:
    """Compute the states of everything touched, those of an entity oldest first.

    Without `reads` the histories of all entities are gone through whole.
    """
    if view.whole:
        yield from _all_at_once(warehouse, view, touched, reads or RawReads())
        return
    shared = {
        key: load(warehouse, given.table, _asked_whole(warehouse, given))
        for key, given in raw_inputs(view).items()
        if given.shared
    }
    count = len(touched.names)
    for begin, end in _chunks(warehouse, view, touched):
        part = Touched(
            touched.names[begin:end],
            touched.first[begin:end],
            touched.since[begin:end],
            touched.shared,
        )
        own = {
            key: (
                own_history(warehouse, given, part)
                if reads is None
                else reads.own(warehouse, given, part)
            )
            for key, given in raw_inputs(view).items()
            if not given.shared
        }
        yield from _some_entities(warehouse, view, part, own, shared)
        if move is not None:
            move(end, count)


def _chunks(warehouse: Warehouse, view: FeatureView, touched: Touched) -> Iterator[tuple[int, int]]:
    """Stretches of the touched entities whose rows can be held at once."""
    own = [given for given in raw_inputs(view).values() if not given.shared]
    rows, first, last = 0.0, NEVER, np.datetime64("1970-01-01", "D")
    for given in own:
        raw = RAW_INPUTS[given.table]
        found = warehouse.one(
            f"SELECT count(*), min({raw.date}), max({raw.date}) FROM raw.{given.table}"
        )
        assert found is not None
        if found[0]:
            rows = max(rows, found[0])
            first = min(first, np.datetime64(found[1], "D"))
            last = max(last, np.datetime64(found[2], "D"))
    reach = [np.maximum(start_of(touched.first, given.memory), first) for given in own]
    sessions_each = np.max([(last - start).astype("int64") * 252 / 365 for start in reach], axis=0)
    weight = np.cumsum(np.clip(sessions_each, 1, max(rows, 1)))
    begin = 0
    while begin < len(weight):
        before = weight[begin - 1] if begin else 0
        end = int(np.searchsorted(weight, before + ROWS_AT_ONCE, side="right"))
        end = max(end, begin + 1)
        yield begin, end
        begin = end


def _asked_whole(warehouse: Warehouse, given: Input) -> Asked:
    """All entities of an input, all of their histories."""
    entity = RAW_INPUTS[given.table].entity
    names = [
        name
        for (name,) in warehouse.sql(
            f"SELECT DISTINCT {entity} FROM raw.{given.table} "
            f"WHERE {asked_for(entity, '$1', '$2')} ORDER BY 1",
            list(given.entities),
            given.without,
        )
    ]
    return Asked(np.array(names, object), np.full(len(names), ALWAYS))


def _some_entities(
    warehouse: Warehouse,
    view: FeatureView,
    touched: Touched,
    own: Mapping[Any, Vintages],
    shared: Mapping[Any, Vintages],
) -> Iterator[Computed]:
    every = {**shared, **own}
    for number, state in enumerate(_states(own, shared, touched)):
        until = np.full(len(touched.names), np.iinfo(np.int64).min)
        until[state.codes] = state.until

        def read(given: Input, until: Ints = until, common: int = state.common) -> Rows:
            vintages = every[key_of(given)]
            if given.shared:
                return vintages.as_of(np.full(len(vintages.names), common))
            return vintages.as_of(until)

        names, first = touched.names[state.codes], touched.first[state.codes]
        values = evaluate(warehouse, view, read, dict(zip(names, first, strict=True)))
        ends = dict(zip(names, state.until, strict=True))
        values = values.chosen(
            values.known_at
            < np.array([ends.get(name, FOREVER) for name in values.names], "int64")[values.entity]
        )
        reached = pa.table(
            {
                "entity": pa.array(names, pa.string()),
                "first": pa.array(first),
                "begins": instants_of(state.begins),
            }
        )
        yield Computed(number, values, reached, first.min())


def _states(
    own: Mapping[Any, Vintages], shared: Mapping[Any, Vintages], touched: Touched
) -> Iterator[State]:
    """The states that the touched entities went through, oldest first, as few as will do.

    Entities go through theirs at the same time, each up to an instant of its own, unless
    shared rows were corrected meanwhile: then an instant is the same for all.
    """
    size = len(touched.names)
    codes, instants = [], []
    corrected = False
    for vintages in own.values():
        code, instant = vintages.turning_points(touched.since)
        codes.append(code.astype("int64"))
        instants.append(instant)
    for vintages in shared.values():
        least = np.full(len(vintages.names), touched.since.min(initial=FOREVER))
        turns = np.unique(vintages.turning_points(least)[1])
        corrected |= len(turns) > 0
        code = np.repeat(np.arange(size), len(turns))
        instant = np.tile(turns, size)
        later = instant > touched.since[code]
        codes.append(code[later])
        instants.append(instant[later])
    pairs = np.unique(np.column_stack([np.concatenate(codes), np.concatenate(instants)]), axis=0)
    code, begins = (
        np.concatenate([np.arange(size), pairs[:, 0]]),
        np.concatenate([touched.since, pairs[:, 1]]),
    )
    order = np.lexsort((begins, code))
    code, begins = code[order], begins[order]
    until = np.r_[begins[1:], FOREVER]
    until[np.r_[code[1:] != code[:-1], True][: len(code)]] = FOREVER
    rank = np.arange(len(code)) - np.searchsorted(code, code)
    group = until if corrected else rank
    for value in np.unique(group):
        chosen = group == value
        common = int(value) if corrected else FOREVER
        yield State(code[chosen], begins[chosen], until[chosen], common)


def _all_at_once(
    warehouse: Warehouse, view: FeatureView, touched: Touched, reads: RawReads
) -> Iterator[Computed]:
    """States of a view whose values are made of all entities' rows."""
    first, since = whole_reach(touched)
    every = {}
    for key, given in raw_inputs(view).items():
        asked = _asked_whole(warehouse, given)
        start = np.full(len(asked.names), first)
        every[key] = (
            load(warehouse, given.table, asked)
            if given.shared
            else reads.own(
                warehouse, given, Touched(asked.names, start, np.full(len(start), since))
            )
        )
    turns = [
        vintages.strict_turning_points(since)
        if view.compares
        else vintages.turning_points(np.full(len(vintages.names), since))[1]
        for vintages in every.values()
    ]
    begins = np.unique(np.concatenate([[since], *turns])).astype("int64")
    for number, begin in enumerate(begins):
        until = begins[number + 1] if number + 1 < len(begins) else FOREVER

        def read(given: Input, until: int = until) -> Rows:
            vintages = every[key_of(given)]
            return vintages.as_of(np.full(len(vintages.names), until))

        values = evaluate(warehouse, view, read)
        reached = pa.table({"first": pa.array(np.array([first])), "begins": instants_of([begin])})
        yield Computed(number, values.chosen(values.date >= first), reached, first)
