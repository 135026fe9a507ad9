"""The command line: one line for each error, its exit code, and what it may not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from db.publishing import publish
from db.settings import load_settings
from db.warehouse import open_warehouse
from flows.cli import main

HEAVY = ("tensorflow", "keras", "great_expectations", "prefect", "pandas", "sqlalchemy", "numpy")


def lookback(*arguments: str):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def published(own_home: Path) -> Path:
    with open_warehouse(load_settings(), "test") as warehouse:
        publish(warehouse)
    return own_home


def one_line(result) -> str:
    assert result.stdout == ""
    assert result.stderr.startswith("lookback: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


@pytest.mark.parametrize("arguments", [("--help",), ("sql", "SELECT 1 AS one"), ("check",)])
def test_reading_commands_import_nothing_heavy(published: Path, arguments: tuple[str, ...]) -> None:
    forbidden = HEAVY if arguments[0] != "check" else HEAVY[:4]
    code = (
        "import sys\nfrom flows.cli import main\n"
        f"sys.argv = ['lookback', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', sorted(set({forbidden!r}) & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "heavy: []"


def test_sql_reads(published: Path) -> None:
    result = lookback("sql", "SELECT count(*) AS n FROM signals", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [{"n": 0}]


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE signals",
        "INSERT INTO ops.store VALUES ('a', 'b')",
        "COPY signals TO 'stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "ATTACH 'other.duckdb'",
        "SELECT 1; SELEC 2",
        "SELECT nothing FROM nowhere",
    ],
)
def test_sql_refuses_in_one_line(published: Path, query: str) -> None:
    result = lookback("sql", query)
    assert result.exit_code == 1
    assert "the query was refused" in one_line(result)


def test_sql_works_while_the_store_is_being_written(published: Path) -> None:
    with open_warehouse(load_settings(), "a night") as warehouse, warehouse.transaction():
        warehouse.native.execute("INSERT INTO ops.store VALUES ('half', 'done')")
        ran = subprocess.run(
            [sys.executable, "-m", "flows.cli", "sql", "SELECT count(*) AS n FROM ops.store"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
    assert "2" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nightly", "--session", "2018-12-25"), "no trading day of XNYS; nearest sessions: 2018"),
        (("nightly", "--session", "2090-01-04"), "has not come yet"),
        (("train", "no_such_model"), "the catalog has: equity_week_direction, macro_outlook"),
    ],
)
def test_wrong_usage(own_home: Path, arguments: tuple[str, ...], said: str) -> None:
    result = lookback(*arguments)
    assert result.exit_code == 2
    assert said in one_line(result)


def test_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBACK_PROFILE", "bogus")
    result = lookback("nightly")
    assert result.exit_code == 2
    assert "setting profile" in one_line(result)


def test_another_profile_is_refused(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBACK_PROFILE", "live")
    result = lookback("nightly")
    assert result.exit_code == 1
    assert "made by profile sample, this run has live" in one_line(result)


def test_a_file_that_is_no_store(own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "warehouse.duckdb").write_text("not a database")
    assert "is no Lookback store" in one_line(lookback("nightly"))


def test_a_database_that_is_no_store(own_home: Path) -> None:
    own_home.mkdir()
    with duckdb.connect(str(own_home / "warehouse.duckdb")) as foreign:
        foreign.execute("CREATE TABLE mine (i INTEGER)")
    assert "but no Lookback store" in one_line(lookback("nightly"))
    with duckdb.connect(str(own_home / "warehouse.duckdb")) as foreign:
        assert foreign.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("mine",)]


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOOKBACK_HOME", str(tmp_path / "file" / "home"))
    result = lookback("nightly")
    assert result.exit_code == 1
    assert "cannot write to LOOKBACK_HOME" in one_line(result)


def test_a_home_that_takes_no_file(own_home: Path) -> None:
    (own_home / "writer.lock").mkdir(parents=True)  # as /sys/kernel, where permissions allow it
    result = lookback("nightly")
    assert result.exit_code == 1
    assert f"cannot write to LOOKBACK_HOME {own_home}: Is a directory" in one_line(result)


@pytest.mark.parametrize(
    ("inbox", "said"),
    [
        ("", "--inbox is blank"),
        (" ", "--inbox is blank"),
        ("nowhere", "--inbox nowhere is no folder to read: No such file or directory"),
        ("file", "--inbox file is no folder to read: Not a directory"),
        ("/", "--inbox / is, or holds, LOOKBACK_HOME"),
        (".", "--inbox . is, or holds, LOOKBACK_HOME"),
        ("home", "--inbox home is, or holds, LOOKBACK_HOME"),
        ("user", "--inbox user is the home folder of this user"),
        ("locked", "--inbox locked is no folder to read: Permission denied"),
    ],
)
def test_a_wrong_inbox_is_refused_and_nothing_is_touched(
    inbox: str, said: str, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "user", "locked"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    scandir = os.scandir

    def refused(path: Path) -> object:
        if path == tmp_path / "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("flows.run.os.scandir", refused)
    # no run may follow: it would move files of the machine
    monkeypatch.setattr("flows.run._require_store", lambda _: pytest.fail("was not refused"))
    before = sorted(tmp_path.rglob("*"))
    result = lookback("sentiment", "--inbox", inbox)
    assert result.exit_code == 2
    assert said in one_line(result)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_published_yet(own_home: Path) -> None:
    for arguments in (("signals", "latest"), ("models", "list"), ("check",), ("sql", "SELECT 1")):
        result = lookback(*arguments)
        assert result.exit_code == 1
        assert "run: lookback nightly" in one_line(result)


def test_check_is_for_monitoring(published: Path) -> None:
    result = lookback("check", "--json")
    assert result.exit_code == 3
    findings = json.loads(result.stdout)
    assert {"level": "missing", "subject": "newest night"}.items() <= findings[0].items()


def test_doctor_names_what_it_finds(own_home: Path) -> None:
    result = lookback("doctor", "--json")
    assert result.exit_code == 0
    found = {row["subject"]: row for row in json.loads(result.stdout)}
    assert found["duckdb"]["message"] == "1.5.5"
    assert str(own_home) in found["home"]["message"]


def test_lists(published: Path) -> None:
    for arguments in (("signals", "latest"), ("models", "list")):
        result = lookback(*arguments, "--json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    declared = json.loads(lookback("features", "list", "--json").stdout)
    assert {"sp500_close", "price_factors", "equity_weekly_return"} <= {
        view["view"] for view in declared
    }
    assert all(view["declared"] and view["rows"] == 0 for view in declared)


def test_a_window_is_asked_for_with_a_cutoff(published: Path) -> None:
    refused = lookback("features", "window", "sp500_close")
    assert refused.exit_code == 2
    assert "give --cutoff or --as-of" in refused.stderr
    missing = lookback("features", "window", "sp500_close", "--as-of", "2018-12-28")
    assert missing.exit_code == 1
    assert "run: lookback features materialize sp500_close" in missing.stderr
    unknown = lookback("features", "window", "sp5000", "--as-of", "2018-12-28")
    assert (unknown.exit_code, "there are:" in unknown.stderr) == (2, True)


def test_there_is_nothing_to_materialize_before_the_first_night(published: Path) -> None:
    refused = lookback("features", "materialize", "sp500_close")
    assert refused.exit_code == 2
    assert "run: lookback nightly" in refused.stderr


def test_sql_shows_brackets_as_they_are(published: Path) -> None:
    result = lookback("sql", "SELECT '[/foo] [red]x' AS m")
    assert result.exit_code == 0
    assert "[/foo] [red]x" in result.stdout
