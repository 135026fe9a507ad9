import io
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from pandas_datareader import famafrench
from pytest_httpserver import HTTPServer
from werkzeug import Response

from db.availability import AfterPeriod
from db.errors import SourceError
from db.settings import Settings
from db.sources.fama_french import DATA_SET, FamaFrenchDaily
from db.sources.source import OBSERVATION_COLUMNS, Request

MakeSettings = Callable[..., Settings]
Recorded = Callable[[str], bytes]

PATH = f"/ftp/{DATA_SET}_CSV.zip"
LATER = datetime(2019, 6, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def library_on_loopback(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(famafrench, "_URL", httpserver.url_for("/"))


def zipped(content: bytes) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{DATA_SET}.csv", content)
    return body.getvalue()


@pytest.fixture
def library(recorded: Recorded) -> bytes:
    return recorded(f"{DATA_SET}.csv")


def test_factors_as_recorded(
    httpserver: HTTPServer, live_settings: MakeSettings, library: bytes
) -> None:
    httpserver.expect_request(PATH).respond_with_data(zipped(library))
    fetched = FamaFrenchDaily(live_settings()).fetch(Request(date(2018, 12, 20), LATER))
    frame = fetched.frame
    assert tuple(frame.columns) == OBSERVATION_COLUMNS
    assert frame["period"].dtype == "datetime64[us]"
    assert frame["series"].dtype == "str"
    assert frame["value"].dtype == "float64"
    last = frame[frame["period"] == "2018-12-31"].set_index("series")["value"]
    assert last.to_dict() == {
        "FF.MKT_RF": 0.76,
        "FF.SMB": 0.23,
        "FF.HML": -0.67,
        "FF.RMW": 0.02,
        "FF.CMA": -0.04,
        "FF.RF": 0.01,
    }
    assert frame["period"].min() == datetime(2018, 12, 20)
    # HML of 20 December is -99.99, the library's mark for no value
    assert frame[frame["period"] == "2018-12-20"]["series"].tolist() == [
        "FF.MKT_RF",
        "FF.SMB",
        "FF.RMW",
        "FF.CMA",
        "FF.RF",
    ]
    assert fetched.state == {"last_period": "2018-12-31", "missing_marked": 1}


def test_a_month_becomes_known_as_a_whole_after_the_lag(
    httpserver: HTTPServer, live_settings: MakeSettings, library: bytes
) -> None:
    httpserver.expect_request(PATH).respond_with_data(zipped(library))
    source = FamaFrenchDaily(live_settings())
    early = source.fetch(Request(None, datetime(2019, 2, 14, tzinfo=UTC)))
    assert str(early.frame["period"].max().date()) == "2018-11-30"
    assert len(early.frame) == 3 * 6
    assert FamaFrenchDaily(
        live_settings(publication_lag_days={"FF": 60})
    ).availability == AfterPeriod(60, "month")


def test_only_the_series_asked_for(
    httpserver: HTTPServer, live_settings: MakeSettings, library: bytes
) -> None:
    httpserver.expect_request(PATH).respond_with_data(zipped(library))
    fetched = FamaFrenchDaily(live_settings()).fetch(
        Request(date(2018, 12, 31), LATER, entities=["FF.SMB", "SP500"])
    )
    assert fetched.frame[["series", "value"]].to_numpy().tolist() == [["FF.SMB", 0.23]]


def test_a_server_error_is_tried_again(
    httpserver: HTTPServer, live_settings: MakeSettings, library: bytes
) -> None:
    answers = iter([Response("", 503), Response(zipped(library))])
    httpserver.expect_request(PATH).respond_with_handler(lambda _: next(answers))
    assert len(FamaFrenchDaily(live_settings()).fetch(Request(None, LATER)).frame) == 22 * 6 - 1


def test_a_shorter_history_than_before_is_refused(
    httpserver: HTTPServer, live_settings: MakeSettings, library: bytes
) -> None:
    httpserver.expect_request(PATH).respond_with_data(zipped(library))
    with pytest.raises(SourceError, match="ends on 2018-12-31, an earlier one on 2019-01-31"):
        FamaFrenchDaily(live_settings()).fetch(
            Request(None, LATER, state={"last_period": "2019-01-31"})
        )


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"<html>moved</html>", "sent a web page instead of a whole zip"),
        (lambda _: b"", "sent 0 bytes instead of a whole zip"),
        (lambda text: zipped(text)[:-40], "instead of a whole zip"),
        (lambda text: flipped(zipped(text)), "is damaged"),
        (lambda text: zipped(text.replace(b"RMW", b"UMD")), "no daily table with the columns"),
        (lambda _: zipped(b"nothing here\r\n"), "no daily table with the columns"),
        (lambda text: zipped(text.replace(b"  -99.99", b"oops")), "no daily table"),
    ],
)
def test_a_damaged_file_is_refused_as_a_whole(
    httpserver: HTTPServer,
    live_settings: MakeSettings,
    library: bytes,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    httpserver.expect_request(PATH).respond_with_data(damage(library))
    with pytest.raises(SourceError, match=message) as caught:
        FamaFrenchDaily(live_settings()).fetch(Request(None, LATER))
    assert str(caught.value).startswith("fama_french.daily: ")
    assert "\n" not in str(caught.value)
