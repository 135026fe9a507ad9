"""Readers that query without pause while nights run and publish: failures, whole nights, waits.

    python -m benchmarks.published_load [--rows 1000000] [--nights 20] [--readers 8 2 1]

A store of made-up signals (as in `benchmarks.ten_million`). For each number of readers: that many
processes, one thread each, query without pause while nights write a row for each of 4,226
symbols as scoring does, refresh `signals_latest` and `signals_wide` and publish. A reader opens
what the pointer names, asks five times for `signals_latest` (4,226 symbols), one symbol's history
and the rows by signal, and opens anew. Of every answer it is checked that it is one whole
night: one run, the same in both tables, and as many rows as the nights before it have left.

At the end somebody takes the newest publication from everyone: makes it writable, deletes rows
and keeps it open with its write-ahead log beside it, while three more nights publish.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.stores import DAILY, files_settings, in_own_process
from benchmarks.ten_million import SYMBOLS, nights

MODULE = "benchmarks.published_load"
LATEST = "SELECT * FROM signals_latest WHERE signal = ?"
HISTORY = "SELECT * FROM signals WHERE signal = ? AND entity = ? ORDER BY as_of"
BY_SIGNAL = "SELECT signal, count(*) FROM signals GROUP BY ALL"
# one row: rows and runs of the newest night, as both tables have it
WHOLE = """
    SELECT count(*), count(DISTINCT s.run_id), any_value(s.run_id), any_value(l.run_id)
    FROM signals s
    JOIN signals_latest l USING (signal, entity, as_of, role)
    WHERE s.signal = ? AND s.as_of = (SELECT max(as_of) FROM signals_latest WHERE signal = ?)
