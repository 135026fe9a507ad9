"""Scaling: ranges learned from the training span, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.recipes import Scaling

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MinMax:
    """Maps [low, high] of each column to [0, 1]; values outside map outside.

    Attributes
    ----------
    low, high : one number for each column, in raw units. A constant column has
        `high` one unit above `low`, so that it maps to 0.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def fit(cls, values: npt.NDArray[Any]) -> MinMax:
        """The ranges of the columns of `values` (..., k)."""
        columns = np.asarray(values, dtype=np.float64).reshape(-1, np.shape(values)[-1])
        low, high = columns.min(axis=0), columns.max(axis=0)
        high = np.where(high > low, high, low + 1.0)
        return cls(tuple(low.tolist()), tuple(high.tolist()))

    @classmethod
    def identity(cls, columns: int) -> MinMax:
        """Leaves `columns` columns as they are."""
        return cls((0.0,) * columns, (1.0,) * columns)

    @property
    def width(self) -> Floats:
        """`high - low`: shape (k,), raw units."""
        width: Floats = np.asarray(self.high) - np.asarray(self.low)
        return width

    def transform(self, values: npt.NDArray[Any]) -> Floats:
        """Raw to scaled: float64, shape (..., k) as given."""
        scaled: Floats = (np.asarray(values, dtype=np.float64) - np.asarray(self.low)) / self.width
        return scaled

    def inverse(self, values: npt.NDArray[Any]) -> Floats:
        """Scaled to raw: float64, shape (..., k) as given."""
        raw: Floats = np.asarray(values, dtype=np.float64) * self.width + np.asarray(self.low)
        return raw


@dataclass(frozen=True)
class Scaler:
    """Scales the features and the target of a model.

    Attributes
    ----------
    features : ranges of the F features.
    target : ranges of the k outputs.
    """

    features: MinMax
    target: MinMax

    @classmethod
    def fit(cls, scaling: Scaling, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Scaler:
        """Learn the ranges of a training span.

        Parameters
        ----------
        scaling : {"minmax_series", "none"}
        X : (n, T, F), raw units.
        y : (n,), raw units. With `minmax_series` it is the next value of feature 0.
        """
        if scaling == "none":
            return cls(MinMax.identity(X.shape[-1]), MinMax.identity(1))
        features = MinMax.fit(X)
        series = np.concatenate([np.ravel(X[..., 0]), np.ravel(y)])
        target = MinMax.fit(series[:, None])
        low, high = target.low + features.low[1:], target.high + features.high[1:]
        return cls(MinMax(low, high), target)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes; floats keep all their digits."""
        return {
            part: {"low": list(ranges.low), "high": list(ranges.high)}
            for part, ranges in (("features", self.features), ("target", self.target))
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scaler:
        """The scaler that `to_json` wrote."""
        parts = {
            part: MinMax(tuple(values[part]["low"]), tuple(values[part]["high"]))
            for part in ("features", "target")
        }
        return cls(parts["features"], parts["target"])
