"""What a night did, for people, programs and Prefect's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.ingest import Delivery
from db.publishing import query_published
from db.settings import Settings
from features.materialize import Materialized
from flows.display import cell
from signals.declaration import SIGNALS
from signals.scoring import Scored

if TYPE_CHECKING:
    from db.quality.rules import Result
    from flows.steps import Run
    from models.registry import ModelVersion

LATEST = """
    SELECT s.signal, s.entity, s.as_of, s.horizon, s.horizon_unit, s.value, s.known_at,
        s.tradable_from, s.model_version, s.age, v.declaration ->> '$.target' AS target,
        s.feature_view || '_' || s.feature_version AS feature_table
    FROM signals_latest s
    JOIN feature_views v ON v.view = s.feature_view AND v.version = s.feature_version
    ORDER BY s.signal, s.entity, s.horizon
"""

# Of a signal with many entities a page shows the highest and the lowest values.
SHOWN_OF_A_SIGNAL = 30


@dataclass(frozen=True)
class Check:
    """One rule that did not hold."""

    source: str
    rule: str
    unexpected: int
    detail: str


@dataclass(frozen=True)
class NightReport:
    """What one night did; `seconds` is Lookback's own work, orchestration apart."""

    run_id: str
    session: date
    cutoff: datetime
    profile: str
    exit_code: int
    missing: tuple[str, ...]
    deliveries: tuple[Delivery, ...]
    rules_checked: int
    failed_checks: tuple[Check, ...]
    views: tuple[Materialized, ...]
    trained: tuple[dict[str, Any], ...]
    scored: tuple[Scored, ...]
    signals: tuple[dict[str, Any], ...]
    data_docs: str | None
    published: str
    seconds: float
    page: str | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        deliveries: Sequence[Delivery],
        results: Sequence[tuple[str, Result]],
        views: Sequence[Materialized],
        trained: Sequence[ModelVersion],
        scored: Sequence[Scored],
        published: Path,
        exit_code: int,
        page: Path | None = None,
    ) -> NightReport:
        """The report of a finished run; signals are read back from what was published."""
        docs = run.settings.data_docs / "index.html"
        return cls(
            run.run_id,
            run.night.session,
            run.night.cutoff,
            run.settings.profile,
            exit_code,
            tuple(run.missing),
            tuple(deliveries),
            len(results),
            tuple(
                Check(source, result.rule, result.unexpected, result.detail or "")
                for source, result in results
                if not result.success
            ),
            tuple(views),
            tuple(version.summary for version in trained),
            tuple(scored),
            tuple(latest_signals(run.settings)),
            str(docs) if docs.exists() else None,
            str(published),
            run.work.seconds,
            str(page) if page is not None else None,
        )


def latest_signals(settings: Settings) -> list[dict[str, Any]]:
    """Rows of `signals_latest` in the newest publication; `last` is the target as of then.

    A signal of texts has no `last`: it forecasts no sentiment, it orders symbols by it.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    columns, rows = query_published(settings, LATEST)
    signals = [dict(zip(columns, row, strict=True)) for row in rows]
    of_texts = {each.name for each in SIGNALS.values() if each.is_of_texts}
    known: dict[tuple[str, str], dict[tuple[str, date], float]] = {}
    for row in signals:
        of = (row.pop("feature_table"), row.pop("target"))
        if row["signal"] in of_texts:
            row["last"] = None
            continue
        if of not in known:
            known[of] = _newest_values(settings, *of)
        row["last"] = known[of].get((row["entity"], row["as_of"]))
    return signals


def _newest_values(settings: Settings, table: str, feature: str) -> dict[tuple[str, date], float]:
    """Values of a feature on the dates that newest signals stand for, by entity and date."""
    query = f"""
        SELECT entity, date, {feature}
        FROM features.{table}
        WHERE known_until IS NULL AND date IN (SELECT DISTINCT as_of FROM signals_latest)
    """
    _, found = query_published(settings, query)
    return {(entity, day): value for entity, day, value in found}


def night_markdown(report: NightReport) -> str:
    """The night as Markdown, for the artifact on Prefect's page."""
    lines = [
        f"## Night of {report.session}",
        f"Cut-off {report.cutoff:%Y-%m-%d %H:%M} UTC · profile {report.profile} · "
        f"run `{report.run_id}` · {report.seconds:.1f} s of work",
        "",
        *(f"- **missing** {line}" for line in report.missing),
        "",
        *([f"[Report]({Path(report.page).as_uri()}): `{report.page}`", ""] if report.page else []),
        "### Signals",
        "| signal | entity | as of | horizon | value | last | tradable from | model version |",
        "|---|---|---|---|---:|---:|---|---|",
        *(
            f"| {row['signal']} | {row['entity']} | {row['as_of']} | "
            f"{row['horizon']} {row['horizon_unit']} | {cell(row['value'])} | "
            f"{cell(row['last'])} | {row['tradable_from']} | {row['model_version']} |"
            for row in extremes(report.signals)
        ),
        "",
        "### Sources",
        "| source | status | fetched | unchanged | appended | quarantined |",
        "|---|---|---:|---:|---:|---:|",
        *(
            f"| {row.source} | {row.status} | {row.fetched:,} | {row.unchanged:,} | "
            f"{row.appended:,} | {row.quarantined:,} |"
            for row in report.deliveries
        ),
        "",
        f"### Validation: {report.rules_checked} checks, {len(report.failed_checks)} failed",
        *(
            f"- {check.source}: {check.rule}, {check.unexpected:,} rows {check.detail}"
            for check in report.failed_checks
        ),
    ]
    return "\n".join(lines)


def extremes(signals: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a page: of a signal with many of them the highest and the lowest."""
    shown: list[dict[str, Any]] = []
    for _, rows in groupby(signals, key=lambda row: row["signal"]):
        ordered = list(rows)
        if len(ordered) > SHOWN_OF_A_SIGNAL:
            ordered.sort(key=lambda row: row["value"], reverse=True)
            half = SHOWN_OF_A_SIGNAL // 2
            ordered = ordered[:half] + ordered[-half:]
        shown += ordered
    return shown


@dataclass(frozen=True)
class TrainReport:
    """What one weekly training did."""

    run_id: str
    session: date
    exit_code: int
    missing: tuple[str, ...]
    trained: tuple[dict[str, Any], ...]
    published: str
    seconds: float
