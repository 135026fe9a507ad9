"""Checkpoints: a fit that was killed goes on, and ends as if it had not been.

What a fit is made of is the values of all variables (weights, optimizer, the states of random
generators), how far it was, and which epoch was best. All of it is one file, replaced whole.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from db.errors import DivergedError
from models.recipes import Fitted

if TYPE_CHECKING:
    import keras

LOSSES = ("loss", "val_loss")


@dataclass
class Watch:
    """Watches a fit: reports each epoch, keeps the best weights, says when to stop.

    Attributes
    ----------
    network, recipe : what is fitted, and how.
    file : checkpoint that is written after each epoch, or None.
    history : values of each epoch so far: `loss`, `val_loss`, `learning_rate`.
    best : weights of the best epoch, as `get_weights` gives them; None before the first.
    """

    network: keras.Model
    recipe: Fitted
    file: Path | None = None
    history: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in (*LOSSES, "learning_rate")}
    )
    best: list[npt.NDArray[Any]] | None = None

    @classmethod
    def resumed(cls, network: keras.Model, recipe: Fitted, file: Path | None) -> Watch:
        """A watch over a fit that begins, or goes on from its checkpoint."""
        watch = cls(network, recipe, file)
        if file is not None and file.exists():
            watch._read(file)
        return watch

    @property
    def epochs(self) -> int:
        """Epochs that are over."""
        return len(self.history["loss"])

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, from 1; 0 before the first."""
        losses = self.history["val_loss"]
        return int(np.argmin(losses)) + 1 if losses else 0

    @property
    def is_over(self) -> bool:
        """Whether patience is at its end, or the last epoch is done."""
        waited = self.epochs - self.best_epoch
        return self.epochs >= self.recipe.max_epochs or waited >= self.recipe.patience

    def callback(self, report: TextIO, done: int = 0) -> keras.callbacks.Callback:
        """The callback that feeds this watch; one line of JSON for each epoch to `report`.

        Parameters
        ----------
        done : epochs of other fits that were reported before.
        """
        import keras

        def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
            self._take(logs)
            losses = {name: self.history[name][-1] for name in LOSSES}
            print(json.dumps({"epoch": done + epoch + 1, **losses}), file=report, flush=True)
            if self.is_over:
                self.network.stop_training = True

        return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)

    def restore_best(self) -> None:
        """Give the network the weights of its best epoch."""
        if self.best is not None:
            self.network.set_weights(self.best)

    def _take(self, logs: dict[str, float]) -> None:
        losses = {name: float(logs[name]) for name in LOSSES}
        if not all(math.isfinite(loss) for loss in losses.values()):
            raise DivergedError(
                f"model {self.recipe.name}: the loss is {losses['loss']} (validation "
                f"{losses['val_loss']}) after epoch {self.epochs + 1}; look for missing values in "
                f"view {self.recipe.view}, lower the learning rate or set clipnorm in its recipe"
            )
        for name, loss in losses.items():
            self.history[name].append(loss)
        rate = self.network.optimizer.learning_rate
        self.history["learning_rate"].append(float(np.asarray(rate)))
        if self.best_epoch == self.epochs:
            self.best = self.network.get_weights()
        if self.file is not None:
            self._write(self.file)

    def _variables(self) -> dict[str, Any]:
        variables = [*self.network.variables, *self.network.optimizer.variables]
        return {f"variable_{number}": variable for number, variable in enumerate(variables)}

    def _write(self, file: Path) -> None:
        import keras

        state = {
            name: keras.ops.convert_to_numpy(variable)
            for name, variable in self._variables().items()
        }
        best = {f"best_{number}": weights for number, weights in enumerate(self.best or [])}
        unfinished = file.with_suffix(".unfinished")
        with unfinished.open("wb") as stream:
            np.savez(stream, allow_pickle=False, history=json.dumps(self.history), **state, **best)
        os.replace(unfinished, file)

    def _read(self, file: Path) -> None:
        """Take up a checkpoint; one that cannot be read is as if there were none."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                values = {name: stored[name] for name in self._variables()}
                history = json.loads(str(stored["history"]))
                count = len(self.network.get_weights())
                best = [stored[f"best_{number}"] for number in range(count)]
        except (ValueError, KeyError, OSError, EOFError, BadZipFile):
            file.unlink()
            return
        for name, variable in self._variables().items():
            variable.assign(values[name])
        self.history, self.best = history, best
