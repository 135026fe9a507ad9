"""Promotion: which version of a model scores from now on, and why.

All contenders are measured on the same examples of one span that none of them has learned
from. A network has to beat the best baseline there; of those that do, the best one is put
beside the champion, and takes its place unless it is worse beyond noise. Where no network
beats the baselines, the best of these is champion, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from db.errors import TrainingError
from models.artefacts import Kind
from models.evaluation import worse_beyond_noise
from models.text.recipes import TASK

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """What decides between the versions of a task, as reasons, tables and pages show it.

    It orders versions of one span as their losses there do: a root of the mean squared error,
    an AUC instead of what it falls short of 1.

    Attributes
    ----------
    name : of the figure.
    words : the same for a reason.
    of : the figure from the metrics of a version and those of persistence beside it; None where
        it is not defined.
    of_loss : the figure from the mean of the losses (`models.tasks.losses`, or log losses).
    higher_is_better : whether more is better.
    counted : what there is a loss of each.
    """

    name: str
    words: str
    of: Callable[[Figures, Figures], float | None]
    of_loss: Callable[[float], float] = float
    higher_is_better: bool = False
    counted: str = "dates"

    def is_better(self, figure: float, other: float) -> bool:
        """Whether the first figure is better than the second."""
        return figure > other if self.higher_is_better else figure < other


def _metric(name: str, words: str, **more: Any) -> Measure:
    """A measure that stands among the metrics of a version."""

    def of(metrics: Figures, _: Figures) -> float | None:
        value = metrics.get(name)
        return None if value is None else float(value)

    return Measure(name, words, of, **more)


def relative_mae(metrics: Figures, persistence: Figures) -> float | None:
    """Mean absolute error in units of what persistence misses a step ahead, mean of the series.

    None where either is not defined. A series of which persistence misses nothing counts in its
    own unit.

    Parameters
    ----------
    metrics, persistence : of `models.evaluation.evaluate_paths`, of one span.

    References
    ----------
    Hyndman, Koehler, "Another look at measures of forecast accuracy", International Journal
    of Forecasting 22 (2006), section 2.4 (relative measures).
    """
    series = metrics.get("series") or {}
    naive = {
        name: figures["by_horizon"][0]["mae"]
        for name, figures in (persistence.get("series") or {}).items()
    }
    errors = {name: figures["mae"] for name, figures in series.items()}
    if not errors or any(None in (error, naive.get(name)) for name, error in errors.items()):
        return None
    return float(np.mean([error / (naive[name] or 1.0) for name, error in errors.items()]))


RELATIVE_MAE = Measure(
    "relative_mae", "MAE, in what persistence misses of each series a step ahead,", relative_mae
)
MEASURES: Mapping[str, Measure] = {
    "level": _metric("rmse", "RMSE", of_loss=math.sqrt),
    "changes": RELATIVE_MAE,
    "path": RELATIVE_MAE,
    "direction": _metric(
        "auc_within_date",
        "AUC within dates",
        of_loss=lambda loss: 1 - loss,
        higher_is_better=True,
    ),
    "rank": _metric("rank_ic", "rank IC", of_loss=lambda loss: -loss, higher_is_better=True),
    TASK: _metric("log_loss", "log loss", counted="texts"),
}


@dataclass(frozen=True)
class Contender:
    """A version with its losses on the span that decides.

    Attributes
    ----------
    version : model_versions.model_version.
    kind : `network` or `baseline`.
    losses : mean loss of each date (`models.tasks.losses`) or text, the same for all; one
        that is not finite disqualifies.
    """

    version: str
    kind: Kind
    losses: pd.Series[float]

    @property
    def loss(self) -> float:
        """Mean over the dates."""
        return float(self.losses.mean())

    @property
    def is_finite(self) -> bool:
        """Whether every forecast was a finite number."""
        return bool(np.isfinite(self.losses).all())


@dataclass(frozen=True)
class Verdict:
    """Who is champion from now on, and why."""

    version: str
    reason: str


def judge(
    contenders: Sequence[Contender],
    champion: str | None,
    measure: Measure,
    overlap: int = 1,
) -> Verdict:
    """Decide between new versions and the champion.

    Parameters
    ----------
    contenders : sequence of Contender
        New networks and baselines, at least one, and the champion where it can be measured.
    champion : str, optional
        The version that scores now; None where there is none, or where it cannot score
        any more. It stays if it is not among the contenders.
    measure : Measure
        Says the losses in the reason.
    overlap : int
        Periods that a label covers: neighbouring dates share them, so that noise is larger.

    Raises
    ------
    TrainingError
        No contender has a finite forecast.
    """
    fit = [contender for contender in contenders if contender.is_finite]
    if not fit:
        raise TrainingError("no version gives a finite forecast on the test span")
    measured = {contender.version for contender in contenders}
    if champion is not None and champion not in measured:
        return Verdict(champion, "no span that neither version has seen: the champion stays")
    best = _best(fit)
    incumbent = next((each for each in fit if each.version == champion), None)
    new = [each for each in fit if each.version != champion]
    if incumbent is None or (best.kind != incumbent.kind):
        return Verdict(best.version, _why(best, fit, measure))
    challenger = _best(new)
    if challenger.kind != incumbent.kind:
        return Verdict(incumbent.version, f"the champion stays: {_why(incumbent, fit, measure)}")
    return _duel(challenger, incumbent, fit, measure, overlap)


def _best(contenders: Sequence[Contender]) -> Contender:
    """The best network that beats every baseline, or else the best baseline."""
    ordered = sorted(contenders, key=lambda each: each.loss)
    baselines = [each for each in ordered if each.kind == "baseline"]
    networks = [each for each in ordered if each.kind == "network"]
    if networks and (not baselines or networks[0].loss < baselines[0].loss):
        return networks[0]
    return baselines[0] if baselines else ordered[0]


def _duel(
    challenger: Contender,
    incumbent: Contender,
    contenders: Sequence[Contender],
    measure: Measure,
    overlap: int,
) -> Verdict:
    found = worse_beyond_noise(
        challenger.losses.to_numpy(),
        incumbent.losses.to_numpy(),
        incumbent.losses.index,
        overlap=overlap,
    )
    beside = (
        f"{_said(measure, challenger)} against the champion's {_figure(measure, incumbent)} on "
        f"{found.n_dates} {measure.counted} (difference of losses {found.mean_difference:.2g}, "
        f"90 % interval {found.low:.2g} to {found.high:.2g})"
    )
    if found.low > 0:
        return Verdict(incumbent.version, f"the champion stays: {beside}, worse beyond noise")
    return Verdict(challenger.version, f"{_why(challenger, contenders, measure)}; {beside}")


def _figure(measure: Measure, contender: Contender) -> str:
    return f"{measure.of_loss(contender.loss):.4g}"


def _said(measure: Measure, contender: Contender) -> str:
    return f"{measure.words} {_figure(measure, contender)}"


def _why(chosen: Contender, contenders: Sequence[Contender], measure: Measure) -> str:
    """One line: how it stands to the best of the other kind."""
    networks = [each for each in contenders if each.kind == "network"]
    baselines = [each for each in contenders if each.kind == "baseline"]
    said, counted = _said(measure, chosen), f"{len(chosen.losses)} {measure.counted}"
    if chosen.kind == "network":
        if not baselines:
            return f"{said}; no baseline to compare with"
        other = min(baselines, key=lambda each: each.loss)
        return (
            f"the network beats every baseline: {said} against "
            f"{_figure(measure, other)} of {other.version}, {counted}"
        )
    if not networks:
        return f"the best baseline: {said}, {counted}"
    other = min(networks, key=lambda each: each.loss)
    return (
        f"no network beats this baseline: {said} against "
        f"{_figure(measure, other)} of {other.version}, {counted}"
    )


# --------------------------------------------------------------------------- as tables show it


def deciding_figures(
    recipe: Figures, metrics: Figures, baselines: Mapping[str, Figures]
) -> tuple[float | None, dict[str, float | None]]:
    """What decides, of a version and of each baseline beside it.

    Parameters
    ----------
    recipe : of the version, as JSON.
    metrics, baselines : figures of the version, and of the baselines by name.
    """
    measure = MEASURES[recipe["task"]]
    persistence = {**baselines, recipe["variant"]: metrics}.get("persistence", {})
    return measure.of(metrics, persistence), {
        name: measure.of(figures, persistence) for name, figures in baselines.items()
    }


def beside_the_best_baseline(
    recipe: Figures, metrics: Figures, baselines: Mapping[str, Figures]
) -> dict[str, Any]:
    """What decides: `metric`, `test` of a version; `best_baseline`, `baseline_test` of that one.

    Parameters
    ----------
    recipe, metrics, baselines : as `deciding_figures` takes them.
    """
    measure = MEASURES[recipe["task"]]
    test, others = deciding_figures(recipe, metrics, baselines)
    known = {name: figure for name, figure in others.items() if figure is not None}
    choose = max if measure.higher_is_better else min
    best = choose(known, key=lambda name: known[name]) if known else None
    return {
        "metric": measure.name,
        "test": test,
        "best_baseline": best,
        "baseline_test": known[best] if best is not None else None,
    }
