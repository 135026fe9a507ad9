"""What a read sees at a cut-off is what a store that never held anything later gives.

Real prices and series, with what vendors do to them at random later times: corrections,
late rows, splits, dividends, delistings, restated histories. A store that holds all of it is
read at random cut-offs; another one is made of the raw rows known by then and of nothing
else. Both must give the same windows, labels, index, snapshot and joined rows, bit for bit.
"""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from db import tables
from db.availability import AfterClose
from db.quality.breaks import judge_breaks
from db.settings import Settings
from db.sources.sample import sample_sources
from db.sources.source import Request
from db.warehouse import open_warehouse
from features.catalog import feature_views
from features.join import join
from features.materialize import materialize
from features.view import Feature, FeatureView, Input
from features.windows import read_windows
from tests.bits import same_bits

EXAMPLES = {
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "phases": [Phase.explicit, Phase.generate],  # an example takes seconds: none to shrink
}
MOMENT = timedelta(microseconds=1)


# ------------------------------------------------------------------------------ raw rows


@dataclass(frozen=True)
class RawRows:
    """Raw rows by name of their table, in the order in which they arrived."""

    tables: dict[str, pd.DataFrame]

    def known_by(self, cutoff: datetime, since: datetime | None = None) -> "RawRows":
        """What was known at a cut-off, with breaks as they could be judged by then."""
        found = {}
        for name, rows in self.tables.items():
            known = rows["known_at"] <= cutoff
            found[name] = rows[known & (rows["known_at"] > since)] if since else rows[known]
        breaks = found["price_breaks"].copy()
        undecided = ~(breaks["resolved_at"] <= cutoff)
        breaks.loc[undecided, "kind"] = "pending"
        for column in ("until_session", "resolved_session", "resolved_at"):
            breaks.loc[undecided, column] = pd.NaT
        return RawRows({**found, "price_breaks": breaks})

    def of(self, symbols) -> "RawRows":
        """All series, and of symbols only these."""
        chosen = {"SP500", *symbols}
        return RawRows(
            {
                name: rows[rows["entity"].isin(chosen)] if "entity" in rows else rows
                for name, rows in self.tables.items()
            }
        )

    def write(self, warehouse) -> None:
        for name, rows in self.tables.items():
            table = getattr(tables, name)
            warehouse.append(table, rows.assign(ingested_at=rows["known_at"], run_id="run"))

    def instants(self) -> list[datetime]:
        """When something out of the ordinary became known: the cut-offs to get wrong."""
        breaks = self.tables["price_breaks"]
        found = [self.tables["corporate_actions"]["known_at"], breaks["known_at"]]
        found.append(breaks["resolved_at"].dropna())
        for name, key in (("bars", ["entity", "session"]), ("observations", ["series", "period"])):
            rows = self.tables[name]
            found.append(rows["known_at"][rows.duplicated(key)])
        return sorted({one.to_pydatetime() for one in pd.concat(found)})


def judged(rows):
    """Breaks of prices (entity, session, price, known_at), one vintage each, as nights judge."""
    breaks = judge_breaks(rows, price="price")
    known = rows.set_index(["entity", "session"])["known_at"]

    def instants(column):
        keys = pd.MultiIndex.from_frame(breaks[["entity", column]])
        return pd.to_datetime(known.reindex(keys).to_numpy(), utc=True)

    return breaks.assign(
        source="test", known_at=instants("session"), resolved_at=instants("resolved_session")
    )


