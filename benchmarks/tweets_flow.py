"""Two years of tweets about stocks through the sentiment flow, and what they say of returns.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.tweets_flow --home FOLDER

StockNet's 106,338 tweets of 2014 and 2015 about 87 stocks go through `lookback sentiment` as a
user runs it, a process of its own, Prefect's start included; the store has the stocks' bars and a
champion that was trained as of the end of 2013: on Financial PhraseBank (July 2013), without the
headlines (2022) and the word vectors (2014) that a training of today would take. Then
`lookback backfill` gives each session its signal, and the signal is held against the return of the
next session (label), of the session after that (what could be traded from `tradable_from` on), and
of later ones (decay), beside the same tweets scored by the lexicons. What the signal is (`decayed`)
was fixed before any of these figures had been seen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.reference import reference_folder
from db.clock import past_night
from db.publishing import query_published
from db.sessions import sessions
from db.settings import Settings, load_settings
from flows import steps
from flows.display import new_console, print_table
from models.evaluation.cross_section import rank_ic_by_date
from models.evaluation.significance import newey_west_t
from models.text import baselines
from models.text.corpora import THREE_CLASSES, Corpus
from signals.sentiment import days_of

TWEETS, BARS = "stock_tweets_2014_2015.parquet", "stock_prices_ohlcv_2012_2017.parquet"
CORPORA = ("financial_phrasebank_50agree.txt",)
MODEL, TRAINED_AS_OF = "text_sentiment_finance", date(2013, 12, 31)
FIRST, LAST = "2014-01-02", "2015-12-31"
# What the signal could have been: features of the view.
FEATURES = ("decayed", "novel_sentiment", "sentiment", "documents")
LEXICONS = ("vader", "loughran_mcdonald")
# Sessions after the label's that the signal is held against, too.
LAGS = (0, 1, 2, 4, 9)
FEWEST = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home.absolute()
    reference = reference_folder()
    environment = _environment(home)
    settings = load_settings(home=home, profile="files", files_dir=home / "files")
    _prepare(settings, reference, environment)
    console = new_console()

    shutil.copy(reference / TWEETS, home / "inbox" / TWEETS)
    began = time.perf_counter()
    _lookback(environment, "sentiment")
    flow = time.perf_counter() - began
    began = time.perf_counter()
    _lookback(environment, "sentiment")
    again = time.perf_counter() - began
    _lookback(environment, "backfill", "--from", FIRST, "--to", LAST, "--signal", "sentiment_daily")

    counts = _one(settings, COUNTS)
    print_table(list(counts), [list(counts.values())], "what became of the tweets", console)
    console.print(
        f"`lookback sentiment`: {flow:.1f} s in all, {counts['scored'] / flow:,.0f} tweets a "
        f"second; once more, with nothing new: {again:.1f} s",
        highlight=False,
    )
    returns = _returns(reference)
    rows = []
    for name, panel in _panels(settings).items():
        for year in (2014, 2015):
            rows.append(_figures(name, year, panel[panel["session"].dt.year == year], returns))
    columns = ["score", "year", "dates", "stocks a date", *(f"IC +{lag}" for lag in LAGS)]
    columns = [*columns[:5], "t +0", columns[5], "t +1", *columns[6:]]
    print_table(columns, [[row[name] for name in columns] for row in rows], RANK_IC, console)
    names, found = query_published(settings, PUBLISHED)
    print_table(names, found, "signal_performance, as published", console)
    return 0


RANK_IC = (
    "mean rank IC with the return from the close of the session (+0: to the next close, the "
    "label; +1: the session after, what could be traded), Newey-West t"
)
COUNTS = """
    SELECT (SELECT sum(fetched) FROM ops.deliveries WHERE source LIKE 'inbox%') AS rows,
        (SELECT count(*) FROM raw.documents) AS documents,
        (SELECT count(*) FROM raw.mentions) AS mentions,
        (SELECT count(*) FROM raw.quarantine WHERE kind = 'documents') AS quarantined,
        (SELECT count(*) FROM document_sentiment) AS scored,
        (SELECT count(duplicate_of) FROM document_sentiment) AS repeats,
        (SELECT count(*) FROM sentiment_daily) AS days_of_symbols
"""
PUBLISHED = """
    -- one row per year of the signal
    SELECT coalesce(strftime(as_of, '%Y'), 'all') AS year, count(*) AS sessions,
        sum(scored) AS scores, avg(rank_ic) AS rank_ic,
        avg(tradable_rank_ic) AS tradable_rank_ic, avg(auc) AS auc, avg(hit_rate) AS hit_rate
    FROM signal_performance
    WHERE signal = 'sentiment_daily' AND model_version = '*' AND role = 'backfill'
    GROUP BY ROLLUP (strftime(as_of, '%Y'))
    ORDER BY year
