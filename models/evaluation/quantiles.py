"""Quantiles: a forecast's own errors on the validation span, put around its forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import UsageError
from models.evaluation.panel import Floats, Metrics, figure, not_finite, require_same_length

LEVELS: Mapping[str, float] = {"q05": 0.05, "q50": 0.50, "q95": 0.95}


@dataclass(frozen=True)
class ErrorQuantiles:
    """Where the outcome lay beside the forecast.

    Attributes
    ----------
    offsets : for `q05`, `q50` and `q95` what is added to a forecast, shape of one forecast;
        NaN where there were too few errors (19 are needed for 5 % and 95 %), or where a
        forecast was no number.
    relative : whether offsets are shares of the scale that the forecast is given with
        (the last known value), or raw units.
    n : errors that they were made from.
    """

    offsets: Mapping[str, Floats]
    relative: bool
    n: int

    def around(
        self, forecast: npt.NDArray[Any], scale: npt.NDArray[Any] | None = None
    ) -> dict[str, Floats]:
        """Quantiles of forecasts.

        Parameters
        ----------
        forecast : (n, ...)
        scale : (n, ...), optional
            Needed where offsets are relative: the last known value, or what else the errors
            were divided by; of a shape that broadcasts to that of `forecast`.

        Returns
        -------
        dict
            `q05`, `q50`, `q95`, each of the shape of `forecast`.

        Raises
        ------
        UsageError
            Offsets are relative and there is no scale.
        """
        if self.relative and scale is None:
            raise UsageError("quantiles: these offsets are relative; give what they are shares of")
        unit = np.abs(np.asarray(scale, "float64")) if self.relative else 1.0
        return {
            name: np.asarray(forecast, "float64") + unit * offset
            for name, offset in self.offsets.items()
        }

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        offsets = {
            name: np.where(np.isfinite(offset), offset.astype(object), np.array(None)).tolist()
            for name, offset in self.offsets.items()
        }
        return {"offsets": offsets, "relative": self.relative, "n": self.n}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ErrorQuantiles:
        """The quantiles that `to_json` wrote."""
        offsets = {name: np.array(offset, "float64") for name, offset in values["offsets"].items()}
        return cls(offsets, bool(values["relative"]), int(values["n"]))


def error_quantiles(
    forecast: npt.NDArray[Any],
    actual: npt.NDArray[Any],
    scale: npt.NDArray[Any] | None = None,
) -> ErrorQuantiles:
    """Offsets of q05, q50 and q95 from the errors of a span the model was not fitted on.

    Split-conformal with signed errors e = actual - forecast, each tail for itself: of n
    errors the ceil((n + 1) q)-th smallest for q above one half, the floor((n + 1) q)-th for
    q below, the median between. If the errors of the test were exchangeable with these, an
    outcome would lie outside each end with at most 5 %. Errors of a time series are not
    quite: `coverage` on the test says what became of it.

    Parameters
    ----------
    forecast, actual : (n, ...), of the validation span; rows whose outcome is not known are
        left out. A forecast of one that is, and is no number, leaves all offsets undefined.
    scale : (n, ...), optional
        Errors are divided by its absolute value: the last known value for relative offsets,
        where the size of an error grows with the level. Of a shape that broadcasts.

    References
    ----------
    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, "Distribution-free predictive inference for
    regression", JASA 113 (2018), algorithm 2. Signed tails: Romano, Patterson, Candes,
    "Conformalized quantile regression", NeurIPS 2019, theorem 2.
    """
    require_same_length(forecast, actual)
    error = np.asarray(actual, "float64") - np.asarray(forecast, "float64")
    if scale is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            error = error / np.abs(np.asarray(scale, "float64"))
    inner = tuple(range(1, error.ndim))
    known = np.isfinite(error).all(axis=inner)
    outcomes = np.isfinite(np.asarray(actual, "float64")).all(axis=inner)
    if not np.isfinite(np.asarray(forecast, "float64"))[outcomes].all():
        known = np.zeros_like(known)
    ordered = np.sort(error[known], axis=0)
    offsets = {name: _order_statistic(ordered, q) for name, q in LEVELS.items()}
    return ErrorQuantiles(offsets, scale is not None, len(ordered))


def _order_statistic(ordered: Floats, q: float) -> Floats:
    """The conformal quantile of errors in ascending order; NaN where n is too small for it."""
    n = len(ordered)
    # (n + 1) q in floating point may lie a rounding beside the integer that it is
    place = round((n + 1) * q, 9)
    number = ceil(place) if q > 0.5 else floor(place)
    if q == 0.5 and n:
        return np.asarray(np.median(ordered, axis=0), "float64")
    if not 1 <= number <= n:
        return np.full(ordered.shape[1:], np.nan)
    return np.asarray(ordered[number - 1], "float64")


def coverage(quantiles: Mapping[str, npt.NDArray[Any]], actual: npt.NDArray[Any]) -> Metrics:
    """How often outcomes lay below each quantile and between the outer two.

    Parameters
    ----------
    quantiles : mapping
        `q05`, `q50`, `q95` -> (n, ...).
    actual : (n, ...)

    Returns
    -------
    dict
        `n`; `coverage`: share in [q05, q95], of which 0.90 is meant; `below_q05`,
        `below_q50`, `below_q95`; `width`: mean of q95 - q05; `pinball`: mean over the three
        of the quantile loss max(q u, (q - 1) u), u = actual - quantile, raw units;
        `undefined`: why there are no figures, else None.

    References
    ----------
    Koenker, Bassett, "Regression quantiles", Econometrica 46 (1978): the loss.
    """
    outcome = np.asarray(actual, "float64").reshape(-1)
    given = {name: np.asarray(quantiles[name], "float64").reshape(-1) for name in LEVELS}
    require_same_length(outcome, *given.values())
    known = np.isfinite(outcome)
    outcome, given = outcome[known], {name: each[known] for name, each in given.items()}
    n = len(outcome)
    undefined = not_finite("quantiles", np.concatenate([*given.values()]))
    if undefined or not n:
        names = ("coverage", *(f"below_{name}" for name in LEVELS), "width", "pinball")
        return {"n": n, **dict.fromkeys(names), "undefined": undefined or "no known label"}
    inside = (given["q05"] <= outcome) & (outcome <= given["q95"])
    beside = {name: outcome - given[name] for name in LEVELS}
    losses = [np.maximum(q * beside[name], (q - 1) * beside[name]) for name, q in LEVELS.items()]
    return {
        "n": n,
        "coverage": figure(inside.mean()),
        **{f"below_{name}": figure((beside[name] < 0).mean()) for name in LEVELS},
        "width": figure((given["q95"] - given["q05"]).mean()),
        "pinball": figure(np.mean(losses)),
        "undefined": None,
    }
