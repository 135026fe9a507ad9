"""`lookback reproduce --quick` on small parts of the reference data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main

REFERENCE = os.environ.get("LOOKBACK_REFERENCE_DATA")


def test_without_reference_data_it_says_so(own_home: Path, monkeypatch) -> None:
    monkeypatch.delenv("LOOKBACK_REFERENCE_DATA", raising=False)
    result = CliRunner().invoke(main, ["reproduce", "--quick"])
    assert result.exit_code == 2
    assert "set LOOKBACK_REFERENCE_DATA" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unknown_system_lists_what_there_is(own_home: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "sp500"])
    assert result.exit_code == 2
    assert "there are: sp500_next_close, equity_week_direction" in result.stderr


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data")
def test_a_quick_reproduction_is_taken_up_again(own_home: Path, tmp_path: Path) -> None:
    """All systems of prices and macro on small parts; the second time nothing is trained."""
    arguments = ["reproduce", "--quick", "--output", str(tmp_path / "page")]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    page = (tmp_path / "page" / "results.md").read_text()
    for said in ("S&P 500, next close", "**chapter** (1 seed)", "no figure below means anything"):
        assert said in page
    pictures = sorted(path.name for path in (tmp_path / "page" / "results").iterdir())
    assert "equity_week_direction_rank_ic.png" in pictures
    assert all(f"results/{name}" in page for name in pictures)
    trials = own_home / "reproduce" / "quick" / "trials"
    manifests = {path: path.stat().st_mtime_ns for path in trials.rglob("manifest.json")}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0
    assert (tmp_path / "page" / "results.md").read_text() == page
    assert {path: path.stat().st_mtime_ns for path in trials.rglob("manifest.json")} == manifests
