from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest

from db.clock import Night
from db.errors import LookAheadError, LookbackError, RegistryError, UsageError
from db.tables import observations
from db.tables import signals as signals_table
from db.warehouse import Warehouse
from features.catalog import feature_view
from features.materialize import materialize
from models import registry
from models.catalog import recipe
from models.registry import ModelVersion
from signals import scoring
from signals.declaration import SIGNALS, signal
from signals.latest import refresh_latest
from signals.scoring import require_no_look_ahead, tradable_from

FRIDAY = date(2018, 12, 14)
MONDAY = date(2018, 12, 17)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def night(desk, model):
    """A Friday's night with a history of 70 sessions and a champion."""
    desk.history(FRIDAY)
    desk.version()
    return desk.night(FRIDAY)


# -------------------------------------------------------------------------- the contract


def test_a_row_is_what_the_contract_says(desk, night):
    done = desk.score(night)
    assert (done.signal, done.model_version) == ("sp500_next_close", "v1")
    assert (done.rows, done.new, done.revised, done.unchanged) == (1, 1, 0, 0)
    (row,) = desk.rows()
    assert list(row) == [column.name for column in signals_table.columns]
    snapshot = desk.warehouse.sql("SELECT data_snapshot FROM main.data_snapshots")
    absent = {"q05", "q50", "q95", "probability", "rank"}
    assert {name: value for name, value in row.items() if name not in absent} == {
        "signal": "sp500_next_close",
        "entity": "SP500",
        "as_of": FRIDAY,
        "horizon": 1,
        "horizon_unit": "session",
        "role": "live",
        # four hours after the close that it is made of, not the night's cut-off
        "known_at": pd.Timestamp("2018-12-15 01:00", tz="UTC"),
        "tradable_from": MONDAY,
        "value": 2070.0,
        "model": "sp500_next_close",
        "model_version": "v1",
        "feature_view": "sp500_close",
        "feature_version": desk.view.version,
        "data_snapshot": snapshot[0][0],
        "published_at": pd.Timestamp(night.now),
        "run_id": "run of the night",
    }
    assert all(row[name] is None for name in absent)
    assert row["known_at"] <= night.cutoff < row["published_at"] + timedelta(microseconds=1)


def test_published_at_is_the_time_of_scoring_not_of_the_nights_beginning(desk, model):
    desk.history(FRIDAY)
    desk.version()
    began = datetime.now(UTC)
    desk.score(Night(FRIDAY, desk.cutoff(FRIDAY), began - timedelta(hours=5)))
    (row,) = desk.rows()
    assert began <= row["published_at"] <= datetime.now(UTC)
    assert row["tradable_from"] >= began.date()


def test_ranks_lie_within_the_night(desk, model, panel):
    for level, series in ((300.0, "A"), (100.0, "B"), (200.0, "C"), (200.0, "D")):
        desk.history(FRIDAY, count=10, series=series, level=level)
    desk.version()
    assert desk.score(desk.night(FRIDAY)).new == 4
    ranks = {row["entity"]: row["rank"] for row in desk.rows()}
    assert ranks == {"A": 1.0, "B": 0.25, "C": 0.625, "D": 0.625}
    assert {row["value"] for row in desk.rows()} == {310.0, 110.0, 210.0}


def test_an_entity_without_the_session_has_no_score(desk, model, panel):
    desk.history(FRIDAY, count=10, series="A")
    desk.history(date(2018, 12, 13), count=10, series="DELISTED")
    desk.version()
    assert desk.score(desk.night(FRIDAY)).rows == 1
    assert [row["entity"] for row in desk.rows()] == ["A"]


