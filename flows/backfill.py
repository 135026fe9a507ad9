"""`lookback backfill`: past nights scored as they would have been, in one go.

Not a Prefect flow: it has no schedule, and thousands of nights would be thousands of tasks. It
is recorded as a run, holds the store for some dozens of nights at a time, so that a night can
go between, and is taken up where it was killed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from db.clock import night as night_of
from db.errors import LookbackError, StoreError, UsageError
from db.sessions import Sessions, sessions
from db.settings import Settings
from flows import steps
from flows.display import new_console, print_table
from flows.progress import ConsoleProgress, step
from models import registry
from signals import backfill
from signals.backfill import Retrain, Stretch
from signals.declaration import Signal, chosen_signals, signal
from signals.scoring import Imprint, Scored


@dataclass(frozen=True)
class Asked:
    """What is to be filled in.

    Attributes
    ----------
    first, last : dates, both included.
    signals : names; none for all that nights make.
    recipe : variant that walk-forward versions are trained by; None lets the first recipe of a
        model compete with its baselines.
    retrain : how often walk-forward versions are trained.
    walk_forward : pass over the champions of the time.
    """

    first: date
    last: date
    signals: tuple[str, ...] = ()
    recipe: str | None = None
    retrain: Retrain = "year"
    walk_forward: bool = False


@dataclass(frozen=True)
class BackfillReport:
    """What a backfill did; `seconds` is its own work."""

    run_id: str
    first: date
    last: date
    exit_code: int
    missing: tuple[str, ...]
    scored: tuple[dict[str, Any], ...]
    published: str
    seconds: float


def run_backfill(settings: Settings, asked: Asked, *, as_json: bool) -> int:
    """Fill in past nights and print what was done; returns the exit code.

    Raises
    ------
    UsageError
        The dates are in the wrong order, hold no session or reach beyond the last cut-off;
        there is no such signal or recipe.
    StoreError
        The store is locked for too long, foreign, or of another profile.
    """
    console = new_console(stderr=as_json)
    with ConsoleProgress(console).shown():
        report = fill_in(settings, asked)
    if as_json:
        print(json.dumps(asdict(report), default=str, indent=2))
        return report.exit_code
    columns = ["signal", "model_version", "first", "last", "nights", "rows", "new", "revised"]
    print_table(
        columns,
        [[row[name] for name in columns] for row in report.scored],
        f"backfill from {report.first} to {report.last}",
        console,
    )
    for line in report.missing:
        console.print(f"missing {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"published {report.published}\n"
        f"{report.seconds:.1f} s; exit code {report.exit_code}; run {report.run_id}",
        highlight=False,
        soft_wrap=True,
    )
    return report.exit_code


def fill_in(settings: Settings, asked: Asked) -> BackfillReport:
    """Plan, train what is missing, score and publish."""
    began = time.perf_counter()
    if asked.first > asked.last:
        raise UsageError(f"--from {asked.first} lies after --to {asked.last}")
    declared = [signal(name) for name in asked.signals] or list(chosen_signals(settings).values())
    calendar = sessions(settings.calendar)
    if not settings.warehouse.exists():
        raise StoreError(
            f"there is no store at {settings.home}: nights bring in what a backfill reads; "
            "run: lookback nightly"
        )
    # outcomes count as the newest night knows them, which may lie after the last one filled in
    last = calendar.previous(calendar.next(asked.last))
    newest = steps.newest_session(settings) or last
    if last > newest:
        raise UsageError(
            f"--to {asked.last} lies after the newest night, {newest}: "
            "run lookback nightly for what comes after it"
        )
    run = steps.Run(settings, "backfill", night_of(settings, calendar, newest))
    scored: list[dict[str, Any]] = []
    with steps.alone(run), steps.running(run):
        for each in declared:
            try:
                scored += _fill_in_signal(run, each, asked, calendar)
            except UsageError:
                raise
            except LookbackError as error:
                run.miss(str(error))
        with step("gather by entity") as shown:
            shown.detail = f"{steps.gather_history(run):,} rows moved"
        with step("publish") as shown:
            published, exit_code = steps.publish_night(run)
            shown.detail = published.parent.name
    return BackfillReport(
        run.run_id,
        asked.first,
        asked.last,
        exit_code,
        tuple(run.missing),
        tuple(scored),
        str(published),
        time.perf_counter() - began,
    )


def _fill_in_signal(
    run: steps.Run, declared: Signal, asked: Asked, calendar: Sessions
) -> list[dict[str, Any]]:
    with run.warehouse() as warehouse:
        stretches = backfill.plan(
            warehouse,
            declared,
            (asked.first, asked.last),
            calendar,
            retrain=asked.retrain,
            walk_forward=asked.walk_forward,
        )
    versions = _versions(run, declared, stretches, asked)
    scored = []
    for stretch, version in zip(stretches, versions, strict=True):
        if version is not None:
            scored.append(_score(run, declared, stretch, version, calendar))
    if scored:
        with step(f"outcomes of {declared.name}") as shown:
            joined = steps.judge_signal(run, declared, None, since=asked.first)
            shown.detail = f"{joined.new:,} new, {joined.changed:,} changed"
    return scored


def _versions(
    run: steps.Run, declared: Signal, stretches: Sequence[Stretch], asked: Asked
) -> list[registry.ModelVersion | None]:
    """The version of each stretch, trained where there is none; None where that was not possible.

    Trainings of small networks leave most of a core idle: they run side by side.
    """

    def version(stretch: Stretch) -> registry.ModelVersion | None:
        night = stretch.trained_as_of
        if night is None:
            return stretch.version
        with step(f"train {declared.model} as of {night.session}") as shown:
            try:
                found = steps.train_walk_forward(
                    run, declared.model, night, shown.move, variant=asked.recipe
                )
            except UsageError:
                raise
            except LookbackError as error:
                run.miss(f"{declared.name}, {stretch.span}: {error}")
                shown.detail = str(error)
                return None
            shown.detail = found.model_version
            return found

    with ThreadPoolExecutor(max_workers=steps.MOST_TRAININGS) as pool:
        return list(pool.map(version, stretches))


def _score(
    run: steps.Run,
    declared: Signal,
    stretch: Stretch,
    version: registry.ModelVersion,
    calendar: Sessions,
) -> dict[str, Any]:
    """Score the nights of a stretch, some dozens at a time; what was new."""
    rows = new = revised = 0
    problems: list[str] = []
    imprint = Imprint(run.run_id, "backfill", run.started)
    with step(f"score {declared.name} {stretch.nights[0].session:%Y-%m-%d}") as shown:
        registry.require_usable(run.settings, version)
        loaded = None if declared.view is not None else registry.load(run.settings, version)
        done = 0
        for part in backfill.in_parts(stretch.nights):
            with run.work.step(), run.warehouse() as warehouse:
                found, without = backfill.score_stretch(
                    warehouse, declared, version, loaded, part, calendar, imprint
                )
            problems += without
            rows, new, revised = _add((rows, new, revised), found)
            done += len(part)
            shown.move(done, len(stretch.nights), f"{done} of {len(stretch.nights)} nights")
        shown.detail = f"{len(stretch.nights)} nights, {new:,} new, {revised:,} revised"
    if problems:
        run.miss(f"{declared.name}: {len(problems)} nights without a window, first {problems[0]}")
    return {
        "signal": declared.name,
        "model_version": version.model_version,
        "first": stretch.nights[0].session,
        "last": stretch.nights[-1].session,
        "nights": len(stretch.nights) - len(problems),
        "rows": rows,
        "new": new,
        "revised": revised,
    }


def _add(sums: tuple[int, int, int], scored: Scored) -> tuple[int, int, int]:
    rows, new, revised = sums
    return rows + scored.rows, new + scored.new, revised + scored.revised
