"""Running a flow from the command line, with progress and a report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from db.clock import night
from db.errors import LookbackError, UsageError
from db.sessions import sessions
from db.settings import Settings, no_inbox
from db.warehouse import open_warehouse
from flows.display import new_console, print_night, print_sentiment, print_training
from flows.orchestration import STARTUP_SECONDS, configure
from flows.progress import ConsoleProgress


def run_nightly(settings: Settings, session: date | None, *, as_json: bool) -> int:
    """Run a night and print what it did; returns the exit code.

    Raises
    ------
    LookbackError
        The night failed; one line says what was wrong.
    """
    began = time.perf_counter()
    chosen = night(settings, sessions(settings.calendar), session)
    _require_store(settings)
    progress = ConsoleProgress(new_console(stderr=as_json))
    configure(settings.home, quiet=True)
    with progress.shown():
        with progress.waiting("start Prefect"):
            from flows.nightly import nightly
        report = _run(nightly, session=chosen.session)
    if report is None:
        return 0
    seconds = time.perf_counter() - began
    if as_json:
        print(json.dumps(asdict(report) | {"whole_seconds": seconds}, default=str, indent=2))
    else:
        print_night(report, seconds)
    return int(report.exit_code)


def run_train(
    settings: Settings, models: Sequence[str], *, device: str | None, as_json: bool
) -> int:
    """Train models and print their versions; returns the exit code.

    Raises
    ------
    UsageError
        A model is not in the catalog.
    """
    from models import catalog
    from models.text import catalog as texts

    for name in models:
        if name in texts.RECIPES:
            texts.recipes(name, settings.profile)
        else:
            catalog.recipes(name)
    _require_store(settings)
    progress = ConsoleProgress(new_console(stderr=as_json))
    configure(settings.home, quiet=True)
    with progress.shown():
        with progress.waiting("start Prefect"):
            from flows.train import train
        report = _run(train, models=list(models) or None, device=device)
    if as_json:
        print(json.dumps(asdict(report), default=str, indent=2))
    else:
        print_training(report)
    return int(report.exit_code)


def run_sentiment(settings: Settings, inbox: str | None, *, as_json: bool) -> int:
    """Take over and score incoming texts and print what was done; returns the exit code.

    Raises
    ------
    UsageError
        `inbox` is no folder that can be read, or none that can be meant.
    LookbackError
        The run failed; one line says what was wrong.
    """
    began = time.perf_counter()
    folder = _inbox(inbox, settings.home) if inbox is not None else None
    _require_store(settings)
    progress = ConsoleProgress(new_console(stderr=as_json))
    configure(settings.home, quiet=True)
    with progress.shown():
        with progress.waiting("start Prefect"):
            from flows.sentiment import sentiment
        report = _run(sentiment, inbox=folder)
    seconds = time.perf_counter() - began
    if as_json:
        print(json.dumps(asdict(report) | {"whole_seconds": seconds}, default=str, indent=2))
    else:
        print_sentiment(report, seconds)
    return int(report.exit_code)


def _inbox(given: str, home: Path) -> str:
    """The absolute path of the folder that `--inbox` names."""
    if not given.strip():
        raise UsageError("--inbox is blank; name a folder of texts")
    folder = Path(given).absolute()
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UsageError(f"--inbox {given} is no folder to read: {error.strerror}") from None
    if why := no_inbox(folder, home):
        raise UsageError(f"--inbox {given} {why}")
    return str(folder)


def _require_store(settings: Settings) -> None:
    """Find out what is wrong with the home or the store before Prefect starts."""
    with open_warehouse(settings, "a look before the run"):
        pass


def _run(flow: Callable[..., Any], **parameters: Any) -> Any:
    """Call a flow; what Prefect's server lacks is one line, too."""
    try:
        return flow(**parameters)
    except RuntimeError as error:
        if "ephemeral Prefect API server" not in str(error):
            raise
        raise LookbackError(
            f"Prefect's temporary server did not start within {STARTUP_SECONDS} s; try again, "
            "or start one and set PREFECT_API_URL"
        ) from None
