"""Taking deliveries over: nothing is lost, nothing is taken twice, all of it or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import ingest, judgements, vintages
from db.errors import QualityError
from db.ingest import Delivery, record_failure
from db.settings import Settings
from db.tables import metadata
from db.warehouse import Warehouse, open_warehouse
from tests.db.deliveries import (
    Told,
    as_of,
    bars,
    counts,
    daily,
    days,
    deliver,
    monthly,
    night_of,
    series,
)

REPOSITORY = Path(__file__).parents[2]
DAYS = days(60)
predicates = pytest.mark.usefixtures("by_predicates")


def path(*values: Any) -> pd.DataFrame:
    return series(dict(zip(DAYS, values, strict=False)))


def contents(warehouse: Warehouse) -> dict[str, list[str]]:
    """Every row of every table but the records of runs."""
    skipped = ("ops.deliveries", "validation_results")
    return {
        table.fullname: sorted(map(str, warehouse.sql(f"FROM {table.fullname}")))
        for table in metadata.sorted_tables
        if table.fullname not in skipped
    }


def quarantined(warehouse: Warehouse) -> list[tuple[str, dict[str, Any]]]:
    rows = warehouse.sql("SELECT rule, row FROM raw.quarantine ORDER BY rule, CAST(row AS VARCHAR)")
    return [(rule, json.loads(row)) for rule, row in rows]


# ----------------------------------------------------------------- with the whole gate


def test_a_first_delivery_by_great_expectations(warehouse: Warehouse) -> None:
    rows = bars({"A": [10.0, 11.0, -5.0, 12.0], "B": [20.0, 21.0, 22.0, 23.0]})
    delivery = deliver(warehouse, Told(rows, state={"etag": "x"}), DAYS[3], run_id="first")
    assert counts(delivery) == (8, 0, 7, 1)
    assert (delivery.status, delivery.problems, delivery.complete) == ("ok", (), True)
    assert warehouse.sql(
        """
        SELECT source, status, fetched, unchanged, appended, quarantined, run_id, problems
        FROM ops.deliveries
        """
    ) == [("told.bars", "ok", 8, 0, 7, 1, "first", "[]")]
    last, state, fetched_at = warehouse.sql(
        "SELECT last_date, state, fetched_at FROM ops.watermarks"
    )[0]
    assert (last, json.loads(state)) == (DAYS[3].date(), {"etag": "x"})
    assert fetched_at == night_of(DAYS[3]).now
    (health,) = warehouse.frame("FROM freshness").to_dict("records")
    assert (health["entities"], health["rows"], health["age"], health["stale"]) == (2, 7, 0, False)
    (failed,) = warehouse.sql(
        """
        SELECT rule, level, unexpected, starts_with(expectation, 'expect_'), run_id
        FROM validation_results WHERE NOT success
        """
    )
    assert failed == ("adj_close_positive", "row", 1, True, "first")
    assert warehouse.one("SELECT count(*) > 15 FROM validation_results") == (True,)
    assert warehouse.sql("SELECT DISTINCT run_id, adjustment, history FROM raw.bars") == [
        ("first", "total", 0)
    ]


def test_an_unchanged_night_adds_nothing_and_imports_no_great_expectations(
    stored: Settings,
) -> None:
    with open_warehouse(stored, "test") as warehouse:
        deliver(warehouse, Told(bars({"A": [10.0, 11.0, 12.0]})), DAYS[2])
        before = contents(warehouse)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys
                from db.settings import load_settings
                from db.warehouse import open_warehouse
                from tests.db.deliveries import Told, bars, counts, days, deliver
                with open_warehouse(load_settings(), "test") as warehouse:
                    delivery = deliver(warehouse, Told(bars({"A": [10.0, 11.0, 12.0]})), days(3)[2])
                heavy = {"great_expectations", "alembic", "tensorflow", "prefect"}
                print(delivery.status, counts(delivery), sorted(heavy & set(sys.modules)))
                """
            ),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "unchanged (3, 3, 0, 0) []", done.stderr
    with open_warehouse(stored, "test") as warehouse:
        assert contents(warehouse) == before


