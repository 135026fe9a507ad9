"""Windows: what a model reads, cut from a view as it could be seen at a cut-off."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from numpy.lib.stride_tricks import as_strided

from db.errors import LookAheadError, LookbackError
from db.sessions import sessions
from features.order import by_entity_and_date
from features.rolling import Ints, positions

if TYPE_CHECKING:
    from db.settings import Settings
    from db.warehouse import Warehouse
    from features.view import FeatureView

Days = npt.NDArray[np.datetime64]

# Calendar days from one row of a view to the next, at most on average, and some to spare.
DAYS_A_ROW = {"session": 1.46, "week": 7.0, "month": 30.5}
DAYS_SPARE = 35
# Windows that a core copies at once, and cores that do.
ROWS_AT_ONCE, MOST_WORKERS = 4_096, 8


@dataclass(frozen=True)
class Windows:
    """Windows of one view as of their dates, oldest value first.

    Attributes
    ----------
    X : float32 (n, T, F), the last T values of the view at each `as_of`.
    y : float32 (n,), the target over the horizon; NaN where the horizon has not
        passed by the cut-off.
    index : one row for each window, sorted by `as_of` then `entity`, columns
        `entity` (category of str), `as_of` (datetime64, the session of the last value),
        `known_at` (UTC, when the whole window was known),
        `label_known_at` (UTC, when `y` became known; NaT where it has not), and the
        static inputs that the view declares: `month` (1..12), `weekday` (0 is Monday).
    view : name of the view.
    version : version (hash of the declaration) of the view.
    data_snapshot : content hash of the values that the windows were cut from.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    index: pd.DataFrame
    view: str
    version: str
    data_snapshot: str

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Windows:
        """The chosen windows, in their order."""
        return Windows(
            self.X[rows],
            self.y[rows],
            self.index[rows].reset_index(drop=True)
            if rows.dtype == np.bool_
            else self.index.iloc[rows].reset_index(drop=True),
            self.view,
            self.version,
            self.data_snapshot,
        )


@dataclass(frozen=True)
class Visible:
    """A view's values as seen at a cut-off, one vintage each, by entity and date.

    Arrays of shape (n,); `values` float64 (n, F); `known_at` in microseconds since 1970.
    """

    names: npt.NDArray[np.object_]
    entity: npt.NDArray[np.int32]
    date: npt.NDArray[np.datetime64]
    values: npt.NDArray[np.float64]
    known_at: Ints

    def __len__(self) -> int:
        return len(self.entity)

    def chosen(self, rows: npt.NDArray[np.bool_]) -> Visible:
        """These rows, by mask."""
        if rows.all():
            return self
        return replace(
            self,
            entity=self.entity[rows],
            date=self.date[rows],
            values=self.values[rows],
            known_at=self.known_at[rows],
        )

    def rows_of(self, name: str) -> slice:
        """Where the rows of an entity lie."""
        code = np.searchsorted(self.names, name)
        if code == len(self.names) or self.names[code] != name:
            return slice(0, 0)
        start, stop = np.searchsorted(self.entity, (code, code + 1))
        return slice(int(start), int(stop))


