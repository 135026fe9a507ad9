"""Writing the report: where it lies, what it is told, and a night whose report fails."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from db.clock import Night
from db.errors import LookbackError
from db.publishing import publish, query_published
from db.settings import Settings
from db.tables import runs
from db.warehouse import open_warehouse
from flows import nightly, steps
from flows.cli import main
from flows.report import NightReport, night_markdown
from flows.report_page import write_report

NIGHT, BEFORE = date(2018, 12, 28), date(2018, 12, 27)


@pytest.fixture
def nights(settings: Settings) -> Settings:
    """A store with two nights that scored nothing."""
    with open_warehouse(settings, "test") as warehouse:
        for session in (BEFORE, NIGHT):
            began = datetime(2018, 12, session.day + 1, 3, tzinfo=UTC)
            warehouse.insert(
                runs,
                {
                    "run_id": f"of {session}",
                    "flow": "nightly",
                    "session": session,
                    "profile": "sample",
                    "status": "completed",
                    "exit_code": 0,
                    "started_at": began,
                    "finished_at": began,
                    "seconds": 1.0,
                    "missing": [],
                    "version": "test",
                },
            )
        publish(warehouse)
    return settings


def test_it_lies_under_the_home_and_the_newest_is_latest(nights: Settings) -> None:
    path = write_report(nights)
    assert path == nights.home / "reports" / "2018-12-28.html"
    assert path.read_text() == path.with_name("latest.html").read_text()
    assert "Night of Friday, 28 December 2018" in path.read_text()
    assert sorted(each.name for each in path.parent.iterdir()) == ["2018-12-28.html", "latest.html"]


def test_an_older_session_leaves_the_latest_and_has_no_findings(nights: Settings) -> None:
    newest = write_report(nights)
    older = write_report(nights, BEFORE)
    assert older.name == "2018-12-27.html"
    assert newest.with_name("latest.html").read_text() == newest.read_text()
    assert 'id="health"' in newest.read_text()
    assert 'id="health"' not in older.read_text()


def test_a_failed_last_night_is_said_at_the_top(nights: Settings) -> None:
    note = nights.home / "status" / "nightly.json"
    note.parent.mkdir()
    failed = {"status": "failed", "finished_at": "2018-12-31 03:00", "session": "2018-12-31"}
    note.write_text(json.dumps(failed | {"missing": ["the disk is full"]}))
    page = write_report(nights).read_text()
    assert "Something failed: last nightly." in page
    assert "the disk is full" in page


def test_the_command_writes_a_file_and_names_it(nights: Settings, tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "page.html"
    result = CliRunner().invoke(
        main, ["report", "--session", "2018-12-27", "--output", str(output)]
    )
    assert (result.exit_code, result.stdout) == (0, f"{output}\n")
    assert output.read_text().startswith("<!DOCTYPE html>")
    assert not (nights.home / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--session", "2018-12-20"], 2, "no night of 2018-12-20; the newest is 2018-12-28"),
        (["--output", "/dev/null/x.html"], 1, "the report cannot be written to /dev/null/x.html"),
    ],
)
def test_errors_are_one_line(nights: Settings, arguments, exit_code, message) -> None:
    result = CliRunner().invoke(main, ["report", *arguments])
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_nothing_published_is_one_line(own_home: Path) -> None:
    result = CliRunner().invoke(main, ["report"])
    assert result.exit_code == 1
    assert result.stderr.startswith("lookback: nothing is published")


@pytest.fixture
def run(nights: Settings) -> steps.Run:
    cutoff = datetime(2018, 12, 29, 3, tzinfo=UTC)
    return steps.Run(nights, "nightly", Night(NIGHT, cutoff, cutoff, replayed=True), "this run")


def test_a_night_writes_its_report(run: steps.Run) -> None:
    page = nightly._write_page(run)
    assert page == run.settings.home / "reports" / "2018-12-28.html"
    assert (page.exists(), run.missing) == (True, [])


@pytest.mark.parametrize("error", [ValueError("no such\nglyph"), LookbackError("no such glyph")])
def test_a_night_whose_report_fails_says_so(run: steps.Run, monkeypatch, error) -> None:
    from prefect.logging import disable_run_logger

    def fail(*arguments: object) -> Path:
        raise error

    monkeypatch.setattr(nightly, "write_report", fail)
    with disable_run_logger():
        assert nightly._write_page(run) is None
    assert run.missing == ["report: no such glyph"]
    # the books are closed once more: the night has finished, with something missing
    assert steps.close_books(run) == 3
    note = json.loads((run.settings.home / "status" / "nightly.json").read_text())
    assert (note["status"], note["missing"]) == ("partial", ["report: no such glyph"])
    assert query_published(run.settings, "SELECT count(*) FROM runs")[1] == [(2,)]


@pytest.mark.parametrize("written", [True, False])
def test_the_artifact_links_the_page(written: bool, tmp_path: Path) -> None:
    page = str(tmp_path / "2018-12-28.html") if written else None
    report = NightReport(
        run_id="r",
        session=NIGHT,
        cutoff=datetime(2018, 12, 29, 3, tzinfo=UTC),
        profile="sample",
        exit_code=0,
        missing=(),
        deliveries=(),
        rules_checked=0,
        failed_checks=(),
        views=(),
        trained=(),
        scored=(),
        signals=(),
        data_docs=None,
        published="published",
        seconds=1.0,
        page=page,
    )
    line = f"[Report](file://{page}): `{page}`"
    assert (line in night_markdown(report).splitlines()) == written
