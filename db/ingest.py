"""Taking over what a source delivers: stage, compare, validate, append; nothing is lost.

    fetched = unchanged + appended + quarantined

holds for every delivery and is recorded in `ops.deliveries`. Everything that one delivery
writes is one transaction: killed anywhere, the store is as before or complete.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from db.clock import Night
from db.errors import QualityError, SourceError
from db.sessions import Sessions
from db.sources.source import ACTION_COLUMNS, Fetched, Kind, Request, Source
from db.tables import (
    corporate_actions,
    deliveries,
    freshness,
    price_breaks,
    validation_results,
    watermarks,
)

if TYPE_CHECKING:
    from db.quality.gate import Verdict
    from db.quality.rules import Result
    from db.warehouse import Warehouse

# Sessions of stored history that are put before an increment to judge its price breaks.
JUDGED_HISTORY = 400
HELD = "table: "
# Sessions before this have too little calendar before them to look back on.
FIRST_JUDGED = date(1965, 1, 1)


@dataclass(frozen=True)
class RawTable:
    """How one kind of rows is stored: its table, key and values."""

    name: str
    entity: str
    date: str
    values: tuple[str, ...]
    as_of: str


RAW: dict[Kind, RawTable] = {
    "bars": RawTable(
        "raw.bars",
        "entity",
        "session",
        ("open", "high", "low", "close", "adj_close", "volume"),
        "raw.bars_as_of",
    ),
    "observations": RawTable(
        "raw.observations", "series", "period", ("value",), "raw.observations_as_of"
    ),
}


@dataclass(frozen=True)
class Staged:
    """What a source delivered, on disk, not yet taken over."""

    source: Source
    request: Request
    rows: Path
    actions: Path | None
    fetched: int
    problems: tuple[str, ...]
    state: dict[str, Any]
    fetched_at: datetime
    seconds: float


@dataclass(frozen=True)
class Delivery:
    """What became of a delivery; `fetched = unchanged + appended + quarantined`."""

    source: str
    kind: str
    status: str
    fetched: int = 0
    unchanged: int = 0
    appended: int = 0
    quarantined: int = 0
    problems: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing of the source is missing tonight."""
        return self.status in ("ok", "unchanged") and not self.problems


def request_for(warehouse: Warehouse, source: Source, night: Night, calendar: Sessions) -> Request:
    """Only what is new since the source's watermark, with an overlap for restatements."""
    found = warehouse.one(
        "SELECT last_date, state FROM ops.watermarks WHERE source = ?", source.name
    )
    if found is None:
        return Request(start=None, until=night.now)
    last_date, state = found
    start = None
    if last_date is not None:
        start = calendar.offset(last_date, -warehouse.settings.overlap_sessions)
        if source.frequency == "month":
            # revisions of monthly series reach back for months
            start = (pd.Timestamp(last_date) - pd.DateOffset(months=12)).date()
    return Request(start=start, until=night.now, state=json.loads(state))


def stage(source: Source, request: Request, folder: Path) -> Staged:
    """Fetch and put the rows on disk; holds no lock and touches no table.

    Raises
    ------
    SourceError
        The source gave no usable answer.
    """
    started = time.perf_counter()
    fetched_at = datetime.now(UTC)
    fetched: Fetched = source.fetch(request)
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / f"{source.name}.parquet"
    _in_full(fetched.frame, source).to_parquet(rows, index=False)
    actions = None
    if fetched.actions is not None and len(fetched.actions):
        actions = folder / f"{source.name}.actions.parquet"
        fetched.actions[list(ACTION_COLUMNS)].to_parquet(actions, index=False)
    return Staged(
        source,
        request,
        rows,
        actions,
        len(fetched.frame),
        fetched.problems,
        dict(fetched.state),
        fetched_at,
        time.perf_counter() - started,
    )


def _in_full(frame: pd.DataFrame, source: Source) -> pd.DataFrame:
    """All columns of the kind; those that the vendor does not have are blank."""
    raw = RAW[source.kind]
    missing = {raw.entity, raw.date} - set(frame.columns)
    if missing:
        raise SourceError(f"{source.name} delivered no column {', '.join(sorted(missing))}")
    columns = [raw.entity, raw.date, *raw.values]
    blank = {name: np.nan for name in columns if name not in frame}
    extra = ["known_at"] if "known_at" in frame else []
    return frame.assign(**blank)[[*columns, *extra]]


