"""The chapter's LSTMs beside those of NeuralForecast and Qlib, on the same windows and spans.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.lstm_peers [--symbols 250]

Two questions: which stocks rise next week, and where the S&P 500 closes tomorrow. Trained until
the end of 2014, stopped on 2015, tested on 2016-2017, by the date that is forecast; windows are
fed oldest first. Ours is the chapter's recipe of the catalog, trained as `lookback train` trains
it, on Keras' JAX backend; the peers are given its batch, epochs, patience and learning rate, its
dropout and number of layers, and the units of its first one in each, and keep their own way with
all else. Everyone has one core and a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.peers import peer_python
from benchmarks.peers.stopwatch import peak_mb
from benchmarks.reference import reference_folder
from benchmarks.stores import INDEX, SURVIVORS, in_own_process
from benchmarks.training import MOST_EPOCHS, PATIENCE
from benchmarks.window_factors import RUNNERS, THREAD_LIMITS
from models import artefacts, catalog, evaluation, training
from models.examples import Examples, unmoved
from models.recipes import Recipe
from models.reproduction import book
from models.spans import Spans

MODULE = "benchmarks.lstm_peers"
FIRST_YEAR, LAST_YEAR = "2009", "2017"
VALIDATION_FROM, TEST_FROM = pd.Timestamp("2015-01-01"), pd.Timestamp("2016-01-01")
SPANS = ("train", "validation", "test")
RUNNER_SECONDS = 3_600
# by name: runner and environment of benchmarks/peers
PEERS = {
    "NeuralForecast": ("neuralforecast_lstm.py", "neuralforecast"),
    "Qlib": ("qlib_lstm.py", "qlib_lstm"),
}
NOTES = """\
Seconds are of fit and forecast, without the tools' imports and the making of windows; ours hold
the start of the process that fits, Keras' import, compilation and the ONNX export. Peak MB is of
the largest process. Ours is told symbol and month as well; NeuralForecast scales each window by
itself and keeps its last weights; Qlib learns the rank within the week, as its own recipe does,
and measures the training loss anew each epoch. One seed each."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """One side of one table: what it measured and forecast, or why there is nothing.

    Attributes
    ----------
    measured : `version`, `parameters`, `epochs`, `seconds`, `peak_mb`, as far as there are any.
    forecast : (n,), of the test span.
    """

    side: str
    measured: Mapping[str, Any]
    forecast: Floats | None = None
    failure: str = ""


def week_spans(reference: Path, symbols: int) -> Spans:
    """Weekly returns of the book's stocks, 52 weeks to the next, dated by the last of them."""
    watched = book.equity_week_direction(reference, symbols).spans
    parts = (watched.train, watched.test)
    X = np.concatenate([part.X for part in parts])[:, ::-1]  # the book feeds newest first
    y = np.concatenate([part.y for part in parts])
    index = pd.concat([part.index for part in parts], ignore_index=True)
    weeks = pd.DatetimeIndex(index["as_of"])
    return spans_of(X, y, weeks - pd.Timedelta(weeks=1), weeks, index["entity"])


def close_spans(reference: Path, _symbols: int) -> Spans:
    """S&P 500 closes, 63 sessions to the next, dated by the window's last session."""
    closes = pd.read_csv(reference / INDEX, index_col="date", parse_dates=True)["SP500"]
    before = int(closes.index.searchsorted(pd.Timestamp(FIRST_YEAR))) - book.QUARTER
    closes = closes.iloc[before:].loc[:LAST_YEAR]
    values = closes.to_numpy("float32")
    X = np.lib.stride_tricks.sliding_window_view(values[:-1], book.QUARTER)[..., None]
    dates = pd.DatetimeIndex(closes.index)
    forecast, last = dates[book.QUARTER :], dates[book.QUARTER - 1 : -1]
    entity = pd.Series(pd.Categorical(["SP500"] * len(X)))
    return spans_of(X, values[book.QUARTER :, None, None], last, forecast, entity)


