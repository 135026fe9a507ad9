"""Comparing arrays to the last bit, with an answer that costs nothing to explain."""

import numpy as np


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same bytes: NaN equals NaN, 0.0 is not -0.0.

    A bool, because pytest explains `a.tobytes() == b.tobytes()` by a diff of both, which
    takes minutes for a megabyte.
    """
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )
