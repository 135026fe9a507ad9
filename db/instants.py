"""Instants: the times of documents as files, feeds and vendors write them, read as UTC.

A time is read if every part of it is understood. A zone that is passed over makes a document
known hours before it was: what is not understood is not read, and the quality gate holds it. The
readers of libraries (email.utils, dateutil) pass over such parts, or guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

UTC_MICROSECONDS: Final = "datetime64[us, UTC]"

# A date without a time of day ends in New York, 24 h and 5 h after its midnight in UTC, as in
# `db.availability.AfterClose`.
END_OF_DAY = np.timedelta64(29, "h")

# The world's clocks are at most 14 hours from UTC.
_OFFSET = "[+-](?:0[0-9]|1[0-4]):?[0-5][0-9]"
# ISO 8601 from the day on: a month or a year is no time of a document.
_ISO = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    "(?:[T ](?:[0-9]{2}|"
    r"(?:[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?|[0-9]{4}(?:[0-9]{2}(?:\.[0-9]+)?)?)"
    f" *(?:(?i:Z|UTC?|GMT)|{_OFFSET}|[+-](?:0[0-9]|1[0-4]))?))?"
)
_ZONE_IN_WORDS = re.compile(" *(?:Z|UTC?|GMT)$", re.IGNORECASE)
_DAY = "(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})"
_COMPACT = "^([0-9]{8})([0-9]{6})$"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# Seconds since 1970 have 9 or 10 digits from 1973 to 2286; finer units three digits more each.
_EPOCH_DIGITS = {9: 1_000_000, 10: 1_000_000, 12: 1_000, 13: 1_000, 15: 1, 16: 1}
# YYYYMMDDHHMM has the digits of milliseconds of 1976, and milliseconds behind YYYYMMDDHHMMSS
# cut short those of microseconds: nobody can tell.
_TWO_MEANINGS = r"(?:19|20)(?:[0-9]{10}|[0-9]{13})(?:\.[0-9]+)?"

# Times that spell the month, in small letters: of e-mail and RSS, of people and JavaScript, of
# Unix and Twitter.
_WEEKDAY = "(?:(?P<weekday>[a-z]+)(?:, ?| ))?"
_DAY_OF_MONTH, _MONTH, _YEAR = "(?P<day>[0-9]{1,2})", "(?P<month>[a-z]+)", "(?P<year>[0-9]{4})"
_CLOCK = "(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?(?: ?(?P<half>[ap])m)?"
# A comment may stand behind an offset and says the same again: -0500 (EST)
_ZONE = rf"(?: (?P<zone>[a-z]+|(?:utc|gmt)?{_OFFSET}(?: \([^()]*\))?))?"
_SPELLED = tuple(
    re.compile(form)
    for form in (
        f"{_WEEKDAY}{_DAY_OF_MONTH}[ -]{_MONTH}[ -]{_YEAR},? {_CLOCK}{_ZONE}",
        f"{_WEEKDAY}{_MONTH} {_DAY_OF_MONTH},? {_YEAR},? {_CLOCK}{_ZONE}",
        f"{_WEEKDAY}{_MONTH} {_DAY_OF_MONTH} {_CLOCK}{_ZONE} {_YEAR}",
    )
)
# RFC 822, section 5.1, with UTC; hours from UTC.
_ZONES = {
    "z": 0, "ut": 0, "utc": 0, "gmt": 0,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
}  # fmt: skip


def _numbered(names: str) -> dict[str, int]:
    """Number of each name, from 0, also cut short to three letters or more: Sep, Sept."""
    return {
        name[:letters]: number
        for number, name in enumerate(names.split())
        for letters in range(3, len(name) + 1)
    }


_WEEKDAYS = _numbered("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = _numbered(
    "january february march april may june july august september october november december"
)
# Rows that mostly tell whether a file holds times of day.
_FEW = 100


@dataclass(frozen=True)
class Instants:
    """Times of rows, read.

    Attributes
    ----------
    times : datetime64[us, UTC], (n,); NaT where the time cannot be read.
    whole_day : whether only a date was given, (n,), bool; its midnight stands in `times`.
    """

    times: pd.Series[Any]
    whole_day: npt.NDArray[np.bool_]

    @property
    def known(self) -> pd.Series[Any]:
        """From when each could have been known: a date without a time, from its end on."""
        later: pd.Series[Any] = self.times.where(~self.whole_day, self.times + END_OF_DAY)
        return later


def read_instants(column: pd.Series[Any]) -> Instants:
    """Times as they are written, as UTC; what has no zone is UTC.

    Read are ISO 8601 from the day on, `YYYYMMDD`, `YYYYMMDDHHMMSS`, seconds, milliseconds or
    microseconds since 1970, and times that spell the month, with a year of four digits:
    the form of e-mail and RSS (RFC 822), `Dec 27, 2018 9:30 PM` and Twitter's
    `Wed May 06 15:39:46 +0000 2015`, with an offset or a zone of RFC 822.

    Not read is what is not understood to its end, what has two meanings (`04/05/2018`, years
    of two digits, numbers of 12 digits that may be YYYYMMDDHHMM), and what there is not: a 30th
    of February, a weekday of another date, hour 24, second 60.

    Parameters
    ----------
    column : text, numbers or datetimes, (n,), with any index.

    Returns
    -------
    Instants
        With the index of `column`.
    """
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        at = (
            column if isinstance(column.dtype, pd.DatetimeTZDtype) else column.dt.tz_localize("UTC")
        )
        return Instants(at.astype(UTC_MICROSECONDS), np.zeros(len(column), dtype=bool))
    given = _as_text(column)
    at = pd.Series(pd.NaT, index=column.index, dtype=UTC_MICROSECONDS)
    for reader in (_iso, _numbers, _spelled):
        rest = given[at.isna() & (given != "")]
        if rest.empty:
            break
        at.loc[rest.index] = reader(rest)
    whole_day = (given.str.fullmatch(_DAY) & at.notna()).to_numpy(dtype=bool)
    return Instants(at, whole_day)


def as_dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """The dates of a column in which every time is exactly midnight UTC; others as they are.

    Dates are often written as times: pandas makes midnights of them in every format. Taken for
    times they would be known before their day has begun.

    Parameters
    ----------
    column : text, (n,); what cannot be read as a time stays.
    """
    given = column.dropna()
    for part in (given.iloc[:_FEW], given):
        times = read_instants(part).times.dt.tz_localize(None)
        if (times.notna() & (times != times.dt.normalize())).any():
            return column
    days = times.dropna()
    made = pd.Series(np.datetime_as_string(days.to_numpy("datetime64[D]")), days.index, "str")
    return made.reindex(column.index).fillna(column)


def _as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Text without blanks around, "" where nothing is given, on an index of its own."""
    values = column.reset_index(drop=True)
    if pd.api.types.is_float_dtype(values.dtype):
        values = values.astype("object").map(lambda number: f"{number:.6f}", na_action="ignore")
    text: pd.Series[Any] = values.astype("str").where(values.notna(), "").str.strip()
    return text.set_axis(column.index)


