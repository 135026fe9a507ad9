"""The sentiment flow, end to end: an inbox of good and bad files, again, live hours, a night."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from db.errors import UsageError
from db.publishing import query_published
from db.sessions import sessions
from db.settings import Settings, load_settings
from flows.steps import text_views
from models.text import catalog

NIGHT = date(2018, 12, 28)
GOOD = [
    {"id": "a", "time": "2018-12-28T15:00:00Z", "text": "Best phone ever, love it!", "ticker": "X"},
    {"id": "b", "time": "2018-12-28T16:00:00Z", "text": "Worst flight of my life, awful $UAL"},
    {"id": "c", "time": "2018-12-28T21:30:00Z", "text": "Late news for Monday", "ticker": "X"},
]
TABLES = ("document_sentiment", "sentiment_daily", "signals", "signal_revisions")


@pytest.fixture
def quick_text(monkeypatch: pytest.MonkeyPatch):
    """One signal, made of texts by a network that learns for one epoch."""
    recipe = catalog.recipe("text_sentiment_finance", profile="sample").with_changes(
        max_epochs=1, members=1, blend=None, baselines=("majority", "nb_svm"), batch_size=512
    )
    monkeypatch.setitem(catalog.SAMPLE, "text_sentiment_finance", (recipe,))
    monkeypatch.setenv("LOOKBACK_SIGNALS", '["sentiment_daily"]')
    return recipe


@pytest.fixture
def flow(prefect_server, quick_text, own_home: Path):
    from flows.sentiment import sentiment

    return sentiment


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Good, broken, repeated, empty, binary, wrongly encoded and oversized files."""
    folder = tmp_path / "drop"
    folder.mkdir()
    lines = [json.dumps(row) for row in GOOD]
    files = {
        "good.jsonl": "\n".join(lines).encode(),
        "again.jsonl": "\n".join(lines[:2]).encode(),
        "broken.jsonl": b'{"id": "d", "time": "2018-12-28T12:00:00Z", "text": "Fine"}\n{"id": \n',
        "empty.csv": b"",
        "binary.jsonl": bytes(range(256)) * 8,
        "latin.csv": "id,time,text\ne,2018-12-28,wächst\n".encode("latin-1"),
        "huge.jsonl": (lines[0] + "\n").encode() * 4000,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
        settle(folder / name)
    return folder


def settle(path: Path) -> None:
    """Let a file look as if nobody had written to it for a while."""
    os.utime(path, (time.time() - 60,) * 2)


def tables(settings: Settings) -> list[list[tuple]]:
    return [
        query_published(settings, f"SELECT * EXCLUDE (run_id) FROM {name} ORDER BY ALL")[1]
        if name != "sentiment_daily"
        else query_published(settings, f"FROM {name} ORDER BY ALL")[1]
        for name in TABLES
    ]


def test_good_texts_are_scored_the_rest_has_its_reason_and_again_adds_nothing(
    flow, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKBACK_INBOX_MAX_MEGABYTES", "0.2")
    done = flow(inbox=str(inbox))
    settings = load_settings()
    assert (done.exit_code, done.missing) == (0, ())
    files = {each.name: each for each in done.files}
    assert {name: each.place.split("/")[0] for name, each in files.items()} == {
        "good.jsonl": "archive",
        "again.jsonl": "archive",
        "broken.jsonl": "archive",
        "empty.csv": "quarantine",
        "binary.jsonl": "quarantine",
        "latin.csv": "quarantine",
        "huge.jsonl": "quarantine",
    }
    assert not list(inbox.glob("*.*"))
    assert len([path for path in inbox.rglob("*") if path.is_file()]) == 7
    counts = {
        name: (each.appended, each.unchanged, each.quarantined) for name, each in files.items()
    }
    repeated = {counts["good.jsonl"], counts["again.jsonl"]}
    assert repeated in ({(3, 0, 0), (0, 2, 0)}, {(1, 2, 0), (2, 0, 0)})
    assert counts["broken.jsonl"] == (1, 0, 1)
    assert all(
        each.rows == each.appended + each.unchanged + each.quarantined for each in done.files
    )
    (delivery,) = (each for each in done.deliveries if each.source == "inbox")
    assert delivery.fetched == delivery.appended + delivery.unchanged + delivery.quarantined == 11
    assert sum(row["rows"] for row in done.rejected) == delivery.quarantined == 5
    assert all(row["reason"] for row in done.rejected)

    _, scored = query_published(
        settings,
        """
        SELECT document_id, entities, session, round(positive + neutral + negative, 6)
        FROM document_sentiment WHERE source = 'inbox' ORDER BY document_id
        """,
    )
    monday = date(2018, 12, 31)
    assert scored == [
        ("a", ["X"], NIGHT, 1.0),
        ("b", ["UAL"], NIGHT, 1.0),
        ("c", ["X"], monday, 1.0),
        ("d", [], NIGHT, 1.0),
    ]
    _, signal = query_published(
        settings, "SELECT entity, as_of, tradable_from FROM signals WHERE entity = 'X'"
    )
    assert signal == [("X", NIGHT, monday)]
    _, days = query_published(
        settings, "SELECT session, documents FROM sentiment_daily WHERE entity = 'X' ORDER BY 1"
    )
    assert days == [(NIGHT, 1), (monday, 1)]

    before = tables(settings)
    for path in [
        *inbox.rglob("good.jsonl"),
        *inbox.rglob("latin.csv"),
        *inbox.rglob("again.jsonl"),
    ]:
        target = inbox / path.name
        target.write_bytes(path.read_bytes())
        settle(target)
    again = flow(inbox=str(inbox))
    assert (again.exit_code, again.texts.documents, again.texts.days) == (0, 0, 0)
    (delivery,) = (each for each in again.deliveries if each.source == "inbox")
    assert (delivery.appended, delivery.unchanged, delivery.quarantined) == (0, 5, 1)
    assert tables(settings) == before

    # the night goes on from there
    from flows.nightly import nightly

    night = nightly(session=NIGHT)
    assert (night.exit_code, night.missing) == (0, ())
    assert {row["signal"] for row in night.signals} == {"sentiment_daily"}
    assert tables(settings) == before


def test_texts_without_labelled_texts_are_kept_and_named(
    prefect_server, own_home: Path, drops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKBACK_PROFILE", "files")
    monkeypatch.setenv("LOOKBACK_FILES_DIR", str(drops))
    monkeypatch.setenv("LOOKBACK_SIGNALS", '["sentiment_daily"]')
    (drops / "documents" / "news.jsonl").write_text(json.dumps(GOOD[0]))
    settle(drops / "documents" / "news.jsonl")
    from flows.sentiment import sentiment

    done = sentiment()
    assert done.exit_code == 3
    assert any("has no labelled texts: put" in line for line in done.missing)
    assert query_published(load_settings(), "SELECT count(*) FROM raw.documents")[1] == [(1,)]


@pytest.mark.parametrize(
    ("at", "due"),
    [
        ("2018-12-28 11:05", True),  # a session
        ("2018-12-28 03:05", True),
        ("2018-12-29 11:05", False),  # Saturday
        ("2018-12-29 12:05", True),
        ("2018-12-25 13:05", False),  # Christmas
        ("2018-12-25 16:05", True),
    ],
)
def test_texts_are_looked_for_every_hour_of_a_session_and_every_fourth_otherwise(at, due) -> None:
    from flows.sentiment import is_due

    now = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo("America/New_York"))
    assert is_due(sessions("XNYS"), now) is due


def test_an_inbox_that_holds_the_home_is_refused(own_home: Path) -> None:
    from flows.sentiment import sentiment

    with pytest.raises(UsageError, match="is, or holds, LOOKBACK_HOME"):
        sentiment.fn(inbox=str(own_home.parent))


def test_the_moment_is_now_and_belongs_to_the_session_that_closed_last(own_home: Path) -> None:
    from db.clock import moment

    calendar = sessions("XNYS")
    live = moment(load_settings(profile="live"), calendar)
    now = datetime.now(UTC)
    assert abs((now - live.cutoff).total_seconds()) < 60
    assert calendar.close(live.session) <= now < calendar.close(calendar.next(live.session))
    replayed = moment(load_settings(), calendar)
    assert (replayed.session, replayed.replayed) == (NIGHT, True)


def test_the_views_of_texts_are_those_that_read_scores() -> None:
    assert set(text_views()) == {"sentiment_daily"}
