"""Total returns of stocks from week-end to week-end: the panel of the book's second system."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.rolling import Rows
from features.view import Feature, FeatureView, Input

# Sessions of a week, and of the week before: what one return may be made of.
LONGEST_WEEK = 6


def weekly_return(inputs: Mapping[str, Rows]) -> dict[str, npt.NDArray[Any]]:
    """Growth over the sessions of a week less 1, at the last session of each week.

    NaN where the week before has no bar at its own end: a stock that did not trade there has
    no return, not a return over two weeks.
    """
    bars = inputs["bars"]
    at = np.arange(len(bars)) if bars.asked is None else bars.asked
    week, ends, entity, growth = bars["week"], bars["week_end"] > 0, bars.entity, bars["growth"]
    gain, before = np.ones(len(at)), np.full(len(at), -1)
    for back in range(LONGEST_WEEK + 1):
        row = np.maximum(at - back, 0)
        own = (at >= back) & (entity[row] == entity[at])
        same_week = own & (week[row] == week[at])
        gain = np.where(same_week, gain * growth[row], gain)
        before = np.where(own & ~same_week & (before < 0), row, before)
    follows = (before >= 0) & ends[before] & (week[before] == week[at] - 1) & ends[at]
    return {"weekly_return": np.where(follows, gain - 1, np.nan), "rows": ends[at]}


VIEW = FeatureView(
    name="equity_weekly_return",
    description="total return of the week, 52 weeks to the next one",
    entity="symbol",
    inputs=(Input("bars", without="^", memory=2 * LONGEST_WEEK),),
    transform=weekly_return,
    features=(Feature("weekly_return", memory=1, description="ratio less 1, dividends counted"),),
    window=52,
    target="weekly_return",
    horizon=1,
    horizon_unit="week",
    largest_gap=0,  # a week without a return is not passed over
    static=("symbol", "month"),
)
