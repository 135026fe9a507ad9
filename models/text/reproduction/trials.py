"""Trials of text: one network or baseline, with one seed, on one part of a corpus.

As those of `models.reproduction.trials`: what is there, whole, and of the same recipe and texts,
is not trained again; what was killed goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from models import backend
from models.artefacts import Manifest
from models.encoding import Floats
from models.reproduction.trials import ProtocolName, beside, taken_up
from models.text import training
from models.text.recipes import BASELINES, TextRecipe
from models.text.spans import TextSpans
from models.text.vectors import Vectors
from models.text.versions import TextNetwork, load_folder
from models.training import Epoch

ALONE = "alone"


@dataclass(frozen=True)
class TextTrial:
    """What is trained or fitted.

    Attributes
    ----------
    protocol : `book` or `honest`.
    recipe : of the network; of a baseline as `TextRecipe.baseline` makes it.
    part : of the corpora that it learns from; empty where it is their own training part.
    """

    protocol: ProtocolName
    recipe: TextRecipe
    part: str = ""

    @property
    def is_baseline(self) -> bool:
        """Whether nothing recurrent is in it."""
        return self.recipe.variant in BASELINES

    @property
    def label(self) -> str:
        """Name of the model on the page, the same for all its seeds and parts."""
        if self.is_baseline:
            return self.recipe.variant
        return f"{self.recipe.model.removeprefix('text_sentiment_')}, {self.recipe.variant}"

    @property
    def name(self) -> str:
        """What the folder is called."""
        of = f"{self.part}-" if self.part else ""
        return f"{of}{self.recipe.variant}-{self.recipe.seed}"

    def folder(self, root: Path) -> Path:
        """Where its artefact lies."""
        return root / self.recipe.model / self.protocol / self.name


@dataclass(frozen=True)
class TextOutcome:
    """A finished trial.

    Attributes
    ----------
    trial : what it is of.
    manifest : what it is.
    probabilities : float64 (n, k), of the test texts.
    alone : those of the network without the baseline that is mixed with it; None where none is.
    folder : of its artefact.
    """

    trial: TextTrial
    manifest: Manifest
    probabilities: Floats
    alone: Floats | None
    folder: Path


def run(
    trial: TextTrial,
    spans: TextSpans,
    root: Path,
    vectors: Vectors | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> TextOutcome:
    """Train or fit a trial, or take up what is there.

    Parameters
    ----------
    trial : TextTrial
    spans : its texts. A baseline, which stops on nothing, learns from the validation texts too.
    root : folder of all trials.
    vectors : that the recipe's words come with.
    progress : called after each epoch.
    """
    folder = trial.folder(root)
    if trial.is_baseline:
        spans = spans.for_baseline()
    elif vectors is not None:
        spans = spans.with_vectors(vectors)
    manifest = taken_up(
        folder,
        lambda found: (
            found.recipe == trial.recipe.to_json()
            and found.data_snapshot == spans.data_snapshot
            and found.spans == spans.described()
            and (trial.is_baseline or found.backend == backend.described())
        ),
    )
    if manifest is None:
        made = (
            training.fit_baseline(trial.recipe, spans, folder)
            if trial.is_baseline
            else training.train(trial.recipe, spans, folder, vectors=vectors, progress=progress)
        )
        manifest = made.manifest
    texts = spans.test.texts
    if trial.recipe.blend is None:
        given = beside(folder, lambda: load_folder(folder).probabilities(texts))
        return TextOutcome(trial, manifest, given.astype("float64"), None, folder)
    alone = beside(folder, lambda: _alone(folder, texts), ALONE).astype("float64")
    given = beside(folder, lambda: _mixed(folder, texts, alone))
    return TextOutcome(trial, manifest, given.astype("float64"), alone, folder)


def _alone(folder: Path, texts: tuple[str, ...]) -> npt.NDArray[Any]:
    return replace(_network(folder), blend=None).probabilities(texts)


def _mixed(folder: Path, texts: tuple[str, ...], alone: Floats) -> npt.NDArray[Any]:
    """What the version gives, without scoring the texts by its network once more."""
    blend = _network(folder).blend
    assert blend is not None
    return blend.mixed(alone, blend.baseline.probabilities(texts)).astype("float32")


def _network(folder: Path) -> TextNetwork:
    scorer = load_folder(folder).scorer
    assert isinstance(scorer, TextNetwork)
    return scorer
