from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from db.errors import LookAheadError, LookbackError, UsageError
from features.join import join
from features.materialize import materialize
from features.view import Feature, Input
from features.windows import read_windows

DAYS = [f"2018-12-{day}" for day in (10, 11, 12, 13, 14, 17, 18, 19, 20, 21)]
END = pd.Timestamp("2019-02-01", tz="UTC")
MOMENT = timedelta(microseconds=1)


def numbered(days=DAYS):
    """Every session has its number as its value."""
    return {day: float(number) for number, day in enumerate(days, start=1)}


def spine(*rows):
    """Rows (symbol, timestamp)."""
    symbols, instants = zip(*rows, strict=True)
    stamps = pd.DatetimeIndex(pd.to_datetime(list(instants), utc=True)).as_unit("us")
    return pd.DataFrame({"symbol": list(symbols), "timestamp": stamps})


def joined(raw, view, rows, cutoff=END):
    materialize(raw.warehouse, view)
    return join(raw.warehouse, rows, [view], cutoff)


def column(table, name):
    return table[name].to_pylist()


# ------------------------------------------------------------------------------- what it gives


def test_each_row_gets_the_newest_value_known_at_its_instant(raw, close):
    raw.observe(numbered())
    known = raw.known_at(DAYS[4])
    result = joined(
        raw, close, spine(("SP500", known), ("SP500", known - MOMENT), ("SP500", DAYS[0]))
    )
    assert result.column_names == [
        "symbol",
        "timestamp",
        "close__close",
        "close__date",
        "close__known_at",
    ]
    assert column(result, "close__close") == [5.0, 4.0, None]
    assert column(result, "close__date") == [date(2018, 12, 14), date(2018, 12, 13), None]
    assert column(result, "close__known_at") == [known, raw.known_at(DAYS[3]), None]


def test_the_order_and_the_other_columns_of_the_spine_stay(raw, close):
    raw.observe(numbered(), series="A")
    raw.observe({day: -value for day, value in numbered().items()}, series="B")
    rows = spine(("B", END), ("A", raw.known_at(DAYS[2])), ("B", raw.known_at(DAYS[0])), ("A", END))
    rows = rows.assign(weight=[0.1, 0.2, 0.3, 0.4], note=["x", None, "z", "w"])
    result = joined(raw, close, rows)
    assert column(result, "symbol") == ["B", "A", "B", "A"]
    assert column(result, "weight") == [0.1, 0.2, 0.3, 0.4]
    assert column(result, "note") == ["x", None, "z", "w"]
    assert column(result, "close__close") == [-10.0, 3.0, -1.0, 10.0]
    assert column(result, "timestamp") == rows["timestamp"].tolist()


SPINES = {
    "pandas": lambda rows: rows,
    "pandas with an index": lambda rows: rows.set_index(pd.Index([7, 3], name="number")),
    "Arrow": lambda rows: pa.Table.from_pandas(rows, preserve_index=False),
    "Arrow in chunks": lambda rows: pa.concat_tables(
        [pa.Table.from_pandas(rows.iloc[[n]], preserve_index=False) for n in range(2)]
    ),
    "categories": lambda rows: rows.astype({"symbol": "category"}),
    "another zone": lambda rows: rows.assign(
        timestamp=rows["timestamp"].dt.tz_convert("Asia/Tokyo")
    ),
    "nanoseconds": lambda rows: rows.assign(timestamp=rows["timestamp"].dt.as_unit("ns")),
    "seconds": lambda rows: rows.assign(timestamp=rows["timestamp"].dt.as_unit("s")),
}


@pytest.mark.parametrize("kind", SPINES)
def test_a_spine_is_pandas_or_arrow(raw, close, kind):
    raw.observe(numbered())
    rows = spine(("SP500", END), ("SP500", raw.known_at(DAYS[3])))
    result = joined(raw, close, SPINES[kind](rows))
    assert column(result, "close__close") == [10.0, 4.0]
    assert column(result, "timestamp") == rows["timestamp"].tolist()


