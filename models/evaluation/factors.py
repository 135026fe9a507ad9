"""Factors: returns less what an entity's exposures to known factors explain.

A ranking may do no more than buy what falls less when the market falls. Its IC with
residual returns says what is left of it: for entity i, scored on date t,

    e(i, t) = r(i, t) - b(i, t) . f(t)

where r is the return over the label's period (of the tradable return: over its period), f
the factor returns over the very same period, and b the slopes of the least-squares
regression, with an intercept, of the entity's returns on the factor returns over the last
`window` periods that ended on t or before: known when the score was made. The intercept is
not taken off: what an entity earned beyond its exposures is what a ranking is after. With
the market alone it is the IC net of beta, with five factors net of Fama and French.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError
from models.evaluation.panel import Floats, require_same_length, vectors

# Kenneth French's names: the market's return in excess of the riskless one, and the latter.
MARKET, RISKLESS = "Mkt-RF", "RF"


@dataclass(frozen=True)
class Betas:
    """Exposures of each entity as they were known on each date.

    Attributes
    ----------
    dates : (d,), datetime64
        Ascending.
    entities : (m,)
    factors : names, k of them.
    values : (d, m, k); NaN where an entity had too short a history.
    """

    dates: npt.NDArray[np.datetime64]
    entities: pd.Index[Any]
    factors: tuple[str, ...]
    values: Floats


def compounded(daily: pd.DataFrame, after: Any, until: Any) -> pd.DataFrame:
    """Factor returns over periods, from daily ones.

    Parameters
    ----------
    daily : DataFrame
        Indexed by session, ascending; one column a factor, as shares and not per cent (those
        of Kenneth French's library are per cent: divide by 100). With `Mkt-RF` and `RF`
        the market is compounded as such, and what the riskless return came to taken off; each
        other column is compounded by itself.
    after, until : (p,), dates
        A period holds the sessions after the one and up to the other, itself included.

    Returns
    -------
    DataFrame
        (p, k), indexed by `until`. NaN for a period that reaches beyond the data.

    Raises
    ------
    UsageError
        The returns are per cent, or one is missing: no later period could be known.
    """
    if (daily.abs() > 1).to_numpy().any():
        raise UsageError("factor returns: a factor moved by over 100 % in a day; divide by 100")
    if not np.isfinite(daily.to_numpy("float64")).all():
        raise UsageError("factor returns: some are missing; drop their sessions")
    growth = daily.copy()
    with_market = {MARKET, RISKLESS} <= set(daily.columns)
    if with_market:
        growth[MARKET] = daily[MARKET] + daily[RISKLESS]
    start, end = (np.asarray(pd.DatetimeIndex(dates)) for dates in (after, until))
    days = daily.index.to_numpy()
    so_far = np.vstack([np.zeros(daily.shape[1]), np.log1p(growth.to_numpy("float64")).cumsum(0)])
    first, last = (np.searchsorted(days, dates, side="right") for dates in (start, end))
    result = pd.DataFrame(
        np.expm1(so_far[last] - so_far[first]), pd.DatetimeIndex(until), daily.columns
    )
    if with_market:
        result[MARKET] -= result[RISKLESS]
    inside = (start >= days[0]) & (end <= days[-1])
    result.loc[~inside] = np.nan
    return result


def trailing_betas(
    returns: pd.DataFrame,
    factors: pd.DataFrame,
    *,
    dates: Any = None,
    window: int = 104,
    fewest: int = 52,
) -> Betas:
    """Exposures by least squares over the periods that had ended on each date.

    Parameters
    ----------
    returns : DataFrame
        (p, m): return of each entity over the period that ends on the row's date, NaN
        where it was not listed; dates ascending.
    factors : DataFrame
        (p, k): factor returns over the same periods, on the same dates (`compounded`). A
        column `RF` is no factor: the entities' returns are taken in excess of it.
    dates : sequence of dates, optional
        When exposures are wanted; on every row if left out.
    window : int
        Periods that are looked back upon.
    fewest : int
        Of these, how many an entity must have.

    Raises
    ------
    UsageError
        `fewest` does not exceed the number of coefficients, or factors are collinear.
    """
    factors = factors.reindex(returns.index)
    excess = returns.to_numpy("float64")
    if RISKLESS in factors:
        excess = excess - factors[[RISKLESS]].to_numpy("float64")
    names = tuple(str(name) for name in factors.columns if name != RISKLESS)
    if fewest <= len(names) + 1:
        raise UsageError(f"betas: {len(names) + 1} coefficients need more than {fewest} periods")
    design = np.column_stack([np.ones(len(factors)), factors[list(names)].to_numpy("float64")])
    wanted = np.asarray(pd.DatetimeIndex(returns.index if dates is None else dates).unique())
    wanted = np.sort(wanted)
    stops = np.searchsorted(returns.index.to_numpy(), wanted, side="right")
    values = np.full((len(wanted), excess.shape[1], len(names)), np.nan)
    for number, stop in enumerate(stops):
        rows = slice(max(0, stop - window), stop)
        values[number] = _slopes(design[rows], excess[rows], fewest)
    return Betas(wanted, returns.columns, names, values)


def _slopes(design: Floats, excess: Floats, fewest: int) -> Floats:
    """Slopes of many regressions that share their regressors but for missing rows: (m, k)."""
    used = np.isfinite(design).all(axis=1)
    design, excess = design[used], excess[used]
    there = np.isfinite(excess)
    slopes = np.full((excess.shape[1], design.shape[1] - 1), np.nan)
    enough = there.sum(axis=0) >= fewest
    if not enough.any():
        return slopes
    # each in its own unit: a factor moves by hundredths, the intercept is one
    unit = np.sqrt(np.mean(design**2, axis=0))
    design, size = design / np.where(unit > 0, unit, 1.0), design.shape[1]
    collinear = UsageError("betas: the factors are collinear; leave one of them out")
    if np.linalg.matrix_rank(design) < size:
        raise collinear
    there, excess = there[:, enough], np.where(there, excess, 0.0)[:, enough]
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    gram = (there.T.astype("float64") @ squares).reshape(-1, size, size)
    try:
        solved = np.linalg.solve(gram, (excess.T @ design)[..., None])[..., 0]
    except np.linalg.LinAlgError as error:
        raise collinear from error
    slopes[enough] = solved[:, 1:] / unit[1:]
    return slopes


def net_of_factors(
    realised: npt.ArrayLike, dates: Any, entities: Any, betas: Betas, over: pd.DataFrame
) -> Floats:
    """Realised returns less what the exposures known on their date explain.

    Parameters
    ----------
    realised : (n,)
        Return over the label's period.
    dates, entities : (n,)
        When the score was made, and of what.
    betas : Betas
        Those of a row are the newest on or before its date.
    over : DataFrame
        Factor returns over the label's period, indexed by the date of the score; the riskless
        return is the same for all of a date and changes no ranking, so it is not needed.

    Returns
    -------
    float64 (n,)
        NaN where an exposure or a factor return is not known.
    """
    (returns,) = vectors(realised)
    require_same_length(returns, dates, entities)
    day = np.asarray(pd.DatetimeIndex(dates))
    row = np.searchsorted(betas.dates, day, side="right") - 1
    column = betas.entities.get_indexer(pd.Index(np.asarray(entities)))
    f = over[list(betas.factors)].reindex(pd.DatetimeIndex(dates)).to_numpy("float64")
    explained = np.einsum("nk,nk->n", betas.values[row, column], f)
    known = (row >= 0) & (column >= 0)
    return np.where(known, returns - explained, np.nan)
