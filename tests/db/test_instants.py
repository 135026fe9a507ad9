"""Times as files, feeds and vendors write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.instants import UTC_MICROSECONDS, read_instants

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
}
NOT_READ = ["", "yesterday", "2018", "2018-12", "12/27/2018 10:00", "5", "10:30", "2018-02-30"]


@pytest.mark.parametrize("written", READ)
def test_forms_of_a_time(written: str) -> None:
    read = read_instants(pd.Series([written]))
    assert read.times[0] == pd.Timestamp(READ[written], tz="UTC")
    assert not read.whole_day[0]
    assert read.known[0] == read.times[0]


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


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_every_form_says_the_same(moment: datetime) -> None:
    second = moment.replace(microsecond=0)
    forms = [
        second.isoformat(),
        second.strftime("%a %b %d %H:%M:%S %z %Y"),
        second.strftime("%a, %d %b %Y %H:%M:%S %z"),
        second.strftime("%Y%m%d%H%M%S"),
        str(int(second.timestamp())).zfill(9),
    ]
    assert set(read_instants(pd.Series(forms)).times) == {pd.Timestamp(second)}


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    assert len(read_instants(pd.Series([text, "2018-12-27"])).times) == 2
