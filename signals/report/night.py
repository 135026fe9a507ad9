"""What a night did: its run, what came in, what was refused, how fresh the sources are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

import duckdb

from db.errors import UsageError
from signals.report.reading import Row, rows

Verdict = Literal["good", "missing", "failed"]

NIGHTS_SHOWN = 14
LISTED = 20


class Finding(Protocol):
    """One thing that `check` looked at."""

    @property
    def level(self) -> str:
        """Of good, warning, missing and failed."""

    @property
    def subject(self) -> str:
        """What was looked at."""

    @property
    def message(self) -> str:
        """What was found."""


@dataclass(frozen=True)
class Survivors:
    """Whether prices hold anything but survivors.

    Attributes
    ----------
    symbols : with prices.
    ended : those of them whose prices end a month or more before the newest.
    """

    symbols: int
    ended: int


@dataclass(frozen=True)
class Night:
    """One night, as the newest publication knows it.

    Attributes
    ----------
    session : trading day that it was for.
    run : of `runs`; None where signals come from a backfill only.
    missing : one line each.
    before : session of the night before, None for the first.
    nights : the newest nights, oldest first: session, status, seconds.
    deliveries, freshness : by source.
    quarantined : source, rule, `tonight` and `ever` rows, an example of the reason.
    checked, failed_checks : rules of the quality gate; those that did not hold.
    written : signal, `new` and `revised` rows of the run.
    promotions : changes of champion since the night before.
    survivors : None where there are no prices.
    """

    session: date
    run: Row | None
    missing: tuple[str, ...]
    before: date | None
    nights: tuple[Row, ...]
    deliveries: tuple[Row, ...]
    freshness: tuple[Row, ...]
    quarantined: tuple[Row, ...]
    checked: int
    failed_checks: tuple[Row, ...]
    written: tuple[Row, ...]
    promotions: tuple[Row, ...]
    survivors: Survivors | None

    def total(self, column: str) -> int:
        """Sum of a column of the deliveries."""
        return sum(row[column] for row in self.deliveries)


def read_night(connection: duckdb.DuckDBPyConnection, session: date | None) -> Night:
    """The night of `session`, by default the newest that finished.

    Raises
    ------
    UsageError
        There is none.
    """
    nights = _nights(connection)
    run = _chosen(nights, session)
    found = session or (run["session"] if run else _newest_score(connection))
    if found is None or (run is None and session is not None):
        newest = f"; the newest is {nights[-1]['session']}" if nights else ""
        which = f"night of {session}" if session else "finished night"
        raise UsageError(
            f"the publication holds no {which}{newest}; run: lookback nightly"
            + (f" --session {session}" if session else "")
        )
    earlier = [row for row in nights if row["session"] < found]
    run_id = run["run_id"] if run else None
    checks = _checks(connection, run_id)
    return Night(
        found,
        run,
        tuple(json.loads(run["missing"])) if run else (),
        earlier[-1]["session"] if earlier else None,
        tuple(row for row in nights if row["session"] <= found)[-NIGHTS_SHOWN:],
        tuple(_deliveries(connection, run_id)),
        tuple(rows(connection, "SELECT * FROM main.freshness ORDER BY stale DESC, source")),
        tuple(_quarantined(connection, run_id)),
        sum(row["checked"] for row in checks),
        tuple(_failed_checks(connection, run_id)),
        tuple(_written(connection, run_id)),
        tuple(_promotions(connection, run, earlier[-1] if earlier else None)),
        _survivors(connection),
    )


def verdict(night: Night, findings: Sequence[Finding]) -> Verdict:
    """The night in one word: the worst of what the run and `check` say."""
    levels = {finding.level for finding in findings}
    status = night.run["status"] if night.run else "partial"
    if status == "failed" or "failed" in levels:
        return "failed"
    if status != "completed" or night.missing or "missing" in levels:
        return "missing"
    return "good"


def _nights(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """One row a session: its newest run that finished, oldest session first."""
    return rows(
        connection,
        """
        SELECT *
        FROM main.runs
        WHERE flow = 'nightly' AND status IN ('completed', 'partial')
        QUALIFY row_number() OVER (PARTITION BY session ORDER BY started_at DESC) = 1
        ORDER BY session
        """,
    )


def _chosen(nights: Sequence[Row], session: date | None) -> Row | None:
    of_it = [row for row in nights if session is None or row["session"] == session]
    return of_it[-1] if of_it else None


def _newest_score(connection: duckdb.DuckDBPyConnection) -> date | None:
    found: date | None = rows(connection, "SELECT max(as_of) AS newest FROM main.signals")[0][
        "newest"
    ]
    return found


def _deliveries(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> list[Row]:
    found = rows(
        connection, "SELECT * FROM ops.deliveries WHERE run_id = ? ORDER BY source", run_id
    )
    return [row | {"problems": json.loads(row["problems"])} for row in found]


def _quarantined(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> list[Row]:
    return rows(
        connection,
        """
        -- one row a source and rule
        SELECT source, rule, count(*) FILTER (run_id = ?) AS tonight, count(*) AS ever,
            arg_max(reason, quarantined_at) AS reason, max(date) AS newest
        FROM raw.quarantine
        GROUP BY source, rule
        ORDER BY tonight DESC, ever DESC, source, rule
        LIMIT ?
        """,
        run_id,
        LISTED,
    )


def _checks(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> list[Row]:
    return rows(
        connection,
        "SELECT count(*) AS checked FROM main.validation_results WHERE run_id = ?",
        run_id,
    )


def _failed_checks(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> list[Row]:
    return rows(
        connection,
        """
        SELECT source, rule, level, evaluated, unexpected, detail
        FROM main.validation_results
        WHERE run_id = ? AND NOT success
        ORDER BY level DESC, unexpected DESC, source, rule
        """,
        run_id,
    )


def _written(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> list[Row]:
    return rows(
        connection,
        """
        -- one row a signal
        SELECT signal, count(*) FILTER (revision = 0) AS new,
            count(*) FILTER (revision > 0) AS revised
        FROM main.signal_revisions
        WHERE run_id = ? AND role = 'live'
        GROUP BY signal
        ORDER BY signal
        """,
        run_id,
    )


def _promotions(
    connection: duckdb.DuckDBPyConnection, run: Row | None, earlier: Row | None
) -> list[Row]:
    if run is None:
        return []
    return rows(
        connection,
        """
        SELECT model, model_version, replaced, reason, promoted_at
        FROM ops.promotions
        WHERE promoted_at <= ? AND (promoted_at > ? OR ? IS NULL)
        ORDER BY model, promoted_at
        """,
        run["finished_at"],
        earlier["finished_at"] if earlier else None,
        earlier["finished_at"] if earlier else None,
    )


def _survivors(connection: duckdb.DuckDBPyConnection) -> Survivors | None:
    (found,) = rows(
        connection,
        """
        -- one row
        WITH symbols AS (
            SELECT source, entity, max(session) AS newest
            FROM raw.bars
            GROUP BY source, entity
        ),
        placed AS (
            SELECT newest, max(newest) OVER (PARTITION BY source) AS newest_of_all FROM symbols
        )
        SELECT count(*) AS symbols, count(*) FILTER (newest < newest_of_all - 30) AS ended
        FROM placed
        """,
    )
    return Survivors(found["symbols"], found["ended"]) if found["symbols"] else None
