"""Evaluation: how good forecasts of a level are, on levels and on returns.

The correlation of levels rewards copying yesterday (0.951 for persistence on 2018), so
the same figures are given for returns, and for the baselines on the same days.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models import baselines

Floats = npt.NDArray[np.float64]
Metrics = dict[str, float | int | None]


def evaluate_levels(
    forecast: npt.NDArray[Any],
    actual: npt.NDArray[Any],
    last: npt.NDArray[Any],
    range_width: float = 1.0,
) -> Metrics:
    """Figures of a level forecast; None where a figure is not defined.

    Parameters
    ----------
    forecast, actual : (n,), raw units.
    last : (n,), raw units
        Last value known when the forecast was made; returns are counted from it.
    range_width : float
        Raw units of one scaled unit.

    Returns
    -------
    dict
        `n`; `rmse`, `mae` in raw units, `rmse_scaled`, `mae_scaled`; `ic` (Pearson) and
        `rank_ic` (Spearman) of levels, `return_ic` and `return_rank_ic` of returns;
        `hit_rate`: share of days on which the forecast had the sign of the return,
        days on which either is zero left out; `bias`: mean error in raw units.
    """
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    forecast, actual, last = (np.asarray(a, dtype=np.float64) for a in (forecast, actual, last))
    rmse = float(root_mean_squared_error(actual, forecast))
    mae = float(mean_absolute_error(actual, forecast))
    expected, realised = forecast / last - 1, actual / last - 1
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
        "return_rank_ic": _correlation("spearmanr", expected, realised),
        "hit_rate": hit_rate(expected, realised),
    }


def evaluate_baselines(
    X: npt.NDArray[Any], actual: npt.NDArray[Any], range_width: float = 1.0
) -> dict[str, Metrics]:
    """The same figures for persistence and drift on the same days.

    Parameters
    ----------
    X : (n, T, F), raw units; feature 0 is the series that is forecast.
    actual : (n,), raw units.
    range_width : float
        Raw units of one scaled unit.
    """
    last = baselines.persistence(X)
    return {
        name: evaluate_levels(forecast, actual, last, range_width)
        for name, forecast in (("persistence", last), ("drift", baselines.drift(X)))
    }


def hit_rate(expected: Floats, realised: Floats) -> float | None:
    """Share of days with the right sign; days on which either is zero are left out."""
    moved = (expected != 0) & (realised != 0)
    if not moved.any():
        return None
    return float(np.mean(np.sign(expected[moved]) == np.sign(realised[moved])))


def _correlation(statistic: str, one: Floats, other: Floats) -> float | None:
    """Correlation by a function of scipy.stats; None if a side does not vary."""
    import scipy.stats

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(getattr(scipy.stats, statistic)(one, other).statistic)
