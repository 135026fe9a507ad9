"""Writing the report of a session beside those of other sessions."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

from db.errors import LookbackError
from db.publishing import query_published
from db.settings import Settings
from flows.health import check_health
from signals.report import report_page

NEWEST_NIGHT = "SELECT max(session) FROM runs WHERE flow = 'nightly' AND status <> 'failed'"


def write_report(
    settings: Settings, session: date | None = None, output: Path | None = None
) -> Path:
    """Write the page of a session, by default of the newest night; returns its path.

    Without `output` it is `reports/<session>.html` under the home; that of the newest night is
    `reports/latest.html` as well.

    Raises
    ------
    LookbackError
        Nothing is published, there was no such night, or the file cannot be written.
    """
    _, found = query_published(settings, NEWEST_NIGHT)
    of_the_newest = session is None or session == found[0][0]
    # what check finds is about now, not about a night long past
    findings = check_health(settings) if of_the_newest else []
    written, page = report_page(settings, session, findings)
    path = output or settings.home / "reports" / f"{written}.html"
    _write(path, page)
    if of_the_newest and output is None:
        _write(path.with_name("latest.html"), page)
    return path


def _write(path: Path, page: str) -> None:
    """Put a page in place at once: who has it open never sees half of it."""
    unfinished = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(page, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise LookbackError(
            f"the report cannot be written to {path} ({error.strerror}); choose another --output"
        ) from None
