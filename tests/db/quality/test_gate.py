"""The gate: each rule on a dirty frame, both judges in agreement, nothing lost."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.availability import AfterClose, AfterPeriod
from db.errors import UsageError
from db.quality import expectations, gate
from db.quality.data_docs import write_data_docs
from db.quality.findings import find
from db.quality.gate import Batch, Limits, Verdict, validate
from db.quality.spikes import BREAK_COLUMNS, no_breaks
from db.quality.suites import increment_rules, row_rules
from db.quality.verdict import divide
from db.sessions import sessions
from db.sources.source import BAR_COLUMNS

NIGHT = date(2018, 12, 28)
AFTER_CLOSE = datetime(2018, 12, 29, 3, tzinfo=UTC)


def sound_bars(entities: int = 2, days: int = 8, end: date = NIGHT) -> pd.DataFrame:
    """Bars without a fault, sorted by entity and session."""
    calendar = sessions()
    stamps = [pd.Timestamp(calendar.offset(end, -n)) for n in range(days - 1, 0, -1)]
    stamps.append(pd.Timestamp(end))
    frame = pd.DataFrame(
        [(f"E{number:02d}", stamp) for number in range(entities) for stamp in stamps],
        columns=["entity", "session"],
    )
    frame["session"] = frame["session"].astype("datetime64[us]")
    frame["entity"] = frame["entity"].astype("str")
    close = 100.0 + np.arange(len(frame)) * 0.01
    return frame.assign(
        open=close, high=close + 1, low=close - 1, close=close, adj_close=close, volume=1000.0
    )


def sound_months(months: int = 12, series: tuple[str, ...] = ("CPI",)) -> pd.DataFrame:
    periods = pd.date_range("2018-01-01", periods=months, freq="MS").as_unit("us")
    frame = pd.DataFrame([(name, p, 1.5) for name in series for p in periods])
    return frame.set_axis(["series", "period", "value"], axis=1)


def bars_batch(frame: pd.DataFrame, **changes: Any) -> Batch:
    given_: dict[str, Any] = {
        "source": "test_bars",
        "kind": "bars",
        "frequency": "session",
        "adjustment": "split",
        "frame": frame,
        "session": NIGHT,
        "until": AFTER_CLOSE,
        "sessions": sessions(),
        "availability": AfterClose(2),
    }
    return Batch(**(given_ | changes))


def months_batch(frame: pd.DataFrame, **changes: Any) -> Batch:
    given_ = {
        "source": "test_months",
        "kind": "observations",
        "frequency": "month",
        "adjustment": "raw",
        "availability": AfterPeriod(15, "month"),
    }
    return bars_batch(frame, **(given_ | changes))


def quiet_judge(path: pd.DataFrame) -> pd.DataFrame:
    return no_breaks()


def spike_judge(*spikes: tuple[str, str, str]) -> Any:
    """A judge that finds these spikes: entity, first and last session."""

    def judge(path: pd.DataFrame) -> pd.DataFrame:
        assert not path.duplicated(["entity", "session"]).any()
        rows = [
            (entity, pd.Timestamp(first), "spike", 9.0, pd.Timestamp(last), pd.NaT, "9-fold")
            for entity, first, last in spikes
        ]
        return pd.DataFrame(rows, columns=list(BREAK_COLUMNS))

    return judge


def judged(batch: Batch, judge: Any = quiet_judge) -> dict[int, tuple[str, str]]:
    """Rejected rows by position, with rule and reason, by the predicates alone."""
    accepted, rejected = divide(batch, find(batch, Limits(), judge), None)
    assert len(accepted) + len(rejected) == len(batch.frame)
    return {
        int(row): (rule, reason)
        for row, rule, reason in zip(
            rejected.index, rejected["rule"], rejected["reason"], strict=True
        )
    }


def with_cells(frame: pd.DataFrame, cells: dict[tuple[int, str], Any]) -> pd.DataFrame:
    changed = frame.copy()
    for (row, column), value in cells.items():
        if isinstance(value, str) and column not in ("entity", "series"):
            changed[column] = changed[column].astype(object)
        changed.loc[row, column] = value
    return changed


BAR_FAULTS = [
    ({(3, "entity"): None}, "entity_given", "entity is missing or is no text"),
    ({(3, "entity"): "  "}, "entity_given", "entity is missing or is no text"),
    ({(3, "session"): pd.NaT}, "date_given", "session is missing or cannot be read as a date"),
    ({(3, "session"): "soon"}, "date_given", "session is missing or cannot be read as a date"),
    (
        {(3, "session"): pd.Timestamp("2018-12-21 16:00")},
        "date_only",
        "session has a time of day",
    ),
    (
        {(3, "session"): pd.Timestamp("2018-12-25")},
        "in_calendar",
        "session is no trading day of the exchange",
    ),
    (
        {(3, "session"): pd.Timestamp("2018-12-31")},
        "not_future",
        "session had not closed when the rows were fetched",
    ),
    ({(3, "volume"): "many"}, "volume_readable", "volume cannot be read as a number"),
    ({(3, "open"): "n/a"}, "open_readable", "open cannot be read as a number"),
    (
        {(3, "close"): np.nan, (3, "adj_close"): np.nan},
        "price_given",
        "neither close nor adj_close is given",
    ),
    ({(3, "adj_close"): 0.0}, "adj_close_positive", "adj_close is not a finite price above 0"),
    ({(3, "adj_close"): np.inf}, "adj_close_positive", "adj_close is not a finite price above 0"),
    ({(3, "volume"): -1.0}, "volume_not_negative", "volume is not a finite number of 0 or more"),
    ({(3, "open"): 98.0}, "low_to_open", "open lies below low"),
    ({(3, "open"): 102.0}, "open_to_high", "open lies above high"),
    ({(3, "close"): 98.0}, "low_to_close", "close lies below low"),
    ({(3, "close"): 102.0}, "close_to_high", "close lies above high"),
]


@pytest.mark.parametrize(("cells", "rule", "reason"), BAR_FAULTS)
def test_each_bar_fault_rejects_its_row_only(
    cells: dict[tuple[int, str], Any], rule: str, reason: str
) -> None:
    frame = with_cells(sound_bars(), cells)
    assert judged(bars_batch(frame)) == {3: (rule, reason)}


def test_low_above_high_names_all_reasons() -> None:
    frame = with_cells(sound_bars(), {(3, "low"): 101.5, (3, "high"): 100.5})
    (rule, reason) = judged(bars_batch(frame))[3]
    assert rule == "low_to_high"
    assert reason == "low lies above high; open lies below low; close lies below low"


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_prices_must_be_positive(column: str) -> None:
    rejected = judged(bars_batch(with_cells(sound_bars(), {(3, column): -5.0})))
    assert rejected[3][0] == f"{column}_positive"


def test_rounding_of_the_vendor_is_tolerated() -> None:
    frame = with_cells(sound_bars(), {(3, "close"): 101.03 * 1.00005})
    assert judged(bars_batch(frame)) == {}


def test_missing_open_high_low_and_volume_are_no_fault() -> None:
    frame = sound_bars().assign(open=np.nan, high=np.nan, low=np.nan, volume=np.nan)
    frame.loc[2, "close"] = np.nan
    assert judged(bars_batch(frame)) == {}


def test_identical_duplicates_keep_the_first() -> None:
    frame = sound_bars()
    frame = pd.concat([frame, frame.iloc[[3, 3]]], ignore_index=True)
    repeats = ("duplicate", "repeats an earlier row in every column")
    assert judged(bars_batch(frame)) == {16: repeats, 17: repeats}


def test_conflicting_duplicates_are_all_rejected() -> None:
    frame = sound_bars()
    frame = pd.concat([frame, frame.iloc[[3]].assign(close=100.5)], ignore_index=True)
    conflict = ("conflict", "another row has the same entity and session but other values")
    assert judged(bars_batch(frame)) == {3: conflict, 16: conflict}


def test_two_releases_of_one_month_are_vintages() -> None:
    frame = sound_months().assign(known_at=pd.Timestamp("2018-12-01", tz="UTC"))
    later = frame.iloc[[2]].assign(value=1.6, known_at=pd.Timestamp("2018-12-20", tz="UTC"))
    assert judged(months_batch(pd.concat([frame, later], ignore_index=True))) == {}


@pytest.mark.parametrize(
    ("cells", "rule", "reason"),
    [
        ({(3, "value"): np.nan}, "value_given", "value is missing"),
        ({(3, "value"): "."}, "value_readable", "value cannot be read as a number"),
        ({(3, "value"): -np.inf}, "value_finite", "value is not finite"),
        ({(11, "period"): pd.Timestamp("2019-01-01")}, "not_future", "period lies in the future"),
    ],
)
def test_each_observation_fault_rejects_its_row_only(
    cells: dict[tuple[int, str], Any], rule: str, reason: str
) -> None:
    rejected = judged(months_batch(with_cells(sound_months(), cells)))
    row = next(iter(cells))[0]
    assert list(rejected) == [row]
    assert rejected[row][0] == rule
    assert reason in rejected[row][1]


def test_spike_rows_are_rejected_with_the_judges_reason() -> None:
    judge = spike_judge(("E00", "2018-12-20", "2018-12-21"))
    rejected = judged(bars_batch(sound_bars()), judge)
    assert rejected == {2: ("spike", "9-fold"), 3: ("spike", "9-fold")}


def test_history_stands_before_the_increment_when_breaks_are_judged() -> None:
    whole = sound_bars(days=30)
    new = whole[whole["session"] >= "2018-12-26"]
    stored = whole[whole["session"] < "2018-12-28"].assign(adj_close=50.0, close=50.0)
    seen: list[pd.DataFrame] = []

    def judge(path: pd.DataFrame) -> pd.DataFrame:
        seen.append(path)
        return no_breaks()

    judged(bars_batch(new.sample(frac=1, random_state=1), history=stored), judge)
    path = seen[0]
    assert list(path.columns) == ["entity", "session", "price", "volume"]
    assert path[["entity", "session"]].equals(whole[["entity", "session"]])
    # a split-adjusted history comes on the increment's scale: 50 became about 100
    assert path["price"].between(99, 102).all()


def test_known_splits_reach_the_judge() -> None:
    seen: list[pd.DataFrame] = []

    def judge(path: pd.DataFrame) -> pd.DataFrame:
        seen.append(path)
        return no_breaks()

    columns = ["entity", "ex_date", "kind", "factor"]
    actions = pd.DataFrame([("E00", pd.Timestamp("2018-12-26"), "split", 2.0)], columns=columns)
    judged(bars_batch(sound_bars(), adjustment="raw", actions=actions), judge)
    known = seen[0].dropna(subset=["split_ratio"])
    assert known["session"].tolist() == [pd.Timestamp("2018-12-26")]
    assert known["split_ratio"].tolist() == [0.5]


def test_a_bad_print_is_found_by_the_real_judge() -> None:
    frame = sound_bars(entities=1, days=120)
    frame.loc[100, ["open", "high", "low", "close", "adj_close"]] *= 50
    rejected = judged(bars_batch(frame), None)
    assert list(rejected) == [100]
    assert rejected[100][0] == "spike"


def dirty_bars() -> pd.DataFrame:
    """Every row fault of `BAR_FAULTS` once, each in a symbol of its own, and duplicates."""
    parts = [
        with_cells(sound_bars(1), cells).assign(entity=lambda f, n=n: f["entity"] + f"-{n}")
        for n, (cells, _, _) in enumerate(BAR_FAULTS)
    ]
    sound = sound_bars(3)
    low_high = with_cells(sound_bars(1), {(1, "low"): 101.5, (1, "high"): 100.5})
    frame = pd.concat(
        [*parts, low_high.assign(entity="LH"), sound, sound.iloc[[1, 1]]], ignore_index=True
    )
    return pd.concat([frame, sound.iloc[[20]].assign(close=100.5)], ignore_index=True)


@pytest.fixture(scope="module")
def dirty_verdict() -> Verdict:
    judge = spike_judge(("E02", "2018-12-18", "2018-12-20"))
    return validate(bars_batch(dirty_bars()), judge=judge)


def test_expectations_and_predicates_count_the_same(dirty_verdict: Verdict) -> None:
    batch = bars_batch(dirty_bars())
    findings = find(batch, Limits(), spike_judge(("E02", "2018-12-18", "2018-12-20")))
    rules = {rule.name: rule for rule in row_rules("bars", "session")}
    results = {result.rule: result for result in dirty_verdict.results if result.level == "row"}
    assert results.keys() == rules.keys()
    for name, rule in rules.items():
        if "skipped" not in results[name].detail:
            assert results[name].unexpected == findings.count(rule), name
            assert results[name].evaluated == len(batch.frame)
            assert results[name].success == (results[name].unexpected == 0)
    assert dirty_verdict.stopped is None


def test_a_dirty_increment_is_accepted_in_part(dirty_verdict: Verdict) -> None:
    frame = dirty_bars()
    assert len(dirty_verdict.accepted) + len(dirty_verdict.rejected) == len(frame)
    assert dirty_verdict.accepted.dtypes["volume"] == np.float64
    assert dirty_verdict.accepted.dtypes["session"].kind == "M"
    assert list(dirty_verdict.rejected.columns) == [*BAR_COLUMNS, "rule", "reason"]
    assert set(dirty_verdict.rejected["rule"]) >= {rule for _, rule, _ in BAR_FAULTS[:-2]}
    assert dirty_verdict.rejected.loc[27, "session"] == "soon"
    assert not set(dirty_verdict.accepted.index) & set(dirty_verdict.rejected.index)
    assert list(dirty_verdict.breaks["kind"]) == ["spike"]


def test_observations_agree_too() -> None:
    cells = {(3, "value"): ".", (4, "value"): np.inf, (5, "series"): None}
    frame = with_cells(sound_months(), cells)
    frame = pd.concat([frame, frame.iloc[[0]], frame.iloc[[1]].assign(value=9)], ignore_index=True)
    verdict = validate(months_batch(frame))
    # the series without a name leaves a hole in no series but is a month of its own
    failed = {r.rule: r.unexpected for r in verdict.results if not r.success and r.level == "row"}
    assert failed == {
        "entity_given": 1, "duplicate": 1, "conflict": 2, "value_readable": 1,
        "value_given": 1, "value_finite": 1,
    }  # fmt: skip
    assert len(verdict.accepted) + len(verdict.rejected) == len(frame)


def test_a_contradiction_stops_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = gate.run_suites

    def forgetful(source: str, suites: Any) -> Any:
        validations = honest(source, suites)
        outcome = validations[0].outcomes["price_given"]
        validations[0].outcomes["price_given"] = expectations.Outcome(
            outcome.expectation, False, outcome.evaluated, 2
        )
        return validations

    monkeypatch.setattr(gate, "run_suites", forgetful)
    verdict = validate(bars_batch(sound_bars()), judge=quiet_judge)
    assert verdict.accepted.empty
    assert set(verdict.rejected["rule"]) == {"table: agreement"}
    assert verdict.stopped is not None
    assert "Great Expectations counts 2 failures, the predicate 0" in verdict.stopped


def failed_measures(batch: Batch) -> dict[str, str]:
    findings = find(batch, Limits(), quiet_judge)
    return {
        rule.name: findings.measures.found[rule.check.columns[0]]
        for rule in findings.failed_measures
    }


def test_missing_columns_stop_everything() -> None:
    frame = sound_bars().drop(columns=["close", "volume"])
    verdict = validate(bars_batch(frame), judge=quiet_judge)
    assert verdict.stopped == "columns are missing (missing: close, volume)"
    assert verdict.accepted.empty
    assert len(verdict.rejected) == len(frame)
    assert set(verdict.rejected["rule"]) == {"table: columns"}
    assert set(verdict.rejected["reason"]) == {verdict.stopped}
    assert verdict.breaks.empty


@pytest.mark.parametrize("column", ["session", "close"])
def test_a_column_of_another_type_stops_everything(column: str) -> None:
    frame = sound_bars().assign(**{column: "text"})
    assert "types" in failed_measures(bars_batch(frame))


def test_a_stopped_increment_keeps_the_reasons_of_bad_rows() -> None:
    frame = with_cells(sound_bars(), {(3, "close"): np.nan, (3, "adj_close"): np.nan})
    frame = frame[(frame["session"] < "2018-12-27")]
    early = sound_bars(days=3, end=date(2018, 11, 1))
    verdict = validate(
        bars_batch(pd.concat([frame, early], ignore_index=True)),
        judge=spike_judge(("E01", "2018-12-26", "2018-12-26")),
    )
    rules = verdict.rejected["rule"].value_counts()
    assert rules["price_given"] == 1
    assert rules["spike"] == 1
    assert rules["table: gap"] == len(verdict.rejected) - 2
    assert verdict.accepted.empty
    assert verdict.breaks.empty
    assert verdict.stopped is not None
    assert "2018-11-02 to 2018-12-17" in verdict.stopped


def test_a_gap_of_ten_sessions_passes_and_eleven_stop() -> None:
    bars = sound_bars(1, days=30)
    for length, stops in ((10, False), (11, True)):
        holed = bars.drop(index=range(5, 5 + length))
        assert ("gap" in failed_measures(bars_batch(holed))) is stops


def test_stored_sessions_fill_a_gap_and_old_gaps_are_no_news() -> None:
    bars = sound_bars(1, days=60)
    ends = bars.iloc[[30, 59]]
    middle = bars.iloc[31:59]
    assert "gap" in failed_measures(bars_batch(ends))
    assert failed_measures(bars_batch(ends, history=middle)) == {}
    assert failed_measures(bars_batch(bars.iloc[50:], history=bars.iloc[[1, 30, 49]])) == {}


def test_a_missing_month_stops() -> None:
    frame = sound_months(series=("A", "B"))
    found = failed_measures(months_batch(frame.drop(index=[14, 15])))
    assert found["gap"] == "B: 2 missing, 2018-03 to 2018-04"
    stored = frame.iloc[[14, 15]]
    assert failed_measures(months_batch(frame.drop(index=[14, 15]), history=stored)) == {}


def test_a_month_without_value_is_no_gap() -> None:
    frame = with_cells(sound_months(), {(5, "value"): np.nan})
    assert failed_measures(months_batch(frame)) == {}
    after = frame.iloc[[6]]
    assert "gap" not in failed_measures(months_batch(after, history=frame.iloc[:5]))


def test_a_month_that_the_source_marks_as_missing_is_no_gap() -> None:
    frame = sound_months(series=("A", "B"))
    holed = frame.drop(index=[14, 15, 18])
    april = date(2018, 4, 1)
    marked = (("B", date(2018, 3, 1)), ("B", april), ("B", date(2018, 7, 1)))
    assert failed_measures(months_batch(holed, marked_missing=marked)) == {}
    found = failed_measures(months_batch(holed, marked_missing=marked[1:]))["gap"]
    assert found.startswith("B: 1 missing")
    # of another series, or beside a value, a mark says nothing
    others = (("A", april), *marked[:2], ("C", date(2018, 7, 1)))
    assert failed_measures(months_batch(holed, marked_missing=others))["gap"].startswith("B: 1 ")
    assert failed_measures(months_batch(frame, marked_missing=marked)) == {}
    # the months on both sides are revised together later on
    beside = frame.iloc[[13, 16]]
    stored = frame.drop(index=[14, 15])
    assert "gap" in failed_measures(months_batch(beside, history=stored))
    assert failed_measures(months_batch(beside, history=stored, marked_missing=marked)) == {}


@pytest.mark.parametrize(("newest", "stops"), [(3, True), (6, False), (12, False)])
def test_the_newest_session_has_about_as_many_rows_as_usual(newest: int, stops: bool) -> None:
    bars = sound_bars(12)
    few = bars[(bars["session"] < "2018-12-28") | (bars["entity"] < f"E{newest:02d}")]
    split = few["session"] < "2018-12-26"
    found = failed_measures(bars_batch(few[~split], history=few[split]))
    assert ("row_count" in found) is stops


def test_twice_the_usual_rows_stop() -> None:
    bars = sound_bars(25)
    sudden = bars[(bars["session"] == "2018-12-28") | (bars["entity"] < "E12")]
    assert failed_measures(bars_batch(sudden)) == {
        "row_count": "25 rows in the newest session, usually 12"
    }


def test_a_handful_of_entities_or_sessions_is_not_counted() -> None:
    bars = sound_bars(5)
    one = bars[(bars["session"] < "2018-12-28") | (bars["entity"] == "E00")]
    assert failed_measures(bars_batch(one)) == {}
    assert "row_count" not in failed_measures(bars_batch(sound_bars(12, days=4).iloc[:-11]))


def test_stale_rows_are_accepted_and_reported() -> None:
    verdict = validate(bars_batch(sound_bars(end=date(2018, 12, 20))), judge=quiet_judge)
    assert verdict.stopped is None
    assert verdict.stale == "newest session 2018-12-20, 5 sessions behind"
    assert verdict.rejected.empty
    failed = [result for result in verdict.results if not result.success]
    assert [(r.rule, r.level, r.detail) for r in failed] == [("stale", "table", verdict.stale)]


def test_what_is_not_due_yet_is_not_stale() -> None:
    late = bars_batch(sound_bars(end=date(2018, 11, 30)), availability=AfterPeriod(28, "day"))
    assert failed_measures(late) == {}


def test_a_month_is_stale_when_its_publication_is_overdue() -> None:
    assert failed_measures(months_batch(sound_months(10))) == {
        "stale": "CPI: newest period 2018-10-01, 13 days overdue"
    }
    assert failed_measures(months_batch(sound_months(11))) == {}


def test_one_stale_series_is_named() -> None:
    frame = pd.concat([sound_months(11), sound_months(6, ("OLD",))], ignore_index=True)
    assert failed_measures(months_batch(frame))["stale"].startswith("OLD: newest period 2018-06-01")
    # the series of a vintage come together: one that was given up makes none stale
    assert failed_measures(months_batch(frame, vintages=True)) == {}
    found = failed_measures(months_batch(sound_months(10), vintages=True))["stale"]
    assert found.startswith("newest period 2018-10-01")


def test_an_empty_increment_judges_age_without_great_expectations() -> None:
    code = """
