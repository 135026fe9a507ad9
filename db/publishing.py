"""Publishing: a finished copy under a name of its own, behind a pointer replaced atomically.

    published/
      v00000012/lookback.duckdb        mode 0444
      v00000012/signals/signal=…/…     the signals as Parquet, one folder a signal and year
      current -> v00000012             the pointer

Readers open `published/current/lookback.duckdb` read-only. They keep the publication that
they opened until they reopen; nobody waits. A reader that opens it read-write may leave a
WAL beside *its* copy: the next publication lies in another folder and never meets it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from db.errors import StoreError
from db.settings import Settings

if TYPE_CHECKING:
    from db.warehouse import Warehouse

VERSION_FOLDER = re.compile(r"v(\d{8})")
FILE = "lookback.duckdb"


def publish(warehouse: Warehouse) -> Path:
    """Make the committed state of the warehouse visible to readers, atomically.

    Returns the published file. A kill at any point leaves the old publication or the
    new one, whole; leftovers of an unfinished publication are removed by the next.
    """
    root = warehouse.settings.home / "published"
    root.mkdir(exist_ok=True)
    _remove_unfinished(root)
    number = max(_versions(root), default=0) + 1
    unfinished = root / f"unfinished-{number:08d}"
    unfinished.mkdir()

    warehouse.native.execute("CHECKPOINT")
    shutil.copyfile(warehouse.settings.warehouse, unfinished / FILE)
    _write_parquet(warehouse, unfinished / "signals")
    (unfinished / FILE).chmod(0o444)
    _sync(unfinished / FILE)

    finished = root / f"v{number:08d}"
    unfinished.rename(finished)
    _point(root, finished)
    _remove_old(root, keep=warehouse.settings.keep_publications)
    return finished / FILE


@contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the newest publication read-only; times are shown in UTC.

    Raises
    ------
    StoreError
        Nothing has been published yet, or the file is no DuckDB file.
    """
    path = settings.published
    if not path.exists():
        raise StoreError(f"nothing is published under {settings.home}; run: lookback nightly")
    try:
        # the resolved path: a publication that goes away meanwhile stays one publication
        connection = duckdb.connect(str(path.resolve()), read_only=True)
    except duckdb.Error as error:
        cause = str(error).splitlines()[0]
        raise StoreError(f"{path} is no published Lookback file ({cause})") from None
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def query_published(
    settings: Settings, query: str, parameters: tuple[Any, ...] = ()
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one query on the newest publication; it cannot change anything.

    Neither the file nor anything beside it: DuckDB's access to other files is off.

    Raises
    ------
    StoreError
        The query is wrong, or tries to write; one line.
    """
    with open_published(settings) as connection:
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            result = connection.execute(query, parameters)
            if result is None:  # nothing but blanks and comments
                raise StoreError("the query was refused: it is empty")
            columns = [column[0] for column in result.description or ()]
            return columns, result.fetchall() if columns else []
        except duckdb.Error as error:
            cause = " ".join(str(error).split("LINE ")[0].split())
            raise StoreError(f"the query was refused: {cause}") from None


def _versions(root: Path) -> list[int]:
    names = (VERSION_FOLDER.fullmatch(folder.name) for folder in root.iterdir())
    return sorted(int(name.group(1)) for name in names if name)


def _write_parquet(warehouse: Warehouse, folder: Path) -> None:
    (count,) = warehouse.one("SELECT count(*) FROM main.signals") or (0,)
    if not count:
        return
    warehouse.native.execute(
        f"""
        COPY (
            SELECT *, year(as_of) AS year
            FROM main.signals
            ORDER BY signal, as_of, entity
        ) TO '{str(folder).replace("'", "''")}'
        (FORMAT parquet, PARTITION_BY (signal, year))
        """
    )


def _point(root: Path, folder: Path) -> None:
    """Replace the pointer in one step: a symbolic link renamed over the old one."""
    link = root / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name, target_is_directory=True)
    os.replace(link, root / "current")
    _sync(root)


def _sync(path: Path) -> None:
    """Force a file or folder to disk, so that the pointer never outlives what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_unfinished(root: Path) -> None:
    for leftover in root.glob("unfinished-*"):
        shutil.rmtree(leftover)


def _remove_old(root: Path, keep: int) -> None:
    """Old copies go; a reader that has one open keeps its file until it closes."""
    for number in _versions(root)[:-keep]:
        shutil.rmtree(root / f"v{number:08d}", ignore_errors=True)
