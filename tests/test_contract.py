"""The published schema is the recorded one, and its pages say what it is.

A change is recorded by `python -m tests.test_contract --record`.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import JSON, Column, Table
from sqlalchemy import types as kinds

from db import tables
from db.clock import past_night
from db.publishing import open_published, publish, query_published
from db.sessions import Sessions, sessions
from db.settings import Settings, load_settings
from db.warehouse import Warehouse, open_warehouse
from features.catalog import feature_view
from features.materialize import materialize
from signals.latest import refresh_latest, refresh_wide
from signals.sentiment import bring_days_up_to_date, refresh_daily

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("contract.json")
PAGES = ROOT / "docs" / "tables"

sys.path.append(str(ROOT / "docs"))
tables_page = importlib.import_module("tables_page")
TABLES = importlib.import_module("tables_queries").TABLES
QUERIES = [
    pytest.param(name, query, id=f"{name}: {query.question}")
    for name, table in TABLES.items()
    for query in table.queries
]
WHAT_TO_DO = """the published contract has changed. If that is meant:
1. write a migration (db/migrations/versions) and a line in CHANGELOG.md,
2. record it: python -m tests.test_contract --record
3. make the pages anew: python docs/tables_page.py --home FOLDER (see docs/tables/index.md)
"""


def difference(recorded: str, published: str) -> str:
    """What is other than it was recorded, and what to do; empty if nothing is."""
    lines = difflib.unified_diff(
        recorded.splitlines(), published.splitlines(), "recorded", "published", lineterm="", n=0
    )
    changes = "\n".join(lines)
    return f"{WHAT_TO_DO}{changes}" if changes else ""


# --------------------------------------------------------------------------- a small store

NIGHT = date(2019, 1, 4)
FILLED = {
    kinds.String: "x",
    kinds.Date: NIGHT,
    kinds.TIMESTAMP: datetime(2019, 1, 5, 3, tzinfo=UTC),
    kinds.Boolean: False,
    kinds.Integer: 1,
    kinds.BigInteger: 1,
    kinds.Double: 0.5,
    JSON: "{}",
    kinds.ARRAY: ["AAPL", "JPM"],
}


def put(warehouse: Warehouse, table: Table, *rows: Mapping[str, Any]) -> None:
    """Append what a table takes of rows; what they leave out is NULL, or where needed something."""
    needed = {column.name: _something(column) for column in table.columns if not column.nullable}
    frame = pd.DataFrame([needed | dict(row) for row in rows])
    warehouse.append(table, frame[[each.name for each in table.columns if each.name in frame]])


def _something(column: Column[Any]) -> Any:
    return FILLED[next(kind for kind in type(column.type).__mro__ if kind in FILLED)]


def scores() -> Iterator[dict[str, Any]]:
    """Rows of signals: a weekly cross-section, a series a day, one a month; two roles."""
    for number, week in enumerate(pd.date_range("2018-11-02", NIGHT, freq="W-FRI")):
        role = {"role": "live" if week.date() == NIGHT else "backfill", "as_of": week.date()}
        for place, entity in enumerate(("AAPL", "JPM", "XOM"), start=1):
            yield role | {
                "signal": "equity_week_direction",
                "entity": entity,
                "value": place + number / 10,
                "probability": place / 4,
                "rank": place / 3,
            }
        daily = {"signal": "sp500_next_close", "entity": "SP500", "value": 2500.0}
        yield role | daily | {"q05": 2400.0, "q50": 2500.0, "q95": 2600.0}
    monthly = {"signal": "macro_outlook", "entity": "BAA", "value": 1.0}
    yield monthly | {"role": "backfill", "as_of": date(2018, 12, 17)}
    live = {"role": "live", "signal": "sp500_next_close", "entity": "SP500", "value": 2500.0}
    for day in ("2018-12-28", "2018-12-31", "2019-01-02"):
        evening = pd.Timestamp(day, tz="UTC") + timedelta(hours=27)
        yield live | {"as_of": pd.Timestamp(day).date(), "published_at": evening}


def fill(warehouse: Warehouse) -> None:
    """A few rows in each published table, such as nights and a backfill leave."""
    units = {"equity_week_direction": "week", "macro_outlook": "month"}
    common = {"horizon": 1, "horizon_unit": "session", "model_version": "v1", "run_id": "night"}
    rows = [common | {"data_snapshot": "snapshot"} | row for row in scores()]
    for row in rows:
        row["horizon_unit"] = units.get(row["signal"], "session")
    put(warehouse, tables.signals, *rows)
    put(warehouse, tables.signal_revisions, *({"revision": 0} | row for row in rows))
    returns: dict[str, Any] = {"start": 0.0, "error": 1.0, "hit": True}
    returns |= {"label_return": 0.01, "tradable_return": 0.02, "tradable_until": NIGHT}
    put(warehouse, tables.outcomes, *(returns | row for row in rows))
    put(
        warehouse,
        tables.signal_performance,
        *(
            common
            | {"signal": signal, "entity": entity, "as_of": day.date(), "role": "backfill"}
            | {"horizon_unit": unit, "model_version": "*", "rank_ic": 0.1, "tradable_rank_ic": 0.1}
            | {"running_mae": 1.0, "running_naive_mae": 2.0, "running_rank_ic": 0.1}
            for signal, entity, unit in (
                ("equity_week_direction", "*", "week"),
                ("sp500_next_close", "SP500", "session"),
            )
            for day in pd.date_range("2018-11-02", NIGHT, freq="W-FRI")
        ),
    )
    put(
        warehouse,
        tables.signal_calibration,
        *(
            common
            | {"signal": "sp500_next_close", "role": "backfill", "model_version": "*"}
            | {"kind": "quantile", "bucket": bucket, "expected": level}
            for bucket, level in enumerate((0.05, 0.5, 0.95), start=1)
        ),
        common
        | {"signal": "equity_week_direction", "role": "live", "model_version": "*"}
        | {"kind": "probability", "bucket": 1},
    )
    drifts = {"signal": "sp500_next_close", "model_version": "v1", "psi": 0.3, "noise": 0.1}
    put(
        warehouse,
        tables.signal_drift,
        drifts | {"subject": "value", "drifted": True},
        drifts | {"subject": "feature week_return"},
    )
    put(
        warehouse,
        tables.freshness,
        {"source": "sample.SP500"},
        {"source": "sample.VIXCLS", "stale": True, "age": 3, "detail": "3 sessions old"},
    )
    views = {"feature_view": "equity_weekly_return", "feature_version": "f1"}
    version = {"model": "sp500_next_close", "data_snapshot": "snapshot"} | views
    put(
        warehouse,
        tables.model_versions,
        version | {"model_version": "20190104-week-0", "stage": "champion", "parameters": 273},
        version | {"model_version": "v1", "stage": "walk-forward", "metrics": '{"rmse": 20.5}'},
    )
    put(warehouse, tables.feature_views, {"view": "equity_weekly_return", "version": "f1"})
    put(warehouse, tables.data_snapshots, {"data_snapshot": "snapshot"} | views)
    put(warehouse, tables.runs, {"run_id": "night", "flow": "nightly", "session": NIGHT})
    put(
        warehouse,
        tables.validation_results,
        {"source": "sample.stocks", "level": "row", "rule": "positive", "success": True},
        {"source": "sample.stocks", "level": "table", "rule": "gap"},
    )
    put(
        warehouse,
        tables.bars,
        *(
            {"source": "sample.stocks", "entity": name, "session": day, "known_at": known}
            for name in ("AAPL", "JPM")
            for day, known in ((date(2017, 6, 30), datetime(2017, 7, 1, tzinfo=UTC)),)
        ),
    )
    calendar = sessions("XNYS")
    talk(warehouse, calendar)
    refresh_latest(warehouse, calendar, NIGHT)
    refresh_wide(warehouse)


MENTION = ("source", "document_id", "entity", "known_at")


def talk(warehouse: Warehouse, calendar: Sessions) -> None:
    """A text about two stocks in the morning of each session of December."""
    rows = []
    for session in pd.date_range("2018-12-03", "2018-12-31"):
        if calendar.is_session(session.date()):
            at = session.tz_localize("UTC") + timedelta(hours=15)
            text = {"source": "inbox", "document_id": str(session.date()), "known_at": at}
            rows.append(text | {"published_at": at, "session": session.date()})
    put(warehouse, tables.documents, *rows)
    put(warehouse, tables.document_sentiment, *rows)
    named = [row | {"entity": entity} for row in rows for entity in ("AAPL", "JPM")]
    put(
        warehouse,
        tables.mentions,
        *({name: row[name] for name in MENTION} for row in named),
    )
    night = past_night(warehouse.settings, calendar, NIGHT)
    days = pd.DataFrame(
        [{"entity": row["entity"], "session": pd.Timestamp(row["session"])} for row in named]
    )
    bring_days_up_to_date(warehouse, days, "text", night, "night")
    materialize(warehouse, feature_view("sentiment_daily"))
    refresh_daily(warehouse)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Settings]]:
    """The relations of an empty store's publication, and a publication with some rows."""
    settings = load_settings(home=tmp_path_factory.mktemp("contract"), profile="sample")
    with open_warehouse(settings, "test") as warehouse:
        refresh_wide(warehouse)
        refresh_daily(warehouse)
        publish(warehouse)
        with open_published(settings) as connection:
            relations = tables_page.published_relations(connection)
        fill(warehouse)
        publish(warehouse)
    return relations, settings


