"""Daily Fama/French five factors from Kenneth French's data library, through pandas-datareader.

The library restates its whole history whenever CRSP does, without vintages: a factor
fetched again may differ in the second decimal.

References
----------
Fama, E. F. and French, K. R. (2015). A five-factor asset pricing model. Journal of
Financial Economics 116(1), 1–22.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from datetime import datetime

import pandas as pd

from db.availability import AfterPeriod, Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.admission import admitted, first_date
from db.sources.http import RetryPolicy, VendorSession
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request

DATA_SET = "F-F_Research_Data_5_Factors_2x3_daily"

# Column of the library -> series here; excess return of the market, size, value,
# profitability, investment, and the one-month Treasury bill.
FACTORS = {
    "Mkt-RF": "FF.MKT_RF",
    "SMB": "FF.SMB",
    "HML": "FF.HML",
    "RMW": "FF.RMW",
    "CMA": "FF.CMA",
    "RF": "FF.RF",
}

# The library waits for CRSP's monthly file and then for its authors: a month has appeared
# between four and eight weeks after its end. 45 days are the setting `publication_lag_days`
# for the key "FF" where nothing else is said.
PUBLICATION_LAG_DAYS = 45.0

# The library's own marks for "no value" (foot of every file: -99.99 or -999).
_MISSING = (-99.99, -999.0)


class FamaFrenchDaily:
    """Six series `FF.MKT_RF` … `FF.RF`: simple returns in percent per day (0.5 is 0.5 %)."""

    name = "fama_french.daily"
    kind: Kind = "observations"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def availability(self) -> Availability:
        """All days of a month become known together, some weeks after its end."""
        lag = self._settings.publication_lag_days.get("FF", PUBLICATION_LAG_DAYS)
        return AfterPeriod(lag, "month")

    def fetch(self, request: Request) -> Fetched:
        """Factors by day, in percent; `request.entities` picks series such as `FF.SMB`.

        Values that the library marks as missing stay out of the frame and are counted in
        `state["missing_marked"]`; `state["last_period"]` is the last date of the answer.

        Raises
        ------
        SourceError
            The library cannot be reached, or its file is no zip, is damaged, or holds
            other columns than the five factors.
        """
        wide = self._read()
        last = wide.index[-1].date().isoformat()
        earlier = request.state.get("last_period")
        if earlier is not None and last < earlier:
            raise SourceError(
                f"{self.name}: the file ends on {last}, an earlier one on {earlier}; nothing was "
                "taken, the next run asks again"
            )
        names = [
            series
            for series in FACTORS.values()
            if request.entities is None or series in request.entities
        ]
        long = (
            wide[names]
            .rename_axis("period")
            .melt(var_name="series", value_name="value", ignore_index=False)
            .reset_index()
            .astype({"series": "str"})[["series", "period", "value"]]
        )
        window = Request(
            first_date(request, self._settings), request.until, request.entities, request.state
        )
        long = long[admitted(long["period"], window, self.availability, self._settings.calendar)]
        marked = long["value"].isin(_MISSING)
        return Fetched(
            long[~marked].reset_index(drop=True),
            state={"last_period": last, "missing_marked": int(marked.sum())},
        )

    def _read(self) -> pd.DataFrame:
        """The complete history: one column for each series, indexed by day (datetime64[us])."""
        from pandas_datareader.famafrench import FamaFrenchReader

        session = VendorSession(RetryPolicy.of(self.name, self._settings), self._require_zip)
        reader = FamaFrenchReader(
            DATA_SET,
            start=datetime(1900, 1, 1),
            end=datetime(2200, 1, 1),
            retry_count=0,  # the session retries
            pause=0,
            session=session,
        )
        try:
            table = reader.read()[0]
            table.columns = [str(column).strip() for column in table.columns]
            wide: pd.DataFrame = table[list(FACTORS)].astype("float64").rename(columns=FACTORS)
            wide.index = table.index.to_timestamp().as_unit("us")
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SourceError(
                f"{self.name}: the file of the data library is damaged ({error}); nothing was "
                "taken, the next run asks again"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SourceError(
                f"{self.name}: {DATA_SET} holds no daily table with the columns "
                f"{', '.join(FACTORS)} ({type(error).__name__}); the library may have changed "
                "its format: see its page"
            ) from None
        if wide.empty:
            raise SourceError(f"{self.name}: {DATA_SET} holds no row; the next run asks again")
        return wide

    def _require_zip(self, body: bytes) -> None:
        if not zipfile.is_zipfile(io.BytesIO(body)):
            what = "a web page" if body.lstrip()[:1] == b"<" else f"{len(body)} bytes"
            raise SourceError(
                f"{self.name}: the data library sent {what} instead of a whole zip file; "
                "nothing was taken, the next run asks again"
            )
