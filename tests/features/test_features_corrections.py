"""However raw rows arrive, a view's table is that of one rebuild, and past reads stand."""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from db.tables import bars, corporate_actions, observations
from features import catalog
from features.materialize import materialize
from features.view import Feature, FeatureView, Input
from features.views import market_beta
from features.views.macro_annual_change import annual_change
from features.views.price_factors import VIEW as PRICE_FACTORS

# --------------------------------------------------------------------------- views


def view_of(name, inputs, features, **choice):
    """A view of the shortest window: every value counts."""
    return FeatureView(
        name=name,
        description=name,
        entity=choice.pop("entity", "symbol"),
        inputs=inputs,
        features=tuple(Feature(feature) for feature in features),
        window=1,
        target=features[0],
        horizon=1,
        horizon_unit=choice.pop("horizon_unit", "session"),
        **choice,
    )


def momentum(inputs):
    rows = inputs["bars"]
    growth = rows["growth"]
    (both,) = rows.levels(growth, (2,))
    return {
        "gain": rows.now(growth) - 1,
        "gain_3": rows.product(growth, 3) - 1,
        "mean_2": both.mean,
        "deviation_3": rows.std(growth - 1, 3),
        "price": rows.now(rows["close"]),
    }


def smoothed(inputs):
    rows = inputs["momentum"]
    return {"gain_2": rows.mean(rows["gain"], 2)}


def above_the_rest(inputs):
    """Own growth less the mean over all, of the same day."""
    own, breadth = inputs["bars"], inputs["breadth"]
    at = np.searchsorted(breadth.date, own.date)
    mean = np.full(len(own), np.nan)
    found = at < len(breadth)
    found[found] = breadth.date[at[found]] == own.date[found]
    mean[found] = breadth["mean_gain"][at[found]]
    return {"excess": own.now(own["growth"] - 1 - mean)}


CHANGE = view_of(
    "change",
    (Input("observations", memory=1),),
    ("change",),
    entity="series",
    sql="""
        -- one row per period: the change to the period before, known once both were
        SELECT series AS entity, period AS date,
            value - lag(value) OVER before AS change,
            greatest(known_at, lag(known_at) OVER before) AS known_at
        FROM observations
        WINDOW before AS (PARTITION BY series ORDER BY period)
    """,
)
SINCE_THE_FIRST = view_of(
    "since_the_first",
    (Input("observations"),),
    ("ratio",),
    entity="series",
    sql="""
        -- one row per period: its value over the oldest one
        SELECT series AS entity, period AS date,
            value / first_value(value) OVER until_now AS ratio,
            max(known_at) OVER until_now AS known_at
        FROM observations
        WINDOW until_now AS (PARTITION BY series ORDER BY period)
    """,
)
MOMENTUM = view_of(
    "momentum",
    (Input("bars", memory=3),),
    ("gain", "gain_3", "mean_2", "deviation_3", "price"),
    transform=momentum,
)
PAID = view_of(
    "paid",
    (Input("bars", memory=0),),
    ("dividend", "split"),
    sql="SELECT entity, session AS date, dividend, split, known_at FROM bars",
)
# two bars instead of the 252 that the same code has in service
BETA = replace(
    market_beta.VIEW,
    name="beta",
    inputs=tuple(replace(one, memory=3) for one in market_beta.VIEW.inputs),
    window=1,
)
RANK = view_of(
    "gain_rank",
    (Input("bars", memory=1),),
    ("gain_rank",),
    scope="all",
    sql="""
        -- one row per symbol and session: its gain's rank among those of the session
        SELECT entity, session AS date,
            percent_rank() OVER (PARTITION BY session ORDER BY growth) AS gain_rank,
            max(known) OVER (PARTITION BY session) AS known_at
        FROM (
            SELECT *, greatest(
                known_at, lag(known_at) OVER (PARTITION BY entity ORDER BY session)
            ) AS known
            FROM bars
        )
        WHERE growth IS NOT NULL
    """,
)
BREADTH = view_of(
    "breadth",
    (Input("bars", memory=1),),
    ("mean_gain",),
    scope="all",
    sql="""
        -- one row per session: the mean gain of all symbols, known once all are
        SELECT 'market' AS entity, session AS date, avg(growth ORDER BY entity) - 1 AS mean_gain,
            max(known) AS known_at
        FROM (
            SELECT *, greatest(
                known_at, lag(known_at) OVER (PARTITION BY entity ORDER BY session)
            ) AS known
            FROM bars
        )
        WHERE growth IS NOT NULL
        GROUP BY session
    """,
)
SMOOTHED = view_of(
    "smoothed",
    (Input("momentum", memory=1),),
    ("gain_2",),
    transform=smoothed,
)
WEIGHTED = view_of(
    "weighted",
    (Input("bars", memory=0), Input("momentum", memory=0)),
    ("amount",),
    sql="""
        SELECT b.entity, b.session AS date, b.close * m.gain AS amount,
            greatest(b.known_at, m.known_at) AS known_at
        FROM bars b
        JOIN momentum m ON m.entity = b.entity AND m.date = b.session
    """,
)
RANK_CHANGE = view_of(
    "rank_change",
    (Input("gain_rank", memory=1),),
    ("rank_change",),
    sql="""
        SELECT entity, date, gain_rank - lag(gain_rank) OVER before AS rank_change,
            greatest(known_at, lag(known_at) OVER before) AS known_at
        FROM gain_rank
        WINDOW before AS (PARTITION BY entity ORDER BY date)
    """,
)
EXCESS = view_of(
    "excess",
    (Input("bars", memory=1), Input("breadth", shared=True, memory=0)),
    ("excess",),
    transform=above_the_rest,
)
MACRO = replace(annual_change("macro", "a pair", "UMCSENT", "IPGMFN"), window=1)
MACRO_DOUBLED = view_of(
    "macro_doubled",
    (Input("macro", memory=0),),
    ("doubled",),
    entity="series",
    sql="SELECT entity, date, 2 * level_change AS doubled, known_at FROM macro",
    horizon_unit="month",
)
VIEWS = (
    CHANGE,
    SINCE_THE_FIRST,
    MOMENTUM,
    PAID,
    BETA,
    RANK,
    BREADTH,
    SMOOTHED,
    WEIGHTED,
    RANK_CHANGE,
    EXCESS,
    MACRO,
    MACRO_DOUBLED,
)


