"""Measures of an increment as a whole: one number each, which increment rules judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.quality.batch import Batch
from db.quality.columns import Judged, dates
from db.quality.rules import Mask
from db.quality.suites import Limits

# Long enough for sources that publish a month of sessions two months late.
DUE_SEARCH_SESSIONS = 260


@dataclass(frozen=True)
class Measures:
    """Values by name, with what was found in words; NaN where a measure does not apply."""

    values: Mapping[str, float] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """One row, one float64 column for each measure."""
        return pd.DataFrame({name: [float(value)] for name, value in self.values.items()})

    def with_measure(self, name: str, value: float, found: str) -> Measures:
        """These measures and one more."""
        return Measures({**self.values, name: value}, {**self.found, name: found})


def column_measures(batch: Batch) -> Measures:
    """Whether the required columns are there and hold values of their types."""
    missing = [name for name in batch.required if name not in batch.frame]
    measures = Measures().with_measure(
        "missing_columns",
        len(missing),
        f"missing: {', '.join(missing)}" if missing else "all columns are there",
    )
    if missing or batch.kind == "documents":  # of which every value is text
        return measures
    return _with_unreadable(measures, batch)


def _with_unreadable(measures: Measures, batch: Batch) -> Measures:
    unreadable = []
    for name in (batch.day, *batch.numbers):
        raw = batch.frame[name]
        if raw.isna().all() or (_any_date(raw) if name == batch.day else _any_number(raw)):
            continue
        unreadable.append(f"{name} ({raw.dtype})")
    found = f"unreadable: {', '.join(unreadable)}" if unreadable else "all columns are readable"
    return measures.with_measure("unreadable_columns", len(unreadable), found)


def _any_date(raw: pd.Series) -> bool:
    return bool(dates(raw).notna().any())


def _any_number(raw: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(raw.dtype):
        return True
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return False
    return bool(pd.to_numeric(raw, errors="coerce").notna().any())


@dataclass(frozen=True)
class Rows:
    """The rows that increment measures are made from.

    Attributes
    ----------
    judged : the increment.
    dated : its rows whose date is sound, whatever their values: the vendor delivered them.
    good : its rows that pass every row rule.
    older : history rows that the increment does not bring again.
    """

    judged: Judged
    dated: Mask
    good: Mask
    older: pd.DataFrame


def increment_measures(batch: Batch, rows: Rows, limits: Limits) -> Measures:
    """All measures of an increment with rows."""
    measures = column_measures(batch).with_measure("rows", len(batch.frame), "")
    if batch.frequency == "month":
        measures = _with_month_gap(measures, batch, rows)
    else:
        measures = _with_session_gap(measures, batch, rows)
    if batch.kind == "bars":
        measures = _with_newest_share(measures, batch, rows, limits)
    stamped = rows.judged.canonical[[batch.entity, batch.day]]
    return _with_age(measures, batch, stamped if rows.good.all() else stamped[rows.good])


def age_measures(batch: Batch) -> Measures:
    """The only measure of an empty increment: how old the stored rows are."""
    keys = [batch.entity, batch.day]
    return _with_age(Measures(), batch, pd.DataFrame(columns=keys))


def _with_session_gap(measures: Measures, batch: Batch, rows: Rows) -> Measures:
    """The longest run of sessions without rows, stored ones counted, that the increment ends."""
    dated = rows.judged.columns["calendar_position"].to_numpy()[rows.dated]
    new = np.flatnonzero(_count(dated))
    stored = new[:0]
    if batch.history is not None and len(batch.history):
        stored = batch.sessions.index(np.unique(dates(batch.history[batch.day]).to_numpy()))
        stored = stored[stored >= 0]
    positions = np.union1d(new, stored)
    missing = np.where(np.isin(positions[1:], new), np.diff(positions) - 1, 0)
    if len(missing) == 0 or missing.max() == 0:
        return measures.with_measure("missing_sessions", 0, "no session is missing")
    at = int(missing.argmax())
    first, last = batch.sessions.days[positions[at] + 1], batch.sessions.days[positions[at + 1] - 1]
    found = f"no rows for {missing[at]} sessions in a row, {first} to {last}"
    return measures.with_measure("missing_sessions", int(missing[at]), found)


def _with_month_gap(measures: Measures, batch: Batch, rows: Rows) -> Measures:
    """The most months in a row that a series lacks between months of the increment.

    Stored months count as there, and so do those that the source marks as having no value
    (a survey that was not taken, a release that a shutdown cancelled). The months before
    the increment are not judged: one whose value was missing lies in quarantine, and would
    stop the source for good.
    """
    months = _months(rows.judged.canonical[rows.dated], batch).drop_duplicates()
    months["new"] = True
    if batch.history is not None and len(batch.history):
        months = pd.concat([months, _months(batch.history, batch).assign(new=False)])
    # a month that both have is the increment's
    months = months.sort_values(["series", "month", "new"], ascending=[True, True, False])
    months = months.drop_duplicates(["series", "month"], ignore_index=True)
    by_series = months.groupby("series")
    inside = months["new"] & by_series["new"].shift(fill_value=False)
    apart = months["month"] - _marked_before(months, batch)
    missing = apart.groupby(months["series"]).diff().sub(1).where(inside, 0).to_numpy()
    if len(missing) == 0 or missing.max() <= 0:
        return measures.with_measure("missing_months", 0, "no month is missing")
    at = int(missing.argmax())
    count = int(missing[at])
    last = pd.Period(ordinal=int(months["month"][at]) - 1, freq="M")
    found = f"{months['series'][at]}: {count} missing, {last - count + 1} to {last}"
    return measures.with_measure("missing_months", count, found)


def _marked_before(months: pd.DataFrame, batch: Batch) -> pd.Series:
    """How many months before each are marked as having no value, and have none in `months`."""
    if not batch.marked_missing:
        return pd.Series(0, index=months.index)
    keys = ["series", "month"]
    marked = pd.DataFrame(batch.marked_missing, columns=[batch.entity, batch.day])
    marked[batch.day] = pd.to_datetime(marked[batch.day])
    every = pd.concat(
        [months[keys].assign(marked=0), _months(marked, batch).assign(marked=1)], ignore_index=True
    )
    every = every.drop_duplicates(keys).sort_values(keys)
    before = every.groupby("series")["marked"].cumsum()
    return before.sort_index().iloc[: len(months)].set_axis(months.index)


def _months(rows: pd.DataFrame, batch: Batch) -> pd.DataFrame:
    """Columns series, month (months since 1970)."""
    months = dates(rows[batch.day]).to_numpy().astype("datetime64[M]").astype(np.int64)
    return pd.DataFrame({"series": rows[batch.entity].astype("str").to_numpy(), "month": months})


def _with_newest_share(measures: Measures, batch: Batch, rows: Rows, limits: Limits) -> Measures:
    """Rows of the newest session as a share of the median of the sessions before it."""
    positions = [rows.judged.columns["calendar_position"].to_numpy()[rows.good]]
    if len(rows.older):
        stored = batch.sessions.index(dates(rows.older[batch.day]).to_numpy())
        positions.append(stored[stored >= 0])
    counts = _count(np.concatenate(positions))
    counts = counts[counts > 0]
    earlier = counts[:-1][-limits.count_sessions :]
    usual = float(np.median(earlier)) if len(earlier) else 0.0
    if len(earlier) < limits.count_history or usual <= limits.count_handful:
        return measures.with_measure("newest_share", np.nan, "too few sessions or entities")
    found = f"{counts[-1]} rows in the newest session, usually {usual:g}"
    return measures.with_measure("newest_share", float(counts[-1]) / usual, found)


def _count(positions: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Rows at each calendar position; positions outside the calendar are left out."""
    return np.bincount(positions[positions >= 0])


