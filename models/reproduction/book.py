"""The book's protocols: its data, its split, its scaling, its stopping rule.

What is wrong with them is kept, so that the numbers can be compared: scalers see the test
span, early stopping watches it, and what is reported is the span that was watched. Nothing
else in Lookback does so, which is why these data do not come from the feature store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.encoding import Scale
from models.examples import Examples, unmoved
from models.spans import Spans

SP500 = "sp500_close_daily_1990_2022.csv"
STOCKS = "us_equities_adj_close_daily_2007_2018.parquet"
QUARTER, YEAR_OF_WEEKS, TWO_YEARS = 63, 52, 24


@dataclass(frozen=True)
class BookData:
    """What the book trains on.

    Attributes
    ----------
    spans : validation and test are the same. Rows are dated by the day, week or month that is
        forecast.
    scale : of the targets, from raw units to those of `spans`; it has seen the test, too.
    """

    spans: Spans
    scale: Scale


def sp500_next_close(reference: Path) -> BookData:
    """S&P 500 closes 2010-2018 scaled to [0, 1], 63 sessions to the next; the test is 2018.

    Parameters
    ----------
    reference : folder of the reference data.
    """
    closes = pd.read_csv(reference / SP500, index_col="date", parse_dates=True)["SP500"]
    closes = closes.loc["2010":"2018"]
    scale = Scale.minmax(closes.to_numpy()[:, None])
    scaled = scale.transform(closes.to_numpy()[:, None])
    windows = _sliding(scaled.astype("float32"), QUARTER)
    whole = _examples(windows, scaled[QUARTER:], closes.index[QUARTER:], "SP500")
    return BookData(_watched(whole, whole.index["as_of"] >= "2018"), scale)


def macro_outlook(reference: Path) -> BookData:
    """UMCSENT and IPGMFN 1980-2017, annual differences (of the log for production).

    24 months to the next month's two values, X (420, 24, 2); the test is the last 24 months.

    Parameters
    ----------
    reference : folder of the reference data.
    """
    level = pd.concat(
        [
            pd.read_csv(reference / f"{name}.csv", index_col="date", parse_dates=True)[name]
            for name in ("UMCSENT", "IPGMFN")
        ],
        axis=1,
        join="inner",
    ).loc["1980":"2017"]
    level["IPGMFN"] = np.log(level["IPGMFN"])
    change = level.diff(12).dropna()
    windows = _sliding(change.to_numpy("float32"), TWO_YEARS)
    months = change.index[TWO_YEARS:]
    whole = _examples(windows, change.to_numpy()[TWO_YEARS:], months, "US")
    stays = (level.shift(1) - level.shift(12)).loc[months]
    whole = replace(whole, unmoved=stays.to_numpy("float64")[:, None, :])
    spans = _watched(whole, whole.index["as_of"] > months[-TWO_YEARS - 1])
    return BookData(spans, Scale.identity(2))


def equity_week_direction(reference: Path, symbols: int | None = None) -> BookData:
    """Weekly returns of the stocks that are complete over 2008-2017, 52 weeks to the next.

    The window is fed newest first, as the book has it; the test is 2017.

    Parameters
    ----------
    reference : folder of the reference data.
    symbols : only so many of them, evenly chosen; all if left out.
    """
    long = pd.read_parquet(reference / STOCKS, columns=["date", "ticker", "adj_close"])
    long["date"] = pd.to_datetime(long["date"])
    prices = long.pivot_table(index="date", columns="ticker", values="adj_close", observed=True)
    weekly = prices.resample("W").last().pct_change(fill_method=None).loc["2008":"2017"]
    weekly = weekly.dropna(axis=1).replace([np.inf, -np.inf], np.nan).dropna(axis=1)
    if symbols is not None:
        weekly = weekly.iloc[:, np.linspace(0, weekly.shape[1] - 1, symbols).astype("int64")]
    returns = weekly.to_numpy("float32")
    weeks, entities = returns.shape[0] - YEAR_OF_WEEKS, returns.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(returns[:-1], YEAR_OF_WEEKS, axis=0)
    X = np.ascontiguousarray(windows[..., ::-1]).reshape(weeks * entities, YEAR_OF_WEEKS, 1)
    y = returns[YEAR_OF_WEEKS:].reshape(-1, 1)
    names = pd.Categorical(np.tile(weekly.columns.to_numpy("str"), weeks))
    # the month that the network is told is the one of the week that it forecasts
    dates = weekly.index[YEAR_OF_WEEKS:].repeat(entities)
    whole = _examples(X, y, dates, names, newest=0)
    return BookData(_watched(whole, whole.index["as_of"] >= "2017"), Scale.identity(1))


def _sliding(series: npt.NDArray[Any], window: int) -> npt.NDArray[np.float32]:
    """Windows of (n, F) values that have a next one: (n - window, window, F)."""
    windows = np.lib.stride_tricks.sliding_window_view(series[:-1], window, axis=0)
    return np.ascontiguousarray(windows.transpose(0, 2, 1))


def _examples(
    X: npt.NDArray[np.float32],
    y: npt.NDArray[Any],
    dates: pd.Index[Any],
    entity: Any,
    newest: int = -1,
) -> Examples:
    """Examples that claim to have been known on their own date; `newest` step of a window."""
    when = pd.DatetimeIndex(dates)
    index = pd.DataFrame(
        {
            "entity": entity
            if isinstance(entity, pd.Categorical)
            else pd.Categorical([entity] * len(X)),
            "as_of": when,
            "known_at": when.tz_localize("UTC"),
            "label_known_at": when.tz_localize("UTC"),
        }
    )
    labels = np.asarray(y, dtype="float32")[:, None, :]
    last = X[:, newest, : labels.shape[2]].astype("float64")
    return Examples(
        X, last, unmoved(last, None, 1), labels, index, "book", "book", "reference data"
    )


def _watched(whole: Examples, is_test: pd.Series[bool]) -> Spans:
    """The book's split: what is watched while training is what is reported."""
    rows = is_test.to_numpy()
    first = int(rows.argmax())
    test = whole.take(slice(first, len(whole)))
    return Spans(whole.take(slice(0, first)), test, test, 0)
