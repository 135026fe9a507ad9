"""How good signals are: by date and over the year up to it, from their outcomes.

A cross-section is measured within each date; a series, which is alone on its date, over the
dates of a year. A year is 252 sessions, 52 weeks or 12 months of dates that were scored.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.tables import signal_calibration, signal_performance
from models.evaluation import auc_by_date, ic_by_date, rank_ic_by_date
from models.evaluation.direction import reliability
from models.evaluation.significance import newey_west_t
from signals.declaration import Signal
from signals.outcomes import KEY, outcomes_of, spans

if TYPE_CHECKING:
    from db.warehouse import Warehouse

Floats = npt.NDArray[np.float64]

# What a group of rows has in common; `entity` is * for a cross-section, `model_version` * for
# the signal whoever made it: of several versions of a date the one published last.
GROUP = ["signal", "entity", "horizon", "horizon_unit", "role", "model_version"]
EVERYONE = "*"
# Dates in a year, by the signal's unit, and the fewest that say anything.
YEAR = {"session": 252, "week": 52, "month": 12}
FEWEST_DATES = 10
# Calendar days that surely hold a year of dates.
YEAR_DAYS = 400
AGAINST = {"": "label", "tradable_": "tradable"}
QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
READ = ["value", "start", "realised", "error", "hit", "tradable_return", "probability"]
OF_A_DATE = [
    *(f"{prefix}{name}" for prefix in AGAINST for name in ("ic", "rank_ic", "auc", "hit_rate")),
    *("mae", "naive_mae", "brier"),
]


def measure(warehouse: Warehouse, declared: Signal, first: date) -> int:
    """Bring performance and calibration up to date; how many rows of performance were written.

    Parameters
    ----------
    warehouse : the open store; outcomes have been joined.
    declared : the signal.
    first : oldest `as_of` whose outcome may be new or another one.
    """
    return sum(_measure(warehouse, declared, span) for span in spans(warehouse, declared, first))


def _measure(warehouse: Warehouse, declared: Signal, span: tuple[date, date]) -> int:
    first, last = span
    before = (pd.Timestamp(first) - pd.Timedelta(days=YEAR_DAYS)).date()
    alone = not _is_cross_section(warehouse, declared)
    # of a cross-section the figures of earlier dates are there already
    found = _outcomes(warehouse, declared, (before if alone else first, last))
    earlier = _measured(warehouse, declared, (before, first)) if not alone else None
    tables = []
    for key, group in found.groupby(GROUP):
        names: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        tables.append(_performance(group, earlier, alone=alone).assign(**names))
    columns = [column.name for column in signal_performance.columns]
    with warehouse.transaction():
        warehouse.native.execute(
            "DELETE FROM main.signal_performance WHERE signal = ? AND as_of BETWEEN ? AND ?",
            (declared.name, first, last),
        )
        if not tables:
            return 0
        rows = pd.concat(tables, ignore_index=True)
        rows = rows[rows["as_of"] >= pd.Timestamp(first)].merge(
            _scored(warehouse, declared, span),
            on=["as_of", *GROUP],
            how="left",
            validate="many_to_one",
        )
        warehouse.append(signal_performance, rows[columns])
        if found[["probability", "q50"]].notna().any(axis=None):
            _calibrate(warehouse, declared, (before, last))
    return len(rows)


def _outcomes(
    warehouse: Warehouse, declared: Signal, span: tuple[date, date], *, calibrated: bool = False
) -> pd.DataFrame:
    """Outcomes of each version and of all together; the entity is * in a cross-section."""
    columns = [*READ, *QUANTILES]
    found = outcomes_of(warehouse, declared, span, columns, calibrated=calibrated)
    found = pd.concat([found, _whoever_made_it(found)], ignore_index=True)
    if _is_cross_section(warehouse, declared):
        found["entity"] = EVERYONE
    return found


def _measured(warehouse: Warehouse, declared: Signal, span: tuple[date, date]) -> pd.DataFrame:
    """Figures of the dates from the first on and before the second, as measured already."""
    return warehouse.frame(
        f"""
        SELECT {", ".join([*GROUP, "as_of", "known", *OF_A_DATE])}
        FROM main.signal_performance
        WHERE signal = ? AND as_of >= ? AND as_of < ?
        ORDER BY as_of
        """,
        declared.name,
        *span,
    )


def _is_cross_section(warehouse: Warehouse, declared: Signal) -> bool:
    """Whether the signal's scores are ranked within their dates."""
    found = warehouse.one(
        'SELECT 1 FROM main.signals WHERE signal = ? AND "rank" IS NOT NULL LIMIT 1', declared.name
    )
    return found is not None


