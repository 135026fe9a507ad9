"""Examples: windows of a view as one model sees them, with the labels that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.catalog import feature_view
from features.windows import Windows, read_windows, steps
from models.recipes import Recipe

if TYPE_CHECKING:
    from db.settings import Settings
    from db.warehouse import Warehouse
    from features.view import FeatureView

Floats = npt.NDArray[np.float64]

YEAR = 12  # months


@dataclass(frozen=True)
class Examples:
    """Windows with what is forecast of them, in raw units.

    Attributes
    ----------
    X : float32 (n, T, F), the features that the network sees, oldest step first.
    last : float64 (n, k), last known value of each target.
    unmoved : float64 (n, H, k), what each target will be if nothing moves from now on: its
        last value, or where it is a sum over a year, what of that year is known already.
    y : float32 (n, H, k), each target at each step ahead; NaN where it is not known yet.
    index : as that of `features.windows.Windows`; `label_known_at` is when all of a row of
        `y` was known.
    view, version, data_snapshot : as those of `features.windows.Windows`.
    """

    X: npt.NDArray[np.float32]
    last: Floats
    unmoved: Floats
    y: npt.NDArray[np.float32]
    index: pd.DataFrame
    view: str
    version: str
    data_snapshot: str

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which have a label that is known: (n,)."""
        known = self.index["label_known_at"].notna().to_numpy()
        return np.asarray(known & np.isfinite(self.y).all(axis=(1, 2)))

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Examples:
        """The chosen examples; a slice copies nothing but the index."""
        index = self.index.iloc[rows] if isinstance(rows, slice) else self.index.take(_at(rows))
        return replace(
            self,
            X=self.X[rows],
            last=self.last[rows],
            unmoved=self.unmoved[rows],
            y=self.y[rows],
            index=index.reset_index(drop=True),
        )


def read_examples(
    warehouse: Warehouse, recipe: Recipe, cutoff: datetime, *, as_of: date | None = None
) -> Examples:
    """The examples of a recipe as they could be seen at a cut-off.

    Parameters
    ----------
    warehouse : the open store; the recipe's view must have been materialized.
    recipe : names view, features and targets.
    cutoff : UTC instant; only rows with `known_at <= cutoff` are seen.
    as_of : only windows that end on this date; None for all.

    Raises
    ------
    LookAheadError
        No cut-off was given, or one without a time zone.
    LookbackError
        The view has not been materialized or lacks a feature that the recipe names.
    """
    view = feature_view(recipe.view)
    seen = recipe.features or view.names
    targets = recipe.targets or (view.target,)
    extra = [name for name in (*targets, *recipe.moves) if name not in seen]
    columns = (*seen, *dict.fromkeys(extra))
    windows = read_windows(warehouse, view, cutoff, as_of=as_of, features=columns)
    return examples_of(recipe, view, windows, columns, warehouse.settings)


def examples_of(
    recipe: Recipe,
    view: FeatureView,
    windows: Windows,
    columns: Sequence[str],
    settings: Settings,
) -> Examples:
    """What a recipe makes of windows whose last axis holds `columns`."""
    number = {name: at for at, name in enumerate(columns)}
    seen = recipe.features or view.names
    targets = recipe.targets or (view.target,)
    forecast = [number[name] for name in targets]
    index = windows.index
    if recipe.steps == 1 and targets == (view.target,):
        y = windows.y[:, None, None]
    else:
        y, known = _ahead(
            windows,
            forecast,
            recipe.steps * view.horizon,
            view.horizon,
            steps(view, index["as_of"].to_numpy("datetime64[D]"), settings),
        )
        index = index.assign(label_known_at=known)
    last = windows.X[:, -1, forecast].astype("float64")
    if recipe.learns == "growth":
        # a ratio says nothing about a level that is not above zero
        y = np.where((last > 0)[:, None, :], y, np.float32(np.nan))
    moves = windows.X[..., [number[name] for name in recipe.moves]] if recipe.moves else None
    seasonal = np.array([name in recipe.seasonal for name in recipe.moves])
    return Examples(
        windows.X if len(columns) == len(seen) else windows.X[..., : len(seen)],
        last,
        unmoved(last, moves, recipe.steps, seasonal),
        y,
        index,
        windows.view,
        windows.version,
        windows.data_snapshot,
    )


