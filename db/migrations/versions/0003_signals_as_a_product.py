"""Signals as a product: outcomes, performance, calibration, drift."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _column(name, kind, comment, nullable=False, key=False):
    return sa.Column(
        name, kind, autoincrement=False, nullable=nullable, comment=comment, primary_key=key
    )


def upgrade() -> None:
    op.create_table(
        "outcomes",
        _column("signal", sa.String(), "signals.signal"),
        _column("entity", sa.String(), "signals.entity"),
        _column("as_of", sa.Date(), "signals.as_of"),
        _column("horizon", sa.Integer(), "signals.horizon"),
        _column("horizon_unit", sa.String(), "session, week or month"),
        _column("role", sa.String(), "live, backfill or challenger"),
        _column("model_version", sa.String(), "signals.model_version"),
        _column("tradable_from", sa.Date(), "signals.tradable_from"),
        _column("value", sa.Double(), "the score that is judged: signals.value"),
        _column("probability", sa.Double(), "signals.probability", nullable=True),
        _column("q05", sa.Double(), "signals.q05", nullable=True),
        _column("q50", sa.Double(), "signals.q50", nullable=True),
        _column("q95", sa.Double(), "signals.q95", nullable=True),
        _column(
            "target_date", sa.Date(), "session, last session of the week, or month of the outcome"
        ),
        _column(
            "start",
            sa.Double(),
            "last value of the target that was known; 0 of returns",
            nullable=True,
        ),
        _column("realised", sa.Double(), "what the target became, in its own unit"),
        _column(
            "error", sa.Double(), "value - realised; NULL where value is no forecast", nullable=True
        ),
        _column(
            "hit",
            sa.Boolean(),
            "whether the direction was right; NULL where nothing moved or none was forecast",
            nullable=True,
        ),
        _column(
            "label_return",
            sa.Double(),
            "return from the close of as_of over the horizon, ratio less 1; NULL of what no one trades",
            nullable=True,
        ),
        _column(
            "tradable_return",
            sa.Double(),
            "return of the same length from the close of tradable_from, ratio less 1",
            nullable=True,
        ),
        _column(
            "tradable_until", sa.Date(), "session at whose close that return ends", nullable=True
        ),
        _column(
            "known_at",
            sa.TIMESTAMP(timezone=True),
            "UTC time from which realised could have been known; tradable_return is known only after the close of tradable_until",
        ),
        _column(
            "recorded_at",
            sa.TIMESTAMP(timezone=True),
            "UTC time at which the row was joined, or last changed",
        ),
        _column("run_id", sa.String(), "run that joined or last changed it: runs.run_id"),
        comment="What happened after each signal row, once it is known: one row per (signal, entity, as_of, horizon, horizon_unit, model_version, role), of its newest revision",
    )
    op.create_table(
        "signal_performance",
        _column("signal", sa.String(), "signals.signal"),
        _column("entity", sa.String(), "series that is measured over time; * for a cross-section"),
        _column("as_of", sa.Date(), "signals.as_of"),
        _column("horizon", sa.Integer(), "signals.horizon"),
        _column("horizon_unit", sa.String(), "session, week or month"),
        _column("role", sa.String(), "live, backfill or challenger"),
        _column(
            "model_version", sa.String(), "signals.model_version; * for the signal whoever made it"
        ),
        _column("scored", sa.BigInteger(), "rows of the signal"),
        _column("known", sa.BigInteger(), "rows whose outcome is known"),
        _column(
            "ic",
            sa.Double(),
            "of this date: Pearson correlation of value and what the signal is about",
            nullable=True,
        ),
        _column(
            "rank_ic",
            sa.Double(),
            "of this date: Spearman correlation of value and what the signal is about",
            nullable=True,
        ),
        _column(
            "auc",
            sa.Double(),
            "of this date: area under the ROC curve of value, up or not by what the signal is about",
            nullable=True,
        ),
        _column(
            "hit_rate",
            sa.Double(),
            "of this date: share of right directions, by what the signal is about",
            nullable=True,
        ),
        _column(
            "tradable_ic",
            sa.Double(),
            "of this date: Pearson correlation of value and tradable_return",
            nullable=True,
        ),
        _column(
            "tradable_rank_ic",
            sa.Double(),
            "of this date: Spearman correlation of value and tradable_return",
            nullable=True,
        ),
        _column(
            "tradable_auc",
            sa.Double(),
            "of this date: area under the ROC curve of value, up or not by tradable_return",
            nullable=True,
        ),
        _column(
            "tradable_hit_rate",
            sa.Double(),
            "of this date: share of right directions, by tradable_return",
            nullable=True,
        ),
        _column(
            "mae", sa.Double(), "of this date: mean absolute error, unit of value", nullable=True
        ),
        _column(
            "naive_mae",
            sa.Double(),
            "of this date: the same of the last known value",
            nullable=True,
        ),
        _column(
            "brier", sa.Double(), "of this date: mean squared error of probability", nullable=True
        ),
        _column("running_dates", sa.Integer(), "dates in the running figures, this one the last"),
        _column(
            "running_ic",
            sa.Double(),
            "over a year of dates: mean of ic; of one series the correlation of expected and realised change, by what the signal is about",
            nullable=True,
        ),
        _column(
            "running_rank_ic",
            sa.Double(),
            "over a year of dates: mean of rank_ic; of one series the same of ranks, by what the signal is about",
            nullable=True,
        ),
        _column(
            "running_rank_ic_t",
            sa.Double(),
            "over a year of dates: Newey-West t of rank_ic; NULL of one series, by what the signal is about",
            nullable=True,
        ),
        _column(
            "running_auc",
            sa.Double(),
            "over a year of dates: mean of auc; of one series over all dates, by what the signal is about",
            nullable=True,
        ),
        _column(
            "running_hit_rate",
            sa.Double(),
            "over a year of dates: mean of hit_rate, by what the signal is about",
            nullable=True,
        ),
        _column(
            "running_tradable_ic",
            sa.Double(),
            "over a year of dates: mean of ic; of one series the correlation of expected and realised change, by tradable_return",
            nullable=True,
        ),
        _column(
            "running_tradable_rank_ic",
            sa.Double(),
            "over a year of dates: mean of rank_ic; of one series the same of ranks, by tradable_return",
            nullable=True,
        ),
        _column(
            "running_tradable_rank_ic_t",
            sa.Double(),
            "over a year of dates: Newey-West t of rank_ic; NULL of one series, by tradable_return",
            nullable=True,
        ),
        _column(
            "running_tradable_auc",
            sa.Double(),
            "over a year of dates: mean of auc; of one series over all dates, by tradable_return",
            nullable=True,
        ),
        _column(
            "running_tradable_hit_rate",
            sa.Double(),
            "over a year of dates: mean of hit_rate, by tradable_return",
            nullable=True,
        ),
        _column(
            "running_mae", sa.Double(), "over a year of dates: mean absolute error", nullable=True
        ),
        _column(
            "running_naive_mae",
            sa.Double(),
            "over a year of dates: the last value's",
            nullable=True,
        ),
        comment="How good a signal was, by date and over the year up to it: one row per (signal, entity, as_of, horizon, horizon_unit, model_version, role) with a known outcome",
    )
    op.create_table(
        "signal_calibration",
        _column("signal", sa.String(), "signals.signal"),
        _column("horizon", sa.Integer(), "signals.horizon"),
        _column("horizon_unit", sa.String(), "session, week or month"),
        _column("role", sa.String(), "live, backfill or challenger"),
        _column(
            "model_version", sa.String(), "signals.model_version; * for the signal whoever made it"
        ),
        _column("kind", sa.String(), "probability, or quantile"),
        _column("bucket", sa.Integer(), "tenth of the rows by probability; number of the quantile"),
        _column(
            "expected", sa.Double(), "mean probability of the bucket; share below the quantile"
        ),
        _column("observed", sa.Double(), "share that was so"),
        _column("rows", sa.BigInteger(), "outcomes"),
        comment="Whether probabilities and quantiles hold what they say, over the newest year of dates: one row per (signal, horizon, horizon_unit, role, model_version, kind, bucket)",
    )
    op.create_table(
        "signal_drift",
        _column("signal", sa.String(), "signals.signal"),
        _column("model_version", sa.String(), "version that scored"),
        _column("session", sa.Date(), "night"),
        _column("subject", sa.String(), "value (of several targets each), or a feature it sees"),
        _column(
            "psi",
            sa.Double(),
            "population stability index of the newest dates to the training span",
        ),
        _column(
            "noise", sa.Double(), "95 % of such indices lie below it where nothing has changed"
        ),
        _column("rows", sa.BigInteger(), "values compared"),
        _column("reference_rows", sa.BigInteger(), "values of the training span"),
        _column("drifted", sa.Boolean(), "psi above 0.25 and above noise"),
        comment="How far inputs and scores have moved from what the version was trained on: one row per (signal, model_version, session, subject)",
    )
    op.create_table(
        "drift_references",
        _column("model", sa.String(), "model"),
        _column("model_version", sa.String(), "version"),
        _column("subject", sa.String(), "value (of several targets each), or a feature it sees"),
        _column("edges", sa.JSON(), "inner edges of the buckets: quantiles of the training span"),
        _column("shares", sa.JSON(), "share of the training span in each bucket"),
        _column("rows", sa.BigInteger(), "values of the training span"),
        _column(
            "persistence", sa.Double(), "autocorrelation from date to date; 0 of a cross-section"
        ),
        schema="ops",
        comment="What versions were trained on, in buckets, for signal_drift",
    )
    op.create_table(
        "progress",
        _column("name", sa.String(), "what is brought up to date", key=True),
        _column("done", sa.BigInteger(), "rows of signal_revisions that it reflects"),
        _column(
            "cutoff",
            sa.TIMESTAMP(timezone=True),
            "UTC: newest cut-off that it reflects",
            nullable=True,
        ),
        schema="ops",
        comment="How far what is made from signals has come",
    )
    op.execute(
        "COMMENT ON COLUMN main.model_versions.stage IS 'champion, challenger, retired, or walk-forward: made by a backfill'"
    )
    op.execute("COMMENT ON COLUMN main.runs.flow IS 'nightly, train or backfill'")
    op.execute(
        "COMMENT ON COLUMN main.runs.session IS 'night that it was for; of a backfill the one that bounds what its outcomes know'"
    )
    op.execute(
        "COMMENT ON COLUMN main.validation_results.expectation IS 'the Great Expectations type that judged it; empty if skipped'"
    )
    op.execute(
        "COMMENT ON COLUMN main.signals.as_of IS 'session whose close the score could use; of a month the first that knew the month'"
    )
    op.execute(
        "COMMENT ON COLUMN main.signals.data_snapshot IS 'content hash of the values it was made from'"
    )
    op.execute(
        "COMMENT ON COLUMN main.signal_revisions.as_of IS 'session whose close the score could use; of a month the first that knew the month'"
    )
    op.execute(
        "COMMENT ON COLUMN main.signal_revisions.data_snapshot IS 'content hash of the values it was made from'"
    )
    op.execute(
        "COMMENT ON COLUMN main.signals_latest.as_of IS 'session whose close the score could use; of a month the first that knew the month'"
    )
    op.execute(
        "COMMENT ON COLUMN main.signals_latest.data_snapshot IS 'content hash of the values it was made from'"
    )
    op.execute(
        "COMMENT ON MACRO TABLE main.signals_as_of IS 'What a reader saw at ts: one row per key of signals, its newest revision published by then'"
    )
    op.execute(
        "COMMENT ON MACRO TABLE main.listings_as_of IS 'Symbols with bars known by ts, each from its listing to its last trade: one row per entity'"
    )
