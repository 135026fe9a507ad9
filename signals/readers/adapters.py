"""Signals in the shapes that backtesting tools take; a tool is imported only where it is needed.

All of them date a score by `tradable_from`, the first session that opens after it was
published. Daily tools trade it at that session's close, or later; none trades it at the close
that it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
import pandas as pd

from db.errors import UsageError
from signals.readers.history import (
    TRADABLE,
    Day,
    Signals,
    day_of,
    require_tradable_dates,
    signals_of,
    wide_of,
)
from signals.readers.portfolio import Choice, Holdings, holdings, priced_scores, weights
from signals.readers.prices import closes_of

BAR = ["open", "high", "low", "close", "volume"]
CAPITAL = 1_000_000.0


def to_alphalens(
    signals: Signals | pd.DataFrame,
    prices: pd.DataFrame,
    *,
    by: str = "value",
    dated: str = TRADABLE,
) -> tuple[pd.Series[float], pd.DataFrame]:
    """Factor and prices for `alphalens.utils.get_clean_factor_and_forward_returns`.

    A score is dated by the session at whose close it can be bought; forward returns begin
    there. Symbols without a price on that day are left out of it. Prices must go on past the
    last date for the longest period.

    Returns
    -------
    factor, prices
        Indexed by (date, asset), and wide; both with the time zone that the prices came with.

    Raises
    ------
    LookAheadError, UsageError
        As `signals.readers.weights`.
    """
    given = signals_of(signals)
    require_tradable_dates(given.name, dated)
    closes = closes_of(prices)
    scores = priced_scores(given, closes, by)
    row, column = np.nonzero(scores.notna().to_numpy())
    index = pd.MultiIndex.from_arrays(
        [scores.index[row], scores.columns[column]], names=["date", "asset"]
    )
    factor = pd.Series(scores.to_numpy("float64")[row, column], index, name=given.name)
    return factor, closes.frame


def to_vectorbt(
    signals: Signals | pd.DataFrame, close: pd.DataFrame, **choice: Unpack[Choice]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes and sizes for `vectorbt.Portfolio.from_orders`.

    vectorbt executes a size on its own bar: the sizes stand on the close of `tradable_from`,
    and are NaN (no order) on other days. Pass both with `size_type="targetpercent"`,
    `group_by=True`, `cash_sharing=True`, `call_seq="auto"`.

    Parameters
    ----------
    signals, close, choice : as of `signals.readers.weights`.

    Returns
    -------
    close, size
        Of one index and one set of columns, by the same names. A close that is missing after
        a symbol's first is its last one, so that what is held keeps its value.
    """
    closes = closes_of(close)
    targets = weights(signals, close, **choice)
    filled = closes.filled
    size = targets.reindex(filled.index).where(filled.notna())
    size.index.name, size.columns.name = filled.index.name, filled.columns.name
    return filled, size


