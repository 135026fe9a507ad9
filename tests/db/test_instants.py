"""Times as files, feeds and vendors write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.instants import UTC_MICROSECONDS, as_dates, read_instants

READ = {
    "2018-12-27 10:00": "2018-12-27T10:00:00",
    "2018-12-27T10:00:00-05:00": "2018-12-27T15:00:00",
    "2018-12-27T10:00:00.123456789Z": "2018-12-27T10:00:00.123456",
    "2018-12-27 10:00 UTC": "2018-12-27T10:00:00",
    " 2018-12-27T10:00Z ": "2018-12-27T10:00:00",
    "Wed May 06 15:39:46 +0000 2015": "2015-05-06T15:39:46",
    "Thu, 27 Dec 2018 10:00:00 EST": "2018-12-27T15:00:00",
    "Thu, 27 Dec 2018 10:00:00 GMT": "2018-12-27T10:00:00",
    "27 Dec 2018 10:00 -0000": "2018-12-27T10:00:00",
    "1430926786": "2015-05-06T15:39:46",
    "1430926786.5": "2015-05-06T15:39:46.500000",
    "1430926786123": "2015-05-06T15:39:46.123000",
    "1430926786123456": "2015-05-06T15:39:46.123456",
    "20181227153000": "2018-12-27T15:30:00",
    "2018-12-27T15:30:00+0530": "2018-12-27T10:00:00",
    "2018-12-27T15:30:00 -05": "2018-12-27T20:30:00",
    "2018-12-27T153000Z": "2018-12-27T15:30:00",
    "2018-12-27 15:30 utc": "2018-12-27T15:30:00",
    "2018-12-27T15": "2018-12-27T15:00:00",
    "Thu, 27 Dec 2018 15:30:00 -05:00": "2018-12-27T20:30:00",
    "Thu, 27 Dec 2018 15:30:00 -0500 (EST)": "2018-12-27T20:30:00",
    "Thu, 27 Dec 2018 15:30:00 z": "2018-12-27T15:30:00",
    "Thursday, 27 December 2018 15:30": "2018-12-27T15:30:00",
    "27-Dec-2018 15:30 PDT": "2018-12-27T22:30:00",
    "Dec 27, 2018 9:30 PM": "2018-12-27T21:30:00",
    "Sept 27, 2018, 12:05 am": "2018-09-27T00:05:00",
    "28 Dec 2018 3:00 PM EST": "2018-12-28T20:00:00",
    "28 Dec 2018 12:00PM +0100": "2018-12-28T11:00:00",
    "Thu Dec 27 2018 16:30:00 GMT-0500 (Eastern Standard Time)": "2018-12-27T21:30:00",
    "Thu Dec 27 16:30:00 EST 2018": "2018-12-27T21:30:00",
    "Thu Dec  6 16:30:00 2018": "2018-12-06T16:30:00",
    "Wed May 06 15:39:46 -0400 2015": "2015-05-06T19:39:46",
}
NOT_UNDERSTOOD = [
    "", "yesterday", "2018", "2018-12", "5", "10:30", "1.4e9", "27 Dez 2018 10:00",
    # zones
    "Thu, 27 Dec 2018 17:30:00 ET", "Thu, 27 Dec 2018 16:30:00 HST", "27 Dec 2018 16:30 EST5EDT",
    "27 Dec 2018 16:30 A", "27 Dec 2018 16:30 (EST)", "27 Dec 2018 16:30 -05",
    "27 Dec 2018 16:30 -0500 or so", "27 Dec 2018 16:30 +1500", "27 Dec 2018 16:30 +0560",
    "2018-12-27T15:30:00 EST", "2018-12-27T15:30:00 GMT-0500", "2018-12-27T15:30:00+5",
    "2018-12-27T15:30:00+05:3", "2018-12-27T15:30:00+15:00", "2018-12-27 15-05", "2018-12-27 UTC",
    # two meanings
    "12/27/2018 10:00", "18 Dec 28 10:00:00", "28 Dec 18 10:00:00", "201812271030",
    "201812271030123",
]  # fmt: skip
NOT_ONES = [
    "2018-02-30", "20180230", "30 Feb 2018 10:00", "2018-12-27T24:00:00", "27 Dec 2018 24:00",
    "20181227240000", "2018-12-27T23:59:60Z", "27 Dec 2018 23:59:60", "20181227235960",
    "Wed May 06 15:39:60 +0000 2015", "27 Dec 2018 15:30 PM", "27 Dec 2018 0:30 AM",
    "Fri, 27 Dec 2018 10:00:00 GMT", "Fri May 06 15:39:46 +0000 2015",
    "1 Jan 0001 00:00 +0500",
    # days that are counted otherwise
    "2018-W52-4", "2018-W52-4T10:00", "2018-361",
]  # fmt: skip
NOT_READ = [*NOT_UNDERSTOOD, *NOT_ONES]


@pytest.mark.parametrize("written", READ)
def test_forms_of_a_time(written: str) -> None:
    read = read_instants(pd.Series([written]))
    assert read.times[0] == pd.Timestamp(READ[written], tz="UTC")
    assert not read.whole_day[0]
    assert read.known[0] == read.times[0]


@pytest.mark.parametrize("written", NOT_READ)
def test_what_is_not_understood_to_its_end_is_not_read(written: str) -> None:
    read = read_instants(pd.Series([written]))
    assert read.times.isna().all()
    assert not read.whole_day[0]


def test_forms_may_differ_within_a_column_and_its_index_is_kept() -> None:
    column = pd.Series(
        [*NOT_READ, *READ, None], index=range(100, 100 + len(NOT_READ) + len(READ) + 1)
    )
    read = read_instants(column)
    assert read.times.index.equals(column.index)
    assert read.times.dtype == UTC_MICROSECONDS
    assert read.times.isna().sum() == len(NOT_READ) + 1
    assert read.times.iloc[len(NOT_READ)] == pd.Timestamp("2018-12-27 10:00", tz="UTC")


@pytest.mark.parametrize("written", ["2018-12-27", "20181227"])
def test_a_date_without_a_time_is_known_from_its_end_in_new_york(written: str) -> None:
    read = read_instants(pd.Series([written]))
    assert read.times[0] == pd.Timestamp("2018-12-27", tz="UTC")
    assert read.known[0] == pd.Timestamp("2018-12-28T00:00", tz="America/New_York")


def test_numbers_and_datetimes() -> None:
    moment = pd.Timestamp("2015-05-06T15:39:46", tz="UTC")
    assert read_instants(pd.Series([1430926786])).times[0] == moment
    assert read_instants(pd.Series([1430926786.0, None])).times.tolist() == [moment, pd.NaT]
    naive = pd.Series(pd.to_datetime(["2015-05-06T15:39:46"]))
    assert read_instants(naive).times[0] == moment
    there = naive.dt.tz_localize("America/New_York")
    assert read_instants(there).times[0] == pd.Timestamp("2015-05-06T19:39:46", tz="UTC")
    assert len(read_instants(pd.Series([], dtype="str")).times) == 0


MIDNIGHTS = {
    "pandas' ISO": ["2018-12-27T00:00:00.000", "2018-12-28T00:00:00.000"],
    "pandas' milliseconds": ["1545868800000", "1545955200000"],
    "pandas' CSV": ["2018-12-27 00:00:00", "2018-12-28 00:00:00"],
    "UTC": ["2018-12-27T00:00:00Z", "2018-12-28T00:00:00+00:00"],
    "e-mail": ["Thu, 27 Dec 2018 00:00:00 GMT", "28 Dec 2018 12:00 AM"],
    "with dates": ["2018-12-27", "20181228000000"],
}


@pytest.mark.parametrize("form", MIDNIGHTS)
def test_midnights_only_are_dates(form: str) -> None:
    column = pd.Series([*MIDNIGHTS[form], None, "soon"], index=[5, 6, 7, 8], dtype="str")
    expected = pd.Series(["2018-12-27", "2018-12-28", None, "soon"], column.index, "str")
    pd.testing.assert_series_equal(as_dates(column), expected)
    alone = pd.Series(MIDNIGHTS[form][:1], dtype="str")  # a lone one is a date, too
    assert as_dates(alone).tolist() == ["2018-12-27"]


@pytest.mark.parametrize(
    "time", ["2018-12-28T00:00:00.000001", "2018-12-28T00:00:00-05:00", "1545955201000"]
)
def test_one_time_of_day_makes_times_of_all_midnights(time: str) -> None:
    column = pd.Series(["2018-12-27T00:00:00.000"] * 200 + [time], dtype="str")
    pd.testing.assert_series_equal(as_dates(column), column)
    nothing = pd.Series([None, None], dtype="str")
    pd.testing.assert_series_equal(as_dates(nothing), nothing)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_every_form_says_the_same(moment: datetime) -> None:
    second = moment.replace(microsecond=0)
    forms = [
        second.isoformat(),
        second.strftime("%a %b %d %H:%M:%S %z %Y"),
        second.strftime("%a, %d %b %Y %H:%M:%S %z"),
        second.strftime("%A, %B %d, %Y, %I:%M:%S %p GMT"),
        second.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)"),
        second.strftime("%Y%m%d%H%M%S"),
        str(int(second.timestamp())).zfill(9),
    ]
    assert set(read_instants(pd.Series(forms)).times) == {pd.Timestamp(second)}


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    assert len(read_instants(pd.Series([text, "2018-12-27"])).times) == 2