def delivered(prices, levels, calendar, seed):
    """Raw rows of real prices and series, with what vendors do to them.

    `prices`: entity, session, price, volume, known_at. `levels`: series, period, value,
    known_at. Every second symbol has raw prices, with splits and dividends beside them;
    the others have adjusted prices, and some a restated history.
    """
    chance = np.random.default_rng(seed)
    symbols = sorted(prices["entity"].unique())
    raw_priced = symbols[::2]
    breaks = judged(prices)
    breaks = pd.concat([breaks, judged(_sp500(levels)), _doubts(prices, calendar, chance)])
    breaks = breaks.drop_duplicates(["entity", "session"]).sort_values(["known_at", "entity"])

    actions = [_actions(prices, symbol, chance) for symbol in raw_priced]
    prices = _late(prices, chance)
    first = prices.assign(
        close=prices["price"],
        adj_close=prices["price"],
        source="test",
        history=0,
        adjustment=np.where(prices["entity"].isin(raw_priced), "raw", "total"),
    ).drop(columns="price")
    bars = pd.concat([first, _corrected(first, "close", chance)])
    for symbol in symbols[1::4]:
        bars = _restated(bars, symbol)
    levels = _late(levels, chance).assign(source="test")
    return RawRows(
        {
            "observations": pd.concat([levels, _corrected(levels, "value", chance)]),
            "bars": bars,
            "corporate_actions": pd.concat(actions).assign(source="test"),
            "price_breaks": breaks,
            "sentiment": _talk(first, np.random.default_rng(seed + 1)),
        }
    )


def _talk(bars, chance):
    """Days of texts about the symbols; some have a later state, known in the evening."""
    talked = bars[["entity", "session", "known_at"]][chance.random(len(bars)) < 0.1]
    count = chance.integers(1, 5, len(talked))
    said = chance.uniform(-1, 1, len(talked))
    days = talked.assign(
        source="test",
        documents=count,
        sentiment=said,
        dispersion=0.1,
        novelty=count * 0.5,
        novel_sentiment=said,
        model_version="v1",
    )
    later = days[chance.random(len(days)) < 0.05]
    changed = later.assign(
        novel_sentiment=-later["novel_sentiment"],
        known_at=later["known_at"] + pd.Timedelta(hours=2),
    )
    return pd.concat([days, changed])


def _sp500(levels):
    own = levels[levels["series"] == "SP500"]
    return own.set_axis(["entity", "session", "price", "known_at"], axis=1)


def _late(rows, chance, share=0.001):
    """Some rows become known only sessions or months after their date."""
    late = chance.random(len(rows)) < share
    delay = pd.to_timedelta(np.where(late, chance.integers(1, 60, len(rows)), 0), "D")
    return rows.assign(known_at=rows["known_at"] + delay)


def _corrected(rows, column, chance, share=0.0015):
    """Newer vintages of some rows; some correct what had been corrected, at once or later."""
    found = []
    for _ in range(2):
        chosen = rows[chance.random(len(rows)) < share]
        days = chance.choice([0.0, 0.25, 1, 20, 300], len(chosen))
        changed = chosen.assign(known_at=chosen["known_at"] + pd.to_timedelta(days, "D"))
        factors = [0.98, 1.01, 1.1]
        if "adj_close" in changed:
            factors.append(np.nan)  # a price that turned out to be none
        changed[column] = chosen[column] * chance.choice(factors, len(chosen))
        if "adj_close" in changed:
            changed["adj_close"] = changed[column]
        found.append(changed)
        rows, share = changed, 0.3
    return pd.concat(found)


def _actions(prices, symbol, chance):
    """Splits and dividends of one symbol, known before, at or after their date; its end."""
    sessions = prices.loc[prices["entity"] == symbol, "session"].to_numpy()
    ex_dates = chance.choice(sessions[20:], 12, replace=False)
    kinds = chance.choice(["split", "dividend"], 12)
    factors = np.where(kinds == "split", chance.choice([2.0, 0.5, 1.02], 12), 0.5)
    known = pd.DatetimeIndex(ex_dates, tz="UTC") + pd.to_timedelta(
        chance.choice([-30, 0, 0, 3, 90], 12), "D"
    )
    found = pd.DataFrame(
        {"entity": symbol, "ex_date": ex_dates, "kind": kinds, "factor": factors, "known_at": known}
    )
    corrected = found.iloc[:2].assign(factor=0.25, known_at=known[:2] + pd.Timedelta(days=40))
    end = found.iloc[:1].assign(
        kind="delisting",
        factor=0.0,
        ex_date=sessions[-100],
        known_at=pd.Timestamp(sessions[-90], tz="UTC"),
    )
    ends = [end] if chance.random() < 0.3 else []
    return pd.concat([found, corrected, *ends])


