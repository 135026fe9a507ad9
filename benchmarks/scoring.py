"""Windows a second that a champion scores, beside `model.predict` of the network it is made of.

    python -m benchmarks.scoring [--rounds 3]

The chapter's three-input network (29,371 parameters, windows of 52 weeks), written and loaded as
an artefact, on two cores. Its weights and windows are random: neither changes the speed. Each
round takes every side in turn; the best round of each counts, and ratios are to `predict` at its
default batch of 32 with layers as Keras has them by default. A second of processor time is of all
threads together; where other processes take the cores, it says more than one of the clock. The
floor is what the matrix products alone would take at the speed of a large one (sgemm of NumPy's
BLAS).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flows.display import print_table
from models import architectures, artefacts, backend, onnx_graph, training, training_process
from models.catalog import EQUITY_WEEK_DIRECTION
from models.encoding import Arrays, Encoding, Scale
from models.examples import Examples, unmoved

if TYPE_CHECKING:
    import keras

CORES = 2
SHAPE = architectures.Shape(window=52, n_features=1, symbols=2_489, months=True)
PARAMETERS = 29_371
WINDOWS, PREDICTED = 204_800, 20_480
NIGHT = 4_226  # symbols of the daily reference panel
SGEMM = 2_048


@dataclass
class Side:
    """One way to score, and what its rounds took.

    Attributes
    ----------
    score : from inputs to outputs (n, 1).
    windows : that it scores in a round.
    seconds, processor : of each round.
    """

    name: str
    score: Callable[[Arrays], Any]
    windows: int
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    outputs: Any = None

    def run(self, inputs: Arrays) -> None:
        """One round."""
        given = {name: array[: self.windows] for name, array in inputs.items()}
        began, used = time.perf_counter(), time.process_time()
        self.outputs = self.score(given)
        self.seconds.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - used)

    @property
    def rates(self) -> list[float]:
        """Windows a second of each round."""
        return [self.windows / seconds for seconds in self.seconds]


def chapter_network() -> keras.Model:
    """The network with random weights."""
    recipe = EQUITY_WEEK_DIRECTION
    network = architectures.build(recipe.architecture, SHAPE, recipe.layers)
    assert network.count_params() == PARAMETERS
    draw = np.random.default_rng(1)
    network.set_weights(
        [draw.normal(0, 0.3, weights.shape).astype("f4") for weights in network.get_weights()]
    )
    return network


def with_default_layers(network: keras.Model) -> keras.Model:
    """The same network of layers as Keras makes them if nobody asks for anything else.

    Ours decline the fused GPU kernel, so that XLA compiles them (`models.backend`).
    """
    import keras

    def made_anew(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.LSTM):
            config["use_cudnn"] = "auto"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=made_anew)
    copy.set_weights(network.get_weights())
    return copy


def chapter_encoding() -> Encoding:
    """Symbols of all rows but that of unknown ones."""
    symbols = tuple(f"S{number:04d}" for number in range(1, SHAPE.symbols))
    return Encoding(Scale((0.0,), (0.04,)), Scale.identity(1), "up", symbols, SHAPE.months)


def write_artefact(folder: Path, network: keras.Model) -> str:
    """The network as a training would have left it; hash of its manifest."""
    network.save(folder / artefacts.NETWORK)
    onnx_graph.export(network, folder / artefacts.GRAPH)
    recipe = EQUITY_WEEK_DIRECTION
    manifest = artefacts.Manifest(
        kind="network",
        model=recipe.model,
        variant=recipe.variant,
        view=recipe.view,
        feature_version="",
        data_snapshot="",
        recipe=recipe.to_json(),
        shape=asdict(SHAPE),
        spans={},
        trained_labels_known_at=None,
        seed=recipe.seed,
        backend=backend.described(),
        parameters=network.count_params(),
        epochs=0,
        best_epoch=0,
        layers=[],
        metrics={},
        baselines={},
        quantiles=None,
        gives_probability=True,
        encoding=chapter_encoding().to_json(),
        versions=backend.versions(),
        weights_sha256=training_process.weights_sha256(network),
        files=training.hashes(folder, (artefacts.NETWORK, artefacts.GRAPH)),
    )
    return artefacts.write_manifest(folder, manifest)


def random_examples(entities: int, dates: int) -> Examples:
    """Weekly windows of so many entities, some of which the network does not know."""
    rows = entities * dates
    X = np.random.default_rng(2).normal(0, 0.04, (rows, SHAPE.window, 1)).astype("f4")
    last = X[:, -1].astype("f8")
    index = pd.DataFrame(
        {
            "entity": pd.Categorical([f"S{number:04d}" for number in range(entities)] * dates),
            "as_of": pd.date_range("2017-01-06", periods=dates, freq="7D").repeat(entities),
        }
    )
    y = np.full((rows, 1, 1), np.nan, "f4")
    return Examples(X, last, unmoved(last, None, 1), y, index, EQUITY_WEEK_DIRECTION.view, "", "")


def flops(network: keras.Model) -> int:
    """Multiplications and additions of a window's matrix products."""
    recurrent = sum(
        weights.size
        for layer in network.layers
        if layer.name.startswith("recurrent")
        for weights in layer.get_weights()
        if weights.ndim == 2
    )
    dense = sum(
        layer.get_weights()[0].size
        for layer in network.layers
        if layer.name.startswith(("dense", "output"))
    )
    return int(2 * (SHAPE.window * recurrent + dense))


