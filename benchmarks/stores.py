"""Stores with the daily reference panel in them, and measurements in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from db.sessions import sessions
from db.settings import Settings, load_settings
from db.tables import signals as signals_table
from db.warehouse import Warehouse, open_warehouse
from signals.declaration import Signal
from signals.scoring import published, write

PANEL = "us_equities_adj_close_daily_2007_2018.parquet"
INDEX = "sp500_close_daily_1990_2022.csv"
SURVIVORS = "Only stocks still listed in March 2024: survivors."
# What the benchmarks read as of: after everything in the panel was known.
CUTOFF = datetime(2019, 6, 1, tzinfo=UTC)
# The newest date of made-up signals: a Friday.
NEWEST = date(2018, 12, 28)


@dataclass(frozen=True)
class Scores:
    """A made-up signal: its dates (weeks, sessions or months), oldest a backfill's, then live.

    `series` names its entities; without, they are the symbols.
    """

    signal: str
    unit: str
    backfill: int
    live: int
    horizons: tuple[int, ...] = (1,)
    series: tuple[str, ...] = ()


WEEKLY, DAILY = "equity_week_direction", "equity_next_session"
SERIES = (
    Scores("sp500_next_close", "session", 2500, 500, series=("SP500",)),
    Scores("macro_outlook", "month", 120, 24, series=("UMCSENT", "IPGMFN")),
    Scores("macro_path", "month", 120, 24, tuple(range(1, 13)), ("UMCSENT", "IPGMFN")),
)


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


def put_signals(warehouse: Warehouse, years: float, symbols: int) -> int:
    """Fill the tables of signals with made-up scores of a store that has run for years; rows.

    A weekly and a daily signal of many symbols: a backfill with a version a year, then live
    nights with a version a quarter, and the challengers of the last half year; one row in a
    hundred was revised the day after. Beside them the declared signals of one and two series.
    Rows lie in the order in which such a store would have got them. Outcomes are there for all
    but the newest dates.

    Parameters
    ----------
    warehouse : of a new store.
    years : of weekly scores; the daily ones span four sevenths of that.
    symbols : how many.
    """
    weeks, sessions_ = round(52 * years), round(144 * years)
    weekly = Scores(WEEKLY, "week", weeks - weeks // 6, weeks // 6)
    daily = Scores(DAILY, "session", sessions_ - sessions_ // 5, sessions_ // 5)
    calendar = sessions(warehouse.settings.calendar)
    native = warehouse.native
    days = [day for day in calendar.days.astype(object) if day <= NEWEST]
    frames = []
    for scores in (weekly, daily, *SERIES):
        dates = [day for day in days if scores.unit == "session" or calendar.is_week_end(day)]
        if scores.unit == "month":
            ends = {(day.year, day.month): day for day in dates}
            dates = list(ends.values())
        for role, count in (
            ("backfill", scores.backfill),
            ("live", scores.live),
            ("challenger", min(scores.live, 26) if scores.series == () else 0),
        ):
            until = len(dates) - (scores.live if role == "backfill" else 0)
            frames += [
                {"signal": scores.signal, "unit": scores.unit, "as_of": day, "role": role}
                | {"horizons": scores.horizons, "many": scores.series == ()}
                | {"series": list(scores.series)}
                for day in dates[max(0, until - count) : until]
            ]
    with warehouse.relation(pd.DataFrame(frames).astype({"as_of": "datetime64[us]"}), "made"):
        native.execute("CREATE TEMP TABLE dated AS SELECT * FROM made")
    # one row per (signal, as_of, role): what a night or a backfill gives its rows
    native.execute(
        """
        CREATE TEMP TABLE nights AS
        SELECT * REPLACE (CAST(as_of AS DATE) AS as_of),
            as_of::TIMESTAMP AT TIME ZONE 'America/New_York' + INTERVAL 20 HOUR AS known_at,
            CASE role
                WHEN 'backfill' THEN TIMESTAMPTZ '2007-01-01 00:00:00+00'
                ELSE as_of::TIMESTAMP AT TIME ZONE 'America/New_York' + INTERVAL 22 HOUR
            END AS published_at,
            CASE role
                WHEN 'backfill' THEN 'wf-' || year(as_of)
                WHEN 'live' THEN year(as_of) || 'q' || quarter(as_of)
                ELSE 'challenger'
            END || '-' || left(md5(signal), 8) AS model_version,
            sha256(signal || as_of) AS data_snapshot,
            CASE role
                WHEN 'backfill' THEN left(md5(signal), 12)
                ELSE left(md5(CAST(as_of AS VARCHAR)), 12)
            END AS run_id
        FROM dated
        """
    )
    contract = ", ".join(column.name for column in signals_table.columns)
    # one row per key of signals, in the order of publication
    native.execute(
        """
        INSERT INTO main.signal_revisions BY NAME
        WITH names AS (
            SELECT chr(65 + CAST(i // 676 % 26 AS INT)) || chr(65 + CAST(i // 26 % 26 AS INT))
                || chr(65 + CAST(i % 26 AS INT)) AS entity
            FROM range($1) t(i)
        ), entities AS (
            SELECT signal, as_of, role, unnest(
                CASE WHEN many THEN (SELECT list(entity ORDER BY entity) FROM names) ELSE series END
            ) AS entity
            FROM nights
        )
        SELECT signal, entity, as_of, horizon, unit AS horizon_unit, role, known_at,
            as_of + 3 AS tradable_from, random() - 0.5 AS value,
            CASE WHEN many THEN random() END AS probability,
            CASE WHEN many THEN random() END AS rank,
            signal AS model, model_version, 'view_of_' || signal AS feature_view,
            '0123456789ab' AS feature_version, data_snapshot, published_at, run_id, 0 AS revision
        FROM nights
        JOIN entities USING (signal, as_of, role),
        LATERAL (SELECT unnest(horizons) AS horizon)
        ORDER BY published_at, signal, as_of, role, entity, horizon
        """,
        [symbols],
    )
    native.execute(
        """
        INSERT INTO main.signal_revisions BY NAME
        SELECT * REPLACE (
            value + 0.001 AS value, published_at + INTERVAL 1 DAY AS published_at, 1 AS revision
        )
        FROM main.signal_revisions
        WHERE hash(signal, entity, as_of) % 100 = 0
        """
    )
    native.execute(
        f"""
        INSERT INTO main.signals BY NAME
        SELECT {contract}
        FROM main.signal_revisions
        WHERE revision = 1 OR hash(signal, entity, as_of) % 100 <> 0
        """
    )
    native.execute(
        """
        INSERT INTO main.outcomes BY NAME
        SELECT signal, entity, as_of, horizon, horizon_unit, role, model_version, tradable_from,
            value, probability, as_of + 7 AS target_date, 0.0 AS start,
            value + random() AS realised, random() - 0.5 AS error, random() > 0.5 AS hit,
            random() - 0.5 AS label_return, random() - 0.5 AS tradable_return,
            as_of + 10 AS tradable_until, known_at + INTERVAL 7 DAY AS known_at,
            published_at + INTERVAL 7 DAY AS recorded_at, run_id
        FROM main.signals
        WHERE as_of < $1
        """,
        [NEWEST - timedelta(days=7)],
    )
    native.execute("DROP TABLE dated; DROP TABLE nights; CHECKPOINT")
    (rows,) = warehouse.one("SELECT count(*) FROM main.signals") or (0,)
    return int(rows)


def write_night(warehouse: Warehouse, declared: Signal, day: date) -> int:
    """Score every symbol that the signal had on its newest date, as a night does; rows."""
    # one row per symbol
    names = warehouse.sql(
        """
        SELECT DISTINCT entity
        FROM main.signals
        WHERE signal = $1 AND role = 'live'
            AND as_of = (SELECT max(as_of) FROM main.signals WHERE signal = $1 AND role = 'live')
        ORDER BY entity
        """,
        declared.name,
    )
    at = pd.Timestamp(day, tz="America/New_York") + pd.Timedelta(hours=22)
    run_id = f"{day:%Y%m%d}0000"
    chance = np.random.default_rng(day.toordinal())
    rows = pd.DataFrame(
        {
            "signal": declared.name,
            "entity": [name for (name,) in names],
            "as_of": pd.Timestamp(day),
            "horizon": np.int32(1),
            "horizon_unit": "session",
            "role": "live",
            "known_at": at - pd.Timedelta(hours=2),
            "tradable_from": pd.Timestamp(day) + pd.Timedelta(days=1),
            "value": chance.standard_normal(len(names)),
            "q05": None,
            "q50": None,
            "q95": None,
            "probability": chance.random(len(names)),
            "rank": chance.random(len(names)),
            "model": declared.model,
            "model_version": f"{day:%Y}q{(day.month + 2) // 3}-benchmark",
            "feature_view": f"view_of_{declared.name}",
            "feature_version": "0123456789ab",
            "data_snapshot": run_id * 5,
            "published_at": at,
            "run_id": run_id,
        }
    )
    span = rows["as_of"].min(), rows["as_of"].max()
    made_by: Any = SimpleNamespace(model_version=rows["model_version"][0])
    known = published(warehouse, declared, made_by, span, "live")
    return sum(write(warehouse, rows, known))
