"""Leakage: features that know the label, and labels that nothing can know.

A label shuffled within its dates keeps all that a date has in common and nothing of the
order; whoever still ranks it, cheats. A feature whose order is that of the label date after
date holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from models.evaluation.cross_section import information_ratio
from models.evaluation.panel import Floats, Panel, figure, require_same_length, vectors
from models.evaluation.significance import newey_west_t

# Published rank ICs of daily and weekly cross-sections are 0.04 to 0.06. A ratio of the IC's
# mean to its standard deviation of 1 a week would be 7 a year; Grinold and Kahn (1999, chapter
# 5) call an information ratio of 1 a year exceptional.
IMPLAUSIBLE_IC = 0.10
IMPLAUSIBLE_RATIO = 1.0
IMPLAUSIBLE_T = 5.0
# A float32 copy of a label, scaled and shifted, correlates with it to 1e-12.
SAME = 1e-9


@dataclass(frozen=True)
class Leak:
    """A feature that knows more than it can, with the figures that say so.

    Attributes
    ----------
    feature : its name.
    reason : in words.
    rank_ic, icir, t : mean rank correlation with the label within dates, the same by its
        standard deviation over dates, and its Newey-West t; None where not defined.
    correlation : Pearson, of all rows pooled.
    n_dates : dates with a rank correlation.
    """

    feature: str
    reason: str
    rank_ic: float | None
    icir: float | None
    t: float | None
    correlation: float | None
    n_dates: int


def shuffled_within_dates(label: npt.NDArray[Any], dates: Any, seed: int) -> npt.NDArray[Any]:
    """The labels of each date, dealt out anew among its rows.

    Parameters
    ----------
    label : (n, ...)
        Rows are moved whole.
    dates : (n,)
    seed : int

    Returns
    -------
    array of the shape and type of `label`
    """
    require_same_length(label, dates)
    at = Panel.of(dates).place
    drawn = np.random.default_rng(seed).random(len(at))
    result = np.empty_like(label)
    result[np.argsort(at, kind="stable")] = label[np.lexsort((drawn, at))]
    return result


def leaking_features(
    features: npt.NDArray[Any],
    label: npt.ArrayLike,
    dates: Any,
    names: Sequence[str],
    *,
    rank_ic: float = IMPLAUSIBLE_IC,
    icir: float = IMPLAUSIBLE_RATIO,
    t: float = IMPLAUSIBLE_T,
) -> list[Leak]:
    """Features that hold the label: as it is, scaled, ranked, or under noise.

    A feature is flagged where its rank correlation with the label within dates is large on
    average, and as large on nearly every date: momentum or reversal is right on some dates and
    wrong on others, what holds the label is right on all. Under normal noise a label is still
    found where the noise has up to about eight times its spread (150 dates of 500 entities;
    six times with 80). One entity a date has no order: there only a feature that equals the
    label, scaled and shifted, is found.

    Parameters
    ----------
    features : (n, F), or windows (n, T, F), of which the last step is looked at.
    label : (n,); rows where it is not known are left out.
    dates : (n,)
    names : F features
    rank_ic, icir, t : float
        All of its absolute mean rank IC, the same by its standard deviation over dates and
        its Newey-West t must reach these.

    Returns
    -------
    list of Leak
        In the order of the features.

    Raises
    ------
    UsageError
        Shapes do not fit one another.
    """
    last = np.asarray(features)
    last = last[:, -1, :] if last.ndim == 3 else last
    (returns,) = vectors(label)
    require_same_length(last, returns, dates)
    if last.ndim != 2 or last.shape[1] != len(names):
        raise UsageError(f"leakage: features {last.shape} and {len(names)} names do not fit")
    panel = Panel.of(dates)
    found: list[Leak] = []
    for number, name in enumerate(names):
        values = last[:, number].astype("float64")
        whole = _pooled(values, returns)
        by_date = panel.correlation(values, returns, of_ranks=True)
        by_date = by_date[np.isfinite(by_date)]
        reason = _reason(by_date, whole, rank_ic, icir, t)
        if reason:
            mean = float(by_date.mean()) if len(by_date) else None
            ratio, statistic = information_ratio(by_date), newey_west_t(by_date)
            leak = Leak(name, reason, mean, ratio, statistic, figure(whole), len(by_date))
            found.append(leak)
    return found


def _reason(
    by_date: Floats, whole: float, least_ic: float, least_ratio: float, least_t: float
) -> str | None:
    if abs(whole) >= 1 - SAME:
        return "equals the label, scaled and shifted"
    if len(by_date) < 2 or abs(by_date.mean()) < least_ic:
        return None
    ratio, t = information_ratio(by_date), newey_west_t(by_date)
    # not defined: the same on every date
    if (ratio is None or abs(ratio) >= least_ratio) and (t is None or abs(t) >= least_t):
        return f"has the order of the label on nearly every date: rank IC {by_date.mean():.2f}"
    return None


def _pooled(one: Floats, other: Floats) -> float:
    """Pearson correlation of all rows that have both; NaN where a side does not vary."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3 or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return np.nan
    return float(np.corrcoef(one[both], other[both])[0, 1])
