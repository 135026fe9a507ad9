"""Gradient boosting of trees on the same windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from models.baselines.baseline import Floats, Labelled, Seen, require
from models.baselines.design_matrix import design_matrix, has_month, sample
from models.baselines.regression import ranks, ups
from models.encoding import blocks
from models.recipes import Task

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

# Small trees with full leaves, a fixed number of them: early stopping would hold out windows
# of the dates that it trains on, whose returns are correlated. On the reference panel (0.76
# million windows of 2010-14, scored on 2015-16) rank IC is 0.059 with 15 leaves, 0.056 with 31.
ROUNDS, LEARNING_RATE, LEAVES = 100, 0.05, 15
# A leaf holds at least this share of the windows, and this many.
LEAST_SHARE, LEAST_WINDOWS = 1 / 1000, 20


@dataclass(frozen=True)
class Boosting:
    """Trees that correct each other, for the direction or for the rank within the date.

    Trees look at the order of values only, so raw ones are given.

    Attributes
    ----------
    months : whether they are given the month.
    columns : of `design_matrix`.
    windows : that it was fitted on.
    estimator : scikit-learn's; for `direction` its score is the probability of a positive
        return, for `rank` the expected rank (`models.encoding.standard_ranks`).

    References
    ----------
    G. Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017,
    after which scikit-learn's histogram-based trees are made.
    """

    name: str
    task: Task
    months: bool
    columns: int
    windows: int
    estimator: HistGradientBoostingClassifier | HistGradientBoostingRegressor = field(repr=False)

    learns: ClassVar[bool] = True

    @property
    def gives_probabilities(self) -> bool:
        """So does the one for the direction."""
        return self.task == "direction"

    @property
    def parameters(self) -> int:
        """Leaves of all trees."""
        return int(sum(nodes["is_leaf"].sum() for nodes in self.nodes))

    @property
    def nodes(self) -> list[Any]:
        """The trees: a structured array each, one row a node."""
        return [tree.nodes for stage in self.estimator._predictors for tree in stage]

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> Boosting:
        """Fit on the windows whose label is known, at most so many (`sample`).

        Raises
        ------
        TrainingError
            No label is known, or all returns have one direction.
        """
        require(name, train, 1)
        rows = sample(name, train, seed)
        months = has_month(train)
        learned = (ups(name, train) if task == "direction" else ranks(train))[rows]
        matrix = design_matrix(train, months, rows=rows)
        estimator = estimator_of(task)(
            learning_rate=LEARNING_RATE,
            max_iter=ROUNDS,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=max(LEAST_WINDOWS, int(len(rows) * LEAST_SHARE)),
            early_stopping=False,
            random_state=seed,
        ).fit(matrix, learned)
        return cls(name, task, months, matrix.shape[1], len(rows), estimator)

    def predict(self, seen: Seen) -> Floats:
        scores = np.empty((len(seen.X), 1))
        for rows in blocks(len(seen.X)):
            matrix = design_matrix(seen, self.months, rows=rows)
            if self.gives_probabilities:
                scores[rows, 0] = self.estimator.predict_proba(matrix)[:, 1]
            else:
                scores[rows, 0] = self.estimator.predict(matrix)
        return scores


def estimator_of(task: Task) -> type[Any]:
    """scikit-learn's class for a task."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kinds: tuple[type[Any], ...] = (HistGradientBoostingRegressor, HistGradientBoostingClassifier)
    return kinds[task == "direction"]
