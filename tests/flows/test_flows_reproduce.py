"""`lookback reproduce`: which systems run, what happens to the page, small parts of the data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import reproduce
from flows.cli import main
from models.reproduction import page, sections
from models.reproduction.systems import SYSTEMS
from models.text.reproduction.systems import TEXT_SYSTEMS

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


@pytest.fixture
def named(monkeypatch, tmp_path: Path) -> list[str]:
    """Systems of text that would have been run; each says its name and nothing else."""
    asked: list[str] = []

    class Named:
        @classmethod
        def of(cls, *_):
            return cls()

        def section(self, system) -> str:
            asked.append(system.name)
            return f"## {system.title}"

    monkeypatch.setattr(reproduce, "TextRun", Named)
    monkeypatch.setenv("LOOKBACK_REFERENCE_DATA", str(tmp_path))
    return asked


def test_the_networks_of_the_book_run_with_the_honest_section(
    own_home: Path, tmp_path: Path, named: list[str]
) -> None:
    output = ["--output", str(tmp_path / "page")]
    one = CliRunner().invoke(main, ["reproduce", "text_sentiment_glove", *output])
    assert one.exit_code == 0, one.output
    assert named == ["text_sentiment_glove", "text_sentiment_reviews"]
    CliRunner().invoke(main, ["reproduce", "text_sentiment_finance", *output])
    CliRunner().invoke(main, ["reproduce", "text_sentiment_learned", *output])
    text = (tmp_path / "page" / "results.md").read_text()
    assert [each.system for each in sections.parse(text)] == list(TEXT_SYSTEMS)
    assert text.startswith(page.HEAD)


def test_a_system_run_again_leaves_the_others_to_the_last_byte(
    own_home: Path, tmp_path: Path, named: list[str]
) -> None:
    kept = [sections.Kept(name, f"## {name}\n\n| 0.1 |") for name in SYSTEMS]
    before = sections.joined(page.HEAD, kept)
    file = tmp_path / "results.md"
    file.write_text(before)
    arguments = ["reproduce", "text_sentiment_finance", "--output", str(tmp_path)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert file.read_text().startswith(before)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert file.read_text().count("<!-- system:") == len(SYSTEMS) + 1


def test_small_parts_never_come_into_a_page_of_whole_results(
    own_home: Path, tmp_path: Path, named: list[str]
) -> None:
    whole = sections.joined(page.HEAD, [sections.Kept("macro_path", "## Whole")])
    (tmp_path / "results.md").write_text(whole)
    arguments = ["reproduce", "--quick", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"{tmp_path}/results.md: it holds results of whole data (macro_path)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "results.md").read_text() == whole
    assert not named


def test_another_page_is_left_alone(own_home: Path, tmp_path: Path, named: list[str]) -> None:
    (tmp_path / "results.md").write_text("# Mine\n\n## My own results\n")
    result = CliRunner().invoke(main, ["reproduce", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "not marked by system" in result.stderr
    assert not named


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data")
def test_a_quick_reproduction_of_text_is_taken_up_again(own_home: Path, tmp_path: Path) -> None:
    """The systems of text on few texts; the second time nothing is trained."""
    asked = [name for name in TEXT_SYSTEMS if name != "text_sentiment_reviews"]
    arguments = ["reproduce", *asked, "--quick", "--output", str(tmp_path / "page")]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    page = (tmp_path / "page" / "results.md").read_text()
    for said in ("| nb_svm |", "no figure below means anything", ", of films** (2 folds)", "CC BY"):
        assert said in page
    pictures = sorted(path.name for path in (tmp_path / "page" / "results").iterdir())
    assert "text_sentiment_finance_confusion.png" in pictures
    assert all(f"results/{name}" in page for name in pictures)
    trials = own_home / "reproduce" / "quick" / "trials"
    manifests = {path: path.stat().st_mtime_ns for path in trials.rglob("manifest.json")}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0
    assert (tmp_path / "page" / "results.md").read_text() == page
    assert {path: path.stat().st_mtime_ns for path in trials.rglob("manifest.json")} == manifests


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data")
def test_a_quick_reproduction_is_taken_up_again(own_home: Path, tmp_path: Path) -> None:
    """All systems of prices and macro on small parts; the second time nothing is trained."""
    arguments = ["reproduce", *SYSTEMS, "--quick", "--output", str(tmp_path / "page")]
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