def _doubts(prices, calendar, chance):
    """Breaks that nobody would judge so, to have enough of each kind."""
    chosen = prices.sample(40, random_state=int(chance.integers(2**31)))
    kinds = chance.choice(["split", "level", "jump", "spike", "pending"], len(chosen))
    at = calendar.index(chosen["session"].to_numpy())
    resolved = calendar.days[at + 5].astype("datetime64[us]")
    until = pd.Series(calendar.days[at + 2].astype("datetime64[us]"), index=chosen.index)
    undecided = kinds == "pending"
    resolved_at = pd.Series(resolved, index=chosen.index).dt.tz_localize("UTC")
    return chosen[["entity", "session"]].assign(
        kind=kinds,
        ratio=2.0,
        until_session=until.where(kinds == "spike"),
        resolved_session=pd.Series(resolved, index=chosen.index).where(~undecided),
        reason="test",
        source="test",
        known_at=chosen["known_at"],
        resolved_at=(resolved_at + pd.Timedelta(hours=22)).where(~undecided),
    )


def _restated(bars, symbol):
    """A second history of a symbol: other prices, without some rows; what comes after is of it."""
    own = (bars["entity"] == symbol).to_numpy()
    since = bars.loc[own, "known_at"].quantile(0.6)
    known = own & (bars["known_at"] <= since).to_numpy()
    anew = bars[known].drop_duplicates("session")
    anew = anew[np.arange(len(anew)) % 97 != 1]
    prices = anew["close"] * 0.97
    restated = anew.assign(close=prices, adj_close=prices, history=1, known_at=since)
    return pd.concat([bars.assign(history=bars["history"].mask(own & ~known, 1)), restated])


# ------------------------------------------------------------------------------ the check


@contextmanager
def store(folder, empty_store, rows=None):
    """A store that holds these raw rows and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(empty_store, folder / "warehouse.duckdb")
    with open_warehouse(Settings(home=folder, profile="sample"), "test") as warehouse:
        if rows is not None:
            rows.write(warehouse)
        yield warehouse


@dataclass(frozen=True, repr=False)
class Full:
    """A store that has received everything, its raw rows, and what can be read of it."""

    warehouse: object
    rows: RawRows
    symbols: list[str]
    views: list[FeatureView]
    first: datetime
    last: datetime

    def cutoffs(self):
        """Any time, and the moments at and before which something happened."""
        events = [one for one in self.rows.instants() if self.first <= one <= self.last]
        return st.one_of(
            st.datetimes(self.first.replace(tzinfo=None), self.last.replace(tzinfo=None)).map(
                lambda instant: instant.replace(tzinfo=UTC)
            ),
            st.sampled_from(events),
            st.sampled_from(events).map(lambda instant: instant - MOMENT),
        )

    @property
    def alone(self):
        """Views whose values are made of one entity's rows: a store may lack all others."""
        return [view for view in self.views if not view.compares]

    def choices(self):
        return st.lists(st.sampled_from(self.symbols), min_size=2, max_size=4, unique=True)


def spine_of(symbols, cutoff, view):
    """Instants of the last years before a cut-off, and the cut-off, for each entity."""
    entities = sorted(symbols) if view.entity == "symbol" else ["SP500"]
    back = np.r_[0, np.random.default_rng(7).integers(1, 900 * 24 * 3600, 60)]
    instants = pd.DatetimeIndex([cutoff - timedelta(seconds=int(one)) for one in back])
    return pd.DataFrame(
        {
            "symbol": np.repeat(entities, len(instants)),
            "timestamp": np.tile(instants.as_unit("us"), len(entities)),
        }
    )


def assert_same_to_the_bit(one, other):
    """Windows of two stores."""
    assert same_bits(one.X, other.X)
    assert same_bits(one.y, other.y)
    pd.testing.assert_frame_equal(one.index, other.index)
    assert one.data_snapshot == other.data_snapshot


