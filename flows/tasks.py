"""The steps as Prefect tasks, which announce themselves while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from db.errors import LookbackError, ShortHistoryError
from db.ingest import Delivery
from db.quality.rules import Result
from db.sources.source import Request, Source
from db.staging import Staged
from features.catalog import feature_views
from features.materialize import Materialized
from features.view import FeatureView
from flows import steps
from flows.progress import step
from models.registry import ModelVersion
from signals.declaration import Signal
from signals.outcomes import Joined
from signals.scoring import Scored
from signals.sentiment import ScoredTexts

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


def bring_in(
    run: steps.Run,
    catalog: Sequence[Source],
    then: Callable[[Staged, Delivery], None] = lambda staged, delivery: None,
) -> tuple[list[Delivery], list[tuple[str, Result]]]:
    """Fetch sources at once, take them over one by one; a failed one leaves the others.

    Parameters
    ----------
    catalog : the sources.
    then : called with what was taken over, and what became of it, once it is in the store.
    """
    asked = zip(catalog, steps.requests(run, catalog), strict=True)
    futures = [(source, fetch.submit(run, source, ask, source.name)) for source, ask in asked]
    deliveries: list[Delivery] = []
    found: list[tuple[str, Result]] = []
    for source, future in futures:
        try:
            staged = future.result()
            delivery, results = take_over(run, staged, source.name)
            then(staged, delivery)
        except Exception as error:  # noqa: BLE001  whatever a vendor's library raises
            get_run_logger().error("source %s failed", source.name, exc_info=error)
            deliveries.append(steps.give_up(run, source, error))
            continue
        deliveries.append(delivery)
        found.extend((source.name, result) for result in results)
    return deliveries, found


@task(name="materialize", task_run_name="materialize {name}", cache_policy=NO_CACHE)
def materialize(run: steps.Run, view: FeatureView, name: str) -> Materialized | None:
    """Bring one feature view up to date; None for one whose window no history fills yet."""
    with step(f"materialize {name}") as shown:
        try:
            done = steps.materialize_view(run, view, shown.move)
        except ShortHistoryError as error:
            shown.detail = str(error)
            return None
        shown.detail = f"{done.added:,} rows added, {done.replaced:,} replaced"
        return done


def materialize_all(run: steps.Run) -> list[Materialized]:
    """Bring every declared view up to date but those of texts, which are scored first."""
    of_texts = steps.text_views()
    return materialize_views(
        run, [view for name, view in feature_views().items() if name not in of_texts]
    )


def materialize_views(run: steps.Run, views: Sequence[FeatureView]) -> list[Materialized]:
    """Bring views up to date; one that fails is missing, the others go on."""
    done = []
    for view in views:
        try:
            found = materialize(run, view, view.name)
        except LookbackError as error:
            run.miss(str(error))
            continue
        if found is not None:
            done.append(found)
    run.reads.forget()
    return done


@task(name="train", task_run_name="train {name}", cache_policy=NO_CACHE)
def train_model(
    run: steps.Run, name: str, only_first: bool = False, device: str | None = None
) -> list[ModelVersion]:
    """Train versions of one model and let them compete with the champion."""
    with step(f"train {name}") as shown:
        versions = steps.train(run, name, shown.move, only_first=only_first, device=device)
        best = next((each for each in versions if each.stage == "champion"), None)
        shown.detail = (
            f"{best.model_version} is champion: {best.reason}"
            if best is not None
            else f"{len(versions)} versions, the champion stays"
        )
        return versions


def train_all(
    run: steps.Run, names: Sequence[str], *, only_first: bool = False, device: str | None = None
) -> list[ModelVersion]:
    """Train models side by side; one that fails is missing, the others go on."""
    futures = [train_model.submit(run, name, only_first, device) for name in names]
    trained: list[ModelVersion] = []
    for future in futures:
        try:
            trained += future.result()
        except LookbackError as error:
            run.miss(str(error))
    return trained


@task(name="score texts", task_run_name="score texts", cache_policy=NO_CACHE)
def score_texts(run: steps.Run) -> ScoredTexts | None:
    """Score incoming texts one by one; None where no signal is made of texts."""
    with step("score texts") as shown:
        done = steps.score_texts(run, shown.move)
        if done is None:
            shown.detail = "no signal is made of texts"
            return None
        shown.detail = (
            f"{done.documents:,} scored, {done.repeated:,} of them repeat an earlier one, "
            f"{done.days:,} days of symbols"
        )
        if done.too_old:
            shown.detail += f"; {done.too_old:,} are older than what the model learned from"
        return done


@task(name="score", task_run_name="score {name}", cache_policy=NO_CACHE)
def score(run: steps.Run, signal: Signal, name: str) -> Scored | None:
    """Score one signal with its champion; None where it is not due."""
    with step(f"score {name}") as shown:
        scored = steps.score_signal(run, signal)
        if scored is None:
            shown.detail = (
                "no text has come in yet"
                if signal.view is not None
                else "not due before the last session of the week"
            )
            return None
        shown.detail = (
            f"{scored.new} new, {scored.revised} revised, {scored.unchanged} unchanged "
            f"by {scored.model_version}"
        )
        return scored


@task(name="outcomes", task_run_name="outcomes", cache_policy=NO_CACHE)
def judge(run: steps.Run, signals: Sequence[Signal], scored: Sequence[Scored]) -> list[Joined]:
    """Join what happened after older scores; a signal that cannot be judged leaves the others."""
    versions = {each.signal: each.model_version for each in scored}
    joined = []
    with step("outcomes") as shown:
        for number, signal in enumerate(signals):
            shown.move(number, len(signals), signal.name)
            try:
                joined.append(steps.judge_signal(run, signal, versions.get(signal.name)))
            except LookbackError as error:
                run.miss(f"outcomes of {signal.name}: {error}")
        new, changed = (sum(getattr(each, name) for each in joined) for name in ("new", "changed"))
        shown.detail = f"{new:,} new, {changed:,} changed"
    return joined


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
def publish(run: steps.Run) -> tuple[Path, int]:
    """Make the finished night visible to readers, atomically."""
    with step("publish") as shown:
        path, exit_code = steps.publish_night(run)
        shown.detail = path.parent.name
        return path, exit_code
