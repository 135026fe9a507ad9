"""The private warehouse: opening, migrating, one writer, bulk rows through Arrow.

SQLAlchemy declares and migrates the tables and writes the small ones; bulk rows go
through the native DuckDB connection as Arrow, never row by row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from sqlalchemy import URL, Connection, Engine, Table, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from db.errors import StoreError
from db.locks import hold
from db.settings import Settings
from db.tables import store


class Warehouse:
    """An open store, inside one transaction-capable connection.

    Use :func:`open_warehouse`. `sql` and `frame` read; `append` and `replace` write
    bulk rows; `insert` and `upsert` write a few. `transaction` makes several writes one.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        # the SQLAlchemy pool's proxy holds the native connection
        self.native: duckdb.DuckDBPyConnection = connection.connection.driver_connection  # type: ignore[assignment]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or not at all."""
        with self.connection.begin():
            yield

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; values are bound, never pasted."""
        rows: list[tuple[Any, ...]] = self.native.execute(query, parameters).fetchall()
        return rows

    def one(self, query: str, *parameters: Any) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        row: tuple[Any, ...] | None = self.native.execute(query, parameters).fetchone()
        return row

    def frame(self, query: str, *parameters: Any) -> pd.DataFrame:
        """A query's result as a frame (dates become datetime64, times UTC)."""
        return self.native.execute(query, parameters).df()

    def append(self, table: Table, rows: pd.DataFrame | pa.Table) -> int:
        """Append bulk rows by column name; missing nullable columns become NULL."""
        if len(rows) == 0:
            return 0
        with self.relation(rows) as name:
            self.native.execute(f"INSERT INTO {table.fullname} BY NAME SELECT * FROM {name}")
        return len(rows)

    @contextmanager
    def relation(self, rows: pd.DataFrame | pa.Table, name: str = "incoming") -> Iterator[str]:
        """Make a frame readable in SQL under `name`, through Arrow and without a copy."""
        table = (
            rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
        )
        self.native.register(name, table)
        try:
            yield name
        finally:
            self.native.unregister(name)

    def insert(self, table: Table, row: Mapping[str, Any]) -> None:
        """Insert one row, in the transaction around or in one of its own."""
        with self._joined():
            self.connection.execute(table.insert(), dict(row))

    def upsert(self, table: Table, row: Mapping[str, Any]) -> None:
        """Insert one row, or set the columns given on the row of the same primary key."""
        keys = [column.name for column in table.primary_key.columns]
        condition = [table.c[key] == row[key] for key in keys]
        changes = {name: value for name, value in row.items() if name not in keys}
        with self._joined():
            if self.connection.execute(table.select().where(*condition)).first() is None:
                self.connection.execute(table.insert(), dict(row))
            else:
                self.connection.execute(table.update().where(*condition), changes)

    @contextmanager
    def _joined(self) -> Iterator[None]:
        if self.connection.in_transaction():
            yield
        else:
            with self.connection.begin():
                yield


@contextmanager
def open_warehouse(settings: Settings, purpose: str) -> Iterator[Warehouse]:
    """Open the store for writing; created and migrated as needed, locked meanwhile.

    Raises
    ------
    StoreError
        The home is not writable, the file is no store, it belongs to another profile,
        or another process is writing and does not finish within `lock_wait_seconds`.
    """
    home = settings.home
    _make_writable(home)
    with hold(home, "writer", settings.lock_wait_seconds, purpose):
        engine = _engine(settings.warehouse)
        try:
            with _connect(engine, settings.warehouse) as connection:
                _migrate(connection, settings.warehouse)
                warehouse = Warehouse(connection, settings)
                warehouse.native.execute("SET TimeZone = 'UTC'")
                _claim(warehouse)
                yield warehouse
        finally:
            engine.dispose()


def _make_writable(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK | os.X_OK)
        problem = "permission denied"
    except OSError as error:
        writable, problem = False, str(error.strerror)
    if not writable:
        raise StoreError(
            f"cannot write to LOOKBACK_HOME {home}: {problem}; "
            "set LOOKBACK_HOME to a folder that this user may write"
        )


def _engine(path: Path) -> Engine:
    # not as text: a home named with ? or % would be another file
    return create_engine(URL.create("duckdb", database=str(path)), poolclass=NullPool)


@contextmanager
def _connect(engine: Engine, path: Path) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except (DBAPIError, duckdb.Error) as error:
        raise StoreError(_why_unreadable(path, error)) from None
    with connection:
        yield connection


def _why_unreadable(path: Path, error: Exception) -> str:
    cause = str(getattr(error, "orig", error)).splitlines()[0]
    if "lock" in cause.lower():
        return f"{path} is open in another program ({cause}); close it: only nights open this file"
    return f"{path} is no Lookback store ({cause}); move it away or set another LOOKBACK_HOME"


def _migrate(connection: Connection, path: Path) -> None:
    """Bring the tables to this version's; nothing is imported when they are there already."""
    from db.migrations import HEAD, current, upgrade

    found = current(connection)
    if found == HEAD:
        return
    if found is None and _holds_foreign_tables(connection):
        raise StoreError(
            f"{path} is a DuckDB file, but no Lookback store; "
            "move it away or set another LOOKBACK_HOME"
        )
    upgrade(connection, path)


def _holds_foreign_tables(connection: Connection) -> bool:
    count = connection.execute(text("SELECT count(*) FROM duckdb_tables()")).scalar_one()
    connection.rollback()
    return bool(count)


def _claim(warehouse: Warehouse) -> None:
    """Write this profile into a new store; refuse the store of another one."""
    profile = warehouse.settings.profile
    known = warehouse.one("SELECT value FROM ops.store WHERE key = 'profile'")
    if known is None:
        with warehouse.transaction():
            warehouse.insert(store, {"key": "profile", "value": profile})
            now = datetime.now(UTC).isoformat(timespec="seconds")
            warehouse.insert(store, {"key": "created_at", "value": now})
    elif known[0] != profile:
        raise StoreError(
            f"the store at {warehouse.settings.home} was made by profile {known[0]}, this run has "
            f"{profile}; set LOOKBACK_PROFILE={known[0]} or another LOOKBACK_HOME"
        )
