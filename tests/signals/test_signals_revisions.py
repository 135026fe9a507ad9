"""A month of nights with corrections: what a reader saw on each evening can be asked for."""

from datetime import date, timedelta

import pandas as pd
import pytest

from signals.declaration import SIGNALS

SIGNAL = SIGNALS["sp500_next_close"]
BEFORE = date(2018, 11, 30)
# Session of the night -> the session whose close is corrected, and by how much. The vendor had
# the correction before that session's cut-off; it was fetched only now. The sessions since are
# scored again, as an operator would.
CORRECTIONS = {
    date(2018, 12, 7): (date(2018, 12, 6), 3.0),
    date(2018, 12, 14): (date(2018, 12, 12), -2.0),
    date(2018, 12, 18): (date(2018, 12, 6), 5.0),  # corrected once more
    date(2018, 12, 27): (date(2018, 12, 24), 1.5),
}
VISIBLE = """
    SELECT entity, as_of, value, published_at, data_snapshot
    FROM {source}
    WHERE role = 'live'
    ORDER BY as_of
"""


@pytest.fixture
def month(desk, model):
    """December 2018, night by night; each evening's `signals` as a reader found them then."""
    desk.history(BEFORE)
    desk.version()
    evenings = {}
    session, level, closes = BEFORE, 2069.0, {}
    while (session := desk.calendar.next(session)) <= date(2018, 12, 31):
        level += 1
        closes[session] = level
        desk.observe({session: level})
        desk.score(desk.night(session))
        if session in CORRECTIONS:
            day, by = CORRECTIONS[session]
            known = desk.cutoff(day) - timedelta(minutes=60 - len(evenings))
            desk.observe({day: closes[day] + by}, known_at=known)
            again = [each for each in closes if each >= day]
            for number, each in enumerate(again):
                late = desk.cutoff(session) + timedelta(minutes=number + 1)
                desk.score(desk.night(each, late))
        evening = desk.cutoff(session) + timedelta(hours=2)
        evenings[evening] = desk.warehouse.frame(VISIBLE.format(source="main.signals"))
    return desk, evenings


def seen(desk, instant):
    return desk.warehouse.frame(VISIBLE.format(source="main.signals_as_of($1)"), instant)


def test_each_evening_is_as_its_reader_saw_it(month):
    desk, evenings = month
    assert len(evenings) == 19
    for evening, then in evenings.items():
        pd.testing.assert_frame_equal(seen(desk, evening), then)


def test_corrections_are_revisions_and_nothing_published_is_lost(month):
    desk, evenings = month
    revisions = desk.warehouse.frame(
        "SELECT as_of, revision, value, published_at FROM main.signal_revisions ORDER BY ALL"
    )
    by_day = revisions.groupby("as_of")["revision"].max()
    revised = {day.date(): int(count) for day, count in by_day[by_day > 0].items()}
    # one session was corrected twice
    assert revised == {date(2018, 12, 6): 2, date(2018, 12, 12): 1, date(2018, 12, 24): 1}
    assert len(revisions) == len(evenings) + len(CORRECTIONS)
    corrected = revisions[revisions["as_of"] == "2018-12-06"]["value"].tolist()
    assert [value - corrected[0] for value in corrected] == [0.0, 3.0, 5.0]


def test_a_correction_before_the_cutoff_gives_a_revision(desk, model):
    desk.history(BEFORE)
    desk.version()
    desk.score(desk.night(BEFORE))
    first = seen(desk, desk.cutoff(BEFORE) + timedelta(hours=1))
    # the vendor's correction was there before the cut-off, and was fetched after the night
    desk.observe({BEFORE: 2100.0}, known_at=desk.cutoff(BEFORE) - timedelta(minutes=5))
    later = desk.cutoff(BEFORE) + timedelta(hours=3)
    done = desk.score(desk.night(BEFORE, later))
    assert (done.new, done.revised) == (0, 1)
    assert first["value"].tolist() == [2070.0]
    pd.testing.assert_frame_equal(seen(desk, desk.cutoff(BEFORE) + timedelta(hours=2)), first)
    assert seen(desk, later)["value"].tolist() == [2101.0]
    assert seen(desk, desk.cutoff(BEFORE) - timedelta(hours=1)).empty
