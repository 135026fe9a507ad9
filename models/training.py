"""Training: fit a recipe in a process of its own and leave a whole artefact.

The process gets its memory and its GPU back to the machine when it ends. A folder appears
under its name only when it is complete; until then the work lies in a hidden folder beside
it, from which a training that was killed goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db.errors import DivergedError, TrainingError, UsageError
from features.catalog import feature_view
from models import artefacts, backend, baselines, tasks
from models import training_process as child
from models.artefacts import Manifest
from models.encoding import Encoding, Floats, blocks
from models.examples import Examples
from models.recipes import Fitted, Recipe
from models.spans import Spans

METRICS = "metrics.json"
ERRORS = "stderr.txt"
ARTEFACT_FILES = (
    artefacts.NETWORK,
    artefacts.GRAPH,
    child.HISTORY,
    child.LOSS_CURVE,
    METRICS,
)
# An epoch of a million windows takes minutes; one that takes longer than this hangs.
STALLED_SECONDS = 3600.0


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
    spans: Spans,
    folder: Path,
    *,
    baselines: Mapping[str, Any] | None = None,
    progress: Callable[[Epoch], None] | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> TrainedVersion:
    """Train one version of a model, or go on with a training that was killed.

    Parameters
    ----------
    recipe : Recipe
    spans : Spans
        In raw units, read at the cut-off of the training (`models.spans.split`).
    folder : Path
        Where the artefact is to lie; it must not exist yet. Beside it lies the work folder
        meanwhile.
    baselines : mapping, optional
        Figures of the baselines on the same test span, for the manifest.
    progress : callable, optional
        Called with an `Epoch` after each epoch, in this process.
    device : str, optional
        `cpu`, or the number of a CUDA device; whatever there is if left out.
    threads : int, optional
        Threads that one operation may use; the backend's own choice if left out.

    Raises
    ------
    DivergedError
        The loss is no longer a finite number.
    TrainingError
        The process died or hung; what it had done is kept for the next one.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; a trained version is never overwritten")
    encoding = Encoding.fit(recipe, spans.train)
    work = work_folder(folder)
    try:
        _begin(work, recipe, spans, encoding, threads)
        run_process(work, recipe, progress, device)
        manifest = _manifest(work, recipe, spans, encoding, dict(baselines or {}))
        manifest_sha256 = finish(work, manifest, folder)
    except DivergedError:
        shutil.rmtree(work)
        raise
    return TrainedVersion(folder, manifest, manifest_sha256)


def work_folder(folder: Path) -> Path:
    """Where a training works until it is finished."""
    return folder.with_name(f".{folder.name}.training")


def _begin(
    work: Path, recipe: Recipe, spans: Spans, encoding: Encoding, threads: int | None
) -> None:
    """Leave what the process needs."""
    request = {
        "recipe": recipe.to_json(),
        "shape": asdict(encoding.shape(recipe, spans.train)),
        "encoding": encoding.to_json(),
        "data_snapshot": spans.train.data_snapshot,
        "spans": {name: _describe(getattr(spans, name)) for name in child.SPANS},
        "backend": backend.described(),
        "threads": threads,
    }

    def write_arrays() -> None:
        for span in child.SPANS:
            _write_span(work, span, recipe, spans, encoding)

    write_request(work, request, write_arrays)


def write_request(work: Path, request: Mapping[str, Any], write_arrays: Callable[[], None]) -> None:
    """Leave a request in the work folder; a checkpoint stays only if it is of the same request.

    Parameters
    ----------
    work : Path
    request : mapping
        Says all that determines what is learned.
    write_arrays : callable
        Writes what is learned from into the work folder, which is there.
    """
    said = json.dumps(request)
    file = work / child.REQUEST
    if file.exists() and file.read_text(encoding="utf-8") == said:
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_arrays()
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(said, encoding="utf-8")
    unfinished.rename(file)


