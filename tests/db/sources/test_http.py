import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from db.errors import SourceError
from db.settings import Settings
from db.sources.http import RequestFailed, RetryPolicy, VendorSession, retry_after_seconds

MakeSettings = Callable[..., Settings]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the retry policy would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    return slept


def session(live_settings: MakeSettings, **overrides: object) -> VendorSession:
    return VendorSession(RetryPolicy.of("vendor.prices", live_settings(**overrides)))


def cut_short(text: str) -> Response:
    """An answer that announces more than it sends (an iterator keeps werkzeug from counting)."""
    return Response(iter([text.encode()]), headers={"Content-Length": "500"})


def in_turn(*answers: Response) -> Callable[[Request], Response]:
    rest = iter(answers)
    return lambda _: next(rest)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_temporary_status_is_tried_again(
    httpserver: HTTPServer, live_settings: MakeSettings, status: int
) -> None:
    httpserver.expect_request("/x").respond_with_handler(
        in_turn(Response("busy", status), Response("busy", status), Response("42"))
    )
    assert session(live_settings).get(httpserver.url_for("/x")).text == "42"
    assert len(httpserver.log) == 3


def test_attempts_end_with_one_line_that_names_source_host_and_status(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    httpserver.expect_request("/x").respond_with_data("broken", status=500)
    with pytest.raises(SourceError) as caught:
        session(live_settings).get(httpserver.url_for("/x"))
    message = str(caught.value)
    assert message.startswith("vendor.prices: localhost answered HTTP 500 (3 attempts)")
    assert "\n" not in message
    assert len(httpserver.log) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_other_refusals_are_final(
    httpserver: HTTPServer, live_settings: MakeSettings, status: int
) -> None:
    httpserver.expect_request("/x").respond_with_data("no", status=status)
    with pytest.raises(RequestFailed, match=f"HTTP {status}") as caught:
        session(live_settings).get(httpserver.url_for("/x"))
    assert caught.value.status == status
    assert len(httpserver.log) == 1


def test_waits_double_with_jitter(
    httpserver: HTTPServer, live_settings: MakeSettings, waits: list[float]
) -> None:
    httpserver.expect_request("/x").respond_with_data("", status=503)
    with pytest.raises(RequestFailed):
        session(live_settings, request_backoff_seconds=1, request_attempts=4).get(
            httpserver.url_for("/x")
        )
    assert len(waits) == 3
    for wait, first in zip(waits, (1, 2, 4), strict=True):
        assert first <= wait <= first + 1


def test_retry_after_is_honoured(
    httpserver: HTTPServer, live_settings: MakeSettings, waits: list[float]
) -> None:
    httpserver.expect_request("/x").respond_with_handler(
        in_turn(Response("slow down", 429, {"Retry-After": "17"}), Response("42"))
    )
    assert session(live_settings).get(httpserver.url_for("/x")).text == "42"
    assert waits == [17]


def test_a_pause_longer_than_a_minute_ends_the_attempts(
    httpserver: HTTPServer, live_settings: MakeSettings, waits: list[float]
) -> None:
    httpserver.expect_request("/x").respond_with_data(
        "spent", status=429, headers={"Retry-After": "3600"}
    )
    with pytest.raises(RequestFailed, match="asks for a pause of 3600 s"):
        session(live_settings).get(httpserver.url_for("/x"))
    assert waits == []
    assert len(httpserver.log) == 1


def test_retry_after_reads_seconds_and_dates() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    assert retry_after_seconds({"Retry-After": "5"}) == 5
    assert 27 < retry_after_seconds({"Retry-After": later}) <= 30
    assert retry_after_seconds({"Retry-After": past}) == 0
    assert retry_after_seconds({"Retry-After": "soon"}) == 0
    assert retry_after_seconds({}) == 0


def test_a_slow_answer_times_out(live_settings: MakeSettings) -> None:
    def slow(_: Request) -> Response:
        time.sleep(0.3)
        return Response("late")

    quick = session(live_settings, request_timeout_seconds=0.1, request_attempts=2)
    # a server of its own: late answers would turn up in the log of the next test
    with HTTPServer() as server:
        server.expect_request("/x").respond_with_handler(slow)
        with pytest.raises(RequestFailed, match=r"no answer within 0\.1 s \(2 attempts\)"):
            # the session's time-out goes before the client's
            quick.get(server.url_for("/x"), timeout=60)


def test_a_refused_connection_is_reported(live_settings: MakeSettings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RequestFailed, match=r"127\.0\.0\.1 could not be reached") as caught:
        session(live_settings).get(f"http://127.0.0.1:{port}/x")
    assert caught.value.status is None


def test_an_answer_shorter_than_announced_is_tried_again(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    httpserver.expect_request("/x").respond_with_handler(
        in_turn(cut_short("2018-12-31,250"), Response("2018-12-31,2506.85\n"))
    )
    assert session(live_settings).get(httpserver.url_for("/x")).text == "2018-12-31,2506.85\n"
    assert len(httpserver.log) == 2


def test_an_answer_that_stays_short_is_an_error(
    httpserver: HTTPServer, live_settings: MakeSettings
) -> None:
    httpserver.expect_request("/x").respond_with_handler(lambda _: cut_short("2018-12-31,250"))
    with pytest.raises(RequestFailed, match="broke off in the middle"):
        session(live_settings).get(httpserver.url_for("/x"))


def test_no_message_repeats_a_secret(
    httpserver: HTTPServer, live_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    httpserver.expect_request("/s3cret/x").respond_with_data("s3cret", status=500)
    failures: list[RequestFailed] = []
    for address in (httpserver.url_for("/s3cret/x?token=s3cret"), "http://me:s3cret@127.0.0.1:9/"):
        with pytest.raises(RequestFailed) as caught:
            session(live_settings).get(address, headers={"Authorization": "Token s3cret"})
        failures.append(caught.value)
    with pytest.raises(RequestFailed) as caught:
        # requests repeats an unusable header in its own message
        session(live_settings).get(httpserver.url_for("/x"), headers={"Authorization": "s3cret\n"})
    failures.append(caught.value)
    for failure in failures:
        assert "s3cret" not in str(failure)
        assert failure.__suppress_context__ or failure.__context__ is None
    # the server of this test logs what it is asked for; our side must not
    ours = [record for record in caplog.records if record.name != "werkzeug"]
    assert not any("s3cret" in record.getMessage() for record in ours)


def test_clients_see_a_failed_request_as_a_network_failure() -> None:
    assert issubclass(RequestFailed, OSError)
    assert not issubclass(RequestFailed, requests.RequestException)
