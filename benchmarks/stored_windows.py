"""Windows cut when they are asked for, beside windows stored as FLOAT[T]: size and seconds.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.stored_windows

The book's weekly panel. Stored, every value is there 52 times, and a night that corrects one
value would rewrite 52 windows; cut, a query pays for the cutting.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks.reference import reference_folder
from benchmarks.stores import CUTOFF, SURVIVORS, files_settings
from benchmarks.weekly_windows import VIEW, make_store
from features.catalog import feature_view
from flows.display import print_table

DAY = "DATE '2017-06-30'"
QUERIES = {
    "one stock": "WHERE entity = 'AAPL'",
    "one date": f"WHERE as_of = {DAY}",
    "all": "",
}
BLOCK_BYTES = 262_144


def timed(connection: duckdb.DuckDBPyConnection, source: str, where: str) -> tuple[int, float]:
    """Windows of a query, read in full, and the best of three runs' seconds."""
    best, count = float("inf"), 0
    for _ in range(3):
        began = time.perf_counter()
        count = (
            connection.execute(f"SELECT entity, as_of, weekly_return FROM {source} {where}")
            .to_arrow_table()
            .num_rows
        )
        best = min(best, time.perf_counter() - began)
    return count, best


def size_mib(connection: duckdb.DuckDBPyConnection, table: str) -> float:
    """What a table takes on disk."""
    found = connection.execute(
        "SELECT count(DISTINCT block_id) FROM pragma_storage_info(?) WHERE block_id >= 0", (table,)
    ).fetchone()
    assert found is not None
    return int(found[0]) * BLOCK_BYTES / 2**20


def main() -> int:
    """Measure and print."""
    view = feature_view(VIEW)
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        home = Path(scratch) / "home"
        make_store(home, reference_folder())
        with duckdb.connect(str(files_settings(home).warehouse)) as connection:
            instant = f"TIMESTAMPTZ '{CUTOFF.isoformat()}'"
            cut = f"features.{view.name}_windows({instant})"
            on = f"features.{view.name}_windows_on({instant}, {DAY})"
            began = time.perf_counter()
            connection.execute(f"CREATE TABLE stored AS FROM {cut} ORDER BY as_of, entity")
            connection.execute("CHECKPOINT")
            storing = time.perf_counter() - began
            rows = []
            for name, where in QUERIES.items():
                source, condition = (on, "") if DAY in where else (cut, where)
                count, seconds = timed(connection, source, condition)
                _, of_stored = timed(connection, "stored", where)
                rows.append((name, count, seconds, of_stored))
            sizes = size_mib(connection, view.table), size_mib(connection, "stored")
    print_table(["query", "windows", "cut, s", "stored, s"], rows, "windows in SQL")
    print(
        f"the values take {sizes[0]:.0f} MiB, the stored windows {sizes[1]:.0f} MiB, "
        f"{sizes[1] / sizes[0]:.0f} times as much, and took {storing:.1f} s to store"
    )
    print(SURVIVORS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
