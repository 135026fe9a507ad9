"""Windows: what a model reads, cut from a view as it could be seen at a cut-off."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from db.errors import LookAheadError, LookbackError
from db.sessions import sessions

if TYPE_CHECKING:
    from db.settings import Settings
    from db.warehouse import Warehouse
    from features.view import FeatureView


@dataclass(frozen=True)
class Windows:
    """Windows of one view as of their dates, oldest value first.

    Attributes
    ----------
    X : float32 (n, T, F), the last T values of the view at each `as_of`.
    y : float32 (n,), the target over the horizon; NaN where the horizon has not
        passed by the cut-off.
    index : one row for each window, sorted by `as_of` then `entity`, columns
        `entity` (str), `as_of` (datetime64, the session of the last value),
        `known_at` (UTC, when the whole window was known),
        `label_known_at` (UTC, when `y` became known; NaT where it has not).
    view : name of the view.
    version : version (hash of the declaration) of the view.
    data_snapshot : content hash of the raw rows that the windows were cut from.
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


def read_windows(
    warehouse: Warehouse,
    view: FeatureView,
    cutoff: datetime,
    *,
    as_of: date | None = None,
) -> Windows:
    """Windows of a view as they could be seen at a cut-off; labels by the same rule.

    Parameters
    ----------
    warehouse : the open store; the view must have been materialized.
    view : what to read.
    cutoff : UTC instant; only rows with `known_at <= cutoff` are seen.
    as_of : only windows that end on this date; None for all.

    Raises
    ------
    LookAheadError
        No cut-off was given, or one without a time zone.
    LookbackError
        This version of the view has not been materialized.
    """
    if not isinstance(cutoff, datetime) or cutoff.tzinfo is None:
        raise LookAheadError(
            f"reading feature view {view.name} needs a cut-off with a time zone, not {cutoff!r}"
        )
    _require_materialized(warehouse, view)
    values = _visible(warehouse, view, cutoff)
    values["segment"] = _segments(warehouse, view, values, cutoff)
    windows = _cut(view, values[values["segment"] >= 0].reset_index(drop=True), warehouse.settings)
    snapshot = _snapshot(warehouse, view, cutoff)
    chosen = Windows(*windows, view.name, view.version, snapshot)
    if as_of is None:
        return chosen
    return chosen.take((chosen.index["as_of"] == pd.Timestamp(as_of)).to_numpy())


def _require_materialized(warehouse: Warehouse, view: FeatureView) -> None:
    found = warehouse.one(
        "SELECT 1 FROM main.feature_views WHERE view = ? AND version = ?", view.name, view.version
    )
    if found is None:
        raise LookbackError(
            f"feature view {view.name} has no values of its version {view.version} yet; "
            "run: lookback nightly"
        )


def _visible(warehouse: Warehouse, view: FeatureView, cutoff: datetime) -> pd.DataFrame:
    """The view's values known by the cut-off, one vintage each, by entity and date."""
    return warehouse.frame(
        f"""
        SELECT entity, CAST(date AS TIMESTAMP) AS date, {", ".join(view.features)}, known_at
        FROM {view.table}
        WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
        ORDER BY entity, date
        """,
        cutoff,
    )


def _segments(
    warehouse: Warehouse, view: FeatureView, values: pd.DataFrame, cutoff: datetime
) -> npt.NDArray[np.int64]:
    """Number of the unbroken stretch that each value lies in; -1 inside a spike: shape (n,).

    A stretch ends at a price break as judged by the cut-off (a suspicion counts, a real
    jump does not) and at a gap longer than the view allows.
    """
    breaks = warehouse.frame(
        """
        SELECT DISTINCT entity, CAST(session AS TIMESTAMP) AS session,
            CAST(until_session AS TIMESTAMP) AS until_session
        FROM raw.price_breaks_as_of(?)
        WHERE kind <> 'jump'
        """,
        cutoff,
    )
    boundary = _gaps(view, values, warehouse.settings)
    inside = np.zeros(len(values), dtype=bool)
    entities, dates = values["entity"].to_numpy(), values["date"].to_numpy()
    for entity, session, until in breaks.itertuples(index=False):
        # values are sorted by entity and date
        start, stop = np.searchsorted(entities, entity), np.searchsorted(entities, entity, "right")
        first = start + np.searchsorted(dates[start:stop], session.to_datetime64())
        if first < stop:
            boundary[first] = True
        if not pd.isna(until):
            end = start + np.searchsorted(dates[start:stop], until.to_datetime64(), side="right")
            inside[first:end] = True
            if end < stop:
                boundary[end] = True
    return np.where(inside, -1, np.cumsum(boundary))


def _gaps(view: FeatureView, values: pd.DataFrame, settings: Settings) -> npt.NDArray[np.bool_]:
    """Whether each value begins a new entity or follows a gap that is too long: shape (n,)."""
    position = _positions(view, values, settings)
    entity = values["entity"].to_numpy()
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = (entity[1:] != entity[:-1]) | (np.diff(position) > view.largest_gap + 1)
    return begins