def read_windows(
    warehouse: Warehouse,
    view: FeatureView,
    cutoff: datetime,
    *,
    as_of: date | None = None,
    universe: str | None = None,
    entities: Sequence[str] = (),
    features: Sequence[str] = (),
) -> Windows:
    """Windows of a view as they could be seen at a cut-off; labels by the same rule.

    Parameters
    ----------
    warehouse : the open store; the view must have been materialized.
    view : what to read.
    cutoff : UTC instant; only rows with `known_at <= cutoff` are seen.
    as_of : only windows that end on this date; None for all.
    universe : only windows that end while their entity is a member, as known at the cut-off.
    entities : only these; none for all.
    features : only these of the view's values, in this order; none for all. A window needs
        a value in each of its rows only for the features read (and the target for `y`).

    Raises
    ------
    LookAheadError
        No cut-off was given, or one without a time zone.
    LookbackError
        This version of the view has not been materialized; or there is no such universe,
        or no such feature.
    """
    require_cutoff(cutoff, f"reading feature view {view.name}")
    require_materialized(warehouse, view)
    wanted = tuple(features) or view.names
    unknown = set(wanted) - set(view.names)
    if unknown:
        raise LookbackError(f"feature view {view.name} has no feature {', '.join(sorted(unknown))}")
    read = wanted if view.target in wanted else (*wanted, view.target)
    seen = _visible(warehouse, view, read, cutoff, as_of, entities)
    breaks = price_breaks(warehouse, cutoff)
    step = steps(view, seen.date, warehouse.settings)
    segment = stretches(view, seen, breaks, step)
    outside = segment >= 0
    seen, segment, step = seen.chosen(outside), segment[outside], step[outside]
    mask_beginnings(view, read, seen, segment)
    members = _members(warehouse, universe, seen, cutoff) if universe else None
    chosen = _Chosen(len(wanted), read.index(view.target), members, as_of)
    X, y, index = _cut(view, chosen, seen, segment, step)
    snapshot = _snapshot(warehouse, view, seen, segment, cutoff)
    return Windows(X, y, index, view.name, view.version, snapshot)


def require_cutoff(cutoff: Any, purpose: str) -> None:
    """Refuse what is no instant: a read without a cut-off would see the future."""
    if not isinstance(cutoff, datetime) or cutoff.tzinfo is None:
        raise LookAheadError(f"{purpose} needs a cut-off with a time zone, not {cutoff!r}")


def require_materialized(warehouse: Warehouse, view: FeatureView) -> None:
    """Refuse a version of a view that nothing has been computed of yet."""
    found = warehouse.one(
        "SELECT 1 FROM main.feature_views WHERE view = ? AND version = ?", view.name, view.version
    )
    if found is None:
        raise LookbackError(
            f"feature view {view.name} has no values of its version {view.version} yet; "
            f"run: lookback features materialize {view.name}"
        )


# --------------------------------------------------------------------------- what can be seen


def _visible(
    warehouse: Warehouse,
    view: FeatureView,
    features: Sequence[str],
    cutoff: datetime,
    as_of: date | None,
    entities: Sequence[str],
) -> Visible:
    """Values known by the cut-off; with `as_of` only as many as its windows may need."""
    if as_of is None:
        return values_seen(warehouse, view, features, cutoff, None, entities)
    rows = view.window + max(feature.memory for feature in view.features)
    start = np.datetime64(as_of, "D") - days_of(view, rows)
    tail = values_seen(warehouse, view, features, cutoff, start, entities)
    up_to = tail.date <= np.datetime64(as_of, "D")
    counts = np.bincount(tail.entity[up_to], minlength=len(tail.names))
    short = tail.names[(counts > 0) & (counts < rows)]
    if not len(short):
        return tail
    # young entities, or such that seldom trade: all that there is
    whole = values_seen(warehouse, view, features, cutoff, None, list(short))
    rest = tail.chosen(~np.isin(tail.names.astype(str), short.astype(str))[tail.entity])
    names = np.unique(np.concatenate([rest.names, whole.names]))
    parts = [
        replace(
            part,
            names=names,
            entity=np.searchsorted(names, part.names)[part.entity].astype("int32"),
        )
        for part in (rest, whole)
    ]
    return _ordered(
        names,
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("entity", "date", "values", "known_at")
        ),
    )


def days_of(view: FeatureView, rows: int) -> int:
    """Calendar days in which so many rows of a view surely lie, gaps aside."""
    return int(rows * DAYS_A_ROW[view.horizon_unit]) + DAYS_SPARE


