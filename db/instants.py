"""Instants: the times of documents as files, feeds and vendors write them, read as UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

UTC_MICROSECONDS: Final = "datetime64[us, UTC]"

# A date without a time of day ends in New York, 24 h and 5 h after its midnight in UTC, as in
# `db.availability.AfterClose`.
END_OF_DAY = np.timedelta64(29, "h")

# ISO 8601 from the day on: a month or a year is no time of a document.
_ISO = r"^\d{4}-\d{2}-\d{2}(?:[T ]|$)"
_DAY = r"^(?:\d{4}-\d{2}-\d{2}|\d{8})$"
_ZONE_IN_WORDS = re.compile(r"\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
# Twitter's created_at: Wed May 06 15:39:46 +0000 2015
_TWITTER = "%a %b %d %H:%M:%S %z %Y"
_COMPACT = "%Y%m%d%H%M%S"
# Seconds since 1970 have 9 or 10 digits from 1973 to 2286; finer units three digits more each.
_EPOCH_DIGITS = {9: 1_000_000, 10: 1_000_000, 12: 1_000, 13: 1_000, 15: 1, 16: 1}


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

    Read are ISO 8601 from the day on, Twitter's `Wed May 06 15:39:46 +0000 2015`, the form of
    e-mail and RSS (RFC 822), `YYYYMMDD`, `YYYYMMDDHHMMSS`, and seconds, milliseconds or
    microseconds since 1970. Orders of day and month that have to be guessed are not read.

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
    for reader in (_iso, _twitter, _numbers, _mail):
        rest = given[at.isna() & (given != "")]
        if rest.empty:
            break
        at.loc[rest.index] = reader(rest)
    whole_day = (given.str.match(_DAY) & at.notna()).to_numpy(dtype=bool)
    return Instants(at, whole_day)


def _as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Text without blanks around, "" where nothing is given, on an index of its own."""
    values = column.reset_index(drop=True)
    if pd.api.types.is_float_dtype(values.dtype):
        values = values.astype("object").map(lambda number: f"{number:.6f}", na_action="ignore")
    text: pd.Series[Any] = values.astype("str").where(values.notna(), "").str.strip()
    return text.set_axis(column.index)


def _iso(rest: pd.Series[Any]) -> pd.Series[Any]:
    """Also with the zone in words: 2018-12-28 15:00 UTC."""
    known = rest.where(rest.str.match(_ISO), "")
    named = known.str.replace(_ZONE_IN_WORDS, "+00:00", regex=True)
    read = pd.to_datetime(named, errors="coerce", format="ISO8601", utc=True)
    return read.astype(UTC_MICROSECONDS)


def _twitter(rest: pd.Series[Any]) -> pd.Series[Any]:
    read = pd.to_datetime(rest, errors="coerce", format=_TWITTER, utc=True)
    return read.astype(UTC_MICROSECONDS)


def _numbers(rest: pd.Series[Any]) -> pd.Series[Any]:
    """Epochs by their number of digits, YYYYMMDD and YYYYMMDDHHMMSS."""
    read = pd.Series(pd.NaT, index=rest.index, dtype=UTC_MICROSECONDS)
    parts = rest.str.extract(r"^(\d+)(?:\.(\d+))?$")
    whole = parts[0].fillna("")
    for digits, unit in _EPOCH_DIGITS.items():
        chosen = whole.str.len() == digits
        if not chosen.any():
            continue
        fraction = pd.to_numeric("0." + parts.loc[chosen, 1].fillna("0"))
        micros = whole[chosen].astype("int64") * unit + (fraction * unit).round().astype("int64")
        read.loc[chosen] = pd.to_datetime(micros, unit="us", utc=True).astype(UTC_MICROSECONDS)
    for form, digits in (("%Y%m%d", 8), (_COMPACT, 14)):
        chosen = (whole.str.len() == digits) & parts[1].isna()
        if chosen.any():
            days = pd.to_datetime(whole[chosen], errors="coerce", format=form, utc=True)
            read.loc[chosen] = days.astype(UTC_MICROSECONDS)
    return read


def _mail(rest: pd.Series[Any]) -> pd.Series[Any]:
    """RFC 822 and its kin, one by one: few files have it."""
    return pd.Series([_of_mail(text) for text in rest], index=rest.index, dtype=UTC_MICROSECONDS)


def _of_mail(text: str) -> pd.Timestamp | None:
    if ":" not in text or len(text) > 80:  # without a time of day nothing is guessed
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    stamp = pd.Timestamp(moment)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
