"""Opening what was published, read-only: the DuckDB file, or the signals as Parquet.

Nothing else is read: no warehouse, no settings unless the path is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from db.errors import StoreError

FILE = "lookback.duckdb"
# Where the file lies under a publication, the folder of publications, and a LOOKBACK_HOME.
PLACES = (FILE, f"current/{FILE}", f"published/current/{FILE}")
# What DuckDB says when it gets to where a file ends too early, or was written over.
CUT_OFF = ("read enough bytes", "Corrupt database file", "checksum")

PathLike = str | os.PathLike[str]


def published_file(path: PathLike | None = None) -> Path:
    """The published file that a path stands for, its pointer followed.

    Parameters
    ----------
    path : the file, its publication's folder, `published/`, or a LOOKBACK_HOME; the settings'
        home if left out.

    Raises
    ------
    StoreError
        There is nothing there, or nothing has been published.
    """
    place = Path(path).expanduser() if path is not None else _home()
    if place.is_file():
        return place.resolve()
    if not place.exists():
        raise StoreError(f"{place} is not there; run: lookback nightly, or give another path")
    for name in PLACES:
        if (place / name).is_file():
            # resolved: a publication that goes away meanwhile stays one publication
            return (place / name).resolve()
    raise StoreError(f"nothing is published under {place}; run: lookback nightly")


def parquet_folder(path: PathLike | None) -> Path | None:
    """The folder of `signal=…/year=…` that a path names, or None if it names something else."""
    if path is None:
        return None
    place = Path(path).expanduser()
    if not place.is_dir() or any((place / name).is_file() for name in PLACES):
        return None
    for folder in (place, place / "signals"):
        if folder.is_dir() and any(folder.glob("signal=*")):
            return folder.resolve()
    return None


@contextmanager
def open_published(path: PathLike | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a published file read-only; times are shown in UTC.

    Parameters
    ----------
    path : as of `published_file`.

    Raises
    ------
    StoreError
        Nothing is published there; the file is no DuckDB file, is cut off (which may show
        only when a query comes to where it ends), is none of Lookback's, or was published by
        a newer version of it.
    """
    file = published_file(path)
    try:
        connection = duckdb.connect(str(file), read_only=True)
    except duckdb.Error as error:
        raise StoreError(_why_unreadable(file, error)) from None
    try:
        _require_ours(connection, file)
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        # a copy that was cut off opens, as long as its catalogue is there
        if any(sign in str(error) for sign in CUT_OFF):
            raise StoreError(_why_unreadable(file, error)) from None
        raise
    finally:
        connection.close()


@contextmanager
def open_parquet(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which `main.signals` is the Parquet of one publication, in UTC.

    Raises
    ------
    StoreError
        A file is cut off, or no Parquet file.
    """
    files = sorted(str(file) for file in folder.glob("signal=*/year=*/*.parquet"))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            stored = connection.read_parquet(files, hive_partitioning=True)
            # what the folders' names hold comes last: the table begins with it, and has no year
            stored.project("signal, * EXCLUDE (signal, year)").create("signals")
        except duckdb.Error as error:
            cause = str(error).splitlines()[0]
            raise StoreError(
                f"{folder} holds Parquet that cannot be read ({cause}); copy the folder again"
            ) from None
        yield connection


def fetch(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Any = None
) -> pd.DataFrame:
    """A query's result: dates as datetime64, times in UTC, text as text."""
    found = connection.execute(query, parameters).to_arrow_table()
    rows: pd.DataFrame = found.to_pandas(date_as_object=False)
    return rows


def _home() -> Path:
    from db.settings import load_settings

    return load_settings().home


def _why_unreadable(file: Path, error: duckdb.Error) -> str:
    cause = str(error).splitlines()[0]
    if any(sign in cause for sign in CUT_OFF):
        return f"{file} is cut off or damaged ({cause}); copy it again, once it is finished"
    if "version number" in cause or "newer" in cause:
        return (
            f"{file} was written by another DuckDB than {duckdb.__version__} ({cause}); "
            "read it with that one"
        )
    if "different configuration" in cause:
        return f"{file} is open in this process, and not read-only; close it or open it read-only"
    return f"{file} is no published Lookback file ({cause}); give a published {FILE}"


def _require_ours(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    tables = {
        f"{schema}.{table}"
        for schema, table in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables()"
        ).fetchall()
    }
    if not {"ops.alembic_version", "main.signals"} <= tables:
        raise StoreError(
            f"{file} is a DuckDB file, but none of Lookback's; give a published {FILE}"
        )
    from db.migrations import HEAD

    (revision,) = connection.execute("SELECT version_num FROM ops.alembic_version").fetchall()[0]
    if str(revision) > HEAD:
        raise StoreError(
            f"{file} was published by a newer Lookback (schema {revision}, this one reads up to "
            f"{HEAD}); update this one"
        )
