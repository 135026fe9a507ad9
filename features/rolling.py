"""Window statistics over rows of many entities, each value made of its own window alone.

A value here is the result of the same operations in the same order wherever its window
lies, so what is computed from the tail of a history equals, bit for bit, what is computed
from all of it. Running sums, and the segment trees behind SQL's moving averages, lack
that: their rounding depends on where the computation began. A window of k rows is put
together from two shorter ones side by side, these from shorter ones still, along an addition
chain (Knuth, The Art of Computer Programming 2, 4.6.3): windows of 5, 21, 63 and 252 rows
take 10 passes over the rows instead of 341, and where only few rows are asked for, 252 values
for each of those.

NaN in a window makes the value NaN; so does a window that reaches before the entity's
first row. Nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Columns that are folded together: one array for most statistics.
Parts = tuple[npt.NDArray[Any], ...]
# The parts of the newer rows, those of the older ones: the parts of both.
Join = Callable[[Parts, Parts], Parts]


@dataclass(frozen=True)
class Rows:
    """Rows of one input, sorted by entity and date; columns have shape (n,).

    Statistics have shape (m,): a value for each row that is asked for. On a night those
    are the newest row of each entity, in a rebuild all rows. A statistic of a statistic
    needs the inner one at all rows: `rows.sum(rows.everywhere.mean(x, 5), 10)`.

    Attributes
    ----------
    names : entity names; `entity` holds positions in it.
    entity : code of each row's entity, ascending.
    date : datetime64[D], ascending within an entity.
    known_at : microseconds since 1970, UTC: when the row could first be used.
    columns : the values, float64, by name; NaN where there is none.
    asked : positions (m,) of the rows for which values are wanted; None for all.
    """

    names: npt.NDArray[np.object_]
    entity: npt.NDArray[np.int32]
    date: npt.NDArray[np.datetime64]
    known_at: Ints
    columns: dict[str, Floats]
    asked: Ints | None = None

    def __len__(self) -> int:
        return len(self.entity)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    @property
    def everywhere(self) -> Rows:
        """These rows with values wanted for all of them."""
        return self if self.asked is None else replace(self, asked=None)

    @cached_property
    def position(self) -> Ints:
        """Rows of the same entity before each row, (n,)."""
        return positions(self.entity)

    def now(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A column (n,) at the rows that are asked for, (m,)."""
        self._require_column(values)
        return values if self.asked is None else values[self.asked]

    def lag(self, values: Floats, rows: int) -> Floats:
        """The value `rows` rows earlier in the same entity, (m,)."""
        self._require_column(values)
        if self.asked is None:
            return self._within(_shifted(values, rows), rows)
        return self._within(values[np.maximum(self.asked - rows, 0)], rows)

    def sum(self, values: Floats, window: int) -> Floats:
        """Sum of the last `window` rows, (m,)."""
        return self._fold(values, (window,), np.add)[0]

    def mean(self, values: Floats, window: int) -> Floats:
        """Mean of the last `window` rows, (m,)."""
        return self.sum(values, window) / window

    def product(self, values: Floats, window: int) -> Floats:
        """Product of the last `window` rows, (m,)."""
        return self._fold(values, (window,), np.multiply)[0]

    def max(self, values: Floats, window: int) -> Floats:
        """Largest of the last `window` rows, (m,)."""
        return self._fold(values, (window,), np.maximum)[0]

    def min(self, values: Floats, window: int) -> Floats:
        """Smallest of the last `window` rows, (m,)."""
        return self._fold(values, (window,), np.minimum)[0]

    def std(self, values: Floats, window: int) -> Floats:
        """Sample standard deviation (n − 1) of the last `window` rows, (m,).

        By sums and sums of squares: meant for returns, whose mean is small beside their
        deviation; levels lose digits.
        """
        return self.stds(values, (window,))[0]

    def sums(self, values: Floats, windows: Sequence[int]) -> list[Floats]:
        """Sums of the last rows over several windows, cheaper than one by one: (m,) each."""
        return self._fold(values, windows, np.add)

    def means(self, values: Floats, windows: Sequence[int]) -> list[Floats]:
        """Means of the last rows over several windows, cheaper than one by one: (m,) each."""
        return [
            total / window
            for window, total in zip(windows, self.sums(values, windows), strict=True)
        ]

    def stds(self, values: Floats, windows: Sequence[int]) -> list[Floats]:
        """As `std` over several windows, cheaper than one by one: (m,) each."""
        totals, squares = self.sums(values, windows), self.sums(values * values, windows)
        return [
            np.sqrt(np.maximum(_covariance(square, total, total, window), 0.0))
            for window, total, square in zip(windows, totals, squares, strict=True)
        ]

    def covariance(self, x: Floats, y: Floats, window: int) -> Floats:
        """Sample covariance (n − 1) of two columns over the last `window` rows, (m,)."""
        along_x = self.sum(x, window)
        along_y = along_x if y is x else self.sum(y, window)
        return _covariance(self.sum(x * y, window), along_x, along_y, window)

    def levels(self, growth: Floats, windows: Sequence[int]) -> list[Levels]:
        """Growth, mean and highest of a price over windows, relative to the last price.

        Parameters
        ----------
        growth : price over the price one row before, splits and dividends counted, (n,).
            No level is needed, so an action later on changes nothing.
        windows : rows.
        """
        price = np.ones_like(growth)
        folded = self._folds((1 / growth, price, price), windows, _join_levels)
        return [
            Levels(
                self._within(1 / before, window),
                self._within(total, window - 1) / window,
                self._within(highest, window - 1),
            )
            for window, (before, total, highest) in zip(windows, folded, strict=True)
        ]

    def priced_sums(self, growth: Floats, amounts: Sequence[Floats], window: int) -> list[Floats]:
        """Sums of the last `window` amounts of money over the last price, (m,) each.

        Parameters
        ----------
        growth : as in `levels`, (n,).
        amounts : each row's amount over its own price (1 for the price itself), (n,) each.
        window : rows.
        """
        ((_, *totals),) = self._folds((1 / growth, *amounts), (window,), _join_priced)
        return [self._within(total, window - 1) for total in totals]

    def newest(self, memory: int) -> Ints:
        """Latest `known_at` among each row and the `memory` rows before it, (m,)."""
        in_order = (self.known_at[1:] >= self.known_at[:-1]) | (self.entity[1:] != self.entity[:-1])
        if memory <= 0 or in_order.all():
            return self.now(self.known_at)
        # a window that begins before the entity's first row is cut there
        spans = np.minimum(self.position, memory)
        return self.now(_newest(self.known_at, spans))

    def _fold(self, values: Floats, windows: Sequence[int], combine: np.ufunc) -> list[Floats]:
        def join(newer: Parts, older: Parts) -> Parts:
            return (combine(newer[0], older[0]),)

        folded = self._folds((values,), windows, join)
        return [
            self._within(one, window - 1) for window, (one,) in zip(windows, folded, strict=True)
        ]

    def _folds(self, columns: Parts, windows: Sequence[int], join: Join) -> list[Parts]:
        """The parts of each window at the rows asked for, over the borders of entities."""
        for column in columns:
            self._require_column(column)
        chain = _chain(tuple(windows))
        if self.asked is None:
            return _folded_everywhere(columns, windows, chain, join)
        if len(self.asked) * chain.values_a_row > len(self) * len(chain.sums):
            everywhere = _folded_everywhere(columns, windows, chain, join)
            return [tuple(part[self.asked] for part in parts) for parts in everywhere]
        return _folded_at(columns, self.asked, windows, chain, join)

    def _within(self, values: npt.NDArray[Any], rows_before: int) -> npt.NDArray[Any]:
        """NaN, in place, where fewer than `rows_before` rows of the entity come before."""
        if rows_before > 0 and self.asked is None:
            for start, end in self._entity_spans:
                values[start : min(start + rows_before, end)] = np.nan
        elif rows_before > 0:
            values[self.position[self.asked] < rows_before] = np.nan
        return values

    @cached_property
    def _entity_spans(self) -> list[tuple[int, int]]:
        """First row of each entity, and of the next."""
        if not len(self.entity):
            return []
        edges = np.flatnonzero(self.entity[1:] != self.entity[:-1]) + 1
        return list(zip([0, *edges], [*edges, len(self.entity)], strict=True))

    def _require_column(self, values: npt.NDArray[Any]) -> None:
        if len(values) != len(self):
            raise ValueError(
                f"{len(values)} values for {len(self)} rows: a statistic of a statistic needs "
                "the inner one at all rows, as in rows.sum(rows.everywhere.mean(x, 5), 10)"
            )


