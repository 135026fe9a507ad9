from dataclasses import replace
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

from db.errors import LookbackError, ShortHistoryError
from features import evaluate, reads, vintages
from features import states as engine
from features.catalog import feature_view
from features.materialize import materialize
from features.view import Feature, FeatureView, Input
from features.windows import read_windows

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (f"2018-12-{day}" for day in range(10, 15))

CHANGE_SQL = """
    -- one row per session: the change to the session before, known once both were
    SELECT series AS entity, period AS date,
        value - lag(value) OVER before AS change,
        greatest(known_at, lag(known_at) OVER before) AS known_at
    FROM observations
    WINDOW before AS (PARTITION BY series ORDER BY period)
"""


@pytest.fixture
def close(close):
    """Closes, with windows of one value: no history is too short."""
    return replace(close, window=1)


@pytest.fixture
def change(close):
    """A view whose values are made of two raw rows."""
    return replace(
        close,
        name="change",
        inputs=(Input("observations", memory=1),),
        sql=CHANGE_SQL,
        features=(Feature("change"),),
        target="change",
    )


def doubled(inputs):
    """Twice the close; no stock of this test costs nothing."""
    bars = inputs["bars"]
    price = bars.now(bars["close"])
    if (price < 0).any():
        raise ValueError("a price\nbelow zero")
    return {"doubled": 2 * price}


DOUBLED = FeatureView(
    name="doubled",
    description="twice the close",
    entity="symbol",
    inputs=(Input("bars", memory=0),),
    transform=doubled,
    features=(Feature("doubled"),),
    window=1,
    target="doubled",
    horizon=1,
    horizon_unit="session",
)


def trade(raw, closes, entity="KO", known_at=None, **choice):
    """Append raw bars, session -> close."""
    rows = pd.DataFrame({"session": pd.to_datetime(list(closes)), "close": closes.values()})
    known = [known_at or raw.known_at(day) for day in closes]
    raw.append_bars(rows.assign(entity=entity, known_at=known), adjustment="raw", **choice)


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
    """What the view's table holds, and what it does when it is made anew, all at once."""
    before = raw.table(view)
    materialize(raw.warehouse, view, rebuild=True)
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
    assert record[4] == raw.known_at(TUESDAY)
    assert '"window": 1' in record[5]


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


def rows_loaded(monkeypatch):
    """Entity and date of every raw row that is read, as a growing list."""
    seen = []
    load = vintages.load

    def spy(*arguments):
        found = load(*arguments)
        seen.extend(zip(found.names[found.entity], found.date.astype(str), strict=True))
        return found

    for module in (engine, reads):
        monkeypatch.setattr(module, "load", spy)
    return seen


def test_only_the_entities_that_something_arrived_for_are_read(warehouse, raw, close, monkeypatch):
    raw.observe({MONDAY: 1.0}, series="A")
    raw.observe({MONDAY: 5.0}, series="B")
    materialize(warehouse, close)
    raw.observe({TUESDAY: 2.0}, series="A")
    seen = rows_loaded(monkeypatch)
    assert materialize(warehouse, close).added == 1
    assert seen == [("A", TUESDAY)]
    assert [row[0] for row in raw.table(close)] == ["A", "A", "B"]


def test_a_night_reads_no_more_than_the_view_remembers(warehouse, raw, calendar, monkeypatch):
    """Three years, five rows of memory: a month is read, not the years."""
    days = [str(calendar.offset(date(2016, 1, 1), number)) for number in range(1, 700)]
    month = feature_view("volume_factors")
    view = replace(month, name="short", inputs=(Input("bars", memory=5),))
    volume = {"volume": 100.0}
    for part in (days[:-1], days[-1:]):
        rows = pd.DataFrame({"session": pd.to_datetime(part), "close": 2.0, **volume})
        known = [raw.known_at(day) for day in part]
        raw.append_bars(rows.assign(entity="KO", known_at=known))
        if part is not days[-1:]:
            seen = rows_loaded(monkeypatch)
        materialize(warehouse, view)
        if len(part) > 1:
            assert len(seen) == len(part)
            seen.clear()
    assert 6 <= len(seen) < 40


