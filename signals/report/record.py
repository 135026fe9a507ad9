"""The record of signals: IC over time, returns of fifths, calibration, drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np

from signals.report.reading import FIRST_JUDGED, Row, rows
from signals.report.scores import Scores

CROSS_SECTION = "*"
# Dates of returns by fifths: three years of weeks, or as many sessions.
FIFTHS_DATES = 156
FEWEST_ENTITIES = 10
# Returns beyond these quantiles of their date count as the quantile: a broken price is no return.
CLIPPED = 0.005
YEAR = timedelta(days=364)


@dataclass(frozen=True)
class Curve:
    """A figure by date, and its mean over the year up to each date."""

    dates: tuple[date, ...]
    values: tuple[float, ...]
    running: tuple[float, ...]

    @property
    def newest(self) -> float | None:
        """Mean over the newest year."""
        return self.running[-1] if self.running else None


@dataclass(frozen=True)
class Fifth:
    """Mean return of a fifth of the entities by value; errors are standard errors of the mean."""

    fifth: int
    label: float | None
    label_error: float | None
    tradable: float | None
    tradable_error: float | None


@dataclass(frozen=True)
class Fifths:
    """Returns by fifths, lowest first, over `dates` from `first` to `last`."""

    rows: tuple[Fifth, ...]
    dates: int
    first: date
    last: date


@dataclass(frozen=True)
class Bucket:
    """What was expected of `rows` outcomes, and what was observed."""

    expected: float
    observed: float
    rows: int


@dataclass(frozen=True)
class Record:
    """What a signal has been worth up to a session.

    Attributes
    ----------
    newest : rows of `signal_performance` of the newest date, by entity and horizon.
    rank_ic, tradable_rank_ic : of a cross-section; None where no date is known.
    series : of series: rows of `signal_performance` by entity, shortest horizon, by date.
    fifths : None where no return is known.
    probabilities, quantiles : calibration over the newest year, whoever made the scores.
    drift : newest session, the most drifted subject first.
    drift_session : of `drift`.
    newly_drifted : subjects that had not drifted at the session before.
    """

    newest: tuple[Row, ...]
    rank_ic: Curve | None
    tradable_rank_ic: Curve | None
    series: dict[str, tuple[Row, ...]]
    fifths: Fifths | None
    probabilities: tuple[Bucket, ...]
    quantiles: tuple[Bucket, ...]
    drift: tuple[Row, ...]
    drift_session: date | None
    newly_drifted: tuple[str, ...]

    @property
    def newest_across(self) -> Row | None:
        """Newest row of `signal_performance` of the cross-section."""
        return next((row for row in self.newest if row["entity"] == CROSS_SECTION), None)

    @property
    def is_empty(self) -> bool:
        """Whether no outcome is known yet."""
        return not self.newest and self.fifths is None

    @property
    def drifted(self) -> int:
        """Subjects that have drifted."""
        return sum(bool(row["drifted"]) for row in self.drift)


def read_record(connection: duckdb.DuckDBPyConnection, scores: Scores, session: date) -> Record:
    """The record of a signal, of dates up to `session`."""
    performance = _performance(connection, scores, session)
    newest: dict[tuple[str, int], Row] = {}
    series: dict[str, list[Row]] = {}
    across = []
    for row in performance:
        newest[row["entity"], row["horizon"]] = row
        if row["horizon"] != scores.horizon:
            continue
        if row["entity"] == CROSS_SECTION:
            across.append(row)
        else:
            series.setdefault(row["entity"], []).append(row)
    drift, drift_session, newly = _drift(connection, scores, session)
    return Record(
        tuple(newest[key] for key in sorted(newest)),
        _curve(across, "rank_ic"),
        _curve(across, "tradable_rank_ic"),
        {entity: tuple(found) for entity, found in sorted(series.items())},
        _fifths(connection, scores, session) if scores.cross_section else None,
        tuple(_calibration(connection, scores, "probability")),
        tuple(_calibration(connection, scores, "quantile")),
        tuple(drift),
        drift_session,
        tuple(newly),
    )


def _performance(connection: duckdb.DuckDBPyConnection, scores: Scores, session: date) -> list[Row]:
    return rows(
        connection,
        f"""
        -- one row an entity, date and horizon
        SELECT *
        FROM main.signal_performance
        WHERE signal = ? AND as_of <= ? AND role <> 'challenger' AND model_version = '*'
        QUALIFY {FIRST_JUDGED}
        ORDER BY as_of, entity, horizon
        """,
        scores.name,
        session,
    )


def _curve(performance: Sequence[Row], column: str) -> Curve | None:
    known = [
        (row["as_of"], row[column])
        for row in performance
        if row[column] is not None and np.isfinite(row[column])
    ]
    if not known:
        return None
    dates = np.array([day for day, _ in known], "datetime64[D]")
    values = np.array([value for _, value in known])
    sums = np.concatenate([[0.0], values.cumsum()])
    begin = np.searchsorted(dates, dates - np.timedelta64(YEAR.days, "D"), side="right")
    end = np.arange(1, len(values) + 1)
    running = (sums[end] - sums[begin]) / (end - begin)
    return Curve(tuple(day for day, _ in known), tuple(values.tolist()), tuple(running.tolist()))


def _fifths(connection: duckdb.DuckDBPyConnection, scores: Scores, session: date) -> Fifths | None:
    found = rows(
        connection,
        f"""
        -- one row a fifth
        WITH newest_dates AS (
            SELECT DISTINCT as_of
            FROM main.outcomes
            WHERE signal = $signal AND horizon = $horizon AND as_of <= $session
                AND role <> 'challenger' AND label_return IS NOT NULL
            ORDER BY as_of DESC
            LIMIT $dates
        ),
        stream AS (
            SELECT entity, as_of, value, label_return, tradable_return
            FROM main.outcomes
            WHERE signal = $signal AND horizon = $horizon AND as_of <= $session
                AND as_of >= (SELECT min(as_of) FROM newest_dates)
                AND role <> 'challenger' AND label_return IS NOT NULL
            QUALIFY {FIRST_JUDGED}
        ),
        limits AS (
            SELECT as_of, quantile_cont(label_return, [$clipped, 1 - $clipped]) AS label,
                quantile_cont(tradable_return, [$clipped, 1 - $clipped]) AS tradable
            FROM stream
            GROUP BY as_of
            HAVING count(*) >= $fewest
        ),
        placed AS (
            SELECT s.as_of,
                ntile(5) OVER (PARTITION BY s.as_of ORDER BY s.value, s.entity) AS fifth,
                least(greatest(s.label_return, l.label[1]), l.label[2]) AS label,
                least(greatest(s.tradable_return, l.tradable[1]), l.tradable[2]) AS tradable
            FROM stream s
            JOIN limits l USING (as_of)
        ),
        by_date AS (
            SELECT as_of, fifth, avg(label) AS label, avg(tradable) AS tradable
            FROM placed
            GROUP BY as_of, fifth
        )
        SELECT fifth, avg(label) AS label, avg(tradable) AS tradable,
            stddev_samp(label) / sqrt(count(label)) AS label_error,
            stddev_samp(tradable) / sqrt(count(tradable)) AS tradable_error,
            count(*) AS dates, min(as_of) AS first, max(as_of) AS last
        FROM by_date
        GROUP BY fifth
        ORDER BY fifth
        """,
        signal=scores.name,
        horizon=scores.horizon,
        session=session,
        dates=FIFTHS_DATES,
        clipped=CLIPPED,
        fewest=FEWEST_ENTITIES,
    )
    if not found:
        return None
    return Fifths(
        tuple(
            Fifth(
                row["fifth"],
                row["label"],
                row["label_error"],
                row["tradable"],
                row["tradable_error"],
            )
            for row in found
        ),
        found[0]["dates"],
        found[0]["first"],
        found[0]["last"],
    )


def _calibration(connection: duckdb.DuckDBPyConnection, scores: Scores, kind: str) -> list[Bucket]:
    found = rows(
        connection,
        """
        -- one row a bucket
        SELECT bucket, sum(rows) AS outcomes, sum(expected * rows) / sum(rows) AS expected,
            sum(observed * rows) / sum(rows) AS observed
        FROM main.signal_calibration
        WHERE signal = ? AND kind = ? AND role <> 'challenger' AND model_version = '*' AND rows > 0
            AND (horizon = ? OR kind = 'quantile')
        GROUP BY bucket
        ORDER BY bucket
        """,
        scores.name,
        kind,
        scores.horizon,
    )
    return [Bucket(row["expected"], row["observed"], int(row["outcomes"])) for row in found]


def _drift(
    connection: duckdb.DuckDBPyConnection, scores: Scores, session: date
) -> tuple[list[Row], date | None, list[str]]:
    found = rows(
        connection,
        """
        -- one row a subject and session, of the two newest sessions
        SELECT *
        FROM main.signal_drift
        WHERE signal = ? AND session <= ?
        QUALIFY dense_rank() OVER (ORDER BY session DESC) <= 2
            AND row_number() OVER (PARTITION BY session, subject ORDER BY model_version DESC) = 1
        ORDER BY session DESC, drifted DESC, psi DESC NULLS LAST, subject
        """,
        scores.name,
        session,
    )
    if not found:
        return [], None, []
    newest = found[0]["session"]
    now = [row for row in found if row["session"] == newest]
    before = {row["subject"] for row in found if row["session"] < newest and row["drifted"]}
    newly = [row["subject"] for row in now if row["drifted"] and row["subject"] not in before]
    return now, newest, newly
