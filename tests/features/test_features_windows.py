from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from db.availability import AfterClose
from db.errors import LookAheadError, LookbackError
from features.catalog import feature_views
from features.materialize import materialize
from features.view import Feature, Input
from features.windows import read_windows
from tests.bits import same_bits

# Two weeks of sessions, Christmas and a Wednesday of mourning after them.
DAYS = [f"2018-12-{day}" for day in (10, 11, 12, 13, 14, 17, 18, 19, 20, 21)]
END = pd.Timestamp("2018-12-22 02:00", tz="UTC")


def read(raw, view, cutoff=END, **choice):
    materialize(raw.warehouse, view)
    return read_windows(raw.warehouse, view, cutoff, **choice)


def ends(windows):
    """Day of the month on which each window ends."""
    return windows.index["as_of"].dt.day.tolist()


def numbered(days=DAYS):
    """Every session has its number as its value."""
    return {day: float(number) for number, day in enumerate(days, start=1)}


# ------------------------------------------------------------------------------- shapes


def test_windows_are_oldest_first_with_the_next_close_as_label(raw, close):
    raw.observe(numbered())
    windows = read(raw, close)
    assert (windows.X.shape, windows.X.dtype) == ((8, 3, 1), np.float32)
    assert (windows.y.shape, windows.y.dtype) == ((8,), np.float32)
    assert windows.X[0, :, 0].tolist() == [1.0, 2.0, 3.0]
    assert windows.X[-1, :, 0].tolist() == [8.0, 9.0, 10.0]
    assert windows.y.tolist()[:-1] == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    assert np.isnan(windows.y[-1])
    assert ends(windows) == [12, 13, 14, 17, 18, 19, 20, 21]
    assert windows.index["known_at"].tolist() == [raw.known_at(day) for day in DAYS[2:]]
    assert windows.index["label_known_at"].tolist()[:-1] == [raw.known_at(d) for d in DAYS[3:]]
    assert pd.isna(windows.index["label_known_at"].iloc[-1])
    assert (windows.view, windows.version, len(windows)) == ("close", close.version, 8)


def test_several_features_keep_their_order(raw, close):
    view = replace(
        close,
        name="two",
        features=(*close.features, Feature("root")),
        target="root",
        sql=close.sql.replace("known_at", "sqrt(value) AS root, known_at"),
    )
    raw.observe(numbered())
    windows = read(raw, view)
    assert windows.X.shape == (8, 3, 2)
    expected = np.array([[1, 1], [2, 2**0.5], [3, 3**0.5]], dtype=np.float32)
    np.testing.assert_array_equal(windows.X[0], expected)
    assert windows.y[0] == 2.0


def test_entities_do_not_mix_and_rows_are_sorted_by_date_then_entity(raw, close):
    raw.observe(numbered(), series="B")
    raw.observe({day: 100.0 + value for day, value in numbered(DAYS[:5]).items()}, series="A")
    windows = read(raw, close)
    keys = list(zip(ends(windows), windows.index["entity"], strict=True))
    assert keys == sorted(keys)
    assert keys[:4] == [(12, "A"), (12, "B"), (13, "A"), (13, "B")]
    of_a = (windows.index["entity"] == "A").to_numpy()
    assert windows.X[of_a].min() > 100 > windows.X[~of_a].max()
    # A's last value has no next one, whatever B does
    assert windows.y[of_a].tolist()[:-1] == [104.0, 105.0]
    assert np.isnan(windows.y[of_a][-1])


def test_as_of_chooses_the_windows_of_one_date(raw, close):
    raw.observe(numbered(), series="A")
    raw.observe(numbered(), series="B")
    chosen = read(raw, close, as_of=pd.Timestamp(DAYS[4]).date())
    assert chosen.X[:, -1, 0].tolist() == [5.0, 5.0]
    assert chosen.index["entity"].tolist() == ["A", "B"]
    assert len(read(raw, close, as_of=pd.Timestamp("2018-12-15").date())) == 0


def test_too_few_values_give_none(raw, close):
    raw.observe(numbered())
    windows = read(raw, close, raw.known_at(DAYS[1]))
    assert (windows.X.shape, windows.y.shape, len(windows)) == ((0, 3, 1), (0,), 0)
    assert str(windows.index["known_at"].dtype).endswith("UTC]")


