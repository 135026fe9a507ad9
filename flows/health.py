"""Health: is the newest night there and fresh; is this installation sound."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Literal

from db.errors import LookbackError
from db.publishing import query_published
from db.settings import Settings, load_settings

Level = Literal["good", "warning", "missing", "failed"]
EXIT_CODES = {"good": 0, "warning": 0, "missing": 3, "failed": 1}

# Packages that only work together in these versions.
MUST_FIT = {
    "prefect": "3.8.8",
    "duckdb": "1.5.5",
    "great-expectations": "1.24.1",
    "fastapi": "0.13|0.14",
    "sqlalchemy": "2.0",
    "tensorflow": "2.21",
    "keras": "3.15",
    "pandas": "3.",
}
LITTLE_DISK_GIB = 2
# Sessions for which the newest row of a signal may stand: a week has five, and a month's
# values come up to two weeks late.
SESSIONS_BETWEEN = {"session": 0, "week": 5, "month": 33}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    message: str

    @property
    def exit_code(self) -> int:
        """What it means for monitoring: 0 good, 1 failed, 3 missing."""
        return EXIT_CODES[self.level]


def check_health(settings: Settings) -> list[Finding]:
    """Look at the last run, the publication, sources, signals and champions.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    return [
        *_last_runs(settings),
        *_newest_night(settings),
        *_sources(settings),
        *_signals(settings),
        *_watched(settings),
        *_champions(settings),
    ]


def _last_runs(settings: Settings) -> Iterator[Finding]:
    for note in sorted((settings.home / "status").glob("*.json")):
        run = json.loads(note.read_text())
        # a backfill is not on the way of tonight's signals
        partial: Level = "warning" if note.stem == "backfill" else "missing"
        levels: dict[str, Level] = {"completed": "good", "partial": partial}
        when = f"{run['status']} at {run['finished_at'][:16]} UTC for {run['session']}"
        yield Finding(
            levels.get(run["status"], "failed"),
            f"last {note.stem}",
            "; ".join([when, *run["missing"]]),
        )


def _newest_night(settings: Settings) -> Iterator[Finding]:
    from db.sessions import sessions

    _, rows = query_published(
        settings,
        "SELECT max(session) FROM runs WHERE flow = 'nightly' AND status <> 'failed'",
    )
    newest = rows[0][0] if rows else None
    if newest is None:
        yield Finding("missing", "newest night", "no night has finished; run: lookback nightly")
        return
    if settings.replays:
        yield Finding("good", "newest night", f"{newest} (nights are replayed)")
        return
    delay = timedelta(hours=settings.cutoff_delay_hours)
    calendar = sessions(settings.calendar)
    due = calendar.last_closed(datetime.now(UTC), delay)
    late = calendar.age(newest, due)
    yield Finding(
        "missing" if late else "good",
        "newest night",
        f"{newest}" + (f", {late} sessions behind {due}: run lookback nightly" if late else ""),
    )


def _sources(settings: Settings) -> Iterator[Finding]:
    _, rows = query_published(
        settings, "SELECT source, stale, last_date, detail FROM freshness ORDER BY source"
    )
    for source, stale, last, detail in rows:
        said = f"up to {last}" if last is not None else "nothing has come in yet"
        yield Finding("missing" if stale else "good", source, detail or said)


def _signals(settings: Settings) -> Iterator[Finding]:
    _, rows = query_published(
        settings,
        "SELECT signal, any_value(horizon_unit), max(as_of), min(age) FROM signals_latest "
        "GROUP BY signal ORDER BY signal",
    )
    of_texts = _signals_of_texts(settings)
    for name, unit, as_of, age in rows:
        # a day without a text is no defect; feeds and the inbox are looked at as sources
        late = age > SESSIONS_BETWEEN[unit] and name not in of_texts
        yield Finding(
            "missing" if late else "good",
            f"signal {name}",
            f"newest {as_of}" + (f", {age} sessions old" if late else ""),
        )


def _signals_of_texts(settings: Settings) -> set[str]:
    from signals.declaration import chosen_signals

    return {name for name, each in chosen_signals(settings).items() if each.view is not None}


def _watched(settings: Settings) -> Iterator[Finding]:
    """Signals that were never scored, have become weak, or see what they were not trained on."""
    from signals import watch
    from signals.declaration import chosen_signals

    wanted = set(chosen_signals(settings))
    if not query_published(settings, "SELECT 1 FROM raw.documents LIMIT 1")[1]:
        wanted -= _signals_of_texts(settings)  # nothing that they could be made of has come in
    for each in watch.never_scored(settings, sorted(wanted)):
        yield Finding("missing", f"signal {each.signal}", each.problem)
    for each in (*watch.weakened(settings), *watch.drifted(settings)):
        yield Finding("warning", f"signal {each.signal}", each.problem)


def _champions(settings: Settings) -> Iterator[Finding]:
    _, rows = query_published(
        settings,
        "SELECT model, model_version, cutoff FROM model_versions WHERE stage = 'champion' "
        "ORDER BY model",
    )
    _, nights = query_published(
        settings, "SELECT max(session) FROM runs WHERE flow = 'nightly' AND status <> 'failed'"
    )
    now = datetime.now(UTC)
    if settings.replays and nights[0][0] is not None:
        now = datetime.combine(nights[0][0], datetime.max.time(), UTC)
    for model, version, cutoff in rows:
        days = (now - cutoff).days
        old = days > settings.champion_max_age_days
        yield Finding(
            "missing" if old else "good",
            f"champion {model}",
            f"{version}, trained as of {cutoff:%Y-%m-%d}"
            + (f", {days} days ago: run lookback train {model}" if old else ""),
        )


def examine() -> list[Finding]:
    """Look at Python, packages, settings, home and disk."""
    return [
        Finding("good", "python", platform.python_version()),
        *_packages(),
        *_configuration(),
    ]


def _packages() -> Iterator[Finding]:
    yield Finding("good", "lookback", metadata.version("lookback"))
    for package, wanted in MUST_FIT.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding("failed", package, "not installed; install from requirements.lock")
            continue
        fits = any(found.startswith(prefix) for prefix in wanted.split("|"))
        advice = "" if fits else f", tested with {wanted}: install from requirements.lock"
        yield Finding("good" if fits else "warning", package, found + advice)


def _configuration() -> Iterator[Finding]:
    try:
        settings = load_settings()
    except LookbackError as error:
        yield Finding("failed", "settings", str(error))
        return
    yield Finding("good", "profile", settings.profile)
    yield _home(settings.home)
    if settings.profile == "live" and settings.bars_vendor == "tiingo":
        given = settings.tiingo_api_key is not None
        yield Finding(
            "good" if given else "failed",
            "tiingo key",
            "given" if given else "not set: set LOOKBACK_TIINGO_API_KEY",
        )
    if settings.published.exists():
        yield Finding("good", "published", str(settings.published.resolve()))
    else:
        yield Finding("warning", "published", "nothing yet; run: lookback nightly")


def _home(home: Path) -> Finding:
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        return Finding("failed", "home", f"{home} is not writable; set LOOKBACK_HOME")
    free = shutil.disk_usage(nearest).free / 2**30
    level: Level = "warning" if free < LITTLE_DISK_GIB else "good"
    return Finding(level, "home", f"{home}, {free:.0f} GiB free")