import sys, time
import pandas as pd
from tests.db.quality.test_gate import *
sessions()
batch = bars_batch(sound_bars().iloc[:0], history=sound_bars(end=date(2018, 12, 20)))
started = time.perf_counter()
verdict = validate(batch)
seconds = time.perf_counter() - started
assert verdict.stale == "newest session 2018-12-20, 5 sessions behind", verdict
assert verdict.stopped is None and verdict.accepted.empty and verdict.rejected.empty
assert not any(name.startswith("great_expectations") for name in sys.modules)
assert seconds < 0.1, seconds
nothing = validate(bars_batch(sound_bars().iloc[:0]))
assert nothing.stopped == "no rows were delivered and none are stored"
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_memberships_have_no_suite() -> None:
    with pytest.raises(UsageError, match="no suite for memberships"):
        validate(bars_batch(sound_bars(), kind="memberships"))


def test_each_rule_of_documents_by_both_judges(tmp_path: Path) -> None:
    now = pd.Timestamp(AFTER_CLOSE)
    sound = {
        "document_id": "a",
        "text": "Up",
        "instant": now,
        "known_at": None,
        "released": pd.NaT,
        "refused": None,
    }
    later = now + pd.Timedelta(seconds=1)
    faults: dict[str, dict[str, Any]] = {
        "": {},
        "file_readable": {"text": None, "instant": pd.NaT, "refused": "file_readable"},
        "file_size": {"text": None, "instant": pd.NaT, "refused": "file_size"},
        "file_encoding": {"text": None, "instant": pd.NaT, "refused": "file_encoding"},
        "file_empty": {"text": None, "instant": pd.NaT, "refused": "file_empty"},
        "row_readable": {"text": None, "instant": pd.NaT, "refused": "row_readable"},
        "text_given": {"text": " \n\u00a0"},
        "text_length": {"text": "ü" * 6},  # twelve bytes
        "time_readable": {"instant": pd.NaT},
        "known_at_readable": {"known_at": "soon"},
        "not_future": {"instant": later},
    }
    frame = pd.DataFrame([sound | fault for fault in faults.values()])
    frame = frame.assign(
        key=range(len(frame)),
        instant=pd.to_datetime(frame["instant"], utc=True),
        released=pd.to_datetime(frame["released"], utc=True),
    )
    frame = pd.concat([frame, frame.iloc[:1].assign(key=99), frame.iloc[:1].assign(key=99)])
    batch = bars_batch(frame.reset_index(drop=True), kind="documents", source="test_texts")
    verdict = validate(batch, tmp_path, limits=Limits(document_bytes=11))
    assert verdict.stopped is None
    assert len(verdict.accepted) == 1
    rules = [*faults, "conflict", "conflict"][1:]
    assert verdict.rejected["rule"].tolist() == rules
    assert not verdict.rejected["reason"].str.contains(";").any()  # one fault each
    judged = {result.rule: result.unexpected for result in verdict.results}
    assert judged == dict.fromkeys(rules, 1) | {"conflict": 2, "columns": 0}
    assert "test_texts" in (tmp_path / "index.html").read_text()