def stage_whole(staged: Staged, entities: Sequence[str]) -> Staged:
    """The same delivery with the whole history of `entities` instead of its newest part.

    Raises
    ------
    SourceError
        The source gave no usable answer.
    """
    whole = replace(staged.request, start=None, entities=entities)
    anew = stage(staged.source, whole, staged.rows.parent / "whole")
    frame = pd.read_parquet(staged.rows)
    others = frame[~frame[RAW[staged.source.kind].entity].isin(entities)]
    combined = pd.concat([others, pd.read_parquet(anew.rows)], ignore_index=True)
    combined.to_parquet(staged.rows, index=False)
    return replace(staged, fetched=len(combined), seconds=staged.seconds + anew.seconds)


def restated(warehouse: Warehouse, staged: Staged) -> tuple[str, ...]:
    """Entities whose adjusted history changed: it must be taken over whole.

    A new dividend changes every adjusted price before it. Mixing old and new rows would
    make a return that never was, so the whole history is fetched again.
    """
    source = staged.source
    if source.kind != "bars" or source.adjustment == "raw" or not staged.fetched:
        return ()
    status = _compare(warehouse, staged)
    entities = pd.read_parquet(staged.rows, columns=["entity"])["entity"]
    changed = entities[(status == "changed").to_numpy()]
    return tuple(sorted(changed.unique()))


def take_over(
    warehouse: Warehouse,
    staged: Staged,
    night: Night,
    calendar: Sessions,
    run_id: str,
    docs: Path | None = None,
) -> tuple[Delivery, list[Result]]:
    """Validate a staged delivery and append what is good, in one transaction.

    Rows that the store already has, value for value, are passed over; a changed value is
    appended as a new vintage, known from the time it was fetched.
    """
    from db.quality.gate import Batch, validate

    started = time.perf_counter()
    source = staged.source
    raw = RAW[source.kind]
    frame = pd.read_parquet(staged.rows)
    status = _compare(warehouse, staged)
    anew = _restated_whole(staged, frame, status, raw)
    increment = frame[((status != "unchanged") & (status != "held") | anew).to_numpy()]
    verdict = validate(
        Batch(
            source=source.name,
            kind=source.kind,
            frequency=source.frequency,
            adjustment=source.adjustment,
            frame=increment,
            history=_history(warehouse, source, increment, calendar),
            actions=_actions(warehouse, staged),
            session=night.session,
            until=night.cutoff,
            fetched_at=staged.fetched_at,
            sessions=calendar,
            availability=source.availability,
        ),
        docs,
    )
    vintages = _vintages(warehouse, staged, verdict.accepted, status, anew, night, calendar)
    held = int((status == "held").sum())
    delivery = Delivery(
        source.name,
        source.kind,
        _status(verdict, staged, len(vintages)),
        fetched=len(frame),
        unchanged=len(frame) - len(increment) - held,
        appended=len(vintages),
        quarantined=len(verdict.rejected) + held,
        problems=tuple(line for line in (*staged.problems, verdict.stopped, verdict.stale) if line),
        seconds=staged.seconds + time.perf_counter() - started,
    )
    _require_balance(delivery)
    with warehouse.transaction():
        _append(warehouse, staged, vintages, raw, run_id)
        _quarantine(warehouse, staged, verdict.rejected, raw, run_id)
        _append_actions(warehouse, staged, run_id)
        _keep_breaks(warehouse, staged, verdict.breaks, increment, calendar, run_id)
        _record(warehouse, staged, verdict, night, run_id, delivery)
        _measure_freshness(warehouse, source, night, verdict.stale or "", calendar)
    return delivery, verdict.results


def record_failure(warehouse: Warehouse, source: Source, problem: str, run_id: str) -> Delivery:
    """Remember that a source gave nothing tonight."""
    delivery = Delivery(source.name, source.kind, "failed", problems=(problem,))
    with warehouse.transaction():
        warehouse.insert(deliveries, _delivery_row(delivery, run_id))
    return delivery


