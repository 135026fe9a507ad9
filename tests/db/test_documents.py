from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from db import ingest, staging
from db.settings import load_settings
from db.sources.files import FilesDocuments
from db.warehouse import open_warehouse

GOOD = {"id": "1", "ticker": "AAPL", "time": "2018-12-28T15:00:00-05:00", "text": "Up"}


@pytest.fixture
def deliver(tmp_path: Path, own_home: Path, calendar, sample_night):
    folder = tmp_path / "documents"
    folder.mkdir()
    settings = load_settings()

    def bring(rows: list[dict[str, object]], name: str = "a.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = FilesDocuments(folder)
        with open_warehouse(settings, "test") as warehouse:
            request = staging.request_for(warehouse, source, sample_night, calendar)
            staged = staging.stage(source, request, tmp_path / "staging")
            return ingest.take_over(warehouse, staged, sample_night, calendar, "run")[0]

    return bring


def stored(query: str):
    with open_warehouse(load_settings(), "test") as warehouse:
        return warehouse.sql(query)


def test_good_documents_are_known_from_their_own_time(deliver) -> None:
    delivery = deliver([GOOD, {"id": "2", "time": "2018-12-27T10:00:00Z", "text": "No symbol"}])
    assert (delivery.status, delivery.fetched, delivery.appended) == ("ok", 2, 2)
    rows = stored("SELECT document_id, entity, time, known_at FROM raw.documents ORDER BY 1")
    at = datetime.fromisoformat("2018-12-28T20:00+00:00")
    assert rows[0] == ("1", "AAPL", at, at)
    assert rows[1][1] is None


def test_bad_documents_are_quarantined_with_reasons_and_counts_add_up(deliver) -> None:
    rows = [
        GOOD,
        GOOD,
        {**GOOD, "id": "3", "text": " "},
        {**GOOD, "id": None},
        {**GOOD, "id": "4", "time": "yesterday"},
        {**GOOD, "id": "5", "time": "2090-01-01T00:00:00Z"},
        {**GOOD, "id": "6"},
        {**GOOD, "id": "6", "text": "Down"},
    ]
    delivery = deliver(rows)
    assert (delivery.fetched, delivery.appended, delivery.quarantined) == (8, 1, 7)
    rules = stored("SELECT rule, count(*) FROM raw.quarantine GROUP BY rule ORDER BY rule")
    assert rules == [
        ("conflict", 2),
        ("document_id_given", 1),
        ("duplicate", 1),
        ("not_future", 1),
        ("text_given", 1),
        ("time_readable", 1),
    ]
    held = stored(
        "SELECT row ->> '$.time', reason FROM raw.quarantine WHERE rule = 'time_readable'"
    )
    assert held == [("yesterday", "time is missing or cannot be read as an instant")]


def test_the_same_file_again_adds_nothing_and_a_changed_text_is_a_vintage(
    deliver, sample_night
) -> None:
    deliver([GOOD, {**GOOD, "id": "3", "text": ""}])
    assert deliver([GOOD, {**GOOD, "id": "3", "text": ""}]).fetched in (0, 2)
    again = deliver([GOOD, {**GOOD, "id": "3", "text": ""}, {**GOOD, "id": "7"}])
    assert (again.fetched, again.unchanged, again.appended, again.quarantined) == (3, 1, 1, 1)
    assert stored("SELECT count(*) FROM raw.quarantine") == [(1,)]

    deliver([{**GOOD, "text": "Up, corrected"}], "b.jsonl")
    texts = stored("SELECT text, known_at FROM raw.documents WHERE document_id = '1' ORDER BY 2")
    assert [text for text, _ in texts] == ["Up", "Up, corrected"]
    assert texts[1][1] == sample_night.now
    then = stored(
        "SELECT text FROM raw.documents_as_of(TIMESTAMPTZ '2018-12-28 21:00:00+00') "
        "WHERE document_id = '1'"
    )
    assert then == [("Up",)]


def test_a_file_that_is_no_json_is_named(deliver, tmp_path: Path) -> None:
    (tmp_path / "documents" / "broken.jsonl").write_bytes(b"\x00\xff not json\n")
    delivery = deliver([GOOD])
    assert (delivery.status, delivery.appended) == ("partial", 1)
    assert "broken.jsonl cannot be read" in delivery.problems[0]