def test_an_early_correction_makes_no_history_short(raw, close):
    """What was known before it is short; what is known since is not."""
    raw.observe(numbered())
    raw.observe({DAYS[0]: 0.5}, known_at=raw.known_at(DAYS[1]))
    assert read(raw, close).X[0, :, 0].tolist() == [0.5, 2.0, 3.0]


def test_take_by_flags_and_by_positions(raw, close):
    raw.observe(numbered())
    windows = read(raw, close)
    flags = np.arange(8) % 2 == 0
    for rows in (flags, np.flatnonzero(flags)):
        taken = windows.take(rows)
        assert taken.y[:3].tolist() == [4.0, 6.0, 8.0]
        assert ends(taken) == [12, 14, 18, 20]
        assert taken.index.index.tolist() == [0, 1, 2, 3]


def test_a_value_that_is_not_there_is_in_no_window(raw, close):
    holed = replace(
        close,
        name="holed",
        features=(*close.features, Feature("level")),
        sql=close.sql.replace("value AS", "nullif(value, 4) AS").replace(
            "known_at", "value AS level, known_at"
        ),
    )
    raw.observe(numbered())
    windows = read(raw, holed)
    assert ends(windows) == [12, 18, 19, 20, 21]
    assert np.isfinite(windows.X).all()
    # the window to the 12th has no label: its target is not there
    assert pd.isna(windows.index["label_known_at"].iloc[0])
    assert np.isnan(windows.y[0])


def test_a_row_without_any_value_is_in_no_window(raw, close):
    """Nor is it passed over: the row is there, and says that there is no value."""
    holed = replace(close, name="holed", sql=close.sql.replace("value", "nullif(value, 4)"))
    raw.observe(numbered())
    windows = read(raw, holed)
    assert ends(windows) == [12, 18, 19, 20, 21]
    assert np.isnan(windows.y[0])


# ------------------------------------------------------------------------------- cut-off


def test_only_what_was_known_is_seen(raw, close):
    raw.observe(numbered())
    cutoff = raw.known_at(DAYS[4])
    assert ends(read(raw, close, cutoff)) == [12, 13, 14]
    assert ends(read(raw, close, cutoff - timedelta(microseconds=1))) == [12, 13]


def test_a_label_is_known_only_after_the_horizon(raw, close):
    view = replace(close, name="far", horizon=3)
    raw.observe(numbered())
    windows = read(raw, view, raw.known_at(DAYS[7]))
    assert windows.y[:3].tolist() == [6.0, 7.0, 8.0]
    assert np.isnan(windows.y[3:]).all()
    known = windows.index["label_known_at"]
    assert known.tolist()[:3] == [raw.known_at(day) for day in DAYS[5:8]]
    assert known[3:].isna().all()


def test_a_window_of_corrected_values_says_when_it_was_known(raw, close):
    raw.observe(numbered())
    raw.observe({DAYS[2]: 3.5}, known_at=raw.known_at(DAYS[8]))
    before = read(raw, close, raw.known_at(DAYS[7]))
    after = read(raw, close, raw.known_at(DAYS[8]))
    assert (before.X[0, 2, 0], after.X[0, 2, 0]) == (3.0, 3.5)
    assert before.index["known_at"].iloc[0] == raw.known_at(DAYS[2])
    assert after.index["known_at"].tolist()[:3] == [raw.known_at(DAYS[8])] * 3
    assert after.index["known_at"].iloc[3] == raw.known_at(DAYS[5])


@pytest.mark.parametrize("cutoff", [None, datetime(2018, 12, 28, 3), "2018-12-28", pd.NaT])
def test_a_cutoff_is_an_instant(raw, close, cutoff):
    raw.observe(numbered())
    with pytest.raises(LookAheadError, match="view close needs a cut-off with a time zone"):
        read(raw, close, cutoff)


def test_the_cutoff_may_have_any_zone(raw, close):
    raw.observe(numbered())
    utc = raw.known_at(DAYS[4])
    there = read(raw, close, utc.tz_convert("Asia/Tokyo").to_pydatetime())
    assert there.data_snapshot == read(raw, close, utc).data_snapshot
    assert len(there) == 3


def test_a_view_that_has_no_values_yet_says_what_to_run(raw, close):
    with pytest.raises(LookbackError, match=r"view close has no values .* run: lookback") as caught:
        read_windows(raw.warehouse, close, END)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------- gaps


def without(*missing):
    return {day: value for day, value in numbered().items() if day not in missing}


