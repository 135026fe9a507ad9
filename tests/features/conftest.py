"""A store for the tests of features, and raw rows as a source would have left them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from db.sessions import Sessions
from db.settings import Settings
from db.tables import (
    bars,
    corporate_actions,
    memberships,
    observations,
    price_breaks,
    sentiment,
)
from db.warehouse import Warehouse, open_warehouse
from features.view import Feature, FeatureView, Input

CLOSE = FeatureView(
    name="close",
    description="closes",
    entity="series",
    inputs=(Input("observations", memory=0),),
    sql="SELECT series AS entity, period AS date, value AS close, known_at FROM observations",
    features=(Feature("close"),),
    window=3,
    target="close",
    horizon=1,
    horizon_unit="session",
)


class Raw:
    """Raw rows of a store, written as takings-over do: each with a later `ingested_at`."""

    def __init__(self, warehouse: Warehouse, calendar: Sessions) -> None:
        self.warehouse = warehouse
        self.calendar = calendar
        self.clock = datetime(2030, 1, 1, tzinfo=UTC)

    def _ingested(self) -> pd.Timestamp:
        self.clock += timedelta(hours=1)
        return pd.Timestamp(self.clock)

    def known_at(self, session: str, hours: float = 4) -> pd.Timestamp:
        """When the close of a session could be used."""
        close = self.calendar.close(pd.Timestamp(session).date())
        return pd.Timestamp(close + timedelta(hours=hours))

    def observe(self, values, known_at=None, series="SP500", source="sample.SP500"):
        """Append observations, session -> value; known four hours after their close."""
        rows = pd.DataFrame({"period": pd.to_datetime(list(values)), "value": values.values()})
        known = [self.known_at(day) if known_at is None else known_at for day in values]
        self.append_observations(rows.assign(known_at=known), series, source)

    def append_observations(self, rows, series="SP500", source="sample.SP500"):
        rows = rows.assign(source=source, series=series, ingested_at=self._ingested(), run_id="run")
        self.warehouse.append(observations, rows)

    def append_bars(self, rows, source="sample.stocks", history=0, adjustment="total"):
        """Append bars: a frame with entity, session, known_at and whatever prices there are."""
        rows = rows.assign(
            source=source,
            adjustment=adjustment,
            history=history,
            ingested_at=self._ingested(),
            run_id="run",
        )
        self.warehouse.append(bars, rows)

    def append_actions(self, rows, source="sample.stocks"):
        """Append splits, dividends, delistings: entity, ex_date, kind, factor, known_at."""
        rows = rows.assign(source=source, ingested_at=self._ingested(), run_id="run")
        self.warehouse.append(corporate_actions, rows)

    def append_memberships(self, rows, source="sample.stocks"):
        """Append members: universe, entity, first_session, last_session (or NaT), known_at."""
        rows = rows.assign(source=source, ingested_at=self._ingested(), run_id="run")
        self.warehouse.append(memberships, rows)

    def append_days(self, rows):
        """Append days of texts: entity, session, the five values, known_at."""
        rows = rows.assign(
            source="text", model_version="v1", ingested_at=self._ingested(), run_id="run"
        )
        self.warehouse.append(sentiment, rows)

    def append_break(self, kind, session, *, until=None, resolved=None, entity="SP500"):
        """A judgement of a break: a suspicion from its close on, a verdict when resolved."""
        row = {
            "source": "sample.SP500",
            "entity": entity,
            "session": pd.Timestamp(session),
            "kind": kind,
            "ratio": 2.0,
            "until_session": pd.Timestamp(until) if until else pd.NaT,
            "resolved_session": pd.Timestamp(resolved) if resolved else pd.NaT,
            "resolved_at": self.known_at(resolved) if resolved else pd.NaT,
            "reason": "test",
            "known_at": self.known_at(session),
            "ingested_at": self._ingested(),
            "run_id": "run",
        }
        frame = pd.DataFrame([row])
        frame["resolved_at"] = pd.to_datetime(frame["resolved_at"], utc=True)
        self.warehouse.append(price_breaks, frame)

    def clear(self):
        """Forget all raw rows and all views."""
        every = (observations, bars, corporate_actions, memberships, price_breaks, sentiment)
        for table in every:
            self.warehouse.native.execute(f"DELETE FROM {table.fullname}")
        self.warehouse.native.execute("DELETE FROM main.feature_views")
        for (name,) in self.warehouse.sql(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'features'"
        ):
            self.warehouse.native.execute(f"DROP TABLE features.{name}")
        # rows are numbered from 0 again, as in a new store
        self.warehouse.native.execute("CHECKPOINT")

    def table(self, view: FeatureView) -> list[tuple]:
        """All values that a read at some cut-off can see, in order."""
        return self.warehouse.sql(
            f"""
            SELECT entity, date, {", ".join(view.names)}, known_at, known_until
            FROM {view.table}
            WHERE known_until IS NULL OR known_until > known_at
            ORDER BY ALL
            """
        )


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


@pytest.fixture(scope="session")
def raw_rows() -> type[Raw]:
    """The class, for tests with more than one store."""
    return Raw


@pytest.fixture
def raw(warehouse, calendar) -> Raw:
    return Raw(warehouse, calendar)


@pytest.fixture
def close() -> FeatureView:
    """Three closes to the next one, of every series."""
    return CLOSE
