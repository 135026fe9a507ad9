"""The source interface: a vendor is added in one file that satisfies `Source`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol

import pandas as pd

from db.availability import Availability

Kind = Literal["bars", "observations", "documents", "memberships"]
Frequency = Literal["session", "month"]

# What the prices of a source are adjusted for: raw (as printed on the day), split
# (splits only), total (splits and dividends; history changes with every dividend).
Adjustment = Literal["raw", "split", "total"]

BAR_COLUMNS = ("entity", "session", "open", "high", "low", "close", "adj_close", "volume")
OBSERVATION_COLUMNS = ("series", "period", "value")
ACTION_COLUMNS = ("entity", "ex_date", "kind", "factor")
DOCUMENT_COLUMNS = ("document_id", "published_at", "text", "symbols", "language")
MEMBERSHIP_COLUMNS = ("entity", "universe", "first_session", "last_session")


@dataclass(frozen=True)
class Request:
    """What a night asks of a source.

    Attributes
    ----------
    start : first date wanted (watermark less the overlap); None for the whole history.
    until : UTC instant of the fetch; nothing that becomes known later is wanted.
    entities : only these, or None for all that the source is configured with.
    state : what the source returned as `Fetched.state` when it last succeeded.
    """

    start: date | None
    until: datetime
    entities: Sequence[str] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetched:
    """What a source answered.

    Attributes
    ----------
    frame : rows with the columns of their kind (`BAR_COLUMNS`, …); dates are
        datetime64 at midnight without a zone, prices and values float64, entity and
        series plain strings. Missing values stay NaN: the quality gate decides.
        A column `known_at` (datetime64[us, UTC]) may be added where the source gives
        true release dates.
        Memberships (`MEMBERSHIP_COLUMNS`) have one row per spell; last_session NaT: still
        a member.
        Documents (`DOCUMENT_COLUMNS`) are text: `published_at` and `known_at` as they are
        written, `symbols` with blanks between, a missing `document_id` is made from time and
        text; `db.sources.document_files.COLUMNS` may be added.
    actions : corporate actions with `ACTION_COLUMNS`; kind is `split` (factor: new
        shares per old share), `dividend` (factor: cash per share) or `delisting` (factor: 0).
        A column `known_at` as that of `frame` may be added, NaT where it is not known. Actions
        of one symbol, date and kind are one: their sum, of splits their product; rows that
        are equal count once.
    problems : one line for each thing asked for and not got; the rest is good.
    state : JSON-able notes for the next fetch, stored once the rows are safe.
    marked_missing : columns series and period (datetime64): dates that the source itself says
        have no value. They are no rows; in a monthly series they are no gap either.
    """

    frame: pd.DataFrame
    actions: pd.DataFrame | None = None
    problems: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    marked_missing: pd.DataFrame | None = None


class Source(Protocol):
    """Where raw rows come from. `name` is unique and stable: it keys the watermark."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def frequency(self) -> Frequency: ...
    @property
    def availability(self) -> Availability: ...
    @property
    def adjustment(self) -> Adjustment:
        """Of the price columns; observations are `raw`."""
        ...

    def fetch(self, request: Request) -> Fetched:
        """Rows from `request.start` on that were known by `request.until`.

        Raises
        ------
        SourceError
            One line that names the source and what was wrong with its answer.
        """
        ...


def publishes_vintages(source: Source) -> bool:
    """Whether `known_at` of the source's rows says when each version of a value was published.

    Such a source has the attribute `publishes_vintages` and may deliver several versions of a
    value, in any order: each counts as it stands from its own `known_at` on, and is compared
    with the version before it. Of all other sources a changed value is a correction, known
    from the time at which it was fetched.
    """
    return bool(getattr(source, "publishes_vintages", False))
