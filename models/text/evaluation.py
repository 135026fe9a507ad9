"""Evaluation of text models: how good probabilities of classes are, and expected ratings.

The rules of `models.evaluation` hold: a forecast that is no number leaves all figures
undefined instead of being left out; a figure that is not defined is None, and `undefined` says
why where none is. All dictionaries can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from models.evaluation.direction import reliability
from models.evaluation.panel import Metrics, figure, not_finite, require_same_length, vectors
from models.evaluation.significance import LEVEL

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# A probability of zero that comes true would outweigh all other documents.
LEAST_PROBABILITY = 1e-7
OF_CLASSES = (
    *("accuracy", "macro_f1", "auc", "log_loss", "calibration_error", "by_class", "confusion"),
)
BOOTSTRAPPED = ("accuracy", "macro_f1", "auc")
RESAMPLES = 1_000
SEED = 42
STARS = 10


def evaluate_classes(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, classes: Sequence[str]
) -> Metrics:
    """Figures of probabilities of classes; None where a figure is not defined.

    Parameters
    ----------
    probabilities : (n, k), each row summing to 1.
    labels : (n,), positions in `classes`.
    classes : k names, worst first.

    Returns
    -------
    dict
        `n`; `majority_rate`: accuracy of always saying the most frequent class; `accuracy` of
        the most probable one; `macro_f1`: mean F1 of the classes that there are; `auc`: area
        under the ROC curve, of more than two classes the mean of each against the rest;
        `log_loss` in natural units, no probability counting as less than 1e-7;
        `calibration_error`: expected distance of what is said from what comes, in bins of
        equal count, mean of the classes; `by_class`: `n`, `precision`, `recall` and `f1` of
        each; `confusion`: k rows of labels, k columns of what was said; `undefined`: why there
        are no figures, else None.

    Raises
    ------
    UsageError
        The arrays do not belong together, or rows are no probabilities.

    References
    ----------
    C. Manning, P. Raghavan, H. Schütze, "Introduction to Information Retrieval", 2008, 13.6
    (macro averages). Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using
    Bayesian binning", AAAI 2015.
    """
    forecast, actual = _checked(probabilities, labels, classes)
    counts = np.bincount(actual, minlength=len(classes))
    figures: Metrics = {
        "n": len(actual),
        "majority_rate": figure(counts.max() / len(actual)) if len(actual) else None,
    }
    undefined = not_finite("probabilities", forecast) or (None if len(actual) else "no label")
    if undefined:
        return {**figures, **dict.fromkeys(OF_CLASSES), "undefined": undefined}
    if forecast.min() < 0 or np.abs(forecast.sum(axis=1) - 1).max() > 1e-3:
        raise UsageError("evaluation: rows that do not sum to 1 are no probabilities of classes")
    from sklearn.metrics import confusion_matrix

    said = forecast.argmax(axis=1)
    confusion = confusion_matrix(actual, said, labels=range(len(classes)))
    by_class = _by_class(confusion[None])
    distances = [
        sum(each["n"] * abs(each["mean_probability"] - each["up_rate"]) for each in bins)
        for bins in (reliability(forecast[:, at], actual == at) for at in np.flatnonzero(counts))
    ]
    return {
        **figures,
        "accuracy": figure(np.mean(said == actual)),
        "macro_f1": figure(macro_f1(confusion[None])[0]),
        "auc": figure(_Ranked.of(forecast, actual).auc(np.ones(len(actual), np.int64))),
        "log_loss": figure(losses(forecast, actual).mean()),
        "calibration_error": figure(np.mean(distances) / len(actual)),
        "by_class": {
            name: {"n": int(counts[at])}
            | {what: figure(values[0, at]) for what, values in by_class.items()}
            for at, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
        "undefined": None,
    }


def losses(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Log-loss of each document in natural units: (n,); no probability counts as under 1e-7."""
    forecast, actual = np.asarray(probabilities, "float64"), np.asarray(labels, "int64")
    require_same_length(forecast, actual)
    given = forecast[np.arange(len(actual)), actual]
    return np.asarray(-np.log(np.clip(given, LEAST_PROBABILITY, 1.0)))


