"""Window statistics over rows of many entities, each value made of its own window alone.

A value here is the result of the same operations in the same order wherever its window
lies, so what is computed from the tail of a history equals, bit for bit, what is computed
from all of it. Running sums, and the segment trees behind SQL's moving averages, lack
that: their rounding depends on where the computation began. A window of k rows is put
together from windows of 1, 2, 4, … rows, as in a sparse table (Bender and Farach-Colton,
"The LCA problem revisited", 2000): about 2·log2(k) passes over the rows instead of k, and
where only few rows are asked for, k values for each of those.

NaN in a window makes the value NaN; so does a window that reaches before the entity's
first row. Nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
        return self._fold(values, window, np.add)

    def mean(self, values: Floats, window: int) -> Floats:
        """Mean of the last `window` rows, (m,)."""
        return self.sum(values, window) / window

    def product(self, values: Floats, window: int) -> Floats:
        """Product of the last `window` rows, (m,)."""
        return self._fold(values, window, np.multiply)

    def max(self, values: Floats, window: int) -> Floats:
        """Largest of the last `window` rows, (m,)."""
        return self._fold(values, window, np.maximum)

    def min(self, values: Floats, window: int) -> Floats:
        """Smallest of the last `window` rows, (m,)."""
        return self._fold(values, window, np.minimum)

    def std(self, values: Floats, window: int) -> Floats:
        """Sample standard deviation (n − 1) of the last `window` rows, (m,).

        By sums and sums of squares: meant for returns, whose mean is small beside their
        deviation; levels lose digits.
        """
        return np.sqrt(np.maximum(self.covariance(values, values, window), 0.0))

    def covariance(self, x: Floats, y: Floats, window: int) -> Floats:
        """Sample covariance (n − 1) of two columns over the last `window` rows, (m,)."""
        along_x = self.sum(x, window)
        along_y = along_x if y is x else self.sum(y, window)
        return (self.sum(x * y, window) - along_x * along_y / window) / (window - 1)

    def levels(self, growth: Floats, windows: Sequence[int]) -> list[Levels]:
        """Growth and mean of a price over windows, the mean relative to the last price.

        Parameters
        ----------
        growth : price over the price one row before, splits and dividends counted, (n,).
            No level is needed, so an action later on changes nothing.
        windows : rows.
        """
        folded = self._folds((growth, np.ones_like(growth)), windows, _join_priced)
        return [
            Levels(self._within(gained, window), self._within(total, window - 1) / window)
            for window, (gained, total) in zip(windows, folded, strict=True)
        ]

    def highest(self, growth: Floats, window: int) -> Floats:
        """Largest of the last `window` prices over the last price, from growth (n,): (m,)."""
        ((_, highest),) = self._folds((growth, np.ones_like(growth)), (window,), _join_highest)
        return self._within(highest, window - 1)

    def priced_sum(self, growth: Floats, amount: Floats, window: int) -> Floats:
        """Sum of the last `window` amounts of money over the last price, (m,).

        Parameters
        ----------
        growth : as in `levels`, (n,).
        amount : each row's amount over its own price (1 for the price itself), (n,).
        window : rows.
        """
        ((_, total),) = self._folds((growth, amount), (window,), _join_priced)
        return self._within(total, window - 1)

    def newest(self, memory: int) -> Ints:
        """Latest `known_at` among each row and the `memory` rows before it, (m,)."""
        in_order = (self.known_at[1:] >= self.known_at[:-1]) | (self.entity[1:] != self.entity[:-1])
        if memory <= 0 or in_order.all():
            return self.now(self.known_at)
        # a window that begins before the entity's first row is cut there
        spans = np.minimum(self.position, memory)
        return self.now(_newest(self.known_at, spans))

    def _fold(self, values: Floats, window: int, combine: np.ufunc) -> Floats:
        def join(newer: Parts, older: Parts) -> Parts:
            return (combine(newer[0], older[0]),)

        ((folded,),) = self._folds((values,), (window,), join)
        return self._within(folded, window - 1)

    def _folds(self, columns: Parts, windows: Sequence[int], join: Join) -> list[Parts]:
        """The parts of each window at the rows asked for, over the borders of entities."""
        for column in columns:
            self._require_column(column)
        if self.asked is None:
            return _folded_everywhere(columns, windows, join)
        longest = max(windows)
        passes = 2 * sum(window.bit_length() for window in windows)
        if len(self.asked) * longest > len(self) * passes:
            everywhere = _folded_everywhere(columns, windows, join)
            return [tuple(part[self.asked] for part in parts) for parts in everywhere]
        back = np.maximum(self.asked[:, None] - np.arange(longest), 0)
        newest_first = tuple(column[back] for column in columns)
        return [_folded_at(newest_first, window, join) for window in windows]

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
    """

    growth: Floats
    mean: Floats


