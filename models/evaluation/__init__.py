"""Evaluation: how good forecasts are, and how much of that is noise.

Pure functions on arrays. Two rules hold everywhere: a label that is not known is left out,
and a forecast that is no number leaves all figures undefined instead of being left out, so
that nobody gains by failing. A figure that is not defined is None, and `undefined` says why
where none is.
All dictionaries can be written as JSON.
"""

from models.evaluation.comparison import (
    Comparison,
    compare,
    confidence_set,
    losses_by_date,
    superior_ability,
    worse_beyond_noise,
)
from models.evaluation.cross_section import evaluate_cross_section, ic_by_date, rank_ic_by_date
from models.evaluation.direction import auc_by_date, evaluate_direction
from models.evaluation.factors import compounded, net_of_factors, trailing_betas
from models.evaluation.leakage import Leak, leaking_features, shuffled_within_dates
from models.evaluation.levels import evaluate_levels, hit_rate
from models.evaluation.paths import evaluate_paths, naive_scale
from models.evaluation.quantiles import ErrorQuantiles, coverage, error_quantiles

__all__ = [
    "Comparison",
    "ErrorQuantiles",
    "Leak",
    "auc_by_date",
    "compare",
    "compounded",
    "confidence_set",
    "coverage",
    "error_quantiles",
    "evaluate_cross_section",
    "evaluate_direction",
    "evaluate_levels",
    "evaluate_paths",
    "hit_rate",
    "ic_by_date",
    "leaking_features",
    "losses_by_date",
    "naive_scale",
    "net_of_factors",
    "rank_ic_by_date",
    "shuffled_within_dates",
    "superior_ability",
    "trailing_betas",
    "worse_beyond_noise",
]
