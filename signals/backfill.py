"""Backfill: the signals that past nights would have given, each from what it could know.

A past night is scored by the version that was champion then. Where there was none, versions
are trained for it walk-forward: each learns from what was known before its own period begins,
scores until the next one, and never becomes champion. The rows say `backfill`; `tradable_from`
is what the night would have given, `published_at` is when the backfill in fact wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd

from db.clock import Night, past_night
from db.errors import LookbackError, UsageError
from db.sessions import Sessions
from features.catalog import feature_view
from features.windows import require_materialized
from models.artefacts import Version
from models.catalog import recipes
from models.registry import ModelVersion, champion, champion_at
from signals.declaration import Signal
from signals.scoring import (
    Imprint,
    Reading,
    Scored,
    published,
    read_windows_of,
    require_no_look_ahead,
    write,
)
from signals.sentiment import read_day

if TYPE_CHECKING:
    from db.warehouse import Warehouse
    from features.view import FeatureView

Retrain = Literal["month", "quarter", "half", "year"]
MONTHS: dict[Retrain, int] = {"month": 1, "quarter": 3, "half": 6, "year": 12}
# Nights that are written together: so many are at most done again after a kill.
NIGHTS_AT_ONCE = 32


@dataclass(frozen=True)
class Stretch:
    """Nights in a row that one version scores.

    Attributes
    ----------
    nights : ascending, those only on which the signal is due.
    version : the champion of the time; None where there was none.
    trained_as_of : the night up to which a version for them learns, where there was none.
    """

    nights: tuple[Night, ...]
    version: ModelVersion | None
    trained_as_of: Night | None = None

    @property
    def span(self) -> str:
        """First and last session, for people."""
        return f"{self.nights[0].session} to {self.nights[-1].session}"


def plan(
    warehouse: Warehouse,
    declared: Signal,
    sessions: tuple[date, date],
    calendar: Sessions,
    *,
    retrain: Retrain = "year",
    walk_forward: bool = False,
) -> list[Stretch]:
    """Who scores which nights of a signal.

    Parameters
    ----------
    warehouse : the open store.
    declared : the signal.
    sessions : first and last date, both included.
    calendar : of the exchange.
    retrain : how often walk-forward versions are trained. Periods are those of the calendar
        (a year begins in January), so that overlapping backfills give the same rows.
    walk_forward : pass over champions of the time.

    Raises
    ------
    UsageError
        The dates hold no session.
    LookbackError
        The view of a monthly signal has not been materialized.
    """
    if retrain not in get_args(Retrain):
        raise UsageError(f"{retrain!r} is no period; there are: {', '.join(get_args(Retrain))}")
    if declared.view is not None:
        view = feature_view(declared.view)
        nights = list(due_nights(warehouse, view, sessions, calendar))
        # texts are scored once, by a version that learned from what was out before them
        return [Stretch(tuple(nights), _of_texts(warehouse, declared))]
    view = feature_view(recipes(declared.model, warehouse.settings.profile)[0].view)
    nights = list(due_nights(warehouse, view, sessions, calendar))

    def scored_by(night: Night) -> tuple[str, date]:
        version = None if walk_forward else champion_at(warehouse, declared.model, night.cutoff)
        if version is not None:
            return version.model_version, date.min
        return "", period_begins(night.session, retrain)

    stretches = []
    for (name, begins), group in groupby(nights, scored_by):
        together = tuple(group)
        if name:
            version = champion_at(warehouse, declared.model, together[0].cutoff)
            stretches.append(Stretch(together, version))
        else:
            before = past_night(warehouse.settings, calendar, calendar.previous(begins))
            stretches.append(Stretch(together, None, before))
    return stretches


def _of_texts(warehouse: Warehouse, declared: Signal) -> ModelVersion:
    version = champion(warehouse, declared.model)
    if version is None:
        raise LookbackError(
            f"{declared.name}: model {declared.model} has no champion; run: lookback sentiment"
        )
    return version


def period_begins(session: date, retrain: Retrain) -> date:
    """First day of the calendar period that a session lies in."""
    months = MONTHS[retrain]
    return date(session.year, (session.month - 1) // months * months + 1, 1)


def due_nights(
    warehouse: Warehouse, view: FeatureView, sessions: tuple[date, date], calendar: Sessions
) -> Iterator[Night]:
    """The nights between two dates on which a signal of a view has something new to say.

    Raises
    ------
    UsageError
        There is no session between them.
    """
    first, last = (pd.Timestamp(day) for day in sessions)
    inside = calendar.table()
    inside = inside[inside["session"].between(first, last)]
    if inside.empty:
        raise UsageError(f"no session of {calendar.code} from {sessions[0]} to {sessions[1]}")
    if view.horizon_unit == "week":
        inside = inside[inside["session"] == inside["week_end"]]
    nights = (past_night(warehouse.settings, calendar, day.date()) for day in inside["session"])
    if view.horizon_unit != "month":
        yield from nights
        return
    require_materialized(warehouse, view)
    known = warehouse.frame(f"SELECT DISTINCT known_at FROM {view.table} ORDER BY 1")["known_at"]
    for night in nights:
        before = past_night(warehouse.settings, calendar, calendar.previous(night.session))
        if known.searchsorted(before.cutoff, "right") < known.searchsorted(night.cutoff, "right"):
            yield night


def score_stretch(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    loaded: Version | None,
    nights: Sequence[Night],
    calendar: Sessions,
    imprint: Imprint,
    on_night: Callable[[Night], None] = lambda night: None,
) -> tuple[Scored, list[str]]:
    """Score past nights with one version and write them together, in one transaction.

    Each night reads its own windows at its own cut-off, as `signals.scoring.score` does.

    Parameters
    ----------
    loaded : what forecasts; None of a signal of texts, which were scored as they came.
    nights : ascending; at most some dozens, so that the store is not locked for long.
    on_night : called after each night.

    Returns
    -------
    scored, problems
        What was new; one line for each night that has no window.

    Raises
    ------
    LookAheadError
        The version learned from labels that were not known at the first night's cut-off.
    """
    require_no_look_ahead(version, nights[0])
    span = (pd.Timestamp(nights[0].session), pd.Timestamp(nights[-1].session))
    known = published(warehouse, declared, version, span, imprint.role)
    unchanged, parts, problems = 0, [], []
    for night in nights:
        reading: Reading | None
        if declared.is_of_texts:
            reading = read_day(warehouse, declared, version, night, calendar, imprint)
        else:
            assert loaded is not None
            reading = read_windows_of(
                warehouse, declared, version, lambda: loaded, night, calendar, imprint
            )
            if reading is None:
                continue  # a value of before was revised: no month is new
            if not reading.count:
                problems.append(f"{night.session}: no window")
                continue
        if reading.stands(known[known["as_of"] == pd.Timestamp(night.session)]):
            unchanged += reading.count
        elif reading.count:
            parts.append(reading.rows())
        on_night(night)
    if not parts:
        return Scored(declared.name, version.model_version, unchanged, 0, 0), problems
    rows = pd.concat(parts, ignore_index=True)
    new, revised = write(warehouse, rows, known)
    return (
        Scored(declared.name, version.model_version, len(rows) + unchanged, new, revised),
        problems,
    )


def in_parts(nights: Sequence[Night]) -> Iterator[Sequence[Night]]:
    """So many nights at a time as are written together."""
    for begin in range(0, len(nights), NIGHTS_AT_ONCE):
        yield nights[begin : begin + NIGHTS_AT_ONCE]
