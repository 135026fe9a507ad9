"""Comparison: whether one forecaster is better than another, or whether that is noise.

Losses of one date belong together (what surprises one entity surprises others), so they are
averaged by date first, and dates are resampled in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import LookbackError, UsageError
from models.evaluation.panel import Floats, Metrics, Panel, require_same_length, vectors
from models.evaluation.significance import (
    FEWEST_VALUES,
    LEVEL,
    REPETITIONS,
    SEED,
    block_length,
    mean_interval,
    newey_west_lags,
    newey_west_t,
)


@dataclass(frozen=True)
class Comparison:
    """Our mean loss less theirs; above zero is worse.

    Attributes
    ----------
    mean_difference : over the dates.
    low, high : ends of its interval; infinite where there are too few dates to tell noise
        from anything, so that nothing is beyond it.
    n_dates : dates that both have a loss on.
    t : Diebold and Mariano's statistic, with Newey-West variance; None where all
        differences are the same.
    """

    mean_difference: float
    low: float
    high: float
    n_dates: int
    t: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether ours is worse beyond noise."""
        return self.low > 0

    @property
    def is_better(self) -> bool:
        """Whether ours is better beyond noise."""
        return self.high < 0

    def to_json(self) -> Metrics:
        """A dictionary that `json.dumps` takes; an infinite end is None."""
        return {
            "mean_difference": self.mean_difference,
            "low": self.low if np.isfinite(self.low) else None,
            "high": self.high if np.isfinite(self.high) else None,
            "n_dates": self.n_dates,
            "t": self.t,
        }


def losses_by_date(losses: Mapping[str, npt.ArrayLike], dates: Any) -> pd.DataFrame:
    """Mean loss of each forecaster on each date.

    Parameters
    ----------
    losses : mapping
        Forecaster -> (n,), losses of the same examples; less is better.
    dates : (n,)

    Returns
    -------
    DataFrame
        (d, m), indexed by date, ascending.

    Raises
    ------
    LookbackError
        A loss is no finite number.
    """
    panel = Panel.of(dates)
    columns = dict(zip(losses, vectors(*losses.values()), strict=True))
    for name, values in columns.items():
        require_same_length(values, dates)
        _require_finite(name, values, dates)
    return pd.DataFrame(
        {name: panel.mean(values, np.isfinite(values)) for name, values in columns.items()},
        index=pd.Index(panel.days),
    )


def worse_beyond_noise(
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    dates: Any,
    *,
    level: float = LEVEL,
    overlap: int = 1,
    repetitions: int = REPETITIONS,
    seed: int = SEED,
) -> Comparison:
    """How our losses differ from theirs, with an interval by the stationary bootstrap.

    Parameters
    ----------
    ours, theirs : (n,), losses of the same examples; less is better.
    dates : (n,)
    level : float
        Share of resampled mean differences inside the interval.
    overlap : int
        Periods that a label covers; blocks and lags are at least as long.
    repetitions, seed : int
        Of the bootstrap.

    Raises
    ------
    LookbackError
        A loss is no finite number.

    References
    ----------
    Politis, Romano (1994). Diebold, Mariano, "Comparing predictive accuracy", Journal of
    Business & Economic Statistics 13 (1995).
    """
    by_date = losses_by_date({"ours": ours, "theirs": theirs}, dates)
    difference = (by_date["ours"] - by_date["theirs"]).to_numpy("float64")
    return _compared(difference, level, overlap, repetitions, seed)


def _compared(
    difference: Floats, level: float, overlap: int, repetitions: int, seed: int
) -> Comparison:
    interval = mean_interval(
        difference,
        level=level,
        block=block_length(difference, overlap),
        repetitions=repetitions,
        seed=seed,
    )
    known = interval.low is not None and interval.high is not None
    return Comparison(
        float(difference.mean()) if len(difference) else 0.0,
        float(interval.low) if interval.low is not None and known else -np.inf,
        float(interval.high) if interval.high is not None and known else np.inf,
        len(difference),
        newey_west_t(difference, newey_west_lags(len(difference), overlap)),
    )


def superior_ability(
    losses: pd.DataFrame,
    benchmark: str,
    *,
    overlap: int = 1,
    repetitions: int = REPETITIONS,
    seed: int = SEED,
) -> float | None:
    """p-value of "none of the others has a smaller expected loss than the benchmark".

    Accounts for how many were tried: the best of twenty worthless forecasters looks good.

    Parameters
    ----------
    losses : DataFrame
        (d, m): mean loss of each forecaster on each date (`losses_by_date`).
    benchmark : str
        Its column.
    overlap : int
        Periods that a label covers; blocks are at least as long.
    repetitions, seed : int
        Of the bootstrap.

    Returns
    -------
    float or None
        Hansen's consistent p-value; None where nobody differs from the benchmark, and for
        fewer than eight dates.

    References
    ----------
    Hansen, "A test for superior predictive ability", Journal of Business & Economic
    Statistics 23 (2005), as `arch.bootstrap.SPA` has it.
    """
    _require_columns(losses, benchmark)
    differences = losses.drop(columns=benchmark).rsub(losses[benchmark], axis=0)
    # one that is the benchmark itself has no variance to be studentized by
    others = [name for name in differences if _differ(losses[name], losses[benchmark])]
    if not others or len(losses) < FEWEST_VALUES:
        return None
    from arch.bootstrap import SPA

    test = SPA(
        losses[benchmark].to_numpy("float64"),
        losses[others].to_numpy("float64"),
        block_size=_block_size(differences[others], overlap),
        reps=repetitions,
        seed=seed,
    )
    test.compute()
    return float(test.pvalues["consistent"])


