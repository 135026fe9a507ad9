"""Sorting rows by entity and date."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def by_entity_and_date(
    entity: npt.NDArray[Any], date: npt.NDArray[np.datetime64]
) -> npt.NDArray[np.intp]:
    """Positions of rows in the order of entity codes, then dates; equal ones stay as they lie.

    Tables lie by date for the most part: a merge of the stretches in order, and a radix
    sort by entity where 16 bits do.
    """
    small = entity.astype("uint16") if entity.max(initial=0) < 2**16 else entity
    if (date[1:] >= date[:-1]).all():
        return np.argsort(small, kind="stable")
    by_date = np.argsort(date, kind="stable")
    return by_date[np.argsort(small[by_date], kind="stable")]