@pytest.mark.parametrize(
    ("published", "first"),
    [
        ("2018-12-15 03:00", "2018-12-17"),  # Friday evening in New York: Monday
        ("2018-12-17 03:00", "2018-12-17"),
        ("2018-12-17 14:00", "2018-12-17"),  # half an hour before the open is in time
        ("2018-12-17 14:00:00.000001", "2018-12-18"),
        ("2018-12-18 01:00", "2018-12-18"),  # a late night moves it
        ("2018-12-22 03:00", "2018-12-24"),
        ("2018-12-25 03:00", "2018-12-26"),  # Christmas
        ("2018-12-05 03:00", "2018-12-06"),  # the day of mourning for George Bush
        ("2018-11-22 02:00", "2018-11-23"),  # Thanksgiving; the day after is a short session
        ("2018-07-03 13:00", "2018-07-03"),  # summer time: the open is at 13:30 UTC
        ("2018-07-03 13:01", "2018-07-05"),
    ],
)
def test_tradable_from(calendar, published, first):
    assert tradable_from(calendar, utc(published), 30) == pd.Timestamp(first)


def test_the_order_delay_is_a_setting(calendar):
    assert tradable_from(calendar, utc("2018-12-17 14:20"), 10) == pd.Timestamp(MONDAY)
    assert tradable_from(calendar, utc("2018-12-17 14:20"), 30) == pd.Timestamp("2018-12-18")


def test_a_late_night_moves_tradable_from_and_nothing_else(desk, night):
    late = desk.night(FRIDAY, now=utc("2018-12-19 16:00"))
    desk.score(late)
    (row,) = desk.rows()
    assert row["tradable_from"] == date(2018, 12, 20)
    assert row["known_at"] == pd.Timestamp("2018-12-15 01:00", tz="UTC")
    assert (row["value"], row["as_of"]) == (2070.0, FRIDAY)


# --------------------------------------------------------------------------- once, again


def test_scoring_twice_changes_nothing(desk, night, model):
    desk.score(night)
    before = desk.rows(), desk.rows("signal_revisions")
    done = desk.score(desk.night(FRIDAY, now=night.now + timedelta(hours=2)), "another run")
    assert (done.rows, done.new, done.revised, done.unchanged) == (1, 0, 0, 1)
    assert (desk.rows(), desk.rows("signal_revisions")) == before
    assert model.loaded == ["v1"]  # nothing new in the data: the network is not needed


def test_new_data_that_changes_no_score_changes_nothing(desk, night, constant, model):
    constant(model, 7.0)
    desk.score(night)
    before = desk.rows()
    desk.observe({desk.calendar.offset(FRIDAY, -5): 1.0}, known_at=night.cutoff)
    done = desk.score(night)
    assert (done.new, done.revised, done.unchanged) == (0, 0, 1)
    assert model.loaded == ["v1", "v1"]
    assert desk.rows() == before


def test_a_corrected_input_is_a_revision_beside_the_first(desk, night):
    desk.score(night)
    first = night.now
    desk.observe({FRIDAY: 3000.0}, known_at=night.cutoff - timedelta(minutes=1))
    later = desk.night(FRIDAY, now=first + timedelta(hours=60))
    done = desk.score(later, "the run after")
    assert (done.rows, done.new, done.revised) == (1, 0, 1)

    original, revised = desk.rows("signal_revisions")
    assert [original["revision"], revised["revision"]] == [0, 1]
    assert [original["value"], revised["value"]] == [2070.0, 3001.0]
    assert [original["published_at"], revised["published_at"]] == [first, later.now]
    assert [original["run_id"], revised["run_id"]] == ["run of the night", "the run after"]
    assert original["tradable_from"] == MONDAY
    assert revised["tradable_from"] == date(2018, 12, 18)
    assert original["data_snapshot"] != revised["data_snapshot"]

    (newest,) = desk.rows()
    assert newest == {name: value for name, value in revised.items() if name != "revision"}


def test_signals_as_of_gives_what_a_reader_saw(desk, night):
    desk.score(night)
    desk.observe({FRIDAY: 3000.0}, known_at=night.cutoff)
    later = night.now + timedelta(hours=60)
    desk.score(desk.night(FRIDAY, now=later))

    def seen(instant):
        found = desk.warehouse.frame("SELECT * FROM main.signals_as_of(?)", instant)
        assert list(found.columns) == [column.name for column in signals_table.columns]
        return found["value"].tolist()

    moment = timedelta(microseconds=1)
    assert seen(night.now - moment) == []
    assert seen(night.now) == [2070.0]
    assert seen(later - moment) == [2070.0]
    assert seen(later) == [3001.0]