def sgemm_flops() -> float:
    """FLOP/s of a large product of float32 matrices, the best of some."""
    a = np.random.default_rng(3).random((SGEMM, SGEMM), dtype="f4")
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return float(2 * SGEMM**3 / best)


def night_seconds(model: artefacts.Version, rounds: int) -> list[float]:
    """Seconds from a night's windows to its scores, encoding included."""
    examples = random_examples(NIGHT, 1)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        scores = model.forecast(examples)
        seconds.append(time.perf_counter() - began)
        assert scores.shape == (NIGHT, 1, 1)
    return seconds


def predictor(network: keras.Model, batch_size: int) -> Callable[[Arrays], Any]:
    """`model.predict`; it has batches of 32 if it is not told otherwise."""
    return lambda inputs: network.predict(inputs, batch_size=batch_size, verbose=0)


def measured(model: artefacts.LoadedNetwork, network: keras.Model, rounds: int) -> list[Side]:
    """All sides, each run in each round."""
    inputs = model.encoding.inputs(random_examples(2_560, WINDOWS // 2_560))
    sides = [
        Side("the champion, as loaded", model.run, WINDOWS),
        *(
            Side(f"predict, batch {size:,}, {name}", predictor(kind, size), PREDICTED)
            for name, kind in {
                "Keras' layers": with_default_layers(network),
                "ours (XLA)": network,
            }.items()
            for size in (32, 1_024)
        ),
    ]
    for side in sides:  # graphs are traced and threads started
        side.score({name: array[:2_048] for name, array in inputs.items()})
    for _ in range(rounds):
        for side in sides:
            side.run(inputs)
    return sides


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    load = os.getloadavg()[0]
    backend.configure(CORES)
    network = chapter_network()
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        model = artefacts.load(Path(scratch), write_artefact(Path(scratch), network))
    assert isinstance(model, artefacts.LoadedNetwork)
    sides = measured(model, network, rounds)
    ours, default = sides[:2]
    print_table(
        [
            "scored by",
            "windows",
            "windows/s, best",
            "median",
            "least",
            "a processor second",
            "times, best",
            "times, processor",
        ],
        [
            (
                side.name,
                side.windows,
                round(max(side.rates)),
                round(median(side.rates)),
                round(min(side.rates)),
                round(side.windows / min(side.processor)),
                max(side.rates) / max(default.rates),
                side.windows / min(side.processor) / (default.windows / min(default.processor)),
            )
            for side in sides
        ],
        f"{PARAMETERS:,} parameters, {CORES} cores, {rounds} rounds, {backend.described()}",
    )
    differences = [np.abs(ours.outputs[:PREDICTED] - side.outputs).max() for side in sides[1:]]
    print(f"largest difference of a score from Keras': {max(differences):.1e}")
    seconds = night_seconds(model, 5 * rounds)
    print(
        f"a night's {NIGHT:,} symbols, windows to scores: {min(seconds):.3f} s at best, "
        f"median {median(seconds):.3f}, at most {max(seconds):.3f}"
    )
    work, speed = flops(network), sgemm_flops()
    print(
        f"floor: {work / 1e3:,.0f} kFLOP a window, sgemm {speed / 1e9:,.0f} GFLOP/s: at most "
        f"{speed / work:,.0f} windows/s, of which the champion does "
        f"{100 * max(ours.rates) * work / speed:.0f} %"
    )
    print(f"other processes' load on the machine at the start: {load:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
