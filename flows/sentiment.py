"""The hourly flow: incoming texts are taken over, scored, aggregated by day and published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from db.clock import moment
from db.errors import LookbackError
from db.ingest import Delivery
from db.publishing import query_published
from db.sessions import Sessions, sessions
from db.settings import Settings, load_settings
from db.sources.inbox import PutAway
from flows import steps
from flows.tasks import publish, score, train_all
from flows.texts import Texts, bring_in_texts, score_new_texts
from signals.scoring import Scored
from signals.sentiment import ScoredTexts

# Where nothing trades texts are looked for so many hours apart.
HOURS_APART = 4

NEWEST = """
    -- one row per symbol of the exchange day that closed last, and of the one after it
    SELECT entity, session, documents, sentiment, dispersion, novel_sentiment, decayed, known_at
    FROM sentiment_daily
    WHERE session >= least($1, (SELECT max(session) FROM sentiment_daily))
    ORDER BY session, documents DESC, entity
"""

REJECTED = """
    -- one row per source and rule
    SELECT source, rule, any_value(reason ORDER BY quarantined_at) AS reason, count(*) AS rows
    FROM raw.quarantine
    WHERE run_id = ?
    GROUP BY source, rule
    ORDER BY source, rule
"""


@dataclass(frozen=True)
class SentimentReport:
    """What one run did with incoming texts; `seconds` is Lookback's own work.

    Attributes
    ----------
    deliveries : of each source; fetched = unchanged + appended + quarantined.
    files : of the inbox, and where they are now.
    texts : what was scored; None where nothing could be.
    scored : signals of the session that closed last.
    rejected : rows that this run put into quarantine, by rule: source, rule, reason of the
        first of them, rows.
    newest : rows of `sentiment_daily` of the day that closed last, and of the one after it.
    """

    run_id: str
    session: date
    cutoff: datetime
    profile: str
    exit_code: int
    missing: tuple[str, ...]
    deliveries: tuple[Delivery, ...]
    files: tuple[PutAway, ...]
    rules_checked: int
    texts: ScoredTexts | None
    trained: tuple[dict[str, Any], ...]
    scored: tuple[Scored, ...]
    rejected: tuple[dict[str, Any], ...]
    newest: tuple[dict[str, Any], ...]
    published: str
    seconds: float


@flow(
    name="sentiment",
    flow_run_name="sentiment",
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
)
def sentiment(inbox: str | None = None, only_when_due: bool = False) -> SentimentReport | None:
    """Take over, score and publish the texts that have come in.

    Parameters
    ----------
    inbox : a folder of texts beside the inbox under home, instead of the setting's.
    only_when_due : for schedules: on days without a session only every four hours.

    Raises
    ------
    StoreError
        The store is locked for too long, foreign, or of another profile.
    UsageError
        `inbox` cannot be meant: see `db.settings.no_inbox`.
    """
    settings = load_settings(**({"inbox_dir": inbox} if inbox else {}))
    calendar = sessions(settings.calendar)
    now = datetime.now(ZoneInfo(calendar.time_zone))
    if only_when_due and not is_due(calendar, now):
        get_run_logger().info("%s is no trading day: next at a fourth hour", now.date())
        return None
    run = steps.Run(settings, "sentiment", moment(settings, calendar))
    with steps.alone(run), steps.running(run):
        report = _run(run)
    create_table_artifact(
        key="sentiment",
        table=[{name: str(value) for name, value in row.items()} for row in report.newest],
        description=f"Sentiment of the newest exchange days, as of {report.cutoff:%Y-%m-%d %H:%M}",
    )
    return report


def is_due(calendar: Sessions, now: datetime) -> bool:
    """Whether texts are looked for: every hour of a session's day, every fourth of others.

    Parameters
    ----------
    now : in the exchange's time zone.
    """
    return calendar.is_session(now.date()) or now.hour % HOURS_APART == 0


def _run(run: steps.Run) -> SentimentReport:
    texts = Texts()
    bring_in_texts(run, texts)
    trained = train_all(run, steps.text_models_without_champion(run), only_first=True)
    score_new_texts(run, texts)
    scored = []
    for signal in steps.text_signals(run.settings):
        try:
            done = score(run, signal, signal.name)
        except LookbackError as error:
            run.miss(str(error))
            continue
        scored += [done] if done is not None else []
    published, exit_code = publish(run)
    return SentimentReport(
        run.run_id,
        run.night.session,
        run.night.cutoff,
        run.settings.profile,
        exit_code,
        tuple(run.missing),
        tuple(texts.deliveries),
        tuple(texts.files),
        len(texts.results),
        texts.scored,
        tuple(version.summary for version in trained),
        tuple(scored),
        tuple(_found(run.settings, REJECTED, run.run_id)),
        tuple(_found(run.settings, NEWEST, run.night.session)),
        str(published),
        run.work.seconds,
    )


def _found(settings: Settings, query: str, *parameters: Any) -> list[dict[str, Any]]:
    columns, rows = query_published(settings, query, parameters)
    return [dict(zip(columns, row, strict=True)) for row in rows]
