"""The private warehouse: migrations, refusals, one writer, bulk writes, transactions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import text

from db import migrations
from db.errors import StoreError
from db.settings import Settings, load_settings
from db.tables import freshness, metadata, observations, runs, store
from db.warehouse import Warehouse, _engine, open_warehouse

REPOSITORY = Path(__file__).parents[2]
REVISIONS = sorted(
    path.name.split("_")[0]
    for path in (REPOSITORY / "db" / "migrations" / "versions").glob("[0-9]*.py")
)
KNOWN_AT = datetime(2018, 12, 28, 22, tzinfo=UTC)


def values(count: int, **changes: Any) -> pd.DataFrame:
    periods = pd.date_range("2018-01-01", periods=count).as_unit("us")
    columns = {
        "source": "test",
        "series": "X",
        "period": periods,
        "value": [float(number) for number in range(count)],
        "known_at": pd.Timestamp(KNOWN_AT),
        "ingested_at": pd.Timestamp(KNOWN_AT),
        "run_id": "r",
    }
    return pd.DataFrame(columns | changes)


def refusal(settings: Settings) -> str:
    with pytest.raises(StoreError) as caught, open_warehouse(settings, "test"):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def other_process(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has said "ready"; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.kill()
        process.wait()


HOLDER = """
    import time
    from db.settings import load_settings
    from db.warehouse import open_warehouse
    with open_warehouse(load_settings(), "a night that takes long"):
        print("ready", flush=True)
        time.sleep(60)
