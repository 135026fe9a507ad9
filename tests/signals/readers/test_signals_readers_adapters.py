"""Adapters: what the real tools make of them, and no trade before a signal could be traded."""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from db.errors import UsageError
from signals import readers
from tests.signals.readers.published_history import REVERSAL

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def few(reversal: readers.Signals) -> readers.Signals:
    """One year of six symbols."""
    rows = reversal.frame
    kept = rows["entity"].isin(["AAPL", "AMD", "BAC", "GE", "KO", "XOM"])
    return readers.Signals(
        REVERSAL, rows[kept & (rows["as_of"] >= "2018-01-01")], sessions=reversal.sessions
    )


# ------------------------------------------------------------------------------- alphalens


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_alphalens_takes_factor_and_prices(reversal, close, zone: str | None) -> None:
    from alphalens import performance, utils

    factor, prices = readers.to_alphalens(reversal, close.tz_localize(zone))
    assert factor.index.names == ["date", "asset"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = utils.get_clean_factor_and_forward_returns(factor, prices, periods=(1, 5))
        ic = performance.factor_information_coefficient(data)
    assert str(data.index.levels[0].tz) == str(zone)
    # the forward return begins at the close of tradable_from
    day, name = pd.Timestamp("2018-12-03", tz=zone), "KO"
    begin = prices.index.get_loc(day)
    expected = prices[name].iloc[begin + 5] / prices[name].iloc[begin] - 1
    assert data.loc[(day, name), "5D"] == pytest.approx(expected)
    scored = reversal.frame.query("entity == 'KO'").set_index("as_of")["value"]
    assert data.loc[(day, name), "factor"] == scored["2018-11-30"]
    by_hand = data.loc[day].rank().corr()["factor"]["5D"]
    assert ic.loc[day, "5D"] == pytest.approx(by_hand)


def test_alphalens_gets_no_factor_without_a_price(few, close) -> None:
    gaps = close.drop(columns="XOM")
    gaps.loc["2018-06-04", "KO"] = np.nan
    factor, _ = readers.to_alphalens(few, gaps)
    assert "XOM" not in factor.index.get_level_values("asset")
    assert list(factor["2018-06-04"].index) == ["AAPL", "AMD", "BAC", "GE"]


# ---------------------------------------------------------------------------- vectorbt, bt


def test_vectorbt_gets_orders_on_the_close_of_tradable_from_only(few, close) -> None:
    named = close.rename_axis(index="when", columns="who")
    prepared, size = readers.to_vectorbt(few, named, long=0.5, short=0.5)
    assert size.index.equals(prepared.index)
    assert size.columns.equals(prepared.columns)
    assert (size.index.name, size.columns.name) == ("when", "who")
    ordered = size.index[size.notna().any(axis=1)]
    assert set(ordered) == set(few.frame["tradable_from"])
    assert not ordered.isin(few.frame["as_of"]).any()


def test_vectorbt_orders_nothing_before_a_listing(few, close) -> None:
    late = close.copy()
    late.loc[:"2018-06-29", "KO"] = np.nan
    late.loc["2018-10-15":"2018-10-19", "KO"] = np.nan
    prepared, size = readers.to_vectorbt(few, late)
    assert size.loc[:"2018-06-29", "KO"].isna().all()
    assert size.loc["2018-07-02", "KO"] == size.loc["2018-07-02", "KO"]
    assert prepared["KO"]["2018-10-19"] == prepared["KO"]["2018-10-12"]  # held at its last price
    assert size["KO"]["2018-10-15"] == 0  # but not bought


def test_bt_holds_nothing_on_the_day_before(few, close) -> None:
    import bt

    prepared, weights = readers.to_bt(few, close, long=0.5, short=0)
    assert prepared.index[0] < weights.index[0]
    strategy = bt.Strategy("signal", [bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
    result = bt.run(bt.Backtest(strategy, prepared, integer_positions=False, progress_bar=False))
    held = result.get_security_weights("signal")
    first = few.frame["tradable_from"].min()
    assert held[held.index < first].abs().to_numpy().sum() == 0
    assert held.loc[first].to_dict() == pytest.approx(
        weights.loc[first][held.columns].to_dict(), abs=1e-9
    )


# ------------------------------------------------------------------------------ backtrader


def test_backtrader_sees_a_signal_from_tradable_from_on(few, close) -> None:
    import backtrader

    seen: dict[tuple[str, str], float] = {}

    class Watch(backtrader.Strategy):
        def next(self) -> None:
            for feed in self.datas:
                seen[f"{feed.datetime.date(0)}", feed._name] = feed.signal[0]

    cerebro = backtrader.Cerebro()
    for name, frame in readers.to_backtrader(few, close).items():
        assert list(frame) == ["open", "high", "low", "close", "volume", "signal"]
        cerebro.adddata(readers.backtrader_feed()(dataname=frame), name=name)
    cerebro.addstrategy(Watch)
    cerebro.run()
    rows = few.frame.query("entity == 'GE'").set_index("as_of")
    value = rows["value"]["2018-06-08"], rows["value"]["2018-06-15"]
    assert seen["2018-06-08", "GE"] not in value  # the close that the first was made from
    assert [seen[f"2018-06-{day}", "GE"] for day in (11, 15, 18)] == [*value[:1] * 2, value[1]]


def test_backtrader_gets_whole_bars_and_flat_ones_without_a_trade(few, history) -> None:
    bars = readers.bars(history, entities=["KO", "GE"], start="2018-01-02")
    bars = bars.assign(high=bars["close"] * 1.01, low=bars["close"] * 0.99, volume=5.0)
    halted = (bars["entity"] == "KO") & (bars["session"] == "2018-05-09")
    bars = bars[~halted & ((bars["entity"] == "KO") | (bars["session"] > "2018-02-01"))]
    frames = readers.to_backtrader(few, bars)
    assert set(frames) == {"KO", "GE"}
    assert frames["GE"].index[0] == pd.Timestamp("2018-02-02")
    before, flat = frames["KO"].loc["2018-05-08"], frames["KO"].loc["2018-05-09"]
    assert flat[["open", "high", "low", "close"]].tolist() == [before["close"]] * 4
    assert (flat["volume"], before["volume"]) == (0, 5)
    assert before["high"] == pytest.approx(before["close"] * 1.01)
    with pytest.raises(UsageError, match="two bars of one session"):
        readers.to_backtrader(few, pd.concat([bars, bars.head(1)]))
    with pytest.raises(UsageError, match="no column close"):
        readers.to_backtrader(few, bars.drop(columns="close"))


# --------------------------------------------------------------------- quantstats, pyfolio


def test_quantstats_takes_them_for_returns(reversal, close) -> None:
    import quantstats

    returns = readers.to_quantstats(reversal, close.tz_localize("UTC"), cost_bps=10)
    assert returns.index.tz is None
    total = (1 + returns).prod() - 1
    assert quantstats.stats.comp(returns) == pytest.approx(total)
    sharpe = returns.mean() / returns.std() * 252**0.5
    assert quantstats.stats.sharpe(returns) == pytest.approx(sharpe, rel=1e-6)
    weights = readers.weights(reversal, close)
    ours = readers.portfolio_returns(weights, close, cost_bps=10)["net"]
    np.testing.assert_array_equal(returns, ours)


def test_returns_that_quantstats_would_take_for_prices_are_refused(few, close) -> None:
    rising = close.loc["2018-01-01":"2018-01-19"].copy()
    rising.loc[:] = 2.5 ** np.arange(len(rising))[:, None]
    with pytest.raises(UsageError, match="would take them for prices"):
        readers.to_quantstats(few, rising, long=1.0, short=0.0)


def test_pyfolio_takes_returns_and_positions(reversal, close) -> None:
    import pyfolio

    returns, positions = readers.to_pyfolio(reversal, close, cost_bps=10, capital=1000)
    assert str(returns.index.tz) == str(positions.index.tz) == "UTC"
    value = positions.sum(axis=1)
    assert value.tolist() == pytest.approx((1000 * (1 + returns).cumprod()).tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stats = pyfolio.timeseries.perf_stats(returns, positions=positions)
        exposure = pyfolio.pos.get_percent_alloc(positions)
    assert stats["Cumulative returns"] == pytest.approx((1 + returns).prod() - 1)
    assert stats["Gross leverage"] == pytest.approx(1.0, abs=0.05)
    assert exposure["cash"].iloc[0] == pytest.approx(1.0)  # longs are paid with what shorts bring
    renamed = reversal.frame.replace({"entity": {"AAPL": "cash"}})
    with pytest.raises(UsageError, match="'cash'"):
        readers.to_pyfolio(renamed, close.rename(columns={"AAPL": "cash"}))


# --------------------------------------------------------------------------------- zipline


def test_zipline_gets_what_can_be_traded_on_each_session(few) -> None:
    baseline, sids = readers.to_zipline(few, end="2018-12-31")
    assert sids == {"AAPL": 0, "AMD": 1, "BAC": 2, "GE": 3, "KO": 4, "XOM": 5}
    assert baseline.columns.dtype == "int64"
    assert baseline.index.isin(few.sessions).all()
    assert str(baseline.index[0].date()) == "2018-01-08"
    rows = few.frame.query("entity == 'GE'").set_index("as_of")["value"]
    assert baseline[3]["2018-06-15"] == rows["2018-06-08"]
    assert baseline[3]["2018-06-18"] == rows["2018-06-15"]
    assert baseline[3]["2018-12-31"] == rows["2018-12-21"]
    part, sids = readers.to_zipline(few, sids={"GE": 71, "IBM": 5})
    assert (list(part.columns), sids) == ([71], {"GE": 71})
    with pytest.raises(UsageError, match="none of its symbols"):
        readers.to_zipline(few, sids={})
    with pytest.raises(UsageError, match="needs every session"):
        readers.to_zipline(readers.Signals("no sessions", few.frame))


@pytest.mark.slow
def test_zipline_trades_the_signal(history: Path, tmp_path: Path) -> None:
    """In an environment of its own, made for it: zipline needs pandas < 3."""
    script, folder = REPOSITORY / "examples" / "zipline_environment.sh", tmp_path / "zipline"
    made = subprocess.run(
        [str(script), str(folder)], capture_output=True, text=True, check=False, timeout=550
    )
    if made.returncode:
        said = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"zipline's environment cannot be made here: {said}")
    python = str(folder / "bin" / "python")
    code = """
        import json, sys
        from signals import readers
        signals = readers.read(sys.argv[1], signal="equity_week_direction")
        baseline, sids = readers.to_zipline(signals)
        print(json.dumps([len(baseline), len(sids), float(baseline.sum().sum())]))
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    found = subprocess.run(
        [python, "-c", lines, str(history)], capture_output=True, text=True, check=True
    )
    baseline, sids = readers.to_zipline(readers.read(history, signal=REVERSAL))
    assert json.loads(found.stdout) == [
        len(baseline),
        len(sids),
        pytest.approx(float(baseline.sum().sum())),
    ]
    example = str(REPOSITORY / "examples" / "zipline_pipeline.py")
    done = subprocess.run(
        [python, "-W", "ignore", example, "--signals", str(history), "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "transactions in" in done.stdout
