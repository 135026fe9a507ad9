"""FRED series of the St. Louis Fed, through pandas-datareader; no key is needed.

FRED's CSV carries the newest vintage only, without release dates, so the time from
which a value could be used follows a publication rule of its series. Revised series
(industrial production, most of all) are known here as they stand today; a vintage
of one's own begins with the first fetch. FRED holds ten years of S&P and Dow Jones indices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd

from db.availability import AfterClose, AfterPeriod, Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.admission import admitted, first_date
from db.sources.http import RequestFailed, RetryPolicy, VendorSession
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request

Period = Literal["day", "week", "month", "quarter", "year"]


@dataclass(frozen=True)
class PublicationRule:
    """The period that a series is dated by, and when its value could be used."""

    period: Period
    availability: Availability


# From the end of the first quarter, by which AfterPeriod counts, to the end of the year.
_REST_OF_YEAR_DAYS = 275

PUBLICATION_RULES = {
    # Index levels are public at the close; FRED repeats them the same evening.
    "SP500": PublicationRule("day", AfterClose(hours=4)),
    "NASDAQCOM": PublicationRule("day", AfterClose(hours=4)),
    "DJIA": PublicationRule("day", AfterClose(hours=4)),
    # FRED takes the close of the VIX from Cboe the next morning.
    "VIXCLS": PublicationRule("day", AfterClose(hours=17)),
    # The University of Michigan asks FRED to delay its survey by about a month.
    "UMCSENT": PublicationRule("month", AfterPeriod(31, "month")),
    # Federal Reserve release G.17: around the 16th of the next month.
    "IPGMFN": PublicationRule("month", AfterPeriod(18, "month")),
    "INDPRO": PublicationRule("month", AfterPeriod(18, "month")),
    # BLS, The Employment Situation: a Friday until the tenth of the next month.
    "UNRATE": PublicationRule("month", AfterPeriod(11, "month")),
    "PAYEMS": PublicationRule("month", AfterPeriod(11, "month")),
    # BLS, Consumer Price Index: around the middle of the next month.
    "CPIAUCSL": PublicationRule("month", AfterPeriod(18, "month")),
    "CPILFESL": PublicationRule("month", AfterPeriod(18, "month")),
}

# For series without a rule of their own, later than most releases are, because a value
# known too late costs a little and a value known too early spoils every backtest.
GENERIC_RULES: dict[Period, Availability] = {
    "day": AfterClose(hours=17),
    "week": AfterPeriod(14, "day"),  # FRED dates a week by its last day
    "month": AfterPeriod(45, "month"),
    "quarter": AfterPeriod(90, "quarter"),
    "year": AfterPeriod(_REST_OF_YEAR_DAYS + 180, "quarter"),
}

# Median days between two dates of a series, at most.
_LONGEST_GAP_DAYS: tuple[tuple[float, Period], ...] = (
    (4, "day"),
    (10, "week"),
    (45, "month"),
    (135, "quarter"),
)

# Until 2024 the first column was DATE and a missing value "."; now it may be blank too.
_HEADER = re.compile(r"(?:DATE|observation_date),(?P<series>[^,]+)", re.IGNORECASE)
_ROW = re.compile(r"\d{4}-\d{2}-\d{2},(?:-?\d*\.?\d+(?:[eE][+-]?\d+)?|\.?)")
_SERIES_ID = re.compile(r"[A-Z0-9_.-]+")


class FredSeries:
    """One FRED series: a source of its own, so that an unknown series stops no other.

    A series without a built-in publication rule gets a cautious one from the spacing of
    its dates once it has been fetched; until then it counts as yearly, the most
    cautious of all. `Settings.publication_lag_days` goes before both.
    """

    kind: Kind = "observations"
    adjustment: Adjustment = "raw"

    def __init__(self, series: str, settings: Settings) -> None:
        self.series = series.strip().upper()
        self._settings = settings
        rule = PUBLICATION_RULES.get(self.series)
        self._rule = rule or PublicationRule("year", GENERIC_RULES["year"])
        self._rule_is_built_in = rule is not None

    @property
    def name(self) -> str:
        return f"fred.{self.series}"

    @property
    def frequency(self) -> Frequency:
        """`session` for daily series, `month` for all that are rarer."""
        return "session" if self._rule.period == "day" else "month"

    @property
    def availability(self) -> Availability:
        """The publication rule; days of `publication_lag_days` count from the period's end."""
        lag = self._settings.publication_lag_days.get(self.series)
        if lag is None:
            return self._rule.availability
        match self._rule.period:
            case "day" | "week":
                return AfterPeriod(lag, "day")
            case "month" | "quarter":
                return AfterPeriod(lag, self._rule.period)
            case "year":
                return AfterPeriod(_REST_OF_YEAR_DAYS + lag, "quarter")

    def fetch(self, request: Request) -> Fetched:
        """Observations in the units of the series, dated by the first day of their period.

        Dates that FRED marks as having no value (holidays, mostly) are no observations:
        they stay out of the frame, `marked_missing` names them, and `state["missing_marked"]`
        counts those between `request.start` and `request.until`. `state["last_period"]` is
        the last date of the whole answer: a later answer that ends earlier has been cut short.

        Raises
        ------
        SourceError
            FRED cannot be reached, knows no such series, or sent something that is not
            the whole series: a web page, nothing, a broken line.
        """
        if request.entities is not None and self.series not in request.entities:
            return Fetched(_observations(self.series, pd.Series(dtype="float64")))
        values = self._read()
        last = _last_period(values)
        earlier = request.state.get("last_period")
        if earlier is not None and last < earlier:
            raise SourceError(
                f"{self.name}: the answer ends on {last}, an earlier one on {earlier}: it was cut "
                "short or values were withdrawn; nothing was taken, the next run asks again"
            )
        if not self._rule_is_built_in:
            period = _inferred_period(values.index)
            self._rule = PublicationRule(period, GENERIC_RULES[period])
        window = Request(
            first_date(request, self._settings), request.until, request.entities, request.state
        )
        dates = values.index.to_series()
        values = values[
            admitted(dates, window, self.availability, self._settings.calendar).to_numpy()
        ]
        present = values.dropna()
        return Fetched(
            _observations(self.series, present),
            state={"last_period": last, "missing_marked": len(values) - len(present)},
            marked_missing=_observations(self.series, values[values.isna()]),
        )

    def _read(self) -> pd.Series:
        """The complete series, float64 by date; NaN where FRED marks a missing value."""
        from pandas_datareader.fred import FredReader

        if not _SERIES_ID.fullmatch(self.series):
            raise SourceError(
                f"{self.name}: {self.series!r} is no FRED series id; check LOOKBACK_FRED_SERIES"
            )
        session = VendorSession(RetryPolicy.of(self.name, self._settings), self._require_csv)
        reader = FredReader(
            self.series,
            # FRED always sends all; the reader's own default would keep five years of it
            start=datetime(1600, 1, 1),
            end=datetime(2200, 1, 1),
            retry_count=0,  # the session retries
            pause=0,
            session=session,
        )
        try:
            column = reader.read()[self.series]
            values = pd.Series(
                column.to_numpy("float64"), index=pd.DatetimeIndex(column.index).as_unit("us")
            )
        except RequestFailed as error:
            if error.status in (400, 404):
                raise SourceError(
                    f"{self.name}: FRED knows no series {self.series} (HTTP {error.status}); "
                    "check LOOKBACK_FRED_SERIES"
                ) from None
            raise
        except (ValueError, TypeError, LookupError) as error:
            raise SourceError(
                f"{self.name}: FRED's answer has dates that cannot be read "
                f"({type(error).__name__}); nothing was taken, the next run asks again"
            ) from None
        return values

    def _require_csv(self, body: bytes) -> None:
        """Refuse whatever is not the complete CSV of this series.

        pandas would read a last line of `2018-12-31,250` as it stands when `2506.85` was
        meant. FRED ends its last line like every other, so a body without a final line
        break has been cut; the session has compared its length with Content-Length.
        """
        text = body.decode("utf-8-sig", errors="replace")
        again = "nothing was taken, the next run asks again"
        if not text.strip():
            raise SourceError(f"{self.name}: FRED sent an empty answer; {again}")
        if text.lstrip().startswith("<"):
            raise SourceError(
                f"{self.name}: FRED sent a web page instead of CSV: an unknown series, "
                f"maintenance or a proxy's page; check LOOKBACK_FRED_SERIES and the network"
            )
        if not text.endswith("\n"):
            raise SourceError(
                f"{self.name}: FRED's CSV breaks off in its last line "
                f"({text.splitlines()[-1][:30]!r}); {again}"
            )
        lines = text.splitlines()
        header = _HEADER.fullmatch(lines[0].strip())
        if header is None or header["series"].upper() != self.series:
            raise SourceError(
                f"{self.name}: FRED's CSV begins with {lines[0][:60]!r} instead of "
                f"'observation_date,{self.series}'; {again}"
            )
        if len(lines) == 1:
            raise SourceError(
                f"{self.name}: FRED's CSV holds no observation; check that the series is "
                "still published"
            )
        for number, line in enumerate(lines[1:], start=2):
            if not _ROW.fullmatch(line):
                raise SourceError(
                    f"{self.name}: line {number} of FRED's CSV is {line[:60]!r}, not "
                    f"'date,number'; {again}"
                )


def _observations(series: str, values: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "series": pd.Series([series] * len(values), dtype="str"),
            "period": pd.DatetimeIndex(values.index).as_unit("us"),
            "value": values.to_numpy("float64"),
        }
    )


def _last_period(values: pd.Series) -> str:
    last: str = values.index[-1].date().isoformat()
    return last


def _inferred_period(dates: pd.Index) -> Period:
    # the newest dates: several series became more frequent in the course of time
    gaps = np.diff(dates.to_numpy("datetime64[D]")[-60:]).astype("int64")
    if len(gaps) == 0:
        return "year"
    typical = float(np.median(gaps))
    return next((period for longest, period in _LONGEST_GAP_DAYS if typical <= longest), "year")
