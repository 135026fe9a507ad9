"""One source's increment on its way through the gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import pandas as pd

from db.availability import Availability
from db.sessions import Sessions
from db.sources.source import (
    BAR_COLUMNS,
    OBSERVATION_COLUMNS,
    Adjustment,
    Frequency,
    Kind,
)

# What the gate reads of documents, once `db.documents` has read their times: see there.
JUDGED_DOCUMENTS = ("document_id", "text", "instant", "known_at", "released", "refused", "key")


@dataclass(frozen=True)
class Batch:
    """What one source delivered for one night, and what it is judged against.

    Attributes
    ----------
    source : name of the source.
    kind, frequency, adjustment : as the source declares them.
    frame : the fetched increment, with the columns of its kind. Not altered.
    history : rows already stored for the same entities (same columns), newest tail
        suffices; judged together with the increment where a rule looks back.
    session : the night's session.
    until : UTC cut-off of the night: what was due by then and is not there is stale.
    sessions : the exchange's sessions.
    availability : the source's rule; says what was due by `until`.
    marked_missing : series and date of what the source says has no value.
    vintages : whether the source publishes its series together, as vintages.
    """

    source: str
    kind: Kind
    frequency: Frequency
    adjustment: Adjustment
    frame: pd.DataFrame
    session: date
    until: datetime
    sessions: Sessions
    availability: Availability
    history: pd.DataFrame | None = None
    actions: pd.DataFrame | None = None
    fetched_at: datetime | None = None
    marked_missing: tuple[tuple[str, date], ...] = ()
    vintages: bool = False

    @property
    def entity(self) -> str:
        """Name of the column that says whose row it is."""
        return "series" if self.kind == "observations" else "entity"

    @property
    def day(self) -> str:
        """Name of the column that dates a row."""
        return "period" if self.kind == "observations" else "session"

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that the kind must have."""
        if self.kind == "documents":
            return JUDGED_DOCUMENTS
        return OBSERVATION_COLUMNS if self.kind == "observations" else BAR_COLUMNS

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns that hold float64 values."""
        return self.required[2:]

    @cached_property
    def last_day(self) -> date:
        """The newest date that a row may have: the last closed session, or day, of the fetch."""
        fetched_at = self.fetched_at or self.until
        if self.frequency == "month":
            return fetched_at.date()
        return self.sessions.last_closed(fetched_at, timedelta(0))
