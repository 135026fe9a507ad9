"""Text versions: verified artefacts that turn texts into probabilities of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import RegistryError, TrainingError
from db.settings import Settings
from models import artefacts
from models.artefacts import Manifest
from models.promotion import Contender
from models.text import baselines
from models.text.corpora import Corpus
from models.text.encoding import Run, TextEncoding
from models.text.evaluation import losses
from models.text.spans import hashes

if TYPE_CHECKING:
    from models.registry import ModelVersion

Floats = npt.NDArray[np.float64]

# Hashes of the texts that a version has learned or stopped on (`models.text.spans.hashes`).
LEARNED = "learned.npy"
ENCODING = "encoding.json"
# Probabilities below it are taken for it when they are mixed.
LEAST = 1e-7
# Fewer texts decide nothing.
FEWEST_TEXTS = 50


class Scorer(Protocol):
    """What is inside a version: a network, or a baseline of text."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Worst first."""

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Of each class: (n, k)."""


@dataclass(frozen=True)
class Blend:
    """A baseline whose log probabilities are mixed with those of a network.

    Attributes
    ----------
    baseline : Scorer
    network_weight, baseline_weight : of the log probabilities of each, before they are brought
        to sum to 1 again.
    """

    baseline: Scorer
    network_weight: float
    baseline_weight: float

    def mixed(self, network: npt.NDArray[Any], baseline: npt.NDArray[Any]) -> Floats:
        """Probabilities from those of both: float64 (n, k)."""
        ours, theirs = (
            np.log(np.maximum(each.astype(np.float64), LEAST)) for each in (network, baseline)
        )
        scores = self.network_weight * ours + self.baseline_weight * theirs
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances: Floats = odds / odds.sum(axis=1, keepdims=True)
        return chances

    @classmethod
    def fit(
        cls,
        baseline: Scorer,
        network: npt.NDArray[Any],
        other: npt.NDArray[Any],
        labels: npt.NDArray[Any],
    ) -> Blend:
        """The weights with the least log loss on texts that neither has learned from.

        Parameters
        ----------
        network, other : (n, k), probabilities of the network and of the baseline.
        labels : (n,)
        """
        from scipy.optimize import minimize

        def loss(weights: Floats) -> float:
            mixed = cls(baseline, *weights.tolist()).mixed(network, other)
            return float(losses(mixed, labels).mean())

        found = minimize(loss, [0.5, 0.5], method="L-BFGS-B", bounds=[(0, 5), (0, 5)])
        # so many digits: the last ones of a minimum are noise
        ours, theirs = (round(float(weight), 3) for weight in found.x)
        return cls(baseline, ours, theirs)


@dataclass(frozen=True)
class TextNetwork:
    """A network with its encoding.

    Attributes
    ----------
    classes : worst first.
    encoding : TextEncoding
    run : from the network's inputs to its outputs.
    outputs : of the network.
    levels : stars that the outputs are of; empty where they are classes.
    blend : None where the network speaks alone.
    """

    classes: tuple[str, ...]
    encoding: TextEncoding
    run: Run
    outputs: int
    levels: tuple[int, ...] = ()
    blend: Blend | None = None

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Of each class: float32 (n, k)."""
        given = self.by_class(self.encoding.scored(texts, self.run, self.outputs))
        if self.blend is None:
            return given
        other = self.blend.baseline.probabilities(texts)
        return self.blend.mixed(given, other).astype(np.float32)

    def stars(self, texts: Sequence[str]) -> Floats:
        """Expected stars of each text, where the network learned them: float64 (n,)."""
        given = self.encoding.scored(texts, self.run, self.outputs).astype(np.float64)
        expected: Floats = given @ np.asarray(self.levels, np.float64)
        return expected

    def by_class(self, given: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities of classes from what the network gives: float32 (n, k)."""
        if self.levels:
            good = given[:, [level > MIDDLE for level in self.levels]].sum(axis=1, keepdims=True)
            return np.concatenate([1 - good, good], axis=1)
        if self.outputs == 1:
            return np.concatenate([1 - given, given], axis=1)
        return given


# Stars above it are a good review (Maas et al. 2011: 1 to 4 are bad, 7 to 10 good).
MIDDLE = 5


@dataclass(frozen=True)
class TextVersion:
    """A verified version that can score texts, whatever is inside it."""

    manifest: Manifest
    scorer: Scorer

    @property
    def classes(self) -> tuple[str, ...]:
        """`negative`, perhaps `neutral`, `positive`."""
        return self.scorer.classes

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Of each class: float32 (n, k), in the order of `classes`.

        A text has the same to the last bit whichever texts it is scored with. A text of no
        token is one of a word that nobody knows.
        """
        if not len(texts):
            return np.empty((0, len(self.classes)), np.float32)
        return self.scorer.probabilities(texts).astype(np.float32)

    def sentiment(self, texts: Sequence[str]) -> Floats:
        """P(positive) - P(negative): float64 (n,), from -1 to 1."""
        given = self.probabilities(texts).astype(np.float64)
        return given[:, -1] - given[:, 0]


def load(settings: Settings, version: ModelVersion) -> TextVersion:
    """What scores texts in a registered version, verified by hash and read in safe mode.

    Raises
    ------
    RegistryError
        It is no version of text; its training failed; the artefact is missing, altered or
        foreign.
    """
    if not version.is_of_text:
        raise RegistryError(
            f"{version.model} {version.model_version} scores windows of {version.feature_view}, "
            "not texts"
        )
    folder, sha256 = version.artefact_in(settings)
    return load_folder(folder, sha256)


def load_folder(folder: Path, manifest_sha256: str | None = None) -> TextVersion:
    """Verify an artefact and read what is in it, without running code from it.

    Parameters
    ----------
    folder : Path
        As `models.text.training` wrote it.
    manifest_sha256 : str, optional
        Hash of the manifest as the registry remembers it.

    Raises
    ------
    RegistryError
        A file is missing, altered, foreign, or cannot be read in safe mode.
    """
    manifest = artefacts.verify(folder, manifest_sha256)
    if manifest.kind == "baseline":
        return TextVersion(manifest, baselines.load(folder))
    return TextVersion(manifest, network_in(folder, manifest.recipe["classes"], manifest.encoding))


def network_in(
    folder: Path, classes: Sequence[str], described: dict[str, Any] | None
) -> TextNetwork:
    """The network of a folder whose files are what they were.

    Parameters
    ----------
    folder : Path
    classes : worst first.
    described : the `encoding` of its manifest, as `describe` makes it.

    Raises
    ------
    RegistryError
        It is no network of text, or cannot be read.
    """
    if described is None or described.keys() != {"outputs", "levels", "blend"}:
        raise RegistryError(
            f"{folder} holds no network of text; roll back to another version or train it again"
        )
    encoding = TextEncoding.from_json(artefacts.read_json(folder / ENCODING))
    if (folder / artefacts.GRAPH).exists():
        from models import onnx_graph

        run: Run = onnx_graph.load(folder / artefacts.GRAPH).forward
    else:
        run = artefacts.keras_runner(artefacts.load_network(folder))
    blend = None
    if described["blend"] is not None:
        weights = described["blend"]["network_weight"], described["blend"]["baseline_weight"]
        blend = Blend(baselines.load(folder), *weights)
    levels = tuple(described["levels"])
    return TextNetwork(tuple(classes), encoding, run, described["outputs"], levels, blend)


def contenders(
    new: Sequence[tuple[str, Path]], incumbent: tuple[str, Path] | None, test: Corpus
) -> list[Contender]:
    """New versions and the champion, measured on the texts that none of them has learned from.

    Parameters
    ----------
    new : name and folder of each new version.
    incumbent : those of the champion, verified; left out of what is returned where it has
        learned from too many of the texts.
    test : texts that are measured on.

    Raises
    ------
    TrainingError
        A new version has learned from all of the texts.
    """
    numbers = hashes(test.texts)
    everybody = [*new, *([incumbent] if incumbent is not None else [])]
    unseen = np.ones(len(test), bool)
    for name, folder in everybody:
        left = unseen & ~np.isin(numbers, _learned(folder))
        if left.sum() >= FEWEST_TEXTS:
            unseen = left
        elif (name, folder) == incumbent:
            everybody = list(new)
        else:
            raise TrainingError(
                f"{name} has learned from all but {left.sum()} of the texts of {test.name}; "
                "measure it on others"
            )
    judged = test.take(unseen)

    def measured(name: str, folder: Path) -> Contender:
        version = load_folder(folder)
        loss = losses(version.probabilities(judged.texts), judged.labels)
        return Contender(name, version.manifest.kind, pd.Series(loss))

    return [measured(name, folder) for name, folder in everybody]


def _learned(folder: Path) -> npt.NDArray[np.uint64]:
    path = folder / LEARNED
    return np.load(path, allow_pickle=False) if path.exists() else np.empty(0, np.uint64)
