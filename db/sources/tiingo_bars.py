"""Daily bars from Tiingo, through its own client; needs an API key (environment only).

Tiingo gives prices as printed on the day, with cash dividend and split factor on their
ex-date: nothing has to be undone.
"""

from __future__ import annotations

import pandas as pd

from db.availability import AfterClose, Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.admission import first_date
from db.sources.daily_bars import KEY_REFUSED, PRICES, SymbolHistory, collect
from db.sources.http import RequestFailed, RetryPolicy, VendorSession
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request

_COLUMNS = ["date", *PRICES, "volume", "divCash", "splitFactor"]


class TiingoBars:
    """Raw daily bars of the configured symbols in the currency of their listing.

    Symbols are Tiingo's: a share class follows a hyphen (`BRK-B`).
    """

    name = "tiingo.bars"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    # Tiingo's documentation: prices at 5:30 pm New York, corrections until 8 pm.
    availability: Availability = AfterClose(hours=4)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def fetch(self, request: Request) -> Fetched:
        """Bars and corporate actions; a symbol that cannot be had is a problem.

        Raises
        ------
        SourceError
            The key is missing or refused, Tiingo cannot be reached, or it has none of
            the symbols.
        """
        from tiingo import TiingoClient

        secret = self._settings.tiingo_api_key
        key = secret.get_secret_value().strip() if secret is not None else ""
        if not key:
            raise SourceError(
                f"{self.name}: no API key; set LOOKBACK_TIINGO_API_KEY in the environment, "
                "or choose LOOKBACK_BARS_VENDOR=yfinance"
            )
        symbols = self._settings.symbols if request.entities is None else list(request.entities)
        start = first_date(request, self._settings).isoformat()
        # the UTC date of `until` is never before New York's
        end = request.until.date().isoformat()
        with VendorSession(RetryPolicy.of(self.name, self._settings)) as session:
            client = TiingoClient({"api_key": key})
            # the client takes no session from outside; its own has neither time-out nor retries
            client._session = session

            def ask(symbol: str) -> SymbolHistory:
                try:
                    rows = client.get_ticker_price(symbol, startDate=start, endDate=end)
                except RequestFailed as error:
                    raise self._explained(error, symbol) from None
                except ValueError:
                    raise SourceError(
                        f"{self.name}: {symbol}: Tiingo's answer is no JSON or breaks off; "
                        "the next run asks again"
                    ) from None
                return self._history(symbol, rows, key)

            return collect(self, symbols, ask, request, self._settings.calendar)

    def _explained(self, error: RequestFailed, symbol: str) -> SourceError:
        if error.status == 404:
            return SourceError(
                f"{self.name}: {symbol}: unknown to Tiingo; see LOOKBACK_SYMBOLS "
                "(share classes are written BRK-B)"
            )
        if error.status in KEY_REFUSED:
            return RequestFailed(
                f"{self.name}: Tiingo refused the API key (HTTP {error.status}); "
                "check LOOKBACK_TIINGO_API_KEY",
                error.status,
            )
        return error

    def _history(self, symbol: str, rows: object, key: str) -> SymbolHistory:
        if not isinstance(rows, list):
            # a spent allowance comes as {"detail": "..."}: no symbol will do any better
            detail = rows.get("detail") if isinstance(rows, dict) else type(rows).__name__
            told = " ".join(str(detail).replace(key, "***").split())[:120]
            raise RequestFailed(f"{self.name}: {symbol}: Tiingo answered: {told}")
        table = pd.DataFrame(rows, columns=None if rows else _COLUMNS)
        try:
            days = pd.to_datetime(table["date"], utc=True).dt.tz_localize(None).dt.normalize()
            table = table[_COLUMNS[1:]].astype("float64").assign(session=days)
        except (ValueError, TypeError, LookupError) as error:
            raise SourceError(
                f"{self.name}: {symbol}: Tiingo's answer lacks or garbles a column "
                f"({type(error).__name__}); the next run asks again"
            ) from None
        return SymbolHistory(table[["session", *PRICES, "volume"]], _actions(table))


def _actions(table: pd.DataFrame) -> pd.DataFrame:
    """Splits (new shares per old) and dividends (cash per share) on their ex-dates."""
    parts = [
        pd.DataFrame(
            {"ex_date": rows["session"], "kind": kind, "factor": rows[column].to_numpy("float64")}
        )
        for kind, column, neutral in (("split", "splitFactor", 1.0), ("dividend", "divCash", 0.0))
        for rows in [table[table[column].notna() & (table[column] != neutral)]]
    ]
    return pd.concat(parts, ignore_index=True)
