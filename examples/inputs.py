"""What every example is given: a published file, prices, and a folder for what it makes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from db.errors import LookbackError
from signals import readers


@dataclass(frozen=True)
class Inputs:
    """Signals, daily closes (one column a symbol), and where to write."""

    path: Path | None
    signals: readers.Signals
    close: pd.DataFrame
    output: Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every example."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--signals", type=Path, help="published file, its folder, or a home")
    arguments.add_argument("--signal", default="equity_week_direction")
    arguments.add_argument("--prices", type=Path, help="wide Parquet of closes; as published")
    arguments.add_argument(
        "--largest-move",
        type=float,
        default=3.0,
        metavar="FACTOR",
        help="a daily move beyond it, up or down, is no return but a break of the data",
    )
    arguments.add_argument("--output", type=Path, default=Path("backtest"))
    return arguments


def read(given: argparse.Namespace) -> Inputs:
    """The signals, and prices of their symbols from the first signal on."""
    signals = readers.read(given.signals, signal=given.signal)
    if given.prices is not None:
        close = pd.read_parquet(given.prices)
    else:
        close = readers.prices(
            given.signals,
            entities=signals.entities,
            start=signals.frame["as_of"].min(),
            largest_move=given.largest_move,
        )
    given.output.mkdir(parents=True, exist_ok=True)
    return Inputs(given.signals, signals, close, given.output)


def run(example: Callable[[Inputs], None], description: str | None) -> None:
    """Run an example; what is wrong with its inputs is one line."""
    try:
        example(read(parser(description).parse_args()))
    except LookbackError as error:
        sys.exit(str(error))
