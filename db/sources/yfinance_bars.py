"""Daily bars from Yahoo through yfinance: unofficial, without a key, widely used.

Yahoo's prices, volumes and dividends are adjusted for all splits up to today, so a
split restates the whole history. What is kept here are the raw figures of the day: each
row is multiplied (its volume divided) by the splits that came after it, which the same
answer lists. The answer therefore always reaches to today, also where older rows are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.availability import AfterClose, Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.admission import first_date
from db.sources.daily_bars import PRICES, SymbolHistory, collect
from db.sources.http import RequestFailed, RetryPolicy
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request

if TYPE_CHECKING:
    from curl_cffi.requests import Session

# Yahoo may list a split some hours before it restates its prices. Smaller splits cannot
# be told from the price move of a day.
_CHECKED_SPLIT = 1.5
_CHECKED_DAYS = 10


class YfinanceBars:
    """Raw daily bars of the configured symbols in the currency of their listing.

    Symbols are Yahoo's (`BRK-B`, `^GSPC`). Yahoo records a spin-off as a split with an
    odd factor (GE 2023: 1.281) and its prices follow; so do the actions here.
    """

    name = "yfinance.bars"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    # Yahoo tells no time; its volume still moves until after-hours trading ends at 8 pm.
    availability: Availability = AfterClose(hours=4)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def fetch(self, request: Request) -> Fetched:
        """Bars and corporate actions; a symbol that cannot be had is a problem.

        Capital gains that funds distribute are not taken: Yahoo has often added them to
        the dividends already.

        Raises
        ------
        SourceError
            Yahoo cannot be reached or has none of the symbols.
        """
        _open_cache(self._settings.home / "cache" / "yfinance")
        symbols = self._settings.symbols if request.entities is None else list(request.entities)
        start = first_date(request, self._settings).isoformat()
        with _yahoo_session(RetryPolicy.of(self.name, self._settings)) as session:

            def ask(symbol: str) -> SymbolHistory:
                return self._history(symbol, self._table(symbol, start, session))

            return collect(self, symbols, ask, request, self._settings.calendar)

    def _table(self, symbol: str, start: str, session: Session[Any]) -> pd.DataFrame:
        """The frame of yfinance: split-adjusted, from `start` until now, empty rows too."""
        import yfinance
        from curl_cffi.requests.exceptions import HTTPError
        from yfinance.exceptions import YFException

        try:
            table: pd.DataFrame = yfinance.Ticker(symbol, session=session).history(
                start=start, interval="1d", auto_adjust=False, actions=True, keepna=True
            )
        except RequestFailed:
            raise
        except YFException as error:
            raise SourceError(
                f"{self.name}: {symbol}: {_one_line(error, symbol)}; see LOOKBACK_SYMBOLS"
            ) from None
        except HTTPError as error:
            # of a symbol without prices yfinance asks for a description, twice a process
            status = error.response.status_code if error.response is not None else "error"
            raise SourceError(
                f"{self.name}: {symbol}: HTTP {status}: unknown to Yahoo or delisted; "
                "see LOOKBACK_SYMBOLS"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError, OSError) as error:
            # what yfinance meets on a web page, a truncated or a changed answer
            raise SourceError(
                f"{self.name}: {symbol}: Yahoo's answer cannot be read "
                f"({type(error).__name__}); the next run asks again"
            ) from None
        return table

    def _history(self, symbol: str, table: pd.DataFrame) -> SymbolHistory:
        try:
            table = table.rename(columns=str.lower).astype("float64")
            table.index = pd.DatetimeIndex(table.index).tz_localize(None).as_unit("us")
            splits = _events(table["stock splits"])
            dividends = _events(table["dividends"])
            bars = table[[*PRICES, "volume"]].rename_axis("session")
        except (ValueError, TypeError, LookupError) as error:
            raise SourceError(
                f"{self.name}: {symbol}: Yahoo's answer lacks or garbles a column "
                f"({type(error).__name__}); the next run asks again"
            ) from None
        pending = _pending_split(bars["close"], splits)
        if pending is not None:
            raise SourceError(
                f"{self.name}: {symbol}: Yahoo lists the split of {pending.date()} but has not "
                "restated its prices yet; the next run asks again"
            )
        # yfinance writes volume 0 where a row has no prices: nothing is known of it
        bars.loc[bars[PRICES].isna().all(axis=1), "volume"] = np.nan
        factor = later_split_factor(bars.index, splits)
        for column in PRICES:
            bars[column] = _rounded(bars[column].to_numpy() * factor)
        bars["volume"] = np.round(bars["volume"].to_numpy() / factor)
        cash = dividends.to_numpy() * later_split_factor(dividends.index, splits)
        actions = pd.concat(
            [
                pd.DataFrame(
                    {"ex_date": splits.index, "kind": "split", "factor": splits.to_numpy()}
                ),
                pd.DataFrame(
                    {"ex_date": dividends.index, "kind": "dividend", "factor": _rounded(cash)}
                ),
            ],
            ignore_index=True,
        )
        return SymbolHistory(bars.reset_index(), actions)


def later_split_factor(dates: pd.Index, splits: pd.Series) -> npt.NDArray[np.float64]:
    """New shares of today for one share of each date: shape (len(dates),).

    The product of all splits with an ex-date after the date; a row dated on the ex-date
    is already quoted in new shares. `splits` holds new shares per old by ex-date, ascending.
    """
    products = np.append(np.cumprod(splits.to_numpy("float64")[::-1])[::-1], 1.0)
    return products[np.searchsorted(splits.index.to_numpy(), dates.to_numpy(), side="right")]


def _events(column: pd.Series) -> pd.Series:
    return column[column.notna() & (column != 0)].sort_index()


def _rounded(prices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Yahoo computes with seven digits (39.48 comes as 39.4799995422); undoing a split
    # leaves dust that would look like a restated price after the next one. US stocks are
    # quoted in 0.0001 at the finest, above a dollar.
    return np.where(np.abs(prices) >= 1, np.round(prices, 4), np.round(prices, 6))


def _pending_split(close: pd.Series, splits: pd.Series) -> pd.Timestamp | None:
    """Ex-date of a recent split that the prices before it do not reflect yet, or None.

    Where prices have been restated, they pass the ex-date without a jump; where not,
    they drop by about the factor.
    """
    close = close.dropna()
    for day, factor in zip(splits.index, splits, strict=True):
        recent = close.index[-1] - day <= pd.Timedelta(days=_CHECKED_DAYS) if len(close) else False
        before, after = close[close.index < day], close[close.index >= day]
        if not recent or before.empty or after.empty:
            continue
        size, jump = np.log(factor), np.log(before.iloc[-1] / after.iloc[0])
        if abs(size) >= np.log(_CHECKED_SPLIT) and abs(jump - size) < abs(jump):
            return pd.Timestamp(str(day))
    return None


@contextmanager
def _yahoo_session(policy: RetryPolicy) -> Iterator[Session[Any]]:
    """A browser-like session under the retry policy, with yfinance raising its errors."""
    from curl_cffi.requests import Session
    from curl_cffi.requests.exceptions import RequestException
    from yfinance.config import YfConfig

    # Prices do not need the cookie and the crumb that yfinance asks other addresses for:
    # one attempt each, or a Yahoo that is down would cost three times the retries.
    once = replace(policy, attempts=1)

    class YahooSession(Session[Any]):
        def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            kwargs["timeout"] = policy.timeout_seconds
            send = super().request
            needed = policy if "/v8/finance/chart/" in url else once
            return needed.send(lambda: send(method, url, *args, **kwargs), url, (RequestException,))

    hidden = YfConfig.debug.hide_exceptions
    YfConfig.debug.hide_exceptions = False  # else failures end as empty frames and log lines
    try:
        with YahooSession(impersonate="chrome") as session:
            yield session
    finally:
        YfConfig.debug.hide_exceptions = hidden


def _one_line(error: Exception, symbol: str) -> str:
    return " ".join(str(error).removeprefix(f"${symbol}: ").split())[:160]


def _open_cache(folder: Path) -> None:
    """Open what yfinance keeps between runs (time zones, cookies), in our home.

    Here, before its threads: two that open a new SQLite file at once find it locked.
    """
    import yfinance
    from yfinance import cache

    yfinance.set_tz_cache_location(str(folder))
    cache.get_tz_cache().initialise()
    cache.get_cookie_cache().initialise()
