"""The view of what texts say by day: decay, vintages of a day, late texts, truncation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.catalog import feature_view
from features.materialize import materialize
from features.views.sentiment_daily import HALF_LIFE, REACH

VIEW = feature_view("sentiment_daily")
SESSIONS = ["2018-12-10", "2018-12-11", "2018-12-14", "2018-12-17", "2018-12-28"]


def day(session: str, said: float, novelty: float = 1.0, hour: int = 15, entity: str = "AAPL"):
    """A day's texts up to an hour of its session."""
    return {
        "entity": entity,
        "session": pd.Timestamp(session),
        "documents": 2,
        "sentiment": said / 2,
        "dispersion": 0.1,
        "novelty": novelty,
        "novel_sentiment": said,
        "known_at": pd.Timestamp(f"{session} {hour}:00", tz="UTC"),
    }


def value(warehouse, session: str, name: str, at: str = "2030-01-01", entity: str = "AAPL"):
    row = warehouse.one(
        f"SELECT {name} FROM features.sentiment_daily_as_of(CAST($1 AS TIMESTAMPTZ)) "
        "WHERE entity = $2 AND date = $3",
        at,
        entity,
        pd.Timestamp(session).date(),
    )
    return None if row is None else row[0]


def test_what_was_said_decays_with_sessions_and_weighs_by_novelty(warehouse, raw, calendar):
    said, novelty = [0.5, -1.0, 0.25, 1.0, 0.0], [1.0, 0.0, 2.0, 0.5, 0.25]
    raw.append_days(
        pd.DataFrame([day(*each) for each in zip(SESSIONS, said, novelty, strict=True)])
    )
    materialize(warehouse, VIEW)
    number = calendar.index(np.array(SESSIONS, "datetime64[D]"))
    for at, session in enumerate(SESSIONS):
        passed = number[at] - number[: at + 1]
        weight = np.array(novelty[: at + 1]) * 2.0 ** -(passed / HALF_LIFE)
        expected = (weight * said[: at + 1]).sum() / weight.sum()
        assert value(warehouse, session, "decayed") == pytest.approx(expected, rel=1e-12)
        assert value(warehouse, session, "novel_sentiment") == said[at]


def test_what_lies_a_month_back_is_forgotten_and_another_symbol_says_nothing(
    warehouse, raw, calendar
):
    far = str(calendar.offset(pd.Timestamp(SESSIONS[-1]).date(), -REACH))
    near = str(calendar.offset(pd.Timestamp(SESSIONS[-1]).date(), -REACH + 1))
    raw.append_days(
        pd.DataFrame(
            [
                day(far, 1.0),
                day(SESSIONS[-1], -0.5),
                day(near, 1.0, entity="MSFT"),
                day(SESSIONS[-1], -0.5, entity="MSFT"),
            ]
        )
    )
    materialize(warehouse, VIEW)
    assert value(warehouse, SESSIONS[-1], "decayed") == -0.5
    assert -0.5 < value(warehouse, SESSIONS[-1], "decayed", entity="MSFT") < 0


def test_a_day_has_a_state_for_each_run_and_an_instant_sees_the_one_that_was_out(warehouse, raw):
    session = SESSIONS[0]
    for said, hour in ((0.2, 14), (0.4, 17), (0.1, 20)):
        raw.append_days(pd.DataFrame([day(session, said, hour=hour)]))
        materialize(warehouse, VIEW)
    seen = [
        value(warehouse, session, "novel_sentiment", f"{session} {at}")
        for at in ("13:59", "14:00", "16:59", "17:00", "19:00", "20:00")
    ]
    assert seen == [None, 0.2, 0.2, 0.4, 0.4, 0.1]


def test_a_late_text_counts_from_its_own_time_and_gives_what_a_rebuild_gives(warehouse, raw):
    raw.append_days(pd.DataFrame([day(session, 0.5) for session in SESSIONS]))
    materialize(warehouse, VIEW)
    # a text of the morning of the second day comes in weeks later: same newest text, other mean
    raw.append_days(pd.DataFrame([day(SESSIONS[1], -0.7)]))
    materialize(warehouse, VIEW)
    assert value(warehouse, SESSIONS[1], "novel_sentiment", f"{SESSIONS[1]} 15:00") == -0.7
    assert value(warehouse, SESSIONS[2], "decayed", f"{SESSIONS[2]} 15:00") < 0.5
    kept = raw.table(VIEW)
    materialize(warehouse, VIEW, rebuild=True)
    assert raw.table(VIEW) == kept


def test_a_day_at_a_time_gives_what_all_at_once_gives(warehouse, raw):
    rng = np.random.default_rng(1)
    sessions = pd.bdate_range("2018-10-01", "2018-11-16").strftime("%Y-%m-%d")
    rows = [
        day(session, float(rng.normal()), float(rng.random()), entity=entity)
        for session in sessions
        for entity in ("AAPL", "MSFT", "XOM")
        if rng.random() < 0.7
    ]
    for row in rows:
        raw.append_days(pd.DataFrame([row]))
        if rng.random() < 0.2:
            materialize(warehouse, VIEW)
    materialize(warehouse, VIEW)
    one_by_one = raw.table(VIEW)
    raw.clear()
    raw.append_days(pd.DataFrame(rows))
    materialize(warehouse, VIEW)
    assert raw.table(VIEW) == one_by_one
    assert len(one_by_one) == len(rows)
