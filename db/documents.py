"""Taking over documents: texts with a time of their own.

A document is known from its own time on; one whose text changed later is a new vintage,
known from the time it was fetched. Times without a zone are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.clock import Night
from db.quality.rules import Result
from db.staging import Staged

if TYPE_CHECKING:
    from db.warehouse import Warehouse


@dataclass(frozen=True)
class DocumentRule:
    """A rule that every document must pass; `fails` is SQL over the judged rows."""

    name: str
    column: str
    reason: str
    fails: str


RULES = (
    DocumentRule(
        "document_id_given",
        "document_id",
        "document_id is missing or blank",
        "coalesce(trim(document_id), '') = ''",
    ),
    DocumentRule(
        "time_readable",
        "time",
        "time is missing or cannot be read as an instant",
        "instant IS NULL",
    ),
    DocumentRule("not_future", "time", "time lies after the fetch", "instant > $fetched_at"),
    DocumentRule("text_given", "text", "text is missing or blank", "coalesce(trim(text), '') = ''"),
    DocumentRule(
        "duplicate", "document_id", "repeats an earlier row in every column", "repeats > 1"
    ),
    DocumentRule(
        "conflict",
        "document_id",
        "another row has the same document_id but other values",
        "NOT repeats > 1 AND versions > 1",
    ),
)


@dataclass(frozen=True)
class TakenOver:
    """Counts of one delivery; rows that were in quarantine before count as quarantined."""

    appended: int
    unchanged: int
    quarantined: int
    results: list[Result]


def take_over_documents(
    warehouse: Warehouse, staged: Staged, night: Night, run_id: str
) -> TakenOver:
    """Judge staged documents and append what is good; call inside a transaction."""
    _judge(warehouse, staged)
    counts = dict(warehouse.sql("SELECT status, count(*) FROM judged_documents GROUP BY status"))
    results = [_result(warehouse, staged, rule) for rule in RULES]
    parameters = {
        "source": staged.source.name,
        "fetched_at": staged.fetched_at,
        "now": night.now,
        "run_id": run_id,
    }
    warehouse.native.execute(
        """
        INSERT INTO raw.documents
        SELECT $source, document_id, entity, instant, text,
            CASE status WHEN 'changed' THEN greatest(instant, $now) ELSE instant END,
            $fetched_at, $run_id
        FROM judged_documents
        WHERE status IN ('new', 'changed')
        """,
        parameters,
    )
    del parameters["now"]
    warehouse.native.execute(
        """
        INSERT INTO raw.quarantine
        SELECT $source, 'documents', coalesce(entity, document_id), CAST(instant AS DATE),
            rule, reason, content, row_hash, $fetched_at, $run_id
        FROM judged_documents
        WHERE status = 'rejected'
        """,
        parameters,
    )
    return TakenOver(
        appended=counts.get("new", 0) + counts.get("changed", 0),
        unchanged=counts.get("unchanged", 0),
        quarantined=counts.get("rejected", 0) + counts.get("held", 0),
        results=results,
    )


def _judge(warehouse: Warehouse, staged: Staged) -> None:
    """One row per staged document: its status, and the rule and reason if it is rejected."""
    rule = " ".join(f"WHEN {rule.fails} THEN '{rule.name}'" for rule in RULES)
    reason = " ".join(f"WHEN '{rule.name}' THEN '{rule.reason}'" for rule in RULES)
    warehouse.native.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE judged_documents AS
        WITH incoming AS (
            SELECT CAST(document_id AS VARCHAR) AS document_id,
                CAST(entity AS VARCHAR) AS entity, CAST(text AS VARCHAR) AS text,
                CAST(time AS VARCHAR) AS time,
                TRY_CAST(CAST(time AS VARCHAR) AS TIMESTAMPTZ) AS instant
            FROM read_parquet($rows)
        ),
        compared AS (
            SELECT *,
                row_number() OVER (PARTITION BY document_id, entity, time, text) AS repeats,
                count(DISTINCT (entity, time, text)) OVER (PARTITION BY document_id) AS versions,
                json_object('document_id', document_id, 'entity', entity, 'time', time,
                    'text', text) AS content,
                md5(CAST(content AS VARCHAR)) AS row_hash
            FROM incoming
        ),
        ruled AS (SELECT *, CASE {rule} END AS rule FROM compared),
        stored AS (
            SELECT document_id, entity, time AS stored_time, text AS stored_text
            FROM raw.documents_as_of('infinity'::TIMESTAMPTZ)
            WHERE source = $source
        )
        SELECT r.*, CASE r.rule {reason} END AS reason,
            CASE
                WHEN r.rule = 'duplicate' AND s.document_id IS NOT NULL THEN 'unchanged'
                WHEN q.row_hash IS NOT NULL THEN 'held'
                WHEN r.rule IS NOT NULL THEN 'rejected'
                WHEN s.document_id IS NULL THEN 'new'
                WHEN s.stored_text = r.text AND s.stored_time = r.instant
                    AND s.entity IS NOT DISTINCT FROM r.entity THEN 'unchanged'
                ELSE 'changed'
            END AS status
        FROM ruled r
        LEFT JOIN stored s USING (document_id)
        LEFT JOIN (
            SELECT DISTINCT row_hash FROM raw.quarantine WHERE source = $source
        ) q ON q.row_hash = r.row_hash AND r.rule IS NOT NULL
        """,
        {
            "rows": str(staged.rows),
            "source": staged.source.name,
            "fetched_at": staged.fetched_at,
        },
    )


def _result(warehouse: Warehouse, staged: Staged, rule: DocumentRule) -> Result:
    found = warehouse.one(
        "SELECT count(*), count(*) FILTER (WHERE rule = ?) FROM judged_documents", rule.name
    )
    assert found is not None
    evaluated, unexpected = found
    return Result(
        suite=f"{staged.source.name}.rows",
        rule=rule.name,
        expectation="",
        column=rule.column,
        level="row",
        success=unexpected == 0,
        evaluated=evaluated,
        unexpected=unexpected,
        detail=rule.reason if unexpected else "",
    )
