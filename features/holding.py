"""Returns of holding something from the close of one session to the close of another."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.sessions import sessions
from features.catalog import feature_view
from features.windows import price_breaks

if TYPE_CHECKING:
    from db.warehouse import Warehouse

Floats = npt.NDArray[np.float64]

# The view that holds each session's total return.
VIEW, RETURN = "price_factors", "return_1"


def holding_returns(
    warehouse: Warehouse,
    cutoff: datetime,
    entities: Any,
    bought: Any,
    sold: Any,
    *,
    across_breaks: bool = True,
) -> Floats:
    """Total returns of symbols, bought at one session's close and sold at another's.

    Parameters
    ----------
    warehouse : the open store; `price_factors` must have been materialized.
    cutoff : UTC; only what was known by then is seen.
    entities, bought, sold : (n,)
        A symbol, and two sessions of the calendar.
    across_breaks : whether a return over a price break that is not settled as a real jump
        counts; if not, it is NaN.

    Returns
    -------
    (n,), float64
        Ratio less 1; NaN where the symbol has no bar on either session.
    """
    first, last = np.asarray(bought, "datetime64[D]"), np.asarray(sold, "datetime64[D]")
    if not len(first):
        return np.empty(0)
    days = sessions(warehouse.settings.calendar).days
    inside = days[(days >= first.min()) & (days <= last.max())]
    found = warehouse.frame(
        f"""
        SELECT entity, date, {RETURN} AS gain
        FROM {feature_view(VIEW).table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
            AND date BETWEEN $2 AND $3 AND {RETURN} > -1
        """,
        cutoff,
        inside[0].astype(object),
        inside[-1].astype(object),
    )
    names, column = np.unique(found["entity"].to_numpy("str"), return_inverse=True)
    growth = np.full((len(inside), len(names)), np.nan)
    row = np.searchsorted(inside, found["date"].to_numpy("datetime64[D]"))
    growth[row, column] = np.log1p(found["gain"].to_numpy("float64"))
    at = pd.Index(names).get_indexer(pd.Index(np.asarray(entities, "str")))
    begin, end = np.searchsorted(inside, first), np.searchsorted(inside, last)
    known = (at >= 0) & (end < len(inside))
    returns = np.full(len(at), np.nan)
    at, begin, end = at[known], begin[known], end[known]
    returns[known] = _between(growth, at, begin, end)
    if not across_breaks:
        broken = _breaks_until(warehouse, cutoff, names, inside)
        crossed = broken[end, at] != broken[begin, at]
        returns[np.flatnonzero(known)[crossed]] = np.nan
    return returns


def _between(
    growth: Floats, at: npt.NDArray[np.intp], begin: npt.NDArray[Any], end: npt.NDArray[Any]
) -> Floats:
    """Growth less 1 of columns from one row's close to another's: (n,).

    Each period is summed by itself: a running sum would give other last bits from another
    first date on.
    """
    returns = np.empty(len(at))
    bar = np.isfinite(growth)
    width = len(growth) + 1
    for period in np.unique(begin * width + end):
        rows = begin * width + end == period
        start, stop = divmod(int(period), width)
        total = np.nansum(growth[start + 1 : stop + 1], axis=0)
        total = np.where(bar[start] & bar[stop], total, np.nan)
        returns[rows] = np.expm1(total[at[rows]])
    return returns


def _breaks_until(
    warehouse: Warehouse, cutoff: datetime, names: npt.NDArray[Any], inside: npt.NDArray[Any]
) -> npt.NDArray[np.int32]:
    """How many breaks each symbol has had by each session: (sessions, symbols)."""
    count = np.zeros((len(inside) + 1, len(names)), "int32")
    place = {name: number for number, name in enumerate(names)}
    for entity, session, until in price_breaks(warehouse, cutoff):
        if entity not in place:
            continue
        after = [until] if until is not None else []
        for day, side in [(session, "left"), *((day, "right") for day in after)]:
            at = np.searchsorted(inside, np.datetime64(day, "D"), side=side)  # type: ignore[call-overload]
            count[at, place[entity]] += 1
    return np.cumsum(count, axis=0, dtype="int32")[:-1]
