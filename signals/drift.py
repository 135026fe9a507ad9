"""Drift: how far inputs and scores have moved from what a version was trained on.

The population stability index compares shares in ten buckets that hold equal shares of the
training span. Neighbouring values of one series resemble each other: so many of them count
as so many fewer that are independent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.clock import Night
from db.tables import drift_references, signal_drift
from features.catalog import feature_view
from models.artefacts import Version
from models.examples import Examples, read_examples
from models.recipes import Recipe
from models.registry import ModelVersion, load
from models.tasks import series_of
from signals.declaration import Signal

if TYPE_CHECKING:
    from db.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
# Edges, shares, rows, persistence.
Reference = tuple[Floats, Floats, int, float]

BUCKETS = 10
# Rule of thumb of credit scoring: below 0.1 nothing, above 0.25 a shift to act on.
SHIFTED = 0.25
# Of a training span so many windows at most are looked at, evenly spread.
MOST_WINDOWS = 20_000
# Dates that are compared where a signal has a few entities only.
NEWEST_DATES = {"session": 63, "week": 13, "month": 12}


def population_stability(expected: Floats, actual: Floats) -> float:
    """Index of two distributions over the same buckets: sum of (a - e) ln(a / e).

    Parameters
    ----------
    expected, actual : (b,)
        Shares, none of them zero.

    References
    ----------
    Siddiqi, "Credit Risk Scorecards", 2006, chapter 8.
    """
    return float(((actual - expected) * np.log(actual / expected)).sum())


def noise_of(buckets: int, rows: float, reference_rows: float) -> float:
    """The index below which 95 % lie where both samples come from one distribution.

    Parameters
    ----------
    buckets : int
    rows, reference_rows : values in each sample that are independent of each other.

    References
    ----------
    Yurdakul, Naranjo, "Statistical properties of the population stability index", Journal of
    Risk Model Validation 14 (2020): (1/n + 1/m) times chi-squared with b - 1 degrees.
    """
    from scipy.stats import chi2

    return float(chi2.ppf(0.95, max(buckets - 1, 1)) * (1 / rows + 1 / reference_rows))


def independent(rows: int, persistence: float) -> float:
    """How many independent values are worth so many of an autoregression, at least one.

    References
    ----------
    Bartlett, "Some aspects of the time-correlation problem in regard to tests of
    significance", Journal of the Royal Statistical Society 98 (1935): n (1 - r) / (1 + r).
    """
    return max(1.0, rows * (1 - persistence) / (1 + persistence))


def measure_drift(
    warehouse: Warehouse, declared: Signal, version: ModelVersion, night: Night
) -> list[str]:
    """Compare a night's inputs and scores with the training span; the subjects that drifted.

    Parameters
    ----------
    warehouse : the open store.
    declared : the signal.
    version : that scored the night.
    night : whose cut-off bounds what is seen.
    """
    if version.labels_known_at is None:
        return []  # a rule that has learned nothing has no training span
    loaded = load(warehouse.settings, version)
    references = _references(warehouse, version, loaded)
    newest = _newest(warehouse, version.made_by, night)
    if not len(newest):
        return []
    rows: list[dict[str, Any]] = []
    for subject, values in _subjects(version.made_by, loaded, newest).items():
        if subject not in references:
            continue
        edges, shares, count, persistence = references[subject]
        psi = population_stability(shares, _shares(values, edges))
        noise = noise_of(
            len(shares), independent(len(values), persistence), independent(count, persistence)
        )
        rows.append(
            {
                "signal": declared.name,
                "model_version": version.model_version,
                "session": pd.Timestamp(night.session),
                "subject": subject,
                "psi": psi,
                "noise": noise,
                "rows": len(values),
                "reference_rows": count,
                "drifted": psi > max(SHIFTED, noise),
            }
        )
    with warehouse.transaction():
        warehouse.native.execute(
            "DELETE FROM main.signal_drift WHERE signal = ? AND model_version = ? AND session = ?",
            (declared.name, version.model_version, night.session),
        )
        warehouse.append(signal_drift, pd.DataFrame(rows))
    return [row["subject"] for row in rows if row["drifted"]]


def _newest(warehouse: Warehouse, recipe: Recipe, night: Night) -> Examples:
    """The night's windows where there are many, else those of the newest dates."""
    tonight = read_examples(warehouse, recipe, night.cutoff, as_of=night.session)
    if len(tonight) >= BUCKETS * BUCKETS:
        return tonight
    every = read_examples(warehouse, recipe, night.cutoff)
    days = np.unique(every.index["as_of"])
    dates = NEWEST_DATES[feature_view(recipe.view).horizon_unit]
    return every.take((every.index["as_of"] >= days[-min(len(days), dates)]).to_numpy())


