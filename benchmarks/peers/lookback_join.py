"""Our point-in-time join, in a process of its own.

python -m benchmarks.peers.lookback_join SPINE FACTORS OUT MEMORY_GB

The factors are put into a store as a feature view, which is not timed; then the store is
opened and joined to the spine.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.stopwatch import peak_mb
from benchmarks.stores import files_settings, new_store
from db.tables import feature_views
from db.warehouse import Warehouse, open_warehouse
from features.join import join
from features.view import Feature, FeatureView, Input

CUTOFF = datetime(2030, 1, 1, tzinfo=UTC)
VIEW = FeatureView(
    name="given_factors",
    description="factors computed elsewhere",
    entity="symbol",
    inputs=(Input("bars"),),
    sql="-- the rows are put into the table as they are",
    features=(Feature("a"), Feature("b"), Feature("c")),
    window=1,
    target="a",
    horizon=1,
    horizon_unit="session",
)


def put(warehouse: Warehouse, factors: Path) -> None:
    """The factors as the materialized values of the view, in the order in which nights append."""
    with warehouse.transaction():
        warehouse.native.execute(
            f"""
            CREATE TABLE {VIEW.table} AS
            SELECT symbol AS entity, CAST(known_at AS DATE) AS date, a, b, c, known_at,
                CAST(NULL AS TIMESTAMPTZ) AS known_until
            FROM read_parquet($1)
            ORDER BY date, entity
            """,
            (str(factors),),
        )
        row = {
            "view": VIEW.name,
            "version": VIEW.version,
            "entity": VIEW.entity,
            "window": VIEW.window,
            "horizon": VIEW.horizon,
            "horizon_unit": VIEW.horizon_unit,
            "declaration": VIEW.declaration,
            "rows": 0,
            "entities": 0,
        }
        warehouse.upsert(feature_views, row)


def ours(spine: Path, factors: Path, out: Path, memory_gb: float) -> dict[str, object]:
    """Seconds and peak memory of the join, from the store to a data frame; writes it to `out`."""
    home = out.parent / "home"
    with open_warehouse(new_store(home), "benchmark") as warehouse:
        put(warehouse, factors)
    filling = peak_mb()
    with open_warehouse(files_settings(home), "benchmark") as warehouse:
        warehouse.native.execute(f"SET memory_limit = '{memory_gb}GB'")
        began = time.perf_counter()
        joined = join(warehouse, read_spine(spine), [VIEW], CUTOFF).to_pandas()
        seconds = time.perf_counter() - began
    peak = peak_mb()
    values = {name: joined[f"{VIEW.name}__{name}"] for name in VIEW.names}
    result = joined[["symbol", "timestamp"]].rename(columns={"timestamp": "ts"}).assign(**values)
    pq.write_table(pa.Table.from_pandas(result, preserve_index=False), out)
    return {
        "tool": "lookback",
        "store": "duckdb",
        "version": version("lookback"),
        "spine": len(result),
        "rows": len(result),
        "seconds": seconds,
        "peak_mb": max(peak, filling),
    }


def read_spine(path: Path) -> pa.Table:
    """The spine under the names that a join wants."""
    return pq.read_table(path).rename_columns({"ts": "timestamp"})


def main() -> None:
    """Join and print the measurement."""
    spine, factors, out = map(Path, sys.argv[1:4])
    print(json.dumps(ours(spine, factors, out, memory_gb=float(sys.argv[4]))))


if __name__ == "__main__":
    main()
