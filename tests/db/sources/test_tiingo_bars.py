import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from pytest_httpserver import HTTPServer
from tiingo import TiingoClient
from werkzeug import Request as Asked
from werkzeug import Response

from db.errors import SourceError
from db.settings import Settings
from db.sources.source import ACTION_COLUMNS, BAR_COLUMNS, Fetched, Request
from db.sources.tiingo_bars import TiingoBars

MakeSettings = Callable[..., Settings]
Recorded = Callable[[str], bytes]

KEY = "0123456789abcdef-the-key"
LATER = datetime(2020, 9, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def tiingo_on_loopback(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    start = TiingoClient.__init__

    def on_loopback(self: TiingoClient, *args: object, **kwargs: object) -> None:
        start(self, *args, **kwargs)
        self._base_url = httpserver.url_for("").rstrip("/")

    monkeypatch.setattr(TiingoClient, "__init__", on_loopback)


@pytest.fixture
def tiingo(live_settings: MakeSettings) -> Callable[..., TiingoBars]:
    def make(*symbols: str, **overrides: object) -> TiingoBars:
        return TiingoBars(
            live_settings(
                symbols=list(symbols), tiingo_api_key=KEY, bars_vendor="tiingo", **overrides
            )
        )

    return make


def serve(httpserver: HTTPServer, symbol: str, body: bytes | str, status: int = 200) -> None:
    httpserver.expect_request(
        f"/tiingo/daily/{symbol}/prices", headers={"Authorization": f"Token {KEY}"}
    ).respond_with_data(body, status=status, content_type="application/json")


def unknown(httpserver: HTTPServer, symbol: str) -> None:
    serve(httpserver, symbol, json.dumps({"detail": f"Error: Ticker '{symbol}' not found"}), 404)


def closes(fetched: Fetched) -> dict[str, float]:
    frame = fetched.frame
    return dict(zip(frame["session"].dt.date.astype(str), frame["close"], strict=True))


def test_bars_and_actions_as_recorded(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    fetched = tiingo("AAPL").fetch(Request(date(2020, 8, 6), LATER))
    frame = fetched.frame
    assert tuple(frame.columns) == BAR_COLUMNS
    assert frame["session"].dtype == "datetime64[us]"
    assert frame["entity"].dtype == "str"
    assert all(frame[column].dtype == "float64" for column in BAR_COLUMNS[2:])
    assert closes(fetched) == {
        "2020-08-06": 455.61,
        "2020-08-07": 444.45,
        "2020-08-27": 500.04,
        "2020-08-28": 499.23,
        "2020-08-31": 129.04,
        "2020-09-01": 134.18,
    }
    first = frame.iloc[0]
    assert (first["open"], first["high"], first["low"]) == (441.62, 457.65, 439.19)
    assert first["volume"] == 50607225
    assert frame["adj_close"].isna().all()
    assert fetched.actions is not None
    assert tuple(fetched.actions.columns) == ACTION_COLUMNS
    assert fetched.actions.astype({"ex_date": "str"}).to_numpy().tolist() == [
        ["AAPL", "2020-08-31", "split", 4.0],
        ["AAPL", "2020-08-07", "dividend", 0.82],
    ]
    assert fetched.problems == ()


def test_dates_asked_for(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    tiingo("AAPL").fetch(Request(date(2020, 8, 6), LATER))
    tiingo("AAPL", history_start="2001-02-03").fetch(Request(None, LATER))
    asked = [request.args for request, _ in httpserver.log]
    assert [args["startDate"] for args in asked] == ["2020-08-06", "2001-02-03"]
    assert [args["endDate"] for args in asked] == ["2020-09-10", "2020-09-10"]
    assert not any(KEY in request.url for request, _ in httpserver.log)


def test_a_session_under_way_is_not_taken_nor_its_actions(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    # the afternoon of the split, New York
    fetched = tiingo("AAPL").fetch(
        Request(date(2020, 8, 27), datetime(2020, 8, 31, 19, tzinfo=UTC))
    )
    assert closes(fetched) == {"2020-08-27": 500.04, "2020-08-28": 499.23}
    assert fetched.actions is not None
    assert len(fetched.actions) == 0
    assert tuple(fetched.actions.columns) == ACTION_COLUMNS


def test_a_missing_symbol_is_a_problem_and_the_rest_is_good(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    unknown(httpserver, "NOSUCH")
    serve(httpserver, "GONE", "[]")
    fetched = tiingo("AAPL", "NOSUCH", "GONE", "A/B?c").fetch(Request(date(2020, 8, 27), LATER))
    assert fetched.frame["entity"].unique().tolist() == ["AAPL"]
    assert len(fetched.frame) == 4
    assert sorted(problem.split(": ")[1] for problem in fetched.problems) == [
        "A/B?c",
        "GONE",
        "NOSUCH",
    ]
    assert "tiingo.bars: GONE: no bars since 2020-08-27" in "\n".join(fetched.problems)


def test_entities_go_before_the_configured_symbols(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    fetched = tiingo("MSFT", "AAPL").fetch(Request(None, LATER, entities=["AAPL"]))
    assert len(fetched.frame) == 6
    assert len(httpserver.log) == 1


def test_nothing_is_asked_where_no_session_has_closed(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars]
) -> None:
    saturday = datetime(2020, 9, 5, 23, tzinfo=UTC)
    fetched = tiingo("AAPL").fetch(Request(date(2020, 9, 5), saturday))
    assert len(fetched.frame) == 0
    assert fetched.problems == ()
    assert httpserver.log == []


def test_no_symbol_at_all_is_an_error(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars]
) -> None:
    unknown(httpserver, "NOSUCH")
    unknown(httpserver, "NOR")
    with pytest.raises(SourceError, match=r"none of 2 symbols could be had; .* NOSUCH: unknown"):
        tiingo("NOSUCH", "NOR").fetch(Request(None, LATER))


@pytest.mark.parametrize("body", ['[{"date": "2020-08-06T00:0', "<html>down</html>", ""])
def test_a_truncated_or_foreign_answer_is_a_problem(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded, body: str
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    serve(httpserver, "MSFT", body)
    fetched = tiingo("AAPL", "MSFT").fetch(Request(None, LATER))
    assert len(fetched.frame) == 6
    assert fetched.problems == (
        "tiingo.bars: MSFT: Tiingo's answer is no JSON or breaks off; the next run asks again",
    )


def test_a_column_that_is_missing_is_a_problem(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", recorded("tiingo_AAPL.json"))
    rows = json.loads(recorded("tiingo_AAPL.json"))
    serve(httpserver, "MSFT", json.dumps([{k: r[k] for k in r if k != "close"} for r in rows]))
    fetched = tiingo("AAPL", "MSFT").fetch(Request(None, LATER))
    assert "MSFT: Tiingo's answer lacks or garbles a column" in fetched.problems[0]


def test_a_server_error_is_tried_again(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    answers = iter([Response("", 500), Response("", 429), Response(recorded("tiingo_AAPL.json"))])
    httpserver.expect_request("/tiingo/daily/AAPL/prices").respond_with_handler(
        lambda _: next(answers)
    )
    assert len(tiingo("AAPL").fetch(Request(None, LATER)).frame) == 6


def test_a_vendor_that_is_down_is_not_asked_for_every_symbol(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars]
) -> None:
    httpserver.expect_request("").respond_with_data("down", status=503)
    symbols = [f"S{number}" for number in range(40)]
    with pytest.raises(SourceError, match=r"none of 40 symbols .* S0: .* HTTP 503"):
        tiingo(*symbols).fetch(Request(None, LATER))
    assert len(httpserver.log) == 4 * 3  # a batch of four, three attempts each


def test_a_spent_allowance_stops_after_a_batch(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], recorded: Recorded
) -> None:
    def answer(asked: Asked) -> Response:
        if asked.path == "/tiingo/daily/AAPL/prices":
            return Response(recorded("tiingo_AAPL.json"))
        return Response(json.dumps({"detail": f"Over your hourly request\nallocation {KEY}"}))

    for symbol in ["AAPL", *(f"S{number}" for number in range(12))]:
        httpserver.expect_request(f"/tiingo/daily/{symbol}/prices").respond_with_handler(answer)
    fetched = tiingo("AAPL", *(f"S{number}" for number in range(12))).fetch(Request(None, LATER))
    assert fetched.frame["entity"].unique().tolist() == ["AAPL"]
    assert len(fetched.problems) == 12
    assert fetched.problems[0] == (
        "tiingo.bars: S0: Tiingo answered: Over your hourly request allocation ***"
    )
    assert fetched.problems[-1] == "tiingo.bars: S11: not asked, the vendor is down"
    assert len(httpserver.log) == 8


def test_without_a_key_the_error_names_the_variable(live_settings: MakeSettings) -> None:
    with pytest.raises(SourceError, match="set LOOKBACK_TIINGO_API_KEY"):
        TiingoBars(live_settings()).fetch(Request(None, LATER))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_source(
    httpserver: HTTPServer, tiingo: Callable[..., TiingoBars], status: int
) -> None:
    serve(httpserver, "AAPL", '{"detail":"Invalid token."}', status)
    serve(httpserver, "MSFT", '{"detail":"Invalid token."}', status)
    with pytest.raises(SourceError, match=r"refused the API key .* check LOOKBACK_TIINGO_API_KEY"):
        tiingo("AAPL", "MSFT").fetch(Request(None, LATER))


@pytest.mark.parametrize("status", [200, 401, 404, 429, 500])
def test_the_key_is_nowhere_to_be_read(
    httpserver: HTTPServer,
    tiingo: Callable[..., TiingoBars],
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    serve(httpserver, "AAPL", json.dumps({"detail": f"token {KEY}"}), status)
    source = tiingo("AAPL", request_attempts=1)
    with pytest.raises(SourceError) as caught:
        source.fetch(Request(None, LATER))
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told
    assert KEY not in caplog.text
    assert KEY not in repr(source)
    assert KEY not in repr(source._settings)
