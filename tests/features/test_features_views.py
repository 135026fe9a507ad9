"""The declared views against straightforward pandas."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from db.settings import Settings
from db.sources.sample import SampleStocks, sample_sources
from db.sources.source import Request
from features.catalog import feature_view
from features.materialize import materialize

SYMBOLS = ("AAA", "BBB", "CCC")
SESSIONS = 330


@pytest.fixture(scope="module")
def days(calendar):
    """Sessions of a year and a quarter, holidays and early closes among them."""
    return pd.DatetimeIndex([calendar.offset(date(2017, 9, 1), n) for n in range(1, SESSIONS + 1)])


@pytest.fixture(scope="module")
def market(days):
    """Raw bars with holes, splits and dividends of three symbols; one is listed later."""
    random = np.random.default_rng(11)
    frames = []
    for number, symbol in enumerate(SYMBOLS):
        traded = days[5 * number :]
        traded = traded[random.random(len(traded)) > 0.03]
        n = len(traded)
        frame = pd.DataFrame({"session": traded, "entity": symbol, "split": 1.0, "dividend": 0.0})
        frame.loc[random.choice(np.arange(1, n), 3, replace=False), "split"] = [2.0, 0.5, 3.0]
        frame.loc[random.choice(np.arange(1, n), 5, replace=False), "dividend"] = 0.37
        worth = 50 * np.exp(np.cumsum(random.normal(0, 0.02, n)))
        frame["close"] = worth / frame["split"].cumprod()
        frame["volume"] = random.integers(1_000, 9_000, n) * frame["split"].cumprod()
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def index(days):
    """Levels of the S&P 500; on one early session there is none."""
    random = np.random.default_rng(12)
    levels = pd.Series(2500 * np.exp(np.cumsum(random.normal(0, 0.01, len(days)))), days)
    return levels.drop(days[8])


def known_at(days):
    """Ten at night, UTC."""
    return days.dt.tz_localize("UTC") + pd.Timedelta(hours=22)


@pytest.fixture
def traded(raw, market):
    """The market in the store: raw prices, and actions announced the day before."""
    bars = market[["entity", "session", "close", "volume"]]
    raw.append_bars(bars.assign(known_at=known_at(bars["session"])), adjustment="raw")
    for kind, none in (("split", 1.0), ("dividend", 0.0)):
        rows = market[market[kind] != none]
        actions = pd.DataFrame(
            {
                "entity": rows["entity"],
                "ex_date": rows["session"],
                "kind": kind,
                "factor": rows[kind],
                "known_at": known_at(rows["session"]) - pd.Timedelta(days=1),
            }
        )
        raw.append_actions(actions)
    return raw


def in_doubles(name, **choice):
    """A declared view, stored so that it can be compared closely."""
    return replace(feature_view(name), stored="float64", window=1, **choice)


def values_of(raw, view):
    """What holds: the features by (entity, date)."""
    materialize(raw.warehouse, view)
    frame = raw.warehouse.frame(
        f"SELECT entity, date, {', '.join(view.names)} FROM {view.table} "
        "WHERE known_until IS NULL ORDER BY entity, date"
    )
    return frame.set_index(["entity", "date"])


def by_symbol(market, function):
    """A function of each symbol's rows, by session, put together by (entity, date)."""
    parts = {
        symbol: function(rows.set_index("session")) for symbol, rows in market.groupby("entity")
    }
    found = pd.concat(parts, names=["entity", "date"])
    return found.sort_index()


def holders_worth(rows):
    """What a share bought at the first bar is worth, splits and dividends counted."""
    before = rows["close"].shift()
    growth = (rows["close"] * rows["split"] + rows["dividend"]) / before
    return growth.fillna(1.0).cumprod()


def price_factors(rows):
    worth = holders_worth(rows)
    moved = worth.diff()
    found = {f"return_{k}": worth / worth.shift(k) - 1 for k in (1, 5, 21, 63, 252)}
    found |= {f"ma_ratio_{k}": worth / worth.rolling(k).mean() for k in (5, 21, 63, 252)}
    found |= {f"volatility_{k}": worth.pct_change().rolling(k).std() for k in (21, 63)}
    found["drawdown_252"] = worth / worth.rolling(252).max() - 1
    found["rsi_14"] = 100 * moved.clip(lower=0).rolling(14).sum() / moved.abs().rolling(14).sum()
    found["month"] = worth.index.month.to_numpy(dtype=float)
    found["day_of_week"] = worth.index.dayofweek.to_numpy(dtype=float)
    return pd.DataFrame(found, index=worth.index)


def assert_close(found, expected, **tolerance):
    pd.testing.assert_frame_equal(
        found,
        expected[found.columns].astype("float64"),
        check_index_type=False,
        check_names=False,
        **({"rtol": 1e-9, "atol": 1e-12} | tolerance),
    )


def test_price_factors(traded, market):
    found = values_of(traded, in_doubles("price_factors"))
    assert found.notna().sum().min() > 100
    assert_close(found, by_symbol(market, price_factors), atol=1e-9)


def test_price_factors_of_adjusted_closes(raw, market):
    """A source that has nothing else: its own adjustment is taken, actions are not."""
    adjusted = by_symbol(market, holders_worth).rename("adj_close").reset_index()
    adjusted = adjusted.rename(columns={"date": "session"})
    raw.append_bars(adjusted.assign(known_at=known_at(adjusted["session"])), adjustment="total")
    splits = market[market["split"] != 1].rename(columns={"session": "ex_date", "split": "factor"})
    splits = splits[["entity", "ex_date", "factor"]].assign(kind="split")
    raw.append_actions(splits.assign(known_at=known_at(splits["ex_date"])))
    found = values_of(raw, in_doubles("price_factors"))
    assert_close(found, by_symbol(market, price_factors), atol=1e-9)