def _scored(warehouse: Warehouse, declared: Signal, span: tuple[date, date]) -> pd.DataFrame:
    """How many rows of the signal there are on each date, in groups as they are measured."""
    entity = "'*'" if _is_cross_section(warehouse, declared) else "entity"
    return warehouse.frame(
        f"""
        -- one row per date and group, of each version and of all together
        SELECT signal, {entity} AS entity, horizon, horizon_unit, role,
            coalesce(model_version, '*') AS model_version, as_of,
            count(DISTINCT s.entity) AS scored
        FROM main.signals s
        WHERE signal = ? AND as_of BETWEEN ? AND ?
        GROUP BY GROUPING SETS (
            (signal, {entity}, horizon, horizon_unit, role, model_version, as_of),
            (signal, {entity}, horizon, horizon_unit, role, as_of)
        )
        """,
        declared.name,
        *span,
    )


def _whoever_made_it(found: pd.DataFrame) -> pd.DataFrame:
    """The outcomes of the signal as its readers see it, under the version *."""
    of_one = [name for name in KEY if name != "model_version"]
    newest = found.sort_values("published_at").drop_duplicates(of_one, keep="last")
    return newest.assign(model_version=EVERYONE)


# --------------------------------------------------------------------------- by date, over a year


def _performance(group: pd.DataFrame, earlier: pd.DataFrame | None, *, alone: bool) -> pd.DataFrame:
    """Figures of each date and of the year up to it: one row per `as_of`."""
    by_date = _of_dates(group, alone=alone)
    if earlier is not None:
        key = group[GROUP].iloc[0]
        own = earlier[(earlier[GROUP] == key).all(axis=1)].set_index("as_of")
        by_date = pd.concat([own[by_date.columns], by_date]) if len(own) else by_date
    length = YEAR[str(group["horizon_unit"].iloc[0])]
    dates = by_date["known"].rolling(length, min_periods=1).count().astype("int32")
    enough = dates >= FEWEST_DATES
    over: dict[str, pd.Series[Any]] = {"dates": dates}
    for prefix in AGAINST:
        figures = (
            _over_time(group, prefix, length) if alone else _mean_of_dates(by_date, prefix, length)
        )
        figures["hit_rate"] = by_date[f"{prefix}hit_rate"].rolling(length, min_periods=1).mean()
        over |= {f"{prefix}{name}": values.where(enough) for name, values in figures.items()}
    for name in ("mae", "naive_mae"):
        over[name] = by_date[name].rolling(length, min_periods=1).mean().where(enough)
    return by_date.assign(
        **{f"running_{name}": values for name, values in over.items()}
    ).reset_index(names="as_of")


def _of_dates(group: pd.DataFrame, *, alone: bool) -> pd.DataFrame:
    """Figures of each date by itself, indexed by `as_of`, ascending."""
    dates = group["as_of"]
    value = group["value"].to_numpy("float64")
    figures = pd.DataFrame({"known": group.groupby("as_of").size()})
    for prefix in AGAINST:
        came = _came(group, prefix)
        figures[f"{prefix}hit_rate"] = _right(group, prefix).groupby(dates).mean()
        known = np.isfinite(came)
        for name in ("ic", "rank_ic", "auc"):
            figures[f"{prefix}{name}"] = np.nan
        if alone or not known.any():
            continue
        days, scores, returns = dates[known], value[known], came[known]
        figures[f"{prefix}ic"] = ic_by_date(scores, returns, days)
        figures[f"{prefix}rank_ic"] = rank_ic_by_date(scores, returns, days)
        figures[f"{prefix}auc"] = auc_by_date(scores, returns > 0, days)
    error, start = group["error"], group["start"]
    figures["mae"] = error.abs().groupby(dates).mean()
    naive = (start - group["realised"]).abs().where(error.notna())
    figures["naive_mae"] = naive.groupby(dates).mean()
    up = (group["realised"] > 0).astype("float64")
    figures["brier"] = ((group["probability"] - up) ** 2).groupby(dates).mean()
    return figures


def _came(group: pd.DataFrame, prefix: str) -> Floats:
    """What a score is held against: the change that came, or the return that could be traded."""
    if prefix:
        return group["tradable_return"].to_numpy("float64")
    return (group["realised"] - group["start"]).to_numpy("float64")


