"""Artefacts: a trained network as files, with a manifest that says what they are.

A folder holds the files that its manifest lists, with their SHA-256, and the manifest;
anything else in it, or any difference, and it is refused before Keras is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import RegistryError
from models import baselines
from models.encoding import Arrays, Encoding, Floats

if TYPE_CHECKING:
    import keras

    from models.examples import Examples

FORMAT = "lookback-model-2"
MANIFEST = "manifest.json"
NETWORK = "model.keras"
GRAPH = "model.onnx"

# Every call of the network gets this many rows, the last one filled up: a window then
# has the same forecast to the last bit whichever windows it is scored with.
CHUNK = 1024

Kind = Literal["network", "baseline"]


@dataclass(frozen=True)
class Manifest:
    """What a trained version is and where it comes from.

    Attributes
    ----------
    kind : `network`, or `baseline` (`models.baselines`).
    model, variant, view, feature_version, data_snapshot : lineage.
    recipe : the recipe as JSON (`Recipe.from_json`).
    shape : what the version takes and gives, as JSON (`models.architectures.Shape`).
    spans : for `train`, `validation`, `test`: first and last `as_of`, first and last
        `label_known_at`, and the number of windows; `purged`: windows left out.
    trained_labels_known_at : UTC, ISO 8601: when the last label that was trained or
        stopped on became known. Nothing at or before it may be scored. None for what learns
        nothing.
    seed, backend, parameters : seed, backend with its version, number of weights.
    epochs, best_epoch : epochs run; the one whose weights were kept (from 1); 0 of a baseline.
    layers : of a network, one row each: name, kind, output shape, parameters.
    metrics, baselines : figures on the test span (`models.evaluation`), and the baselines'.
    quantiles : offsets from the errors of the validation span
        (`models.evaluation.ErrorQuantiles`), from which the quantiles of a forecast are made;
        None where there are none.
    gives_probability : whether a score is the probability of a rise.
    encoding : as JSON (`Encoding.from_json`); None of a baseline.
    versions : framework versions.
    weights_sha256 : hash of the weights' values: equal for equal trainings, which the
        file's hash is not (it holds the time of saving).
    files : file name -> SHA-256.
    """

    kind: Kind
    model: str
    variant: str
    view: str
    feature_version: str
    data_snapshot: str
    recipe: dict[str, Any]
    shape: dict[str, Any]
    spans: dict[str, Any]
    trained_labels_known_at: str | None
    seed: int
    backend: str
    parameters: int
    epochs: int
    best_epoch: int
    layers: list[dict[str, Any]]
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    quantiles: dict[str, Any] | None
    gives_probability: bool
    encoding: dict[str, Any] | None
    versions: dict[str, str]
    weights_sha256: str
    files: dict[str, str]
    format: str = FORMAT

    @property
    def labels_known_at(self) -> pd.Timestamp | None:
        """`trained_labels_known_at` as a UTC timestamp."""
        known = self.trained_labels_known_at
        return None if known is None else pd.Timestamp(known)


class Version(Protocol):
    """A verified version that can forecast, whatever is inside it."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""

    def forecast(self, examples: Examples) -> Floats:
        """Forecasts in the target's unit, or scores: float64 (n, H, k)."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A verified network with its encoding.

    Attributes
    ----------
    run : from the network's inputs to its outputs, (n, k) or (n, H, k).
    """

    manifest: Manifest
    encoding: Encoding
    run: Callable[[Arrays], npt.NDArray[Any]]

    def forecast(self, examples: Examples) -> Floats:
        """Forecasts in the target's unit, or scores: float64 (n, H, k)."""
        require_shape(self.manifest, examples)
        inputs = self.encoding.inputs(examples)
        return self.encoding.forecast(self.run(inputs), examples)


@dataclass(frozen=True)
class LoadedBaseline:
    """A verified baseline."""

    manifest: Manifest
    baseline: baselines.Baseline

    def forecast(self, examples: Examples) -> Floats:
        """Forecasts in the target's unit, or scores: float64 (n, H, k)."""
        require_shape(self.manifest, examples)
        return self.baseline.predict(examples).reshape(examples.y.shape)


def require_shape(manifest: Manifest, examples: Examples) -> None:
    """Refuse windows that the version was not trained on."""
    expected = (manifest.shape["window"], manifest.shape["n_features"])
    if examples.X.ndim != 3 or examples.X.shape[1:] != expected:
        raise RegistryError(
            f"model {manifest.model} takes windows of shape (n, {expected[0]}, "
            f"{expected[1]}), not {examples.X.shape}; it was trained on another version of the view"
        )


