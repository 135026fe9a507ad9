from collections.abc import Callable
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pandas_datareader.fred import FredReader
from pytest_httpserver import HTTPServer
from werkzeug import Response

from db.availability import AfterClose, AfterPeriod
from db.errors import SourceError
from db.ingest import Delivery
from db.sessions import sessions
from db.settings import Settings
from db.sources.fred import FredSeries
from db.sources.live import live_sources
from db.sources.source import OBSERVATION_COLUMNS, Request
from db.warehouse import Warehouse
from tests.db.deliveries import counts, deliver

MakeSettings = Callable[..., Settings]
Recorded = Callable[[str], bytes]

PATH = "/graph/fredgraph.csv"
LATER = datetime(2019, 6, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fred_on_loopback(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FredReader, "url", property(lambda _: httpserver.url_for(PATH)))


def serve(httpserver: HTTPServer, series: str, body: bytes | str, status: int = 200) -> None:
    httpserver.expect_request(PATH, query_string={"id": series}).respond_with_data(
        body, status=status, content_type="application/csv"
    )


def test_a_daily_series_as_recorded(
    httpserver: HTTPServer, live_settings: MakeSettings, recorded: Recorded
) -> None:
    serve(httpserver, "SP500", recorded("fred_SP500.csv"))
    source = FredSeries("SP500", live_settings())
    fetched = source.fetch(Request(start=date(2018, 12, 24), until=LATER))

    frame = fetched.frame
    assert tuple(frame.columns) == OBSERVATION_COLUMNS
    assert frame["period"].dtype == "datetime64[us]"
    assert frame["value"].dtype == "float64"
    assert frame["series"].dtype == "str"
    assert frame["series"].unique().tolist() == ["SP500"]
    assert dict(zip(frame["period"].dt.date.astype(str), frame["value"], strict=True)) == {
        "2018-12-24": 2351.10,
        "2018-12-26": 2467.70,
        "2018-12-27": 2488.83,
        "2018-12-28": 2485.74,
        "2018-12-31": 2506.85,
        "2019-01-02": 2510.03,
    }
    # Christmas is marked "." and New Year's Day is blank: counted, not kept
    assert fetched.state == {"last_period": "2019-01-02", "missing_marked": 2}
    assert fetched.problems == ()
    assert (source.name, source.kind, source.frequency) == ("fred.SP500", "observations", "session")


def test_nothing_that_becomes_known_after_until(
    httpserver: HTTPServer, live_settings: MakeSettings, recorded: Recorded
) -> None:
    serve(httpserver, "SP500", recorded("fred_SP500.csv"))
    source = FredSeries("SP500", live_settings())

    def last(until: datetime) -> str:
        fetched = source.fetch(Request(start=None, until=until))
        return str(fetched.frame["period"].max().date())

    # the close of 28 December is 21:00 UTC, FRED has it four hours later
    assert last(datetime(2018, 12, 29, 0, 59, tzinfo=UTC)) == "2018-12-27"
    assert last(datetime(2018, 12, 29, 1, 0, tzinfo=UTC)) == "2018-12-28"


def test_a_monthly_series_with_the_older_header(
    httpserver: HTTPServer, live_settings: MakeSettings, recorded: Recorded
) -> None:
    serve(httpserver, "UMCSENT", recorded("fred_UMCSENT.csv"))
    source = FredSeries("umcsent", live_settings())
    fetched = source.fetch(Request(start=None, until=datetime(2018, 12, 31, 12, tzinfo=UTC)))
    # November ends, and 31 days later its value may be repeated by FRED: 1 January
    assert fetched.frame["value"].tolist() == [96.2, 100.1, 98.6]
    assert source.frequency == "month"
    assert source.availability == AfterPeriod(31, "month")


def test_history_start_limits_a_first_fetch(
    httpserver: HTTPServer, live_settings: MakeSettings, recorded: Recorded
) -> None:
    serve(httpserver, "UMCSENT", recorded("fred_UMCSENT.csv"))
    source = FredSeries("UMCSENT", live_settings(history_start="2018-11-01"))
    fetched = source.fetch(Request(start=None, until=LATER))
    assert fetched.frame["value"].tolist() == [97.5, 98.3]


def test_a_series_that_was_not_asked_for_is_not_fetched(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    fetched = FredSeries("SP500", live_settings()).fetch(Request(None, LATER, entities=["VIXCLS"]))
    assert len(fetched.frame) == 0
    assert tuple(fetched.frame.columns) == OBSERVATION_COLUMNS
    assert httpserver.log == []


@pytest.mark.parametrize(
    ("dates", "expected", "frequency"),
    [
        (pd.bdate_range("2018-01-01", periods=100), AfterClose(17), "session"),
        (pd.date_range("2018-01-05", periods=50, freq="W-FRI"), AfterPeriod(14, "day"), "month"),
        (pd.date_range("2010-01-01", periods=90, freq="MS"), AfterPeriod(45, "month"), "month"),
        (pd.date_range("2000-01-01", periods=60, freq="QS"), AfterPeriod(90, "quarter"), "month"),
        (pd.date_range("1980-01-01", periods=30, freq="YS"), AfterPeriod(455, "quarter"), "month"),
    ],
)
def test_an_unlisted_series_gets_a_cautious_rule_from_its_dates(
    httpserver: HTTPServer,
    live_settings: MakeSettings,
    dates: pd.DatetimeIndex,
    expected: object,
    frequency: str,
) -> None:
    lines = [f"{day.date()},{value}" for value, day in enumerate(dates)]
    serve(httpserver, "MYSERIES", "\n".join(["observation_date,MYSERIES", *lines, ""]))
    source = FredSeries("MYSERIES", live_settings(history_start="1900-01-01"))
    assert source.availability == AfterPeriod(455, "quarter")
    fetched = source.fetch(Request(None, LATER))
    assert source.availability == expected
    assert source.frequency == frequency
    assert fetched.frame["value"].tolist() == [float(value) for value in range(len(dates))]


def test_publication_lag_days_go_before_the_built_in_rule(live_settings: MakeSettings) -> None:
    settings = live_settings(publication_lag_days={"UMCSENT": 40, "SP500": 2})
    assert FredSeries("UMCSENT", settings).availability == AfterPeriod(40, "month")
    assert FredSeries("SP500", settings).availability == AfterPeriod(2, "day")
    assert FredSeries("IPGMFN", settings).availability == AfterPeriod(18, "month")


def test_rules_say_when_a_value_could_be_used(live_settings: MakeSettings) -> None:
    def known(series: str, day: str) -> str:
        dates = pd.Series(pd.DatetimeIndex([day]))
        rule = FredSeries(series, live_settings()).availability
        return str(rule.known_at(dates, sessions("XNYS")).iloc[0])

    assert known("SP500", "2018-12-28") == "2018-12-29 01:00:00+00:00"
    assert known("VIXCLS", "2018-12-28") == "2018-12-29 14:00:00+00:00"
    assert known("UMCSENT", "2018-05-01") == "2018-07-02 00:00:00+00:00"
    assert known("IPGMFN", "2018-11-01") == "2018-12-19 00:00:00+00:00"


def test_a_server_error_is_tried_again(
    httpserver: HTTPServer, live_settings: MakeSettings, recorded: Recorded
) -> None:
    answers = iter([Response("oops", 500), Response(recorded("fred_UMCSENT.csv"))])
    httpserver.expect_request(PATH).respond_with_handler(lambda _: next(answers))
    fetched = FredSeries("UMCSENT", live_settings()).fetch(Request(None, LATER))
    assert fetched.frame["value"].tolist() == [96.2, 100.1, 98.6, 97.5, 98.3]


@pytest.mark.parametrize("status", [429, 500])
def test_a_lasting_server_error_ends_in_one_line(
    httpserver: HTTPServer, live_settings: MakeSettings, status: int
) -> None:
    serve(httpserver, "SP500", "<html>sorry</html>", status)
    with pytest.raises(SourceError, match=rf"^fred\.SP500: .* HTTP {status} \(3 attempts\)"):
        FredSeries("SP500", live_settings()).fetch(Request(None, LATER))
    assert len(httpserver.log) == 3


def test_an_unknown_series_names_the_setting(
    httpserver: HTTPServer, live_settings: MakeSettings, recorded: Recorded
) -> None:
    serve(httpserver, "NOSUCH", recorded("fred_unknown_series.html"), 404)
    with pytest.raises(SourceError, match=r"knows no series NOSUCH .* check LOOKBACK_FRED_SERIES"):
        FredSeries("NOSUCH", live_settings()).fetch(Request(None, LATER))
    assert len(httpserver.log) == 1


def test_what_is_no_series_id_is_not_sent(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    with pytest.raises(SourceError, match="no FRED series id"):
        FredSeries("SP500&cosd=1990", live_settings()).fetch(Request(None, LATER))
    assert httpserver.log == []


WHOLE = "observation_date,SP500\n2018-12-27,2488.83\n2018-12-28,2485.74\n2018-12-31,2506.85\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (WHOLE[:-3], "breaks off in its last line .'2018-12-31,2506.'"),
        (WHOLE[:-5], "breaks off in its last line .'2018-12-31,250'"),
        (WHOLE[:-8], "breaks off in its last line .'2018-12-31,'"),
        (WHOLE[:-1], "breaks off in its last line"),
        (WHOLE[:-13] + "\n", "line 4 of FRED's CSV is '2018-1'"),
        ("", "empty answer"),
        ("\n\n", "empty answer"),
        ("observation_date,SP500\n", "holds no observation"),
        ("<!DOCTYPE html><html><body>maintenance</body></html>", "a web page instead of CSV"),
        (WHOLE.replace("SP500", "DJIA"), "begins with 'observation_date,DJIA'"),
        ("observation_date,SP500,DJIA\n2018-12-31,2506.85,1\n", "begins with"),
        (WHOLE.replace("2485.74", "n/a"), "line 3 of FRED's CSV is '2018-12-28,n/a'"),
        (WHOLE.replace("2018-12-28", "2018-13-28"), "dates that cannot be read"),
        (WHOLE.replace("2018-12-28", "2018-12-32"), "dates that cannot be read"),
    ],
)
def test_a_damaged_answer_is_refused_as_a_whole(
    httpserver: HTTPServer, live_settings: MakeSettings, body: str, message: str
) -> None:
    serve(httpserver, "SP500", body)
    with pytest.raises(SourceError, match=message) as caught:
        FredSeries("SP500", live_settings()).fetch(Request(None, LATER))
    assert str(caught.value).startswith("fred.SP500: ")
    assert "\n" not in str(caught.value)


def test_every_truncation_but_one_between_lines_is_noticed(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    body = ""
    httpserver.expect_request(PATH).respond_with_handler(lambda _: Response(body))
    source = FredSeries("SP500", live_settings())
    accepted = []
    for length in range(len(WHOLE)):
        body = WHOLE[:length]
        try:
            accepted.append(source.fetch(Request(None, LATER)).frame["value"].tolist())
        except SourceError:
            continue
    assert accepted == [[2488.83], [2488.83, 2485.74]]


def test_an_answer_cut_between_lines_is_noticed_by_its_last_date(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    source = FredSeries("SP500", live_settings())
    httpserver.expect_ordered_request(PATH).respond_with_data(WHOLE)
    first = source.fetch(Request(None, LATER))
    httpserver.expect_ordered_request(PATH).respond_with_data(WHOLE[:-19])
    with pytest.raises(SourceError, match="ends on 2018-12-28, an earlier one on 2018-12-31"):
        source.fetch(Request(None, LATER, state=first.state))


def test_values_are_read_to_the_last_digit(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    body = "observation_date,T10Y2Y\n2018-12-27,-0.05\n2018-12-28,1e-05\n2018-12-31,.5\n"
    serve(httpserver, "T10Y2Y", body)
    values = FredSeries("T10Y2Y", live_settings()).fetch(Request(None, LATER)).frame["value"]
    np.testing.assert_array_equal(values, [-0.05, 1e-05, 0.5])


@pytest.mark.usefixtures("by_predicates")
def test_a_month_that_fred_marks_as_missing_does_not_stop_the_series(
    httpserver: HTTPServer, live_settings: MakeSettings, warehouse: Warehouse
) -> None:
    source = FredSeries("UNRATE", live_settings())

    def night(day: date, *values: str) -> Delivery:
        months = pd.date_range("2025-07-01", periods=len(values), freq="MS")
        lines = [f"{month.date()},{value}" for month, value in zip(months, values, strict=True)]
        body = "\n".join(["observation_date,UNRATE", *lines, ""])
        httpserver.expect_oneshot_request(PATH).respond_with_data(body)
        return deliver(warehouse, source, day)

    # the survey of October 2025 was not taken
    first = night(date(2025, 12, 17), "4.3", "4.3", "4.4", ".", "4.6")
    assert (first.problems, counts(first)) == ((), (4, 0, 4, 0))
    # both neighbours are revised at once
    second = night(date(2026, 1, 12), "4.3", "4.3", "4.5", ".", "4.5", "4.4")
    assert (second.problems, counts(second)) == ((), (5, 2, 3, 0))
    third = night(date(2026, 1, 13), "4.3", "4.3", "4.5", "4.5", "4.5", "4.4")
    assert (third.problems, counts(third)) == ((), (6, 5, 1, 0))


def test_the_live_profile_has_a_source_for_each_series(live_settings: MakeSettings) -> None:
    settings = live_settings(fred_series=["SP500", "sp500", "UMCSENT"])
    assert [source.name for source in live_sources(settings)] == [
        "fred.SP500",
        "fred.UMCSENT",
        "fama_french.daily",
        "yfinance.bars",
    ]
    settings = live_settings(fred_series=[], bars_vendor="tiingo")
    assert [source.name for source in live_sources(settings)][-1] == "tiingo.bars"
