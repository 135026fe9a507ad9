"""What texts say of each symbol, by exchange day (close to close): mean, spread, news, decay."""

from collections.abc import Mapping

import numpy as np

from features.rolling import Floats, Rows
from features.view import Feature, FeatureView, Input

# Sessions after which what was said counts half, and after which it is forgotten.
HALF_LIFE, REACH = 3, 21


def sentiment_daily(inputs: Mapping[str, Rows]) -> dict[str, Floats]:
    """Every feature of `VIEW`, a value for each day asked for.

    `decayed` is the mean of the novelty-weighted sentiment of this day and those before, each
    weighted by its novelty and by 2 ** -(sessions passed / HALF_LIFE). Summed day by day from
    the newest back, so that it does not matter where a history begins.
    """
    days = inputs["sentiment"]
    number, weight = days["session"], days["novelty"]
    said = weight * np.nan_to_num(days["novel_sentiment"])
    total, weights = (np.zeros(len(days.now(number))) for _ in range(2))
    # a day lies at least as many sessions back as it lies rows back
    for back in range(REACH):
        passed = days.now(number) - days.lag(number, back)
        share = np.where(passed < REACH, 2.0 ** -(passed / HALF_LIFE), 0.0)
        total += np.nan_to_num(share * days.lag(said, back))
        weights += np.nan_to_num(share * days.lag(weight, back))
    return {
        **{name: days.now(days[name]) for name in ("sentiment", "dispersion", "documents")},
        "novelty": days.now(weight),
        "novel_sentiment": days.now(days["novel_sentiment"]),
        "decayed": np.divide(total, weights, out=np.zeros_like(total), where=weights > 0),
    }


VIEW = FeatureView(
    name="sentiment_daily",
    description="what texts said of a symbol from one close to the next",
    entity="symbol",
    inputs=(Input("sentiment", memory=REACH - 1),),
    transform=sentiment_daily,
    features=(
        Feature("sentiment", description="mean over the day's documents, -1 to 1"),
        Feature("dispersion", description="standard deviation of the same, 0 of one document"),
        Feature("documents", description="documents of the day"),
        Feature("novelty", description="the same, each counted by how new it is, 0 to 1"),
        Feature("novel_sentiment", description="mean weighted by novelty, -1 to 1"),
        Feature(
            "decayed",
            description=f"the same with the days before, half as much after {HALF_LIFE} sessions",
        ),
    ),
    window=1,
    target="sentiment",
    horizon=1,
    horizon_unit="session",
    largest_gap=REACH,
)