def spans_of(
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    as_of: pd.DatetimeIndex,
    forecast: pd.DatetimeIndex,
    entity: pd.Series[Any],
) -> Spans:
    """Windows (n, T, 1), oldest first, in the order of time, split by the date that is forecast."""
    index = pd.DataFrame(
        {
            "entity": entity,
            "as_of": as_of,
            "known_at": as_of.tz_localize("UTC"),
            "label_known_at": forecast.tz_localize("UTC"),
        }
    )
    last = X[:, -1].astype("float64")
    whole = Examples(
        np.ascontiguousarray(X), last, unmoved(last, None, 1), y, index, "peers", "peers", "peers"
    )
    # what is forecast of 2014 is known when the first window of 2015 is: nothing to be purged
    return Spans(
        whole.take(np.asarray(forecast < VALIDATION_FROM)),
        whole.take(np.asarray((forecast >= VALIDATION_FROM) & (forecast < TEST_FROM))),
        whole.take(np.asarray(forecast >= TEST_FROM)),
        0,
    )


QUESTIONS = {
    "equity_week_direction": week_spans,
    "sp500_next_close": close_spans,
}


def write_folder(spans: Spans, folder: Path) -> None:
    """The windows as peers are given them (benchmarks/peers/window_folder.py), and as we are."""
    folder.mkdir()
    beside(folder).write_bytes(pickle.dumps(spans))
    for name in SPANS:
        span: Examples = getattr(spans, name)
        np.save(folder / f"X_{name}.npy", span.X)
        if name != "test":
            np.save(folder / f"y_{name}.npy", span.y[:, 0, 0])
        keys = span.index[["entity", "as_of"]]
        keys.astype({"entity": "str"}).to_parquet(folder / f"index_{name}.parquet", index=False)


def beside(folder: Path) -> Path:
    """The file of the same spans for our side, the labels of test with them."""
    return folder.with_suffix(".pickle")


def recipe_of(question: str) -> Recipe:
    """The chapter's recipe; with the epochs of the race where there are only some of the stocks."""
    recipe = catalog.recipe(question, "chapter").with_changes(train_from=None)
    if recipe.task == "direction":  # its few epochs are those of a million windows
        return recipe.with_changes(max_epochs=MOST_EPOCHS, patience=PATIENCE)
    return recipe


def asked_of_peers(recipe: Recipe) -> dict[str, float]:
    """The settings of a recipe that other tools have, too."""
    units = recipe.layers["units"]
    return {
        "hidden": units[0],
        "layers": len(units),
        "dropout": recipe.layers.get("dropout", 0.0),
        "batch": recipe.batch_size,
        "epochs": recipe.max_epochs,
        "patience": recipe.patience,
        "learning-rate": recipe.learning_rate,
        "seed": recipe.seed,
    }


def train_ours(question: str, folder: Path) -> dict[str, Any]:
    """Train in this process's child, score, and leave the forecasts of test in the folder."""
    spans: Spans = pickle.loads(beside(folder).read_bytes())
    began = time.perf_counter()
    made = training.train(recipe_of(question), spans, folder / "ours")
    forecast = artefacts.load(made.folder).forecast(spans.test)
    seconds = time.perf_counter() - began
    np.save(folder / "forecast.npy", forecast[:, 0, 0].astype(np.float32))
    fitting = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "version": made.manifest.backend,
        "parameters": made.manifest.parameters,
        "epochs": made.manifest.epochs,
        "seconds": seconds,
        "peak_mb": max(peak_mb(), fitting * (1 if sys.platform == "darwin" else 1024) / 1e6),
    }


def run_ours(question: str, folder: Path) -> Result:
    """Our side in a process of its own."""
    arguments = ["--ours", question, "--folder", str(folder)]
    try:
        measured = in_own_process(MODULE, arguments, KERAS_BACKEND="jax", **one_thread())
    except subprocess.CalledProcessError as error:
        return Result("Lookback", {}, failure=f"exit code {error.returncode}")
    return Result("Lookback", measured, taken(folder))


