"""Locks between processes: a bounded wait that names the holder.

`writer` is held while the warehouse is open, a step at a time; `night` for a whole night.
The operating system frees both when their process dies.
"""

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
def hold(home: Path, name: str, wait_seconds: float, purpose: str) -> Iterator[None]:
    """Hold one of the store's locks.

    Raises
    ------
    StoreError
        After `wait_seconds`, naming the process that holds the lock and since when; or at once,
        where the home cannot be written to.
    """
    lock = FileLock(home / f"{name}.lock", thread_local=False)
    note = home / f"{name}.json"
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise StoreError(
            f"the {name} lock of {home} is held by {_holder(note)}; "
            f"waited {wait_seconds:g} s: try again when it is done, or stop it"
        ) from None
    except OSError as error:  # permissions do not say so of every file system
        raise StoreError(
            f"cannot write to LOOKBACK_HOME {home}: {error.strerror}; "
            "set LOOKBACK_HOME to a folder that this user may write"
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
