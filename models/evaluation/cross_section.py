"""Cross-sections: whether scores put the entities of a date in the order of their returns.

All figures are made date by date and then averaged, so that a date on which everything rose
counts no more than any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError
from models.evaluation.levels import hit_rate
from models.evaluation.panel import (
    FEWEST_PAIRS,
    Floats,
    Ints,
    Metrics,
    Panel,
    figure,
    not_finite,
    require_same_length,
    vectors,
)
from models.evaluation.significance import (
    block_length,
    mean_interval,
    newey_west_lags,
    newey_west_t,
)


def ic_by_date(scores: npt.ArrayLike, label: npt.ArrayLike, dates: Any) -> pd.Series[float]:
    """Information coefficient: Pearson correlation of scores and returns within each date.

    Parameters
    ----------
    scores, label : (n,); pairs of which a side is missing are left out.
    dates : (n,)

    Returns
    -------
    Series
        Indexed by date, ascending; NaN on dates with fewer than three pairs or on which a
        side does not vary.

    References
    ----------
    Grinold, Kahn, "Active Portfolio Management", 2nd ed. 1999, chapter 6.
    """
    return _by_date(scores, label, dates, of_ranks=False)


def rank_ic_by_date(scores: npt.ArrayLike, label: npt.ArrayLike, dates: Any) -> pd.Series[float]:
    """Spearman correlation of scores and returns within each date, ties by their mean rank.

    Takes and returns what `ic_by_date` does.
    """
    return _by_date(scores, label, dates, of_ranks=True)


def _by_date(
    scores: npt.ArrayLike, label: npt.ArrayLike, dates: Any, *, of_ranks: bool
) -> pd.Series[float]:
    values, returns = vectors(scores, label)
    require_same_length(values, dates)
    panel = Panel.of(dates)
    return panel.by_date(panel.correlation(values, returns, of_ranks=of_ranks))


def evaluate_cross_section(
    scores: npt.ArrayLike,
    label: npt.ArrayLike,
    dates: Any,
    entities: Any,
    *,
    against: Mapping[str, npt.ArrayLike] | None = None,
    overlap: int = 1,
    buckets: int = 5,
    furthest: int = 4,
) -> Metrics:
    """Figures of a ranking against the label, and against other returns of the same rows.

    Parameters
    ----------
    scores : (n,)
        The higher, the better the return that is expected.
    label : (n,)
        Return over the horizon; NaN where it is not known.
    dates, entities : (n,)
        Each entity once a date. A period is a step to the next distinct date.
    against : mapping, optional
        Name -> (n,): other returns of the same rows, for instance `tradable`: over the same
        horizon from the first session on which the score could be traded, and
        `net_of_factors` (`models.evaluation.factors`).
    overlap : int
        Periods that a label covers, for the lags of t and the blocks of the bootstrap.
    buckets : int
        Equal groups of a date by score, of which the top's return less the bottom's is the
        spread.
    furthest : int
        Decay is given for returns shifted by 0 to so many periods.

    Returns
    -------
    dict
        `n`: rows with a known label; `undefined`: why there are no figures, else None;
        `turnover` of the rank portfolio, a period. Then, against the label, and once more
        under each name of `against`: `n_dates` with a rank IC; `ic`, `rank_ic`: means over
        these; `icir`, `rank_icir`: mean by standard deviation over the dates, not
        annualised; `ic_t`, `rank_ic_t`: Newey-West t with `lags`; `rank_ic_low`,
        `rank_ic_high`: 90 % interval by the stationary bootstrap; `bucket_returns`, lowest
        scores first, `spread`, `spread_t` and `spread_hit_rate`, the share of dates on which
        the spread was above zero, of those on which there was one; `decay`: for each `lag`
        the `rank_ic`, its `t` and `n_dates`, where the same score is held against the return
        that begins `lag` periods later.

    Raises
    ------
    UsageError
        The arrays differ in length, or an entity has two rows on one date.

    References
    ----------
    Grinold, Kahn, "Active Portfolio Management", 2nd ed. 1999, chapters 6 and 14: IC, its
    information ratio, decay with lag. Newey, West (1987): t.
    """
    values, returns = vectors(scores, label)
    require_same_length(values, dates, entities)
    panel, columns = Panel.of(dates), pd.factorize(np.asarray(entities))[0].astype(np.intp)
    _require_one_row_each(panel, columns)
    others = {name: vectors(values, other)[1] for name, other in (against or {}).items()}
    broken = not_finite("scores", values)
    scored = np.full(len(values), np.nan) if broken else values

    def figures(realised: Floats) -> Metrics:
        return {
            **_ic(panel, scored, realised, overlap),
            **_spread(panel, scored, realised, buckets, overlap),
            "decay": _decay(panel, columns, scored, realised, furthest, overlap),
        }

    measured = figures(returns)
    return {
        "n": int(np.isfinite(returns).sum()),
        "undefined": None
        if measured["n_dates"]
        else broken or _why_undefined(panel, np.isfinite(returns)),
        **measured,
        "turnover": None if broken else turnover(values, dates, entities),
        **{name: figures(other) for name, other in others.items()},
    }


def turnover(scores: npt.ArrayLike, dates: Any, entities: Any) -> float | None:
    """Share of a rank portfolio that is exchanged from one date to the next, on average.

    Weights of a date are the ranks less their mean, divided by the sum of their absolute
    values; who is not there weighs nothing. Turnover is half the sum of the absolute changes:
    0 where no rank changes, 1 where the order is turned round, 2/3 where it is drawn anew.
    What prices do to weights in between is left out.

    Parameters
    ----------
    scores, dates, entities : (n,)

    Returns
    -------
    float or None
        Undefined where no two dates in a row have scores that can be ranked.
    """
    (values,) = vectors(scores)
    panel, (columns, names) = Panel.of(dates), pd.factorize(np.asarray(entities))
    rows = np.isfinite(values)
    ranks = panel.ranks(values, rows)
    ranks = np.where(rows, ranks - panel.mean(ranks, rows)[panel.place], 0.0)
    gross = np.bincount(panel.place, np.abs(ranks), len(panel.days))
    held = gross > 0
    weights = np.zeros((len(panel.days), len(names)))
    weights[panel.place, columns] = ranks / np.where(held, gross, 1.0)[panel.place]
    changes = np.abs(np.diff(weights, axis=0)).sum(axis=1) / 2
    both = held[1:] & held[:-1]
    return float(changes[both].mean()) if both.any() else None


def _ic(panel: Panel, scores: Floats, returns: Floats, overlap: int) -> Metrics:
    """Means over the dates, and how sure they are."""
    ic = panel.correlation(scores, returns)
    rank_ic = panel.correlation(scores, returns, of_ranks=True)
    ic, rank_ic = ic[np.isfinite(ic)], rank_ic[np.isfinite(rank_ic)]
    lags = newey_west_lags(len(rank_ic), overlap)
    interval = mean_interval(rank_ic, block=block_length(rank_ic, overlap))
    return {
        "n_dates": len(rank_ic),
        "ic": _mean(ic),
        "icir": information_ratio(ic),
        "ic_t": newey_west_t(ic, lags),
        "rank_ic": _mean(rank_ic),
        "rank_icir": information_ratio(rank_ic),
        "rank_ic_t": newey_west_t(rank_ic, lags),
        "rank_ic_low": interval.low,
        "rank_ic_high": interval.high,
        "lags": lags,
    }


def information_ratio(values: Floats) -> float | None:
    """Mean by standard deviation; None for fewer than two values, or where none differs."""
    if len(values) < 2 or np.ptp(values) <= 1e-12:
        return None
    return float(values.mean() / values.std(ddof=1))


def _spread(panel: Panel, scores: Floats, returns: Floats, buckets: int, overlap: int) -> Metrics:
    """Mean returns of equal groups by score."""
    pairs = np.isfinite(scores) & np.isfinite(returns)
    ranks, count = panel.ranks(scores, pairs), panel.count(pairs)
    # the middle of a rank decides, so that top and bottom are equally large
    bucket = np.full(len(scores), -1)
    bucket[pairs] = (ranks[pairs] - 0.5) * buckets / count[panel.place[pairs]]
    by_bucket = np.array([panel.mean(returns, bucket == number) for number in range(buckets)])
    whole = np.isfinite(by_bucket).all(axis=0)
    by_bucket = by_bucket[:, whole]
    spread = by_bucket[-1] - by_bucket[0]
    lags = newey_west_lags(len(spread), overlap)
    return {
        "bucket_returns": by_bucket.mean(axis=1).tolist() if len(spread) else None,
        "spread": _mean(spread),
        "spread_t": newey_west_t(spread, lags),
        "spread_hit_rate": hit_rate(np.ones_like(spread), spread),
    }


def _decay(
    panel: Panel, columns: Ints, scores: Floats, returns: Floats, furthest: int, overlap: int
) -> list[Metrics]:
    """Rank IC with the return of the same entity, some dates later."""
    wide = np.full((len(panel.days) + furthest, columns.max(initial=-1) + 1), np.nan)
    wide[panel.place, columns] = returns

    def at(lag: int) -> Metrics:
        found = panel.correlation(scores, wide[panel.place + lag, columns], of_ranks=True)
        found = found[np.isfinite(found)]
        t = newey_west_t(found, newey_west_lags(len(found), overlap))
        return {"lag": lag, "rank_ic": _mean(found), "t": t, "n_dates": len(found)}

    return [at(lag) for lag in range(furthest + 1)]


def _mean(values: Floats) -> float | None:
    return figure(values.mean()) if len(values) else None


def _require_one_row_each(panel: Panel, columns: Ints) -> None:
    key = panel.place * (columns.max(initial=0) + 1) + columns
    if len(np.unique(key)) < len(key):
        raise UsageError(
            "evaluation: an entity has two rows on one date; give each horizon and target by itself"
        )


def _why_undefined(panel: Panel, known: npt.NDArray[np.bool_]) -> str:
    widest = int(panel.count(known).max(initial=0))
    if not widest:
        return "no known label"
    if widest == 1:
        return "one entity a date: there is no cross-section to rank"
    if widest < FEWEST_PAIRS:
        return f"no date has more than {widest} entities; {FEWEST_PAIRS} are needed to rank"
    return "scores or returns are the same for all entities on every date"
