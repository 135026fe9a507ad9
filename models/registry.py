"""The registry: versions of models, who is champion, and why.

A version is a folder under LOOKBACK_HOME/models and a row of `model_versions`; networks and
baselines alike. The row is written last: a training that was killed leaves a folder that the
next one takes up or goes on with, never a row without a network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from db.clock import Night
from db.errors import LookbackError, RegistryError
from db.settings import Settings
from db.tables import model_versions, promotions
from features.catalog import feature_view
from models import artefacts, backend, baselines, tasks, training
from models.artefacts import Manifest, Version
from models.examples import Examples, read_examples
from models.promotion import MEASURES, Contender, Verdict, beside_the_best_baseline, judge
from models.recipes import Recipe, Task
from models.spans import Spans
from models.text import versions as texts
from models.text.corpora import Corpus
from models.text.recipes import TASK, TextRecipe
from models.text.spans import TextSpans
from models.training import Epoch, TrainedVersion

if TYPE_CHECKING:
    from db.warehouse import Warehouse


@dataclass(frozen=True)
class ModelVersion:
    """One row of `model_versions`, as far as scoring and promotion need it."""

    model: str
    model_version: str
    status: str
    stage: str
    recipe: dict[str, Any]
    feature_view: str
    feature_version: str
    cutoff: datetime
    labels_known_at: datetime | None
    artefact: str | None
    artefact_sha256: str | None
    parameters: int | None
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    reason: str
    seconds: float

    @property
    def is_of_text(self) -> bool:
        """Whether it scores texts (`models.text.versions.load`), and not windows."""
        return bool(self.recipe["task"] == TASK)

    @property
    def made_by(self) -> Recipe:
        """The recipe that it was made by.

        Raises
        ------
        RegistryError
            It scores texts: see `text_recipe`.
        """
        if self.is_of_text:
            raise RegistryError(f"{self.model} {self.model_version} scores texts, not windows")
        return Recipe.from_json(self.recipe)

    @property
    def text_recipe(self) -> TextRecipe:
        """The recipe that a version of text was made by."""
        return TextRecipe.from_json(self.recipe)

    def artefact_in(self, settings: Settings) -> tuple[Path, str]:
        """Its folder, and the hash of the manifest in it.

        Raises
        ------
        RegistryError
            Its training failed.
        """
        if self.artefact is None or self.artefact_sha256 is None:
            raise RegistryError(f"{self.model} {self.model_version} failed: {self.reason}")
        return settings.home / "models" / self.artefact, self.artefact_sha256

    @property
    def summary(self) -> dict[str, Any]:
        """What a person wants to see first: what decides, of it and of the best baseline."""
        return {
            "model": self.model,
            "model_version": self.model_version,
            "stage": self.stage,
            "parameters": self.parameters,
            **beside_the_best_baseline(self.recipe, self.metrics, self.baselines),
            "labels_known_at": self.labels_known_at,
            "seconds": self.seconds,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Candidate:
    """A finished version on its way into the registry.

    Attributes
    ----------
    recipe : that it was made by; of a baseline, the one that it stands beside.
    model_version, trained : its name, and where it lies.
    test : the span that it is judged on.
    seconds : of training.
    taken_up : whether it was found finished, and not trained now.
    """

    recipe: Recipe | TextRecipe
    model_version: str
    trained: TrainedVersion
    test: Examples | Corpus
    seconds: float
    taken_up: bool = False


SELECT = """
    SELECT model, model_version, status, stage, recipe, feature_view, feature_version,
        cutoff, labels_known_at, artefact, artefact_sha256, parameters, metrics, baselines, reason,
        seconds
    FROM main.model_versions
