"""The clock of a night: injected once, never `now()` in the middle of a computation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from db.sessions import Sessions
from db.settings import Settings

# The sample profile's night: a Friday on which every sample source is fresh.
SAMPLE_SESSION = date(2018, 12, 28)


@dataclass(frozen=True)
class Night:
    """One night: what it is for, what it may know, and what time it is.

    Attributes
    ----------
    session : trading day that the night belongs to.
    cutoff : UTC; the night may know what had `known_at <= cutoff`.
    now : UTC; when the night began: the machine's clock, or the cut-off where nights
        are replayed.
    replayed : whether time stands still at the cut-off.
    """

    session: date
    cutoff: datetime
    now: datetime
    replayed: bool = False

    def time(self) -> datetime:
        """UTC; what the night's clock says at this moment, for what it publishes."""
        return self.now if self.replayed else datetime.now(UTC)


def night(settings: Settings, calendar: Sessions, session: date | None = None) -> Night:
    """The night of `session`, by default the newest whose cut-off has passed.

    Raises
    ------
    UsageError
        `session` is no trading day, or its cut-off has not come yet.
    """
    from db.errors import UsageError

    delay = timedelta(hours=settings.cutoff_delay_hours)
    now = datetime.now(UTC)
    newest = calendar.last_closed(now, delay)
    if session is None:
        session = SAMPLE_SESSION if settings.profile == "sample" else newest
    if session > newest:
        raise UsageError(
            f"the cut-off of {session} has not come yet; the newest night that can run is {newest}"
        )
    if settings.replays:
        return past_night(settings, calendar, session)
    calendar.require(session)
    return Night(session, calendar.close(session) + delay, now)


def moment(settings: Settings, calendar: Sessions) -> Night:
    """What may be known at this moment, for work between two nights.

    It belongs to the session that closed last; its cut-off is now. Where nights are replayed it
    is that of the night that would run.
    """
    if settings.replays:
        return night(settings, calendar)
    now = datetime.now(UTC)
    return Night(calendar.last_closed(now, timedelta(0)), now, now)


def past_night(settings: Settings, calendar: Sessions, session: date) -> Night:
    """The night of `session` as it would have run then: its clock stands at its cut-off.

    Raises
    ------
    UsageError
        `session` is no trading day.
    """
    calendar.require(session)
    cutoff = calendar.close(session) + timedelta(hours=settings.cutoff_delay_hours)
    return Night(session, cutoff, cutoff, replayed=True)