def test_several_views_stand_side_by_side(raw, close):
    root = replace(close, name="root", sql=close.sql.replace("value", "sqrt(value)"))
    raw.observe(numbered())
    materialize(raw.warehouse, close)
    materialize(raw.warehouse, root)
    result = join(raw.warehouse, spine(("SP500", END)), [close, root], END)
    assert result.to_pylist()[0] | {"symbol": "", "timestamp": ""} == {
        "symbol": "",
        "timestamp": "",
        "close__close": 10.0,
        "close__date": date(2018, 12, 21),
        "close__known_at": raw.known_at(DAYS[-1]),
        "root__close": 10.0**0.5,
        "root__date": date(2018, 12, 21),
        "root__known_at": raw.known_at(DAYS[-1]),
    }


def test_symbols_that_nobody_knows_get_nulls(raw, close):
    raw.observe(numbered())
    result = joined(raw, close, spine(("XYZ", END), ("SP500", END)))
    assert column(result, "close__close") == [None, 10.0]
    assert column(result, "close__date") == [None, date(2018, 12, 21)]


def test_a_view_without_values_gives_nulls(raw, close):
    result = joined(raw, close, spine(("SP500", END)))
    assert column(result, "close__close") == [None]


@pytest.mark.parametrize("filled", [True, False])
def test_an_empty_spine_gives_no_rows_and_all_columns(raw, close, filled):
    if filled:
        raw.observe(numbered())
    result = joined(raw, close, spine(("SP500", END)).iloc[:0])
    assert result.num_rows == 0
    assert result.column_names[2:] == ["close__close", "close__date", "close__known_at"]


def test_a_view_of_one_shared_entity_goes_to_every_symbol(raw, close):
    macro = replace(
        close,
        name="macro",
        inputs=(Input("observations", entities=("BAA",), shared=True),),
        sql="SELECT 'US' AS entity, period AS date, value AS close, known_at FROM observations",
    )
    raw.observe(numbered(), series="BAA")
    rows = spine(("AMD", END), ("KO", raw.known_at(DAYS[1])), ("XYZ", END), ("KO", DAYS[0]))
    assert column(joined(raw, macro, rows), "macro__close") == [10.0, 2.0, 10.0, None]


# ------------------------------------------------------------------------------- when it was known


def test_a_correction_counts_from_when_it_was_known(raw, close):
    raw.observe(numbered())
    raw.observe({DAYS[-1]: 10.5}, known_at=END - timedelta(days=2))
    rows = spine(("SP500", END), ("SP500", END - timedelta(days=2)), ("SP500", END - timedelta(3)))
    result = joined(raw, close, rows)
    assert column(result, "close__close") == [10.5, 10.5, 10.0]


def test_a_value_that_was_withdrawn_gives_way_to_the_one_before_it(raw, close):
    positive = replace(close, name="positive", sql=f"{close.sql} WHERE value > 0")
    raw.observe(numbered())
    raw.observe({DAYS[-1]: -1.0}, known_at=END - timedelta(days=2))
    rows = spine(("SP500", END), ("SP500", END - timedelta(days=2, seconds=1)))
    result = joined(raw, positive, rows)
    assert column(result, "positive__close") == [9.0, 10.0]
    assert column(result, "positive__date") == [date(2018, 12, 20), date(2018, 12, 21)]


def test_a_row_that_came_after_later_ones_is_not_the_newest(raw, close):
    raw.observe(numbered(DAYS[:3] + DAYS[4:]))
    raw.observe({DAYS[3]: 99.0}, known_at=raw.known_at(DAYS[6]))
    instants = [raw.known_at(day) for day in DAYS[4:8]]
    result = joined(raw, close, spine(*[("SP500", one) for one in instants]))
    assert column(result, "close__close") == [4.0, 5.0, 6.0, 7.0]


# ------------------------------------------------------------------------------- breaks and gaps


def looking_back(close, memory=2, **change):
    """Closes that say of themselves that they look back."""
    return replace(close, name="back", features=(Feature("close", memory),), **change)


