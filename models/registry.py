"""The registry: versions of models, who is champion, and why.

A version is a folder under LOOKBACK_HOME/models and a row of `model_versions`. The row is
written last: a training that was killed leaves a folder that the next one takes up or
replaces, never a row without a network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.clock import Night
from db.errors import RegistryError
from db.settings import Settings
from db.tables import model_versions, promotions
from features.windows import Windows
from models import artefacts, backend, training
from models.artefacts import LoadedModel, Manifest
from models.recipes import Recipe
from models.training import Epoch, TrainedVersion

if TYPE_CHECKING:
    from db.warehouse import Warehouse


@dataclass(frozen=True)
class ModelVersion:
    """One row of `model_versions`, as far as scoring and promotion need it."""

    model: str
    model_version: str
    stage: str
    feature_version: str
    labels_known_at: datetime | None
    artefact: str
    artefact_sha256: str
    parameters: int
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    reason: str
    seconds: float

    @property
    def summary(self) -> dict[str, Any]:
        """What a person wants to see first: the error, and the baseline's beside it."""
        return {
            "model": self.model,
            "model_version": self.model_version,
            "stage": self.stage,
            "parameters": self.parameters,
            "test_rmse": self.metrics["rmse"],
            "persistence_rmse": self.baselines["persistence"]["rmse"],
            "labels_known_at": self.labels_known_at,
            "seconds": self.seconds,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Candidate:
    """A finished training on its way into the registry."""

    recipe: Recipe
    model_version: str
    trained: TrainedVersion
    windows: Windows
    seconds: float
    taken_up: bool = False


SELECT = """
    SELECT model, model_version, stage, feature_version, labels_known_at, artefact,
        artefact_sha256, parameters, metrics, baselines, reason, seconds
    FROM main.model_versions
"""


def champion(warehouse: Warehouse, model: str) -> ModelVersion | None:
    """The version that scores, or None."""
    return _version(warehouse.one(f"{SELECT} WHERE model = ? AND stage = 'champion'", model))


def find(warehouse: Warehouse, model: str, model_version: str) -> ModelVersion | None:
    """That version, or None."""
    return _version(
        warehouse.one(f"{SELECT} WHERE model = ? AND model_version = ?", model, model_version)
    )


def _version(row: tuple[Any, ...] | None) -> ModelVersion | None:
    if row is None:
        return None
    values = list(row)
    values[8], values[9] = json.loads(values[8]), json.loads(values[9])
    return ModelVersion(*values)


def version_name(recipe: Recipe, windows: Windows, night: Night) -> str:
    """Name of the version that this training makes: the same inputs give the same name."""
    determined_by = json.dumps(
        [recipe.to_json(), windows.version, windows.data_snapshot, backend.name()],
        sort_keys=True,
        default=str,
    )
    return f"{night.session:%Y%m%d}-{hashlib.sha256(determined_by.encode()).hexdigest()[:8]}"


def train(
    settings: Settings,
    recipe: Recipe,
    windows: Windows,
    night: Night,
    progress: Callable[[Epoch], None] | None = None,
    device: str | None = None,
) -> Candidate:
    """Train a version, or take up one that was trained but not registered.

    Raises
    ------
    TrainingError
        Too few windows, a loss that diverged, or a process that died.
    """
    name = version_name(recipe, windows, night)
    folder = settings.home / "models" / recipe.name / name
    began = time.perf_counter()
    for unfinished in folder.parent.glob(f".{name}.*.training"):
        shutil.rmtree(unfinished)
    found = _take_up(folder)
    trained = found or training.train(recipe, windows, folder, progress=progress, device=device)
    seconds = time.perf_counter() - began
    return Candidate(recipe, name, trained, windows, seconds, taken_up=found is not None)


def _take_up(folder: Path) -> TrainedVersion | None:
    """The finished artefact in `folder`, if it is whole; a damaged one is removed."""
    if not folder.exists():
        return None
    try:
        manifest = artefacts.verify(folder)
    except RegistryError:
        shutil.rmtree(folder)
        return None
    return TrainedVersion(folder, manifest, artefacts.sha256(folder / artefacts.MANIFEST))


def register(warehouse: Warehouse, candidate: Candidate, night: Night, run_id: str) -> ModelVersion:
    """Write a trained version into the registry and decide whether it becomes champion.

    Raises
    ------
    RegistryError
        The version is registered, but the folder that was taken up is not the one that the
        registry remembers.
    """
    known = find(warehouse, candidate.recipe.name, candidate.model_version)
    if known is not None:
        return _renew(warehouse, candidate, known, night, run_id)
    incumbent = champion(warehouse, candidate.recipe.name)
    promoted, reason = _judge(warehouse.settings, candidate, incumbent)
    with warehouse.transaction():
        warehouse.insert(model_versions, _row(candidate, night, run_id, "challenger", reason))
        if promoted:
            promote(warehouse, candidate.recipe.name, candidate.model_version, reason, run_id)
    registered = find(warehouse, candidate.recipe.name, candidate.model_version)
    assert registered is not None
    return registered


def _renew(
    warehouse: Warehouse, candidate: Candidate, known: ModelVersion, night: Night, run_id: str
) -> ModelVersion:
    """The registered version; where its damaged artefact was trained anew, with the new one."""
    if candidate.trained.manifest_sha256 == known.artefact_sha256:
        return known
    if candidate.taken_up:
        raise RegistryError(
            f"{candidate.trained.folder} is not the artefact that the registry remembers for "
            f"{known.model} {known.model_version}; remove the folder and train it again"
        )
    with warehouse.transaction():
        warehouse.upsert(model_versions, _row(candidate, night, run_id, known.stage, known.reason))
    renewed = find(warehouse, known.model, known.model_version)
    assert renewed is not None
    return renewed


def promote(warehouse: Warehouse, model: str, model_version: str, reason: str, run_id: str) -> None:
    """Make a version champion and remember why; call inside a transaction.

    Raises
    ------
    RegistryError
        There is no such version.
    """
    before = champion(warehouse, model)
    if before is not None and before.model_version == model_version:
        return
    if find(warehouse, model, model_version) is None:
        raise RegistryError(
            f"model {model} has no version {model_version}; see: lookback models list"
        )
    for name, stage, why in (
        (before.model_version if before else None, "retired", f"replaced by {model_version}"),
        (model_version, "champion", reason),
    ):
        if name is not None:
            warehouse.upsert(
                model_versions,
                {"model": model, "model_version": name, "stage": stage, "reason": why},
            )
    warehouse.insert(
        promotions,
        {
            "model": model,
            "model_version": model_version,
            "replaced": before.model_version if before else None,
            "reason": reason,
            "promoted_at": datetime.now(UTC),
            "run_id": run_id,
        },
    )


def load(settings: Settings, version: ModelVersion) -> LoadedModel:
    """The network of a version, verified by hash and read in safe mode.

    Raises
    ------
    RegistryError
        The artefact is missing, altered or foreign.
    """
    return artefacts.load(settings.home / "models" / version.artefact, version.artefact_sha256)


def _judge(
    settings: Settings, candidate: Candidate, incumbent: ModelVersion | None
) -> tuple[bool, str]:
    """Whether a candidate becomes champion, and why.

    Both are measured on the candidate's test span, which neither has learned from: the
    candidate by its split, the champion where its own labels end before that span begins.
    A champion that cannot score any more does not stay.
    """
    if incumbent is None:
        return True, "first version: there was no champion"
    if incumbent.feature_version != candidate.windows.version:
        return True, (
            f"the champion reads version {incumbent.feature_version} of the feature view, "
            f"which is now {candidate.windows.version}"
        )
    try:
        artefacts.verify(settings.home / "models" / incumbent.artefact, incumbent.artefact_sha256)
    except RegistryError as error:
        return True, f"the champion cannot be loaded ({error})"
    metrics = candidate.trained.manifest.metrics
    test = candidate.windows.take(_test_rows(candidate))
    first_cutoff = test.index["known_at"].min()
    if incumbent.labels_known_at is None or incumbent.labels_known_at >= first_cutoff:
        return False, "no span that neither version has seen: the champion stays"
    from sklearn.metrics import root_mean_squared_error

    try:
        forecast = load(settings, incumbent).predict(test.X)
    except RegistryError as error:
        return True, f"the champion cannot be loaded ({error})"
    theirs = float(root_mean_squared_error(test.y, forecast))
    ours = float(metrics["rmse"])
    verdict = f"test RMSE {ours:.2f} against the champion's {theirs:.2f}, {len(test)} windows"
    return ours <= theirs, verdict


def _test_rows(candidate: Candidate) -> Any:
    span = candidate.trained.manifest.spans["test"]
    as_of = candidate.windows.index["as_of"].dt.strftime("%Y-%m-%d")
    known = candidate.windows.index["label_known_at"].notna()
    return (as_of.between(span["first_as_of"], span["last_as_of"]) & known).to_numpy()


def _row(
    candidate: Candidate, night: Night, run_id: str, stage: str, reason: str
) -> dict[str, Any]:
    manifest: Manifest = candidate.trained.manifest
    return {
        "model": manifest.model,
        "model_version": candidate.model_version,
        "status": "trained",
        "stage": stage,
        "recipe": manifest.recipe,
        "feature_view": manifest.view,
        "feature_version": manifest.feature_version,
        "data_snapshot": manifest.data_snapshot,
        "cutoff": night.cutoff,
        "labels_known_at": manifest.labels_known_at.to_pydatetime(),
        "seed": manifest.seed,
        "backend": manifest.backend,
        "parameters": manifest.parameters,
        "spans": manifest.spans,
        "metrics": manifest.metrics,
        "baselines": manifest.baselines,
        "artefact": f"{manifest.model}/{candidate.model_version}",
        "artefact_sha256": candidate.trained.manifest_sha256,
        "reason": reason,
        "trained_at": datetime.now(UTC),
        "seconds": candidate.seconds,
        "run_id": run_id,
    }
