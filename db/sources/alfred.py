"""Monthly FRED series with every version they had: ALFRED, by the St. Louis Fed's web API.

Needs an API key, from the environment only. One request form brings all that is wanted
(https://fred.stlouisfed.org/docs/api/fred/series_observations.html): observations by real-time
period (`output_type=1`) over all real-time periods, one row for each value that a month had and
for the days on which it stood. FRED allows 2,000 vintages in one answer, more than any monthly
series has, and 100,000 rows a page.

**From when a value is known.** `realtime_start` is the day, in St. Louis, on which FRED had the
value. The hour is not told: most releases come in the morning, some series are updated in the
evening. A value counts as known from the end of that day, midnight in Chicago: a night whose
cut-off lies in the evening of a release day does not see it, the next one does. Values
that are older than ALFRED's records of their series are known from the first vintage on record,
though they were published before.

**Values that are withdrawn.** A value that a later vintage marks as missing (".") stands as it
was last published, since an observation cannot be taken back; `state["withdrawn"]` counts them.

**Later fetches** ask for real-time periods from some weeks before the last one on. FRED then
begins every period no sooner than was asked for, so that values which have stood for long come
with a later `realtime_start`; they are what stands in the store at that time, and add nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from db.availability import Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.admission import first_date
from db.sources.fred import PUBLICATION_RULES, FredSeries
from db.sources.http import RequestFailed, RetryPolicy, VendorSession
from db.sources.source import OBSERVATION_COLUMNS, Adjustment, Fetched, Frequency, Kind, Request

URL = "https://api.stlouisfed.org/fred/series/observations"
# FRED's words for the first and the last real-time day that there is.
FIRST_DAY, LAST_DAY = "1776-07-04", "9999-12-31"
ROWS_A_PAGE = 100_000
ST_LOUIS = ZoneInfo("America/Chicago")
# Vintages that reach ALFRED late, under the date of their release, are seen within a month.
OVERLAP = timedelta(days=31)

# FRED's documentation: "32 character alpha-numeric lower-cased string".
_KEY = re.compile(r"[0-9a-z]{32}")
_LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry", "requests")
_AGAIN = "nothing was taken, the next run asks again"


def has_key(settings: Settings) -> bool:
    """Whether an API key of FRED is set."""
    return bool(_key(settings))


def is_revised(series: str) -> bool:
    """Whether a series is known to be monthly, and worth its vintages; index levels are not."""
    rule = PUBLICATION_RULES.get(series.strip().upper())
    return rule is not None and rule.period == "month"


class AlfredSeries:
    """All vintages of one monthly FRED series, each known from the end of its release day.

    A source of its own, so that an unknown series stops no other.
    """

    kind: Kind = "observations"
    adjustment: Adjustment = "raw"
    frequency: Frequency = "month"
    publishes_vintages: Literal[True] = True

    def __init__(self, series: str, settings: Settings) -> None:
        self.series = series.strip().upper()
        self._settings = settings

    @property
    def name(self) -> str:
        return f"alfred.{self.series}"

    @property
    def availability(self) -> Availability:
        """When the next month is due, by the rule of the series; `known_at` does not rest on it."""
        return FredSeries(self.series, self._settings).availability

    def fetch(self, request: Request) -> Fetched:
        """Values of all vintages that were known by `request.until`, in the series' units.

        Periods from setting `history_start` on, dated by the first day of the month; `known_at`
        is UTC. After a first fetch only real-time periods since the last one are asked for,
        with an overlap; `request.start` does not narrow the periods, because annual revisions
        reach back for decades. `state["through"]` is the last release day (St. Louis) that has
        been taken, `state["last_period"]` the last month of the answer.

        Raises
        ------
        SourceError
            The key is missing or refused, FRED knows no such series or cannot be reached, or
            its answer is not the whole of what it says it is.
        """
        if request.entities is not None and self.series not in request.entities:
            return Fetched(pd.DataFrame(columns=[*OBSERVATION_COLUMNS, "known_at"]))
        state = request.state if request.start is not None else {}
        rows = self._read(
            _first_day(state), first_date(Request(None, request.until), self._settings)
        )
        last = rows["period"].max().date().isoformat()
        if last < state.get("last_period", last):
            raise SourceError(
                f"{self.name}: the answer ends on {last}, an earlier one on "
                f"{state['last_period']}: it was cut short; {_AGAIN}"
            )
        rows = rows[rows["known_at"] <= pd.Timestamp(request.until)]
        given = rows["value"].notna()
        withdrawn = ~given & given.groupby(rows["period"]).cummax()
        marked = rows.loc[~given.groupby(rows["period"]).transform("any"), ["series", "period"]]
        through = request.until.astimezone(ST_LOUIS).date() - timedelta(days=1)
        return Fetched(
            rows[given].reset_index(drop=True),
            state={
                "through": max(through.isoformat(), state.get("through", "")),
                "last_period": last,
                "withdrawn": int(withdrawn.sum()),
                "missing_marked": len(marked),
            },
            marked_missing=marked.drop_duplicates(),
        )

    def _read(self, first_day: str, history_start: date) -> pd.DataFrame:
        """Rows of series, period, value (NaN where marked missing), known_at; by release day."""
        key = _key(self._settings)
        if not _KEY.fullmatch(key):
            told = "is no FRED API key (32 lower-case letters and digits)" if key else "is not set"
            raise SourceError(f"{self.name}: LOOKBACK_FRED_API_KEY {told}")
        asked = {
            "series_id": self.series,
            "api_key": key,
            "file_type": "json",
            "realtime_start": first_day,
            "realtime_end": LAST_DAY,
            "observation_start": history_start.isoformat(),
            "output_type": 1,
            "sort_order": "asc",
            "limit": ROWS_A_PAGE,
        }
        pages: list[dict[str, Any]] = []
        total = 1
        policy = RetryPolicy.of(self.name, self._settings)
        with _kept_out_of_logs(key), VendorSession(policy) as session:
            while len(pages) < total:
                page = self._page(session, asked | {"offset": len(pages)})
                if pages and page["count"] != total:
                    raise SourceError(
                        f"{self.name}: the series changed while it was read; {_AGAIN}"
                    )
                total = page["count"]
                if not page["observations"]:
                    raise SourceError(
                        f"{self.name}: FRED sent {len(pages)} of {total} values; {_AGAIN}"
                    )
                pages += page["observations"]
        if len(pages) != total:
            raise SourceError(f"{self.name}: FRED sent {len(pages)} of {total} values; {_AGAIN}")
        return self._typed(pages)

    def _page(self, session: VendorSession, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One page as FRED documents it: `count` of all rows, `observations` of this page."""
        try:
            answer = session.get(URL, params=dict(asked), allow_redirects=False)
        except RequestFailed as error:
            raise self._explained(error, str(asked["api_key"])) from None
        text = answer.text
        if text.lstrip().startswith("<") or not text.strip():
            what = "a web page" if text.strip() else "an empty answer"
            raise SourceError(
                f"{self.name}: FRED sent {what} instead of JSON: maintenance, or a proxy's page; "
                "check the network; the next run asks again"
            )
        try:
            page = answer.json()
        except ValueError:
            raise SourceError(
                f"{self.name}: FRED's answer is no JSON or breaks off; {_AGAIN}"
            ) from None
        if (
            not isinstance(page, dict)
            or not isinstance(page.get("count"), int)
            or not isinstance(page.get("observations"), list)
            or page.get("offset") != asked["offset"]
        ):
            raise SourceError(f"{self.name}: FRED's answer holds no list of observations; {_AGAIN}")
        return page

    def _explained(self, error: RequestFailed, key: str) -> SourceError:
        """What FRED says of a refusal, in `error_message`; never with the key."""
        told = _error_message(error.answer)
        error.answer = ""  # it may repeat the key, and errors travel
        if "api_key" in told:
            return RequestFailed(
                f"{self.name}: FRED refused the API key (HTTP {error.status}); "
                "check LOOKBACK_FRED_API_KEY",
                error.status,
            )
        if "series does not exist" in told:
            return SourceError(
                f"{self.name}: FRED knows no series {self.series} (HTTP {error.status}); "
                "check LOOKBACK_FRED_SERIES"
            )
        if told:
            said = told.replace(key, "***")[:160]
            return RequestFailed(f"{self.name}: FRED answered: {said}", error.status)
        return error

    def _typed(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        table = pd.DataFrame(rows)
        try:
            if not all(isinstance(value, str) for value in table["value"]):
                raise TypeError  # numbers are text in FRED's JSON, missing ones too
            value = table["value"].where(table["value"] != ".", np.nan).astype("float64")
            period = pd.to_datetime(table["date"], format="%Y-%m-%d").astype("datetime64[us]")
            released = pd.to_datetime(table["realtime_start"], format="%Y-%m-%d")
        except (ValueError, TypeError, LookupError) as error:
            raise SourceError(
                f"{self.name}: FRED's answer lacks or garbles a field "
                f"({type(error).__name__}); {_AGAIN}"
            ) from None
        end_of_day = (released + pd.Timedelta(days=1)).dt.tz_localize(ST_LOUIS)
        frame = pd.DataFrame(
            {
                "series": pd.Series([self.series] * len(table), dtype="str"),
                "period": period,
                "value": value,
                "known_at": end_of_day.dt.tz_convert("UTC").astype("datetime64[us, UTC]"),
            }
        )
        return frame.sort_values(["known_at", "period"], kind="stable", ignore_index=True)


def _key(settings: Settings) -> str:
    secret = settings.fred_api_key
    return secret.get_secret_value().strip() if secret is not None else ""


def _first_day(state: Mapping[str, Any]) -> str:
    through = state.get("through")
    return FIRST_DAY if through is None else (date.fromisoformat(through) - OVERLAP).isoformat()


def _error_message(body: str) -> str:
    """`error_message` of FRED's error object, in one line; blank where it is none."""
    try:
        told = json.loads(body).get("error_message", "")
    except (ValueError, AttributeError):
        return ""
    return " ".join(str(told).split())


@contextmanager
def _kept_out_of_logs(key: str) -> Iterator[None]:
    """FRED takes its key in the query only, and urllib3 logs queries: they are told without it."""

    def without_key(record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().replace(key, "***"), ()
        return True

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(without_key)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(without_key)
