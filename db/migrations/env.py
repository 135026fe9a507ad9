import duckdb_sqlalchemy.alembic_impl  # noqa: F401  registers the dialect with Alembic
from alembic import context
from sqlalchemy import text

from db.migrations import VERSION_SCHEMA, VERSION_TABLE
from db.tables import metadata

connection = context.config.attributes["connection"]
with connection.begin():
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}"))
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=VERSION_SCHEMA,
    include_schemas=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