# -------------------------------------------------------------------------- quarantine


@predicates
def test_a_rejected_row_is_kept_once_though_it_comes_every_night(warehouse: Warehouse) -> None:
    source = daily(path(1.0, float("nan"), 3.0))
    assert counts(deliver(warehouse, source, DAYS[2], "first")) == (3, 0, 2, 1)
    for night in (3, 4):
        delivery = deliver(warehouse, source, DAYS[night], "later")
        assert counts(delivery) == (3, 2, 0, 1)
        assert delivery.status == "unchanged"
    assert warehouse.sql("SELECT rule, reason, run_id, date FROM raw.quarantine") == [
        ("value_given", "value is missing", "first", DAYS[1].date())
    ]
    source.rows = path(1.0, 2.0, 3.0)  # the vendor mends it
    assert counts(deliver(warehouse, source, DAYS[5])) == (3, 2, 1, 0)
    assert as_of(warehouse, "observations")[str(DAYS[1].date())] == 2.0


@predicates
def test_text_from_a_file_lies_in_quarantine_as_it_was_written(warehouse: Warehouse) -> None:
    frame = path("1.50", "2,5", "n/a", " 4 ", "0x10")
    source = daily(frame)
    assert counts(deliver(warehouse, source, DAYS[4])) == (5, 0, 2, 3)
    assert {row["value"] for _, row in quarantined(warehouse)} == {"0x10", "2,5", "n/a"}
    assert list(as_of(warehouse, "observations").values()) == [1.5, 4.0]
    assert counts(deliver(warehouse, source, DAYS[5])) == (5, 2, 0, 3)
    assert len(quarantined(warehouse)) == 3


@predicates
def test_numbers_and_text_mixed_in_a_frame_are_judged_row_by_row(warehouse: Warehouse) -> None:
    source = daily(path(1.5, "n/a", 3).astype({"value": "object"}))
    for _ in range(2):
        deliver(warehouse, source, DAYS[2])
    assert list(as_of(warehouse, "observations").values()) == [1.5, 3.0]
    (row,) = quarantined(warehouse)
    assert row[1]["value"] == "n/a"


@predicates
@pytest.mark.parametrize("dtype", ["Int64", "float32", "object"])
def test_rejected_numbers_of_any_type_are_kept_once(dtype: str, warehouse: Warehouse) -> None:
    rows = bars({"A": [10.0, 11.0, 12.0]})
    volume = pd.Series([5, None, -7], dtype="Int64").astype(dtype)
    source = Told(rows.assign(volume=volume), adjustment="raw")
    for night in (2, 3):
        assert deliver(warehouse, source, DAYS[night]).quarantined == 1
    ((rule, _),) = quarantined(warehouse)
    assert rule == "volume_not_negative"


@predicates
def test_a_date_that_is_none_is_kept_with_what_was_written(warehouse: Warehouse) -> None:
    frame = path(1.0, 2.0).assign(period=["2018-12-03", "yesterday"])
    for night in (1, 2):
        assert deliver(warehouse, daily(frame, everything=True), DAYS[night]).quarantined == 1
    assert quarantined(warehouse) == [
        ("date_given", {"series": "X", "period": "yesterday", "value": "2.0"})
    ]


@predicates
def test_a_conflict_that_is_mended_is_taken_over(warehouse: Warehouse) -> None:
    twice = pd.concat([path(1.0, 2.0), path(1.0, 2.5).tail(1)], ignore_index=True)
    source = daily(twice)
    for night in (1, 2):
        delivery = deliver(warehouse, source, DAYS[night])
        assert (delivery.quarantined, len(as_of(warehouse, "observations"))) == (2, 1)
    assert [rule for rule, _ in quarantined(warehouse)] == ["conflict", "conflict"]
    source.rows = path(1.0, 2.5)
    assert counts(deliver(warehouse, source, DAYS[3])) == (2, 1, 1, 0)
    assert as_of(warehouse, "observations")[str(DAYS[1].date())] == 2.5


