"""The steps of a night and of a training, as plain functions: what Prefect's tasks call.

Each opens the warehouse for itself and leaves it committed, so that a night killed between
two steps is taken up by the next run.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from db import ingest, staging, vintages
from db.clock import Night
from db.errors import DivergedError, LookbackError, TrainingError
from db.gathering import ROWS_A_NIGHT, gather
from db.ingest import Delivery
from db.locks import hold
from db.publishing import publish
from db.quality.rules import Result
from db.sessions import sessions
from db.settings import Settings
from db.sources.http import RequestFailed
from db.sources.source import Request, Source
from db.staging import Staged
from db.tables import runs
from db.warehouse import Warehouse, open_warehouse
from features.catalog import feature_views
from features.evaluate import raw_inputs
from features.materialize import Materialized, materialize
from features.reads import RawReads
from features.view import FeatureView
from models import registry
from models.catalog import RECIPES, recipe, recipes
from models.examples import read_examples
from models.recipes import Recipe
from models.registry import Candidate, ModelVersion
from models.spans import Spans, split
from models.text import catalog as texts
from models.text.recipes import TextRecipe
from models.text.spans import TextSpans
from models.text.training import fit_candidates
from models.training import Epoch
from signals.declaration import Signal, chosen_signals
from signals.drift import measure_drift
from signals.latest import refresh_latest, refresh_wide
from signals.outcomes import Joined, join_outcomes
from signals.performance import measure
from signals.scoring import Scored, is_due, score
from signals.sentiment import ScoredTexts, has_texts, refresh_daily, score_daily, score_documents

# Answers that will not be another one in half a minute.
REFUSALS = (400, 401, 403, 404)

# Small networks leave most of a core idle; many at once would only share them.
MOST_TRAININGS = max(1, min(4, os.cpu_count() or 1))
TRAININGS_AT_ONCE = threading.BoundedSemaphore(MOST_TRAININGS)

Move = Callable[[float, float, str], None]


class WorkClock:
    """Seconds of Lookback's own work: steps that overlap are counted once."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count the time inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spans.append((began, time.perf_counter()))

    @property
    def seconds(self) -> float:
        """Length of the union of all steps."""
        total, reached = 0.0, float("-inf")
        for began, ended in sorted(self._spans):
            total += max(0.0, ended - max(began, reached))
            reached = max(reached, ended)
        return total


@dataclass
class Run:
    """One execution of a flow: identity, clock, and what turned out to be missing."""

    settings: Settings
    flow: str
    night: Night
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    work: WorkClock = field(default_factory=WorkClock)
    missing: list[str] = field(default_factory=list)
    reads: RawReads = field(default_factory=RawReads)

    @property
    def staging(self) -> Path:
        """Folder of what this run has fetched and not yet taken over."""
        return self.settings.home / "staging" / self.flow / self.run_id

    @property
    def purpose(self) -> str:
        """For the one who waits for a lock."""
        return f"{self.flow} of {self.night.session}"

    def miss(self, line: str) -> None:
        """Name a source or signal that is missing; the run ends with exit code 3."""
        self.missing.append(" ".join(line.split()))

    @contextmanager
    def warehouse(self) -> Iterator[Warehouse]:
        """The store, open for writing."""
        with open_warehouse(self.settings, self.purpose) as warehouse:
            yield warehouse


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """One run of its flow at a time in this home; a second one waits, then says who runs."""
    run.settings.home.mkdir(parents=True, exist_ok=True)
    with hold(run.settings.home, run.flow, run.settings.lock_wait_seconds, run.purpose):
        yield


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Record a run from its beginning to its end, whatever the end is.

    A run that was killed is found by the next one as still running, and marked failed;
    what it had staged goes.
    """
    shutil.rmtree(run.staging.parent, ignore_errors=True)
    with run.work.step(), run.warehouse() as warehouse:
        _mark_killed(warehouse, run)
        warehouse.upsert(runs, _run_row(run, "running"))
    try:
        yield
    except BaseException as error:
        run.miss(str(error) or type(error).__name__)
        _end(run, "failed", 1)
        raise
    finally:
        shutil.rmtree(run.staging, ignore_errors=True)


def close_books(run: Run) -> int:
    """Record that a run finished; returns its exit code: 0 good, 3 something is missing."""
    exit_code = 3 if run.missing else 0
    _end(run, "partial" if run.missing else "completed", exit_code)
    return exit_code


def _end(run: Run, status: str, exit_code: int) -> None:
    row = _run_row(run, status, exit_code)
    with run.warehouse() as warehouse:
        warehouse.upsert(runs, row)
    _note_last_run(run.settings.home / "status" / f"{run.flow}.json", row)


def _run_row(run: Run, status: str, exit_code: int | None = None) -> dict[str, Any]:
    ended = status != "running"
    return {
        "run_id": run.run_id,
        "flow": run.flow,
        "session": run.night.session,
        "profile": run.settings.profile,
        "status": status,
        "exit_code": exit_code,
        "started_at": run.started,
        "finished_at": datetime.now(UTC) if ended else None,
        "seconds": run.work.seconds if ended else None,
        "missing": run.missing,
        "version": version("lookback"),
    }


def _note_last_run(path: Path, row: dict[str, Any]) -> None:
    """How the last run ended, beside the store: a failed night publishes nothing."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(row, default=str, indent=2))
    os.replace(unfinished, path)