@pytest.fixture(scope="module")
def relations(stores):
    return stores[0]


# --------------------------------------------------------------------------- tests


def test_the_published_schema_is_the_recorded_one(relations):
    changed = difference(RECORD.read_text(), tables_page.as_json(relations))
    assert not changed, changed


def test_a_change_of_the_contract_is_named(relations):
    outcomes = relations["outcomes"]
    *others, last = outcomes.columns
    changed = replace(outcomes, columns=(*others, replace(last, type="INTEGER")))
    before = tables_page.as_json(relations)
    said = difference(before, tables_page.as_json(relations | {"outcomes": changed}))
    assert f'-   "{last}' in said
    assert "run_id INTEGER NOT NULL" in said
    assert said.startswith(WHAT_TO_DO)
    assert difference(before, before) == ""


def test_everything_published_has_a_page(relations):
    assert relations.keys() == TABLES.keys()
    assert {page.stem for page in PAGES.glob("*.md")} == {"index", *TABLES}


def test_every_table_and_column_has_a_comment(relations):
    silent = [name for name, each in relations.items() if not each.comment]
    silent += [
        f"{name}.{column.name}"
        for name, each in relations.items()
        for column in each.columns
        if not column.comment
    ]
    assert silent == []


@pytest.mark.parametrize("name", TABLES)
def test_a_page_is_up_to_date(stores, name):
    relations, settings = stores
    page = (PAGES / f"{name}.md").read_text()
    table = TABLES[name]
    assert page.startswith(tables_page.head(relations[name], table) + "\n\n## "), (
        f"make {name}.md anew"
    )
    asked = [part.split("\n\n|")[0] for part in page.split("\n\n## ")[1:]]
    assert asked == [f"{each.question}\n\n```sql\n{each.sql}\n```" for each in table.queries]
    assert len(asked) >= 3
    with open_published(settings) as connection:
        tables_page.require_grain(relations[name], table, connection)


def test_the_index_is_up_to_date(relations):
    assert (PAGES / "index.md").read_text() == tables_page.index(relations)


@pytest.mark.parametrize(("name", "query"), QUERIES)
def test_a_query_gives_what_its_page_shows(stores, name, query):
    columns, rows = query_published(stores[1], query.sql)
    assert rows
    page = (PAGES / f"{name}.md").read_text()
    shown = page.split(f"\n\n## {query.question}\n")[1].split("```\n\n| ")[1]
    assert shown.split(" |\n")[0].split(" | ") == columns


def record() -> None:
    """Take what an empty store publishes as the contract."""
    with tables_page.empty_publication() as connection:
        RECORD.write_text(tables_page.as_json(tables_page.published_relations(connection)))


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit("usage: python -m tests.test_contract --record")
    record()