def assert_seen_as(full, truncated, view, cutoff, symbols):
    """Both stores give the same at a cut-off, and nothing that was known later."""
    chosen = {"entities": symbols} if view.entity == "symbol" else {}
    seen = read_windows(full, view, cutoff, **chosen)
    if len(seen):
        assert seen.index["known_at"].max() <= cutoff
        assert not (seen.index["label_known_at"] > cutoff).any()
    assert_same_to_the_bit(seen, read_windows(truncated, view, cutoff, **chosen))
    if len(seen):
        last = seen.index["as_of"].max().date()
        one, other = (
            read_windows(store, view, cutoff, as_of=last, **chosen) for store in (full, truncated)
        )
        assert len(one)
        assert_same_to_the_bit(one, other)
    spine = spine_of(symbols, cutoff, view)
    joined = [join(store, spine, [view], cutoff) for store in (full, truncated)]
    assert same_table(*joined)
    return len(seen)


def same_table(one: pa.Table, other: pa.Table) -> bool:
    """Whether two results of `join` are the same to the bit."""
    return one.schema.equals(other.schema) and one.combine_chunks().equals(
        other.combine_chunks(), check_metadata=False
    )


def assert_truncation(full, views, cutoff, symbols, truncated):
    """The property of this file: the full store is read as the truncated one is."""
    found = 0
    for view in views:
        materialize(truncated, view)
        found += assert_seen_as(full.warehouse, truncated, view, cutoff, symbols)
    return found


# ----------------------------------------------------------------------------- sample data

SAMPLE = ["AMD", "BAC", "BBY", "GE", "JNJ", "RRC"]
SINCE = "2012-01-01"


@pytest.fixture(scope="module")
def full(empty_store, tmp_path_factory, calendar):
    """Seven years of six stocks, the S&P 500 and the sample's macro pair."""
    every = {source.name: source for source in sample_sources(Settings(profile="sample"))}
    until = datetime(2019, 1, 1, tzinfo=UTC)

    def fetched(name, date, entities=None):
        since = pd.Timestamp(SINCE).date()
        frame = every[name].fetch(Request(since, until, entities)).frame
        return frame.assign(known_at=every[name].availability.known_at(frame[date], calendar))

    stocks = fetched("sample.stocks", "session", SAMPLE)
    # the panel has no volumes: those of the index on the same days
    index = fetched("sample.index_bars", "session", ["^GSPC"]).set_index("session")["volume"]
    prices = stocks.rename(columns={"adj_close": "price"})
    prices = prices.assign(volume=prices["session"].map(index))
    series = [fetched(f"sample.{name}", "period") for name in ("SP500", "BAA", "CPILFESL")]
    rows = delivered(prices, pd.concat(series, ignore_index=True), calendar, seed=1)
    views = [
        view
        for view in feature_views().values()
        if view.name not in ("macro_annual_change", "macro_annual_change_fredmd")
    ]
    folder = tmp_path_factory.mktemp("full")
    first, last = datetime(2015, 6, 1, tzinfo=UTC), datetime(2019, 1, 5, tzinfo=UTC)
    with store(folder, empty_store, rows) as warehouse:
        for view in views:
            materialize(warehouse, view)
        yield Full(warehouse, rows, SAMPLE, views, first, last)


def check_examples(full, data, empty_store, tmp_path):
    cutoff, symbols = data.draw(full.cutoffs()), data.draw(full.choices())
    with store(tmp_path / "cut", empty_store, full.rows.of(symbols).known_by(cutoff)) as truncated:
        assert assert_truncation(full, full.alone, cutoff, symbols, truncated)


@given(data=st.data())
@examples(max_examples=3, **EXAMPLES)
def test_a_read_is_that_of_a_store_that_never_saw_more(full, empty_store, tmp_path, data):
    check_examples(full, data, empty_store, tmp_path)


def test_a_place_among_all_is_that_of_a_store_that_never_saw_more(full, empty_store, tmp_path):
    """What is compared with other entities needs all of them, and then the same holds."""
    beneath = {given.table for view in full.views if view.compares for given in view.inputs}
    views = [view for view in full.views if view.compares or view.name in beneath]
    assert any(view.compares for view in views)
    for number, cutoff in enumerate(nights_of(full, 2, seed=11)):
        rows = full.rows.known_by(cutoff)
        with store(tmp_path / f"cut{number}", empty_store, rows) as truncated:
            assert assert_truncation(full, views, cutoff, full.symbols, truncated)