@pytest.fixture(autouse=True)
def declared(monkeypatch, warehouse):
    """A catalog of these views, and a beta of two returns."""
    warehouse.native.execute("SET threads = 1")  # small queries, many of them: half the time
    ordered = catalog.in_order({view.name: view for view in VIEWS})
    monkeypatch.setattr(catalog, "feature_views", lambda: ordered)
    monkeypatch.setattr(market_beta, "YEAR", 2)


# --------------------------------------------------------------------------- arrivals


FIRST_SESSION, SESSIONS = date(2018, 11, 1), 9
FIRST_MONTH, MONTHS = "2016-01-01", 18
SYMBOLS, INDEX = ("A", "B", "C"), "SP500"


@dataclass(frozen=True)
class World:
    """Raw rows, and in which order and in how many nights they arrive.

    Attributes
    ----------
    rows : table and row of it, in the order of arrival.
    nights : positions before which the views are brought up to date.
    """

    rows: tuple
    nights: tuple


def sessions_of(calendar):
    """The sessions of this small world, and as many again for what is known late."""
    return [calendar.offset(FIRST_SESSION, number) for number in range(1, 2 * SESSIONS + 1)]


def known_at(calendar, session, hours=4):
    return pd.Timestamp(calendar.close(session)) + pd.Timedelta(hours=hours)


PRICE = st.integers(300, 3000).map(lambda number: number / 7)
BAR = st.tuples(
    st.sampled_from(SYMBOLS),
    st.integers(0, SESSIONS - 1),
    st.sampled_from((0, 0, 0, 0, 1, 2, 5)),  # sessions after it until it was known
    PRICE,
)
ACTION = st.tuples(
    st.sampled_from(SYMBOLS),
    st.sampled_from(("split", "split", "dividend", "dividend", "delisting")),
    st.integers(0, SESSIONS - 1),  # ex-date
    st.sampled_from((-3, -1, 0, 0, 1, 3)),  # sessions after the ex-date until it was known
    st.sampled_from((2.0, 0.5, 3.0)),
)
RESTATEMENT = st.tuples(
    st.sampled_from(SYMBOLS),
    st.integers(1, SESSIONS - 1),  # session on which it became known
    st.integers(0, SESSIONS - 1),  # first session that it has
    st.integers(1, 2),  # every one, or every other
    st.integers(2, 9).map(lambda number: number / 7),
)
OBSERVATION = st.tuples(
    st.sampled_from((INDEX, INDEX, "VIX")),
    st.integers(0, SESSIONS - 1),
    st.sampled_from((0, 0, 0, 1, 3)),
    PRICE,
    st.sampled_from(("test", "test", "test", "alfred")),  # a second source, which goes first
)
MONTHLY = st.tuples(
    st.sampled_from(("UMCSENT", "IPGMFN")),
    st.integers(0, MONTHS - 1),
    st.sampled_from((0, 0, 0, 1, 4)),  # vintages after its first possible one
    PRICE,
)


