"""Returns that could be traded: from the first session after a score on, not from its own.

A score made at the close of a session cannot be traded at that close. Here it is bought and
sold at the close of the first session on which it could be acted on (`signals.tradable_from`),
one session after the label's period begins and ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from db.sessions import sessions
from features.holding import holding_returns

if TYPE_CHECKING:
    from db.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class WeeklyPeriods:
    """For each date of a score the sessions between which a return is counted.

    Attributes
    ----------
    dates : (d,), last sessions of weeks, ascending.
    label_from, label_until : the date itself; the last session of the next week.
    from_, until : the sessions after these.
    """

    dates: Days
    label_from: Days
    label_until: Days
    from_: Days
    until: Days

    @classmethod
    def after(cls, dates: Any, calendar_days: Days) -> WeeklyPeriods:
        """Periods of distinct dates, which are sessions of a calendar.

        Parameters
        ----------
        dates : (d,)
        calendar_days : sessions, ascending, at least two weeks beyond the last date.
        """
        distinct = np.unique(np.asarray(dates, "datetime64[D]"))
        week = (calendar_days.astype("int64") + 3) // 7  # Monday to Sunday
        ends = calendar_days[np.append(week[1:] != week[:-1], False)]
        until = ends[np.searchsorted(ends, distinct, side="right")]

        def next_session(days: Days) -> Days:
            return calendar_days[np.searchsorted(calendar_days, days, side="right")]

        return cls(distinct, distinct, until, next_session(distinct), next_session(until))


def tradable_returns(
    warehouse: Warehouse, cutoff: datetime, dates: Any, entities: Any
) -> tuple[Floats, WeeklyPeriods]:
    """Total returns over a week that begins one session after each score.

    Parameters
    ----------
    warehouse : the open store; `price_factors` must have been materialized.
    cutoff : UTC
    dates, entities : (n,)
        Last session of a week, and a symbol.

    Returns
    -------
    returns, periods
        float64 (n,), NaN where the symbol has no bar on either session.
    """
    calendar = sessions(warehouse.settings.calendar).days
    periods = WeeklyPeriods.after(dates, calendar)
    place = np.searchsorted(periods.dates, np.asarray(dates, "datetime64[D]"))
    returns = holding_returns(
        warehouse, cutoff, entities, periods.from_[place], periods.until[place]
    )
    return returns, periods
