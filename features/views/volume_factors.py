"""Volume factors of stocks, from the value traded: a split changes shares, not their value."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.rolling import Rows
from features.view import Feature, FeatureView, Input

WEEK, MONTH, QUARTER = 5, 21, 63  # sessions


def volume_factors(inputs: Mapping[str, Rows]) -> dict[str, npt.NDArray[Any]]:
    """Ratios of mean values traded (close · volume), for each bar asked for that has one."""
    bars = inputs["bars"]
    traded = bars["close"] * bars["volume"]
    week, month, quarter = bars.means(traded, (WEEK, MONTH, QUARTER))
    return {
        "volume_ratio_1_21": bars.now(traded) / month,
        "volume_ratio_5_21": week / month,
        "volume_ratio_21_63": month / quarter,
        "rows": np.isfinite(bars.now(traded)),
    }


VIEW = FeatureView(
    name="volume_factors",
    description="value traded over its own means; 21 sessions to the next",
    entity="symbol",
    inputs=(Input("bars", without="^", memory=QUARTER),),
    transform=volume_factors,
    features=(
        Feature("volume_ratio_1_21", MONTH - 1, "value traded over its mean of 21 sessions"),
        Feature("volume_ratio_5_21", MONTH - 1, "means of 5 over 21 sessions"),
        Feature("volume_ratio_21_63", QUARTER - 1, "means of 21 over 63 sessions"),
    ),
    window=MONTH,
    target="volume_ratio_1_21",
    horizon=1,
    horizon_unit="session",
    static=("symbol",),
    stored="float32",
)