def positions(entity: npt.NDArray[np.integer]) -> Ints:
    """Rows of the same entity before each row; rows are grouped by entity: (n,)."""
    n = len(entity)
    if n == 0:
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.r_[True, entity[1:] != entity[:-1]])
    rows = np.arange(n)
    return rows - np.repeat(rows[starts], np.diff(np.r_[starts, n]))


def _join_priced(newer: Parts, older: Parts) -> Parts:
    """Growth over both; total of the amounts, with the price after both as 1."""
    return newer[0] * older[0], newer[1] + older[1] / newer[0]


def _join_highest(newer: Parts, older: Parts) -> Parts:
    """Growth over both; highest of the prices, with the price after both as 1."""
    return newer[0] * older[0], np.maximum(newer[1], older[1] / newer[0])


def _shifted(values: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Values moved down by `rows`, over the borders of entities; NaN comes in: (n,)."""
    if rows == 0:
        return values
    moved = np.empty_like(values)
    moved[:rows] = np.nan
    moved[rows:] = values[:-rows]
    return moved


def _folded_everywhere(columns: Parts, windows: Sequence[int], join: Join) -> list[Parts]:
    """Each window of each row: blocks of 1, 2, 4, … rows, put together from the newest back.

    A block of k rows is known from row k - 1 on: its parts have that much fewer values.
    """
    blocks = [columns]
    for power in range(max(windows).bit_length() - 1):
        blocks.append(_put_before(blocks[-1], blocks[-1], 1 << power, join))
    found = []
    for window in windows:
        whole: Parts | None = None
        for power in _powers(window):
            block = blocks[power]
            whole = block if whole is None else _put_before(whole, block, 1 << power, join)
        assert whole is not None
        found.append(tuple(_lengthened(part, len(columns[0])) for part in whole))
    return found


def _put_before(newer: Parts, older: Parts, rows: int, join: Join) -> Parts:
    """Windows with an older block of so many rows put before each."""
    size = max(len(newer[0]) - rows, 0)
    return join(tuple(part[rows:] for part in newer), tuple(part[:size] for part in older))


def _lengthened(values: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Values of the last rows, NaN at those before: (size,)."""
    whole = np.empty(size, values.dtype)
    whole[: size - len(values)] = np.nan
    whole[size - len(values) :] = values
    return whole


def _folded_at(newest_first: Parts, window: int, join: Join) -> Parts:
    """One window of chosen rows: the same blocks, from columns (m, rows back)."""
    whole: Parts | None = None
    covered = 0
    for power in _powers(window):
        block = tuple(column[:, covered : covered + (1 << power)] for column in newest_first)
        for _ in range(power):
            block = join(
                tuple(part[:, 0::2] for part in block), tuple(part[:, 1::2] for part in block)
            )
        one = tuple(part[:, 0] for part in block)
        whole = one if whole is None else join(whole, one)
        covered += 1 << power
    assert whole is not None
    return whole


def _powers(window: int) -> list[int]:
    """Exponents of the powers of two that a window's length is the sum of, ascending."""
    return [power for power in range(window.bit_length()) if window >> power & 1]


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
