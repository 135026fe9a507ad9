"""Naive forecasts: rules that learn nothing, and the majority, which learns one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from db.errors import TrainingError
from models.baselines.baseline import (
    Floats,
    Labelled,
    Seen,
    in_blocks,
    own_columns,
    require,
    targets,
)
from models.recipes import Task

SEASON = 12  # months
# Momentum looks back over a year of weeks.
MOMENTUM_WEEKS = 52


@dataclass(frozen=True)
class Persistence:
    """Every later value is the last one known.

    Attributes
    ----------
    steps : H, values ahead.
    """

    name: str
    task: Task
    steps: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> Persistence:
        """Remember how many steps the labels reach ahead."""
        require(name, train, 1)
        return cls(name, task, targets(train).shape[1])

    def predict(self, seen: Seen) -> Floats:
        last = np.array(seen.last, dtype="float64")
        return last if self.task == "level" else last[:, None].repeat(self.steps, axis=1)


@dataclass(frozen=True)
class Unmoved:
    """What each target will be if nothing moves from now on: a random walk of the level.

    Of a difference over twelve months the oldest months drop out; what is left of the year is
    the forecast (`models.examples.unmoved`). Where the recipe has no moves it is persistence.

    Attributes
    ----------
    steps : H, values ahead.
    """

    name: str
    task: Task
    steps: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> Unmoved:
        """Remember how many steps the labels reach ahead."""
        require(name, train, 1)
        return cls(name, task, targets(train).shape[1])

    def predict(self, seen: Seen) -> Floats:
        return np.array(seen.unmoved[:, : self.steps], dtype="float64")


@dataclass(frozen=True)
class Drift:
    """The last value plus the mean change over the window.

    Attributes
    ----------
    column : feature that holds the past of the target.

    References
    ----------
    Hyndman, Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 5.2 (drift
    method); the history is the window.
    """

    name: str
    task: Task
    column: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> Drift:
        """Find the past of the target in the window."""
        require(name, train, 2)
        return cls(name, task, own_columns(name, train)[0])

    def predict(self, seen: Seen) -> Floats:
        ends = seen.X[:, [0, -1], self.column].astype("float64")
        step = (ends[:, 1] - ends[:, 0]) / (seen.X.shape[1] - 1)
        forecast: Floats = (ends[:, 1] + step)[:, None]
        return forecast


@dataclass(frozen=True)
class SeasonalNaive:
    """The value of the same month of the year before the forecast's, out of the window.

    Months beyond the first twelve repeat them.

    Attributes
    ----------
    columns : features that hold the past of the targets.
    steps : H, months ahead.

    References
    ----------
    Hyndman, Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 5.2
    (seasonal naive method).
    """

    name: str
    task: Task
    columns: tuple[int, ...]
    steps: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> SeasonalNaive:
        """Find the past of the targets in the window."""
        require(name, train, SEASON)
        return cls(name, task, own_columns(name, train), targets(train).shape[1])

    def predict(self, seen: Seen) -> Floats:
        year = seen.X[:, -SEASON:, list(self.columns)]
        return year[:, np.arange(self.steps) % SEASON].astype("float64")


@dataclass(frozen=True)
class Majority:
    """The share of positive returns in the training span, for every window.

    As a class (probability above one half) it is the majority's.

    Attributes
    ----------
    share : of the returns that are above zero.
    """

    name: str
    task: Task
    share: float

    gives_probabilities: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    parameters: ClassVar[int] = 1

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> Majority:
        """Count the positive returns."""
        require(name, train, 1)
        returns = targets(train)
        known = returns[np.isfinite(returns)]
        if not len(known):
            raise TrainingError(f"baseline {name}: no label of the training span is known")
        return cls(name, task, float(np.mean(known > 0)))

    def predict(self, seen: Seen) -> Floats:
        return np.full((len(seen.X), 1), self.share)


@dataclass(frozen=True)
class Reversal:
    """Minus the return of the last step of the window.

    Attributes
    ----------
    column : feature that holds the returns.

    References
    ----------
    B. Lehmann, "Fads, Martingales, and Market Efficiency", Quarterly Journal of Economics 105,
    1990 (weekly returns).
    """

    name: str
    task: Task
    column: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int, returns: int = 0) -> Reversal:
        """Remember where the returns stand."""
        require(name, train, 1)
        return cls(name, task, returns)

    def predict(self, seen: Seen) -> Floats:
        return -seen.X[:, -1, self.column, None].astype("float64")


@dataclass(frozen=True)
class Momentum:
    """The return over the last 52 steps of the window but the last one.

    Attributes
    ----------
    column : feature that holds the returns.

    References
    ----------
    N. Jegadeesh, S. Titman, "Returns to Buying Winners and Selling Losers", Journal of Finance
    48, 1993: past winners; the newest step is left out because it reverses.
    """

    name: str
    task: Task
    column: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int, returns: int = 0) -> Momentum:
        """Remember where the returns stand."""
        require(name, train, 2)
        return cls(name, task, returns)

    def predict(self, seen: Seen) -> Floats:
        scores = np.empty((len(seen.X), 1))
        for rows, windows in in_blocks(seen):
            past = windows[:, -MOMENTUM_WEEKS:-1, self.column].astype("float64")
            scores[rows, 0] = np.prod(1 + past, axis=1) - 1
        return scores
