"""Figures: what a system's forecasters are worth on the test span, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models import evaluation, tasks
from models.encoding import Floats, Scale
from models.evaluation.significance import FEWEST_VALUES
from models.examples import Examples
from models.recipes import Task
from models.reproduction.trials import Outcome

Metrics = dict[str, Any]


# Other returns of the rows of a test span, by name: float64 (n,) each.
Against = Callable[[Outcome], Mapping[str, Floats]]


@dataclass(frozen=True)
class Forecaster:
    """A network or a baseline with the figures of each seed.

    Attributes
    ----------
    label : its name on the page.
    is_baseline : whether nothing recurrent is in it.
    parameters : weights.
    metrics : of each seed (`models.evaluation`).
    losses : mean loss of each date, mean over the seeds; None where it cannot be compared.
    """

    label: str
    is_baseline: bool
    parameters: int
    metrics: tuple[Metrics, ...]
    losses: pd.Series[float] | None

    def values(self, key: str) -> list[float]:
        """A figure of each seed that has it; `a.b` is `b` of the part `a`."""
        found = (_at(metrics, key) for metrics in self.metrics)
        return [float(value) for value in found if value is not None]

    def mean(self, key: str) -> float | None:
        """Mean over the seeds; None where it is not defined."""
        values = self.values(key)
        return float(np.mean(values)) if values else None


def _at(metrics: Metrics, key: str) -> Any:
    value: Any = metrics
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


@dataclass(frozen=True)
class Measured:
    """All forecasters of one protocol on one test span.

    Attributes
    ----------
    task : what is forecast.
    forecasters : by label, networks first.
    comparison : `models.evaluation.compare` with the best baseline as benchmark; None where
        there is no baseline or too few dates.
    train, test : first and last `as_of`, and how many windows.
    """

    task: Task
    forecasters: Mapping[str, Forecaster]
    comparison: Metrics | None
    train: Metrics
    test: Metrics

    def baselines(self) -> list[Forecaster]:
        """Those in which nothing recurrent is."""
        return [each for each in self.forecasters.values() if each.is_baseline]


def measure(
    outcomes: Sequence[Outcome],
    test_of: Callable[[Outcome], Examples],
    scale: Scale | None = None,
    against: Against | None = None,
) -> Measured:
    """Figures of the outcomes of one protocol.

    Parameters
    ----------
    outcomes : of all trials.
    test_of : gives the test span of one.
    scale : of targets that were scaled before they were learned; figures are in raw units.
    against : gives returns that the scores of entities are held against, too.
    """
    by_label: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_label.setdefault(outcome.trial.label, []).append(outcome)
    ordered = sorted(by_label.items(), key=lambda item: item[1][0].trial.is_baseline)
    forecasters = {
        label: _forecaster(label, several, test_of, scale, against) for label, several in ordered
    }
    first = outcomes[0].manifest
    return Measured(
        next(each.trial.recipe.task for each in outcomes if not each.trial.is_baseline),
        forecasters,
        _compared(forecasters),
        first.spans["train"],
        first.spans["test"],
    )


def _forecaster(
    label: str,
    outcomes: Sequence[Outcome],
    test_of: Callable[[Outcome], Examples],
    scale: Scale | None,
    against: Against | None,
) -> Forecaster:
    test = test_of(outcomes[0])
    metrics = tuple(_metrics(outcome, test, scale, against) for outcome in outcomes)
    task = outcomes[0].trial.recipe.task
    # whoever forecasts a direction is compared by the order that it gives
    compared: Task = "rank" if task == "direction" else task
    losses = [tasks.losses(compared, outcome.forecast, test) for outcome in outcomes]
    mean = pd.concat(losses, axis=1).mean(axis=1, skipna=False)
    first = outcomes[0]
    return Forecaster(
        label,
        first.trial.is_baseline,
        first.manifest.parameters,
        metrics,
        mean if np.isfinite(mean).all() and len(mean) else None,
    )


def _metrics(
    outcome: Outcome, test: Examples, scale: Scale | None, against: Against | None
) -> Metrics:
    task = outcome.trial.recipe.task
    known = outcome.manifest.metrics
    if task == "level" and scale is not None:
        forecast, actual, last = (
            scale.inverse(values[:, 0, :] if values.ndim == 3 else values)[:, 0]
            for values in (outcome.forecast, test.y, test.last)
        )
        return evaluation.evaluate_levels(forecast, actual, last, scale.width[0])
    if task not in {"direction", "rank"} or against is None:
        return dict(known)
    scores, label = outcome.forecast[:, 0, 0], test.y[:, 0, 0]
    dates, entities = test.index["as_of"].to_numpy(), test.index["entity"].to_numpy()
    held = against(outcome)
    ranked = evaluation.evaluate_cross_section(scores, label, dates, entities, against=held)
    told = evaluation.evaluate_direction(
        scores, label > 0, dates, probabilities=outcome.manifest.gives_probability
    )
    traded = {
        name: evaluation.evaluate_direction(
            scores[known], returns[known] > 0, dates[known], probabilities=False
        )
        for name, returns in held.items()
        for known in [np.isfinite(returns)]
    }
    return {**told, "cross_section": ranked, "direction_of": traded}


def _compared(forecasters: Mapping[str, Forecaster]) -> Metrics | None:
    """All that can be compared on the dates that they share, the best baseline as benchmark."""
    losses = {name: each.losses for name, each in forecasters.items() if each.losses is not None}
    baselines = [name for name in losses if forecasters[name].is_baseline]
    if len(losses) < 2 or not baselines:
        return None
    table = pd.concat(losses, axis=1).dropna()
    if len(table) < FEWEST_VALUES:
        return None
    best = min(baselines, key=lambda name: float(table[name].to_numpy().mean()))
    return evaluation.compare(table, best)


def in_time(outcome: Outcome, test: Examples, returns: npt.NDArray[Any]) -> pd.Series[float]:
    """Rank IC of each date against given returns."""
    return evaluation.rank_ic_by_date(
        outcome.forecast[:, 0, 0], returns, test.index["as_of"].to_numpy()
    )
