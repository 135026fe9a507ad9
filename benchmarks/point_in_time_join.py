"""Point-in-time joins beside Feast's own local offline stores.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.point_in_time_join [--full]

Joins to each (symbol, instant) of a spine the newest factor row known by then. Factors are the
1-, 5- and 21-session returns of the daily reference panel, known at 22:00 UTC of their session;
the spine is drawn with a fixed seed, each symbol within its own history, a few rows before it.
Sizes grow by taking more symbols, each with its whole history; a store of Feast's leaves at the
first size that it does not finish within the limits. Every join has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq

from benchmarks.peers import peer_python
from benchmarks.reference import reference_folder
from flows.display import print_table

PANEL = "us_equities_adj_close_daily_2007_2018.parquet"
SEED = 20181231
SIZES = [  # rows of the spine, rows of the factors at most
    (10_000, 100_000),
    (30_000, 300_000),
    (100_000, 1_000_000),
    (300_000, 3_000_000),
    (1_000_000, 10_000_000),
]
SHORT = 3  # sizes without --full
FEAST_STORES = ("file", "duckdb")
CORES = 2
SAMPLING_SECONDS = 0.05
ENGINE_SHARE = 0.75  # of the memory limit: what DuckDB may hold before it spills
DAY = 86_400_000_000  # microseconds
OURS = "benchmarks.peers.lookback_join"
FEAST = Path(__file__).parent / "peers" / "feast_join.py"

# one row per symbol and session, in the order in which nights would append them
FACTORS = """
    COPY (
        WITH ranked AS (
            SELECT ticker, sum(count(*)) OVER (ORDER BY hash(ticker), ticker) AS total
            FROM read_parquet($panel) GROUP BY ticker
        )
        SELECT
            ticker AS symbol,
            (date + INTERVAL 22 HOUR) AT TIME ZONE 'UTC' AS known_at,
            price / lag(price, 1) OVER history - 1 AS a,
            price / lag(price, 5) OVER history - 1 AS b,
            price / lag(price, 21) OVER history - 1 AS c
        FROM (
            SELECT ticker, date, CAST(nullif(adj_close, 0) AS DOUBLE) AS price
            FROM read_parquet($panel)
        ) SEMI JOIN (FROM ranked WHERE total <= $rows) USING (ticker)
        WINDOW history AS (PARTITION BY ticker ORDER BY date)
        ORDER BY known_at, symbol
    ) TO $out (FORMAT parquet)
"""

# one row per symbol
SPANS = """
    SELECT symbol, epoch_us(min(known_at)) AS first, epoch_us(max(known_at)) AS last,
        count(*) / sum(count(*)) OVER () AS share
    FROM read_parquet($factors) GROUP BY symbol ORDER BY symbol
"""

# one row: rows of ours that theirs lacks, rows whose values differ
COMPARISON = """
    SELECT
        count(*) FILTER (t.symbol IS NULL),
        count(*) FILTER (t.symbol IS NOT NULL AND (
            o.a IS DISTINCT FROM t.a OR o.b IS DISTINCT FROM t.b OR o.c IS DISTINCT FROM t.c
        ))
    FROM read_parquet($ours) o LEFT JOIN read_parquet($theirs) t USING (symbol, ts)