def test_volume_factors(traded, market):
    def ratios(rows):
        value = rows["close"] * rows["volume"]
        week, month, quarter = (value.rolling(k).mean() for k in (5, 21, 63))
        return pd.DataFrame(
            {
                "volume_ratio_1_21": value / month,
                "volume_ratio_5_21": week / month,
                "volume_ratio_21_63": month / quarter,
            }
        )

    assert_close(values_of(traded, in_doubles("volume_factors")), by_symbol(market, ratios))


def test_market_beta(traded, market, index):
    rows = index.rename_axis("period").reset_index(name="value")
    traded.append_observations(rows.assign(known_at=known_at(rows["period"])))

    def beta(rows):
        stock = holders_worth(rows).pct_change()
        level = index.reindex(rows.index)
        ahead = level / level.shift() - 1
        found = ahead.rolling(252).cov(stock) / ahead.where(stock.notna()).rolling(252).var()
        return pd.DataFrame({"beta_252": found})[level.notna()]

    found = values_of(traded, in_doubles("market_beta"))
    assert found["beta_252"].notna().sum() > 100
    assert_close(found, by_symbol(market, beta), rtol=1e-7)


def test_weekly_returns(traded, market, calendar):
    """From the last session of a week to that of the next; a missing one leaves both without."""
    ends = calendar.table().set_index("session")["week_end"]

    def weekly(rows):
        worth = holders_worth(rows)
        worth = worth[ends[worth.index].to_numpy() == worth.index]
        weeks = worth.copy()
        weeks.index = weeks.index.to_period("W-SUN")
        before = weeks.reindex(weeks.index - 1).to_numpy()
        return pd.DataFrame({"weekly_return": worth.to_numpy() / before - 1}, worth.index)

    found = values_of(traded, in_doubles("equity_weekly_return"))
    expected = by_symbol(market, weekly)
    assert 3 < expected["weekly_return"].isna().sum() < 20
    assert_close(found, expected)


def test_a_week_that_ends_on_a_thursday(raw, calendar):
    """Good Friday 2018: the week's return is there on Thursday, and on no other day."""
    days = pd.to_datetime([f"2018-03-{day}" for day in (23, 26, 27, 28, 29)] + ["2018-04-02"])
    rows = pd.DataFrame({"session": days, "close": [10.0, 11, 12, 13, 12.5, 14], "entity": "KO"})
    raw.append_bars(rows.assign(known_at=known_at(rows["session"])), adjustment="raw")
    found = values_of(raw, in_doubles("equity_weekly_return"))["weekly_return"]
    assert found.loc["KO"].index.strftime("%m-%d").tolist() == ["03-23", "03-29"]
    assert np.isnan(found.iloc[0])
    assert found.iloc[1] == pytest.approx(0.25)


def test_annual_changes(raw):
    months = pd.date_range("2010-01-01", periods=40, freq="MS")
    random = np.random.default_rng(3)
    pair = {
        name: pd.Series(random.uniform(50, 150, len(months)), months)
        for name in ("UMCSENT", "IPGMFN")
    }
    pair["UMCSENT"] = pair["UMCSENT"].drop(months[20])
    lags = {"UMCSENT": 30, "IPGMFN": 46}
    for name, values in pair.items():
        known = (values.index + pd.Timedelta(days=lags[name])).tz_localize("UTC")
        rows = {"period": values.index, "value": values.to_numpy(), "known_at": known}
        raw.append_observations(pd.DataFrame(rows), series=name)
    view = in_doubles("macro_annual_change")
    level = pair["UMCSENT"].reindex(months)
    expected = pd.DataFrame(
        {
            "level_change": level - level.shift(12),
            "index_change": np.log(pair["IPGMFN"]).diff(12),
            "level_move": level.diff(),
            "index_move": np.log(pair["IPGMFN"]).diff(),
        }
    ).dropna()
    found = values_of(raw, view)
    # the missing month takes three: its own, the next one, and the one a year later
    assert len(found) == 40 - 12 - 3
    assert_close(found.loc["US"], expected)
    known = raw.warehouse.sql(f"SELECT date + INTERVAL 46 DAY = known_at FROM {view.table}")
    assert set(known) == {(True,)}


def test_closes_of_the_index(raw, index):
    raw.observe({str(day.date()): level for day, level in index.items()})
    found = values_of(raw, in_doubles("sp500_close"))
    assert found.loc["SP500", "close"].tolist() == index.tolist()


def test_price_factors_of_real_stocks(raw, tmp_path):
    """Three years of the sample profile's stocks, as they are stored: in single precision."""
    sources = sample_sources(Settings(home=tmp_path / "sample", profile="sample"))
    stocks = next(source for source in sources if isinstance(source, SampleStocks))
    until = pd.Timestamp("2018-12-28 23:00", tz="UTC")
    fetched = stocks.fetch(Request(start=date(2016, 1, 4), until=until)).frame
    fetched = fetched[fetched["entity"].isin(fetched["entity"].unique()[:4])]
    prices = fetched[["entity", "session", "adj_close"]].dropna().reset_index(drop=True)
    raw.append_bars(prices.assign(known_at=known_at(prices["session"])))
    found = values_of(raw, feature_view("price_factors"))
    assert found.index.get_level_values(0).nunique() == 4
    assert len(found) > 2_500

    rows = prices.rename(columns={"adj_close": "close"}).assign(split=1.0, dividend=0.0)
    expected = by_symbol(rows, price_factors)
    pd.testing.assert_frame_equal(
        found.astype("float64"),
        expected[found.columns],
        check_index_type=False,
        rtol=1e-6,
        atol=1e-7,
    )