def _with_age(measures: Measures, batch: Batch, rows: pd.DataFrame) -> Measures:
    """How far the newest row lags behind what was due by `until`.

    Bars are one stream; of observations each series is judged and the worst counts. The series
    of a vintage come together and are as old as the newest: one may be published later than
    others, or be given up.
    """
    name = "days_overdue" if batch.frequency == "month" else "sessions_behind"
    newest = _newest(batch, rows)
    if not newest:
        return measures.with_measure(name, np.nan, "no rows are stored")
    if batch.frequency == "month":
        behind = {series: _days_overdue(batch, day) for series, day in newest.items()}
    else:
        due = _due_session(batch)
        behind = {series: float(batch.sessions.age(day, due)) for series, day in newest.items()}
    worst = max(behind, key=lambda series: behind[series])
    subject = f"{worst}: " if batch.kind == "observations" and not batch.vintages else ""
    unit = "days overdue" if batch.frequency == "month" else "sessions behind"
    found = f"{subject}newest {batch.day} {newest[worst]}, {behind[worst]:g} {unit}"
    return measures.with_measure(name, behind[worst], found)


def _newest(batch: Batch, rows: pd.DataFrame) -> dict[str, date]:
    """Newest date of each series, or of all bars under the source's name."""
    newest: dict[str, date] = {}
    history = rows.iloc[:0] if batch.history is None else batch.history
    for frame in (rows, history):
        if frame.empty:
            continue
        day = dates(frame[batch.day])
        if batch.kind == "observations":
            found = day.groupby(frame[batch.entity].astype("str")).max().dropna()
        else:
            found = pd.Series({batch.source: day.max()}).dropna()
        for series, instant in found.items():
            newest[str(series)] = max(instant.date(), newest.get(str(series), date.min))
    if batch.vintages and newest:
        return {batch.source: max(newest.values())}
    return newest


def _due_session(batch: Batch) -> date:
    """The newest session, up to the night's, whose rows could be known by `until`."""
    days = batch.sessions.days
    end = int(np.searchsorted(days, np.datetime64(batch.session, "D"), side="right"))
    candidates = pd.Series(days[max(0, end - DUE_SEARCH_SESSIONS) : end].astype("datetime64[us]"))
    known = batch.availability.known_at(candidates, batch.sessions) <= batch.until
    due = candidates[known].max() if known.any() else candidates.iloc[0]
    result: date = due.date()
    return result


def _days_overdue(batch: Batch, newest: date) -> float:
    """Days since the month after `newest` was due for publication; 0 if it is not yet."""
    following = (pd.Timestamp(newest) + pd.offsets.MonthBegin(1)).as_unit("us")
    due = batch.availability.known_at(pd.Series([following]), batch.sessions).iloc[0]
    late: timedelta = pd.Timestamp(batch.until).tz_convert(UTC) - due
    return max(0.0, float(late.days))