def _positions(view: FeatureView, values: pd.DataFrame, settings: Settings) -> npt.NDArray[np.intp]:
    """Each date as a count of sessions, weeks or months: distances are in the view's unit."""
    if view.horizon_unit == "month":
        months: npt.NDArray[np.intp] = (
            values["date"].dt.year * 12 + values["date"].dt.month
        ).to_numpy("int64")
        return months
    if view.horizon_unit == "week":
        monday = np.datetime64("1970-01-05")
        days = (values["date"].to_numpy("datetime64[D]") - monday).astype("int64")
        weeks: npt.NDArray[np.intp] = days // 7
        return weeks
    calendar = sessions(settings.calendar)
    return calendar.index(values["date"].to_numpy())


def _cut(
    view: FeatureView, values: pd.DataFrame, settings: Settings
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], pd.DataFrame]:
    """Windows, labels and index from values sorted by entity and date, within segments."""
    length, features = view.window, list(view.features)
    if len(values) < length:
        return _nothing(view)
    content = values[features].to_numpy("float32")
    segment = values["segment"].to_numpy()
    known = values["known_at"].to_numpy("datetime64[us]")
    ends = np.arange(length - 1, len(values))
    ends = ends[segment[ends] == segment[ends - length + 1]]
    # a value that is not there (the first return of a history) is not padded either
    gaps = np.concatenate([[0], np.cumsum(~np.isfinite(content).all(axis=1))])
    ends = ends[gaps[ends + 1] == gaps[ends - length + 1]]
    if not len(ends):
        return _nothing(view)

    X = sliding_window_view(content, length, axis=0)[ends - length + 1].transpose(0, 2, 1)
    window_known = sliding_window_view(known, length)[ends - length + 1].max(axis=1)
    labels, label_known = _labels(view, values, ends, segment, settings)
    index = pd.DataFrame(
        {
            "entity": values["entity"].to_numpy()[ends],
            "as_of": values["date"].to_numpy()[ends],
            "known_at": pd.DatetimeIndex(window_known, tz="UTC"),
            "label_known_at": pd.DatetimeIndex(label_known, tz="UTC"),
        }
    )
    order = np.lexsort((index["entity"].to_numpy(), index["as_of"].to_numpy()))
    return np.ascontiguousarray(X[order]), labels[order], index.iloc[order].reset_index(drop=True)


def _labels(
    view: FeatureView,
    values: pd.DataFrame,
    ends: npt.NDArray[np.intp],
    segment: npt.NDArray[np.int64],
    settings: Settings,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.datetime64]]:
    """The target `horizon` ahead of each window's end and when it became known, if it has."""
    position = _positions(view, values, settings)
    target = values[view.target].to_numpy("float32")
    known = values["known_at"].to_numpy("datetime64[us]")
    ahead = np.minimum(ends + view.horizon, len(values) - 1)
    there = (
        (ends + view.horizon < len(values))
        & (segment[ahead] == segment[ends])
        & (position[ahead] - position[ends] == view.horizon)
        & np.isfinite(target[ahead])
    )
    return (
        np.where(there, target[ahead], np.float32("nan")),
        np.where(there, known[ahead], np.datetime64("NaT", "us")),
    )


def _nothing(
    view: FeatureView,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], pd.DataFrame]:
    none = pd.DatetimeIndex([], tz="UTC")
    index = pd.DataFrame(
        {
            "entity": pd.Series([], dtype="str"),
            "as_of": pd.Series([], dtype="datetime64[us]"),
            "known_at": none,
            "label_known_at": none,
        }
    )
    shape = (0, view.window, len(view.features))
    return np.empty(shape, "float32"), np.empty(0, "float32"), index


def _snapshot(warehouse: Warehouse, view: FeatureView, cutoff: datetime) -> str:
    """Hash of all that windows are cut from at a cut-off, recorded: 16 hexadecimal digits.

    That is the values with their `known_at`, and the price breaks that no window spans.
    """
    values = ", ".join(view.features)
    found = warehouse.one(
        f"""
        WITH visible AS (
            FROM {view.table}
            WHERE known_at <= $1 AND (known_until IS NULL OR known_until > $1)
        ),
        breaks AS (
            SELECT DISTINCT entity, session, until_session
            FROM raw.price_breaks_as_of($1)
            WHERE kind <> 'jump' AND entity IN (SELECT entity FROM visible)
        )
        SELECT count(*), min(date), max(date),
            bit_xor(hash(entity, date, {values}, epoch_us(known_at))),
            (SELECT bit_xor(hash(entity, session, until_session)) FROM breaks)
        FROM visible
        """,
        cutoff,
    )
    assert found is not None
    rows, first, last, *content = found
    snapshot = hashlib.sha256(f"{view.version}:{rows}:{content}".encode()).hexdigest()[:16]
    warehouse.native.execute(
        """
        INSERT INTO main.data_snapshots
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE NOT EXISTS (FROM main.data_snapshots WHERE data_snapshot = $1)
        """,
        (snapshot, view.name, view.version, cutoff, rows, first, last),
    )
    return snapshot
