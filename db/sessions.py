"""Trading sessions of an exchange and the instants that belong to them.

All instants are UTC; sessions are plain dates of the exchange.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

# exchange_calendars starts 20 years back unless told otherwise; histories go further.
FIRST_SESSION = "1960-01-01"
YEARS_AHEAD = 1


def _calendar(code: str, end: pd.Timestamp) -> ExchangeCalendar:
    """The calendar from 1960, or from the first day that it knows (Tokyo: 1997)."""
    import exchange_calendars

    try:
        return exchange_calendars.get_calendar(code, start=FIRST_SESSION, end=end)
    except ValueError:
        first = exchange_calendars.get_calendar(code).bound_min()
        return exchange_calendars.get_calendar(code, start=first, end=end)


class Sessions:
    """The sessions of one exchange, 1960 until a year ahead."""

    def __init__(self, code: str = "XNYS") -> None:
        import exchange_calendars

        end = pd.Timestamp.now().normalize() + pd.DateOffset(years=YEARS_AHEAD)
        try:
            self._calendar = _calendar(code, end)
        except exchange_calendars.errors.InvalidCalendarName:
            raise UsageError(
                f"setting calendar: {code!r} is no exchange calendar; try XNYS, XNAS or XLON"
            ) from None
        self.code = code
        self._days: npt.NDArray[np.datetime64] = self._calendar.sessions.to_numpy().astype(
            "datetime64[D]"
        )
        # position of each calendar day from the first session to the last: a look-up is a
        # tenth of a search
        self._position: npt.NDArray[np.intp] = np.full(
            int((self._days[-1] - self._days[0]).astype("int64")) + 1, -1
        )
        self._position[(self._days - self._days[0]).astype("int64")] = np.arange(len(self._days))

    @property
    def time_zone(self) -> str:
        """The exchange's time zone, e.g. America/New_York."""
        return str(self._calendar.tz)

    @property
    def days(self) -> npt.NDArray[np.datetime64]:
        """All sessions, oldest first: shape (n,), datetime64[D]."""
        return self._days

    def is_session(self, day: date) -> bool:
        """Whether the exchange trades on this date."""
        return bool(np.isin(np.datetime64(day, "D"), self._days))

    def is_week_end(self, day: date) -> bool:
        """Whether this session is the last one of its week, Monday to Sunday."""
        return self.next(day).isocalendar()[:2] != day.isocalendar()[:2]

    def require(self, day: date) -> date:
        """`day`, or an error that names the sessions around it."""
        if self.is_session(day):
            return day
        before, after = self.previous(day), self.next(day)
        raise UsageError(
            f"{day} is no trading day of {self.code}; nearest sessions: {before} and {after}"
        )

    def index(self, days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.intp]:
        """Position of each date among the sessions, -1 where it is none: shape (n,), int64."""
        day = (np.asarray(days, dtype="datetime64[D]") - self._days[0]).view("int64")
        inside = (day >= 0) & (day < len(self._position))
        position: npt.NDArray[np.intp] = self._position[np.where(inside, day, 0)]
        return position if inside.all() else np.where(inside, position, -1)

    def table(self) -> pd.DataFrame:
        """All sessions with columns session, number, week_end, month_end (datetime64)."""
        days = pd.Series(self._days.astype("datetime64[us]"))
        return pd.DataFrame(
            {
                "session": days,
                "number": np.arange(len(days), dtype="int32"),
                "week_end": days.groupby(days.dt.to_period("W-SUN")).transform("max"),
                "month_end": days.groupby(days.dt.to_period("M")).transform("max"),
            }
        )

    def previous(self, day: date) -> date:
        """The last session before `day`."""
        return self.offset(day, -1)

    def next(self, day: date) -> date:
        """The first session after `day`."""
        return self.offset(day, 1)

    def offset(self, day: date, count: int) -> date:
        """The session `count` sessions from `day` (negative: before)."""
        target = np.datetime64(day, "D")
        at = np.searchsorted(self._days, target, side="right" if count > 0 else "left")
        position = at + (count - 1 if count > 0 else count)
        if not 0 <= position < len(self._days):
            raise UsageError(f"no session {count} from {day} in calendar {self.code}")
        result: date = self._days[position].astype(object)
        return result

    def age(self, day: date, session: date) -> int:
        """Sessions from `day` to `session`; 0 when `day` is that session or later."""
        first = np.searchsorted(self._days, np.datetime64(day, "D"), side="right")
        last = np.searchsorted(self._days, np.datetime64(session, "D"), side="right")
        return max(0, int(last - first))

    def close(self, session: date) -> datetime:
        """UTC instant of the session's close (early closes included)."""
        instant: datetime = self._calendar.session_close(pd.Timestamp(session)).to_pydatetime()
        return instant

    def closes(self) -> pd.Series:
        """UTC close of every session, indexed by session (datetime64[ns], midnight)."""
        closes: pd.Series = self._calendar.closes
        return closes

    def last_closed(self, instant: datetime, delay: timedelta) -> date:
        """The newest session whose close lies at least `delay` before `instant`."""
        closes = self._calendar.closes
        position = int(closes.searchsorted(pd.Timestamp(instant - delay), side="right")) - 1
        if position < 0:
            raise UsageError(f"no session of {self.code} had closed by {instant.isoformat()}")
        result: date = closes.index[position].date()
        return result

    def first_open_after(self, instant: datetime) -> date:
        """The first session that opens at or after `instant` (UTC)."""
        opens = self._calendar.opens
        position = int(opens.searchsorted(pd.Timestamp(instant), side="left"))
        result: date = opens.index[position].date()
        return result


@lru_cache(maxsize=8)
def sessions(code: str = "XNYS") -> Sessions:
    """The sessions of an exchange; built once a process (0.4 s)."""
    return Sessions(code)