"""
JSON_COLUMNS = (4, 12, 13)


def champion(warehouse: Warehouse, model: str) -> ModelVersion | None:
    """The version that scores, or None."""
    return _version(warehouse.one(f"{SELECT} WHERE model = ? AND stage = 'champion'", model))


def find(warehouse: Warehouse, model: str, model_version: str) -> ModelVersion | None:
    """That version, or None."""
    return _version(
        warehouse.one(f"{SELECT} WHERE model = ? AND model_version = ?", model, model_version)
    )


def past_champions(warehouse: Warehouse, model: str) -> Iterator[ModelVersion]:
    """Those that were champion before the one that is, the last one first."""
    seen = set()
    for (name,) in warehouse.sql(
        "SELECT replaced FROM ops.promotions WHERE model = ? AND replaced IS NOT NULL "
        "ORDER BY rowid DESC",  # as they happened: nights may be replayed in any order
        model,
    ):
        version = find(warehouse, model, name)
        if version is not None and version.stage != "champion" and name not in seen:
            seen.add(name)
            yield version


def champion_at(warehouse: Warehouse, model: str, instant: datetime) -> ModelVersion | None:
    """The version that scored at an instant by the nights' clock, or None where there was none.

    Parameters
    ----------
    instant : UTC
    """
    found = warehouse.one(
        """
        SELECT model_version
        FROM ops.promotions
        WHERE model = ? AND promoted_at <= ?
        ORDER BY promoted_at DESC, rowid DESC
        LIMIT 1
        """,
        model,
        instant,
    )
    return find(warehouse, model, found[0]) if found is not None else None


def _version(row: tuple[Any, ...] | None) -> ModelVersion | None:
    if row is None:
        return None
    values = list(row)
    for column in JSON_COLUMNS:
        values[column] = json.loads(values[column])
    return ModelVersion(*values)


def version_name(recipe: Recipe | TextRecipe, learned: Examples | TextSpans, night: Night) -> str:
    """Name of the version that this training makes: the same inputs give the same name."""
    determined_by = json.dumps(
        [recipe.to_json(), learned.version, learned.data_snapshot, backend.name()],
        sort_keys=True,
        default=str,
    )
    digest = hashlib.sha256(determined_by.encode()).hexdigest()[:8]
    return f"{night.session:%Y%m%d}-{recipe.variant}-{digest}"


# --------------------------------------------------------------------------- making versions


def fit_baselines(
    settings: Settings, recipe: Recipe, spans: Spans, night: Night
) -> list[Candidate]:
    """The baselines of a model's task, fitted on the training span of one of its recipes."""
    return [
        _baseline(settings, recipe.baseline(name), spans, night)
        for name in baselines.NAMES[recipe.task]
    ]


def _baseline(settings: Settings, recipe: Recipe, spans: Spans, night: Night) -> Candidate:
    return candidate(
        settings, recipe, spans, night, lambda folder: training.fit_baseline(recipe, spans, folder)
    )


def candidate(
    settings: Settings,
    recipe: Recipe | TextRecipe,
    spans: Spans | TextSpans,
    night: Night,
    fit: Callable[[Path], TrainedVersion],
) -> Candidate:
    """A version on its way into the registry, made by `fit` or found finished.

    Parameters
    ----------
    fit : trains into a folder that is not there yet, or goes on with a training there.
    """
    learned = spans if isinstance(spans, TextSpans) else spans.train
    name = version_name(recipe, learned, night)
    folder = settings.home / "models" / recipe.model / name
    began = time.perf_counter()
    found = _take_up(folder)
    trained = found or fit(folder)
    seconds = time.perf_counter() - began
    return Candidate(recipe, name, trained, spans.test, seconds, taken_up=found is not None)


def train(
    settings: Settings,
    recipe: Recipe,
    spans: Spans,
    night: Night,
    beside: Sequence[Candidate] = (),
    progress: Callable[[Epoch], None] | None = None,
    device: str | None = None,
) -> Candidate:
    """Train a version, go on with one that was killed, or take up one not registered yet.

    Parameters
    ----------
    beside : sequence of Candidate
        Baselines, whose figures the manifest holds, too.

    Raises
    ------
    DivergedError
        The loss is no longer a finite number.
    TrainingError
        A process that died.
    """
    figures = {each.recipe.variant: each.trained.manifest.metrics for each in beside}

    def fit(folder: Path) -> TrainedVersion:
        return training.train(
            recipe, spans, folder, baselines=figures, progress=progress, device=device
        )

    return candidate(settings, recipe, spans, night, fit)


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