def test_views_of_one_night_share_what_they_read(warehouse, raw, monkeypatch):
    """The second view wants fewer rows of the same symbols; a row more, and all is read anew."""
    far = replace(DOUBLED, name="far", inputs=(Input("bars", memory=3),))
    near = replace(DOUBLED, name="near", inputs=(Input("bars", memory=1),))
    trade(raw, {MONDAY: 10.0, TUESDAY: 11.0})
    for view in (far, near):
        materialize(warehouse, view)
    night = reads.RawReads()
    trade(raw, {WEDNESDAY: 12.0})
    seen = rows_loaded(monkeypatch)
    assert materialize(warehouse, far, reads=night).added == 1
    assert len(seen) == 3
    assert materialize(warehouse, near, reads=night).added == 1
    assert len(seen) == 3
    trade(raw, {THURSDAY: 13.0})
    assert materialize(warehouse, near, reads=night).added == 1
    assert materialize(warehouse, far, reads=night).added == 1
    assert len(seen) > 3
    found = [row[2] for row in raw.table(near)]
    assert found == [row[2] for row in raw.table(far)] == [20.0, 22.0, 24.0, 26.0]


def test_a_transform_that_writes_into_its_input_is_told_so(warehouse, raw):
    """Views share their inputs: one that changes them would change another's values."""

    def halved_in_place(inputs):
        inputs["bars"]["close"][:] /= 2
        return {"doubled": inputs["bars"]["close"]}

    trade(raw, {MONDAY: 10.0})
    with pytest.raises(LookbackError, match=r"feature view halved failed for KO.*read-only"):
        materialize(warehouse, replace(DOUBLED, name="halved", transform=halved_in_place))


def test_a_change_of_nothing_that_a_view_reads_is_no_work(warehouse, raw, close, monkeypatch):
    only_a = replace(close, name="only_a", inputs=(Input("observations", ("A",), memory=0),))
    raw.observe({MONDAY: 1.0}, series="A")
    materialize(warehouse, only_a)
    raw.observe({MONDAY: 1.0}, series="B")
    seen = rows_loaded(monkeypatch)
    assert materialize(warehouse, only_a).added == 0
    assert seen == []


def test_vendors_indices_are_left_out_where_the_view_says_so(warehouse, raw):
    stocks = replace(DOUBLED, inputs=(Input("bars", without="^", memory=0),))
    trade(raw, {MONDAY: 10.0})
    trade(raw, {MONDAY: 2600.0}, entity="^GSPC")
    materialize(warehouse, stocks)
    assert [row[0] for row in raw.table(stocks)] == ["KO"]


def test_raw_rows_that_were_taken_away_leave_nothing_behind(warehouse, raw, close):
    raw.observe({MONDAY: 1.0, TUESDAY: 2.0})
    materialize(warehouse, close)
    warehouse.native.execute(f"DELETE FROM raw.observations WHERE period = DATE '{TUESDAY}'")
    materialize(warehouse, close)
    assert [str(row[1]) for row in raw.table(close)] == [MONDAY]


def test_two_versions_stand_side_by_side(warehouse, raw, close):
    in_tenths = replace(close, sql=close.sql.replace("value AS", "value / 10 AS"))
    raw.observe({MONDAY: 1.0})
    materialize(warehouse, close)
    materialize(warehouse, in_tenths)
    raw.observe({TUESDAY: 2.0})
    materialize(warehouse, in_tenths)
    assert [row[2] for row in raw.table(close)] == [1.0]
    assert [row[2] for row in raw.table(in_tenths)] == [0.1, 0.2]
    assert warehouse.sql("SELECT version, rows FROM main.feature_views ORDER BY rows") == [
        (close.version, 1),
        (in_tenths.version, 2),
    ]


def test_a_value_that_is_none_is_null(warehouse, raw, close):
    """Infinite ones too; the row stays, without it."""
    inverse = replace(
        close, name="inverse", sql=close.sql.replace("value AS", "(value - 1) / value * 2 AS")
    )
    raw.observe({MONDAY: 0.0, TUESDAY: 2.0})
    materialize(warehouse, inverse)
    assert [row[2] for row in raw.table(inverse)] == [None, 1.0]


def test_single_precision_is_stored_as_such(warehouse, raw):
    single = replace(DOUBLED, name="single", stored="float32")
    trade(raw, {MONDAY: 10.05})
    materialize(warehouse, single)
    trade(raw, {TUESDAY: 10.07})
    materialize(warehouse, single)
    assert [row[2] for row in raw.table(single)] == [
        float(np.float32(2 * 10.05)),
        float(np.float32(2 * 10.07)),
    ]
    trade(raw, {MONDAY: 10.05000000001}, known_at=raw.known_at(THURSDAY))
    assert materialize(warehouse, single).replaced == 0


def test_an_index_without_a_stock_is_no_row(warehouse, raw):
    """Shared rows arrive, and later more of them, before any bar does."""
    beta = feature_view("market_beta")
    raw.observe({MONDAY: 1.0})
    assert materialize(warehouse, beta).added == 0
    raw.observe({TUESDAY: 2.0})
    assert materialize(warehouse, beta).added == 0


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
        inputs=(Input("bars", memory=0),),
        sql="SELECT entity, session AS date, adj_close AS close, known_at FROM bars",
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