def _mark_killed(warehouse: Warehouse, run: Run) -> None:
    with warehouse.transaction():
        warehouse.native.execute(
            """
            UPDATE main.runs
            SET status = 'failed', exit_code = 1, finished_at = ?,
                missing = '["ended without a word: killed, or the machine went down"]'
            WHERE status = 'running' AND flow = ?
            """,
            (run.started, run.flow),
        )


# --------------------------------------------------------------------------- raw rows


def requests(run: Run, catalog: Sequence[Source]) -> list[Request]:
    """What to ask of each source: only what is new since its watermark."""
    with run.work.step(), run.warehouse() as warehouse:
        calendar = sessions(run.settings.calendar)
        return [staging.request_for(warehouse, source, run.night, calendar) for source in catalog]


def fetch(run: Run, source: Source, request: Request) -> Staged:
    """Fetch from one source, on disk; the store is not locked meanwhile."""
    with run.work.step():
        return staging.stage(source, request, run.staging)


def worth_retrying(_task: object, _run: object, state: Any) -> bool:
    """Whether a failed fetch may go better a little later: the vendor could not be reached."""
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, RequestFailed) and failure.status not in REFUSALS


def take_over(run: Run, staged: Staged) -> tuple[Delivery, list[Result]]:
    """Validate and append one delivery, restated histories whole; Data Docs show the findings."""
    with run.work.step():
        calendar = sessions(run.settings.calendar)
        with run.warehouse() as warehouse:
            incomplete = {
                *vintages.restated(warehouse, staged),
                *vintages.behind(warehouse, staged),
            }
        if incomplete and staged.request.start is not None:
            staged = staging.stage_whole(staged, sorted(incomplete))
        with run.warehouse() as warehouse:
            delivery, results = ingest.take_over(
                warehouse, staged, run.night, calendar, run.run_id, run.settings.data_docs
            )
        for problem in delivery.problems:
            run.miss(_named(delivery.source, problem))
        return delivery, results


def give_up(run: Run, source: Source, error: Exception) -> Delivery:
    """Name a source that gave nothing; the others go on."""
    problem = " ".join(str(error).split())
    if not isinstance(error, LookbackError):
        problem = f"{type(error).__name__}: {problem}"
    run.miss(_named(source.name, problem))
    with run.work.step(), run.warehouse() as warehouse:
        return ingest.record_failure(warehouse, source, problem, run.run_id)


def _named(source: str, problem: str) -> str:
    return problem if source in problem else f"{source}: {problem}"


# --------------------------------------------------------------------------- features


def materialize_view(
    run: Run, view: FeatureView, move: Move, *, rebuild: bool = False
) -> Materialized:
    """Bring one feature view up to date, or compute all of it anew."""

    def on_entities(done: float, of: float) -> None:
        move(done, of, f"{done:,.0f} of {of:,.0f} entities")

    with run.work.step(), run.warehouse() as warehouse:
        return materialize(warehouse, view, rebuild=rebuild, move=on_entities, reads=run.reads)


# --------------------------------------------------------------------------- texts


@contextmanager
def texts_alone(run: Run) -> Iterator[None]:
    """One run at a time reads the inbox and scores texts: a night, or the hourly flow."""
    run.settings.home.mkdir(parents=True, exist_ok=True)
    with hold(run.settings.home, "texts", run.settings.lock_wait_seconds, run.purpose):
        yield


def score_texts(run: Run, move: Move) -> ScoredTexts | None:
    """Score the texts that have no score yet; None where no signal is made of texts."""
    declared = text_signals(run.settings)
    if not declared:
        return None
    with run.work.step(), run.warehouse() as warehouse:
        calendar = sessions(run.settings.calendar)
        return score_documents(warehouse, declared[0].model, run.night, calendar, run.run_id, move)