def to_bt(
    signals: Signals | pd.DataFrame, close: pd.DataFrame, **choice: Unpack[Choice]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes and weights for `bt.algos.WeighTarget`, followed by `bt.algos.Rebalance`.

    There is a row of weights for each rebalance only: on other days `WeighTarget` stops the
    algorithm, and positions drift.

    Parameters
    ----------
    signals, close, choice : as of `signals.readers.weights`.

    Returns
    -------
    close, weights
        The closes as of `to_vectorbt`, from the eve of the first rebalance on, without symbols
        that are never held: bt goes through all of them on every day.
    """
    closes = closes_of(close)
    targets = weights(signals, close, **choice)
    held = targets.columns[(targets != 0).any()]
    first = max(int(closes.labels.get_indexer(targets.index[:1])[0]) - 1, 0)
    filled = closes.filled[held].iloc[first:]
    return filled.rename_axis(columns=None), targets[held].rename_axis(columns=None)


def to_backtrader(
    signals: Signals | pd.DataFrame,
    bars: pd.DataFrame,
    *,
    by: str = "value",
    dated: str = TRADABLE,
) -> dict[str, pd.DataFrame]:
    """One frame a symbol for `backtrader_feed`: open, high, low, close, volume, signal.

    On each session `signal` is the newest score that can be traded by then, NaN where there
    is none. A strategy that sees it at a session's close trades at the next open, or at that
    close with `cerebro.broker.set_coc(True)`. Frames begin at a symbol's first price and go on
    flat after its last, because backtrader waits for all of its feeds.

    Parameters
    ----------
    signals : or a frame with the columns of the published table.
    bars : as of `signals.readers.bars`: entity, session, open, high, low, close, volume, of
        which all but the close may be missing; or wide closes.
    """
    given = signals_of(signals)
    require_tradable_dates(given.name, dated)
    fields = _fields(bars)
    closes = closes_of(fields["close"])
    scores = given.wide(by, closes.days).reindex(closes.days, method="ffill")
    frames = {}
    for name in closes.frame.columns.intersection(scores.columns, sort=False):
        close = closes.frame[name]
        frame = pd.DataFrame({field: _field(fields, field, name, close) for field in BAR})
        frame["signal"] = scores[name].to_numpy("float64")
        frame.index = closes.days.rename("session")
        frames[str(name)] = frame[frame["close"].notna().cummax()].pipe(_flat)
    if not frames:
        raise UsageError(f"signal {given.name}: no symbol has prices")
    return frames


@lru_cache(maxsize=1)
def backtrader_feed() -> Any:
    """The feed of such a frame: a `backtrader.feeds.PandasData` with a line `signal`.

    Use: `cerebro.adddata(backtrader_feed()(dataname=frame), name=symbol)`.
    """
    import backtrader  # type: ignore[import-untyped,unused-ignore]

    # backtrader reads lines and params from the class while it is made
    body = {"lines": ("signal",), "params": (("openinterest", None), ("signal", "signal"))}
    return type("SignalData", (backtrader.feeds.PandasData,), body)


def to_quantstats(
    signals: Signals | pd.DataFrame,
    close: pd.DataFrame,
    *,
    cost_bps: float = 0.0,
    **choice: Unpack[Choice],
) -> pd.Series[float]:
    """Daily net returns for quantstats: a Series by session, without a time zone.

    Parameters
    ----------
    signals, close, choice : as of `signals.readers.weights`.
    cost_bps : of the value of each trade, in basis points.

    Raises
    ------
    UsageError
        No return is below 0 and one is above 1: quantstats would take them for prices.
    """
    returns = _held(signals, close, cost_bps, choice).returns["net"]
    if returns.min() >= 0 and returns.max() > 1:
        raise UsageError(
            f"returns: none is below 0 and the largest is {returns.max():.2f}; quantstats would "
            "take them for prices: give a longer span, or look for a wrong price"
        )
    days = pd.DatetimeIndex(returns.index).tz_localize(None).normalize()
    return pd.Series(returns.to_numpy("float64"), days, name=signals_of(signals).name)


def to_pyfolio(
    signals: Signals | pd.DataFrame,
    close: pd.DataFrame,
    *,
    cost_bps: float = 0.0,
    capital: float = CAPITAL,
    **choice: Unpack[Choice],
) -> tuple[pd.Series[float], pd.DataFrame]:
    """Daily net returns and positions for pyfolio, by session at midnight UTC.

    Parameters
    ----------
    signals, close, choice : as of `signals.readers.weights`.
    cost_bps : of the value of each trade, in basis points.
    capital : what the portfolio begins with, in the currency of the prices.

    Returns
    -------
    returns, positions
        Positions are values in currency, one column a symbol and `cash`.

    Raises
    ------
    UsageError
        As `to_quantstats`; or a symbol is called `cash`.
    """
    held = _held(signals, close, cost_bps, choice)
    if "cash" in held.positions:
        raise UsageError("pyfolio keeps cash in a column of that name; rename the symbol 'cash'")
    days = pd.DatetimeIndex(held.returns.index).tz_localize(None).normalize().tz_localize("UTC")
    positions = capital * held.positions.assign(cash=held.cash)
    returns = held.returns["net"].set_axis(days).rename(signals_of(signals).name)
    return returns, positions.set_axis(days, axis=0).rename_axis(columns=None)


def to_zipline(
    signals: Signals | pd.DataFrame,
    *,
    sids: Mapping[str, int] | None = None,
    sessions: pd.DatetimeIndex | None = None,
    end: Day | None = None,
    by: str = "value",
    dated: str = TRADABLE,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Baseline of `zipline.pipeline.loaders.frame.DataFrameLoader`, and the sids of its columns.

    A pipeline sees the row of a session before that session opens, so a row holds what can be
    traded from its session on; values stay until the next cross-section.

    Parameters
    ----------
    signals : or a frame with the columns of the published table.
    sids : of the symbols in the bundle; other symbols are left out. Numbered by name, from 0,
        if left out.
    sessions : of the exchange; those of the published file if left out.
    end : last session of the frame; the last `tradable_from` if left out.

    Returns
    -------
    baseline, sids
        float64, sessions by integer sids; symbol -> sid.
    """
    given = signals_of(signals)
    scores = given.wide(by, dated=dated)
    days = sessions if sessions is not None else given.sessions
    if days is None:
        raise UsageError(
            f"signal {given.name}: zipline needs every session; read the published file, or give "
            "sessions="
        )
    last = scores.index[-1] if end is None else pd.Timestamp(day_of("end", end, ""))
    days = pd.DatetimeIndex(days).tz_localize(None).as_unit("ns")
    days = days[(days >= scores.index[0]) & (days <= last)]
    numbers = dict(sids) if sids is not None else {name: n for n, name in enumerate(scores)}
    known = [name for name in scores.columns if name in numbers]
    if not known:
        raise UsageError(f"signal {given.name}: none of its symbols has a sid")
    baseline = scores[known].reindex(days, method="ffill")
    baseline.columns = pd.Index([numbers[name] for name in known], dtype="int64")
    return baseline.rename_axis(index=None), {name: numbers[name] for name in known}


def _held(
    signals: Signals | pd.DataFrame, close: pd.DataFrame, cost_bps: float, choice: Choice
) -> Holdings:
    return holdings(weights(signals, close, **choice), close, cost_bps)


def _fields(bars: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Wide frames by field; only the close must be there."""
    if not {"entity", "session"} <= set(bars.columns):
        return {"close": bars}
    if "close" not in bars:
        raise UsageError("bars: there is no column close")
    if bars.duplicated(["entity", "session"]).any():
        raise UsageError("bars: a symbol has two bars of one session")
    return {field: wide_of(bars, "session", field) for field in BAR if field in bars}


def _field(
    fields: Mapping[str, pd.DataFrame], field: str, name: Any, close: pd.Series[float]
) -> pd.Series[float]:
    if field == "close":
        return close
    missing = pd.Series(0.0 if field == "volume" else close, close.index)
    if field not in fields:
        return missing
    found = fields[field][name].sort_index().astype("float64").set_axis(close.index)
    known: pd.Series[float] = found.where(found.notna() & close.notna(), missing)
    return known


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Sessions without a bar stand at the last close, with no volume."""
    closed = frame["close"].isna()
    close = frame["close"].ffill()
    for field in ("open", "high", "low", "close"):
        frame[field] = frame[field].where(~closed, close)
    frame["volume"] = frame["volume"].where(~closed, 0.0)
    return frame
