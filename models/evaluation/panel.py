"""Panels: long rows of many entities on many dates, computed date by date without a loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
# JSON: float, int, str, None, and lists and dictionaries of them.
Metrics = dict[str, Any]

# Of two pairs every correlation is 1 or -1.
FEWEST_PAIRS = 3
# Sums of squares about the mean that are smaller than this share of those about zero are
# what rounding leaves of a constant.
ROUNDING = 1e-24


@dataclass(frozen=True)
class Panel:
    """Rows grouped by date.

    Attributes
    ----------
    days : (d,)
        Distinct dates, ascending.
    place : (n,), integer
        For each row its date's place among `days`.
    """

    days: npt.NDArray[Any]
    place: Ints

    @classmethod
    def of(cls, dates: Any) -> Panel:
        """Group rows by their dates: (n,), of any type that can be ordered.

        Raises
        ------
        UsageError
            A row has no date.
        """
        place, days = pd.factorize(np.asarray(dates), sort=True)
        if (place < 0).any():
            raise UsageError(f"evaluation: {int((place < 0).sum())} rows have no date")
        return cls(np.asarray(days), place.astype(np.intp))

    def by_date(self, values: Floats) -> pd.Series[float]:
        """One value for each date as a series: (d,)."""
        return pd.Series(values, index=pd.Index(self.days))

    def count(self, rows: npt.NDArray[np.bool_]) -> Ints:
        """How many of the rows there are on each date: (d,)."""
        return np.bincount(self.place[rows], minlength=len(self.days))

    def mean(self, values: Floats, rows: npt.NDArray[np.bool_]) -> Floats:
        """Mean over the rows of each date: (d,); NaN on a date without one."""
        total = np.bincount(self.place[rows], values[rows], len(self.days))
        with np.errstate(invalid="ignore"):
            return np.asarray(total / self.count(rows), "float64")

    def ranks(self, values: Floats, rows: npt.NDArray[np.bool_]) -> Floats:
        """Rank among the chosen rows of a date, from 1, ties averaged: (n,); NaN elsewhere."""
        ranks = np.full(len(values), np.nan)
        ranks[rows] = pd.Series(values[rows]).groupby(self.place[rows]).rank().to_numpy()
        return ranks

    def correlation(self, one: Floats, other: Floats, *, of_ranks: bool = False) -> Floats:
        """Pearson or Spearman correlation within each date: (d,).

        Pairs of which a side is missing are left out. NaN on dates with fewer than three
        pairs, and on dates on which a side does not vary.
        """
        pairs = np.isfinite(one) & np.isfinite(other)
        if of_ranks:
            one, other = self.ranks(one, pairs), self.ranks(other, pairs)
        at, count = self.place[pairs], self.count(pairs)

        def centred(values: Floats) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
            about_zero = np.bincount(at, values[pairs] ** 2, len(count))
            deviations = values[pairs] - self.mean(values, pairs)[at]
            squares = np.bincount(at, deviations**2, len(count))
            return deviations, np.asarray(squares, "float64"), squares > ROUNDING * about_zero

        x, xx, x_varies = centred(one)
        y, yy, y_varies = centred(other)
        products = np.bincount(at, x * y, len(count))
        defined = x_varies & y_varies & (count >= FEWEST_PAIRS)
        result = np.full(len(count), np.nan)
        result[defined] = products[defined] / np.sqrt(xx[defined] * yy[defined])
        return np.asarray(np.clip(result, -1.0, 1.0), "float64")

    def auc(self, scores: Floats, up: npt.NDArray[np.bool_]) -> Floats:
        """Area under the ROC curve within each date: (d,); NaN where there is one class only."""
        scored = np.isfinite(scores)
        ranks = self.ranks(scores, scored)
        above, below = self.count(up & scored), self.count(~up & scored)
        total = np.bincount(self.place[up & scored], ranks[up & scored], len(self.days))
        with np.errstate(invalid="ignore"):
            return np.asarray((total - above * (above + 1) / 2) / (above * below), "float64")


def vectors(*arrays: Any) -> list[Floats]:
    """The arrays as float64 of shape (n,).

    Raises
    ------
    UsageError
        Their lengths differ.
    """
    flat = [np.asarray(array, "float64").reshape(-1) for array in arrays]
    require_same_length(*flat)
    return flat


def require_same_length(*arrays: Any) -> None:
    """Refuse arrays whose rows cannot be of the same examples."""
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise UsageError(
            f"evaluation: arrays of {', '.join(map(str, lengths))} rows; "
            "all must be of the same examples, in the same order"
        )


def not_finite(what: str, values: npt.NDArray[Any]) -> str | None:
    """Why figures of these forecasts are not defined, or None if all are numbers."""
    count = int((~np.isfinite(values)).sum())
    return f"{count} of {values.size} {what} are not finite" if count else None


def figure(value: Any) -> float | None:
    """A float for JSON; None for what is no finite number."""
    return float(value) if np.isfinite(value) else None
