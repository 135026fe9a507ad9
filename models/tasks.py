"""Tasks: what is forecast, what it is measured by, and what it has to beat.

`level` forecasts the next value of one series, `changes` the next value of several, `path`
several steps of several, `direction` the sign and `rank` the order of the next returns of
many entities. Forecasts have shape (n, H, k) as in `models.examples`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models import evaluation
from models.evaluation import ErrorQuantiles
from models.examples import Examples, targets_of
from models.recipes import Recipe, Task

Floats = npt.NDArray[np.float64]
Metrics = dict[str, Any]


# The figure that says most of a forecast with no baseline beside it.
HEADLINES: Mapping[Task, str] = {
    "level": "rmse",
    "changes": "mase",
    "path": "mase",
    "direction": "auc_within_date",
    "rank": "rank_ic",
}


def losses(task: Task, forecast: Floats, test: Examples) -> pd.Series[float]:
    """Mean loss of each date; NaN where a forecast is not finite.

    Parameters
    ----------
    task : str
    forecast : (n, H, k), or scores (n, 1, 1).
    test : Examples
        With known labels.

    Returns
    -------
    Series
        Indexed by `as_of`, ascending; dates on which the loss is not defined (no entity up,
        or none down) are left out.
    """
    dates = test.index["as_of"].to_numpy()
    if task == "direction":
        return _of_each_date(evaluation.auc_by_date, forecast, test.y > 0, dates).rsub(1)
    if task == "rank":
        return _of_each_date(evaluation.rank_ic_by_date, forecast, test.y, dates).mul(-1)
    error = forecast - test.y
    if task == "level":
        loss = np.square(error)
    else:
        # of each series what persistence misses a step ahead, so that all of them count
        naive = np.abs(test.y[:, 0] - test.last).mean(axis=0)
        loss = np.abs(error) / np.where(naive > 0, naive, 1.0)
    whole = pd.Series(loss.reshape(len(test), -1).mean(axis=1))
    return whole.groupby(dates).mean()


def _of_each_date(
    measure: Any, forecast: Floats, label: npt.NDArray[Any], dates: npt.NDArray[Any]
) -> pd.Series[float]:
    scores = forecast[:, 0, 0]
    if not np.isfinite(scores).all():
        return pd.Series(np.nan, index=pd.Index(np.unique(dates)))
    found: pd.Series[float] = measure(scores, label[:, 0, 0], dates).dropna()
    return found


def evaluate(
    recipe: Recipe,
    forecast: Floats,
    test: Examples,
    train: Examples,
    *,
    probabilities: bool = False,
    offsets: ErrorQuantiles | None = None,
) -> Metrics:
    """Figures of forecasts on a span, as a manifest holds them.

    Parameters
    ----------
    recipe : says what is forecast.
    forecast : (n, H, k), or scores (n, 1, 1).
    test : Examples
    train : Examples
        What a scaled error is scaled by comes from here.
    probabilities : whether a score is the probability of a rise.
    offsets : of the validation span; their coverage on this one is then told.

    Returns
    -------
    dict
        Of `models.evaluation`: `evaluate_levels` for a level, `evaluate_paths` for changes and
        paths, `evaluate_direction` with `cross_section` beside it for a direction,
        `evaluate_cross_section` for a rank. With offsets, `quantiles`: `coverage`.
    """
    figures = _figures(recipe, forecast, test, train, probabilities)
    if offsets is None:
        return figures
    around = offsets.around(forecast, _unit(recipe, test))
    return {**figures, "quantiles": evaluation.coverage(around, test.y)}


def _figures(
    recipe: Recipe, forecast: Floats, test: Examples, train: Examples, probabilities: bool
) -> Metrics:
    if recipe.task == "level":
        return evaluation.evaluate_levels(
            forecast[:, 0, 0], test.y[:, 0, 0], test.last[:, 0], float(np.ptp(train.y))
        )
    if recipe.task in {"changes", "path"}:
        in_time = np.argsort(train.index["as_of"].to_numpy(), kind="stable")
        scale = evaluation.naive_scale(train.last[in_time])
        return evaluation.evaluate_paths(forecast, test.y, scale, series_of(recipe))
    dates, entities = test.index["as_of"].to_numpy(), test.index["entity"].to_numpy()
    scores, label = forecast[:, 0, 0], test.y[:, 0, 0]
    ranked = evaluation.evaluate_cross_section(scores, label, dates, entities)
    if recipe.task == "rank":
        return ranked
    told = evaluation.evaluate_direction(scores, label > 0, dates, probabilities=probabilities)
    return {**told, "cross_section": ranked}


def series_of(recipe: Recipe) -> tuple[str, ...]:
    """Names of the targets: of the series that they are of, or of the features."""
    return tuple(targets_of(recipe).values()) or recipe.targets


def quantiles(recipe: Recipe, forecast: Floats, validation: Examples) -> ErrorQuantiles | None:
    """Offsets of the quantiles from the errors of the validation span; None of scores.

    Those of a level are shares of the last one; those of changes are in their own unit, for
    each step ahead and each series.
    """
    if recipe.task in {"direction", "rank"}:
        return None
    return evaluation.error_quantiles(forecast, validation.y, _unit(recipe, validation))


def with_quantiles(
    offsets: Mapping[str, Any] | None, recipe: Recipe, forecast: Floats, examples: Examples
) -> dict[str, Floats]:
    """`q05`, `q50` and `q95` of forecasts, (n, H, k) each; none without offsets.

    Parameters
    ----------
    offsets : as a manifest holds them (`ErrorQuantiles.to_json`).
    """
    if offsets is None:
        return {}
    return ErrorQuantiles.from_json(offsets).around(forecast, _unit(recipe, examples))


def _unit(recipe: Recipe, examples: Examples) -> Floats | None:
    """What an error is a share of: (n, 1, k), or None for raw units."""
    return examples.last[:, None, :] if recipe.task == "level" else None