def test_no_new_documents_are_no_defect() -> None:
    frame = pd.DataFrame(columns=["document_id"])
    verdict = validate(bars_batch(frame, kind="documents"))
    assert (verdict.stopped, verdict.stale, len(verdict.rejected)) == (None, None, 0)


@pytest.mark.parametrize("dtype", ["str", "object", "category"])
def test_entities_come_as_text_or_categories(dtype: str) -> None:
    frame = with_cells(sound_bars(), {(3, "close"): 98.0}).astype({"entity": dtype})
    judge = spike_judge(("E01", "2018-12-28", "2018-12-28"))
    history = sound_bars(days=12).iloc[:4].astype({"entity": dtype})
    for past in (None, history):
        assert sorted(judged(bars_batch(frame, history=past), judge)) == [3, 15]


def test_great_expectations_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    validate(bars_batch(sound_bars()), judge=quiet_judge)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_data_docs_name_the_source_and_need_no_network(
    dirty_verdict: Verdict, tmp_path: Path
) -> None:
    empty = validate(
        bars_batch(sound_bars().iloc[:0], source="quiet_bars", history=sound_bars()), tmp_path
    )
    assert empty.stale is None
    index = write_data_docs([dirty_verdict], tmp_path)
    text = index.read_text()
    assert "test_bars" in text
    assert "quiet_bars" in text
    assert "2018-12-28/test_bars.rows.html" in text
    page = (tmp_path / "2018-12-28" / "test_bars.rows.html").read_text()
    assert "close lies above high" in page
    assert "test_bars.rows" in page
    for path in tmp_path.rglob("*.html"):
        content = path.read_text()
        assert "<script" not in content
        assert 'src="http' not in content
        assert "stylesheet" not in content
        assert "E00" not in content, "no values of the data"