def _iso(rest: pd.Series[Any]) -> pd.Series[Any]:
    """Also with the zone in words: 2018-12-28 15:00 UTC."""
    known = rest.where(rest.str.fullmatch(_ISO), "")
    named = known.str.replace(_ZONE_IN_WORDS, "+00:00", regex=True)
    read = pd.to_datetime(named, errors="coerce", format="ISO8601", utc=True)
    return read.astype(UTC_MICROSECONDS)


def _numbers(rest: pd.Series[Any]) -> pd.Series[Any]:
    """Epochs by their number of digits, YYYYMMDD and YYYYMMDDHHMMSS."""
    numbers = rest[rest.str.fullmatch(_NUMBER) & ~rest.str.fullmatch(_TWO_MEANINGS)]
    read = pd.Series(pd.NaT, index=numbers.index, dtype=UTC_MICROSECONDS)
    parts = numbers.str.extract(r"^(\d+)(?:\.(\d+))?$")
    whole = parts[0]
    for digits, unit in _EPOCH_DIGITS.items():
        chosen = whole.str.len() == digits
        if not chosen.any():
            continue
        fraction = pd.to_numeric("0." + parts.loc[chosen, 1].fillna("0"))
        micros = whole[chosen].astype("int64") * unit + (fraction * unit).round().astype("int64")
        read.loc[chosen] = pd.to_datetime(micros, unit="us", utc=True).astype(UTC_MICROSECONDS)
    chosen = whole.str.len().isin([8, 14]) & parts[1].isna()
    if chosen.any():
        written = whole[chosen].str.replace(_COMPACT, r"\1T\2", regex=True)
        days = pd.to_datetime(written, errors="coerce", format="ISO8601", utc=True)
        read.loc[chosen] = days.astype(UTC_MICROSECONDS)
    return read.reindex(rest.index)


def _spelled(rest: pd.Series[Any]) -> pd.Series[Any]:
    """Times that spell the month, one by one."""
    utc = pd.Series([_of_words(text) for text in rest], rest.index, "datetime64[us]")
    read: pd.Series[Any] = utc.dt.tz_localize("UTC")
    return read


def _of_words(text: str) -> datetime | None:
    """The time in UTC, without a zone; None where a part is not understood or contradicts."""
    text = " ".join(text.lower().split())
    found = next((match for form in _SPELLED if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    weekday, half, zone = found["weekday"], found["half"], found["zone"]
    try:
        there = datetime(
            int(found["year"]),
            1 + _MONTHS[found["month"]],
            int(found["day"]),
            _hour(int(found["hour"]), half),
            int(found["minute"]),
            int(found["second"] or 0),
        )
        if weekday is not None and _WEEKDAYS[weekday] != there.weekday():
            return None
        return there if zone is None else there - _offset(zone)
    except (ValueError, KeyError, OverflowError):
        return None


def _hour(hour: int, half: str | None) -> int:
    """The hour of the day; that of a half of it runs from 12 to 11."""
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"{hour} is no hour of half a day")
    return hour % 12 + (12 if half == "p" else 0)


@lru_cache(maxsize=256)
def _offset(zone: str) -> timedelta:
    """Of a zone from UTC: a name, or ±HHMM with or without a colon; KeyError for other names."""
    found = re.search("([+-])(..):?(..)", zone)
    if found is None:
        return timedelta(hours=_ZONES[zone])
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -ahead if found[1] == "-" else ahead
