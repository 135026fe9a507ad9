"""Scores of texts, days of symbols, and the signal that is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from db.clock import Night
from db.errors import LookAheadError, LookbackError
from db.tables import bars, documents, mentions, model_versions
from features.catalog import feature_view
from features.materialize import materialize
from signals import scoring, sentiment
from signals.backfill import plan, score_stretch
from signals.declaration import SIGNALS
from signals.outcomes import join_outcomes
from signals.performance import measure
from signals.scoring import Imprint

SIGNAL = SIGNALS["sentiment_daily"]
FRIDAY = date(2018, 12, 28)


class FakeVersion:
    """Says what each text asks for: `up 0.7 …` is positive to 0.7, the rest neutral."""

    classes = ("negative", "neutral", "positive")

    def __init__(self) -> None:
        self.seen: list[str] = []

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        said = np.array([float(text.split()[1]) for text in texts])
        up, down = np.maximum(said, 0), np.maximum(-said, 0)
        return np.stack([down, 1 - up - down, up], axis=1).astype("float32")


class Paper:
    """What the tests do: texts come in, a run scores them, a night makes the signal."""

    def __init__(self, warehouse, calendar) -> None:
        self.warehouse, self.calendar = warehouse, calendar
        self.number = 0

    def write(
        self,
        said: float,
        at: str,
        *symbols: str,
        text: str = "",
        known_at: str = "",
        name: str = "",
    ) -> str:
        """A text published at a time (UTC) about symbols, or another text of a document; its id."""
        self.number += 1
        name = name or f"d{self.number}"
        instant = pd.Timestamp(at, tz="UTC")
        fetched = {
            "source": "inbox",
            "document_id": name,
            "known_at": pd.Timestamp(known_at, tz="UTC") if known_at else instant,
            "ingested_at": pd.Timestamp("2030-01-01", tz="UTC"),
            "run_id": "run",
        }
        # words of its own, so that no text repeats another one
        words = text or " ".join(f"w{self.number}x{part}" for part in range(8))
        self.warehouse.append(
            documents,
            pd.DataFrame([{**fetched, "published_at": instant, "text": f"up {said} {words}"}]),
        )
        for symbol in symbols:
            self.mention(name, symbol, fetched["known_at"])
        return name

    def mention(self, name: str, symbol: str, known_at=None, found_by: str = "given") -> None:
        row = {
            "source": "inbox",
            "document_id": name,
            "entity": symbol,
            "found_by": found_by,
            "known_at": known_at or pd.Timestamp("2018-12-28", tz="UTC"),
            "ingested_at": pd.Timestamp("2030-01-01", tz="UTC"),
            "run_id": "run",
        }
        self.warehouse.append(mentions, pd.DataFrame([row]))

    def night(self, session: date = FRIDAY) -> Night:
        cutoff = self.calendar.close(session) + timedelta(hours=6)
        return Night(session, cutoff, cutoff, replayed=True)

    def score(self, night: Night | None = None, run_id: str = "run"):
        done = sentiment.score_documents(
            self.warehouse, SIGNAL.model, night or self.night(), self.calendar, run_id
        )
        materialize(self.warehouse, feature_view("sentiment_daily"))
        return done

    def daily(self, session: date = FRIDAY, run_id: str = "run"):
        night = self.night(session)
        return sentiment.score_daily(self.warehouse, SIGNAL, night, self.calendar, run_id)

    def days(self) -> list[tuple]:
        return self.warehouse.sql(
            """
            SELECT entity, session, documents, round(sentiment, 6), known_at
            FROM raw.sentiment
            QUALIFY row_number() OVER (
                PARTITION BY entity, session ORDER BY known_at DESC, rowid DESC
            ) = 1
            ORDER BY ALL
            """
        )

    def table(self, name: str) -> list[tuple]:
        return self.warehouse.sql(f"SELECT * FROM {name} ORDER BY ALL")

    def champion(self, **changes) -> None:
        self.warehouse.insert(
            model_versions,
            {
                "model": SIGNAL.model,
                "model_version": "v1",
                "status": "trained",
                "stage": "champion",
                "recipe": {},
                "feature_view": "documents",
                "feature_version": "words",
                "data_snapshot": "snapshot of texts",
                "cutoff": datetime(2013, 7, 23, tzinfo=UTC),
                "labels_known_at": datetime(2013, 7, 23, tzinfo=UTC),
                "seed": 42,
                "backend": "jax",
                "spans": {},
                "metrics": {},
                "baselines": {},
                "artefact": "text/v1",
                "artefact_sha256": "0" * 64,
                "reason": "test",
                "trained_at": datetime(2018, 7, 1, tzinfo=UTC),
                "seconds": 1.0,
                "run_id": "run of the training",
            }
            | changes,
        )


@pytest.fixture
def fake(monkeypatch) -> FakeVersion:
    version = FakeVersion()
    monkeypatch.setattr(sentiment, "load_text", lambda settings, row: version)
    monkeypatch.setattr(scoring, "require_usable", lambda settings, row: None)
    return version


@pytest.fixture
def paper(warehouse, calendar, fake) -> Paper:
    desk = Paper(warehouse, calendar)
    desk.champion()
    return desk


# ------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("known_at", "session"),
    [
        ("2018-12-27 21:00:00", "2018-12-27"),  # at the close
        ("2018-12-27 21:00:01", "2018-12-28"),
        ("2018-12-28 20:59:59", "2018-12-28"),
        ("2018-12-28 21:00:01", "2018-12-31"),  # after Friday's close: Monday
        ("2018-12-30 12:00:00", "2018-12-31"),
        ("2018-12-24 17:59:59", "2018-12-24"),  # closes at one on Christmas Eve
        ("2018-12-24 18:00:01", "2018-12-26"),
        ("2018-07-06 20:00:00", "2018-07-06"),  # summer time
        ("2018-07-06 20:00:01", "2018-07-09"),
    ],
)
def test_a_text_counts_to_the_exchange_day_that_closes_next(calendar, known_at, session):
    found = sentiment.sessions_of(calendar, pd.Series([pd.Timestamp(known_at, tz="UTC")]))
    assert found.tolist() == [pd.Timestamp(session)]


def test_each_text_is_scored_once_and_the_day_is_their_mean(paper, fake):
    paper.write(0.6, "2018-12-28 15:00", "AAPL")
    paper.write(-0.2, "2018-12-28 16:00", "AAPL", "MSFT")
    paper.write(0.9, "2018-12-28 17:00")
    done = paper.score()
    assert (done.model_version, done.documents, done.days) == ("v1", 3, 2)
    assert paper.days() == [
        ("AAPL", FRIDAY, 2, 0.2, datetime(2018, 12, 28, 16, tzinfo=UTC)),
        ("MSFT", FRIDAY, 1, -0.2, datetime(2018, 12, 28, 16, tzinfo=UTC)),
    ]
    rows = paper.warehouse.sql(
        "SELECT document_id, entities, round(sentiment, 6), round(positive, 6), "
        "round(negative, 6), round(neutral, 6), novelty, duplicate_of, model_version "
        "FROM main.document_sentiment ORDER BY 1"
    )
    assert rows[0] == ("d1", ["AAPL"], 0.6, 0.6, 0.0, 0.4, 1.0, None, "v1")
    assert rows[1][:5] == ("d2", ["AAPL", "MSFT"], -0.2, 0.0, 0.2)
    assert rows[2][1] == []

    before = paper.table("main.document_sentiment"), paper.table("raw.sentiment")
    again = paper.score(run_id="another")
    assert (again.documents, again.days, len(fake.seen)) == (0, 0, 3)
    assert (paper.table("main.document_sentiment"), paper.table("raw.sentiment")) == before


def test_parts_and_a_kill_between_them_give_the_same_rows(paper, fake, monkeypatch):
    for number in range(11):
        at = f"2018-12-2{6 + number % 3} 1{number % 6}:0{number % 10}"
        paper.write(number / 20, at, "AAPL", text="the same words again" if number % 4 else "")
    monkeypatch.setattr(sentiment, "TEXTS_AT_ONCE", 3)
    append, calls = sentiment._append, []

    def killed(warehouse, rows):
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        append(warehouse, rows)

    monkeypatch.setattr(sentiment, "_append", killed)
    with pytest.raises(KeyboardInterrupt):
        paper.score()
    assert len(paper.table("main.document_sentiment")) == 6
    monkeypatch.setattr(sentiment, "_append", append)
    assert paper.score().documents == 5
    in_parts = paper.table("main.document_sentiment"), paper.days()

    for table in ("main.document_sentiment", "raw.sentiment", "ops.progress"):
        paper.warehouse.native.execute(f"DELETE FROM {table}")
    monkeypatch.setattr(sentiment, "TEXTS_AT_ONCE", 100)
    paper.score()
    assert (paper.table("main.document_sentiment"), paper.days()) == in_parts


def test_a_text_after_the_cut_off_waits_and_one_before_the_labels_is_left_alone(paper):
    paper.write(0.5, "2018-12-29 04:00", "AAPL")  # an hour after the cut-off
    paper.write(0.5, "2013-07-22 12:00", "AAPL")
    paper.write(0.5, "2018-12-28 12:00", "AAPL")
    done = paper.score()
    assert (done.documents, done.too_old) == (1, 1)
    done = paper.score(paper.night(date(2018, 12, 31)))
    assert (done.documents, done.too_old) == (1, 1)


def test_a_late_text_counts_from_its_own_time(paper):
    paper.write(0.5, "2018-12-27 15:00", "AAPL")
    paper.write(0.5, "2018-12-28 15:00", "AAPL")
    paper.score()
    paper.write(-0.5, "2018-12-27 14:00", "AAPL")
    assert paper.score().days == 1
    assert [(row[1], row[2], row[3]) for row in paper.days()] == [
        (date(2018, 12, 27), 2, 0.0),
        (FRIDAY, 1, 0.5),
    ]


def test_a_symbol_found_later_joins_the_day(paper):
    name = paper.write(0.5, "2018-12-28 15:00", "AAPL")
    paper.score()
    paper.mention(name, "MSFT")
    assert paper.score().days == 1
    assert [row[0] for row in paper.days()] == ["AAPL", "MSFT"]
    (row,) = paper.warehouse.sql("SELECT entities FROM main.document_sentiment")
    assert row == (["AAPL", "MSFT"],)
    assert paper.score().days == 0


def test_a_symbol_that_is_given_later_is_known_from_then_on(paper):
    """The day of a text is as it was for whoever reads it as of an instant before."""
    paper.write(0.5, "2018-12-27 15:00", "AAPL")
    tagged = paper.write(-0.5, "2018-12-27 16:00", "MSFT")
    paper.score()
    later = pd.Timestamp("2018-12-28 18:00", tz="UTC")
    paper.mention(tagged, "AAPL", later)
    assert paper.score(paper.night(date(2018, 12, 27))).days == 0  # known after its cut-off
    assert paper.score().days == 1
    assert paper.score().days == 0

    def as_of(instant: str) -> list[tuple]:
        return paper.warehouse.sql(
            "SELECT entity, documents, sentiment, known_at "
            f"FROM features.sentiment_daily_as_of('{instant}') ORDER BY entity"
        )

    three, four = (pd.Timestamp(f"2018-12-27 {hour}:00", tz="UTC") for hour in (15, 16))
    assert as_of("2018-12-28 17:59:59+00") == [
        ("AAPL", 1.0, 0.5, three),
        ("MSFT", 1.0, -0.5, four),
    ]
    assert as_of("2018-12-28 18:00:00+00") == [
        ("AAPL", 2.0, 0.0, later),
        ("MSFT", 1.0, -0.5, four),
    ]


def test_a_text_scored_late_is_about_what_was_known_at_the_cut_off(paper):
    """A night that is run again does not know the symbol, the night after does."""
    name = paper.write(0.5, "2018-12-27 15:00")
    paper.mention(name, "AAPL", pd.Timestamp("2018-12-28 18:00", tz="UTC"))
    assert paper.score(paper.night(date(2018, 12, 27))).days == 0
    assert paper.days() == []
    assert paper.score().days == 1
    assert [row[0] for row in paper.days()] == ["AAPL"]


@pytest.mark.parametrize("scored_between", [True, False])
def test_a_corrected_text_stands_for_the_first_one_of_its_day(paper, scored_between):
    """It is as new as that, though it repeats it; on a later day it is news of its own."""
    words = "profit warning sends the shares of the maker down sharply in early trading today"
    first = "2018-12-27 15:00"
    name = paper.write(-1.0, first, "AAPL", text=words)
    paper.write(0.5, "2018-12-27 16:00", "AAPL")
    if scored_between:
        paper.score()
    paper.write(-0.8, first, text=f"corrected {words}", known_at="2018-12-27 17:00", name=name)
    paper.write(-0.2, first, text=f"again {words}", known_at="2018-12-28 15:00", name=name)
    paper.score()
    days = {row[1]: row for row in paper.days()}
    assert days[date(2018, 12, 27)][2:4] == (2, pytest.approx(-0.15))
    assert days[FRIDAY][2:4] == (1, pytest.approx(-0.2))
    new = dict(
        paper.warehouse.sql(
            "SELECT session, last(novelty ORDER BY known_at, rowid) FROM raw.sentiment GROUP BY ALL"
        )
    )
    assert new[date(2018, 12, 27)] == pytest.approx(2.0, abs=0.1)
    assert new[FRIDAY] < 0.4


@pytest.mark.parametrize("scored_between", [True, False])
def test_a_symbol_that_a_correction_names_is_not_one_of_the_first_text(paper, scored_between):
    name = paper.write(0.5, "2018-12-27 15:00", "AAPL")
    if scored_between:
        paper.score()
    paper.write(0.1, "2018-12-27 15:00", known_at="2018-12-28 16:00", name=name)
    paper.mention(name, "MSFT", pd.Timestamp("2018-12-28 16:00", tz="UTC"), found_by="cashtag")
    paper.score()
    assert [(row[0], row[1], row[2]) for row in paper.days()] == [
        ("AAPL", date(2018, 12, 27), 1),
        ("AAPL", FRIDAY, 1),
        ("MSFT", FRIDAY, 1),
    ]
    texts = "SELECT entities FROM main.document_sentiment ORDER BY known_at"
    assert paper.warehouse.sql(texts) == [(["AAPL"],), (["AAPL", "MSFT"],)]


def test_a_symbol_that_is_given_later_is_added_once(paper):
    """To the versions of the document that do not have it."""
    name = paper.write(0.5, "2018-12-27 15:00", "AAPL")
    paper.write(0.1, "2018-12-27 15:00", known_at="2018-12-28 16:00", name=name)
    paper.mention(name, "MSFT", pd.Timestamp("2018-12-28 16:00", tz="UTC"), found_by="name")
    paper.score()
    paper.mention(name, "GOOG", pd.Timestamp("2018-12-28 17:00", tz="UTC"))
    paper.score()
    texts = "SELECT entities FROM main.document_sentiment ORDER BY known_at"
    assert paper.warehouse.sql(texts) == [(["AAPL", "GOOG"],), (["AAPL", "GOOG", "MSFT"],)]


def test_what_is_said_again_counts_less(paper):
    words = "profit warning sends the shares of the maker down sharply in early trading today"
    paper.write(-1.0, "2018-12-28 14:00", "AAPL", text=words)
    paper.write(-1.0, "2018-12-28 14:05", "AAPL", text=words)
    paper.write(-1.0, "2018-12-28 14:06", "AAPL", text=words)
    paper.write(0.5, "2018-12-28 15:00", "AAPL")
    assert paper.score().repeated == 2
    (row,) = paper.warehouse.sql(
        "SELECT sentiment, novelty, novel_sentiment FROM raw.sentiment "
        "ORDER BY documents DESC LIMIT 1"
    )
    assert row[0] == pytest.approx(-2.5 / 4)
    assert row[1] == pytest.approx(2.0, abs=0.3)
    assert row[2] == pytest.approx(-0.25, abs=0.15)


def test_texts_without_a_model_are_named(warehouse, calendar, fake):
    desk = Paper(warehouse, calendar)
    assert desk.score().documents == 0
    desk.write(0.5, "2018-12-28 15:00", "AAPL")
    with pytest.raises(LookbackError, match="no champion; run: lookback train"):
        desk.score()


def test_a_score_that_is_no_number_is_refused(paper, fake, monkeypatch):
    paper.write(0.5, "2018-12-28 15:00", "AAPL")
    monkeypatch.setattr(
        fake, "probabilities", lambda texts: np.full((len(texts), 3), np.nan, "float32")
    )
    with pytest.raises(LookbackError, match="not finite"):
        paper.score()
    assert paper.table("main.document_sentiment") == []


# ------------------------------------------------------------------------- the signal


def test_the_signal_has_a_row_for_each_symbol_with_a_text_that_day(paper):
    paper.write(0.5, "2018-12-28 15:00", "AAPL")
    paper.write(-0.5, "2018-12-28 16:00", "MSFT")
    paper.write(0.1, "2018-12-27 16:00", "XOM")
    paper.score()
    scored = paper.daily()
    assert (scored.rows, scored.new, scored.revised) == (2, 2, 0)
    rows = paper.warehouse.sql(
        "SELECT entity, as_of, horizon, horizon_unit, round(value, 6), rank, tradable_from, "
        "known_at, model_version, feature_view FROM main.signals ORDER BY entity"
    )
    assert rows[0] == (
        "AAPL",
        FRIDAY,
        1,
        "session",
        0.5,
        1.0,
        date(2018, 12, 31),
        datetime(2018, 12, 28, 15, tzinfo=UTC),
        "v1",
        "sentiment_daily",
    )
    assert (rows[1][4], rows[1][5]) == (-0.5, 0.5)
    assert paper.daily(run_id="again").new == 0
    assert len(paper.table("main.signal_revisions")) == 2

    paper.write(-0.1, "2018-12-28 20:00", "AAPL")
    paper.score()
    scored = paper.daily(run_id="third")
    assert (scored.rows, scored.new, scored.revised) == (2, 0, 1)


def test_a_day_without_a_text_is_no_defect(paper):
    paper.write(0.5, "2018-12-27 15:00", "AAPL")
    paper.score()
    assert paper.daily().rows == 0


def test_a_version_that_knew_later_labels_makes_no_signal(warehouse, calendar, fake):
    desk = Paper(warehouse, calendar)
    desk.champion(labels_known_at=datetime(2022, 9, 1, tzinfo=UTC))
    desk.write(0.5, "2018-12-28 15:00", "AAPL")
    assert desk.score().too_old == 1
    with pytest.raises(LookAheadError):
        desk.daily()


def closes(warehouse, calendar, until: date = date(2019, 1, 4)) -> None:
    """Bars of three symbols: they gain 1 %, lose 1 %, stand still, each session."""
    days = [calendar.offset(until, -back) for back in range(70, 0, -1)] + [until]
    rows = [
        {
            "source": "test.bars",
            "entity": entity,
            "session": pd.Timestamp(day),
            "close": 100.0 * growth**number,
            "adj_close": 100.0 * growth**number,
            "adjustment": "total",
            "history": 0,
            "known_at": pd.Timestamp(calendar.close(day) + timedelta(hours=1)),
            "ingested_at": pd.Timestamp("2030-01-01", tz="UTC"),
            "run_id": "run",
        }
        for entity, growth in (("AAPL", 1.01), ("MSFT", 0.99), ("XOM", 1.0))
        for number, day in enumerate(days)
    ]
    warehouse.append(bars, pd.DataFrame(rows))
    materialize(warehouse, feature_view("price_factors"))


def test_outcomes_are_the_returns_of_the_next_session(paper, warehouse, calendar):
    closes(warehouse, calendar)
    for said, symbol in ((0.5, "AAPL"), (0.3, "MSFT"), (0.1, "XOM"), (0.9, "NOBAR")):
        paper.write(said, "2018-12-28 15:00", symbol)
    paper.score()
    paper.daily()
    join_outcomes(warehouse, SIGNAL, paper.night(), calendar, "run")
    assert paper.table("main.outcomes") == []
    join_outcomes(warehouse, SIGNAL, paper.night(date(2019, 1, 3)), calendar, "run")
    rows = warehouse.sql(
        "SELECT entity, target_date, round(realised, 9), hit, round(tradable_return, 9), "
        "tradable_until, known_at FROM main.outcomes ORDER BY entity"
    )
    known = calendar.close(date(2018, 12, 31)) + timedelta(hours=1)
    monday, wednesday = date(2018, 12, 31), date(2019, 1, 2)
    assert rows == [
        ("AAPL", monday, 0.01, True, 0.01, wednesday, known),
        ("MSFT", monday, -0.01, False, -0.01, wednesday, known),
        ("XOM", monday, 0.0, None, 0.0, wednesday, known),
    ]
    measure(warehouse, SIGNAL, FRIDAY)
    (row,) = warehouse.sql(
        "SELECT scored, known, rank_ic, hit_rate FROM main.signal_performance "
        "WHERE model_version = '*' AND role = 'live'"
    )
    assert row == (4, 3, pytest.approx(0.5), 0.5)


def test_a_backfill_gives_past_nights_what_they_would_have_given(paper, warehouse, calendar):
    for day in ("2018-12-26", "2018-12-27", "2018-12-28"):
        paper.write(0.5, f"{day} 15:00", "AAPL")
        paper.write(-0.3, f"{day} 22:00", "AAPL")  # belongs to the day after
    paper.score()
    span = (date(2018, 12, 26), FRIDAY)
    (stretch,) = plan(warehouse, SIGNAL, span, calendar)
    scored, problems = score_stretch(
        warehouse,
        SIGNAL,
        stretch.version,
        None,
        stretch.nights,
        calendar,
        Imprint("backfill", "backfill"),
    )
    assert (scored.new, problems) == (3, [])
    past = warehouse.sql(
        "SELECT as_of, value, known_at, tradable_from FROM main.signals "
        "WHERE role = 'backfill' ORDER BY as_of"
    )
    for session in (date(2018, 12, 26), date(2018, 12, 27), FRIDAY):
        paper.daily(session)
    live = warehouse.sql(
        "SELECT as_of, value, known_at, tradable_from FROM main.signals "
        "WHERE role = 'live' ORDER BY as_of"
    )
    assert past == live
    again, _ = score_stretch(
        warehouse,
        SIGNAL,
        stretch.version,
        None,
        stretch.nights,
        calendar,
        Imprint("backfill", "backfill"),
    )
    assert (again.new, again.revised) == (0, 0)