def bars_of(calendar, prices, restatements):
    """Bars with the number of the history that was newest when they became known."""
    days = sessions_of(calendar)
    taken = {(symbol, at): (first, step, ratio) for symbol, at, first, step, ratio in restatements}
    for symbol, session, delay, price in prices:
        history = sum(1 for other, at in taken if other == symbol and at < session + delay)
        yield bar_row(
            symbol, days[session], price, history, known_at(calendar, days[session + delay])
        )
    for (symbol, at), (first, step, ratio) in taken.items():
        history = 1 + sum(1 for other, before in taken if other == symbol and before < at)
        known = known_at(calendar, days[at], hours=5)
        so_far = {
            session: price
            for other, session, delay, price in sorted(prices, key=lambda bar: bar[2])
            if other == symbol and session + delay <= at
        }
        for session, price in so_far.items():
            if session >= first and (session - first) % step == 0:
                yield bar_row(symbol, days[session], price * ratio, history, known)


def bar_row(symbol, session, price, history, known):
    return (
        "bars",
        {
            "entity": symbol,
            "session": session,
            "close": price,
            "volume": 100.0,
            "adjustment": "raw",
            "history": history,
            "known_at": known,
        },
    )


def actions_of(calendar, actions):
    days = sessions_of(calendar)
    for symbol, kind, ex, late, factor in actions:
        known = known_at(calendar, calendar.offset(days[ex], late) if late else days[ex])
        yield (
            "corporate_actions",
            {
                "entity": symbol,
                "ex_date": days[ex],
                "kind": kind,
                "factor": 0.0 if kind == "delisting" else factor,
                "known_at": known,
            },
        )


def observations_of(calendar, daily, monthly):
    days = sessions_of(calendar)
    for series, session, delay, value, source in daily:
        known = known_at(calendar, days[session + delay])
        yield observation_row(series, days[session], value, known, source)
    months = pd.date_range(FIRST_MONTH, periods=2 * MONTHS, freq="MS", tz="UTC")
    for series, month, delay, value in monthly:
        # all rows of a vintage became known at one instant
        known = months[month + 1 + delay] + pd.Timedelta(days=9, hours=15)
        yield observation_row(series, months[month].date(), value, known)


def observation_row(series, period, value, known, source="test"):
    return (
        "observations",
        {
            "source": source,
            "series": series,
            "period": period,
            "value": value,
            "known_at": known,
        },
    )


def once(strategy, key, **size):
    return st.lists(strategy, unique_by=key, **size)


@st.composite
def worlds(draw, calendar, table):
    """Rows of one kind of raw table, and of what else is read with it."""
    rows = []
    if table != "macro":
        if table == "bars":
            prices = draw(once(BAR, lambda bar: bar[:3], min_size=1, max_size=24))
            rows += bars_of(
                calendar,
                prices,
                draw(once(RESTATEMENT, lambda one: one[:2], max_size=2)),
            )
            rows += actions_of(calendar, draw(once(ACTION, lambda one: one[:4], max_size=4)))
        size = {"min_size": 1, "max_size": 20} if table == "observations" else {"max_size": 10}
        seen = draw(once(OBSERVATION, lambda one: one[:3], **size))
        rows += observations_of(calendar, seen, [])
    else:
        # a year without a hole, then as it comes: changes begin with the thirteenth month
        base = [
            (name, month, 0, 20.0 + month) for name in ("UMCSENT", "IPGMFN") for month in range(14)
        ]
        more = draw(once(MONTHLY, lambda one: one[:3], min_size=1, max_size=12))
        given = {one[:3]: one for one in [*base, *more]}
        rows += observations_of(calendar, [], given.values())
    rows.sort(key=lambda row: row[1]["known_at"])
    # a bar that is fetched late belongs to the newest history, never to an older one
    restated = {row["entity"] for name, row in rows if name == "bars" and row["history"]}
    free = [at for at, (_, row) in enumerate(rows) if row.get("entity") not in restated]
    late = draw(st.lists(st.sampled_from(free), max_size=4, unique=True)) if free else []
    punctual = [row for at, row in enumerate(rows) if at not in late]
    nights = sorted(draw(st.sets(st.integers(0, len(rows)), max_size=3)))
    order = list(punctual)
    for at in late:
        order.insert(draw(st.integers(0, len(order))), rows[at])
    return World(tuple(order), tuple(nights))


