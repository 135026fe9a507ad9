"""Errors that a person reads at six in the morning: one line, with what to do.

Exit codes of the command line: 0 good, 1 failed, 2 wrong usage, 3 finished with
some source or signal missing.
"""

from __future__ import annotations


class LookbackError(Exception):
    """Something failed; the message is one line that says what, where, and what to do."""

    exit_code = 1


class UsageError(LookbackError):
    """The request itself is wrong: a session that is no trading day, an unknown profile."""

    exit_code = 2


class SourceError(LookbackError):
    """A source gave no usable answer; other sources are not affected."""


class StoreError(LookbackError):
    """The store is missing, foreign, locked, or belongs to another profile."""


class QualityError(LookbackError):
    """A table-level expectation failed; the source is stopped for the night."""


class ShortHistoryError(LookbackError):
    """A window is longer than any history that there is, yet."""


class RegistryError(LookbackError):
    """A model artefact is missing, altered, or not one of ours."""


class TrainingError(LookbackError):
    """A training could not be made, or its process died."""


class DivergedError(TrainingError):
    """The loss of a training is no longer a finite number: the recipe fails on these data."""


class LookAheadError(LookbackError):
    """A read or a score would have used what was not known at its cut-off."""

    exit_code = 3
