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
MACRO = replace(
    annual_change("macro", "a pair", ("UMCSENT", "sentiment"), ("IPGMFN", "production")), window=1
)
MACRO_DOUBLED = view_of(
    "macro_doubled",
    (Input("macro", memory=0),),
    ("doubled",),
    entity="series",
    sql="SELECT entity, date, 2 * sentiment AS doubled, known_at FROM macro",
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
    for series, session, delay, value in daily:
        yield observation_row(
            series, days[session], value, known_at(calendar, days[session + delay])
        )
    months = pd.date_range(FIRST_MONTH, periods=2 * MONTHS, freq="MS", tz="UTC")
    for series, month, delay, value in monthly:
        # all rows of a vintage became known at one instant
        known = months[month + 1 + delay] + pd.Timedelta(days=9, hours=15)
        yield observation_row(series, months[month].date(), value, known)


def observation_row(series, period, value, known):
    row = {"series": series, "period": period, "value": value, "known_at": known}
    return "observations", row


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
    late = draw(st.lists(st.integers(0, len(rows) - 1), max_size=4, unique=True))
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
        fetched = {"source": "test", "ingested_at": pd.Timestamp("2030-01-01", tz="UTC")}
        raw.warehouse.append(table, frame.assign(**fetched, run_id="run"))


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
        deadline=None,
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
@however(3)
@given(data=st.data())
def test_however_rows_arrive_the_table_is_that_of_one_night(raw, calendar, table, view, data):
    check(raw, calendar, table, view, data)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "view"), CASES)
@however(60)
@given(data=st.data())
def test_however_rows_arrive_in_many_more_worlds(raw, calendar, table, view, data):
    check(raw, calendar, table, view, data)
