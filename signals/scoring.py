"""Scoring: the champion of a signal scores the windows of one session.

A version may score a date only if every label that it was trained or stopped on was known
before that date's cut-off. What was published once is never rewritten: a changed value is
a new revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from db.clock import Night
from db.errors import LookAheadError, LookbackError, RegistryError
from db.sessions import Sessions
from db.tables import SIGNAL_KEY, signal_revisions, signals
from features.catalog import feature_view
from features.windows import Windows, read_windows
from models.recipes import recipe
from models.registry import ModelVersion, champion, load
from signals.declaration import Signal

if TYPE_CHECKING:
    from db.warehouse import Warehouse

Role = Literal["live", "backfill", "challenger"]
SCORES = ("value", "q05", "q50", "q95", "probability", "rank")
CONTRACT = [column.name for column in signals.columns]


@dataclass(frozen=True)
class Scored:
    """What scoring one signal for one night did."""

    signal: str
    model_version: str
    rows: int
    new: int
    revised: int

    @property
    def unchanged(self) -> int:
        """Rows that stand as they were published before."""
        return self.rows - self.new - self.revised


def score(
    warehouse: Warehouse,
    declared: Signal,
    night: Night,
    calendar: Sessions,
    run_id: str,
    role: Role = "live",
) -> Scored:
    """Score the windows that end on the night's session and write what is new or different.

    Raises
    ------
    LookbackError
        No champion, or no window ends on the session; the message says why.
    LookAheadError
        The champion learned from labels that were not known at the night's cut-off.
    RegistryError
        The champion's artefact is missing, altered or foreign.
    """
    version = champion(warehouse, declared.model)
    if version is None:
        raise LookbackError(
            f"{declared.name}: model {declared.model} has no champion; run: lookback train"
        )
    require_no_look_ahead(version, night)
    view = feature_view(recipe(declared.model).view)
    if version.feature_version != view.version:
        raise RegistryError(
            f"{declared.name}: champion {version.model_version} reads version "
            f"{version.feature_version} of {view.name}, which is now {view.version}; "
            f"run: lookback train {declared.model}"
        )
    windows = read_windows(warehouse, view, night.cutoff, as_of=night.session)
    if not len(windows):
        raise LookbackError(f"{declared.name}: {_why_no_window(warehouse, view.table, night)}")
    known = _published(warehouse, declared, version, night, role)
    if len(known) == len(windows) and set(known["data_snapshot"]) == {windows.data_snapshot}:
        return Scored(declared.name, version.model_version, len(windows), 0, 0)
    rows = _rows(warehouse, declared, version, windows, night, calendar, run_id, role)
    return _write(warehouse, declared, version, rows, known)


def require_no_look_ahead(version: ModelVersion, night: Night) -> None:
    """Refuse a version that learned from what was not known at the night's cut-off."""
    if version.labels_known_at is None or version.labels_known_at < night.cutoff:
        return
    raise LookAheadError(
        f"{version.model} {version.model_version} learned from labels known until "
        f"{version.labels_known_at:%Y-%m-%d %H:%M} UTC, after the cut-off of {night.session} "
        f"({night.cutoff:%Y-%m-%d %H:%M} UTC): it may not score that session; past sessions "
        "need walk-forward versions: lookback backfill"
    )


def tradable_from(calendar: Sessions, published_at: datetime, delay_minutes: int) -> pd.Timestamp:
    """The first session that opens after publication plus the delay that an order needs."""
    instant = published_at + timedelta(minutes=delay_minutes)
    return pd.Timestamp(calendar.first_open_after(instant))


def _why_no_window(warehouse: Warehouse, table: str, night: Night) -> str:
    newest = warehouse.one(f"SELECT max(date) FROM {table} WHERE known_at <= ?", night.cutoff)
    if newest is None or newest[0] is None:
        return f"no data by the cut-off of {night.session}; see: lookback check"
    if newest[0] < night.session:
        return f"newest value is of {newest[0]}, {night.session} is not there; see: lookback check"
    return f"too little unbroken history before {night.session} for a window"


