"""`SELECT * FROM signals_latest` of a client of `lookback serve`, beside the published file.

    python -m benchmarks.remote_sql [--symbols 4226] [--rounds 300]

A store with a made-up newest row of each symbol is published and served by the command line in a
process of its own; the client is on the same machine. Each round takes every side once; a result
counts when it is an Arrow table. `reopened` opens the file, or attaches the server, anew.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np

from db.publishing import publish
from db.serving import EXTENSIONS, Address
from db.settings import Settings, load_settings
from db.warehouse import open_warehouse
from flows.display import print_table

QUERY = "SELECT * FROM signals_latest"
SYMBOLS = 4_226  # of the daily reference panel


def publish_made_up(settings: Settings, symbols: int) -> Path:
    """A publication whose signals_latest has a row for each symbol."""
    with open_warehouse(settings, "benchmark") as warehouse:
        warehouse.native.execute(
            """
            INSERT INTO main.signals_latest BY NAME
            SELECT 'equity_week_direction' AS signal, format('S{:04d}', range) AS entity,
                DATE '2018-12-28' AS as_of, 1 AS horizon, 'week' AS horizon_unit, 'live' AS role,
                TIMESTAMPTZ '2018-12-29 03:00:00Z' AS known_at, DATE '2018-12-31' AS tradable_from,
                random() AS value, random() AS probability,
                'equity_week_direction' AS model, '20181228-cross_section-0000' AS model_version,
                'equity_weekly_cross_section' AS feature_view, '000000000000' AS feature_version,
                '0000000000000000' AS data_snapshot,
                TIMESTAMPTZ '2018-12-29 03:00:00Z' AS published_at, 'benchmark' AS run_id, 0 AS age
            FROM range(?)
            """,
            (symbols,),
        )
        return publish(warehouse)


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[Address, str]]:
    """`lookback serve` in a process of its own; its address and token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "--port", str(address.port)],
        env=os.environ | {"LOOKBACK_HOME": str(settings.home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline(), process.stdout.readline()
        yield address, (settings.home / "serve.token").read_text().strip()
    finally:
        process.terminate()
        process.wait()


def new_client() -> duckdb.DuckDBPyConnection:
    """A DuckDB with the protocol in it."""
    from duckdb_extensions import import_extension

    connection = duckdb.connect()
    for name in EXTENSIONS:
        import_extension(name, con=connection)
        connection.execute(f"LOAD {name}")
    return connection


def fetched(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """Rows of a result that was fetched whole."""
    return int(connection.execute(query).to_arrow_table().num_rows)


def measure(settings: Settings, rounds: int, symbols: int) -> list[list[object]]:
    """Rows of the report: side, rows, median and 99th percentile in milliseconds."""
    file = str(settings.published.resolve())
    with serving(settings) as (address, token):
        attach = f"ATTACH '{address.uri}' AS {{}} (TOKEN '{token}')"
        local, client = duckdb.connect(file, read_only=True), new_client()
        client.execute(attach.format("lookback"))

        def reopened_file() -> int:
            with duckdb.connect(file, read_only=True) as connection:
                return fetched(connection, QUERY)

        def reopened_server() -> int:
            client.execute(attach.format("again"))
            rows = fetched(client, f"FROM again.query('{QUERY}')")
            client.execute("DETACH again")
            return rows

        def ask(connection: duckdb.DuckDBPyConnection, query: str) -> Callable[[], int]:
            return lambda: fetched(connection, query)

        sides: dict[str, Callable[[], int]] = {
            "file, open connection": ask(local, QUERY),
            "server, lookback.query('…')": ask(client, f"FROM lookback.query('{QUERY}')"),
            "server, FROM lookback.signals_latest": ask(client, "FROM lookback.signals_latest"),
            "server, SELECT 1": ask(client, "FROM lookback.query('SELECT 1')"),
            "server, reattached": reopened_server,
        }
        milliseconds: dict[str, list[float]] = {name: [] for name in sides}
        rows = {name: side() for name, side in sides.items()}
        for _ in range(rounds):
            for name, side in sides.items():
                began = time.perf_counter()
                assert side() == rows[name]
                milliseconds[name].append(1e3 * (time.perf_counter() - began))
        client.close()
        local.close()  # an open connection would lend its file to the next
        name = "file, reopened"
        rows[name], milliseconds[name] = reopened_file(), []
        for _ in range(rounds):
            began = time.perf_counter()
            reopened_file()
            milliseconds[name].append(1e3 * (time.perf_counter() - began))
    assert rows["file, open connection"] == symbols
    return [
        [name, rows[name], *np.percentile(taken, [50, 99])] for name, taken in milliseconds.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home", profile="sample")
        settings.home.mkdir()
        publish_made_up(settings, options.symbols)
        rows = measure(settings, options.rounds, options.symbols)
    print_table(["side", "rows", "p50 ms", "p99 ms"], rows, QUERY)


if __name__ == "__main__":
    main()
