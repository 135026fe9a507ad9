"""Spans: the chronological split of examples into training, validation and test.

A label belongs to a span only if it was known before the next span begins. A span
begins when its first window was known: the first instant at which it could be scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import TrainingError
from models.examples import Examples

Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class Spans:
    """Three spans in the order of time; all labels are known.

    Attributes
    ----------
    train : examples that weights and encoding are learned from.
    validation : examples that early stopping watches.
    test : examples that neither has seen.
    purged : examples left out because their label was known only after the next span
        had begun.
    """

    train: Examples
    validation: Examples
    test: Examples
    purged: int

    @property
    def labels_known_at(self) -> pd.Timestamp:
        """UTC instant at which the last label trained or stopped on became known."""
        latest: pd.Timestamp = max(
            span.index["label_known_at"].max() for span in (self.train, self.validation)
        )
        return latest


@dataclass(frozen=True)
class Cuts:
    """First `as_of` of each span; all are dates, `until` is the first one after the test.

    Attributes
    ----------
    train_from, until : None for all there is.
    """

    validation_from: date
    test_from: date
    until: date | None = None
    train_from: date | None = None


def split(examples: Examples, validation: int, test: int, train_from: date | None = None) -> Spans:
    """Split examples by `as_of`: the last dates are the test, those before validation.

    Parameters
    ----------
    examples : Examples
        Those without a known label are dropped.
    validation, test : int
        Distinct `as_of` dates in each span, before purging.
    train_from : date, optional
        Earliest `as_of` to learn from.

    Raises
    ------
    TrainingError
        If a span would be empty.
    """
    as_of = examples.index["as_of"].to_numpy("datetime64[D]")
    labelled = examples.labelled
    if train_from is not None:
        labelled &= as_of >= np.datetime64(train_from)
    dates = np.unique(as_of[labelled])
    needed = validation + test + 1
    if min(validation, test) < 1 or len(dates) < needed:
        raise TrainingError(
            f"view {examples.view}: {len(dates)} dates with a known label, at least {needed} "
            f"are needed ({validation} validation, {test} test); "
            "fetch more history or shorten the spans of the recipe"
        )
    cuts = Cuts(
        dates[-test - validation].astype(object), dates[-test].astype(object), None, train_from
    )
    return split_at(examples, cuts)


def split_at(examples: Examples, cuts: Cuts) -> Spans:
    """Split examples at given dates.

    Raises
    ------
    TrainingError
        If a span would be empty.
    """
    as_of = examples.index["as_of"].to_numpy("datetime64[D]")
    labelled = examples.labelled
    train = labelled & (as_of < np.datetime64(cuts.validation_from))
    if cuts.train_from is not None:
        train &= as_of >= np.datetime64(cuts.train_from)
    test = labelled & (as_of >= np.datetime64(cuts.test_from))
    if cuts.until is not None:
        test &= as_of < np.datetime64(cuts.until)
    validation = (
        labelled
        & (as_of >= np.datetime64(cuts.validation_from))
        & (as_of < np.datetime64(cuts.test_from))
    )
    kept_train = _known_before(examples, train, validation)
    kept_validation = _known_before(examples, validation, test)
    if not (kept_train.any() and kept_validation.any() and test.any()):
        raise TrainingError(
            f"view {examples.view}: a span is empty once labels not known before the next one "
            "are left out; lengthen the spans of the recipe beyond the horizon"
        )
    purged = int((train.sum() - kept_train.sum()) + (validation.sum() - kept_validation.sum()))
    return Spans(
        _taken(examples, kept_train),
        _taken(examples, kept_validation),
        _taken(examples, test),
        purged,
    )


def _known_before(
    examples: Examples, span: npt.NDArray[np.bool_], following: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Rows of a span whose label was known before the first window of the next one was."""
    if not following.any():
        return np.zeros_like(span)
    begins = examples.index["known_at"][following].min()
    early: npt.NDArray[np.bool_] = (examples.index["label_known_at"] < begins).to_numpy()
    return span & early


def _taken(examples: Examples, rows: npt.NDArray[np.bool_]) -> Examples:
    """The rows; as a slice, which copies no windows, where they lie side by side."""
    first, count = int(rows.argmax()), int(rows.sum())
    if rows[first : first + count].all():
        return examples.take(slice(first, first + count))
    return examples.take(rows)