def text_signals(settings: Settings) -> list[Signal]:
    """The signals that are made of texts, of those that nights make."""
    return [each for each in chosen_signals(settings).values() if each.is_of_texts]


def text_views() -> dict[str, FeatureView]:
    """The feature views that are made of scored texts."""
    return {
        name: view
        for name, view in feature_views().items()
        if any(given.table == "sentiment" for given in raw_inputs(view).values())
    }


# --------------------------------------------------------------------------- models


def models_without_champion(run: Run) -> list[str]:
    """Models that a signal needs and that have no version to score with."""
    with run.work.step(), run.warehouse() as warehouse:
        chosen = chosen_signals(run.settings).values()
        # a model of texts is needed once there is a text
        texts = has_texts(warehouse)
        wanted = dict.fromkeys(each.model for each in chosen if texts or not each.is_of_texts)
        return [name for name in wanted if registry.champion(warehouse, name) is None]


def models_to_train(run: Run) -> list[str]:
    """What a weekly training trains: all models of windows, and those that texts came in for."""
    with run.work.step(), run.warehouse() as warehouse:
        found = has_texts(warehouse)
    of_texts = dict.fromkeys(each.model for each in text_signals(run.settings)) if found else {}
    return [*RECIPES, *of_texts]


def text_models_without_champion(run: Run) -> list[str]:
    """The same of models that score texts."""
    of_texts = {each.model for each in text_signals(run.settings)}
    return [name for name in models_without_champion(run) if name in of_texts]


def newest_session(settings: Settings) -> date | None:
    """The newest session that a night has finished, which a training learns up to."""
    with open_warehouse(settings, "train") as warehouse:
        found = warehouse.one(
            "SELECT max(session) FROM main.runs WHERE flow = 'nightly' AND exit_code IN (0, 3)"
        )
    return found[0] if found else None


def train(
    run: Run, model: str, move: Move, *, only_first: bool = False, device: str | None = None
) -> list[ModelVersion]:
    """Train the versions of one model on what was known at the cut-off, baselines too.

    The store is not locked while a network learns. A training that diverges is remembered as
    failed, and the others go on.

    Parameters
    ----------
    run : the run; what fails is named in it as missing.
    model : of the catalog.
    move : called with done, of, and a line, as work proceeds.
    only_first : only the first recipe, where there is no champion yet and a night waits.
    device : `cpu` or the number of a CUDA device; whatever there is if left out.
    """
    with run.work.step(), TRAININGS_AT_ONCE:
        if model in texts.RECIPES:
            candidates = _text_candidates(run, model, move, only_first=only_first, device=device)
        else:
            every = recipes(model, run.settings.profile)
            chosen = every[:1] if only_first else every
            candidates = _candidates(run, every, chosen, run.night, move, device)
        with run.warehouse() as warehouse:
            return registry.register(warehouse, candidates, run.night, run.run_id)


def train_walk_forward(
    run: Run, model: str, night: Night, move: Move, *, variant: str | None = None
) -> ModelVersion:
    """Train versions on what was known at a past night; the best of them, which scores later ones.

    Parameters
    ----------
    run : the backfill.
    model : of the catalog.
    night : whose cut-off bounds what is learned.
    move : called with done, of, and a line, as work proceeds.
    variant : of the recipe, without competition; if left out the first recipe of the model
        competes with its baselines, as on a first night.

    Raises
    ------
    TrainingError
        Too little history, or nothing that could be trained.
    """
    profile = run.settings.profile
    with run.work.step(), TRAININGS_AT_ONCE:
        every = recipes(model, profile)
        chosen = every[:1] if variant is None else (recipe(model, variant, profile),)
        candidates = _candidates(
            run, every, chosen, night, move, None, with_baselines=variant is None
        )
        if not candidates:
            raise TrainingError(f"{model}: no version could be trained as of {night.session}")
        with run.warehouse() as warehouse:
            return registry.register_walk_forward(warehouse, candidates, night, run.run_id)


def _candidates(
    run: Run,
    every: Sequence[Recipe],
    chosen: Sequence[Recipe],
    night: Night,
    move: Move,
    device: str | None,
    *,
    with_baselines: bool = True,
) -> list[Candidate]:
    """Versions of the chosen recipes, trained as of a night, after the model's baselines."""
    last = every[-1] if with_baselines else chosen[-1]
    read = {each.variant: each for each in (*chosen, last)}
    with run.warehouse() as warehouse:
        spans = {name: _spans(warehouse, each, night) for name, each in read.items()}
    candidates = (
        registry.fit_baselines(run.settings, last, spans[last.variant], night)
        if with_baselines
        else []
    )
    for each in chosen:
        trained = _train_one(run, each, spans[each.variant], night, candidates, move, device)
        candidates += [trained] if trained is not None else []
    return candidates


