"""Publishing: a finished copy under a name of its own, behind a pointer replaced atomically.

    published/
      v00000012/lookback.duckdb            mode 0444
      v00000012/signals/signal=…/year=…/   the signals as Parquet, one folder a signal and year
      v00000012/parts.json                 what each Parquet file holds
      current -> v00000012                 the pointer

Readers open `published/current/lookback.duckdb` read-only. They keep the publication that
they opened until they reopen; nobody waits. A reader that opens it read-write may leave a
WAL beside *its* copy: the next publication lies in another folder and never meets it.

A Parquet file whose rows have not changed is not written again: it is a second name (a hard
link) of the file in the publication before. Whether rows have changed is not remembered but
looked at, by their number and the sum of their hashes: a store that was restored, or a night that
was killed, gets the files that it would have got anyhow. A file that somebody wrote to since is
not taken over, either.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import duckdb

from db.errors import StoreError
from db.settings import Settings

if TYPE_CHECKING:
    from db.warehouse import Warehouse

VERSION_FOLDER = re.compile(r"v(\d{8})")
FILE = "lookback.duckdb"
PARTS = "parts.json"

# A signal's year of more rows is written by month: a night writes one month of it again.
ROWS_OF_A_YEAR_FILE = 250_000


@dataclass(frozen=True)
class Part:
    """One Parquet file: the rows of a signal in a year, or (`month` > 0) in a month of it.

    `hashes` is the sum of the rows' hashes, `written` is size and time of the last write of the
    file, as it was published.
    """

    signal: str
    year: int
    month: int
    rows: int
    hashes: str
    written: str = ""

    @property
    def path(self) -> str:
        """Name below `signals/`, as DuckDB names the folders of a partitioned copy."""
        folder = f"signal={quote(self.signal, safe='')}/year={self.year}"
        return f"{folder}/data_{self.month:02d}.parquet"


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
    _write_parquet(warehouse, unfinished, root / "current")
    (unfinished / FILE).chmod(0o444)
    _sync(unfinished / FILE)
    _sync(unfinished)

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
        if "lock" in cause.lower():
            raise StoreError(
                f"{path} is open for writing in another program ({cause}); close it, or wait for "
                "the next night: it publishes another file"
            ) from None
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


def _columns() -> list[str]:
    """Columns of the published signals; readers import no SQLAlchemy."""
    from db.tables import signals

    return [column.name for column in signals.columns]


def _versions(root: Path) -> list[int]:
    names = (VERSION_FOLDER.fullmatch(folder.name) for folder in root.iterdir())
    return sorted(int(name.group(1)) for name in names if name)


def _write_parquet(warehouse: Warehouse, unfinished: Path, before: Path) -> None:
    """The signals as Parquet below `signals/`: linked from the publication before, or written."""
    parts = _parts(warehouse)
    if not parts:
        return
    known = _published_parts(before)
    folders = {unfinished / "signals"}
    published = []
    for part in parts:
        source, target = before / "signals" / part.path, unfinished / "signals" / part.path
        target.parent.mkdir(parents=True, exist_ok=True)
        folders |= {target.parent, target.parent.parent}
        if not _linked(source, target, known.get(part.path), part):
            _write_part(warehouse, part, target)
        published.append(asdict(part) | {"written": _written(target)})
    for folder in folders:
        _sync(folder)
    manifest = {"columns": _columns(), "parts": published}
    (unfinished / PARTS).write_text(json.dumps(manifest, indent=1))
    (unfinished / PARTS).chmod(0o444)
    _sync(unfinished / PARTS)


def _parts(warehouse: Warehouse) -> list[Part]:
    """The Parquet files that there have to be, by signal, year and month."""
    # one row per (signal, year, month)
    found = warehouse.sql(
        """
        SELECT signal, year(as_of), month(as_of), count(*), sum(hash(s))
        FROM main.signals s
        GROUP BY ALL
        ORDER BY ALL
        """
    )
    rows = Counter[tuple[str, int]]()
    for signal, year, _, count, _ in found:
        rows[signal, year] += count
    contents: dict[tuple[str, int, int], tuple[int, int]] = {}
    for signal, year, month, count, hashes in found:
        key = signal, year, month if rows[signal, year] > ROWS_OF_A_YEAR_FILE else 0
        before = contents.get(key, (0, 0))
        contents[key] = before[0] + count, before[1] + hashes
    return [Part(*key, count, f"{total:x}") for key, (count, total) in contents.items()]


def _published_parts(publication: Path) -> Mapping[str, Part]:
    """The files of a publication, by path; none where they cannot be relied on."""
    try:
        manifest = json.loads((publication / PARTS).read_text())
        if manifest["columns"] != _columns():
            return {}
        parts = [Part(**each) for each in manifest["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {part.path: part for part in parts}


def _linked(source: Path, target: Path, known: Part | None, wanted: Part) -> bool:
    """Give the file of the publication before a second name, if it holds what is wanted."""
    if known is None or (known.rows, known.hashes) != (wanted.rows, wanted.hashes):
        return False
    try:
        if _written(source) != known.written:
            return False
        os.link(source, target)
    except OSError:  # it is gone, or the file system knows no links
        return False
    return True


def _written(path: Path) -> str:
    """Size and time of the last write: they tell whether anybody wrote to a file since."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _write_part(warehouse: Warehouse, part: Part, target: Path) -> None:
    warehouse.native.execute(
        """
        COPY (
            SELECT * EXCLUDE (signal)
            FROM main.signals
            WHERE signal = $1
                AND as_of BETWEEN make_date($2, $3, 1) AND last_day(make_date($2, $4, 1))
            ORDER BY as_of, entity, horizon, role, model_version
        ) TO $5 (FORMAT parquet)
        """,
        (part.signal, part.year, part.month or 1, part.month or 12, str(target)),
    )
    target.chmod(0o444)
    _sync(target)


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
