"""The book's panel of weekly windows: from our store, and by the book's loop.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.weekly_windows

All stocks of the daily reference panel that are complete over 2007-2018, weekly returns of
2008-2017, 52 weeks and the next one. Ours opens a store on disk, in a process that has just
started, and reads float32 arrays with labels, dates and when each was known. The loop has the
daily prices in memory already; it resamples them, takes one slice of 53 weeks after the other
and puts them together, as the book's notebook does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peers.stopwatch import peak_mb
from benchmarks.reference import reference_folder
from benchmarks.stores import (
    CUTOFF,
    PANEL,
    SURVIVORS,
    files_settings,
    in_own_process,
    new_store,
    put_panel,
)

VIEW = "equity_weekly_return"
FIRST, LAST = "2007-12-24", "2017-12-31"
WEEKS = 52


def ours(home: Path) -> dict[str, object]:
    """Open the store and read the windows."""
    from db.warehouse import open_warehouse
    from features.catalog import feature_view
    from features.windows import read_windows

    settings, view = files_settings(home), feature_view(VIEW)
    began = time.perf_counter()
    with open_warehouse(settings, "benchmark") as warehouse:
        opened = time.perf_counter()
        windows = read_windows(warehouse, view, CUTOFF)
        seconds = time.perf_counter() - opened
    return {
        "windows": len(windows),
        "shape": str(windows.X.shape),
        "dtype": str(windows.X.dtype),
        "seconds": seconds,
        "opening": opened - began,
        "peak_mb": peak_mb(),
    }


def book(reference: Path) -> dict[str, object]:
    """The loop over weeks of the book's notebook, timed whole but for reading the file."""
    import numpy as np
    import pandas as pd

    panel = pd.read_parquet(reference / PANEL)
    panel["date"] = pd.to_datetime(panel["date"])
    counts = panel.groupby("ticker", observed=True)["date"].count()
    complete = counts.index[counts == panel["date"].nunique()]
    panel = panel[panel["ticker"].isin(complete) & panel["date"].between(FIRST, LAST)]
    prices = panel.set_index(["date", "ticker"])["adj_close"].unstack()  # noqa: PD010 - one row each
    del panel
    began = time.perf_counter()
    returns = prices.resample("W").last().pct_change().iloc[1:].sort_index(ascending=False)
    data = pd.DataFrame()
    for week in range(len(returns) - WEEKS):
        part = returns.iloc[week : week + WEEKS + 1]
        rows = (
            part.reset_index(drop=True)
            .T.assign(date=part.index.max(), ticker=part.columns)
            .set_index(["ticker", "date"])
        )
        data = pd.concat([data, rows])
    y = data[0].to_numpy("float32")
    X = np.ascontiguousarray(data[list(range(1, WEEKS + 1))].to_numpy("float32"))
    seconds = time.perf_counter() - began
    return {
        "windows": len(y),
        "shape": str(X.shape),
        "dtype": str(X.dtype),
        "seconds": seconds,
        "peak_mb": peak_mb(),
    }


def make_store(home: Path, reference: Path) -> float:
    """A store with the panel and the view; seconds to materialize it."""
    from db.warehouse import open_warehouse
    from features.catalog import feature_view
    from features.materialize import materialize

    settings = new_store(home)
    with open_warehouse(settings, "benchmark") as warehouse:
        put_panel(warehouse, reference, first=FIRST, last=LAST, complete=True)
        return materialize(warehouse, feature_view(VIEW)).seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", choices=["ours", "book"], help="one side, as JSON")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    reference = reference_folder()
    if arguments.side:
        result = ours(arguments.home) if arguments.side == "ours" else book(reference)
        print(json.dumps(result))
        return 0

    from flows.display import print_table

    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        home = str(Path(scratch) / "home")
        materialized = make_store(Path(home), reference)
        module = "benchmarks.weekly_windows"
        rows = []
        for _ in range(arguments.repeat):
            rows.append(("ours", in_own_process(module, ["--side", "ours", "--home", home])))
        rows.append(("the book's loop", in_own_process(module, ["--side", "book"])))
    columns = ["windows", "shape", "dtype", "seconds", "peak_mb"]
    print_table(
        ["side", *columns],
        [(side, *(found[name] for name in columns)) for side, found in rows],
        "weekly windows of the book's panel",
    )
    best = min(found["seconds"] for side, found in rows if side == "ours")
    loop = rows[-1][1]["seconds"]
    print(
        f"ours {best:.2f} s (and {rows[0][1]['opening']:.2f} s to open the store), the loop "
        f"{loop:.1f} s: {loop / best:.0f} times. Materializing took {materialized:.1f} s, once."
    )
    print(SURVIVORS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
