"""Prices for backtests: total returns as the published file knows them, and closes of one's own.

A break in a history that no trade explains (a split that nobody announced, a level that is
another one from one session to the next; `raw.price_breaks`) has no return: prices go on flat
across it, as feature views leave it out. A spike's sessions have no price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from db.errors import StoreError, UsageError
from signals.readers.history import Day, day_of, wide_of
from signals.readers.opening import PathLike, fetch, open_published

# The view that holds each session's total return.
VIEW, RETURN = "price_factors", "return_1"

RETURNS = """
    WITH breaks AS (
        -- as judged by now; a jump is real, and so is a split that is known
        SELECT DISTINCT b.entity, b.session, b.until_session
        FROM raw.price_breaks_as_of(TIMESTAMPTZ '9999-01-01 00:00:00+00') b
        ANTI JOIN raw.corporate_actions_as_of(TIMESTAMPTZ '9999-01-01 00:00:00+00') a
            ON a.entity = b.entity AND a.ex_date = b.session AND a.kind = 'split'
        WHERE b.kind <> 'jump'
    ),
    edges AS (
        SELECT entity, session AS edge FROM breaks
        UNION
        SELECT entity, until_session + 1 FROM breaks WHERE until_session IS NOT NULL
    ),
    bars AS (
        SELECT f.entity, f.date, f.{value} AS gain,
            lag(f.date) OVER (PARTITION BY f.entity ORDER BY f.date) AS before
        FROM {table} f
        WHERE f.known_until IS NULL AND f.date BETWEEN $first AND $last
            AND ($entities IS NULL OR list_contains($entities, f.entity))
    ),
    kept AS (
        SELECT b.*
        FROM bars b
        ANTI JOIN breaks s
            ON s.entity = b.entity AND b.date BETWEEN s.session AND s.until_session
    )
    -- one row per entity and session with a price; no return across a break
    SELECT k.entity, k.date AS session,
        CASE WHEN e.edge IS NULL OR e.edge <= k.before THEN k.gain END AS gain
    FROM kept k
    ASOF LEFT JOIN edges e ON e.entity = k.entity AND k.date >= e.edge
"""


def total_returns(
    path: PathLike | None = None,
    *,
    entities: Sequence[str] | None = None,
    start: Day | None = None,
    end: Day | None = None,
) -> pd.DataFrame:
    """Daily total returns: one row a session, one column a symbol; ratios less 1.

    NaN where a symbol has no price, on its first session, and across a break.

    Parameters
    ----------
    path : the published file, its folder, or a LOOKBACK_HOME; the settings' home if left out.
    entities : symbols; all if left out.
    start, end : first and last session, both included.

    Raises
    ------
    StoreError
        Nothing is published there, or no such prices are.
    """
    rows = _returns(path, entities, start, end)
    return wide_of(rows, "session", "gain").astype("float64")


def prices(
    path: PathLike | None = None,
    *,
    entities: Sequence[str] | None = None,
    start: Day | None = None,
    end: Day | None = None,
    largest_move: float | None = None,
) -> pd.DataFrame:
    """Closes with dividends reinvested and splits taken out: one row a session, a column a symbol.

    A symbol begins at the price of its first session in the span. NaN where it has none.
    Parameters and errors are those of `total_returns`, and:

    Parameters
    ----------
    largest_move : factor beyond which a move from one session to the next, up or down, is no
        return but a break of the data; all moves count if left out.
    """
    return wide_of(_levels(path, entities, start, end, largest_move), "session", "close")


def bars(
    path: PathLike | None = None,
    *,
    entities: Sequence[str] | None = None,
    start: Day | None = None,
    end: Day | None = None,
    largest_move: float | None = None,
) -> pd.DataFrame:
    """Daily bars on the scale of `prices`: entity, session, open, high, low, close, volume.

    Open, high and low stand to the close as they were printed; where a source has closes only
    they are the close, and its volume is 0. Parameters and errors are those of `prices`.
    """
    levels = _levels(path, entities, start, end, largest_move)
    printed = _printed(path, list(levels["entity"].unique()), start, end)
    found = levels.merge(printed, on=["entity", "session"], how="left")
    for name in ("open", "high", "low"):
        ratio = (found[name] / found["printed"]).fillna(1.0)
        found[name] = found["close"] * ratio
    found["volume"] = found["volume"].fillna(0.0)
    columns = ["entity", "session", "open", "high", "low", "close", "volume"]
    return found[columns]


def _levels(
    path: PathLike | None,
    entities: Sequence[str] | None,
    start: Day | None,
    end: Day | None,
    largest_move: float | None,
) -> pd.DataFrame:
    """entity, session, close; by symbol and session."""
    rows = _returns(path, entities, start, end).sort_values(
        ["entity", "session"], ignore_index=True
    )
    growth = 1 + rows["gain"].astype("float64")
    if largest_move is not None:
        growth = growth.where(growth.between(1 / largest_move, largest_move))
    growth = growth.fillna(1.0)
    growth = growth.where(rows["entity"].duplicated(), 1.0)
    by_entity = rows["entity"]
    first = rows["price"].groupby(by_entity).transform("first")
    level = growth.groupby(by_entity).cumprod() * first
    return rows[["entity", "session"]].assign(close=level)


def _returns(
    path: PathLike | None, entities: Sequence[str] | None, start: Day | None, end: Day | None
) -> pd.DataFrame:
    """entity, session, gain, and price where it is the symbol's first of the span."""
    given = {
        "first": day_of("start", start, "0001-01-01"),
        "last": day_of("end", end, "9999-12-31"),
        "entities": None if entities is None else list(entities),
    }
    with open_published(path) as connection:
        table = _table(connection)
        rows = fetch(connection, RETURNS.format(table=table, value=RETURN), given)
        if rows.empty:
            raise StoreError(
                f"no prices of {_some(entities)} from {given['first']} to {given['last']} are "
                "published; see: lookback check"
            )
        first = _first_prices(connection, rows)
    found = rows.merge(first, on=["entity", "session"], how="left")
    found["session"] = found["session"].astype("datetime64[ns]")
    return found