def append(raw, rows):
    """Append rows in this order, those of one table at once."""
    for table in (bars, corporate_actions, observations):
        frame = pd.DataFrame([row for name, row in rows if name == table.name])
        if len(frame):
            source = frame.get("source", "test")
            ingested = pd.Timestamp("2030-01-01", tz="UTC")
            frame = frame.assign(source=source, ingested_at=ingested, run_id="run")
            raw.warehouse.append(table, frame)


def whole_table(raw, view):
    """Every row of a view's table, also such as no read can see; values by their bits."""
    rows = raw.warehouse.sql(
        f"SELECT entity, date, known_at, known_until, {', '.join(view.names)} FROM {view.table} "
        "ORDER BY ALL"
    )
    return [(*row[:4], *(None if x is None else x.hex() for x in row[4:])) for row in rows]


def read(raw, view, cutoff):
    """What a read at a cut-off sees: entity, date, the values and since when."""
    return raw.warehouse.sql(
        f"""
        SELECT entity, date, {", ".join(view.names)}, known_at FROM {view.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
        ORDER BY entity, date
        """,
        cutoff,
    )


END_OF_TIME = pd.Timestamp("2100-01-01", tz="UTC")
OF = {
    "observations": (CHANGE, SINCE_THE_FIRST),
    "bars": (
        MOMENTUM,
        PAID,
        BETA,
        RANK,
        BREADTH,
        SMOOTHED,
        WEIGHTED,
        RANK_CHANGE,
        EXCESS,
    ),
    "macro": (MACRO, MACRO_DOUBLED),
}
CASES = [pytest.param(table, view, id=view.name) for table, views in OF.items() for view in views]


def however(count):
    """A property over that many worlds; what fails is small as it is, and slow to shrink."""
    return examples(
        max_examples=count,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def check(raw, calendar, table, view, data):
    """The table after some nights is that of one, and reads are those of an earlier store."""
    world = data.draw(worlds(calendar, table), label="world")
    raw.clear()
    begin = 0
    for night in (*world.nights, len(world.rows)):
        append(raw, world.rows[begin:night])
        materialize(raw.warehouse, view)
        begin = night
    incremental = whole_table(raw, view)
    cutoff = data.draw(st.sampled_from(sorted({row["known_at"] for _, row in world.rows})))
    seen = read(raw, view, cutoff)

    raw.clear()
    append(raw, data.draw(st.permutations(world.rows), label="another order"))
    materialize(raw.warehouse, view)
    assert whole_table(raw, view) == incremental

    raw.clear()
    append(raw, [row for row in world.rows if row[1]["known_at"] <= cutoff])
    materialize(raw.warehouse, view)
    assert read(raw, view, END_OF_TIME) == seen


@pytest.mark.parametrize(("table", "view"), CASES)
@however(2)
@given(data=st.data())
def test_however_rows_arrive_the_table_is_that_of_one_night(raw, calendar, table, view, data):
    check(raw, calendar, table, view, data)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "view"), CASES)
@however(40)
@given(data=st.data())
def test_however_rows_arrive_in_many_more_worlds(raw, calendar, table, view, data):
    check(raw, calendar, table, view, data)


