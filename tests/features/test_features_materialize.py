from dataclasses import replace
from datetime import date, timedelta

import duckdb
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from db.errors import LookbackError
from features.materialize import materialize
from features.windows import read_windows

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (f"2018-12-{day}" for day in range(10, 15))

CHANGE_SQL = """
    -- one row per session: the change to the session before, known once both were
    SELECT series AS entity, period AS date,
        value - lag(value) OVER before AS change,
        greatest(known_at, lag(known_at) OVER before) AS known_at
    FROM known
    WINDOW before AS (PARTITION BY series ORDER BY period)
"""


@pytest.fixture
def change(close):
    """A view whose values are made of two raw rows."""
    return replace(close, name="change", sql=CHANGE_SQL, features=("change",), target="change")


def values_at(warehouse, view, cutoff):
    """The values that a read at a cut-off sees, by date; raises where there are two."""
    rows = warehouse.sql(
        f"""
        SELECT date, {view.target} FROM {view.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
        ORDER BY date
        """,
        cutoff,
    )
    assert len({day for day, _ in rows}) == len(rows), f"two values for one date at {cutoff}"
    return {str(day): value for day, value in rows}


def rebuilt(raw, view):
    """What the view's table holds when it is made anew, all at once."""
    before = raw.table(view)
    raw.warehouse.native.execute(f"DROP TABLE {view.table}")
    raw.warehouse.native.execute("DELETE FROM main.feature_views WHERE view = ?", (view.name,))
    materialize(raw.warehouse, view)
    return before, raw.table(view)


def test_values_and_the_record_of_them(warehouse, raw, close):
    raw.observe({MONDAY: 1.0, TUESDAY: 2.0})
    done = materialize(warehouse, close)
    assert (done.view, done.version) == ("close", close.version)
    assert (done.added, done.replaced) == (2, 0)
    assert raw.table(close) == [
        ("SP500", date(2018, 12, 10), 1.0, raw.known_at(MONDAY), None),
        ("SP500", date(2018, 12, 11), 2.0, raw.known_at(TUESDAY), None),
    ]
    record = warehouse.one(
        """
        SELECT rows, entities, first_date, last_date, watermark, declaration
        FROM main.feature_views WHERE view = ? AND version = ?
        """,
        "close",
        close.version,
    )
    assert record[:4] == (2, 1, date(2018, 12, 10), date(2018, 12, 11))
    assert record[4] == raw.clock
    assert '"window": 3' in record[5]


def test_nothing_new_is_no_work(warehouse, raw, close):
    raw.observe({MONDAY: 1.0})
    materialize(warehouse, close)
    before = raw.table(close)
    done = materialize(warehouse, close)
    assert (done.added, done.replaced) == (0, 0)
    assert raw.table(close) == before


def test_no_rows_at_all(warehouse, close):
    assert materialize(warehouse, close).added == 0
    assert len(read_windows(warehouse, close, pd.Timestamp("2019-01-01", tz="UTC"))) == 0


def test_only_the_entities_that_something_arrived_for_are_computed(warehouse, raw, close):
    raw.observe({MONDAY: 1.0}, series="A")
    raw.observe({MONDAY: 5.0}, series="B")
    materialize(warehouse, close)
    raw.observe({TUESDAY: 2.0}, series="A")
    assert materialize(warehouse, close).added == 1
    touched = warehouse.sql("SELECT entity FROM touched")
    assert touched == [("A",)]
    assert [row[0] for row in raw.table(close)] == ["A", "A", "B"]


def test_reads_between_corrections_find_the_right_vintage(warehouse, raw, close):
    """Two corrections between two materializations: none is lost, nor is the original."""
    raw.observe({MONDAY: 1.0, TUESDAY: 2.0})
    materialize(warehouse, close)
    raw.observe({MONDAY: 1.1}, known_at=raw.known_at(WEDNESDAY))
    raw.observe({MONDAY: 1.2}, known_at=raw.known_at(THURSDAY))
    done = materialize(warehouse, close)
    assert (done.added, done.replaced) == (2, 2)
    expected = {MONDAY: 1.0, TUESDAY: 1.0, WEDNESDAY: 1.1, THURSDAY: 1.2, FRIDAY: 1.2}
    for session, value in expected.items():
        assert values_at(warehouse, close, raw.known_at(session))[MONDAY] == value
    a_moment_before = raw.known_at(THURSDAY) - timedelta(microseconds=1)
    assert values_at(warehouse, close, a_moment_before)[MONDAY] == 1.1
    incremental, anew = rebuilt(raw, close)
    assert incremental == anew


