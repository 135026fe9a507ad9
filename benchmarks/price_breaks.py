"""How well price breaks are judged on the reference panel, against labels made by hand.

`LOOKBACK_REFERENCE_DATA=… python -m benchmarks.price_breaks [--json]`

The labels (`tests/db/quality/break_labels.csv`) cover every weekly return beyond ±200 % of the
complete symbols of 2007-2018: 118 weeks of 72 symbols. They were written from the price paths,
a second source and known company events before the judge existed; `unclear` ones are counted
and left out of the score. A week is judged broken when either of its two closes lies in a
spike, or a split or level break lies between them: what a weekly window would meet.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import pandas as pd

from benchmarks.reference import reference_folder
from db.quality.breaks import BROKEN, judge_breaks

LABELS = Path(__file__).parents[1] / "tests/db/quality/break_labels.csv"
PANEL = "us_equities_adj_close_daily_2007_2018.parquet"
SURVIVORS = "Only stocks still listed in March 2024: survivors."


def read_panel(folder: Path) -> pd.DataFrame:
    """The daily panel: entity (categorical), session, close (adjusted)."""
    panel = pd.read_parquet(folder / PANEL)
    panel.columns = pd.Index(["session", "entity", "close"])
    return panel.assign(session=pd.to_datetime(panel["session"]))


def judge_weeks(panel: pd.DataFrame, breaks: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The labels with `verdict` (kind of the break the week meets, else 'none') and `broken`."""
    sessions = panel.loc[panel["entity"] == labels["ticker"].iloc[0], "session"]
    week_ends = sessions.groupby(sessions.dt.to_period("W-SUN")).max()
    verdicts = []
    for label in labels.itertuples():
        week = pd.Period(label.week, "W-SUN")
        before, end = week_ends[week - 1], week_ends[week]
        own = breaks[breaks["entity"] == label.ticker]
        inside = own["session"].gt(before) & own["session"].le(end)
        meets = inside & own["kind"].isin({"split", "level"})
        for close in (before, end):
            meets |= own["session"].le(close) & own["until_session"].ge(close)
        kinds = own.loc[meets if meets.any() else inside & own["kind"].ne("spike"), "kind"]
        verdicts.append("+".join(dict.fromkeys(kinds)) or "none")
    judged = labels.assign(verdict=verdicts)
    return judged.assign(broken=[bool(BROKEN & set(v.split("+"))) for v in verdicts])


def score(truth: pd.Series, verdict: pd.Series) -> dict[str, float]:
    """Precision and recall of 'broken'; both are boolean."""
    hits = int((truth & verdict).sum())
    return {
        "n": len(truth),
        "broken": int(truth.sum()),
        "judged_broken": int(verdict.sum()),
        "hits": hits,
        "precision": hits / max(int(verdict.sum()), 1),
        "recall": hits / max(int(truth.sum()), 1),
    }


def measure(folder: Path) -> tuple[pd.DataFrame, dict[str, object]]:
    """Judged labels, and the figures: scores, counts by kind, seconds, peak memory."""
    panel = read_panel(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    breaks = judge_breaks(panel)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    judged = judge_weeks(panel, breaks, pd.read_csv(LABELS))
    clear = judged[judged["label"] != "unclear"]
    sure = clear[clear["certainty"] == "high"]
    by_ticker = clear.assign(truth=clear["label"] == "broken").groupby("ticker")
    tickers = by_ticker[["truth", "broken"]].any()
    figures: dict[str, object] = {
        "tickers": score(tickers["truth"], tickers["broken"]),
        "tickers_without_clear_label": judged["ticker"].nunique() - len(tickers),
        "weeks": score(clear["label"] == "broken", clear["broken"]),
        "weeks_of_high_certainty": score(sure["label"] == "broken", sure["broken"]),
        "weeks_unclear": int((judged["label"] == "unclear").sum()),
        "weeks_unclear_judged_broken": int(
            (judged["broken"] & (judged["label"] == "unclear")).sum()
        ),
        "rows": len(panel),
        "symbols": int(panel["entity"].nunique()),
        "breaks": breaks["kind"].value_counts().to_dict(),
        "symbols_with_a_broken_point": int(
            breaks.loc[breaks["kind"].isin(BROKEN), "entity"].nunique()
        ),
        "seconds": round(seconds, 2),
        "extra_peak_mb": round((peak - before) / 1024),
    }
    return judged, figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="figures only, as JSON")
    arguments = parser.parse_args()
    judged, figures = measure(reference_folder())
    if arguments.json:
        print(json.dumps({**figures, "weeks_table": judged.to_dict("records")}))
        return 0
    columns = ["ticker", "week", "label", "certainty", "verdict", "broken"]
    print(judged[columns].to_string(index=False), "", sep="\n")
    for name, value in figures.items():
        print(f"{name:28} {value}")
    print(SURVIVORS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
