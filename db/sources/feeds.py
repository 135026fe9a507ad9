"""RSS and Atom feeds: one source each, read by feedparser, fetched as any vendor's answer is.

A feed that has not changed answers so (ETag, Last-Modified) and costs nothing. An entry's text
is its title and its summary without markup; its time is the published one. One that has only
the time of its last update is dated by the first one that was seen.

Addresses may hold tokens: a source is named after the host and a hash of the address, and no
message shows more of it than the host.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from db.availability import Availability
from db.errors import SourceError, UsageError
from db.instants import as_dates
from db.settings import Settings
from db.sources.document_files import MEGABYTE, WITH_THE_TEXT, document_frame
from db.sources.http import RequestFailed, RetryPolicy
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request

NOT_MODIFIED = 304
# Feeds hold some dozen entries; what is larger is none.
LARGEST = 10 * MEGABYTE

_WITHOUT_TEXT = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class _Answer:
    """What a server said, read to its end."""

    status_code: int
    headers: Mapping[str, Any]
    content: bytes


@dataclass(frozen=True)
class Feed:
    """Entries of one feed.

    Attributes
    ----------
    address : http or https; never a part of a message.
    policy : of retries and time-outs.
    """

    address: str
    name: str
    policy: RetryPolicy
    kind: Kind = "documents"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_TEXT

    @classmethod
    def of(cls, address: str, settings: Settings) -> Feed:
        """The feed of an address, with the settings' retries."""
        name = feed_name(address)
        return cls(address, name, RetryPolicy.of(name, settings))

    def fetch(self, request: Request) -> Fetched:
        """All entries that the feed holds now.

        Raises
        ------
        RequestFailed
            The server cannot be reached or refuses.
        SourceError
            The answer is no feed.
        """
        known = request.state
        answer = self._ask(known)
        if answer.status_code == NOT_MODIFIED:
            return Fetched(document_frame({}), state=known)
        parsed = _parse(answer)
        if not parsed.get("version") and not parsed.entries:
            raise SourceError(
                f"{self.name}: {self._host} answered with what is no RSS or Atom feed "
                f"({_kind_of(answer)}); correct the address in LOOKBACK_FEEDS"
            )
        state = {
            header: answer.headers[header]
            for header in ("ETag", "Last-Modified")
            if header in answer.headers
        }
        problems: tuple[str, ...] = ()
        if _is_broken(parsed):
            # asked again in full: the rest may come with the next answer
            state = {}
            problems = (
                f"{self.name}: the feed of {self._host} is no well-formed XML; "
                f"{len(parsed.entries)} entries could be read",
            )
        language = parsed.feed.get("language")
        rows = [self._row(entry, language) for entry in parsed.entries]
        columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}
        frame = document_frame(columns)
        frame["published_at"] = as_dates(frame["published_at"])
        return Fetched(frame, None, problems, state)

    @property
    def _host(self) -> str:
        return urlsplit(self.address).hostname or "its server"

    def _ask(self, known: Mapping[str, Any]) -> _Answer:
        headers = {
            "User-Agent": "lookback",
            "Accept": "application/rss+xml, application/atom+xml, */*",
        }
        if "ETag" in known:
            headers["If-None-Match"] = known["ETag"]
        if "Last-Modified" in known:
            headers["If-Modified-Since"] = known["Last-Modified"]
        answer = self.policy.send(
            lambda: self._read(headers), self.address, (requests.RequestException,)
        )
        if len(answer.content) > LARGEST:
            raise SourceError(
                f"{self.name}: {self._host} answered with more than {LARGEST / MEGABYTE:g} MB; "
                "that is no feed"
            )
        if answer.status_code >= 400:
            raise RequestFailed(
                f"{self.name}: {self._host} refused the request with HTTP {answer.status_code}; "
                "correct the address in LOOKBACK_FEEDS",
                answer.status_code,
            )
        return answer

    def _read(self, headers: Mapping[str, str]) -> _Answer:
        """One request; its answer is read until it is too large."""
        timeout = self.policy.timeout_seconds
        with requests.get(self.address, headers=headers, timeout=timeout, stream=True) as answer:
            content = b""
            for part in answer.iter_content(2**16):
                content += part
                if len(content) > LARGEST:
                    break
            return _Answer(answer.status_code, answer.headers, content)

    def _row(self, entry: Any, language: str | None) -> dict[str, Any]:
        # as they are written: feedparser takes zones that it does not know for UTC; and it gives
        # the one for the other where it is asked in its own way
        published, updated = (dict.get(entry, time) for time in ("published", "updated"))
        parts = [_plain(entry.get("title_detail")), _plain(entry.get("summary_detail"))]
        return {
            "document_id": entry.get("id") or entry.get("link"),
            "published_at": published or updated,
            "text": "\n".join(dict.fromkeys(part for part in parts if part)) or None,
            "language": entry.get("language") or language,
            "timed": bool(published),
            "origin": self.name,
        }


def feed_name(address: str) -> str:
    """Name of the source: the host, and a hash that tells its feeds apart.

    Raises
    ------
    UsageError
        The address is none of http or https.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host:
        raise UsageError(
            "setting feeds: an address does not begin with http:// or https:// and a host; "
            "see LOOKBACK_FEEDS"
        )
    return f"feed.{host}.{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def feed_sources(settings: Settings) -> list[Feed]:
    """A source for each feed of the settings.

    Raises
    ------
    UsageError
        An address is none of http or https.
    """
    return [Feed.of(address, settings) for address in dict.fromkeys(settings.feeds)]


def _parse(answer: _Answer) -> Any:
    import feedparser

    headers = {"content-type": str(answer.headers.get("Content-Type", ""))}
    return feedparser.parse(answer.content, response_headers=headers, sanitize_html=False)


def _is_broken(parsed: Any) -> bool:
    """Whether the XML is; another character encoding than declared is none of our business."""
    import feedparser

    harmless = (feedparser.exceptions.CharacterEncodingOverride, feedparser.NonXMLContentType)
    return bool(parsed.bozo) and not isinstance(parsed.get("bozo_exception"), harmless)


def _kind_of(answer: _Answer) -> str:
    return str(answer.headers.get("Content-Type") or "of no declared type").split(";")[0]


def _plain(detail: Any) -> str:
    """Text of a title or summary, without markup where it has any."""
    if detail is None:
        return ""
    text = str(detail.get("value") or "")
    if detail.get("type") != "text/plain":
        text = html.unescape(_TAG.sub(" ", _WITHOUT_TEXT.sub(" ", text)))
    return " ".join(text.split())