@predicates
def test_a_conflict_with_a_stored_row_is_seen_and_does_not_alternate(
    warehouse: Warehouse,
) -> None:
    source = daily(path(1.0, 2.0))
    deliver(warehouse, source, DAYS[1])
    source.rows = pd.concat([path(1.0, 2.0), path(1.0, 2.5).tail(1)], ignore_index=True)
    for night in (2, 3, 4):
        assert counts(deliver(warehouse, source, DAYS[night])) == (3, 1, 0, 2)
    assert as_of(warehouse, "observations")[str(DAYS[1].date())] == 2.0
    assert warehouse.one("SELECT count(*) FROM raw.observations") == (2,)
    assert len(quarantined(warehouse)) == 2


@predicates
def test_a_repeated_row_does_not_keep_its_value_out_for_ever(warehouse: Warehouse) -> None:
    source = daily(pd.concat([path(1.0), path(1.0)], ignore_index=True))
    assert counts(deliver(warehouse, source, DAYS[1])) == (2, 0, 1, 1)
    assert counts(deliver(warehouse, source, DAYS[2])) == (2, 2, 0, 0)
    for night, value in ((3, 7.0), (4, 1.0)):
        source.rows = path(value)
        assert counts(deliver(warehouse, source, DAYS[night])) == (1, 0, 1, 0)
    assert list(as_of(warehouse, "observations").values()) == [1.0]
    assert warehouse.one("SELECT count(*) FROM raw.observations") == (3,)


@predicates
def test_a_bar_that_came_before_its_session_closed_is_taken_over_later(
    warehouse: Warehouse,
) -> None:
    source = daily(path(1.0, 2.0, 3.0))
    assert counts(deliver(warehouse, source, DAYS[1])) == (3, 0, 2, 1)
    assert [rule for rule, _ in quarantined(warehouse)] == ["not_future"]
    assert counts(deliver(warehouse, source, DAYS[2])) == (3, 2, 1, 0)
    assert as_of(warehouse, "observations")[str(DAYS[2].date())] == 3.0


@predicates
def test_held_rows_of_a_restated_history_are_counted_once(warehouse: Warehouse) -> None:
    prices = np.arange(100.0, 108.0)
    prices[3] = -1.0
    source = Told(bars({"A": prices}))
    assert counts(deliver(warehouse, source, DAYS[7])) == (8, 0, 7, 1)
    halved = np.arange(100.0, 109.0) / 2
    halved[3] = -1.0
    source.rows = bars({"A": halved})
    assert counts(deliver(warehouse, source, DAYS[8])) == (9, 0, 8, 1)
    assert len(quarantined(warehouse)) == 1


texts = st.sampled_from(
    ["10", "10.5", "11", "1e1", "-3", "0", "nan", "inf", "", " ", "n/a", "12,5", "9" * 400, None]
)
dirty_rows = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "A", "B", "", "  ", None, "Ä'\";--"]),
        st.sampled_from(
            [
                *(str(day.date()) for day in DAYS[:4]),
                "2018-12-05",  # no session
                "2018-12-08",  # a Saturday
                "2999-01-01",
                "2018-13-45",
                "2018-12-03 15:30",
                "soon",
                None,
            ]
        ),
        texts,
        st.sampled_from([None, "5", "-5", "many"]),
    ),
    max_size=12,
)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    nights=st.lists(dirty_rows, min_size=1, max_size=3),
    adjustment=st.sampled_from(["raw", "total"]),
)
@predicates
def test_every_fetched_row_is_stored_or_in_quarantine(
    nights: list[list[tuple[Any, ...]]], adjustment: Any, warehouse: Warehouse
) -> None:
    for table in ("raw.bars", "raw.quarantine", "ops.watermarks", "raw.price_breaks"):
        warehouse.native.execute(f"DELETE FROM {table}")
    appended = 0
    columns = ["entity", "session", "adj_close", "volume"]
    for number, rows in enumerate(nights):
        frame = pd.DataFrame(rows, columns=columns, dtype="object")
        source = Told(frame, adjustment=adjustment, everything=True)
        delivery = deliver(warehouse, source, DAYS[5 + number])
        fetched, unchanged, taken, held = counts(delivery)
        assert fetched >= len(rows)
        assert min(unchanged, taken, held) >= 0
        appended += taken
        assert warehouse.one("SELECT count(*) FROM raw.bars") == (appended,)
        stored = {
            (entity, str(session), price)
            for entity, session, price in warehouse.sql(
                "SELECT entity, session, adj_close FROM raw.bars"
            )
        }
        kept = [row for _, row in quarantined(warehouse)]
        for row in rows:
            assert _is_stored(row, stored) or any(
                tuple(other[name] for name in columns) == row for other in kept
            )


