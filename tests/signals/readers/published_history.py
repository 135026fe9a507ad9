"""Real closes of twenty stocks, made-up scores, and a published file that holds them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from db.publishing import publish
from db.sessions import Sessions
from db.settings import Settings
from db.sources.sample import PackagedFile
from db.tables import bars, signal_revisions, signals
from db.warehouse import open_warehouse
from features.catalog import feature_view
from features.materialize import materialize

FIRST, LAST = "2015-12-01", "2018-12-31"
REVERSAL = "equity_week_direction"


def closes() -> pd.DataFrame:
    """Total-adjusted closes of the twenty stocks: session by symbol."""
    file = PackagedFile("skfolio", "datasets/data/sp500_dataset.csv.gz")
    return file.read().loc[FIRST:LAST].rename_axis(index="session", columns="entity")


def scores(calendar: Sessions, close: pd.DataFrame) -> pd.DataFrame:
    """Last week's return with its sign turned, as of each week's end: rows of the contract."""
    ends = [day for day in close.index if calendar.is_week_end(day.date())]
    week = close.loc[ends].pct_change(fill_method=None).iloc[1:]
    rows = (-week).melt(ignore_index=False, var_name="entity").reset_index(names="as_of")
    after = {day: pd.Timestamp(calendar.next(day.date())) for day in ends}
    known = {day: pd.Timestamp(calendar.close(day.date())) + pd.Timedelta(hours=4) for day in ends}
    newest = rows["as_of"].max()
    return rows.assign(
        signal=REVERSAL,
        horizon=1,
        horizon_unit="week",
        role=np.where(rows["as_of"] == newest, "live", "backfill"),
        known_at=rows["as_of"].map(known),
        tradable_from=rows["as_of"].map(after),
        rank=rows.groupby("as_of")["value"].rank(pct=True),
        model="reversal",
        model_version="v1",
        feature_view="equity_weekly_return",
        feature_version="f1",
        data_snapshot="d1",
        published_at=rows["as_of"].map(known) + pd.Timedelta(hours=2),
        run_id="r1",
    )


def store(home: Path, empty: Path, rows: pd.DataFrame | None, close: pd.DataFrame | None) -> Path:
    """A home with one publication that holds these signals and closes."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty, home / "warehouse.duckdb")
    with open_warehouse(Settings(home=home, profile="sample"), "test") as warehouse:
        if close is not None:
            long = close.melt(ignore_index=False, value_name="adj_close").dropna().reset_index()
            known = pd.DatetimeIndex(long["session"]).tz_localize("UTC") + pd.Timedelta(hours=22)
            long = long.assign(
                source="sample.stocks",
                adjustment="total",
                history=0,
                known_at=known,
                ingested_at=pd.Timestamp("2030-01-01", tz="UTC"),
                run_id="r1",
            )
            warehouse.append(bars, long)
            materialize(warehouse, feature_view("price_factors"))
        if rows is not None:
            warehouse.append(signals, rows)
            warehouse.append(signal_revisions, rows.assign(revision=0))
        publish(warehouse)
    return home