def test_a_restated_history_that_begins_later_withdraws_what_went_before(warehouse, raw):
    """The vendor's new history is shorter: its older bars were known until then."""
    trade(raw, {MONDAY: 10.0, TUESDAY: 11.0})
    materialize(warehouse, DOUBLED)
    trade(raw, {TUESDAY: 5.5}, known_at=raw.known_at(THURSDAY), history=1)
    materialize(warehouse, DOUBLED)
    assert values_at(warehouse, DOUBLED, raw.known_at(WEDNESDAY)) == {MONDAY: 20.0, TUESDAY: 22.0}
    assert values_at(warehouse, DOUBLED, raw.known_at(THURSDAY)) == {TUESDAY: 11.0}
    incremental, anew = rebuilt(raw, DOUBLED)
    assert incremental == anew


def test_a_restated_history_of_new_sessions_only_withdraws_all_before(warehouse, raw):
    trade(raw, {MONDAY: 10.0, TUESDAY: 11.0})
    trade(raw, {THURSDAY: 5.0}, history=1)
    materialize(warehouse, DOUBLED)
    assert values_at(warehouse, DOUBLED, raw.known_at(WEDNESDAY)) == {MONDAY: 20.0, TUESDAY: 22.0}
    assert values_at(warehouse, DOUBLED, raw.known_at(THURSDAY)) == {THURSDAY: 10.0}


def test_rows_of_an_older_history_are_not_counted_as_memory(warehouse, raw, calendar):
    """Restated with every other bar: a night has to go further back for as many."""
    days = [str(calendar.offset(date(2017, 1, 3), number)) for number in range(1, 101)]
    product = replace(
        DOUBLED,
        name="product",
        inputs=(Input("bars", memory=20),),
        transform=lambda inputs: {"doubled": inputs["bars"].sum(inputs["bars"]["close"], 20)},
    )
    trade(raw, dict.fromkeys(days[:-1], 2.0))
    trade(raw, dict.fromkeys(days[:-1:2], 1.0), known_at=raw.known_at(days[-2], 5), history=1)
    materialize(warehouse, product)
    trade(raw, {days[-1]: 1.0}, history=1)
    materialize(warehouse, product)
    assert raw.table(product)[-1][2] == 20.0
    incremental, anew = rebuilt(raw, product)
    assert incremental == anew


def test_rows_known_only_later_are_not_counted_as_memory(warehouse, raw, calendar):
    """Most of the last weeks came late: the newest value, when it was first known, reached back."""
    days = [str(calendar.offset(date(2017, 1, 3), number)) for number in range(1, 101)]
    total = replace(
        DOUBLED,
        name="total",
        inputs=(Input("bars", memory=20),),
        transform=lambda inputs: {"doubled": inputs["bars"].sum(inputs["bars"]["close"], 20)},
    )
    trade(raw, dict.fromkeys(days[:60], 2.0))
    materialize(warehouse, total)
    trade(raw, dict.fromkeys(days[60:-1], 1.0), known_at=raw.known_at(days[-1], 8))
    materialize(warehouse, total)
    trade(raw, {days[-1]: 1.0})
    materialize(warehouse, total)
    incremental, anew = rebuilt(raw, total)
    assert incremental == anew
    seen = values_at(warehouse, total, raw.known_at(days[-1]))
    assert seen[days[-1]] == 39.0


def test_an_early_correction_does_not_make_a_history_short(warehouse, raw, close):
    """Three rows are a window of three, though the first state of the series had but one."""
    raw.observe({MONDAY: 1.0})
    raw.observe({MONDAY: 1.5}, known_at=raw.known_at(MONDAY, hours=5))
    raw.observe({TUESDAY: 2.0, WEDNESDAY: 3.0})
    assert materialize(warehouse, replace(close, window=3)).added == 4


def test_more_entities_and_years_than_microseconds_can_number():
    """1960 to 2060 in microseconds, times 5,000 entities, is more than 63 bits hold."""
    n = 5_000
    entity = np.repeat(np.arange(n, dtype="int32"), 3)
    century = np.array([3, 1, 2]) * int(365.25 * 50 * 86_400 * 1e6)
    earliest = vintages._earliest_from_here(entity, np.tile(century, n))
    few = vintages._earliest_from_here(entity[:3], century)
    assert (earliest == np.tile(few, n)).all()
    assert (few == century[[1, 1, 2]]).all()


