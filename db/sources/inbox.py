"""The inbox: folders in which texts are dropped, read once and put away, never deleted.

    inbox/                  what is new: JSONL, JSON, CSV, TSV, Parquet, plain text; .gz of these
    inbox/archive/<day>/    what was read, by the UTC day on which it was
    inbox/quarantine/       what could not be read as a whole; raw.quarantine says why

A file is put away only after its rows are in the store; killed in between, the next run puts
it away. One that may not be moved stays and is remembered by size and times: it is read again
when it changes. A file that is still being written is left for the next run: give it a name
that ends in .part or begins with a dot until it is whole, then rename it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from db.availability import Availability
from db.settings import Settings
from db.sources.document_files import (
    MEGABYTE,
    WITH_THE_TEXT,
    Refused,
    document_frame,
    read_documents,
)
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request
from db.staging import Staged

if TYPE_CHECKING:
    from db.ingest import Delivery

NAME = "inbox"
ARCHIVE, QUARANTINE, STAYS = "archive", "quarantine", "."

# A file that changed less than this ago may still be written to.
SETTLED_SECONDS = 2.0
UNFINISHED = (".part", ".partial", ".tmp", ".filepart", ".crdownload", "~")


@dataclass(frozen=True)
class Inbox:
    """Texts of every file that lies in one of the folders.

    Attributes
    ----------
    folders : read in this order; the first is made where it is missing.
    largest : bytes; a larger file goes to quarantine unread.
    """

    folders: tuple[Path, ...]
    largest: int
    name: str = NAME
    kind: Kind = "documents"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_TEXT

    @classmethod
    def of(cls, settings: Settings) -> Inbox:
        """The inbox under home and, if it is set, `inbox_dir`."""
        folders = dict.fromkeys(
            folder for folder in (settings.inbox, settings.inbox_dir) if folder is not None
        )
        return cls(tuple(folders), int(settings.inbox_max_megabytes * MEGABYTE))

    def fetch(self, request: Request) -> Fetched:
        """Rows of every file that is new; one that cannot be read is a row that says why."""
        self.folders[0].mkdir(parents=True, exist_ok=True)
        seen = _Seen(request.state.get("files", {}))
        for folder in self.folders:
            self._read(folder, seen)
        frame = pd.concat(seen.frames, ignore_index=True) if seen.frames else document_frame({})
        state = {"files": seen.files, "left": seen.left}
        return Fetched(frame, None, tuple(seen.problems), state)

    def _read(self, folder: Path, seen: _Seen) -> None:
        try:
            entries = [entry for entry in os.scandir(folder) if not _is_ours(entry)]
        except OSError as error:
            seen.problems.append(
                f"{self.name}: {folder} cannot be read: {error.strerror}; make that folder or "
                "correct LOOKBACK_INBOX_DIR"
            )
            return
        for path in _in_order(entries, seen):
            mark = fingerprint(path)
            if mark is None:
                continue
            known = seen.before.get(str(path))
            if known is not None and known["fingerprint"] == mark:
                seen.files[str(path)] = known
                continue
            outcome, reason = "archive", ""
            try:
                frame = read_documents(path, self.largest)
            except FileNotFoundError:
                continue  # somebody took it away
            except Refused as refused:
                frame = document_frame({k: [v] for k, v in refused.as_row().items()})
                outcome, reason = "quarantine", str(refused)
            if fingerprint(path) != mark:  # it changed while it was read
                seen.left.append(path.name)
                continue
            seen.frames.append(frame.assign(file=str(path)))
            seen.files[str(path)] = {"fingerprint": mark, "outcome": outcome, "reason": reason}


@dataclass
class _Seen:
    """What a fetch has come across; `before` is what the last one had."""

    before: Mapping[str, Any]
    files: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    frames: list[pd.DataFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return entry.name in (ARCHIVE, QUARANTINE) and entry.is_dir(follow_symlinks=False)


def _in_order(entries: Sequence[os.DirEntry[str]], seen: _Seen) -> Iterator[Path]:
    """Regular files that are no longer written to, oldest first; others are named."""
    ready = []
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # somebody took it away
        if not stat.S_ISREG(status.st_mode):
            seen.problems.append(
                f"{NAME}: {_shown(entry.path)} is {_what(status.st_mode)} and was left alone; only "
                "files that lie in the inbox itself are read"
            )
        elif _shown(entry.name) != entry.name:
            seen.problems.append(
                f"{NAME}: {_shown(entry.path)} was left alone: its name is no UTF-8; rename it"
            )
        elif _is_unfinished(entry.name, status.st_mtime):
            seen.left.append(entry.name)
        else:
            ready.append((status.st_mtime_ns, entry.path))
    for _, path in sorted(ready):
        yield Path(path)


def _what(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a folder" if stat.S_ISDIR(mode) else "no regular file"


def _shown(name: str) -> str:
    """A name that can be written down, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_unfinished(name: str, modified: float) -> bool:
    age = time.time() - modified
    return name.startswith(".") or name.lower().endswith(UNFINISHED) or 0 <= age < SETTLED_SECONDS


