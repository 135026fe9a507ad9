"""Readers for backtests: the published file, or its Parquet, in the shapes that tools take.

    from signals import readers

    signals = readers.read(signal="equity_week_direction")
    close = readers.prices(entities=signals.entities)
    weights = readers.weights(signals, close, long=0.1, short=0.1)
    readers.portfolio_returns(weights, close, cost_bps=10)

Nothing but what was published is read, and of Lookback nothing else is imported. Every shape
honours `tradable_from`: no signal is traded at the close that it was made from.
"""

from signals.readers.adapters import (
    backtrader_feed,
    to_alphalens,
    to_backtrader,
    to_bt,
    to_pyfolio,
    to_quantstats,
    to_vectorbt,
    to_zipline,
)
from signals.readers.history import Signals, read
from signals.readers.opening import open_published, published_file
from signals.readers.portfolio import Holdings, holdings, portfolio_returns, weights
from signals.readers.prices import bars, prices, total_returns

__all__ = [
    "Holdings",
    "Signals",
    "backtrader_feed",
    "bars",
    "holdings",
    "open_published",
    "portfolio_returns",
    "prices",
    "published_file",
    "read",
    "to_alphalens",
    "to_backtrader",
    "to_bt",
    "to_pyfolio",
    "to_quantstats",
    "to_vectorbt",
    "to_zipline",
    "total_returns",
    "weights",
]
