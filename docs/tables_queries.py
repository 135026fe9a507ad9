"""What people ask of the published tables: the one place of grain, notes and queries.

`tables_page.py` makes the pages, `tests/test_contract.py` runs every query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent


@dataclass(frozen=True)
class Query:
    """A question and the SQL that answers it."""

    question: str
    sql: str


@dataclass(frozen=True)
class Table:
    """What a page says that the database does not.

    Attributes
    ----------
    key : columns of which no two rows have the same values.
    queries : at least three.
    what : instead of the comment, where there is none in the database.
    note : what a reader should know before the first query.
    call : of a macro, with an argument on which the grain is checked.
    like : of a macro, the table whose columns its own are.
    columns : of a macro, what its other columns are.
    nullable : of a macro, which of these may be NULL.
    """

    key: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()
    what: str = ""
    note: str = ""
    call: str = ""
    like: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    nullable: tuple[str, ...] = ()


def _query(question: str, sql: str) -> Query:
    return Query(question, dedent(sql).strip())


SIGNAL_KEY = ("signal", "entity", "as_of", "horizon", "horizon_unit", "model_version", "role")

SIGNALS = Table(
    key=SIGNAL_KEY,
    note="A date may have a row of each role and of several versions; `signals_wide` chooses one. "
    "Trade no row before the close of `tradable_from`. `value` has the unit below whatever version "
    "made it; what a version itself calls a probability is in `probability`. `q05`, `q50` and "
    "`q95` are `value` and the quantiles of its errors on the validation span, which may be short "
    "and long ago: `signal_calibration` says what they held.",
    queries=(
        _query(
            "What did the signal say of a stock, and from when could that be traded?",
            """
            SELECT as_of, tradable_from, role, round(value, 4) AS value, rank, model_version
            FROM signals
            WHERE signal = 'equity_week_direction' AND entity = 'AAPL'
            ORDER BY as_of DESC, role
            LIMIT 5;
            """,
        ),
        _query(
            "Whom would a book of three longs and three shorts have held in a week?",
            """
            SELECT CASE WHEN rank > 0.5 THEN 'long' ELSE 'short' END AS side,
                entity, rank, tradable_from
            FROM signals
            WHERE signal = 'equity_week_direction' AND as_of = '2018-12-21'
                AND role = 'backfill'
            QUALIFY least(
                row_number() OVER (ORDER BY value DESC), row_number() OVER (ORDER BY value)
            ) <= 3
            ORDER BY value DESC;
            """,
        ),
        _query(
            "How wide is the interval from q05 to q95 of the index, as a share of its level?",
            """
            SELECT model_version, count(*) AS sessions,
                round(100 * avg((q95 - q05) / q50), 2) AS width_in_percent
            FROM signals
            WHERE signal = 'sp500_next_close'
            GROUP BY model_version
            ORDER BY model_version;
            """,
        ),
        _query(
            "Which versions scored which dates?",
            """
            SELECT signal, role, model_version, min(as_of) AS first, max(as_of) AS last,
                count(DISTINCT as_of) AS dates
            FROM signals
            WHERE signal IN ('sp500_next_close', 'equity_week_direction')
            GROUP BY ALL
            ORDER BY signal, first;
            """,
        ),
    ),
)

SIGNAL_REVISIONS = Table(
    key=(*SIGNAL_KEY, "revision"),
    note="Nothing is ever deleted or changed here. `signals` holds the newest revision of each "
    "row, `signals_as_of(ts)` those of a moment.",
    queries=(
        _query(
            "Was anything restated after it had been published?",
            """
            SELECT signal, role, count(*) FILTER (revision = 0) AS published,
                count(*) FILTER (revision > 0) AS restated
            FROM signal_revisions
            GROUP BY ALL
            ORDER BY ALL;
            """,
        ),
        _query(
            "What has been said about one date, in the order in which it was said?",
            """
            SELECT role, model_version, revision, round(value, 4) AS value, tradable_from
            FROM signal_revisions
            WHERE signal = 'macro_outlook' AND entity = 'BAA' AND as_of = '2018-12-17'
            ORDER BY published_at, revision;
            """,
        ),
        _query(
            "How long after the inputs were known was a live row published, at the latest?",
            """
            SELECT signal, count(*) AS rows,
                max(date_diff('minute', known_at, published_at)) AS minutes
            FROM signal_revisions
            WHERE role = 'live' AND horizon_unit <> 'month'
            GROUP BY signal
            ORDER BY signal;
            """,
        ),
    ),
)

SIGNALS_LATEST = Table(
    key=("signal", "entity", "horizon"),
    note="A table, so that it answers in milliseconds. `age` counts sessions: 0 is tonight's.",
    queries=(
        _query(
            "What does each series' signal say now, and from when can it be traded?",
            """
            SELECT signal, entity, as_of, round(value, 4) AS value, round(q05, 4) AS q05,
                round(q95, 4) AS q95, tradable_from, age
            FROM signals_latest
            WHERE horizon = 1 AND rank IS NULL
            ORDER BY signal, entity;
            """,
        ),
        _query(
            "Which stocks does the newest week put on top?",
            """
            SELECT rank, entity, round(value, 4) AS value, as_of, tradable_from
            FROM signals_latest
            WHERE signal = 'equity_week_direction'
            ORDER BY value DESC
            LIMIT 5;
            """,
        ),
        _query(
            "Is any signal older than it should be?",
            """
            SELECT signal, horizon_unit, max(as_of) AS newest, min(age) AS age,
                min(age) > CASE horizon_unit
                    WHEN 'session' THEN 0 WHEN 'week' THEN 4 ELSE 23
                END AS late
            FROM signals_latest
            GROUP BY signal, horizon_unit
            ORDER BY signal;
            """,
        ),
    ),
)

SIGNALS_WIDE = Table(
    key=("entity", "as_of"),
    note="A column for each declared signal; one with several horizons has a column for each "
    "that has been scored (`macro_path_1` … `macro_path_12`), so which columns there are "
    "depends on the store. For a backtest, which must know roles and `tradable_from`, read "
    "`signals`. Where `value` is a score, versions may give it on scales of their own: compare "
    "entities within a date.",
    queries=(
        _query(
            "What did the signal say of some stocks, week by week?",
            """
            PIVOT (
                SELECT as_of, entity, round(equity_week_direction, 4) AS score
                FROM signals_wide
                WHERE entity IN ('AAPL', 'JPM', 'XOM') AND as_of >= '2018-12-01'
                    AND equity_week_direction IS NOT NULL
            )
            ON entity IN ('AAPL', 'JPM', 'XOM') USING any_value(score)
            ORDER BY as_of;
            """,
        ),
        _query(
            "What was forecast for the index, and what change is that?",
            """
            SELECT as_of, round(sp500_next_close, 2) AS forecast,
                round(sp500_next_close - lag(sp500_next_close) OVER (ORDER BY as_of), 2) AS moved
            FROM signals_wide
            WHERE entity = 'SP500'
            ORDER BY as_of DESC
            LIMIT 5;
            """,
        ),
        _query(
            "How many entities and dates does each signal cover?",
            """
            SELECT count(*) AS rows, count(DISTINCT entity) AS entities,
                count(sp500_next_close) AS sp500_next_close,
                count(equity_week_direction) AS equity_week_direction,
                count(macro_outlook) AS macro_outlook
            FROM signals_wide;
            """,
        ),
    ),
)

SIGNALS_AS_OF = Table(
    key=SIGNAL_KEY,
    what="What a reader saw at `ts` (TIMESTAMPTZ): of each row the newest revision published "
    "by then",
    note="Rows of a backfill are there from the time at which they were in fact written: nobody "
    "saw them on their own date.",
    call="signals_as_of(TIMESTAMPTZ '2019-01-05 12:00:00+00')",
    like="signals",
    queries=(
        _query(
            "What was there to read on the Saturday after the first night?",
            """
            SELECT signal, role, max(as_of) AS newest, count(*) AS rows
            FROM signals_as_of(TIMESTAMPTZ '2018-12-29 12:00:00+00')
            GROUP BY ALL
            ORDER BY signal;
            """,
        ),
        _query(
            "What had come to the series by the evening of 2 January in New York?",
            """
            SELECT signal, entity, as_of, horizon, round(value, 2) AS value, published_at
            FROM signals_as_of(TIMESTAMPTZ '2019-01-02 23:00:00-05')
            ANTI JOIN signals_as_of(TIMESTAMPTZ '2018-12-29 12:00:00+00')
                USING (signal, entity, as_of, horizon, model_version, role)
            WHERE rank IS NULL
            ORDER BY published_at, signal;
            """,
        ),
        _query(
            "Does a row read today say what it said then?",
            """
            SELECT t.signal, count(*) AS rows, count(*) FILTER (t.value <> s.value) AS other
            FROM signals_as_of(TIMESTAMPTZ '2018-12-29 12:00:00+00') t
            JOIN signals s USING (signal, entity, as_of, horizon, model_version, role)
            GROUP BY t.signal
            ORDER BY t.signal;
            """,
        ),
    ),
)

OUTCOMES = Table(
    key=SIGNAL_KEY,
    note="Two returns: `label_return` begins at the close that the score was made from, which "
    "nobody can trade any more; `tradable_return` is as long and begins at the close of "
    "`tradable_from`. Judge a signal by the first, a strategy by the second. `known_at` is that of "
    "`realised`; `tradable_return` is NULL until the close of `tradable_until` is known. `hit` of "
    "a cross-section is whether a row came on the side of its date's median that it was put on.",
    queries=(
        _query(
            "Which names did the signal miss by most in a week?",
            """
            SELECT entity, placed, came,
                round(100 * label_return, 2) AS return_in_percent
            FROM (
                SELECT entity, label_return,
                    rank() OVER (ORDER BY value DESC) AS placed,
                    rank() OVER (ORDER BY realised DESC) AS came
                FROM outcomes
                WHERE signal = 'equity_week_direction' AND role = 'backfill'
                    AND as_of = '2018-12-21'
            )
            ORDER BY abs(placed - came) DESC, entity
            LIMIT 5;
            """,
        ),
        _query(
            "What did each fifth of the names earn a week, at the label and net of the delay?",
            """
            SELECT fifth, count(*) AS rows,
                round(1e4 * avg(label_return), 1) AS label_bp,
                round(1e4 * avg(tradable_return), 1) AS tradable_bp
            FROM (
                SELECT *, ntile(5) OVER (PARTITION BY as_of ORDER BY value, entity) AS fifth
                FROM outcomes
                WHERE signal = 'equity_week_direction' AND role = 'backfill'
            )
            GROUP BY fifth
            ORDER BY fifth;
            """,
        ),
        _query(
            "How far off was the index, beside saying that tomorrow is today?",
            """
            SELECT year(as_of) AS year, role, count(*) AS sessions,
                round(avg(abs(error)), 2) AS error_in_points,
                round(avg(abs(realised - start)), 2) AS of_no_change,
                round(100 * avg(CAST(hit AS INT)), 1) AS right_in_percent
            FROM outcomes
            WHERE signal = 'sp500_next_close'
            GROUP BY ALL
            ORDER BY ALL;
            """,
        ),
        _query(
            "Which live rows have an outcome, and when was it known?",
            """
            SELECT signal, as_of, target_date, round(value, 2) AS value,
                round(realised, 2) AS realised, known_at, tradable_from, tradable_until
            FROM outcomes
            WHERE role = 'live' AND signal = 'sp500_next_close'
            ORDER BY as_of;
            """,
        ),
    ),
)

SIGNAL_PERFORMANCE = Table(
    key=("signal", "entity", "as_of", "horizon", "horizon_unit", "role", "model_version"),
    note="A cross-section has correlations of each date (`ic`, `rank_ic`, `auc`) and their means "
    "over a year; a single series only those over the dates of a year (`running_ic` and so on). "
    "`model_version = '*'` is the signal as readers have it, whoever made it: filter by it, or by "
    "one version. Figures with `tradable_` are against what could be traded.",
    queries=(
        _query(
            "What is the rank IC by year, against the label and against what could be traded?",
            """
            SELECT year(as_of) AS year, count(rank_ic) AS weeks,
                round(avg(rank_ic), 3) AS rank_ic,
                round(avg(tradable_rank_ic), 3) AS tradable_rank_ic,
                round(avg(rank_ic) / stddev(rank_ic) * sqrt(count(rank_ic)), 1) AS t
            FROM signal_performance
            WHERE signal = 'equity_week_direction' AND role = 'backfill' AND model_version = '*'
            GROUP BY year
            ORDER BY year;
            """,
        ),
        _query(
            "Is it decaying: how does the mean rank IC of eight weeks run?",
            """
            SELECT as_of, round(rank_ic, 3) AS this_week,
                round(avg(rank_ic) OVER eight, 3) AS eight_weeks,
                round(running_rank_ic, 3) AS year, round(running_rank_ic_t, 1) AS t
            FROM signal_performance
            WHERE signal = 'equity_week_direction' AND role = 'backfill' AND model_version = '*'
            WINDOW eight AS (ORDER BY as_of ROWS 7 PRECEDING)
            ORDER BY as_of DESC
            LIMIT 8;
            """,
        ),
        _query(
            "Does a forecast beat the last known value over its newest year?",
            """
            SELECT signal, entity, as_of, running_dates AS dates,
                round(running_mae, 4) AS mae, round(running_naive_mae, 4) AS naive,
                round(1 - running_mae / running_naive_mae, 3) AS better_by
            FROM signal_performance
            WHERE model_version = '*' AND role = 'backfill' AND horizon = 1
                AND running_mae IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY signal, entity ORDER BY as_of DESC) = 1
            ORDER BY signal, entity;
            """,
        ),
    ),
)

SIGNAL_CALIBRATION = Table(
    key=("signal", "horizon", "horizon_unit", "role", "model_version", "kind", "bucket"),
    note="`expected` and `observed` agree where a forecast means what it says. Of quantiles the "
    "buckets are 1 (`q05`), 2 (`q50`) and 3 (`q95`).",
    queries=(
        _query(
            "Do the quantiles of the index hold what they say?",
            """
            SELECT expected, round(observed, 3) AS observed, rows,
                round((observed - expected) / sqrt(expected * (1 - expected) / rows), 1)
                    AS standard_errors
            FROM signal_calibration
            WHERE signal = 'sp500_next_close' AND kind = 'quantile'
                AND role = 'backfill' AND model_version = '*'
            ORDER BY bucket;
            """,
        ),
        _query(
            "How much of what came lay within the interval from q05 to q95?",
            """
            SELECT signal, horizon, max(rows) AS rows,
                round(max(observed) FILTER (bucket = 3) - max(observed) FILTER (bucket = 1), 3)
                    AS within,
                0.9 AS expected
            FROM signal_calibration
            WHERE kind = 'quantile' AND role = 'backfill' AND model_version = '*'
                AND horizon IN (1, 6, 12)
            GROUP BY signal, horizon
            ORDER BY signal, horizon;
            """,
        ),
        _query(
            "Of what was called likely, how much happened?",
            """
            SELECT signal, role, bucket, round(expected, 3) AS expected,
                round(observed, 3) AS observed, rows
            FROM signal_calibration
            WHERE kind = 'probability' AND model_version = '*'
            ORDER BY signal, role, bucket;
            """,
        ),
    ),
)

SIGNAL_DRIFT = Table(
    key=("signal", "model_version", "session", "subject"),
    note="Below 0.1 nothing has happened, above 0.25 something has, if it is above `noise` too: "
    "an index of few values is large by chance. Baselines that learn nothing are not measured.",
    queries=(
        _query(
            "What has moved most since the versions that score were trained?",
            """
            SELECT signal, subject, round(psi, 2) AS psi, round(noise, 2) AS noise, rows, drifted
            FROM signal_drift
            WHERE session = (SELECT max(session) FROM signal_drift)
            ORDER BY psi / noise DESC
            LIMIT 6;
            """,
        ),
        _query(
            "How many inputs drifted on each night?",
            """
            SELECT session, signal, count(*) AS subjects, count(*) FILTER (drifted) AS drifted
            FROM signal_drift
            GROUP BY ALL
            ORDER BY session DESC, signal
            LIMIT 8;
            """,
        ),
        _query(
            "Do the scores themselves drift?",
            """
            SELECT signal, session, subject, round(psi, 2) AS psi, round(noise, 2) AS noise,
                reference_rows
            FROM signal_drift
            WHERE subject LIKE 'value%'
            ORDER BY signal, session DESC, subject
            LIMIT 8;
            """,
        ),
    ),
)

FRESHNESS = Table(
    key=("source",),
    note="Measured by the newest night; `lookback check` gives the same as an exit code.",
    queries=(
        _query(
            "How many sessions is each source behind, and is that more than it may be?",
            """
            SELECT source, last_date, age, stale, detail
            FROM freshness
            ORDER BY stale DESC, age DESC, source;
            """,
        ),
        _query(
            "How far does each source reach?",
            """
            SELECT source, kind, entities, rows, first_date, last_date
            FROM freshness
            ORDER BY source;
            """,
        ),
        _query(
            "From when on could the newest row of each source be used?",
            """
            SELECT source, last_date, last_known_at,
                date_diff('day', last_date, last_known_at) AS days_later
            FROM freshness
            ORDER BY last_known_at DESC, source;
            """,
        ),
    ),
)

MODEL_VERSIONS = Table(
    key=("model", "model_version"),
    note="Baselines are versions, too. `metrics` and `baselines` are JSON: `metrics ->> "
    "'$.rmse'` reads a figure. Only versions of one `cutoff` were measured on the same dates.",
    queries=(
        _query(
            "Who is champion, and why?",
            """
            SELECT model, split_part(model_version, '-', 2) AS recipe, parameters, reason
            FROM model_versions
            WHERE stage = 'champion'
            ORDER BY model;
            """,
        ),
        _query(
            "How does the index's network stand beside its baselines?",
            """
            SELECT split_part(model_version, '-', 2) AS recipe, stage, parameters,
                round(CAST(metrics ->> '$.rmse' AS DOUBLE), 2) AS rmse,
                round(CAST(baselines ->> '$.persistence.rmse' AS DOUBLE), 2) AS persistence
            FROM model_versions
            WHERE model = 'sp500_next_close' AND cutoff >= '2018-12-28'
            ORDER BY rmse;
            """,
        ),
        _query(
            "What had each version of a backfill learned from by its cut-off?",
            """
            SELECT model, split_part(model_version, '-', 2) AS recipe, cutoff, labels_known_at
            FROM model_versions
            WHERE stage = 'walk-forward' AND model_version IN (
                SELECT model_version FROM signals WHERE role = 'backfill'
            )
            ORDER BY model, cutoff;
            """,
        ),
    ),
)

FEATURE_VIEWS = Table(
    key=("view", "version"),
    note="The rows lie in `features.<view>_<version>`; read them through "
    "`features.<view>_windows(ts)` and its siblings ([features.md](../features.md)). `window` is a "
    "reserved word: write `f.window` or quote it.",
    queries=(
        _query(
            "What do the champions read?",
            """
            SELECT m.model, f.view, f.entity, f.window, f.horizon_unit, f.last_date
            FROM feature_views f
            JOIN model_versions m ON m.feature_view = f.view AND m.feature_version = f.version
            WHERE m.stage = 'champion'
            ORDER BY m.model;
            """,
        ),
        _query(
            "Which views hold how much?",
            """
            SELECT view, entities, rows, first_date, last_date
            FROM feature_views
            WHERE rows > 0
            ORDER BY rows DESC, view
            LIMIT 8;
            """,
        ),
        _query(
            "Is a view behind the raw tables?",
            """
            SELECT view, watermark, n.known_at AS newest_bar, watermark < n.known_at AS behind
            FROM feature_views
            CROSS JOIN (
                SELECT max(known_at) AS known_at FROM raw.bars WHERE source = 'sample.stocks'
            ) n
            WHERE view IN ('equity_weekly_return', 'market_beta', 'price_factors')
            ORDER BY view;
            """,
        ),
    ),
)

RUNS = Table(
    key=("run_id",),
    note="Times are the machine's, also where a night is replayed; `session` says which night.",
    queries=(
        _query(
            "How did the last nights end?",
            """
            SELECT session, flow, status, exit_code, missing
            FROM runs
            WHERE flow = 'nightly'
            ORDER BY session DESC
            LIMIT 4;
            """,
        ),
        _query(
            "Has any session since the first night been left out?",
            """
            WITH nights AS (
                SELECT DISTINCT session FROM runs WHERE flow = 'nightly' AND exit_code IN (0, 3)
            )
            SELECT min(s.session) AS first, max(s.session) AS last, count(*) AS sessions,
                count(n.session) AS nights, min(s.session) FILTER (n.session IS NULL) AS left_out
            FROM sessions s
            LEFT JOIN nights n USING (session)
            WHERE s.session BETWEEN (SELECT min(session) FROM nights)
                AND (SELECT max(session) FROM nights);
            """,
        ),
        _query(
            "What did each run write?",
            """
            SELECT r.flow, r.session, s.role, s.signal, count(*) AS rows
            FROM runs r
            JOIN signals s USING (run_id)
            WHERE s.signal <> 'macro_path'
            GROUP BY ALL
            ORDER BY r.session, r.flow, s.signal
            LIMIT 8;
            """,
        ),
    ),
)

VALIDATION_RESULTS = Table(
    key=("run_id", "source", "suite", "rule", "column_name"),
    note="Rows that fail a row-level rule are in `raw.quarantine`, each with its reason "
    "([quality.md](../quality.md)). A rule that does not apply is there too, with `evaluated = 0` "
    "and the reason in `detail`.",
    queries=(
        _query(
            "Did anything fail, night by night?",
            """
            SELECT session, count(*) AS checks, count(*) FILTER (NOT success) AS failed,
                sum(unexpected) AS rows_that_failed
            FROM validation_results
            GROUP BY session
            ORDER BY session DESC
            LIMIT 5;
            """,
        ),
        _query(
            "What is looked at, by source?",
            """
            SELECT source, count(DISTINCT rule) AS rules, count(*) AS checks,
                count(*) FILTER (NOT success) AS failed, max(evaluated) AS most_rows
            FROM validation_results
            WHERE evaluated > 0
            GROUP BY source
            ORDER BY source;
            """,
        ),
        _query(
            "Which rules judge the stocks' rows?",
            """
            SELECT DISTINCT rule, expectation, column_name
            FROM validation_results
            WHERE source = 'sample.stocks' AND level = 'row' AND evaluated > 0
            ORDER BY rule, column_name
            LIMIT 8;
            """,
        ),
    ),
)

DATA_SNAPSHOTS = Table(
    key=("data_snapshot",),
    note="The hash is of the values: two nights that saw the same have one snapshot.",
    queries=(
        _query(
            "From what was the newest score of the index made?",
            """
            SELECT l.as_of, left(d.data_snapshot, 8) AS data_snapshot, d.feature_view,
                d.cutoff, d.rows, d.first_date, d.last_date
            FROM signals_latest l
            JOIN data_snapshots d USING (data_snapshot)
            WHERE l.signal = 'sp500_next_close';
            """,
        ),
        _query(
            "What did the champions learn from?",
            """
            SELECT m.model, left(d.data_snapshot, 8) AS data_snapshot, d.rows, d.first_date,
                d.last_date
            FROM model_versions m
            JOIN data_snapshots d USING (data_snapshot)
            WHERE m.stage = 'champion'
            ORDER BY m.model;
            """,
        ),
        _query(
            "Did a score see anything newer than its own date?",
            """
            SELECT s.signal, count(*) AS rows, count(*) FILTER (d.last_date > s.as_of) AS newer
            FROM signals s
            JOIN data_snapshots d USING (data_snapshot)
            GROUP BY s.signal
            ORDER BY s.signal;
            """,
        ),
    ),
)

SESSIONS = Table(
    key=("session",),
    note="Reaches a year beyond the date of the machine that filled it.",
    queries=(
        _query(
            "Which is the next session after a date?",
            """
            SELECT min(session) AS next_session
            FROM sessions
            WHERE session > '2018-12-29';
            """,
        ),
        _query(
            "How many sessions lie between two dates?",
            """
            SELECT b.number - a.number AS sessions
            FROM sessions a, sessions b
            WHERE a.session = '2018-12-21' AND b.session = '2019-01-02';
            """,
        ),
        _query(
            "Which weeks of a year do not end on a Friday?",
            """
            SELECT DISTINCT week_end, dayname(week_end) AS day
            FROM sessions
            WHERE year(week_end) = 2018 AND dayname(week_end) <> 'Friday'
            ORDER BY week_end;
            """,
        ),
    ),
)

LISTINGS_AS_OF = Table(
    key=("entity",),
    what="Symbols with bars known by `ts` (TIMESTAMPTZ), each from its listing to its last trade",
    note="A symbol is there from its first bar on, not before, and stays after it has gone. "
    "Indices with bars are symbols, too.",
    call="listings_as_of(TIMESTAMPTZ '2019-01-05 12:00:00+00')",
    columns={
        "entity": "symbol",
        "first_session": "session of its oldest bar",
        "last_session": "session of its newest bar known by ts",
        "sessions": "sessions with a bar",
        "delisted_on": "first session without trading, where a delisting was known by ts",
    },
    nullable=("delisted_on",),
    queries=(
        _query(
            "What could be traded on a date, as it was known then?",
            """
            SELECT count(*) AS symbols, min(first_session) AS oldest,
                count(*) FILTER (last_session = '2017-06-30') AS traded_that_day
            FROM listings_as_of(TIMESTAMPTZ '2017-07-01 03:00:00+00');
            """,
        ),
        _query(
            "Which symbols have the shortest history?",
            """
            SELECT entity, first_session, last_session, sessions
            FROM listings_as_of(TIMESTAMPTZ '2018-12-29 03:00:00+00')
            ORDER BY sessions, entity
            LIMIT 4;
            """,
        ),
        _query(
            "Which symbols have stopped trading, and are they known to be delisted?",
            """
            SELECT count(*) AS symbols,
                count(*) FILTER (last_session < '2018-12-28') AS stopped,
                count(delisted_on) AS delisted
            FROM listings_as_of(TIMESTAMPTZ '2018-12-29 03:00:00+00');
            """,
        ),
    ),
)

DOCUMENT_SENTIMENT = Table(
    key=("source", "document_id", "known_at"),
    note="The texts themselves are in `raw.documents` (source, document_id, known_at). A text that "
    "is about no symbol that we know has no entities and counts to no day. Texts are scored once: "
    "a later version scores only what comes in later.",
    queries=(
        _query(
            "What came out about a symbol on a day, and how was it read?",
            """
            SELECT d.published_at, left(d.text, 60) AS text, round(s.sentiment, 2) AS sentiment,
                round(s.novelty, 2) AS novelty
            FROM document_sentiment s
            JOIN raw.documents d USING (source, document_id, known_at)
            WHERE list_contains(s.entities, 'AAPL') AND s.session = '2018-12-28'
            ORDER BY d.published_at
            LIMIT 5;
            """,
        ),
        _query(
            "Which symbols are talked about, and how much of it is repeated?",
            """
            SELECT entity, count(*) AS texts, count(duplicate_of) AS repeats,
                round(avg(sentiment), 3) AS sentiment
            FROM (SELECT *, unnest(entities) AS entity FROM document_sentiment)
            GROUP BY entity
            ORDER BY texts DESC, entity
            LIMIT 5;
            """,
        ),
        _query(
            "What was out at noon in New York, and nothing of the afternoon?",
            """
            SELECT entity, count(*) AS texts, round(avg(sentiment), 3) AS sentiment
            FROM (SELECT *, unnest(entities) AS entity FROM document_sentiment)
            WHERE session = '2018-12-28' AND known_at <= TIMESTAMPTZ '2018-12-28 17:00:00+00'
            GROUP BY entity
            ORDER BY texts DESC, entity
            LIMIT 5;
            """,
        ),
        _query(
            "Which version read the texts, and what share did it call positive or negative?",
            """
            SELECT model_version, count(*) AS texts,
                round(avg(CAST(positive > greatest(neutral, negative) AS INT)), 3) AS positive,
                round(avg(CAST(negative > greatest(neutral, positive) AS INT)), 3) AS negative
            FROM document_sentiment
            GROUP BY model_version
            ORDER BY model_version;
            """,
        ),
    ),
)

SENTIMENT_DAILY = Table(
    key=("entity", "session"),
    note="An exchange day goes from the close before to its own close: what came out on Friday "
    "evening belongs to Monday. The day that has not closed yet is there, too, as far as it has "
    "come. A day without a text has no row. `features.sentiment_daily_as_of(ts)` gives the same "
    "as it was at an instant, in the states that runs have left.",
    queries=(
        _query(
            "What was said of a symbol on the newest days?",
            """
            SELECT session, documents, round(sentiment, 3) AS sentiment,
                round(dispersion, 3) AS dispersion, round(novel_sentiment, 3) AS novel_sentiment,
                round(decayed, 3) AS decayed
            FROM sentiment_daily
            WHERE entity = 'AAPL' AND session <= '2018-12-31'
            ORDER BY session DESC
            LIMIT 5;
            """,
        ),
        _query(
            "Of which symbols was said the best and the worst on a day?",
            """
            SELECT entity, documents, round(decayed, 3) AS decayed
            FROM sentiment_daily
            WHERE session = '2018-12-28'
            ORDER BY decayed DESC;
            """,
        ),
        _query(
            "When is there far more talk than usual?",
            """
            SELECT entity, session, documents,
                round(documents / avg(documents) OVER before, 2) AS times_usual
            FROM sentiment_daily
            WINDOW before AS (
                PARTITION BY entity ORDER BY session ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING
            )
            QUALIFY count(*) OVER before >= 10
            ORDER BY times_usual DESC, session, entity
            LIMIT 5;
            """,
        ),
        _query(
            "What did the view hold at the night's cut-off, and since when?",
            """
            SELECT entity, CAST(documents AS INT) AS documents,
                round(novel_sentiment, 3) AS novel_sentiment, known_at
            FROM features.sentiment_daily_as_of(TIMESTAMPTZ '2018-12-29 03:00:00+00')
            WHERE date = '2018-12-28'
            ORDER BY entity;
            """,
        ),
    ),
)

TABLES: Mapping[str, Table] = {
    "signals": SIGNALS,
    "signal_revisions": SIGNAL_REVISIONS,
    "signals_latest": SIGNALS_LATEST,
    "signals_wide": SIGNALS_WIDE,
    "signals_as_of": SIGNALS_AS_OF,
    "document_sentiment": DOCUMENT_SENTIMENT,
    "sentiment_daily": SENTIMENT_DAILY,
    "outcomes": OUTCOMES,
    "signal_performance": SIGNAL_PERFORMANCE,
    "signal_calibration": SIGNAL_CALIBRATION,
    "signal_drift": SIGNAL_DRIFT,
    "freshness": FRESHNESS,
    "model_versions": MODEL_VERSIONS,
    "feature_views": FEATURE_VIEWS,
    "runs": RUNS,
    "validation_results": VALIDATION_RESULTS,
    "data_snapshots": DATA_SNAPSHOTS,
    "sessions": SESSIONS,
    "listings_as_of": LISTINGS_AS_OF,
}
