"""Taking over members of universes: who belonged to what, from when to when, as it was known.

A spell is known from the midnight (UTC) of its first session, or from the `known_at` that came
with it. A spell whose end changed is a new vintage, known from the time it was fetched; one
that is no longer delivered stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.clock import Night
from db.staging import Staged
from db.tables import memberships

if TYPE_CHECKING:
    from db.warehouse import Warehouse


def append_memberships(warehouse: Warehouse, staged: Staged, night: Night, run_id: str) -> int:
    """Append staged spells that are new or changed; how many. Call inside a transaction."""
    if not staged.fetched:
        return 0
    known_at = "CAST(known_at AS TIMESTAMPTZ)" if staged.gives_known_at else "NULL::TIMESTAMPTZ"
    counted = warehouse.native.execute(
        f"""
        INSERT INTO {memberships.fullname}
            (source, universe, entity, first_session, last_session, known_at, ingested_at, run_id)
        WITH delivered AS (
            SELECT DISTINCT universe, entity, CAST(first_session AS DATE) AS first_session,
                CAST(last_session AS DATE) AS last_session, {known_at} AS known_at
            FROM read_parquet($rows)
        ),
        -- one row per spell: its newest vintage
        stored AS (
            SELECT universe, entity, first_session, last_session, known_at
            FROM {memberships.fullname}
            WHERE source = $source
            QUALIFY row_number() OVER (
                PARTITION BY universe, entity, first_session
                ORDER BY known_at DESC, ingested_at DESC, rowid DESC
            ) = 1
        )
        SELECT $source, universe, entity, first_session, d.last_session,
            CASE
                WHEN s.known_at IS NULL THEN coalesce(d.known_at, first_session::TIMESTAMPTZ)
                WHEN d.known_at > s.known_at THEN d.known_at
                ELSE greatest($now, s.known_at)
            END,
            $fetched_at, $run_id
        FROM delivered d
        LEFT JOIN stored s USING (universe, entity, first_session)
        WHERE s.known_at IS NULL OR d.last_session IS DISTINCT FROM s.last_session
        ORDER BY first_session, universe, entity
        """,
        {
            "source": staged.source.name,
            "rows": str(staged.rows),
            "now": night.now,
            "fetched_at": staged.fetched_at,
            "run_id": run_id,
        },
    ).fetchone()
    return int(counted[0]) if counted else 0
