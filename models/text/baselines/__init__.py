"""Baselines of text: what a network has to beat, fitted and scored as versions like any other.

They are saved as JSON and plain arrays, and scored with NumPy and SciPy; VADER is scored by its
authors' own code.
"""

from __future__ import annotations

from db.errors import UsageError
from models.text.baselines.baseline import TextBaseline
from models.text.baselines.catalog import KINDS, NAMES
from models.text.baselines.storage import load, save, weights_sha256
from models.text.corpora import Corpus

__all__ = ["KINDS", "NAMES", "TextBaseline", "fit", "load", "save", "weights_sha256"]


def fit(name: str, corpus: Corpus, seed: int = 42) -> TextBaseline:
    """Fit a baseline on the training texts.

    Parameters
    ----------
    name : one of `NAMES`.
    corpus : of two or three classes.
    seed : of the order in which rows are visited.

    Raises
    ------
    UsageError
        There is no such baseline.
    TrainingError
        The corpus does not hold what the baseline needs.
    """
    if name not in NAMES:
        raise UsageError(f"no baseline of text {name!r}; there are: {', '.join(NAMES)}")
    return KINDS[name].fit(name, corpus, seed)
