"""The clock of a night."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from db import clock
from db.clock import SAMPLE_SESSION, night
from db.errors import UsageError
from db.sessions import Sessions
from db.settings import Settings, load_settings

CUTOFF = datetime(2018, 12, 29, 3, tzinfo=UTC)


class FrozenDatetime(datetime):
    """A machine whose clock stands at `at`."""

    at = CUTOFF

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return cls.at


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> type[FrozenDatetime]:
    monkeypatch.setattr(clock, "datetime", FrozenDatetime)
    monkeypatch.setattr(FrozenDatetime, "at", CUTOFF)
    return FrozenDatetime


def test_the_sample_night_stands_at_its_cutoff(settings: Settings, calendar: Sessions) -> None:
    found = night(settings, calendar)
    assert found.session == SAMPLE_SESSION
    assert found.cutoff == CUTOFF  # 16:00 in New York and six hours
    assert found.replayed
    assert found.now == found.time() == CUTOFF


def test_the_cutoff_follows_an_early_close(settings: Settings, calendar: Sessions) -> None:
    assert night(settings, calendar, date(2018, 12, 24)).cutoff == datetime(
        2018, 12, 25, 0, tzinfo=UTC
    )
    longer = load_settings(cutoff_delay_hours=7.5)
    assert night(longer, calendar, date(2018, 12, 24)).cutoff == datetime(
        2018, 12, 25, 1, 30, tzinfo=UTC
    )


def test_no_session_names_its_neighbours(settings: Settings, calendar: Sessions) -> None:
    with pytest.raises(UsageError, match=r"nearest sessions: 2018-12-24 and 2018-12-26"):
        night(settings, calendar, date(2018, 12, 25))


def test_a_system_night_begins_at_the_machines_time(
    frozen: type[FrozenDatetime], calendar: Sessions
) -> None:
    live = load_settings(profile="live")
    found = night(live, calendar)
    assert (found.session, found.cutoff, found.now) == (SAMPLE_SESSION, CUTOFF, CUTOFF)
    assert not found.replayed
    frozen.at = CUTOFF + timedelta(days=3, hours=-1)  # Monday's session has closed by then
    caught_up = night(live, calendar, date(2018, 12, 27))
    assert caught_up.cutoff == CUTOFF - timedelta(days=1)
    assert caught_up.now == frozen.at  # fetched late, known by its own cut-off


def test_a_system_clock_goes_on_and_a_replayed_one_stands(
    frozen: type[FrozenDatetime], calendar: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = night(load_settings(profile="live"), calendar)
    replayed = night(load_settings(profile="live", clock="replay"), calendar)
    monkeypatch.setattr(frozen, "at", CUTOFF + timedelta(minutes=5))
    assert live.time() - live.now == timedelta(minutes=5)
    assert replayed.time() == replayed.now == replayed.cutoff


def test_a_session_whose_cutoff_has_not_come_is_refused(
    frozen: type[FrozenDatetime], calendar: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "at", CUTOFF - timedelta(seconds=1))
    for profile, mode in (("live", "system"), ("files", "replay")):
        settings = load_settings(profile=profile, clock=mode)
        assert night(settings, calendar).session == date(2018, 12, 27)
        with pytest.raises(UsageError) as caught:
            night(settings, calendar, SAMPLE_SESSION)
        assert "2018-12-28" in str(caught.value)
        assert "2018-12-27" in str(caught.value)
        assert caught.value.exit_code == 2


def test_far_futures_are_refused(settings: Settings, calendar: Sessions) -> None:
    for day in (date(2999, 1, 4), calendar.days[-1].astype(object)):
        with pytest.raises(UsageError):
            night(settings, calendar, day)
