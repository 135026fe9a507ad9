"""The catalog of baselines: which there are for each task, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.baselines.autoregression import VectorAutoregression
from models.baselines.boosting import Boosting
from models.baselines.naive import (
    Drift,
    Majority,
    Momentum,
    Persistence,
    Reversal,
    SeasonalNaive,
    Unmoved,
)
from models.baselines.regression import LinearScore
from models.recipes import Task

NAMES: Mapping[Task, tuple[str, ...]] = {
    "level": ("persistence", "drift"),
    "changes": ("persistence", "unmoved", "seasonal_naive", "var"),
    "path": ("persistence", "unmoved", "seasonal_naive", "var"),
    "direction": ("majority", "reversal", "momentum", "logistic", "boosting"),
    "rank": ("reversal", "momentum", "ridge", "boosting"),
}
KINDS: Mapping[str, Any] = {
    "persistence": Persistence,
    "drift": Drift,
    "unmoved": Unmoved,
    "seasonal_naive": SeasonalNaive,
    "var": VectorAutoregression,
    "majority": Majority,
    "reversal": Reversal,
    "momentum": Momentum,
    "logistic": LinearScore,
    "ridge": LinearScore,
    "boosting": Boosting,
}
