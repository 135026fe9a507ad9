"""Training the chapter's stacked network: the book's recipe beside ours, on the book's panel.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.training epoch [--windows 1000000]
    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.training race [--symbols 250]

The book's recipe is Keras on TensorFlow with the layers as Keras makes them, Adam, batches of
32, windows newest first. Ours is the recipe of the catalog, fitted as `lookback train` fits it,
on Keras' JAX backend. Each side runs in a process of its own, one after the other, on two cores.

`epoch` times one full epoch of each (compilation counted apart where it can be) and the largest
resident memory. `race` trains both until they stop, on some symbols, and looks at the clock:
when did each first reach the best validation AUC that the book's recipe ever had. The floor is
the arithmetic of forward and backward pass (three times the forward's) at the speed of a large
matrix product.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.stopwatch import peak_mb
from benchmarks.reference import reference_folder
from benchmarks.scoring import flops, sgemm_flops
from benchmarks.stores import SURVIVORS, in_own_process
from models import architectures, backend, training_process
from models.catalog import EQUITY_WEEK_DIRECTION
from models.encoding import Encoding
from models.reproduction.book import equity_week_direction

MODULE = "benchmarks.training"
INPUTS = ("window", "symbol", "month")
BOOK_BATCH = 32
# Of the race: the most epochs of either side, and without a better validation loss.
MOST_EPOCHS, PATIENCE = 20, 4
# A forward and a backward pass cost about three forward ones.
PASSES = 3


def prepare(folder: Path, symbols: int | None, windows: int | None) -> dict[str, Any]:
    """Write the arrays that both sides are given; what they are."""
    recipe = EQUITY_WEEK_DIRECTION
    spans = equity_week_direction(reference_folder(), symbols).spans
    train = spans.train
    if windows is not None:
        train = train.take(slice(max(0, len(train) - windows), len(train)))
    encoding = Encoding.fit(recipe, train)
    for name, span in (("train", train), ("validation", spans.validation)):
        arrays = {**encoding.inputs(span), "target": encoding.targets(span)}
        for part, values in arrays.items():
            np.save(folder / training_process.file_of(name, part), values)
    shape = encoding.shape(recipe, train)
    (folder / "shape.json").write_text(json.dumps(shape.__dict__))
    return {"windows": len(train), "symbols": shape.symbols - 1}


def arrays_of(folder: Path, span: str) -> dict[str, Any]:
    """The arrays of a span, mapped from their files."""
    return {
        name: np.load(folder / training_process.file_of(span, name), mmap_mode="r")
        for name in (*INPUTS, "target")
    }


def shape_of(folder: Path) -> architectures.Shape:
    """What the network takes."""
    return architectures.Shape(**json.loads((folder / "shape.json").read_text()))


class Clock:
    """Validation AUC after each epoch, and the seconds of training until then."""

    def __init__(self, validation: dict[str, Any]) -> None:
        self.validation = validation
        self.network: Any = None
        self.epochs: list[dict[str, float]] = []
        self.spent = 0.0
        self.began = time.perf_counter()

    def look(self) -> None:
        """Stop the clock, measure, and go on."""
        from sklearn.metrics import roc_auc_score

        self.spent += time.perf_counter() - self.began
        given = {name: np.asarray(self.validation[name]) for name in INPUTS}
        scores = self.network.predict(given, batch_size=4_096, verbose=0).ravel()
        auc = float(roc_auc_score(self.validation["target"] > 0.5, scores))
        self.epochs.append({"seconds": self.spent, "auc": auc})
        print(f"{len(self.epochs)}: {self.spent:.0f} s, AUC {auc:.4f}", file=sys.stderr)
        self.began = time.perf_counter()


def book(folder: Path, epochs: int) -> dict[str, Any]:
    """The book's recipe, as its notebook writes it."""
    backend.prepare(EQUITY_WEEK_DIRECTION.seed)
    import keras

    shape = shape_of(folder)
    train, validation = arrays_of(folder, "train"), arrays_of(folder, "validation")
    window = keras.Input((shape.window, 1), name="window")
    symbol = keras.Input((1,), dtype="int32", name="symbol")
    month = keras.Input((architectures.MONTHS,), name="month")
    first = keras.layers.LSTM(25, dropout=0.2, return_sequences=True)(window)
    second = keras.layers.LSTM(10, dropout=0.2)(first)
    row = keras.layers.Flatten()(keras.layers.Embedding(shape.symbols, 10)(symbol))
    hidden = keras.layers.Dense(10)(keras.layers.Concatenate()([second, row, month]))
    output = keras.layers.Dense(1, activation="sigmoid")(hidden)
    network = keras.Model({"window": window, "symbol": symbol, "month": month}, output)
    network.compile(loss="binary_crossentropy", optimizer="adam")
    clock = Clock(validation)
    clock.network = network
    looks = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: clock.look())
    stops = keras.callbacks.EarlyStopping(monitor="val_loss", patience=PATIENCE)
    network.fit(
        {name: np.asarray(train[name]) for name in INPUTS},
        np.asarray(train["target"]),
        batch_size=BOOK_BATCH,
        epochs=epochs,
        validation_data=({n: np.asarray(validation[n]) for n in INPUTS}, validation["target"]),
        validation_batch_size=4_096,
        callbacks=[looks, stops] if epochs > 1 else [looks],
        verbose=0,
    )
    return {"epochs": clock.epochs, "flops": flops(network_of(shape))}


