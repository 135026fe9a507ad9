"""The real yfinance and curl_cffi, with every address of Yahoo's turned to loopback.

`https://query2.finance.yahoo.com/v8/…` becomes `/query2.finance.yahoo.com/v8/…` there.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import yfinance.base
import yfinance.cache
import yfinance.data
from curl_cffi.requests.session import Session
from pytest_httpserver import HTTPServer
from werkzeug import Request as Asked
from werkzeug import Response
from yfinance.config import YfConfig

from db.errors import SourceError
from db.settings import Settings
from db.sources.source import ACTION_COLUMNS, BAR_COLUMNS, Fetched, Request
from db.sources.yfinance_bars import YfinanceBars, later_split_factor

MakeSettings = Callable[..., Settings]
Recorded = Callable[[str], bytes]
Chart = dict[str, Any]

CHART = "/query2.finance.yahoo.com/v8/finance/chart/"
LATER = datetime(2020, 9, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def yahoo_on_loopback(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, recorded: Recorded
) -> None:
    send = Session.request

    def on_loopback(self: Any, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.hostname.endswith("yahoo.com")
        query = f"?{parts.query}" if parts.query else ""
        local = httpserver.url_for(f"/{parts.hostname}{parts.path}") + query
        return send(self, method, local, *args, **kwargs)

    monkeypatch.setattr(Session, "request", on_loopback)
    # yfinance keeps one session, its crumb and some answers for the life of the process
    monkeypatch.setattr(yfinance.data.SingletonMeta, "_instances", {})
    yfinance.data.YfData.cache_get.cache_clear()
    monkeypatch.setattr(yfinance.cache._TzCacheManager, "_tz_cache", None)
    monkeypatch.setattr(yfinance.base, "_tz_info_fetch_ctr", 0)
    httpserver.expect_request("/fc.yahoo.com").respond_with_data("", status=404)
    httpserver.expect_request("/guce.yahoo.com/consent").respond_with_data("<html></html>")
    for host in ("query1", "query2"):
        httpserver.expect_request(f"/{host}.finance.yahoo.com/v1/test/getcrumb").respond_with_data(
            "crumb"
        )


@pytest.fixture
def yahoo(live_settings: MakeSettings) -> Callable[..., YfinanceBars]:
    def make(*symbols: str, **overrides: object) -> YfinanceBars:
        return YfinanceBars(live_settings(symbols=list(symbols), **overrides))

    return make


@pytest.fixture
def apple(recorded: Recorded) -> Chart:
    chart: Chart = json.loads(recorded("yahoo_chart_AAPL.json"))
    return chart


def serve(httpserver: HTTPServer, symbol: str, body: Any, status: int = 200) -> None:
    content = body if isinstance(body, (str, bytes)) else json.dumps(body)
    httpserver.expect_request(CHART + symbol).respond_with_data(
        content, status=status, content_type="application/json"
    )


def unknown(httpserver: HTTPServer, symbol: str, recorded: Recorded) -> None:
    serve(httpserver, symbol, recorded("yahoo_chart_unknown.json"), 404)
    # yfinance looks a symbol without a time zone up here too, twice a process
    error = {"code": "Not Found", "description": f"Quote not found for symbol: {symbol}"}
    httpserver.expect_request(
        f"/query2.finance.yahoo.com/v10/finance/quoteSummary/{symbol}"
    ).respond_with_json({"quoteSummary": {"result": None, "error": error}}, status=404)


def charts_asked(httpserver: HTTPServer) -> list[Asked]:
    return [request for request, _ in httpserver.log if request.path.startswith(CHART)]


def closes(fetched: Fetched) -> dict[str, float]:
    frame = fetched.frame
    return dict(zip(frame["session"].dt.date.astype(str), frame["close"], strict=True))


def test_raw_bars_and_actions_from_split_adjusted_ones(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    serve(httpserver, "AAPL", apple)
    fetched = yahoo("AAPL").fetch(Request(date(2020, 8, 6), LATER))
    frame = fetched.frame
    assert tuple(frame.columns) == BAR_COLUMNS
    assert frame["session"].dtype == "datetime64[us]"
    assert frame["entity"].dtype == "str"
    assert all(frame[column].dtype == "float64" for column in BAR_COLUMNS[2:])
    # as printed on the day: four times Yahoo's figures before the split of 31 August
    assert closes(fetched) == {
        "2020-08-06": 455.61,
        "2020-08-07": 444.45,
        "2020-08-27": 500.04,
        "2020-08-28": 499.23,
        "2020-08-31": 129.04,
        "2020-09-01": 134.18,
    }
    before, after = frame.iloc[3], frame.iloc[4]
    assert (before["open"], before["high"], before["low"]) == (504.05, 505.77, 498.31)
    assert before["volume"] == 46907479
    assert (after["open"], after["high"], after["low"]) == (127.58, 131.0, 126.0)
    assert after["volume"] == 225702700
    assert frame["adj_close"].isna().all()
    assert fetched.actions is not None
    assert tuple(fetched.actions.columns) == ACTION_COLUMNS
    # 0.205 a share of today were 0.82 a share of then
    assert fetched.actions.astype({"ex_date": "str"}).to_numpy().tolist() == [
        ["AAPL", "2020-08-31", "split", 4.0],
        ["AAPL", "2020-08-07", "dividend", 0.82],
    ]
    assert fetched.problems == ()


def test_the_answer_reaches_to_today_whatever_until_says(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    serve(httpserver, "AAPL", apple)
    # on 28 August nobody knew of prices in new shares
    fetched = yahoo("AAPL").fetch(Request(date(2020, 8, 27), datetime(2020, 8, 29, 1, tzinfo=UTC)))
    assert closes(fetched) == {"2020-08-27": 500.04, "2020-08-28": 499.23}
    assert fetched.actions is not None
    assert len(fetched.actions) == 0
    prices = charts_asked(httpserver)[-1].args
    assert int(prices["period2"]) > datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(int(prices["period1"]), UTC).date() == date(2020, 8, 27)
    assert prices["events"] == "div,splits,capitalGains"


def test_a_session_under_way_is_not_taken(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    serve(httpserver, "AAPL", apple)
    noon = datetime(2020, 9, 1, 16, tzinfo=UTC)
    fetched = yahoo("AAPL").fetch(Request(date(2020, 8, 28), noon))
    assert closes(fetched) == {"2020-08-28": 499.23, "2020-08-31": 129.04}


def test_a_row_without_prices_stays_for_the_quality_gate(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    quote = apple["chart"]["result"][0]["indicators"]["quote"][0]
    for column in quote.values():
        column[2] = None
    serve(httpserver, "AAPL", apple)
    frame = yahoo("AAPL").fetch(Request(None, LATER)).frame
    assert len(frame) == 6
    empty = frame[frame["session"] == "2020-08-27"]
    assert empty[["open", "high", "low", "close", "volume"]].isna().all(axis=None)


def test_a_split_that_yahoo_has_not_applied_yet_is_refused(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    quote = apple["chart"]["result"][0]["indicators"]["quote"][0]
    for name in ("open", "high", "low", "close"):
        quote[name][:4] = [price * 4 for price in quote[name][:4]]
    serve(httpserver, "AAPL", apple)
    with pytest.raises(SourceError, match="lists the split of 2020-08-31 but has not restated"):
        yahoo("AAPL").fetch(Request(None, LATER))


def test_a_missing_symbol_is_a_problem_and_the_rest_is_good(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart, recorded: Recorded
) -> None:
    serve(httpserver, "AAPL", apple)
    unknown(httpserver, "NOSUCH", recorded)
    fetched = yahoo("NOSUCH", "AAPL").fetch(Request(date(2020, 8, 28), LATER))
    assert fetched.frame["entity"].unique().tolist() == ["AAPL"]
    assert len(fetched.frame) == 3
    assert len(fetched.problems) == 1
    assert fetched.problems[0].startswith("yfinance.bars: NOSUCH: ")
    assert "delisted" in fetched.problems[0]
    assert "\n" not in fetched.problems[0]


def test_a_symbol_without_bars_in_the_span_is_a_problem(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    serve(httpserver, "AAPL", apple)
    delisted = json.loads(json.dumps(apple))
    result = delisted["chart"]["result"][0]
    del result["timestamp"], result["events"]
    result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    serve(httpserver, "GONE", delisted)
    fetched = yahoo("AAPL", "GONE").fetch(Request(date(2020, 8, 28), LATER))
    assert len(fetched.frame) == 3
    assert "GONE: possibly delisted" in fetched.problems[0]


def test_no_symbol_at_all_is_an_error(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], recorded: Recorded
) -> None:
    unknown(httpserver, "NOSUCH", recorded)
    with pytest.raises(SourceError, match=r"^yfinance\.bars: none of 1 symbols could be had; "):
        yahoo("NOSUCH").fetch(Request(None, LATER))


def test_a_server_error_is_tried_again(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart
) -> None:
    statuses = iter([500, 429, 200, 503, 200])
    httpserver.expect_request(CHART + "AAPL").respond_with_handler(
        lambda _: Response(json.dumps(apple), next(statuses))
    )
    assert len(yahoo("AAPL").fetch(Request(None, LATER)).frame) == 6


def test_a_vendor_that_is_down_is_not_asked_for_every_symbol(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars]
) -> None:
    symbols = [f"S{number}" for number in range(40)]
    for symbol in symbols:
        serve(httpserver, symbol, "<html>sorry</html>", 503)
    with pytest.raises(SourceError, match=r"none of 40 symbols .* answered HTTP 503"):
        yahoo(*symbols).fetch(Request(None, LATER))
    assert len(charts_asked(httpserver)) == 4 * 3  # a batch of four, three attempts each


@pytest.mark.parametrize(
    "body", ["<html>consent</html>", "", '{"chart": {"result": [{"meta": {"curr', "[]", "{}"]
)
def test_a_truncated_or_foreign_answer_is_a_problem(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart, body: str
) -> None:
    serve(httpserver, "AAPL", apple)
    serve(httpserver, "MSFT", body)
    fetched = yahoo("AAPL", "MSFT").fetch(Request(None, LATER))
    assert fetched.frame["entity"].unique().tolist() == ["AAPL"]
    assert len(fetched.problems) == 1
    assert fetched.problems[0].startswith("yfinance.bars: MSFT: ")


def test_a_connection_that_breaks_off_is_an_error(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars]
) -> None:
    httpserver.expect_request(CHART + "AAPL").respond_with_handler(
        lambda _: Response(iter([b'{"chart"']), headers={"Content-Length": "500"})
    )
    with pytest.raises(SourceError, match="broke off in the middle of its answer"):
        yahoo("AAPL").fetch(Request(None, LATER))


def test_yahoo_that_cannot_be_reached_is_an_error(
    monkeypatch: pytest.MonkeyPatch, yahoo: Callable[..., YfinanceBars]
) -> None:
    send = Session.request
    monkeypatch.setattr(
        Session,
        "request",
        lambda self, method, url, *args, **kwargs: send(
            self, method, "https://nowhere.yahoo.com/", *args, **kwargs
        ),
    )
    monkeypatch.setattr(HTTPServer, "url_for", lambda self, path: f"http://127.0.0.1:9{path}")
    with pytest.raises(SourceError, match=r"query2\.finance\.yahoo\.com could not be reached"):
        yahoo("AAPL").fetch(Request(None, LATER))


def test_yfinance_keeps_its_files_under_home_and_its_settings_are_put_back(
    httpserver: HTTPServer, yahoo: Callable[..., YfinanceBars], apple: Chart, tmp_path: Path
) -> None:
    serve(httpserver, "AAPL", apple)
    yahoo("AAPL").fetch(Request(None, LATER))
    assert (tmp_path / "cache" / "yfinance" / "tkr-tz.db").exists()
    assert YfConfig.debug.hide_exceptions is True


def test_later_splits_multiply() -> None:
    splits = pd.Series(
        [2.0, 0.5, 3.0], index=pd.DatetimeIndex(["2001-01-03", "2005-06-01", "2010-01-04"])
    )
    dates = pd.DatetimeIndex(["2001-01-02", "2001-01-03", "2005-05-31", "2005-06-01", "2010-01-04"])
    np.testing.assert_array_equal(later_split_factor(dates, splits), [3.0, 1.5, 1.5, 3.0, 1.0])
    none = pd.Series([], index=pd.DatetimeIndex([]), dtype="float64")
    np.testing.assert_array_equal(later_split_factor(dates, none), np.ones(5))