def fingerprint(path: Path) -> list[int] | None:
    """Size, times of change of content and of the entry: what tells a file from itself later.

    A file that is moved away and back has another one: it is read again.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


# --------------------------------------------------------------------------- putting away


@dataclass(frozen=True)
class PutAway:
    """What became of a file of the inbox.

    Attributes
    ----------
    name : of the file as it was dropped.
    place : where it is now, from its inbox on; `.` if it was left there.
    rows, appended, unchanged, quarantined : of it, `rows` is the sum of the others; a file that
        could not be read as a whole is one row in quarantine.
    reason : why it is in quarantine, or still in the inbox; "" of one that is archived.
    """

    name: str
    place: str
    rows: int = 0
    appended: int = 0
    unchanged: int = 0
    quarantined: int = 0
    reason: str = ""


def put_away(staged: Staged, delivery: Delivery) -> list[PutAway]:
    """Move the files of a delivery that was taken over; call after its transaction.

    A file goes to `archive/<UTC day of the fetch>/` or to `quarantine/` beside it, under its
    name, with a number where that is taken. One that has changed since it was read stays for
    the next run, and so do all where the quality gate stopped the delivery. Deliveries of other
    sources have no such files.
    """
    if staged.source.name != NAME:
        return []
    counts = {each.file: each for each in delivery.files}
    done = []
    for place, known in staged.state.get("files", {}).items():
        path, count = Path(place), counts.get(place)
        if delivery.status == "stopped":
            where, why = STAYS, "the quality gate stopped the delivery"
        elif (now := fingerprint(path)) is None:
            continue  # another run was faster
        elif now != known["fingerprint"]:
            where, why = STAYS, "has changed since it was read; the next run reads it again"
        else:
            where, why = _put(path, known, staged.fetched_at.date())
        done.append(
            PutAway(
                path.name,
                where,
                rows=count.rows if count else 0,
                appended=count.appended if count else 0,
                unchanged=count.unchanged if count else 0,
                quarantined=count.quarantined if count else 0,
                reason=why,
            )
        )
    unfinished = "may still be written to; the next run reads it"
    return done + [PutAway(name, STAYS, reason=unfinished) for name in staged.state.get("left", [])]


def _put(path: Path, known: Mapping[str, Any], day: date) -> tuple[str, str]:
    """Move a file; where it is now, and why, unless it is archived."""
    target = QUARANTINE if known["outcome"] == "quarantine" else f"{ARCHIVE}/{day.isoformat()}"
    try:
        moved = move(path, path.parent / target)
    except OSError as error:
        return STAYS, (
            f"could not be moved to {target}/: {error.strerror}; let this user write there; until "
            "then it is not read again"
        )
    return f"{target}/{moved.name}", known["reason"]


def move(path: Path, folder: Path) -> Path:
    """Move a file into a folder under its name, or with a number: nothing is overwritten.

    Raises
    ------
    OSError
        The folder cannot be made or written to; the file is where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = _reserve(folder, path.name)
    try:
        os.replace(path, target)
    except OSError:
        target.unlink()
        raise
    return target


def _reserve(folder: Path, name: str) -> Path:
    """An empty file of that name, or the first numbered one that is free, made by us alone."""
    stem, dot, ending = name.partition(".")
    number = 1
    while True:
        target = folder / (name if number == 1 else f"{stem}-{number}{dot}{ending}")
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            number += 1
        else:
            return target
