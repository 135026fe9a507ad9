"""Past nights, scored as they would have been."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from db.clock import past_night
from db.errors import LookAheadError, LookbackError, UsageError
from db.tables import observations
from features.catalog import feature_view
from features.materialize import materialize
from models import registry
from models.catalog import recipe
from models.examples import read_examples
from models.spans import split
from signals import backfill, scoring
from signals.backfill import due_nights, plan, score_stretch
from signals.declaration import SIGNALS
from signals.outcomes import join_outcomes
from signals.scoring import Imprint

SIGNAL = SIGNALS["sp500_next_close"]
FRIDAY = date(2018, 12, 14)
DAYS = [date(2018, 12, day) for day in (14, 17, 18, 19, 20, 21)]
TODAY = datetime(2026, 5, 5, 12, tzinfo=UTC)
SAME = "* EXCLUDE (role, run_id, published_at)"


@pytest.fixture
def store(desk, model):
    """A champion since November 2018, and closes until the Friday before Christmas."""
    desk.history(DAYS[-1], count=80)
    desk.version(cutoff=datetime(2018, 11, 2, tzinfo=UTC))
    promoted(desk, "v1", datetime(2018, 11, 3, tzinfo=UTC))
    return desk


def promoted(desk, version, at):
    desk.warehouse.native.execute(
        "INSERT INTO ops.promotions VALUES (?, ?, NULL, 'test', ?, 'run')",
        (SIGNAL.model, version, at),
    )


def nights(desk, days=DAYS):
    return [past_night(desk.warehouse.settings, desk.calendar, day) for day in days]


def fill(desk, model, days=DAYS, version="v1"):
    found = registry.find(desk.warehouse, SIGNAL.model, version)
    imprint = Imprint("run of the backfill", "backfill", TODAY)
    return score_stretch(
        desk.warehouse, SIGNAL, found, model, nights(desk, days), desk.calendar, imprint
    )


def rows(desk, role, columns=SAME, table="signals"):
    return desk.warehouse.frame(
        f"SELECT {columns} FROM main.{table} WHERE role = ? ORDER BY as_of, entity, horizon", role
    )


# ------------------------------------------------------------------------ rows as of nights


def test_the_rows_are_those_of_the_nights(store, model):
    for day in DAYS:
        store.score(store.night(day))
    done, problems = fill(store, model)
    assert (done.rows, done.new, done.revised, problems) == (6, 6, 0, [])
    pd.testing.assert_frame_equal(rows(store, "backfill"), rows(store, "live"))
    filled = rows(store, "backfill", "published_at, run_id")
    assert set(filled["run_id"]) == {"run of the backfill"}
    # published today, tradable when the night would have been
    assert set(filled["published_at"]) == {pd.Timestamp(TODAY)}


def test_a_night_sees_what_was_known_then(store, model):
    for day in DAYS[:4]:
        store.score(store.night(day))
    store.observe({DAYS[2]: 1.0}, known_at=store.cutoff(DAYS[3]) + timedelta(hours=1))
    fill(store, model, DAYS[:4])
    pd.testing.assert_frame_equal(rows(store, "backfill"), rows(store, "live"))


def test_a_reader_of_the_time_saw_nothing_of_it(store, model):
    fill(store, model)
    then = store.warehouse.sql(
        "SELECT count(*) FROM main.signals_as_of(TIMESTAMPTZ '2019-01-01 00:00:00+00')"
    )
    now = store.warehouse.sql(
        "SELECT count(*) FROM main.signals_as_of(TIMESTAMPTZ '2026-05-06 00:00:00+00')"
    )
    assert (then, now) == ([(0,)], [(6,)])


def test_filling_again_adds_nothing_and_forecasts_nothing(store, model, monkeypatch):
    fill(store, model)
    before = rows(store, "backfill", "*", "signal_revisions")

    def forecast(self, examples):
        raise AssertionError("scored again")

    monkeypatch.setattr(type(model), "forecast", forecast)
    done, _ = fill(store, model)
    assert (done.rows, done.new, done.revised) == (6, 0, 0)
    pd.testing.assert_frame_equal(rows(store, "backfill", "*", "signal_revisions"), before)


def test_half_a_stretch_is_taken_up(store, model):
    fill(store, model, DAYS[:3])
    done, _ = fill(store, model)
    assert (done.rows, done.new, done.revised) == (6, 3, 0)


def test_a_version_does_not_score_what_it_has_learned_from(store, model):
    store.version("late", stage="challenger", labels_known_at=store.cutoff(DAYS[1]))
    with pytest.raises(LookAheadError, match="learned from labels known until"):
        fill(store, model, version="late")
    assert rows(store, "backfill").empty


def test_a_version_does_not_score_dates_before_it_was_chosen(store, model):
    # what has learned nothing was chosen on dates, too
    rule = {"labels_known_at": None, "cutoff": store.cutoff(DAYS[2]), "stage": "challenger"}
    store.version("rule", **rule)
    with pytest.raises(LookAheadError, match="was chosen on what was known until"):
        fill(store, model, version="rule")
    done, _ = fill(store, model, DAYS[2:], version="rule")
    assert done.new == 4


def test_a_night_without_a_window_is_named(store, model):
    early = store.calendar.offset(DAYS[-1], -79)
    store.version("old", stage="retired")
    done, problems = fill(store, model, [early, DAYS[0]], version="old")
    assert done.new == 1
    assert problems == [f"{early}: no window"]


# ------------------------------------------------------------------------ who scores what


def test_the_champion_of_the_time_scores(store):
    store.version("v2", stage="champion")
    promoted(store, "v2", store.cutoff(DAYS[3]) - timedelta(minutes=1))
    found = plan(store.warehouse, SIGNAL, (DAYS[0], DAYS[-1]), store.calendar)
    assert [(s.version.model_version, len(s.nights), s.trained_as_of) for s in found] == [
        ("v1", 3, None),
        ("v2", 3, None),
    ]
    assert found[0].span == "2018-12-14 to 2018-12-18"


def test_where_there_was_none_versions_are_trained_walk_forward(store):
    found = plan(
        store.warehouse, SIGNAL, (date(2018, 1, 2), DAYS[-1]), store.calendar, retrain="half"
    )
    assert [s.version.model_version if s.version else None for s in found] == [None, None, "v1"]
    # whatever the first day asked for, a period's version learns up to its beginning
    assert [s.trained_as_of.session for s in found[:2]] == [date(2017, 12, 29), date(2018, 6, 29)]
    assert found[1].nights[-1].session == date(2018, 11, 1)
    assert all(s.trained_as_of.cutoff < s.nights[0].cutoff for s in found[:2])
    later = plan(
        store.warehouse, SIGNAL, (date(2018, 9, 3), DAYS[-1]), store.calendar, retrain="half"
    )
    assert later[0].trained_as_of == found[1].trained_as_of


def test_champions_can_be_passed_over(store):
    found = plan(store.warehouse, SIGNAL, (DAYS[0], DAYS[-1]), store.calendar, walk_forward=True)
    assert [(s.version, s.trained_as_of.session) for s in found] == [(None, date(2017, 12, 29))]


def test_dates_without_a_session_and_unknown_periods_are_refused(store):
    with pytest.raises(UsageError, match="no session of XNYS from 2018-12-15 to 2018-12-16"):
        plan(store.warehouse, SIGNAL, (date(2018, 12, 15), date(2018, 12, 16)), store.calendar)
    with pytest.raises(UsageError, match="'decade' is no period; there are: month, quarter"):
        plan(store.warehouse, SIGNAL, (DAYS[0], DAYS[1]), store.calendar, retrain="decade")


def test_a_view_that_was_never_materialized_is_named(desk):
    monthly = feature_view("macro_annual_change")
    with pytest.raises(LookbackError, match="lookback features materialize macro_annual_change"):
        list(due_nights(desk.warehouse, monthly, (DAYS[0], DAYS[1]), desk.calendar))


def test_weekly_signals_are_due_on_the_last_session_of_a_week(store):
    weekly = feature_view("equity_weekly_return")
    found = due_nights(
        store.warehouse, weekly, (date(2018, 3, 26), date(2018, 4, 13)), store.calendar
    )
    # the first of the three weeks ends on the Thursday before Good Friday
    assert [night.session for night in found] == [
        date(2018, 3, 29),
        date(2018, 4, 6),
        date(2018, 4, 13),
    ]


def test_what_is_written_together_is_bounded():
    parts = list(backfill.in_parts(list(range(70))))
    assert [len(part) for part in parts] == [32, 32, 6]


# ------------------------------------------------------------------------ months


@pytest.fixture
def macro(warehouse, calendar):
    """A monthly pair known on the fifteenth of the next month, and a rule that scores it."""
    months = pd.date_range("2000-01-01", "2018-10-01", freq="MS")
    steps = np.random.default_rng(3).normal(0, 0.1, (len(months), 2)).cumsum(axis=0)
    for number, series in enumerate(("BAA", "CPILFESL")):
        known = (months + pd.offsets.MonthEnd() + pd.Timedelta(days=15, hours=12)).tz_localize(
            "UTC"
        )
        rows = pd.DataFrame({"period": months, "value": 50 + steps[:, number], "known_at": known})
        rows = rows.assign(
            source=f"sample.{series}",
            series=series,
            ingested_at=pd.Timestamp("2030-01-01", tz="UTC"),
            run_id="run",
        )
        warehouse.append(observations, rows)
    view = feature_view("macro_annual_change_sample")
    materialize(warehouse, view)
    declared = SIGNALS["macro_path"]
    learned = recipe("macro_path", "chapter", "sample").with_changes(validation=24, test=24)
    night = past_night(warehouse.settings, calendar, date(2016, 12, 30))
    spans = split(read_examples(warehouse, learned, night.cutoff), 24, 24)
    candidates = registry.fit_baselines(warehouse.settings, learned, spans, night)
    version = registry.register_walk_forward(warehouse, candidates, night, "run")
    return warehouse, declared, version


def test_a_month_is_scored_on_the_first_session_that_knew_it(macro, calendar):
    warehouse, declared, version = macro
    view = feature_view(version.feature_view)
    due = list(due_nights(warehouse, view, (date(2017, 1, 3), date(2017, 12, 29)), calendar))
    assert [night.session for night in due][:3] == [
        date(2017, 1, 17),  # the 15th is a Sunday, the 16th a holiday
        date(2017, 2, 15),
        date(2017, 3, 15),
    ]
    assert len(due) == 12
    loaded = registry.load(warehouse.settings, version)
    imprint = Imprint("run", "backfill", TODAY)
    done, problems = score_stretch(warehouse, declared, version, loaded, due, calendar, imprint)
    assert (done.new, problems) == (12 * 12 * 2, [])
    # as nights would have scored them
    for night in due:
        scoring.write(
            warehouse,
            scoring.score_rows(
                warehouse.settings,
                declared,
                version,
                loaded,
                scoring.newest_examples(warehouse, version.made_by, view, night, calendar),
                night,
                calendar,
                Imprint("run of the night"),
            ),
            warehouse.frame("FROM main.signal_revisions WHERE false"),
        )
    query = f"SELECT {SAME} FROM main.signals WHERE role = ? ORDER BY ALL"
    pd.testing.assert_frame_equal(
        warehouse.frame(query, "backfill"), warehouse.frame(query, "live")
    )


def test_an_outcome_of_a_month_is_that_of_the_window_it_was_made_of(macro, calendar):
    warehouse, declared, version = macro
    night = past_night(warehouse.settings, calendar, date(2017, 3, 15))
    loaded = registry.load(warehouse.settings, version)
    score_stretch(
        warehouse, declared, version, loaded, [night], calendar, Imprint("run", "backfill", TODAY)
    )
    later = past_night(warehouse.settings, calendar, date(2018, 11, 16))
    assert join_outcomes(warehouse, declared, later, calendar, "run").new == 24
    found = warehouse.frame("FROM main.outcomes WHERE entity = 'BAA' ORDER BY horizon")
    assert found["target_date"].tolist() == list(pd.date_range("2017-03-01", periods=12, freq="MS"))
    levels = warehouse.frame(
        "SELECT period, value FROM raw.observations WHERE series = 'BAA'"
    ).set_index("period")["value"]
    annual = levels - levels.shift(12)
    np.testing.assert_allclose(found["realised"], annual[found["target_date"]], atol=1e-12)
    np.testing.assert_allclose(found["start"], annual["2017-02-01"], atol=1e-12)
    np.testing.assert_allclose(found["error"], found["value"] - found["realised"])
    assert found["label_return"].isna().all()
    assert found["tradable_return"].isna().all()
    # in March 2017 nobody knew more than the month of February
    early = past_night(warehouse.settings, calendar, date(2017, 6, 15))
    for table in ("main.outcomes", "ops.progress"):
        warehouse.native.execute(f"DELETE FROM {table}")
    join_outcomes(warehouse, declared, early, calendar, "run", since=date(2017, 1, 1))
    assert warehouse.one("SELECT count(*), max(horizon) FROM main.outcomes") == (6, 3)