"""


def _environment(home: Path) -> dict[str, str]:
    given = {
        "LOOKBACK_HOME": str(home),
        "LOOKBACK_PROFILE": "files",
        "LOOKBACK_FILES_DIR": str(home / "files"),
        "LOOKBACK_SIGNALS": '["sentiment_daily"]',
    }
    if find_spec("jax") is not None:
        given["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "jax")
    return {**os.environ, **given}


def _lookback(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], env=dict(environment), check=True
    )


def _prepare(settings: Settings, reference: Path, environment: Mapping[str, str]) -> None:
    """Bars of the stocks, labelled texts, and a champion of the end of 2013; done once."""
    home = settings.home
    for place, name in [(f"files/bars/{BARS}", BARS), *((f"corpora/{n}", n) for n in CORPORA)]:
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        if not (home / place).exists():
            (home / place).symlink_to(reference / name)
    (home / "inbox").mkdir(exist_ok=True)
    if (home / "published").exists():
        return
    os.environ.setdefault("KERAS_BACKEND", environment.get("KERAS_BACKEND", "tensorflow"))
    _lookback(environment, "nightly", "--session", "2017-09-01")
    night = past_night(settings, sessions(settings.calendar), TRAINED_AS_OF)
    run = steps.Run(settings, "train", night)
    with steps.running(run):
        trained = steps.train(run, MODEL, lambda *_: None)
        steps.close_books(run)
    columns = ["model_version", "stage", "metric", "test", "seconds"]
    rows = [[version.summary[name] for name in columns] for version in trained]
    print_table(columns, rows, f"{MODEL}, as of {TRAINED_AS_OF}", new_console())


def _returns(reference: Path) -> pd.DataFrame:
    """Total returns close to close: one column a stock, a row for each session, that ends there."""
    bars = pd.read_parquet(reference / BARS)
    bars["Date"] = pd.to_datetime(bars["Date"])
    wide = bars.pivot_table(index="Date", columns="ticker", values="Adj Close")
    return wide.pct_change(fill_method=None)


def _panels(settings: Settings) -> dict[str, pd.DataFrame]:
    """Each score by symbol and session: entity, session, value."""
    names, rows = query_published(settings, "FROM sentiment_daily")
    own = pd.DataFrame(rows, columns=names)
    panels = {name: own[["entity", "session"]].assign(value=own[name]) for name in FEATURES}
    names, rows = query_published(
        settings,
        """
        -- one row per text and symbol
        SELECT unnest(s.entities) AS entity, s.session, s.novelty, s.known_at, s.model_version,
            d.text
        FROM document_sentiment s
        JOIN raw.documents d USING (source, document_id, known_at)
        """,
    )
    texts = pd.DataFrame(rows, columns=names).sort_values(["entity", "session", "known_at"])
    every = texts["text"].unique().tolist()
    for lexicon in LEXICONS:
        scored = baselines.fit(lexicon, _classes()).probabilities(every)
        said = dict(zip(every, scored[:, -1] - scored[:, 0], strict=True))
        days = days_of(texts.assign(sentiment=texts["text"].map(said)).reset_index(drop=True))
        panels[lexicon] = days[["entity", "session"]].assign(value=days["novel_sentiment"])
    for panel in panels.values():
        panel["session"] = pd.to_datetime(panel["session"])
    return panels


def _classes() -> Corpus:
    """A lexicon learns nothing, but has to know which classes there are."""
    return Corpus(
        "none", ("text",), np.zeros(1, "int8"), THREE_CLASSES, "none", TRAINED_AS_OF, "nowhere"
    )


def _figures(name: str, year: int, panel: pd.DataFrame, returns: pd.DataFrame) -> dict[str, Any]:
    breadth = panel.groupby("session")["entity"].transform("count")
    panel = panel[breadth >= FEWEST]
    row: dict[str, Any] = {
        "score": name,
        "year": str(year),
        "dates": int(panel["session"].nunique()),
        "stocks a date": float(len(panel) / max(panel["session"].nunique(), 1)),
    }
    place = returns.index.get_indexer(panel["session"])
    column = returns.columns.get_indexer(panel["entity"])
    values = np.vstack([returns.to_numpy(), np.full((max(LAGS) + 2, returns.shape[1]), np.nan)])
    for lag in LAGS:
        came = np.where((place >= 0) & (column >= 0), values[place + 1 + lag, column], np.nan)
        by_date = rank_ic_by_date(panel["value"], came, panel["session"]).dropna()
        row[f"IC +{lag}"] = float(by_date.mean())
        row[f"t +{lag}"] = newey_west_t(by_date)
    return row


def _one(settings: Settings, query: str) -> dict[str, Any]:
    names, rows = query_published(settings, query)
    return dict(zip(names, rows[0], strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
