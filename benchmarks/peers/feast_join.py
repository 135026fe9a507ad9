"""Feast's point-in-time join, in a process and an environment of its own.

    python feast_join.py file|duckdb SPINE FACTORS OUT MEMORY_GB

Joins the factor rows known at each instant of the spine, prints one line of JSON and writes what
Feast returned to OUT. Imports, the repository's `apply` and the reading of the spine are not
timed: `get_historical_features(...).to_df()` is.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64
from stopwatch import peak_mb

VALUES = ["a", "b", "c"]
CORES = 2
# No limit of age; a ttl of 20 years asks the same with one condition more (as fast, within noise).
NO_TTL = timedelta(0)


def feature_store(store: str, factors: Path, home: Path) -> FeatureStore:
    """A repository under `home` with one view, `factors`, over the Parquet file."""
    repository = FeatureStore(
        config=RepoConfig(
            project="point_in_time_join",
            provider="local",
            registry=str(home / "registry.db"),
            offline_store={"type": store},
            online_store=None,
            entity_key_serialization_version=3,
        )
    )
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name="factors",
        entities=[symbol],
        ttl=NO_TTL,
        schema=[Field(name=name, dtype=Float64) for name in VALUES],
        source=FileSource(name="factors", path=str(factors), timestamp_field="known_at"),
        online=False,
    )
    repository.apply([symbol, view])
    return repository


def confine_duckdb(home: Path, memory_gb: float) -> None:
    """Tell the DuckDB that Feast speaks to, through ibis, where to spill and when."""
    import ibis

    ibis.set_backend(
        ibis.duckdb.connect(
            threads=CORES, memory_limit=f"{memory_gb}GB", temp_directory=str(home / "spill")
        )
    )


def main() -> None:
    """Join, print the measurement, write the result."""
    store, memory_gb = sys.argv[1], float(sys.argv[5])
    spine, factors, out = map(Path, sys.argv[2:5])
    with tempfile.TemporaryDirectory(prefix="feast-") as scratch:
        repository = feature_store(store, factors, Path(scratch))
        if store == "duckdb":
            confine_duckdb(Path(scratch), memory_gb)
        asked = pd.read_parquet(spine).rename(columns={"ts": "event_timestamp"})
        began = time.perf_counter()
        joined = repository.get_historical_features(
            entity_df=asked, features=[f"factors:{name}" for name in VALUES]
        ).to_df()
        measured = {
            "tool": "feast",
            "store": store,
            "version": version("feast"),
            "spine": len(asked),
            "rows": len(joined),
            "seconds": time.perf_counter() - began,
            "peak_mb": peak_mb(),
        }
    joined = joined.rename(columns={"event_timestamp": "ts"})
    pq.write_table(pa.Table.from_pandas(joined[["symbol", "ts", *VALUES]]), out)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