CELLS = st.sampled_from(
    [None, np.nan, np.inf, -np.inf, -1.0, 0.0, 1.0, 99.5, 1e308, "x", "12.5", ""]
)
ENTITIES = st.sampled_from(["E00", "E01", None, "", 7])
DAYS = st.sampled_from(
    ["2018-12-27", "2018-12-28", "2018-12-25", "2019-01-02", "1900-01-01", None, "x", 5,
     pd.Timestamp("2018-12-26"), pd.Timestamp("2018-12-26 10:00"), date(2018, 12, 24)]
)  # fmt: skip
ROWS = st.lists(st.tuples(ENTITIES, DAYS, *[CELLS] * 6), min_size=1, max_size=25)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, spiked=st.booleans())
def test_no_row_is_lost(rows: list[tuple[Any, ...]], spiked: bool) -> None:
    frame = pd.DataFrame(rows, columns=list(BAR_COLUMNS))
    batch = bars_batch(frame, history=sound_bars())
    judge = spike_judge(("E00", "2018-12-26", "2018-12-28")) if spiked else quiet_judge
    findings = find(batch, Limits(), judge)
    for stop in (None, gate.Stop("test", "held")):
        accepted, rejected = divide(batch, findings, stop)
        assert sorted([*accepted.index, *rejected.index]) == list(range(len(frame)))
        assert rejected["rule"].notna().all()
        assert (rejected["reason"].astype(str).str.len() > 0).all()
        pd.testing.assert_frame_equal(rejected[list(BAR_COLUMNS)], frame.loc[rejected.index])
    if not findings.failed_measures:
        assert not accepted.duplicated(["entity", "session"]).any()


def test_every_rule_has_a_name_of_its_own() -> None:
    for kind in ("bars", "observations"):
        for frequency in ("session", "month"):
            rules = [*row_rules(kind, frequency), *increment_rules(kind, frequency, Limits())]
            names = [rule.name for rule in rules]
            assert len(set(names)) == len(names)


def test_a_series_of_spreads_is_judged_without_ratios() -> None:
    from db.quality.spikes import no_breaks

    assert no_breaks()["session"].dtype == "datetime64[us]"


def test_a_stray_negative_level_does_not_switch_the_gate_off() -> None:
    from db.quality.spikes import _of_levels

    path = pd.DataFrame({"entity": "X", "session": range(300), "price": 100.0})
    path.loc[7, "price"] = -100.0
    levels = _of_levels(path)
    assert len(levels) == 300
    assert levels.loc[7, "price"] == pytest.approx(0.1)
    assert _of_levels(path.assign(price=path["price"] - 100.0)).empty
