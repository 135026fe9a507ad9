"""Watching signals: which ones are weaker than they were, or see what they were not trained on.

Read from the published file, for `lookback check` and the report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from db.publishing import query_published
from db.settings import Settings
from models.evaluation.significance import newey_west_t
from signals.performance import YEAR

# Fewest dates of which a mean says something.
FEWEST_DATES = 26
# One-sided 95 %.
BOUND = 1.645


@dataclass(frozen=True)
class Concern:
    """What is wrong with a signal, in words."""

    signal: str
    problem: str


def weakened(settings: Settings) -> list[Concern]:
    """Live signals whose newest year is worse than before, or than doing nothing, beyond noise.

    A cross-section's rank IC is compared with that of the dates before, of a backfill too, and
    with zero; a series' error with that of its last known value. Months are too few to tell.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    columns, rows = query_published(
        settings,
        """
        -- one row per date of each signal, whoever made it; a live row before one of a backfill
        SELECT signal, entity, horizon, horizon_unit, as_of, role, rank_ic, mae, naive_mae
        FROM signal_performance
        WHERE model_version = '*' AND role IN ('live', 'backfill')
        QUALIFY row_number() OVER (
            PARTITION BY signal, entity, horizon, as_of ORDER BY role DESC
        ) = 1
        ORDER BY signal, entity, horizon, as_of
        """,
    )
    found = pd.DataFrame(rows, columns=columns)
    concerns: list[Concern] = []
    for (signal, entity), dates in found.groupby(["signal", "entity"]):
        unit = str(dates["horizon_unit"].iloc[0])
        if dates["horizon"].max() > dates["horizon"].min() or not (dates["role"] == "live").any():
            continue
        newest = dates.iloc[-YEAR[unit] :]
        if len(newest) < FEWEST_DATES:
            continue
        if entity == "*":
            before = dates.iloc[: -YEAR[unit]]
            concerns += _of_cross_section(str(signal), unit, newest["rank_ic"], before["rank_ic"])
        else:
            concerns += _of_series(str(signal), unit, newest)
    return concerns


def _of_cross_section(
    signal: str, unit: str, newest: pd.Series[float], before: pd.Series[float]
) -> Iterator[Concern]:
    mean, error = _mean(newest)
    said = f"rank IC of the last {len(newest)} {unit}s is {mean:.3f}"
    if mean + BOUND * error < 0:
        yield Concern(signal, f"{said}: its order is wrong more often than right")
        return
    earlier, earlier_error = _mean(before)
    if len(before) >= FEWEST_DATES and earlier - mean > BOUND * np.hypot(error, earlier_error):
        yield Concern(signal, f"{said}, {earlier:.3f} before: it decays")


def _of_series(signal: str, unit: str, newest: pd.DataFrame) -> Iterator[Concern]:
    worse, error = _mean(newest["mae"] - newest["naive_mae"])
    if worse - BOUND * error > 0:
        yield Concern(
            signal,
            f"error of the last {len(newest)} {unit}s is {newest['mae'].mean():.4g}, that of the "
            f"last known value {newest['naive_mae'].mean():.4g}",
        )


def _mean(values: pd.Series[float]) -> tuple[float, float]:
    """Mean and its standard error (Newey-West); infinite where there is none."""
    known = values.dropna()
    t = newey_west_t(known) if len(known) else None
    mean = float(known.mean()) if len(known) else np.nan
    return mean, abs(mean / t) if t else np.inf


def drifted(settings: Settings) -> list[Concern]:
    """Signals whose newest inputs or scores are not distributed as in training.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    _, rows = query_published(
        settings,
        """
        -- one row per signal whose newest measurement found drift
        SELECT signal,
            string_agg(subject || ' (PSI ' || round(psi, 2) || ')', ', ' ORDER BY psi DESC)
        FROM signal_drift
        WHERE drifted AND (signal, session) IN (
            SELECT (signal, max(session)) FROM signal_drift GROUP BY signal
        )
        GROUP BY signal
        ORDER BY signal
        """,
    )
    return [Concern(signal, f"drifted from its training: {subjects}") for signal, subjects in rows]


def never_scored(settings: Settings, wanted: Collection[str]) -> list[Concern]:
    """Signals that nights are to make and that no live row is of.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    _, rows = query_published(settings, "SELECT DISTINCT signal FROM signals_latest")
    there = {name for (name,) in rows}
    return [Concern(name, "has never been scored") for name in wanted if name not in there]
