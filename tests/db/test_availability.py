"""Availability rules: nothing is known before it could have been."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.availability import AfterClose, AfterPeriod, Availability
from db.sessions import Sessions, sessions

DATES = st.lists(st.dates(date(1961, 1, 3), date(2026, 6, 30)), min_size=1, max_size=20)


def known(rule: Availability, *days: str | None) -> list[str]:
    dates = pd.Series(pd.to_datetime(list(days)))
    return [str(instant) for instant in rule.known_at(dates, sessions())]


@pytest.mark.parametrize(
    ("day", "instant"),
    [
        ("2018-12-28", "2018-12-28 22:30:00+00:00"),
        ("2018-12-24", "2018-12-24 19:30:00+00:00"),  # early close
        ("2018-07-02", "2018-07-02 21:30:00+00:00"),  # summer time
        ("2018-03-09", "2018-03-09 22:30:00+00:00"),
        ("2018-03-12", "2018-03-12 21:30:00+00:00"),
        ("2018-12-25", "2018-12-26 06:30:00+00:00"),  # no session: after the day, New York time
        ("1955-01-03", "1955-01-04 06:30:00+00:00"),  # before the calendar begins
    ],
)
def test_after_close(day: str, instant: str) -> None:
    assert known(AfterClose(1.5), day) == [instant]


@pytest.mark.parametrize(
    ("period", "day", "instant"),
    [
        ("month", "2018-12-01", "2019-01-16"),
        ("month", "2016-02-01", "2016-03-16"),
        ("month", "2018-11-30", "2018-12-16"),
        ("quarter", "2018-10-01", "2019-01-16"),
        ("quarter", "2018-04-01", "2018-07-16"),
        ("day", "2018-12-31", "2019-01-16"),
    ],
)
def test_after_period(period: str, day: str, instant: str) -> None:
    rule = AfterPeriod(15, period)  # type: ignore[arg-type]
    assert known(rule, day) == [f"{instant} 00:00:00+00:00"]


def test_part_of_a_day() -> None:
    assert known(AfterPeriod(0.5, "month"), "2018-12-01") == ["2019-01-01 12:00:00+00:00"]


@pytest.mark.parametrize("rule", [AfterClose(4), AfterPeriod(5, "month")])
def test_missing_and_no_dates(rule: Availability, calendar: Sessions) -> None:
    found = rule.known_at(pd.Series(pd.to_datetime(["2018-12-28", None])), calendar)
    assert list(found.isna()) == [False, True]
    for dtype in ("object", "datetime64[us]", "datetime64[ns]"):
        nothing = rule.known_at(pd.Series([], dtype=dtype), calendar)
        assert len(nothing) == 0
        assert str(nothing.dtype) == "datetime64[us, UTC]"


def test_the_index_of_the_dates_is_kept(calendar: Sessions) -> None:
    dates = pd.Series(pd.to_datetime(["2018-12-28", "2018-12-27"]), index=[7, 3])
    for rule in (AfterClose(1), AfterPeriod(5, "month")):
        found = rule.known_at(dates, calendar)
        assert list(found.index) == [7, 3]
        assert str(found.dtype) == "datetime64[us, UTC]"


@settings(max_examples=30)
@given(days=DATES, hours=st.floats(0, 48))
def test_never_known_before_the_close(days: list[date], hours: float) -> None:
    calendar = sessions()
    found = AfterClose(hours).known_at(pd.Series(pd.to_datetime(days)), calendar)
    for day, instant in zip(days, found, strict=True):
        if calendar.is_session(day):
            assert instant >= calendar.close(day)
            assert instant - calendar.close(day) <= pd.Timedelta(hours=hours)
        else:  # the day is over in New York
            assert instant.tz_convert("America/New_York").date() > day


@settings(max_examples=30)
@given(days=DATES, lag=st.floats(0, 90), period=st.sampled_from(["day", "month", "quarter"]))
def test_never_known_before_the_period_ends(days: list[date], lag: float, period: str) -> None:
    rule = AfterPeriod(lag, period)  # type: ignore[arg-type]
    found = rule.known_at(pd.Series(pd.to_datetime(days)), sessions())
    code = {"day": "D", "month": "M", "quarter": "Q"}[period]
    for day, instant in zip(days, found, strict=True):
        end = pd.Period(pd.Timestamp(day), code).end_time.tz_localize("UTC")
        assert instant > end
        assert instant - end < pd.Timedelta(days=lag, seconds=1)


@settings(max_examples=30)
@given(days=DATES)
def test_later_dates_are_not_known_earlier(days: list[date]) -> None:
    dates = pd.Series(pd.to_datetime(sorted(days)))
    for rule in (AfterPeriod(15, "month"), AfterPeriod(3, "day")):
        assert rule.known_at(dates, sessions()).is_monotonic_increasing
    held = dates[[sessions().is_session(day.date()) for day in dates]]
    assert AfterClose(4).known_at(held, sessions()).is_monotonic_increasing