def network_of(shape: architectures.Shape) -> Any:
    """The network of the catalog's recipe."""
    return architectures.build(
        EQUITY_WEEK_DIRECTION.architecture, shape, EQUITY_WEEK_DIRECTION.layers
    )


def ours(folder: Path, epochs: int) -> dict[str, Any]:
    """The catalog's recipe, fitted as a training fits it."""
    recipe = EQUITY_WEEK_DIRECTION.with_changes(max_epochs=epochs, patience=PATIENCE)
    backend.prepare(recipe.seed)
    shape = shape_of(folder)
    train, validation = arrays_of(folder, "train"), arrays_of(folder, "validation")
    network = network_of(shape)
    clock = Clock(validation)
    clock.network = network

    class Looks(StringIO):
        def write(self, text: str) -> int:
            if text.startswith("{"):
                clock.look()
            return len(text)

    training_process.fit(network, recipe, train, validation, Looks())
    return {"epochs": clock.epochs, "batch": recipe.batch_size}


def side(name: str, folder: str, epochs: int) -> dict[str, Any]:
    """One side in a process of its own, on its backend."""
    arguments = ["--side", name, "--folder", folder, "--epochs", str(epochs)]
    found: dict[str, Any] = in_own_process(
        MODULE, arguments, KERAS_BACKEND="tensorflow" if name == "book" else "jax"
    )
    return found


def epoch(folder: str, made: dict[str, Any]) -> None:
    """One epoch of each; of ours a second one, for what compilation costs."""
    from flows.display import print_table

    found = {"book": side("book", folder, 1), "ours": side("ours", folder, 2)}
    seconds = {
        "book": found["book"]["epochs"][0]["seconds"],
        "ours": found["ours"]["epochs"][0]["seconds"],
        "ours, the next one": found["ours"]["epochs"][1]["seconds"]
        - found["ours"]["epochs"][0]["seconds"],
    }
    rows = [
        (name, made["windows"], took, made["windows"] / took, found[name.split(",")[0]]["peak_mb"])
        for name, took in seconds.items()
    ]
    title = f"one epoch of {made['windows']:,} windows, {os.cpu_count()} cores"
    print_table(["side", "windows", "seconds", "windows/s", "peak MB"], rows, title)
    print(f"ours is {seconds['book'] / seconds['ours']:.1f} times as fast, compilation included")
    work, speed = PASSES * found["book"]["flops"], sgemm_flops()
    print(
        f"floor: {work / 1e6:.2f} MFLOP a window, sgemm {speed / 1e9:,.0f} GFLOP/s: "
        f"{made['windows'] * work / speed:.0f} s an epoch"
    )


def race(folder: str, made: dict[str, Any]) -> None:
    """Both to their end; when each first had the best AUC of the book's recipe."""
    from flows.display import print_table

    found = {name: side(name, folder, MOST_EPOCHS) for name in ("book", "ours")}
    best = max(each["auc"] for each in found["book"]["epochs"])
    reached = {
        name: next((e["seconds"] for e in each["epochs"] if e["auc"] >= best), None)
        for name, each in found.items()
    }
    rows = [
        (
            name,
            len(each["epochs"]),
            each["epochs"][-1]["seconds"],
            max(e["auc"] for e in each["epochs"]),
            reached[name],
        )
        for name, each in found.items()
    ]
    title = f"{made['symbols']} symbols, {made['windows']:,} windows, {os.cpu_count()} cores"
    columns = ["side", "epochs", "seconds in all", "best AUC", f"seconds to AUC {best:.4f}"]
    print_table(columns, rows, title)
    if reached["ours"] is None:
        print("ours never reached the book's best validation AUC")
    else:
        print(f"ours is there {reached['book'] / reached['ours']:.1f} times as soon")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["epoch", "race"], default="epoch")
    parser.add_argument("--windows", type=int, default=1_000_000, help="of the epoch")
    parser.add_argument("--symbols", type=int, default=250, help="of the race")
    parser.add_argument("--side", choices=["book", "ours"], help="one side, as JSON")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    if given.side:
        found = (book if given.side == "book" else ours)(given.folder, given.epochs)
        print(json.dumps(found | {"peak_mb": peak_mb()}))
        return 0
    with tempfile.TemporaryDirectory(prefix="lookback-") as folder:
        if given.what == "epoch":
            epoch(folder, prepare(Path(folder), None, given.windows))
        else:
            race(folder, prepare(Path(folder), given.symbols, None))
    print(SURVIVORS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
