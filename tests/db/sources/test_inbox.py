"""The inbox: what lies there is taken over once, put away, and never lost."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import documents, ingest, staging
from db.clock import Night
from db.ingest import Delivery
from db.sessions import Sessions
from db.settings import Settings, load_settings
from db.sources import inbox as module
from db.sources.inbox import WRITTEN_TO, Inbox, PutAway, put_away
from db.staging import Staged
from db.warehouse import Warehouse

GOOD = {"id": "1", "time": "2018-12-28T15:00Z", "text": "Up", "symbols": ["AAPL"]}

DAY = "2026-11-26"
YEARS = 10 * 365 * 86_400.0  # before the sample night

predicates = pytest.mark.usefixtures("by_predicates")


@pytest.fixture
def inbox(stored: Settings) -> Path:
    stored.inbox.mkdir()
    return stored.inbox


@dataclass
class Clock:
    """The machine's clock, as the inbox reads it."""

    time: datetime

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return self.time


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(datetime.fromisoformat(f"{DAY}T23:00Z"))
    monkeypatch.setattr(module, "datetime", clock)
    return clock


def drop(folder: Path, name: str, content: bytes | str | list[dict[str, Any]]) -> Path:
    """A file that was dropped a minute ago."""
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    age(path, 60)
    return path


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


Run = Callable[..., tuple[Delivery, list[PutAway]]]


@pytest.fixture
def run(warehouse: Warehouse, sample_night: Night, calendar: Sessions, tmp_path: Path) -> Run:
    """Read the inbox, take over, put away, as a flow does."""

    def once(
        settings: Settings | None = None, killed: str = "", docs: Path | None = None
    ) -> tuple[Delivery, list[PutAway]]:
        source = Inbox.of(settings or warehouse.settings)
        request = staging.request_for(warehouse, source, sample_night, calendar)
        staged = staging.stage(source, request, tmp_path / "staging")
        staged = replace(staged, fetched_at=sample_night.now)
        if killed == "before":
            return Delivery("inbox", "documents", "failed"), []
        delivery, _ = ingest.take_over(warehouse, staged, sample_night, calendar, "run", docs)
        assert delivery.fetched == delivery.appended + delivery.unchanged + delivery.quarantined
        for kind in ("rows", "appended", "unchanged", "quarantined"):
            total = delivery.fetched if kind == "rows" else getattr(delivery, kind)
            assert sum(getattr(each, kind) for each in delivery.files) == total
        return delivery, [] if killed else put_away(staged, delivery)

    return once


