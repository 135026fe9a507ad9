"""Availability rules: from when a row could have been used (`known_at`, UTC).

A rule belongs to a source. It is used where the source gives no true release or
vintage date of its own. It says when a row *could* have been known; when it was in
fact fetched is `ingested_at`, and the two are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from db.sessions import Sessions


class Availability(Protocol):
    """Maps the date of a row to the UTC instant from which it could be used."""

    def known_at(self, dates: pd.Series, sessions: Sessions) -> pd.Series:
        """UTC timestamps (datetime64[us, UTC]), one for each date (datetime64, midnight)."""
        ...


@dataclass(frozen=True)
class AfterClose:
    """Known `hours` after the close of the session that the row belongs to.

    A date that is no session counts from the end of that day, New York time; the
    quality gate rejects such bars anyway.
    """

    hours: float

    def known_at(self, dates: pd.Series, sessions: Sessions) -> pd.Series:
        closes = sessions.closes()
        position = sessions.index(dates.to_numpy())
        instants = closes.dt.tz_convert(None).to_numpy("datetime64[us]")[np.maximum(position, 0)]
        end_of_day = dates.to_numpy().astype("datetime64[us]") + np.timedelta64(29, "h")
        known = np.where(position >= 0, instants, end_of_day)
        shifted = known + np.timedelta64(int(self.hours * 3600), "s")
        return pd.Series(pd.DatetimeIndex(shifted, tz="UTC"), index=dates.index)


@dataclass(frozen=True)
class AfterPeriod:
    """Known `days` after the last day of the period that the row is dated by.

    FRED dates a period by its first day: the May value of a monthly series is dated
    May 1st, its period ends on May 31st, and `days` count from there.
    """

    days: float
    period: Literal["day", "month", "quarter"]

    def known_at(self, dates: pd.Series, sessions: Sessions) -> pd.Series:
        del sessions  # a publication calendar, not an exchange's
        code = {"day": "D", "month": "M", "quarter": "Q"}[self.period]
        if dates.empty:  # of no type: nothing was delivered
            dates = dates.astype("datetime64[us]")
        end = dates.dt.to_period(code).dt.end_time.dt.ceil("D").astype("datetime64[us]")
        known: pd.Series = (end + pd.Timedelta(days=self.days)).dt.tz_localize("UTC")
        return known