def unmoved(
    last: Floats,
    moves: npt.NDArray[Any] | None,
    steps: int,
    seasonal: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """What targets will be if nothing but the season moves from now on: float64 (n, H, k).

    Parameters
    ----------
    last : (n, k)
        Last value of each target.
    moves : (n, T, k), optional
        Moves from row to row, whose sum over the last 12 rows a target is: h rows ahead,
        the oldest h of them have dropped out.
    steps : int
        H, at most 12 with moves.
    seasonal : (k,), optional
        Which targets have moves that a year repeats: each month ahead then moves by what the
        same months of the window's whole years did on average, less the mean of all months.
    """
    if moves is None:
        return np.repeat(last[:, None, :], steps, axis=1)
    year = moves[:, -YEAR:].astype("float64")
    left = [year[:, ahead:].sum(axis=1) for ahead in range(1, steps + 1)]
    forecast = np.stack(left, axis=1)
    if seasonal is not None and seasonal.any():
        forecast[..., seasonal] += np.cumsum(_seasons(moves[..., seasonal]), axis=1)[:, :steps]
    return forecast


def _seasons(moves: npt.NDArray[Any]) -> Floats:
    """Mean move of each of the twelve months ahead over the window's years: (n, 12, k)."""
    n, length, k = moves.shape
    years = length // YEAR
    by_month = moves[:, -years * YEAR :].astype("float64").reshape(n, years, YEAR, k).mean(axis=1)
    centred: Floats = by_month - by_month.mean(axis=1, keepdims=True)
    return centred


def _ahead(
    windows: Windows,
    targets: Sequence[int],
    furthest: int,
    horizon: int,
    step: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float32], pd.Series[Any]]:
    """Last values of the windows of the same entity 1..H horizons on, and when all were known.

    A window that ends there reaches back over the whole way, so that no gap lies between.
    """
    entity = windows.index["entity"].cat.codes.to_numpy("int64")
    step = step - step.min(initial=step.max(initial=0))
    width = int(step.max(initial=0)) + furthest + 1
    key = entity * width + step
    order = np.argsort(key)
    found_keys = key[order]
    count = furthest // horizon
    y = np.full((len(windows), count, len(targets)), np.nan, "float32")
    at = np.full(len(windows), -1)
    for ahead in range(1, count + 1):
        wanted = key + ahead * horizon
        place = np.minimum(np.searchsorted(found_keys, wanted), max(len(key) - 1, 0))
        there = found_keys[place] == wanted if len(key) else np.zeros(0, bool)
        at = np.where(there, order[place] if len(key) else 0, -1)
        y[there, ahead - 1] = windows.X[at[there], -1][:, targets]
    known = windows.index["known_at"].take(np.maximum(at, 0)).reset_index(drop=True)
    return y, known.where((at >= 0) & np.isfinite(y).all(axis=(1, 2)))


def _at(rows: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    return np.flatnonzero(rows) if rows.dtype == np.bool_ else rows


def targets_of(recipe: Recipe) -> Mapping[str, str]:
    """Feature that is forecast -> entity that a row of the signal is about, if not the window's.

    A view of one economy has several series in it; each target's row is named after its own.
    """
    view = feature_view(recipe.view)
    targets = recipe.targets or (view.target,)
    series = [name for given in view.inputs if given.shared for name in given.entities]
    if len(targets) == 1 or len(series) < len(targets):
        return {}
    return dict(zip(targets, series, strict=False))