@pytest.mark.slow
@given(data=st.data())
@examples(max_examples=80, **EXAMPLES)
def test_a_read_is_that_of_a_store_that_never_saw_more_many_times(
    full, empty_store, tmp_path, data
):
    check_examples(full, data, empty_store, tmp_path)


def test_the_store_has_what_there_is_to_get_wrong(full):
    kinds = {kind for (kind,) in full.warehouse.sql("SELECT DISTINCT kind FROM raw.price_breaks")}
    assert kinds == {"split", "level", "jump", "spike", "pending"}
    actions = full.warehouse.sql("SELECT DISTINCT kind FROM raw.corporate_actions")
    assert {kind for (kind,) in actions} == {"split", "dividend", "delisting"}
    assert full.warehouse.one("SELECT max(history) FROM raw.bars") == (1,)
    for view in full.views:
        (ended,) = full.warehouse.one(
            f"SELECT count(*) FROM {view.table} WHERE known_until > known_at"
        )
        assert ended, f"{view.name} was never corrected"


def test_breaks_judged_on_what_was_known_are_those_of_the_whole_history(full):
    """The truncated stores take breaks from the full one: a night would have judged them so."""
    bars = full.rows.tables["bars"].drop_duplicates(["entity", "session"])
    prices = bars.assign(price=bars["close"])[["entity", "session", "price"]].dropna()
    close = pd.DatetimeIndex(prices["session"], tz="UTC") + pd.Timedelta(hours=22)
    prices = prices.assign(known_at=close.as_unit("us")).sort_values(["entity", "session"])
    whole = judged(prices.reset_index(drop=True))
    columns = ["entity", "session", "kind", "until_session", "resolved_at"]
    assert len(whole)
    empty = dict.fromkeys(("bars", "observations", "corporate_actions"), prices.iloc[:0])
    for resolved_at in whole["resolved_at"].dropna():
        for cutoff in (resolved_at, resolved_at - MOMENT, resolved_at - timedelta(days=3)):
            known = prices[prices["known_at"] <= cutoff].reset_index(drop=True)
            then = RawRows({**empty, "price_breaks": whole}).known_by(cutoff)
            pd.testing.assert_frame_equal(
                judged(known)[columns],
                then.tables["price_breaks"][columns].reset_index(drop=True),
                check_dtype=False,
            )


# --------------------------------------------------------------------------- views that leak


def next_growth(inputs):
    bars = inputs["bars"]
    return {"ahead": bars.now(np.r_[bars["growth"][1:], np.nan])}


def over_all(inputs):
    """Standardized by the whole history: the scaler has seen the future."""
    bars = inputs["bars"]
    growth = bars["growth"]
    return {"ahead": bars.now((growth - np.nanmean(growth)) / np.nanstd(growth))}


AHEAD = FeatureView(
    name="ahead",
    description="looks ahead",
    entity="symbol",
    inputs=(Input("bars"),),
    transform=next_growth,
    features=(Feature("ahead"),),
    window=5,
    target="ahead",
    horizon=1,
    horizon_unit="session",
)

LEAKING = {
    "the next close in SQL": replace(
        AHEAD,
        name="ahead_sql",
        transform=None,
        sql="""
            SELECT entity, session AS date, known_at,
                lead(close) OVER (PARTITION BY entity ORDER BY session) / close AS ahead
            FROM bars
        """,
    ),
    "the next return in Python": AHEAD,
    "a scaler that has seen all": replace(AHEAD, name="ahead_scaled", transform=over_all),
    "a level of the index that came later": replace(
        AHEAD,
        name="ahead_index",
        inputs=(Input("bars"), Input("observations", entities=("SP500",), shared=True)),
        transform=None,
        sql="""
            SELECT b.entity, b.session AS date, b.known_at, o.value AS ahead
            FROM bars b
            JOIN observations o ON o.period = b.session
        """,
    ),
}
HONEST = replace(
    AHEAD,
    name="behind",
    transform=None,
    sql="""
        SELECT entity, session AS date,
            close / lag(close) OVER before AS ahead,
            greatest(known_at, lag(known_at) OVER before) AS known_at
        FROM bars
        WINDOW before AS (PARTITION BY entity ORDER BY session)
    """,
)
# Two hours after a close: prices are there, the index follows.
EVENING = datetime(2017, 3, 15, 22, tzinfo=UTC)


