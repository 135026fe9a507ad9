"""The sample profile's sources: real history, visible night by night."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from db.clock import SAMPLE_SESSION, night
from db.errors import SourceError
from db.sessions import sessions
from db.settings import DEFAULT_SYMBOLS, Settings, load_settings
from db.sources.catalog import price_sources, sources
from db.sources.sample import PackagedFile, sample_sources
from db.sources.source import Fetched, Request, Source

# Rows and dates of every source on the sample night.
EXPECTED = {
    "sample.SP500": (7306, "1990-01-02", "2018-12-28"),
    "sample.stocks": (20 * 7306, "1990-01-02", "2018-12-28"),
}


def fetched(source: Source, session: date, start: date | None = None) -> Fetched:
    settings = load_settings(profile="sample")
    until = night(settings, sessions(settings.calendar), session).cutoff
    return source.fetch(Request(start=start, until=until))


def day_of(source: Source) -> str:
    return "session" if source.kind == "bars" else "period"


def by_name() -> dict[str, Source]:
    return {source.name: source for source in sample_sources(load_settings(profile="sample"))}


NAMES = sorted(by_name())


def test_the_catalogue_of_the_profile(settings: Settings) -> None:
    assert sorted(source.name for source in price_sources(settings)) == NAMES
    names = [source.name for source in sources(settings)]
    assert names[-2:] == ["inbox", "sample.texts"]
    assert sorted(names[:-2]) == NAMES
    assert NAMES == [
        "sample.BAA",
        "sample.CPILFESL",
        "sample.SP500",
        "sample.VIXCLS",
        "sample.index_bars",
        "sample.stocks",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_the_sample_night(name: str) -> None:
    source = by_name()[name]
    answer = fetched(source, SAMPLE_SESSION)
    frame, day = answer.frame, day_of(source)
    assert answer.problems == ()
    if name in EXPECTED:
        first, last = frame[day].min(), frame[day].max()
        assert (len(frame), str(first.date()), str(last.date())) == EXPECTED[name]
    entity = "entity" if source.kind == "bars" else "series"
    assert not frame.duplicated([entity, day]).any()
    assert str(frame[day].dtype) == "datetime64[us]"
    assert (frame[day] == frame[day].dt.normalize()).all()
    assert all(isinstance(value, str) for value in frame[entity].unique())
    numbers = frame.drop(columns=[entity, day])
    assert (numbers.dtypes == np.float64).all()
    assert np.isfinite(numbers.to_numpy()).all()
    if source.frequency == "session":
        index = sessions().index(frame[day].drop_duplicates().to_numpy())
        assert (index >= 0).all()
        # fresh: no session before the night is missing that was due
        due = source.availability.known_at(
            pd.Series([pd.Timestamp(SAMPLE_SESSION)]), sessions()
        ).iloc[0]
        cutoff = night(load_settings(), sessions(), SAMPLE_SESSION).cutoff
        newest = SAMPLE_SESSION if due <= cutoff else sessions().previous(SAMPLE_SESSION)
        assert frame[day].max().date() == newest
    else:
        assert (frame[day].dt.day == 1).all()
        assert frame[day].max() == pd.Timestamp("2018-11-01")


def test_the_twenty_stocks_and_the_two_indices() -> None:
    stocks = fetched(by_name()["sample.stocks"], SAMPLE_SESSION).frame
    assert sorted(stocks["entity"].unique()) == sorted(DEFAULT_SYMBOLS)
    assert set(stocks.groupby("entity").size()) == {7306}
    assert list(stocks.columns) == ["entity", "session", "adj_close"]
    bars = fetched(by_name()["sample.index_bars"], SAMPLE_SESSION).frame
    assert sorted(bars["entity"].unique()) == ["^GSPC", "^IXIC"]
    assert (bars["high"] >= bars["low"]).all()
    close = bars[(bars["entity"] == "^GSPC") & (bars["session"] == "2018-12-28")]["close"]
    level = fetched(by_name()["sample.SP500"], SAMPLE_SESSION).frame["value"].iloc[-1]
    assert close.to_list() == pytest.approx([level], abs=0.01)
    assert level == pytest.approx(2485.74)


@property_settings(max_examples=12)
@given(day=st.dates(date(1991, 1, 2), date(2018, 12, 30)), name=st.sampled_from(NAMES))
def test_nothing_is_shown_before_it_is_known(day: date, name: str) -> None:
    calendar, source = sessions(), by_name()[name]
    session = calendar.previous(day)
    until = night(load_settings(), calendar, session).cutoff
    frame = source.fetch(Request(start=None, until=until)).frame
    known = source.availability.known_at(frame[day_of(source)], calendar)
    assert not (known > until).any()
    # nor is anything held back: a later night shows the same rows of those dates
    later = fetched(source, SAMPLE_SESSION).frame
    all_known = source.availability.known_at(later[day_of(source)], calendar) <= until
    pd.testing.assert_frame_equal(frame, later[all_known.to_numpy()].reset_index(drop=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_next_session_brings_one_more(name: str) -> None:
    source = by_name()[name]
    before = fetched(source, date(2018, 12, 27)).frame
    after = fetched(source, SAMPLE_SESSION).frame
    entities = {"sample.stocks": 20, "sample.index_bars": 2}.get(name, 1)
    expected = 0 if source.frequency == "month" else entities
    assert len(after) - len(before) == expected


def test_a_month_comes_when_it_was_published() -> None:
    source = by_name()["sample.CPILFESL"]
    newest = {
        session: fetched(source, session).frame["period"].max()
        for session in (date(2018, 12, 14), date(2018, 12, 17))
    }
    assert list(newest.values()) == [pd.Timestamp("2018-10-01"), pd.Timestamp("2018-11-01")]


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_asked_for(name: str) -> None:
    source, start = by_name()[name], date(2018, 10, 1)
    whole = fetched(source, SAMPLE_SESSION).frame
    newest = fetched(source, SAMPLE_SESSION, start).frame
    wanted = whole[whole[day_of(source)] >= pd.Timestamp(start)].reset_index(drop=True)
    assert 0 < len(newest) < len(whole)
    pd.testing.assert_frame_equal(newest, wanted)


def test_some_entities_only() -> None:
    until = night(load_settings(), sessions(), SAMPLE_SESSION).cutoff
    for name, entity in (("sample.stocks", "KO"), ("sample.index_bars", "^IXIC")):
        frame = by_name()[name].fetch(Request(None, until, entities=[entity])).frame
        assert list(frame["entity"].unique()) == [entity]


def test_a_package_or_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="package no_such_package is not installed"):
        PackagedFile("no_such_package", "data.csv.gz").read()
    with pytest.raises(SourceError, match=r"sample file nothing\.csv\.gz of arch"):
        PackagedFile("arch", "nothing.csv.gz").read()
