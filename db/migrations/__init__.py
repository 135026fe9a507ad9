"""Migrations (Alembic): every store is brought to the tables of this version."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

from db.errors import StoreError

HEAD = "0004"
VERSION_TABLE = "alembic_version"
VERSION_SCHEMA = "ops"


def current(connection: Connection) -> str | None:
    """The revision that a store is at; None for an empty file."""
    found = connection.execute(
        text(
            "SELECT count(*) FROM duckdb_tables() "
            "WHERE schema_name = :schema AND table_name = :table"
        ),
        {"schema": VERSION_SCHEMA, "table": VERSION_TABLE},
    ).scalar_one()
    revision = (
        connection.execute(text(f"SELECT version_num FROM {VERSION_SCHEMA}.{VERSION_TABLE}"))
        if found
        else None
    )
    result = revision.scalar() if revision is not None else None
    connection.rollback()
    return result


def upgrade(connection: Connection, path: Path, to: str = "head") -> None:
    """Migrate a store, in one transaction.

    Raises
    ------
    StoreError
        The store was written by a newer Lookback.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise StoreError(
            f"{path} was written by another version of Lookback ({error}); "
            "use that version, or a newer one"
        ) from None
