"""Outcomes: what happened after each score, joined once its horizon has passed.

An outcome is the label by the same rule as in training, in full precision, beside what could
be traded: the return over as many sessions from the close of `tradable_from` on. It is as the
newest night knows it: a corrected price corrects it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from db.clock import Night
from db.sessions import Sessions
from db.tables import outcomes, progress
from features.catalog import feature_view
from features.holding import VIEW as RETURNS_VIEW
from features.holding import holding_returns
from features.labels import read_labels
from models.examples import targets_of
from models.recipes import Recipe
from models.registry import ModelVersion, find
from signals.declaration import Signal

if TYPE_CHECKING:
    from db.warehouse import Warehouse
    from features.view import FeatureView

KEY = ["signal", "entity", "as_of", "horizon", "horizon_unit", "role", "model_version"]
# What is taken over from the signal's row.
OF_THE_ROW = [*KEY, "tradable_from", "value", "probability", "q05", "q50", "q95"]
JUDGED = ["target_date", "start", "realised", "error", "hit", "label_return"]
JUDGED += ["tradable_return", "tradable_until", "known_at"]
# Days before a night within which outcomes are looked for: late rows come to what is recent.
RECENT_DAYS = {"session": 92, "week": 183, "month": 730}
# Rows that are judged together: some 100 bytes each, several times over.
ROWS_AT_ONCE = 1_500_000
# A forecast in the target's unit, as against a score of a return.
IN_UNIT = ("level", "changes", "path")


@dataclass(frozen=True)
class Joined:
    """What joining the outcomes of a signal did.

    Attributes
    ----------
    signal : its name.
    since : first `as_of` that was looked at; None where nothing is scored.
    new, changed : outcomes that were not there, and such that are other than before.
    changed_from : oldest `as_of` of these; None where there are none.
    """

    signal: str
    since: date | None
    new: int = 0
    changed: int = 0
    changed_from: date | None = None


def join_outcomes(
    warehouse: Warehouse,
    declared: Signal,
    night: Night,
    calendar: Sessions,
    run_id: str,
    *,
    since: date | None = None,
    recorded_at: datetime | None = None,
) -> Joined:
    """Bring the outcomes of a signal up to date with what a night knows.

    Parameters
    ----------
    warehouse : the open store.
    declared : the signal.
    night : whose cut-off bounds what is known.
    calendar : of the exchange.
    run_id : of the run.
    since : first `as_of` to look at; if left out what is recent, and from the oldest date on
        of which a label became known since the last time.
    recorded_at : UTC; the night's own clock if left out.

    Returns
    -------
    Joined
        Rows that are new, and such that are other than before.
    """
    reached = _reached(warehouse, declared)
    if reached is not None and reached > night.cutoff:
        # an older night run again takes away nothing that is known by now
        night = replace(night, cutoff=reached)
    first = since or _first_date(warehouse, declared, night)
    if first is None:
        return Joined(declared.name, None)
    done = Joined(declared.name, first)
    for span in spans(warehouse, declared, first):
        rows = _scored(warehouse, declared, span)
        if declared.is_of_texts:
            parts = [_judged_by_returns(warehouse, rows, night, calendar)]
        else:
            parts = [
                _judged(warehouse, version, group, night, calendar)
                for version, group in _by_version(warehouse, declared, rows)
            ]
        known = [part for part in parts if len(part)]
        if known:
            rows = pd.concat(known).assign(
                recorded_at=pd.Timestamp(recorded_at or night.time()), run_id=run_id
            )
            new, changed, oldest = _write(warehouse, declared, rows, span)
            done = replace(
                done,
                new=done.new + new,
                changed=done.changed + changed,
                changed_from=done.changed_from or oldest,
            )
    _note(warehouse, declared, night)
    return done


def spans(warehouse: Warehouse, declared: Signal, first: date) -> Iterator[tuple[date, date]]:
    """First and last `as_of` of stretches of a signal, each few enough rows for memory."""
    days = warehouse.sql(
        """
        SELECT as_of, count(*)
        FROM main.signals
        WHERE signal = ? AND as_of >= ?
        GROUP BY as_of
        ORDER BY as_of
        """,
        declared.name,
        first,
    )
    begin, rows = None, 0
    for number, (day, count) in enumerate(days):
        begin, rows = begin or day, rows + count
        if rows >= ROWS_AT_ONCE or number == len(days) - 1:
            yield begin, day
            begin, rows = None, 0


def _note(warehouse: Warehouse, declared: Signal, night: Night) -> None:
    """Remember up to which cut-off outcomes have been joined: the latest so far."""
    reached = _reached(warehouse, declared)
    if reached is None or reached < night.cutoff:
        row = {"name": _progress(declared), "done": 0, "cutoff": night.cutoff}
        with warehouse.transaction():
            warehouse.upsert(progress, row)


def _progress(declared: Signal) -> str:
    return f"outcomes of {declared.name}"


def _reached(warehouse: Warehouse, declared: Signal) -> datetime | None:
    """Latest cut-off up to which outcomes have been joined: UTC; None if never."""
    done = warehouse.one("SELECT cutoff FROM ops.progress WHERE name = ?", _progress(declared))
    return done[0] if done is not None else None


def _first_date(warehouse: Warehouse, declared: Signal, night: Night) -> date | None:
    """The oldest `as_of` whose outcome may be new or another one; None where nothing is scored."""
    oldest = warehouse.one(
        "SELECT min(as_of), any_value(horizon_unit), max(horizon) FROM main.signals "
        "WHERE signal = ?",
        declared.name,
    )
    if oldest is None or oldest[0] is None:
        return None
    begins, unit, _ = oldest
    reached = _reached(warehouse, declared)
    if reached is None:
        return pd.Timestamp(begins).date()
    recent = pd.Timestamp(night.session) - pd.Timedelta(days=RECENT_DAYS[unit])
    corrected = _corrected_since(warehouse, declared, reached, night)
    first = min(recent, corrected) if corrected is not None else recent
    return max(first, pd.Timestamp(begins)).date()


def _corrected_since(
    warehouse: Warehouse, declared: Signal, cutoff: datetime, night: Night
) -> pd.Timestamp | None:
    """How far back a value that became known since then reaches, a horizon before it."""
    dates = []
    for name in _views_of(warehouse, declared):
        view = feature_view(name)
        found = warehouse.one(
            f"SELECT min(date) FROM {view.table} WHERE known_at > ? AND known_at <= ?",
            cutoff,
            night.cutoff,
        )
        if found is not None and found[0] is not None:
            dates.append(pd.Timestamp(found[0]) - pd.Timedelta(days=RECENT_DAYS[view.horizon_unit]))
    return min(dates, default=None)


def _views_of(warehouse: Warehouse, declared: Signal) -> list[str]:
    """Views that the signal's scores were made from, as far as they are materialized."""
    if declared.view is not None:
        return [declared.view, RETURNS_VIEW]
    return [
        name
        for name, version in warehouse.sql(
            """
            SELECT DISTINCT v.view, v.version
            FROM main.model_versions m
            JOIN main.feature_views v ON v.view = m.feature_view AND v.version = m.feature_version
            WHERE m.model = ?
            """,
            declared.model,
        )
        if feature_view(name).version == version
    ]


