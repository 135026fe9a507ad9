"""One writer at a time, with a bounded wait that names the holder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from db.errors import StoreError


@contextmanager
def writer_lock(home: Path, wait_seconds: float, purpose: str) -> Iterator[None]:
    """Hold the store's writer lock; the operating system frees it when the process dies.

    Raises
    ------
    StoreError
        After `wait_seconds`, naming the process that holds the lock and since when.
    """
    lock = FileLock(home / "writer.lock", thread_local=False)
    note = home / "writer.json"
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise StoreError(
            f"the store at {home} is being written by {_holder(note)}; "
            f"waited {wait_seconds:g} s: try again when it is done, or stop it"
        ) from None
    try:
        note.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "purpose": purpose,
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
        )
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        holder = json.loads(note.read_text())
        name = psutil.Process(holder["pid"]).name()
    except (OSError, ValueError, KeyError):
        return "another process"
    except psutil.NoSuchProcess:
        return "a process that has just ended"
    return f"process {holder['pid']} ({name}, {holder['purpose']}) since {holder['since']}"