def test_what_looks_back_over_a_break_is_null(raw, close):
    raw.observe(numbered())
    raw.append_break("level", DAYS[4], resolved=DAYS[7])
    instants = [raw.known_at(day) for day in DAYS]
    result = joined(raw, looking_back(close), spine(*[("SP500", one) for one in instants]))
    expected = [None, None, 3.0, 4.0, None, None, 7.0, 8.0, 9.0, 10.0]
    assert column(result, "back__close") == expected
    # the row is there, though its value is not
    assert column(result, "back__date") == [date.fromisoformat(day) for day in DAYS]


def test_what_looks_back_over_a_long_gap_is_null(raw, close):
    days = [*DAYS[:3], *DAYS[7:]]
    raw.observe(numbered(days))
    instants = [raw.known_at(day) for day in days]
    result = joined(raw, looking_back(close, 1), spine(*[("SP500", one) for one in instants]))
    assert column(result, "back__close") == [None, 2.0, 3.0, None, 5.0, 6.0]


def test_a_jump_is_a_suspicion_until_its_verdict(raw, close):
    raw.observe(numbered())
    raw.append_break("jump", DAYS[8], resolved=DAYS[9])
    at = raw.known_at(DAYS[9])
    rows = spine(("SP500", at - MOMENT), ("SP500", at), ("SP500", raw.known_at(DAYS[7])))
    assert column(joined(raw, looking_back(close), rows), "back__close") == [None, 10.0, 8.0]


def test_a_split_that_is_known_is_no_break(raw, close):
    raw.observe(numbered(), series="KO")
    raw.append_break("pending", DAYS[8], entity="KO")
    told = raw.known_at(DAYS[9]) + timedelta(hours=3)
    raw.append_actions(
        pd.DataFrame(
            {
                "entity": ["KO"],
                "ex_date": pd.to_datetime([DAYS[8]]),
                "kind": "split",
                "factor": 2.0,
                "known_at": [told],
            }
        )
    )
    rows = spine(("KO", told - MOMENT), ("KO", told))
    assert column(joined(raw, looking_back(close), rows), "back__close") == [None, 10.0]


def test_a_spike_is_null_even_where_nothing_looks_back(raw, close):
    raw.observe(numbered())
    raw.append_break("spike", DAYS[8], until=DAYS[9], resolved="2018-12-24")
    resolved = raw.known_at("2018-12-24")
    rows = spine(("SP500", resolved), ("SP500", resolved - MOMENT))
    assert column(joined(raw, close, rows), "close__close") == [None, 10.0]


def test_a_history_that_came_at_once_has_its_rows(raw, close):
    """Rows with one `known_at` are rows before the newest: it may look back over them."""
    raw.observe(numbered(), known_at=raw.known_at(DAYS[-1]))
    result = joined(raw, looking_back(close, 5), spine(("SP500", END)))
    assert column(result, "back__close") == [10.0]


def test_a_correction_is_no_further_row(raw, close):
    """Two vintages of one session are one row to look back over."""
    raw.observe(numbered())
    raw.observe({DAYS[-1]: 11.0}, known_at=raw.known_at(DAYS[-1], hours=6))
    raw.append_break("level", DAYS[-2])
    result = joined(raw, looking_back(close, 2), spine(("SP500", END)))
    assert column(result, "back__close") == [None]
    assert column(result, "back__date") == [date(2018, 12, 21)]


# ------------------------------------------------------------------------------- by brute force