# --------------------------------------------------------------------------- comparing


def _compare(warehouse: Warehouse, staged: Staged) -> pd.Series:
    """Status of every staged row: new, changed, unchanged, or held (in quarantine already)."""
    source = staged.source
    raw = RAW[source.kind]
    statuses = pd.Series("new", index=range(staged.fetched), dtype="object")
    if not staged.fetched:
        return statuses
    stored = warehouse.one(
        f"""
        SELECT EXISTS (FROM {raw.name} WHERE source = $1)
            OR EXISTS (FROM raw.quarantine WHERE source = $1)
        """,
        source.name,
    )
    if stored is None or not stored[0]:
        return statuses
    columns = {name for (name, *_) in warehouse.sql(f"DESCRIBE FROM '{staged.rows}'")}
    values = [name for name in raw.values if name in columns]
    same = " AND ".join(
        f"TRY_CAST(i.{name} AS DOUBLE) IS NOT DISTINCT FROM s.{name}" for name in values
    )
    found = warehouse.frame(
        f"""
        WITH incoming AS (
            SELECT *, row_number() OVER () - 1 AS position FROM read_parquet($2)
        ),
        stored AS (
            SELECT {raw.entity}, {raw.date}, {", ".join(raw.values)}
            FROM {raw.as_of}('infinity'::TIMESTAMPTZ)
            WHERE source = $1
        )
        SELECT i.position,
            CASE
                WHEN q.row_hash IS NOT NULL THEN 'held'
                WHEN s.{raw.entity} IS NULL THEN 'new'
                WHEN {same} THEN 'unchanged'
                ELSE 'changed'
            END AS status
        FROM incoming i
        LEFT JOIN stored s
            ON s.{raw.entity} = i.{raw.entity} AND s.{raw.date} = TRY_CAST(i.{raw.date} AS DATE)
        LEFT JOIN (
            SELECT DISTINCT row_hash
            FROM raw.quarantine
            WHERE source = $1 AND NOT starts_with(rule, '{HELD}')
        ) q ON q.row_hash = {_row_hash("i", raw, columns)}
        ORDER BY i.position
        """,
        source.name,
        str(staged.rows),
    )
    statuses[:] = found["status"].to_numpy()
    return statuses


def _row_json(alias: str, raw: RawTable, columns: set[str]) -> str:
    """SQL of a row as JSON: key and values as they were fetched."""
    names = [name for name in (raw.entity, raw.date, *raw.values) if name in columns]
    fields = ", ".join(f"'{name}', CAST({alias}.{name} AS VARCHAR)" for name in names)
    return f"json_object({fields})"


def _row_hash(alias: str, raw: RawTable, columns: set[str]) -> str:
    return f"md5(CAST({_row_json(alias, raw, columns)} AS VARCHAR))"


def _restated_whole(
    staged: Staged, frame: pd.DataFrame, status: pd.Series, raw: RawTable
) -> pd.Series:
    """Rows of entities whose adjusted history is taken over anew, unchanged ones included."""
    source = staged.source
    if source.kind != "bars" or source.adjustment == "raw" or not (status == "changed").any():
        return pd.Series(False, index=frame.index)
    changed = frame.loc[(status == "changed").to_numpy(), raw.entity].unique()
    return frame[raw.entity].isin(changed)


def _history(
    warehouse: Warehouse, source: Source, increment: pd.DataFrame, calendar: Sessions
) -> pd.DataFrame | None:
    """Stored rows before and around an increment, for judging its breaks and row count.

    For an empty increment the newest row of each entity: enough to say whether it is stale.
    """
    raw = RAW[source.kind]
    first = pd.to_datetime(increment[raw.date], errors="coerce").min()
    start: date | None = None
    if not pd.isna(first) and source.frequency == "session":
        start = calendar.offset(max(first.date(), FIRST_JUDGED), -JUDGED_HISTORY)
    newest_only = (
        f"QUALIFY row_number() OVER (PARTITION BY {raw.entity} ORDER BY {raw.date} DESC) = 1"
    )
    history = warehouse.frame(
        f"""
        SELECT {raw.entity}, CAST({raw.date} AS TIMESTAMP) AS {raw.date}, {", ".join(raw.values)}
        FROM {raw.as_of}('infinity'::TIMESTAMPTZ)
        WHERE source = $1 AND ({raw.date} >= $2 OR $2 IS NULL)
        {newest_only if increment.empty else ""}
        ORDER BY {raw.entity}, {raw.date}
        """,
        source.name,
        start,
    )
    return history if len(history) else None


