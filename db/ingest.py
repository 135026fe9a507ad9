"""Taking over what a source delivers: stage, compare, validate, append; nothing is lost.

    fetched = unchanged + appended + quarantined

holds for every delivery and is recorded in `ops.deliveries`. Everything that one delivery
writes is one transaction: killed anywhere, the store is as before or complete.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from db import judgements, vintages
from db.clock import Night
from db.documents import FileRows, TakenOver, append_documents, compare_documents
from db.errors import QualityError
from db.memberships import append_memberships
from db.mentions import company_names
from db.raw_tables import RAW
from db.sessions import Sessions
from db.sources.source import Source, publishes_vintages
from db.staging import Staged
from db.tables import (
    deliveries,
    freshness,
    validation_results,
    watermarks,
)

if TYPE_CHECKING:
    from db.quality.gate import Verdict
    from db.quality.rules import Result
    from db.warehouse import Warehouse

# Sessions of stored history that are put before an increment to judge its price breaks.
JUDGED_HISTORY = 400
# Sessions before this have too little calendar before them to look back on.
FIRST_JUDGED = date(1965, 1, 1)


@dataclass(frozen=True)
class Delivery:
    """What became of a delivery; `fetched = unchanged + appended + quarantined`.

    `files` counts the same for each file of documents.
    """

    source: str
    kind: str
    status: str
    fetched: int = 0
    unchanged: int = 0
    appended: int = 0
    quarantined: int = 0
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    files: tuple[FileRows, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing of the source is missing tonight."""
        return self.status in ("ok", "unchanged") and not self.problems


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

    if staged.source.kind == "documents":
        return _take_over_documents(warehouse, staged, night, calendar, run_id, docs)
    if staged.source.kind == "memberships":
        return _take_over_memberships(warehouse, staged, night, calendar, run_id), []
    started = time.perf_counter()
    source = staged.source
    raw = RAW[source.kind]
    frame = pd.read_parquet(staged.rows)
    status = vintages.compare(warehouse, staged)
    anew = vintages.restated_whole(staged, frame, status, raw)
    judged = status.isin(["new", "changed"]) | anew | vintages.contested(frame, status, raw)
    increment = frame[judged.to_numpy()]
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
            marked_missing=staged.marked_missing,
            vintages=publishes_vintages(source),
        ),
        docs,
    )
    rows = vintages.stamp(warehouse, staged, verdict.accepted, status, anew, night, calendar)
    held = int(((status == "held") & ~judged).sum())
    delivery = Delivery(
        source.name,
        source.kind,
        _status(verdict, staged, len(rows)),
        fetched=len(frame),
        unchanged=len(frame) - len(increment) - held,
        appended=len(rows),
        quarantined=len(verdict.rejected) + held,
        problems=tuple(line for line in (*staged.problems, verdict.stopped, verdict.stale) if line),
        seconds=staged.seconds + time.perf_counter() - started,
    )
    _require_balance(delivery)
    with warehouse.transaction():
        vintages.append(warehouse, staged, rows, raw, run_id)
        vintages.quarantine(warehouse, staged, verdict.rejected, raw, run_id)
        vintages.append_actions(warehouse, staged, night, run_id)
        refused = verdict.rejected[(status == "changed").to_numpy()[verdict.rejected.index]]
        judgements.keep(warehouse, staged, verdict.breaks, rows, refused, night, calendar, run_id)
        _record(warehouse, staged, verdict.results, night, run_id, delivery)
        if not verdict.stopped:
            _advance(warehouse, staged)
        _measure_freshness(warehouse, source, night, verdict.stale or "", calendar)
    return delivery, verdict.results


def _take_over_documents(
    warehouse: Warehouse,
    staged: Staged,
    night: Night,
    calendar: Sessions,
    run_id: str,
    docs: Path | None,
) -> tuple[Delivery, list[Result]]:
    """Documents are judged row by row; a folder without new ones is no defect."""
    started = time.perf_counter()
    source = staged.source
    compared = compare_documents(warehouse, staged)
    judged = compared.judged
    verdict = _judge_documents(warehouse, staged, judged, night, calendar, docs)
    names = company_names(warehouse.settings)
    with warehouse.transaction():
        taken = append_documents(warehouse, staged, compared, verdict, names, night, run_id)
        stopped = verdict.stopped if verdict is not None else None
        delivery = Delivery(
            source.name,
            source.kind,
            _documents_status(taken, staged, stopped),
            fetched=staged.fetched,
            unchanged=taken.unchanged,
            appended=taken.appended,
            quarantined=taken.quarantined,
            problems=tuple(line for line in (*staged.problems, stopped) if line),
            seconds=staged.seconds + time.perf_counter() - started,
            files=taken.files,
        )
        _require_balance(delivery)
        results = verdict.results if verdict is not None else []
        _record(warehouse, staged, results, night, run_id, delivery)
        if not stopped:
            _advance(warehouse, staged)
        _measure_freshness(warehouse, source, night, "", calendar)
    return delivery, results