def test_a_short_gap_is_passed_over_but_no_label_reaches_over_it(raw, close):
    raw.observe(without(DAYS[4]))
    windows = read(raw, close)
    assert ends(windows) == [12, 13, 17, 18, 19, 20, 21]
    assert windows.X[2, :, 0].tolist() == [3.0, 4.0, 6.0]
    # from the 13th the next session is missing: what follows is two sessions ahead
    assert np.isnan(windows.y[1])
    assert pd.isna(windows.index["label_known_at"].iloc[1])
    assert windows.y[[0, 2]].tolist() == [4.0, 7.0]


@pytest.mark.parametrize(("missing", "spanned"), [(3, True), (4, False)])
def test_a_gap_longer_than_the_view_allows_is_never_spanned(raw, close, missing, spanned):
    raw.observe(without(*DAYS[3 : 3 + missing]))
    windows = read(raw, close)
    whole = [12, *[int(day[-2:]) for day in DAYS[5 + missing :]]]
    across = [int(day[-2:]) for day in DAYS[3 + missing : 5 + missing]]
    assert ends(windows) == sorted([*whole, *across] if spanned else whole)
    assert np.isnan(windows.y[0])


def test_closed_days_are_no_gap(raw, close):
    """Weekends, Christmas: the next session is the next session."""
    days = ["2018-12-20", "2018-12-21", "2018-12-24", "2018-12-26", "2018-12-27"]
    strict = replace(close, name="strict", largest_gap=0)
    raw.observe(numbered(days))
    windows = read(raw, strict, pd.Timestamp("2018-12-31", tz="UTC"))
    assert windows.y[:2].tolist() == [4.0, 5.0]
    assert len(windows) == 3


def test_gaps_and_horizons_of_monthly_views_are_in_months(raw, close):
    view = replace(close, name="monthly", horizon_unit="month", largest_gap=0, horizon=2)
    months = [f"2018-{month:02}-01" for month in range(1, 10) if month != 5]
    raw.append_observations(
        pd.DataFrame({"period": pd.to_datetime(months)}).assign(
            value=[float(month[5:7]) for month in months],
            known_at=pd.to_datetime(months, utc=True) + pd.Timedelta(days=45),
        )
    )
    windows = read(raw, view)
    assert windows.index["as_of"].dt.month.tolist() == [3, 4, 8, 9]
    assert np.isnan(windows.y).all()
    spanning = replace(view, name="spanning", largest_gap=1, horizon=1)
    windows = read(raw, spanning)
    assert windows.index["as_of"].dt.month.tolist() == [3, 4, 6, 7, 8, 9]
    assert windows.y[[0, 2, 3, 4]].tolist() == [4.0, 7.0, 8.0, 9.0]
    assert np.isnan(windows.y[[1, 5]]).all()


def test_gaps_and_horizons_of_weekly_views_are_in_weeks(raw, close):
    """Fridays; Thursday where Friday is a holiday, as on 2018-03-29."""
    view = replace(close, name="weekly", horizon_unit="week", largest_gap=0)
    weeks = ["2018-03-16", "2018-03-23", "2018-03-29", "2018-04-06", "2018-04-20", "2018-04-27"]
    raw.observe(numbered(weeks))
    windows = read(raw, view)
    assert windows.index["as_of"].dt.strftime("%m-%d").tolist() == ["03-29", "04-06"]
    assert windows.y[0] == 4.0
    assert np.isnan(windows.y[1])


# -------------------------------------------------------------------------------- breaks

BREAK = DAYS[5]


@pytest.mark.parametrize("kind", ["split", "level"])
def test_no_window_and_no_label_across_a_price_break(raw, close, kind):
    raw.observe(numbered())
    raw.append_break(kind, BREAK, resolved=DAYS[7])
    windows = read(raw, close)
    assert ends(windows) == [12, 13, 14, 19, 20, 21]
    assert windows.y[:2].tolist() == [4.0, 5.0]
    assert np.isnan(windows.y[2])


def test_a_spike_is_in_no_window(raw, close):
    raw.observe(numbered())
    raw.append_break("spike", DAYS[3], until=DAYS[4], resolved=DAYS[5])
    windows = read(raw, close)
    assert ends(windows) == [12, 19, 20, 21]
    assert windows.X[1, :, 0].tolist() == [6.0, 7.0, 8.0]
    assert np.isnan(windows.y[0])


