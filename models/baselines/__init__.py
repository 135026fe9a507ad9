"""Baselines: what a network has to beat, fitted and scored as versions like any other.

A baseline is fitted on the training span and then scores windows from the windows alone. It is
saved as JSON, so that most are scored without any library of statistics; only the trees of
boosting need scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from models.baselines.baseline import Baseline, Floats, Labelled, Seen
from models.baselines.catalog import KINDS, NAMES
from models.baselines.storage import load, save, weights_sha256
from models.recipes import Task

__all__ = [
    "KINDS",
    "NAMES",
    "Baseline",
    "Labelled",
    "Seen",
    "drift",
    "fit",
    "load",
    "persistence",
    "save",
    "weights_sha256",
]


def fit(name: str, task: Task, train: Labelled, seed: int = 42, *, returns: int = 0) -> Baseline:
    """Fit a baseline on a training span.

    Parameters
    ----------
    name, task : one of `NAMES`.
    train : windows of the training span with their labels (`models.examples.Examples`); rows
        without a known label are seen, not learned from. `direction` and `rank` have one
        target, the return; `level` has one; `changes` and `path` have k, monthly.
    seed : of sampling, where there are too many windows, and of boosting.
    returns : feature of the window that holds the returns, for `reversal` and `momentum`.

    Raises
    ------
    UsageError
        There is no such baseline for the task.
    TrainingError
        The training span does not hold what the baseline needs.
    """
    if name not in NAMES[task]:
        raise UsageError(f"no baseline {name!r} for {task}; there are: {', '.join(NAMES[task])}")
    options = {"returns": returns} if name in {"reversal", "momentum"} else {}
    baseline: Baseline = KINDS[name].fit(name, task, train, seed, **options)
    return baseline


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
    Hyndman, Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 5.2 (drift
    method).
    """
    series = np.asarray(X[:, :, 0], dtype=np.float64)
    step = (series[:, -1] - series[:, 0]) / (series.shape[1] - 1)
    result: Floats = series[:, -1] + step
    return result
