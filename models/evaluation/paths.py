"""Paths: forecasts of several series, one or more steps ahead, on a scale they share.

In raw units the series that moves most is all there is: of the chapter's error of two macro
series industrial production contributes 0.1 %. So each error is divided by what the naive
forecast of its own series misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from models.evaluation.panel import Floats, Metrics, figure, not_finite, require_same_length


def naive_scale(training: npt.NDArray[Any], season: int = 1) -> Floats:
    """Mean absolute error of the naive forecast on the training span, for each series.

    mean over t of abs(y(t) - y(t - season)); the seasonal naive forecast for a season of
    more than one step.

    Parameters
    ----------
    training : (t, k) or (t,), raw units, consecutive steps, oldest first.
    season : int
        Steps of the season, 12 for months of a year.

    Returns
    -------
    float64 (k,); NaN where there is no such pair, or where the series never moved.

    References
    ----------
    Hyndman, Koehler, "Another look at measures of forecast accuracy", International Journal
    of Forecasting 22 (2006), section 3.
    """
    series = np.asarray(training, "float64")
    series = series[:, None] if series.ndim == 1 else series
    moves = np.abs(series[season:] - series[:-season])
    known = np.isfinite(moves)
    count = known.sum(axis=0)
    total = np.where(known, moves, 0.0).sum(axis=0)
    scale = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return np.where(scale > 0, scale, np.nan)


def evaluate_paths(
    forecast: npt.NDArray[Any],
    actual: npt.NDArray[Any],
    scale: npt.ArrayLike,
    names: Sequence[str],
) -> Metrics:
    """MAE and MASE of each series at each horizon; None where a figure is not defined.

    Parameters
    ----------
    forecast, actual : (n, H, k), raw units
        H steps ahead of k series; NaN in `actual` where it is not known.
    scale : (k,), raw units
        What an error of 1 is (`naive_scale` of the training span). It stays that of one
        step at every horizon, so a MASE far ahead is above 1 for any honest forecast.
    names : k series

    Returns
    -------
    dict
        `n`; `mae` in raw units and `mase`: means over the series; `by_horizon`: for each
        `horizon` (1 to H) the means over the series; `series`: under each name `mae`,
        `mase`, `rmse`, `bias` (mean of forecast - actual), `scale` and `by_horizon`;
        `undefined`: why there are no figures, else None.

    Raises
    ------
    UsageError
        Shapes do not fit one another.

    References
    ----------
    Hyndman, Koehler (2006): MASE.
    """
    forecast, actual = np.asarray(forecast, "float64"), np.asarray(actual, "float64")
    unit = np.asarray(scale, "float64").reshape(-1)
    require_same_length(forecast, actual)
    if forecast.ndim != 3 or forecast.shape != actual.shape or actual.shape[2] != len(unit):
        raise UsageError(
            f"evaluation: forecasts {forecast.shape}, outcomes {actual.shape} and "
            f"{len(unit)} scales; (n, H, k) twice and k are needed"
        )
    known = np.isfinite(actual)
    undefined = not_finite("forecasts", forecast) or (None if known.any() else "no known label")
    error = np.where(known, forecast - actual, np.nan)
    if undefined:
        error = np.full_like(error, np.nan)
    mae = _mean(np.abs(error))
    return {
        "n": len(actual),
        "mae": figure(mae.mean()),
        "mase": figure((mae / unit).mean()),
        "by_horizon": [
            {"horizon": step, "mae": figure(row.mean()), "mase": figure((row / unit).mean())}
            for step, row in enumerate(mae, start=1)
        ],
        "series": {
            name: _of_series(error[:, :, number], mae[:, number], float(unit[number]))
            for number, name in enumerate(names)
        },
        "undefined": undefined,
    }


def _of_series(error: Floats, mae: Floats, scale: float) -> Metrics:
    """Figures of one series: error (n, H), mae (H,)."""
    return {
        "mae": figure(mae.mean()),
        "mase": figure(mae.mean() / scale),
        "rmse": figure(np.sqrt(_mean(error**2).mean())),
        "bias": figure(_mean(error).mean()),
        "scale": figure(scale),
        "by_horizon": [
            {"horizon": step, "mae": figure(value), "mase": figure(value / scale)}
            for step, value in enumerate(mae, start=1)
        ],
    }


def _mean(values: Floats) -> Floats:
    """Mean over the examples that are known; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return np.asarray(mean, "float64")
