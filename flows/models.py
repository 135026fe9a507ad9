"""The commands about models: versions, one version whole, promotion by hand and back."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from db.errors import RegistryError
from db.publishing import publish, query_published
from db.settings import Settings
from db.warehouse import open_warehouse
from models import artefacts, promotion, registry
from models import training_process as training
from models.text.recipes import TASK, TextRecipe

VERSIONS = """
    SELECT model, model_version, stage, status, parameters, recipe, metrics, baselines,
        cutoff, labels_known_at, seconds, reason
    FROM model_versions
    ORDER BY model, trained_at, model_version
"""
COLUMNS = (
    "model",
    "model_version",
    "stage",
    "status",
    "parameters",
    "metric",
    "test",
    "best_baseline",
    "baseline_test",
    "cutoff",
    "seconds",
    "reason",
)
LINEAGE = (
    "stage",
    "status",
    "reason",
    "feature_view",
    "feature_version",
    "data_snapshot",
    "cutoff",
    "labels_known_at",
    "seed",
    "backend",
    "parameters",
    "trained_at",
    "seconds",
    "run_id",
    "artefact",
    "artefact_sha256",
)


def list_versions(settings: Settings) -> list[dict[str, Any]]:
    """Every version in the newest publication, its figure beside the best baseline's.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    names, found = query_published(settings, VERSIONS)
    rows = [dict(zip(names, row, strict=True)) for row in found]
    for row in rows:
        recipe, metrics, baselines = (
            json.loads(row.pop(name)) for name in ("recipe", "metrics", "baselines")
        )
        row.update(promotion.beside_the_best_baseline(recipe, metrics, baselines))
    return [{name: row[name] for name in COLUMNS} for row in rows]


def show_version(settings: Settings, model: str, version: str | None) -> dict[str, Any]:
    """All that is known of one version, the champion by default.

    Returns
    -------
    dict
        `lineage`, `recipe`, `spans`, `metrics`, `baselines` (name -> metrics), `decided_by`
        (`metric`: what the champion is decided by, `figures`: of this version and of each
        baseline by name, and `higher_is_better`), `layers`,
        `history` (loss by epoch), `loss_curve` (path of a picture, or None), `promotions`;
        `borrowed`: name and licence of vectors and dictionaries in a version of text.

    Raises
    ------
    RegistryError
        There is no such version, or its artefact is not what it was.
    """
    names, found = query_published(
        settings,
        "SELECT * FROM model_versions WHERE model = ? "
        "AND (model_version = ? OR ? IS NULL AND stage = 'champion')",
        (model, version, version),
    )
    if not found:
        raise RegistryError(
            f"model {model} has no {f'version {version}' if version else 'champion'}; "
            "see: lookback models list"
        )
    row = dict(zip(names, found[0], strict=True))
    columns, changes = query_published(
        settings,
        "SELECT promoted_at, model_version, replaced, reason FROM ops.promotions "
        "WHERE model = ? AND ? IN (model_version, replaced) ORDER BY promoted_at",
        (model, row["model_version"]),
    )
    shown = {"model": model, "model_version": row["model_version"]}
    shown |= {"lineage": {name: row[name] for name in LINEAGE}}
    for name in ("recipe", "spans", "metrics", "baselines"):
        shown[name] = json.loads(row[name])
    shown["decided_by"] = _decided_by(shown)
    borrowed = TextRecipe.from_json(shown["recipe"]).borrowed if _is_of_text(shown) else ()
    shown |= {"layers": [], "history": {}, "loss_curve": None, "borrowed": borrowed}
    if row["artefact"] is not None:
        shown |= _artefact(settings.home / "models" / row["artefact"], row["artefact_sha256"])
    return shown | {"promotions": [dict(zip(columns, each, strict=True)) for each in changes]}


def _is_of_text(shown: dict[str, Any]) -> bool:
    return bool(shown["recipe"]["task"] == TASK)


def _decided_by(shown: dict[str, Any]) -> dict[str, Any]:
    measure = promotion.MEASURES[shown["recipe"]["task"]]
    given = (shown[name] for name in ("recipe", "metrics", "baselines"))
    figure, others = promotion.deciding_figures(*given)
    return {
        "metric": measure.name,
        "higher_is_better": measure.higher_is_better,
        "figures": {"this version": figure, **others},
    }


def _artefact(folder: Path, sha256: str) -> dict[str, Any]:
    """What lies in the folder of a version beside the network."""
    manifest = artefacts.verify(folder, sha256)
    history = folder / training.HISTORY
    curve = folder / training.LOSS_CURVE
    return {
        "layers": manifest.layers,
        "history": json.loads(history.read_text()) if history.exists() else {},
        "loss_curve": str(curve) if curve.exists() else None,
    }


def promote_version(settings: Settings, model: str, version: str, reason: str) -> str:
    """Make a version champion by hand, and publish that; one line on what was done.

    Raises
    ------
    RegistryError
        There is no such version, or it cannot score.
    """
    with open_warehouse(settings, "promote") as warehouse:
        found = registry.find(warehouse, model, version)
        if found is None:
            raise RegistryError(
                f"model {model} has no version {version}; see: lookback models list"
            )
        registry.require_usable(settings, found)
        with warehouse.transaction():
            registry.promote(warehouse, model, version, f"by hand: {reason}", _run_id())
        publish(warehouse)
    return f"{model} {version} is champion"


def roll_back(settings: Settings, model: str) -> str:
    """Make the champion before this one champion again, and publish that; one line.

    Raises
    ------
    RegistryError
        There was none before, or none that can score.
    """
    with open_warehouse(settings, "roll back") as warehouse:
        version = registry.roll_back(warehouse, model, _run_id())
        publish(warehouse)
    return f"{model} {version.model_version} is champion again"


def _run_id() -> str:
    """Names the command in the registry; it is no run of a flow."""
    return f"hand-{datetime.now(UTC):%Y%m%d%H%M%S}-{uuid.uuid4().hex[:4]}"
