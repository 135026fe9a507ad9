"""Trials: one network or baseline of one system, under one protocol, with one seed.

A trial is an artefact like that of any version, in a folder of its own: what is there, whole,
and of the same recipe and data, is not trained again; what was killed goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from db.errors import RegistryError
from models import artefacts, backend, baselines, training
from models.artefacts import Manifest
from models.encoding import Floats
from models.examples import Examples
from models.recipes import Recipe, Task
from models.reproduction.systems import System
from models.spans import Spans
from models.training import Epoch

ProtocolName = Literal["book", "honest"]
CHAPTER = "chapter"


@dataclass(frozen=True)
class Trial:
    """What is trained or fitted.

    Attributes
    ----------
    system : name of its model.
    protocol : `book` or `honest`.
    recipe : of the network; of a baseline, the one whose inputs it sees, with the
        baseline's name as variant.
    inputs : variant of the recipe whose inputs a baseline sees.
    """

    system: str
    protocol: ProtocolName
    recipe: Recipe
    inputs: str

    @property
    def is_baseline(self) -> bool:
        """Whether nothing recurrent is in it."""
        return self.recipe.architecture == "baseline"

    @property
    def label(self) -> str:
        """Name of the forecaster, the same for all its seeds."""
        if self.is_baseline and self.inputs != CHAPTER:
            return f"{self.recipe.variant}, inputs of {self.inputs}"
        return self.recipe.variant

    @property
    def name(self) -> str:
        """What the folder is called."""
        of = f"{self.inputs}-" if self.is_baseline else ""
        return f"{of}{self.recipe.variant}-{self.recipe.seed}"

    def folder(self, root: Path) -> Path:
        """Where its artefact lies."""
        return root / self.system / self.protocol / self.name


@dataclass(frozen=True)
class Outcome:
    """A finished trial.

    Attributes
    ----------
    trial : what it is of.
    manifest : what it is.
    forecast : float64 (n, H, k), of the test span.
    folder : of its artefact.
    """

    trial: Trial
    manifest: Manifest
    forecast: Floats
    folder: Path


def trials(system: System, protocol: ProtocolName) -> Iterator[Trial]:
    """All trials of a system under a protocol: baselines first, then networks seed by seed."""
    networks: tuple[Recipe, ...]
    if protocol == "book":
        networks = (system.book,) if system.book is not None else ()
        seeds = system.book_seeds
    else:
        networks, seeds = system.recipes, system.seeds
    for recipe in networks:
        # what is forecast from a series needs no other inputs; what is learned of many does
        if recipe is networks[-1] or recipe.task in {"direction", "rank"}:
            yield from _baselines(system, protocol, recipe)
    for recipe in networks:
        for seed in range(seeds):
            one = recipe.with_changes(seed=recipe.seed + seed)
            yield Trial(system.name, protocol, one, recipe.variant)


def _baselines(system: System, protocol: ProtocolName, recipe: Recipe) -> Iterator[Trial]:
    """Baselines on the inputs of a recipe, that learn what it learns."""
    task: Task = "rank" if recipe.learns == "rank" else recipe.task
    for name in baselines.NAMES[task]:
        # a rule is the same on all inputs, and some do not hold what it is made of
        if recipe.variant != CHAPTER and not baselines.KINDS[name].learns:
            continue
        yield Trial(system.name, protocol, recipe.baseline(name, task), recipe.variant)


def run(
    trial: Trial,
    spans: Spans,
    root: Path,
    progress: Callable[[Epoch], None] | None = None,
) -> Outcome:
    """Train or fit a trial, or take up what is there.

    Parameters
    ----------
    trial : Trial
    spans : its spans, in raw units.
    root : folder of all trials.
    progress : called after each epoch.
    """
    folder = trial.folder(root)
    manifest = _found(folder, trial, spans)
    if manifest is None:
        made = (
            training.fit_baseline(trial.recipe, spans, folder)
            if trial.is_baseline
            else training.train(trial.recipe, spans, folder, progress=progress)
        )
        manifest = made.manifest
    return Outcome(trial, manifest, _forecast(folder, spans.test), folder)


def _found(folder: Path, trial: Trial, spans: Spans) -> Manifest | None:
    """The manifest of a whole artefact of the same recipe, data and spans."""
    return taken_up(
        folder,
        lambda manifest: (
            manifest.recipe == trial.recipe.to_json()
            and manifest.feature_version == spans.train.version
            and manifest.data_snapshot == spans.train.data_snapshot
            and manifest.spans == training.described(spans)
            and (trial.is_baseline or manifest.backend == backend.described())
        ),
    )


def _forecast(folder: Path, test: Examples) -> Floats:
    return beside(folder, lambda: artefacts.load(folder).forecast(test))


def taken_up(folder: Path, is_same: Callable[[Manifest], bool]) -> Manifest | None:
    """The manifest of a whole artefact that is the one that is wanted; any other is removed."""
    if not folder.exists():
        return None
    try:
        manifest = artefacts.verify(folder)
    except RegistryError:
        manifest = None
    if manifest is None or not is_same(manifest):
        shutil.rmtree(folder)
        return None
    return manifest


def beside(folder: Path, make: Callable[[], npt.NDArray[Any]], what: str = "") -> Floats:
    """What an artefact says of the test span, kept beside it.

    Parameters
    ----------
    folder : of the artefact.
    make : gives the array, if that of this artefact is not there.
    what : tells it from other arrays of the same artefact.
    """
    digest = artefacts.sha256(folder / artefacts.MANIFEST)[:16]
    stem = f"{folder.name}.{what}" if what else folder.name
    file = folder.with_name(f"{stem}.{digest}.npy")
    if file.exists():
        kept: Floats = np.load(file)
        return kept
    made = make()
    for old in folder.parent.glob(f"{stem}.{16 * '?'}.npy"):
        old.unlink()
    with file.with_suffix(".unfinished").open("wb") as stream:
        np.save(stream, made)
    file.with_suffix(".unfinished").rename(file)
    return made