def run_peer(side: str, recipe: Recipe, folder: Path) -> Result:
    """A peer by its own interpreter, or why it did not run."""
    runner, environment = PEERS[side]
    try:
        python = peer_python(environment)
    except subprocess.CalledProcessError as error:
        return Result(side, {}, failure=f"environment {environment} cannot be installed: {error}")
    settings = [f"--{name}={value}" for name, value in asked_of_peers(recipe).items()]
    try:
        done = subprocess.run(
            [python, RUNNERS / runner, folder, *settings],
            env=os.environ | one_thread(),
            capture_output=True,
            text=True,
            timeout=RUNNER_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return Result(side, {}, failure=said[-1])
    except subprocess.TimeoutExpired:
        return Result(side, {}, failure=f"not done after {RUNNER_SECONDS} s")
    return Result(side, json.loads(done.stdout.splitlines()[-1]), taken(folder))


def one_thread() -> dict[str, str]:
    """Environment variables that keep every library to one thread."""
    return dict.fromkeys(THREAD_LIMITS, "1")


def taken(folder: Path) -> Floats:
    """The forecasts that a side has left, out of the way of the next one's."""
    forecast: Floats = np.load(folder / "forecast.npy").astype("float64")
    (folder / "forecast.npy").unlink()
    return forecast


def week_figures(forecast: Floats, test: Examples) -> list[Any]:
    """AUC within the week and rank IC, each with its t."""
    dates, entities = test.index["as_of"].to_numpy(), test.index["entity"].to_numpy()
    label = test.y[:, 0, 0]
    told = evaluation.evaluate_direction(forecast, label > 0, dates, probabilities=False)
    ranked = evaluation.evaluate_cross_section(forecast, label, dates, entities)
    figures = (told["auc_within_date"], told["auc_within_date_t"])
    return [*figures, ranked["rank_ic"], ranked["rank_ic_t"]]


def close_figures(forecast: Floats, test: Examples) -> list[Any]:
    """RMSE in index points; IC of returns with its 90 % interval."""
    levels = evaluation.evaluate_levels(forecast, test.y[:, 0, 0], test.last[:, 0])
    names = ("rmse", "return_ic", "return_ic_low", "return_ic_high")
    return [levels[name] for name in names]


# by question: title, names of the figures, what makes them, a baseline and its forecasts
TABLES: Mapping[str, Any] = {
    "equity_week_direction": (
        "{symbols} stocks, next week",
        ["AUC in week", "t", "rank IC", "t"],
        week_figures,
        "reversal",
        lambda test: -test.last[:, 0],
    ),
    "sp500_next_close": (
        "S&P 500, next close",
        ["RMSE", "IC of returns", "low", "high"],
        close_figures,
        "persistence",
        lambda test: test.last[:, 0],
    ),
}


def print_question(question: str, symbols: int, scratch: Path) -> bool:
    """Run all sides and print their table; whether ours ran."""
    from flows.display import print_table

    title, names, figures, baseline, forecasts = TABLES[question]
    recipe = recipe_of(question)
    spans = QUESTIONS[question](reference_folder(), symbols)
    folder = scratch / question
    write_folder(spans, folder)
    results = [run_ours(question, folder)]
    for side in PEERS:
        print(f"{question}: {side}", file=sys.stderr)
        results.append(run_peer(side, recipe, folder))
    results.append(Result(baseline, {}, forecasts(spans.test)))
    measured = ("version", "parameters", "epochs", "seconds", "peak_mb")
    rows = [
        [
            result.side,
            *(result.measured.get(name) for name in measured),
            *(
                [None] * len(names)
                if result.forecast is None
                else figures(result.forecast, spans.test)
            ),
            result.failure,
        ]
        for result in results
    ]
    sizes = ", ".join(f"{name} {len(getattr(spans, name)):,}" for name in SPANS)
    asked = ", ".join(f"{name} {value:g}" for name, value in asked_of_peers(recipe).items())
    print_table(
        ["side", "version", "parameters", "epochs", "seconds", "peak MB", *names, "skipped"],
        rows,
        f"{title.format(symbols=symbols)}; windows: {sizes}\npeers: {asked}",
    )
    return not results[0].failure


def main() -> int:
    """Run and print; 0 if ours ran."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=250)
    parser.add_argument("--ours", choices=list(QUESTIONS), help="our side alone, as JSON")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.ours:
        print(json.dumps(train_ours(given.ours, given.folder)))
        return 0
    if hasattr(os, "sched_setaffinity"):  # inherited by every side
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        ran = [print_question(each, given.symbols, Path(scratch)) for each in QUESTIONS]
    print(NOTES)
    print(SURVIVORS)
    return 0 if all(ran) else 1


if __name__ == "__main__":
    sys.exit(main())