@pytest.mark.parametrize("view", [RANK, RANK_CHANGE, EXCESS], ids=lambda view: view.name)
def test_a_view_over_a_comparison_is_computed_for_all(raw, calendar, view):
    """A bar that comes late moves the ranks of the others, here and in views over them."""
    days = sessions_of(calendar)
    closes = {"A": (10.0, 11.0, 12.0), "B": (10.0, 10.5, 12.0), "C": (10.0, 10.9, 10.0)}
    rows = {
        (symbol, at): bar_row(symbol, days[at], close, 0, known_at(calendar, days[at]))
        for symbol, prices in closes.items()
        for at, close in enumerate(prices)
    }
    late = rows.pop(("B", 2))
    late[1]["known_at"] = known_at(calendar, days[3])
    append(raw, rows.values())
    materialize(raw.warehouse, view)
    append(raw, [late])
    materialize(raw.warehouse, view)
    incremental = whole_table(raw, view)
    assert {entity for entity, *_ in incremental} == {"A", "B", "C"}
    materialize(raw.warehouse, view, rebuild=True)
    assert whole_table(raw, view) == incremental


def test_a_view_over_shared_rows_alone_has_their_values(raw):
    months = pd.date_range("2016-01-01", periods=14, freq="MS")
    for number, month in enumerate(months):
        known = month.tz_localize("UTC") + pd.Timedelta(days=40)
        for series in ("UMCSENT", "IPGMFN"):
            append(raw, [observation_row(series, month.date(), 50.0 + number, known)])
    materialize(raw.warehouse, MACRO_DOUBLED)
    assert raw.warehouse.sql(f"SELECT entity, doubled FROM {MACRO_DOUBLED.table}") == [
        ("US", 24.0),
        ("US", 24.0),
    ]


# --------------------------------------------------------------------------- adjustments


DAYS = [f"2018-12-{day}" for day in (10, 11, 12, 13, 14)]
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = DAYS
RETURNS = replace(PRICE_FACTORS, window=1, stored="float64")


def trade(raw, closes):
    """Raw bars of KO, session -> close, known four hours after it."""
    rows = [
        bar_row("KO", date.fromisoformat(day), close, 0, raw.known_at(day))
        for day, close in closes.items()
    ]
    append(raw, rows)


def act(raw, kind, ex_date, factor, known_at):
    row = {"entity": "KO", "ex_date": date.fromisoformat(ex_date), "kind": kind, "factor": factor}
    append(raw, [("corporate_actions", {**row, "known_at": known_at})])


def returns_at(raw, cutoff):
    """Return of each session that a read at a cut-off sees, rounded."""
    rows = raw.warehouse.sql(
        f"""
        SELECT date, round(return_1, 9) FROM {RETURNS.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
        ORDER BY date
        """,
        cutoff,
    )
    assert len({day for day, _ in rows}) == len(rows)
    return {str(day): value for day, value in rows}


SPLIT = {MONDAY: 100.0, TUESDAY: 110.0, WEDNESDAY: 56.1, THURSDAY: 55.539}
ACTIONS = {
    # kind, factor, what Wednesday's holder earned: a share at 110 on Tuesday became …
    "two shares for one": ("split", 2.0, 0.02),  # … two at 56.10
    "one share for four": ("split", 0.25, 0.25 * 56.1 / 110 - 1),
    "a dividend": ("dividend", 1.9, 58 / 110 - 1),  # … one at 56.10 and 1.90 in cash
}


@pytest.mark.parametrize("nights", ["every night", "one night"])
@pytest.mark.parametrize("what", ACTIONS)
def test_an_action_known_in_time_gives_what_the_holder_earned(raw, what, nights):
    kind, factor, earned = ACTIONS[what]
    act(raw, kind, WEDNESDAY, factor, raw.known_at(MONDAY))
    if nights == "every night":
        for day, close in SPLIT.items():
            trade(raw, {day: close})
            materialize(raw.warehouse, RETURNS)
    else:
        trade(raw, SPLIT)
        materialize(raw.warehouse, RETURNS)
    assert returns_at(raw, END_OF_TIME) == {
        MONDAY: None,
        TUESDAY: 0.1,
        WEDNESDAY: round(earned, 9),
        THURSDAY: -0.01,
    }
    assert raw.warehouse.one(f"SELECT count(*), count(known_until) FROM {RETURNS.table}") == (4, 0)


def test_a_split_and_a_dividend_of_one_day_both_count(raw):
    """CRSP: the dividend is of the new shares, paid per share after the split."""
    act(raw, "split", WEDNESDAY, 2.0, raw.known_at(MONDAY))
    act(raw, "dividend", WEDNESDAY, 1.0, raw.known_at(MONDAY))
    trade(raw, SPLIT)
    materialize(raw.warehouse, RETURNS)
    expected = (56.1 * 2 + 1) / 110 - 1
    assert returns_at(raw, END_OF_TIME)[WEDNESDAY] == round(expected, 9)


