"""Recorded vendor answers, served on loopback."""

from collections.abc import Callable
from pathlib import Path

import pytest

from db.settings import Settings

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def recorded() -> Callable[[str], bytes]:
    """The bytes of a recorded answer by file name."""
    return lambda name: (RECORDED / name).read_bytes()


@pytest.fixture
def live_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of the live profile with quick retries; keyword arguments win."""

    def make(**overrides: object) -> Settings:
        quick: dict[str, object] = {
            "profile": "live",
            "home": tmp_path,
            "request_backoff_seconds": 0,
            "request_attempts": 3,
            "request_timeout_seconds": 2,
        }
        return Settings(**(quick | overrides))

    return make
