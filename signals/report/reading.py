"""Reading the published file for the report: rows as dictionaries, and what it must hold."""

from __future__ import annotations

from typing import Any

import duckdb

from db.errors import StoreError

Row = dict[str, Any]

NEEDED = {"outcomes", "signal_performance", "signal_calibration", "signal_drift"}

# Of nights and a backfill that scored the same date the night counts; of several versions the
# one published last.
FIRST_SCORED = """
    row_number() OVER (
        PARTITION BY entity, as_of, horizon, horizon_unit
        ORDER BY role = 'live' DESC, published_at DESC, model_version
    ) = 1
"""
# The same of tables that hold no time of publication: the names of versions begin with a date.
FIRST_JUDGED = """
    row_number() OVER (
        PARTITION BY entity, as_of, horizon, horizon_unit
        ORDER BY role = 'live' DESC, model_version DESC
    ) = 1
"""


def rows(
    connection: duckdb.DuckDBPyConnection, query: str, *parameters: Any, **named: Any
) -> list[Row]:
    """Rows of one query, each a dictionary by column; what is no number is None.

    Values are bound by place or by name.
    """
    result = connection.execute(query, named or parameters)
    names = [column[0] for column in result.description or ()]
    return [
        {name: None if value != value else value for name, value in zip(names, row, strict=True)}  # noqa: PLR0124  NaN
        for row in result.fetchall()
    ]


def require_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a file of an older version.

    Raises
    ------
    StoreError
        It lacks tables that the report shows.
    """
    found = rows(
        connection,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'",
    )
    lacking = sorted(NEEDED - {row["table_name"] for row in found})
    if lacking:
        raise StoreError(
            f"the newest publication was made by an older Lookback (it has no {lacking[0]}); "
            "run: lookback nightly"
        )
