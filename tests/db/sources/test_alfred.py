"""ALFRED: every version of a monthly value, known from the end of its release day."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request as Asked
from werkzeug import Response

from db.availability import AfterPeriod
from db.errors import SourceError
from db.settings import Settings
from db.sources import alfred
from db.sources.alfred import AlfredSeries
from db.sources.live import live_sources
from db.sources.source import Fetched, Request, publishes_vintages
from db.warehouse import Warehouse
from tests.db.deliveries import as_of, counts, days, deliver, night_of

MakeSettings = Callable[..., Settings]

KEY = "0123456789abcdef0123456789abcdef"
PATH = "/fred/series/observations"
LATER = datetime(2019, 6, 1, tzinfo=UTC)
OPEN = "9999-12-31"

# Period, value, first and last day on which it stood, as in FRED's documentation.
Version = tuple[str, str, str, str]
# January is revised twice; February is first missing, then given, then withdrawn.
VERSIONS: tuple[Version, ...] = (
    ("2018-01-01", "100.1", "2018-02-16", "2018-03-15"),
    ("2018-01-01", "100.4", "2018-03-16", "2018-06-14"),
    ("2018-01-01", "99.8", "2018-06-15", OPEN),
    ("2018-02-01", ".", "2018-03-01", "2018-03-15"),
    ("2018-02-01", "101", "2018-03-16", "2018-09-13"),
    ("2018-02-01", ".", "2018-09-14", OPEN),
    ("2018-03-01", "102.5", "2018-04-17", OPEN),
)


class Fred:
    """FRED's series/observations as documented: real-time periods are cut to those asked for."""

    def __init__(self, versions: Iterable[Version] = VERSIONS) -> None:
        self.versions = list(versions)
        self.most_rows = 100_000
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: Asked) -> Response:
        asked = dict(request.args)
        self.asked.append(asked)
        if asked["api_key"] != KEY:
            return refusal("Bad Request.  The value for variable api_key is not registered.")
        if asked["series_id"] != "INDPRO":
            return refusal("Bad Request.  The series does not exist.")
        rows = [
            {
                "realtime_start": max(first, asked["realtime_start"]),
                "realtime_end": min(last, asked["realtime_end"]),
                "date": period,
                "value": value,
            }
            for period, value, first, last in self.versions
            if first <= asked["realtime_end"] and last >= asked["realtime_start"]
            and period >= asked["observation_start"]
        ]  # fmt: skip
        offset = int(asked["offset"])
        limit = min(self.most_rows, int(asked["limit"]))
        return Response(json.dumps(envelope(rows, offset, limit)), mimetype="application/json")


def envelope(
    rows: list[dict[str, str]], offset: int = 0, limit: int = 100_000
) -> dict[str, object]:
    return {
        "realtime_start": "1776-07-04",
        "realtime_end": OPEN,
        "observation_start": "1990-01-01",
        "observation_end": OPEN,
        "units": "lin",
        "output_type": 1,
        "file_type": "json",
        "order_by": "observation_date",
        "sort_order": "asc",
        "count": len(rows),
        "offset": offset,
        "limit": limit,
        "observations": rows[offset : offset + limit],
    }


def refusal(message: str, status: int = 400) -> Response:
    body = json.dumps({"error_code": status, "error_message": message})
    return Response(body, status=status, mimetype="application/json")


