"""`lookback signals export`: files that give back what the readers give."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from db.sessions import Sessions
from db.settings import Settings
from db.warehouse import open_warehouse
from flows.cli import main
from signals import readers
from tests.signals.readers.published_history import REVERSAL, closes, scores, store


@pytest.fixture(scope="module")
def history(calendar: Sessions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a store with three years of a signal of twenty stocks."""
    empty = tmp_path_factory.mktemp("empty")
    with open_warehouse(Settings(home=empty, profile="sample"), "test"):
        pass
    close = closes()
    rows = scores(calendar, close.loc[:"2018-12-21"])
    return store(tmp_path_factory.mktemp("history"), empty / "warehouse.duckdb", rows, close)


@pytest.fixture
def export(history: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKBACK_HOME", str(history))

    def run(form: str, output: Path, *more: str) -> list[Path]:
        command = ["signals", "export", "--signal", REVERSAL, "--format", form]
        result = CliRunner().invoke(main, [*command, "--output", str(output), *more])
        assert result.exit_code == 0, result.output
        return [Path(line) for line in result.stdout.splitlines()]

    return run


def test_rows_are_those_of_the_published_table(export, history: Path, tmp_path: Path) -> None:
    (parquet,) = export("parquet", tmp_path / "rows.parquet", "--from", "2018-01-01")
    (csv,) = export("csv", tmp_path / "rows.csv", "--from", "2018-01-01")
    expected = readers.read(history, signal=REVERSAL, start="2018-01-01").to_pandas()
    found = pd.read_parquet(parquet)
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False)
    assert found["as_of"].min() >= pd.Timestamp("2018-01-01")
    text = pd.read_csv(csv)
    assert text["value"].tolist() == expected["value"].tolist()
    assert (text["tradable_from"] > text["as_of"]).all()


def test_shapes_are_those_of_the_adapters(export, history: Path, tmp_path: Path) -> None:
    signals = readers.read(history, signal=REVERSAL)
    close = readers.prices(history, entities=signals.entities)
    factor, prices = export("alphalens", tmp_path / "alphalens")
    expected, _ = readers.to_alphalens(signals, close)
    assert (factor.name, prices.name) == ("factor.parquet", "prices.parquet")
    pd.testing.assert_series_equal(
        pd.read_parquet(factor)["factor"], expected, check_names=False, check_freq=False
    )
    _, weights = export("bt", tmp_path / "bt", "--long", "0.2", "--short", "0")
    held = pd.read_parquet(weights)
    assert held.sum(axis=1).round(9).eq(1).all()
    assert (held > 0).sum(axis=1).eq(4).all()
    closed, size = export("vectorbt", tmp_path / "vectorbt")
    assert pd.read_parquet(closed).shape == pd.read_parquet(size).shape
    frame, sids = export("zipline", tmp_path / "zipline")
    table = pd.read_parquet(frame)
    assert sorted(json.loads(sids.read_text()).values()) == sorted(int(c) for c in table)


def test_a_wrong_name_is_one_line(history: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKBACK_HOME", str(history))
    command = ["signals", "export", "--format", "csv", "--output", str(tmp_path / "x.csv")]
    result = CliRunner().invoke(main, [*command, "--signal", "momentum"])
    assert result.exit_code != 0
    assert result.stderr.startswith("lookback: ")
    assert REVERSAL in result.stderr
    assert len(result.stderr.splitlines()) == 1
