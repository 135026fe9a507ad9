"""What one new session costs to materialize, beside a full rebuild and beside less history.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.one_session [--views price_factors …]

The daily reference panel (4,226 symbols, 9.7 million bars) goes into a store but for its last
session; every view is built; then the last session arrives and the views are brought up to date,
one after the other as a night does it, in a process that has just started: several times, each
on a copy of the store, of which the median counts. The same for a store with a tenth of the
history, and for a full rebuild, once. That the tables are equal, row for row, is checked.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.stopwatch import peak_mb
from benchmarks.reference import reference_folder
from benchmarks.stores import (
    SURVIVORS,
    files_settings,
    in_own_process,
    new_store,
    put_index,
    put_panel,
)

VIEWS = ("price_factors", "equity_weekly_return", "market_beta", "sp500_close")
ALL = "all of them"
LAST, BEFORE = "2018-12-31", "2018-12-28"
# 302 of 3,020 sessions
HISTORIES = {"whole": "2007-01-03", "a tenth": "2017-10-18"}


def materialize_views(home: Path, views: list[str], *, rebuild: bool) -> list[dict[str, Any]]:
    """Bring views up to date, or build them anew; what each took."""
    from db.sessions import sessions
    from db.warehouse import open_warehouse
    from features.catalog import feature_view
    from features.materialize import materialize
    from features.reads import RawReads

    settings, reads = files_settings(home), RawReads()
    sessions(settings.calendar)  # half a second that a night has spent long before
    found = []
    with open_warehouse(settings, "benchmark") as warehouse:
        for name in views:
            done = materialize(warehouse, feature_view(name), rebuild=rebuild, reads=reads)
            found.append({"view": name, "rows": done.added, "seconds": done.seconds})
        warehouse.native.execute("CHECKPOINT")
    return found


def content(home: Path, views: list[str]) -> list[tuple[Any, ...]]:
    """Rows of each view's table and a hash of all their values."""
    from db.warehouse import open_warehouse
    from features.catalog import feature_view

    with open_warehouse(files_settings(home), "benchmark") as warehouse:
        return [
            warehouse.one(f"SELECT count(*), bit_xor(hash(t)) FROM {feature_view(name).table} t")
            or ()
            for name in views
        ]


def measure(home: Path, first: str, views: list[str], repeat: int) -> dict[str, Any]:
    """Build, let one session arrive, bring up to date, rebuild."""
    from db.warehouse import open_warehouse

    reference, module = reference_folder(), "benchmarks.one_session"
    settings = new_store(home)
    with open_warehouse(settings, "benchmark") as warehouse:
        bars = put_panel(warehouse, reference, first=first, last=BEFORE)
        put_index(warehouse, reference, first=first, last=BEFORE)
    arguments = ["--home", str(home), "--views", *views, "--side"]
    in_own_process(module, [*arguments, "build"])
    with open_warehouse(settings, "benchmark") as warehouse:
        symbols = put_panel(warehouse, reference, first=LAST, last=LAST)
        put_index(warehouse, reference, first=LAST, last=LAST)
    before = home.with_name("before")
    home.rename(before)
    nights = []
    for _ in range(repeat):
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(before, home)
        nights.append(in_own_process(module, [*arguments, "night"]))
    after_night = content(home, views)
    rebuilt = in_own_process(module, [*arguments, "build"])
    return {
        "bars": bars + symbols,
        "symbols": symbols,
        "nights": nights,
        "rebuild": rebuilt,
        "equal": after_night == content(home, views),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--views", nargs="+", default=list(VIEWS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--side", choices=["build", "night"])
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    if arguments.side:
        found = materialize_views(
            arguments.home, arguments.views, rebuild=arguments.side == "build"
        )
        print(json.dumps({"views": found, "peak_mb": peak_mb()}))
        return 0

    from flows.display import print_table

    rows, nights = [], {}
    for name, first in HISTORIES.items():
        with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
            found = measure(Path(scratch) / "home", first, arguments.views, arguments.repeat)
        rebuild = found["rebuild"]["views"]
        for view in [*arguments.views, ALL]:
            night = median(seconds_of(one["views"], view) for one in found["nights"])
            whole = seconds_of(rebuild, view)
            rows.append((name, found["bars"], view, night, whole, 100 * night / whole))
        nights[name] = found, rows[-1][3]
    print_table(
        ["history", "bars", "view", "night, s", "rebuild, s", "night, % of it"],
        rows,
        f"one new session, median of {arguments.repeat}",
    )
    for name, (found, _) in nights.items():
        peak = max(one["peak_mb"] for one in found["nights"])
        print(
            f"{name}: {found['symbols']:,} symbols; peak memory {peak:,.0f} MB a night, "
            f"{found['rebuild']['peak_mb']:,.0f} MB a rebuild; the night's tables equal the "
            f"rebuild's: {found['equal']}"
        )
    (_, whole), (_, tenth) = nights.values()
    print(f"ten times the history: {whole / tenth:.2f} times the seconds, all views together")
    print(SURVIVORS)
    return 0 if all(found["equal"] for found, _ in nights.values()) else 1


def seconds_of(views: Sequence[dict[str, Any]], name: str) -> float:
    """Seconds of one view, or of all of them."""
    return sum(one["seconds"] for one in views if name in (one["view"], ALL))


if __name__ == "__main__":
    sys.exit(main())