def _right(group: pd.DataFrame, prefix: str) -> pd.Series[Any]:
    """Whether the direction was right: 1, 0, or NaN where nothing moved or none was forecast."""
    if not prefix:
        return group["hit"].astype("Float64").astype("float64")
    expected, came = _expected(group), pd.Series(_came(group, prefix), index=group.index)
    if not _in_unit(group):
        came = came - came.groupby(group["as_of"]).transform("median")
    right: pd.Series[Any] = (np.sign(expected) == np.sign(came)).astype("float64")
    return right.mask((expected == 0) | (came == 0) | came.isna())


def _expected(group: pd.DataFrame) -> pd.Series[Any]:
    """The forecast change; of scores, what a score is above the middle of its date."""
    if _in_unit(group):
        return group["value"] - group["start"]
    return group["value"] - group.groupby("as_of")["value"].transform("median")


def _in_unit(group: pd.DataFrame) -> bool:
    """Whether values are forecasts in the target's own unit."""
    return bool(group["error"].notna().any())


def _mean_of_dates(by_date: pd.DataFrame, prefix: str, length: int) -> dict[str, pd.Series[Any]]:
    over = {
        name: by_date[f"{prefix}{name}"].rolling(length, min_periods=1).mean()
        for name in ("ic", "rank_ic", "auc")
    }
    daily = by_date[f"{prefix}rank_ic"]
    over["rank_ic_t"] = daily.rolling(length, min_periods=FEWEST_DATES).apply(
        lambda values: _or_nan(newey_west_t(values)), raw=True
    )
    return over


def _over_time(group: pd.DataFrame, prefix: str, length: int) -> dict[str, pd.Series[Any]]:
    """Of a series: expected beside realised changes of the year up to each date."""
    group = group.sort_values("as_of")
    dates = pd.Index(group["as_of"])
    expected, came = _expected(group).to_numpy("float64"), _came(group, prefix)
    # the rows of each date's year, one year after the other, as if each were one date
    sizes = np.minimum(np.arange(1, len(dates) + 1), length)
    of_year = np.repeat(np.arange(len(dates)), sizes)
    back = np.arange(len(of_year)) - np.repeat(sizes.cumsum() - sizes, sizes)
    rows = of_year - back
    known = np.isfinite(expected[rows]) & np.isfinite(came[rows])
    rows, of_year = rows[known], of_year[known]
    one, other = expected[rows], came[rows]
    found = {
        "ic": ic_by_date(one, other, of_year),
        "rank_ic": rank_ic_by_date(one, other, of_year),
        "auc": auc_by_date(one, other > 0, of_year),
    }
    over = {
        name: pd.Series(values.reindex(np.arange(len(dates))).to_numpy(), index=dates)
        for name, values in found.items()
    }
    return over | {"rank_ic_t": pd.Series(np.nan, index=dates)}


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


# --------------------------------------------------------------------------- calibration


def _calibrate(warehouse: Warehouse, declared: Signal, span: tuple[date, date]) -> None:
    """Calibration of every version with outcomes in a span: of its newest year of dates."""
    found = _outcomes(warehouse, declared, span, calibrated=True)
    rows = []
    key = ["signal", "horizon", "horizon_unit", "role", "model_version"]
    for names, group in found.groupby(key):
        days = np.unique(group["as_of"])
        newest = group[group["as_of"] >= days[-min(len(days), YEAR[str(names[2])])]]
        common = dict(zip(key, names, strict=True))
        rows += [common | row for row in (*_of_probability(newest), *_of_quantiles(newest))]
        warehouse.native.execute(
            """
            DELETE FROM main.signal_calibration
            WHERE signal = ? AND horizon = ? AND horizon_unit = ? AND role = ?
                AND model_version = ?
            """,
            names,
        )
    if rows:
        warehouse.append(signal_calibration, pd.DataFrame(rows))


def _of_probability(rows: pd.DataFrame) -> list[dict[str, Any]]:
    given = rows[rows["probability"].notna()]
    if given.empty:
        return []
    bins = reliability(
        given["probability"].to_numpy("float64"), (given["realised"] > 0).to_numpy("bool")
    )
    return [
        {
            "kind": "probability",
            "bucket": number,
            "expected": each["mean_probability"],
            "observed": each["up_rate"],
            "rows": each["n"],
        }
        for number, each in enumerate(bins, start=1)
    ]


def _of_quantiles(rows: pd.DataFrame) -> list[dict[str, Any]]:
    given = rows[rows["q50"].notna()]
    if given.empty:
        return []
    return [
        {
            "kind": "quantile",
            "bucket": number,
            "expected": level,
            "observed": float((given["realised"] <= given[name]).mean()),
            "rows": len(given),
        }
        for number, (name, level) in enumerate(QUANTILES.items(), start=1)
    ]
