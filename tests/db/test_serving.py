"""Serving: clients of DuckDB's protocol read the newest publication, and nothing else happens."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import psutil
import pytest

from db import serving
from db.errors import LookbackError, StoreError, UsageError
from db.publishing import publish
from db.serving import Address, Server, Token, serve, serve_token
from db.settings import Settings, load_settings
from db.tables import signals
from db.warehouse import open_warehouse

for package in ("duckdb_extension_quack", "duckdb_extension_httpfs"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

REPOSITORY = Path(__file__).parents[2]
TOKEN = "correct-horse-battery-staple"


def night(settings: Settings, count: int = 4) -> Path:
    """Add some signals and publish; returns the published file."""
    instant = pd.Timestamp("2018-12-29 03:00", tz="UTC")
    scores = pd.DataFrame(
        {
            "signal": "week",
            "entity": [f"E{number:03d}" for number in range(count)],
            "as_of": pd.Timestamp("2018-12-28").date(),
            "horizon": 1,
            "horizon_unit": "week",
            "role": "live",
            "known_at": instant,
            "tradable_from": pd.Timestamp("2018-12-31").date(),
            "value": [number / 7 for number in range(count)],
            "model": "m",
            "model_version": "v",
            "feature_view": "f",
            "feature_version": "fv",
            "data_snapshot": "d",
            "published_at": instant,
            "run_id": "r",
        }
    )
    with open_warehouse(settings, "test") as warehouse:
        with warehouse.transaction():
            warehouse.append(signals, scores)
        return publish(warehouse)


def free_address(host: str = "127.0.0.1") -> Address:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return Address(host, probe.getsockname()[1])


def client(address: Address, token: str | None = TOKEN) -> duckdb.DuckDBPyConnection:
    """A client with the server attached as `lookback`."""
    connection = duckdb.connect()
    for name in serving.EXTENSIONS:
        connection.execute(f"LOAD '{serving._extension(name)}'")
    option = f"(TOKEN '{token}')" if token is not None else ""
    connection.execute(f"ATTACH '{address.uri}' AS lookback {option}")
    return connection


def ask(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query that the server runs."""
    return connection.execute("FROM quack_query_by_name('lookback', ?)", (query,)).fetchall()


def copied(store: Path, home: Path) -> Settings:
    home.mkdir(exist_ok=True)
    shutil.copyfile(store, home / "warehouse.duckdb")
    return load_settings(home=home, profile="sample")


@pytest.fixture(scope="module")
def served(
    empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Server]]:
    """A home with one publication of four signals, served; for tests that only read."""
    settings = copied(empty_store, tmp_path_factory.mktemp("served"))
    night(settings)
    with serve(settings, free_address(), Token(TOKEN, "test")) as server:
        yield settings, server


