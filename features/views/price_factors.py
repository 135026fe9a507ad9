"""Price factors of stocks, from total returns: splits and dividends count as known at the time."""

from collections.abc import Mapping

import numpy as np

from features.rolling import Floats, Rows
from features.view import Feature, FeatureView, Input

WEEK, MONTH, QUARTER, YEAR = 5, 21, 63, 252  # sessions
RSI_SESSIONS = 14  # Wilder, New Concepts in Technical Trading Systems, 1978


def price_factors(inputs: Mapping[str, Rows]) -> dict[str, Floats]:
    """Every factor of `VIEW.features`, a value for each bar asked for."""
    bars = inputs["bars"]
    growth = bars["growth"]
    gain = growth - 1
    week, month, quarter, year = bars.levels(growth, (WEEK, MONTH, QUARTER, YEAR))
    change = 1 - 1 / growth  # of the price, over the price after it
    risen, moved = bars.priced_sums(growth, (np.maximum(change, 0), np.abs(change)), RSI_SESSIONS)
    of_month, of_quarter = bars.stds(gain, (MONTH, QUARTER))
    day = bars.now(bars.date)
    return {
        "return_1": bars.now(gain),
        "return_5": week.growth - 1,
        "return_21": month.growth - 1,
        "return_63": quarter.growth - 1,
        "return_252": year.growth - 1,
        "ma_ratio_5": 1 / week.mean,
        "ma_ratio_21": 1 / month.mean,
        "ma_ratio_63": 1 / quarter.mean,
        "ma_ratio_252": 1 / year.mean,
        "volatility_21": of_month,
        "volatility_63": of_quarter,
        "drawdown_252": 1 / year.highest - 1,
        "rsi_14": 100 * risen / moved,
        "month": (day.astype("datetime64[M]").astype("int64") % 12 + 1).astype("float64"),
        "day_of_week": ((day.astype("int64") + 3) % 7).astype("float64"),
    }


VIEW = FeatureView(
    name="price_factors",
    description="returns, moving averages, volatility, drawdown, RSI; 63 sessions to the next",
    entity="symbol",
    inputs=(Input("bars", without="^", memory=YEAR),),
    transform=price_factors,
    features=(
        *(
            Feature(f"return_{k}", k, f"total return over {k} sessions, ratio less 1")
            for k in (1, WEEK, MONTH, QUARTER, YEAR)
        ),
        *(
            Feature(f"ma_ratio_{k}", k - 1, f"price over its mean of {k} sessions")
            for k in (WEEK, MONTH, QUARTER, YEAR)
        ),
        *(
            Feature(f"volatility_{k}", k, f"standard deviation of {k} daily returns, per session")
            for k in (MONTH, QUARTER)
        ),
        Feature(f"drawdown_{YEAR}", YEAR - 1, f"price over its maximum of {YEAR} sessions, less 1"),
        Feature(
            f"rsi_{RSI_SESSIONS}",
            RSI_SESSIONS,
            "relative strength, 0..100; simple means, as Cutler's",
        ),
        Feature("month", description="1..12"),
        Feature("day_of_week", description="0 is Monday"),
    ),
    window=QUARTER,
    target="return_1",
    horizon=1,
    horizon_unit="session",
    static=("symbol",),
    stored="float32",
)
