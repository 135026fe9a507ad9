"""Portfolios from signals: weights at the close from which they can be held, and their returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError
from signals.readers.history import TRADABLE, Signals, require_tradable_dates, signals_of
from signals.readers.prices import Closes, closes_of

Floats = npt.NDArray[np.float64]
BASIS_POINTS = 1e4


class Choice(TypedDict, total=False):
    """What `weights` takes beside signals and prices."""

    long: float
    short: float
    by: str
    scheme: Literal["equal", "rank"]
    gross: float
    dated: str


def weights(
    signals: Signals | pd.DataFrame,
    close: pd.DataFrame | None = None,
    *,
    long: float = 0.1,
    short: float = 0.1,
    by: str = "value",
    scheme: Literal["equal", "rank"] = "equal",
    gross: float = 1.0,
    dated: str = TRADABLE,
) -> pd.DataFrame:
    """Target weights: one row for each rebalance, at the close of `tradable_from`.

    They are held, and drift with prices, until the close of the next row. Only symbols with a
    price at that close are chosen. A row whose scores are all the same holds nothing, unless
    all are held anyway.

    Parameters
    ----------
    signals : or a frame with the columns of the published table.
    close : daily closes, one column a symbol; a rebalance for which its session is missing
        happens on the next one there is. Without it, all symbols count as priced.
    long, short : shares of the symbols, those with the highest and the lowest scores, at least
        one; 0 for no such side. `long=1, short=0` holds all.
    by : column of the signals to order by; of equal scores the later column is the higher.
    scheme : `equal`, or `rank`: in proportion to the place within the side, the outermost most.
    gross : sum of the absolute weights of a row; both sides get half of it where there are two.
    dated : `tradable_from`, and nothing else.

    Returns
    -------
    DataFrame
        Columns (and index labels) of `close`, or the entities; 0 where nothing is held.

    Raises
    ------
    UsageError
        The shares overlap, or no rebalance falls on a day with prices.
    LookAheadError
        The signals would be traded at the close that they were made from.
    """
    if min(long, short) < 0 or not 0 < long + short <= 1:
        raise UsageError(f"weights: long {long} and short {short} must be shares, 1 in all at most")
    given = signals_of(signals)
    require_tradable_dates(given.name, dated)
    scores = given.wide(by) if close is None else priced_scores(given, closes_of(close), by)
    chosen = _sides(scores.to_numpy("float64"), long, short, scheme, gross)
    return pd.DataFrame(chosen, scores.index, scores.columns)


def priced_scores(given: Signals, closes: Closes, by: str) -> pd.DataFrame:
    """Scores on the labels and columns of the closes; NaN where there is no price."""
    scores = given.wide(by, closes.days)
    if scores.empty:
        first, last = given.frame[TRADABLE].min(), given.frame[TRADABLE].max()
        raise UsageError(
            f"signal {given.name} is tradable from {first:%Y-%m-%d} to {last:%Y-%m-%d}, prices are "
            f"of {closes.days[0]:%Y-%m-%d} to {closes.days[-1]:%Y-%m-%d}: there is nothing to trade"
        )
    if not scores.columns.isin(closes.frame.columns).any():
        raise UsageError(
            f"signal {given.name}: no symbol has prices; the columns of the prices must be symbols "
            f"such as {scores.columns[0]}, not {closes.frame.columns[0]}"
        )
    at = closes.days.get_indexer(scores.index)
    prices = closes.frame.iloc[at]
    return (
        scores.reindex(columns=closes.frame.columns)
        .set_axis(prices.index, axis=0)
        .where(prices.notna())
    )


def _sides(scores: Floats, long: float, short: float, scheme: str, gross: float) -> Floats:
    """Weights of each row: shape of the scores, 0 where they are missing or in the middle."""
    count = np.isfinite(scores).sum(axis=1, keepdims=True)
    # place from the lowest, from 0; missing scores come last
    place = np.argsort(np.argsort(scores, axis=1, kind="stable"), axis=1, kind="stable")
    below = _number(count, short)
    above = np.minimum(_number(count, long), count - below)
    depth = place - (count - above) + 1.0  # 1 for the innermost of the top
    height = below - place * 1.0
    top = (depth > 0) & (place < count)
    bottom = height > 0
    each = gross / 2 if long and short else gross
    weights = each * _shares(np.where(top, depth, 0.0), scheme) - each * _shares(
        np.where(bottom, height, 0.0), scheme
    )
    return np.where(_alike(scores) & (above < count), 0.0, weights)


def _number(count: npt.NDArray[np.intp], share: float) -> npt.NDArray[np.intp]:
    """How many a side holds: its share, rounded, and one at least."""
    number = np.maximum((count * share + 0.5).astype("int64"), 1 if share else 0)
    return np.asarray(np.minimum(number, count))


def _shares(depth: Floats, scheme: str) -> Floats:
    amount = (depth > 0).astype("float64") if scheme == "equal" else depth
    total = amount.sum(axis=1, keepdims=True)
    return np.asarray(amount / np.where(total > 0, total, 1.0))


def _alike(scores: Floats) -> npt.NDArray[np.bool_]:
    """Rows without two scores that differ: (n, 1)."""
    highest = np.where(np.isfinite(scores), scores, -np.inf).max(axis=1, keepdims=True)
    lowest = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    return np.asarray(highest <= lowest)


@dataclass(frozen=True, eq=False)
class Holdings:
    """A portfolio day by day, from its first rebalance on, in units of what it began with.

    Attributes
    ----------
    returns : indexed as the closes; `gross` and `net` daily returns, `cost` as a share of the
        value before, `turnover`: half the sum of the absolute trades, as a share of the value.
    positions : value of each symbol held at some time, after the day's trades.
    cash : what is not invested; short sales add to it, interest is left out.
    """

    returns: pd.DataFrame
    positions: pd.DataFrame
    cash: pd.Series[float]


def portfolio_returns(
    weights: pd.DataFrame, close: pd.DataFrame, cost_bps: float = 0.0
) -> pd.DataFrame:
    """Daily returns of weights, with costs.

    Positions of a rebalance are weights times the value before its costs, which are taken from
    cash. In between they drift. A symbol without a price stays at its last one, and is sold for
    that at the next rebalance.

    Parameters
    ----------
    weights : rows of target weights, as of `weights`.
    close : daily closes.
    cost_bps : of the value of each trade, in basis points.

    Returns
    -------
    DataFrame
        `gross`, `net`, `cost`, `turnover` (as of `Holdings.returns`), one row for each row of
        the closes from the first rebalance on, on which the return is 0 less costs.

    Raises
    ------
    UsageError
        A weight has no price at its rebalance, or nothing of the value is left.
    """
    return holdings(weights, close, cost_bps).returns


def holdings(weights: pd.DataFrame, close: pd.DataFrame, cost_bps: float = 0.0) -> Holdings:
    """As `portfolio_returns`, with positions and cash."""
    closes = closes_of(close)
    rows = _rows_of(weights, closes)
    held = weights.columns[(weights != 0).any()]
    level = closes.filled.reindex(columns=held).to_numpy("float64")
    target = weights[held].fillna(0.0).to_numpy("float64")
    _require_prices(weights, held, target, level[rows])
    first = rows[0]
    days = list(_days(target, level, rows, cost_bps / BASIS_POINTS))
    values = np.concatenate([day.values for day in days])
    cash = np.concatenate([day.cash for day in days])
    before = np.concatenate([day.before for day in days])  # value before the day's trades
    traded = np.concatenate([day.traded for day in days])
    cost = cost_bps / BASIS_POINTS * traded
    start = np.append(1.0, (before - cost)[:-1])
    if (before - cost <= 0).any():
        day = closes.days[first + int(np.argmax(before - cost <= 0))]
        raise UsageError(f"portfolio: nothing is left on {day:%Y-%m-%d}; is a price wrong?")
    labels = closes.labels[first:]
    returns = pd.DataFrame(
        {
            "gross": before / start - 1,
            "net": (before - cost) / start - 1,
            "cost": cost / start,
            "turnover": traded / 2 / before,
        },
        labels,
    )
    return Holdings(returns, pd.DataFrame(values, labels, held), pd.Series(cash, labels))


@dataclass(frozen=True)
class _Stretch:
    """Days from one rebalance to the eve of the next: values (n, k), the others (n,)."""

    values: Floats
    cash: Floats
    before: Floats
    traded: Floats


def _days(
    target: Floats, level: Floats, rows: npt.NDArray[np.intp], rate: float
) -> Iterator[_Stretch]:
    """Each stretch in turn: what is held at its first close is what the one before became."""
    value, held = 1.0, np.zeros(target.shape[1])
    for number, row in enumerate(rows):
        until = rows[number + 1] if number + 1 < len(rows) else len(level)
        # a day further: at the next rebalance's close they are still held
        last = min(until + 1, len(level))
        wanted = target[number] * value
        traded = float(np.abs(wanted - held).sum())
        cash = value - wanted.sum() - rate * traded
        growth = np.ones((last - row, len(wanted)))
        moving = wanted != 0
        growth[:, moving] = level[row:last, moving] / level[row, moving]
        values = wanted * growth
        worth = values.sum(axis=1) + cash
        before = worth[: until - row].copy()
        before[0] = value
        trades = np.zeros(until - row)
        trades[0] = traded
        yield _Stretch(values[: until - row], np.full(until - row, cash), before, trades)
        value, held = float(worth[-1]), values[-1]


def _rows_of(weights: pd.DataFrame, closes: Closes) -> npt.NDArray[np.intp]:
    """Where the rebalances lie among the closes: (n,), ascending."""
    if weights.empty or not (weights != 0).to_numpy().any():
        raise UsageError("portfolio: no weight differs from 0; there is nothing to hold")
    rows = closes.labels.get_indexer(weights.index)
    if (rows < 0).any():
        label = weights.index[int(np.argmax(rows < 0))]
        raise UsageError(f"portfolio: no close of {label}; make the weights with these closes")
    if (np.diff(rows) <= 0).any():
        raise UsageError("portfolio: the weights are not in the order of time")
    return np.asarray(rows)


def _require_prices(
    weights: pd.DataFrame, held: pd.Index[str], target: Floats, prices: Floats
) -> None:
    wrong = (target != 0) & ~np.isfinite(prices)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UsageError(
            f"portfolio: {held[column]} has no price by {weights.index[row]:%Y-%m-%d}; "
            "make the weights with these closes"
        )
