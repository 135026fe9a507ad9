"""Feeds: recorded RSS and Atom served on loopback; what is none is named without its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request as Asked
from werkzeug import Response

from db import ingest, staging
from db.clock import Night
from db.errors import SourceError, UsageError
from db.ingest import Delivery
from db.instants import read_instants
from db.sessions import Sessions
from db.settings import Settings, load_settings
from db.sources import feeds as module
from db.sources.catalog import document_sources
from db.sources.feeds import Feed, feed_name
from db.sources.http import RequestFailed
from db.sources.source import Fetched, Request
from db.warehouse import Warehouse

WHOLE = Request(None, datetime(2018, 12, 29, tzinfo=UTC))
TOKEN = "s3cret"

Fetch = Callable[..., Fetched]


@pytest.fixture
def feed(httpserver: HTTPServer, live_settings: Callable[..., Settings]) -> Feed:
    address = httpserver.url_for(f"/feed?token={TOKEN}")
    return Feed.of(address, live_settings())


@pytest.fixture
def serve(httpserver: HTTPServer) -> Callable[..., None]:
    def answer(content: bytes, kind: str = "application/rss+xml", **headers: str) -> None:
        httpserver.clear()
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        httpserver.expect_request("/feed").respond_with_data(
            content, content_type=kind, headers=found
        )

    return answer


def rows(found: Fetched) -> list[dict[str, Any]]:
    kept = found.frame[["document_id", "published_at", "text", "language", "timed"]]
    return [
        {name: value for name, value in row.items() if not pd.isna(value)}
        for row in kept.to_dict("records")
    ]


def test_rss(feed: Feed, serve, recorded) -> None:
    serve(recorded("news.rss"))
    found = feed.fetch(WHOLE)
    assert rows(found) == [
        {
            "document_id": "news-1",
            "published_at": "Fri, 28 Dec 2018 10:00:00 -0500",
            "text": "Apple (NASDAQ:AAPL) raises its dividend & buys back shares\n"
            "The dividend rises by a tenth.",
            "language": "en-us",
            "timed": True,
        },
        {
            "document_id": "https://example.com/2",
            "published_at": "Fri, 28 Dec 2018 15:30:00 GMT",
            "text": "Yields below 3 < 4 percent",
            "language": "en-us",
            "timed": True,
        },
        {"document_id": "news-3", "text": "No time at all", "language": "en-us", "timed": False},
        {
            "document_id": "news-4",
            "published_at": "soon",
            "text": "A time that cannot be read",
            "language": "en-us",
            "timed": True,
        },
        {
            "document_id": "news-5",
            "published_at": "Fri, 28 Dec 2018 15:30:00 GMT",
            "language": "en-us",
            "timed": True,
        },
    ]
    assert found.problems == ()


def test_atom(feed: Feed, serve, recorded) -> None:
    serve(recorded("news.atom"), "application/atom+xml")
    assert rows(feed.fetch(WHOLE)) == [
        {
            "document_id": "urn:example:1",
            "published_at": "2018-12-28T17:00:00+01:00",
            "text": "Gewinn steigt um 5 %\nÜber den Erwartungen",
            "language": "de",
            "timed": True,
        },
        {
            "document_id": "urn:example:2",
            "published_at": "2018-12-28T18:30:02Z",
            "text": "Nur geändert",
            "language": "de",
            "timed": False,
        },
    ]


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("Thu, 27 Dec 2018 15:30:00 EST", "2018-12-27T20:30:00"),
        ("27 Dec 2018 3:30 PM EST", "2018-12-27T20:30:00"),
        ("2018-12-27T15:30:00-0330", "2018-12-27T19:00:00"),
        ("2018-12-27", "2018-12-28T05:00:00"),  # not from before that day on
        ("Thu, 27 Dec 2018 15:30:00 HST", None),
        ("27 Dec 18 15:30:00 GMT", None),
    ],
)
def test_times_are_read_as_those_of_files(
    feed: Feed, serve, written: str, known: str | None
) -> None:
    item = f"<item><title>Up</title><pubDate>{written}</pubDate></item>"
    serve(f'<rss version="2.0"><channel>{item}</channel></rss>'.encode())
    found = read_instants(feed.fetch(WHOLE).frame["published_at"])
    assert found.known.tolist() == [pd.NaT if known is None else pd.Timestamp(known, tz="UTC")]


@pytest.mark.parametrize(
    ("times", "published"),
    [
        (["2018-12-27T00:00:00Z", "2018-12-28T00:00:00Z"], ["2018-12-27", "2018-12-28"]),
        (["2018-12-27T00:00:00Z", "2018-12-28T09:00:00Z"], None),
    ],
)
def test_a_feed_of_midnights_gives_dates(feed: Feed, serve, times, published) -> None:
    """Else its entries would be known before their day has begun."""
    entries = "".join(
        f"<item><guid>{at}</guid><title>news</title><pubDate>{time}</pubDate></item>"
        for at, time in enumerate(times)
    )
    serve(f'<rss version="2.0"><channel>{entries}</channel></rss>'.encode())
    given = [row["published_at"] for row in rows(feed.fetch(WHOLE))]
    assert given == (published or times)


def test_a_feed_that_has_not_changed_is_not_sent_again(
    feed: Feed, httpserver: HTTPServer, recorded
) -> None:
    def answer(asked: Asked) -> Response:
        if asked.headers.get("If-None-Match") == '"v1"':
            return Response(status=304)
        return Response(recorded("news.rss"), headers={"ETag": '"v1"'})

    httpserver.expect_request("/feed").respond_with_handler(answer)
    first = feed.fetch(WHOLE)
    assert (len(first.frame), first.state) == (5, {"ETag": '"v1"'})
    again = feed.fetch(replace(WHOLE, state=first.state))
    assert (len(again.frame), again.state) == (0, first.state)


def test_a_broken_feed_gives_what_can_be_read_and_is_named(feed: Feed, serve, recorded) -> None:
    whole = recorded("news.rss")
    serve(whole[: whole.index(b"<title>No time")], ETag='"v1"')
    found = feed.fetch(WHOLE)
    assert found.frame["document_id"].tolist()[:2] == ["news-1", "https://example.com/2"]
    assert "is no well-formed XML" in found.problems[0]
    assert found.state == {}  # asked in full the next time
    assert TOKEN not in found.problems[0]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"<html><body>Sign in</body></html>", "text/html", r"no RSS or Atom feed \(text/html\)"),
        (b"", "text/plain", "no RSS or Atom feed"),
        (b'{"a": 1}', "application/json", "no RSS or Atom feed"),
    ],
)
def test_what_is_no_feed_is_named(
    feed: Feed, serve, content: bytes, kind: str, message: str
) -> None:
    serve(content, kind)
    with pytest.raises(SourceError, match=message) as caught:
        feed.fetch(WHOLE)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_feed_that_is_too_large_is_not_read_to_its_end(
    feed: Feed, serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 100_000)
    serve(b"<rss>" + b" " * 1_000_000)
    with pytest.raises(SourceError, match=r"answered with more than 0\.1 MB"):
        feed.fetch(WHOLE)


def test_a_server_that_is_down_or_refuses(
    feed: Feed, httpserver: HTTPServer, live_settings: Callable[..., Settings]
) -> None:
    httpserver.expect_request("/feed").respond_with_data("", status=503)
    with pytest.raises(RequestFailed, match=r"HTTP 503 \(3 attempts"):
        feed.fetch(WHOLE)
    assert len(httpserver.log) == 3
    httpserver.clear()
    httpserver.expect_request("/feed").respond_with_data("", status=404)
    with pytest.raises(RequestFailed, match="refused the request with HTTP 404") as caught:
        feed.fetch(WHOLE)
    assert TOKEN not in str(caught.value)
    nobody = Feed.of(f"http://127.0.0.1:9/?token={TOKEN}", live_settings(request_attempts=1))
    with pytest.raises(RequestFailed, match="could not be reached") as caught:
        nobody.fetch(WHOLE)
    assert TOKEN not in str(caught.value)


# ------------------------------------------------------------------------ the catalogue


def test_feeds_of_the_settings(tmp_path: Path) -> None:
    addresses = [f"https://user:{TOKEN}@a.com/x", "https://a.com/y", "https://a.com/y"]
    found = document_sources(load_settings(profile="live", home=tmp_path, feeds=addresses))
    names = [source.name for source in found]
    assert names == ["inbox", feed_name(addresses[0]), feed_name(addresses[1])]
    assert all(name.startswith("feed.a.com.") for name in names[1:])
    assert TOKEN not in "".join(names)
    sample = document_sources(load_settings(home=tmp_path, feeds=addresses))
    assert [source.name for source in sample] == ["inbox", "sample.texts"]  # needs no network


@pytest.mark.parametrize("address", ["file:///etc/passwd", "a.com/x", "https:///x", "http://[x"])
def test_an_address_that_is_none_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(UsageError, match="see LOOKBACK_FEEDS") as caught:
        feed_name(address)
    assert address not in str(caught.value)


# ---------------------------------------------------------------------------- taken over


@pytest.mark.usefixtures("by_predicates")
def test_entries_are_taken_over_once_and_dated_by_what_was_seen_first(
    feed: Feed,
    serve,
    recorded,
    warehouse: Warehouse,
    sample_night: Night,
    calendar: Sessions,
    tmp_path: Path,
) -> None:
    def night(hours: float = 0) -> Delivery:
        now = replace(sample_night, now=sample_night.now + timedelta(hours=hours))
        request = staging.request_for(warehouse, feed, now, calendar)
        staged = replace(staging.stage(feed, request, tmp_path), fetched_at=now.now)
        return ingest.take_over(warehouse, staged, now, calendar, "run")[0]

    serve(recorded("news.rss"))
    first = night()
    assert (first.fetched, first.appended, first.quarantined) == (5, 2, 3)
    assert warehouse.sql("SELECT rule, entity FROM raw.quarantine ORDER BY ALL") == [
        ("text_given", "news-5"), ("time_readable", "news-3"), ("time_readable", "news-4"),
    ]  # fmt: skip
    assert warehouse.sql("SELECT entity, found_by FROM raw.mentions") == [("AAPL", "cashtag")]
    again = night(1)
    assert (again.fetched, again.unchanged, again.quarantined) == (5, 2, 3)

    atom = recorded("news.atom")
    serve(atom, "application/atom+xml")
    assert night(2).appended == 2
    serve(atom.replace(b"18:30:02Z", b"19:30:02Z"), "application/atom+xml")  # touched, not changed
    assert night(3).unchanged == 2
    serve(atom.replace("geändert".encode(), b"neu"), "application/atom+xml")
    assert night(4).appended == 1
    assert warehouse.sql(
        "SELECT text, known_at FROM raw.documents WHERE document_id = 'urn:example:2' ORDER BY 2"
    ) == [
        ("Nur geändert", datetime(2018, 12, 28, 18, 30, 2, tzinfo=UTC)),
        ("Nur neu", sample_night.now + timedelta(hours=4)),
    ]
