"""Encoding: how raw examples become what a network takes, and its outputs a forecast.

Everything in it is learned from the training span, and stored with the version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.recipes import Learns, Recipe

if TYPE_CHECKING:
    from models.architectures import Shape
    from models.examples import Examples

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]

MONTHS = 12
# Examples that are encoded at once, so that a panel of a million needs no second copy.
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Scale:
    """A straight line for each column: scaled = (raw - offset) / width.

    Attributes
    ----------
    offset, width : one number for each column, in raw units; no width is zero.
    """

    offset: tuple[float, ...]
    width: tuple[float, ...]

    @classmethod
    def identity(cls, columns: int) -> Scale:
        """Leaves `columns` columns as they are."""
        return cls((0.0,) * columns, (1.0,) * columns)

    @classmethod
    def minmax(cls, values: npt.NDArray[Any]) -> Scale:
        """Maps the range of each column of `values` (..., k) to [0, 1]."""
        columns = np.asarray(values).reshape(-1, np.shape(values)[-1])
        low = np.nanmin(columns, axis=0).astype("float64")
        return cls._of(low, np.nanmax(columns, axis=0).astype("float64") - low)

    @classmethod
    def standard(cls, values: npt.NDArray[Any], *, centred: bool = True) -> Scale:
        """Maps each column of `values` (..., k) to mean 0 and standard deviation 1.

        With `centred` false zero stays zero, and one is the root of the mean square.
        """
        columns = np.asarray(values).reshape(-1, np.shape(values)[-1])
        if not centred:
            square = np.nanmean(np.square(columns, dtype="float64"), axis=0)
            return cls._of(np.zeros(columns.shape[1]), np.sqrt(square))
        mean = np.nanmean(columns, axis=0, dtype="float64")
        return cls._of(mean, np.nanstd(columns, axis=0, dtype="float64"))

    @classmethod
    def _of(cls, offset: Floats, width: Floats) -> Scale:
        """A column that does not vary keeps its unit."""
        width = np.where(width > 0, width, 1.0)
        return cls(tuple(offset.tolist()), tuple(width.tolist()))

    def transform(self, values: npt.NDArray[Any]) -> Floats:
        """Raw to scaled: float64, shape (..., k) as given."""
        scaled: Floats = (np.asarray(values, dtype=np.float64) - self.offset) / np.asarray(
            self.width
        )
        return scaled

    def inverse(self, values: npt.NDArray[Any]) -> Floats:
        """Scaled to raw: float64, shape (..., k) as given."""
        raw: Floats = np.asarray(values, dtype=np.float64) * self.width + np.asarray(self.offset)
        return raw

    def to_json(self) -> dict[str, list[float]]:
        """A dictionary that `json.dumps` takes; floats keep all their digits."""
        return {"offset": list(self.offset), "width": list(self.width)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scale:
        """The scale that `to_json` wrote."""
        return cls(tuple(values["offset"]), tuple(values["width"]))


@dataclass(frozen=True)
class Encoding:
    """From raw examples to a network's inputs and targets, and from its outputs back.

    Attributes
    ----------
    features : of the F features of a window.
    target : of the k targets, in the terms of `learns`.
    learns : what the network learns of a target (`models.recipes.Recipe`).
    symbols : entities that have a row of the embedding, from row 1 on; row 0 is for those
        that the training span does not know. None where the network is not told.
    months : whether the network is told the month.
    """

    features: Scale
    target: Scale
    learns: Learns
    symbols: tuple[str, ...] | None = None
    months: bool = False

    @classmethod
    def fit(cls, recipe: Recipe, train: Examples) -> Encoding:
        """Learn the encoding of a recipe from its training span."""
        learned = learned_of(recipe.learns, train)
        features, target = _scales(recipe, train, learned)
        entities = train.index["entity"].unique() if recipe.symbols else None
        symbols = tuple(sorted(str(name) for name in entities)) if entities is not None else None
        return cls(features, target, recipe.learns, symbols, recipe.months)

    def shape(self, recipe: Recipe, examples: Examples) -> Shape:
        """What the network of a recipe takes and gives."""
        from models.architectures import Shape

        return Shape(
            window=examples.X.shape[1],
            n_features=examples.X.shape[2],
            outputs=examples.y.shape[2],
            steps=recipe.steps,
            symbols=len(self.symbols) + 1 if self.symbols is not None else 0,
            months=self.months,
        )

    def inputs(self, examples: Examples) -> Arrays:
        """What the network takes.

        Returns
        -------
        dict
            `window` float32 (n, T, F), scaled; `symbol` int32 (n, 1) and `month` float32
            (n, 12) where it is told them.
        """
        window = np.empty(examples.X.shape, "float32")
        for rows in blocks(len(examples)):
            window[rows] = self.features.transform(examples.X[rows])
        return {"window": window, **self.static(examples)}

    def static(self, examples: Examples) -> Arrays:
        """The inputs beside the window."""
        given: Arrays = {}
        if self.symbols is not None:
            found = examples.index["entity"].astype("category").cat
            row = pd.Index(self.symbols).get_indexer(found.categories.astype(str)) + 1
            given["symbol"] = row.astype("int32")[found.codes.to_numpy()][:, None]
        if self.months:
            month = examples.index["as_of"].dt.month.to_numpy()
            given["month"] = np.eye(MONTHS, dtype="float32")[month - 1]
        return given

    def targets(self, examples: Examples) -> npt.NDArray[np.float32]:
        """What the network learns: float32 (n, k), or (n, H, k) for several steps."""
        scaled = self._scaled(learned_of(self.learns, examples)).astype("float32")
        targets: npt.NDArray[np.float32] = scaled[:, 0] if scaled.shape[1] == 1 else scaled
        return targets

    def _scaled(self, learned: Floats) -> Floats:
        """Labels (n, H, k) on the scale of what is learned, which may differ from step to step."""
        scaled: Floats = self.target.transform(self._columns(learned)).reshape(learned.shape)
        return scaled

    def _columns(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values (n, H, k) with those that have scales of their own on the last axis."""
        columns = len(self.target.offset)
        return values.reshape(len(values), values[:1].size // columns or 1, columns)

    def teacher(self, examples: Examples) -> npt.NDArray[np.float32]:
        """What precedes each step, for networks that are taught with it: float32 (n, H, k).

        Steps that are not known yet are zero.
        """
        scaled = self._scaled(learned_of(self.learns, examples))
        before = np.zeros_like(examples.last)
        if self.learns == "value":
            before = self.target.transform(examples.last)
        taught = np.concatenate([before[:, None], scaled[:, :-1]], axis=1)
        known: npt.NDArray[np.float32] = np.nan_to_num(taught).astype("float32")
        return known

    def forecast(self, outputs: npt.NDArray[Any], examples: Examples) -> Floats:
        """Outputs in the target's unit: float64 (n, H, k); scores are as the network gave them."""
        given = np.asarray(outputs).reshape(examples.y.shape)
        raw = self.target.inverse(self._columns(given)).reshape(given.shape)
        if self.learns == "change":
            moved: Floats = raw + examples.unmoved
            return moved
        if self.learns == "growth":
            grown: Floats = examples.last[:, None, :] * (1 + raw)
            return grown
        return raw

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes; floats keep all their digits."""
        return {
            "features": self.features.to_json(),
            "target": self.target.to_json(),
            "learns": self.learns,
            "symbols": None if self.symbols is None else list(self.symbols),
            "months": self.months,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Encoding:
        """The encoding that `to_json` wrote."""
        symbols = values["symbols"]
        return cls(
            Scale.from_json(values["features"]),
            Scale.from_json(values["target"]),
            values["learns"],
            None if symbols is None else tuple(symbols),
            values["months"],
        )


def learned_of(learns: Learns, examples: Examples) -> Floats:
    """Labels in the terms in which they are learned, not scaled: float64 (n, H, k)."""
    y = examples.y.astype("float64")
    if learns == "change":
        moved: Floats = y - examples.unmoved
        return moved
    if learns == "growth":
        grown: Floats = y / examples.last[:, None, :] - 1
        return grown
    if learns == "up":
        return np.where(np.isfinite(y), y > 0, np.nan)
    if learns == "rank":
        return standard_ranks(y[:, 0, 0], examples.index["as_of"])[:, None, None]
    return y


def standard_ranks(values: npt.NDArray[Any], dates: pd.Series[Any]) -> Floats:
    """Ranks within each date, evenly spread to mean 0 and variance about 1: (n,).

    (rank - 1/2) / count - 1/2, times the root of 12, the variance of a uniform being 1/12.
    A lone value is in the middle.
    """
    by_date = pd.Series(values).groupby(dates.to_numpy())
    share = (by_date.rank(method="average") - 0.5) / by_date.transform("count")
    standard: Floats = (share.to_numpy("float64") - 0.5) * np.sqrt(12)
    return standard


def blocks(rows: int) -> Iterator[slice]:
    """Slices that cover so many rows, one after the other."""
    for start in range(0, rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, rows))


def _scales(recipe: Recipe, train: Examples, learned: Floats) -> tuple[Scale, Scale]:
    n_features, k = train.X.shape[2], learned.shape[2]
    if recipe.scaling == "none":
        return Scale.identity(n_features), Scale.identity(k)
    if recipe.scaling == "minmax_series":
        # the next value of feature 0 lies in the same series, and shares its range
        features = Scale.minmax(train.X)
        series = np.concatenate([train.X[..., 0].ravel(), learned.ravel()])
        target = Scale.minmax(series[:, None])
        offset, width = target.offset + features.offset[1:], target.width + features.width[1:]
        return Scale(offset, width), target
    fit = Scale.minmax if recipe.scaling == "minmax" else Scale.standard
    if recipe.learns in {"up", "rank"}:
        return fit(train.X), Scale.identity(k)
    if recipe.learns == "value":
        return fit(train.X), fit(learned)
    # a network that answers zero forecasts no change; far ahead there is more of it
    steps = learned.reshape(len(learned), -1)
    return fit(train.X), Scale.standard(steps, centred=False)
