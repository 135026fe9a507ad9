"""The process that fits: `python -m models.training_process FOLDER`.

Reads what `models.training` left in the folder, fits, and leaves the network, its
history, the loss curve and its outputs on the validation and test spans. Each epoch is one
line of JSON on standard output; nothing else is written there. When the process ends, the
memory and the GPU that it held come back. Killed, it goes on from its last epoch when it is
started again on the same folder.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import numpy.typing as npt

from db.errors import DivergedError, LookbackError
from models import architectures, artefacts, backend, checkpoints, loss_curve, onnx_graph
from models.encoding import Arrays
from models.recipes import Fitted, Recipe
from models.text import networks
from models.text.networks import TextShape
from models.text.recipes import TASK, TextRecipe

if TYPE_CHECKING:
    import keras

History = dict[str, list[float]]

REQUEST = "request.json"
RESULT = "result.json"
HISTORY = "history.json"
LOSS_CURVE = "loss.png"
CHECKPOINT = "checkpoint.npz"
SPANS = ("train", "validation", "test")
# What a text network learns from before, and the vectors that its words come with.
START, VECTORS = "start", "vectors.npy"
# Exit code of a training whose loss is no longer a finite number.
DIVERGED = 4
TARGET, TEACHER, WEIGHT = "target", "teacher", "weight"

VALIDATION_BATCH = 4096
# Steps of a batch that is not learned from, all windows or texts together.
VALIDATION_STEPS = 262_144
# What an ONNX export may differ from the network that it was made of.
SAME_TO = 1e-5
# One in so many epochs is the beginning of the cosine schedule, in which the rate rises.
WARM_UP = 10


def file_of(span: str, array: str) -> str:
    """Name of the file that holds one array of a span."""
    return f"{span}.{array}.npy"


def run(folder: Path, report: TextIO) -> None:
    """Fit the recipe of a folder and leave the results in it."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    recipe = _recipe(request["recipe"])
    spans = {span: _arrays(folder, span) for span in SPANS}
    if isinstance(recipe, TextRecipe):
        network, history = _fit_members(folder, recipe, request, spans, report)
    else:
        network, history = _fit_one(folder, recipe, request, spans, report)
    best_epoch = int(np.argmin(history["val_loss"])) + 1

    network.save(folder / artefacts.NETWORK)
    outputs = _runner(network, folder, spans["validation"])
    for span in ("validation", "test"):
        if spans[span]:
            np.save(folder / file_of(span, "outputs"), outputs(spans[span]))
    _write(folder / HISTORY, history)
    loss_curve.draw(recipe.name, history, best_epoch, folder / LOSS_CURVE)
    result = {
        "backend": backend.described(),
        "versions": backend.versions(),
        "parameters": network.count_params(),
        "layers": _layers(network),
        "epochs": len(history["loss"]),
        "best_epoch": best_epoch,
        "weights_sha256": weights_sha256(network),
    }
    _write(folder / RESULT, result)


def _recipe(values: dict[str, Any]) -> Recipe | TextRecipe:
    of_text = values["task"] == TASK
    return TextRecipe.from_json(values) if of_text else Recipe.from_json(values)


def _fit_one(
    folder: Path, recipe: Recipe, request: Any, spans: dict[str, Arrays], report: TextIO
) -> tuple[keras.Model, History]:
    """The network of a recipe of windows, fitted."""
    backend.prepare(recipe.seed, request["threads"])
    shape = architectures.Shape(**request["shape"])
    network = architectures.build(recipe.architecture, shape, recipe.layers)
    history = fit(network, recipe, spans["train"], spans["validation"], report, folder / CHECKPOINT)
    return network, history


def _fit_members(
    folder: Path, recipe: TextRecipe, request: Any, spans: dict[str, Arrays], report: TextIO
) -> tuple[keras.Model, History]:
    """The networks of a text recipe, one after the other, as one; their histories likewise."""
    shape = TextShape(**request["shape"])
    file = folder / VECTORS
    vectors = np.load(file, mmap_mode="r") if file.exists() else None
    validation, before = spans["validation"], _arrays(folder, START)
    members: list[keras.Model] = []
    history: History = {}
    for number in range(recipe.members):
        own = recipe.with_changes(seed=recipe.seed + number)
        backend.prepare(own.seed, request["threads"])
        network = networks.build(shape, recipe.layers, vectors)
        stages = {START: (own.beginning, before), "train": (own, spans["train"])}
        for name, (stage, arrays) in stages.items():
            if arrays:
                checkpoint = folder / f"{number}.{name}.{CHECKPOINT}"
                done = len(history.get("loss", []))
                fitted = fit(network, stage, arrays, validation, report, checkpoint, done)
                history = {each: history.get(each, []) + fitted[each] for each in fitted}
        members.append(network)
    return networks.mean_of(members), history