def _is_stored(row: tuple[Any, ...], stored: set[tuple[Any, ...]]) -> bool:
    entity, session, price, _ = row
    try:
        return (entity, session, float(price)) in stored
    except (TypeError, ValueError):
        return False


# -------------------------------------------------------------------------- whole stops


@predicates
def test_a_stopped_delivery_holds_everything_and_a_good_one_takes_it_over(
    warehouse: Warehouse,
) -> None:
    source = daily(path(*np.arange(1.0, 6.0)))
    deliver(warehouse, source, DAYS[4])
    watermark = warehouse.sql("FROM ops.watermarks")
    values = list(np.arange(1.0, 41.0))
    whole = path(*values)
    source.rows = whole.drop(index=range(5, 30))  # 25 sessions are missing
    for night in (39, 40):
        delivery = deliver(warehouse, source, DAYS[night])
        assert delivery.status == "stopped"
        assert not delivery.complete
        assert delivery.appended == 0
        assert "no rows for 25 sessions in a row" in delivery.problems[0]
    assert {rule for rule, _ in quarantined(warehouse)} == {"table: gap"}
    assert len(quarantined(warehouse)) == 10  # once, though held on two nights
    assert warehouse.one("SELECT count(*) FROM raw.observations") == (5,)
    assert warehouse.sql("FROM ops.watermarks") == watermark
    assert warehouse.one(
        "SELECT count(*) FROM validation_results WHERE rule = 'gap' AND NOT success"
    ) == (2,)
    source.rows = whole
    assert deliver(warehouse, source, DAYS[41]).appended == 35
    assert list(as_of(warehouse, "observations").values()) == values


@predicates
def test_an_empty_first_delivery_is_stopped_and_asked_for_again(warehouse: Warehouse) -> None:
    for source in (daily(series({})), monthly(series({}), name="told.M"), Told(bars({}))):
        delivery = deliver(warehouse, source, DAYS[4])
        assert (delivery.status, counts(delivery)) == ("stopped", (0, 0, 0, 0))
        assert delivery.problems[0] == "no rows were delivered and none are stored"
        deliver(warehouse, source, DAYS[5])
        assert source.requests[-1].start is None
    assert warehouse.sql("SELECT DISTINCT rows, stale, last_date, age FROM freshness") == [
        (0, True, None, None)
    ]


@predicates
@pytest.mark.parametrize("kind", ["daily", "monthly", "bars"])
def test_a_later_empty_delivery_of_any_type_is_good(kind: str, warehouse: Warehouse) -> None:
    months = pd.date_range("2018-01-01", "2018-10-01", freq="MS")
    source = {
        "daily": daily(path(1.0, 2.0)),
        "monthly": monthly(series(dict.fromkeys(months, 1.0))),
        "bars": Told(bars({"A": [1.0, 2.0]})),
    }[kind]
    deliver(warehouse, source, DAYS[1])
    source.rows = pd.DataFrame(columns=source.rows.columns)  # of no type at all
    delivery = deliver(warehouse, source, DAYS[2])
    assert (delivery.status, counts(delivery)) == ("unchanged", (0, 0, 0, 0))


@predicates
def test_a_source_that_falls_behind_says_so(warehouse: Warehouse) -> None:
    source = daily(path(1.0, 2.0))
    deliver(warehouse, source, DAYS[1])
    delivery = deliver(warehouse, source, DAYS[9])
    assert (delivery.status, delivery.complete) == ("partial", False)
    assert "8 sessions behind" in delivery.problems[0]
    assert warehouse.sql("SELECT stale, age, detail FROM freshness") == [
        (True, 8, delivery.problems[0])
    ]


