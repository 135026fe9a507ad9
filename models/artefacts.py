"""Artefacts: a trained network as files, with a manifest that says what they are.

A folder holds the files that its manifest lists, with their SHA-256, and the manifest;
anything else in it, or any difference, and it is refused before Keras is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import RegistryError
from models.recipes import Recipe
from models.scaling import Scaler

if TYPE_CHECKING:
    import keras

FORMAT = "lookback-model-1"
MANIFEST = "manifest.json"
NETWORK = "model.keras"

# Every call of the network gets this many rows, the last one filled up: a window then
# has the same forecast to the last bit whichever windows it is scored with.
CHUNK = 1024


@dataclass(frozen=True)
class Manifest:
    """What a trained version is and where it comes from.

    Attributes
    ----------
    model, view, feature_version, data_snapshot : lineage.
    recipe : the recipe as JSON (`Recipe.from_json`).
    window, n_features : shape (T, F) of a window.
    spans : for `train`, `validation`, `test`: first and last `as_of`, first and last
        `label_known_at`, and the number of windows; `purged`: windows left out.
    trained_labels_known_at : UTC, ISO 8601: when the last label that was trained or
        stopped on became known. Nothing at or before it may be scored.
    seed, backend, parameters : seed, backend with its version, number of weights.
    epochs, best_epoch : epochs run; the one whose weights were kept (from 1).
    metrics, baselines : figures on the test span (`models.evaluation`).
    scaler : ranges as JSON (`Scaler.from_json`).
    versions : framework versions.
    weights_sha256 : hash of the weights' values: equal for equal trainings, which the
        file's hash is not (it holds the time of saving).
    files : file name -> SHA-256.
    """

    model: str
    view: str
    feature_version: str
    data_snapshot: str
    recipe: dict[str, Any]
    window: int
    n_features: int
    spans: dict[str, Any]
    trained_labels_known_at: str
    seed: int
    backend: str
    parameters: int
    epochs: int
    best_epoch: int
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    scaler: dict[str, Any]
    versions: dict[str, str]
    weights_sha256: str
    files: dict[str, str]
    format: str = FORMAT

    @property
    def labels_known_at(self) -> pd.Timestamp:
        """`trained_labels_known_at` as a UTC timestamp."""
        return pd.Timestamp(self.trained_labels_known_at)


@dataclass(frozen=True)
class LoadedModel:
    """A verified network with its scaler."""

    manifest: Manifest
    recipe: Recipe
    scaler: Scaler
    network: keras.Model

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Forecasts of windows.

        Parameters
        ----------
        X : float32 (n, T, F), raw units, oldest step first.

        Returns
        -------
        float64 (n,), raw units; (n, k) of a network with k > 1 outputs.
        """
        expected = (self.manifest.window, self.manifest.n_features)
        if X.ndim != 3 or X.shape[1:] != expected:
            raise RegistryError(
                f"model {self.manifest.model} takes windows of shape (n, {expected[0]}, "
                f"{expected[1]}), not {X.shape}; it was trained on another version of the view"
            )
        raw = self.scaler.target.inverse(forward(self.network, self.scaler.features.transform(X)))
        return raw[:, 0] if raw.shape[1] == 1 else raw


def forward(network: keras.Model, scaled: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Outputs of a network, called directly in chunks of one size.

    `Model.predict` builds a data pipeline and traces a graph for each new shape.

    Parameters
    ----------
    network : keras.Model
    scaled : (n, T, F)

    Returns
    -------
    float64 (n, k), scaled.
    """
    import keras

    inputs = np.asarray(scaled, dtype=np.float32)
    outputs = [np.empty((0, network.output_shape[-1]))]
    for start in range(0, len(inputs), CHUNK):
        rows = inputs[start : start + CHUNK]
        filled = np.zeros((CHUNK, *rows.shape[1:]), dtype=np.float32)
        filled[: len(rows)] = rows
        result = keras.ops.convert_to_numpy(network(filled, training=False))
        outputs.append(result[: len(rows)])
    return np.concatenate(outputs).astype(np.float64)


def load(folder: Path, manifest_sha256: str | None = None) -> LoadedModel:
    """Verify an artefact and read it in Keras' safe mode.

    Parameters
    ----------
    folder : Path
        As `models.training.train` wrote it.
    manifest_sha256 : str, optional
        Hash of the manifest as the registry remembers it.

    Raises
    ------
    RegistryError
        If a file is missing, altered, foreign, or cannot be read in safe mode.
    """
    manifest = verify(folder, manifest_sha256)

    from models import backend

    backend.configure()
    import keras

    try:
        network = keras.saving.load_model(folder / NETWORK, safe_mode=True, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RegistryError(
            f"{folder / NETWORK}: Keras cannot read it in safe mode ({reason}); train it again"
        ) from error
    return LoadedModel(
        manifest, Recipe.from_json(manifest.recipe), Scaler.from_json(manifest.scaler), network
    )


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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _refused(path, "is missing") from None
    except (ValueError, OSError) as error:
        raise _refused(path, f"cannot be read ({type(error).__name__})") from None
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise _refused(path, f"is no manifest of format {FORMAT}")
    if (
        values.keys() != {field.name for field in fields(Manifest)}
        or NETWORK not in values["files"]
    ):
        raise _refused(path, "lacks fields or has unknown ones")
    return Manifest(**values)


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(path: Path, reason: str) -> RegistryError:
    return RegistryError(f"{path} {reason}; roll back to another version or train it again")