@pytest.fixture(scope="module")
def reader(served: tuple[Settings, Server]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A client of it."""
    with client(served[1].address) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


# ------------------------------------------------------------------------------ reading


def test_a_client_reads_tables_views_macros_and_comments(
    reader: duckdb.DuckDBPyConnection,
) -> None:
    attached = reader.execute("SELECT entity FROM lookback.signals ORDER BY entity").fetchall()
    assert attached == [("E000",), ("E001",), ("E002",), ("E003",)]
    assert reader.execute("SELECT count(*) FROM lookback.ops.store").fetchall() == [(2,)]
    assert ask(reader, "SELECT count(*), max(value) FROM signals") == [(4, 3 / 7)]
    assert ask(reader, "SELECT signal, entity, value, age FROM signals_latest") is not None
    assert ask(reader, "SELECT count(*) FROM raw.bars_as_of(now())") == [(0,)]
    commented = (
        "SELECT comment FROM {} WHERE {} = 'signals' AND comment IS NOT NULL ORDER BY ALL LIMIT 1"
    )
    (of_view,) = ask(reader, commented.format("duckdb_views()", "view_name"))
    (of_column,) = ask(reader, commented.format("duckdb_columns()", "table_name"))
    assert of_view[0].startswith("Scores")
    assert of_column[0]


def test_everything_published_is_served(
    served: tuple[Settings, Server], reader: duckdb.DuckDBPyConnection
) -> None:
    everything = """
        SELECT schema_name, {} FROM {}
        WHERE NOT internal AND database_name = current_database() ORDER BY ALL
    """
    tables = everything.format("table_name", "duckdb_tables()")
    views = everything.format("view_name", "duckdb_views()")
    macros = everything.format("function_name", "duckdb_functions()")
    with duckdb.connect(str(served[0].published.resolve()), read_only=True) as local:
        relations = local.execute(tables).fetchall() + local.execute(views).fetchall()
        functions = local.execute(macros).fetchall()
    assert ask(reader, views) == sorted(relations)
    assert ask(reader, macros) == functions
    assert ask(reader, tables) == []
    for schema, relation in relations:
        assert ask(reader, f'DESCRIBE "{schema}"."{relation}"')


@pytest.mark.parametrize(
    "query",
    [
        "SELECT signal, count(*) AS n, avg(value) FROM signals GROUP BY ALL HAVING n > 1",
        "WITH s AS (FROM signals) SELECT rank() OVER (ORDER BY value), lag(value) OVER () FROM s",
        "SELECT * EXCLUDE (value), 1 - value, CAST(metrics ->> '$.rmse' AS DOUBLE) "
        "FROM signals LEFT JOIN model_versions USING (model_version)",
        "SELECT date_trunc('week', as_of) + INTERVAL 1 DAY, entity ILIKE 'e%', coalesce(q05, 0), "
        "quantile_cont(value, 0.5) FROM signals WHERE NOT value < 0 GROUP BY ALL",
        "FROM signals PIVOT (max(value) FOR entity IN ('E000', 'E001'))",
        "SELECT [x + 1 FOR x IN range(3)], {'a': 1}.a, list_transform([1], lambda x: x)",
        "SELECT unnest([1, 2]), random() < 2, now() IS NOT NULL FROM generate_series(1, 2)",
        "FROM signals ASOF JOIN sessions ON as_of >= session SELECT count(*)",
        "VALUES (1), (2)",
        "TABLE signals",
        "SUMMARIZE signals",
        "SHOW TABLES",
        "FROM information_schema.columns",
        "SELECT 1; -- one statement",
    ],
)
def test_ordinary_queries_are_admitted(query: str, reader: duckdb.DuckDBPyConnection) -> None:
    assert ask(reader, query) is not None


def test_values_and_instants_are_those_of_the_file(
    served: tuple[Settings, Server], reader: duckdb.DuckDBPyConnection
) -> None:
    with duckdb.connect(str(served[0].published.resolve()), read_only=True) as local:
        local.execute("SET TimeZone = 'UTC'")
        for query in (
            "SELECT * FROM signals ORDER BY entity",
            "SELECT * FROM signals_latest ORDER BY ALL",
            "SELECT * FROM signals_as_of('2018-12-30 00:00:00Z') ORDER BY ALL",
        ):
            assert ask(reader, query) == local.execute(query).fetchall()
    (shown,) = ask(reader, "SELECT CAST(known_at AS VARCHAR) FROM signals LIMIT 1")
    assert shown == ("2018-12-29 03:00:00+00",)


# ----------------------------------------------------------------------- refusing others


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), None])
def test_without_the_token_nobody_is_served(
    token: str | None, served: tuple[Settings, Server]
) -> None:
    with pytest.raises(duckdb.Error, match=r"Authentication failed|authentication token"):
        client(served[1].address, token)


def test_garbage_is_answered_and_survived(
    served: tuple[Settings, Server], reader: duckdb.DuckDBPyConnection
) -> None:
    address = served[1].address
    for body in (b"", b"\x00", b"\xff" * 100, os.urandom(10_000), b"SELECT 1", b"\x01" * 70_000):
        for path in ("/quack", "/"):
            connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
            connection.request("POST", path, body)
            answer = connection.getresponse().read()
            assert TOKEN.encode() not in answer
            assert b"E000" not in answer
            connection.close()
    assert ask(reader, "SELECT count(*) FROM signals") == [(4,)]


@pytest.fixture(scope="module")
def outside(served: tuple[Settings, Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are nobody's business, also linked to from the published folder."""
    folder, home = tmp_path_factory.mktemp("outside"), served[0].home
    (folder / "secret.csv").write_text("a,b\n1,swordfish\n")
    shutil.copyfile(folder / "secret.csv", home / "secret.csv")
    (home / "published" / "link.csv").symlink_to(folder / "secret.csv")
    with duckdb.connect() as local:
        local.execute(f"COPY (SELECT 'swordfish' AS b) TO '{folder}/copy.parquet'")
    return folder


@pytest.mark.parametrize(
    "query",
    [
        # writing
        "INSERT INTO signals SELECT * FROM signals",
        "WITH x AS (SELECT 1) INSERT INTO ops.store SELECT 'a', 'b'",
        "DELETE FROM publication_1.main.signals",
        "UPDATE publication_1.main.signals SET value = 0",
        "INSERT INTO lookback_guard.admitted SELECT ['quack_stop']",
        "CREATE TABLE mine AS SELECT 1",
        "CREATE TEMP TABLE mine AS SELECT 1",
        "CREATE OR REPLACE VIEW signals AS SELECT 42",
        "CREATE OR REPLACE MACRO lookback_guard.admits_query(a, b) AS true",
        "DROP VIEW signals",
        "COMMENT ON VIEW signals IS 'mine'",
        "SELECT 1; DROP VIEW signals",
        "SELECT 1; SELECT 2",
        "BEGIN",
        # other databases and files
        "ATTACH '{outside}/other.duckdb'",
        "ATTACH ':memory:' AS mine",
        "ATTACH 'quack:localhost' AS mine",
        "DETACH publication_1",
        "USE publication_1",
        "COPY signals TO '{outside}/out.csv'",
        "COPY (SELECT 1) TO '{published}/out.parquet'",
        "EXPORT DATABASE '{outside}/export'",
        "SELECT * FROM read_csv('{outside}/secret.csv')",
        "SELECT * FROM '{outside}/secret.csv'",
        "SELECT * FROM '{outside}/copy.parquet'",
        "SELECT * FROM '{published}/link.csv'",
        "SELECT * FROM '{published}/../secret.csv'",
        "SELECT content FROM read_text('{outside}/secret.csv')",
        "SELECT * FROM glob('{outside}/*')",
        "SELECT * FROM 'http://127.0.0.1:1/secret.csv'",
        "SELECT * FROM read_duckdb('{outside}/other.duckdb')",
        # the server itself
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET GLOBAL quack_authorization_function = 'quack_nop_authorization'",
        "RESET GLOBAL quack_authentication_function",
        "PRAGMA enable_profiling",
        "INSTALL httpfs",
        "LOAD '{outside}/evil.duckdb_extension'",
        "CALL quack_stop('{uri}')",
        "FROM quack_stop('{uri}')",
        "FROM system.main.QUACK_STOP('{uri}')",
        "SELECT (SELECT count(*) FROM quack_stop('{uri}'))",
        "SELECT 1 LIMIT (SELECT count(*) FROM quack_stop('{uri}'))",
        "DESCRIBE FROM quack_stop('{uri}')",
        "SUMMARIZE FROM quack_stop('{uri}')",
        "FROM query('FROM quack_stop(''{uri}'')')",
        "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "FROM query_table('signals')",
        "FROM quack_serve('quack:127.0.0.1:1', token => 'mine', allow_other_hostname => true)",
        "FROM quack_query('{uri}', 'SELECT 1', token => 'mine')",
        "FROM quack_identify(name => 'mine')",
        "FROM enable_logging()",
        "FROM checkpoint()",
        "SELECT write_log('mine')",
        "SELECT sleep_ms(1000)",
        # other clients and secrets
        "FROM quack_active_connections()",
        "FROM quack_server_list()",
        "FROM duckdb_secrets()",
        "FROM duckdb_logs()",
        "FROM duckdb_temporary_files()",
        "CREATE SECRET (TYPE quack, TOKEN 'mine')",
        # nothing to run
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT ?",
        "FROM nowhere",
        "EXPLAIN ANALYZE SELECT 1",
    ],
)
def test_a_client_changes_nothing_and_sees_nothing_else(
    query: str,
    outside: Path,
    served: tuple[Settings, Server],
    reader: duckdb.DuckDBPyConnection,
) -> None:
    settings, server = served
    published = settings.home / "published"
    before = sorted(path.name for path in published.rglob("*"))

    asked = query.format(outside=outside, published=published, uri=server.address.uri)
    with pytest.raises(duckdb.Error) as caught:
        ask(reader, asked)
    assert "swordfish" not in str(caught.value)
    assert TOKEN not in str(caught.value)

    assert sorted(path.name for path in outside.iterdir()) == ["copy.parquet", "secret.csv"]
    assert sorted(path.name for path in published.rglob("*")) == before
    assert ask(reader, "SELECT count(*), max(value) FROM signals") == [(4, 3 / 7)]
    assert ask(reader, "SELECT comment FROM duckdb_views() WHERE view_name = 'signals'") != [
        ("mine",)
    ]


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO lookback.ops.store VALUES ('a', 'b')",
        "DELETE FROM lookback.ops.store",
        "CREATE TABLE lookback.mine (a INTEGER)",
        "CREATE TABLE lookback.mine AS SELECT 1",
        "DROP VIEW lookback.signals",
    ],
)
def test_an_attached_client_cannot_write(query: str, reader: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error):
        reader.execute(query)
    assert ask(reader, "SELECT count(*) FROM ops.store") == [(2,)]
    assert ask(reader, "SELECT count(*) FROM signals") == [(4,)]