def intervals(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    classes: Sequence[str],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, tuple[float, float] | None]:
    """Percentile intervals of accuracy, macro F1 and AUC, by resampling documents.

    Documents are taken for independent; those of one event are not, so the intervals are
    rather too narrow.

    Parameters
    ----------
    probabilities, labels, classes : as `evaluate_classes` takes them.
    level : share of resampled figures inside.
    resamples, seed : of the bootstrap.

    Returns
    -------
    dict
        `accuracy`, `macro_f1` and `auc`: low and high, or None where the figure is not defined.

    References
    ----------
    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, 13.3.
    """
    forecast, actual = _checked(probabilities, labels, classes)
    if not len(actual) or not_finite("probabilities", forecast):
        return dict.fromkeys(BOOTSTRAPPED)
    n, k = len(actual), len(classes)
    draw = np.random.default_rng(seed)
    pairs = np.bincount(actual * k + forecast.argmax(axis=1), minlength=k * k)
    # a resample of documents is one of the cells that they are in
    confusion = draw.multinomial(n, pairs / n, resamples).reshape(resamples, k, k)
    even = np.full(n, 1 / n)
    ranked = _Ranked.of(forecast, actual)
    areas = [ranked.auc(draw.multinomial(n, even)) for _ in range(resamples)]
    drawn = {
        "accuracy": np.trace(confusion, axis1=1, axis2=2) / n,
        "macro_f1": macro_f1(confusion),
        "auc": np.array(areas, "float64"),
    }
    edges = [(1 - level) / 2, (1 + level) / 2]
    found: dict[str, tuple[float, float] | None] = {}
    for name, values in drawn.items():
        known = values[np.isfinite(values)]
        low, high = np.quantile(known, edges) if len(known) else (np.nan, np.nan)
        found[name] = (float(low), float(high)) if len(known) else None
    return found


