"""Training: from windows and a recipe to a trained version in a folder.

The fit runs in a process of its own (`models.training_process`), so that its memory
and its GPU come back, and a crash in it is an error here. The folder appears only when
everything in it is finished.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db.errors import TrainingError, UsageError
from features.windows import Windows
from models import artefacts, backend, baselines, evaluation
from models import training_process as child
from models.artefacts import Manifest
from models.recipes import Recipe
from models.scaling import Scaler
from models.spans import Spans, split

METRICS = "metrics.json"
ERRORS = "stderr.txt"
ARTEFACT_FILES = (artefacts.NETWORK, child.HISTORY, child.LOSS_CURVE, METRICS)


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch.

    Attributes
    ----------
    epoch, max_epochs : counted from 1; the most there can be.
    loss, val_loss : training and validation loss, scaled units.
    best_epoch, best_val_loss : the best so far.
    """

    epoch: int
    max_epochs: int
    loss: float
    val_loss: float
    best_epoch: int
    best_val_loss: float


@dataclass(frozen=True)
class TrainedVersion:
    """A finished training.

    Attributes
    ----------
    folder : holds the artefact (`models.artefacts`).
    manifest : what it is.
    manifest_sha256 : for the registry to remember.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str


def train(
    recipe: Recipe,
    windows: Windows,
    folder: Path,
    *,
    progress: Callable[[Epoch], None] | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> TrainedVersion:
    """Train one version of a model.

    Parameters
    ----------
    recipe : Recipe
    windows : Windows
        X (n, T, F) and y (n,) in raw units, read at the cut-off of the training.
    folder : Path
        Where the artefact is to lie; it must not exist yet. Its parent holds the work
        folder meanwhile.
    progress : callable, optional
        Called with an `Epoch` after each epoch, in this process.
    device : str, optional
        `cpu`, or the number of a CUDA device; whatever there is if left out.
    threads : int, optional
        Threads that one operation may use; the backend's own choice if left out.

    Raises
    ------
    TrainingError
        If there are too few windows, the loss diverged, or the process died.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; a trained version is never overwritten")
    spans = split(windows, recipe.validation_sessions, recipe.test_sessions, recipe.train_from)
    scaler = Scaler.fit(recipe.scaling, spans.train.X, spans.train.y)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".training", dir=folder.parent))
    try:
        _write_request(work, recipe, spans, scaler, threads)
        _run_process(work, recipe, progress, device)
        metrics = _evaluate(work, spans, scaler)
        manifest = _manifest(work, recipe, spans, scaler, metrics)
        manifest_sha256 = _finish(work, manifest, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return TrainedVersion(folder, manifest, manifest_sha256)


def _write_request(
    work: Path, recipe: Recipe, spans: Spans, scaler: Scaler, threads: int | None
) -> None:
    for name in ("train", "validation", "test"):
        span: Windows = getattr(spans, name)
        X = scaler.features.transform(span.X).astype(np.float32)
        y = scaler.target.transform(span.y[:, None]).astype(np.float32)
        np.save(work / f"X_{name}.npy", X)
        np.save(work / f"y_{name}.npy", y)
    request = {"recipe": recipe.to_json(), "threads": threads}
    (work / child.REQUEST).write_text(json.dumps(request), encoding="utf-8")


def _run_process(
    work: Path, recipe: Recipe, progress: Callable[[Epoch], None] | None, device: str | None
) -> None:
    """Run the fit to its end and pass its reports on."""
    command = [sys.executable, "-P", "-m", "models.training_process", str(work)]
    best: Epoch | None = None
    error: str | None = None
    with (
        (work / ERRORS).open("wb") as stderr,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            env=_environment(device),
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                report = json.loads(line)
                error = report.get("error", error)
                if "epoch" not in report:
                    continue
                epoch = _epoch(report, recipe, best)
                best = epoch if epoch.epoch == epoch.best_epoch else best
                if progress is not None:
                    progress(epoch)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise TrainingError(error or _death(recipe, process.returncode, work / ERRORS))


def _environment(device: str | None) -> dict[str, str]:
    """The environment of the child, in which it finds these packages."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **backend.environment(device), "PYTHONPATH": path}


def _epoch(report: dict[str, Any], recipe: Recipe, best: Epoch | None) -> Epoch:
    number, loss, val_loss = int(report["epoch"]), report["loss"], report["val_loss"]
    if best is None or val_loss < best.val_loss:
        return Epoch(number, recipe.max_epochs, loss, val_loss, number, val_loss)
    return Epoch(number, recipe.max_epochs, loss, val_loss, best.epoch, best.val_loss)


def _death(recipe: Recipe, returncode: int, errors: Path) -> str:
    """One line on how the process ended."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        how = f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    else:
        how = f"ended with exit code {returncode}"
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    tail = " | ".join(line.strip() for line in lines[-3:]) or "nothing on standard error"
    return f"model {recipe.name}: the training process {how}; nothing was kept: {tail}"


def _evaluate(work: Path, spans: Spans, scaler: Scaler) -> dict[str, Any]:
    """Figures of the forecasts on the test span, the baselines' beside them."""
    scaled = np.load(work / child.FORECASTS)
    forecast = scaler.target.inverse(scaled)[:, 0]
    X, actual, width = spans.test.X, spans.test.y, float(scaler.target.width[0])
    metrics = {
        "model": evaluation.evaluate_levels(forecast, actual, baselines.persistence(X), width),
        "baselines": evaluation.evaluate_baselines(X, actual, width),
    }
    text = json.dumps(metrics, indent=1, allow_nan=False)
    (work / METRICS).write_text(text + "\n", encoding="utf-8")
    return metrics


def _manifest(
    work: Path, recipe: Recipe, spans: Spans, scaler: Scaler, metrics: dict[str, Any]
) -> Manifest:
    windows = spans.train
    result = json.loads((work / child.RESULT).read_text(encoding="utf-8"))
    described = {name: _describe(getattr(spans, name)) for name in ("train", "validation", "test")}
    return Manifest(
        model=recipe.name,
        view=windows.view,
        feature_version=windows.version,
        data_snapshot=windows.data_snapshot,
        recipe=recipe.to_json(),
        window=windows.X.shape[1],
        n_features=windows.X.shape[2],
        spans={**described, "purged": spans.purged},
        trained_labels_known_at=spans.labels_known_at.isoformat(),
        seed=recipe.seed,
        metrics=metrics["model"],
        baselines=metrics["baselines"],
        scaler=scaler.to_json(),
        files={name: artefacts.sha256(work / name) for name in ARTEFACT_FILES},
        **result,
    )


def _describe(span: Windows) -> dict[str, Any]:
    as_of, known_at = span.index["as_of"], span.index["label_known_at"]
    return {
        "first_as_of": as_of.min().date().isoformat(),
        "last_as_of": as_of.max().date().isoformat(),
        "first_label_known_at": known_at.min().isoformat(),
        "last_label_known_at": known_at.max().isoformat(),
        "windows": len(span),
    }


def _finish(work: Path, manifest: Manifest, folder: Path) -> str:
    """Leave only the artefact in the work folder and give it its name, in one step."""
    for path in work.iterdir():
        if path.name not in ARTEFACT_FILES:
            path.unlink()
    manifest_sha256 = artefacts.write_manifest(work, manifest)
    work.chmod(0o755)
    work.rename(folder)
    return manifest_sha256
