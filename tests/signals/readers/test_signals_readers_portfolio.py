"""Weights and their returns, by hand on small frames, and beside bt and vectorbt on real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from db.errors import UsageError
from signals import readers

DAYS = pd.bdate_range("2018-01-01", periods=8, name="day")


def made(*rows: tuple[str, str, float]) -> readers.Signals:
    """Rows of entity, tradable_from, value; as of the day before."""
    frame = pd.DataFrame(rows, columns=["entity", "tradable_from", "value"])
    day_before = pd.to_datetime(frame["tradable_from"]) - pd.Timedelta(days=1)
    return readers.Signals("made up", frame.assign(as_of=day_before))


def ladder(n: int, day: str = "2018-01-02") -> readers.Signals:
    """Symbols A, B, C, … whose scores rise."""
    return made(*((chr(65 + number), day, float(number)) for number in range(n)))


def flat(columns: str, **changes) -> pd.DataFrame:
    """Closes of 100, some of them changed."""
    close = pd.DataFrame(100.0, DAYS, pd.Index(list(columns), name="symbol"))
    for name, values in changes.items():
        close[name] = values
    return close


# --------------------------------------------------------------------------------- weights


def test_top_and_bottom_get_half_each() -> None:
    (row,) = readers.weights(ladder(20), long=0.1, short=0.1).to_numpy()
    assert row[-2:].tolist() == [0.25, 0.25]
    assert row[:2].tolist() == [-0.25, -0.25]
    assert np.abs(row).sum() == 1.0


def test_one_side_gets_all_of_it() -> None:
    (row,) = readers.weights(ladder(10), long=0.2, short=0, gross=0.5).to_numpy()
    assert row.tolist() == [0.0] * 8 + [0.25, 0.25]
    (row,) = readers.weights(ladder(10), long=0, short=0.1).to_numpy()
    assert row.tolist() == [-1.0] + [0.0] * 9
    (row,) = readers.weights(ladder(10), long=1, short=0).to_numpy()
    assert row == pytest.approx(np.full(10, 0.1))


def test_by_rank_the_outermost_weigh_most() -> None:
    (row,) = readers.weights(ladder(8), long=0.5, short=0.25, scheme="rank").to_numpy()
    assert row[4:] == pytest.approx(0.5 * np.array([0.1, 0.2, 0.3, 0.4]))
    assert row[:4] == pytest.approx(0.5 * np.array([-2 / 3, -1 / 3, 0, 0]))


def test_small_cross_sections_never_hold_a_symbol_on_both_sides() -> None:
    for n in range(1, 6):
        (row,) = readers.weights(ladder(n), long=0.5, short=0.5).to_numpy()
        assert (row > 0).sum() + (row < 0).sum() <= n
    assert readers.weights(ladder(1), long=0.5, short=0.5).to_numpy().tolist() == [[0.0]]


def test_scores_that_are_all_the_same_choose_nobody() -> None:
    same = made(*((name, "2018-01-02", 0.5) for name in "ABCD"))
    assert not readers.weights(same).to_numpy().any()
    assert readers.weights(same, long=1, short=0).to_numpy().tolist() == [[0.25] * 4]


@pytest.mark.parametrize("shares", [(0.7, 0.7), (-0.1, 0.1), (0, 0)])
def test_shares_that_make_no_sense_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="must be shares"):
        readers.weights(ladder(4), long=shares[0], short=shares[1])


def test_only_what_has_a_price_at_that_close_is_chosen() -> None:
    close = flat("ABCE", C=[100, np.nan] + [100] * 6)
    weights = readers.weights(ladder(4), close, long=0.25, short=0.25)
    # D has no prices at all, C none on the day; E has no score
    assert weights.loc["2018-01-02"].to_dict() == {"A": -0.5, "B": 0.5, "C": 0.0, "E": 0.0}
    assert weights.columns.name == "symbol"
    assert weights.index.name == "day"


def test_prices_that_stop_before_the_signals_do() -> None:
    signals = made(
        *((name, f"2018-01-{day:02}", 1.0 + (name == "A")) for name in "AB" for day in (2, 9, 16))
    )
    weights = readers.weights(signals, flat("AB"), long=0.5, short=0)
    assert weights.index.tolist() == [DAYS[1], DAYS[6]]
    with pytest.raises(UsageError, match=r"tradable from 2018-01-02 to 2018-01-16, prices are of"):
        readers.weights(signals, flat("AB").set_axis(DAYS + pd.Timedelta(days=90)))
    with pytest.raises(UsageError, match="no symbol has prices"):
        readers.weights(signals, flat("XY"))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "Asia/Tokyo"])
def test_index_labels_stay_as_they_came(zone: str | None) -> None:
    close = flat("ABCD").tz_localize(zone).iloc[::-1]  # newest first
    close.index = close.index + pd.Timedelta(hours=16)
    weights = readers.weights(ladder(4), close, long=0.25, short=0.25)
    assert weights.index[0] == pd.Timestamp("2018-01-02 16:00", tz=zone)
    returns = readers.portfolio_returns(weights, close)
    assert returns.index.is_monotonic_increasing
    assert str(returns.index.tz) == str(zone)


def test_closes_that_cannot_be_put_in_order_are_refused() -> None:
    close = flat("AB")
    for wrong, said in (
        (pd.concat([close, close["A"]], axis=1), "columns come twice, such as A"),
        (pd.concat([close, close.iloc[:1]]), "2018-01-01 has several rows"),
        (close.reset_index(drop=True), "holds no dates"),
        (close.iloc[:0], "there are none"),
        (close.assign(A="price"), "holds no numbers"),
    ):
        with pytest.raises(UsageError, match=said):
            readers.weights(ladder(2), wrong)


# --------------------------------------------------------------------------------- returns


def test_returns_begin_after_the_close_that_was_traded() -> None:
    # the jump on the day of the trade itself is not earned
    close = flat("AB", A=[100, 200, 220, 220, 220, 220, 220, 110])
    returns = readers.portfolio_returns(
        readers.weights(ladder(2), close, long=0.5, short=0.5), close
    )
    assert returns.index[0] == DAYS[1]
    # A is sold: half of the value, against B
    assert returns["net"].tolist()[:3] == pytest.approx([0.0, -0.05, 0.0])
    assert returns["net"].iloc[-1] == pytest.approx((1 + 0.5 - 0.5 * 0.55) / 0.95 - 1)
    assert returns["turnover"].tolist() == [0.5] + [0.0] * 6


def test_costs_are_of_what_is_traded() -> None:
    rows = [("A", "2018-01-02", 1.0), ("B", "2018-01-02", 0.0)]
    turned = [("A", "2018-01-04", 0.0), ("B", "2018-01-04", 1.0)]
    close = flat("AB")
    weights = readers.weights(made(*rows, *turned), close, long=0.5, short=0)
    returns = readers.portfolio_returns(weights, close, cost_bps=100)
    assert returns["gross"].abs().max() == 0
    traded = (1 + 0.99) / 0.99  # what 1 has bought is sold for what is left of it
    assert returns["cost"].tolist() == pytest.approx([0.01, 0, 0.01 * traded, 0, 0, 0, 0])
    assert returns["net"].tolist() == pytest.approx([-0.01, 0, -0.01 * traded, 0, 0, 0, 0])
    assert returns["turnover"].tolist() == pytest.approx([0.5, 0, traded / 2, 0, 0, 0, 0])
    held = readers.holdings(weights, close, cost_bps=100)
    value = held.positions.sum(axis=1) + held.cash
    assert value.tolist() == pytest.approx((1 + returns["net"]).cumprod().tolist())


def test_a_symbol_without_prices_any_more_is_sold_at_its_last() -> None:
    signals = made(
        ("A", "2018-01-02", 1.0),
        ("B", "2018-01-02", 0.0),
        ("B", "2018-01-08", 1.0),
        ("C", "2018-01-08", 0.0),
    )
    close = flat("ABC", A=[100, 100, 90] + [np.nan] * 5)
    weights = readers.weights(signals, close, long=0.5, short=0)
    returns = readers.portfolio_returns(weights, close)["net"]
    assert returns.tolist() == pytest.approx([0, -0.1, 0, 0, 0, 0, 0])
    assert readers.holdings(weights, close).positions["A"].iloc[-1] == 0


def test_weights_and_closes_that_do_not_belong_together() -> None:
    close = flat("AB")
    weights = readers.weights(ladder(2), close, long=0.5, short=0.5)
    with pytest.raises(UsageError, match="no close of 2018-01-02"):
        readers.portfolio_returns(weights, close.iloc[3:])
    with pytest.raises(UsageError, match="B has no price by 2018-01-02"):
        readers.portfolio_returns(weights, close.assign(B=[np.nan] * 3 + [1.0] * 5))
    with pytest.raises(UsageError, match="no weight differs from 0"):
        readers.portfolio_returns(weights * 0, close)
    with pytest.raises(UsageError, match="not in the order of time"):
        readers.portfolio_returns(pd.concat([weights, weights]), close)
    soared = close.assign(A=[100, 100, 100, 400, 400, 400, 400, 400])
    with pytest.raises(UsageError, match="nothing is left on 2018-01-04"):
        readers.portfolio_returns(weights, soared)


# --------------------------------------------------------------------- beside bt and vectorbt

CHOICES = [
    {"long": 0.1, "short": 0.1},
    {"long": 1.0, "short": 0.0, "gross": 0.99},
    {"long": 0.2, "short": 0.3, "scheme": "rank"},
]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("cost_bps", [0, 10])
def test_returns_are_those_of_bt(reversal, close, choice, cost_bps: int) -> None:
    import bt

    ours = readers.portfolio_returns(readers.weights(reversal, close, **choice), close, cost_bps)
    prepared, weights = readers.to_bt(reversal, close, **choice)
    strategy = bt.Strategy("signal", [bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
    test = bt.Backtest(
        strategy,
        prepared,
        commissions=lambda quantity, price: abs(quantity) * price * cost_bps / 1e4,
        integer_positions=False,
        progress_bar=False,
    )
    theirs = bt.run(test).prices["signal"].pct_change(fill_method=None).reindex(ours.index)
    # with costs bt buys for less, so that its positions are smaller by them; ours are not
    tolerance = 3e-4 if cost_bps else 1e-12
    assert (theirs - ours["net"]).abs().max() < tolerance
    total = (1 + theirs).prod(), (1 + ours["net"]).prod()
    assert total[0] == pytest.approx(total[1], rel=2e-3 if cost_bps else 1e-10)


@pytest.mark.slow  # vectorbt compiles for a minute when it runs for the first time
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("cost_bps", [0, 10])
def test_returns_are_those_of_vectorbt(reversal, close, choice, cost_bps: int) -> None:
    import vectorbt

    weights = readers.weights(reversal, close, **choice)
    ours = readers.portfolio_returns(weights, close, cost_bps)["net"]
    prepared, size = readers.to_vectorbt(reversal, close, **choice)
    portfolio = vectorbt.Portfolio.from_orders(
        prepared,
        size,
        size_type="targetpercent",
        group_by=True,
        cash_sharing=True,
        call_seq="auto",
        fees=cost_bps / 1e4,
        init_cash=1e6,
        freq="1D",
    )
    theirs = portfolio.returns().reindex(ours.index)
    assert (theirs - ours).abs().max() < 1e-12
    assert (1 + theirs).prod() == pytest.approx((1 + ours).prod(), rel=1e-10)