@pytest.fixture
def fred(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Fred:
    """FRED on loopback."""
    monkeypatch.setattr(alfred, "URL", httpserver.url_for(PATH))
    server = Fred()
    httpserver.expect_request(PATH).respond_with_handler(server)
    return server


@pytest.fixture
def indpro(live_settings: MakeSettings, fred: Fred) -> AlfredSeries:
    """Industrial production."""
    del fred
    return AlfredSeries("indpro", live_settings(fred_api_key=KEY))


def rows(fetched: Fetched) -> list[tuple[str, float, str]]:
    return [
        (f"{row.period:%Y-%m}", row.value, f"{row.known_at:%Y-%m-%d %H:%M}")
        for row in fetched.frame.itertuples()
    ]


# ------------------------------------------------------------------------------ fetching


def test_every_version_is_known_from_the_end_of_its_release_day(
    fred: Fred, indpro: AlfredSeries
) -> None:
    fetched = indpro.fetch(Request(None, LATER))
    assert (indpro.name, indpro.kind, indpro.frequency) == (
        "alfred.INDPRO",
        "observations",
        "month",
    )
    assert publishes_vintages(indpro)
    assert indpro.availability == AfterPeriod(18, "month")
    frame = fetched.frame
    assert frame.columns.to_list() == ["series", "period", "value", "known_at"]
    assert frame["series"].unique().tolist() == ["INDPRO"]
    assert frame["period"].dtype == "datetime64[us]"
    assert str(frame["known_at"].dtype) == "datetime64[us, UTC]"
    # midnight in Chicago is six in the morning, UTC, in winter and five in summer
    assert rows(fetched) == [
        ("2018-01", 100.1, "2018-02-17 06:00"),
        ("2018-01", 100.4, "2018-03-17 05:00"),
        ("2018-02", 101.0, "2018-03-17 05:00"),
        ("2018-03", 102.5, "2018-04-18 05:00"),
        ("2018-01", 99.8, "2018-06-16 05:00"),
    ]
    assert fetched.problems == ()
    assert fetched.state == {
        "through": "2019-05-30", "last_period": "2018-03-01", "withdrawn": 1, "missing_marked": 0,
    }  # fmt: skip
    (asked,) = fred.asked
    assert asked == {
        "series_id": "INDPRO",
        "api_key": KEY,
        "file_type": "json",
        "realtime_start": "1776-07-04",
        "realtime_end": OPEN,
        "observation_start": "1990-01-01",
        "output_type": "1",
        "sort_order": "asc",
        "limit": "100000",
        "offset": "0",
    }


def test_nothing_that_becomes_known_after_until(indpro: AlfredSeries) -> None:
    def newest(until: datetime) -> tuple[str, float, str]:
        return rows(indpro.fetch(Request(None, until)))[-1]

    release = datetime(2018, 4, 18, 5, tzinfo=UTC)
    assert newest(release)[0] == "2018-03"
    before = indpro.fetch(Request(None, release - timedelta(seconds=1)))
    assert rows(before)[-1][0] == "2018-02"
    assert before.state["through"] == "2018-04-16"


def test_later_fetches_ask_for_what_has_been_released_since(
    fred: Fred, indpro: AlfredSeries
) -> None:
    first = indpro.fetch(Request(None, datetime(2018, 5, 1, 12, tzinfo=UTC)))
    assert first.state["through"] == "2018-04-30"
    start = date(2017, 3, 1)
    second = indpro.fetch(Request(start, datetime(2018, 7, 2, tzinfo=UTC), state=first.state))
    assert fred.asked[-1]["realtime_start"] == "2018-03-30"
    # whatever has been revised, however old
    assert fred.asked[-1]["observation_start"] == "1990-01-01"
    assert rows(second) == [
        ("2018-01", 100.4, "2018-03-31 05:00"),  # cut by the request: stands already
        ("2018-02", 101.0, "2018-03-31 05:00"),
        ("2018-03", 102.5, "2018-04-18 05:00"),
        ("2018-01", 99.8, "2018-06-16 05:00"),
    ]
    # a night of the past that is run again does not turn the clock back
    again = indpro.fetch(Request(start, datetime(2018, 5, 1, tzinfo=UTC), state=second.state))
    assert again.state["through"] == second.state["through"] == "2018-06-30"
    # and a store without rows wants all
    indpro.fetch(Request(None, LATER, state=second.state))
    assert fred.asked[-1]["realtime_start"] == "1776-07-04"


def test_pages_are_put_together(fred: Fred, indpro: AlfredSeries) -> None:
    whole = rows(indpro.fetch(Request(None, LATER)))
    for most in (1, 3, 6, 7):
        fred.asked.clear()
        fred.most_rows = most
        assert rows(indpro.fetch(Request(None, LATER))) == whole
        assert [int(asked["offset"]) for asked in fred.asked] == list(range(0, 7, most))


def test_months_that_never_had_a_value_are_marked(fred: Fred, indpro: AlfredSeries) -> None:
    fred.versions = [
        ("2025-09-01", "101", "2025-11-20", OPEN),
        ("2025-10-01", ".", "2025-12-16", OPEN),
        ("2025-11-01", "102", "2025-12-16", OPEN),
    ]
    fetched = indpro.fetch(Request(None, datetime(2026, 1, 1, tzinfo=UTC)))
    assert fetched.marked_missing is not None
    assert fetched.marked_missing["period"].to_list() == [pd.Timestamp("2025-10-01")]
    assert (fetched.state["missing_marked"], fetched.state["withdrawn"]) == (1, 0)
    none_yet = indpro.fetch(Request(None, datetime(2025, 11, 1, tzinfo=UTC)))
    assert len(none_yet.frame) == 0


def test_a_series_that_was_not_asked_for_is_not_fetched(fred: Fred, indpro: AlfredSeries) -> None:
    assert len(indpro.fetch(Request(None, LATER, entities=["UNRATE"])).frame) == 0
    assert fred.asked == []


# ------------------------------------------------------------------------- bad answers


def failure(source: AlfredSeries, state: dict[str, object] | None = None) -> str:
    start = date(2018, 1, 1) if state else None
    with pytest.raises(SourceError) as caught:
        source.fetch(Request(start, LATER, state=state or {}))
    told = str(caught.value)
    assert told.startswith(f"{source.name}: ")
    assert "\n" not in told
    assert KEY not in told
    return told


@pytest.mark.parametrize("key", [None, "", " "])
def test_a_missing_key_is_named(key: str | None, fred: Fred, live_settings: MakeSettings) -> None:
    source = AlfredSeries("INDPRO", live_settings(fred_api_key=key))
    assert "LOOKBACK_FRED_API_KEY is not set" in failure(source)
    assert fred.asked == []


def test_what_is_no_key_is_not_sent_and_not_shown(fred: Fred, live_settings: MakeSettings) -> None:
    source = AlfredSeries("INDPRO", live_settings(fred_api_key="ABC-my-password"))
    told = failure(source)
    assert "is no FRED API key" in told
    assert "password" not in told
    assert fred.asked == []


def test_a_refused_key(fred: Fred, live_settings: MakeSettings) -> None:
    source = AlfredSeries("INDPRO", live_settings(fred_api_key=KEY[::-1]))
    told = failure(source)
    assert "FRED refused the API key (HTTP 400); check LOOKBACK_FRED_API_KEY" in told
    assert KEY[::-1] not in told
    assert len(fred.asked) == 1


@pytest.mark.usefixtures("fred")
def test_an_unknown_series(live_settings: MakeSettings) -> None:
    source = AlfredSeries("NOSUCH", live_settings(fred_api_key=KEY))
    assert "knows no series NOSUCH (HTTP 400); check LOOKBACK_FRED_SERIES" in failure(source)


ROW = {"realtime_start": "2018-02-16", "realtime_end": OPEN, "date": "2018-01-01", "value": "1.5"}
WHOLE = json.dumps(envelope([ROW, ROW | {"date": "2018-02-01"}]))


def changed(**fields: object) -> str:
    return json.dumps(envelope([ROW]) | fields)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (WHOLE[:-1], "no JSON or breaks off"),
        (WHOLE[: len(WHOLE) // 2], "no JSON or breaks off"),
        ("", "an empty answer"),
        ("<!DOCTYPE html><html><body>maintenance</body></html>", "a web page instead of JSON"),
        ("[]", "no list of observations"),
        ("{}", "no list of observations"),
        (changed(count="1"), "no list of observations"),
        (changed(offset=5), "no list of observations"),
        (changed(observations=None), "no list of observations"),
        (changed(count=0, observations=[]), "FRED sent 0 of 0 values"),
        (changed(observations=[]), "FRED sent 0 of 1 values"),
        (changed(observations=[ROW, ROW]), "FRED sent 2 of 1 values"),
        (changed(observations=[{"date": "2018-01-01", "value": "1"}]), "lacks or garbles a field"),
        (changed(observations=[ROW | {"value": "n/a"}]), "lacks or garbles a field"),
        (changed(observations=[ROW | {"value": None}]), "lacks or garbles a field"),
        (changed(observations=[ROW | {"date": "2018-13-01"}]), "lacks or garbles a field"),
        (changed(observations=[ROW | {"realtime_start": "soon"}]), "lacks or garbles a field"),
        (changed(observations=["x"]), "lacks or garbles a field"),
    ],
)
def test_a_damaged_answer_is_refused_as_a_whole(
    body: str,
    words: str,
    httpserver: HTTPServer,
    live_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alfred, "URL", httpserver.url_for(PATH))
    httpserver.expect_request(PATH).respond_with_data(body, content_type="application/json")
    assert words in failure(AlfredSeries("INDPRO", live_settings(fred_api_key=KEY)))


def test_a_second_page_that_fails_or_tells_another_story_refuses_all(
    httpserver: HTTPServer, live_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alfred, "URL", httpserver.url_for(PATH))
    monkeypatch.setattr(alfred, "ROWS_A_PAGE", 1)
    source = AlfredSeries("INDPRO", live_settings(fred_api_key=KEY))
    first = json.dumps(envelope([ROW, ROW], 0, 1))
    for second, words in (
        (json.dumps(envelope([ROW, ROW, ROW], 1, 1)), "changed while it was read"),
        (json.dumps(envelope([ROW, ROW], 1, 1) | {"observations": []}), "sent 1 of 2 values"),
        (json.dumps(envelope([ROW, ROW], 0, 1)), "no list of observations"),
        ("<html>", "a web page"),
    ):
        httpserver.expect_ordered_request(PATH).respond_with_data(first)
        httpserver.expect_ordered_request(PATH).respond_with_data(second)
        assert words in failure(source)


def test_an_answer_that_ends_earlier_than_before_was_cut(fred: Fred, indpro: AlfredSeries) -> None:
    before = dict(indpro.fetch(Request(None, LATER)).state)
    fred.versions = fred.versions[:-1]
    assert "ends on 2018-02-01, an earlier one on 2018-03-01" in failure(indpro, before)


def test_other_refusals_are_told_in_freds_words(
    httpserver: HTTPServer, live_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alfred, "URL", httpserver.url_for(PATH))
    words = "Bad Request.  There are 2004 vintage dates in the specified real-time period"
    httpserver.expect_ordered_request(PATH).respond_with_response(refusal(f"{words} {KEY}"))
    httpserver.expect_ordered_request(PATH).respond_with_response(Response("nothing", 403))
    source = AlfredSeries("INDPRO", live_settings(fred_api_key=KEY))
    assert "FRED answered: Bad Request. There are 2004 vintage dates" in failure(source)
    assert "refused the request with HTTP 403" in failure(source)


def test_a_server_error_is_tried_again(
    fred: Fred, httpserver: HTTPServer, indpro: AlfredSeries
) -> None:
    httpserver.expect_oneshot_request(PATH).respond_with_data("oops", status=500)
    httpserver.expect_oneshot_request(PATH).respond_with_data("oops", status=429)
    assert len(indpro.fetch(Request(None, LATER)).frame) == 5
    assert (len(fred.asked), len(httpserver.log)) == (1, 3)


@pytest.mark.parametrize("status", [200, 302, 400, 403, 404, 429, 500])
def test_the_key_is_nowhere_to_be_read(
    status: int,
    httpserver: HTTPServer,
    live_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(alfred, "URL", httpserver.url_for(PATH))
    caplog.set_level(logging.DEBUG)
    # the server that plays FRED
    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)
    httpserver.expect_request(PATH).respond_with_response(
        refusal(f"what is ?api_key={KEY} and {KEY}", status)
    )
    source = AlfredSeries("INDPRO", live_settings(fred_api_key=KEY, request_attempts=2))
    with pytest.raises(SourceError) as caught:
        source.fetch(Request(None, LATER))
    told = "".join(traceback.format_exception(caught.value))
    assert "/fred/series/observations?series_id=INDPRO&api_key=***" in caplog.text
    for shown in (told, caplog.text, repr(source), repr(vars(caught.value))):
        assert KEY not in shown
    logging.getLogger("urllib3.connectionpool").debug("afterwards %s", "all is as before")
    assert "afterwards all is as before" in caplog.text


def test_no_connection_is_told_without_the_key(
    live_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(alfred, "URL", "http://127.0.0.1:9/fred/series/observations")
    told = failure(AlfredSeries("INDPRO", live_settings(fred_api_key=KEY)))
    assert "127.0.0.1 could not be reached" in told
    assert KEY not in caplog.text


# ------------------------------------------------------------------------- taking over


@pytest.mark.usefixtures("by_predicates")
def test_two_fetches_give_the_value_of_the_vintage_at_every_time(
    fred: Fred, indpro: AlfredSeries, warehouse: Warehouse
) -> None:
    first = deliver(warehouse, indpro, date(2018, 4, 20))
    assert counts(first) == (4, 0, 4, 0)
    assert counts(deliver(warehouse, indpro, date(2018, 4, 23))) == (3, 3, 0, 0)
    # revised and withdrawn since; the request has cut what stood before
    second = deliver(warehouse, indpro, date(2018, 12, 3))
    assert fred.asked[-1]["realtime_start"] == "2018-03-22"
    assert counts(second) == (4, 3, 1, 0)
    assert counts(deliver(warehouse, indpro, date(2018, 12, 4))) == (2, 2, 0, 0)
    assert warehouse.sql("SELECT DISTINCT source FROM raw.observations") == [("alfred.INDPRO",)]

    def read(instant: str) -> dict[str, float]:
        return as_of(warehouse, "observations", pd.Timestamp(instant, tz="UTC").to_pydatetime())

    january, february, march = "2018-01-01", "2018-02-01", "2018-03-01"
    assert read("2018-02-17 05:59") == {}
    assert read("2018-02-17 06:00") == {january: 100.1}
    assert read("2018-03-17 05:00") == {january: 100.4, february: 101.0}
    assert read("2018-04-18 05:00") == {january: 100.4, february: 101.0, march: 102.5}
    # a value that was withdrawn stands as it was last published
    assert read("2019-01-01") == {january: 99.8, february: 101.0, march: 102.5}
    # a night sees on the evening of a release what was known the day before
    assert read(str(night_of(date(2018, 4, 17)).cutoff.replace(tzinfo=None))) == {
        january: 100.4, february: 101.0,
    }  # fmt: skip


@pytest.mark.usefixtures("by_predicates")
@pytest.mark.parametrize("seed", range(5))
def test_many_fetches_are_read_as_one_whole_fetch_is(
    seed: int, fred: Fred, indpro: AlfredSeries, warehouse: Warehouse
) -> None:
    random = np.random.default_rng(seed)
    fred.versions = list(_random_versions(random))
    nights = sorted(random.choice(days(120, date(2018, 6, 1)), 4, replace=False))
    for night in [*nights, pd.Timestamp("2018-12-31")]:
        deliver(warehouse, indpro, night)
    for instant in pd.date_range("2018-01-01 05:00", "2018-12-31", freq="9D", tz="UTC"):
        expected: dict[str, float] = {}
        for period, value, first, _ in sorted(fred.versions, key=lambda version: version[2]):
            if first < _chicago_date(instant):
                expected[period] = float(value)
        assert as_of(warehouse, "observations", instant.to_pydatetime()) == expected


def _chicago_date(instant: pd.Timestamp) -> str:
    return f"{instant.tz_convert('America/Chicago'):%Y-%m-%d}"


def _random_versions(random: np.random.Generator) -> Iterable[Version]:
    for number, month in enumerate(pd.date_range("2017-09-01", "2018-08-01", freq="MS")):
        releases = pd.Timestamp("2017-12-01") + pd.Timedelta(days=20 * number)
        days = sorted(
            {releases + pd.Timedelta(days=int(step)) for step in random.integers(0, 300, 4)}
        )
        ends = [day - pd.Timedelta(days=1) for day in days[1:]]
        for day, end in zip(days, [*ends, None], strict=True):
            value = str(random.choice(["1.5", "2.5", "3.5"]))
            last = OPEN if end is None else f"{end:%Y-%m-%d}"
            yield f"{month:%Y-%m-%d}", value, f"{day:%Y-%m-%d}", last


# --------------------------------------------------------------------------- catalogue


def test_with_a_key_the_live_profile_reads_monthly_series_from_alfred(
    live_settings: MakeSettings,
) -> None:
    series = ["SP500", "umcsent", "IPGMFN", "VIXCLS", "MYSERIES"]
    with_key = live_sources(live_settings(fred_api_key=KEY, fred_series=series))
    assert [source.name for source in with_key][:5] == [
        "fred.SP500", "alfred.UMCSENT", "alfred.IPGMFN", "fred.VIXCLS", "fred.MYSERIES",
    ]  # fmt: skip
    for key in (None, ""):
        without = live_sources(live_settings(fred_api_key=key, fred_series=series))
        assert all(source.name.startswith("fred.") for source in without[:5])