def test_a_correction_after_the_cutoff_is_not_used(desk, night):
    desk.score(night)
    desk.observe({FRIDAY: 3000.0}, known_at=night.cutoff + timedelta(seconds=1))
    done = desk.score(desk.night(FRIDAY, now=night.now + timedelta(days=3)))
    assert (done.new, done.revised) == (0, 0)


def test_a_version_has_rows_of_its_own_and_so_has_a_role(desk, night):
    desk.score(night)
    desk.score(night, role="backfill")
    desk.warehouse.native.execute("UPDATE main.model_versions SET stage = 'retired'")
    desk.version("v2")
    done = desk.score(night)
    assert (done.model_version, done.new) == ("v2", 1)
    keys = {(row["model_version"], row["role"]) for row in desk.rows()}
    assert keys == {("v1", "live"), ("v1", "backfill"), ("v2", "live")}


def test_killed_while_writing_there_is_nothing_and_then_all(desk, night, monkeypatch):
    append = Warehouse.append

    def killed(self, table, rows):
        if table is signals_table:
            raise KeyboardInterrupt
        return append(self, table, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.score(night)
    assert (desk.rows(), desk.rows("signal_revisions")) == ([], [])
    assert desk.score(night).new == 1
    assert len(desk.rows()) == len(desk.rows("signal_revisions")) == 1


# ------------------------------------------------------------------------------ refusals


def test_a_version_that_learned_from_the_future_is_refused(desk, model):
    desk.history(FRIDAY)
    desk.version(labels_known_at=desk.cutoff(FRIDAY))
    with pytest.raises(LookAheadError, match="lookback backfill") as caught:
        desk.score(desk.night(FRIDAY))
    message = str(caught.value)
    assert "sp500_next_close v1 learned from labels known until 2018-12-15 03:00 UTC" in message
    assert "cut-off of 2018-12-14 (2018-12-15 03:00 UTC)" in message
    assert "\n" not in message
    assert caught.value.exit_code == 3
    assert (desk.rows(), model.loaded) == ([], [])


def test_one_moment_before_the_cutoff_is_allowed(desk, model):
    desk.history(FRIDAY)
    desk.version(labels_known_at=desk.cutoff(FRIDAY) - timedelta(microseconds=1))
    assert desk.score(desk.night(FRIDAY)).new == 1


def test_what_never_learned_may_score_from_when_it_was_chosen(desk):
    values = dict.fromkeys(ModelVersion.__dataclass_fields__) | {"recipe": {"task": "level"}}
    rule = ModelVersion(**values | {"cutoff": desk.cutoff(FRIDAY)})
    require_no_look_ahead(rule, desk.night(FRIDAY))
    with pytest.raises(LookAheadError, match="was chosen on what was known until 2018-12-15 03:00"):
        require_no_look_ahead(rule, desk.night(date(2018, 12, 13)))


def test_without_a_champion_it_says_to_train(desk, model):
    desk.history(FRIDAY)
    desk.version(stage="challenger")
    with pytest.raises(LookbackError, match="has no champion; run: lookback train") as caught:
        desk.score(desk.night(FRIDAY))
    assert str(caught.value).startswith("sp500_next_close: ")


STALE = {
    "older": (lambda desk: desk.history(date(2018, 12, 12)), "newest value is of 2018-12-12"),
    "nothing": (lambda desk: desk.observe({}), "no data by the cut-off of 2018-12-14"),
    # a month without closes parts it from the history before
    "short": (
        lambda desk: (desk.history(date(2018, 8, 1)), desk.history(FRIDAY, count=62)),
        "too little unbroken history",
    ),
    "known later": (
        lambda desk: desk.history(FRIDAY, known_at=utc("2018-12-15 03:01")),
        "no data by the cut-off",
    ),
}


@pytest.mark.parametrize("what", STALE)
def test_without_a_window_it_says_why(desk, model, what):
    arrive, reason = STALE[what]
    arrive(desk)
    desk.version()
    with pytest.raises(LookbackError, match=reason) as caught:
        desk.score(desk.night(FRIDAY))
    assert str(caught.value).startswith("sp500_next_close: ")
    assert "\n" not in str(caught.value)
    assert desk.rows() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused(desk, night, model, constant, value):
    constant(model, value)
    with pytest.raises(LookbackError, match=r"sp500_next_close: v1 gave a score .* not finite"):
        desk.score(night)
    assert desk.rows() == desk.rows("signal_revisions") == []


def test_a_version_of_another_feature_version_is_refused(desk, model):
    desk.history(FRIDAY)
    desk.version(feature_version="0123456789ab")
    with pytest.raises(RegistryError, match="run: lookback train sp500_next_close") as caught:
        desk.score(desk.night(FRIDAY))
    assert f"0123456789ab of sp500_close, which is now {desk.view.version}" in str(caught.value)
    assert (desk.rows(), model.loaded) == ([], [])


def test_a_missing_artefact_is_refused(desk):
    """The real `load`: there is no such folder."""
    desk.history(FRIDAY)
    desk.version()
    with pytest.raises(RegistryError, match=r"manifest\.json is missing") as caught:
        desk.score(desk.night(FRIDAY))
    assert "\n" not in str(caught.value)


def test_an_unknown_signal_lists_what_there_is():
    assert signal("sp500_next_close") is SIGNALS["sp500_next_close"]
    with pytest.raises(
        UsageError, match="no signal 'sp500'; there are: equity_week_direction, macro_outlook"
    ):
        signal("sp500")


# ------------------------------------------------------------------------------- lineage


def test_from_a_row_one_reaches_version_features_snapshot_and_run(desk, night):
    desk.run("run of the night")
    desk.run("run of the training", flow="train")
    desk.score(night)
    found = desk.warehouse.sql(
        """
        SELECT m.labels_known_at < s.known_at, trainings.flow, f.declaration->>'sql',
            f.last_date, d.rows, d.last_date, d.cutoff, nights.flow
        FROM main.signals s
        JOIN main.model_versions m USING (model, model_version)
        JOIN main.runs trainings ON trainings.run_id = m.run_id
        JOIN main.feature_views f ON f.view = s.feature_view AND f.version = s.feature_version
            AND f.version = m.feature_version
        JOIN main.data_snapshots d ON d.data_snapshot = s.data_snapshot
            AND d.feature_view = s.feature_view AND d.feature_version = s.feature_version
        JOIN main.runs nights ON nights.run_id = s.run_id
        """
    )
    sql = desk.view.declaration["sql"]
    assert found == [(True, "train", sql, FRIDAY, 70, FRIDAY, night.cutoff, "nightly")]


# -------------------------------------------------------------------------------- latest


def latest(desk, session):
    refresh_latest(desk.warehouse, desk.calendar, session)
    return desk.rows("signals_latest")


def test_latest_is_the_newest_live_row_with_its_age(desk, night):
    desk.score(night)
    desk.observe({MONDAY: 2100.0})
    desk.score(desk.night(MONDAY))
    desk.observe({date(2018, 12, 18): 2200.0})
    desk.score(desk.night(date(2018, 12, 18)), role="backfill")
    desk.score(desk.night(date(2018, 12, 18)), role="challenger")
    (row,) = latest(desk, MONDAY)
    assert (row["as_of"], row["value"], row["role"]) == (MONDAY, 2101.0, "live")
    assert row["age"] == 0
    assert list(row)[:-1] == [column.name for column in signals_table.columns]


@pytest.mark.parametrize(
    ("session", "age"),
    [(FRIDAY, 0), (MONDAY, 1), (date(2018, 12, 24), 6), (date(2018, 12, 26), 7)],
)
def test_age_counts_sessions_not_days(desk, night, session, age):
    desk.score(night)
    (row,) = latest(desk, session)
    assert row["age"] == age


def test_a_night_that_is_caught_up_does_not_replace_a_newer_one(desk, night):
    desk.observe({MONDAY: 2100.0})
    desk.score(desk.night(MONDAY))
    desk.score(desk.night(FRIDAY, now=utc("2018-12-18 20:00")))
    (row,) = latest(desk, FRIDAY)
    assert (row["as_of"], row["age"]) == (MONDAY, 0)


def test_of_two_versions_the_one_published_last_counts(desk, night):
    desk.score(night)
    desk.warehouse.native.execute("UPDATE main.model_versions SET stage = 'retired'")
    desk.version("v0")
    desk.score(desk.night(FRIDAY, now=night.now + timedelta(hours=1)))
    (row,) = latest(desk, FRIDAY)
    assert row["model_version"] == "v0"


def test_every_entity_has_its_own_newest_row(desk, model, panel):
    desk.history(FRIDAY, count=10, series="A")
    desk.history(FRIDAY, count=10, series="B")
    desk.version()
    desk.score(desk.night(FRIDAY))
    desk.observe({MONDAY: 50.0}, series="A")
    desk.score(desk.night(MONDAY))
    rows = latest(desk, MONDAY)
    found = {row["entity"]: (row["as_of"], row["age"]) for row in rows}
    assert found == {"A": (MONDAY, 0), "B": (FRIDAY, 1)}


def test_latest_without_signals_is_empty(desk):
    assert latest(desk, FRIDAY) == []


def test_latest_shows_the_revision_and_keeps_the_old_rows_if_it_fails(desk, night, monkeypatch):
    desk.score(night)
    latest(desk, FRIDAY)
    desk.observe({FRIDAY: 3000.0}, known_at=night.cutoff)
    desk.score(desk.night(FRIDAY, now=night.now + timedelta(hours=1)))
    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "relation", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            latest(desk, FRIDAY)
    assert [row["value"] for row in desk.rows("signals_latest")] == [2070.0]
    assert [row["value"] for row in latest(desk, FRIDAY)] == [3001.0]


def test_the_tables_are_there_for_any_duckdb_reader(desk, night, settings, tmp_path):
    """The macro travels with a copy of the file."""
    desk.score(night)
    desk.warehouse.native.execute("CHECKPOINT")
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(settings.warehouse.read_bytes())
    with duckdb.connect(str(copy), read_only=True) as reader:
        (count,) = reader.execute("SELECT count(*) FROM signals_as_of(now())").fetchone()
    assert count == 1


def test_the_scores_of_the_contract_are_compared(desk):
    contract = {column.name for column in signals_table.columns}
    assert set(scoring.SCORES) <= contract
    assert contract == set(scoring.CONTRACT)


# --------------------------------------------------- weekly, monthly, several steps at once


NEXT_CLOSE = SIGNALS["sp500_next_close"]


def test_a_weekly_signal_is_due_on_the_last_session_of_its_week(desk, monkeypatch):
    weekly = SIGNALS["equity_week_direction"]
    assert scoring.is_due(desk.warehouse, weekly, desk.night(MONDAY), desk.calendar)
    champion = SimpleNamespace(feature_view="equity_weekly_return")
    monkeypatch.setattr(scoring, "champion", lambda *_: champion)
    due = {
        day: scoring.is_due(desk.warehouse, weekly, desk.night(day), desk.calendar)
        for day in (FRIDAY, MONDAY, date(2018, 3, 29), date(2018, 3, 28))
    }
    # the 30th of March 2018 was Good Friday
    assert due == {FRIDAY: True, MONDAY: False, date(2018, 3, 29): True, date(2018, 3, 28): False}
    daily = SimpleNamespace(feature_view="sp500_close")
    monkeypatch.setattr(scoring, "champion", lambda *_: daily)
    assert scoring.is_due(desk.warehouse, NEXT_CLOSE, desk.night(MONDAY), desk.calendar)


PATH = SIGNALS["macro_path"]


def put_months(desk, last="2018-10-01", count=60):
    """A pair of monthly series whose values are known six weeks after their month began."""
    months = pd.date_range(end=last, periods=count, freq="MS")
    for series, level in (("BAA", 5.0), ("CPILFESL", 250.0)):
        rows = pd.DataFrame(
            {
                "source": f"sample.{series}",
                "series": series,
                "period": months,
                "value": level + 0.01 * np.arange(count),
                "known_at": (months + pd.Timedelta(days=45)).tz_localize("UTC"),
                "ingested_at": pd.Timestamp("2030-01-01", tz="UTC"),
                "run_id": "run of the night",
            }
        )
        desk.warehouse.append(observations, rows)
    view = feature_view("macro_annual_change_sample")
    materialize(desk.warehouse, view)
    desk.version(
        model="macro_path",
        artefact="macro_path/v1",
        recipe=recipe("macro_path", profile="sample").to_json(),
        feature_view=view.name,
        feature_version=view.version,
    )


def score_path(desk, session):
    night = desk.night(session)
    return scoring.score(desk.warehouse, PATH, night, desk.calendar, "run of the night")


def test_a_months_value_is_scored_as_of_the_first_session_that_knew_it(desk, model):
    put_months(desk)
    # October's values were known at midnight, three hours before the cut-off of the 14th
    done = score_path(desk, FRIDAY)
    assert (done.rows, done.new) == (24, 24)
    rows = desk.rows()
    assert {row["as_of"] for row in rows} == {date(2018, 11, 14)}
    assert {row["entity"] for row in rows} == {"BAA", "CPILFESL"}
    assert {(row["horizon"], row["horizon_unit"]) for row in rows} == {
        (ahead, "month") for ahead in range(1, 13)
    }
    assert {row["rank"] for row in rows} == {None}
    assert {row["known_at"] for row in rows} == {pd.Timestamp("2018-11-15", tz="UTC")}
    # nothing new in the month: nothing to say
    again = score_path(desk, MONDAY)
    assert (again.new, again.revised, again.unchanged) == (0, 0, 24)


def test_quantiles_and_probabilities_are_those_of_the_manifest(desk, model):
    put_months(desk)
    offsets = {name: [[shift] * 2] * 12 for name, shift in (("q05", -1), ("q50", 0), ("q95", 2))}
    model.manifest = SimpleNamespace(
        quantiles={"offsets": offsets, "relative": False, "n": 40}, gives_probability=True
    )
    score_path(desk, FRIDAY)
    for row in desk.rows():
        around = [row[name] - row["value"] for name in ("q05", "q50", "q95")]
        assert around == pytest.approx([-1, 0, 2])
        assert row["probability"] == row["value"]


# ------------------------------------------------------------------ a champion that is damaged


def test_where_the_champion_is_damaged_the_last_good_one_scores(desk, model, monkeypatch):
    desk.history(FRIDAY)
    for number, name in enumerate(("v1", "v2", "v3")):
        desk.version(name, stage="challenger", seed=number)
        registry.promote(desk.warehouse, NEXT_CLOSE.model, name, "by hand", "run")

    def verify(folder, sha256):
        if folder.name in {"v3", "v2"}:
            raise RegistryError(f"{folder.name}/model.keras was altered after training")

    monkeypatch.setattr(registry.artefacts, "verify", verify)
    done = desk.score(desk.night(FRIDAY))
    assert (done.model_version, done.new) == ("v1", 1)
    assert done.problem == (
        "sp500_next_close: v3/model.keras was altered after training; v1 scored in its place"
    )
    (row,) = desk.rows()
    assert row["model_version"] == "v1"
    # the champion is another one only when somebody says so
    assert registry.champion(desk.warehouse, NEXT_CLOSE.model).model_version == "v3"


# ------------------------------------------------------------------ one unit of cross-sections


def test_scores_of_returns_come_in_standard_deviations_of_their_date(of_returns, model):
    model.manifest.gives_probability = True
    of_returns.score(of_returns.night(FRIDAY))
    rows = pd.DataFrame(of_returns.rows()).sort_values("entity")
    raw = np.array([10.0**number + 19 + 1 for number in range(4)])
    assert rows["probability"].tolist() == raw.tolist()
    np.testing.assert_allclose(rows["value"], (raw - raw.mean()) / raw.std())
    assert rows["rank"].tolist() == [0.25, 0.5, 0.75, 1.0]


def test_scores_that_are_all_the_same_say_nothing(of_returns, model, constant):
    constant(model, 0.1)
    of_returns.score(of_returns.night(FRIDAY))
    assert {row["value"] for row in of_returns.rows()} == {0.0}