@dataclass(frozen=True)
class Levels:
    """A price over the last rows, relative to its last value; (m,) each.

    Attributes
    ----------
    growth : last price over the price `window` rows before.
    mean : mean of the last `window` prices over the last price.
    highest : largest of the last `window` prices over the last price.
    """

    growth: Floats
    mean: Floats
    highest: Floats


def positions(entity: npt.NDArray[np.integer]) -> Ints:
    """Rows of the same entity before each row; rows are grouped by entity: (n,)."""
    n = len(entity)
    if n == 0:
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.r_[True, entity[1:] != entity[:-1]])
    rows = np.arange(n)
    return rows - np.repeat(rows[starts], np.diff(np.r_[starts, n]))


def _covariance(products: Floats, along_x: Floats, along_y: Floats, window: int) -> Floats:
    """Sample covariance (n − 1) from the sums of products and of each column, (m,)."""
    return (products - along_x * along_y / window) / (window - 1)


def _join_levels(newer: Parts, older: Parts) -> Parts:
    """The price before both, their total, their highest: over the price after both."""
    before = newer[0]
    return (
        before * older[0],
        newer[1] + older[1] * before,
        np.maximum(newer[2], older[2] * before),
    )


def _join_priced(newer: Parts, older: Parts) -> Parts:
    """The price before both and the totals of the amounts: over the price after both."""
    before, *totals = newer
    joined = [mine + theirs * before for mine, theirs in zip(totals, older[1:], strict=True)]
    return (before * older[0], *joined)