def brute(raw, view, symbol, instant):
    """What one row of a spine meets, by reading the whole table: (values, date, known_at)."""
    warehouse = raw.warehouse
    rows = warehouse.sql(
        f"""
        SELECT date, known_at, {", ".join(view.names)}
        FROM {view.table}
        WHERE entity = ? AND known_at <= $2 AND (known_until IS NULL OR known_until > $2)
        ORDER BY date
        """,
        symbol,
        instant,
    )
    if not rows:
        return ([None] * len(view.names), None, None)
    dates = [row[0] for row in rows]
    breaks = warehouse.sql(
        """
        SELECT session, CASE WHEN resolved_at <= $1 THEN until_session END
        FROM raw.price_breaks b
        WHERE entity = $2 AND known_at <= $1 AND NOT (kind = 'jump' AND resolved_at <= $1)
            AND NOT EXISTS (
                FROM raw.corporate_actions a
                WHERE a.entity = b.entity AND a.ex_date = b.session AND a.kind = 'split'
                    AND a.known_at <= $1
            )
        """,
        instant,
        symbol,
    )
    step = raw.calendar.index(np.array(dates, "datetime64[D]"))
    since = 0
    for number in range(1, len(dates)):
        gap = step[number] - step[number - 1] > view.largest_gap + 1
        broken = any(
            dates[number - 1] < edge <= dates[number]
            for session, until in breaks
            for edge in (session, until + timedelta(days=1) if until else None)
            if edge is not None
        )
        since = 0 if gap or broken else since + 1
    inside = any(until and session <= dates[-1] <= until for session, until in breaks)
    _, known, *values = rows[-1]
    held = [
        None if inside or since < feature.memory else value
        for feature, value in zip(view.features, values, strict=True)
    ]
    return (held, dates[-1], known)


def looks_back(inputs):
    rows = inputs["observations"]
    value = rows["value"]
    return {
        "now": np.where(rows.now(value) == 9, np.nan, rows.now(value)),
        "two": rows.sum(value, 3),
        "four": rows.sum(value, 5),
    }


@pytest.fixture
def sums(close):
    """A value, and sums over three and five rows; 9 stands for no value."""
    return replace(
        close,
        name="sums",
        sql=None,
        transform=looks_back,
        inputs=(Input("observations", memory=4),),
        features=(Feature("now"), Feature("two", 2), Feature("four", 4)),
        target="now",
        window=1,
        largest_gap=1,
    )


SESSIONS = 24
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.integers(0, SESSIONS - 1),  # session that the value is of
        st.one_of(st.just(0), st.integers(0, 12)),  # sessions after it until it was known
        st.integers(1, 9),
    ),
    min_size=5,
    max_size=40,
)
# a delivery at once: many rows with one `known_at`
BATCHES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, SESSIONS - 1)), max_size=2)
BREAKS = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.sampled_from(["level", "spike", "jump", "pending", "split known"]),
        st.integers(1, SESSIONS - 1),
        st.integers(0, 3),
    ),
    max_size=3,
    unique_by=lambda one: (one[0], one[2]),
)


def random_store(raw, arrivals, batches, breaks):
    raw.clear()
    days = [
        str(raw.calendar.offset(date(2018, 10, 1), number)) for number in range(1, SESSIONS + 20)
    ]
    for first, known in batches:
        batch = {day: float(number % 8 + 1) for number, day in enumerate(days[first:known])}
        if batch:
            raw.observe(batch, known_at=raw.known_at(days[known]), series="A")
    for series, session, delay, value in arrivals:
        known = raw.known_at(days[session + delay])
        raw.observe({days[session]: float(value)}, known_at=known, series=series)
    for series, kind, session, length in breaks:
        name = "pending" if kind == "split known" else kind
        raw.append_break(
            name,
            days[session],
            until=days[session + length] if kind == "spike" else None,
            resolved=None if name == "pending" else days[session + length + 2],
            entity=series,
        )
        if kind == "split known":
            raw.append_actions(
                pd.DataFrame(
                    {
                        "entity": [series],
                        "ex_date": pd.to_datetime([days[session]]),
                        "kind": "split",
                        "factor": 2.0,
                        "known_at": [raw.known_at(days[session + length])],
                    }
                )
            )
    return days


RANDOM = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


def check_random(raw, sums, arrivals, batches, breaks):
    days = random_store(raw, arrivals, batches, breaks)
    instants = [raw.known_at(day) - early for day in days for early in (MOMENT, timedelta(0))]
    rows = spine(*[(symbol, one) for one in instants[::-1] for symbol in "BAC"])
    result = joined(raw, sums, rows, raw.known_at(days[-1])).to_pylist()
    for found in result:
        values, day, known = brute(raw, sums, found["symbol"], found["timestamp"])
        where = (found["symbol"], found["timestamp"])
        assert (found["sums__date"], found["sums__known_at"]) == (day, known), where
        assert [found[f"sums__{name}"] for name in sums.names] == values, where
    return result


