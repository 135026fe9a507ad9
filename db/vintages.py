"""Vintages: incoming rows against what is stored, and how they are appended.

Raw tables are bitemporal and only ever appended to: a changed value is a new vintage, a
restated adjusted history a new `history`, a rejected row goes to quarantine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from db.clock import Night
from db.raw_tables import RAW, RawTable
from db.sessions import Sessions
from db.sources.source import ACTION_COLUMNS, Source, publishes_vintages
from db.staging import Staged
from db.tables import corporate_actions

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# How the gate marks rows that are good but held, because their whole increment is.
HELD = "table: "
# Rules that a row fails because of other rows or of the hour: it is judged again each night.
JUDGED_AGAIN = ("duplicate", "conflict", "not_future")


def restated(warehouse: Warehouse, staged: Staged) -> tuple[str, ...]:
    """Entities whose adjusted history changed: it must be taken over whole.

    A new dividend changes every adjusted price before it. Mixing old and new rows would
    make a return that never was, so the whole history is fetched again.
    """
    source = staged.source
    if source.kind != "bars" or source.adjustment == "raw" or not staged.fetched:
        return ()
    status = compare(warehouse, staged)
    entities = pd.read_parquet(staged.rows, columns=["entity"])["entity"]
    changed = entities[(status == "changed").to_numpy()]
    return tuple(sorted(changed.unique()))


def behind(warehouse: Warehouse, staged: Staged) -> tuple[str, ...]:
    """Symbols whose stored bars end before this delivery begins, or that are new.

    A symbol that is added to the settings, or that a vendor did not answer for during some
    nights, would otherwise keep a hole; its history is fetched whole, like a restated one.
    """
    if staged.source.kind != "bars" or staged.request.start is None or not staged.fetched:
        return ()
    rows = warehouse.sql(
        """
        SELECT i.entity
        FROM (SELECT DISTINCT entity FROM read_parquet($2) WHERE entity IS NOT NULL) i
        LEFT JOIN (
            SELECT entity, max(session) AS newest FROM raw.bars WHERE source = $1 GROUP BY entity
        ) s USING (entity)
        WHERE s.newest IS NULL OR s.newest < $3
        ORDER BY i.entity
        """,
        staged.source.name,
        str(staged.rows),
        staged.request.start,
    )
    return tuple(entity for (entity,) in rows)


def compare(warehouse: Warehouse, staged: Staged) -> pd.Series:
    """Status of every staged row: new, changed, unchanged, or held (in quarantine already)."""
    source = staged.source
    raw = RAW[source.kind]
    statuses = pd.Series("new", index=range(staged.fetched), dtype="object")
    if not staged.fetched:
        return statuses
    if publishes_vintages(source):
        return _compare_vintages(warehouse, staged, raw)
    stored = warehouse.one(
        f"""
        SELECT EXISTS (FROM {raw.name} WHERE source = $1)
            OR EXISTS (FROM raw.quarantine WHERE source = $1)
        """,
        source.name,
    )
    if stored is None or not stored[0]:
        return statuses
    columns = set(pq.read_schema(staged.rows).names)
    values = [name for name in raw.values if name in columns]
    same = " AND ".join(
        f"TRY_CAST(i.{name} AS DOUBLE) IS NOT DISTINCT FROM s.{name}" for name in values
    )
    key = f"i.{raw.entity}, TRY_CAST(i.{raw.date} AS DATE)"
    known_at = f"CAST({'i.known_at' if 'known_at' in columns else 'NULL'} AS TIMESTAMPTZ)"
    found = warehouse.frame(
        f"""
        WITH incoming AS (
            SELECT i.* EXCLUDE (file_row_number), file_row_number AS position,
                {known_at} AS release,
                -- a source with release dates may bring a later release of the same key
                coalesce({known_at} < max({known_at}) OVER (PARTITION BY {key}), false)
                    AS superseded
            FROM read_parquet($2, file_row_number = true) i
        ),
        released AS (
            SELECT DISTINCT i.position
            FROM incoming i
            JOIN {raw.name} s
                ON s.source = $1 AND s.{raw.entity} = i.{raw.entity}
                AND s.{raw.date} = TRY_CAST(i.{raw.date} AS DATE) AND s.known_at = i.release
            WHERE i.superseded AND {same}
        ),
        stored AS (
            {raw.current(f"(SELECT min(TRY_CAST({raw.date} AS DATE)) FROM incoming)")}
        )
        SELECT i.position,
            CASE
                WHEN q.row_hash IS NOT NULL THEN 'held'
                WHEN i.superseded AND r.position IS NOT NULL THEN 'unchanged'
                WHEN i.superseded THEN 'new'
                WHEN s.{raw.entity} IS NULL THEN 'new'
                WHEN {same} THEN 'unchanged'
                ELSE 'changed'
            END AS status
        FROM incoming i
        LEFT JOIN stored s
            ON s.{raw.entity} = i.{raw.entity} AND s.{raw.date} = TRY_CAST(i.{raw.date} AS DATE)
        LEFT JOIN released r ON r.position = i.position
        LEFT JOIN (
            SELECT DISTINCT row_hash
            FROM raw.quarantine
            WHERE source = $1 AND NOT starts_with(rule, '{HELD}')
                AND NOT list_contains($3, rule)
        ) q ON q.row_hash = {_row_hash("i", raw, columns)}
        ORDER BY i.position
        """,
        source.name,
        str(staged.rows),
        list(JUDGED_AGAIN),
    )
    statuses[:] = found["status"].to_numpy()
    return statuses


def _compare_vintages(warehouse: Warehouse, staged: Staged, raw: RawTable) -> pd.Series:
    """Status of every row of a source that publishes vintages: new, unchanged or held.

    A row is unchanged if its value is the one that stood at its own `known_at`: the one stored
    for that very publication, else that of the publication before it, in the store or in this
    delivery. Several publications of a value may come at once and in any order. One that comes
    again with another value is new: it was ingested later, and is the one that is read.
    """
    columns = set(pq.read_schema(staged.rows).names)
    found = warehouse.frame(
        f"""
        WITH incoming AS (
            SELECT i.file_row_number AS position, i.{raw.entity} AS entity,
                TRY_CAST(i.{raw.date} AS DATE) AS day, TRY_CAST(i.value AS DOUBLE) AS value,
                CAST(i.known_at AS TIMESTAMPTZ) AS known_at, q.row_hash IS NOT NULL AS held
            FROM read_parquet($2, file_row_number = true) i
            LEFT JOIN (
                SELECT DISTINCT row_hash
                FROM raw.quarantine
                WHERE source = $1 AND NOT starts_with(rule, '{HELD}')
                    AND NOT list_contains($3, rule)
            ) q ON q.row_hash = {_row_hash("i", raw, columns)}
        ),
        -- one row per publication of a value; rows that the gate will refuse confirm nothing
        sound AS (
            SELECT entity, day, known_at, any_value(value) AS delivered
            FROM incoming
            WHERE NOT held AND isfinite(value) AND day <= $4
            GROUP BY entity, day, known_at
            HAVING count(DISTINCT value) = 1
        ),
        stored AS (
            SELECT {raw.entity} AS entity, {raw.date} AS day, known_at,
                arg_max(value, ingested_at) AS stored
            FROM {raw.name}
            WHERE source = $1
            GROUP BY ALL
        ),
        standing AS (
            SELECT *, lag(coalesce(delivered, stored)) OVER (
                    PARTITION BY entity, day ORDER BY known_at
                ) AS before
            FROM sound FULL JOIN stored USING (entity, day, known_at)
        )
        SELECT i.position,
            CASE
                WHEN i.held THEN 'held'
                WHEN i.value = coalesce(s.stored, s.before) THEN 'unchanged'
                ELSE 'new'
            END AS status
        FROM incoming i
        LEFT JOIN standing s
            ON s.delivered IS NOT NULL AND s.entity = i.entity AND s.day = i.day
            AND s.known_at = i.known_at
        ORDER BY i.position
        """,
        staged.source.name,
        str(staged.rows),
        list(JUDGED_AGAIN),
        staged.fetched_at.date(),
    )
    return found["status"].astype("object")


def _row_json(alias: str, raw: RawTable, columns: set[str]) -> str:
    """SQL of a row as JSON: key and values as they were fetched."""
    names = [name for name in (raw.entity, raw.date, *raw.values) if name in columns]
    fields = ", ".join(f"'{name}', CAST({alias}.{name} AS VARCHAR)" for name in names)
    return f"json_object({fields})"


def _row_hash(alias: str, raw: RawTable, columns: set[str]) -> str:
    return f"md5(CAST({_row_json(alias, raw, columns)} AS VARCHAR))"


def restated_whole(
    staged: Staged, frame: pd.DataFrame, status: pd.Series, raw: RawTable
) -> pd.Series:
    """Rows of entities whose adjusted history is taken over anew, unchanged ones included."""
    source = staged.source
    if source.kind != "bars" or source.adjustment == "raw" or not (status == "changed").any():
        return pd.Series(False, index=frame.index)
    changed = frame.loc[(status == "changed").to_numpy(), raw.entity].unique()
    return frame[raw.entity].isin(changed)


def contested(frame: pd.DataFrame, status: pd.Series, raw: RawTable) -> pd.Series:
    """Rows that share their key with a row to be judged, those already stored included.

    Without them the gate would see only one side of a conflict, and take it.
    """
    keys = [name for name in (raw.entity, raw.date, "known_at") if name in frame]
    shared = frame.duplicated(keys, keep=False)
    if not shared.any():
        return shared
    moved = status.isin(["new", "changed"]).set_axis(frame.index)[shared]
    groups = [frame.loc[shared, key] for key in keys]
    judged = moved.groupby(groups, dropna=False).transform("any")
    return judged.reindex(frame.index, fill_value=False) & (status != "held").to_numpy()


def stamp(
    warehouse: Warehouse,
    staged: Staged,
    accepted: pd.DataFrame,
    status: pd.Series,
    anew: pd.Series,
    night: Night,
    calendar: Sessions,
) -> pd.DataFrame:
    """Accepted rows with `known_at` and, for bars, `history`."""
    source = staged.source
    raw = RAW[source.kind]
    rows = accepted.copy(deep=False)
    by_rule = source.availability.known_at(rows[raw.date], calendar)
    given = "known_at" in rows
    rows["known_at"] = rows["known_at"].fillna(by_rule) if given else by_rule
    # a changed value was not known before it was fetched, nor before the one that it replaces
    fetched = pd.Timestamp(night.now).tz_convert("UTC").as_unit("us")
    positions = rows.index.to_numpy()
    restated_now = anew.to_numpy()[positions]
    changed = (status.to_numpy() == "changed")[positions] & ~restated_now
    corrected = changed | restated_now
    if changed.any():
        replaced = _newest_known_at(warehouse, source, rows, changed)
        # a later release date of the source's own stands
        corrected &= ~(given & (rows["known_at"] > replaced).to_numpy())
        rows["known_at"] = rows["known_at"].where(
            ~corrected | ~(replaced > rows["known_at"]), replaced
        )
    rows["known_at"] = rows["known_at"].where(
        ~corrected | (rows["known_at"] > fetched).to_numpy(), fetched
    )
    if source.kind == "bars":
        rows = _with_history(warehouse, source, rows, anew.to_numpy()[positions])
    return rows


def _newest_known_at(
    warehouse: Warehouse, source: Source, rows: pd.DataFrame, changed: np.ndarray[Any, Any]
) -> pd.Series:
    """When the newest stored vintage of each changed row became known; NaT elsewhere."""
    raw = RAW[source.kind]
    keys = rows.loc[changed, [raw.entity]].assign(day=rows[raw.date], row=np.flatnonzero(changed))
    with warehouse.relation(keys) as incoming:
        found = warehouse.frame(
            f"""
            -- one row per changed row
            SELECT i.row, max(s.known_at) AS known_at
            FROM {incoming} i
            JOIN {raw.name} s
                ON s.source = $1 AND s.{raw.entity} = i.{raw.entity}
                AND s.{raw.date} = CAST(i.day AS DATE)
            GROUP BY i.row
            """,
            source.name,
        )
    newest = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[us, UTC]")
    newest.iloc[found["row"].to_numpy()] = found["known_at"].to_numpy()
    return newest


def _with_history(
    warehouse: Warehouse, source: Source, rows: pd.DataFrame, anew: np.ndarray[Any, Any]
) -> pd.DataFrame:
    """The number of the history each bar belongs to; no bar is known before its history."""
    newest = warehouse.frame(
        """
        -- one row per symbol: its newest history and when that became known
        SELECT entity, history, min(known_at) AS since
        FROM raw.bars
        WHERE source = ?
        GROUP BY entity, history
        QUALIFY history = max(history) OVER (PARTITION BY entity)
        """,
        source.name,
    ).set_index("entity")
    if newest.empty or rows.empty:
        return rows.assign(history=np.int32(0))
    current = rows["entity"].map(newest["history"])
    rows["history"] = np.where(anew & current.notna(), current.fillna(-1) + 1, current.fillna(0))
    rows["history"] = rows["history"].astype("int32")
    since = rows["entity"].map(newest["since"]).where(rows["history"] > 0)
    rows["known_at"] = rows["known_at"].where(~(since > rows["known_at"]), since)
    return rows


def append(
    warehouse: Warehouse, staged: Staged, rows: pd.DataFrame, raw: RawTable, run_id: str
) -> None:
    """Append stamped rows to their raw table; call inside a transaction.

    Rows go in by date, then entity, whatever the order of the delivery. Nights append by date
    too, so that a table lies by date as a whole, but for corrections: DuckDB skips row groups
    by their smallest and largest date, and a read of the newest sessions touches the end only.
    """
    if rows.empty:
        return
    source = staged.source
    constants: dict[str, Any] = {
        "source": source.name,
        "ingested_at": staged.fetched_at,
        "run_id": run_id,
    }
    carried = [raw.entity, *(name for name in raw.values if name in rows), "known_at"]
    if source.kind == "bars":
        constants["adjustment"] = source.adjustment
        carried.append("history")
    with warehouse.relation(rows[[*carried, raw.date]]) as incoming:
        warehouse.native.execute(
            f"""
            INSERT INTO {raw.name} BY NAME
            SELECT {", ".join(f"${name} AS {name}" for name in constants)},
                {", ".join(carried)}, CAST({raw.date} AS DATE) AS {raw.date}
            FROM {incoming}
            ORDER BY {raw.date}, {raw.entity}
            """,
            constants,
        )


def quarantine(
    warehouse: Warehouse, staged: Staged, rejected: pd.DataFrame, raw: RawTable, run_id: str
) -> None:
    """Keep each rejected row once, with the rule and the reason.

    The rows are read from the staged file: `compare` hashes them there, and a number that
    went through a frame may be written in another way.
    """
    if rejected.empty:
        return
    columns = set(rejected.columns)
    verdicts = rejected[["rule", "reason"]].assign(position=rejected.index.to_numpy())
    with warehouse.relation(verdicts) as incoming:
        warehouse.native.execute(
            f"""
            INSERT INTO raw.quarantine
            SELECT $1, $2, CAST(r.{raw.entity} AS VARCHAR), TRY_CAST(r.{raw.date} AS DATE),
                v.rule, v.reason, {_row_json("r", raw, columns)},
                {_row_hash("r", raw, columns)} AS row_hash, $3, $4
            FROM read_parquet($5, file_row_number = true) r
            JOIN {incoming} v ON v.position = r.file_row_number
            ANTI JOIN raw.quarantine q
                ON q.source = $1 AND q.rule = v.rule AND q.row_hash = {_row_hash("r", raw, columns)}
            """,
            (
                staged.source.name,
                staged.source.kind,
                staged.fetched_at,
                run_id,
                str(staged.rows),
            ),
        )


def append_actions(warehouse: Warehouse, staged: Staged, night: Night, run_id: str) -> None:
    """Append corporate actions that are new or changed; call inside a transaction.

    An action is known from its ex-date on, or from the `known_at` that came with it. One whose
    factor changed is a new vintage, known from the time it was fetched, unless it came with a
    later `known_at` than the stored one has. One that is no longer delivered stays.
    """
    if staged.actions is None:
        return
    warehouse.native.execute(
        f"""
        INSERT INTO {corporate_actions.fullname}
            (source, entity, ex_date, kind, factor, known_at, ingested_at, run_id)
        WITH delivered AS ({_delivered_actions(staged.actions)}),
        stored AS ({_STORED_ACTIONS})
        SELECT $source, entity, ex_date, kind, d.factor,
            CASE
                WHEN s.known_at IS NULL THEN coalesce(d.known_at, ex_date::TIMESTAMPTZ)
                WHEN d.known_at > s.known_at THEN d.known_at
                ELSE greatest($now, s.known_at)
            END,
            $fetched_at, $run_id
        FROM delivered d
        LEFT JOIN stored s USING (entity, ex_date, kind)
        WHERE d.factor IS DISTINCT FROM s.factor
        ORDER BY ex_date, entity, kind
        """,
        {
            "source": staged.source.name,
            "actions": str(staged.actions),
            "now": night.now,
            "fetched_at": staged.fetched_at,
            "run_id": run_id,
        },
    )


def newest_actions(warehouse: Warehouse, staged: Staged) -> pd.DataFrame:
    """Corporate actions of the source as they stand with this delivery: `ACTION_COLUMNS`."""
    columns = ", ".join(ACTION_COLUMNS)
    parameters = {"source": staged.source.name}
    if staged.actions is None:
        return warehouse.native.execute(
            f"SELECT {columns} FROM ({_STORED_ACTIONS})", parameters
        ).df()
    return warehouse.native.execute(
        f"""
        WITH delivered AS ({_delivered_actions(staged.actions)}),
        stored AS ({_STORED_ACTIONS})
        SELECT {columns} FROM delivered
        UNION ALL
        SELECT {columns} FROM stored ANTI JOIN delivered USING (entity, ex_date, kind)
        """,
        parameters | {"actions": str(staged.actions)},
    ).df()


_STORED_ACTIONS = f"""
    -- one row per (entity, ex_date, kind) of $source: its newest vintage
    SELECT entity, ex_date, kind, factor, known_at
    FROM {corporate_actions.fullname}
    WHERE source = $source
    QUALIFY row_number() OVER (
        PARTITION BY entity, ex_date, kind
        ORDER BY known_at DESC, ingested_at DESC, rowid DESC
    ) = 1
"""


def _delivered_actions(path: Path) -> str:
    """SQL of the actions in $actions, as `_STORED_ACTIONS`; several of one key are one.

    They are sorted before they are summed: a sum that depends on the order of its terms would
    be another factor, and a vintage, every other night.
    """
    given = "known_at" in pq.read_schema(path).names
    known_at = "CAST(known_at AS TIMESTAMPTZ)" if given else "NULL::TIMESTAMPTZ"
    return f"""
        -- one row per (entity, ex_date, kind)
        SELECT entity, ex_date, kind, known_at,
            CASE kind
                WHEN 'split' THEN list_reduce(factors, lambda one, other: one * other)
                ELSE list_reduce(factors, lambda one, other: one + other)
            END AS factor
        FROM (
            SELECT entity, CAST(ex_date AS DATE) AS ex_date, kind, max({known_at}) AS known_at,
                list_sort(list(DISTINCT factor)) AS factors
            FROM read_parquet($actions)
            GROUP BY ALL
        )
    """
