"""Figures of models of text on the test texts, seed by seed or fold by fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.encoding import Floats
from models.reproduction.figures import Forecaster
from models.text.corpora import Corpus
from models.text.evaluation import evaluate_classes, intervals
from models.text.reproduction.neutral import NeutralBand
from models.text.reproduction.trials import TextOutcome

Metrics = dict[str, Any]


def measure(outcomes: Iterable[TextOutcome], tests: Iterable[Corpus]) -> dict[str, Forecaster]:
    """Figures of finished trials, by label.

    A network that is mixed with a baseline stands there without it, too.

    Parameters
    ----------
    outcomes : of networks and baselines, several of a label being seeds or folds of it.
    tests : the test texts of each.
    """
    metrics: dict[str, list[Metrics]] = {}
    first: dict[str, TextOutcome] = {}
    for outcome, test in zip(outcomes, tests, strict=True):
        manifest = outcome.manifest
        own: Metrics = {"ratings": manifest.metrics.get("ratings")}
        if not outcome.trial.is_baseline:
            own["best_epoch"] = manifest.best_epoch
        label = outcome.trial.label
        first.setdefault(label, outcome)
        metrics.setdefault(label, []).append(own | of_classes(outcome.probabilities, test))
        if outcome.alone is not None:
            label = alone_label(label)
            first.setdefault(label, outcome)
            metrics.setdefault(label, []).append(of_classes(outcome.alone, test))
    return {
        label: Forecaster(
            label,
            outcome.trial.is_baseline,
            outcome.manifest.parameters,
            tuple(metrics[label]),
            None,
        )
        for label, outcome in first.items()
    }


def beside_networks(
    measured: Mapping[str, Forecaster], another: Forecaster
) -> dict[str, Forecaster]:
    """With another one after the networks and before the baselines."""
    ordered = [
        *(each for each in measured.values() if not each.is_baseline),
        another,
        *(each for each in measured.values() if each.is_baseline),
    ]
    return {each.label: each for each in ordered}


def alone_label(label: str) -> str:
    """Name of a network without the baseline that is mixed with it."""
    return f"{label}, alone"


def of_classes(probabilities: Floats, test: Corpus) -> Metrics:
    """Figures of probabilities, with their intervals as `accuracy_low`, `accuracy_high`, ..."""
    found = intervals(probabilities, test.labels, test.classes)
    ends = {
        f"{name}_{end}": value
        for name, both in found.items()
        for end, value in zip(("low", "high"), both or (None, None), strict=True)
    }
    return evaluate_classes(probabilities, test.labels, test.classes) | ends


# What is known of a model that says a class and no probability.
OF_WHAT_IS_SAID = ("n", "accuracy", "macro_f1", "by_class", "confusion")


def of_two_classes(
    label: str,
    parameters: int,
    scored: Sequence[tuple[npt.NDArray[Any], Corpus, npt.NDArray[Any], Corpus]],
) -> tuple[Forecaster, list[NeutralBand]]:
    """Figures of a model of two classes on texts of three, and the bands that it says neutral in.

    Parameters
    ----------
    label : of the model.
    parameters : its weights.
    scored : for each fold the probabilities of `positive` of the training texts, these, the
        probabilities of the test texts, and these.
    """
    bands, metrics = [], []
    for given, train, asked, test in scored:
        band = NeutralBand.fit(given, train.labels)
        said = np.eye(len(test.classes))[band.classes(asked)]
        found = of_classes(said, test)
        kept = (
            *OF_WHAT_IS_SAID,
            *(f"{name}_{end}" for name in ("accuracy", "macro_f1") for end in ("low", "high")),
        )
        bands.append(band)
        metrics.append({name: found[name] for name in kept})
    return Forecaster(label, False, parameters, tuple(metrics), None), bands
