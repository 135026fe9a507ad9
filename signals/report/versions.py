"""Champions and challengers, their figures beside the baselines, and how they learned."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb

from models import promotion
from models.training_process import HISTORY
from signals.report.reading import Row, rows

SHOWN = 10
CURVES_SHOWN = 2
# What stands in the place of a backend where nothing is a network.
BASELINE = "baseline"


@dataclass(frozen=True)
class Version:
    """One version beside the best baseline on the same dates.

    Attributes
    ----------
    row : of `model_versions`, without the JSON columns.
    variant : name of its recipe.
    learns : whether it is a network, and no baseline.
    metric, test : what decides who is champion (`models.promotion.MEASURES`).
    best_baseline, baseline_test : the best baseline's.
    higher_is_better : whether more of that is better.
    better : of a network that is no champion, whether it beats the best baseline; None where
        either is not defined, and where the decision was another one.
    """

    row: Row
    variant: str
    learns: bool
    metric: str
    test: float | None
    best_baseline: str | None
    baseline_test: float | None
    higher_is_better: bool
    better: bool | None


@dataclass(frozen=True)
class Losses:
    """Losses by epoch; `best` counts from 1."""

    variant: str
    model_version: str
    training: tuple[float, ...]
    validation: tuple[float, ...]
    best: int


@dataclass(frozen=True)
class Model:
    """A model: its champion, and the newest of those beside it, and loss curves."""

    name: str
    champion: Version | None
    versions: tuple[Version, ...]
    losses: tuple[Losses, ...]


def read_model(connection: duckdb.DuckDBPyConnection, name: str, home: Path) -> Model:
    """Versions of a model, the champion first; histories come from its folder under `home`."""
    found = rows(
        connection,
        """
        -- one row a version: the champion and the newest beside it
        SELECT *
        FROM main.model_versions
        WHERE model = ? AND stage <> 'walk-forward'
        ORDER BY stage = 'champion' DESC, cutoff DESC, trained_at DESC, model_version
        LIMIT ?
        """,
        name,
        SHOWN,
    )
    leads = found[0] if found and found[0]["stage"] == "champion" else None
    versions = [_version(row, leads) for row in found]
    champion = versions[0] if leads is not None else None
    # the champion's curve; of a champion that is a baseline those of the newest networks
    networks = [each for each in versions if each.learns and each.row["artefact"]]
    if champion is not None and champion.learns:
        networks = [champion]
    curves = [_losses(each, home) for each in networks[:CURVES_SHOWN]]
    return Model(name, champion, tuple(versions), tuple(each for each in curves if each))


def _version(row: Row, champion: Row | None) -> Version:
    recipe, metrics, baselines = (
        json.loads(row.pop(name)) for name in ("recipe", "metrics", "baselines")
    )
    row.pop("spans")
    measure = promotion.MEASURES[recipe["task"]]
    side = promotion.beside_the_best_baseline(recipe, metrics, baselines)
    return Version(
        row,
        recipe["variant"],
        _learns(row),
        higher_is_better=measure.higher_is_better,
        better=_better(row, champion, measure, side["test"], side["baseline_test"]),
        **side,
    )


def _learns(row: Row) -> bool:
    return bool(row["backend"] != BASELINE)


def _better(
    row: Row,
    champion: Row | None,
    measure: promotion.Measure,
    test: float | None,
    baseline_test: float | None,
) -> bool | None:
    """Whether a network beats the best baseline, where the champion's reason leaves that open.

    The champion's reason says how it stands to the others. Where that is a baseline nothing is
    called better: it was not on the span that decided, whatever it is on its own.
    """
    if row is champion or not _learns(row) or test is None or baseline_test is None:
        return None
    better = measure.is_better(test, baseline_test)
    return None if better and champion is not None and not _learns(champion) else better


def _losses(version: Version, home: Path) -> Losses | None:
    """Losses that lie in a version's folder; None where it is gone or is none of ours."""
    models = (home / "models").resolve()
    path = (models / version.row["artefact"] / HISTORY).resolve()
    if not path.is_relative_to(models) or not path.is_file():
        return None
    try:
        history = json.loads(path.read_text(encoding="utf-8"))
        training = tuple(float(value) for value in history["loss"])
        validation = tuple(float(value) for value in history["val_loss"])
    except (ValueError, KeyError, TypeError):
        return None
    if not training or len(training) != len(validation):
        return None
    best = min(range(len(validation)), key=validation.__getitem__) + 1
    return Losses(version.variant, version.row["model_version"], training, validation, best)
