"""The nightly flow: fetch, validate, append, materialize, train if needed, score, publish."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from db.clock import night as night_of
from db.errors import LookbackError
from db.ingest import Delivery
from db.quality.rules import Result
from db.sessions import sessions
from db.settings import load_settings
from db.sources.catalog import sources
from db.sources.source import Request, Source
from db.staging import Staged
from features.catalog import feature_views
from features.materialize import Materialized
from features.view import FeatureView
from flows import steps
from flows.progress import step
from flows.report import NightReport, night_markdown
from models.registry import ModelVersion
from signals.declaration import SIGNALS, Signal
from signals.scoring import Scored

# A vendor that was down for a moment is worth one more try after its own retries.
FETCH_RETRIES = 1
FETCH_RETRY_DELAY_SECONDS = 30


@task(
    name="fetch",
    task_run_name="fetch {name}",
    cache_policy=NO_CACHE,
    retries=FETCH_RETRIES,
    retry_delay_seconds=FETCH_RETRY_DELAY_SECONDS,
    retry_condition_fn=steps.worth_retrying,
)
def fetch(run: steps.Run, source: Source, request: Request, name: str) -> Staged:
    """Fetch what is new from one source."""
    with step(f"fetch {name}") as shown:
        staged = steps.fetch(run, source, request)
        shown.detail = f"{staged.fetched:,} rows"
        return staged


@task(name="validate and append", task_run_name="validate and append {name}", cache_policy=NO_CACHE)
def take_over(run: steps.Run, staged: Staged, name: str) -> tuple[Delivery, list[Result]]:
    """Put one delivery through the quality gate and append what is good."""
    with step(f"validate and append {name}") as shown:
        delivery, results = steps.take_over(run, staged)
        shown.detail = (
            f"{delivery.appended:,} appended, {delivery.unchanged:,} unchanged, "
            f"{delivery.quarantined:,} quarantined"
        )
        return delivery, results


@task(name="materialize", task_run_name="materialize {name}", cache_policy=NO_CACHE)
def materialize(run: steps.Run, view: FeatureView, name: str) -> Materialized:
    """Bring one feature view up to date."""
    with step(f"materialize {name}") as shown:
        done = steps.materialize_view(run, view)
        shown.detail = f"{done.added:,} rows added, {done.replaced:,} replaced"
        return done


@task(name="train", task_run_name="train {name}", cache_policy=NO_CACHE)
def train_first(run: steps.Run, name: str) -> ModelVersion:
    """Train a model that has no champion yet."""
    with step(f"train {name}") as shown:
        version = steps.train(run, name, shown.move)
        shown.detail = f"{version.model_version}: {version.reason}"
        return version


@task(name="score", task_run_name="score {name}", cache_policy=NO_CACHE)
def score(run: steps.Run, signal: Signal, name: str) -> Scored:
    """Score one signal with its champion."""
    with step(f"score {name}") as shown:
        scored = steps.score_signal(run, signal)
        shown.detail = (
            f"{scored.new} new, {scored.revised} revised, {scored.unchanged} unchanged "
            f"by {scored.model_version}"
        )
        return scored


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
def publish(run: steps.Run) -> tuple[Path, int]:
    """Make the finished night visible to readers, atomically."""
    with step("publish") as shown:
        path, exit_code = steps.publish_night(run)
        shown.detail = path.parent.name
        return path, exit_code


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
    deliveries, results = _bring_in(run)
    views = [materialize(run, view, name) for name, view in feature_views().items()]
    trained = _train_missing(run)
    scored = _score_all(run)
    published, exit_code = publish(run)
    return NightReport.of(run, deliveries, results, views, trained, scored, published, exit_code)


def _bring_in(run: steps.Run) -> tuple[list[Delivery], list[tuple[str, Result]]]:
    """Fetch all sources at once, take them over one by one; a failed one leaves the others."""
    catalog = sources(run.settings)
    asked = zip(catalog, steps.requests(run, catalog), strict=True)
    futures = [(source, fetch.submit(run, source, ask, source.name)) for source, ask in asked]
    deliveries: list[Delivery] = []
    found: list[tuple[str, Result]] = []
    for source, future in futures:
        try:
            delivery, results = take_over(run, future.result(), source.name)
        except Exception as error:  # noqa: BLE001  whatever a vendor's library raises
            get_run_logger().error("source %s failed", source.name, exc_info=error)
            deliveries.append(steps.give_up(run, source, error))
            continue
        deliveries.append(delivery)
        found.extend((source.name, result) for result in results)
    return deliveries, found


def _train_missing(run: steps.Run) -> list[ModelVersion]:
    """Train the models that a signal needs and that have no champion yet."""
    trained = []
    for name in steps.models_without_champion(run):
        try:
            trained.append(train_first(run, name))
        except LookbackError as error:
            run.miss(str(error))
    return trained


def _score_all(run: steps.Run) -> list[Scored]:
    """Score every signal that is due; one that cannot be scored leaves the others."""
    scored = []
    for signal in SIGNALS.values():
        try:
            scored.append(score(run, signal, signal.name))
        except LookbackError as error:
            run.miss(str(error))
    return scored