def _text_candidates(
    run: Run, model: str, move: Move, *, only_first: bool, device: str | None
) -> list[Candidate]:
    """Versions of a model of texts, from the labelled texts known at the run's cut-off."""

    def on_epoch(variant: str, epoch: Epoch) -> None:
        move(epoch.epoch, epoch.max_epochs, _losses(variant, epoch))

    def failed(recipe: TextRecipe, spans: TextSpans, error: DivergedError) -> None:
        run.miss(str(error))
        with run.warehouse() as warehouse:
            registry.record_failure(warehouse, recipe, spans, run.night, run.run_id, str(error))

    return fit_candidates(
        run.settings,
        model,
        run.night,
        only_first=only_first,
        progress=on_epoch,
        failed=failed,
        device=device,
    )


def _losses(variant: str, epoch: Epoch) -> str:
    losses = f"loss {epoch.loss:.2e}, validation {epoch.val_loss:.2e}"
    return f"{variant}, epoch {epoch.epoch}: {losses}"


def _spans(warehouse: Warehouse, recipe: Recipe, night: Night) -> Spans:
    examples = read_examples(warehouse, recipe, night.cutoff)
    return split(examples, recipe.validation, recipe.test, recipe.train_from)


def _train_one(
    run: Run,
    recipe: Recipe,
    spans: Spans,
    night: Night,
    beside: Sequence[Candidate],
    move: Move,
    device: str | None,
) -> Candidate | None:
    def on_epoch(epoch: Epoch) -> None:
        move(epoch.epoch, epoch.max_epochs, _losses(recipe.variant, epoch))

    try:
        return registry.train(run.settings, recipe, spans, night, beside, on_epoch, device)
    except DivergedError as error:
        run.miss(str(error))
        with run.warehouse() as warehouse:
            registry.record_failure(warehouse, recipe, spans, night, run.run_id, str(error))
    except TrainingError as error:
        run.miss(str(error))
    return None


def score_signal(run: Run, signal: Signal) -> Scored | None:
    """Score one signal for the run's session; None where it is not due."""
    with run.work.step(), run.warehouse() as warehouse:
        calendar = sessions(run.settings.calendar)
        if signal.is_of_texts:
            if not has_texts(warehouse):
                return None
            scored = score_daily(warehouse, signal, run.night, calendar, run.run_id)
        elif is_due(warehouse, signal, run.night, calendar):
            scored = score(warehouse, signal, run.night, calendar, run.run_id)
        else:
            return None
        if scored.problem is not None:
            run.miss(scored.problem)
        return scored


def judge_signal(
    run: Run, signal: Signal, version: str | None, since: date | None = None
) -> Joined:
    """Join a signal's outcomes, measure its performance and, where it was scored, its drift.

    Parameters
    ----------
    version : that scored it tonight; None where none did.
    since : first `as_of` to look at again; what may have changed if left out.
    """
    with run.work.step(), run.warehouse() as warehouse:
        calendar = sessions(run.settings.calendar)
        joined = join_outcomes(
            warehouse,
            signal,
            run.night,
            calendar,
            run.run_id,
            since=since,
            # a backfill works today, whatever nights it fills in
            recorded_at=run.started if since is not None else None,
        )
        if joined.changed_from is not None:
            measure(warehouse, signal, joined.changed_from)
        found = registry.find(warehouse, signal.model, version) if version else None
        if found is not None and not found.is_of_text:  # what texts are like is no window
            measure_drift(warehouse, signal, found, run.night)
        return joined


# --------------------------------------------------------------------------- publishing


def gather_history(run: Run) -> int:
    """Put the rows of each entity beside each other, after many were added; rows moved."""
    with run.work.step(), run.warehouse() as warehouse:
        return gather(warehouse)


def publish_night(run: Run) -> tuple[Path, int]:
    """Close the books of the run and make it visible; returns the file and the exit code."""
    with run.work.step():
        exit_code = close_books(run)
        with run.warehouse() as warehouse:
            # ages move on also where nothing could be scored
            refresh_latest(warehouse, sessions(run.settings.calendar), run.night.session)
            refresh_wide(warehouse)
            refresh_daily(warehouse)
            published = publish(warehouse)
            # nobody waits for it: it shows in the next publication
            gather(warehouse, ROWS_A_NIGHT)
            return published, exit_code
