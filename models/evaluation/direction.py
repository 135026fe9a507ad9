"""Direction: how well scores tell the entities that rise from those that fall.

Whether most entities rise in a week is a matter of the week. A pooled AUC rewards a model
that knows the week and nothing else; within dates it is worth nothing. So both are given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError
from models.evaluation.panel import (
    Floats,
    Metrics,
    Panel,
    figure,
    not_finite,
    require_same_length,
    vectors,
)
from models.evaluation.significance import (
    block_length,
    mean_interval,
    newey_west_lags,
    newey_west_t,
)

Bools = npt.NDArray[np.bool_]
BINS = 10
OF_SCORES = (
    *("auc", "auc_within_date", "auc_within_date_low", "auc_within_date_high"),
    *("auc_within_date_t", "lags", "accuracy"),
)
OF_PROBABILITIES = ("log_loss", "brier", "calibration_error", "reliability")


def auc_by_date(scores: npt.ArrayLike, up: npt.ArrayLike, dates: Any) -> pd.Series[float]:
    """Area under the ROC curve within each date.

    The chance that an entity that rises has a higher score than one of the same date that
    does not, ties counting half: (R - p (p + 1) / 2) / (p m), R the sum of the ranks of the p
    that rise, m those that do not.

    Parameters
    ----------
    scores : (n,); those that are not finite are left out.
    up : (n,), bool
    dates : (n,)

    Returns
    -------
    Series
        Indexed by date, ascending; NaN where all rise or none.

    References
    ----------
    Mann, Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", Annals of Mathematical Statistics 18 (1947).
    """
    (values,) = vectors(scores)
    risen = _directions(up)
    require_same_length(values, risen, dates)
    panel = Panel.of(dates)
    return panel.by_date(panel.auc(values, risen))


def evaluate_direction(
    scores: npt.ArrayLike,
    up: npt.ArrayLike,
    dates: Any,
    *,
    probabilities: bool,
    threshold: float | None = None,
    overlap: int = 1,
) -> Metrics:
    """Figures of a forecast of direction; None where a figure is not defined.

    Parameters
    ----------
    scores : (n,)
        The higher, the surer of a rise.
    up : (n,), bool
        Whether it rose.
    dates : (n,)
    probabilities : bool
        Whether scores are probabilities of a rise; log-loss and calibration are given for
        these only.
    threshold : float, optional
        Above it a rise is forecast; 0.5 for probabilities and 0 for scores if left out.
    overlap : int
        Periods that a label covers, for the lags of t and the blocks of the bootstrap.

    Returns
    -------
    dict
        `n`, `n_dates`, `up_rate`, `majority_rate` (accuracy of always saying what is more
        frequent); `auc` of all rows pooled; `auc_within_date`: mean of `auc_by_date` over
        the `n_dates_two_sided` that have both, its 90 % interval by the stationary bootstrap
        (`_low`, `_high`), and `auc_within_date_t`, the Newey-West t against 0.5 with `lags`;
        `accuracy`; `log_loss` (natural logarithm) and `log_loss_of_rate`, that of always
        saying `up_rate`; `brier`; `reliability`: up to ten bins of equal count, each with
        `low`, `high`, `n`, `mean_probability` and `up_rate`; `calibration_error`: mean over
        the bins, by count, of the distance of the two (probabilities of a direction lie so
        close to one half that bins of equal width would be empty); `undefined`: why there
        are no figures, else None.

    Raises
    ------
    UsageError
        The arrays differ in length, a direction is neither true nor false, or a probability
        lies outside [0, 1].

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
    Review 78 (1950). Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities
    using Bayesian binning", AAAI 2015: expected calibration error.
    """
    (values,) = vectors(scores)
    risen = _directions(up)
    require_same_length(values, risen, dates)
    panel = Panel.of(dates)
    rate = float(risen.mean()) if len(risen) else None
    figures: Metrics = {
        "n": len(values),
        "n_dates": len(panel.days),
        "up_rate": rate,
        "majority_rate": None if rate is None else max(rate, 1 - rate),
        "log_loss_of_rate": _entropy(rate),
    }
    undefined = not_finite("scores", values) or (None if len(values) else "no known label")
    if undefined:
        missing = dict.fromkeys((*OF_SCORES, *OF_PROBABILITIES))
        return {**figures, "n_dates_two_sided": 0, **missing, "undefined": undefined}
    if probabilities and (values.min() < 0 or values.max() > 1):
        raise UsageError("evaluation: scores outside [0, 1] are no probabilities")
    limit = threshold if threshold is not None else 0.5 if probabilities else 0.0
    return {
        **figures,
        **_discrimination(values, risen, panel, overlap),
        "accuracy": float(np.mean((values > limit) == risen)),
        **(_calibration(values, risen) if probabilities else dict.fromkeys(OF_PROBABILITIES)),
        "undefined": None,
    }


def _directions(up: npt.ArrayLike) -> Bools:
    """Whether each rose, as booleans: (n,).

    Raises
    ------
    UsageError
        A label is not known: NaN would count as a rise.
    """
    given = np.asarray(up).reshape(-1)
    if given.dtype != np.bool_ and not np.isin(given, (0, 1)).all():
        raise UsageError(
            "evaluation: directions are true or false; leave out rows whose label is not known"
        )
    return given.astype(bool)


def _discrimination(scores: Floats, up: Bools, panel: Panel, overlap: int) -> Metrics:
    """AUC of all rows, and within dates with its uncertainty."""
    from sklearn.metrics import roc_auc_score

    two_sided = bool(up.any() and not up.all())
    within = panel.auc(scores, up)
    within = within[np.isfinite(within)]
    lags = newey_west_lags(len(within), overlap)
    interval = mean_interval(within, block=block_length(within, overlap))
    return {
        "auc": float(roc_auc_score(up, scores)) if two_sided else None,
        "auc_within_date": float(within.mean()) if len(within) else None,
        "auc_within_date_low": interval.low,
        "auc_within_date_high": interval.high,
        "auc_within_date_t": newey_west_t(within - 0.5, lags),
        "lags": lags,
        "n_dates_two_sided": len(within),
    }


def _calibration(probability: Floats, up: Bools) -> Metrics:
    """Log-loss, Brier score and reliability of probabilities."""
    from sklearn.metrics import brier_score_loss, log_loss

    bins = reliability(probability, up)
    distance = sum(each["n"] * abs(each["mean_probability"] - each["up_rate"]) for each in bins)
    return {
        "log_loss": float(log_loss(up, probability, labels=[False, True])),
        "brier": float(brier_score_loss(up, probability, pos_label=True)),
        "calibration_error": distance / len(probability),
        "reliability": bins,
    }


def reliability(probability: Floats, up: Bools) -> list[Metrics]:
    """What was said and what came, in bins of equal count; equal probabilities stay together.

    Parameters
    ----------
    probability : (n,), n at least 1
    up : (n,), bool
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, probability, side="left")
    return [
        {
            "low": float(probability[rows].min()),
            "high": float(probability[rows].max()),
            "n": int(rows.sum()),
            "mean_probability": float(probability[rows].mean()),
            "up_rate": float(up[rows].mean()),
        }
        for rows in (place == number for number in np.unique(place))
    ]


def _entropy(rate: float | None) -> float | None:
    """Log-loss of always saying the rate at which it happens, in natural units."""
    if rate is None:
        return None
    parts = np.array([rate, 1 - rate])
    return figure(-np.sum(parts[parts > 0] * np.log(parts[parts > 0])))
