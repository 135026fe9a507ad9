"""How live sources talk to their vendors: one retry policy, one time-out, no secrets in errors.

Messages name the vendor's host and never more of an address than that: tokens travel
in paths, queries and headers, and the texts of network exceptions repeat them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity

from db.errors import SourceError
from db.settings import Settings

# A vendor that asks for a longer pause than this is asked again on the next run
# instead: a night has other sources to fetch.
LONGEST_WAIT_SECONDS = 60.0
TOO_MANY_REQUESTS = 429


class Answer(Protocol):
    """What `requests` and `curl_cffi` responses have in common."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, Any]: ...


AnswerT = TypeVar("AnswerT", bound=Answer)


class RequestFailed(SourceError, OSError):  # noqa: N818 - reads as what happened
    """A vendor could not be reached or refused to answer.

    It is an `OSError` too, so that client libraries treat it as they treat any
    network failure.

    Attributes
    ----------
    status : HTTP status of the last answer; None where there was none.
    answer : text of a refusal, for a source that knows its vendor's errors. It may repeat what
        was asked, keys included: never a part of a message as it is.
    """

    def __init__(self, message: str, status: int | None = None, answer: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


@dataclass(frozen=True)
class RetryPolicy:
    """Which requests are tried again, how often and after which wait.

    Connection errors, time-outs, answers cut short, HTTP 429 and 5xx are tried again;
    the other 4xx are final. Waits double from `backoff_seconds` with as much jitter on
    top, and are never shorter than the vendor's `Retry-After`.

    Attributes
    ----------
    source : name of the source, first word of every message.
    attempts : requests sent at most, the first included.
    backoff_seconds : first wait.
    timeout_seconds : limit for connecting and between two pieces of an answer.
    """

    source: str
    attempts: int
    backoff_seconds: float
    timeout_seconds: float

    @classmethod
    def of(cls, source: str, settings: Settings) -> RetryPolicy:
        """The policy that the settings ask for."""
        return cls(
            source,
            settings.request_attempts,
            settings.request_backoff_seconds,
            settings.request_timeout_seconds,
        )

    def send(
        self, call: Callable[[], AnswerT], url: str, transient: tuple[type[Exception], ...]
    ) -> AnswerT:
        """The answer of `call`; any status but 429 and 5xx is returned as it is.

        `call` sends the request to `url` once (of which messages show the host only) and
        raises one of `transient`, the client's network failures, where it gets no answer.

        Raises
        ------
        RequestFailed
            After the last attempt, or at once where the vendor asks for a longer pause
            than `LONGEST_WAIT_SECONDS`.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(transient)
            | tenacity.retry_if_result(_worth_another_attempt),
            retry_error_callback=_last_outcome,
        )
        host = urlsplit(url).hostname or "its server"
        try:
            answer: AnswerT = retrying(call)
        except transient as error:
            raise RequestFailed(
                f"{self.source}: {host} {self._failure(error)} ({self._tries()}); check the "
                "network and the vendor's status page; the next run asks again"
            ) from None
        if not _is_temporary(answer.status_code):
            return answer
        pause = retry_after_seconds(answer.headers)
        if pause > LONGEST_WAIT_SECONDS:
            raise RequestFailed(
                f"{self.source}: {host} answered HTTP {answer.status_code} and asks for a pause "
                f"of {pause:.0f} s; run again after that, or ask for fewer symbols",
                answer.status_code,
            )
        raise RequestFailed(
            f"{self.source}: {host} answered HTTP {answer.status_code} ({self._tries()}); see the "
            "vendor's status page; the next run asks again",
            answer.status_code,
        )

    def _wait(self, state: tenacity.RetryCallState) -> float:
        exponential = tenacity.wait_exponential(
            multiplier=self.backoff_seconds, max=LONGEST_WAIT_SECONDS
        )
        backoff = (exponential + tenacity.wait_random(0, self.backoff_seconds))(state)
        outcome = state.outcome
        if outcome is None or outcome.failed:
            return backoff
        return max(backoff, retry_after_seconds(outcome.result().headers))

    def _failure(self, error: Exception) -> str:
        # by name, because `requests` and `curl_cffi` have a class of each and no parent in common
        kind = type(error).__name__
        if "Timeout" in kind:
            return f"gave no answer within {self.timeout_seconds:g} s"
        if "Chunked" in kind or "Incomplete" in kind:
            return "broke off in the middle of its answer"
        return f"could not be reached: {kind}"

    def _tries(self) -> str:
        return "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"


class VendorSession(requests.Session):
    """A `requests` session under a retry policy; hand it to a vendor's own client.

    Parameters
    ----------
    policy : retries and time-out; the time-out overrides the client's.
    inspect : looks at the body of a good answer before the client parses it, and raises
        `SourceError` where it must not be trusted.
    """

    def __init__(self, policy: RetryPolicy, inspect: Callable[[bytes], None] | None = None) -> None:
        super().__init__()
        self._policy = policy
        self._inspect = inspect

    def request(
        self, method: str, url: str | bytes, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request, again where the policy says so.

        Raises
        ------
        RequestFailed
            For every status from 400 on, and where there was no answer.
        """
        kwargs["timeout"] = self._policy.timeout_seconds
        address = url.decode() if isinstance(url, bytes) else url
        once = super().request
        # urllib3 2 compares the length of the body with Content-Length and raises
        # (as ChunkedEncodingError) where a connection broke off: such an answer is retried.
        answer = self._policy.send(
            lambda: once(method, url, *args, **kwargs), address, (requests.RequestException,)
        )
        if answer.status_code >= 400:
            host = urlsplit(address).hostname
            raise RequestFailed(
                f"{self._policy.source}: {host} refused the request with HTTP "
                f"{answer.status_code}; check the name of the series or symbol and the key",
                answer.status_code,
                answer.text,
            )
        if self._inspect is not None:
            self._inspect(answer.content)
        return answer


def retry_after_seconds(headers: Mapping[str, Any]) -> float:
    """Pause that a `Retry-After` header asks for, in seconds; 0 without a readable one.

    The header holds seconds or an HTTP date (RFC 9110, section 10.2.3).
    """
    value = str(headers.get("Retry-After") or "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:  # "-0000": a zone that is not told is UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _is_temporary(status: int) -> bool:
    return status == TOO_MANY_REQUESTS or status >= 500


def _worth_another_attempt(answer: Answer) -> bool:
    return (
        _is_temporary(answer.status_code)
        and retry_after_seconds(answer.headers) <= LONGEST_WAIT_SECONDS
    )


def _last_outcome(state: tenacity.RetryCallState) -> Any:
    """After the last attempt: its answer, or its exception."""
    return state.outcome.result() if state.outcome is not None else None