def test_what_was_corrected_before_the_first_materialization_is_there_too(warehouse, raw, close):
    """A new version of a view sees the history as it was, not as it was corrected."""
    raw.observe({MONDAY: 1.0, TUESDAY: 2.0})
    raw.observe({MONDAY: 1.1}, known_at=raw.known_at(WEDNESDAY))
    materialize(warehouse, close)
    assert values_at(warehouse, close, raw.known_at(TUESDAY)) == {MONDAY: 1.0, TUESDAY: 2.0}
    assert values_at(warehouse, close, raw.known_at(WEDNESDAY)) == {MONDAY: 1.1, TUESDAY: 2.0}


def test_a_correction_of_what_is_not_used_changes_nothing(warehouse, raw, close):
    rounded = replace(close, name="rounded", sql=close.sql.replace("value", "round(value)"))
    raw.observe({MONDAY: 1.1})
    materialize(warehouse, rounded)
    raw.observe({MONDAY: 1.2}, known_at=raw.known_at(WEDNESDAY))
    done = materialize(warehouse, rounded)
    assert (done.added, done.replaced) == (0, 0)
    assert raw.table(rounded)[0][3:] == (raw.known_at(MONDAY), None)


def test_a_late_row_gives_what_it_would_have_given_in_time(warehouse, raw, change):
    raw.observe({MONDAY: 1.0, WEDNESDAY: 5.0, THURSDAY: 6.0})
    materialize(warehouse, change)
    assert values_at(warehouse, change, raw.known_at(FRIDAY))[WEDNESDAY] == 4.0
    raw.observe({TUESDAY: 3.0})
    materialize(warehouse, change)
    assert values_at(warehouse, change, raw.known_at(WEDNESDAY)) == {
        MONDAY: None,
        TUESDAY: 2.0,
        WEDNESDAY: 2.0,
    }
    incremental, anew = rebuilt(raw, change)
    assert incremental == anew


def test_a_late_row_before_a_correction_leaves_one_value_a_date(warehouse, raw, change):
    raw.observe({MONDAY: 1.0, WEDNESDAY: 5.0})
    raw.observe({MONDAY: 2.0}, known_at=raw.known_at(FRIDAY))
    materialize(warehouse, change)
    raw.observe({TUESDAY: 3.0})
    materialize(warehouse, change)
    assert values_at(warehouse, change, raw.known_at(THURSDAY)) == {
        MONDAY: None,
        TUESDAY: 2.0,
        WEDNESDAY: 2.0,
    }
    assert values_at(warehouse, change, raw.known_at(FRIDAY))[TUESDAY] == 1.0
    incremental, anew = rebuilt(raw, change)
    assert incremental == anew


def test_a_value_published_after_later_ones_changes_them_only_then(warehouse, raw, change):
    raw.observe({MONDAY: 1.0, WEDNESDAY: 5.0})
    raw.observe({TUESDAY: 3.0}, known_at=raw.known_at(THURSDAY))
    materialize(warehouse, change)
    assert values_at(warehouse, change, raw.known_at(WEDNESDAY)) == {MONDAY: None, WEDNESDAY: 4.0}
    assert values_at(warehouse, change, raw.known_at(THURSDAY))[WEDNESDAY] == 2.0
    incremental, anew = rebuilt(raw, change)
    assert incremental == anew


def test_a_restated_history_is_taken_whole(warehouse, raw, close):
    """What the new history does not have any more is withdrawn when it became known."""
    adjusted = replace(
        close,
        name="adjusted",
        entity="symbol",
        source="bars",
        sql="SELECT entity, session AS date, adj_close AS close, known_at FROM known",
    )

    def history(prices, number, known_at=None):
        known = [known_at or raw.known_at(day) for day in prices]
        frame = {"session": pd.to_datetime(list(prices)), "adj_close": prices.values()}
        raw.append_bars(pd.DataFrame(frame).assign(entity="KO", known_at=known), history=number)

    history({MONDAY: 10.0, TUESDAY: 11.0, WEDNESDAY: 12.0}, 0)
    materialize(warehouse, adjusted)
    history({MONDAY: 9.0, WEDNESDAY: 11.0}, 1, raw.known_at(THURSDAY))
    done = materialize(warehouse, adjusted)
    assert (done.added, done.replaced) == (2, 3)
    assert values_at(warehouse, adjusted, raw.known_at(WEDNESDAY)) == {
        MONDAY: 10.0,
        TUESDAY: 11.0,
        WEDNESDAY: 12.0,
    }
    assert values_at(warehouse, adjusted, raw.known_at(THURSDAY)) == {MONDAY: 9.0, WEDNESDAY: 11.0}
    incremental, anew = rebuilt(raw, adjusted)
    assert incremental == anew


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 7),  # session that the value is of
        st.integers(0, 6),  # sessions after it until it was known
        st.integers(1, 9),
        st.booleans(),  # whether the view is brought up to date before it arrives
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda arrival: (arrival[0], arrival[0] + arrival[1]),
)


