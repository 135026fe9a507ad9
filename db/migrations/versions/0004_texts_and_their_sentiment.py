"""Texts and their sentiment: symbols that documents are about, scores of texts, sentiment by day."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _column(name, kind, comment, nullable=False):
    return sa.Column(name, kind, autoincrement=False, nullable=nullable, comment=comment)


def _fetched_columns():
    instant = sa.TIMESTAMP(timezone=True)
    return (
        _column("known_at", instant, "UTC time from which the row could have been used"),
        _column("ingested_at", instant, "UTC time at which the row was in fact fetched"),
        _column("run_id", sa.String(), "run that fetched it: runs.run_id"),
    )


def upgrade() -> None:
    op.create_table(
        "mentions",
        _column("source", sa.String(), "documents.source"),
        _column("document_id", sa.String(), "documents.document_id"),
        _column("entity", sa.String(), "symbol that the text is about"),
        _column("found_by", sa.String(), "given by the source, cashtag, or name: a company's name"),
        *_fetched_columns(),
        schema="raw",
        comment="Symbols that documents are about, one row per (source, document_id, entity)",
    )
    op.execute(
        """
        INSERT INTO raw.mentions
        SELECT source, document_id, entity, 'given', min(known_at),
            min_by(ingested_at, known_at), min_by(run_id, known_at)
        FROM raw.documents
        WHERE entity IS NOT NULL
        GROUP BY ALL
        """
    )
    op.execute("ALTER TABLE raw.documents RENAME COLUMN time TO published_at")
    op.execute("ALTER TABLE raw.documents DROP COLUMN entity")
    op.execute("ALTER TABLE raw.documents ADD COLUMN language VARCHAR")
    op.execute("COMMENT ON COLUMN raw.documents.language IS 'as the source gives it, e.g. en'")
    op.execute(
        "COMMENT ON COLUMN raw.documents.document_id IS "
        "'the source''s own key, or a hash of time and text'"
    )
    op.create_table(
        "sentiment",
        _column("source", sa.String(), "model that scored the documents"),
        _column("entity", sa.String(), "symbol"),
        _column("session", sa.Date(), "exchange day, from the close before it to its own close"),
        _column("documents", sa.BigInteger(), "documents about the symbol"),
        _column("sentiment", sa.Double(), "mean of document_sentiment.sentiment, -1 to 1"),
        _column("dispersion", sa.Double(), "standard deviation of the same; 0 of one document"),
        _column("novelty", sa.Double(), "sum of document_sentiment.novelty"),
        _column(
            "novel_sentiment", sa.Double(), "mean weighted by novelty; where all repeat, the mean"
        ),
        _column("model_version", sa.String(), "that scored the newest of the documents"),
        *_fetched_columns(),
        schema="raw",
        comment="What documents said of each symbol on each exchange day, one row per state of a day: "
        "more documents make a new row; of those of one known_at the last one stands. Read it as "
        "sentiment_daily",
    )
    op.create_table(
        "document_sentiment",
        _column("source", sa.String(), "where the document came from"),
        _column("document_id", sa.String(), "raw.documents.document_id"),
        _column("published_at", sa.TIMESTAMP(timezone=True), "UTC time of the document itself"),
        _column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            "UTC time from which this text of the document could have been used",
        ),
        _column(
            "session",
            sa.Date(),
            "exchange day that it counts to: the first to close after known_at",
        ),
        _column("entities", sa.ARRAY(sa.String()), "symbols that it is about"),
        _column("language", sa.String(), "as the source gives it", nullable=True),
        _column("sentiment", sa.Double(), "positive less negative, -1 to 1"),
        _column("negative", sa.Double(), "probability that the text is negative"),
        _column("neutral", sa.Double(), "probability that it is neutral; 0 of two classes"),
        _column("positive", sa.Double(), "probability that the text is positive"),
        _column(
            "novelty",
            sa.Double(),
            "1 less the likeness to the most similar document of the three days before, 0 to 1",
        ),
        _column(
            "duplicate_of",
            sa.String(),
            "document_id that it repeats, or nearly; its own id where it corrects itself",
            nullable=True,
        ),
        _column("model", sa.String(), "model"),
        _column("model_version", sa.String(), "model_versions.model_version"),
        _column("scored_at", sa.TIMESTAMP(timezone=True), "UTC time"),
        _column("run_id", sa.String(), "runs.run_id"),
        comment="Scores of texts: one row per (source, document_id, known_at), by the version "
        "that was champion when it was scored",
    )
    op.execute("COMMENT ON COLUMN main.runs.flow IS 'nightly, sentiment, train or backfill'")