@pytest.mark.parametrize("what", LEAKING)
def test_the_check_finds_a_view_that_leaks(full, empty_store, tmp_path, what):
    view, symbols = LEAKING[what], ["JNJ", "RRC"]
    materialize(full.warehouse, view)
    with store(tmp_path / "cut", empty_store, full.rows.of(symbols).known_by(EVENING)) as truncated:
        materialize(truncated, view)
        with pytest.raises(AssertionError):
            assert_truncation(full, [view], EVENING, symbols, truncated)


def without_waiting(inputs):
    """A return, less the index's where it is there: a row that does not wait for all inputs."""
    bars, index = inputs["bars"], inputs["observations"]
    level = dict(zip(index.date.tolist(), index["value"].tolist(), strict=True))
    market = np.array([level.get(day, 0.0) for day in bars.date.tolist()])
    return {"ahead": bars.now(bars["growth"] - market)}


def test_a_row_waits_for_all_inputs(full, empty_store, tmp_path):
    view = replace(
        AHEAD,
        name="unwaiting",
        inputs=(
            Input("bars", memory=1),
            Input("observations", entities=("SP500",), shared=True, memory=0),
        ),
        transform=without_waiting,
    )
    symbols = ["JNJ", "RRC"]
    materialize(full.warehouse, view)
    with store(tmp_path / "cut", empty_store, full.rows.of(symbols).known_by(EVENING)) as truncated:
        assert assert_truncation(full, [view], EVENING, symbols, truncated)


def test_the_check_lets_an_honest_view_pass(full, empty_store, tmp_path):
    symbols = ["JNJ", "RRC"]
    materialize(full.warehouse, HONEST)
    with store(tmp_path / "cut", empty_store, full.rows.of(symbols).known_by(EVENING)) as truncated:
        assert assert_truncation(full, [HONEST], EVENING, symbols, truncated)


# ---------------------------------------------------------------------------- night by night


def feed(warehouse, rows):
    """Append what a night brings; breaks are those as judged by then."""
    warehouse.native.execute("DELETE FROM raw.price_breaks")
    rows.write(warehouse)


def nights_of(full, count, seed):
    chance = np.random.default_rng(seed)
    span = (full.last - full.first).total_seconds()
    drawn = [full.first + timedelta(seconds=float(s)) for s in chance.uniform(0, span, count)]
    events = chance.choice(np.array(full.rows.instants(), object), count)
    return sorted({*drawn, *(one for one in events if full.first <= one), full.last})


def test_a_store_fed_night_by_night_is_read_as_the_one_that_has_it_all(full, empty_store, tmp_path):
    """At the cut-off of each night, and of nights before it."""
    symbols = ["AMD", "BBY", "JNJ"]
    rows = full.rows.of(symbols)
    with store(tmp_path / "fed", empty_store) as fed:
        before = None
        for night in nights_of(full, 1, seed=3):
            news = rows.known_by(night, since=before)
            feed(fed, RawRows({**news.tables, **_breaks_by(rows, night)}))
            assert assert_truncation(full, full.alone, night, symbols, fed)
            if before is not None:
                assert_truncation(full, full.alone, before, symbols, fed)
            before = night


def _breaks_by(rows, night):
    return {"price_breaks": rows.known_by(night).tables["price_breaks"]}


