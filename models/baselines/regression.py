"""Linear scores: logistic regression of the direction, ridge regression of the rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from db.errors import TrainingError
from models.baselines.baseline import Floats, Labelled, Seen, require, targets
from models.baselines.design_matrix import design_matrix, has_month, sample
from models.encoding import MONTHS, Scale, blocks, standard_ranks
from models.recipes import Task

# Weight of the squared coefficients beside the mean loss of a window (of half of them in the
# logistic regression). On the reference panel it hardly matters: ridge has rank IC 0.0436 with
# 0.001 and 0.0434 with 0.1 (2015-16).
PENALTY = 0.01


@dataclass(frozen=True)
class LinearScore:
    """A weighted sum of the standardised window and its month.

    Attributes
    ----------
    name : `logistic`, whose score is the probability of a positive return, or `ridge`, whose
        score is the expected rank of the return within its date (`standard_ranks`).
    offset, width : F, of the features' standardisation, raw units.
    months : whether there are weights of the twelve months.
    intercept, weights : of the columns of `design_matrix`.
    windows : that it was fitted on.

    References
    ----------
    T. Hastie, R. Tibshirani, J. Friedman, "The Elements of Statistical Learning", 2nd edition,
    3.4.1 (ridge regression), 4.4.4 (regularised logistic regression).
    """

    name: str
    task: Task
    offset: tuple[float, ...]
    width: tuple[float, ...]
    months: bool
    intercept: float
    weights: tuple[float, ...]
    windows: int

    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        values = len(self.weights) - MONTHS * self.months
        if len(self.offset) != len(self.width) or values < 1 or values % len(self.width):
            raise ValueError("weights of another number of features")

    @property
    def gives_probabilities(self) -> bool:
        """So does the logistic regression."""
        return self.name == "logistic"

    @property
    def parameters(self) -> int:
        """Weights and the intercept."""
        return len(self.weights) + 1

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> LinearScore:
        """Fit on the windows whose label is known, at most so many (`sample`).

        Raises
        ------
        TrainingError
            No label is known, or all returns have one direction.
        """
        require(name, train, 1)
        rows = sample(name, train, seed)
        scale = Scale.standard(train.X if len(rows) == len(train.X) else train.X[rows])
        months = has_month(train)
        matrix = design_matrix(train, months, scale, rows)
        if name == "logistic":
            from sklearn.linear_model import LogisticRegression

            up = ups(name, train)[rows]
            fitted = LogisticRegression(C=1 / (PENALTY * len(rows)), max_iter=500).fit(matrix, up)
        else:
            from sklearn.linear_model import Ridge

            # the rows are sampled after ranking: a rank is among all of its date
            fitted = Ridge(alpha=PENALTY * len(rows)).fit(matrix, ranks(train)[rows])
        weights = np.ravel(fitted.coef_).astype("float64")
        return cls(
            name,
            task,
            scale.offset,
            scale.width,
            months,
            float(np.ravel(fitted.intercept_)[0]),
            tuple(weights.tolist()),
            len(rows),
        )

    def predict(self, seen: Seen) -> Floats:
        scale, weights = Scale(self.offset, self.width), np.asarray(self.weights)
        scores = np.empty((len(seen.X), 1))
        for rows in blocks(len(seen.X)):
            matrix = design_matrix(seen, self.months, scale, rows)
            # summed row by row, not as a matrix product: its bits depend on the rows beside
            scores[rows, 0] = self.intercept + (matrix * weights).sum(axis=1)
        if not self.gives_probabilities:
            return scores
        from scipy.special import expit

        probabilities: Floats = expit(scores)
        return probabilities


def ups(name: str, train: Labelled) -> Floats:
    """1 where the return is positive, 0 where it is not: (n,).

    Raises
    ------
    TrainingError
        All known returns have one direction.
    """
    returns = targets(train)[:, 0, 0]
    up = returns > 0
    if len(np.unique(up[np.isfinite(returns)])) < 2:
        raise TrainingError(
            f"baseline {name}: all returns of the training span have one direction; lengthen it"
        )
    return up.astype("float64")


def ranks(train: Labelled) -> Floats:
    """Rank of each known return within its date, mean 0 and variance about 1; else NaN: (n,)."""
    returns = targets(train)[:, 0, 0]
    return standard_ranks(returns, train.index["as_of"])
