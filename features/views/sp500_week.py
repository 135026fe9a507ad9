"""The S&P 500's week and how far it moved on each day: what little its next return leans on."""

from collections.abc import Mapping

import numpy as np

from features.rolling import Floats, Rows
from features.view import Feature, FeatureView, Input

WEEK, MONTH = 5, 21  # sessions


def sp500_week(inputs: Mapping[str, Rows]) -> dict[str, Floats]:
    """Every feature of `VIEW`, a value for each close asked for."""
    index = inputs["observations"]
    close, every = index["value"], index.everywhere
    gain = close / every.lag(close, 1) - 1
    week = index.now(close) / index.lag(close, WEEK) - 1
    volatility = np.sqrt(index.mean(gain**2, MONTH))
    return {
        "close": index.now(close),
        "week": week,
        "volatility": volatility,
        "week_by_volatility": week * volatility,
    }


VIEW = FeatureView(
    name="sp500_week",
    description="S&P 500: the week and the month's volatility, 63 sessions to the next close",
    entity="series",
    inputs=(Input("observations", entities=("SP500",), memory=MONTH),),
    transform=sp500_week,
    features=(
        Feature("close", description="index points"),
        Feature("week", WEEK, "return over 5 sessions, ratio less 1"),
        Feature("volatility", MONTH, "root of the mean squared return of 21 sessions"),
        Feature("week_by_volatility", MONTH, "the product of the two"),
    ),
    window=63,
    target="close",
    horizon=1,
    horizon_unit="session",
)