def _published(
    warehouse: Warehouse, declared: Signal, version: ModelVersion, night: Night, role: Role
) -> pd.DataFrame:
    """The newest revisions of this night's rows, as published before."""
    return warehouse.frame(
        """
        SELECT *
        FROM main.signal_revisions
        WHERE signal = ? AND as_of = ? AND model_version = ? AND role = ?
        QUALIFY revision = max(revision) OVER (PARTITION BY entity, horizon, horizon_unit)
        """,
        declared.name,
        night.session,
        version.model_version,
        role,
    )


def _rows(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    windows: Windows,
    night: Night,
    calendar: Sessions,
    run_id: str,
    role: Role,
) -> pd.DataFrame:
    settings = warehouse.settings
    view = feature_view(windows.view)
    published_at = night.time()
    value = pd.Series(load(settings, version).predict(windows.X))
    if not np.isfinite(value.to_numpy("float64")).all():
        raise LookbackError(
            f"{declared.name}: {version.model_version} gave a score that is not finite"
        )
    return pd.DataFrame(
        {
            "signal": declared.name,
            "entity": windows.index["entity"],
            "as_of": windows.index["as_of"],
            "horizon": view.horizon,
            "horizon_unit": view.horizon_unit,
            "role": role,
            "known_at": windows.index["known_at"],
            "tradable_from": tradable_from(
                calendar, published_at, settings.publication_delay_minutes
            ),
            "value": value,
            "q05": None,
            "q50": None,
            "q95": None,
            "probability": None,
            # a rank says nothing about a signal of one entity
            "rank": value.rank(pct=True) if len(value) > 1 else None,
            "model": version.model,
            "model_version": version.model_version,
            "feature_view": windows.view,
            "feature_version": windows.version,
            "data_snapshot": windows.data_snapshot,
            "published_at": pd.Timestamp(published_at),
            "run_id": run_id,
        }
    )


def _write(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    rows: pd.DataFrame,
    known: pd.DataFrame,
) -> Scored:
    """Append revisions of the rows that are new or differ; replace them among the newest."""
    before = known.set_index("entity").reindex(rows["entity"])
    is_new = before["revision"].isna().to_numpy()
    same = ~is_new
    for column in SCORES:
        old = pd.to_numeric(before[column]).to_numpy("float64")
        new = pd.to_numeric(rows[column]).to_numpy("float64")
        same &= (old == new) | (pd.isna(old) & pd.isna(new))
    revisions = rows.assign(revision=(before["revision"].fillna(-1) + 1).astype("int32").to_numpy())
    revisions = revisions[~same]
    with warehouse.transaction():
        warehouse.append(signal_revisions, revisions)
        with warehouse.relation(revisions) as incoming:
            matches = " AND ".join(f"s.{column} = i.{column}" for column in SIGNAL_KEY)
            warehouse.native.execute(
                f"DELETE FROM main.signals s USING {incoming} i WHERE {matches}"
            )
        warehouse.append(signals, revisions[CONTRACT])
    return Scored(
        declared.name,
        version.model_version,
        len(rows),
        int(is_new.sum()),
        int((~same & ~is_new).sum()),
    )


def refresh_latest(warehouse: Warehouse, calendar: Sessions, session: object) -> None:
    """Rebuild `signals_latest`: the newest live row per signal, entity and horizon.

    Where two versions scored the same date, the one published last counts. Ages are
    sessions up to the newest session that any live signal or `session` has reached.
    """
    latest = warehouse.frame(
        """
        SELECT *
        FROM main.signals
        WHERE role = 'live'
        QUALIFY row_number() OVER (
            PARTITION BY signal, entity, horizon, horizon_unit
            ORDER BY as_of DESC, published_at DESC, model_version
        ) = 1
        """
    )
    newest = max([pd.Timestamp(str(session)), *latest["as_of"]])
    latest["age"] = [calendar.age(day.date(), newest.date()) for day in latest["as_of"]]
    with warehouse.transaction():
        warehouse.native.execute("DELETE FROM main.signals_latest")
        with warehouse.relation(latest) as incoming:
            warehouse.native.execute(
                f"INSERT INTO main.signals_latest BY NAME SELECT * FROM {incoming} "
                "ORDER BY signal, entity"
            )