def test_a_jump_is_real(raw, close):
    raw.observe(numbered())
    raw.append_break("jump", BREAK, resolved=DAYS[7])
    windows = read(raw, close)
    assert len(windows) == 8
    assert windows.y[:-1].tolist() == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]


def test_a_jump_is_a_suspicion_until_it_is_resolved(raw, close):
    raw.observe(numbered())
    raw.append_break("jump", BREAK, resolved=DAYS[8])
    resolved_at = raw.known_at(DAYS[8])
    before = read(raw, close, resolved_at - timedelta(microseconds=1))
    assert ends(before) == [12, 13, 14, 19]
    assert np.isnan(before.y[2])
    assert ends(read(raw, close, resolved_at)) == [12, 13, 14, 17, 18, 19, 20]
    # before the suspicion itself there is nothing to suspect
    assert ends(read(raw, close, raw.known_at(DAYS[4]))) == [12, 13, 14]


def test_a_spike_is_a_suspicion_until_it_is_resolved(raw, close):
    """Nobody knew yet that the level would come back: the rows are a new level so far."""
    raw.observe(numbered())
    raw.append_break("spike", DAYS[2], until=DAYS[4], resolved=DAYS[6])
    suspected = read(raw, close, raw.known_at(DAYS[5]))
    assert ends(suspected) == [14, 17]
    assert ends(read(raw, close, raw.known_at(DAYS[7]))) == [19]


def test_an_unresolved_break_is_pending(raw, close):
    raw.observe(numbered())
    raw.append_break("pending", BREAK)
    assert ends(read(raw, close)) == [12, 13, 14, 19, 20, 21]


def test_a_break_is_that_of_its_own_entity(raw, close):
    for series in ("A", "B", "C"):
        raw.observe(numbered(), series=series)
    raw.append_break("split", BREAK, resolved=DAYS[7], entity="B")
    raw.append_break("split", BREAK, resolved=DAYS[7], entity="BB")
    windows = read(raw, close)
    assert windows.index["entity"].value_counts().to_dict() == {"A": 8, "B": 6, "C": 8}


def test_a_break_on_a_session_without_a_value_lies_before_the_next_one(raw, close):
    raw.observe(without(BREAK))
    raw.append_break("level", BREAK, resolved=DAYS[7])
    windows = read(raw, close)
    assert ends(windows) == [12, 13, 14, 20, 21]


# ----------------------------------------------------------------------------- snapshots


def test_the_same_content_has_the_same_snapshot(raw, close):
    raw.observe(numbered())
    first = read(raw, close)
    assert read(raw, close).data_snapshot == first.data_snapshot
    later = read(raw, close, END + timedelta(days=300))
    assert later.data_snapshot == first.data_snapshot
    raw.clear()
    for day, value in reversed(numbered().items()):
        raw.observe({day: value})
    assert read(raw, close).data_snapshot == first.data_snapshot
    recorded = raw.warehouse.sql("FROM main.data_snapshots")
    assert len(recorded) == 1
    name, view, version, cutoff, rows, oldest, newest = recorded[0]
    assert (name, view, version) == (first.data_snapshot, "close", close.version)
    assert (cutoff, rows) == (END, 10)
    assert (str(oldest), str(newest)) == (DAYS[0], DAYS[-1])


