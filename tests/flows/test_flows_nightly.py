"""Nights, end to end, on the sample profile: first, again, next, past, and with a failure."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from db.errors import SourceError
from db.publishing import query_published
from db.settings import Settings, load_settings

FIRST, NEXT = date(2018, 12, 28), date(2018, 12, 31)
WITHOUT_RUN_IDS = "SELECT * EXCLUDE (run_id) FROM signals ORDER BY ALL"


def rows_hash(settings: Settings, query: str = WITHOUT_RUN_IDS) -> str:
    _, rows = query_published(settings, query)
    assert rows
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def count(settings: Settings, table: str) -> int:
    return int(query_published(settings, f"SELECT count(*) FROM {table}")[1][0][0])


@pytest.fixture
def night(prefect_server, quick_recipe):
    from flows.nightly import nightly

    return nightly


def test_a_week_of_nights(night, own_home: Path) -> None:
    settings = load_settings()

    first = night(session=FIRST)
    assert (first.exit_code, first.missing) == (0, ())
    fetched = {row.source: row for row in first.deliveries}
    assert fetched["sample.SP500"].appended == 7_306
    assert fetched["sample.stocks"].appended == 146_120
    assert {row.status for row in first.deliveries} == {"ok"}
    assert all(
        row.fetched == row.unchanged + row.appended + row.quarantined for row in first.deliveries
    )
    assert first.trained[0]["parameters"] == 1_781
    (signal,) = first.signals
    assert (signal["signal"], signal["entity"], signal["as_of"]) == (
        "sp500_next_close",
        "SP500",
        FIRST,
    )
    assert signal["last"] == 2485.74
    assert signal["tradable_from"] == NEXT
    assert signal["known_at"] == datetime.fromisoformat("2018-12-29T01:00+00:00")
    assert Path(first.data_docs).exists()
    assert not list((own_home / "staging").rglob("*.parquet"))

    before = rows_hash(settings)
    again = night(session=FIRST)
    assert (again.exit_code, again.trained) == (0, ())
    assert {row.status for row in again.deliveries} == {"unchanged"}
    assert (again.scored[0].new, again.scored[0].revised, again.scored[0].unchanged) == (0, 0, 1)
    assert rows_hash(settings) == before
    assert count(settings, "signal_revisions") == count(settings, "model_versions") == 1
    assert count(settings, "runs") == 2

    following = night(session=NEXT)
    assert following.exit_code == 0
    assert {row.source: row.appended for row in following.deliveries}["sample.stocks"] == 20
    assert following.signals[0]["as_of"] == NEXT
    assert following.signals[0]["tradable_from"] == date(2019, 1, 2)
    assert count(settings, "signals") == 2

    learned = night(session=date(2016, 9, 1))
    assert learned.exit_code == 3
    (line,) = learned.missing
    assert "learned from labels known until" in line
    assert "lookback backfill" in line
    assert count(settings, "signals") == 2
    assert learned.signals[0]["as_of"] == NEXT

    check_publication(settings)
    check_readme(settings)
    check_artifact()


def check_publication(settings: Settings) -> None:
    """What readers find: contract, lineage, Parquet, health."""
    with duckdb.connect(str(settings.published), read_only=True) as reader:
        lineage = reader.execute(
            """
            SELECT count(*)
            FROM signals s
            JOIN model_versions m USING (model, model_version)
            JOIN feature_views v ON v.view = s.feature_view AND v.version = s.feature_version
            JOIN data_snapshots d ON d.data_snapshot = s.data_snapshot
            JOIN runs r ON r.run_id = s.run_id
            WHERE m.labels_known_at < s.known_at AND s.known_at < s.published_at
            """
        ).fetchone()
        assert lineage == (2,)
        statuses = reader.execute("SELECT status, exit_code FROM runs ORDER BY started_at")
        assert statuses.fetchall() == [("completed", 0)] * 3 + [("partial", 3)]
        uncommented = reader.execute(
            "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL AND schema_name = 'main'"
        ).fetchall()
        assert uncommented == []
        balance = reader.execute(
            "SELECT bool_and(fetched = unchanged + appended + quarantined) FROM ops.deliveries"
        ).fetchone()
        assert balance == (True,)
    parquet = settings.published.parent / "signals"
    table = pd.read_parquet(parquet)
    assert sorted(table["as_of"].astype(str)) == ["2018-12-28", "2018-12-31"]


def test_a_source_that_fails_leaves_the_others(
    night, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db.sources.sample import SampleStocks

    def down(self: object, request: object) -> None:
        raise SourceError("sample.stocks: no answer from the vendor")

    monkeypatch.setattr(SampleStocks, "fetch", down)
    report = night(session=FIRST)
    assert report.exit_code == 3
    assert report.missing == ("sample.stocks: no answer from the vendor",)
    assert {row.source: row.status for row in report.deliveries}["sample.stocks"] == "failed"
    assert report.signals[0]["as_of"] == FIRST
    note = json.loads((own_home / "status" / "nightly.json").read_text())
    assert (note["status"], note["exit_code"]) == ("partial", 3)


def test_a_training_that_fails_is_named_and_published_signals_stay(
    night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db.errors import TrainingError
    from models import training

    def diverge(*_: object, **__: object) -> None:
        raise TrainingError("sp500_next_close: the loss is not finite")

    monkeypatch.setattr(training, "train", diverge)
    report = night(session=FIRST)
    assert report.exit_code == 3
    assert report.missing[0] == "sp500_next_close: the loss is not finite"
    assert "has no champion" in report.missing[1]
    assert report.signals == ()


def test_a_holiday_is_a_clean_no_op(night, own_home: Path, monkeypatch) -> None:
    import flows.nightly as module

    class Christmas(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2025, 12, 25, 22, 30, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", Christmas)
    assert night(only_on_sessions=True) is None
    assert not (own_home / "warehouse.duckdb").exists()


def test_weekly_training_compares_with_the_champion(night, quick_recipe, monkeypatch) -> None:
    from flows.train import train
    from models import recipes

    night(session=FIRST)
    same = train(models=["sp500_next_close"])
    assert same.exit_code == 0
    assert same.trained[0]["stage"] == "champion"
    assert count(load_settings(), "model_versions") == 1

    longer = quick_recipe.with_changes(max_epochs=3)
    monkeypatch.setitem(recipes.RECIPES, "sp500_next_close", longer)
    other = train(models=["sp500_next_close"])
    assert other.exit_code == 0
    (version,) = other.trained
    assert "against the champion's" in version["reason"]
    _, stages = query_published(
        load_settings(), "SELECT stage, count(*) FROM model_versions GROUP BY stage ORDER BY stage"
    )
    assert dict(stages)["champion"] == 1


def check_readme(settings: Settings) -> None:
    """Every query of the README runs on what a night published and finds something."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", readme, flags=re.DOTALL)
    assert len(queries) == 6
    for query in queries:
        columns, rows = query_published(settings, query)
        assert columns
        assert rows, query


def check_artifact() -> None:
    """What Prefect's page shows of a night."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["night"]))
        )
    texts = [artifact.data for artifact in found]
    assert any("| sp500_next_close | SP500 | 2018-12-28 | 1 session |" in text for text in texts)
    assert any("| sample.SP500 | ok | 7,306 |" in text for text in texts)
    assert any("- **missing** sp500_next_close" in text for text in texts)
