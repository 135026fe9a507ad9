"""A folder of windows as peers are given it: numpy and pandas alone, nothing of ours.

    X_{span}.npy          float32 (n, T, F), raw, oldest step first
    y_{span}.npy          float32 (n,), feature 0 one step after the window; none of test
    index_{span}.parquet  entity (text), as_of (date of the last step), in the same order

for the spans train, validation and test, one after the other in time. A runner is started by
the interpreter of its tool as

    python <runner>.py FOLDER --hidden 25 --layers 2 --dropout 0.2 --batch 1024 --epochs 20
        --patience 4 --learning-rate 0.003 --seed 0

trains on train, stops on validation, leaves its forecasts of test beside the windows, in
`forecast.npy`, float32 (n,), in their order, and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from stopwatch import peak_mb

SPANS = ("train", "validation", "test")
FORECAST = "forecast.npy"


@dataclass(frozen=True)
class Span:
    """Windows X (n, T, F) and targets y (n,), float32, with entity and as_of of each.

    The targets of test are NaN.
    """

    X: np.ndarray
    y: np.ndarray
    index: pd.DataFrame

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Training:
    """What a runner is asked for.

    Attributes
    ----------
    folder : of windows.
    hidden, layers, dropout : units of each recurrent layer, how many of them, share dropped
        between them.
    batch, epochs, learning_rate : windows in a step, the most passes over the windows, of Adam.
    patience : epochs without a better validation loss after which training stops.
    seed : of weights, order and dropout.
    """

    folder: Path
    hidden: int
    layers: int
    dropout: float
    batch: int
    epochs: int
    patience: int
    learning_rate: float
    seed: int

    @classmethod
    def asked(cls, document: str | None) -> Training:
        """From the command line of a runner with this docstring."""
        parser = argparse.ArgumentParser(description=(document or "").splitlines()[0])
        parser.add_argument("folder", type=Path)
        for name in ("hidden", "layers", "batch", "epochs", "patience"):
            parser.add_argument(f"--{name}", type=int, required=True)
        parser.add_argument("--dropout", type=float, required=True)
        parser.add_argument("--learning-rate", type=float, required=True)
        parser.add_argument("--seed", type=int, default=0)
        given = vars(parser.parse_args())
        return cls(**given | {"folder": given["folder"].resolve()})

    def leave(self, forecast: np.ndarray, test: Span) -> None:
        """Write the forecasts of the test span; ends the command where they are not whole."""
        if forecast.shape != (len(test),) or not np.isfinite(forecast).all():
            sys.exit(f"forecasts of shape {forecast.shape} of {len(test):,} windows, or not finite")
        np.save(self.folder / FORECAST, forecast.astype(np.float32))


def read_spans(folder: Path) -> dict[str, Span]:
    """The three spans of a folder.

    Ends the command where a span is empty, its files differ in length, a pair of entity and
    date is there twice, or the spans overlap in time.
    """
    spans = {}
    for name in SPANS:
        X = np.load(folder / f"X_{name}.npy")
        y = np.full(len(X), np.nan, np.float32)
        if name != "test":
            y = np.load(folder / f"y_{name}.npy").astype(np.float32)
        index = pd.read_parquet(folder / f"index_{name}.parquet", columns=["entity", "as_of"])
        index = index.assign(
            entity=index["entity"].astype(str), as_of=pd.to_datetime(index["as_of"])
        )
        if X.ndim != 3 or not len(X) == len(y) == len(index) > 0:
            sys.exit(f"{folder}: {name} has {X.shape} windows, {len(y)} targets, {len(index)} keys")
        if index.duplicated().any():
            sys.exit(f"{folder}: index_{name} has an entity twice on one date; keep one row of it")
        spans[name] = Span(X, y, index.reset_index(drop=True))
    for before, after in itertools.pairwise(SPANS):
        if spans[before].index["as_of"].max() >= spans[after].index["as_of"].min():
            sys.exit(f"{folder}: {before} reaches into {after}; spans must follow each other")
    return spans


def are_levels(X: np.ndarray) -> bool:
    """Whether feature 0 is a level (a price, an index) and no return: positive throughout."""
    return bool((X[:, :, 0] > 0).all())


@contextmanager
def trained_and_forecast(tool: str, **known: Any) -> Iterator[dict[str, Any]]:
    """Time the block and print one line of JSON: what it adds to the dict that it is given."""
    line: dict[str, Any] = {"tool": tool, **known}
    began, cpu = time.perf_counter(), time.process_time()
    yield line
    line["seconds"] = time.perf_counter() - began
    line["seconds_cpu"] = time.process_time() - cpu
    line["peak_mb"] = peak_mb()
    print(json.dumps(line), flush=True)
