"""Beta of stocks to the S&P 500, from daily returns."""

from collections.abc import Mapping

import numpy as np

from features.rolling import Floats, Rows
from features.view import Feature, FeatureView, Input

YEAR = 252  # sessions
INDEX = "SP500"


def market_beta(inputs: Mapping[str, Rows]) -> dict[str, Floats]:
    """Slope of a stock's returns on the index's over a year in which both have each of them."""
    bars, index = inputs["bars"], inputs["observations"]
    stock = bars["growth"] - 1
    level = _on_dates_of(bars, index)
    market = level / bars.everywhere.lag(level, 1) - 1
    # where one has no return, neither counts
    market = np.where(np.isfinite(stock), market, np.nan)
    return {
        "beta_252": bars.covariance(market, stock, YEAR) / bars.covariance(market, market, YEAR),
    }


def _on_dates_of(bars: Rows, index: Rows) -> Floats:
    """The index's level on the date of each bar, NaN where it has none: (n,)."""
    level = np.full(len(bars), np.nan)
    at = np.searchsorted(index.date, bars.date)
    found = at < len(index)
    found[found] = index.date[at[found]] == bars.date[found]
    level[found] = index["value"][at[found]]
    return level


VIEW = FeatureView(
    name="market_beta",
    description="beta to the S&P 500 (price index) over 252 sessions; 21 sessions to the next",
    entity="symbol",
    inputs=(
        Input("bars", without="^", memory=YEAR),
        Input("observations", entities=(INDEX,), shared=True, memory=YEAR),
    ),
    transform=market_beta,
    features=(Feature("beta_252", YEAR, "covariance over variance of daily returns"),),
    window=21,
    target="beta_252",
    horizon=1,
    horizon_unit="session",
    static=("symbol",),
    stored="float32",
)