def test_no_name_of_a_function_escapes_the_parser() -> None:
    """What the guard finds by path is what a walk of the whole tree finds."""
    deep = "SELECT " + "abs(" * 200 + "quack_stop(1)" + ")" * 200
    nested = "FROM (" * 200 + "FROM quack_stop('x')" + ")" * 200
    with duckdb.connect() as connection:
        for query in (
            deep,
            nested,
            "SELECT sum(1) FILTER (WHERE EXISTS (FROM quack_stop('x')))",
            "SELECT sum(a) OVER (ORDER BY (SELECT 1 FROM quack_stop('x'))) FROM t",
            "WITH RECURSIVE r AS (SELECT 1 UNION ALL (FROM r, quack_stop('x'))) FROM r",
            "SELECT * REPLACE ((FROM quack_stop('x')) AS a) FROM t",
            "SELECT list_transform([1], lambda y: (FROM quack_stop('x')))",
            "FROM t PIVOT (quack_stop(b) FOR a IN (1))",
            "FROM a SEMI JOIN quack_stop('x') ON true",
            "VALUES ((FROM quack_stop('x')))",
            "SELECT x.quack_stop() FROM t",
            "SELECT DISTINCT ON ((FROM quack_stop('x'))) 1",
            "SELECT 1 GROUP BY GROUPING SETS ((quack_stop(1)), ())",
        ):
            found = connection.execute(
                """
                SELECT list_sort(parsed ->> '$..function_name'), (
                    SELECT list_sort(list(value ->> '$'))
                    FROM json_tree(parsed) WHERE key = 'function_name'
                )
                FROM (SELECT json_serialize_sql(CAST(? AS VARCHAR)) AS parsed)
                """,
                (query,),
            ).fetchone()
            assert found is not None
            assert found[0] == found[1]
            assert "quack_stop" in found[0]


