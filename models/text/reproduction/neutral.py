"""Neutral texts told by a model that knows good and bad only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.encoding import Floats
from models.text.evaluation import macro_f1

# Probabilities that are tried as ends of a band: so many quantiles of the training texts'.
TRIED = 99
NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2


@dataclass(frozen=True)
class NeutralBand:
    """Between which probabilities of `positive` a text is neutral.

    Attributes
    ----------
    low : below it a text is negative.
    high : from it on a text is positive.
    """

    low: float
    high: float

    @classmethod
    def fit(cls, positive: npt.NDArray[np.floating], labels: npt.NDArray[np.int8]) -> NeutralBand:
        """The band of the best macro F1.

        Parameters
        ----------
        positive : (n,), probabilities of the training texts.
        labels : (n,), 0 negative, 1 neutral, 2 positive.
        """
        tried = np.unique(np.quantile(positive, np.linspace(0, 1, TRIED + 2)[1:-1]))
        # texts of each class below each end: (3, ends)
        below = np.stack(
            [
                np.searchsorted(np.sort(positive[labels == label]), tried, side="left")
                for label in (NEGATIVE, NEUTRAL, POSITIVE)
            ]
        )
        there = np.bincount(labels, minlength=3)[:, None]
        low, high = np.triu_indices(len(tried))
        said = [below[:, low], below[:, high] - below[:, low], there - below[:, high]]
        scores = macro_f1(np.stack(said, axis=-1).transpose(1, 0, 2))
        best = int(scores.argmax())
        return cls(float(tried[low[best]]), float(tried[high[best]]))

    def classes(self, positive: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
        """What is said of each text: (n,)."""
        values: Floats = np.asarray(positive, "float64")
        return np.where(
            values < self.low, NEGATIVE, np.where(values < self.high, NEUTRAL, POSITIVE)
        )
