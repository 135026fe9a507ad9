"""What tests of the store share: an empty store, migrated once and copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from db.quality import gate
from db.quality.expectations import Outcome, Suite, Validation
from db.settings import Settings, load_settings
from db.warehouse import Warehouse, open_warehouse


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store of the sample profile without rows."""
    settings = load_settings(home=tmp_path_factory.mktemp("empty"), profile="sample")
    with open_warehouse(settings, "test"):
        pass
    return settings.warehouse


@pytest.fixture
def stored(settings: Settings, empty_store: Path) -> Settings:
    """Settings of a home that holds an empty store: a migration takes 0.7 s, a copy none."""
    settings.home.mkdir()
    shutil.copyfile(empty_store, settings.warehouse)
    return settings


@pytest.fixture
def warehouse(stored: Settings) -> Iterator[Warehouse]:
    """An empty store, open."""
    with open_warehouse(stored, "test") as warehouse:
        yield warehouse


@pytest.fixture
def by_predicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate's verdicts by its predicates alone: Great Expectations takes 0.6 s a delivery.

    That both say the same is a test of the gate's own (`tests/db/quality`).
    """

    def run_suites(source: str, suites: Sequence[Suite]) -> list[Validation]:
        return [_judged(suite) for suite in suites]

    monkeypatch.setattr(gate, "run_suites", run_suites)


def _judged(suite: Suite) -> Validation:
    outcomes = {}
    for rule in suite.rules:
        failing = int(rule.check.fails(suite.frame).sum())
        outcomes[rule.name] = Outcome("predicate", failing == 0, len(suite.frame), failing)
    return Validation(suite.name, outcomes, None)
