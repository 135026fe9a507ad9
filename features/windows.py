"""Windows: what a model reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd


@dataclass(frozen=True)
class Windows:
    """Windows of one view as of their dates, oldest value first.

    Attributes
    ----------
    X : float32 (n, T, F), the last T values of the view at each `as_of`.
    y : float32 (n,), the target over the horizon; NaN where the horizon has not
        passed by the cut-off.
    index : one row for each window, sorted by `as_of` then `entity`, columns
        `entity` (str), `as_of` (datetime64, the session of the last value),
        `known_at` (UTC, when the whole window was known),
        `label_known_at` (UTC, when `y` became known; NaT where it has not).
    view : name of the view.
    version : version (hash of the declaration) of the view.
    data_snapshot : content hash of the raw rows that the windows were cut from.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    index: pd.DataFrame
    view: str
    version: str
    data_snapshot: str

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Windows:
        """The chosen windows, in their order."""
        return Windows(
            self.X[rows],
            self.y[rows],
            self.index[rows].reset_index(drop=True)
            if rows.dtype == np.bool_
            else self.index.iloc[rows].reset_index(drop=True),
            self.view,
            self.version,
            self.data_snapshot,
        )
