"""Labels: what targets became, and when that was known, read at a cut-off like everything else.

Windows carry the same labels for training; here they come without the windows, in full
precision, for judging what was scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.windows import (
    days_of,
    mask_beginnings,
    price_breaks,
    require_cutoff,
    require_materialized,
    stretches,
    values_seen,
)
from features.windows import steps as in_unit

if TYPE_CHECKING:
    from db.warehouse import Warehouse
    from features.view import FeatureView


def read_labels(
    warehouse: Warehouse,
    view: FeatureView,
    cutoff: datetime,
    targets: Sequence[str],
    *,
    ahead: int = 1,
    start: date | None = None,
) -> pd.DataFrame:
    """What each target was on each date and became up to `ahead` horizons later.

    Parameters
    ----------
    warehouse : the open store; the view must have been materialized.
    view : whose values they are.
    cutoff : UTC instant; only rows with `known_at <= cutoff` are seen.
    targets : features of the view.
    ahead : how many horizons of the view, the last of them.
    start : first date to look from; None for all.

    Returns
    -------
    DataFrame
        One row for each entity, date, target and horizon whose outcome is known: `entity`,
        `date` and `target_date` (datetime64), `horizon` (in the view's unit), `target`,
        `start` and `realised` (float64), `known_at` (UTC, of the outcome). As in windows, a
        price break or a longer gap than the view allows leaves no outcome.

    Raises
    ------
    LookAheadError
        No cut-off was given, or one without a time zone.
    LookbackError
        The view has not been materialized.
    """
    require_cutoff(cutoff, f"reading labels of {view.name}")
    require_materialized(warehouse, view)
    first = None
    if start is not None:
        # as far back as what the values themselves look back on
        memory = max(each.memory for each in view.features if each.name in targets)
        first = np.datetime64(start, "D") - days_of(view, memory)
    seen = values_seen(warehouse, view, targets, cutoff, first, ())
    step = in_unit(view, seen.date, warehouse.settings)
    stretch = stretches(view, seen, price_breaks(warehouse, cutoff), step)
    inside = stretch >= 0
    seen, step, stretch = seen.chosen(inside), step[inside], stretch[inside]
    mask_beginnings(view, targets, seen, stretch)
    # within a stretch a step is one date: a key finds the date that lies some steps on
    width = int(np.ptp(step)) + ahead * view.horizon + 1 if len(step) else 1
    key = stretch * width + (step - (step.min() if len(step) else 0))
    parts = [
        _ahead(seen, key, target, number, k * view.horizon)
        for number, target in enumerate(targets)
        for k in range(1, ahead + 1)
    ]
    found = pd.concat(parts, ignore_index=True)
    if start is not None:
        found = found[found["date"] >= pd.Timestamp(start)]
    return found.sort_values(["date", "entity", "target", "horizon"], ignore_index=True)


def _ahead(
    seen: Any, key: npt.NDArray[np.int64], target: str, number: int, horizon: int
) -> pd.DataFrame:
    place = np.minimum(np.searchsorted(key, key + horizon), max(len(key) - 1, 0))
    values = seen.values[:, number]
    there = np.isfinite(values)
    if len(key):
        there &= (key[place] == key + horizon) & np.isfinite(values[place])
    at = place[there]
    return pd.DataFrame(
        {
            "entity": seen.names[seen.entity[there]].astype("str"),
            "date": seen.date[there].astype("datetime64[us]"),
            "horizon": horizon,
            "target": target,
            "target_date": seen.date[at].astype("datetime64[us]"),
            "start": values[there],
            "realised": values[at],
            "known_at": pd.DatetimeIndex(seen.known_at[at].astype("datetime64[us]"), tz="UTC"),
        }
    )
