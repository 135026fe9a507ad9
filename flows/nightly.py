"""The nightly flow: fetch, validate, append, materialize, train if needed, score, publish."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from db.clock import night as night_of
from db.errors import LookbackError
from db.sessions import sessions
from db.settings import load_settings
from db.sources.catalog import price_sources
from features.catalog import feature_views
from flows import steps
from flows.progress import step
from flows.report import NightReport, night_markdown
from flows.report_page import write_report
from flows.tasks import bring_in, judge, materialize_all, publish, score, train_all
from flows.texts import Texts, bring_in_texts, score_new_texts
from signals.declaration import chosen_signals
from signals.scoring import Scored


@flow(
    name="nightly",
    flow_run_name="nightly",
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
)
def nightly(session: date | None = None, only_on_sessions: bool = False) -> NightReport | None:
    """Run one night.

    Parameters
    ----------
    session : the trading day; by default the newest whose cut-off has passed.
    only_on_sessions : for schedules: do nothing where today is no trading day.

    Raises
    ------
    UsageError
        `session` is no trading day, or its cut-off has not come yet.
    StoreError
        The store is locked for too long, foreign, or of another profile.
    """
    settings = load_settings()
    # a wrong declaration or name is said before anything is fetched
    feature_views()
    chosen_signals(settings)
    calendar = sessions(settings.calendar)
    today = datetime.now(ZoneInfo(calendar.time_zone)).date()
    if only_on_sessions and not calendar.is_session(today):
        get_run_logger().info("%s is no trading day of %s: nothing to do", today, calendar.code)
        return None
    run = steps.Run(settings, "nightly", night_of(settings, calendar, session))
    with steps.alone(run), steps.running(run):
        report = _night(run)
    create_markdown_artifact(
        key="night",
        markdown=night_markdown(report),
        description=f"Signals and validation of {report.session}",
    )
    return report


def _night(run: steps.Run) -> NightReport:
    texts = Texts()
    deliveries, results = bring_in(run, price_sources(run.settings))
    bring_in_texts(run, texts)
    views = materialize_all(run)
    # a model without a champion needs one before it can score
    trained = train_all(run, steps.models_without_champion(run), only_first=True)
    score_new_texts(run, texts)
    scored = _score_all(run)
    judge(run, list(chosen_signals(run.settings).values()), scored)
    published, exit_code = publish(run)
    page = _write_page(run)
    if page is None:
        exit_code = steps.close_books(run)
    return NightReport.of(
        run,
        [*deliveries, *texts.deliveries],
        [*results, *texts.results],
        [*views, *texts.views],
        trained,
        scored,
        published,
        exit_code,
        page,
    )


def _write_page(run: steps.Run) -> Path | None:
    """Write the report of what was published; a night without it is a night all the same."""
    with step("report") as shown:
        try:
            with run.work.step():
                page = write_report(run.settings, run.night.session)
        except Exception as error:  # noqa: BLE001  whatever a picture stumbles over
            get_run_logger().error("the report failed", exc_info=error)
            run.miss(f"report: {error}")
            return None
        shown.detail = str(page)
        return page


def _score_all(run: steps.Run) -> list[Scored]:
    """Score every signal that is due; one that cannot be scored leaves the others."""
    scored: list[Scored] = []
    for signal in chosen_signals(run.settings).values():
        try:
            done = score(run, signal, signal.name)
        except LookbackError as error:
            run.miss(str(error))
            continue
        scored += [done] if done is not None else []
    return scored