def _shifted(values: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Values moved down by `rows`, over the borders of entities; NaN comes in: (n,)."""
    if rows == 0:
        return values
    moved = np.empty_like(values)
    moved[:rows] = np.nan
    moved[rows:] = values[:-rows]
    return moved


@dataclass(frozen=True)
class _Chain:
    """How windows are put together: shorter ones first.

    Attributes
    ----------
    sums : (rows, rows of the newer part, rows of the older part) of each window made.
    offsets : for each length, how many rows before the row asked for it is needed to end:
        ascending, (k,).
    """

    sums: tuple[tuple[int, int, int], ...]
    offsets: dict[int, Ints]

    @property
    def values_a_row(self) -> int:
        """Values that are put together for one row asked for."""
        return sum(len(one) for one in self.offsets.values())


@lru_cache(maxsize=256)
def _chain(windows: tuple[int, ...]) -> _Chain:
    """An addition chain that holds all the windows: doubling what is there, then the rest."""
    sums: dict[int, tuple[int, int, int]] = {1: (1, 1, 0)}

    def make(rows: int) -> None:
        if rows in sums:
            return
        newer = max(known for known in sums if known < rows)
        while 2 * newer <= rows:
            sums.setdefault(2 * newer, (2 * newer, newer, newer))
            newer *= 2
        if newer < rows:
            make(rows - newer)
            sums[rows] = (rows, newer, rows - newer)

    for window in sorted(windows):
        make(window)
    needed: dict[int, set[int]] = {rows: set() for rows in sums}
    for window in windows:
        needed[window].add(0)
    made = tuple(sums.values())[1:]
    for rows, newer, older in reversed(made):
        needed[newer] |= needed[rows]
        needed[older] |= {offset + newer for offset in needed[rows]}
    return _Chain(made, {rows: np.array(sorted(found)) for rows, found in needed.items()})


def _folded_everywhere(
    columns: Parts, windows: Sequence[int], chain: _Chain, join: Join
) -> list[Parts]:
    """Each window of each row.

    A window of k rows is known from row k - 1 on: its parts have that much fewer values.
    """
    size = len(columns[0])
    found = {1: columns}
    for rows, newer, older in chain.sums:
        count = max(size - rows + 1, 0)
        found[rows] = join(
            tuple(part[older : older + count] for part in found[newer]),
            tuple(part[:count] for part in found[older]),
        )
    return [tuple(_lengthened(part, size) for part in found[window]) for window in windows]


def _lengthened(values: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Values of the last rows, NaN at those before: (size,)."""
    whole = np.empty(size, values.dtype)
    whole[: size - len(values)] = np.nan
    whole[size - len(values) :] = values
    return whole


def _folded_at(
    columns: Parts, asked: Ints, windows: Sequence[int], chain: _Chain, join: Join
) -> list[Parts]:
    """Each window of chosen rows: the same sums, of no other rows than they need."""
    back = np.maximum(asked - chain.offsets[1][:, None], 0)
    found = {1: tuple(column[back] for column in columns)}  # (offsets, m) each
    for rows, newer, older in chain.sums:
        offsets = chain.offsets[rows]
        at_newer = np.searchsorted(chain.offsets[newer], offsets)
        at_older = np.searchsorted(chain.offsets[older], offsets + newer)
        found[rows] = join(
            tuple(part[at_newer] for part in found[newer]),
            tuple(part[at_older] for part in found[older]),
        )
    # the window that ends at the row itself lies first
    return [tuple(part[0].copy() for part in found[window]) for window in windows]


def _newest(known_at: Ints, spans: Ints) -> Ints:
    """Maximum of each row and the `spans` rows before it, (n,)."""
    # two overlapping blocks of a power of two cover any window of a maximum
    power = np.frexp(spans + 1)[1] - 1
    result = known_at.copy()
    block = known_at
    for step in range(1, int(power.max(initial=0)) + 1):
        half = 1 << (step - 1)
        larger = block.copy()
        larger[half:] = np.maximum(block[half:], block[:-half])
        block = larger
        rows = np.flatnonzero(power == step)
        begin = rows - spans[rows] + (1 << step) - 1
        result[rows] = np.maximum(block[rows], block[begin])
    return result
