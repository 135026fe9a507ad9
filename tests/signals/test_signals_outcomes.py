"""What happened after each score, joined once it is known."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from signals import outcomes
from signals.declaration import SIGNALS
from signals.outcomes import join_outcomes, spans
from signals.performance import measure

SIGNAL = SIGNALS["sp500_next_close"]
FRIDAY = date(2018, 12, 14)
NEXT = [date(2018, 12, day) for day in (17, 18, 19, 20, 21)]


@pytest.fixture
def scored(desk, model):
    """Friday is scored one point too high; closes go on from 2069 at will."""
    desk.history(FRIDAY)
    desk.version()
    model.step = 3.0
    desk.score(desk.night(FRIDAY))
    return desk


def joined(desk, session, **choice):
    return join_outcomes(
        desk.warehouse, SIGNAL, desk.night(session), desk.calendar, "run of the join", **choice
    )


def found(desk):
    return desk.warehouse.frame("FROM main.outcomes ORDER BY as_of, entity, horizon")


def test_nothing_is_joined_before_the_horizon_has_passed(scored):
    done = joined(scored, FRIDAY)
    assert (done.new, done.changed, done.since) == (0, 0, FRIDAY)
    assert found(scored).empty


def test_an_outcome_is_the_label_and_what_could_be_traded(scored):
    scored.observe({NEXT[0]: 2070.5})
    assert joined(scored, NEXT[0]).new == 1
    (row,) = found(scored).to_dict("records")
    assert (row["value"], row["start"], row["realised"]) == (2072.0, 2069.0, 2070.5)
    assert row["error"] == 1.5
    assert row["hit"] is True or row["hit"] == 1
    assert row["target_date"] == pd.Timestamp(NEXT[0])
    assert row["label_return"] == pytest.approx(2070.5 / 2069 - 1, abs=1e-15)
    # it could be bought on Monday at the earliest, and that return ends on Tuesday
    assert row["tradable_from"] == pd.Timestamp(NEXT[0])
    assert row["tradable_until"] == pd.Timestamp(NEXT[1])
    assert np.isnan(row["tradable_return"])
    assert row["known_at"] == scored.cutoff(NEXT[0]) - timedelta(hours=2)
    assert row["recorded_at"] == scored.cutoff(NEXT[0])
    assert row["run_id"] == "run of the join"

    scored.observe({NEXT[1]: 2060.0})
    assert (joined(scored, NEXT[1]).changed, len(found(scored))) == (1, 1)
    assert found(scored)["tradable_return"].iloc[0] == pytest.approx(2060 / 2070.5 - 1, abs=1e-15)


def test_joining_again_changes_nothing(scored):
    scored.observe({day: 2070.0 + number for number, day in enumerate(NEXT)})
    joined(scored, NEXT[-1])
    before = found(scored)
    done = joined(scored, NEXT[-1])
    assert (done.new, done.changed) == (0, 0)
    pd.testing.assert_frame_equal(found(scored), before)


def test_a_corrected_close_corrects_the_outcome_however_old(scored):
    days = [scored.calendar.offset(FRIDAY, number) for number in range(1, 120)]
    scored.observe(dict.fromkeys(days, 2070.0))
    joined(scored, days[-2])
    scored.observe({days[0]: 2000.0}, known_at=scored.cutoff(days[-1]) - timedelta(hours=1))
    done = joined(scored, days[-1])
    assert (done.new, done.changed) == (0, 1)
    row = found(scored).iloc[0]
    assert (row["realised"], row["hit"]) == (2000.0, False)


def test_a_row_that_is_revised_gets_a_revised_outcome(scored, model):
    scored.observe({NEXT[0]: 2070.0})
    joined(scored, NEXT[0])
    model.step = -3.0
    scored.observe(
        {date(2018, 12, 13): 2067.5}, known_at=scored.cutoff(FRIDAY) - timedelta(hours=1)
    )
    scored.score(scored.night(FRIDAY))
    assert joined(scored, NEXT[0]).changed == 1
    row = found(scored).iloc[0]
    assert (row["value"], row["hit"]) == (2066.0, False)


def test_a_late_night_trades_later_and_as_long(desk, model):
    desk.history(FRIDAY)
    desk.version()
    # published on Monday after the open
    desk.score(desk.night(FRIDAY, desk.calendar.close(NEXT[0]) - timedelta(hours=1)))
    desk.observe({day: 2070.0 + 10 * number for number, day in enumerate(NEXT)})
    joined(desk, NEXT[-1])
    row = found(desk).iloc[0]
    assert row["target_date"] == pd.Timestamp(NEXT[0])
    assert row["tradable_from"] == pd.Timestamp(NEXT[1])
    assert row["tradable_until"] == pd.Timestamp(NEXT[2])
    assert row["tradable_return"] == pytest.approx(2090 / 2080 - 1)


def test_nothing_that_moved_is_neither_right_nor_wrong(scored):
    scored.observe({NEXT[0]: 2069.0})
    joined(scored, NEXT[0])
    assert found(scored)["hit"].isna().all()


def test_only_what_was_known_at_the_cutoff_counts(scored):
    scored.observe(dict.fromkeys(NEXT, 2070.0))
    assert joined(scored, FRIDAY).new == 0
    assert joined(scored, NEXT[0]).new == 1


def test_an_older_night_takes_away_nothing_that_is_known(scored):
    scored.observe({day: 2070.0 + day.day for day in NEXT})
    joined(scored, NEXT[-1])
    before = found(scored)
    done = joined(scored, NEXT[0])
    assert (done.new, done.changed) == (0, 0)
    assert joined(scored, NEXT[0], since=FRIDAY).changed == 0
    pd.testing.assert_frame_equal(found(scored), before)


def test_a_version_whose_view_has_changed_is_left_alone(scored):
    scored.warehouse.native.execute("UPDATE main.model_versions SET feature_version = 'old'")
    scored.observe({NEXT[0]: 2070.0})
    assert joined(scored, NEXT[0]).new == 0


def test_what_is_joined_together_is_bounded(scored, monkeypatch):
    for day in NEXT:
        scored.observe({day: 2070.0 + day.day})
        scored.score(scored.night(day))
    monkeypatch.setattr(outcomes, "ROWS_AT_ONCE", 2)
    parts = list(spans(scored.warehouse, SIGNAL, FRIDAY))
    assert parts == [(FRIDAY, NEXT[0]), (NEXT[1], NEXT[2]), (NEXT[3], NEXT[4])]
    assert joined(scored, NEXT[-1]).new == 5
    by_parts = found(scored)
    measure(scored.warehouse, SIGNAL, FRIDAY)
    figures = scored.warehouse.frame("FROM main.signal_performance ORDER BY ALL")
    monkeypatch.undo()
    scored.warehouse.native.execute("DELETE FROM main.outcomes")
    joined(scored, NEXT[-1], since=FRIDAY)
    pd.testing.assert_frame_equal(found(scored), by_parts)
    measure(scored.warehouse, SIGNAL, FRIDAY)
    again = scored.warehouse.frame("FROM main.signal_performance ORDER BY ALL")
    pd.testing.assert_frame_equal(again, figures)


def test_a_score_of_a_cross_section_is_right_about_the_middle_of_its_date(of_returns):
    of_returns.score(of_returns.night(FRIDAY))
    of_returns.observe({NEXT[0]: 500.0}, series="A")
    for name in "BC":
        of_returns.observe({NEXT[0]: 300.0}, series=name)
    of_returns.observe({NEXT[0]: 100.0}, series="D")
    joined(of_returns, NEXT[0])
    rows = found(of_returns).set_index("entity")
    assert rows["error"].isna().all()
    assert (rows["start"] == 0).all()
    # D is scored highest and ends lowest
    assert rows["hit"].astype("object").where(rows["hit"].notna(), None).tolist() == [
        False,
        None,
        None,
        False,
    ]
