"""Vector autoregression: each series from the recent past of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from db.errors import TrainingError
from models.baselines.baseline import (
    Floats,
    Labelled,
    Seen,
    own_columns,
    require,
    targets,
)
from models.recipes import Task

# Differences over a year overlap, and a shock leaves them after twelve months: lag 13 sees it
# go. AIC keeps these lags and BIC does not: on the book's pair it chose 1, 1 and 4, and its
# one-step error of sentiment was 9 to 19 % larger (fitted until 2000, 2005, 2010; the five
# years that follow).
MOST_LAGS = 13
CRITERION = "aic"


@dataclass(frozen=True)
class VectorAutoregression:
    """A VAR with constant, fitted once; it forecasts from the window alone.

    Attributes
    ----------
    columns : features that hold the past of the k series.
    steps : H; more than one are forecast dynamically, from the forecasts before.
    intercept : k, raw units.
    coefficients : p times k times k; [i][a][b] is the weight of series b, i + 1 months back,
        for series a.
    months : length of the series that it was fitted on.

    References
    ----------
    H. Lütkepohl, "New Introduction to Multiple Time Series Analysis", 2005, 3.2 (least
    squares), 4.3 (order by AIC), 2.2 (forecasts); as statsmodels' `VAR` has them.
    """

    name: str
    task: Task
    columns: tuple[int, ...]
    steps: int
    intercept: tuple[float, ...]
    coefficients: tuple[tuple[tuple[float, ...], ...], ...]
    months: int

    gives_probabilities: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        k = len(self.columns)
        if np.shape(self.intercept) != (k,) or (
            self.coefficients and np.shape(self.coefficients)[1:] != (k, k)
        ):
            raise ValueError("coefficients of another number of series")

    @property
    def order(self) -> int:
        """p, lags of each series."""
        return len(self.coefficients)

    @property
    def parameters(self) -> int:
        """Constants and weights."""
        k = len(self.columns)
        return k * (k * self.order + 1)

    @classmethod
    def fit(cls, name: str, task: Task, train: Labelled, seed: int) -> VectorAutoregression:
        """Fit by least squares on the longest unbroken series of the training span.

        The order is that of the least AIC, up to 13 and the length of a window.

        Raises
        ------
        TrainingError
            There is not one entity, or fewer than two targets; too few months; or the
            targets are not the series that the windows hold.
        """
        require(name, train, 2)
        if train.index["entity"].nunique() != 1 or train.last.shape[1] < 2:
            raise TrainingError(
                f"baseline {name} needs one entity with at least two targets, not "
                f"{train.index['entity'].nunique()} with {train.last.shape[1]}"
            )
        columns = own_columns(name, train)
        series = training_series(name, train, columns)
        from statsmodels.tsa.api import VAR

        try:
            fitted = VAR(series).fit(min(MOST_LAGS, train.X.shape[1]), ic=CRITERION, trend="c")
        except (ValueError, np.linalg.LinAlgError) as error:
            raise TrainingError(
                f"baseline {name}: {len(series)} consecutive months cannot be fitted ({error}); "
                "lengthen the training span"
            ) from error
        weights = tuple(tuple(tuple(row) for row in lag.tolist()) for lag in fitted.coefs)
        steps = targets(train).shape[1]
        return cls(
            name, task, columns, steps, tuple(fitted.intercept.tolist()), weights, len(series)
        )

    def predict(self, seen: Seen) -> Floats:
        n, k, p = len(seen.X), len(self.columns), self.order
        # newest month first, as the coefficients are
        lags = seen.X[:, ::-1, list(self.columns)][:, :p].astype("float64").reshape(n, p * k)
        weights = np.reshape(self.coefficients, (p, k, k)).transpose(1, 0, 2).reshape(k, p * k)
        forecast = np.empty((n, self.steps, k))
        for ahead in range(self.steps):
            for series in range(k):
                # summed row by row, not as a matrix product: its bits depend on the rows beside
                own = (lags * weights[series]).sum(axis=1)
                forecast[:, ahead, series] = self.intercept[series] + own
            lags = np.concatenate([forecast[:, ahead], lags], axis=1)[:, : p * k]
        return forecast


def training_series(name: str, train: Labelled, columns: tuple[int, ...]) -> Floats:
    """The longest stretch of consecutive months in the windows and labels of a span.

    Parameters
    ----------
    name : of the baseline, for errors.
    train : windows of one entity, whose steps are months; `as_of` is in the last of them.
    columns : features that hold the k series.

    Returns
    -------
    float64 (m, k), raw units, oldest first; of equally long stretches the latest.

    Raises
    ------
    TrainingError
        Labels are not the later values of these series.
    """
    length = train.X.shape[1]
    labels = targets(train)
    month = train.index["as_of"].to_numpy("datetime64[M]").astype("int64")
    first = month.min() - length + 1
    series = np.full((month.max() + labels.shape[1] + 1 - first, len(columns)), np.nan)
    inside = month[:, None] - first + np.arange(1 - length, 1)
    series[inside] = train.X[:, :, list(columns)]
    ahead = (month[:, None] - first + np.arange(1, labels.shape[1] + 1)).ravel()
    later = labels.reshape(-1, len(columns))
    known, there = np.isfinite(later).all(axis=1), np.isfinite(series[ahead]).all(axis=1)
    if np.any(later[known & there] != series[ahead[known & there]]):
        raise TrainingError(
            f"baseline {name}: the targets are not the series that the windows end in; "
            "let the recipe forecast what it counts changes from"
        )
    series[ahead[known & ~there]] = later[known & ~there]
    return _longest(series)


def _longest(series: Floats) -> Floats:
    there = np.isfinite(series).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype("int8")))
    starts, stops = edges[::2], edges[1::2]
    at = len(starts) - 1 - int(np.argmax((stops - starts)[::-1]))
    return series[starts[at] : stops[at]]