@given(arrivals=ARRIVALS, batches=BATCHES, breaks=BREAKS)
@examples(max_examples=8, **RANDOM)
def test_it_is_what_looking_at_every_row_gives(raw, sums, arrivals, batches, breaks):
    check_random(raw, sums, arrivals, batches, breaks)


@pytest.mark.slow
@given(arrivals=ARRIVALS, batches=BATCHES, breaks=BREAKS)
@examples(max_examples=200, **RANDOM)
def test_it_is_what_looking_at_every_row_gives_many_times(raw, sums, arrivals, batches, breaks):
    check_random(raw, sums, arrivals, batches, breaks)


@given(arrivals=ARRIVALS, batches=BATCHES, breaks=BREAKS)
@examples(max_examples=4, **RANDOM)
def test_it_is_the_last_row_that_windows_see_at_that_instant(raw, sums, arrivals, batches, breaks):
    days = random_store(raw, arrivals, batches, breaks)
    materialize(raw.warehouse, sums)
    for day in days[::3]:
        instant = raw.known_at(day)
        result = join(raw.warehouse, spine(("A", instant), ("B", instant)), [sums], instant)
        for found in result.to_pylist():
            for name in sums.names:
                windows = read_windows(
                    raw.warehouse,
                    sums,
                    instant,
                    entities=[found["symbol"]],
                    features=[name],
                    as_of=found["sums__date"],
                )
                value = found[f"sums__{name}"]
                assert windows.X[:, 0, 0].tolist() == ([] if value is None else [value])


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("cutoff", [None, datetime(2018, 12, 28, 3), "2018-12-28", pd.NaT])
def test_a_cutoff_is_an_instant(raw, close, cutoff):
    raw.observe(numbered())
    with pytest.raises(LookAheadError, match="joining close needs a cut-off with a time zone"):
        joined(raw, close, spine(("SP500", END)), cutoff)


def test_no_row_may_lie_after_the_cutoff(raw, close):
    raw.observe(numbered())
    rows = spine(("SP500", END), ("SP500", END + MOMENT), ("SP500", END + timedelta(1)))
    with pytest.raises(UsageError, match="2 rows of the spine lie after the cut-off 2019-02-01"):
        joined(raw, close, rows)


ROWS = spine(("SP500", END))
WRONG = {
    "no symbol": (ROWS.drop(columns="symbol"), "no column symbol; it has timestamp"),
    "no timestamp": (ROWS.drop(columns="timestamp"), "no column timestamp; it has symbol"),
    "naive": (ROWS.assign(timestamp=ROWS["timestamp"].dt.tz_localize(None)), "have a time zone"),
    "text": (ROWS.assign(timestamp="2018-12-28"), "must have a time zone"),
    "no instant": (ROWS.assign(timestamp=ROWS["timestamp"].mask([True])), "without a symbol or a"),
    "a null symbol": (ROWS.assign(symbol=[None]), "without a symbol or a"),
    "a taken name": (ROWS.assign(close__close=1.0), "columns that features are called: close__cl"),
    "a taken date": (ROWS.assign(close__date=1.0), "columns that features are called: close__date"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_spine_is_refused_in_one_line(raw, close, what):
    rows, reason = WRONG[what]
    raw.observe(numbered())
    with pytest.raises(UsageError, match=reason) as caught:
        joined(raw, close, rows)
    assert "\n" not in str(caught.value)


def test_a_view_that_was_not_materialized_says_what_to_run(raw, close):
    with pytest.raises(LookbackError, match="run: lookback features materialize close"):
        join(raw.warehouse, spine(("SP500", END)), [close], END)


def test_a_view_twice_is_refused(raw, close):
    raw.observe(numbered())
    materialize(raw.warehouse, close)
    with pytest.raises(UsageError, match="close"):
        join(raw.warehouse, spine(("SP500", END)), [close, close], END)