def values_seen(
    warehouse: Warehouse,
    view: FeatureView,
    features: Sequence[str],
    cutoff: datetime,
    start: np.datetime64 | None,
    entities: Sequence[str],
) -> Visible:
    """Values known by the cut-off, one vintage each, from a date on; all entities if none given."""
    conditions: list[str] = []
    parameters: list[Any] = [cutoff]
    if start is not None:
        conditions.append("AND date >= $2")
        parameters.append(start.astype(object))
    if entities:
        conditions.append(f"AND list_contains(${len(parameters) + 1}, entity)")
        parameters.append(list(entities))
    table = warehouse.native.execute(
        f"""
        SELECT entity, date, known_at, {", ".join(features)}
        FROM {view.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1) {" ".join(conditions)}
        """,
        parameters,
    ).to_arrow_table()
    found = table["entity"].combine_chunks()
    codes = (found if isinstance(found, pa.Array) else found.chunk(0)).dictionary_encode()
    names = np.array(codes.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    rank = np.empty(len(names), "int32")
    rank[order] = np.arange(len(names), dtype="int32")
    return _ordered(
        names[order],
        rank[codes.indices.to_numpy()] if len(names) else np.empty(0, "int32"),
        table["date"].to_numpy(),
        np.column_stack([table[name].to_numpy() for name in features]).astype("float64"),
        table["known_at"].to_numpy().view("int64"),
    )


def _ordered(
    names: npt.NDArray[np.object_],
    entity: npt.NDArray[Any],
    dates: npt.NDArray[np.datetime64],
    values: npt.NDArray[np.float64],
    known_at: Ints,
) -> Visible:
    """Rows by entity and date."""
    order = by_entity_and_date(entity, dates)
    return Visible(
        names, entity[order].astype("int32"), dates[order], values[order], known_at[order]
    )


def price_breaks(warehouse: Warehouse, cutoff: datetime) -> list[tuple[Any, ...]]:
    """Price breaks as judged by the cut-off: a suspicion counts, a real jump does not.

    Nor does a split that is known: returns are made with it.
    """
    return warehouse.sql(
        """
        SELECT DISTINCT b.entity, b.session, b.until_session
        FROM raw.price_breaks_as_of($1) b
        ANTI JOIN raw.corporate_actions_as_of($1) a
            ON a.entity = b.entity AND a.ex_date = b.session AND a.kind = 'split'
        WHERE b.kind <> 'jump'
        ORDER BY ALL
        """,
        cutoff,
    )


def stretches(view: FeatureView, seen: Visible, breaks: list[tuple[Any, ...]], step: Ints) -> Ints:
    """Number of the unbroken stretch that each value lies in; -1 inside a spike: shape (n,).

    A stretch ends at a price break and at a gap longer than the view allows; `step` counts
    the dates in the view's unit.
    """
    boundary = np.ones(len(seen), dtype=bool)
    boundary[1:] = (seen.entity[1:] != seen.entity[:-1]) | (np.diff(step) > view.largest_gap + 1)
    inside = np.zeros(len(seen), dtype=bool)
    for entity, session, until in breaks:
        rows = seen.rows_of(entity)
        if rows.start == rows.stop:
            continue
        dates = seen.date[rows]
        first = rows.start + int(np.searchsorted(dates, np.datetime64(session, "D")))
        if first < rows.stop:
            boundary[first] = True
        if until is not None:
            end = rows.start + int(np.searchsorted(dates, np.datetime64(until, "D"), side="right"))
            inside[first:end] = True
            if end < rows.stop:
                boundary[end] = True
    return np.where(inside, -1, np.cumsum(boundary))


def steps(view: FeatureView, dates: npt.NDArray[np.datetime64], settings: Settings) -> Ints:
    """Each date as a count of sessions, weeks or months: distances are in the view's unit."""
    if view.horizon_unit == "month":
        return dates.astype("datetime64[M]").astype("int64")
    if view.horizon_unit == "week":
        weeks: Ints = (dates - np.datetime64("1970-01-05")).astype("int64") // 7
        return weeks
    return sessions(settings.calendar).index(dates)


def mask_beginnings(
    view: FeatureView, features: Sequence[str], seen: Visible, segment: Ints
) -> None:
    """Take values away that look back over the beginning of their stretch."""
    memory = {feature.name: feature.memory for feature in view.features}
    if not any(memory[name] for name in features):
        return
    since = positions(segment)
    for number, name in enumerate(features):
        if memory[name]:
            seen.values[since < memory[name], number] = np.nan


def _members(
    warehouse: Warehouse, universe: str, seen: Visible, cutoff: datetime
) -> npt.NDArray[np.bool_]:
    """Whether each value's entity is a member of the universe on its date, (n,)."""
    found = warehouse.sql(
        "SELECT entity, first_session, last_session FROM raw.memberships_as_of($1) "
        "WHERE universe = $2",
        cutoff,
        universe,
    )
    if not found:
        known = warehouse.sql(
            "SELECT DISTINCT universe FROM raw.memberships_as_of($1) ORDER BY 1", cutoff
        )
        there = ", ".join(name for (name,) in known) or "none"
        raise LookbackError(f"no universe {universe!r} is known at the cut-off; there are: {there}")
    member = np.zeros(len(seen), dtype=bool)
    for entity, first, last in found:
        rows = seen.rows_of(entity)
        dates = seen.date[rows]
        begin = np.searchsorted(dates, np.datetime64(first, "D"))
        end = (
            len(dates)
            if last is None
            else np.searchsorted(dates, np.datetime64(last, "D"), side="right")
        )
        member[rows.start + begin : rows.start + end] = True
    return member


# --------------------------------------------------------------------------- cutting


@dataclass(frozen=True)
class _Chosen:
    """Which windows: the first `width` values, where the target is, members, date."""

    width: int
    target: int
    members: npt.NDArray[np.bool_] | None
    as_of: date | None


def _cut(
    view: FeatureView, chosen: _Chosen, seen: Visible, segment: Ints, step: Ints
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], pd.DataFrame]:
    """Windows, labels and index."""
    length, width = view.window, chosen.width
    content = np.ascontiguousarray(seen.values[:, :width], dtype="float32")
    first, last = slice(0, max(len(seen) - length + 1, 0)), slice(length - 1, None)
    good = segment[last] == segment[first]
    # a value that is not there (the first return of a history) is not padded either
    missing = ~np.isfinite(content).all(axis=1)
    if missing.any():
        gaps = np.concatenate([[0], np.cumsum(missing)])
        good &= gaps[length:] == gaps[first]
    if chosen.members is not None:
        good &= chosen.members[last]
    if chosen.as_of is not None:
        good &= seen.date[last] == np.datetime64(chosen.as_of, "D")
    ends = np.flatnonzero(good) + length - 1
    # by date; the rows are by entity already. Sixteen bits of days make it a radix sort
    day = seen.date[ends].view("int64")
    earliest = day.min(initial=2**40)
    day -= earliest
    small = day.astype("uint16") if day.max(initial=0) < 2**16 else day
    order = np.argsort(small, kind="stable")
    ends, dates = ends[order], (day[order] + earliest).view("datetime64[D]")
    flat = as_strided(
        content,
        (max(len(seen) - length + 1, 0), length * width),
        (content.strides[0], content.itemsize),
        writeable=False,
    )
    X = _gathered(flat, ends - length + 1).reshape(len(ends), length, width)
    y, label_known = _labels(view, chosen.target, seen, segment, step)
    index = pd.DataFrame(
        {
            "entity": pd.Categorical.from_codes(seen.entity[ends], pd.Index(seen.names)),
            "as_of": dates.astype("datetime64[us]"),
            "known_at": _utc(_latest(seen, length)[ends]),
            "label_known_at": _utc(label_known[ends]),
        },
        copy=False,
    )
    if "month" in view.static:
        index["month"] = _of_each_day(dates, _months)
    if "weekday" in view.static:
        index["weekday"] = _of_each_day(dates, _weekdays)
    return X, y[ends], index


