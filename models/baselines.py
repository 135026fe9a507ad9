"""Baselines: forecasts that need no training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def persistence(X: npt.NDArray[Any]) -> Floats:
    """Tomorrow is today: the last value of feature 0.

    Parameters
    ----------
    X : (n, T, F), raw units, oldest step first.

    Returns
    -------
    float64 (n,), raw units.
    """
    return np.asarray(X[:, -1, 0], dtype=np.float64)


def drift(X: npt.NDArray[Any]) -> Floats:
    """The last value of feature 0 plus its mean change over the window.

    Parameters
    ----------
    X : (n, T, F), raw units, oldest step first; T at least 2.

    Returns
    -------
    float64 (n,), raw units.

    References
    ----------
    Hyndman, Athanasopoulos, "Forecasting: Principles and Practice", 5.2 (drift method).
    """
    series = np.asarray(X[:, :, 0], dtype=np.float64)
    step = (series[:, -1] - series[:, 0]) / (series.shape[1] - 1)
    result: Floats = series[:, -1] + step
    return result
