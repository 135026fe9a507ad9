"""A folder of windows as peers are given it: numpy and pandas alone, nothing of ours.

    X_{span}.npy          float32 (n, T, F), raw, oldest step first
    y_{span}.npy          float32 (n,), feature 0 one step after the window
    index_{span}.parquet  entity (text), as_of (date of the last step), in the same order

for the spans train, validation and test, one after the other in time.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Span:
    """Windows X (n, T, F) and targets y (n,), float32, with entity and as_of of each."""

    X: np.ndarray
    y: np.ndarray
    index: pd.DataFrame

    def __len__(self) -> int:
        return len(self.y)


def read_spans(folder: Path, *, test_labels: bool = False) -> dict[str, Span]:
    """The three spans of a folder; the targets of test are NaN unless asked for.

    Ends the command where a span is empty, its files differ in length, a pair of entity and
    date is there twice, or the spans overlap in time.
    """
    spans = {}
    for name in SPANS:
        X = np.load(folder / f"X_{name}.npy")
        y = np.load(folder / f"y_{name}.npy").astype(np.float32)
        index = pd.read_parquet(folder / f"index_{name}.parquet", columns=["entity", "as_of"])
        index = index.assign(
            entity=index["entity"].astype(str), as_of=pd.to_datetime(index["as_of"])
        )
        if X.ndim != 3 or not len(X) == len(y) == len(index) > 0:
            sys.exit(f"{folder}: {name} has {X.shape} windows, {len(y)} targets, {len(index)} keys")
        if index.duplicated().any():
            sys.exit(f"{folder}: index_{name} has an entity twice on one date; keep one row of it")
        if name == "test" and not test_labels:
            y = np.full_like(y, np.nan)
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