# --------------------------------------------------------------------------- registering


def register(
    warehouse: Warehouse, candidates: Sequence[Candidate], night: Night, run_id: str
) -> list[ModelVersion]:
    """Write versions of one model into the registry and decide which one is champion.

    Raises
    ------
    RegistryError
        A version is registered, but the folder that was taken up is not the one that the
        registry remembers.
    TrainingError
        No version gives a finite forecast.
    """
    model = candidates[0].recipe.model
    new = [each for each in candidates if not _renewed(warehouse, each, night, run_id)]
    if new:
        incumbent = champion(warehouse, model)
        measured, gone = _contenders(warehouse, new, incumbent, night)
        name = incumbent.model_version if incumbent is not None and gone is None else None
        verdict = _verdict(measured, name, new[0].recipe)
        reason = verdict.reason if gone is None else f"{gone}; {verdict.reason}"
        with warehouse.transaction():
            for each in new:
                beaten = f"{verdict.version} is champion: {reason}"
                warehouse.upsert(
                    model_versions, _row(each, candidates, night, run_id, "challenger", beaten)
                )
            promote(warehouse, model, verdict.version, reason, run_id, night.time())
    registered = (find(warehouse, model, each.model_version) for each in candidates)
    return [version for version in registered if version is not None]


def register_walk_forward(
    warehouse: Warehouse, candidates: Sequence[Candidate], night: Night, run_id: str
) -> ModelVersion:
    """Write versions that a backfill may score with; the best of them, which stays no champion.

    It is chosen as a night of that cut-off would have chosen its first champion.

    Raises
    ------
    RegistryError, TrainingError
        As `register`.
    """
    model = candidates[0].recipe.model
    measured, _ = _contenders(warehouse, candidates, None, night)
    verdict = _verdict(measured, None, candidates[0].recipe)
    with warehouse.transaction():
        for each in candidates:
            if not _renewed(warehouse, each, night, run_id):
                reason = f"for a backfill; {verdict.version}: {verdict.reason}"
                row = _row(each, candidates, night, run_id, "walk-forward", reason)
                warehouse.upsert(model_versions, row)
    chosen = find(warehouse, model, verdict.version)
    if chosen is None:
        raise RegistryError(f"model {model} has lost its version {verdict.version}")
    return chosen


def record_failure(
    warehouse: Warehouse,
    recipe: Recipe | TextRecipe,
    spans: Spans | TextSpans,
    night: Night,
    run_id: str,
    reason: str,
) -> None:
    """Remember a training that diverged: it is no version that anybody could promote."""
    learned = spans if isinstance(spans, TextSpans) else spans.train
    warehouse.upsert(
        model_versions,
        {
            "model": recipe.model,
            "model_version": version_name(recipe, learned, night),
            "status": "failed",
            "stage": "retired",
            "recipe": recipe.to_json(),
            "feature_view": recipe.view,
            "feature_version": learned.version,
            "data_snapshot": learned.data_snapshot,
            "cutoff": night.cutoff,
            "labels_known_at": pd.Timestamp(spans.labels_known_at).to_pydatetime(),
            "seed": recipe.seed,
            "backend": backend.described(),
            "spans": spans.described()
            if isinstance(spans, TextSpans)
            else training.described(spans),
            "metrics": {},
            "baselines": {},
            "reason": reason,
            "trained_at": datetime.now(UTC),
            "seconds": 0.0,
            "run_id": run_id,
        },
    )