def _scored(warehouse: Warehouse, declared: Signal, span: tuple[date, date]) -> pd.DataFrame:
    return warehouse.frame(
        f"SELECT {', '.join(OF_THE_ROW)} FROM main.signals "
        "WHERE signal = ? AND as_of BETWEEN ? AND ?",
        declared.name,
        *span,
    )


def _by_version(
    warehouse: Warehouse, declared: Signal, rows: pd.DataFrame
) -> list[tuple[ModelVersion, pd.DataFrame]]:
    """Rows of each version whose view is still what it was."""
    found = []
    for name, group in rows.groupby("model_version"):
        version = find(warehouse, declared.model, str(name))
        if version is None:
            continue
        if feature_view(version.feature_view).version == version.feature_version:
            found.append((version, group))
    return found


# --------------------------------------------------------------------------- judging


def _judged(
    warehouse: Warehouse,
    version: ModelVersion,
    rows: pd.DataFrame,
    night: Night,
    calendar: Sessions,
) -> pd.DataFrame:
    """The rows whose outcome is known, with it."""
    recipe, view = version.made_by, feature_view(version.feature_view)
    dated = rows.assign(date=_window_dates(warehouse, view, rows["as_of"], night, calendar))
    dated = dated[dated["date"].notna()]
    if dated.empty:
        return dated
    targets = list(recipe.targets or (view.target,))
    labels = read_labels(
        warehouse,
        view,
        night.cutoff,
        targets,
        ahead=recipe.steps,
        start=dated["date"].min().date(),
    )
    named = targets_of(recipe)
    if named:
        labels["entity"] = labels["target"].map(dict(named))
    labels = labels.drop(columns="target")
    found = dated.merge(labels, on=["entity", "date", "horizon"])
    if view.horizon_unit == "week":
        found["target_date"] = _week_ends(found["target_date"], calendar)
    return _measured(warehouse, recipe, view, found, night, calendar)


