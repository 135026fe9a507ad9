"""Spans: the chronological split of windows into training, validation and test.

A label belongs to a span only if it was known before the next span begins. A span
begins when its first window was known: the first instant at which it could be scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from db.errors import TrainingError
from features.windows import Windows


@dataclass(frozen=True)
class Spans:
    """Three spans in the order of time; all labels are known.

    Attributes
    ----------
    train : windows that weights and scaler are learned from.
    validation : windows that early stopping watches.
    test : windows that neither has seen.
    purged : windows left out because their label was known only after the next span
        had begun.
    """

    train: Windows
    validation: Windows
    test: Windows
    purged: int

    @property
    def labels_known_at(self) -> pd.Timestamp:
        """UTC instant at which the last label trained or stopped on became known."""
        latest: pd.Timestamp = max(
            span.index["label_known_at"].max() for span in (self.train, self.validation)
        )
        return latest


def split(
    windows: Windows,
    validation_sessions: int,
    test_sessions: int,
    train_from: date | None = None,
) -> Spans:
    """Split windows by `as_of`: the last sessions are the test, those before validation.

    Parameters
    ----------
    windows : Windows
        With `known_at` and `label_known_at`; those without a known label are dropped.
    validation_sessions, test_sessions : int
        Distinct `as_of` dates in each span, before purging.
    train_from : date, optional
        Earliest `as_of` to learn from.

    Raises
    ------
    TrainingError
        If a span would be empty.
    """
    labelled = _labelled(windows, train_from)
    as_of = labelled.index["as_of"].to_numpy()
    dates = np.unique(as_of)
    needed = validation_sessions + test_sessions + 1
    if min(validation_sessions, test_sessions) < 1 or len(dates) < needed:
        raise TrainingError(
            f"view {windows.view}: {len(dates)} sessions with a known label, at least {needed} "
            f"are needed ({validation_sessions} validation, {test_sessions} test); "
            "fetch more history or shorten the spans of the recipe"
        )
    test_from = dates[-test_sessions]
    validation_from = dates[-test_sessions - validation_sessions]
    train = labelled.take(as_of < validation_from)
    validation = labelled.take((as_of >= validation_from) & (as_of < test_from))
    test = labelled.take(as_of >= test_from)
    train, validation = _known_before(train, validation), _known_before(validation, test)
    if not (len(train) and len(validation)):
        raise TrainingError(
            f"view {windows.view}: a span is empty once labels not known before the next one "
            "are left out; lengthen the spans of the recipe beyond the horizon"
        )
    purged = len(labelled) - len(train) - len(validation) - len(test)
    return Spans(train, validation, test, purged)


def _labelled(windows: Windows, train_from: date | None) -> Windows:
    known = windows.index["label_known_at"].notna().to_numpy() & ~np.isnan(windows.y)
    if train_from is not None:
        known &= (windows.index["as_of"] >= pd.Timestamp(train_from)).to_numpy()
    return windows.take(known)


def _known_before(span: Windows, following: Windows) -> Windows:
    begins = following.index["known_at"].min()
    return span.take((span.index["label_known_at"] < begins).to_numpy())