def _judge_documents(
    warehouse: Warehouse,
    staged: Staged,
    judged: pd.DataFrame,
    night: Night,
    calendar: Sessions,
    docs: Path | None,
) -> Verdict | None:
    """The gate's verdict; None without new rows: the Data Docs of an earlier hour stand."""
    from db.quality.gate import Batch, Limits, validate

    if judged.empty:
        return None
    source = staged.source
    return validate(
        Batch(
            source=source.name,
            kind=source.kind,
            frequency=source.frequency,
            adjustment=source.adjustment,
            frame=judged,
            session=night.session,
            until=night.cutoff,
            # what came out while a source was read is no more in the future than the source
            fetched_at=night.now if night.replayed else max(night.now, staged.fetched_at),
            sessions=calendar,
            availability=source.availability,
        ),
        docs,
        limits=Limits(document_bytes=int(warehouse.settings.document_max_kilobytes * 1000)),
    )


def _documents_status(taken: TakenOver, staged: Staged, stopped: str | None) -> str:
    if stopped:
        return "stopped"
    if staged.problems:
        return "partial"
    return "ok" if taken.appended or taken.quarantined else "unchanged"


def _take_over_memberships(
    warehouse: Warehouse, staged: Staged, night: Night, calendar: Sessions, run_id: str
) -> Delivery:
    """Spells come from files that were refused whole where a row is wrong: none is judged here."""
    started = time.perf_counter()
    source = staged.source
    with warehouse.transaction():
        appended = append_memberships(warehouse, staged, night, run_id)
        delivery = Delivery(
            source.name,
            source.kind,
            "partial" if staged.problems else "ok" if appended else "unchanged",
            fetched=staged.fetched,
            unchanged=staged.fetched - appended,
            appended=appended,
            problems=staged.problems,
            seconds=staged.seconds + time.perf_counter() - started,
        )
        _require_balance(delivery)
        _record(warehouse, staged, [], night, run_id, delivery)
        _advance(warehouse, staged)
        _measure_freshness(warehouse, source, night, "", calendar)
    return delivery


def record_failure(warehouse: Warehouse, source: Source, problem: str, run_id: str) -> Delivery:
    """Remember that a source gave nothing tonight."""
    delivery = Delivery(source.name, source.kind, "failed", problems=(problem,))
    with warehouse.transaction():
        warehouse.insert(deliveries, _delivery_row(delivery, run_id))
    return delivery


def _history(
    warehouse: Warehouse, source: Source, increment: pd.DataFrame, calendar: Sessions
) -> pd.DataFrame | None:
    """Stored rows before and around an increment, for judging its breaks and row count.

    For an empty increment the newest date of each entity: enough to say whether it is stale.
    """
    raw = RAW[source.kind]
    if increment.empty:
        history = warehouse.frame(
            f"""
            SELECT {raw.entity}, CAST(max({raw.date}) AS TIMESTAMP) AS {raw.date},
                {", ".join(f"NULL::DOUBLE AS {name}" for name in raw.values)}
            FROM {raw.name}
            WHERE source = $1
            GROUP BY {raw.entity}
            """,
            source.name,
        )
        return history if len(history) else None
    first = pd.to_datetime(increment[raw.date], errors="coerce", format="mixed").min()
    start: date | None = None
    if not pd.isna(first) and source.frequency == "session":
        start = calendar.offset(max(first.date(), FIRST_JUDGED), -JUDGED_HISTORY)
    history = warehouse.frame(
        f"""
        SELECT * REPLACE (CAST({raw.date} AS TIMESTAMP) AS {raw.date})
        FROM ({raw.current("CAST($2 AS DATE)")})
        ORDER BY {raw.entity}, {raw.date}
        """,
        source.name,
        start,
    )
    return history if len(history) else None


def _actions(warehouse: Warehouse, staged: Staged) -> pd.DataFrame | None:
    """Newest corporate actions of the source, those of this delivery included."""
    if staged.source.kind != "bars" or staged.source.adjustment != "raw":
        return None
    actions = vintages.newest_actions(warehouse, staged)
    return actions if len(actions) else None


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
    results: list[Result],
    night: Night,
    run_id: str,
    delivery: Delivery,
) -> None:
    """Keep validation results and what became of the delivery."""
    warehouse.insert(deliveries, _delivery_row(delivery, run_id))
    rows = pd.DataFrame(
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
            for result in results
        ]
    )
    warehouse.append(validation_results, rows)


def _advance(warehouse: Warehouse, staged: Staged) -> None:
    """Remember how far the source has been taken over."""
    raw = RAW[staged.source.kind]
    newest = warehouse.one(
        f"SELECT CAST(max({raw.date}) AS DATE) FROM {raw.name} WHERE source = ?",
        staged.source.name,
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
        SELECT count(DISTINCT {raw.entity}), count(*), CAST(min({raw.date}) AS DATE),
            CAST(max({raw.date}) AS DATE),
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
            "stale": bool(stale) or (not rows and source.kind in ("bars", "observations")),
            "session": night.session,
            "detail": stale,
        },
    )
