"""Sources that answer what a test tells them, and nights that take their answers over."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from db import ingest, staging, vintages
from db.availability import AfterClose, AfterPeriod, Availability
from db.clock import Night
from db.ingest import Delivery
from db.sessions import sessions
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request, Source
from db.warehouse import Warehouse

FIRST = date(2018, 12, 3)  # a Monday
AN_HOUR_LATER = AfterClose(1)


@dataclass
class Told:
    """A source that has `rows`; a request gets those from its start on, of its entities."""

    rows: pd.DataFrame
    name: str = "told.bars"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    adjustment: Adjustment = "total"
    availability: Availability = AN_HOUR_LATER
    actions: pd.DataFrame | None = None
    problems: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    everything: bool = False  # whether it ignores what a request asks for, as a file does
    requests: list[Request] = field(default_factory=list)

    def fetch(self, request: Request) -> Fetched:
        self.requests.append(request)
        frame = self.rows
        entity, day = ("entity", "session") if self.kind == "bars" else ("series", "period")
        if request.start is not None and not self.everything:
            frame = frame[frame[day] >= pd.Timestamp(request.start)]
        if request.entities is not None:
            frame = frame[frame[entity].isin(request.entities)]
        return Fetched(frame.reset_index(drop=True), self.actions, self.problems, self.state)


def series(values: Mapping[str, Any] | pd.Series, **columns: Any) -> pd.DataFrame:
    """Observations of X by date."""
    given = pd.Series(values)
    frame = pd.DataFrame(
        {"series": "X", "period": pd.to_datetime(given.index).as_unit("us"), "value": given.array}
    )
    return frame.assign(**columns)


def daily(frame: pd.DataFrame, **changes: Any) -> Told:
    """A daily series as a source."""
    told = {"name": "told.X", "kind": "observations", "adjustment": "raw", "rows": frame}
    return Told(**(told | changes))


def monthly(frame: pd.DataFrame, **changes: Any) -> Told:
    """A monthly series, published fifteen days after its month."""
    return daily(
        frame, **({"frequency": "month", "availability": AfterPeriod(15, "month")} | changes)
    )


def days(count: int, first: date = FIRST) -> list[pd.Timestamp]:
    """`count` sessions from `first` on."""
    calendar = sessions()
    return [pd.Timestamp(calendar.offset(first, number + 1)) for number in range(-1, count - 1)]


def bars(prices: Mapping[str, Any], first: date = FIRST) -> pd.DataFrame:
    """Adjusted closes of each symbol on consecutive sessions; None is no row."""
    rows = [
        (entity, day, float(price))
        for entity, path in prices.items()
        for day, price in zip(days(len(path), first), path, strict=True)
        if price is not None
    ]
    frame = pd.DataFrame(rows, columns=["entity", "session", "adj_close"])
    return frame.assign(session=frame["session"].astype("datetime64[us]"))


def night_of(session: date | pd.Timestamp, late: timedelta | None = None) -> Night:
    """The replayed night of a session, or one that a machine begins `late` after its cut-off."""
    day = pd.Timestamp(session).date()
    cutoff = sessions().close(day) + timedelta(hours=6)
    return Night(day, cutoff, cutoff + (late or timedelta(0)), late is None)


def deliver(
    warehouse: Warehouse,
    source: Source,
    night: Night | date | pd.Timestamp,
    run_id: str = "run",
    fetched_at: datetime | None = None,
) -> Delivery:
    """Ask, stage and take over one delivery, as a night does."""
    if not isinstance(night, Night):
        night = night_of(night)
    calendar = sessions()
    folder = Path(tempfile.mkdtemp(dir=warehouse.settings.home))  # each run has its own
    staged = staging.stage(source, staging.request_for(warehouse, source, night, calendar), folder)
    whole = {*vintages.restated(warehouse, staged), *vintages.behind(warehouse, staged)}
    if whole and staged.request.start is not None:
        staged = staging.stage_whole(staged, sorted(whole))
    # fetched when the night ran, not when the test does
    staged = replace(staged, fetched_at=fetched_at or night.now)
    delivery, _ = ingest.take_over(warehouse, staged, night, calendar, run_id)
    return delivery


def counts(delivery: Delivery) -> tuple[int, int, int, int]:
    """Rows fetched, unchanged, appended, quarantined."""
    assert delivery.fetched == delivery.unchanged + delivery.appended + delivery.quarantined
    return delivery.fetched, delivery.unchanged, delivery.appended, delivery.quarantined


def as_of(warehouse: Warehouse, table: str, instant: Any = "infinity") -> dict[Any, Any]:
    """Values of `raw.<table>_as_of`: by period, or by (entity, session)."""
    if table == "observations":
        rows = warehouse.sql(
            "SELECT period, value FROM raw.observations_as_of(CAST(? AS TIMESTAMPTZ)) ORDER BY ALL",
            instant,
        )
        assert len(rows) == len(dict(rows))
        return {str(period): value for period, value in rows}
    found = warehouse.sql(
        "SELECT entity, session, adj_close FROM raw.bars_as_of(CAST(? AS TIMESTAMPTZ))", instant
    )
    values = {(entity, str(session)): price for entity, session, price in found}
    assert len(found) == len(values)
    return values