def _renewed(warehouse: Warehouse, candidate: Candidate, night: Night, run_id: str) -> bool:
    """Whether the version is registered; a damaged artefact that was made anew is, too."""
    known = find(warehouse, candidate.recipe.model, candidate.model_version)
    if known is None or known.status == "failed":
        return False
    if candidate.trained.manifest_sha256 == known.artefact_sha256:
        return True
    if candidate.taken_up:
        raise RegistryError(
            f"{candidate.trained.folder} is not the artefact that the registry remembers for "
            f"{known.model} {known.model_version}; remove the folder and train it again"
        )
    with warehouse.transaction():
        row = _row(candidate, (), night, run_id, known.stage, known.reason)
        warehouse.upsert(model_versions, row | {"baselines": known.baselines})
    return True


def promote(
    warehouse: Warehouse,
    model: str,
    model_version: str,
    reason: str,
    run_id: str,
    at: datetime | None = None,
) -> None:
    """Make a version champion and remember why; call inside a transaction.

    Parameters
    ----------
    at : UTC; by the clock of the night that promotes, the machine's if left out.

    Raises
    ------
    RegistryError
        There is no such version, or its training failed.
    """
    before = champion(warehouse, model)
    if before is not None and before.model_version == model_version:
        return
    found = find(warehouse, model, model_version)
    if found is None:
        raise RegistryError(
            f"model {model} has no version {model_version}; see: lookback models list"
        )
    if found.status == "failed":
        raise RegistryError(f"{model} {model_version} is no version to promote: {found.reason}")
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
            "promoted_at": at or datetime.now(UTC),
            "run_id": run_id,
        },
    )


def roll_back(warehouse: Warehouse, model: str, run_id: str) -> ModelVersion:
    """Make the champion before this one champion again; the version that is champion then.

    Raises
    ------
    RegistryError
        There was none before, or none of them can be loaded.
    """
    now = champion(warehouse, model)
    problem = "it never had another champion"
    for version in past_champions(warehouse, model):
        try:
            require_usable(warehouse.settings, version)
        except RegistryError as error:
            problem = str(error)
            continue
        reason = f"rolled back from {now.model_version}" if now is not None else "rolled back"
        with warehouse.transaction():
            promote(warehouse, model, version.model_version, reason, run_id)
        return version
    raise RegistryError(f"model {model} cannot be rolled back: {problem}")


def require_usable(settings: Settings, version: ModelVersion) -> None:
    """Refuse a version whose view has changed, or whose artefact is not what it was.

    Raises
    ------
    RegistryError
        In one line.
    """
    if not version.is_of_text:  # those have what they read in their artefact
        view = feature_view(version.feature_view)
        if version.feature_version != view.version:
            raise RegistryError(
                f"{version.model} {version.model_version} reads version "
                f"{version.feature_version} of {view.name}, which is now {view.version}; "
                f"run: lookback train {version.model}"
            )
    artefacts.verify(*version.artefact_in(settings))


def load(settings: Settings, version: ModelVersion) -> Version:
    """What forecasts in a version of windows, verified by hash and read in safe mode.

    Raises
    ------
    RegistryError
        The artefact is missing, altered or foreign, or scores texts.
    """
    return artefacts.load(*version.artefact_in(settings))


# --------------------------------------------------------------------------- judging


def _verdict(
    measured: Sequence[Contender], incumbent: str | None, recipe: Recipe | TextRecipe
) -> Verdict:
    overlap = recipe.steps if isinstance(recipe, Recipe) else 1
    return judge(measured, incumbent, MEASURES[recipe.task], overlap=overlap)


def _contenders(
    warehouse: Warehouse, new: Sequence[Candidate], incumbent: ModelVersion | None, night: Night
) -> tuple[list[Contender], str | None]:
    """New versions and the champion, measured on the examples that all of them have.

    The second value says why the champion cannot score any more, if so.
    """
    if isinstance(new[0].test, Corpus):
        return _contenders_of_text(warehouse, new, new[0].test, incumbent)
    forecasts = {
        each.model_version: (each.trained.manifest.kind, _windows(each), _forecast(each))
        for each in new
    }
    gone = None
    if incumbent is not None:
        begins = max(_windows(each).index["known_at"].min() for each in new)
        try:
            require_usable(warehouse.settings, incumbent)
            if incumbent.labels_known_at is None or incumbent.labels_known_at < begins:
                forecasts[incumbent.model_version] = _measured(warehouse, incumbent, new, night)
        except LookbackError as error:
            gone = f"the champion {incumbent.model_version} cannot score any more ({error})"
    keys = [_keys(test) for _, test, _ in forecasts.values()]
    common = keys[0]
    for other in keys[1:]:
        common = common.intersection(other, sort=False)
    task = new[0].trained.manifest.recipe["task"]
    return [
        Contender(name, kind, _losses(task, forecast, test, common))
        for name, (kind, test, forecast) in forecasts.items()
    ], gone