def test_the_token_is_nowhere_to_be_seen(reader: duckdb.DuckDBPyConnection) -> None:
    assert TOKEN not in repr(Token(TOKEN, "test"))
    for source in (
        "lookback_guard.admitted",
        "duckdb_functions()",
        "duckdb_databases()",
        "duckdb_tables()",
        "duckdb_logs",
        "pg_catalog.pg_settings",
    ):
        assert TOKEN not in str(ask(reader, f"FROM {source}"))
    assert TOKEN not in str(ask(reader, "SELECT current_setting('quack_authentication_function')"))


# ------------------------------------------------------------------- following publications


def test_new_publications_are_followed_without_a_failed_query(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "GRACE_SECONDS", 0.5)
    night(stored)
    seen: list[int] = []
    failed: list[Exception] = []
    enough = threading.Event()

    def read(address: Address) -> None:
        with client(address) as connection:
            while not enough.is_set():
                try:
                    # a join: both sides belong to one publication
                    found = ask(
                        connection,
                        "SELECT count(*), (SELECT count(*) FROM signal_revisions), "
                        "(SELECT count(*) FROM signals_as_of(now())) FROM signals",
                    )
                    assert len({*found[0]} - {found[0][2]}) <= 1
                    seen.append(found[0][0])
                except (duckdb.Error, AssertionError) as error:
                    failed.append(error)

    with serve(stored, free_address(), Token(TOKEN, "test")) as server:
        reader = threading.Thread(target=read, args=(server.address,))
        reader.start()
        try:
            for number in range(2, 7):
                night(stored)
                assert server.follow()
                assert not server.follow()
                with client(server.address) as connection:
                    assert ask(connection, "SELECT count(*) FROM signals") == [(4 * number,)]
                time.sleep(0.1)
            time.sleep(0.6)
            server.follow()
            opened = [
                file.path
                for file in psutil.Process().open_files()
                if file.path.startswith(str(stored.home.resolve()))
            ]
        finally:
            enough.set()
            reader.join()
    assert failed == []
    assert seen == sorted(seen)
    assert all(count % 4 == 0 for count in seen)
    assert len(set(seen)) > 3
    assert opened == [str(stored.published.resolve())]  # old files are let go


