"""The design matrix of the fitted scores: each window flattened, and its month."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from db.errors import RegistryError, TrainingError
from models.baselines.baseline import Labelled, Seen, targets
from models.encoding import MONTHS, Scale, blocks

Matrix = npt.NDArray[np.float32]

# A matrix of training windows may have so many values (256 MiB): all 0.8 million windows of
# 52 weekly returns with their month; of windows with more features a random sample.
MOST_VALUES = 2**26
# Standardised values beyond are cut: a few returns of hundreds of percent would rule the
# fit. On the reference panel (0.76 million windows of 2010-2014, scored on 2015-16) ridge
# has rank IC 0.044, 0.040 and 0.038 with 3, 5 and no limit.
CLIP = 3.0


def sample(name: str, train: Labelled, seed: int) -> npt.NDArray[np.intp]:
    """Rows of a training span to fit on: those with a known label, ascending, some if too many.

    Raises
    ------
    TrainingError
        No label is known.
    """
    known = np.flatnonzero(np.isfinite(targets(train)[:, 0, 0]))
    if not len(known):
        raise TrainingError(f"baseline {name}: no label of the training span is known")
    most = max(1, MOST_VALUES // columns_of(train))
    if len(known) <= most:
        return known
    return np.sort(np.random.default_rng(seed).choice(known, most, replace=False))


def columns_of(seen: Seen) -> int:
    """Columns of the matrix: T times F, and twelve months where the view declares them."""
    length, features = seen.X.shape[1:]
    return int(length * features) + MONTHS * has_month(seen)


def has_month(seen: Seen) -> bool:
    """Whether the windows come with their month."""
    return "month" in seen.index.columns


def design_matrix(
    seen: Seen,
    months: bool,
    scale: Scale | None = None,
    rows: npt.NDArray[np.intp] | slice | None = None,
) -> Matrix:
    """Windows flattened, oldest step first, then their month as one of twelve.

    Parameters
    ----------
    seen : windows (n, T, F).
    months : whether the month is wanted.
    scale : of the F features; values are then standardised and cut at `CLIP`.
    rows : of these only; all if left out.

    Returns
    -------
    float32 (rows, T * F + 12) or (rows, T * F)

    Raises
    ------
    RegistryError
        The month is wanted, and the windows have none.
    """
    if months and not has_month(seen):
        raise RegistryError(
            "the baseline was trained with the month of each window, and these have none; "
            "train it again on this version of the view"
        )
    chosen = np.arange(len(seen.X))[slice(None) if rows is None else rows]
    values = seen.X.shape[1] * seen.X.shape[2]
    matrix = np.zeros((len(chosen), values + MONTHS * months), "float32")
    for part in blocks(len(chosen)):
        window = seen.X[chosen[part]]
        if scale is not None:
            window = np.clip(scale.transform(window), -CLIP, CLIP)
        matrix[part, :values] = window.reshape(len(window), values)
    if months:
        month = seen.index["month"].to_numpy("int64")[chosen]
        matrix[np.arange(len(chosen)), values + month - 1] = 1
    return matrix
