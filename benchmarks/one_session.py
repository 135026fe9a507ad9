"""What one new session costs to materialize, beside a full rebuild and beside less history.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.one_session [--views price_factors …]

The daily reference panel (4,226 symbols, 9.7 million bars) goes into a store but for its last
session; every view is built; then the last session arrives and each view is brought up to
date in a process that has just started. The same for a store with a tenth of the history, and
for a full rebuild. That the tables are equal, row for row, is checked.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.reference import reference_folder
from benchmarks.stores import (
    SURVIVORS,
    files_settings,
    in_own_process,
    new_store,
    peak_mb,
    put_index,
    put_panel,
)

VIEWS = ("price_factors", "equity_weekly_return", "market_beta", "sp500_close")
LAST, BEFORE = "2018-12-31", "2018-12-28"
# 302 of 3,020 sessions
HISTORIES = {"whole": "2007-01-03", "a tenth": "2017-10-18"}


def materialize_views(home: Path, views: list[str], *, rebuild: bool) -> list[dict[str, Any]]:
    """Bring views up to date, or build them anew; what each took."""
    from db.sessions import sessions
    from db.warehouse import open_warehouse
    from features.catalog import feature_view
    from features.materialize import materialize

    settings = files_settings(home)
    sessions(settings.calendar)  # half a second that a night has spent long before
    found = []
    with open_warehouse(settings, "benchmark") as warehouse:
        for name in views:
            done = materialize(warehouse, feature_view(name), rebuild=rebuild)
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


def measure(home: Path, first: str, views: list[str]) -> dict[str, Any]:
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
    night = in_own_process(module, [*arguments, "night"])
    after_night = content(home, views)
    rebuilt = in_own_process(module, [*arguments, "build"])
    return {
        "bars": bars + symbols,
        "symbols": symbols,
        "night": night,
        "rebuild": rebuilt,
        "equal": after_night == content(home, views),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--views", nargs="+", default=list(VIEWS))
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

    rows, summary = [], {}
    for name, first in HISTORIES.items():
        with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
            found = measure(Path(scratch) / "home", first, arguments.views)
        summary[name] = found
        for one, whole in zip(found["night"]["views"], found["rebuild"]["views"], strict=True):
            rows.append(
                (
                    name,
                    found["bars"],
                    one["view"],
                    one["rows"],
                    one["seconds"],
                    whole["seconds"],
                    100 * one["seconds"] / whole["seconds"],
                )
            )
    print_table(
        ["history", "bars", "view", "new rows", "night, s", "rebuild, s", "night, % of it"],
        rows,
        "one new session",
    )
    whole, tenth = (
        sum(one["seconds"] for one in summary[name]["night"]["views"]) for name in HISTORIES
    )
    for name, found in summary.items():
        print(
            f"{name}: {found['symbols']:,} symbols; peak memory {found['night']['peak_mb']:,.0f} "
            f"MB a night, {found['rebuild']['peak_mb']:,.0f} MB a rebuild; the night's tables "
            f"equal the rebuild's: {found['equal']}"
        )
    print(f"ten times the history: {whole / tenth:.2f} times the seconds, all views together")
    print(SURVIVORS)
    return 0 if all(found["equal"] for found in summary.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