def _contenders_of_text(
    warehouse: Warehouse,
    new: Sequence[Candidate],
    test: Corpus,
    incumbent: ModelVersion | None,
) -> tuple[list[Contender], str | None]:
    """The same of text: what decides is which texts a version has learned from."""
    folders = [(each.model_version, each.trained.folder) for each in new]
    if incumbent is None:
        return texts.contenders(folders, None, test), None
    try:
        require_usable(warehouse.settings, incumbent)
        folder, _ = incumbent.artefact_in(warehouse.settings)
        return texts.contenders(folders, (incumbent.model_version, folder), test), None
    except RegistryError as error:
        gone = f"the champion {incumbent.model_version} cannot score any more ({error})"
        return texts.contenders(folders, None, test), gone


def _windows(candidate: Candidate) -> Examples:
    """What a version of windows is judged on."""
    assert isinstance(candidate.test, Examples)
    return candidate.test


def _forecast(candidate: Candidate) -> Any:
    return artefacts.load(candidate.trained.folder).forecast(_windows(candidate))


def _measured(
    warehouse: Warehouse, version: ModelVersion, new: Sequence[Candidate], night: Night
) -> tuple[artefacts.Kind, Examples, Any]:
    """The champion's forecasts of the span that decides."""
    loaded = load(warehouse.settings, version)
    test, features = _windows(new[0]), new[0].trained.manifest.recipe["features"]
    if version.feature_view != test.view or version.recipe["features"] != features:
        examples = read_examples(warehouse, version.made_by, night.cutoff)
        test = examples.take(examples.labelled & _keys(examples).isin(_keys(test)))
    return loaded.manifest.kind, test, loaded.forecast(test)


def _keys(examples: Examples) -> pd.MultiIndex:
    index = examples.index
    return pd.MultiIndex.from_arrays([index["entity"].astype("str"), index["as_of"]])


def _losses(task: Task, forecast: Any, test: Examples, common: pd.MultiIndex) -> pd.Series[float]:
    rows = _keys(test).get_indexer(common)
    return tasks.losses(task, forecast[rows], test.take(rows))


# --------------------------------------------------------------------------- rows


def _row(
    candidate: Candidate,
    beside: Sequence[Candidate],
    night: Night,
    run_id: str,
    stage: str,
    reason: str,
) -> dict[str, Any]:
    manifest: Manifest = candidate.trained.manifest
    known = manifest.labels_known_at
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
        "labels_known_at": known.to_pydatetime() if known is not None else None,
        "seed": manifest.seed,
        "backend": manifest.backend,
        "parameters": manifest.parameters,
        "spans": _in_order(manifest.spans),
        "metrics": _in_order(manifest.metrics),
        "baselines": _in_order(
            {
                each.recipe.variant: each.trained.manifest.metrics
                for each in beside
                if each.trained.manifest.kind == "baseline" and each is not candidate
            }
        ),
        "artefact": f"{manifest.model}/{candidate.model_version}",
        "artefact_sha256": candidate.trained.manifest_sha256,
        "reason": reason,
        "trained_at": datetime.now(UTC),
        "seconds": candidate.seconds,
        "run_id": run_id,
    }


def _in_order(values: dict[str, Any]) -> dict[str, Any]:
    """The same with its keys in order: a version that is taken up has them as its file does."""
    ordered: dict[str, Any] = json.loads(json.dumps(values, sort_keys=True))
    return ordered
