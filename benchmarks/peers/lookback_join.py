"""Our point-in-time join, in a process of its own.

python -m benchmarks.peers.lookback_join SPINE FACTORS OUT MEMORY_GB
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import duckdb
import pandas as pd  # noqa: F401 - DuckDB's df() would import it within the time
import pyarrow as pa
import pyarrow.parquet as pq

CORES = 2

# one row per row of the spine
JOIN = """
    SELECT s.symbol, s.ts, f.a, f.b, f.c
    FROM read_parquet($spine) s
    ASOF LEFT JOIN read_parquet($factors) f
        ON s.symbol = f.symbol AND s.ts >= f.known_at
"""


def ours(spine: Path, factors: Path, out: Path, memory_gb: float) -> dict[str, object]:
    """Seconds and peak memory of the join, from Parquet to a data frame; writes it to `out`."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": CORES,
        "memory_limit": f"{memory_gb}GB",
        "temp_directory": str(out.parent / "spill"),
    }
    with duckdb.connect(config=config) as database:
        database.execute("SET TimeZone = 'UTC'")
        began = time.perf_counter()
        joined = database.execute(JOIN, {"spine": str(spine), "factors": str(factors)}).df()
        seconds = time.perf_counter() - began
    peak = peak_mb()
    pq.write_table(pa.Table.from_pandas(joined), out)
    return {
        "tool": "lookback",
        "store": "duckdb",
        "version": version("lookback"),
        "spine": pq.read_metadata(spine).num_rows,
        "rows": len(joined),
        "seconds": seconds,
        "peak_mb": peak,
    }


def peak_mb() -> float:
    """Largest resident memory of this process; Linux counts it since the program began."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Join and print the measurement."""
    spine, factors, out = map(Path, sys.argv[1:4])
    print(json.dumps(ours(spine, factors, out, memory_gb=float(sys.argv[4]))))


if __name__ == "__main__":
    main()