def compare_two(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    labels: npt.ArrayLike,
    classes: Sequence[str],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Metrics:
    """Whether one model of text is better than another on the same documents.

    Parameters
    ----------
    first, second : probabilities of classes, as `evaluate_classes` takes them.
    labels, classes : likewise.
    level, resamples, seed : of the bootstrap.

    Returns
    -------
    dict
        `n`; `only_first` and `only_second`: documents that one of them has right;
        `accuracy_difference`: first less second; `mcnemar_p`: exact two-sided p of
        McNemar's test of equal accuracy; `auc_difference`, and its interval by resampling
        documents, the same for both (`auc_difference_low`, `_high`). None where not defined;
        `undefined`: why there are no figures, else None.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, 1947. B. Efron, R. Tibshirani, "An Introduction to the
    Bootstrap", 1993, 13.3.
    """
    (ours, actual), (theirs, _) = (_checked(each, labels, classes) for each in (first, second))
    undefined = (
        not_finite("probabilities", ours)
        or not_finite("probabilities", theirs)
        or (None if len(actual) else "no label")
    )
    if undefined:
        return {"n": len(actual), **dict.fromkeys(OF_TWO), "undefined": undefined}
    from statsmodels.stats.contingency_tables import mcnemar

    right, other = (given.argmax(axis=1) == actual for given in (ours, theirs))
    only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
    table = [[int((right & other).sum()), only_first], [only_second, int((~right & ~other).sum())]]
    ranked = _Ranked.of(ours, actual), _Ranked.of(theirs, actual)

    def difference(weights: npt.NDArray[np.int64]) -> float:
        return ranked[0].auc(weights) - ranked[1].auc(weights)

    draw, n = np.random.default_rng(seed), len(actual)
    even = np.full(n, 1 / n)
    drawn = np.array([difference(draw.multinomial(n, even)) for _ in range(resamples)])
    known = drawn[np.isfinite(drawn)]
    edges = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(known, edges) if len(known) else (np.nan, np.nan)
    return {
        "n": n,
        "only_first": only_first,
        "only_second": only_second,
        "accuracy_difference": (only_first - only_second) / n,
        "mcnemar_p": figure(mcnemar(table, exact=True).pvalue),
        "auc_difference": figure(difference(np.ones(n, np.int64))),
        "auc_difference_low": figure(low),
        "auc_difference_high": figure(high),
        "undefined": None,
    }


OF_TWO = (
    *("only_first", "only_second", "accuracy_difference", "mcnemar_p"),
    *("auc_difference", "auc_difference_low", "auc_difference_high"),
)


def evaluate_ratings(expected: npt.ArrayLike, ratings: npt.ArrayLike) -> Metrics:
    """Figures of expected ratings; None where a figure is not defined.

    Parameters
    ----------
    expected : (n,), stars from 1 to 10, not whole numbers as a rule.
    ratings : (n,), stars that were given.

    Returns
    -------
    dict
        `n`; `mae`: mean absolute error in stars; `mae_of_median`: that of always saying the
        median; `kappa`: quadratic weighted kappa of the nearest whole number of stars, 1 for
        agreement and 0 for chance; `undefined`: why there are no figures, else None.

    References
    ----------
    J. Cohen, "Weighted kappa", Psychological Bulletin 70, 1968.
    """
    forecast, actual = vectors(expected, ratings)
    undefined = not_finite("expected ratings", forecast) or (None if len(actual) else "no rating")
    figures: Metrics = {"n": len(actual), "mae": None, "mae_of_median": None, "kappa": None}
    if undefined:
        return {**figures, "undefined": undefined}
    from sklearn.metrics import cohen_kappa_score

    stars = np.clip(np.rint(forecast), 1, STARS).astype("int64")
    given = actual.astype("int64")
    varied = len(np.unique(np.concatenate([stars, given]))) > 1
    kappa = (
        cohen_kappa_score(given, stars, weights="quadratic", labels=range(1, STARS + 1))
        if varied
        else np.nan
    )
    return {
        **figures,
        "mae": figure(np.abs(forecast - actual).mean()),
        "mae_of_median": figure(np.abs(np.median(actual) - actual).mean()),
        "kappa": figure(kappa),
        "undefined": None,
    }


def _checked(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, classes: Sequence[str]
) -> tuple[Floats, Ints]:
    forecast, actual = np.asarray(probabilities, "float64"), np.asarray(labels)
    if forecast.ndim != 2 or forecast.shape[1] != len(classes) or actual.ndim != 1:
        raise UsageError(
            f"evaluation: probabilities {forecast.shape} and labels {actual.shape} for "
            f"{len(classes)} classes; give (n, {len(classes)}) and (n,)"
        )
    require_same_length(forecast, actual)
    if len(actual) and not np.isin(actual, range(len(classes))).all():
        raise UsageError(f"evaluation: a label is no position among {', '.join(classes)}")
    return forecast, actual.astype("int64")


def _by_class(confusion: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Precision, recall and F1 of each class: (r, k) each, of r confusion matrices.

    What is not defined is NaN, but the F1 of a class that is there and never said is 0.
    """
    right = np.diagonal(confusion, axis1=1, axis2=2).astype("float64")
    there, said = confusion.sum(axis=2), confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": right / said,
            "recall": right / there,
            "f1": np.where(there > 0, 2 * right / (there + said), np.nan),
        }


def macro_f1(confusion: npt.NDArray[np.int64]) -> Floats:
    """Mean F1 of the classes that there are, of each confusion matrix: (r,).

    Parameters
    ----------
    confusion : (r, k, k), rows of labels, columns of what was said.
    """
    f1 = _by_class(confusion)["f1"]
    there = np.isfinite(f1)
    return np.asarray(np.where(there, f1, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


@dataclass(frozen=True)
class _Ranked:
    """Scores of classes in order, so that the AUC of many weightings of documents is quick.

    Attributes
    ----------
    places : for each class that is scored, the rank of each document's score from 0, equal
        scores sharing one: (n,).
    members : whether a document is of that class: (n,).
    """

    places: tuple[npt.NDArray[np.intp], ...]
    members: tuple[npt.NDArray[np.bool_], ...]

    @classmethod
    def of(cls, forecast: Floats, actual: Ints) -> _Ranked:
        """Of two classes the better one is scored, of more each that is there."""
        k = forecast.shape[1]
        scored = [1] if k == 2 else np.unique(actual).tolist()
        return cls(
            tuple(np.unique(forecast[:, at], return_inverse=True)[1] for at in scored),
            tuple(actual == at for at in scored),
        )

    def auc(self, weights: npt.NDArray[np.int64]) -> float:
        """Mean area under the ROC curve, ties counting half; NaN where a class is alone."""
        areas = []
        for place, member in zip(self.places, self.members, strict=True):
            inside = np.bincount(place[member], weights[member], place.max() + 1)
            outside = np.bincount(place[~member], weights[~member], place.max() + 1)
            below = np.cumsum(outside) - outside
            pairs = inside.sum() * outside.sum()
            areas.append((inside * (below + outside / 2)).sum() / pairs if pairs else np.nan)
        return float(np.mean(areas))
