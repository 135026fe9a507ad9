"""`lookback serve`: the published data by DuckDB's remote protocol, until it is told to end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

from db.errors import StoreError, UsageError
from db.serving import Address, Server, serve, serve_token
from db.settings import Settings

POLL_SECONDS = 0.5


def run_serve(settings: Settings, host: str, port: int | None, *, allow_remote: bool) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. Prints times in UTC, never the token.

    Raises
    ------
    StoreError
        Nothing is published.
    UsageError
        The address is taken, or not of this machine alone and that is not allowed; the token is
        too short or open to others; packages are missing.
    """
    address = Address(host, port or settings.serve_port)
    if not address.is_loopback and not allow_remote:
        raise UsageError(
            f"{host} can be reached from other machines, and the protocol has no encryption of "
            "its own: add --allow-remote if that is meant (see docs/remote.md)"
        )
    if not settings.published.exists():  # before a token is made for nothing
        raise StoreError(f"nothing is published under {settings.home}; run: lookback nightly")
    token = serve_token(settings)
    with _stopped_by_signals() as stop, serve(settings, address, token) as server:
        print(f"token: {token.origin}")
        if not address.is_loopback:
            _say(
                "warning: token and data cross the network as plain text; put a TLS proxy or an "
                "SSH tunnel in between (docs/remote.md)"
            )
        _say(f"{_name(server)} on {address.uri}, read-only; Ctrl-C ends it")
        _follow(server, stop)
    print("ended", flush=True)
    return 0


def _follow(server: Server, stop: threading.Event) -> None:
    said = ""
    while not stop.wait(POLL_SECONDS):
        try:
            if server.follow():
                _say(f"{_name(server)} from now on")
            said = ""
        except StoreError as error:
            # the publication before is still served; the same is said once
            if str(error) != said:
                print(f"lookback: {error}; {_name(server)} stays", file=sys.stderr, flush=True)
            said = str(error)


def _name(server: Server) -> str:
    assert server.publication is not None
    return server.publication.parent.name


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {line}", flush=True)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, in place of what they did before."""
    stop = threading.Event()

    def set_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
