"""The tables as they began."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# Point-in-time reads: the store and its published copies carry them.
AS_OF_MACROS = {
    "raw.observations_as_of(ts)": """
        -- one row per (source, series, period): its newest vintage known by ts
        SELECT *
        FROM raw.observations
        WHERE known_at <= ts
        QUALIFY row_number() OVER (
            PARTITION BY source, series, period ORDER BY known_at DESC, ingested_at DESC
        ) = 1
    """,
    "raw.bars_as_of(ts)": """
        -- one row per (source, entity, session): the newest vintage known by ts, of the
        -- newest restated history known by ts; histories are never mixed
        SELECT *
        FROM raw.bars
        WHERE known_at <= ts
        QUALIFY history = max(history) OVER (PARTITION BY source, entity)
            AND row_number() OVER (
                PARTITION BY source, entity, session, history
                ORDER BY known_at DESC, ingested_at DESC
            ) = 1
    """,
    "raw.documents_as_of(ts)": """
        -- one row per (source, document_id): its newest vintage known by ts
        SELECT *
        FROM raw.documents
        WHERE known_at <= ts
        QUALIFY row_number() OVER (
            PARTITION BY source, document_id ORDER BY known_at DESC, ingested_at DESC
        ) = 1
    """,
    "raw.price_breaks_as_of(ts)": """
        -- one row per (source, entity, session): the judgement that could be reached by ts
        SELECT * REPLACE (
            CASE WHEN resolved_at <= ts THEN kind ELSE 'pending' END AS kind,
            CASE WHEN resolved_at <= ts THEN until_session END AS until_session
        )
        FROM raw.price_breaks
        WHERE known_at <= ts
    """,
    "main.signals_as_of(ts)": """
        -- one row per key of signals: its newest revision published by ts
        SELECT * EXCLUDE (revision)
        FROM main.signal_revisions
        WHERE published_at <= ts
        QUALIFY row_number() OVER (
            PARTITION BY signal, entity, as_of, horizon, horizon_unit, model_version, role
            ORDER BY published_at DESC, revision DESC
        ) = 1
    """,
}


def upgrade() -> None:
    for schema in ("raw", "ops", "features"):
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    op.create_table(
        "bars",
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="where it came from, e.g. yfinance.bars",
        ),
        sa.Column("entity", sa.String(), autoincrement=False, nullable=False, comment="symbol"),
        sa.Column(
            "session",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="trading day of the exchange calendar",
        ),
        sa.Column(
            "open",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="price, currency of the listing",
        ),
        sa.Column("high", sa.Double(), autoincrement=False, nullable=True, comment="price"),
        sa.Column("low", sa.Double(), autoincrement=False, nullable=True, comment="price"),
        sa.Column(
            "close",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="price at the close of the session",
        ),
        sa.Column(
            "adj_close",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="the vendor's own adjusted close",
        ),
        sa.Column("volume", sa.Double(), autoincrement=False, nullable=True, comment="shares"),
        sa.Column(
            "adjustment",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="what the prices are adjusted for: raw, split, total",
        ),
        sa.Column(
            "history",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="restatement of the symbol's whole history; 0 is the first delivery",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which the row could have been used",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time at which the row was in fact fetched",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that fetched it: runs.run_id",
        ),
        schema="raw",
        comment="Daily bars, one row per (source, entity, session, history, known_at); a changed value is a new row (vintage)",
    )
    op.create_table(
        "observations",
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="where it came from, e.g. fred.UMCSENT",
        ),
        sa.Column(
            "series",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="name of the series at its publisher",
        ),
        sa.Column(
            "period",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="first day of the period the value is about; the session for daily",
        ),
        sa.Column(
            "value",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="in the publisher's unit",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which the row could have been used",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time at which the row was in fact fetched",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that fetched it: runs.run_id",
        ),
        schema="raw",
        comment="Observations of series, one row per (source, series, period, known_at); a changed value is a new row (vintage)",
    )
    op.create_table(
        "corporate_actions",
        sa.Column(
            "source", sa.String(), autoincrement=False, nullable=False, comment="where it came from"
        ),
        sa.Column("entity", sa.String(), autoincrement=False, nullable=False, comment="symbol"),
        sa.Column(
            "ex_date",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="first session that trades without the entitlement",
        ),
        sa.Column(
            "kind", sa.String(), autoincrement=False, nullable=False, comment="split or dividend"
        ),
        sa.Column(
            "factor",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="split: new shares per old share; dividend: cash per share",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which the row could have been used",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time at which the row was in fact fetched",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that fetched it: runs.run_id",
        ),
        schema="raw",
        comment="Splits and dividends, applied to raw prices when they are read",
    )
    op.create_table(
        "documents",
        sa.Column(
            "source", sa.String(), autoincrement=False, nullable=False, comment="where it came from"
        ),
        sa.Column(
            "document_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="the source's own key",
        ),
        sa.Column(
            "entity",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="symbol that the text is about",
        ),
        sa.Column(
            "time",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time of the document itself",
        ),
        sa.Column(
            "text",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="the text as it came, UTF-8",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which the row could have been used",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time at which the row was in fact fetched",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that fetched it: runs.run_id",
        ),
        schema="raw",
        comment="Raw texts, one row per (source, document_id, known_at); a changed text is a new row",
    )
    op.create_table(
        "price_breaks",
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="source of the prices",
        ),
        sa.Column(
            "entity", sa.String(), autoincrement=False, nullable=False, comment="symbol or series"
        ),
        sa.Column(
            "session",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="first session at the broken level",
        ),
        sa.Column(
            "kind",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="spike, split, level, jump, or pending while undecided",
        ),
        sa.Column(
            "ratio",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="price over the price before",
        ),
        sa.Column(
            "until_session",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="last broken session of a spike",
        ),
        sa.Column(
            "resolved_session",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="session by which the verdict could be reached",
        ),
        sa.Column(
            "resolved_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="UTC: known_at of the bar of resolved_session",
        ),
        sa.Column(
            "reason", sa.String(), autoincrement=False, nullable=False, comment="what decided it"
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which the row could have been used",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time at which the row was in fact fetched",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that fetched it: runs.run_id",
        ),
        schema="raw",
        comment="Breaks in price histories and what they were judged to be. Until resolved_at a break is a suspicion; no window spans a suspicion, a spike, a split or a level break",
    )
    op.create_table(
        "quarantine",
        sa.Column(
            "source", sa.String(), autoincrement=False, nullable=False, comment="where it came from"
        ),
        sa.Column(
            "kind",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="bars, observations or documents",
        ),
        sa.Column(
            "entity",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="symbol, series or document, where the row says it",
        ),
        sa.Column(
            "date",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="session or period, where the row says it",
        ),
        sa.Column(
            "rule",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="the expectation that failed",
        ),
        sa.Column("reason", sa.String(), autoincrement=False, nullable=False, comment="in words"),
        sa.Column(
            "row",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="the row as it was fetched",
        ),
        sa.Column(
            "row_hash",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="hash of source, rule and row: the same row is kept once",
        ),
        sa.Column(
            "quarantined_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that fetched it",
        ),
        schema="raw",
        comment="Fetched rows that were not taken over, each with its reason",
    )
    op.create_table(
        "store",
        sa.Column(
            "key", sa.String(), autoincrement=False, nullable=False, comment="profile, created_at"
        ),
        sa.Column("value", sa.String(), autoincrement=False, nullable=False, comment="value"),
        sa.PrimaryKeyConstraint("key"),
        schema="ops",
        comment="What this store is",
    )
    op.create_table(
        "watermarks",
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="where rows come from",
        ),
        sa.Column(
            "last_date",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="newest session or period taken over",
        ),
        sa.Column(
            "state",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="the source's own notes for its next fetch",
        ),
        sa.Column(
            "fetched_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time of the last successful fetch",
        ),
        sa.PrimaryKeyConstraint("source"),
        schema="ops",
        comment="How far each source has been taken over",
    )
    op.create_table(
        "deliveries",
        sa.Column(
            "run_id", sa.String(), autoincrement=False, nullable=False, comment="runs.run_id"
        ),
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="where rows came from",
        ),
        sa.Column(
            "status",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="ok, unchanged, partial, stopped or failed",
        ),
        sa.Column(
            "fetched", sa.BigInteger(), autoincrement=False, nullable=False, comment="rows fetched"
        ),
        sa.Column(
            "unchanged",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="rows that the store already had, value for value",
        ),
        sa.Column(
            "appended",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="rows appended to a raw table",
        ),
        sa.Column(
            "quarantined",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="rows rejected, those held before included",
        ),
        sa.Column(
            "problems", sa.JSON(), autoincrement=False, nullable=False, comment="one line each"
        ),
        sa.Column(
            "seconds",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="fetch, validate and append",
        ),
        schema="ops",
        comment="What each source delivered to each run: fetched = unchanged + appended + quarantined",
    )
    op.create_table(
        "promotions",
        sa.Column("model", sa.String(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "model_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="version that became champion",
        ),
        sa.Column(
            "replaced",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="the champion before it",
        ),
        sa.Column("reason", sa.String(), autoincrement=False, nullable=False, comment="why"),
        sa.Column(
            "promoted_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time",
        ),
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="run that promoted it",
        ),
        schema="ops",
        comment="Every change of champion, with its reason",
    )
    op.create_table(
        "signals",
        sa.Column(
            "signal",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="named stream of scores",
        ),
        sa.Column(
            "entity", sa.String(), autoincrement=False, nullable=False, comment="symbol or series"
        ),
        sa.Column(
            "as_of",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="session whose close the score could use",
        ),
        sa.Column(
            "horizon",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="how far ahead, in horizon_unit",
        ),
        sa.Column(
            "horizon_unit",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="session, week or month",
        ),
        sa.Column(
            "role",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="live, backfill or challenger",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which all inputs of the score were known",
        ),
        sa.Column(
            "tradable_from",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="first session that opens after publication plus delay",
        ),
        sa.Column(
            "value",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="the score, in the signal's own unit",
        ),
        sa.Column(
            "q05",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="5 % forecast quantile, unit of value",
        ),
        sa.Column(
            "q50",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="median forecast, unit of value",
        ),
        sa.Column(
            "q95",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="95 % forecast quantile, unit of value",
        ),
        sa.Column(
            "probability",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="of the event that the signal is about, 0..1",
        ),
        sa.Column(
            "rank",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="0..1 within signal, as_of, horizon and version",
        ),
        sa.Column("model", sa.String(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "model_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="model_versions.model_version",
        ),
        sa.Column(
            "feature_view",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.view",
        ),
        sa.Column(
            "feature_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.version",
        ),
        sa.Column(
            "data_snapshot",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="content hash of the raw rows the score was made from",
        ),
        sa.Column(
            "published_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time of this revision's publication",
        ),
        sa.Column(
            "run_id", sa.String(), autoincrement=False, nullable=False, comment="runs.run_id"
        ),
        comment="Scores: one row per (signal, entity, as_of, horizon, horizon_unit, model_version, role), its newest revision. What a reader saw at a time: signals_as_of(ts)",
    )
    op.create_table(
        "signal_revisions",
        sa.Column(
            "signal",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="named stream of scores",
        ),
        sa.Column(
            "entity", sa.String(), autoincrement=False, nullable=False, comment="symbol or series"
        ),
        sa.Column(
            "as_of",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="session whose close the score could use",
        ),
        sa.Column(
            "horizon",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="how far ahead, in horizon_unit",
        ),
        sa.Column(
            "horizon_unit",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="session, week or month",
        ),
        sa.Column(
            "role",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="live, backfill or challenger",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which all inputs of the score were known",
        ),
        sa.Column(
            "tradable_from",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="first session that opens after publication plus delay",
        ),
        sa.Column(
            "value",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="the score, in the signal's own unit",
        ),
        sa.Column(
            "q05",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="5 % forecast quantile, unit of value",
        ),
        sa.Column(
            "q50",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="median forecast, unit of value",
        ),
        sa.Column(
            "q95",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="95 % forecast quantile, unit of value",
        ),
        sa.Column(
            "probability",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="of the event that the signal is about, 0..1",
        ),
        sa.Column(
            "rank",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="0..1 within signal, as_of, horizon and version",
        ),
        sa.Column("model", sa.String(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "model_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="model_versions.model_version",
        ),
        sa.Column(
            "feature_view",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.view",
        ),
        sa.Column(
            "feature_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.version",
        ),
        sa.Column(
            "data_snapshot",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="content hash of the raw rows the score was made from",
        ),
        sa.Column(
            "published_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time of this revision's publication",
        ),
        sa.Column(
            "run_id", sa.String(), autoincrement=False, nullable=False, comment="runs.run_id"
        ),
        sa.Column(
            "revision",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="0 is the first publication of the row",
        ),
        comment="Every revision of every signal row, in the order of published_at",
    )
    op.create_table(
        "signals_latest",
        sa.Column(
            "signal",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="named stream of scores",
        ),
        sa.Column(
            "entity", sa.String(), autoincrement=False, nullable=False, comment="symbol or series"
        ),
        sa.Column(
            "as_of",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="session whose close the score could use",
        ),
        sa.Column(
            "horizon",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="how far ahead, in horizon_unit",
        ),
        sa.Column(
            "horizon_unit",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="session, week or month",
        ),
        sa.Column(
            "role",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="live, backfill or challenger",
        ),
        sa.Column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time from which all inputs of the score were known",
        ),
        sa.Column(
            "tradable_from",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="first session that opens after publication plus delay",
        ),
        sa.Column(
            "value",
            sa.Double(),
            autoincrement=False,
            nullable=False,
            comment="the score, in the signal's own unit",
        ),
        sa.Column(
            "q05",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="5 % forecast quantile, unit of value",
        ),
        sa.Column(
            "q50",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="median forecast, unit of value",
        ),
        sa.Column(
            "q95",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="95 % forecast quantile, unit of value",
        ),
        sa.Column(
            "probability",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="of the event that the signal is about, 0..1",
        ),
        sa.Column(
            "rank",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="0..1 within signal, as_of, horizon and version",
        ),
        sa.Column("model", sa.String(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "model_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="model_versions.model_version",
        ),
        sa.Column(
            "feature_view",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.view",
        ),
        sa.Column(
            "feature_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.version",
        ),
        sa.Column(
            "data_snapshot",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="content hash of the raw rows the score was made from",
        ),
        sa.Column(
            "published_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time of this revision's publication",
        ),
        sa.Column(
            "run_id", sa.String(), autoincrement=False, nullable=False, comment="runs.run_id"
        ),
        sa.Column(
            "age",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="sessions from as_of to the newest session of the store",
        ),
        comment="The newest live row per (signal, entity, horizon), with its age in sessions",
    )
    op.create_table(
        "model_versions",
        sa.Column("model", sa.String(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "model_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="one trained instance",
        ),
        sa.Column(
            "status", sa.String(), autoincrement=False, nullable=False, comment="trained or failed"
        ),
        sa.Column(
            "stage",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="champion, challenger or retired",
        ),
        sa.Column(
            "recipe",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="architecture and training recipe",
        ),
        sa.Column(
            "feature_view",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="view that it reads",
        ),
        sa.Column(
            "feature_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="version of the view",
        ),
        sa.Column(
            "data_snapshot",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="content hash of the raw rows it learned from",
        ),
        sa.Column(
            "cutoff",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC cut-off of the training data",
        ),
        sa.Column(
            "labels_known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="UTC: newest known_at of a label it was trained or stopped on",
        ),
        sa.Column(
            "seed", sa.BigInteger(), autoincrement=False, nullable=False, comment="random seed"
        ),
        sa.Column(
            "backend",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="Keras backend and versions",
        ),
        sa.Column(
            "parameters",
            sa.BigInteger(),
            autoincrement=False,
            nullable=True,
            comment="trainable parameters",
        ),
        sa.Column(
            "spans",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="train, validation and test: first and last as_of, windows",
        ),
        sa.Column(
            "metrics", sa.JSON(), autoincrement=False, nullable=False, comment="on the test span"
        ),
        sa.Column(
            "baselines",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="the same metrics of the baselines on the same days",
        ),
        sa.Column(
            "artefact",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="folder under models/ of the home",
        ),
        sa.Column(
            "artefact_sha256",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="hash of the manifest, which holds those of the files",
        ),
        sa.Column(
            "reason",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="why it has its stage, or why it failed",
        ),
        sa.Column(
            "trained_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time",
        ),
        sa.Column(
            "seconds", sa.Double(), autoincrement=False, nullable=False, comment="training time"
        ),
        sa.Column(
            "run_id", sa.String(), autoincrement=False, nullable=False, comment="runs.run_id"
        ),
        sa.PrimaryKeyConstraint("model", "model_version"),
        comment="Every trained version of every model, with metrics, baselines and lineage",
    )
    op.create_table(
        "feature_views",
        sa.Column(
            "view", sa.String(), autoincrement=False, nullable=False, comment="name of the view"
        ),
        sa.Column(
            "version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="hash of the declaration",
        ),
        sa.Column(
            "entity",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="symbol, series or document",
        ),
        sa.Column(
            "window", sa.Integer(), autoincrement=False, nullable=False, comment="values per window"
        ),
        sa.Column(
            "horizon", sa.Integer(), autoincrement=False, nullable=False, comment="of the target"
        ),
        sa.Column(
            "horizon_unit",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="session, week or month",
        ),
        sa.Column(
            "declaration",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="all that determines the values",
        ),
        sa.Column(
            "rows",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="materialized rows",
        ),
        sa.Column(
            "entities",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="entities with rows",
        ),
        sa.Column(
            "first_date", sa.Date(), autoincrement=False, nullable=True, comment="oldest row"
        ),
        sa.Column("last_date", sa.Date(), autoincrement=False, nullable=True, comment="newest row"),
        sa.Column(
            "watermark",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="UTC: newest ingested_at of a raw row that is reflected",
        ),
        sa.Column(
            "materialized_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="UTC time",
        ),
        sa.PrimaryKeyConstraint("view", "version"),
        comment="Declared feature views and versions, and how far they are materialized",
    )
    op.create_table(
        "data_snapshots",
        sa.Column(
            "data_snapshot",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="content hash of the values visible at the cut-off",
        ),
        sa.Column(
            "feature_view",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.view",
        ),
        sa.Column(
            "feature_version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="feature_views.version",
        ),
        sa.Column(
            "cutoff",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC cut-off at which it was first read",
        ),
        sa.Column(
            "rows", sa.BigInteger(), autoincrement=False, nullable=False, comment="values visible"
        ),
        sa.Column(
            "first_date", sa.Date(), autoincrement=False, nullable=True, comment="oldest value"
        ),
        sa.Column(
            "last_date", sa.Date(), autoincrement=False, nullable=True, comment="newest value"
        ),
        sa.PrimaryKeyConstraint("data_snapshot"),
        comment="What models were trained on and scores made from: the values of a feature view that were visible at a cut-off",
    )
    op.create_table(
        "runs",
        sa.Column(
            "run_id",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="one execution of a flow",
        ),
        sa.Column(
            "flow", sa.String(), autoincrement=False, nullable=False, comment="nightly or train"
        ),
        sa.Column(
            "session",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="night that it was for",
        ),
        sa.Column(
            "profile",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="sample, live or files",
        ),
        sa.Column(
            "status",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="running, completed, partial or failed",
        ),
        sa.Column(
            "exit_code",
            sa.Integer(),
            autoincrement=False,
            nullable=True,
            comment="0 good, 1 failed, 3 something missing",
        ),
        sa.Column(
            "started_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC, machine's clock",
        ),
        sa.Column(
            "finished_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="UTC, machine's clock",
        ),
        sa.Column(
            "seconds",
            sa.Double(),
            autoincrement=False,
            nullable=True,
            comment="Lookback's own work, orchestration apart",
        ),
        sa.Column(
            "missing",
            sa.JSON(),
            autoincrement=False,
            nullable=False,
            comment="one line for each source or signal that is missing",
        ),
        sa.Column(
            "version",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="version of Lookback",
        ),
        sa.PrimaryKeyConstraint("run_id"),
        comment="Executions of flows",
    )
    op.create_table(
        "freshness",
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="where rows come from",
        ),
        sa.Column(
            "kind",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="bars, observations or documents",
        ),
        sa.Column(
            "entities",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="symbols or series",
        ),
        sa.Column(
            "rows",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="rows in raw tables, all vintages",
        ),
        sa.Column(
            "first_date",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="oldest session or period",
        ),
        sa.Column(
            "last_date",
            sa.Date(),
            autoincrement=False,
            nullable=True,
            comment="newest session or period",
        ),
        sa.Column(
            "last_known_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=True,
            comment="UTC: known_at of the newest row",
        ),
        sa.Column(
            "age",
            sa.Integer(),
            autoincrement=False,
            nullable=True,
            comment="sessions from last_date to the session",
        ),
        sa.Column(
            "stale",
            sa.Boolean(),
            autoincrement=False,
            nullable=False,
            comment="older than the source's publication rule allows",
        ),
        sa.Column(
            "session",
            sa.Date(),
            autoincrement=False,
            nullable=False,
            comment="night at which this was measured",
        ),
        sa.Column(
            "detail",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="what is wrong, empty if nothing",
        ),
        sa.PrimaryKeyConstraint("source"),
        comment="How fresh each source is",
    )
    op.create_table(
        "validation_results",
        sa.Column(
            "run_id", sa.String(), autoincrement=False, nullable=False, comment="runs.run_id"
        ),
        sa.Column("session", sa.Date(), autoincrement=False, nullable=False, comment="night"),
        sa.Column(
            "source",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="where the increment came from",
        ),
        sa.Column(
            "suite", sa.String(), autoincrement=False, nullable=False, comment="expectation suite"
        ),
        sa.Column(
            "rule", sa.String(), autoincrement=False, nullable=False, comment="rule of the gate"
        ),
        sa.Column(
            "expectation",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="the Great Expectations type that judged it",
        ),
        sa.Column(
            "column_name",
            sa.String(),
            autoincrement=False,
            nullable=True,
            comment="column that it is about",
        ),
        sa.Column(
            "level",
            sa.String(),
            autoincrement=False,
            nullable=False,
            comment="row: failing rows go to quarantine; table: the source is stopped",
        ),
        sa.Column(
            "success", sa.Boolean(), autoincrement=False, nullable=False, comment="whether it held"
        ),
        sa.Column(
            "evaluated",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="rows looked at",
        ),
        sa.Column(
            "unexpected",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="rows that failed",
        ),
        sa.Column(
            "detail", sa.String(), autoincrement=False, nullable=True, comment="what was seen"
        ),
        sa.Column(
            "validated_at",
            sa.TIMESTAMP(timezone=True),
            autoincrement=False,
            nullable=False,
            comment="UTC time",
        ),
        comment="Results of the quality gate, one row per run, source and expectation",
    )
    # ### end Alembic commands ###
    for name, query in AS_OF_MACROS.items():
        op.execute(f"CREATE OR REPLACE MACRO {name} AS TABLE {query}")
