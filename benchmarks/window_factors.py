"""Fourteen window factors of 800 stocks over 3,400 sessions: ours and other tools', one thread.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.window_factors [--repeat 3]

The panel is real and tiled to the size that Qlib publishes its figures on (800 stocks, daily,
2007-2020). Each tool runs in a process of its own, by an interpreter of its own, in turn; the
fastest of its runs counts, and its factors are compared with ones worked out window by window.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.peers import peer_python
from benchmarks.reference import reference_folder
from flows.display import print_table

REFERENCE = "us_equities_ohlcv_daily_2007_2018_top500.parquet"
PRICES = ["open", "high", "low", "close"]
ROOT = Path(__file__).parents[1]
RUNNERS = ROOT / "benchmarks" / "peers"
VOLUME_SESSIONS = 21  # sessions whose volume says how much is traded on either side of a joint
SECONDS_LIMIT = 900
QLIB_PUBLISHED = (800, 3_400)
NOTES = """\
{stocks:,} of {real:,} whole real stocks, 2007-2018{tiled}.
Only stocks still listed in March 2024: survivors. Values are rounded to float32, which Qlib stores.
Total is load and compute, without imports, nothing cached; Qlib reads its own store while it
computes (the store is made before, not timed). CPU is of the same span; well above the total, more
than one thread ran. Peak MB includes the libraries. `pandas, matrix` and no other needs whole
histories. Difference: the largest from values worked out window by window, relative to the cell or
to its factor's median, whichever is larger."""
THREAD_LIMITS = (
    "ARROW_IO_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True)
class Tool:
    """A runner in benchmarks/peers and what it needs.

    Attributes
    ----------
    peer : environment of benchmarks/peers, or None for the interpreter that runs this.
    arguments : what the runner takes after SOURCE and TARGET.
    reads : what SOURCE is: "panel.parquet" or "store", Qlib's.
    tolerance : largest difference that counts as agreement.
    """

    name: str
    runner: str
    peer: str | None = None
    arguments: tuple[str, ...] = ()
    reads: str = "panel.parquet"
    tolerance: float = 1e-6


@dataclass
class Result:
    """The runs of one tool: measured, and how its factors compare, or why there are none."""

    tool: Tool
    runs: list[dict[str, Any]] = field(default_factory=list)
    difference: float = np.nan
    factor: str = ""
    failure: str = ""

    @property
    def best(self) -> dict[str, Any]:
        return min(self.runs, key=lambda run: run["seconds"], default={})

    @property
    def agrees(self) -> bool:
        return self.difference <= self.tool.tolerance


OURS = Tool("Lookback", "lookback_factors.py")
TOOLS = (
    OURS,
    Tool("pandas, groupby", "pandas_factors.py", arguments=("groupby",)),
    Tool("pandas, matrix", "pandas_factors.py", arguments=("matrix",)),
    Tool("Polars", "polars_factors.py", "frames"),
    Tool("mlforecast", "mlforecast_factors.py", "frames"),
    # its store and its results are float32: a return of 1 % is known to about 1e-5 of itself
    Tool("Qlib", "qlib_factors.py", "qlib", reads="store", tolerance=1e-4),
)


@dataclass(frozen=True)
class Panel:
    """Whole histories: `values[name]` has shape (stocks, sessions), float64.

    `real_stocks` and `real_sessions` are what there was before any appeared again.
    """

    real_stocks: int
    real_sessions: int
    tickers: list[str]
    dates: pd.DatetimeIndex
    values: dict[str, np.ndarray]

    def long(self) -> pd.DataFrame:
        """A row for each stock and session, sorted by ticker and date."""
        stocks, sessions = len(self.tickers), len(self.dates)
        return pd.DataFrame(
            {
                "ticker": np.repeat(np.array(self.tickers, dtype=object), sessions),
                "date": np.tile(self.dates.to_numpy(), stocks),
                **{name: matrix.ravel() for name, matrix in self.values.items()},
            }
        )


def tiled_panel(folder: Path, stocks: int, sessions: int) -> Panel:
    """The complete stocks of the reference panel, repeated to the size that is asked for.

    Stocks that are missing appear again under another name, and sessions that are missing are
    the first ones again, ahead of the rest on the business days before. Their levels are scaled
    so that the return at the joint is the one that followed them. Values are rounded to
    float32, all that Qlib's store can hold, so that every tool starts from the same numbers.
    """
    real = pd.read_parquet(folder / REFERENCE, columns=["date", "ticker", *PRICES, "volume"])
    real = real.assign(date=pd.to_datetime(real["date"]))
    wide = real.set_index(["ticker", "date"]).unstack()  # noqa: PD010
    wide = wide[wide.notna().all(axis=1)]
    names = wide.index.tolist()
    dates = pd.DatetimeIndex(wide["close"].columns)
    real_stocks, real_sessions = wide["close"].shape
    extra = max(sessions - real_sessions, 0)
    if extra > real_sessions - VOLUME_SESSIONS:
        sys.exit(f"--sessions {sessions}: at most {2 * real_sessions - VOLUME_SESSIONS}")
    values = {name: wide[name].to_numpy(np.float64) for name in [*PRICES, "volume"]}
    if extra:
        values = _prepend(values, extra)
        dates = pd.bdate_range(end=dates[0] - pd.offsets.BDay(), periods=extra).append(dates)
    taken = [position % len(names) for position in range(stocks)]
    again = [position // len(names) + 1 for position in range(stocks)]
    tickers = [
        names[stock] if time == 1 else f"{names[stock]}_{time}"
        for stock, time in zip(taken, again, strict=True)
    ]
    order = np.argsort(tickers)
    rows = np.array(taken)[order]
    return Panel(
        real_stocks,
        real_sessions,
        [tickers[position] for position in order],
        dates[-sessions:],
        {
            name: matrix[rows, -sessions:].astype(np.float32).astype(np.float64)
            for name, matrix in values.items()
        },
    )


def _prepend(values: dict[str, np.ndarray], extra: int) -> dict[str, np.ndarray]:
    """The first `extra` sessions again ahead of all, at the level that the first ones have."""
    close, volume = values["close"], values["volume"]
    price_scale = close[:, :1] / close[:, [extra]]
    first, after = volume[:, :VOLUME_SESSIONS], volume[:, extra : extra + VOLUME_SESSIONS]
    volume_scale = (first.mean(axis=1) / after.mean(axis=1))[:, None]
    scale = {**dict.fromkeys(PRICES, price_scale), "volume": volume_scale}
    return {
        name: np.hstack([matrix[:, :extra] * scale[name], matrix])
        for name, matrix in values.items()
    }


def dump_for_qlib(panel: Panel, store: Path) -> None:
    """Qlib's binary store: a calendar, the stocks, and a file of float32 for each column."""
    days = [f"{day:%Y-%m-%d}" for day in panel.dates]
    for name in ("calendars", "instruments"):
        (store / name).mkdir(parents=True)
    (store / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    lines = [f"{ticker}\t{days[0]}\t{days[-1]}\n" for ticker in panel.tickers]
    (store / "instruments" / "all.txt").write_text("".join(lines))
    for position, ticker in enumerate(panel.tickers):
        folder = store / "features" / ticker.lower()
        folder.mkdir(parents=True)
        for name, matrix in panel.values.items():
            first_session = np.zeros(1)
            column = np.hstack([first_session, matrix[position]]).astype("<f4")
            column.tofile(folder / f"{name}.day.bin")


def exact_factors(panel: Panel) -> dict[str, np.ndarray]:
    """The factors worked out window by window: no running sums. (stocks, sessions) each."""
    close, volume = panel.values["close"], panel.values["volume"]
    diff = _padded(np.diff(close), 1)
    ret1 = close / _lag(close, 1) - 1
    factors = {f"return_{k}": close / _lag(close, k) - 1 for k in (1, 5, 21, 63, 252)}
    for k in (5, 21, 63, 252):
        factors[f"ma_ratio_{k}"] = close / _windows(np.mean, close, k)
    for k in (21, 63):
        factors[f"volatility_{k}"] = _windows(np.std, ret1, k, ddof=1)
    factors["drawdown_252"] = close / _windows(np.max, close, 252) - 1
    gain = _windows(np.mean, np.maximum(diff, 0), 14)
    with np.errstate(invalid="ignore"):
        factors["rsi_14"] = 100 * gain / _windows(np.mean, np.abs(diff), 14)
        ratio = _windows(np.mean, volume, 5) / _windows(np.mean, volume, 21)
    factors["volume_ratio_5_21"] = ratio
    return factors


def _padded(values: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (rows, 0)), constant_values=np.nan)


def _lag(values: np.ndarray, rows: int) -> np.ndarray:
    return _padded(values[:, :-rows], rows)


def _windows(statistic: Any, values: np.ndarray, rows: int, **keywords: int) -> np.ndarray:
    """`statistic` of the last `rows` values, stock by stock to bound the memory."""
    whole = [statistic(sliding_window_view(stock, rows), axis=1, **keywords) for stock in values]
    return _padded(np.array(whole), rows - 1)


def interpreter(tool: Tool) -> tuple[Path, str]:
    """The tool's interpreter and, where its packages cannot be installed, why."""
    if tool.peer is None:
        return Path(sys.executable), ""
    try:
        return peer_python(tool.peer), ""
    except subprocess.CalledProcessError as error:
        return Path(), f"environment {tool.peer} cannot be installed: {error}"


def run_once(result: Result, python: Path, scratch: Path) -> Path:
    """Run a tool in a process of its own; a line of figures or a failure is added to `result`."""
    tool = result.tool
    written = scratch / "factors.parquet"
    command = [python, RUNNERS / tool.runner, scratch / tool.reads, written, *tool.arguments]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | dict.fromkeys(THREAD_LIMITS, "1"),
            capture_output=True,
            text=True,
            timeout=SECONDS_LIMIT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        result.failure = said[-1]
    except subprocess.TimeoutExpired:
        result.failure = f"not done after {SECONDS_LIMIT} s"
    else:
        result.runs.append(json.loads(done.stdout.splitlines()[-1]))
    return written


def compare(result: Result, written: Path, exact: dict[str, np.ndarray], panel: Panel) -> None:
    """Note the largest difference from the exact factors, and whose it is.

    It is relative to the cell or, where the cell is smaller, to the factor's median size: a
    drawdown of nothing has no relative error. A value that is left out differs infinitely; one
    that stands where a window is not full yet is not compared.
    """
    keys = panel.long()[["ticker", "date"]]
    factors = pd.read_parquet(written).sort_values(["ticker", "date"], ignore_index=True)
    days = factors["date"].to_numpy("M8[D]")
    if not (
        np.array_equal(factors["ticker"].astype(str), keys["ticker"].astype(str))
        and np.array_equal(days, keys["date"].to_numpy("M8[D]"))
    ):
        result.failure = f"{len(factors):,} rows, not those of the panel"
        return
    result.difference = 0.0
    for name, expected in exact.items():
        found = factors[name].to_numpy(np.float64).reshape(expected.shape)
        size = np.maximum(np.abs(expected), np.nanmedian(np.abs(expected)))
        difference = np.abs(found - expected) / size
        difference[np.isnan(found)] = np.inf
        largest = difference[~np.isnan(expected)].max(initial=0.0)
        if largest > result.difference:
            result.difference, result.factor = float(largest), name


def measure_tools(panel: Panel, repeat: int, scratch: Path) -> list[Result]:
    """Every tool `repeat` times, in turn; the factors of the first round are compared."""
    panel.long().to_parquet(scratch / "panel.parquet", index=False)
    dump_for_qlib(panel, scratch / "store")
    exact = exact_factors(panel)
    results = [Result(tool) for tool in TOOLS]
    pythons = {}
    for result in results:
        pythons[result.tool], result.failure = interpreter(result.tool)
    for round_ in range(repeat):
        for result in results:
            if result.failure:
                continue
            written = run_once(result, pythons[result.tool], scratch)
            if not result.failure and round_ == 0:
                compare(result, written, exact, panel)
            written.unlink(missing_ok=True)
    return results


def row(result: Result, ours: float | None) -> list[Any]:
    """A line of the table; `ours` is the total of our best run, in seconds."""
    best, total = result.best, result.best.get("seconds")
    if result.failure:
        agreement = result.failure
    else:
        said = "yes, within" if result.agrees else f"no: {result.factor} beyond"
        agreement = f"{said} {result.tool.tolerance:.0e}"
    measured = ("version", "seconds_load", "seconds_compute", "seconds", "seconds_cpu", "peak_mb")
    return [
        result.tool.name,
        *(best.get(name) for name in measured),
        total / ours if total and ours else None,
        f"{result.difference:.1e}" if result.runs else None,
        agreement,
    ]


def tiled(panel: Panel) -> str:
    """What was done to bring the panel to its size, as the rest of a sentence; may be empty."""
    size = len(panel.tickers), len(panel.dates)
    parts = []
    if size[0] > panel.real_stocks:
        parts.append("some appear again under another name")
    if size[1] > panel.real_sessions:
        again = size[1] - panel.real_sessions
        parts.append(f"their first {again:,} sessions appear again ahead of the rest")
    if not parts:
        return ""
    aim = " to Qlib's published size (800 stocks, 2007-2020)" if size == QLIB_PUBLISHED else ""
    return f", tiled{aim}:\n{' and '.join(parts)}"


def print_results(results: list[Result], panel: Panel, repeat: int) -> None:
    ours = next(result for result in results if result.tool is OURS).best.get("seconds")
    stocks, sessions = len(panel.tickers), len(panel.dates)
    print_table(
        [
            "tool",
            "version",
            "load s",
            "compute s",
            "total s",
            "CPU s",
            "peak MB",
            "times ours",
            "difference",
            "agrees",
        ],
        [row(result, ours) for result in results],
        f"14 window factors, {stocks:,} stocks x {sessions:,} sessions, one thread, "
        f"best of {repeat}",
    )
    print(
        NOTES.format(
            stocks=min(stocks, panel.real_stocks), real=panel.real_stocks, tiled=tiled(panel)
        )
    )


def main() -> int:
    """Measure and print; 0 if ours ran and every tool that ran agrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stocks", type=int, default=800)
    parser.add_argument("--sessions", type=int, default=3_400)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    panel = tiled_panel(reference_folder(), arguments.stocks, arguments.sessions)
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        results = measure_tools(panel, arguments.repeat, Path(scratch))
    print_results(results, panel, arguments.repeat)
    ran = [result for result in results if result.runs]
    return 0 if OURS in [result.tool for result in ran] and all(r.agrees for r in ran) else 1


if __name__ == "__main__":
    sys.exit(main())