def test_rows_that_are_taken_over_late_are_read_as_those_in_time(full, empty_store, tmp_path):
    """A night that could not fetch catches up later: `known_at` counts, not the arrival."""
    symbols = ["AMD", "BBY", "JNJ"]
    rows = full.rows.of(symbols)
    nights = nights_of(full, 1, seed=5)
    arrivals = {}
    for name, table in rows.tables.items():
        if name == "price_breaks":
            continue
        key = table[
            [one for one in ("entity", "series", "session", "period", "ex_date") if one in table]
        ]
        held = pd.util.hash_pandas_object(key, index=False).to_numpy() % 20
        known = np.searchsorted(pd.DatetimeIndex(nights), pd.DatetimeIndex(table["known_at"]))
        late = np.where(held == 0, 1, np.where(held == 1, 3, 0))
        arrivals[name] = np.minimum(known + late, len(nights) - 1)
    with store(tmp_path / "fed", empty_store) as fed:
        for number, night in enumerate(nights):
            news = {name: rows.tables[name][at == number] for name, at in arrivals.items()}
            feed(fed, RawRows({**news, **_breaks_by(rows, night)}))
            for view in full.alone:
                materialize(fed, view)
        for night in nights:
            assert assert_truncation(full, full.alone, night, symbols, fed)


# ---------------------------------------------------------------------------- reference data


@pytest.fixture(scope="module")
def reference(reference_data, empty_store, tmp_path_factory, calendar):
    """Some dozen large US stocks with volumes, the index and the book's macro pair."""
    bars = pd.read_parquet(
        reference_data / "us_equities_ohlcv_daily_2007_2018_top500.parquet",
        columns=["date", "ticker", "adj_close", "volume"],
    ).astype({"date": "datetime64[us]"})
    chosen = sorted(bars["ticker"].unique())[::20]
    bars = bars[bars["ticker"].isin(chosen) & (bars["date"] >= "2012-01-01")]
    bars = bars.rename(columns={"date": "session", "ticker": "entity", "adj_close": "price"})
    bars = bars.assign(
        entity=bars["entity"].astype(str),
        volume=bars["volume"].astype("float64"),
        price=bars["price"].astype("float64"),
    )
    bars = bars.sort_values(["entity", "session"]).reset_index(drop=True)
    prices = bars.assign(known_at=_after(bars["session"], calendar, hours=1))
    index = pd.read_csv(reference_data / "sp500_close_daily_1990_2022.csv", parse_dates=["date"])
    index = index.set_axis(["period", "value"], axis=1)
    index = index[index["period"].between("2012-01-01", "2018-12-31")]
    levels = [index.assign(series="SP500", known_at=_after(index["period"], calendar, hours=4))]
    for name, days in (("UMCSENT", 0), ("IPGMFN", 16)):
        own = (
            pd.read_csv(reference_data / f"{name}.csv")
            .iloc[:, :2]
            .set_axis(["period", "value"], axis=1)
        )
        own = own.assign(period=pd.to_datetime(own["period"]))
        own = own[own["period"].between("2008-01-01", "2018-12-31")].dropna()
        known = (own["period"] + pd.offsets.MonthEnd(1) + pd.Timedelta(days=days)).dt.tz_localize(
            "UTC"
        )
        levels.append(own.assign(series=name, known_at=known))
    levels = [one[["series", "period", "value", "known_at"]] for one in levels]
    rows = delivered(prices, pd.concat(levels, ignore_index=True), calendar, seed=2)
    views = [
        view for view in feature_views().values() if not view.name.endswith(("fredmd", "sample"))
    ]
    first, last = datetime(2014, 6, 1, tzinfo=UTC), datetime(2019, 1, 5, tzinfo=UTC)
    with store(tmp_path_factory.mktemp("reference"), empty_store, rows) as warehouse:
        for view in views:
            materialize(warehouse, view)
        yield Full(warehouse, rows, list(chosen), views, first, last)


def _after(dates, calendar, hours):
    return AfterClose(hours).known_at(dates, calendar)


@pytest.mark.reference
@given(data=st.data())
@examples(max_examples=2, **EXAMPLES)
def test_reference_stocks_and_series_are_read_as_they_were_known(
    reference, empty_store, tmp_path, data
):
    check_examples(reference, data, empty_store, tmp_path)


@pytest.mark.slow
@pytest.mark.reference
@given(data=st.data())
@examples(max_examples=60, **EXAMPLES)
def test_reference_stocks_and_series_are_read_as_they_were_known_many_times(
    reference, empty_store, tmp_path, data
):
    check_examples(reference, data, empty_store, tmp_path)