def _references(
    warehouse: Warehouse, version: ModelVersion, loaded: Version
) -> dict[str, Reference]:
    """What is known of each subject over the training span; worked out once a version."""
    known = _known_references(warehouse, version)
    if known:
        return known
    found = warehouse.one(
        "SELECT cutoff FROM main.model_versions WHERE model = ? AND model_version = ?",
        version.model,
        version.model_version,
    )
    if found is None:
        return {}
    span = loaded.manifest.spans["train"]
    first, last = (pd.Timestamp(span[name]) for name in ("first_as_of", "last_as_of"))
    trained = read_examples(warehouse, version.made_by, found[0])
    inside = np.flatnonzero(trained.index["as_of"].between(first, last))
    if not len(inside):
        return {}
    alone = len(trained.index["entity"].unique()) == 1
    few = inside[np.linspace(0, len(inside) - 1, min(len(inside), MOST_WINDOWS)).astype("int64")]
    rows = []
    for subject, values in _subjects(version.made_by, loaded, trained.take(few)).items():
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BUCKETS + 1)[1:-1]))
        rows.append(
            {
                "model": version.model,
                "model_version": version.model_version,
                "subject": subject,
                "edges": edges.tolist(),
                "shares": _shares(values, edges).tolist(),
                "rows": len(values),
                "persistence": _persistence(values) if alone else 0.0,
            }
        )
    with warehouse.transaction():
        for row in rows:
            warehouse.insert(drift_references, row)
    return _known_references(warehouse, version)


def _known_references(warehouse: Warehouse, version: ModelVersion) -> dict[str, Reference]:
    found = warehouse.sql(
        "SELECT subject, edges, shares, rows, persistence FROM ops.drift_references "
        "WHERE model = ? AND model_version = ?",
        version.model,
        version.model_version,
    )
    return {
        subject: (np.array(json.loads(edges)), np.array(json.loads(shares)), rows, persistence)
        for subject, edges, shares, rows, persistence in found
    }


def _subjects(recipe: Recipe, loaded: Version, examples: Examples) -> Mapping[str, Floats]:
    """Values of the newest step of each feature, and scores: (n,) each.

    Of a forecast in the target's unit the change that is forecast counts, of a level as a share
    of it: a level that has risen says nothing about the forecast.
    """
    names = recipe.features or feature_view(recipe.view).names
    subjects = {
        f"feature {name}": examples.X[:, -1, at].astype("float64") for at, name in enumerate(names)
    }
    score = loaded.forecast(examples)[:, 0, :]
    if recipe.task == "level":
        score = score / examples.last - 1
    elif recipe.task in ("changes", "path"):
        score = score - examples.last
    if score.shape[1] == 1:
        return {"value": score[:, 0], **subjects}
    values = {f"value of {name}": score[:, at] for at, name in enumerate(series_of(recipe))}
    return values | subjects


def _persistence(values: Floats) -> float:
    """Correlation of each value with the one before; 0 where it is negative or undefined."""
    if len(values) < 3 or np.ptp(values) == 0:
        return 0.0
    found = float(np.corrcoef(values[1:], values[:-1])[0, 1])
    return max(0.0, found) if np.isfinite(found) else 0.0


def _shares(values: Any, edges: Floats) -> Floats:
    """Share of values in each bucket: (b,); an empty one counts as half a value."""
    place = np.searchsorted(edges, values, side="left")
    counts = np.bincount(place, minlength=len(edges) + 1).astype("float64")
    counts = np.maximum(counts, 0.5)
    shares: Floats = counts / counts.sum()
    return shares
