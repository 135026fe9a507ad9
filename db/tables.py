"""Every table, with comments on tables and columns. Migrations build them; see `migrations/`.

Three schemas: `main` holds the contracts that readers build on, `raw` what sources
delivered (bitemporal, appended, never overwritten), `ops` what the service needs to run.
Times are UTC (TIMESTAMPTZ); sessions and periods are dates of the exchange or publisher.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    Integer,
    MetaData,
    String,
    Table,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def _column(
    name: str,
    kind: TypeEngine[Any] | type[TypeEngine[Any]],
    comment: str,
    *,
    null: bool = False,
    key: bool = False,
) -> Column[Any]:
    return Column(name, kind, nullable=null, comment=comment, primary_key=key, autoincrement=False)


def _instant(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, TIMESTAMP(timezone=True), comment, null=null)


def _fetched_columns() -> tuple[Column[Any], ...]:
    """Columns that every raw row carries: who, from when usable, when fetched, by which run."""
    return (
        _instant("known_at", "UTC time from which the row could have been used"),
        _instant("ingested_at", "UTC time at which the row was in fact fetched"),
        _column("run_id", String, "run that fetched it: runs.run_id"),
    )


# ---------------------------------------------------------------------------- raw

bars = Table(
    "bars",
    metadata,
    _column("source", String, "where it came from, e.g. yfinance.bars"),
    _column("entity", String, "symbol"),
    _column("session", Date, "trading day of the exchange calendar"),
    _column("open", Double, "price, currency of the listing", null=True),
    _column("high", Double, "price", null=True),
    _column("low", Double, "price", null=True),
    _column("close", Double, "price at the close of the session", null=True),
    _column("adj_close", Double, "the vendor's own adjusted close", null=True),
    _column("volume", Double, "shares", null=True),
    _column("adjustment", String, "what the prices are adjusted for: raw, split, total"),
    _column(
        "history", Integer, "restatement of the symbol's whole history; 0 is the first delivery"
    ),
    *_fetched_columns(),
    schema="raw",
    comment="Daily bars, one row per (source, entity, session, history, known_at); "
    "a changed value is a new row (vintage)",
)

observations = Table(
    "observations",
    metadata,
    _column("source", String, "where it came from, e.g. fred.UMCSENT"),
    _column("series", String, "name of the series at its publisher"),
    _column("period", Date, "first day of the period the value is about; the session for daily"),
    _column("value", Double, "in the publisher's unit"),
    *_fetched_columns(),
    schema="raw",
    comment="Observations of series, one row per (source, series, period, known_at); "
    "a changed value is a new row (vintage)",
)

corporate_actions = Table(
    "corporate_actions",
    metadata,
    _column("source", String, "where it came from"),
    _column("entity", String, "symbol"),
    _column(
        "ex_date",
        Date,
        "first session that trades without the entitlement; of a delisting, "
        "the first without trading",
    ),
    _column("kind", String, "split, dividend or delisting"),
    _column(
        "factor",
        Double,
        "split: new shares per old share; dividend: cash per share; delisting: 0",
    ),
    *_fetched_columns(),
    schema="raw",
    comment="Splits and dividends, applied to raw prices when they are read",
)

memberships = Table(
    "memberships",
    metadata,
    _column("source", String, "where it came from"),
    _column("universe", String, "name of the universe, e.g. an index"),
    _column("entity", String, "symbol"),
    _column("first_session", Date, "first session as a member"),
    _column("last_session", Date, "last session as a member", null=True),
    *_fetched_columns(),
    schema="raw",
    comment="Members of universes by date, one row per (source, universe, entity, "
    "first_session, known_at); a changed row is a new vintage",
)

documents = Table(
    "documents",
    metadata,
    _column("source", String, "where it came from"),
    _column("document_id", String, "the source's own key, or a hash of time and text"),
    _instant("published_at", "UTC time of the document itself"),
    _column("text", String, "the text as it came, UTF-8"),
    *_fetched_columns(),
    _column("language", String, "as the source gives it, e.g. en", null=True),
    schema="raw",
    comment="Raw texts, one row per (source, document_id, known_at); a changed text is a new row",
)

mentions = Table(
    "mentions",
    metadata,
    _column("source", String, "documents.source"),
    _column("document_id", String, "documents.document_id"),
    _column("entity", String, "symbol that the text is about"),
    _column("found_by", String, "given by the source, cashtag, or name: a company's name"),
    *_fetched_columns(),
    schema="raw",
    comment="Symbols that documents are about, one row per (source, document_id, entity)",
)

sentiment = Table(
    "sentiment",
    metadata,
    _column("source", String, "model that scored the documents"),
    _column("entity", String, "symbol"),
    _column("session", Date, "exchange day, from the close before it to its own close"),
    _column("documents", BigInteger, "documents about the symbol"),
    _column("sentiment", Double, "mean of document_sentiment.sentiment, -1 to 1"),
    _column("dispersion", Double, "standard deviation of the same; 0 of one document"),
    _column("novelty", Double, "sum of document_sentiment.novelty"),
    _column("novel_sentiment", Double, "mean weighted by novelty; where all repeat, the mean"),
    _column("model_version", String, "that scored the newest of the documents"),
    *_fetched_columns(),
    schema="raw",
    comment="What documents said of each symbol on each exchange day, one row per state of a day: "
    "more documents make a new row; of those of one known_at the last one stands. Read it as "
    "sentiment_daily",
)

price_breaks = Table(
    "price_breaks",
    metadata,
    _column("source", String, "source of the prices"),
    _column("entity", String, "symbol or series"),
    _column("session", Date, "first session at the broken level"),
    _column("kind", String, "spike, split, level, jump, or pending while undecided"),
    _column("ratio", Double, "price over the price before"),
    _column("until_session", Date, "last broken session of a spike", null=True),
    _column("resolved_session", Date, "session by which the verdict could be reached", null=True),
    _instant("resolved_at", "UTC: known_at of the bar of resolved_session", null=True),
    _column("reason", String, "what decided it"),
    *_fetched_columns(),
    schema="raw",
    comment="Breaks in price histories and what they were judged to be. Until resolved_at "
    "a break is a suspicion; no window spans a suspicion, a spike, a split or a level break",
)

quarantine = Table(
    "quarantine",
    metadata,
    _column("source", String, "where it came from"),
    _column("kind", String, "bars, observations or documents"),
    _column("entity", String, "symbol, series or document, where the row says it", null=True),
    _column("date", Date, "session or period, where the row says it", null=True),
    _column("rule", String, "the expectation that failed"),
    _column("reason", String, "in words"),
    _column("row", JSON, "the row as it was fetched"),
    _column("row_hash", String, "hash of source, rule and row: the same row is kept once"),
    _instant("quarantined_at", "UTC time"),
    _column("run_id", String, "run that fetched it"),
    schema="raw",
    comment="Fetched rows that were not taken over, each with its reason",
)

# ---------------------------------------------------------------------------- ops

store = Table(
    "store",
    metadata,
    _column("key", String, "profile, created_at", key=True),
    _column("value", String, "value"),
    schema="ops",
    comment="What this store is",
)

watermarks = Table(
    "watermarks",
    metadata,
    _column("source", String, "where rows come from", key=True),
    _column("last_date", Date, "newest session or period taken over", null=True),
    _column("state", JSON, "the source's own notes for its next fetch"),
    _instant("fetched_at", "UTC time of the last successful fetch"),
    schema="ops",
    comment="How far each source has been taken over",
)

deliveries = Table(
    "deliveries",
    metadata,
    _column("run_id", String, "runs.run_id"),
    _column("source", String, "where rows came from"),
    _column("status", String, "ok, unchanged, partial, stopped or failed"),
    _column("fetched", BigInteger, "rows fetched"),
    _column("unchanged", BigInteger, "rows that the store already had, value for value"),
    _column("appended", BigInteger, "rows appended to a raw table"),
    _column("quarantined", BigInteger, "rows rejected, those held before included"),
    _column("problems", JSON, "one line each"),
    _column("seconds", Double, "fetch, validate and append"),
    schema="ops",
    comment="What each source delivered to each run: fetched = unchanged + appended + quarantined",
)

promotions = Table(
    "promotions",
    metadata,
    _column("model", String, "model"),
    _column("model_version", String, "version that became champion"),
    _column("replaced", String, "the champion before it", null=True),
    _column("reason", String, "why"),
    _instant("promoted_at", "UTC time"),
    _column("run_id", String, "run that promoted it"),
    schema="ops",
    comment="Every change of champion, with its reason",
)

drift_references = Table(
    "drift_references",
    metadata,
    _column("model", String, "model"),
    _column("model_version", String, "version"),
    _column("subject", String, "value (of several targets each), or a feature it sees"),
    _column("edges", JSON, "inner edges of the buckets: quantiles of the training span"),
    _column("shares", JSON, "share of the training span in each bucket"),
    _column("rows", BigInteger, "values of the training span"),
    _column("persistence", Double, "autocorrelation from date to date; 0 of a cross-section"),
    schema="ops",
    comment="What versions were trained on, in buckets, for signal_drift",
)

progress = Table(
    "progress",
    metadata,
    _column("name", String, "what is brought up to date", key=True),
    _column("done", BigInteger, "rows of signal_revisions that it reflects"),
    _instant("cutoff", "UTC: newest cut-off that it reflects", null=True),
    schema="ops",
    comment="How far what is made from signals has come",
)

# ---------------------------------------------------------------------------- main


def _signal_columns() -> tuple[Column[Any], ...]:
    return (
        _column("signal", String, "named stream of scores"),
        _column("entity", String, "symbol or series"),
        _column(
            "as_of",
            Date,
            "session whose close the score could use; of a month the first that knew the month",
        ),
        _column("horizon", Integer, "how far ahead, in horizon_unit"),
        _column("horizon_unit", String, "session, week or month"),
        _column("role", String, "live, backfill or challenger"),
        _instant("known_at", "UTC time from which all inputs of the score were known"),
        _column("tradable_from", Date, "first session that opens after publication plus delay"),
        _column("value", Double, "the score, in the signal's own unit"),
        _column("q05", Double, "5 % forecast quantile, unit of value", null=True),
        _column("q50", Double, "median forecast, unit of value", null=True),
        _column("q95", Double, "95 % forecast quantile, unit of value", null=True),
        _column("probability", Double, "of the event that the signal is about, 0..1", null=True),
        _column("rank", Double, "0..1 within signal, as_of, horizon and version", null=True),
        _column("model", String, "model"),
        _column("model_version", String, "model_versions.model_version"),
        _column("feature_view", String, "feature_views.view"),
        _column("feature_version", String, "feature_views.version"),
        _column("data_snapshot", String, "content hash of the values it was made from"),
        _instant("published_at", "UTC time of this revision's publication"),
        _column("run_id", String, "runs.run_id"),
    )


SIGNAL_KEY = ("signal", "entity", "as_of", "horizon", "horizon_unit", "model_version", "role")

signals = Table(
    "signals",
    metadata,
    *_signal_columns(),
    comment="Scores: one row per (signal, entity, as_of, horizon, horizon_unit, model_version, "
    "role), its newest revision. What a reader saw at a time: signals_as_of(ts)",
)

signal_revisions = Table(
    "signal_revisions",
    metadata,
    *_signal_columns(),
    _column("revision", Integer, "0 is the first publication of the row"),
    comment="Every revision of every signal row, in the order of published_at",
)

signals_latest = Table(
    "signals_latest",
    metadata,
    *_signal_columns(),
    _column("age", Integer, "sessions from as_of to the newest session of the store"),
    comment="The newest live row per (signal, entity, horizon), with its age in sessions",
)

outcomes = Table(
    "outcomes",
    metadata,
    *(
        _column(name, kind, comment)
        for name, kind, comment in (
            ("signal", String, "signals.signal"),
            ("entity", String, "signals.entity"),
            ("as_of", Date, "signals.as_of"),
            ("horizon", Integer, "signals.horizon"),
            ("horizon_unit", String, "session, week or month"),
            ("role", String, "live, backfill or challenger"),
            ("model_version", String, "signals.model_version"),
            ("tradable_from", Date, "signals.tradable_from"),
            ("value", Double, "the score that is judged: signals.value"),
        )
    ),
    _column("probability", Double, "signals.probability", null=True),
    _column("q05", Double, "signals.q05", null=True),
    _column("q50", Double, "signals.q50", null=True),
    _column("q95", Double, "signals.q95", null=True),
    _column("target_date", Date, "session, last session of the week, or month of the outcome"),
    _column("start", Double, "last value of the target that was known; 0 of returns", null=True),
    _column("realised", Double, "what the target became, in its own unit"),
    _column("error", Double, "value - realised; NULL where value is no forecast", null=True),
    _column(
        "hit",
        Boolean,
        "whether the direction was right; NULL where nothing moved or none was forecast",
        null=True,
    ),
    _column(
        "label_return",
        Double,
        "return from the close of as_of over the horizon, ratio less 1; NULL of what no one trades",
        null=True,
    ),
    _column(
        "tradable_return",
        Double,
        "return of the same length from the close of tradable_from, ratio less 1",
        null=True,
    ),
    _column("tradable_until", Date, "session at whose close that return ends", null=True),
    _instant(
        "known_at",
        "UTC time from which realised could have been known; tradable_return is known only after "
        "the close of tradable_until",
    ),
    _instant("recorded_at", "UTC time at which the row was joined, or last changed"),
    _column("run_id", String, "run that joined or last changed it: runs.run_id"),
    comment="What happened after each signal row, once it is known: one row per (signal, entity, "
    "as_of, horizon, horizon_unit, model_version, role), of its newest revision",
)

signal_performance = Table(
    "signal_performance",
    metadata,
    _column("signal", String, "signals.signal"),
    _column("entity", String, "series that is measured over time; * for a cross-section"),
    _column("as_of", Date, "signals.as_of"),
    _column("horizon", Integer, "signals.horizon"),
    _column("horizon_unit", String, "session, week or month"),
    _column("role", String, "live, backfill or challenger"),
    _column("model_version", String, "signals.model_version; * for the signal whoever made it"),
    _column("scored", BigInteger, "rows of the signal"),
    _column("known", BigInteger, "rows whose outcome is known"),
    *(
        _column(f"{prefix}{name}", Double, f"{what}{against}", null=True)
        for prefix, against in (("", "what the signal is about"), ("tradable_", "tradable_return"))
        for name, what in (
            ("ic", "of this date: Pearson correlation of value and "),
            ("rank_ic", "of this date: Spearman correlation of value and "),
            ("auc", "of this date: area under the ROC curve of value, up or not by "),
            ("hit_rate", "of this date: share of right directions, by "),
        )
    ),
    _column("mae", Double, "of this date: mean absolute error, unit of value", null=True),
    _column("naive_mae", Double, "of this date: the same of the last known value", null=True),
    _column("brier", Double, "of this date: mean squared error of probability", null=True),
    _column("running_dates", Integer, "dates in the running figures, this one the last"),
    *(
        _column(
            f"running_{prefix}{name}",
            Double,
            f"over a year of dates: {what}, by {against}",
            null=True,
        )
        for prefix, against in (("", "what the signal is about"), ("tradable_", "tradable_return"))
        for name, what in (
            ("ic", "mean of ic; of one series the correlation of expected and realised change"),
            ("rank_ic", "mean of rank_ic; of one series the same of ranks"),
            ("rank_ic_t", "Newey-West t of rank_ic; NULL of one series"),
            ("auc", "mean of auc; of one series over all dates"),
            ("hit_rate", "mean of hit_rate"),
        )
    ),
    _column("running_mae", Double, "over a year of dates: mean absolute error", null=True),
    _column("running_naive_mae", Double, "over a year of dates: the last value's", null=True),
    comment="How good a signal was, by date and over the year up to it: one row per (signal, "
    "entity, as_of, horizon, horizon_unit, model_version, role) with a known outcome",
)

signal_calibration = Table(
    "signal_calibration",
    metadata,
    _column("signal", String, "signals.signal"),
    _column("horizon", Integer, "signals.horizon"),
    _column("horizon_unit", String, "session, week or month"),
    _column("role", String, "live, backfill or challenger"),
    _column("model_version", String, "signals.model_version; * for the signal whoever made it"),
    _column("kind", String, "probability, or quantile"),
    _column("bucket", Integer, "tenth of the rows by probability; number of the quantile"),
    _column("expected", Double, "mean probability of the bucket; share below the quantile"),
    _column("observed", Double, "share that was so"),
    _column("rows", BigInteger, "outcomes"),
    comment="Whether probabilities and quantiles hold what they say, over the newest year of "
    "dates: one row per (signal, horizon, horizon_unit, role, model_version, kind, bucket)",
)

signal_drift = Table(
    "signal_drift",
    metadata,
    _column("signal", String, "signals.signal"),
    _column("model_version", String, "version that scored"),
    _column("session", Date, "night"),
    _column("subject", String, "value (of several targets each), or a feature it sees"),
    _column("psi", Double, "population stability index of the newest dates to the training span"),
    _column("noise", Double, "95 % of such indices lie below it where nothing has changed"),
    _column("rows", BigInteger, "values compared"),
    _column("reference_rows", BigInteger, "values of the training span"),
    _column("drifted", Boolean, "psi above 0.25 and above noise"),
    comment="How far inputs and scores have moved from what the version was trained on: one row "
    "per (signal, model_version, session, subject)",
)

document_sentiment = Table(
    "document_sentiment",
    metadata,
    _column("source", String, "where the document came from"),
    _column("document_id", String, "raw.documents.document_id"),
    _instant("published_at", "UTC time of the document itself"),
    _instant("known_at", "UTC time from which this text of the document could have been used"),
    _column("session", Date, "exchange day that it counts to: the first to close after known_at"),
    _column("entities", ARRAY(String), "symbols that it is about"),
    _column("language", String, "as the source gives it", null=True),
    _column("sentiment", Double, "positive less negative, -1 to 1"),
    _column("negative", Double, "probability that the text is negative"),
    _column("neutral", Double, "probability that it is neutral; 0 of two classes"),
    _column("positive", Double, "probability that the text is positive"),
    _column(
        "novelty",
        Double,
        "1 less the likeness to the most similar document of the three days before, 0 to 1",
    ),
    _column(
        "duplicate_of",
        String,
        "document_id that it repeats, or nearly; its own id where it corrects itself",
        null=True,
    ),
    _column("model", String, "model"),
    _column("model_version", String, "model_versions.model_version"),
    _instant("scored_at", "UTC time"),
    _column("run_id", String, "runs.run_id"),
    comment="Scores of texts: one row per (source, document_id, known_at), by the version that "
    "was champion when it was scored",
)

model_versions = Table(
    "model_versions",
    metadata,
    _column("model", String, "model", key=True),
    _column("model_version", String, "one trained instance", key=True),
    _column("status", String, "trained or failed"),
    _column("stage", String, "champion, challenger, retired, or walk-forward: made by a backfill"),
    _column("recipe", JSON, "architecture and training recipe"),
    _column("feature_view", String, "view that it reads"),
    _column("feature_version", String, "version of the view"),
    _column("data_snapshot", String, "content hash of the raw rows it learned from"),
    _instant("cutoff", "UTC cut-off of the training data"),
    _instant(
        "labels_known_at", "UTC: newest known_at of a label it was trained or stopped on", null=True
    ),
    _column("seed", BigInteger, "random seed"),
    _column("backend", String, "Keras backend and versions"),
    _column("parameters", BigInteger, "trainable parameters", null=True),
    _column("spans", JSON, "train, validation and test: first and last as_of, windows"),
    _column("metrics", JSON, "on the test span"),
    _column("baselines", JSON, "the same metrics of the baselines on the same days"),
    _column("artefact", String, "folder under models/ of the home", null=True),
    _column(
        "artefact_sha256", String, "hash of the manifest, which holds those of the files", null=True
    ),
    _column("reason", String, "why it has its stage, or why it failed"),
    _instant("trained_at", "UTC time"),
    _column("seconds", Double, "training time"),
    _column("run_id", String, "runs.run_id"),
    comment="Every trained version of every model, with metrics, baselines and lineage",
)

feature_views = Table(
    "feature_views",
    metadata,
    _column("view", String, "name of the view", key=True),
    _column("version", String, "hash of the declaration", key=True),
    _column("entity", String, "symbol, series or document"),
    _column("window", Integer, "values per window"),
    _column("horizon", Integer, "of the target"),
    _column("horizon_unit", String, "session, week or month"),
    _column("declaration", JSON, "all that determines the values"),
    _column("rows", BigInteger, "materialized rows"),
    _column("entities", BigInteger, "entities with rows"),
    _column("first_date", Date, "oldest row", null=True),
    _column("last_date", Date, "newest row", null=True),
    _instant("watermark", "UTC: newest known_at of a raw row that is reflected", null=True),
    _instant("materialized_at", "UTC time", null=True),
    _column("description", String, "what it is, for people", null=True),
    _column("reflected", JSON, "rows of each raw table that it has read", null=True),
    comment="Declared feature views and versions, and how far they are materialized",
)

exchange_sessions = Table(
    "sessions",
    metadata,
    _column("session", Date, "trading day of the exchange calendar"),
    _column("number", Integer, "sessions before it in the calendar"),
    _column("week_end", Date, "last session of its week, Monday to Sunday"),
    _column("month_end", Date, "last session of its month"),
    comment="The exchange's sessions, from 1960 until a year ahead",
)

data_snapshots = Table(
    "data_snapshots",
    metadata,
    _column("data_snapshot", String, "content hash of the values visible at the cut-off", key=True),
    _column("feature_view", String, "feature_views.view"),
    _column("feature_version", String, "feature_views.version"),
    _instant("cutoff", "UTC cut-off at which it was first read"),
    _column("rows", BigInteger, "values visible"),
    _column("first_date", Date, "oldest value", null=True),
    _column("last_date", Date, "newest value", null=True),
    comment="What models were trained on and scores made from: the values of a feature view "
    "that were visible at a cut-off",
)

runs = Table(
    "runs",
    metadata,
    _column("run_id", String, "one execution of a flow", key=True),
    _column("flow", String, "nightly, sentiment, train or backfill"),
    _column(
        "session",
        Date,
        "night that it was for; of a backfill the one that bounds what its outcomes know",
        null=True,
    ),
    _column("profile", String, "sample, live or files"),
    _column("status", String, "running, completed, partial or failed"),
    _column("exit_code", Integer, "0 good, 1 failed, 3 something missing", null=True),
    _instant("started_at", "UTC, machine's clock"),
    _instant("finished_at", "UTC, machine's clock", null=True),
    _column("seconds", Double, "Lookback's own work, orchestration apart", null=True),
    _column("missing", JSON, "one line for each source or signal that is missing"),
    _column("version", String, "version of Lookback"),
    comment="Executions of flows",
)

freshness = Table(
    "freshness",
    metadata,
    _column("source", String, "where rows come from", key=True),
    _column("kind", String, "bars, observations or documents"),
    _column("entities", BigInteger, "symbols or series"),
    _column("rows", BigInteger, "rows in raw tables, all vintages"),
    _column("first_date", Date, "oldest session or period", null=True),
    _column("last_date", Date, "newest session or period", null=True),
    _instant("last_known_at", "UTC: known_at of the newest row", null=True),
    _column("age", Integer, "sessions from last_date to the session", null=True),
    _column("stale", Boolean, "older than the source's publication rule allows"),
    _column("session", Date, "night at which this was measured"),
    _column("detail", String, "what is wrong, empty if nothing", null=True),
    comment="How fresh each source is",
)

validation_results = Table(
    "validation_results",
    metadata,
    _column("run_id", String, "runs.run_id"),
    _column("session", Date, "night"),
    _column("source", String, "where the increment came from"),
    _column("suite", String, "expectation suite"),
    _column("rule", String, "rule of the gate"),
    _column("expectation", String, "the Great Expectations type that judged it; empty if skipped"),
    _column("column_name", String, "column that it is about", null=True),
    _column("level", String, "row: failing rows go to quarantine; table: the source is stopped"),
    _column("success", Boolean, "whether it held"),
    _column("evaluated", BigInteger, "rows looked at"),
    _column("unexpected", BigInteger, "rows that failed"),
    _column("detail", String, "what was seen", null=True),
    _instant("validated_at", "UTC time"),
    comment="Results of the quality gate, one row per run, source and expectation",
)
