"""The process that fits: `python -m models.training_process FOLDER`.

Reads what `models.training` left in the folder, fits, and leaves the network, its
history, the loss curve and the forecasts of the test span. Each epoch is one line of
JSON on standard output; nothing else is written there. When the process ends, the
memory and the GPU that it held come back.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from db.errors import LookbackError, TrainingError
from models import architectures, artefacts, backend, loss_curve
from models.recipes import Recipe

if TYPE_CHECKING:
    import keras

REQUEST = "request.json"
RESULT = "result.json"
HISTORY = "history.json"
LOSS_CURVE = "loss.png"
FORECASTS = "forecasts.npy"

VALIDATION_BATCH = 1024


def run(folder: Path, report: TextIO) -> None:
    """Fit the recipe of a folder and leave the results in it."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    recipe = Recipe.from_json(request["recipe"])
    arrays = {path.stem: np.load(path) for path in folder.glob("[Xy]_*.npy")}
    backend.prepare(recipe.seed, request["threads"])

    network = architectures.build(recipe, *arrays["X_train"].shape[1:])
    history = fit(network, recipe, arrays, report)
    best_epoch = int(np.argmin(history["val_loss"])) + 1

    network.save(folder / artefacts.NETWORK)
    np.save(folder / FORECASTS, artefacts.forward(network, arrays["X_test"]))
    _write(folder / HISTORY, history)
    loss_curve.draw(recipe.name, history, best_epoch, folder / LOSS_CURVE)
    result = {
        "backend": backend.described(),
        "versions": backend.versions(),
        "parameters": network.count_params(),
        "epochs": len(history["loss"]),
        "best_epoch": best_epoch,
        "weights_sha256": weights_sha256(network),
    }
    _write(folder / RESULT, result)


def fit(
    network: keras.Model, recipe: Recipe, arrays: dict[str, Any], report: TextIO
) -> dict[str, list[float]]:
    """Fit with early stopping on the validation span; the best weights stay.

    Parameters
    ----------
    network : keras.Model
        Untrained; changed in place.
    recipe : Recipe
    arrays : dict
        `X_train`, `X_validation` (n, T, F) and `y_train`, `y_validation` (n, k), scaled.
    report : text file
        Gets one JSON line for each epoch.

    Returns
    -------
    dict
        `loss` and `val_loss` of each epoch.

    Raises
    ------
    TrainingError
        If a loss is no longer a finite number.
    """
    import keras

    optimizer = keras.optimizers.get(
        {
            "class_name": recipe.optimizer,
            "config": {"learning_rate": recipe.learning_rate, "clipnorm": recipe.clipnorm},
        }
    )
    network.compile(optimizer=optimizer, loss=recipe.loss, **backend.fit_options())
    stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss", mode="min", patience=recipe.patience, restore_best_weights=True
    )
    fitted = network.fit(
        shuffled_batches(arrays["X_train"], arrays["y_train"], recipe),
        validation_data=(arrays["X_validation"], arrays["y_validation"]),
        validation_batch_size=VALIDATION_BATCH,
        shuffle=False,
        epochs=recipe.max_epochs,
        callbacks=[_epoch_reports(recipe, report), stopping],
        verbose=0,
    )
    return {name: [float(v) for v in fitted.history[name]] for name in ("loss", "val_loss")}


def weights_sha256(network: keras.Model) -> str:
    """Hash of the values of all weights, in their order."""
    import hashlib

    digest = hashlib.sha256()
    for weights in network.get_weights():
        digest.update(str(weights.shape).encode())
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()


def shuffled_batches(X: Any, y: Any, recipe: Recipe) -> keras.utils.PyDataset:
    """Batches in an order that is drawn anew for each epoch, the same on every backend.

    Seeded, Keras' own shuffling repeats one order in all epochs on TensorFlow (3.15 with
    2.21): the last batches then bend every epoch the same way, here to a bias of 26 index
    points and an RMSE of 40.5 on the test span instead of 31.7.
    """
    import keras

    class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.draw = np.random.default_rng(recipe.seed)
            self.order = self.draw.permutation(len(X))

        def __len__(self) -> int:
            return math.ceil(len(X) / recipe.batch_size)

        def __getitem__(self, batch: int) -> tuple[Any, Any]:
            start = batch * recipe.batch_size
            rows = self.order[start : start + recipe.batch_size]
            return X[rows], y[rows]

        def on_epoch_end(self) -> None:
            self.order = self.draw.permutation(len(X))

    return ShuffledBatches()


def _epoch_reports(recipe: Recipe, report: TextIO) -> keras.callbacks.Callback:
    """A callback that reports each epoch and stops at a loss that is no number."""
    import keras

    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        losses = {name: float(logs[name]) for name in ("loss", "val_loss")}
        if not all(math.isfinite(loss) for loss in losses.values()):
            raise TrainingError(
                f"model {recipe.name}: the loss is {losses['loss']} (validation "
                f"{losses['val_loss']}) after epoch {epoch + 1}; look for missing values in view "
                f"{recipe.view}, lower the learning rate or set clipnorm in its recipe"
            )
        print(json.dumps({"epoch": epoch + 1, **losses}), file=report, flush=True)

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main() -> int:
    """Run on the folder named on the command line; 0 good, 1 failed."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the reports
    try:
        run(Path(sys.argv[1]), report)
    except LookbackError as error:
        print(json.dumps({"error": str(error)}), file=report, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
