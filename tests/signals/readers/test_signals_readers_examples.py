"""Every example runs as its reader would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
# What each says and writes.
MADE = {
    "alphalens_tear_sheet": ("Quantiles Statistics", "alphalens_1.png"),
    "vectorbt_portfolio": ("Total Return [%]", "vectorbt_value.parquet"),
    "bt_portfolio": ("signal", "bt_prices.parquet"),
    "backtrader_strategy": ("closed trades", None),
    "quantstats_report": ("Sharpe ratio", "quantstats.html"),
}


def run(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(EXAMPLES / f"{example}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    "example",
    [
        # vectorbt compiles for a minute when it runs for the first time; the others draw
        pytest.param(name, marks=() if name.startswith("b") else pytest.mark.slow)
        for name in MADE
    ],
)
def test_an_example_runs_on_a_published_file(example: str, history: Path, tmp_path: Path) -> None:
    done = run(example, "--signals", str(history), "--output", str(tmp_path / "made"))
    assert done.returncode == 0, done.stderr
    said, file = MADE[example]
    assert said in done.stdout
    assert file is None or (tmp_path / "made" / file).stat().st_size > 1000


def test_an_example_takes_prices_of_ones_own(history: Path, close, tmp_path: Path) -> None:
    close.loc["2017":].to_parquet(tmp_path / "close.parquet")
    prices = ("--prices", str(tmp_path / "close.parquet"))
    done = run("bt_portfolio", "--signals", str(history), *prices, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "2017-01-02" in done.stdout or "2017-01-03" in done.stdout


def test_an_example_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    done = run("vectorbt_portfolio", "--signals", str(tmp_path), "--output", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"nothing is published under {tmp_path}; run: lookback nightly\n"


@pytest.mark.slow
def test_the_study_prints_its_tables(history: Path, tmp_path: Path) -> None:
    asked = ("--start", "2016-01-01", "--end", "2018-11-30", "--short", "0.2")
    done = run("equity_study", "--signals", str(history), "--output", str(tmp_path), *asked)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    # the store's signal is last week's reversal: all of their figures are the same
    signal = [row[1:] for row in rows if row[:1] == ["equity_week_direction"]]
    reversal = [row[1:] for row in rows if row[:1] == ["reversal"]]
    assert [len(row) for row in signal] == [6, 5, 7]
    for one, other in zip(signal, reversal, strict=True):
        assert [float(value) for value in one] == pytest.approx(
            [float(value) for value in other], abs=0.002
        )
    assert (tmp_path / "alphalens_1.png").exists()
    assert "Information Analysis" in done.stdout


def test_the_study_needs_rows_of_its_role(history: Path, tmp_path: Path) -> None:
    done = run("equity_study", "--signals", str(history), "--start", "2018-12-20")
    assert done.returncode == 1
    assert "no rows of signal equity_week_direction with role backfill" in done.stderr
    assert len(done.stderr.splitlines()) == 1
