"""A store with one history, one champion and a network that is none, for scoring."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from db.clock import Night
from db.sessions import Sessions
from db.settings import Settings
from db.tables import model_versions, observations, runs
from db.warehouse import Warehouse, open_warehouse
from features.catalog import feature_view
from features.materialize import materialize
from features.view import Input
from models import examples, registry
from models.catalog import recipe
from signals import outcomes, scoring
from signals.declaration import SIGNALS
from signals.scoring import Scored

SIGNAL = SIGNALS["sp500_next_close"]
LAST_OF_RETURNS = date(2018, 12, 14)


@dataclass
class FakeModel:
    """Tomorrow is today plus a step; `loaded` counts how often it was needed."""

    step: float = 1.0
    loaded: list[str] = field(default_factory=list)
    manifest: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(quantiles=None, gives_probability=False)
    )

    def forecast(self, examples):
        return examples.last[:, None, :].repeat(examples.y.shape[1], axis=1) + self.step


class Desk:
    """What the tests of scoring do: take in closes, train, run a night's scoring."""

    def __init__(self, warehouse: Warehouse, calendar: Sessions) -> None:
        self.warehouse = warehouse
        self.calendar = calendar
        self.ingested = datetime(2030, 1, 1, tzinfo=UTC)

    @property
    def view(self):
        return scoring.feature_view(recipe(SIGNAL.model).view)

    def cutoff(self, session: date) -> datetime:
        return self.calendar.close(session) + timedelta(hours=6)

    def night(self, session: date, now: datetime | None = None) -> Night:
        cutoff = self.cutoff(session)
        return Night(session, cutoff, now or cutoff, replayed=True)

    def history(
        self, until: date, count: int = 70, series: str = "SP500", level=2000.0, known_at=None
    ) -> None:
        """Closes of the sessions up to a date: level, level + 1, ..."""
        days = [self.calendar.offset(until, -back) for back in range(count - 1, 0, -1)]
        closes = {day: level + number for number, day in enumerate([*days, until])}
        self.observe(closes, known_at, series=series)

    def observe(self, closes, known_at: datetime | None = None, series: str = "SP500") -> None:
        self.ingested += timedelta(hours=1)
        rows = pd.DataFrame(
            {
                "source": f"sample.{series}",
                "series": series,
                "period": pd.to_datetime(list(closes)),
                "value": [float(value) for value in closes.values()],
                "known_at": [
                    pd.Timestamp(known_at or self.calendar.close(day) + timedelta(hours=4))
                    for day in closes
                ],
                "ingested_at": pd.Timestamp(self.ingested),
                "run_id": "run of the night",
            }
        )
        self.warehouse.append(observations, rows)
        materialize(self.warehouse, self.view)

    def version(self, name: str = "v1", stage: str = "champion", **changes) -> None:
        """Register a version that learned until the end of 2017."""
        self.warehouse.insert(
            model_versions,
            {
                "model": SIGNAL.model,
                "model_version": name,
                "status": "trained",
                "stage": stage,
                "recipe": recipe(SIGNAL.model).to_json(),
                "feature_view": self.view.name,
                "feature_version": self.view.version,
                "data_snapshot": "snapshot of training",
                "cutoff": datetime(2018, 7, 1, tzinfo=UTC),
                "labels_known_at": datetime(2017, 12, 30, tzinfo=UTC),
                "seed": 42,
                "backend": "tensorflow",
                "parameters": 1,
                "spans": {},
                "metrics": {"rmse": 1.0},
                "baselines": {"persistence": {"rmse": 1.0}},
                "artefact": f"{SIGNAL.model}/{name}",
                "artefact_sha256": "0" * 64,
                "reason": "test",
                "trained_at": datetime(2018, 7, 1, tzinfo=UTC),
                "seconds": 1.0,
                "run_id": "run of the training",
            }
            | changes,
        )

    def run(self, run_id: str, flow: str = "nightly") -> None:
        """Record a run, as the flows do."""
        self.warehouse.insert(
            runs,
            {
                "run_id": run_id,
                "flow": flow,
                "profile": "sample",
                "status": "completed",
                "started_at": datetime(2018, 12, 28, tzinfo=UTC),
                "missing": [],
                "version": "test",
            },
        )

    def score(self, night: Night, run_id: str = "run of the night", role="live") -> Scored:
        return scoring.score(self.warehouse, SIGNAL, night, self.calendar, run_id, role)

    def rows(self, table: str = "signals") -> list[dict]:
        """Rows of a table of signals, in order of publication."""
        found = self.warehouse.native.execute(
            f"""
            SELECT * FROM main.{table}
            ORDER BY published_at, entity, as_of, model_version, role
            """
        )
        names = [name for name, *_ in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A migrated store without rows: copied for each test, because migrating takes 1.5 s."""
    home = tmp_path_factory.mktemp("empty")
    with open_warehouse(Settings(home=home, profile="sample"), "test"):
        pass
    return home / "warehouse.duckdb"


@pytest.fixture
def warehouse(settings, empty_store) -> Iterator[Warehouse]:
    settings.home.mkdir(parents=True)
    shutil.copy(empty_store, settings.warehouse)
    with open_warehouse(settings, "test") as opened:
        yield opened


@pytest.fixture
def desk(warehouse, calendar) -> Desk:
    return Desk(warehouse, calendar)


@pytest.fixture
def model(monkeypatch) -> FakeModel:
    """Stands in for the network of every version."""
    fake = FakeModel()

    def load(settings, version):
        fake.loaded.append(version.model_version)
        return fake

    monkeypatch.setattr(scoring, "load", load)
    monkeypatch.setattr(registry.artefacts, "verify", lambda folder, sha256: None)
    return fake


@pytest.fixture
def panel(monkeypatch):
    """The signal's view reads every series, so that there is something to rank."""
    from dataclasses import replace

    view = feature_view("sp500_close")
    wide = replace(view, inputs=(Input("observations", memory=0),), window=5)
    for module in (scoring, outcomes, examples, registry):
        monkeypatch.setattr(module, "feature_view", lambda name: wide)
    return wide


@pytest.fixture
def of_returns(desk, model, panel, monkeypatch) -> Desk:
    """The panel's champion orders returns: four entities, the last one with the highest level."""
    from dataclasses import replace

    made_by = registry.ModelVersion.made_by.fget

    def direction(version):
        return replace(made_by(version), task="direction", learns="rank", scaling="none")

    monkeypatch.setattr(registry.ModelVersion, "made_by", property(direction))
    for number, name in enumerate("ABCD"):
        desk.history(LAST_OF_RETURNS, count=20, series=name, level=10.0**number)
    desk.version(feature_version=panel.version)
    return desk


@pytest.fixture
def constant(monkeypatch):
    """Makes the model give the same answer whatever it sees."""

    def answer(model, value):
        monkeypatch.setattr(
            model, "forecast", lambda given: np.full(given.y.shape, value), raising=False
        )

    return answer
