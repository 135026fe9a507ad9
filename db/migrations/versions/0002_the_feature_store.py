"""The feature store: what views have read, the exchange's sessions, universes, actions as known."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AS_OF_MACROS = {
    "raw.corporate_actions_as_of(ts)": """
        -- one row per (source, entity, ex_date, kind): its newest vintage known by ts
        SELECT *
        FROM raw.corporate_actions
        WHERE known_at <= ts
        QUALIFY row_number() OVER (
            PARTITION BY source, entity, ex_date, kind ORDER BY known_at DESC, ingested_at DESC
        ) = 1
    """,
    "raw.memberships_as_of(ts)": """
        -- one row per (source, universe, entity, first_session): its newest vintage known by ts
        SELECT *
        FROM raw.memberships
        WHERE known_at <= ts
        QUALIFY row_number() OVER (
            PARTITION BY source, universe, entity, first_session
            ORDER BY known_at DESC, ingested_at DESC
        ) = 1
    """,
    "main.listings_as_of(ts)": """
        -- one row per entity with bars known by ts: from its listing to its last trade
        SELECT b.entity, min(b.session) AS first_session, max(b.session) AS last_session,
            count(DISTINCT b.session) AS sessions, any_value(d.ex_date) AS delisted_on
        FROM raw.bars b
        LEFT JOIN (
            SELECT entity, min(ex_date) AS ex_date
            FROM raw.corporate_actions
            WHERE kind = 'delisting' AND known_at <= ts
            GROUP BY entity
        ) d USING (entity)
        WHERE b.known_at <= ts AND (d.ex_date IS NULL OR b.session < d.ex_date)
        GROUP BY b.entity
    """,
}


def _column(name, kind, comment, nullable=False):
    return sa.Column(name, kind, autoincrement=False, nullable=nullable, comment=comment)


def upgrade() -> None:
    op.create_table(
        "sessions",
        _column("session", sa.Date(), "trading day of the exchange calendar"),
        _column("number", sa.Integer(), "sessions before it in the calendar"),
        _column("week_end", sa.Date(), "last session of its week, Monday to Sunday"),
        _column("month_end", sa.Date(), "last session of its month"),
        comment="The exchange's sessions, from 1960 until a year ahead",
    )
    op.create_table(
        "memberships",
        _column("source", sa.String(), "where it came from"),
        _column("universe", sa.String(), "name of the universe, e.g. an index"),
        _column("entity", sa.String(), "symbol"),
        _column("first_session", sa.Date(), "first session as a member"),
        _column("last_session", sa.Date(), "last session as a member", nullable=True),
        _column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            "UTC time from which the row could have been used",
        ),
        _column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            "UTC time at which the row was in fact fetched",
        ),
        _column("run_id", sa.String(), "run that fetched it: runs.run_id"),
        schema="raw",
        comment="Members of universes by date, one row per (source, universe, entity, "
        "first_session, known_at); a changed row is a new vintage",
    )
    # A table that is altered loses nothing, but DuckDB alters none that has a primary key.
    op.execute("CREATE TEMP TABLE kept_views AS FROM main.feature_views")
    op.drop_table("feature_views")
    op.create_table(
        "feature_views",
        sa.Column(
            "view",
            sa.String(),
            primary_key=True,
            autoincrement=False,
            nullable=False,
            comment="name of the view",
        ),
        sa.Column(
            "version",
            sa.String(),
            primary_key=True,
            autoincrement=False,
            nullable=False,
            comment="hash of the declaration",
        ),
        _column("entity", sa.String(), "symbol, series or document"),
        _column("window", sa.Integer(), "values per window"),
        _column("horizon", sa.Integer(), "of the target"),
        _column("horizon_unit", sa.String(), "session, week or month"),
        _column("declaration", sa.JSON(), "all that determines the values"),
        _column("rows", sa.BigInteger(), "materialized rows"),
        _column("entities", sa.BigInteger(), "entities with rows"),
        _column("first_date", sa.Date(), "oldest row", nullable=True),
        _column("last_date", sa.Date(), "newest row", nullable=True),
        _column(
            "watermark",
            sa.TIMESTAMP(timezone=True),
            "UTC: newest known_at of a raw row that is reflected",
            nullable=True,
        ),
        _column("materialized_at", sa.TIMESTAMP(timezone=True), "UTC time", nullable=True),
        _column("description", sa.String(), "what it is, for people", nullable=True),
        _column("reflected", sa.JSON(), "rows of each raw table that it has read", nullable=True),
        comment="Declared feature views and versions, and how far they are materialized",
    )
    op.execute("INSERT INTO main.feature_views BY NAME FROM kept_views")
    op.execute("DROP TABLE kept_views")
    op.execute("COMMENT ON COLUMN raw.corporate_actions.kind IS 'split, dividend or delisting'")
    op.execute(
        "COMMENT ON COLUMN raw.corporate_actions.factor IS "
        "'split: new shares per old share; dividend: cash per share; delisting: 0'"
    )
    op.execute(
        "COMMENT ON COLUMN raw.corporate_actions.ex_date IS 'first session that trades without "
        "the entitlement; of a delisting, the first without trading'"
    )
    for name, query in AS_OF_MACROS.items():
        op.execute(f"CREATE OR REPLACE MACRO {name} AS TABLE {query}")