def confidence_set(
    losses: pd.DataFrame,
    *,
    size: float = 1 - LEVEL,
    overlap: int = 1,
    repetitions: int = REPETITIONS,
    seed: int = SEED,
) -> dict[str, float]:
    """p-value of each forecaster: those above `size` form a set that holds the best.

    Parameters
    ----------
    losses : DataFrame
        (d, m): mean loss of each forecaster on each date (`losses_by_date`).
    size : float
        Chance that the best is not in the set.
    overlap, repetitions, seed : int
        As for `superior_ability`.

    Returns
    -------
    dict
        Name -> p-value, in the order of the columns. Forecasters with the same losses share
        theirs. Fewer than eight dates exclude nobody: all are 1.

    References
    ----------
    Hansen, Lunde, Nason, "The model confidence set", Econometrica 79 (2011), range
    statistic, as `arch.bootstrap.MCS` has it.
    """
    _require_columns(losses)
    # two that always lose the same have no variance between them to be studentized by
    alike = {
        name: next(other for other in losses if not _differ(losses[name], losses[other]))
        for name in losses
    }
    several = list(dict.fromkeys(alike.values()))
    if len(several) == 1 or len(losses) < FEWEST_VALUES:
        return {str(name): 1.0 for name in losses}
    from arch.bootstrap import MCS

    differences = losses[several].sub(losses[several].mean(axis=1), axis=0)
    test = MCS(
        losses[several],
        size=size,
        block_size=_block_size(differences, overlap),
        reps=repetitions,
        seed=seed,
    )
    test.compute()
    return {str(name): float(test.pvalues.loc[alike[name], "Pvalue"]) for name in losses}


def compare(
    losses: pd.DataFrame, benchmark: str, *, level: float = LEVEL, overlap: int = 1
) -> Metrics:
    """All forecasters beside one another, and beside a benchmark.

    Parameters
    ----------
    losses : DataFrame
        (d, m): mean loss of each forecaster on each date (`losses_by_date`).
    benchmark : str
        Its column.
    level : float
        Of intervals and of the confidence set.
    overlap : int
        Periods that a label covers.

    Returns
    -------
    dict
        `n_dates`, `benchmark`; `spa_p`: p-value of "nothing beats the benchmark";
        `forecasters`: under each name `loss`, `in_confidence_set`, `mcs_p`, and for all but
        the benchmark `difference` to it (`Comparison`).
    """
    _require_columns(losses, benchmark)
    chances = confidence_set(losses, size=1 - level, overlap=overlap)

    def beside(name: str) -> Metrics:
        difference = (losses[name] - losses[benchmark]).to_numpy("float64")
        return _compared(difference, level, overlap, REPETITIONS, SEED).to_json()

    return {
        "n_dates": len(losses),
        "benchmark": benchmark,
        "spa_p": superior_ability(losses, benchmark, overlap=overlap),
        "forecasters": {
            name: {
                "loss": float(losses[name].mean()),
                "mcs_p": chance,
                "in_confidence_set": chance > 1 - level,
                **({"difference": beside(name)} if name != benchmark else {}),
            }
            for name, chance in chances.items()
        },
    }


def _differ(one: pd.Series[float], other: pd.Series[float]) -> bool:
    """Whether the difference of two losses varies by more than what rounding makes."""
    largest = max(float(one.abs().max()), float(other.abs().max())) if len(one) else 0.0
    return len(one) > 0 and float(np.ptp((one - other).to_numpy())) > 1e-12 * largest


def _block_size(differences: pd.DataFrame, overlap: int) -> int:
    """One block length for all: the longest that one of them asks for."""
    longest = max(
        block_length(differences[name].to_numpy("float64"), overlap) for name in differences
    )
    return min(len(differences), int(np.ceil(longest)))


def _require_columns(losses: pd.DataFrame, benchmark: str | None = None) -> None:
    if benchmark is not None and benchmark not in losses:
        raise UsageError(
            f"comparison: no losses of {benchmark}; there are: {', '.join(map(str, losses))}"
        )
    for name in losses:
        _require_finite(str(name), losses[name].to_numpy("float64"), losses.index)


def _require_finite(name: str, values: Floats, dates: Any) -> None:
    broken = ~np.isfinite(values)
    if broken.any():
        first = pd.Timestamp(np.asarray(dates)[broken][0])
        raise LookbackError(
            f"comparison: {name} has {int(broken.sum())} losses that are not finite, the first on "
            f"{first.date()}; a forecast that is no number cannot be compared: leave it out"
        )
