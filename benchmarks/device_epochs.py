"""Seconds an epoch on the device that Keras has, a card or a processor, for each kind of network.

    KERAS_BACKEND=jax python -m benchmarks.device_epochs [--windows 1000000] [--texts 25000]

Networks, batches and fit are those of the catalogs; windows and texts are made up, since their
values change nothing about the time. The second epoch counts: the first one compiles. `peak` is
what the device's own product of two large matrices reaches in float32 in the same run.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from models import architectures, backend, training_process
from models.architectures import Shape
from models.catalog import RECIPES
from models.text import networks
from models.text.catalog import RECIPES as TEXTS
from models.text.networks import TextShape

EPOCHS = 3
WEEKS, SYMBOLS, WIDTH = 52, 2_490, 8_192


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=25_000)
    asked = parser.parse_args()
    backend.prepare(42)
    print(f"{backend.described()} on {_device()}; peak {_peak() / 1e12:.1f} TFLOP/s")
    print(f"{'network':42} {'rows':>10} {'batch':>6} {'s an epoch':>11} {'rows/s':>11}")
    rng = np.random.default_rng(1)
    for recipe in RECIPES["equity_week_direction"]:
        for batch in (recipe.batch_size, 8 * recipe.batch_size):
            chosen = recipe.with_changes(batch_size=batch)
            _report(f"{recipe.name}", chosen, *_windows(chosen, asked.windows, rng))
    for name in ("text_sentiment_learned", "text_sentiment_reviews"):
        for recipe in TEXTS[name]:
            _report(recipe.name, recipe, *_texts(recipe, asked.texts, rng))
    return 0


def _windows(recipe: Any, rows: int, rng: np.random.Generator) -> tuple[Callable[[], Any], Any]:
    features = len(recipe.features) or 1
    arrays = {
        "window": rng.normal(size=(rows, WEEKS, features)).astype("float32"),
        "target": (rng.random((rows, 1)) < 0.5).astype("float32"),
    }
    if recipe.symbols:
        arrays["symbol"] = rng.integers(0, SYMBOLS, (rows, 1)).astype("int32")
    if recipe.months:
        arrays["month"] = np.eye(12, dtype="float32")[rng.integers(0, 12, rows)]
    shape = Shape(WEEKS, features, symbols=SYMBOLS if recipe.symbols else 0, months=recipe.months)
    return lambda: architectures.build(recipe.architecture, shape, recipe.layers), arrays


def _texts(recipe: Any, rows: int, rng: np.random.Generator) -> tuple[Callable[[], Any], Any]:
    outputs = 8 if recipe.learns == "ratings" else 1
    arrays = {
        "tokens": rng.integers(2, recipe.vocabulary, (rows, recipe.length)).astype("int32"),
        "target": np.eye(outputs, dtype="float32")[rng.integers(0, outputs, rows)]
        if outputs > 1
        else (rng.random((rows, 1)) < 0.5).astype("float32"),
    }
    if recipe.bigrams:
        arrays["bigrams"] = rng.integers(0, recipe.bigrams, (rows, recipe.length)).astype("int32")
    shape = TextShape(recipe.vocabulary, outputs, recipe.length, bigrams=recipe.bigrams)
    return lambda: networks.build(shape, recipe.layers), arrays


def _report(name: str, recipe: Any, build: Callable[[], Any], arrays: dict[str, Any]) -> None:
    few = {key: array[: max(64, len(array) // 100)] for key, array in arrays.items()}
    epochs = _Epochs()
    quick = (
        recipe.with_changes(max_epochs=EPOCHS, patience=EPOCHS, start=(), start_epochs=0)
        if (hasattr(recipe, "start_epochs"))
        else recipe.with_changes(max_epochs=EPOCHS, patience=EPOCHS)
    )
    training_process.fit(build(), quick, arrays, few, epochs)
    seconds = min(epochs.lengths[1:])
    rows = len(arrays["target"])
    print(
        f"{name:42} {rows:>10,} {recipe.batch_size:>6} {seconds:>11.2f} {rows / seconds:>11,.0f}",
        flush=True,
    )


class _Epochs(io.StringIO):
    """Takes the reports of a fit and notes how long each epoch took."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.lengths = time.perf_counter(), list[float]()

    def write(self, line: str) -> int:
        if line.strip() and "epoch" in json.loads(line):
            now = time.perf_counter()
            self.lengths.append(now - self.began)
            self.began = now
        return len(line)


def _device() -> str:
    if backend.name() == "jax":
        import jax

        return ", ".join(str(device.device_kind) for device in jax.devices())
    if backend.name() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import tensorflow as tf

    return ", ".join(device.name for device in tf.config.list_physical_devices())


def _peak() -> float:
    """Floating point operations a second of a large float32 product, as Keras runs it."""
    import keras

    side = WIDTH if "cpu" not in _device().lower() else WIDTH // 8
    one = keras.random.normal((side, side))
    best = np.inf
    for _ in range(4):
        began = time.perf_counter()
        product = keras.ops.matmul(one, one)
        float(keras.ops.sum(product))
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


if __name__ == "__main__":
    raise SystemExit(main())