@given(arrivals=ARRIVALS)
@examples(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_however_rows_arrive_the_table_is_that_of_one_rebuild(
    warehouse, raw, change, calendar, arrivals
):
    """And every read sees what the raw rows known by its cut-off give."""
    raw.clear()
    days = [str(calendar.offset(date(2018, 11, 30), number)) for number in range(1, 16)]
    for session, delay, value, first in arrivals:
        if first:
            materialize(warehouse, change)
        raw.observe({days[session]: float(value)}, known_at=raw.known_at(days[session + delay]))
    materialize(warehouse, change)
    incremental, anew = rebuilt(raw, change)
    assert incremental == anew
    for day in days:
        cutoff = raw.known_at(day)
        expected = warehouse.sql(
            f"""
            WITH known AS (FROM raw.observations_as_of($1))
            SELECT CAST(date AS VARCHAR), change FROM ({CHANGE_SQL}) ORDER BY date
            """,
            cutoff,
        )
        assert values_at(warehouse, change, cutoff) == dict(expected)


FAILING = {
    "no such column": (
        "SELECT series AS entity, period AS date, price AS close, known_at",
        "price",
    ),
    "no SQL at all": ("SELEC", "syntax error"),
    "no time": (
        "SELECT series AS entity, period AS date, value AS close, CAST(NULL AS TIMESTAMPTZ) AS "
        "known_at",
        "NULL",
    ),
    "no number": (
        "SELECT series AS entity, period AS date, 'high' AS close, known_at",
        "Conversion Error",
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_failing_sql_is_one_line_and_writes_nothing(warehouse, raw, close, what):
    select, reason = FAILING[what]
    raw.observe({MONDAY: 1.0})
    failing = replace(close, name="failing", sql=f"{select} FROM known")
    with pytest.raises(LookbackError, match=f"feature view failing failed: .*{reason}") as caught:
        materialize(warehouse, failing)
    assert "\n" not in str(caught.value)
    assert warehouse.sql("FROM main.feature_views") == []
    with pytest.raises(duckdb.CatalogException):
        warehouse.sql(f"FROM {failing.table}")
    assert materialize(warehouse, close).added == 1


def test_a_failure_leaves_the_table_as_it_was(warehouse, raw, close):
    """A value that the SQL cannot take on the second night: the first night stands."""
    strict = replace(
        close,
        name="strict",
        sql="""
            SELECT series AS entity, period AS date, known_at,
                CASE WHEN value < 0 THEN error('negative close') ELSE value END AS close
            FROM known
        """,
    )
    raw.observe({MONDAY: 1.0})
    materialize(warehouse, strict)
    before = raw.table(strict)
    record = warehouse.sql("FROM main.feature_views")
    raw.observe({MONDAY: 1.5}, known_at=raw.known_at(TUESDAY))
    raw.observe({WEDNESDAY: -1.0})
    with pytest.raises(LookbackError, match=r"feature view strict failed: .*negative close"):
        materialize(warehouse, strict)
    assert raw.table(strict) == before
    assert warehouse.sql("FROM main.feature_views") == record


def test_sql_may_end_with_a_comment(warehouse, raw, close):
    raw.observe({MONDAY: 1.0})
    assert materialize(warehouse, replace(close, sql=f"{close.sql} -- all series")).added == 1


def test_two_values_for_one_date_are_refused(warehouse, raw, close):
    """Two sources of one series are two rows: the view has to choose."""
    raw.observe({MONDAY: 1.0}, source="sample.SP500")
    raw.observe({MONDAY: 1.1}, source="fred.SP500")
    with pytest.raises(LookbackError, match="view close gives 2 rows for SP500 on 2018-12-10"):
        materialize(warehouse, close)
    chosen = replace(close, name="chosen", sql=f"{close.sql} WHERE source = 'fred.SP500'")
    materialize(warehouse, chosen)
    assert [row[2] for row in raw.table(chosen)] == [1.1]
