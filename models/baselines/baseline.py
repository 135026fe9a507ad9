"""What a baseline is: fitted on the training span, it scores windows as a network does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import TrainingError
from models.encoding import blocks
from models.recipes import Task

Floats = npt.NDArray[np.float64]


class Seen(Protocol):
    """What a baseline sees of windows when it scores them: no label is in it.

    Attributes
    ----------
    X : float32 (n, T, F), raw units, oldest step first.
    last : float64 (n, k), last known value of each target.
    unmoved : float64 (n, H, k), what each target will be if nothing moves from now on.
    index : one row for each window: `entity`, `as_of`, and `month` (1..12) where the view
        declares it.
    """

    @property
    def X(self) -> npt.NDArray[np.float32]: ...  # noqa: N802  the field's name for it
    @property
    def last(self) -> Floats: ...
    @property
    def unmoved(self) -> Floats: ...
    @property
    def index(self) -> pd.DataFrame: ...


class Labelled(Seen, Protocol):
    """What it learns from: windows with what followed them (`models.examples.Examples`).

    Attributes
    ----------
    y : float32 (n,), (n, k) or (n, H, k), raw units of the target; NaN where not known.
    """

    @property
    def y(self) -> npt.NDArray[np.float32]: ...


class Baseline(Protocol):
    """A fitted baseline; a frozen data class whose other fields are what it learned.

    Attributes
    ----------
    name, task : one of `models.baselines.NAMES`.
    """

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> Task: ...
    @property
    def gives_probabilities(self) -> bool:
        """Whether a score is the probability that the return is positive."""

    @property
    def learns(self) -> bool:
        """Whether labels are in it; a rule has seen none."""

    @property
    def parameters(self) -> int:
        """Numbers that were learned; 0 of a rule."""

    def predict(self, seen: Seen) -> Floats:
        """Forecasts of windows of the shape that it was fitted on.

        A window has the same forecast to the last bit whichever windows it is scored with.

        Returns
        -------
        float64
            (n, 1) for tasks `level` (raw units), `direction` and `rank` (scores, higher is
            better); (n, H, k) in raw units for `changes` (H is 1) and `path`.
        """


def targets(train: Labelled) -> Floats:
    """The labels of a training span: float64 (n, H, k), raw units."""
    n, k = train.last.shape
    return np.reshape(train.y, (n, -1, k)).astype("float64")


def own_columns(name: str, train: Seen) -> tuple[int, ...]:
    """Where in a window the past of each target stands: k features.

    The last value of a target is known, and the feature that ends in it is its past.

    Raises
    ------
    TrainingError
        A target has no past in the window.
    """
    ends = train.X[:, -1]
    columns = []
    for number, last in enumerate(train.last.astype("float32").T):
        found = np.flatnonzero((ends == last[:, None]).all(axis=0))
        if not len(found):
            raise TrainingError(
                f"baseline {name}: no feature of the window ends in the last value of target "
                f"{number + 1}; let the recipe's features hold the series that it forecasts"
            )
        columns.append(int(found[0]))
    return tuple(columns)


def require(name: str, train: Labelled, steps: int) -> None:
    """Refuse an empty training span, and windows shorter than the baseline needs.

    Raises
    ------
    TrainingError
        There is no window, or it has fewer steps.
    """
    n, length, _ = train.X.shape
    if not n:
        raise TrainingError(f"baseline {name}: the training span has no window; lengthen it")
    if length < steps:
        raise TrainingError(
            f"baseline {name} needs windows of at least {steps} steps, not {length}; "
            "read it from a view with longer ones"
        )


def in_blocks(seen: Seen) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Rows and their windows, so many at once that a panel needs no second copy."""
    for rows in blocks(len(seen.X)):
        yield rows, seen.X[rows]
