"""The steps as Prefect tasks, which announce themselves while they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task
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
    """Bring every declared view up to date; one that fails is missing, the others go on."""
    done = []
    for name, view in feature_views().items():
        try:
            found = materialize(run, view, name)
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


@task(name="score", task_run_name="score {name}", cache_policy=NO_CACHE)
def score(run: steps.Run, signal: Signal, name: str) -> Scored | None:
    """Score one signal with its champion; None where it is not due."""
    with step(f"score {name}") as shown:
        scored = steps.score_signal(run, signal)
        if scored is None:
            shown.detail = "not due before the last session of the week"
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