def _judged_by_returns(
    warehouse: Warehouse, rows: pd.DataFrame, night: Night, calendar: Sessions
) -> pd.DataFrame:
    """The rows of a signal of texts whose next session's return is known, with it.

    The sign of what was said has a meaning of its own: it is right where the return has it.
    """
    bars = _known_bars(warehouse, night)
    found = rows.assign(
        start=0.0,
        error=np.nan,
        target_date=_later(calendar, rows["as_of"], rows["horizon"]),
    ).merge(bars.rename(columns={"date": "target_date"}), on=["entity", "target_date"])
    if found.empty:
        return found
    returns = partial(holding_returns, warehouse, night.cutoff, across_breaks=False)
    found["realised"] = returns(found["entity"], found["as_of"], found["target_date"])
    found = found[found["realised"].notna()].reset_index(drop=True)
    found["label_return"] = found["realised"]
    found["tradable_until"] = _later(calendar, found["tradable_from"], found["horizon"])
    found["tradable_return"] = returns(
        found["entity"], found["tradable_from"], found["tradable_until"]
    )
    found["hit"] = _right(found["value"], found["realised"])
    return found


def _known_bars(warehouse: Warehouse, night: Night) -> pd.DataFrame:
    """When each session's return of a symbol was known: entity, date, `known_at`."""
    if warehouse.one("SELECT 1 FROM main.feature_views WHERE view = ?", RETURNS_VIEW) is None:
        return pd.DataFrame({"entity": [], "date": pd.to_datetime([]), "known_at": []})
    return warehouse.frame(
        f"""
        SELECT entity, CAST(date AS TIMESTAMP) AS date, known_at
        FROM {feature_view(RETURNS_VIEW).table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
            AND entity IN (SELECT DISTINCT entity FROM raw.sentiment)
        """,
        night.cutoff,
    )


def _right(expected: pd.Series[Any], came: pd.Series[Any]) -> pd.Series[Any]:
    """Whether signs agree; NULL where one of them is zero."""
    undecided = (expected == 0) | (came == 0)
    agree: pd.Series[Any] = (np.sign(expected) == np.sign(came)).astype("boolean")
    return agree.mask(undecided)


def _window_dates(
    warehouse: Warehouse,
    view: FeatureView,
    as_of: pd.Series[Any],
    night: Night,
    calendar: Sessions,
) -> pd.Series[Any]:
    """The date of the view that each row's window ended on.

    Of sessions and weeks that is `as_of`; of months the newest one that was known by the
    cut-off of that session, in whatever vintage.
    """
    if view.horizon_unit != "month":
        return as_of
    months = warehouse.frame(
        f"""
        -- one row per month: when it was first known
        SELECT date, min(known_at) AS known_at
        FROM {view.table}
        GROUP BY date
        ORDER BY date
        """
    )
    # one known before the month before it counts with that one
    known = pd.DatetimeIndex(months["known_at"].cummax())
    delay = timedelta(hours=warehouse.settings.cutoff_delay_hours)
    cutoffs = pd.DatetimeIndex([calendar.close(day.date()) + delay for day in as_of])
    at = known.searchsorted(cutoffs, side="right") - 1
    dates = months["date"].to_numpy()[np.maximum(at, 0)]
    return pd.Series(dates, index=as_of.index).where(at >= 0)


def _week_ends(days: pd.Series[Any], calendar: Sessions) -> pd.Series[Any]:
    ends = calendar.table().set_index("session")["week_end"]
    return days.map(ends)


def _measured(
    warehouse: Warehouse,
    recipe: Recipe,
    view: FeatureView,
    found: pd.DataFrame,
    night: Night,
    calendar: Sessions,
) -> pd.DataFrame:
    """Error, hit and returns of rows whose label is known."""
    in_unit = recipe.task in IN_UNIT
    value, realised = found["value"], found["realised"]
    if in_unit:
        expected, came = value - found["start"], realised - found["start"]
        found["error"] = value - realised
    else:
        # of returns: above or below the others of the date, whatever the market did
        of_the_date = found.groupby(["as_of", "horizon", "role"])
        expected = value - of_the_date["value"].transform("median")
        came = realised - of_the_date["realised"].transform("median")
        found["start"], found["error"] = 0.0, np.nan
    found["hit"] = _right(expected, came)
    found["label_return"] = np.nan
    found["tradable_return"] = np.nan
    found["tradable_until"] = pd.Series(pd.NaT, index=found.index, dtype="datetime64[us]")
    if recipe.task in ("level", "direction", "rank"):
        found["label_return"] = realised / found["start"] - 1 if in_unit else realised
        until = _later(calendar, found["target_date"], _delays(calendar, found))
        found["tradable_until"] = until
        found["tradable_return"] = _tradable(warehouse, recipe, view, found, night)
    return found


def _delays(calendar: Sessions, rows: pd.DataFrame) -> pd.Series[Any]:
    """Sessions from each `as_of` to its `tradable_from`."""
    from_, until = (
        calendar.index(rows[name].to_numpy("datetime64[D]")) for name in ("as_of", "tradable_from")
    )
    return pd.Series(until - from_, index=rows.index)


