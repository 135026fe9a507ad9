"""The equity signal over years of the reference panel, walk-forward: what a backtest starts from.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.equity_backfill --home FOLDER

Takes over the daily reference panel (9.7 million rows) into a store of profile `files` in FOLDER,
once; fills in `equity_week_direction` from 2015 to 2017 (`--from`, `--to`) with a version of the
recipe `cross_section` for each year, trained on what was known before it; prints rank IC by year
against the label and against what could be traded. Both studies read FOLDER:

    python examples/equity_study.py --signals FOLDER --output FOLDER/study
    python examples/bt_portfolio.py --signals FOLDER --output FOLDER/bt

Only stocks still listed in March 2024 are in the panel: survivors.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from benchmarks.reference import reference_folder
from benchmarks.stores import SURVIVORS
from db.publishing import query_published
from flows.backfill import Asked, fill_in
from flows.display import new_console, print_table
from flows.progress import ConsoleProgress, step
from flows.reference import reference_store

DROPS = ("bars/us_equities.parquet",)
VIEWS = {"equity_weekly_cross_section", "price_factors"}
SIGNAL, RECIPE = "equity_week_direction", "cross_section"
BY_YEAR = """
    -- one row per year of the signal, whoever made it
    SELECT coalesce(strftime(as_of, '%Y'), 'all') AS year, count(*) AS weeks,
        sum(scored) AS scores, avg(rank_ic) AS rank_ic,
        avg(rank_ic) / stddev(rank_ic) * sqrt(count(rank_ic)) AS t,
        avg(tradable_rank_ic) AS tradable_rank_ic,
        avg(tradable_rank_ic) / stddev(tradable_rank_ic) * sqrt(count(tradable_rank_ic))
            AS tradable_t,
        avg(auc) AS auc, avg(hit_rate) AS hit_rate
    FROM signal_performance
    WHERE signal = 'equity_week_direction' AND model_version = '*' AND role = 'backfill'
    GROUP BY ROLLUP (strftime(as_of, '%Y'))
    ORDER BY year
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2015, 1, 2))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2017, 12, 29))
    asked = parser.parse_args()
    reference_folder()
    if find_spec("jax") is not None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    console, began = new_console(), time.perf_counter()
    with ConsoleProgress(console).shown():
        with step("store of the reference panel") as shown:
            settings = reference_store(
                asked.home.absolute(), DROPS, VIEWS, lambda said: shown.move(0, 1, said)
            )
        report = fill_in(settings, Asked(asked.first, asked.last, (SIGNAL,), RECIPE))
    columns = ["model_version", "first", "last", "nights", "rows", "new"]
    print_table(
        columns, [[row[name] for name in columns] for row in report.scored], SIGNAL, console
    )
    names, rows = query_published(settings, BY_YEAR)
    print_table(names, rows, f"by year; {SURVIVORS}", console)
    console.print(f"{time.perf_counter() - began:.0f} s in all; published {report.published}")
    return report.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
