"""Levels: how good forecasts of a level are, on levels and on returns.

The correlation of levels rewards copying yesterday (0.951 for persistence on 2018), so the
same figures are given for returns, with an interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation.panel import FEWEST_PAIRS, Floats, Metrics, not_finite, vectors
from models.evaluation.significance import correlation_interval

FIGURES = (
    *("rmse", "mae", "bias", "rmse_scaled", "mae_scaled", "ic", "rank_ic"),
    *("return_ic", "return_ic_low", "return_ic_high", "return_ic_block", "return_rank_ic"),
    "hit_rate",
)


def evaluate_levels(
    forecast: npt.NDArray[Any],
    actual: npt.NDArray[Any],
    last: npt.NDArray[Any],
    range_width: float = 1.0,
) -> Metrics:
    """Figures of a level forecast; None where a figure is not defined.

    Parameters
    ----------
    forecast : (n,), raw units, in the order of time.
    actual : (n,), raw units; NaN where it is not known.
    last : (n,), raw units
        Last value known when the forecast was made; returns are counted from it.
    range_width : float
        Raw units of one scaled unit.

    Returns
    -------
    dict
        `n`; `rmse`, `mae` in raw units, `rmse_scaled`, `mae_scaled`; `bias`: mean error in
        raw units; `ic` (Pearson) and `rank_ic` (Spearman) of levels, `return_ic` and
        `return_rank_ic` of returns; `return_ic_low`, `return_ic_high`: 90 % interval by the
        stationary bootstrap with blocks of `return_ic_block` on average
        (`models.evaluation.significance`); `hit_rate`: share of days on which the forecast
        had the sign of the return, days on which either is zero left out; `undefined`: why
        there are no figures, else None.

    Raises
    ------
    UsageError
        The arrays differ in length.
    """
    forecast, actual, last = vectors(forecast, actual, last)
    known = np.isfinite(actual)
    forecast, actual, last = forecast[known], actual[known], last[known]
    undefined = not_finite("forecasts", forecast) or (None if len(actual) else "no known label")
    if undefined:
        return {"n": len(actual), **dict.fromkeys(FIGURES), "undefined": undefined}
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    rmse = float(root_mean_squared_error(actual, forecast))
    mae = float(mean_absolute_error(actual, forecast))
    counted = np.isfinite(last) & (last != 0)
    expected = forecast[counted] / last[counted] - 1
    realised = actual[counted] / last[counted] - 1
    interval = correlation_interval(expected, realised)
    return {
        "n": len(actual),
        "rmse": rmse,
        "mae": mae,
        "bias": float(np.mean(forecast - actual)),
        "rmse_scaled": rmse / range_width,
        "mae_scaled": mae / range_width,
        "ic": _correlation("pearsonr", forecast, actual),
        "rank_ic": _correlation("spearmanr", forecast, actual),
        "return_ic": _correlation("pearsonr", expected, realised),
        "return_ic_low": interval.low,
        "return_ic_high": interval.high,
        "return_ic_block": interval.block,
        "return_rank_ic": _correlation("spearmanr", expected, realised),
        "hit_rate": hit_rate(expected, realised),
        "undefined": None,
    }


def hit_rate(expected: Floats, realised: Floats) -> float | None:
    """Share of days with the right sign; days on which either is zero are left out."""
    moved = (expected != 0) & (realised != 0)
    if not moved.any():
        return None
    return float(np.mean(np.sign(expected[moved]) == np.sign(realised[moved])))


def _correlation(statistic: str, one: Floats, other: Floats) -> float | None:
    """Correlation by a function of scipy.stats; None for too few pairs, or a side that is flat."""
    import scipy.stats

    if len(one) < FEWEST_PAIRS or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(getattr(scipy.stats, statistic)(one, other).statistic)