def _later(calendar: Sessions, days: pd.Series[Any], count: pd.Series[Any]) -> pd.Series[Any]:
    """The sessions so many after others: datetime64."""
    at = calendar.index(days.to_numpy("datetime64[D]")) + count.to_numpy()
    return pd.Series(calendar.days[at].astype("datetime64[us]"), index=days.index)


def _tradable(
    warehouse: Warehouse, recipe: Recipe, view: FeatureView, found: pd.DataFrame, night: Night
) -> Any:
    """Return between the closes of `tradable_from` and `tradable_until`: (n,), NaN if unknown."""
    if recipe.task != "level":
        known = warehouse.one("SELECT 1 FROM main.feature_views WHERE view = ?", RETURNS_VIEW)
        if known is None:
            return np.nan
        return holding_returns(
            warehouse,
            night.cutoff,
            found["entity"],
            found["tradable_from"],
            found["tradable_until"],
            across_breaks=False,
        )
    target = (recipe.targets or (view.target,))[0]
    levels = warehouse.frame(
        f"""
        SELECT entity, date, {target} AS level
        FROM {view.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1) AND date >= $2
        """,
        night.cutoff,
        found["tradable_from"].min().date(),
    ).set_index(["entity", "date"])["level"]
    bought, sold = (
        levels.reindex(pd.MultiIndex.from_frame(found[["entity", name]])).to_numpy()
        for name in ("tradable_from", "tradable_until")
    )
    return sold / bought - 1


# --------------------------------------------------------------------------- writing


def _write(
    warehouse: Warehouse,
    declared: Signal,
    found: pd.DataFrame,
    span: tuple[date, date],
) -> tuple[int, int, date | None]:
    """Write what is new or other than before; how many of each, and the oldest `as_of`."""
    known = warehouse.frame(
        "SELECT * FROM main.outcomes WHERE signal = ? AND as_of BETWEEN ? AND ?",
        declared.name,
        *span,
    )
    columns = [*OF_THE_ROW, *JUDGED]
    before = known.set_index(KEY)[columns[len(KEY) :]].reindex(pd.MultiIndex.from_frame(found[KEY]))
    new = before["realised"].isna().to_numpy()
    same = ~new
    for name in columns[len(KEY) :]:
        same &= _equal(found[name], before[name])
    replaced = found[~same & ~new]
    with warehouse.transaction():
        if len(replaced):
            _delete(warehouse, replaced)
        warehouse.append(outcomes, found.loc[~same, [*columns, "recorded_at", "run_id"]])
    oldest = found.loc[~same, "as_of"].min()
    return int(new.sum()), len(replaced), None if pd.isna(oldest) else oldest.date()


def _equal(one: pd.Series[Any], other: pd.Series[Any]) -> Any:
    """Whether values are the same, missing ones too: (n,), bool."""
    ours, theirs = one.reset_index(drop=True), other.reset_index(drop=True)
    both_missing = ours.isna() & theirs.isna()
    return ((ours == theirs).fillna(False).astype(bool) | both_missing).to_numpy()


def _delete(warehouse: Warehouse, rows: pd.DataFrame) -> None:
    matches = " AND ".join(f"o.{column} = i.{column}" for column in KEY)
    with warehouse.relation(rows[KEY], "outcomes_replaced") as incoming:
        warehouse.native.execute(
            f"""
            DELETE FROM main.outcomes o USING {incoming} i
            WHERE {matches} AND o.as_of BETWEEN $1 AND $2
            """,
            [rows["as_of"].min().date(), rows["as_of"].max().date()],
        )


def outcomes_of(
    warehouse: Warehouse,
    declared: Signal,
    span: tuple[date, date],
    columns: Sequence[str],
    *,
    calibrated: bool = False,
) -> pd.DataFrame:
    """Outcomes of a signal from one date to another: key, `published_at` and the columns.

    With `calibrated` only those of scores that came with a probability or quantiles.
    """
    only = "AND (o.probability IS NOT NULL OR o.q50 IS NOT NULL)" if calibrated else ""
    return warehouse.frame(
        f"""
        -- one row per outcome
        SELECT {", ".join(f"o.{name}" for name in (*KEY, *columns))}, s.published_at
        FROM main.outcomes o
        JOIN main.signals s USING ({", ".join(KEY)})
        WHERE o.signal = $1 AND o.as_of BETWEEN $2 AND $3
            AND s.signal = $1 AND s.as_of BETWEEN $2 AND $3
            {only}
        ORDER BY o.as_of, o.entity, o.horizon
        """,
        declared.name,
        *span,
    )