@predicates
def test_a_sources_own_problems_make_the_night_partial(warehouse: Warehouse) -> None:
    source = Told(bars({"A": [1.0, 2.0]}), problems=("told.bars: B: no answer",))
    delivery = deliver(warehouse, source, DAYS[1])
    assert (delivery.status, delivery.problems) == ("partial", ("told.bars: B: no answer",))
    assert delivery.appended == 2


def test_a_source_that_gave_nothing_is_remembered(warehouse: Warehouse) -> None:
    failed = record_failure(warehouse, daily(path(1.0)), "told.X: no answer", "r7")
    assert failed == Delivery("told.X", "observations", "failed", problems=("told.X: no answer",))
    assert not failed.complete
    status, problems, run_id = warehouse.sql("SELECT status, problems, run_id FROM ops.deliveries")[
        0
    ]
    assert (status, json.loads(problems), run_id) == ("failed", ["told.X: no answer"], "r7")


# ------------------------------------------------------------------------ all or nothing

STEPS = [
    (vintages, "append"),
    (vintages, "quarantine"),
    (vintages, "append_actions"),
    (judgements, "keep"),
    (ingest, "_record"),
    (ingest, "_measure_freshness"),
]


def _delivery_with_everything() -> Told:
    prices = [100.0 + number % 3 for number in range(30)]
    return Told(
        bars({"A": [*prices, 9000.0], "B": [*prices, -1.0]}),
        adjustment="raw",
        actions=pd.DataFrame(
            {
                "entity": ["B"],
                "ex_date": pd.to_datetime([DAYS[3]]),
                "kind": ["split"],
                "factor": [2.0],
            }
        ),
    )


