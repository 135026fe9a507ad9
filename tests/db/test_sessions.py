"""Trading sessions: holidays, early closes, summer time, counting."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import UsageError
from db.sessions import Sessions, sessions

CHRISTMAS_EVE = date(2018, 12, 24)
DAYS = st.dates(date(1961, 1, 3), date(2025, 12, 31))


@pytest.mark.parametrize(
    ("session", "close"),
    [
        (date(2018, 12, 28), datetime(2018, 12, 28, 21, tzinfo=UTC)),
        (CHRISTMAS_EVE, datetime(2018, 12, 24, 18, tzinfo=UTC)),  # 13:00 in New York
        (date(2018, 11, 23), datetime(2018, 11, 23, 18, tzinfo=UTC)),  # after Thanksgiving
        (date(2018, 7, 3), datetime(2018, 7, 3, 17, tzinfo=UTC)),  # early, in summer time
        (date(2018, 3, 9), datetime(2018, 3, 9, 21, tzinfo=UTC)),  # last winter session
        (date(2018, 3, 12), datetime(2018, 3, 12, 20, tzinfo=UTC)),  # first summer session
        (date(2018, 11, 2), datetime(2018, 11, 2, 20, tzinfo=UTC)),
        (date(2018, 11, 5), datetime(2018, 11, 5, 21, tzinfo=UTC)),
    ],
)
def test_close(session: date, close: datetime, calendar: Sessions) -> None:
    assert calendar.close(session) == close
    assert calendar.closes()[pd.Timestamp(session)] == close


@pytest.mark.parametrize(
    "day",
    [date(2018, 12, 25), date(2018, 12, 29), date(2018, 12, 5), date(2001, 9, 11)],
)
def test_not_a_session_names_its_neighbours(day: date, calendar: Sessions) -> None:
    # a holiday, a Saturday, the day of mourning for G. H. W. Bush, an unforeseen closing
    assert not calendar.is_session(day)
    with pytest.raises(UsageError) as caught:
        calendar.require(day)
    said = str(caught.value)
    assert f"{day} is no trading day of XNYS" in said
    assert str(calendar.previous(day)) in said
    assert str(calendar.next(day)) in said


def test_counting_across_christmas(calendar: Sessions) -> None:
    assert calendar.next(CHRISTMAS_EVE) == date(2018, 12, 26)
    assert calendar.next(date(2018, 12, 25)) == date(2018, 12, 26)
    assert calendar.previous(date(2018, 12, 25)) == CHRISTMAS_EVE
    assert calendar.previous(date(2018, 12, 26)) == CHRISTMAS_EVE
    assert calendar.offset(CHRISTMAS_EVE, 0) == CHRISTMAS_EVE
    assert calendar.offset(date(2018, 12, 25), 2) == date(2018, 12, 27)
    assert calendar.offset(date(2018, 12, 25), -2) == date(2018, 12, 21)
    assert calendar.age(CHRISTMAS_EVE, date(2018, 12, 28)) == 3
    assert calendar.age(date(2018, 12, 22), CHRISTMAS_EVE) == 1
    assert calendar.age(date(2018, 12, 28), date(2018, 12, 28)) == 0
    assert calendar.age(date(2018, 12, 31), date(2018, 12, 28)) == 0


@given(day=DAYS, count=st.integers(1, 60))
def test_offset_forth_and_back(day: date, count: int) -> None:
    calendar = sessions()
    later = calendar.offset(day, count)
    assert calendar.is_session(later)
    assert later > day
    assert calendar.age(day, later) == count
    there = calendar.offset(later, -count)
    # back at the day itself, or at the session before where the day is none
    assert there == (day if calendar.is_session(day) else calendar.previous(day))


def test_index_of_dates(calendar: Sessions) -> None:
    days = np.array(["2018-12-24", "2018-12-25", "2018-12-26", "NaT", "1950-01-03", "2999-01-01"])
    found = calendar.index(days.astype("datetime64[D]"))
    assert found[2] == found[0] + 1
    assert list(found[[1, 3, 4, 5]]) == [-1, -1, -1, -1]
    assert calendar.days[found[0]] == np.datetime64("2018-12-24")
    assert len(calendar.index(np.array([], dtype="datetime64[D]"))) == 0


def test_beyond_the_calendar_is_refused(calendar: Sessions) -> None:
    with pytest.raises(UsageError, match="no session 1 from 2999-01-01"):
        calendar.require(date(2999, 1, 1))
    with pytest.raises(UsageError, match="no session -1 from 1950-01-02"):
        calendar.previous(date(1950, 1, 2))


@given(day=DAYS, hours=st.floats(0, 15), minutes=st.integers(-1, 1))
def test_last_closed_is_the_newest_whose_delay_has_passed(
    day: date, hours: float, minutes: int
) -> None:
    calendar = sessions()
    session = calendar.offset(day, 0)
    delay = timedelta(seconds=round(hours * 3600))
    instant = calendar.close(session) + delay + timedelta(minutes=minutes)
    newest = calendar.last_closed(instant, delay)
    assert calendar.close(newest) + delay <= instant
    assert calendar.close(calendar.next(newest)) + delay > instant
    assert newest == (session if minutes >= 0 else calendar.previous(session))


def test_no_session_had_closed_yet(calendar: Sessions) -> None:
    with pytest.raises(UsageError, match="no session of XNYS had closed"):
        calendar.last_closed(datetime(1950, 1, 1, tzinfo=UTC), timedelta(0))


@pytest.mark.parametrize(
    ("instant", "session"),
    [
        (datetime(2018, 12, 28, 14, 29, tzinfo=UTC), date(2018, 12, 28)),
        (datetime(2018, 12, 28, 14, 30, tzinfo=UTC), date(2018, 12, 28)),
        (datetime(2018, 12, 28, 14, 31, tzinfo=UTC), date(2018, 12, 31)),
        (datetime(2018, 12, 31, 23, tzinfo=UTC), date(2019, 1, 2)),
    ],
)
def test_first_open_after(instant: datetime, session: date, calendar: Sessions) -> None:
    assert calendar.first_open_after(instant) == session


def test_calendars_by_name() -> None:
    assert sessions("XNYS") is sessions("XNYS")
    assert sessions("XNYS").time_zone == "America/New_York"
    assert Sessions("XTKS").days[0] == np.datetime64("1997-01-06")  # it knows no earlier day
    with pytest.raises(UsageError, match="setting calendar: 'NYSE2' is no exchange calendar"):
        Sessions("NYSE2")
