"""The inbox: folders in which texts are dropped, read once and put away, never deleted.

    inbox/                  what is new: JSONL, JSON, CSV, TSV, Parquet, plain text; .gz of these
    inbox/archive/<day>/    what was read, by the UTC day on which it was
    inbox/quarantine/       what could not be read as a whole; raw.quarantine says why

A file is put away only after its rows are in the store; killed in between, the next run puts
it away. A file that is still being written is left for the next run: give it a name that ends
in .part or begins with a dot until it is whole, then rename it.

What was read is remembered by inode, size and times. A file that may not be moved stays and is
read again when it changes. So is one that was put away, until a whole UTC day has passed without
a change: a writer that had fallen silent may hold it still.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

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
WRITTEN_TO = "was written to after it was put away; read again"

# A file that changed less than this ago may still be written to.
SETTLED_SECONDS = 2.0
UNFINISHED = (".part", ".partial", ".tmp", ".filepart", ".crdownload", "~")

# A file that was put away is followed until a run, later than these UTC days after its last
# change, finds it as it was.
FOLLOWED_DAYS = 1
# Entries of a folder that were left alone and are named.
NAMED = 3


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
            self._read_dropped(folder, seen)
        self._read_written_to(seen)
        frame = pd.concat(seen.frames, ignore_index=True) if seen.frames else document_frame({})
        state = {"files": seen.files, "left": seen.left}
        return Fetched(frame, None, tuple(seen.problems), state)

    def _read_dropped(self, folder: Path, seen: _Seen) -> None:
        """Read what lies in an inbox, unless it was read as it is now and could not be moved."""
        try:
            entries = [entry for entry in os.scandir(folder) if not _is_ours(entry)]
        except OSError as error:
            seen.problems.append(
                f"{self.name}: {folder} cannot be read: {error.strerror}; make that folder or "
                "correct LOOKBACK_INBOX_DIR"
            )
            return
        for path in _in_order(folder, entries, seen):
            mark = fingerprint(path)
            if mark is None:
                continue  # somebody took it away
            known = seen.before.get(str(path))
            if known is not None and known["fingerprint"] == mark:
                seen.files[str(path)] = known
            else:
                self._read(path, mark, folder, seen.today, seen)

    def _read_written_to(self, seen: _Seen) -> None:
        """Read what was put away and has been written to since."""
        for path, mark, known in _put_away(seen):
            _, size, modified, _ = mark  # that its entry has changed was our moving it
            if [size, modified] == known["fingerprint"][1:3]:
                if known["changed"] >= seen.followed_from:
                    seen.files[str(path)] = {**known, "fingerprint": mark}
                continue
            seen.files[str(path)] = {**known, "changed": seen.today}
            inbox = Path(known["inbox"])
            if _is_unfinished(path.name, modified / 1e9):
                seen.leave(path, inbox)
            else:
                self._read(path, mark, inbox, known["day"], seen)

    def _read(self, path: Path, mark: list[int], inbox: Path, day: str, seen: _Seen) -> None:
        """Read one file and remember it, unless it changes meanwhile."""
        outcome, reasons = ARCHIVE, [WRITTEN_TO] if path.parent != inbox else []
        try:
            frame = read_documents(path, self.largest)
        except FileNotFoundError:
            return  # somebody took it away
        except Refused as refused:
            frame = document_frame({k: [v] for k, v in refused.as_row().items()})
            outcome, reasons = QUARANTINE, [*reasons, str(refused)]
        if fingerprint(path) != mark:
            seen.leave(path, inbox)
            return
        seen.frames.append(frame.assign(file=str(path)))
        seen.files[str(path)] = {
            "inbox": str(inbox),
            "fingerprint": mark,
            "outcome": outcome,
            "reason": ": ".join(reasons),
            "day": day,
            "changed": seen.today,
        }


class _Known(TypedDict):
    """What is remembered of a file that was read, by its path.

    `inbox` is the folder in which it was dropped, `day` the UTC day of its archive folder,
    `changed` that on which it was last read, or found to be written to.
    """

    inbox: str
    fingerprint: list[int]
    outcome: str
    reason: str
    day: str
    changed: str


@dataclass
class _Seen:
    """What a fetch has come across; `before` is what the last one had."""

    before: Mapping[str, _Known]
    files: dict[str, _Known] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)
    frames: list[pd.DataFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def today(self) -> str:
        """The UTC day of the fetch."""
        return self.now.date().isoformat()

    @property
    def followed_from(self) -> str:
        """The UTC day from which on a file that was put away must have changed to be followed."""
        return (self.now - timedelta(days=FOLLOWED_DAYS)).date().isoformat()

    def leave(self, path: Path, inbox: Path) -> None:
        """Leave a file that may still be written to for the next run."""
        self.left.append((path.name, _place(path, inbox)))


def _place(path: Path, inbox: Path) -> str:
    """Where a file lies, from its inbox on; `.` of one that was not put away."""
    return STAYS if path.parent == inbox else str(path.relative_to(inbox))


def _put_away(seen: _Seen) -> Iterator[tuple[Path, list[int], _Known]]:
    """Files that were put away and are followed, as they are now, and as they were read.

    They are known by their inode: where a name is taken a file is put away under another one.
    """
    for inbox in dict.fromkeys(known["inbox"] for known in seen.before.values()):
        of_inbox = [known for known in seen.before.values() if known["inbox"] == inbox]
        by_inode = {known["fingerprint"][0]: known for known in of_inbox}
        days = sorted({f"{ARCHIVE}/{known['day']}" for known in of_inbox})
        for path in _files_in(Path(inbox, folder) for folder in (QUARANTINE, *days)):
            mark = fingerprint(path)
            if mark is not None and mark[0] in by_inode:
                yield path, mark, by_inode[mark[0]]


def _files_in(folders: Iterable[Path]) -> Iterator[Path]:
    """Everything in those of the folders that are there."""
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        yield from (folder / name for name in names)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return entry.name in (ARCHIVE, QUARANTINE) and entry.is_dir(follow_symlinks=False)


def _in_order(folder: Path, entries: Sequence[os.DirEntry[str]], seen: _Seen) -> Iterator[Path]:
    """Regular files that are no longer written to, oldest first; others are named."""
    ready, others = [], []
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # somebody took it away
        if not stat.S_ISREG(status.st_mode):
            others.append(f"{_shown(entry.name)} ({_what(status.st_mode)})")
        elif _shown(entry.name) != entry.name:
            others.append(f"{_shown(entry.name)} (a name that is no UTF-8)")
        elif _is_unfinished(entry.name, status.st_mtime):
            seen.leave(Path(entry.path), folder)
        else:
            ready.append((status.st_mtime_ns, entry.path))
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        seen.problems.append(
            f"{NAME}: left alone in {folder}: {', '.join(sorted(others)[:NAMED])}{more}; only "
            "regular files that lie in the inbox itself are read: take the others away"
        )
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
    """Inode, size, ns of the last change of content and of entry: what tells a file from itself.

    A file that is moved away and back has another one: it is read again.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


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
    reason : why it is in quarantine, still in the inbox, or read again; "" of others.
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

    A file goes to `archive/<UTC day on which it was read>/` or to `quarantine/`, under its name,
    with a number where that is taken; one that was read again there stays, unless it now belongs
    in the other. One that has changed since it was read stays for the next run, and so do all
    where the quality gate stopped the delivery. Deliveries of other sources have no such files.
    """
    if staged.source.name != NAME:
        return []
    counts = {each.file: each for each in delivery.files}
    done = []
    for place, known in staged.state.get("files", {}).items():
        path, count = Path(place), counts.get(place)
        where = _place(path, Path(known["inbox"]))
        if path.parent == _target(known) and count is None:
            continue  # put away before, and not read again
        if delivery.status == "stopped":
            why = "the quality gate stopped the delivery"
        elif (now := fingerprint(path)) is None:
            continue  # another run was faster
        elif now != known["fingerprint"]:
            why = "has changed since it was read; the next run reads it again"
        else:
            where, why = _put(path, known)
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
    left = staged.state.get("left", [])
    return done + [PutAway(name, place, reason=unfinished) for name, place in left]


def _put(path: Path, known: _Known) -> tuple[str, str]:
    """Move a file, unless it lies there already; where it is now, and why."""
    inbox, target = Path(known["inbox"]), _target(known)
    try:
        moved = path if path.parent == target else move(path, target)
    except OSError as error:
        return _place(path, inbox), (
            f"could not be moved to {target.relative_to(inbox)}/: {error.strerror}; let this user "
            "write there; until then it is not read again"
        )
    return _place(moved, inbox), known["reason"]


def _target(known: _Known) -> Path:
    """The folder in which a file that was read belongs."""
    if known["outcome"] == QUARANTINE:
        return Path(known["inbox"], QUARANTINE)
    return Path(known["inbox"], ARCHIVE, known["day"])


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