def _actions(warehouse: Warehouse, staged: Staged) -> pd.DataFrame | None:
    """Corporate actions known of the source, those of this delivery included."""
    if staged.source.kind != "bars" or staged.source.adjustment != "raw":
        return None
    columns = ", ".join(ACTION_COLUMNS)
    stored = warehouse.frame(
        f"SELECT {columns} FROM {corporate_actions.fullname} WHERE source = ?", staged.source.name
    )
    if staged.actions is not None:
        stored = pd.concat([stored, pd.read_parquet(staged.actions)], ignore_index=True)
    return stored.drop_duplicates() if len(stored) else None


# --------------------------------------------------------------------------- appending


def _vintages(
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
    if "known_at" not in rows:
        rows["known_at"] = source.availability.known_at(rows[raw.date], calendar)
    # a changed value was not known before it was fetched
    fetched = pd.Timestamp(night.now).tz_convert("UTC").as_unit("us")
    positions = rows.index.to_numpy()
    corrected = (status.to_numpy() == "changed")[positions] | anew.to_numpy()[positions]
    rows["known_at"] = rows["known_at"].where(
        ~corrected | (rows["known_at"] > fetched).to_numpy(), fetched
    )
    if source.kind == "bars":
        rows = _with_history(warehouse, source, rows, anew.to_numpy()[positions])
    return rows


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


def _append(
    warehouse: Warehouse, staged: Staged, rows: pd.DataFrame, raw: RawTable, run_id: str
) -> None:
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
            """,
            constants,
        )


def _quarantine(
    warehouse: Warehouse, staged: Staged, rejected: pd.DataFrame, raw: RawTable, run_id: str
) -> None:
    """Keep each rejected row once, with the rule and the reason."""
    if rejected.empty:
        return
    columns = set(rejected.columns)
    rows = rejected.drop(columns=["known_at"], errors="ignore")
    with warehouse.relation(rows) as incoming:
        warehouse.native.execute(
            f"""
            INSERT INTO raw.quarantine
            SELECT $1, $2, CAST(r.{raw.entity} AS VARCHAR), TRY_CAST(r.{raw.date} AS DATE),
                r.rule, r.reason, {_row_json("r", raw, columns)},
                {_row_hash("r", raw, columns)}, $3, $4
            FROM {incoming} r
            """,
            (staged.source.name, staged.source.kind, staged.fetched_at, run_id),
        )


def _append_actions(warehouse: Warehouse, staged: Staged, run_id: str) -> None:
    """Append corporate actions that the store does not have; known from the ex-date on."""
    if staged.actions is None:
        return
    warehouse.native.execute(
        f"""
        INSERT INTO {corporate_actions.fullname}
            (source, entity, ex_date, kind, factor, known_at, ingested_at, run_id)
        SELECT $1, a.entity, CAST(a.ex_date AS DATE), a.kind, a.factor,
            CAST(CAST(a.ex_date AS DATE) AS TIMESTAMPTZ), $2, $3
        FROM read_parquet($4) a
        ANTI JOIN {corporate_actions.fullname} s
            ON s.source = $1 AND s.entity = a.entity AND s.ex_date = CAST(a.ex_date AS DATE)
            AND s.kind = a.kind AND s.factor = a.factor
        """,
        (staged.source.name, staged.fetched_at, run_id, str(staged.actions)),
    )


def _keep_breaks(
    warehouse: Warehouse,
    staged: Staged,
    breaks: pd.DataFrame,
    increment: pd.DataFrame,
    calendar: Sessions,
    run_id: str,
) -> None:
    """Store new judgements; what was resolved before the increment began stays as it was."""
    if breaks.empty or increment.empty:
        return
    source = staged.source
    first = pd.to_datetime(increment[RAW[source.kind].date], errors="coerce").min()
    fresh = breaks[breaks["resolved_session"].isna() | (breaks["resolved_session"] >= first)]
    if fresh.empty:
        return
    rule = source.availability
    rows = fresh.assign(
        known_at=rule.known_at(fresh["session"], calendar),
        resolved_at=rule.known_at(
            fresh["resolved_session"].fillna(fresh["session"]), calendar
        ).where(fresh["resolved_session"].notna()),
        source=source.name,
        ingested_at=pd.Timestamp(staged.fetched_at),
        run_id=run_id,
    )[[column.name for column in price_breaks.columns]]
    with warehouse.relation(rows) as incoming:
        warehouse.native.execute(
            f"""
            DELETE FROM {price_breaks.fullname} b
            USING {incoming} i
            WHERE b.source = i.source AND b.entity = i.entity
                AND b.session = CAST(i.session AS DATE)
            """
        )
    warehouse.append(price_breaks, rows)


# --------------------------------------------------------------------------- recording


def _status(verdict: Verdict, staged: Staged, appended: int) -> str:
    if verdict.stopped:
        return "stopped"
    if staged.problems or verdict.stale:
        return "partial"
    return "ok" if appended or len(verdict.rejected) else "unchanged"


def _require_balance(delivery: Delivery) -> None:
    accounted = delivery.unchanged + delivery.appended + delivery.quarantined
    if accounted != delivery.fetched:
        raise QualityError(
            f"{delivery.source}: {delivery.fetched} rows were fetched, but "
            f"{accounted} are accounted for; nothing was taken over"
        )


def _delivery_row(delivery: Delivery, run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "source": delivery.source,
        "status": delivery.status,
        "fetched": delivery.fetched,
        "unchanged": delivery.unchanged,
        "appended": delivery.appended,
        "quarantined": delivery.quarantined,
        "problems": list(delivery.problems),
        "seconds": delivery.seconds,
    }


def _record(
    warehouse: Warehouse,
    staged: Staged,
    verdict: Verdict,
    night: Night,
    run_id: str,
    delivery: Delivery,
) -> None:
    """Validation results, the delivery, and how far the source has been taken over."""
    warehouse.insert(deliveries, _delivery_row(delivery, run_id))
    results = pd.DataFrame(
        [
            {
                "run_id": run_id,
                "session": night.session,
                "source": staged.source.name,
                "suite": result.suite,
                "rule": result.rule,
                "expectation": result.expectation,
                "column_name": result.column,
                "level": result.level,
                "success": result.success,
                "evaluated": result.evaluated,
                "unexpected": result.unexpected,
                "detail": result.detail,
                "validated_at": staged.fetched_at,
            }
            for result in verdict.results
        ]
    )
    warehouse.append(validation_results, results)
    if verdict.stopped:
        return
    raw = RAW[staged.source.kind]
    newest = warehouse.one(
        f"SELECT max({raw.date}) FROM {raw.name} WHERE source = ?", staged.source.name
    )
    warehouse.upsert(
        watermarks,
        {
            "source": staged.source.name,
            "last_date": newest[0] if newest else None,
            "state": staged.state,
            "fetched_at": staged.fetched_at,
        },
    )


def _measure_freshness(
    warehouse: Warehouse, source: Source, night: Night, stale: str, calendar: Sessions
) -> None:
    raw = RAW[source.kind]
    found = warehouse.one(
        f"""
        SELECT count(DISTINCT {raw.entity}), count(*), min({raw.date}), max({raw.date}),
            max(known_at)
        FROM {raw.name} WHERE source = ?
        """,
        source.name,
    )
    assert found is not None
    entities, rows, first, last, known_at = found
    warehouse.upsert(
        freshness,
        {
            "source": source.name,
            "kind": source.kind,
            "entities": entities,
            "rows": rows,
            "first_date": first,
            "last_date": last,
            "last_known_at": known_at,
            "age": calendar.age(last, night.session) if last else None,
            "stale": bool(stale) or not rows,
            "session": night.session,
            "detail": stale,
        },
    )