"""


@dataclass(frozen=True)
class Limits:
    """What one join may take before it is ended."""

    seconds: float
    memory_gb: float


@dataclass(frozen=True)
class Outcome:
    """One tool at one size: what it measured, or why it did not finish."""

    tool: str
    store: str
    version: str = ""
    seconds: float | None = None
    peak_mb: float | None = None
    failure: str = ""


def write_factors(panel: Path, rows: int, out: Path) -> int:
    """Write the factors of as many symbols as fit into `rows`; returns the rows written."""
    with duckdb.connect(config={"threads": CORES, "memory_limit": "4GB"}) as database:
        database.execute(FACTORS, {"panel": str(panel), "rows": rows, "out": str(out)})
    return int(pq.read_metadata(out).num_rows)


def write_spine(factors: Path, rows: int, out: Path) -> None:
    """Write `rows` distinct (symbol, ts), with some at the edges.

    One in a thousand stands at the very instant of its symbol's last factor row, and one in a
    thousand before its symbol's first, where nothing is known.
    """
    with duckdb.connect() as database:
        spans = database.execute(SPANS, {"factors": str(factors)}).df()
    random = np.random.default_rng(SEED)
    few = min(len(spans), rows // 1000)
    drawn = random.choice(len(spans), size=rows, p=spans["share"].to_numpy())
    drawn[:few] = np.arange(few)  # one instant a symbol: no row of the spine comes twice
    first, last = spans["first"].to_numpy()[drawn], spans["last"].to_numpy()[drawn]
    at = random.integers(first, last + DAY)
    at[:few] = last[:few]
    at[few : 2 * few] = first[few : 2 * few] - random.integers(1, 30 * DAY, size=few)
    spine = pd.DataFrame(
        {"symbol": spans["symbol"].to_numpy()[drawn], "ts": pd.to_datetime(at, unit="us", utc=True)}
    )
    spine = spine.sample(frac=1, random_state=SEED)
    if spine.duplicated().any():
        raise ValueError("the spine has a row twice; choose another SEED")
    spine.to_parquet(out, index=False)


def measure(command: Sequence[str], label: tuple[str, str], limits: Limits) -> Outcome:
    """Run one join in a process of its own on two cores; end it where it passes a limit."""
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"TMPDIR": scratch},  # what a killed one leaves goes too
        )
        failure = watch(process, limits)
        printed, _ = process.communicate()
        if not failure and process.returncode:
            errors.seek(0)
            failure = (errors.read().strip().splitlines() or [f"exit {process.returncode}"])[-1]
    if failure:
        return Outcome(*label, failure=failure)
    measured = json.loads(printed.splitlines()[-1])
    return Outcome(*label, measured["version"], measured["seconds"], measured["peak_mb"])


def watch(process: subprocess.Popen[str], limits: Limits) -> str:
    """Wait for a process; kill it and say why where it passes a limit, else an empty text."""
    watched = psutil.Process(process.pid)
    if hasattr(watched, "cpu_affinity"):  # not on macOS
        watched.cpu_affinity(watched.cpu_affinity()[:CORES])
    end = time.monotonic() + limits.seconds
    while True:
        try:
            process.wait(SAMPLING_SECONDS)
            return ""
        except subprocess.TimeoutExpired:
            pass
        if watched.memory_info().rss > limits.memory_gb * 1e9:
            process.kill()
            return f"passed {limits.memory_gb:g} GB"
        if time.monotonic() > end:
            process.kill()
            return f"passed {limits.seconds:g} s"


def typical(
    repeats: int, command: Sequence[str], label: tuple[str, str], limits: Limits
) -> Outcome:
    """The run with the (lower) median time of several, or the first that did not finish."""
    outcomes: list[Outcome] = []
    for _ in range(repeats):
        outcome = measure(command, label, limits)
        if outcome.failure:
            return outcome
        outcomes.append(outcome)
    return sorted(outcomes, key=seconds_of)[(repeats - 1) // 2]


def seconds_of(outcome: Outcome) -> float:
    """Seconds to sort by: what did not finish comes last."""
    return float("inf") if outcome.seconds is None else outcome.seconds


def agreement(ours: Path, theirs: Path) -> str:
    """Whether each row of ours is in theirs with the same values, nulls included."""
    with duckdb.connect() as database:
        found = database.execute(COMPARISON, {"ours": str(ours), "theirs": str(theirs)}).fetchone()
    lacking, differing = found or (0, 0)
    surplus = pq.read_metadata(theirs).num_rows - pq.read_metadata(ours).num_rows + lacking
    said = {"missing": lacking, "added": surplus, "different": differing}
    return ", ".join(f"{rows:,} {what}" for what, rows in said.items() if rows) or "exact"


def line(
    outcome: Outcome, spine_rows: int, factor_rows: int, ours: float | None, checked: str
) -> tuple[str | int | float | None, ...]:
    """One row of the table; `ours` is the time of our join at the same size."""
    ratio = outcome.seconds / ours if outcome.seconds and ours else None
    tool = f"{outcome.tool} {outcome.version}".strip()
    measured = (outcome.seconds, outcome.peak_mb, ratio)
    return (tool, outcome.store, spine_rows, factor_rows, *measured, checked)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all sizes, to 1 M × 9.7 M rows")
    parser.add_argument("--sizes", type=int, help=f"the first so many of {len(SIZES)} sizes")
    parser.add_argument("--seconds", type=float, default=300, help="limit of one join")
    parser.add_argument("--memory-gb", type=float, default=8, help="limit of one join")
    parser.add_argument("--repeats", type=int, default=1, help="joins of each kind and size")
    return parser.parse_args()


def main() -> int:
    """Measure and print; 0 if ours finished every size."""
    asked = arguments()
    limits = Limits(asked.seconds, asked.memory_gb)
    engine_gb = str(ENGINE_SHARE * limits.memory_gb)
    sizes = SIZES[: asked.sizes or (len(SIZES) if asked.full else SHORT)]
    panel, feast = reference_folder() / PANEL, peer_python("feast")
    standing, whole = list(FEAST_STORES), True
    table: list[tuple[str | int | float | None, ...]] = []
    finished: list[tuple[int, int, Outcome]] = []
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        factors, spine, out = (Path(scratch) / f"{name}.parquet" for name in ("f", "s", "ours"))
        for rows, most in sizes:
            factor_rows = write_factors(panel, most, factors)
            write_spine(factors, rows, spine)
            print(f"{rows:,} × {factor_rows:,}", file=sys.stderr)
            files = [str(spine), str(factors)]
            command = [sys.executable, "-m", OURS, *files, str(out), engine_gb]
            ours = typical(asked.repeats, command, ("lookback", "duckdb"), limits)
            whole &= not ours.failure
            table.append(line(ours, rows, factor_rows, None, ours.failure))
            for store in list(standing):
                theirs = out.with_name(f"{store}.parquet")
                command = [str(feast), str(FEAST), store, *files, str(theirs), engine_gb]
                outcome = typical(asked.repeats, command, ("feast", store), limits)
                if outcome.failure:
                    standing.remove(store)
                else:
                    finished.append((rows, factor_rows, outcome))
                checked = outcome.failure or ours.failure or agreement(out, theirs)
                table.append(line(outcome, rows, factor_rows, ours.seconds, checked))
    columns = ["tool", "store", "spine", "factors", "seconds", "peak MB", "× ours", "agreement"]
    print_table(columns, table, "point-in-time join")
    if finished:
        rows, factor_rows, best = max(finished, key=lambda found: (found[0], -seconds_of(found[2])))
        print(f"the most Feast finished: {rows:,} × {factor_rows:,} rows, store {best.store}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