@pytest.mark.parametrize("what", ACTIONS)
def test_an_action_known_late_changes_values_from_then_on(raw, what):
    """And only those from its ex-date on; who read before sees what there was."""
    kind, factor, earned = ACTIONS[what]
    trade(raw, SPLIT)
    materialize(raw.warehouse, RETURNS)
    table = whole_table(raw, RETURNS)
    act(raw, kind, WEDNESDAY, factor, raw.known_at(FRIDAY))
    materialize(raw.warehouse, RETURNS)
    fell = {MONDAY: None, TUESDAY: 0.1, WEDNESDAY: -0.49, THURSDAY: -0.01}
    assert returns_at(raw, raw.known_at(THURSDAY)) == fell
    assert returns_at(raw, raw.known_at(FRIDAY)) == fell | {WEDNESDAY: round(earned, 9)}
    incremental = whole_table(raw, RETURNS)
    before_ex_date = [row for row in incremental if str(row[1]) < WEDNESDAY]
    assert before_ex_date == [row for row in table if str(row[1]) < WEDNESDAY]
    materialize(raw.warehouse, RETURNS, rebuild=True)
    assert whole_table(raw, RETURNS) == incremental


def test_a_corrected_factor_replaces_the_first(raw):
    """Announced as 3 for 1, known on Thursday to have been 2 for 1."""
    act(raw, "split", WEDNESDAY, 3.0, raw.known_at(MONDAY))
    trade(raw, SPLIT)
    materialize(raw.warehouse, RETURNS)
    act(raw, "split", WEDNESDAY, 2.0, raw.known_at(THURSDAY))
    materialize(raw.warehouse, RETURNS)
    first = round(3 * 56.1 / 110 - 1, 9)
    assert returns_at(raw, raw.known_at(WEDNESDAY))[WEDNESDAY] == first
    assert returns_at(raw, raw.known_at(THURSDAY))[WEDNESDAY] == 0.02


def test_a_split_on_a_day_without_a_bar_counts_at_the_next(raw):
    act(raw, "split", WEDNESDAY, 2.0, raw.known_at(MONDAY))
    trade(raw, {MONDAY: 100.0, TUESDAY: 110.0})
    materialize(raw.warehouse, RETURNS)
    trade(raw, {THURSDAY: 56.1})
    materialize(raw.warehouse, RETURNS)
    assert returns_at(raw, END_OF_TIME)[THURSDAY] == 0.02


def test_an_action_is_in_the_columns_of_one_bar_only(raw):
    """On its ex-date, else at the next bar; what was before the listing is at none."""
    act(raw, "dividend", MONDAY, 3.0, raw.known_at(MONDAY))
    act(raw, "dividend", WEDNESDAY, 1.0, raw.known_at(MONDAY))
    act(raw, "split", THURSDAY, 2.0, raw.known_at(MONDAY))
    for day in (TUESDAY, THURSDAY, FRIDAY):
        trade(raw, {day: 10.0})
        materialize(raw.warehouse, PAID)
    incremental = whole_table(raw, PAID)
    assert raw.warehouse.sql(f"SELECT dividend, split FROM {PAID.table} ORDER BY date") == [
        (0.0, 1.0),
        (1.0, 2.0),
        (0.0, 1.0),
    ]
    materialize(raw.warehouse, PAID, rebuild=True)
    assert whole_table(raw, PAID) == incremental


def test_nothing_is_left_from_a_delisting_on(raw):
    """Known in time: the bar a vendor sends afterwards is none. Known late: gone from then on."""
    act(raw, "delisting", THURSDAY, 0.0, raw.known_at(WEDNESDAY))
    trade(raw, SPLIT)
    materialize(raw.warehouse, RETURNS)
    assert list(returns_at(raw, END_OF_TIME)) == [MONDAY, TUESDAY, WEDNESDAY]
    act(raw, "delisting", WEDNESDAY, 0.0, raw.known_at(FRIDAY))
    materialize(raw.warehouse, RETURNS)
    assert list(returns_at(raw, raw.known_at(THURSDAY))) == [MONDAY, TUESDAY, WEDNESDAY]
    assert list(returns_at(raw, raw.known_at(FRIDAY))) == [MONDAY, TUESDAY]
