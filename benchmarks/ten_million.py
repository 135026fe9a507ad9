"""Ten million signal rows: what a night's publication costs, and what readers wait for.

    python -m benchmarks.ten_million [--rows 10000000] [--nights 5] [--home FOLDER]

Made-up scores of 4,226 symbols, weekly and daily, backfilled and live, by several versions, with
as many revisions and their outcomes (`benchmarks.stores.put_signals`); nothing is read from
anywhere. Then nights: each writes a row per symbol as scoring does, brings `signals_latest` and
`signals_wide` up to date and publishes. Queries run in processes of their own, one at a time,
with one thread: the first after opening, then on the open connection, into Arrow. Needs 4 GB of
disk beside what the build takes, and 5.5 GB of memory for the build. A folder that is named is
kept and used again; otherwise all of it goes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.stopwatch import peak_mb
from benchmarks.stores import (
    DAILY,
    NEWEST,
    WEEKLY,
    files_settings,
    in_own_process,
    new_store,
    put_signals,
    write_night,
)

SYMBOLS = 4226
ROWS_OF_12_YEARS = 10_150_000
QUERIES = {
    "signals_latest, 4,226 symbols": (f"SELECT * FROM signals_latest WHERE signal = '{DAILY}'", ()),
    "one symbol's history, daily signal": (
        "SELECT * FROM signals WHERE signal = ? AND entity = ? ORDER BY as_of",
        (DAILY, "AAB"),
    ),
    "one symbol's history, weekly signal": (
        "SELECT * FROM signals WHERE signal = ? AND entity = ? ORDER BY as_of",
        (WEEKLY, "AAB"),
    ),
    "one symbol's history, all signals": (
        "SELECT * FROM signals WHERE entity = ? ORDER BY signal, as_of",
        ("AAB",),
    ),
    "the newest date, 4,226 symbols": (
        "SELECT * FROM signals WHERE signal = ? AND as_of = "
        "(SELECT max(as_of) FROM signals_latest WHERE signal = ?)",
        (DAILY, DAILY),
    ),
    "a date of a closed year": (
        "SELECT * FROM signals WHERE signal = ? AND as_of = DATE '2016-06-15'",
        (DAILY,),
    ),
    "rows by signal": ("SELECT signal, count(*) FROM signals GROUP BY ALL", ()),
    "signals_wide, one symbol": ("SELECT * FROM signals_wide WHERE entity = ?", ("AAB",)),
    "signals_wide, one date": ("SELECT * FROM signals_wide WHERE as_of = DATE '2018-12-21'", ()),
    "signals_as_of, one symbol": (
        "SELECT * FROM signals_as_of(TIMESTAMPTZ '2018-07-01 00:00:00+00') WHERE entity = ?",
        ("AAB",),
    ),
}


def build(home: Path, rows: int) -> dict[str, Any]:
    """Fill a new store, gather it by entity, publish it for the first time."""
    from db.gathering import gather
    from db.publishing import publish
    from db.sessions import sessions
    from db.warehouse import open_warehouse
    from signals.latest import refresh_latest, refresh_wide

    settings, found = new_store(home), {}
    with open_warehouse(settings, "benchmark") as warehouse:
        took: dict[str, float] = {}
        years = 12 * rows / ROWS_OF_12_YEARS
        found["rows"] = timed(took, "build", put_signals, warehouse, years, SYMBOLS)
        timed(took, "gather", gather, warehouse)
        refresh_latest(warehouse, sessions(settings.calendar), NEWEST)
        refresh_wide(warehouse)
        timed(took, "publish", publish, warehouse)
        for table in ("signal_revisions", "outcomes"):
            (found[table],) = warehouse.one(f"SELECT count(*) FROM main.{table}") or (0,)
    size = settings.warehouse.stat().st_size / 1e6
    return found | {"seconds": took, "file_mb": size, "peak_mb": peak_mb()}


def nights(home: Path, count: int) -> list[dict[str, float]]:
    """Seconds of each step of some nights, one after the other."""
    from db.gathering import ROWS_A_NIGHT, gather
    from db.publishing import publish
    from db.sessions import sessions
    from db.warehouse import open_warehouse
    from signals.declaration import Signal
    from signals.latest import refresh_latest, refresh_wide

    settings, declared = files_settings(home), Signal(DAILY, DAILY, "score")
    calendar = sessions(settings.calendar)
    found = []
    for _ in range(count):
        took: dict[str, float] = {}
        cpu = time.process_time()
        with open_warehouse(settings, "benchmark") as warehouse:
            (newest,) = warehouse.one("SELECT max(as_of) FROM main.signals_latest") or (None,)
            day = calendar.next(newest or NEWEST)
            written = timed(took, "write", write_night, warehouse, declared, day)
            assert written == SYMBOLS, f"{written} rows written"
            timed(took, "signals_latest", refresh_latest, warehouse, calendar, day)
            timed(took, "signals_wide", refresh_wide, warehouse)
            timed(took, "publish", publish, warehouse)
            took["until published"] = sum(took.values())
            took["its CPU"] = time.process_time() - cpu
            timed(took, "gather", gather, warehouse, ROWS_A_NIGHT)
        found.append(took)
    return found


def timed(took: dict[str, float], name: str, work: Callable[..., Any], *given: Any) -> Any:
    """What `work` returns of what it is given; its seconds go into `took`."""
    began = time.perf_counter()
    result = work(*given)
    took[name] = time.perf_counter() - began
    return result


def read(file: Path, name: str, repeat: int) -> dict[str, Any]:
    """Milliseconds of a query: opening, the first time, then on the open connection."""
    import duckdb
    import pyarrow  # noqa: F401  # its import is not the query's

    query, values = QUERIES[name]
    began = time.perf_counter()
    connection = duckdb.connect(str(file), read_only=True, config={"threads": 1})
    opened = time.perf_counter()
    rows = connection.execute(query, values).to_arrow_table().num_rows
    first = time.perf_counter()
    again, cpu = [], time.process_time()
    for _ in range(repeat):
        start = time.perf_counter()
        connection.execute(query, values).to_arrow_table()
        again.append(1e3 * (time.perf_counter() - start))
    return {
        "rows": rows,
        "open": 1e3 * (opened - began),
        "first": 1e3 * (first - began),
        "again": median(again),
        "cpu": 1e3 * (time.process_time() - cpu) / repeat,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--nights", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--side", choices=["build", "nights", "read"])
    parser.add_argument("--query")
    parser.add_argument("--file", type=Path)
    arguments = parser.parse_args()
    if arguments.side:
        sides: dict[str, Callable[[], Any]] = {
            "build": lambda: build(arguments.home, arguments.rows),
            "nights": lambda: {"nights": nights(arguments.home, arguments.nights)},
            "read": lambda: read(arguments.file, arguments.query, arguments.repeat),
        }
        print(json.dumps(sides[arguments.side]()))
        return 0

    scratch = arguments.home or Path(tempfile.mkdtemp(prefix="lookback-"))
    try:
        show(scratch / "home", arguments)
    finally:
        if arguments.home is None:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0


def show(home: Path, arguments: argparse.Namespace) -> None:
    from flows.display import print_table

    module, place = "benchmarks.ten_million", ["--home", str(home)]
    if not (home / "built.json").exists():
        made = in_own_process(module, [*place, "--side", "build", "--rows", str(arguments.rows)])
        (home / "built.json").write_text(json.dumps(made))
    made = json.loads((home / "built.json").read_text())
    seconds = made["seconds"]
    print(
        f"{made['rows']:,} signals, {made['signal_revisions']:,} revisions, {made['outcomes']:,} "
        f"outcomes: {made['file_mb']:,.0f} MB; built in {seconds['build']:.0f} s, gathered by "
        f"entity in {seconds['gather']:.0f} s, first published (all Parquet) in "
        f"{seconds['publish']:.0f} s; peak memory {made['peak_mb']:,.0f} MB"
    )
    count = ["--nights", str(arguments.nights)]
    found = in_own_process(module, [*place, "--side", "nights", *count])["nights"]
    steps = list(found[0])
    print_table(
        ["night", *steps],
        [
            *((str(number), *night.values()) for number, night in enumerate(found, 1)),
            ("median", *(median(night[step] for night in found) for step in steps)),
        ],
        f"nights of {SYMBOLS:,} new rows: seconds",
    )
    file = (home / "published" / "current" / "lookback.duckdb").resolve()
    rows, repeat = [], ["--repeat", str(arguments.repeat)]
    for name in QUERIES:
        each = [
            in_own_process(
                module,
                [*("--side", "read", "--file", str(file)), *("--query", name, *repeat)],
            )
            for _ in range(3)
        ]
        rows.append(
            (
                name,
                each[0]["rows"],
                *(median(one[key] for one in each) for key in ("open", "first", "again", "cpu")),
            )
        )
    print_table(
        ["query", "rows", "open", "open + first", "open connection", "its CPU"],
        rows,
        f"readers: milliseconds, one thread, medians of 3 processes and {arguments.repeat} times",
    )


if __name__ == "__main__":
    sys.exit(main())