def _gathered(flat: npt.NDArray[np.float32], rows: Ints) -> npt.NDArray[np.float32]:
    """Rows of a view over overlapping memory, copied by all cores: fresh pages cost the most."""
    gathered = np.empty((len(rows), flat.shape[1]), flat.dtype)
    workers = min(os.cpu_count() or 1, MOST_WORKERS)

    def copy(worker: int) -> None:
        for begin in range(worker * ROWS_AT_ONCE, len(rows), workers * ROWS_AT_ONCE):
            part = rows[begin : begin + ROWS_AT_ONCE]
            gathered[begin : begin + len(part)] = flat[part]

    if len(rows) <= ROWS_AT_ONCE:
        copy(0)
        return gathered
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(copy, range(workers)))
    return gathered


def _utc(microseconds: npt.NDArray[Any]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds.astype("datetime64[us]"), tz="UTC")


def _of_each_day(
    dates: Days, number: Callable[[Days], npt.NDArray[np.int8]]
) -> npt.NDArray[np.int8]:
    """A number of each date; ascending dates, many the same, are worked out once each: (n,)."""
    begins = np.flatnonzero(np.r_[True, dates[1:] != dates[:-1]][: len(dates)])
    return np.repeat(number(dates[begins]), np.diff(np.r_[begins, len(dates)]))