# ---------------------------------------------------------------------- bad declarations


FAILING = {
    "no such column": (
        "SELECT series AS entity, period AS date, price AS close, known_at",
        "price",
    ),
    "no SQL at all": ("SELEC", "syntax error"),
    "no feature of its name": (
        "SELECT series AS entity, period AS date, value AS price, known_at",
        "close",
    ),
    "no time": (
        "SELECT series AS entity, period AS date, value AS close, CAST(NULL AS TIMESTAMPTZ) AS "
        "known_at",
        "1 rows without known_at",
    ),
    "no date": (
        "SELECT series AS entity, CAST(NULL AS DATE) AS date, value AS close, known_at",
        "1 rows without date",
    ),
    "no number": (
        "SELECT series AS entity, period AS date, 'high' AS close, known_at",
        "Conversion Error",
    ),
}


def nothing_was_written(warehouse, view):
    """No table of the view, and no record of it."""
    assert warehouse.sql("FROM main.feature_views WHERE view = ?", view.name) == []
    with pytest.raises(duckdb.CatalogException):
        warehouse.sql(f"FROM {view.table}")


def refused(warehouse, view, reason, error=LookbackError):
    """Materializing says why not, in one line that names the view."""
    with pytest.raises(error, match=f"feature view {view.name}.*{reason}") as caught:
        materialize(warehouse, view)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", FAILING)
def test_failing_sql_is_one_line_and_writes_nothing(warehouse, raw, close, what):
    select, reason = FAILING[what]
    raw.observe({MONDAY: 1.0})
    failing = replace(close, name="failing", sql=f"{select} FROM observations")
    refused(warehouse, failing, f"its SQL .*{reason}")
    nothing_was_written(warehouse, failing)
    assert materialize(warehouse, close).added == 1


def test_a_window_longer_than_any_history_is_refused(warehouse, raw, close):
    raw.observe({MONDAY: 1.0, TUESDAY: 2.0}, series="A")
    raw.observe({MONDAY: 1.0}, series="B")
    long = replace(close, name="long", window=3)
    reason = "its window of 3 rows is longer than any history; the longest, of A, has 2"
    refused(warehouse, long, reason, ShortHistoryError)
    nothing_was_written(warehouse, long)
    raw.observe({WEDNESDAY: 3.0}, series="A")
    assert materialize(warehouse, long).added == 4


MISSHAPEN = {
    "nothing": (lambda inputs: {}, "its transform gives no doubled"),
    "one value": (lambda inputs: {"doubled": np.ones(1)}, r"doubled has shape \(1,\).*\(2,\)"),
    "a number": (lambda inputs: {"doubled": 1.0}, r"doubled has shape \(\).*\(2,\)"),
    "two columns": (lambda inputs: {"doubled": np.ones((2, 2))}, r"shape \(2, 2\)"),
    "a mask of another shape": (
        lambda inputs: {"doubled": np.ones(2), "rows": np.ones(3, bool)},
        r"rows has shape \(3,\)",
    ),
    "a frame without dates": (
        lambda inputs: pd.DataFrame({"entity": ["KO"], "doubled": [1.0]}),
        "its transform gives no date, known_at",
    ),
    "words": (lambda inputs: {"doubled": np.array(["a", "b"])}, "ValueError: could not convert"),
}


@pytest.mark.parametrize("what", MISSHAPEN)
def test_a_transform_that_gives_something_else_is_refused(warehouse, raw, what):
    transform, reason = MISSHAPEN[what]
    trade(raw, {MONDAY: 10.0, TUESDAY: 11.0})
    misshapen = replace(DOUBLED, name="misshapen", transform=transform)
    refused(warehouse, misshapen, reason)
    nothing_was_written(warehouse, misshapen)


def test_a_transform_that_fails_for_one_symbol_names_it(warehouse, raw):
    trade(raw, {MONDAY: 10.0}, entity="KO")
    trade(raw, {MONDAY: -1.0}, entity="OIL")
    trade(raw, {MONDAY: 12.0}, entity="PEP")
    refused(warehouse, DOUBLED, "failed for OIL: ValueError: a price below zero")
    nothing_was_written(warehouse, DOUBLED)


