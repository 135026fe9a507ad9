"""Publishing: readers see whole publications, nobody waits, nothing careless gets in."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from db import gathering, publishing
from db.errors import StoreError
from db.publishing import open_published, publish, query_published
from db.settings import Settings, load_settings
from db.tables import signals, store
from db.warehouse import Warehouse, open_warehouse

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def settings(stored: Settings) -> Settings:
    """Settings of a home that holds an empty store."""
    return stored


@pytest.fixture(scope="module")
def published(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home with one publication, for tests that only read."""
    home = tmp_path_factory.mktemp("published")
    shutil.copyfile(empty_store, home / "warehouse.duckdb")
    settings = load_settings(home=home, profile="sample")
    night(settings)
    return settings


def scores(count: int = 4, **changes: Any) -> pd.DataFrame:
    """Signals of two names on sessions of two years."""
    instant = pd.Timestamp("2018-12-29 03:00", tz="UTC")
    days = [date(2017, 12, 29), date(2018, 12, 28)]
    columns = {
        "signal": ["it's=odd/name" if number % 2 else "plain" for number in range(count)],
        "entity": [f"E{number:03d}" for number in range(count)],
        "as_of": [days[number // 2 % 2] for number in range(count)],
        "horizon": 1,
        "horizon_unit": "week",
        "role": "live",
        "known_at": instant,
        "tradable_from": date(2018, 12, 31),
        "value": [number / 7 for number in range(count)],
        "model": "m",
        "model_version": "v",
        "feature_view": "f",
        "feature_version": "fv",
        "data_snapshot": "d",
        "published_at": instant,
        "run_id": "r",
    }
    return pd.DataFrame(columns | changes)


def night(settings: Settings, count: int = 4) -> Path:
    """Add some signals and publish; returns the published file."""
    with open_warehouse(settings, "test") as warehouse:
        with warehouse.transaction():
            warehouse.append(signals, scores(count))
        return publish(warehouse)


def rows(settings: Settings) -> int:
    _, found = query_published(settings, "SELECT count(*) FROM signals")
    return int(found[0][0])


def refusal(settings: Settings, query: str) -> str:
    with pytest.raises(StoreError) as caught:
        query_published(settings, query)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def versions(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.home / "published").iterdir())


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# -------------------------------------------------------------------------- publishing


def test_a_publication_lies_behind_the_pointer_and_cannot_be_written(settings: Settings) -> None:
    file = night(settings)
    root = settings.home / "published"
    assert versions(settings) == ["current", "v00000001"]
    assert os.readlink(root / "current") == "v00000001"  # relative: a home may be moved
    assert settings.published.resolve() == file
    assert file.stat().st_mode & 0o777 == 0o444
    assert not list(root.rglob("*.wal"))
    assert rows(settings) == 4


def test_a_moved_home_is_still_readable(settings: Settings, tmp_path: Path) -> None:
    night(settings)
    shutil.move(settings.home, tmp_path / "elsewhere")
    assert rows(load_settings(home=tmp_path / "elsewhere")) == 4


def test_what_is_not_committed_is_not_published(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        with pytest.raises(RuntimeError):
            _write_and_fail(warehouse)
        warehouse.insert(store, {"key": "in the write-ahead log", "value": "1"})
        publish(warehouse)
    assert rows(settings) == 0
    _, keys = query_published(settings, "SELECT key FROM ops.store ORDER BY key")
    assert [key for (key,) in keys] == ["created_at", "in the write-ahead log", "profile"]


def _write_and_fail(warehouse: Warehouse) -> None:
    with warehouse.transaction():
        warehouse.append(signals, scores())
        raise RuntimeError


def test_an_open_reader_keeps_what_it_opened(settings: Settings) -> None:
    night(settings)
    with open_published(settings) as before:
        for number in range(1, 8):  # more than are kept: the reader's own folder is gone
            night(settings)
            assert before.execute("SELECT count(*), max(entity) FROM signals").fetchone() == (
                4,
                "E003",
            )
            assert rows(settings) == 4 * (number + 1)
    assert rows(settings) == 32


def test_the_pointer_always_names_a_publication(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(settings)
    seen: list[str] = []
    replace = os.replace

    def watched(source: Any, target: Any) -> None:
        seen.append(os.readlink(settings.home / "published" / "current"))
        assert rows(settings) == 4
        replace(source, target)
        seen.append(os.readlink(settings.home / "published" / "current"))
        assert rows(settings) == 8

    monkeypatch.setattr(os, "replace", watched)
    night(settings)
    assert seen == ["v00000001", "v00000002"]


def test_as_many_old_copies_are_kept_as_are_wanted(settings: Settings) -> None:
    settings = load_settings(keep_publications=2)
    for _ in range(4):
        night(settings)
    assert versions(settings) == ["current", "v00000003", "v00000004"]
    assert rows(settings) == 16


def test_leftovers_of_a_killed_publication_go(settings: Settings) -> None:
    night(settings)
    root = settings.home / "published"
    half = root / "unfinished-00000002"
    (half / "signals").mkdir(parents=True)
    (half / "lookback.duckdb").write_bytes(b"half a file")
    (half / "lookback.duckdb").chmod(0o444)
    (root / "current.new").symlink_to("v00000099")
    (root / "v00000002").mkdir()  # renamed, but the pointer was not moved any more
    night(settings)
    assert versions(settings) == ["current", "v00000001", "v00000002", "v00000003"]
    assert os.readlink(root / "current") == "v00000003"
    assert rows(settings) == 8


def test_a_full_disk_leaves_the_old_publication(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(settings)

    def full(source: Any, target: Any) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            night(settings)
    assert rows(settings) == 4
    night(settings)
    assert rows(settings) == 12
    assert not list((settings.home / "published").glob("unfinished-*"))


# ----------------------------------------------------------------------------- readers


CARELESS = """
    import os, stat, sys, time, duckdb
    file = os.path.realpath(sys.argv[1])
    os.chmod(file, stat.S_IRUSR | stat.S_IWUSR)
    connection = duckdb.connect(file)
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.execute("CREATE TABLE main.junk AS SELECT 42 AS answer")
    connection.execute("DELETE FROM main.signals")
    print(os.path.exists(file + ".wal"), flush=True)
    time.sleep(float(sys.argv[2]))
    os._exit(0)
"""


def test_a_careless_reader_that_left_a_wal_reaches_no_publication(settings: Settings) -> None:
    first = night(settings)
    done = python(CARELESS, str(settings.published), "0")
    assert done.stdout.strip() == "True", done.stderr
    assert first.with_name("lookback.duckdb.wal").exists()
    night(settings)
    assert rows(settings) == 8
    assert "junk" in refusal(settings, "FROM junk")
    assert not list(settings.published.resolve().parent.glob("*.wal"))
    with open_warehouse(settings, "test") as warehouse:
        assert warehouse.one("SELECT count(*) FROM main.signals") == (8,)


def test_a_careless_reader_that_holds_the_file_blocks_nobody(settings: Settings) -> None:
    night(settings)
    reader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CARELESS), str(settings.published), "60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == "True"
        for _ in range(6):  # its own folder is removed under it, too
            night(settings)
        assert reader.poll() is None
        assert rows(settings) == 28
        assert "junk" in refusal(settings, "FROM junk")
    finally:
        reader.kill()
        reader.wait()


def test_readers_in_other_processes_never_see_an_error(settings: Settings) -> None:
    night(settings)
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import os, sys
                from db.publishing import query_published
                from db.settings import load_settings
                settings, seen = load_settings(), []
                print("ready", flush=True)
                while not os.path.exists(sys.argv[1]):
                    seen.append(query_published(settings, "SELECT count(*) FROM signals")[1][0][0])
                print(seen == sorted(seen), all(n % 4 == 0 for n in seen), seen[-1], len(seen))
                """
            ),
            str(settings.home / "enough"),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline().strip() == "ready"
    for _ in range(10):
        night(settings)
    time.sleep(0.2)
    (settings.home / "enough").touch()
    ascending, whole, last, queries = reader.stdout.read().split()
    assert reader.wait(timeout=30) == 0
    assert (ascending, whole, last) == ("True", "True", "44")
    assert int(queries) > 5


def test_a_publication_that_somebody_took_for_writing(settings: Settings) -> None:
    night(settings)
    reader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CARELESS), str(settings.published), "60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert reader.stdout is not None
        reader.stdout.readline()
        said = refusal(settings, "SELECT 1")
        assert "is open for writing in another program" in said
        assert f"PID {reader.pid}" in said
    finally:
        reader.kill()
        reader.wait()


def test_nothing_published_yet(settings: Settings) -> None:
    said = refusal(settings, "SELECT 1")
    assert said == f"nothing is published under {settings.home}; run: lookback nightly"


def test_a_published_file_that_is_no_database(settings: Settings) -> None:
    file = night(settings)
    file.chmod(0o644)
    file.write_text("overwritten\n" * 1000)
    assert "is no published Lookback file" in refusal(settings, "SELECT 1")


def test_columns_and_rows_in_utc(settings: Settings) -> None:
    night(settings)
    columns, found = query_published(
        settings,
        "SELECT entity, as_of, known_at, CAST(known_at AS VARCHAR) AS shown, q05 "
        "FROM signals WHERE entity = ?",
        ("E003",),
    )
    assert columns == ["entity", "as_of", "known_at", "shown", "q05"]
    instant = datetime(2018, 12, 29, 3, tzinfo=UTC)
    assert found == [("E003", date(2018, 12, 28), instant, "2018-12-29 03:00:00+00", None)]


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE signals",
        "INSERT INTO ops.store VALUES ('a', 'b')",
        "UPDATE signals SET value = 0",
        "DELETE FROM signals",
        "CREATE TABLE mine AS SELECT 1",
        "SELECT 1; DROP TABLE signals",
        "COPY signals TO '{outside}/out.csv'",
        "COPY (SELECT 1) TO '{outside}/out.parquet'",
        "EXPORT DATABASE '{outside}/export'",
        "ATTACH '{outside}/other.duckdb'",
        "SELECT * FROM read_csv('{outside}/secret.csv')",
        "SELECT * FROM '{outside}/secret.csv'",
        "SELECT * FROM read_text('{outside}/secret.csv')",
        "SELECT * FROM glob('{outside}/*')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SELECT * FROM nowhere",
        "SELEC 1",
        "SELECT ?",
        "SELECT error('first line' || chr(10) || 'second')",
        "",
        "-- nothing but a comment",
    ],
)
def test_a_query_changes_and_reads_nothing_else(
    query: str, published: Settings, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("a,b\n1,swordfish\n")
    said = refusal(published, query.format(outside=outside))
    assert said.startswith("the query was refused: ")
    assert "swordfish" not in said
    assert [path.name for path in outside.iterdir()] == ["secret.csv"]
    assert rows(published) == 4


# ----------------------------------------------------------------------------- Parquet


def test_parquet_partitions_are_the_signals(settings: Settings) -> None:
    folder = night(settings).parent / "signals"
    parts = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("*.parquet"))
    assert parts == [
        "signal=it%27s%3Dodd%2Fname/year=2017",
        "signal=it%27s%3Dodd%2Fname/year=2018",
        "signal=plain/year=2017",
        "signal=plain/year=2018",
    ]
    columns, stored = query_published(settings, "FROM signals ORDER BY entity")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # what `signal=…/year=…` hold is in the folders' names
        found = connection.execute(
            f"""
            SELECT {", ".join(columns)}
            FROM read_parquet('{folder}/*/*/*.parquet', hive_partitioning = true)
            ORDER BY entity
            """
        ).fetchall()
    assert found == stored
    assert len(pd.read_parquet(folder)) == 4


def dated(warehouse: Warehouse, days: list[date], **changes: Any) -> None:
    """Append a row of each of two signals for each date."""
    for day in days:
        warehouse.append(signals, scores(2, as_of=day, **changes))


def parts_of(settings: Settings) -> dict[str, int]:
    """Parquet files of the newest publication, and the file each is a name of."""
    folder = settings.published.resolve().parent / "signals"
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*.parquet")}


def require_whole(settings: Settings, warehouse: Warehouse) -> None:
    """The Parquet files of the newest publication hold the table's rows, and nothing else."""
    folder = settings.published.resolve().parent / "signals"
    columns = ", ".join(column.name for column in signals.columns)
    if not warehouse.sql("SELECT 1 FROM main.signals LIMIT 1"):
        assert not folder.exists()
        return
    # one row per row that is not in both equally often
    files = f"read_parquet('{folder}/*/*/*.parquet', hive_partitioning = true)"
    differ = f"""
        (SELECT {columns} FROM main.signals EXCEPT ALL SELECT {columns} FROM {files})
        UNION ALL
        (SELECT {columns} FROM {files} EXCEPT ALL SELECT {columns} FROM main.signals)
    """
    assert warehouse.sql(differ) == []
    # a file lies in its signal's and year's folder
    assert warehouse.sql(f"SELECT 1 FROM {files} WHERE year <> year(as_of)") == []


def test_a_night_writes_only_the_files_that_it_changes(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        dated(warehouse, [date(2016, 12, 30), date(2017, 12, 29), date(2018, 12, 27)])
        publish(warehouse)
        before = parts_of(settings)
        warehouse.append(signals, scores(1, as_of=date(2018, 12, 28)))
        publish(warehouse)
        after = parts_of(settings)
        require_whole(settings, warehouse)
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {"signal=plain/year=2018/data_00.parquet"}
        assert len(after) == 6
        warehouse.native.execute(
            "UPDATE main.signals SET value = value + 1e-12 WHERE as_of < ?", (date(2017, 1, 1),)
        )
        publish(warehouse)
        require_whole(settings, warehouse)
        revised = {name for name, file in parts_of(settings).items() if file != after[name]}
        assert {name.split("/")[1] for name in revised} == {"year=2016"}
    for path in settings.published.resolve().parent.rglob("*.parquet"):
        assert path.stat().st_mode & 0o777 == 0o444


def test_a_large_year_is_written_by_month(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_warehouse(settings, "test") as warehouse:
        dated(warehouse, [date(2018, month, 28) for month in (2, 11)])
        publish(warehouse)
        small = parts_of(settings)
        monkeypatch.setattr(publishing, "ROWS_OF_A_YEAR_FILE", 2)
        dated(warehouse, [date(2018, 12, 27)])
        publish(warehouse)
        require_whole(settings, warehouse)
        before = parts_of(settings)
        dated(warehouse, [date(2018, 12, 28)])
        publish(warehouse)
        require_whole(settings, warehouse)
        after = parts_of(settings)
    assert {Path(name).name for name in small} == {"data_00.parquet"}
    assert {Path(name).name for name in after} == {
        f"data_{month}.parquet" for month in ("02", 11, 12)
    }
    changed = {Path(name).name for name in after if after[name] != before[name]}
    assert changed == {"data_12.parquet"}


def test_whatever_happened_before_the_files_are_those_of_the_table(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nights, revisions, kills, publications that went, stores that were restored."""
    chance = random.Random(7)
    monkeypatch.setattr(publishing, "ROWS_OF_A_YEAR_FILE", 12)
    monkeypatch.setattr(gathering, "ROWS_WORTH_GATHERING", 5)
    root, backup = settings.home / "published", settings.home / "backup"
    shutil.copyfile(settings.warehouse, backup)
    linked = written = 0
    for number in range(27):
        if number % 9 == 8:
            shutil.copyfile(backup, settings.warehouse)
        with open_warehouse(settings, "test") as warehouse:
            for _ in range(chance.randrange(3)):
                day = date(chance.choice([2016, 2017, 2018]), chance.randrange(1, 13), 5)
                dated(warehouse, [day], value=chance.random(), run_id=str(number))
            event = chance.randrange(6)
            if event == 0:
                warehouse.native.execute("UPDATE main.signals SET value = 0 WHERE month(as_of) < 3")
            if event == 1:
                warehouse.native.execute("DELETE FROM main.signals WHERE month(as_of) = 12")
            if event == 2 and number:
                shutil.rmtree(root / os.readlink(root / "current"))
            if event == 3:
                dated(warehouse, [date(2018, 6, 5)])
                step = chance.choice(["_point", "_write_part", "_published_parts", "_sync"])
                with monkeypatch.context() as patched:
                    patched.setattr(publishing, step, lambda *_: 1 / 0)
                    with pytest.raises(ZeroDivisionError):
                        publish(warehouse)
            if event == 4:
                gathering.gather(warehouse, 10)
            before = parts_of(settings) if (root / "current").exists() else {}
            publish(warehouse)
            require_whole(settings, warehouse)
            same = sum(file in before.values() for file in parts_of(settings).values())
            linked, written = linked + same, written + len(parts_of(settings)) - same
            if number % 9 == 4:
                warehouse.native.execute("CHECKPOINT")
                shutil.copyfile(settings.warehouse, backup)
    assert linked > written > 30


def test_a_file_that_somebody_wrote_to_is_not_taken_over(settings: Settings) -> None:
    night(settings)
    for path in settings.published.resolve().parent.rglob("*.parquet"):
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    with open_warehouse(settings, "test") as warehouse:
        publish(warehouse)
        require_whole(settings, warehouse)


@pytest.mark.parametrize("manifest", [None, "", "[]", "{", '{"columns": [], "parts": []}'])
def test_without_a_manifest_all_files_are_written(manifest: str | None, settings: Settings) -> None:
    file = night(settings)
    before = parts_of(settings)
    file.with_name("parts.json").unlink()
    if manifest is not None:
        file.with_name("parts.json").write_text(manifest)
    with open_warehouse(settings, "test") as warehouse:
        publish(warehouse)
        require_whole(settings, warehouse)
    assert not set(parts_of(settings).values()) & set(before.values())


def test_a_file_system_without_links_gets_copies(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    night(settings)
    monkeypatch.setattr(os, "link", refuse)
    with open_warehouse(settings, "test") as warehouse:
        publish(warehouse)
        require_whole(settings, warehouse)


def test_no_signals_no_parquet(settings: Settings) -> None:
    with open_warehouse(settings, "test") as warehouse:
        assert not (publish(warehouse).parent / "signals").exists()


# ------------------------------------------------------------------------------- kills


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_publication(settings: Settings) -> None:
    night(settings)
    chance = random.Random(20181228)
    code = """
        import sys
        from db.publishing import publish
        from db.settings import load_settings
        from db.warehouse import open_warehouse
        with open_warehouse(load_settings(), "test") as warehouse:
            print("ready", flush=True)
            for _ in range(1000):
                publish(warehouse)
    """
    newest = 1
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        time.sleep(chance.uniform(0.0, 0.25))
        process.kill()
        process.wait()
        assert rows(settings) == 4
        pointed = int(os.readlink(settings.home / "published" / "current")[1:])
        assert pointed >= newest
        newest = pointed
        parts = list((settings.published.resolve().parent / "signals").rglob("*.parquet"))
        assert sum(len(pd.read_parquet(part)) for part in parts) == 4
    night(settings)
    assert rows(settings) == 8
    assert not list((settings.home / "published").glob("unfinished-*"))
