"""Returns between closes, from total returns of sessions."""

import numpy as np
import pandas as pd
import pytest

from features.catalog import feature_view
from features.holding import VIEW, holding_returns
from features.materialize import materialize

DAYS = [f"2018-12-{day}" for day in (10, 11, 12, 13, 14, 17, 18, 19, 20, 21)]
END = pd.Timestamp("2018-12-22 02:00", tz="UTC")
PRICES = {"A": [10, 11, 12, 11, 13, 14, 15, 16, 15, 18], "B": [5, 5, 6, None, 6, 6, 3, 3, 3, 3]}


@pytest.fixture
def store(raw):
    """Two symbols, with enough flat history for a window of the view."""
    flat = [str(raw.calendar.offset(pd.Timestamp(DAYS[0]).date(), -n)) for n in range(70, 0, -1)]
    rows = pd.DataFrame(
        [
            {"entity": name, "session": pd.Timestamp(day), "adj_close": float(price)}
            for name, prices in PRICES.items()
            for day, price in zip([*flat, *DAYS], [prices[0]] * 70 + prices, strict=True)
            if price is not None
        ]
    )
    known = [raw.known_at(str(day.date())) for day in rows["session"]]
    raw.append_bars(rows.assign(close=rows["adj_close"], known_at=known))
    materialize(raw.warehouse, feature_view(VIEW))
    return raw


def returns(store, *asked, cutoff=END, **choice):
    names, bought, sold = zip(*asked, strict=True)
    days = [
        np.array([f"2018-12-{day}" for day in each], "datetime64[D]") for each in (bought, sold)
    ]
    return holding_returns(store.warehouse, cutoff, names, *days, **choice)


def test_bought_at_one_close_and_sold_at_another(store):
    found = returns(store, ("A", 11, 14), ("A", 14, 21), ("B", 12, 18), ("A", 11, 12))
    np.testing.assert_allclose(found, [13 / 11 - 1, 18 / 13 - 1, 3 / 6 - 1, 12 / 11 - 1])


def test_no_return_where_there_is_no_bar_or_no_such_symbol(store):
    assert np.isnan(returns(store, ("B", 12, 13), ("B", 13, 17), ("C", 11, 12))).all()


def test_no_return_that_was_not_known(store):
    found = returns(store, ("A", 11, 14), ("A", 11, 17), cutoff=store.known_at("2018-12-14"))
    np.testing.assert_allclose(found, [13 / 11 - 1, np.nan])


def test_a_break_in_between_leaves_no_return(store):
    store.append_break("level", "2018-12-18", entity="B")
    asked = (("B", 12, 17), ("B", 17, 18), ("B", 14, 19), ("B", 18, 19), ("A", 17, 19))
    across = returns(store, *asked)
    not_across = returns(store, *asked, across_breaks=False)
    assert np.isfinite(across).all()
    assert np.isnan(not_across).tolist() == [False, True, True, False, False]
    np.testing.assert_array_equal(not_across[[0, 3, 4]], across[[0, 3, 4]])


def test_a_spike_leaves_no_return_into_it_or_out_of_it(store):
    store.append_break("spike", "2018-12-17", until="2018-12-18", resolved="2018-12-20", entity="A")
    asked = (("A", 13, 14), ("A", 14, 17), ("A", 18, 19), ("A", 19, 20))
    found = returns(store, *asked, across_breaks=False)
    assert np.isnan(found).tolist() == [False, True, True, False]


def test_nothing_asked_is_nothing_found(store):
    assert len(holding_returns(store.warehouse, END, [], [], [])) == 0
