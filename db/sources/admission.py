"""Which rows of an answer a request wanted, by their dates and by when they were known."""

from __future__ import annotations

from datetime import date

import pandas as pd

from db.availability import Availability
from db.errors import UsageError
from db.sessions import sessions
from db.settings import Settings
from db.sources.source import Request


def admitted(
    dates: pd.Series, request: Request, availability: Availability, calendar: str
) -> pd.Series:
    """Whether each row is dated `request.start` or later and was known by `request.until`.

    `dates` are datetime64 at midnight without a zone, `calendar` is the code of the
    exchange whose closes `availability` counts from. Returns bool, indexed as `dates`.
    """
    wanted = availability.known_at(dates, sessions(calendar)) <= pd.Timestamp(request.until)
    if request.start is not None:
        wanted &= dates >= pd.Timestamp(request.start)
    return wanted


def first_date(request: Request, settings: Settings) -> date:
    """First date to ask a vendor for: `request.start`, else setting `history_start`.

    Raises
    ------
    UsageError
        Where `history_start` is no date.
    """
    if request.start is not None:
        return request.start
    try:
        return date.fromisoformat(settings.history_start)
    except ValueError:
        raise UsageError(
            f"setting history_start: {settings.history_start!r} is no date; "
            "set LOOKBACK_HISTORY_START to one like 1990-01-01"
        ) from None
