"""Stores with the daily reference panel in them, and measurements in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from db.settings import Settings, load_settings
from db.warehouse import Warehouse, open_warehouse

PANEL = "us_equities_adj_close_daily_2007_2018.parquet"
INDEX = "sp500_close_daily_1990_2022.csv"
SURVIVORS = "Only stocks still listed in March 2024: survivors."
# What the benchmarks read as of: after everything in the panel was known.
CUTOFF = datetime(2019, 6, 1, tzinfo=UTC)


def files_settings(home: Path) -> Settings:
    """Settings of a store of profile `files` in a folder of its own."""
    os.environ |= {"LOOKBACK_HOME": str(home), "LOOKBACK_PROFILE": "files"}
    return load_settings()


def put_panel(
    warehouse: Warehouse, reference: Path, *, first: str, last: str, complete: bool = False
) -> int:
    """Append the panel's rows of some sessions, as a night takes them over; rows.

    Parameters
    ----------
    warehouse : the open store.
    reference : folder of the reference data.
    first, last : sessions, both included.
    complete : only the stocks with a price on each session of 2007-2018.
    """
    panel = str(reference / PANEL)
    whole = """
        AND ticker IN (
            SELECT ticker
            FROM read_parquet($1)
            WHERE adj_close > 0
            GROUP BY ticker
            HAVING count(*) = (SELECT count(DISTINCT date) FROM read_parquet($1))
        )
    """
    found = warehouse.native.execute(
        f"""
        INSERT INTO raw.bars BY NAME
        SELECT 'files.bars' AS source, ticker AS entity, CAST(date AS DATE) AS session,
            CAST(adj_close AS DOUBLE) AS adj_close, 'total' AS adjustment, 0 AS history,
            CAST(date AS TIMESTAMP) AT TIME ZONE 'America/New_York' + INTERVAL 20 HOUR AS known_at,
            now() AS ingested_at, 'benchmark' AS run_id
        FROM read_parquet($1)
        WHERE adj_close > 0 AND date BETWEEN CAST($2 AS DATE) AND CAST($3 AS DATE)
            {whole if complete else ""}
        ORDER BY date, ticker
        """,
        (panel, first, last),
    ).fetchone()
    assert found is not None
    return int(found[0])


def put_index(warehouse: Warehouse, reference: Path, *, first: str, last: str) -> None:
    """Append the S&P 500's closes of some sessions."""
    warehouse.native.execute(
        """
        INSERT INTO raw.observations BY NAME
        SELECT 'files.SP500' AS source, 'SP500' AS series, CAST(date AS DATE) AS period,
            CAST("SP500" AS DOUBLE) AS value,
            CAST(date AS TIMESTAMP) AT TIME ZONE 'America/New_York' + INTERVAL 20 HOUR AS known_at,
            now() AS ingested_at, 'benchmark' AS run_id
        FROM read_csv($1)
        WHERE date BETWEEN CAST($2 AS DATE) AND CAST($3 AS DATE)
        """,
        (str(reference / INDEX), first, last),
    )


def new_store(home: Path) -> Settings:
    """An empty store in a folder that is emptied first."""
    shutil.rmtree(home, ignore_errors=True)
    settings = files_settings(home)
    with open_warehouse(settings, "benchmark"):
        pass
    return settings


def in_own_process(module: str, arguments: Sequence[str], **environment: str) -> dict[str, Any]:
    """What `python -m module arguments` prints as its last line of JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
