"""Baselines: what a network has to beat, fitted and scored as versions like any other.

A baseline is fitted on the training span and then scores windows from the windows alone. It is
saved as JSON, so that most are scored without any library of statistics; only the trees of
boosting need scikit-learn.
"""

from __future__ import annotations

from db.errors import UsageError
from models.baselines.baseline import Baseline, Labelled, Seen
from models.baselines.catalog import KINDS, NAMES
from models.baselines.storage import load, save, weights_sha256
from models.recipes import Task

__all__ = [
    "KINDS",
    "NAMES",
    "Baseline",
    "Labelled",
    "Seen",
    "fit",
    "load",
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