@predicates
@pytest.mark.parametrize(("module", "step"), STEPS)
def test_a_failure_after_any_step_leaves_nothing(
    module: Any, step: str, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(warehouse)
    real = getattr(module, step)

    def then_fail(*args: Any, **options: Any) -> None:
        real(*args, **options)
        raise RuntimeError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(module, step, then_fail)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            deliver(warehouse, _delivery_with_everything(), DAYS[30])
    assert contents(warehouse) == before
    assert warehouse.one("SELECT count(*) FROM ops.deliveries") == (0,)
    delivery = deliver(warehouse, _delivery_with_everything(), DAYS[30])
    assert counts(delivery) == (62, 0, 61, 1)
    for table in ("raw.bars", "raw.quarantine", "raw.corporate_actions", "raw.price_breaks"):
        assert warehouse.one(f"SELECT count(*) > 0 FROM {table}") == (True,), table


@predicates
def test_counts_that_do_not_add_up_take_nothing_over(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = vintages.stamp
    monkeypatch.setattr(vintages, "stamp", lambda *args: stamp(*args).head(1))
    with pytest.raises(QualityError, match="3 rows were fetched, but 1 are accounted for"):
        deliver(warehouse, daily(path(1.0, 2.0, 3.0)), DAYS[2])
    assert warehouse.one("SELECT count(*) FROM raw.observations") == (0,)


@pytest.mark.slow
def test_a_kill_while_rows_are_taken_over_is_as_if_it_had_not_begun(stored: Settings) -> None:
    with open_warehouse(stored, "test") as warehouse:
        before = contents(warehouse)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import os
                from db import ingest
                from db.settings import load_settings
                from db.warehouse import open_warehouse
                from tests.db.test_ingest import DAYS, _delivery_with_everything
                from tests.db.deliveries import deliver
                ingest._measure_freshness = lambda *args: os.kill(os.getpid(), 9)
                with open_warehouse(load_settings(), "test") as warehouse:
                    deliver(warehouse, _delivery_with_everything(), DAYS[30])
                """
            ),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    with open_warehouse(stored, "test") as warehouse:
        assert contents(warehouse) == before
        assert deliver(warehouse, _delivery_with_everything(), DAYS[30]).appended == 61


# ------------------------------------------------------------------- breaks and actions


def stored_breaks(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.sql(
        """
        SELECT entity, session, kind, until_session, known_at, resolved_session, resolved_at
        FROM raw.price_breaks ORDER BY entity, session
        """
    )


def breaks_as_of(warehouse: Warehouse, night: int) -> list[tuple[str, date]]:
    return warehouse.sql(
        "SELECT kind, session FROM raw.price_breaks_as_of(CAST(? AS TIMESTAMPTZ))",
        night_of(DAYS[night]).cutoff,
    )


def wobble(count: int, level: float = 100.0) -> list[float]:
    return [level * (1 + 0.002 * (number % 2)) for number in range(count)]


def close_and_an_hour(number: int) -> pd.Timestamp:
    night = night_of(DAYS[number])
    return pd.Timestamp(night.cutoff) - pd.Timedelta(hours=5)


@predicates
def test_a_spike_is_pending_until_the_price_is_back(warehouse: Warehouse) -> None:
    prices = [*wobble(30), 1000.0, *wobble(3)]
    seen: list[list[tuple[str, date]]] = []
    for night in range(30, 34):
        source = Told(bars({"A": prices[: night + 1]}), adjustment="raw")
        deliver(warehouse, source, DAYS[night])
        seen.append(breaks_as_of(warehouse, night))
        if night == 30:
            ((_, session, kind, _, known_at, resolved, resolved_at),) = stored_breaks(warehouse)
            assert (session, kind, resolved, resolved_at) == (
                DAYS[30].date(), "pending", None, None,
            )  # fmt: skip
            assert known_at == close_and_an_hour(30)
    assert seen[0] == [("pending", DAYS[30].date())]
    assert seen[-1] == [("spike", DAYS[30].date())]
    ((_, session, kind, until, known_at, resolved, resolved_at),) = stored_breaks(warehouse)
    assert (session, kind, until) == (DAYS[30].date(), "spike", DAYS[30].date())
    number = [day.date() for day in DAYS].index(resolved)
    assert number > 30
    assert (known_at, resolved_at) == (close_and_an_hour(30), close_and_an_hour(number))
    # a reader at each cut-off sees what the store showed on that night
    assert seen == [breaks_as_of(warehouse, night) for night in range(30, 34)]


@predicates
def test_a_level_break_is_judged_within_the_look_forward(warehouse: Warehouse) -> None:
    prices = [*wobble(30), *wobble(20, level=5.0)]
    seen = {}
    for night in (30, 31, 35, 39, 40, 41, 45):
        deliver(warehouse, Told(bars({"A": prices[: night + 1]}), adjustment="raw"), DAYS[night])
        seen[night] = breaks_as_of(warehouse, night)
    assert seen[30] == [("pending", DAYS[30].date())]
    assert seen[45][0][0] in ("level", "split")
    assert {night: breaks_as_of(warehouse, night) for night in seen} == seen


@predicates
def test_a_suspicion_whose_price_was_corrected_is_withdrawn(warehouse: Warehouse) -> None:
    prices = [*wobble(30), 1000.0]
    deliver(warehouse, Told(bars({"A": prices}), adjustment="raw"), DAYS[30])
    assert breaks_as_of(warehouse, 30) == [("pending", DAYS[30].date())]
    source = Told(bars({"A": wobble(32)}), adjustment="raw")
    assert counts(deliver(warehouse, source, DAYS[31]))[2] == 2
    ((_, session, kind, _, known_at, _, resolved_at),) = stored_breaks(warehouse)
    assert (session, kind, resolved_at) == (DAYS[30].date(), "jump", night_of(DAYS[31]).now)
    assert known_at == close_and_an_hour(30)
    assert breaks_as_of(warehouse, 30) == [("pending", DAYS[30].date())]


@predicates
def test_a_break_that_a_correction_makes_is_not_known_before_it(warehouse: Warehouse) -> None:
    deliver(warehouse, Told(bars({"A": wobble(32)}), adjustment="raw"), DAYS[31])
    assert breaks_as_of(warehouse, 31) == []
    prices = wobble(33)
    prices[31] = 1000.0  # the price of the day before is "corrected"
    deliver(warehouse, Told(bars({"A": prices}), adjustment="raw"), DAYS[32])
    ((_, session, _, _, known_at, _, resolved_at),) = stored_breaks(warehouse)
    assert session == DAYS[31].date()
    assert known_at == night_of(DAYS[32]).now
    assert resolved_at is None or resolved_at >= known_at
    assert breaks_as_of(warehouse, 31) == []


@predicates
def test_a_break_stands_over_a_restated_history(warehouse: Warehouse) -> None:
    prices = np.array([*wobble(30), *wobble(20, level=5.0)])
    for night in (30, 38, 45):
        deliver(warehouse, Told(bars({"A": prices[: night + 1]})), DAYS[night])
    before = stored_breaks(warehouse)
    assert before[0][2] in ("level", "split")
    deliver(warehouse, Told(bars({"A": prices[:47] * 0.99})), DAYS[46])
    assert warehouse.one("SELECT max(history) FROM raw.bars") == (1,)
    assert stored_breaks(warehouse) == before


@predicates
def test_corporate_actions_are_kept_once(warehouse: Warehouse) -> None:
    actions = pd.DataFrame(
        {
            "entity": ["A", "A", "A"],
            "ex_date": pd.to_datetime([DAYS[1], DAYS[2], DAYS[2]]),
            "kind": ["dividend", "split", "split"],
            "factor": [0.5, 2.0, 2.0],
        }
    )
    source = Told(bars({"A": [10.0, 10.0, 5.0]}), adjustment="raw", actions=actions)
    for night in (2, 3):
        deliver(warehouse, source, DAYS[night], run_id=f"night {night}")
    stored = warehouse.sql(
        """
        SELECT entity, ex_date, kind, factor, known_at, run_id
        FROM raw.corporate_actions ORDER BY ex_date
        """
    )
    assert [row[:4] for row in stored] == [
        ("A", DAYS[1].date(), "dividend", 0.5),
        ("A", DAYS[2].date(), "split", 2.0),
    ]
    assert {row[5] for row in stored} == {"night 2"}
    for _, ex_date, _, _, known_at, _ in stored:
        assert known_at == pd.Timestamp(ex_date, tz="UTC")


def actions(*rows: tuple[Any, ...], **columns: Any) -> pd.DataFrame:
    """Actions of A: number of the session among `DAYS`, kind, factor."""
    frame = pd.DataFrame(rows, columns=["ex_date", "kind", "factor"])
    dates = pd.to_datetime([DAYS[number] for number in frame["ex_date"]])
    return frame.assign(entity="A", ex_date=dates, **columns)


def told_actions(frame: pd.DataFrame | None) -> Told:
    return Told(bars({"A": [10.0] * 3}), adjustment="raw", actions=frame, everything=True)


def stored_actions(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.sql(
        """
        SELECT CAST(ex_date AS VARCHAR), kind, factor, known_at
        FROM raw.corporate_actions ORDER BY ex_date, kind, known_at, rowid
        """
    )


def factors_as_of(warehouse: Warehouse, instant: Any) -> list[float]:
    rows = warehouse.sql(
        "SELECT factor FROM raw.corporate_actions_as_of(CAST(? AS TIMESTAMPTZ)) ORDER BY ALL",
        instant,
    )
    return [factor for (factor,) in rows]


def midnight(number: int) -> pd.Timestamp:
    return DAYS[number].tz_localize("UTC")


@predicates
def test_dividends_of_one_date_are_their_sum_and_splits_their_product(
    warehouse: Warehouse,
) -> None:
    terms = [(1, "dividend", 0.1), (1, "dividend", 0.2), (1, "dividend", 0.3)]
    delivered = actions(*terms, terms[0], (2, "split", 2.0), (2, "split", 3.0), (2, "split", 2.0))
    for night in (2, 3):
        deliver(warehouse, told_actions(delivered), DAYS[night])
        delivered = delivered.iloc[::-1]  # a sum in another order is another float
    assert [(kind, factor) for _, kind, factor, _ in stored_actions(warehouse)] == [
        ("dividend", pytest.approx(0.6)),
        ("split", 6.0),
    ]


@predicates
def test_a_changed_action_is_a_vintage_and_old_cutoffs_see_the_old_one(
    warehouse: Warehouse,
) -> None:
    told = [(1, "dividend", 0.5), (2, "split", 2.0)]
    deliver(warehouse, told_actions(actions(*told)), DAYS[2])
    night = night_of(DAYS[4], late=timedelta(hours=30))
    for _ in range(2):
        deliver(warehouse, told_actions(actions((1, "dividend", 0.6))), night)
    deliver(warehouse, told_actions(None), DAYS[5])
    assert stored_actions(warehouse) == [
        (str(DAYS[1].date()), "dividend", 0.5, midnight(1)),
        (str(DAYS[1].date()), "dividend", 0.6, night.now),
        (str(DAYS[2].date()), "split", 2.0, midnight(2)),  # no longer delivered, and there
    ]
    assert factors_as_of(warehouse, night.now - timedelta(microseconds=1)) == [0.5, 2.0]
    assert factors_as_of(warehouse, night.now) == [0.6, 2.0]
    deliver(warehouse, told_actions(actions(*told)), DAYS[6])  # back to what it was
    assert factors_as_of(warehouse, "infinity") == [0.5, 2.0]


@predicates
def test_an_announced_action_that_changes_is_not_known_before_the_one_it_replaces(
    warehouse: Warehouse,
) -> None:
    for night, factor in ((2, 0.5), (3, 0.6), (4, 0.7)):
        deliver(warehouse, told_actions(actions((9, "dividend", factor))), DAYS[night])
    assert [row[2:] for row in stored_actions(warehouse)] == [
        (factor, midnight(9)) for factor in (0.5, 0.6, 0.7)
    ]
    assert factors_as_of(warehouse, midnight(9)) == [0.7]


@predicates
def test_an_action_is_known_when_its_source_says_so(warehouse: Warehouse) -> None:
    announced, revised = midnight(0) - timedelta(days=9), midnight(0) - timedelta(days=2)
    for factor, known_at in ((0.5, announced), (0.6, revised), (0.7, announced), (0.7, announced)):
        told = actions((1, "dividend", factor), (2, "split", 2.0))
        told["known_at"] = pd.Series([known_at, None], dtype="datetime64[us, UTC]")
        deliver(warehouse, told_actions(told), DAYS[2])
    assert [row[2:] for row in stored_actions(warehouse)] == [
        (0.5, announced),
        (0.6, revised),
        (0.7, night_of(DAYS[2]).now),  # its time is no later than that of what it replaces
        (2.0, midnight(2)),
    ]


@predicates
def test_a_split_is_judged_by_its_newest_factor(warehouse: Warehouse) -> None:
    prices = [*wobble(30), *wobble(15, level=10.0)]
    wrong, right = actions((30, "split", 2.0)), actions((30, "split", 10.0))
    early = Told(bars({"A": prices[:20]}), adjustment="raw", actions=wrong)
    deliver(warehouse, early, DAYS[19])
    late = Told(bars({"A": prices}), adjustment="raw", actions=right)
    deliver(warehouse, late, DAYS[44])
    assert stored_breaks(warehouse) == []


@predicates
def test_rows_lie_by_date_then_entity_as_nights_append_them(warehouse: Warehouse) -> None:
    deliver(warehouse, Told(bars({"B": [1.0, 2.0], "A": [3.0, 4.0]})), DAYS[1])
    assert warehouse.sql("SELECT session, entity FROM raw.bars ORDER BY rowid") == [
        (DAYS[number].date(), entity) for number in (0, 1) for entity in ("A", "B")
    ]


@predicates
def test_a_known_split_is_no_break(warehouse: Warehouse) -> None:
    prices = [*wobble(30), *wobble(15, level=10.0)]
    split = pd.DataFrame(
        {"entity": ["A"], "ex_date": [DAYS[30]], "kind": ["split"], "factor": [10.0]}
    )
    source = Told(bars({"A": prices}), adjustment="raw", actions=split)
    deliver(warehouse, source, DAYS[44])
    assert stored_breaks(warehouse) == []
