"""Daily bars asked of a vendor symbol by symbol: raw prices and the actions beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from db.availability import Availability
from db.errors import SourceError
from db.sessions import sessions
from db.sources.admission import admitted
from db.sources.http import RequestFailed
from db.sources.source import ACTION_COLUMNS, BAR_COLUMNS, Fetched, Request, Source

# Requests under way at once: enough to hide the latency, few enough for free tiers.
WORKERS = 4
KEY_REFUSED = (401, 403)
PRICES = ["open", "high", "low", "close"]

_SYMBOL = re.compile(r"[A-Za-z0-9.^=_-]+")


@dataclass(frozen=True)
class SymbolHistory:
    """What a vendor knows of one symbol.

    Attributes
    ----------
    bars : columns session (datetime64, midnight), open, high, low, close (as printed on
        the day), volume (shares of the day).
    actions : columns ex_date, kind, factor, as `db.sources.source.Fetched.actions`.
    """

    bars: pd.DataFrame
    actions: pd.DataFrame


def collect(
    source: Source,
    symbols: Sequence[str],
    ask: Callable[[str], SymbolHistory],
    request: Request,
    calendar: str,
) -> Fetched:
    """Bars and actions of all symbols that the vendor answers for.

    A symbol that cannot be had becomes a problem. Where a whole batch of symbols meets a
    vendor that does not answer at all, the rest is not asked: thousands of symbols times
    the retries would take all night. A bar or an action that was not known by
    `request.until` is left out: it belongs to a session that is still under way.

    `adj_close` is NaN: a vendor's adjusted close changes with every later dividend; prices
    are adjusted when they are read, with the actions known by then.

    Raises
    ------
    SourceError
        None of the symbols could be had, or the vendor refused the key.
    """
    name, availability = source.name, source.availability
    if not _has_session(request, availability, calendar):
        return Fetched(_frame([], BAR_COLUMNS), _frame([], ACTION_COLUMNS))
    wanted = list(dict.fromkeys(symbols))
    histories: dict[str, SymbolHistory] = {}
    problems: list[str] = []
    down = False
    with ThreadPoolExecutor(WORKERS, thread_name_prefix=name) as pool:
        for first in range(0, len(wanted), WORKERS):
            batch = wanted[first : first + WORKERS]
            if down:
                problems += [f"{name}: {symbol}: not asked, the vendor is down" for symbol in batch]
                continue
            answers = list(pool.map(lambda symbol: _try(name, ask, symbol), batch))
            for symbol, answer in zip(batch, answers, strict=True):
                if isinstance(answer, SymbolHistory):
                    histories[symbol] = answer
                elif isinstance(answer, RequestFailed) and answer.status in KEY_REFUSED:
                    raise answer
                else:
                    said = str(answer).removeprefix(f"{name}: ").removeprefix(f"{symbol}: ")
                    problems.append(f"{name}: {symbol}: {said}")
            down = all(isinstance(answer, RequestFailed) for answer in answers)
    bars, actions = [], []
    for symbol, history in histories.items():
        known = _admitted(history.bars, "session", request, availability, calendar)
        if known.empty:
            since = f" since {request.start}" if request.start is not None else ""
            problems.append(
                f"{name}: {symbol}: no bars{since}: delisted, suspended or renamed; "
                "see LOOKBACK_SYMBOLS"
            )
            continue
        bars.append(known.assign(entity=symbol, adj_close=np.nan))
        actions.append(
            _admitted(history.actions, "ex_date", request, availability, calendar).assign(
                entity=symbol
            )
        )
    if wanted and not bars:
        raise SourceError(f"{name}: none of {len(wanted)} symbols could be had; {problems[0]}")
    return Fetched(
        _frame(bars, BAR_COLUMNS), _frame(actions, ACTION_COLUMNS), problems=tuple(problems)
    )


def _try(
    name: str, ask: Callable[[str], SymbolHistory], symbol: str
) -> SymbolHistory | SourceError:
    if not _SYMBOL.fullmatch(symbol):
        return SourceError(f"{name}: {symbol}: this is no symbol; see LOOKBACK_SYMBOLS")
    try:
        return ask(symbol)
    except SourceError as error:
        # the message has it all; a traceback would keep the request, and its key, alive
        return error.with_traceback(None)


def _has_session(request: Request, availability: Availability, calendar: str) -> bool:
    """Whether any session of the request had closed, and its bar was out, by `until`."""
    if request.start is None:
        return True
    days = pd.Series(sessions(calendar).days).astype("datetime64[us]")
    near = days[days.between(pd.Timestamp(request.start), pd.Timestamp(request.until.date()))]
    return bool(admitted(near, request, availability, calendar).any())


def _admitted(
    frame: pd.DataFrame, column: str, request: Request, availability: Availability, calendar: str
) -> pd.DataFrame:
    return frame[admitted(frame[column], request, availability, calendar)]


def _frame(parts: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """One frame of the contract's columns and dtypes, also where there is no row."""
    parts = [part for part in parts if not part.empty]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))
    dtypes = {
        column: "str"
        if column in ("entity", "kind")
        else "datetime64[us]"
        if column in ("session", "ex_date")
        else "float64"
        for column in columns
    }
    return frame[list(columns)].astype(dtypes)
