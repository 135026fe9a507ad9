"""Taking documents over: known from their own time, each once, with every symbol they are about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import ingest, staging
from db.availability import Availability
from db.clock import Night
from db.ingest import Delivery
from db.sessions import Sessions
from db.settings import Settings, load_settings
from db.sources.document_files import WITH_THE_TEXT, document_frame
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request
from db.warehouse import Warehouse, open_warehouse

GOOD = {
    "document_id": "1",
    "symbols": "AAPL",
    "published_at": "2018-12-28T15:00-05:00",
    "text": "Up",
}
AT = datetime(2018, 12, 28, 20, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("by_predicates")


@dataclass(frozen=True)
class Told:
    """A source that delivers the rows it is told."""

    rows: list[dict[str, Any]]
    name: str = "told.texts"
    kind: Kind = "documents"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_TEXT

    def fetch(self, request: Request) -> Fetched:
        names = {name for row in self.rows for name in row}
        return Fetched(
            document_frame({name: [row.get(name) for row in self.rows] for name in names})
        )


Deliver = Callable[..., Delivery]


@pytest.fixture
def deliver(
    warehouse: Warehouse, sample_night: Night, calendar: Sessions, tmp_path: Path
) -> Deliver:
    def bring(
        *rows: dict[str, Any],
        night: Night = sample_night,
        fetched_at: datetime | None = None,
        docs: Path | None = None,
        name: str = "told.texts",
    ) -> Delivery:
        # every source names its columns alike; `timed` is true where it is not said
        source = Told([{"timed": True} | row for row in rows], name)
        request = staging.request_for(warehouse, source, night, calendar)
        staged = staging.stage(source, request, tmp_path / "staging")
        staged = replace(staged, fetched_at=fetched_at or night.now)
        return ingest.take_over(warehouse, staged, night, calendar, "run", docs)[0]

    return bring


def counts(delivery: Delivery) -> tuple[int, int, int, int]:
    found = (delivery.fetched, delivery.appended, delivery.unchanged, delivery.quarantined)
    assert found[0] == sum(found[1:])
    return found


def later(night: Night, hours: float) -> Night:
    return replace(night, now=night.now + timedelta(hours=hours))


# ----------------------------------------------------------------------------- times


def test_a_document_is_known_from_its_own_time(deliver: Deliver, warehouse: Warehouse) -> None:
    delivery = deliver(GOOD | {"language": "en"}, GOOD | {"document_id": "2", "symbols": None})
    assert (delivery.status, counts(delivery)) == ("ok", (2, 2, 0, 0))
    rows = warehouse.sql(
        "SELECT document_id, published_at, known_at, text, language, source, run_id "
        "FROM raw.documents ORDER BY 1"
    )
    assert rows == [
        ("1", AT, AT, "Up", "en", "told.texts", "run"),
        ("2", AT, AT, "Up", None, "told.texts", "run"),
    ]
    assert warehouse.sql("SELECT document_id, entity, found_by, known_at FROM raw.mentions") == [
        ("1", "AAPL", "given", AT)
    ]


def test_a_date_is_known_from_its_end_and_known_at_is_never_before_the_document(
    deliver: Deliver, warehouse: Warehouse
) -> None:
    deliver(
        GOOD | {"document_id": "day", "published_at": "2018-12-27"},
        GOOD | {"document_id": "later", "known_at": "2018-12-28T20:30Z"},
        GOOD | {"document_id": "earlier", "known_at": "2018-12-27"},
    )
    known = dict(warehouse.sql("SELECT document_id, known_at FROM raw.documents"))
    assert known == {
        "day": datetime(2018, 12, 28, 5, tzinfo=UTC),
        "later": AT + timedelta(minutes=30),
        "earlier": AT,
    }


def test_a_document_from_the_future_is_held(deliver: Deliver, sample_night: Night) -> None:
    after = (sample_night.now + timedelta(seconds=1)).isoformat()
    rows = [
        GOOD | {"published_at": after},
        GOOD | {"document_id": "2", "known_at": after},
        GOOD | {"document_id": "3", "published_at": sample_night.now.isoformat()},
    ]
    assert counts(deliver(*rows)) == (3, 1, 0, 2)
    # where the clock runs, what came out while the source was read is not in the future
    running = replace(sample_night, replayed=False)
    fetched_at = sample_night.now + timedelta(minutes=1)
    assert counts(deliver(*rows, night=running, fetched_at=fetched_at)) == (3, 2, 1, 0)


# ----------------------------------------------------------------------------- vintages


def test_a_changed_text_is_known_from_when_it_was_read(
    deliver: Deliver, warehouse: Warehouse, sample_night: Night
) -> None:
    deliver(GOOD)
    night = later(sample_night, 5)
    assert counts(deliver(GOOD | {"text": "Corrected"}, night=night)) == (1, 1, 0, 0)
    vintages = warehouse.sql("SELECT text, published_at, known_at FROM raw.documents ORDER BY 3")
    assert vintages == [("Up", AT, AT), ("Corrected", AT, night.now)]
    then = "SELECT text FROM raw.documents_as_of(CAST(? AS TIMESTAMPTZ))"
    assert warehouse.sql(then, sample_night.now) == [("Up",)]
    assert warehouse.sql(then, night.now) == [("Corrected",)]
    # neither text comes again, whichever file brings it
    for row in (GOOD, GOOD | {"text": "Corrected"}):
        assert counts(deliver(row, night=later(sample_night, 9))) == (1, 0, 1, 0)


def test_a_later_release_of_the_sources_own_stands(deliver: Deliver, warehouse: Warehouse) -> None:
    second = AT + timedelta(hours=1)
    rows = [
        GOOD | {"known_at": AT.isoformat()},
        GOOD | {"text": "B", "known_at": second.isoformat()},
    ]
    assert counts(deliver(*rows)) == (2, 2, 0, 0)
    third = second + timedelta(hours=1)
    deliver(GOOD | {"text": "C", "known_at": third.isoformat()})
    assert warehouse.sql("SELECT text, known_at FROM raw.documents ORDER BY 2") == [
        ("Up", AT), ("B", second), ("C", third),
    ]  # fmt: skip


def test_two_texts_of_one_document_in_one_delivery_contradict_each_other(
    deliver: Deliver, warehouse: Warehouse
) -> None:
    deliver(GOOD)
    rows = [GOOD | {"document_id": "2"}, GOOD | {"document_id": "2", "text": "Down"}]
    assert counts(deliver(*rows)) == (2, 0, 0, 2)
    assert warehouse.sql("SELECT rule FROM raw.quarantine") == [("conflict",), ("conflict",)]
    # beside what is stored, one of them is a correction
    assert counts(deliver(GOOD, GOOD | {"text": "Down"})) == (2, 1, 1, 0)
    # and one that comes alone is good
    assert counts(deliver(rows[1])) == (1, 1, 0, 0)


# ------------------------------------------------------------------------------ identity


def test_an_id_is_made_of_time_and_text(deliver: Deliver, warehouse: Warehouse) -> None:
    same = [
        GOOD | {"document_id": None},
        GOOD | {"document_id": " ", "published_at": "Fri Dec 28 20:00:00 +0000 2018"},
        GOOD | {"document_id": None, "published_at": str(int(AT.timestamp()))},
    ]
    others = [
        GOOD | {"document_id": None, "text": "Up "},
        GOOD | {"document_id": None, "published_at": "2018-12-28T20:00:01Z"},
    ]
    assert counts(deliver(*same, *others)) == (5, 3, 2, 0)
    ids = [row[0] for row in warehouse.sql("SELECT document_id FROM raw.documents")]
    assert len(set(ids)) == 3
    assert {len(each) for each in ids} == {32}


def test_a_text_that_has_only_the_time_of_its_file_is_known_by_its_words(
    deliver: Deliver, warehouse: Warehouse
) -> None:
    row = {"text": "A note", "timed": False}
    first = row | {"published_at": "2018-12-20T10:00Z"}
    again = row | {"published_at": "2018-12-19T10:00Z"}
    assert counts(deliver(first, again)) == (2, 1, 1, 0)
    assert counts(deliver(row | {"published_at": "2018-12-21T10:00Z"})) == (1, 0, 1, 0)
    assert warehouse.sql("SELECT known_at FROM raw.documents") == [
        (datetime(2018, 12, 19, 10, tzinfo=UTC),)
    ]


def test_sources_do_not_share_documents(deliver: Deliver) -> None:
    assert counts(deliver(GOOD)) == (1, 1, 0, 0)
    assert counts(deliver(GOOD, name="told.others")) == (1, 1, 0, 0)


# ------------------------------------------------------------------------------ symbols


def test_one_document_with_several_symbols(
    deliver: Deliver, warehouse: Warehouse, sample_night: Night
) -> None:
    rows = [GOOD, GOOD | {"symbols": "MSFT AAPL"}, GOOD | {"symbols": "MSFT"}, GOOD]
    assert counts(deliver(*rows)) == (4, 2, 2, 0)
    night = later(sample_night, 3)
    assert counts(deliver(GOOD | {"symbols": "GE"}, night=night)) == (1, 1, 0, 0)
    assert warehouse.one("SELECT count(*) FROM raw.documents") == (1,)
    # a symbol that is given later was not known before
    assert warehouse.sql("SELECT entity, known_at FROM raw.mentions ORDER BY 1") == [
        ("AAPL", AT), ("GE", night.now), ("MSFT", AT),
    ]  # fmt: skip


def test_symbols_are_found_in_texts_and_given_ones_count_first(
    deliver: Deliver, warehouse: Warehouse
) -> None:
    deliver(GOOD | {"text": "Apple, $GE and Microsoft", "symbols": "GE,n/a"})
    found = warehouse.sql("SELECT entity, found_by, known_at FROM raw.mentions ORDER BY 1")
    assert found == [("AAPL", "name", AT), ("GE", "given", AT), ("MSFT", "name", AT)]
    deliver(GOOD | {"text": "Apple, $GE and Pfizer"})
    assert warehouse.sql("SELECT entity FROM raw.mentions ORDER BY 1") == [
        ("AAPL",), ("GE",), ("MSFT",), ("PFE",),
    ]  # fmt: skip


def test_names_of_ones_own(stored: Settings, tmp_path: Path, sample_night, calendar) -> None:
    path = tmp_path / "names.csv"
    path.write_text("symbol,name\nACM,Acme\n")
    with open_warehouse(load_settings(company_names=path), "test") as warehouse:
        source = Told([GOOD | {"text": "Acme buys Apple", "symbols": None, "timed": True}])
        staged = staging.stage(source, Request(None, sample_night.now), tmp_path)
        staged = replace(staged, fetched_at=sample_night.now)
        ingest.take_over(warehouse, staged, sample_night, calendar, "run")
        assert warehouse.sql("SELECT entity FROM raw.mentions") == [("ACM",)]


# --------------------------------------------------------------------------- quarantine


def test_bad_documents_lie_in_quarantine_with_reasons(
    deliver: Deliver, warehouse: Warehouse
) -> None:
    rows = [
        GOOD | {"document_id": "2", "text": " "},
        GOOD | {"document_id": "3", "published_at": "yesterday", "origin": "a.csv line 3"},
        GOOD | {"document_id": "4", "known_at": "soon"},
        GOOD | {"document_id": "5", "text": None, "published_at": None},
        GOOD | {"document_id": "6", "text": "ü" * 500_001},
        {
            "refused": "row_readable",
            "problem": "broken JSON",
            "content": '{"row": "{"}',
            "identity": "x",
            "origin": "a.jsonl line 7",
        },
    ]
    assert counts(deliver(*rows)) == (6, 0, 0, 6)
    held = warehouse.sql(
        "SELECT entity, rule, reason, length(CAST(row AS VARCHAR)) < 1500, kind, source "
        "FROM raw.quarantine ORDER BY 1"
    )
    told = (True, "documents", "told.texts")
    assert held == [
        ("2", "text_given", "text is missing or blank", *told),
        (
            "3",
            "time_readable",
            "published_at is missing or cannot be read as an instant (a.csv line 3)",
            *told,
        ),
        ("4", "known_at_readable", "known_at is given and cannot be read as an instant", *told),
        (
            "5",
            "text_given",
            "text is missing or blank; published_at is missing or cannot be read as an instant",
            *told,
        ),
        (
            "6",
            "text_length",
            "text is longer than 1000 kB (LOOKBACK_DOCUMENT_MAX_KILOBYTES)",
            *told,
        ),
        (
            "a.jsonl line 7",
            "row_readable",
            "the row cannot be read: broken JSON (a.jsonl line 7)",
            *told,
        ),
    ]
    ((row,),) = warehouse.sql("SELECT row FROM raw.quarantine WHERE entity = '3'")
    assert json.loads(row)["published_at"] == "yesterday"
    # each is kept once, wherever it comes from; they count every time
    again = [row | {"origin": "other.csv line 1"} for row in rows]
    assert counts(deliver(*again)) == (6, 0, 0, 6)
    assert warehouse.one("SELECT count(*) FROM raw.quarantine") == (6,)


def test_what_a_feed_repeats_every_hour_is_not_judged_again(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = GOOD | {"document_id": "2", "published_at": "soon"}
    deliver(GOOD, bad)
    from db.quality import gate

    monkeypatch.setattr(gate, "validate", lambda *_: pytest.fail("nothing is new"))
    assert counts(deliver(GOOD, bad)) == (2, 0, 1, 1)


def test_a_longer_limit_lets_a_held_text_in(stored: Settings, deliver: Deliver) -> None:
    row = GOOD | {"text": "x" * 1_000_001}
    assert counts(deliver(row)) == (1, 0, 0, 1)
    assert counts(deliver(row | {"text": "x" * 1_000_000})) == (1, 1, 0, 0)


# ----------------------------------------------------------------- nothing is lost

TEXTS = st.sampled_from(["Up", "Down", "", "Apple and $GE"])
TIMES = st.sampled_from(["2018-12-27", "2018-12-28T15:00Z", "soon", "2090-01-01T00:00Z"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "document_id": st.sampled_from(["1", "2", None]),
            "text": TEXTS,
            "published_at": TIMES,
            "symbols": st.sampled_from([None, "AAPL", "GE MSFT"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS)
def test_every_row_is_stored_or_held_and_twice_adds_nothing(
    deliver: Deliver, warehouse: Warehouse, rows: list[dict[str, Any]]
) -> None:
    for table in ("raw.documents", "raw.mentions", "raw.quarantine", "ops.watermarks"):
        warehouse.native.execute(f"DELETE FROM {table}")
    counts(deliver(*rows))
    documents = warehouse.frame("SELECT document_id, text, known_at FROM raw.documents")
    assert documents["document_id"].is_unique
    mentions = warehouse.frame("SELECT document_id, entity, known_at FROM raw.mentions")
    assert not mentions.duplicated(["document_id", "entity"]).any()
    assert set(mentions["document_id"]) <= set(documents["document_id"])
    held = {
        (row["document_id"], row["text"], row["published_at"])
        for row in (json.loads(row) for (row,) in warehouse.sql("SELECT row FROM raw.quarantine"))
    }
    for row in rows:
        stored = row["text"] in set(documents["text"])
        assert stored or (row["document_id"], row["text"], row["published_at"]) in held
    before = [
        warehouse.sql(f"FROM {name} ORDER BY ALL") for name in ("raw.documents", "raw.mentions")
    ]
    quarantined = warehouse.one("SELECT count(*) FROM raw.quarantine")
    assert counts(deliver(*rows))[:2] == (len(rows), 0)
    after = [
        warehouse.sql(f"FROM {name} ORDER BY ALL") for name in ("raw.documents", "raw.mentions")
    ]
    assert after == before
    assert warehouse.one("SELECT count(*) FROM raw.quarantine") == quarantined
