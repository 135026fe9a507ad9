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
from flows.models import promote_version
from signals.declaration import SIGNALS

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
    assert {row.status for row in first.deliveries if row.source != "inbox"} == {"ok"}
    assert all(
        row.fetched == row.unchanged + row.appended + row.quarantined for row in first.deliveries
    )
    trained = {row["model_version"].split("-")[1]: row for row in first.trained}
    assert set(trained) == {"persistence", "drift", "chapter"}
    assert trained["chapter"]["parameters"] == 1_781
    # two epochs are not enough to beat anything
    assert trained["chapter"]["stage"] == "challenger"
    (champion,) = (name for name, row in trained.items() if row["stage"] == "champion")
    assert trained[champion]["reason"].startswith("no network beats this baseline")
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
    assert count(settings, "signal_revisions") == 1
    assert count(settings, "model_versions") == 3
    assert count(settings, "runs") == 2

    following = night(session=NEXT)
    assert following.exit_code == 0
    assert {row.source: row.appended for row in following.deliveries}["sample.stocks"] == 20
    assert following.signals[0]["as_of"] == NEXT
    assert following.signals[0]["tradable_from"] == date(2019, 1, 2)
    assert count(settings, "signals") == 2

    promote_version(
        settings, "sp500_next_close", trained["chapter"]["model_version"], "to see it score"
    )
    learned = night(session=date(2016, 9, 1))
    assert learned.exit_code == 3
    (line,) = learned.missing
    assert "learned from labels known until" in line
    assert "lookback backfill" in line
    assert count(settings, "signals") == 2
    assert learned.signals[0]["as_of"] == NEXT
    by_network = night(session=NEXT)
    assert by_network.exit_code == 0
    assert by_network.signals[0]["model_version"] == trained["chapter"]["model_version"]
    assert by_network.signals[0]["value"] != following.signals[0]["value"]

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
            WHERE (m.labels_known_at IS NULL OR m.labels_known_at < s.known_at)
                AND s.known_at < s.published_at
            """
        ).fetchone()
        assert lineage == (3,)
        statuses = reader.execute("SELECT status, exit_code FROM runs ORDER BY started_at")
        assert statuses.fetchall() == [
            *[("completed", 0)] * 3,
            ("partial", 3),
            ("completed", 0),
        ]
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
    assert sorted(table["as_of"].astype(str)) == ["2018-12-28", "2018-12-31", "2018-12-31"]


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


def test_a_training_that_fails_is_named_and_a_baseline_scores(
    night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db.errors import TrainingError
    from models import training

    def die(*_: object, **__: object) -> None:
        raise TrainingError("sp500_next_close: the process died")

    monkeypatch.setattr(training, "train", die)
    report = night(session=FIRST)
    assert report.exit_code == 3
    assert report.missing == ("sp500_next_close: the process died",)
    (signal,) = report.signals
    assert signal["model_version"].split("-")[1] in {"persistence", "drift"}


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
    from models import catalog

    night(session=FIRST)
    settings = load_settings()
    same = train(models=["sp500_next_close"])
    assert same.exit_code == 0
    assert {row["stage"] for row in same.trained} == {"champion", "challenger"}
    assert count(settings, "model_versions") == 3

    longer = quick_recipe.with_changes(max_epochs=3)
    diverging = quick_recipe.with_changes(variant="diverging", learning_rate=1e30, loss="mse")
    monkeypatch.setitem(catalog.RECIPES, "sp500_next_close", (diverging, longer))
    other = train(models=["sp500_next_close"], device="cpu")
    assert other.exit_code == 3
    assert "sp500_next_close/diverging: the loss is" in other.missing[0]
    network = next(row for row in other.trained if "chapter" in row["model_version"])
    assert network["stage"] == "challenger"
    _, rows = query_published(
        settings,
        "SELECT status, stage, count(*) FROM model_versions GROUP BY ALL ORDER BY ALL",
    )
    assert rows == [
        ("failed", "retired", 1),
        ("trained", "challenger", 3),
        ("trained", "champion", 1),
    ]
    check_models_commands(network["model_version"])


def check_models_commands(version: str) -> None:
    """`models list`, `show`, `promote` and `rollback` on what was trained."""
    from click.testing import CliRunner

    from flows.cli import main

    def lookback(*arguments: str):
        return CliRunner().invoke(main, ["models", *arguments])

    listed = json.loads(lookback("list", "--json").stdout)
    (champion,) = (row["model_version"] for row in listed if row["stage"] == "champion")
    assert {row["status"] for row in listed} == {"trained", "failed"}
    shown = lookback("show", "sp500_next_close", version)
    assert shown.exit_code == 0
    for said in ("recurrent_1", "1,781", "labels_known_at", "persistence", "loss.png"):
        assert said in shown.stdout
    as_json = json.loads(lookback("show", "sp500_next_close", version, "--json").stdout)
    assert len(as_json["history"]["loss"]) == 3
    assert set(as_json["baselines"]) == {"persistence", "drift"}
    (failed,) = (row["model_version"] for row in listed if row["status"] == "failed")
    refused = lookback("promote", "sp500_next_close", failed, "--reason", "no")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    done = lookback("promote", "sp500_next_close", version, "--reason", "to see it score")
    assert done.stdout == f"sp500_next_close {version} is champion\n"
    back = lookback("rollback", "sp500_next_close")
    assert back.stdout == f"sp500_next_close {champion} is champion again\n"
    unknown = lookback("show", "sp500_next_close", "20990101-x")
    assert (unknown.exit_code, "see: lookback models list" in unknown.stderr) == (1, True)


def test_a_first_night_has_every_signal(prefect_server, own_home: Path, monkeypatch) -> None:
    """All systems on the sample profile, each trained for an epoch."""
    from flows.nightly import nightly
    from models import catalog
    from models.text import catalog as texts

    for name, several in catalog.RECIPES.items():
        quick = tuple(each.with_changes(max_epochs=1) for each in several)
        monkeypatch.setitem(catalog.RECIPES, name, quick)
    text = texts.recipe("text_sentiment_finance", profile="sample")
    quick = text.with_changes(max_epochs=1, baselines=("majority", "nb_svm"), blend=None)
    monkeypatch.setitem(texts.SAMPLE, "text_sentiment_finance", (quick,))
    report = nightly(session=FIRST)
    assert (report.exit_code, report.missing) == (0, ())
    rows = {name: [row for row in report.signals if row["signal"] == name] for name in SIGNALS}
    assert {name: len(found) for name, found in rows.items()} == {
        "sp500_next_close": 1,
        "equity_week_direction": 20,
        "macro_outlook": 2,
        "macro_path": 24,
        "sentiment_daily": 6,
    }
    assert {row["last"] for row in rows["sentiment_daily"]} == {None}
    assert {(row["model"], row["metric"]) for row in report.trained} == {
        ("sp500_next_close", "rmse"),
        ("equity_week_direction", "auc_within_date"),
        ("macro_outlook", "relative_mae"),
        ("macro_path", "relative_mae"),
        ("text_sentiment_finance", "log_loss"),
    }
    assert {row["entity"] for row in rows["macro_path"]} == {"BAA", "CPILFESL"}
    assert sorted({row["horizon"] for row in rows["macro_path"]}) == list(range(1, 13))
    settings = load_settings()
    _, found = query_published(
        settings,
        """
        SELECT signal, bool_and(q05 <= q50 AND q50 <= q95), bool_and(rank BETWEEN 0 AND 1)
        FROM signals GROUP BY signal ORDER BY signal
        """,
    )
    assert found == [
        ("equity_week_direction", None, True),
        ("macro_outlook", True, None),
        ("macro_path", True, None),
        ("sentiment_daily", None, True),
        ("sp500_next_close", True, None),
    ]
    again = nightly(session=FIRST)
    assert [done.unchanged for done in again.scored] == [done.rows for done in again.scored]
    monday = nightly(session=NEXT)
    assert "equity_week_direction" not in {done.signal for done in monday.scored}
    assert monday.exit_code == 0


def check_readme(settings: Settings) -> None:
    """Every query of the README runs on what a night published and finds something."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", readme, flags=re.DOTALL)
    assert len(queries) == 7
    for query in queries:
        columns, rows = query_published(settings, query)
        assert columns
        # this night scores no texts
        assert rows or "sentiment" in query, query


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