"""
CARELESS = """
import os, stat, sys, duckdb
file = os.path.realpath(sys.argv[1])
os.chmod(file, stat.S_IRUSR | stat.S_IWUSR)
connection = duckdb.connect(file)
connection.execute("PRAGMA disable_checkpoint_on_shutdown")
connection.execute("CREATE TABLE main.junk AS SELECT 42 AS answer")
connection.execute("DELETE FROM main.signals")
print(os.path.exists(file + ".wal"), flush=True)
sys.stdin.read()
os._exit(0)
"""


def read(pointer: Path, stop: Path) -> dict[str, Any]:
    """Query until `stop` is there; milliseconds by kind of query, and what was wrong."""
    import duckdb
    import pyarrow  # noqa: F401  # its import is not the query's

    took: dict[str, list[float]] = {"reopened": [], "open connection": [], "history": []}
    wrong: list[str] = []
    seen: set[str] = set()
    first: dict[str, int] = {}
    queries = 0

    def latest(connection: duckdb.DuckDBPyConnection, kind: str, began: float) -> None:
        found = connection.execute(LATEST, (DAILY,)).to_arrow_table()
        took[kind].append(1e3 * (time.perf_counter() - began))
        runs = set(found["run_id"].unique().to_pylist())
        if len(found) != SYMBOLS or len(runs) != 1:
            wrong.append(f"signals_latest: {len(found)} rows of {len(runs)} runs")
        seen.update(runs)

    print("ready", flush=True)
    while not stop.exists():
        try:
            began = time.perf_counter()
            # the folder, not the pointer: a publication stays one publication
            with duckdb.connect(
                str(pointer.resolve()), read_only=True, config={"threads": 1}
            ) as connection:
                latest(connection, "reopened", began)
                for _ in range(5):
                    latest(connection, "open connection", time.perf_counter())
                began = time.perf_counter()
                connection.execute(HISTORY, (DAILY, "AAB")).to_arrow_table()
                took["history"].append(1e3 * (time.perf_counter() - began))
                counts = dict(connection.execute(BY_SIGNAL).fetchall())
                first = first or counts
                if (counts[DAILY] - first[DAILY]) % SYMBOLS or counts != {
                    **first,
                    DAILY: counts[DAILY],
                }:
                    wrong.append(f"rows by signal: {counts} after {first}")
                whole = connection.execute(WHOLE, (DAILY, DAILY)).fetchone() or (0,)
                if whole[:2] != (SYMBOLS, 1) or whole[2] != whole[3]:
                    wrong.append(f"newest night: {whole}")
                queries += 9
        except (duckdb.Error, OSError) as error:
            wrong.append(f"{type(error).__name__}: {error}".splitlines()[0])
    return {"took": took, "wrong": wrong, "queries": queries, "nights": sorted(seen)}


def under_load(home: Path, readers: int, count: int) -> dict[str, Any]:
    """Let readers query while nights run; what all of them saw."""
    pointer, stop = home / "published" / "current" / "lookback.duckdb", home / f"stop-{readers}"
    files = ["--file", str(pointer), "--stop", str(stop)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", MODULE, "--side", "read", *files],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(readers)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        made = in_own_process(
            MODULE, ["--side", "nights", "--home", str(home), "--nights", str(count)]
        )["nights"]
        stop.touch()
        answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    took = {
        kind: np.concatenate([answer["took"][kind] for answer in answers])
        for kind in answers[0]["took"]
    }
    return {
        "wrong": [line for answer in answers for line in answer["wrong"]],
        "queries": sum(answer["queries"] for answer in answers),
        "nights": len({night for answer in answers for night in answer["nights"]}),
        "seconds": [night["until published"] for night in made],
        "took": took,
    }


def careless(home: Path) -> tuple[bool, list[float], list[str]]:
    """Whether a careless reader left a log, seconds of nights beside it, what it put in."""
    import duckdb

    settings = files_settings(home)
    reader = subprocess.Popen(
        [sys.executable, "-c", CARELESS, str(settings.published)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert reader.stdout is not None
        left = reader.stdout.readline().strip() == "True"
        found = []
        seconds = []
        for _ in range(3):
            (night,) = in_own_process(
                MODULE, ["--side", "nights", "--home", str(home), "--nights", "1"]
            )["nights"]
            seconds.append(night["until published"])
            published = settings.published.resolve()
            found += [str(path.name) for path in published.parent.glob("*.wal")]
            with duckdb.connect(str(published), read_only=True) as connection:
                found += [
                    name
                    for (name,) in connection.execute(
                        "SELECT table_name FROM duckdb_tables() WHERE table_name = 'junk'"
                    ).fetchall()
                ]
                (rows,) = connection.execute("SELECT count(*) FROM signals").fetchone() or (0,)
                found += [] if rows else ["no signals"]
        assert reader.poll() is None, "the careless reader has gone"
    finally:
        reader.kill()
        reader.wait()
    return left, seconds, found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--readers", type=int, nargs="+", default=[8, 2, 1])
    parser.add_argument("--home", type=Path)
    parser.add_argument("--side", choices=["read", "nights"])
    parser.add_argument("--file", type=Path)
    parser.add_argument("--stop", type=Path)
    arguments = parser.parse_args()
    if arguments.side == "read":
        print(json.dumps(read(arguments.file, arguments.stop)))
        return 0
    if arguments.side == "nights":
        print(json.dumps({"nights": nights(arguments.home, arguments.nights)}))
        return 0
    scratch = Path(tempfile.mkdtemp(prefix="lookback-"))
    try:
        return show(scratch / "home", arguments.rows, arguments.nights, arguments.readers)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def show(home: Path, rows: int, count: int, readers: Sequence[int]) -> int:
    from flows.display import print_table

    made = in_own_process(
        "benchmarks.ten_million", ["--side", "build", "--home", str(home), "--rows", str(rows)]
    )
    print(f"{made['rows']:,} signals, {made['file_mb']:,.0f} MB; {os.cpu_count()} cores")
    table, wrong = [], []
    for number in readers:
        found = under_load(home, number, count)
        wrong += found["wrong"]
        print(
            f"{number} readers, {count} nights: {found['queries']:,} queries, "
            f"{len(found['wrong'])} failed or saw no whole night; {found['nights']} nights seen; "
            f"a night took {median(found['seconds']):.1f} s, the slowest "
            f"{max(found['seconds']):.1f} s"
        )
        table += [
            (number, kind, len(took), *(float(np.percentile(took, p)) for p in (50, 90, 99, 100)))
            for kind, took in found["took"].items()
        ]
    print_table(
        ["readers", "signals_latest, history", "queries", "p50", "p90", "p99", "max"],
        table,
        "milliseconds",
    )
    left, seconds, found = careless(home)
    print(
        f"a careless reader {'holds' if left else 'DOES NOT HOLD'} a publication with a "
        f"write-ahead log: three nights took {', '.join(f'{each:.1f} s' for each in seconds)}; "
        f"of it in their publications: {', '.join(found) or 'nothing'}"
    )
    for line in sorted(set(wrong))[:10]:
        print(f"wrong, {wrong.count(line)} times: {line}")
    return 1 if wrong or found or not left else 0


if __name__ == "__main__":
    sys.exit(main())