def _table(connection: duckdb.DuckDBPyConnection) -> str:
    found = connection.execute(
        """
        SELECT version
        FROM main.feature_views
        WHERE view = ? AND rows > 0
        ORDER BY materialized_at DESC
        LIMIT 1
        """,
        [VIEW],
    ).fetchone()
    if found is None:
        raise StoreError(
            f"no prices are published: view {VIEW} has no rows; "
            f"run: lookback features materialize {VIEW}, or give prices of your own"
        )
    return f"features.{VIEW}_{found[0]}"


def _first_prices(connection: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> pd.DataFrame:
    """The printed price of each symbol on its first session among the rows."""
    firsts = rows.groupby("entity", as_index=False, observed=True)["session"].min()
    connection.register("firsts", firsts)
    try:
        return fetch(
            connection,
            """
            -- one row per symbol
            SELECT f.entity, f.session, arg_max(coalesce(b.close, b.adj_close), b.known_at) AS price
            FROM firsts f
            JOIN raw.bars b ON b.entity = f.entity AND b.session = f.session
            GROUP BY ALL
            """,
        )
    finally:
        connection.unregister("firsts")


def _printed(
    path: PathLike | None, entities: list[str], start: Day | None, end: Day | None
) -> pd.DataFrame:
    """Bars as they were printed; `printed` is the close that the others stand to."""
    with open_published(path) as connection:
        rows = fetch(
            connection,
            """
            -- one row per symbol and session: its newest vintage
            SELECT entity, session, open, high, low, coalesce(close, adj_close) AS printed, volume
            FROM raw.bars
            WHERE list_contains($entities, entity) AND session BETWEEN $first AND $last
            QUALIFY row_number() OVER (
                PARTITION BY entity, session ORDER BY history DESC, known_at DESC
            ) = 1
            """,
            {
                "entities": entities,
                "first": day_of("start", start, "0001-01-01"),
                "last": day_of("end", end, "9999-12-31"),
            },
        )
    return rows.assign(session=rows["session"].astype("datetime64[ns]"))


def _some(entities: Sequence[str] | None) -> str:
    if entities is None:
        return "any symbol"
    shown = ", ".join(list(entities)[:3])
    return shown if len(entities) <= 3 else f"{shown} and {len(entities) - 3} others"


@dataclass(frozen=True)
class Closes:
    """Closes of one's own, put in order.

    Attributes
    ----------
    labels : the index they came with, ascending, time zone and name kept.
    days : the session of each label, without a time zone: shape (n,).
    frame : float64, indexed by `labels`; NaN where there is no price.
    """

    labels: pd.DatetimeIndex
    days: pd.DatetimeIndex
    frame: pd.DataFrame

    @property
    def filled(self) -> pd.DataFrame:
        """The last price where there is none any more: what a holder can still put down."""
        return self.frame.ffill()


def closes_of(close: pd.DataFrame) -> Closes:
    """Closes as they come: unsorted, with or without a time zone, with gaps.

    A label with a time zone belongs to its date there. Prices that are no number, or not above
    zero, count as missing.

    Raises
    ------
    UsageError
        Two columns of one name, two rows of one day, or an index without dates.
    """
    twice = close.columns[close.columns.duplicated()]
    if len(twice):
        raise UsageError(f"prices: {len(twice)} columns come twice, such as {twice[0]}; drop them")
    if not isinstance(close.index, pd.DatetimeIndex):
        raise UsageError("prices: the index holds no dates; give a DatetimeIndex")
    if close.empty:
        raise UsageError("prices: there are none")
    ordered = close.sort_index()
    labels = pd.DatetimeIndex(ordered.index)
    days = labels.tz_localize(None).normalize().as_unit("ns").rename(None)
    if days.has_duplicates:
        day = days[days.duplicated()][0]
        raise UsageError(f"prices: {day:%Y-%m-%d} has several rows; give one close a session")
    values = _numbers(ordered)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    return Closes(labels, days, pd.DataFrame(values, labels, ordered.columns))


def _numbers(frame: pd.DataFrame) -> Any:
    try:
        return frame.to_numpy("float64", na_value=np.nan)
    except (TypeError, ValueError):
        raise UsageError("prices: a column holds no numbers; give closes only") from None