"""


# ------------------------------------------------------------------------- migrations


def declared(kind: str) -> list[tuple[Any, ...]]:
    """What `db.tables` declares, as DuckDB would show it."""
    names = {
        "string": "VARCHAR",
        "date": "DATE",
        "double": "DOUBLE",
        "integer": "INTEGER",
        "big_integer": "BIGINT",
        "boolean": "BOOLEAN",
        "json": "JSON",
        "array": "VARCHAR[]",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
    }
    if kind == "tables":
        return sorted((t.schema or "main", t.name, t.comment) for t in metadata.sorted_tables)
    return sorted(
        (
            table.schema or "main",
            table.name,
            position,
            column.name,
            names[column.type.__visit_name__.lower()],
            bool(column.nullable),
            column.comment,
        )
        for table in metadata.sorted_tables
        for position, column in enumerate(table.columns, start=1)
    )


def found(warehouse: Warehouse, kind: str) -> list[tuple[Any, ...]]:
    ours = "NOT internal AND table_name <> 'alembic_version'"
    if kind == "tables":
        return warehouse.sql(
            f"""
            SELECT schema_name, table_name, comment
            FROM duckdb_tables()
            WHERE {ours}
            ORDER BY ALL
            """
        )
    return warehouse.sql(
        f"""
        SELECT schema_name, table_name, column_index, column_name, data_type, is_nullable, comment
        FROM duckdb_columns()
        WHERE {ours} AND table_name IN (SELECT table_name FROM duckdb_tables())
        ORDER BY ALL
        """
    )


@pytest.mark.parametrize("kind", ["tables", "columns"])
def test_an_empty_file_becomes_the_declared_tables(kind: str, settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        assert found(warehouse, kind) == declared(kind)


def test_every_table_and_column_says_what_it_is(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        for kind in ("tables", "columns"):
            assert all(row[-1] for row in found(warehouse, kind))


def test_primary_keys_are_declared(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        keys = warehouse.sql(
            """
            SELECT schema_name || '.' || table_name, list_sort(constraint_column_names)
            FROM duckdb_constraints()
            WHERE constraint_type = 'PRIMARY KEY' AND table_name <> 'alembic_version'
            ORDER BY ALL
            """
        )
    assert keys == sorted(
        (f"{t.schema or 'main'}.{t.name}", sorted(c.name for c in t.primary_key.columns))
        for t in metadata.sorted_tables
        if t.primary_key.columns
    )


def test_the_newest_migration_is_the_head() -> None:
    assert REVISIONS[-1] == migrations.HEAD


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_every_age_keeps_its_rows(revision: str, settings: Settings) -> None:
    settings.home.mkdir()
    engine = _engine(settings.warehouse)
    with engine.connect() as connection:
        migrations.upgrade(connection, settings.warehouse, to=revision)
        assert migrations.current(connection) == revision
        connection.commit()
        native: Any = connection.connection.driver_connection
        before = _fill(native)
    engine.dispose()
    with open_warehouse(settings, "test") as warehouse:
        for table, kept_then in before.items():
            row = dict(kept_then)
            if table == "raw.documents" and "time" in row:
                # a document is about several symbols, which lie beside it now
                row["published_at"], _ = row.pop("time"), row.pop("entity")
            kept = warehouse.frame(f"SELECT * FROM {table}").to_dict("records")
            assert len(kept) == 1
            assert {name: str(kept[0][name]) for name in row} == row
        if "entity" in before["raw.documents"]:
            symbols = warehouse.sql("SELECT document_id, entity, found_by FROM raw.mentions")
            assert symbols == [("sample", "sample", "given")]
        assert found(warehouse, "columns") == declared("columns")


def _fill(native: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """One row in every table; what each holds then."""
    native.execute("SET TimeZone = 'UTC'")
    examples = {
        "VARCHAR": "'sample'",
        "JSON": "'{\"a\": 1}'",
        "DATE": "DATE '2018-12-28'",
        "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ '2018-12-28 22:00:00+00'",
        "BOOLEAN": "true",
        "VARCHAR[]": "['AAPL']",
    }
    tables = native.execute(
        """
        SELECT schema_name, table_name, list(data_type ORDER BY column_index)
        FROM duckdb_columns()
        WHERE NOT internal AND table_name <> 'alembic_version'
            AND table_name IN (SELECT table_name FROM duckdb_tables())
        GROUP BY ALL
        """
    ).fetchall()
    held = {}
    for schema, table, types in tables:
        name = f"{schema}.{table}"
        row = ", ".join(examples.get(kind, "7") for kind in types)
        if name == "ops.store":
            row = "'profile', 'sample'"
        native.execute(f"INSERT INTO {name} VALUES ({row})")
        kept = native.execute(f"SELECT * FROM {name}").df().to_dict("records")[0]
        held[name] = {key: str(value) for key, value in kept.items()}
    return held


def test_opening_again_migrates_nothing_and_imports_no_alembic(settings: Settings) -> None:
    with open_warehouse(settings, "test"):
        pass
    done = python(
        """
        import sys
        from db.settings import load_settings
        from db.warehouse import open_warehouse
        with open_warehouse(load_settings(), "test"):
            print("alembic" in sys.modules)
        """
    )
    assert done.stdout.strip() == "False", done.stderr


def test_a_store_of_a_newer_version_is_refused(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse, warehouse.transaction():
        warehouse.native.execute("UPDATE ops.alembic_version SET version_num = '9999'")
    said = refusal(settings)
    assert "was written by another version of Lookback" in said
    assert "9999" in said
    with duckdb.connect(str(settings.warehouse)) as connection:  # and left as it was
        assert connection.execute("FROM ops.alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize(
    ("end", "code"), [("os.kill(os.getpid(), 9)", -signal.SIGKILL), ("1 / 0", 1)]
)
def test_a_migration_that_breaks_off_leaves_an_empty_file(
    end: str, code: int, settings: Settings
) -> None:
    broken = python(
        f"""
        import os
        from alembic.operations import Operations
        create, calls = Operations.create_table, []
        def create_table(*args, **options):
            calls.append(args)
            if len(calls) == 7:
                {end}
            return create(*args, **options)
        Operations.create_table = create_table
        from db.settings import load_settings
        from db.warehouse import open_warehouse
        with open_warehouse(load_settings(), "test"):
            pass
        """
    )
    assert broken.returncode == code
    with duckdb.connect(str(settings.warehouse)) as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,)
    with open_warehouse(settings, "test") as warehouse:
        assert found(warehouse, "tables") == declared("tables")


# -------------------------------------------------------------------------- refusals


def test_a_foreign_duckdb_file_is_refused_and_left_alone(settings: Settings) -> None:
    settings.home.mkdir()
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 42 AS answer")
    assert "is a DuckDB file, but no Lookback store; move it away" in refusal(settings)
    with duckdb.connect(str(settings.warehouse)) as connection:
        assert connection.execute("FROM mine").fetchall() == [(42,)]
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (1,)


def test_a_text_file_is_refused_and_left_alone(settings: Settings) -> None:
    settings.home.mkdir()
    settings.warehouse.write_text("Dear diary,\n" * 500)
    assert f"{settings.warehouse} is no Lookback store" in refusal(settings)
    assert settings.warehouse.read_text().startswith("Dear diary")


def test_the_store_of_another_profile_is_refused(settings: Settings) -> None:
    with open_warehouse(settings, "test"):
        pass
    said = refusal(load_settings(profile="live"))
    assert "was made by profile sample, this run has live" in said
    assert "LOOKBACK_PROFILE=sample" in said
    with open_warehouse(settings, "test") as warehouse:
        assert warehouse.one("SELECT value FROM ops.store WHERE key = 'profile'") == ("sample",)


def test_a_home_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = refusal(load_settings(home=tmp_path / "file" / "home"))
    assert f"cannot write to LOOKBACK_HOME {tmp_path / 'file' / 'home'}" in said
    assert "Not a directory" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_without_permission(tmp_path: Path) -> None:
    home = tmp_path / "theirs"
    home.mkdir(mode=0o555)
    assert "permission denied" in refusal(load_settings(home=home))


@pytest.mark.parametrize("name", ["100%20", "it's #1", "a b"])
def test_a_home_of_any_name(name: str, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / name)
    with open_warehouse(settings, "test"):
        assert settings.warehouse.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


# ------------------------------------------------------------------------ one writer


def test_a_second_process_waits_and_names_the_first(settings: Settings) -> None:
    started = datetime.now(UTC)
    with other_process(HOLDER) as holder:
        waiting = datetime.now(UTC)
        said = refusal(load_settings(lock_wait_seconds=0.6))
        assert timedelta(seconds=0.6) <= datetime.now(UTC) - waiting < timedelta(seconds=5)
        assert f"the writer lock of {settings.home} is held by process {holder.pid}" in said
        assert "a night that takes long" in said
        since = datetime.fromisoformat(said.split(" since ")[1].split(";")[0])
        assert started - timedelta(seconds=1) <= since <= waiting
        assert "waited 0.6 s: try again when it is done, or stop it" in said


def test_a_killed_writer_frees_the_store(settings: Settings) -> None:
    with other_process(HOLDER) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert json.loads((settings.home / "writer.json").read_text())["pid"] == holder.pid
        with open_warehouse(settings, "after the kill") as warehouse:
            note = json.loads((settings.home / "writer.json").read_text())
            assert (note["pid"], note["purpose"]) == (os.getpid(), "after the kill")
            assert warehouse.one("SELECT 1") == (1,)
    assert not (settings.home / "writer.json").exists()


def test_a_writer_that_comes_while_another_finishes_gets_its_turn(settings: Settings) -> None:
    with (
        other_process(HOLDER.replace("time.sleep(60)", "time.sleep(0.5)")),
        open_warehouse(settings, "second") as warehouse,
    ):
        assert warehouse.one("SELECT count(*) FROM raw.bars") == (0,)


def test_a_file_that_somebody_else_has_open(settings: Settings) -> None:
    with open_warehouse(settings, "test"):
        pass
    with other_process(
        f"""
        import duckdb, time
        connection = duckdb.connect({str(settings.warehouse)!r})
        print("ready", flush=True)
        time.sleep(60)
        """
    ):
        said = refusal(settings)
    assert "is open in another program" in said
    assert "only nights open this file" in said


# ---------------------------------------------------------------------------- writing


def test_bulk_rows_come_as_frames_or_arrow_in_any_column_order(settings: Settings) -> None:
    frame = values(50_000)
    arrow = pa.Table.from_pandas(values(3, series="Y").iloc[:, ::-1], preserve_index=False)
    with open_warehouse(settings, "test") as warehouse:
        with warehouse.transaction():
            assert warehouse.append(observations, frame) == 50_000
            assert warehouse.append(observations, arrow) == 3
            assert warehouse.append(observations, frame.iloc[:0]) == 0
        assert warehouse.sql(
            """
            SELECT series, count(*), sum(value), min(period), min(known_at)
            FROM raw.observations GROUP BY series ORDER BY series
            """
        ) == [
            ("X", 50_000, 50_000 * 49_999 / 2, frame["period"][0].date(), KNOWN_AT),
            ("Y", 3, 3.0, frame["period"][0].date(), KNOWN_AT),
        ]


def test_upsert_inserts_then_changes_only_what_is_given(settings: Settings) -> None:
    row = {
        "source": "a",
        "kind": "bars",
        "entities": 1,
        "rows": 2,
        "stale": False,
        "session": KNOWN_AT.date(),
        "detail": "first",
    }
    with open_warehouse(settings, "test") as warehouse:
        warehouse.upsert(freshness, row)
        warehouse.upsert(freshness, row | {"source": "b"})
        warehouse.upsert(freshness, {"source": "a", "rows": 9})
        assert warehouse.sql("SELECT source, rows, detail FROM freshness ORDER BY source") == [
            ("a", 9, "first"),
            ("b", 2, "first"),
        ]


def test_json_and_times_come_back_as_they_were(settings: Settings) -> None:
    local = KNOWN_AT.astimezone(datetime.now().astimezone().tzinfo)
    with open_warehouse(settings, "test") as warehouse:
        warehouse.insert(
            runs,
            {
                "run_id": "r",
                "flow": "nightly",
                "profile": "sample",
                "status": "partial",
                "started_at": local,
                "missing": ["fred.SP500: no answer – späte Nacht"],
                "version": "0",
            },
        )
        started, missing = warehouse.sql("SELECT started_at, missing FROM runs")[0]
    assert started == KNOWN_AT
    assert json.loads(missing) == ["fred.SP500: no answer – späte Nacht"]


def _write_and_fail(warehouse: Warehouse, problem: type[BaseException]) -> None:
    with warehouse.transaction():
        warehouse.insert(store, {"key": "lost", "value": "1"})
        warehouse.upsert(store, {"key": "kept", "value": "2"})
        warehouse.append(observations, values(10))
        warehouse.native.execute("DELETE FROM ops.store WHERE key = 'profile'")
        raise problem


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt])
def test_a_transaction_takes_back_both_kinds_of_writes(
    problem: type[BaseException], settings: Settings
) -> None:
    with open_warehouse(settings, "test") as warehouse:
        warehouse.insert(store, {"key": "kept", "value": "1"})
        with pytest.raises(problem):
            _write_and_fail(warehouse, problem)
        assert warehouse.one("SELECT count(*) FROM raw.observations") == (0,)
        assert dict(
            warehouse.sql("SELECT key, value FROM ops.store WHERE key <> 'created_at'")
        ) == {
            "profile": "sample",
            "kept": "1",
        }
        with warehouse.transaction():  # and the connection goes on
            warehouse.append(observations, values(2))
    with open_warehouse(settings, "test") as warehouse:
        assert warehouse.one("SELECT count(*) FROM raw.observations") == (2,)


def _append_both(warehouse: Warehouse, *frames: pd.DataFrame) -> None:
    with warehouse.transaction():
        for frame in frames:
            warehouse.append(observations, frame)


def test_a_refused_row_says_so_and_takes_its_transaction_back(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        good, bad = values(2), values(2, value=[1.0, None])
        with pytest.raises(duckdb.ConstraintException, match=r"NOT NULL.*value"):
            _append_both(warehouse, good, bad)
        assert warehouse.one("SELECT count(*) FROM raw.observations") == (0,)


def test_a_killed_transaction_is_gone_and_what_was_committed_stays(settings: Settings) -> None:
    died = python(
        """
        import os
        from db.settings import load_settings
        from db.tables import store
        from db.warehouse import open_warehouse
        with open_warehouse(load_settings(), "test") as warehouse:
            warehouse.insert(store, {"key": "committed", "value": "1"})
            with warehouse.transaction():
                warehouse.insert(store, {"key": "under way", "value": "1"})
                warehouse.native.execute("CREATE TABLE raw.half AS SELECT 1")
                os.kill(os.getpid(), 9)
        """
    )
    assert died.returncode == -signal.SIGKILL
    with open_warehouse(settings, "test") as warehouse:
        keys = {key for (key,) in warehouse.sql("SELECT key FROM ops.store")}
        assert keys == {"profile", "created_at", "committed"}
        assert found(warehouse, "tables") == declared("tables")


def test_times_are_shown_in_utc_whatever_the_machine_says(settings: Settings) -> None:
    done = python(
        """
        from db.settings import load_settings
        from db.warehouse import open_warehouse
        with open_warehouse(load_settings(), "test") as warehouse:
            print(warehouse.one("SELECT CAST(TIMESTAMPTZ '2018-12-28 21:00:00+00' AS VARCHAR)")[0])
            print(warehouse.frame("SELECT TIMESTAMPTZ '2018-12-28 21:00:00+00' AS t")["t"][0])
        """,
        TZ="Asia/Tokyo",
    )
    assert done.stdout.splitlines() == ["2018-12-28 21:00:00+00", "2018-12-28 21:00:00+00:00"]


def test_values_are_bound_never_pasted(settings: Settings) -> None:
    odd = "'; DROP TABLE ops.store; --"
    with open_warehouse(settings, "test") as warehouse:
        warehouse.insert(store, {"key": odd, "value": "1"})
        assert warehouse.one("SELECT value FROM ops.store WHERE key = ?", odd) == ("1",)
        assert warehouse.one("SELECT value FROM ops.store WHERE key = ?", "nobody") is None
        assert warehouse.connection.execute(text("SELECT 1")).scalar() == 1
        warehouse.connection.rollback()