DIFFERENT = {
    "one more row": lambda raw: raw.observe({"2018-12-24": 11.0}),
    "one corrected": lambda raw: raw.observe({DAYS[2]: 3.5}, known_at=END),
    "a break": lambda raw: raw.append_break("split", BREAK, resolved=DAYS[7]),
    "a suspicion": lambda raw: raw.append_break("pending", BREAK),
    "another series": lambda raw: raw.observe({DAYS[0]: 1.0}, series="OTHER"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_content_has_another_snapshot(raw, close, what):
    cutoff = pd.Timestamp("2018-12-26", tz="UTC")
    raw.observe(numbered())
    first = read(raw, close, cutoff)
    DIFFERENT[what](raw)
    assert read(raw, close, cutoff).data_snapshot != first.data_snapshot


def test_the_version_of_the_view_and_the_time_of_knowing_are_in_the_snapshot(raw, close):
    raw.observe(numbered())
    first = read(raw, close)
    assert read(raw, replace(close, window=4)).data_snapshot != first.data_snapshot
    raw.clear()
    raw.observe({day: value for day, value in numbered().items() if day != DAYS[0]})
    raw.observe({DAYS[0]: 1.0}, known_at=raw.known_at(DAYS[1]))
    assert read(raw, close).data_snapshot != first.data_snapshot


# ----------------------------------------------------------------------- memory of features

RECALL = {"inputs": (Input("observations", memory=2),), "window": 1}


def recalling(close, memory=2, **change):
    """Closes, and one that says it looks back over `memory` rows."""
    return replace(
        close,
        name="recalling",
        features=(Feature("close"), Feature("before", memory)),
        sql=close.sql.replace("known_at", "value AS before, known_at"),
        **(RECALL | change),
    )


def test_a_feature_has_no_value_within_its_memory_after_a_break(raw, close):
    raw.observe(numbered())
    raw.append_break("level", BREAK, resolved=DAYS[7])
    windows = read(raw, recalling(close))
    assert ends(windows) == [12, 13, 14, 19, 20, 21]
    # the break does not matter to what does not look back
    alone = read(raw, recalling(close), features=["close"])
    assert ends(alone) == [int(day[-2:]) for day in DAYS]


def test_a_feature_has_no_value_within_its_memory_after_a_long_gap(raw, close):
    raw.observe(without(*DAYS[3:7]))
    assert ends(read(raw, recalling(close, memory=1))) == [11, 12, 20, 21]


def test_a_break_masks_as_it_was_judged_at_the_cutoff(raw, close):
    raw.observe(numbered())
    raw.append_break("jump", DAYS[6], resolved=DAYS[8])
    resolved_at = raw.known_at(DAYS[8])
    view = recalling(close)
    assert ends(read(raw, view, raw.known_at(DAYS[5]))) == [12, 13, 14, 17]
    assert ends(read(raw, view, resolved_at - timedelta(microseconds=1))) == [12, 13, 14, 17]
    assert ends(read(raw, view, resolved_at)) == [12, 13, 14, 17, 18, 19, 20]


def test_a_split_that_is_known_masks_nothing(raw, close):
    raw.observe(numbered(), series="KO")
    raw.append_break("pending", DAYS[6], entity="KO")
    told = raw.known_at(DAYS[8])
    split = {"entity": ["KO"], "ex_date": pd.to_datetime([DAYS[6]]), "kind": "split"}
    raw.append_actions(pd.DataFrame(split | {"factor": 2.0, "known_at": [told]}))
    before = read(raw, recalling(close), told - timedelta(microseconds=1))
    assert ends(before) == [12, 13, 14, 17]
    assert ends(read(raw, recalling(close), told)) == [12, 13, 14, 17, 18, 19, 20]


def test_no_label_is_made_of_a_value_that_is_masked(raw, close):
    raw.observe(numbered())
    raw.append_break("level", BREAK, resolved=DAYS[7])
    view = replace(recalling(close), target="before")
    windows = read(raw, view, features=["close"])
    labelled = dict(zip(ends(windows), windows.y.tolist(), strict=True))
    assert [day for day, label in labelled.items() if np.isnan(label)] == [10, 14, 17, 21]
    assert labelled[19] == 9.0


def test_the_beginning_of_a_history_is_masked_once(raw, close):
    view = replace(
        close,
        name="summed",
        sql=None,
        transform=lambda inputs: {
            "close": inputs["observations"].sum(inputs["observations"]["value"], 3)
        },
        inputs=(Input("observations", memory=2),),
        features=(Feature("close", 2),),
        window=1,
    )
    raw.observe(numbered())
    assert ends(read(raw, view))[0] == 12


# --------------------------------------------------------------------------------- choices


def test_chosen_features_stand_in_the_order_asked_for(raw, close):
    view = replace(
        close,
        name="three",
        features=(Feature("close"), Feature("root"), Feature("holed")),
        target="holed",
        sql=close.sql.replace(
            "known_at", "sqrt(value) AS root, nullif(value, 5) AS holed, known_at"
        ),
    )
    raw.observe(numbered())
    windows = read(raw, view, features=["root", "close"])
    assert windows.X.shape == (8, 3, 2)
    assert windows.X[1, :, 1].tolist() == [2.0, 3.0, 4.0]
    np.testing.assert_array_equal(windows.X[:, :, 0], np.sqrt(windows.X[:, :, 1]))
    # the target counts for labels though it is not read; its hole costs no window
    assert windows.y.tolist()[:3] == [4.0, pytest.approx(np.nan, nan_ok=True), 6.0]
    assert ends(read(raw, view)) == [12, 13, 19, 20, 21]


def test_an_unknown_feature_is_named(raw, close):
    raw.observe(numbered())
    with pytest.raises(LookbackError, match="view close has no feature open, volume"):
        read(raw, close, features=["volume", "close", "open"])


def test_chosen_entities_are_read_as_among_all(raw, close):
    for number, series in enumerate("ABC"):
        raw.observe({day: value + number for day, value in numbered().items()}, series=series)
    raw.append_break("level", BREAK, entity="B")
    every = read(raw, close)
    chosen = read(raw, close, entities=["C", "B", "nobody"])
    rows = every.index["entity"].isin(["B", "C"]).to_numpy()
    np.testing.assert_array_equal(chosen.X, every.X[rows])
    np.testing.assert_array_equal(chosen.y, every.y[rows])
    assert chosen.index["entity"].tolist() == every.index["entity"][rows].tolist()
    assert len(read(raw, close, entities=["nobody"])) == 0


def test_month_and_weekday_are_columns_where_declared(raw, close):
    view = replace(close, name="static", static=("symbol", "month", "weekday"))
    raw.observe(numbered())
    windows = read(raw, view)
    assert windows.index["month"].tolist() == [12] * 8
    assert windows.index["weekday"].tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert not {"month", "weekday"} & set(read(raw, close).index)


# -------------------------------------------------------------------------------- universes


def join_universe(raw, entity, first, last=None, known_at="2018-12-01", universe="large"):
    row = {
        "universe": [universe],
        "entity": [entity],
        "first_session": pd.to_datetime([first]),
        "last_session": pd.to_datetime([last]),
        "known_at": [pd.Timestamp(known_at, tz="UTC")],
    }
    raw.append_memberships(pd.DataFrame(row))


def members(windows):
    """Days on which windows end, by entity."""
    days = windows.index["as_of"].dt.day
    return {name: days[windows.index["entity"] == name].tolist() for name in "ABC"}


def test_windows_of_a_universe_end_while_their_entity_is_a_member(raw, close):
    for series in "ABC":
        raw.observe(numbered(), series=series)
    join_universe(raw, "A", "2018-12-01", DAYS[4])
    join_universe(raw, "A", DAYS[7], DAYS[8])
    join_universe(raw, "B", DAYS[6])
    join_universe(raw, "C", "2018-12-01", universe="small")
    windows = read(raw, close, universe="large")
    assert members(windows) == {"A": [12, 13, 14, 19, 20], "B": [18, 19, 20, 21], "C": []}
    # a window reaches back before the membership, and its label beyond
    first = (windows.index["entity"] == "B").to_numpy().argmax()
    assert windows.X[first, :, 0].tolist() == [5.0, 6.0, 7.0]
    last = np.flatnonzero((windows.index["entity"] == "A").to_numpy())[-1]
    assert windows.y[last] == 10.0
    day = pd.Timestamp(DAYS[8]).date()
    assert read(raw, close, universe="large", as_of=day).index["entity"].tolist() == ["A", "B"]


def test_members_are_those_known_at_the_cutoff(raw, close):
    raw.observe(numbered(), series="A")
    join_universe(raw, "A", DAYS[2])
    left = raw.known_at(DAYS[8])
    # it turns out that it had left: a newer vintage of the same membership
    join_universe(raw, "A", DAYS[2], DAYS[5], known_at=left.tz_localize(None))
    before = read(raw, close, left - timedelta(microseconds=1), universe="large")
    assert members(before)["A"] == [12, 13, 14, 17, 18, 19]
    assert members(read(raw, close, left, universe="large"))["A"] == [12, 13, 14, 17]


def test_a_universe_that_is_not_known_yet_is_refused(raw, close):
    raw.observe(numbered(), series="A")
    join_universe(raw, "A", DAYS[2], known_at="2018-12-20")
    with pytest.raises(LookbackError, match=r"no universe 'middle' .* there are: large"):
        read(raw, close, universe="middle")
    with pytest.raises(LookbackError, match=r"no universe 'large' is known .* there are: none"):
        read(raw, close, raw.known_at(DAYS[4]), universe="large")


# ----------------------------------------------------------------------------- one date alone


def assert_as_of_reads_are_those_of_all(raw, view, cutoff, days):
    every = read_windows(raw.warehouse, view, cutoff)
    found = 0
    for day in days:
        one = read_windows(raw.warehouse, view, cutoff, as_of=day)
        rows = (every.index["as_of"] == pd.Timestamp(day)).to_numpy()
        expected = every.take(rows)
        assert same_bits(one.X, expected.X)
        assert same_bits(one.y, expected.y)
        # categories are the entities that were read
        index = [got.index.astype({"entity": str}) for got in (one, expected)]
        pd.testing.assert_frame_equal(*index)
        found += len(one)
    return found


def prices_of(chance, calendar, size=1100):
    """Bars of symbols that are old, young, full of holes, seldom traded, or ended."""
    days = calendar.days[calendar.days < np.datetime64("2019-01-01")][-size:]
    chosen = {
        "OLD": np.arange(size),
        "YOUNG": np.arange(size - 400, size),
        "HOLED": np.flatnonzero(chance.random(size) < 0.9),
        "GAPPED": np.r_[np.arange(300), np.arange(320, 700), np.arange(720, size)],
        "SELDOM": np.arange(0, size, 4),
        "ENDED": np.arange(size - 30),
    }
    frames = []
    for entity, rows in chosen.items():
        price = 100 * np.exp(np.cumsum(chance.normal(0, 0.02, len(rows))))
        frame = pd.DataFrame({"session": days[rows].astype("datetime64[us]"), "close": price})
        frames.append(frame.assign(entity=entity, volume=chance.integers(100, 999, len(rows))))
    return pd.concat(frames, ignore_index=True), days


@pytest.fixture
def all_views(raw):
    """Every view of bars, and that of the index, over awkward entities with breaks."""
    chance = np.random.default_rng(11)
    bars, days = prices_of(chance, raw.calendar)
    known = AfterClose(1).known_at(bars["session"], raw.calendar)
    raw.append_bars(bars.assign(known_at=known, adj_close=bars["close"]))
    sessions = [str(day) for day in days]
    raw.observe(dict(zip(sessions, 1000 + chance.normal(0, 5, len(days)), strict=True)))
    # right before the rows that a read of the last date needs, and inside a window's memory
    for back in (70, 90, 316, 317, 340):
        for entity in ("OLD", "HOLED", "ENDED"):
            raw.append_break("level", sessions[-back], entity=entity)
    raw.append_break("spike", sessions[-330], until=sessions[-318], resolved=sessions[-310])
    for entity in ("YOUNG", "SELDOM", "OLD"):
        raw.append_break(
            "spike",
            sessions[-200],
            until=sessions[-190],
            resolved=sessions[-185],
            entity=entity,
        )
    talked = bars[chance.random(len(bars)) < 0.2]
    raw.append_days(
        talked[["entity", "session"]].assign(
            documents=1,
            sentiment=0.1,
            dispersion=0.0,
            novelty=1.0,
            novel_sentiment=chance.uniform(-1, 1, len(talked)),
            known_at=AfterClose(0).known_at(talked["session"], raw.calendar),
        )
    )
    return [view for view in feature_views().values() if "macro" not in view.name], days


def test_a_read_of_one_date_is_that_date_of_a_whole_read(raw, all_views):
    views, days = all_views
    dates = [day.astype(object) for day in (*days[-3:], days[-31], days[-75], days[-150])]
    cutoff = raw.known_at(str(days[-1]), hours=5)
    for view in views:
        materialize(raw.warehouse, view)
        found = 0
        for one in (cutoff, raw.known_at(str(days[-25]))):
            found += assert_as_of_reads_are_those_of_all(raw, view, one, dates)
        assert found, view.name


def test_a_break_anywhere_around_the_rows_needed_changes_no_read_of_one_date(raw, close):
    """Windows of three rows with a memory of two need five rows, and one break may be anywhere."""
    view = replace(recalling(close), window=3)
    days = [str(day) for day in raw.calendar.days[-120:]]
    for number, series in enumerate("ABCDEFGH"):
        raw.observe(numbered(days), series=series)
        raw.append_break("level", days[-52 - 3 - number], entity=series)
        raw.append_break("level", days[-3 - number], entity=series)
    materialize(raw.warehouse, view)
    dates = [pd.Timestamp(day).date() for day in days[-12:]]
    assert assert_as_of_reads_are_those_of_all(raw, view, raw.known_at(days[-1]), dates)
