"""Reads of raw rows that the views of one night share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.arrivals import Touched
from features.view import Input
from features.vintages import (
    ALWAYS,
    NEVER,
    RAW_INPUTS,
    Asked,
    Days,
    Vintages,
    count_before,
    load,
    together,
)

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# Calendar days of so many sessions, with holidays: 365 / 252, and room for a long weekend.
DAYS_A_SESSION, DAYS_SPARE = 1.46, 20


@dataclass(frozen=True)
class _Read:
    """What was read of a raw table that had so many rows then (and its actions)."""

    sizes: tuple[int, ...]
    memory: int
    touched: Touched
    found: Vintages

    def serves(self, sizes: tuple[int, ...], memory: int, touched: Touched) -> bool:
        """Whether another view may take the same rows: those asked for, or more of them."""
        return (
            self.sizes == sizes
            and self.memory >= memory
            and np.array_equal(self.touched.names, touched.names)
            and np.array_equal(self.touched.first, touched.first)
            and np.array_equal(self.touched.since, touched.since)
        )


class RawReads:
    """Reads the rows that views are brought up to date with, and keeps the newest read.

    Views mostly want the same rows of a night. Raw tables are only appended to, so what was
    read stands until they have grown.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Read] = {}

    def forget(self) -> None:
        """Give the memory back: no view is brought up to date for now."""
        self._kept.clear()

    def own(self, warehouse: Warehouse, given: Input, touched: Touched) -> Vintages:
        """An own input's rows from `memory` rows before the first date of each entity on."""
        if given.memory is None:
            return own_history(warehouse, given, touched)
        # an action counts at the first bar from its ex-date on: the one before says
        memory = given.memory + (1 if RAW_INPUTS[given.table].beside else 0)
        sizes = _sizes(warehouse, given.table)
        kept = self._kept.get(given.table)
        if kept is not None and kept.serves(sizes, memory, touched):
            return kept.found
        found = _tails(warehouse, given.table, memory, touched)
        self._kept[given.table] = _Read(sizes, memory, touched, found)
        return found


def _tails(warehouse: Warehouse, table: str, memory: int, touched: Touched) -> Vintages:
    """Rows of each entity touched from `memory` rows before its first date on."""
    start = start_of(touched.first, memory)
    found = load(warehouse, table, Asked(touched.names, start))
    if not memory:
        return found
    short = count_before(found, touched.first, touched.since) < memory
    # not those that are young and were read whole
    short[short] = _begun(warehouse, table, touched.names[short], start[short])
    if not short.any():
        return found
    # such that seldom trade: all that there is
    start = np.where(short, ALWAYS, NEVER)
    whole = load(warehouse, table, Asked(touched.names, start))
    return together(found.only(~short[found.entity]), whole)


def _begun(
    warehouse: Warehouse, table: str, names: npt.NDArray[np.object_], start: Days
) -> npt.NDArray[np.bool_]:
    """Whether each entity has rows before a date of its own, (n,)."""
    if not len(names):
        return np.empty(0, bool)
    raw = RAW_INPUTS[table]
    with warehouse.relation(Asked(names, start).table(), "asked") as relation:
        begun = {
            code
            for (code,) in warehouse.sql(
                f"""
                SELECT DISTINCT a.code
                FROM raw.{table} r
                JOIN {relation} a ON a.entity = r.{raw.entity}
                WHERE r.{raw.date} < $1 AND r.{raw.date} < a.start
                """,
                start.max().astype(object),
            )
        }
    return np.isin(np.arange(len(names)), list(begun))


def own_history(warehouse: Warehouse, given: Input, touched: Touched) -> Vintages:
    """An own input's rows of the entities touched, all of their histories."""
    asked = Asked(touched.names, np.full(len(touched.names), ALWAYS))
    return load(warehouse, given.table, asked)


def start_of(first: Days, memory: int | None) -> Days:
    """From which date on rows are read, so that `memory` of them lie before `first`: (n,)."""
    if memory is None:
        return np.full(len(first), ALWAYS)
    if memory == 0:
        return first
    days = int(memory * DAYS_A_SESSION) + DAYS_SPARE
    start: Days = np.maximum(first, ALWAYS + days) - days
    return start


def _sizes(warehouse: Warehouse, table: str) -> tuple[int, ...]:
    """Rows of a raw table, and of the one beside it."""
    beside = RAW_INPUTS[table].beside
    found = []
    for name in (table, beside) if beside else (table,):
        (count,) = warehouse.one(f"SELECT count(*) FROM raw.{name}") or (0,)
        found.append(int(count))
    return tuple(found)
