"""Opening: one clear error for what is no published file; nothing else of Lookback is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from db.errors import LookbackError, StoreError, UsageError
from db.migrations import HEAD
from signals import readers

REPOSITORY = Path(__file__).parents[3]
SIGNAL = "equity_week_direction"


@pytest.fixture
def copy(history: Path, tmp_path: Path) -> Path:
    """A published file of one's own."""
    file = tmp_path / "lookback.duckdb"
    shutil.copyfile(readers.published_file(history), file)
    return file


def refusal(path: Path, error: type[LookbackError] = StoreError, **asked) -> str:
    with pytest.raises(error) as caught:
        readers.read(path, **{"signal": SIGNAL} | asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_way_to_name_a_publication_reads_the_same(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = history / "published"
    monkeypatch.setenv("LOOKBACK_HOME", str(history))
    expected = readers.read(signal=SIGNAL).frame
    assert len(expected) > 3000
    current = published / "current"
    for path in (history, published, current, current / "lookback.duckdb", str(current)):
        pd.testing.assert_frame_equal(readers.read(path, signal=SIGNAL).frame, expected)


def test_parquet_holds_the_same_rows(history: Path) -> None:
    parquet = history / "published" / "current" / "signals"
    found = readers.read(parquet, signal=SIGNAL)
    expected = readers.read(history, signal=SIGNAL)
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    assert found.sessions is None
    assert expected.sessions is not None
    assert "newest revisions only" in refusal(parquet, revision="first")
    assert "equity_week_direction" in refusal(parquet, signal="unknown")


def test_the_connection_is_read_only_and_in_utc(history: Path) -> None:
    with readers.open_published(history) as connection:
        assert connection.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)
        with pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("DELETE FROM main.signals")


def test_nothing_is_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'} is not there")
    assert "nothing is published under" in refusal(tmp_path)


def test_a_store_without_signals(empty: Path, tmp_path: Path) -> None:
    # what a first night publishes that could not score
    assert "holds no signals yet" in refusal(empty)
    with pytest.raises(StoreError, match="no prices are published"):
        readers.prices(empty)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_a_file_that_was_copied_half(copy: Path, share: float) -> None:
    whole = copy.read_bytes()
    copy.write_bytes(whole[: int(len(whole) * share)])
    try:
        found = readers.read(copy, signal=SIGNAL)
    except StoreError as error:
        said = str(error)
        assert "cut off" in said or "is no published Lookback file" in said
        assert "\n" not in said
    else:  # what is missing is not what was asked for
        assert len(found) > 3000


def test_a_cut_that_shows_only_when_it_is_reached(history: Path) -> None:
    with pytest.raises(StoreError, match="cut off"), readers.open_published(history):
        raise duckdb.IOException("IO Error: Could not read enough bytes from file")
    with pytest.raises(duckdb.Error), readers.open_published(history) as connection:
        connection.execute("SELECT * FROM nowhere")  # one's own mistake stays what it is


@pytest.mark.parametrize("content", [b"", b"date,symbol\n2018-12-28,AAPL\n" * 1000])
def test_a_file_that_is_no_database(copy: Path, content: bytes) -> None:
    copy.write_bytes(content)
    assert "is no published Lookback file" in refusal(copy)


def test_a_cut_parquet_file(history: Path, tmp_path: Path) -> None:
    folder = tmp_path / "signals"
    shutil.copytree(history / "published" / "current" / "signals", folder)
    part = next(folder.rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:200])
    assert "Parquet that cannot be read" in refusal(folder)


def test_somebody_elses_database(tmp_path: Path) -> None:
    file = tmp_path / "other.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE signals AS SELECT 1 AS value")
    assert "none of Lookback's" in refusal(file)


@pytest.mark.parametrize(("revision", "fits"), [("9999", False), (HEAD, True), ("0001", True)])
def test_a_newer_schema_is_refused_and_an_older_one_read(
    copy: Path, revision: str, fits: bool
) -> None:
    with duckdb.connect(str(copy)) as connection:
        connection.execute("UPDATE ops.alembic_version SET version_num = ?", [revision])
        if revision == "0001":  # it had no sessions
            connection.execute("DROP TABLE main.sessions")
    if fits:
        found = readers.read(copy, signal=SIGNAL)
        assert (found.sessions is None) == (revision == "0001")
    else:
        assert f"a newer Lookback (schema 9999, this one reads up to {HEAD})" in refusal(copy)


def test_a_file_that_this_process_has_open_for_writing(copy: Path) -> None:
    with duckdb.connect(str(copy)):
        assert "is open in this process" in refusal(copy)


def test_an_unknown_signal_lists_those_that_there_are(history: Path) -> None:
    said = refusal(history, signal="equity_weak_direction")
    assert "no signal 'equity_weak_direction'; there are: equity_week_direction" in said


def test_no_rows_says_what_there_is(history: Path) -> None:
    said = refusal(history, start="2030-01-01")
    assert "as_of 2030-01-01 to 9999-12-31" in said
    assert "backfill 2015-12-11 to 2018-12-14" in said
    assert "version nobody" in refusal(history, model_version="nobody")
    assert "role challenger" in refusal(history, role="challenger")
    assert "is no date" in refusal(history, UsageError, start="last year")
    with pytest.raises(StoreError, match="no prices of ZZZ"):
        readers.prices(history, entities=["ZZZ"])


def test_nothing_else_of_lookback_is_imported(history: Path) -> None:
    code = f"""
        import sys
        from signals import readers
        imported = {{name.split(".")[0] for name in sys.modules}}
        print(sorted(imported & {{"features", "models", "flows", "sqlalchemy", "prefect",
            "tensorflow", "matplotlib", "vectorbt", "bt", "alphalens", "polars", "pydantic"}}))
        print(sorted(name for name in sys.modules if name.startswith("db.")))
        parquet = {str(history / "published" / "current" / "signals")!r}
        print(len(readers.read(parquet, signal="equity_week_direction")) > 0)
        print(sorted(name for name in sys.modules if name.startswith("db.")))
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["[]", "['db.errors']", "True", "['db.errors']"], done.stderr
