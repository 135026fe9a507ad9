"""What readers look at first: the newest live rows, and signals side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.sessions import Sessions
from db.tables import progress
from signals.declaration import SIGNALS

if TYPE_CHECKING:
    from db.warehouse import Warehouse

LATEST = "signals_latest"


def refresh_latest(warehouse: Warehouse, calendar: Sessions, session: object) -> None:
    """Bring `signals_latest` up to date: the newest live row per signal, entity and horizon.

    Where two versions scored the same date, the one published last counts. Ages are
    sessions up to the newest session that any live signal or `session` has reached.

    Only what was published since the last time is looked at (`ops.progress`); without such a
    mark, or where it cannot be that of this store, all live rows are.
    """
    (revisions, last) = warehouse.one(
        "SELECT count(*), coalesce(max(rowid), -1) FROM main.signal_revisions"
    ) or (0, -1)
    mark = warehouse.one("SELECT done FROM ops.progress WHERE name = ?", LATEST)
    # revisions are appended, and never removed: their row ids count them
    known = mark is not None and mark[0] <= revisions == last + 1
    with warehouse.transaction():
        latest = _newest_since(warehouse, mark[0]) if mark and known else _newest(warehouse)
        latest["age"] = _ages(latest["as_of"], calendar, pd.Timestamp(str(session)))
        with warehouse.relation(latest) as incoming:
            warehouse.native.execute("DELETE FROM main.signals_latest")
            warehouse.native.execute(
                f"INSERT INTO main.signals_latest BY NAME SELECT * FROM {incoming} "
                "ORDER BY signal, entity, horizon"
            )
        warehouse.upsert(progress, {"name": LATEST, "done": revisions})


def _newest(warehouse: Warehouse) -> pd.DataFrame:
    """The newest live row of every signal, entity and horizon, found among all rows."""
    # one row per (signal, entity, horizon, horizon_unit): its newest date
    warehouse.native.execute(
        """
        CREATE OR REPLACE TEMP TABLE reached AS
        SELECT signal, entity, horizon, horizon_unit, max(as_of) AS as_of
        FROM main.signals
        WHERE role = 'live'
        GROUP BY ALL
        """
    )
    return _rows_of_reached(warehouse)


def _newest_since(warehouse: Warehouse, done: int) -> pd.DataFrame:
    """The same, of the rows that were the newest when there were `done` revisions.

    What a revision touches is read anew at the newest date of the two: a row there may have
    been revised, or scored by another version.
    """
    # one row per (signal, entity, horizon, horizon_unit) that was published since
    warehouse.native.execute(
        """
        CREATE OR REPLACE TEMP TABLE reached AS
        SELECT signal, entity, horizon, horizon_unit,
            greatest(max(r.as_of), any_value(l.as_of)) AS as_of
        FROM main.signal_revisions r
        LEFT JOIN main.signals_latest l USING (signal, entity, horizon, horizon_unit)
        WHERE r.rowid >= $1 AND r.role = 'live'
        GROUP BY ALL
        """,
        (done,),
    )
    untouched = """
        SELECT * EXCLUDE (age)
        FROM main.signals_latest
        ANTI JOIN reached USING (signal, entity, horizon, horizon_unit)
    """
    return _rows_of_reached(warehouse, besides=f"{untouched} UNION ALL")


def _rows_of_reached(warehouse: Warehouse, besides: str = "") -> pd.DataFrame:
    # the span of dates lets DuckDB pass over most blocks of the table
    span = warehouse.one("SELECT min(as_of), max(as_of) FROM reached") or (None, None)
    found = warehouse.frame(
        f"""
        {besides}
        SELECT s.*
        FROM main.signals s
        SEMI JOIN reached USING (signal, entity, horizon, horizon_unit, as_of)
        WHERE s.role = 'live' AND s.as_of BETWEEN $1 AND $2
        QUALIFY row_number() OVER (
            PARTITION BY s.signal, s.entity, s.horizon, s.horizon_unit
            ORDER BY s.published_at DESC, s.model_version
        ) = 1
        """,
        *span,
    )
    warehouse.native.execute("DROP TABLE reached")
    return found


def _ages(as_of: pd.Series, calendar: Sessions, session: pd.Timestamp) -> npt.NDArray[np.int32]:
    """Sessions from each date to the newest of them or of `session`: shape (n,)."""
    newest = max([session, *as_of.drop_duplicates()])
    days = as_of.to_numpy().astype("datetime64[D]")
    passed = np.searchsorted(calendar.days, days, side="right")
    last = np.searchsorted(calendar.days, np.datetime64(newest.date(), "D"), side="right")
    ages: npt.NDArray[np.int32] = np.maximum(0, last - passed).astype("int32")
    return ages


# ---------------------------------------------------------------------------- side by side


def refresh_wide(warehouse: Warehouse) -> None:
    """Make the view `signals_wide`: one row per entity and date, one column per signal.

    A column is named as its declared signal; of a signal with several horizons there is one
    column for each of them, `<signal>_<horizon>`. It holds `value` of the live row if there is
    one, else of the backfill's; of several versions the one published last.
    """
    # one row per (signal, horizon)
    found = warehouse.sql(
        "SELECT DISTINCT signal, horizon FROM main.signals WHERE role <> 'challenger' ORDER BY ALL"
    )
    columns: dict[str, tuple[str, str]] = {}
    for name, declared in SIGNALS.items():
        horizons = [horizon for signal, horizon in found if signal == name]
        if len(horizons) < 2:
            columns[name] = f"signal = {_text(name)}", declared.unit
            continue
        for horizon in horizons:
            wanted = f"signal = {_text(name)} AND horizon = {int(horizon)}"
            columns[f"{name}_{horizon}"] = wanted, f"{declared.unit}; horizon {horizon}"
    chosen = ",\n".join(
        f"max(value) FILTER ({wanted}) AS {_identifier(column)}"
        for column, (wanted, _) in columns.items()
    )
    described = {
        "entity": "symbol or series",
        "as_of": "session whose close the scores could use",
        **{column: unit for column, (_, unit) in columns.items()},
    }
    with warehouse.transaction():
        # one row per (entity, as_of); filters of both reach the table below
        warehouse.native.execute(
            f"""
            CREATE OR REPLACE VIEW main.signals_wide AS
            SELECT entity, as_of,
                {chosen}
            FROM (
                SELECT signal, entity, as_of, horizon, value
                FROM main.signals
                WHERE role IN ('live', 'backfill')
                QUALIFY row_number() OVER (
                    PARTITION BY signal, entity, as_of, horizon, horizon_unit
                    ORDER BY role = 'live' DESC, published_at DESC, model_version
                ) = 1
            )
            GROUP BY entity, as_of
            """
        )
        comment_view(
            warehouse,
            "signals_wide",
            "Signals side by side: one row per (entity, as_of), the value of each signal; the "
            "live row if there is one, else the backfill's, of several versions the newest",
            described,
        )


def comment_view(warehouse: Warehouse, view: str, comment: str, columns: Mapping[str, str]) -> None:
    """Put comments on a view of schema `main` and on its columns."""
    warehouse.native.execute(f"COMMENT ON VIEW main.{view} IS {_text(comment)}")
    for column, said in columns.items():
        warehouse.native.execute(
            f"COMMENT ON COLUMN main.{view}.{_identifier(column)} IS {_text(said)}"
        )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