def test_a_transform_may_give_rows_of_its_own(warehouse, raw):
    """A frame, as an Arrow table or of pandas."""

    def last_of_each(inputs):
        bars = inputs["bars"].everywhere
        return pd.DataFrame(
            {
                "entity": bars.names[bars.entity],
                "date": bars.date,
                "doubled": 2 * bars["close"],
                "known_at": pd.to_datetime(bars.known_at, unit="us", utc=True),
            }
        ).drop_duplicates("entity", keep="first")

    firsts = replace(DOUBLED, name="firsts", transform=last_of_each)
    trade(raw, {MONDAY: 10.0, TUESDAY: 11.0})
    trade(raw, {TUESDAY: 20.0}, entity="PEP")
    materialize(warehouse, firsts)
    assert [(row[0], str(row[1]), row[2], row[3]) for row in raw.table(firsts)] == [
        ("KO", MONDAY, 20.0, raw.known_at(MONDAY)),
        ("PEP", TUESDAY, 40.0, raw.known_at(TUESDAY)),
    ]


def test_a_failure_leaves_the_table_as_it_was(warehouse, raw, close):
    """A value that the SQL cannot take on the second night: the first night stands."""
    strict = replace(
        close,
        name="strict",
        sql="""
            SELECT series AS entity, period AS date, known_at,
                CASE WHEN value < 0 THEN error('negative close') ELSE value END AS close
            FROM observations
        """,
    )
    raw.observe({MONDAY: 1.0})
    materialize(warehouse, strict)
    before = raw.table(strict)
    record = warehouse.sql("FROM main.feature_views")
    raw.observe({MONDAY: 1.5}, known_at=raw.known_at(TUESDAY))
    raw.observe({WEDNESDAY: -1.0})
    refused(warehouse, strict, "its SQL fails: .*negative close")
    assert raw.table(strict) == before
    assert warehouse.sql("FROM main.feature_views") == record


def test_a_transforms_failure_leaves_the_table_as_it_was(warehouse, raw):
    """The second entity's turn comes after the first one's rows were taken back."""
    trade(raw, {MONDAY: 10.0}, entity="KO")
    materialize(warehouse, DOUBLED)
    before = raw.table(DOUBLED)
    trade(raw, {MONDAY: 11.0}, entity="KO", known_at=raw.known_at(TUESDAY))
    trade(raw, {MONDAY: -1.0}, entity="OIL")
    refused(warehouse, DOUBLED, "failed for OIL")
    assert raw.table(DOUBLED) == before


def test_sql_may_end_with_a_comment(warehouse, raw, close):
    raw.observe({MONDAY: 1.0})
    assert materialize(warehouse, replace(close, sql=f"{close.sql} -- all series")).added == 1


def test_several_values_for_one_date_are_refused(warehouse, raw, close):
    twice = replace(close, name="twice", sql=f"{close.sql} UNION ALL {close.sql}")
    raw.observe({MONDAY: 1.0})
    refused(warehouse, twice, "gives several rows for SP500 on 2018-12-10")
    nothing_was_written(warehouse, twice)


def test_two_sources_of_one_symbol_are_refused(warehouse, raw):
    trade(raw, {MONDAY: 1.0})
    trade(raw, {MONDAY: 1.1}, source="files.stocks")
    with pytest.raises(LookbackError, match="two sources have bars of KO on 2018-12-10"):
        materialize(warehouse, DOUBLED)
    nothing_was_written(warehouse, DOUBLED)


def test_of_two_sources_of_a_series_one_takes_over(warehouse, raw, close):
    """It is read whole from the first by name, and from when that is there."""
    raw.observe({MONDAY: 1.0, TUESDAY: 2.0, WEDNESDAY: 3.0}, source="fred.SP500")
    materialize(warehouse, close)
    raw.observe({WEDNESDAY: 3.1}, known_at=raw.known_at(THURSDAY), source="alfred.SP500")
    materialize(warehouse, close)
    raw.observe({THURSDAY: 4.0}, known_at=raw.known_at(FRIDAY), source="fred.SP500")
    materialize(warehouse, close)
    before = {MONDAY: 1.0, TUESDAY: 2.0, WEDNESDAY: 3.0}
    assert values_at(warehouse, close, raw.known_at(WEDNESDAY)) == before
    assert values_at(warehouse, close, raw.known_at(FRIDAY)) == {WEDNESDAY: 3.1}
    incremental, anew = rebuilt(raw, close)
    assert incremental == anew


def test_rows_in_parts_are_the_same_rows(warehouse, raw, monkeypatch):
    """Entities are read and computed in parts; where these end changes nothing."""
    for number, entity in enumerate("ABCDEFG"):
        trade(raw, {MONDAY: 10.0 + number, TUESDAY: 11.0, WEDNESDAY: 12.5}, entity=entity)
    materialize(warehouse, DOUBLED)
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(evaluate, "ROWS_AT_ONCE", 2)
    at_once, in_parts = rebuilt(raw, DOUBLED)
    assert len(at_once) == 21
    assert at_once == in_parts