def _months(dates: Days) -> npt.NDArray[np.int8]:
    return (dates.astype("datetime64[M]").astype("int64") % 12 + 1).astype("int8")


def _weekdays(dates: Days) -> npt.NDArray[np.int8]:
    return ((dates.astype("int64") + 3) % 7).astype("int8")


def _latest(seen: Visible, length: int) -> Ints:
    """Latest `known_at` of each row and the `length - 1` before it, if so many are its: (n,)."""
    known_at = seen.known_at
    if ((known_at[1:] >= known_at[:-1]) | (seen.entity[1:] != seen.entity[:-1])).all():
        return known_at
    latest, covered = known_at.copy(), 1
    while covered < length:
        step = min(covered, length - covered)
        later = latest.copy()
        later[step:] = np.maximum(latest[step:], latest[:-step])
        latest, covered = later, covered + step
    return latest


def _labels(
    view: FeatureView, column: int, seen: Visible, segment: Ints, step: Ints
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.datetime64]]:
    """The target `horizon` ahead of each value and when it became known, if it has: (n,) each."""
    y = np.full(len(seen), np.nan, "float32")
    known = np.full(len(seen), np.datetime64("NaT", "us"))
    size = max(len(seen) - view.horizon, 0)
    now, ahead = slice(0, size), slice(len(seen) - size, None)
    target = seen.values[ahead, column].astype("float32")
    there = (
        (segment[ahead] == segment[now])
        & (step[ahead] - step[now] == view.horizon)
        & np.isfinite(target)
    )
    y[now] = np.where(there, target, y[now])
    known[now] = np.where(there, seen.known_at[ahead].view("datetime64[us]"), known[now])
    return y, known


def _snapshot(
    warehouse: Warehouse, view: FeatureView, seen: Visible, segment: Ints, cutoff: datetime
) -> str:
    """Hash of all that windows are cut from, recorded: 16 hexadecimal digits.

    That is the values with their `known_at`, and the stretches that no window leaves.
    """
    content = hashlib.sha256(f"{view.version}:{len(seen)}".encode())
    content.update("\n".join(seen.names).encode())
    for array in (seen.entity, seen.date.astype("int64"), seen.values, seen.known_at, segment):
        content.update(np.ascontiguousarray(array).view("uint8").data)
    snapshot = content.hexdigest()[:16]
    dates = (
        (seen.date.min().astype(object), seen.date.max().astype(object))
        if len(seen)
        else (None, None)
    )
    warehouse.native.execute(
        """
        INSERT INTO main.data_snapshots
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE NOT EXISTS (FROM main.data_snapshots WHERE data_snapshot = $1)
        """,
        (snapshot, view.name, view.version, cutoff, len(seen), *dates),
    )
    return snapshot