def _write_span(work: Path, span: str, recipe: Recipe, spans: Spans, encoding: Encoding) -> None:
    """The arrays of a span as files, block by block: a panel is never held twice."""
    examples = getattr(spans, span)
    window = np.lib.format.open_memmap(
        work / child.file_of(span, "window"), "w+", "float32", examples.X.shape
    )
    for rows in blocks(len(examples)):
        window[rows] = encoding.features.transform(examples.X[rows])
    window.flush()
    arrays = encoding.static(examples)
    if recipe.layers.get("teacher_forcing"):
        arrays[child.TEACHER] = encoding.teacher(examples)
    if span != "test":
        arrays[child.TARGET] = encoding.targets(examples)
    for name, array in arrays.items():
        np.save(work / child.file_of(span, name), array)


def run_process(
    work: Path, recipe: Fitted, progress: Callable[[Epoch], None] | None, device: str | None
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
        _stopped_if_it_hangs(process) as alive,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                alive()
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
    if process.returncode == child.DIVERGED:
        raise DivergedError(error or f"model {recipe.name}: the training diverged")
    if process.returncode != 0:
        raise TrainingError(error or _death(recipe, process.returncode, work / ERRORS))


@contextmanager
def _stopped_if_it_hangs(process: subprocess.Popen[str]) -> Iterator[Callable[[], None]]:
    """Kill a process that says nothing for too long; what is given is called at each word."""
    timer = threading.Timer(STALLED_SECONDS, process.kill)

    def alive() -> None:
        nonlocal timer
        timer.cancel()
        timer = threading.Timer(STALLED_SECONDS, process.kill)
        timer.daemon = True
        timer.start()

    alive()
    try:
        yield alive
        process.wait()
    finally:
        timer.cancel()


def _environment(device: str | None) -> dict[str, str]:
    """The environment of the child, in which it finds these packages."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **backend.environment(device), "PYTHONPATH": path}


def _epoch(report: dict[str, Any], recipe: Fitted, best: Epoch | None) -> Epoch:
    number, loss, val_loss = int(report["epoch"]), report["loss"], report["val_loss"]
    if best is None or val_loss < best.val_loss:
        return Epoch(number, recipe.most_epochs, loss, val_loss, number, val_loss)
    return Epoch(number, recipe.most_epochs, loss, val_loss, best.epoch, best.val_loss)


def _death(recipe: Fitted, returncode: int, errors: Path) -> str:
    """One line on how the process ended."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        how = f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    else:
        how = f"ended with exit code {returncode}"
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    tail = " | ".join(line.strip() for line in lines[-3:]) or "nothing on standard error"
    return (
        f"model {recipe.name}: the training process {how}; "
        f"the next one goes on from its last epoch: {tail}"
    )


def _manifest(
    work: Path, recipe: Recipe, spans: Spans, encoding: Encoding, baselines: dict[str, Any]
) -> Manifest:
    """What the version is, with its figures on the test span."""
    result = json.loads((work / child.RESULT).read_text(encoding="utf-8"))
    outputs = {
        span: np.load(work / child.file_of(span, "outputs")) for span in ("validation", "test")
    }
    forecast = encoding.forecast(outputs["validation"], spans.validation)
    offsets = tasks.quantiles(recipe, forecast, spans.validation)
    gives_probability = recipe.learns == "up"
    metrics = tasks.evaluate(
        recipe,
        encoding.forecast(outputs["test"], spans.test),
        spans.test,
        spans.train,
        probabilities=gives_probability,
        offsets=offsets,
    )
    write_json(work / METRICS, metrics)
    return Manifest(
        kind="network",
        **lineage(recipe, spans),
        shape=asdict(encoding.shape(recipe, spans.train)),
        spans=described(spans),
        trained_labels_known_at=spans.labels_known_at.isoformat(),
        metrics=metrics,
        baselines=baselines,
        quantiles=offsets.to_json() if offsets is not None else None,
        gives_probability=gives_probability,
        encoding=encoding.to_json(),
        files=hashes(work, ARTEFACT_FILES),
        **result,
    )


def lineage(recipe: Recipe, spans: Spans) -> dict[str, Any]:
    """The fields of a manifest that say where a version comes from."""
    return {
        "model": recipe.model,
        "variant": recipe.variant,
        "view": spans.train.view,
        "feature_version": spans.train.version,
        "data_snapshot": spans.train.data_snapshot,
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
    }


def described(spans: Spans) -> dict[str, Any]:
    """The spans of a manifest."""
    return {
        **{name: _describe(getattr(spans, name)) for name in child.SPANS},
        "purged": spans.purged,
    }


def _describe(span: Examples) -> dict[str, Any]:
    as_of, known_at = span.index["as_of"], span.index["label_known_at"]
    return {
        "first_as_of": as_of.min().date().isoformat(),
        "last_as_of": as_of.max().date().isoformat(),
        "first_label_known_at": known_at.min().isoformat(),
        "last_label_known_at": known_at.max().isoformat(),
        "windows": len(span),
    }


def hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of those files that there are."""
    return {name: artefacts.sha256(folder / name) for name in names if (folder / name).exists()}


def write_json(path: Path, values: Any) -> None:
    """Write JSON for people, too; a number that is none is an error."""
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def finish(work: Path, manifest: Manifest, folder: Path) -> str:
    """Leave only the artefact in the work folder and give it its name, in one step."""
    for path in work.iterdir():
        if path.name not in manifest.files:
            path.unlink()
    manifest_sha256 = artefacts.write_manifest(work, manifest)
    work.chmod(0o755)
    work.rename(folder)
    return manifest_sha256


def fit_baseline(recipe: Recipe, spans: Spans, folder: Path) -> TrainedVersion:
    """Fit a baseline, named by the recipe's variant, on the training span.

    Parameters
    ----------
    recipe : Recipe
        Says what is forecast, and of which windows.
    spans : Spans
        In raw units, read at the cut-off of the training.
    folder : Path
        Where the artefact is to lie; it must not exist yet.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; a trained version is never overwritten")
    work = work_folder(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    fitted = baselines.fit(
        recipe.variant, recipe.task, spans.train, recipe.seed, returns=_returns(recipe)
    )
    files = baselines.save(fitted, work)

    def forecast(span: Examples) -> Floats:
        return fitted.predict(span).reshape(span.y.shape)

    offsets = tasks.quantiles(recipe, forecast(spans.validation), spans.validation)
    metrics = tasks.evaluate(
        recipe,
        forecast(spans.test),
        spans.test,
        spans.train,
        probabilities=fitted.gives_probabilities,
        offsets=offsets,
    )
    write_json(work / METRICS, metrics)
    known_at = spans.train.index["label_known_at"].max() if fitted.learns else None
    listed = hashes(work, (*files, METRICS))
    manifest = Manifest(
        kind="baseline",
        **lineage(recipe, spans),
        shape={
            "window": spans.train.X.shape[1],
            "n_features": spans.train.X.shape[2],
            "outputs": spans.train.y.shape[2],
            "steps": recipe.steps,
        },
        spans=described(spans),
        trained_labels_known_at=known_at.isoformat() if known_at is not None else None,
        backend="baseline",
        parameters=fitted.parameters,
        epochs=0,
        best_epoch=0,
        layers=[],
        metrics=metrics,
        baselines={},
        quantiles=offsets.to_json() if offsets is not None else None,
        gives_probability=fitted.gives_probabilities,
        encoding=None,
        versions={},
        weights_sha256=baselines.weights_sha256(fitted),
        files=listed,
    )
    return TrainedVersion(folder, manifest, finish(work, manifest, folder))


def _returns(recipe: Recipe) -> int:
    """Feature of the window that holds the returns, for baselines that are made of them."""
    if recipe.variant not in {"reversal", "momentum"}:
        return 0
    view = feature_view(recipe.view)
    seen = recipe.features or view.names
    if view.target not in seen:
        raise TrainingError(
            f"baseline {recipe.name}: {view.target} is none of the features that it sees "
            f"({', '.join(seen)}); give it the inputs of a recipe that has it"
        )
    return seen.index(view.target)