def lying(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def counts(delivery: Delivery) -> tuple[int, int, int, int]:
    return delivery.fetched, delivery.appended, delivery.unchanged, delivery.quarantined


def quarantined(warehouse: Warehouse) -> dict[str, str]:
    rows = warehouse.sql("SELECT entity, rule FROM raw.quarantine ORDER BY ALL")
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_a_folder_of_all_kinds_of_files(
    inbox: Path, run: Run, warehouse: Warehouse, tmp_path: Path
) -> None:
    """By Great Expectations: good files and rows are taken, the rest is held with its reason."""
    drop(inbox, "good.jsonl", [GOOD, GOOD | {"id": "2", "text": "Microsoft is down"}])
    drop(inbox, "again.jsonl", [GOOD, GOOD | {"symbols": "MSFT"}])
    drop(inbox, "table.csv", "id,time,headline\n3,2018-12-28T15:01Z,$GE falls\n4,tomorrow,x\n5\n")
    drop(inbox, "lines.jsonl", json.dumps(GOOD | {"id": "6"}) + "\n{broken\n")
    drop(
        inbox,
        "rows.json",
        [GOOD | {"id": "7", "text": " "}, GOOD | {"id": "8", "time": "2090-01-01"}],
    )
    drop(inbox, "packed.jsonl.gz", gzip.compress(json.dumps(GOOD | {"id": "9"}).encode()))
    drop(inbox, "empty.csv", "")
    drop(inbox, "latin.csv", "time,text\n2018-12-28,caf\u00e9\n".encode("latin-1"))
    drop(inbox, "binary.txt", b"\x7fELF\0\0")
    drop(inbox, "page.html", "<html></html>")
    with (inbox / "huge.jsonl").open("wb") as file:
        file.truncate(200_000_000)
    age(inbox / "huge.jsonl", 60)

    delivery, files = run(docs=tmp_path / "docs")
    assert counts(delivery) == (17, 6, 1, 10)
    assert (delivery.status, delivery.problems) == ("ok", ())
    assert lying(inbox) == {
        f"archive/{DAY}/{name}"
        for name in (
            "good.jsonl", "again.jsonl", "table.csv", "lines.jsonl", "rows.json", "packed.jsonl.gz",
        )
    } | {
        f"quarantine/{name}"
        for name in ("empty.csv", "latin.csv", "binary.txt", "page.html", "huge.jsonl")
    }  # fmt: skip
    assert sum(file.rows for file in files) == 17
    by_name = {file.name: file for file in files}
    assert by_name["table.csv"] == PutAway(
        "table.csv", f"archive/{DAY}/table.csv", rows=3, appended=1, quarantined=2
    )
    assert by_name["latin.csv"].place == "quarantine/latin.csv"
    assert "is no UTF-8" in by_name["latin.csv"].reason
    held = warehouse.sql("SELECT rule, reason FROM raw.quarantine ORDER BY ALL")
    assert held == [
        ("file_empty", "the file is empty: holds nothing (empty.csv)"),
        (
            "file_encoding",
            "the file is in another encoding: is no UTF-8: byte 0xe9 in line 2; save it as UTF-8 "
            "(latin.csv)",
        ),
        (
            "file_readable",
            "the file cannot be read: is binary: no text, JSON, CSV or Parquet (binary.txt)",
        ),
        (
            "file_readable",
            "the file cannot be read: is neither JSON, CSV nor Parquet, and not named .txt "
            "(page.html)",
        ),
        (
            "file_size",
            "the file is too large: is larger than 100 MB (LOOKBACK_INBOX_MAX_MEGABYTES) "
            "(huge.jsonl)",
        ),
        (
            "not_future",
            "published_at or known_at lies after the time at which it was read (rows.json line 2)",
        ),
        (
            "row_readable",
            "the row cannot be read: broken JSON: Expecting property name enclosed in double "
            "quotes at column 2 (lines.jsonl line 2)",
        ),
        ("row_readable", "the row cannot be read: has 1 fields, the header 3 (table.csv line 4)"),
        ("text_given", "text is missing or blank (rows.json line 1)"),
        (
            "time_readable",
            "published_at is missing or cannot be read as an instant (table.csv line 3)",
        ),
    ]
    huge = warehouse.sql("SELECT row, entity FROM raw.quarantine WHERE rule = 'file_size'")
    assert json.loads(huge[0][0]) == {"file": "huge.jsonl", "bytes": 200_000_000, "sha256": None}
    assert warehouse.sql(
        "SELECT document_id, entity, found_by FROM raw.mentions WHERE entity <> 'AAPL' ORDER BY ALL"
    ) == [("1", "MSFT", "given"), ("2", "MSFT", "name"), ("3", "GE", "cashtag")]
    assert "inbox" in (tmp_path / "docs" / "index.html").read_text()

    again, files = run()
    assert (again.status, counts(again), files) == ("unchanged", (0, 0, 0, 0), [])


@predicates
def test_the_same_files_again_under_other_names_add_nothing(
    inbox: Path, run: Run, warehouse: Warehouse
) -> None:
    content = [GOOD, GOOD | {"id": "2", "text": ""}, GOOD | {"id": "3", "time": "soon"}]
    drop(inbox, "a.jsonl", content)
    age(drop(inbox, "b.txt", "A text without a time of its own"), YEARS)
    drop(inbox, "c.csv", b"\xff\xff")
    first, _ = run()
    before = warehouse.sql("FROM raw.documents ORDER BY ALL"), quarantined(warehouse)
    for name, old in (("z.jsonl", "a.jsonl"), ("a.jsonl", "a.jsonl"), ("y.txt", "b.txt")):
        found = next(path for path in inbox.rglob(old))
        age(shutil.copyfile(found, inbox / name), YEARS - 9)  # another time than the first
    age(shutil.copyfile(inbox / "quarantine" / "c.csv", inbox / "x.csv"), 30)
    again, files = run()
    assert counts(first) == (5, 2, 0, 3)
    assert counts(again) == (8, 0, 3, 5)
    assert (warehouse.sql("FROM raw.documents ORDER BY ALL"), quarantined(warehouse)) == before
    places = {file.name: file.place.rsplit("/", 1)[-1] for file in files}
    assert places == {
        "z.jsonl": "z.jsonl",
        "a.jsonl": "a-2.jsonl",
        "y.txt": "y.txt",
        "x.csv": "x.csv",
    }
    assert len(lying(inbox)) == 7  # nothing was overwritten


@predicates
@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_kill_before_or_after_the_commit_loses_and_doubles_nothing(
    inbox: Path, run: Run, warehouse: Warehouse, killed: str
) -> None:
    drop(inbox, "a.jsonl", [GOOD, GOOD | {"id": "2", "text": ""}])
    drop(inbox, "b.csv", "")
    run(killed=killed)
    assert lying(inbox) == {"a.jsonl", "b.csv"}
    run()
    assert warehouse.sql("SELECT document_id FROM raw.documents") == [("1",)]
    assert quarantined(warehouse) == {"2": "text_given", "b.csv": "file_empty"}
    assert lying(inbox) == {f"archive/{DAY}/a.jsonl", "quarantine/b.csv"}


@predicates
def test_a_failure_while_writing_leaves_all_where_it_was(
    inbox: Path, run: Run, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox, "a.jsonl", [GOOD, GOOD | {"id": "2", "text": ""}])
    with monkeypatch.context() as broken:
        broken.setattr(documents, "_quarantine", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run()
    for table in ("raw.documents", "raw.mentions", "raw.quarantine", "ops.deliveries"):
        assert warehouse.one(f"SELECT count(*) FROM {table}") == (0,)
    assert lying(inbox) == {"a.jsonl"}
    assert counts(run()[0]) == (2, 1, 0, 1)


@predicates
def test_what_is_still_written_to_is_left(inbox: Path, run: Run) -> None:
    for name in (".hidden.jsonl", "a.jsonl.part", "b.tmp", "young.jsonl"):
        drop(inbox, name, [GOOD])
    age(inbox / "young.jsonl", 0)
    delivery, files = run()
    assert (delivery.status, counts(delivery)) == ("unchanged", (0, 0, 0, 0))
    assert {(file.name, file.place) for file in files} == {
        (".hidden.jsonl", "."), ("a.jsonl.part", "."), ("b.tmp", "."), ("young.jsonl", "."),
    }  # fmt: skip
    age(inbox / "young.jsonl", 5)
    assert counts(run()[0]) == (1, 1, 0, 0)


@predicates
def test_a_file_that_changes_after_it_was_read_stays(
    inbox: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(inbox, "a.jsonl", [GOOD])
    take_over = ingest.take_over

    def meanwhile(*given: Any) -> Any:
        drop(inbox, "a.jsonl", [GOOD, GOOD | {"id": "2"}])
        return take_over(*given)

    with monkeypatch.context() as changed:
        changed.setattr(ingest, "take_over", meanwhile)
        _, (file,) = run()
    assert (file.place, file.rows, path.exists()) == (".", 1, True)
    assert counts(run()[0]) == (2, 1, 1, 0)
    assert not path.exists()


@predicates
def test_links_and_folders_are_named_and_left(inbox: Path, run: Run, tmp_path: Path) -> None:
    drop(tmp_path, "elsewhere.jsonl", [GOOD])
    (inbox / "link.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    (inbox / "folder").mkdir()
    os.mkfifo(inbox / "pipe")
    with open(os.fsencode(inbox) + b"/\xff.jsonl", "w") as file:
        file.write("{}")
    delivery, files = run()
    assert (delivery.status, counts(delivery), files) == ("partial", (0, 0, 0, 0), [])
    assert delivery.problems == (
        f"inbox: left alone in {inbox}: \\xff.jsonl (a name that is no UTF-8), folder (a folder), "
        "link.jsonl (a symbolic link) and 1 more; only regular files that lie in the inbox itself "
        "are read: take the others away",
    )
    assert (tmp_path / "elsewhere.jsonl").exists()
    (inbox / "link.jsonl").unlink()
    (inbox / "folder").rmdir()
    os.unlink(os.fsencode(inbox) + b"/\xff.jsonl")
    (problem,) = run()[0].problems
    assert problem.startswith(f"inbox: left alone in {inbox}: pipe (no regular file); only")
    (inbox / "pipe").unlink()
    assert run()[0].problems == ()


@predicates
def test_a_file_that_may_not_be_moved_is_read_once(
    inbox: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(inbox, "a.jsonl", [GOOD])

    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as forbidden:
        forbidden.setattr(module.os, "replace", refused)
        first, (file,) = run()
        assert file.place == "."
        assert "could not be moved to archive/" in file.reason
        assert "Permission denied" in file.reason
        again, (file,) = run()
        assert (counts(first), counts(again)) == ((1, 1, 0, 0), (0, 0, 0, 0))
        drop(inbox, "a.jsonl", [GOOD, GOOD | {"id": "2"}])
        assert counts(run()[0]) == (2, 1, 1, 0)
    assert path.exists()
    assert [each for each in lying(inbox) if each != "a.jsonl"] == []  # no empty reserved name
    run()
    assert not path.exists()


@predicates
def test_a_file_out_of_quarantine_is_read_again_when_it_is_dropped_again(
    inbox: Path, run: Run, stored: Settings
) -> None:
    path = drop(inbox, "a.jsonl", [GOOD | {"text": "x" * 3000}])
    run(load_settings(inbox_max_megabytes=0.002))
    shutil.move(inbox / "quarantine" / "a.jsonl", path)
    delivery, _ = run(stored)
    assert counts(delivery) == (1, 1, 0, 0)


def write_on(path: Path, *rows: dict[str, Any], seconds: float = 30) -> None:
    """A writer that holds the file goes on, and has been silent again for some seconds."""
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    age(path, seconds)


@predicates
def test_what_is_written_to_a_file_in_the_archive_is_read_in_place(
    inbox: Path, run: Run, warehouse: Warehouse
) -> None:
    drop(inbox, "slow.jsonl", [GOOD | {"id": "0"}])
    run()
    dropped = drop(inbox, "slow.jsonl", [GOOD])  # its name in the archive is taken
    with dropped.open("a") as writer:
        run()
        writer.write(json.dumps(GOOD | {"id": "2"}) + "\n")
    place = f"archive/{DAY}/slow-2.jsonl"
    age(inbox / place, 30)

    delivery, files = run()
    assert counts(delivery) == (2, 1, 1, 0)
    assert files == [
        PutAway("slow-2.jsonl", place, rows=2, appended=1, unchanged=1, reason=WRITTEN_TO)
    ]
    again, files = run()
    assert (again.status, counts(again), files) == ("unchanged", (0, 0, 0, 0), [])
    write_on(inbox / place, GOOD | {"id": "3"})
    assert counts(run()[0]) == (3, 1, 2, 0)
    assert warehouse.one("SELECT count(*) FROM raw.documents") == (4,)
    assert lying(inbox) == {f"archive/{DAY}/slow.jsonl", place}


@predicates
def test_a_writer_that_goes_on_while_a_file_is_put_away_is_noticed(
    inbox: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox, "slow.jsonl", [GOOD])
    rename = os.replace

    def meanwhile(source: Path, target: Path) -> None:
        write_on(source, GOOD | {"id": "2"})
        rename(source, target)

    with monkeypatch.context() as moving:
        moving.setattr(module.os, "replace", meanwhile)
        run()
    assert counts(run()[0]) == (2, 1, 1, 0)


@predicates
def test_what_is_put_away_and_still_written_to_is_left_for_the_next_run(
    inbox: Path, run: Run
) -> None:
    drop(inbox, "slow.jsonl", [GOOD])
    run()
    place = f"archive/{DAY}/slow.jsonl"
    write_on(inbox / place, GOOD | {"id": "2"}, seconds=0)
    delivery, files = run()
    assert counts(delivery) == (0, 0, 0, 0)
    unfinished = "may still be written to; the next run reads it"
    assert files == [PutAway("slow.jsonl", place, reason=unfinished)]
    age(inbox / place, 30)
    assert counts(run()[0]) == (2, 1, 1, 0)


@predicates
def test_a_file_goes_from_quarantine_to_the_archive_and_back_by_what_is_written_to_it(
    inbox: Path, run: Run, warehouse: Warehouse
) -> None:
    drop(inbox, "slow.jsonl", "")
    _, (file,) = run()
    assert file.place == "quarantine/slow.jsonl"
    write_on(inbox / "quarantine" / "slow.jsonl", GOOD)
    delivery, _ = run(killed="after")
    assert counts(delivery) == (1, 1, 0, 0)
    _, (file,) = run()
    assert (file.place, file.reason) == (f"archive/{DAY}/slow.jsonl", WRITTEN_TO)
    drop(inbox / "archive" / DAY, "slow.jsonl", b"\x7fELF\0\0")
    delivery, (file,) = run()
    assert counts(delivery) == (1, 0, 0, 1)
    assert file.place == "quarantine/slow.jsonl"
    assert file.reason.startswith(f"{WRITTEN_TO}: is binary")
    assert lying(inbox) == {"quarantine/slow.jsonl"}
    drop(inbox / "quarantine", "slow.jsonl", b"\x7fELF\0\0\0")
    assert counts(run()[0]) == (1, 0, 0, 1)
    assert lying(inbox) == {"quarantine/slow.jsonl"}


@predicates
def test_what_was_put_away_is_followed_until_a_day_has_passed_without_a_change(
    inbox: Path, run: Run, clock: Clock
) -> None:
    drop(inbox, "slow.jsonl", [GOOD])
    run()
    archived = inbox / "archive" / DAY / "slow.jsonl"
    write_on(archived, GOOD | {"id": "2"})
    clock.time += timedelta(days=3)  # no run over a weekend
    assert counts(run()[0]) == (2, 1, 1, 0)
    clock.time += timedelta(days=1)
    run()
    write_on(archived, GOOD | {"id": "3"})
    assert counts(run()[0]) == (3, 1, 2, 0)
    clock.time += timedelta(days=2)
    run()
    write_on(archived, GOOD | {"id": "4"})
    assert counts(run()[0]) == (0, 0, 0, 0)


@predicates
def test_what_was_put_away_by_others_is_not_taken(inbox: Path, run: Run) -> None:
    drop(inbox, "a.jsonl", [GOOD])
    run()
    drop(inbox / "archive" / DAY, "theirs.jsonl", [GOOD | {"id": "2"}])
    (inbox / "quarantine").mkdir()
    drop(inbox / "quarantine", "theirs.jsonl", [GOOD | {"id": "3"}])
    assert counts(run()[0]) == (0, 0, 0, 0)
    (inbox / "archive" / DAY / "a.jsonl").unlink()
    assert run()[1] == []


@predicates
def test_a_folder_that_is_given_once_is_followed_by_runs_without_it(
    inbox: Path, run: Run, tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    drop(beside, "slow.jsonl", [GOOD])
    run(load_settings(inbox_dir=beside))
    write_on(beside / "archive" / DAY / "slow.jsonl", GOOD | {"id": "2"})
    drop(beside, "new.jsonl", [GOOD | {"id": "3"}])
    assert counts(run()[0]) == (2, 1, 1, 0)
    assert lying(beside) == {"new.jsonl", f"archive/{DAY}/slow.jsonl"}


@predicates
def test_a_folder_beside_the_inbox(
    inbox: Path, run: Run, warehouse: Warehouse, tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    settings = load_settings(inbox_dir=beside)
    delivery, _ = run(settings)
    assert "make that folder or correct LOOKBACK_INBOX_DIR" in delivery.problems[0]
    beside.mkdir()
    drop(inbox, "a.jsonl", [GOOD])
    drop(beside, "a.jsonl", [GOOD, GOOD | {"id": "2"}])
    delivery, files = run(settings)
    assert counts(delivery) == (3, 2, 1, 0)  # one document, whichever folder it lies in
    assert [file.rows for file in files] == [1, 2]
    assert lying(beside) == lying(inbox) == {f"archive/{DAY}/a.jsonl"}
    assert Inbox.of(load_settings(inbox_dir=settings.inbox)).folders == (settings.inbox,)


def test_a_stopped_delivery_and_other_sources_leave_the_files(inbox: Path, tmp_path: Path) -> None:
    path = drop(inbox, "a.jsonl", [GOOD])
    source = Inbox((inbox,), 1_000_000)
    request = staging.Request(None, None)  # type: ignore[arg-type]
    staged = staging.stage(source, request, tmp_path)
    (file,) = put_away(staged, Delivery("inbox", "documents", "stopped"))
    assert (file.place, path.exists()) == (".", True)
    other = Staged(replace(source, name="x"), request, path, None, 0, (), {}, staged.fetched_at, 0)
    assert put_away(other, Delivery("x", "documents", "ok")) == []


@pytest.mark.reference
@predicates
def test_tweets_come_once_with_all_their_symbols(
    inbox: Path, run: Run, warehouse: Warehouse, reference_data: Path
) -> None:
    age(shutil.copyfile(reference_data / "stock_tweets_2014_2015.parquet", inbox / "t.parquet"), 60)
    delivery, _ = run()
    # 106,338 rows are 85,558 documents and 105,740 pairs of document and ticker
    assert counts(delivery) == (106_338, 105_740, 598, 0)
    assert warehouse.one("SELECT count(*) FROM raw.documents") == (85_558,)
    given = warehouse.one("SELECT count(*) FROM raw.mentions WHERE found_by = 'given'")
    assert given == (105_740,)
    assert warehouse.one(
        "SELECT bool_and(known_at = published_at), min(year(known_at)), max(year(known_at)) "
        "FROM raw.documents"
    ) == (True, 2013, 2015)