def test_a_running_query_keeps_its_publication(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "GRACE_SECONDS", 0.0)
    stored = load_settings(keep_publications=2)
    first = night(stored)
    with serve(stored, free_address(), Token(TOKEN, "test")) as server:
        running, other = client(server.address), client(server.address)
        running.execute(
            "FROM quack_query_by_name('lookback', ?)",
            ("SELECT entity, range FROM signals, range(200_000)",),
        )
        assert running.fetchone() is not None
        for _ in range(3):  # more than are kept: its file loses its name
            night(stored)
            server.follow()
        server.follow()
        assert not first.exists()
        assert ask(other, "SELECT count(*) FROM signals") == [(16,)]
        rest = running.fetchall()
        assert len(rest) == 4 * 200_000 - 1
        assert {entity for entity, _ in rest} == {"E000", "E001", "E002", "E003"}
        running.close()
        other.close()


def test_a_changed_contract_is_served_whole(own_home: Path) -> None:
    """Views, macros and schemas come, change and go as in the file."""
    settings = load_settings(home=own_home)

    def publication(number: int, *statements: str) -> None:
        folder = own_home / "published" / f"v{number:08d}"
        folder.mkdir(parents=True)
        with duckdb.connect(str(folder / "lookback.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)
        link = own_home / "published" / "new"
        link.symlink_to(folder.name)
        os.replace(link, own_home / "published" / "current")

    publication(
        1,
        "CREATE TABLE kept AS SELECT 1 AS a",
        "CREATE TABLE gone AS SELECT 1 AS a",
        "CREATE MACRO gone_too(x) AS x + 1",
        "CREATE MACRO twice(x) AS 2 * x, (x, y) AS 2 * (x + y)",
        'CREATE TABLE "it\'s ""odd""" AS SELECT 1 AS a',
        "COMMENT ON TABLE kept IS 'it''s kept'",
    )
    with (
        serve(settings, free_address(), Token(TOKEN, "test")) as server,
        client(server.address) as connection,
    ):
        assert ask(connection, "SELECT gone_too(a), twice(a), twice(a, a) FROM gone") == [(2, 2, 4)]
        assert ask(connection, 'FROM "it\'s ""odd"""') == [(1,)]
        publication(
            2,
            "CREATE TABLE kept AS SELECT 'other' AS b, 2 AS c",
            "CREATE SCHEMA made",
            "CREATE MACRO made.b(n) AS TABLE SELECT n AS found",
            "CREATE MACRO a(n) AS TABLE FROM made.b(n)",
        )
        assert server.follow()
        assert ask(connection, "FROM kept, a(3)") == [("other", 2, 3)]
        for query in ("FROM gone", "SELECT gone_too(1)", 'FROM "it\'s ""odd"""'):
            with pytest.raises(duckdb.Error):
                ask(connection, query)
        assert ask(connection, "SELECT comment FROM duckdb_views() WHERE NOT internal") == [(None,)]
        # the file is broken: what was served before stays
        broken = own_home / "published" / "v00000003"
        broken.mkdir()
        (broken / "lookback.duckdb").write_text("half a file\n" * 1000)
        (own_home / "published" / "new").symlink_to(broken.name)
        os.replace(own_home / "published" / "new", own_home / "published" / "current")
        with pytest.raises(StoreError, match="is no published Lookback file"):
            server.follow()
        assert ask(connection, "SELECT c FROM kept") == [(2,)]
        # a macro that calls what is not there: nothing of it is taken over
        publication(
            4,
            "CREATE TABLE kept AS SELECT 4 AS c",
            "CREATE TABLE lost AS SELECT 1 AS a",
            "CREATE MACRO broken() AS TABLE FROM lost",
            "DROP TABLE lost",
        )
        with pytest.raises(StoreError, match="lost"):
            server.follow()
        assert ask(connection, "SELECT c FROM kept") == [(2,)]
        publication(5, "CREATE TABLE kept AS SELECT 4 AS c")
        assert server.follow()
        assert ask(connection, "SELECT c FROM kept") == [(4,)]


# ------------------------------------------------------------------------------ starting


def refusal(settings: Settings, address: Address | None = None) -> str:
    with (
        pytest.raises(LookbackError) as caught,
        serve(settings, address or free_address(), Token(TOKEN, "test")),
    ):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_published(stored: Settings) -> None:
    assert refusal(stored) == f"nothing is published under {stored.home}; run: lookback nightly"


def test_a_port_that_is_taken(served: tuple[Settings, Server]) -> None:
    """By another server, which would share it, or by anything else."""
    settings, server = served
    assert "Address already in use" in refusal(settings, server.address)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "--port" in refusal(settings, Address("127.0.0.1", other.getsockname()[1]))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_ours(host: str, served: tuple[Settings, Server]) -> None:
    assert refusal(served[0], Address(host, 9494)).startswith(f"cannot listen on {host}")


def test_packages_that_are_missing(
    served: tuple[Settings, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    assert refusal(served[0]).endswith("run: pip install 'lookback[serve]'")


def test_memory_that_is_no_size(served: tuple[Settings, Server]) -> None:
    settings = load_settings(home=served[0].home, serve_memory="much")
    assert "LOOKBACK_SERVE_MEMORY" in refusal(settings)


def test_a_query_takes_no_more_memory_than_it_may(
    served: tuple[Settings, Server], tmp_path: Path
) -> None:
    settings = load_settings(home=served[0].home, serve_memory="100MB")
    with (
        serve(settings, free_address(), Token(TOKEN, "test")) as server,
        client(server.address) as connection,
    ):
        with pytest.raises(duckdb.Error, match="failed to allocate"):
            ask(connection, "SELECT len(list(range)) FROM range(50_000_000)")
        assert ask(connection, "SELECT count(*) FROM signals") == [(4,)]


def test_only_this_machine_is_loopback() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert Address(host, 1).is_loopback
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.org", "localhost.example.org"):
        assert not Address(host, 1).is_loopback
    assert Address("::1", 9494).uri == "quack:[::1]:9494"


# --------------------------------------------------------------------------------- token


def test_a_token_is_made_once_for_its_owner_alone(stored: Settings) -> None:
    first = serve_token(stored)
    file = stored.home / "serve.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.origin == str(file)
    assert len(first.value) >= 40
    assert serve_token(stored) == first


def test_the_environment_wins(stored: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBACK_SERVE_TOKEN", TOKEN)
    settings = load_settings()
    assert serve_token(settings) == Token(TOKEN, "LOOKBACK_SERVE_TOKEN")
    assert TOKEN not in repr(settings)
    assert not (stored.home / "serve.token").exists()


def test_tokens_that_protect_nothing(stored: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBACK_SERVE_TOKEN", "short")
    with pytest.raises(UsageError, match="shorter than 16") as caught:
        serve_token(load_settings())
    assert "short;" not in str(caught.value)
    monkeypatch.delenv("LOOKBACK_SERVE_TOKEN")
    serve_token(stored)
    (stored.home / "serve.token").chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        serve_token(stored)


# ----------------------------------------------------------------------- the command line


def command(settings: Settings, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", *options],
        cwd=REPOSITORY,
        env=os.environ | {"LOOKBACK_HOME": str(settings.home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(
    stored: Settings, ending: signal.Signals
) -> None:
    night(stored)
    address = free_address()
    process = command(stored, "--port", str(address.port))
    try:
        said = line(process) + line(process)
        token = (stored.home / "serve.token").read_text().strip()
        with client(address, token) as connection:
            night(stored)
            published = time.monotonic()
            while ask(connection, "SELECT count(*) FROM signals") != [(8,)]:
                assert time.monotonic() < published + 2
            said += line(process)
            # a client that goes on asking for something long does not hold it
            connection.execute("FROM lookback.query('SELECT range FROM range(1_000_000_000_000)')")
            process.send_signal(ending)
            assert process.wait(10) == 0
        assert process.stdout is not None
        said += process.stdout.read()
    finally:
        process.kill()
        process.wait()
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "…", said).splitlines() == [
        f"token: {stored.home}/serve.token",
        f"… UTC v00000001 on {address.uri}, read-only; Ctrl-C ends it",
        "… UTC v00000002 from now on",
        "ended",
    ]


def test_the_command_lets_others_in_only_if_told_to(stored: Settings) -> None:
    night(stored)
    port = str(free_address().port)
    refused = command(stored, "--host", "0.0.0.0", "--port", port)
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert output.startswith("lookback: 0.0.0.0 can be reached from other machines")
    assert output.count("\n") == 1
    process = command(
        stored, "--host", "0.0.0.0", "--port", port, "--allow-remote", LOOKBACK_SERVE_TOKEN=TOKEN
    )
    try:
        assert line(process) == "token: LOOKBACK_SERVE_TOKEN\n"
        assert "plain text" in line(process)
        assert f"quack:0.0.0.0:{port}" in line(process)
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_the_command_says_what_is_missing(stored: Settings) -> None:
    process = command(stored)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == (
        f"lookback: nothing is published under {stored.home}; run: lookback nightly\n"
    )
    assert not (stored.home / "serve.token").exists()


# ---------------------------------------------------------------------------------- page


def test_the_pages_python_runs(served: tuple[Settings, Server], tmp_path: Path) -> None:
    """Every Python block of docs/remote.md, one after the other in one session."""
    settings, server = served
    page = (REPOSITORY / "docs" / "remote.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 3
    (settings.home / "serve.token").write_text(TOKEN + "\n")
    code = "\n".join(blocks).replace("127.0.0.1:9494", f"127.0.0.1:{server.address.port}")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"LOOKBACK_HOME": str(settings.home), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "E003" in done.stdout