def _arrays(folder: Path, span: str) -> Arrays:
    """The arrays of a span, left on disk: what is read is what the memory holds."""
    found = {path.name.split(".")[1]: path for path in folder.glob(file_of(span, "*"))}
    return {name: np.load(path, mmap_mode="r") for name, path in found.items() if name != "outputs"}


def _runner(
    network: keras.Model, folder: Path, validation: Arrays
) -> Callable[[Arrays], npt.NDArray[Any]]:
    """How the version will be scored: by its ONNX export, where that gives what Keras gives."""
    keras_outputs = artefacts.keras_runner(network)
    try:
        onnx_graph.export(network, folder / artefacts.GRAPH)
        onnx_outputs = onnx_graph.load(folder / artefacts.GRAPH).forward
    except onnx_graph.NotExportable:
        (folder / artefacts.GRAPH).unlink(missing_ok=True)
        return keras_outputs
    some = {name: array[: artefacts.CHUNK] for name, array in validation.items()}
    difference = np.abs(keras_outputs(some) - onnx_outputs(some))
    if not (difference <= SAME_TO * (1 + np.abs(keras_outputs(some)))).all():
        (folder / artefacts.GRAPH).unlink()
        return keras_outputs
    return onnx_outputs


def fit(
    network: keras.Model,
    recipe: Fitted,
    train: Arrays,
    validation: Arrays,
    report: TextIO,
    checkpoint: Path | None = None,
    done: int = 0,
) -> History:
    """Fit with early stopping on the validation span; the best weights stay.

    Parameters
    ----------
    network : keras.Model
        Untrained; changed in place.
    recipe : Recipe or TextRecipe
    train, validation : dict
        The network's inputs by name, and `target`; all scaled. `weight` (n,), if it is there, is
        how much each row counts.
    report : text file
        Gets one JSON line for each epoch.
    checkpoint : Path, optional
        Written after each epoch; if it is there already, the fit goes on from it, and ends
        as if it had not been interrupted.
    done : int
        Epochs that were reported before.

    Returns
    -------
    dict
        `loss`, `val_loss` and `learning_rate` of each epoch.

    Raises
    ------
    TrainingError
        If a loss is no longer a finite number.
    """
    options = backend.fit_options()
    if networks.TOKENS in train:
        # a step of a text network is long: several in one call only take long to compile
        options |= {"steps_per_execution": 1}
    network.compile(
        optimizer=_optimizer(recipe, math.ceil(len(train[TARGET]) / recipe.batch_size)),
        loss=recipe.loss,
        **options,
    )
    network.optimizer.build(network.trainable_variables)
    watch = checkpoints.Watch.resumed(network, recipe, checkpoint)
    inputs = [tensor.name for tensor in network.inputs]
    network.fit(
        shuffled_batches(train, inputs, recipe, first_epoch=watch.epochs),
        validation_data=({name: validation[name] for name in inputs}, validation[TARGET]),
        validation_batch_size=min(VALIDATION_BATCH, VALIDATION_STEPS // train[inputs[0]].shape[1]),
        shuffle=False,
        initial_epoch=watch.epochs,
        epochs=watch.epochs if watch.is_over else recipe.max_epochs,
        callbacks=[watch.callback(report, done)],
        verbose=0,
    )
    watch.restore_best()
    return watch.history


def _optimizer(recipe: Fitted, steps_an_epoch: int) -> keras.optimizers.Optimizer:
    import keras

    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        warm_up = max(1, recipe.max_epochs * steps_an_epoch // WARM_UP)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=recipe.learning_rate / WARM_UP,
            decay_steps=recipe.max_epochs * steps_an_epoch - warm_up,
            warmup_target=recipe.learning_rate,
            warmup_steps=warm_up,
        )
    optimizer = keras.optimizers.get(recipe.optimizer)
    config = optimizer.get_config() | {
        "learning_rate": rate,
        "clipnorm": recipe.clipnorm,
        "weight_decay": recipe.weight_decay,
    }
    return type(optimizer)(**config)


def _layers(network: keras.Model) -> list[dict[str, Any]]:
    """One row for each layer, in order."""
    return [
        {
            "name": layer.name,
            "kind": type(layer).__name__,
            "output": _shape_of(layer.output),
            "parameters": layer.count_params(),
        }
        for layer in network.layers
    ]


def _shape_of(output: Any) -> str:
    """The shape of what a layer gives; of several outputs the first, which is what it forecasts."""
    first = output[0] if isinstance(output, list | tuple) else output
    return str(tuple(first.shape))


def weights_sha256(network: keras.Model) -> str:
    """Hash of the values of all weights, in their order."""
    import hashlib

    digest = hashlib.sha256()
    for weights in network.get_weights():
        digest.update(str(weights.shape).encode())
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()


def shuffled_batches(
    arrays: Arrays, inputs: Sequence[str], recipe: Fitted, first_epoch: int = 0
) -> keras.utils.PyDataset:
    """Batches in an order that is drawn anew for each epoch, the same on every backend.

    Seeded, Keras' own shuffling repeats one order in all epochs on TensorFlow (3.15 with
    2.21): the last batches then bend every epoch the same way, here to a bias of 26 index
    points and an RMSE of 40.5 on the test span instead of 31.7.

    An incomplete last batch is left out: it would be compiled for itself, and the next epoch
    has another order. Where the network is told the symbol, or words, some are hidden.

    Parameters
    ----------
    arrays : dict
        The inputs and `target`, and `weight` if there is one, `n` rows each.
    inputs : sequence of str
        Those that the network takes.
    recipe : Recipe or TextRecipe
        Gives batch size, what is hidden and seed.
    first_epoch : int
        Counted from 0; an epoch's order depends on the seed and its number only.
    """
    import keras

    target = arrays[TARGET]
    batch_size = min(recipe.batch_size, len(target))

    groups = _by_length(arrays, recipe)

    class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.epoch = first_epoch
            self.draw()

        def draw(self) -> None:
            draw = np.random.default_rng([recipe.seed, self.epoch])
            self.batches = [
                (order[start : start + batch_size], length)
                for length, rows in groups
                for order in [draw.permutation(rows)]
                for start in range(0, len(rows) - batch_size + 1, batch_size)
            ]
            if len(groups) > 1:
                self.batches = [self.batches[at] for at in draw.permutation(len(self.batches))]
                _differing_first(self.batches)

        def __len__(self) -> int:
            return len(self.batches)

        def __getitem__(self, batch: int) -> tuple[Any, ...]:
            rows, length = self.batches[batch]
            given = {name: arrays[name][rows] for name in inputs}
            if length is not None:
                given = {name: array[:, :length] for name, array in given.items()}
            draw = np.random.default_rng([recipe.seed, self.epoch, batch])
            for name, (share, unknown) in recipe.hidden.items():
                if name in given and share:
                    # 0 of a text is no word that could be hidden
                    hidden = (draw.random(given[name].shape) < share) & (given[name] != 0)
                    given[name] = np.where(hidden, unknown, given[name])
                    if networks.BIGRAMS in given:
                        given[networks.BIGRAMS] = np.where(hidden, 0, given[networks.BIGRAMS])
            if WEIGHT in arrays:
                return given, target[rows], arrays[WEIGHT][rows]
            return given, target[rows]

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self.draw()

    return ShuffledBatches()


def _by_length(arrays: Arrays, recipe: Fitted) -> list[tuple[int | None, npt.NDArray[np.intp]]]:
    """Rows by the length that they are cut to; all of them, and None, where it is one.

    Padded to the longest, texts of the length of reviews take more than twice as long. Where
    a length has less than a batch, they are all of one.
    """
    rows = np.arange(len(arrays[TARGET]))
    if len(recipe.lengths) < 2:
        return [(None, rows)]
    used = np.count_nonzero(arrays[networks.TOKENS], axis=1)
    group = np.searchsorted(recipe.lengths[:-1], used)
    groups = [(length, rows[group == at]) for at, length in enumerate(recipe.lengths)]
    if min(len(found) for _, found in groups) < recipe.batch_size:
        return [(None, rows)]
    return list(groups)


def _differing_first(batches: list[tuple[npt.NDArray[np.intp], int | None]]) -> None:
    """Let the first two batches differ in length: from these Keras learns what may differ."""
    first = batches[0][1]
    other = next((at for at, (_, length) in enumerate(batches) if length != first), 1)
    batches[1], batches[other] = batches[other], batches[1]


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main() -> int:
    """Run on the folder named on the command line; 0 good, 1 failed, 4 diverged."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the reports
    try:
        run(Path(sys.argv[1]), report)
    except LookbackError as error:
        print(json.dumps({"error": str(error)}), file=report, flush=True)
        return DIVERGED if isinstance(error, DivergedError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