def keras_runner(network: keras.Model) -> Callable[[Arrays], npt.NDArray[Any]]:
    """Calls a network directly, in chunks of one size.

    `Model.predict` builds a data pipeline and traces a graph for each new shape.
    """
    import keras

    def run(inputs: Arrays) -> npt.NDArray[Any]:
        rows = len(next(iter(inputs.values())))
        outputs = [np.empty((0, *network.output_shape[1:]), dtype=np.float32)]
        for start in range(0, rows, CHUNK):
            stop = min(start + CHUNK, rows)
            filled = {}
            for tensor in network.inputs:
                name = tensor.name
                shape = inputs[name].shape if name in inputs else tensor.shape
                filled[name] = np.zeros((CHUNK, *shape[1:]), dtype=tensor.dtype)
                if name in inputs:
                    filled[name][: stop - start] = inputs[name][start:stop]
            result = keras.ops.convert_to_numpy(network(filled, training=False))
            outputs.append(result[: stop - start])
        return np.concatenate(outputs)

    return run


def load(folder: Path, manifest_sha256: str | None = None) -> Version:
    """Verify an artefact and read what is in it, without running code from it.

    A network that has an ONNX export is scored with that, and Keras is not imported.

    Parameters
    ----------
    folder : Path
        As `models.training` wrote it.
    manifest_sha256 : str, optional
        Hash of the manifest as the registry remembers it.

    Raises
    ------
    RegistryError
        If a file is missing, altered, foreign, or cannot be read in safe mode.
    """
    manifest = verify(folder, manifest_sha256)
    if manifest.recipe.get("task") == "sentiment":
        raise _refused(folder / MANIFEST, "is of a version that scores texts, not windows")
    if manifest.kind == "baseline":
        return LoadedBaseline(manifest, baselines.load(folder))
    if manifest.encoding is None:
        raise _refused(folder / MANIFEST, "lacks the encoding of its network")
    encoding = Encoding.from_json(manifest.encoding)
    if GRAPH in manifest.files:
        from models import onnx_graph

        return LoadedNetwork(manifest, encoding, onnx_graph.load(folder / GRAPH).forward)
    return LoadedNetwork(manifest, encoding, keras_runner(load_network(folder)))


def load_network(folder: Path) -> keras.Model:
    """The Keras network of a verified artefact, read in safe mode.

    Raises
    ------
    RegistryError
        It cannot be read in safe mode.
    """
    from models import backend

    backend.configure()
    import keras

    from models import layers  # noqa: F401  registers our own layers with Keras

    try:
        return keras.saving.load_model(folder / NETWORK, safe_mode=True, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RegistryError(
            f"{folder / NETWORK}: Keras cannot read it in safe mode ({reason}); train it again"
        ) from error


def verify(folder: Path, manifest_sha256: str | None = None) -> Manifest:
    """The manifest of an artefact whose files are exactly those that it lists.

    Reads every file once and imports no framework.

    Parameters
    ----------
    folder : Path
    manifest_sha256 : str, optional
        Hash of the manifest as the registry remembers it.

    Raises
    ------
    RegistryError
        If a file is missing, altered or foreign.
    """
    manifest = read_manifest(folder)
    if manifest_sha256 is not None and sha256(folder / MANIFEST) != manifest_sha256:
        raise _refused(folder / MANIFEST, "is not the manifest that the registry remembers")
    expected = {*manifest.files, MANIFEST}
    found = {path.name: path for path in folder.iterdir()}
    for name in sorted(expected - found.keys()):
        raise _refused(folder / name, "is missing")
    for name in sorted(found.keys() - expected):
        raise _refused(folder / name, "does not belong to the artefact")
    for name, path in sorted(found.items()):
        if path.is_symlink() or not path.is_file():
            raise _refused(path, "is not a plain file")
        if name != MANIFEST and sha256(path) != manifest.files[name]:
            raise _refused(path, "was altered after training")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write the manifest beside the files that it lists; its SHA-256."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return sha256(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, its files not yet verified."""
    path = folder / MANIFEST
    values = read_json(path)
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise _refused(path, f"is no manifest of format {FORMAT}")
    if values.keys() != {field.name for field in fields(Manifest)} or (
        NETWORK in values["files"]
    ) != (values["kind"] == "network"):
        raise _refused(path, "lacks fields or has unknown ones")
    return Manifest(**values)


def read_json(path: Path) -> Any:
    """What a JSON file of an artefact holds.

    Raises
    ------
    RegistryError
        It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _refused(path, "is missing") from None
    except (ValueError, OSError) as error:
        raise _refused(path, f"cannot be read ({type(error).__name__})") from None


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(path: Path, reason: str) -> RegistryError:
    return RegistryError(f"{path} {reason}; roll back to another version or train it again")
