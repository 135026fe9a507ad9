"""Nights that are killed anywhere and run again give the tables of undisturbed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from db.publishing import query_published
from db.settings import load_settings

ROOT = Path(__file__).parents[2]
NIGHTS = [sys.executable, str(Path(__file__).with_name("two_nights.py"))]

# What a night leaves, without what tells one run from another.
LEFT = {
    "signals": "SELECT * EXCLUDE (run_id) FROM signals ORDER BY ALL",
    "signal_revisions": "SELECT * EXCLUDE (run_id) FROM signal_revisions ORDER BY ALL",
    "latest": "SELECT * EXCLUDE (run_id) FROM signals_latest ORDER BY ALL",
    "outcomes": "SELECT * EXCLUDE (run_id) FROM outcomes ORDER BY ALL",
    "performance": "FROM signal_performance ORDER BY ALL",
    "drift": "FROM signal_drift ORDER BY ALL",
    "bars": """
        SELECT * EXCLUDE (run_id, ingested_at) FROM raw.bars
        ORDER BY source, entity, session, known_at
    """,
    "observations": """
        SELECT * EXCLUDE (run_id, ingested_at) FROM raw.observations
        ORDER BY source, series, period, known_at
    """,
    "breaks": "SELECT * EXCLUDE (run_id, ingested_at) FROM raw.price_breaks ORDER BY ALL",
    "quarantine": "SELECT * EXCLUDE (run_id, quarantined_at) FROM raw.quarantine ORDER BY ALL",
    "versions": """
        SELECT model, model_version, stage, reason, metrics, labels_known_at
        FROM model_versions ORDER BY ALL
    """,
    "watermarks": "SELECT source, last_date, state FROM ops.watermarks ORDER BY ALL",
    "promotions": "SELECT model, model_version, replaced, reason FROM ops.promotions",
}


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LOOKBACK_HOME": str(home), "PYTHONPATH": str(ROOT)}


def left_behind(home: Path) -> dict[str, int | str]:
    settings = load_settings(home=home)
    return {name: repr(query_published(settings, query)[1]) for name, query in LEFT.items()}


@pytest.mark.slow
def test_killed_anywhere_and_run_again(tmp_path: Path) -> None:
    began = time.monotonic()
    subprocess.run(NIGHTS, env=environment(tmp_path / "undisturbed"), check=True)
    whole = time.monotonic() - began
    expected = left_behind(tmp_path / "undisturbed")
    for name in ("signals", "outcomes", "performance"):
        assert "sp500_next_close" in str(expected[name])

    for share in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.97):
        home = tmp_path / f"killed-{share}"
        night = subprocess.Popen(NIGHTS, env=environment(home), start_new_session=True)
        time.sleep(whole * share)
        os.killpg(night.pid, 9)
        night.wait()
        subprocess.run(NIGHTS, env=environment(home), check=True)
        assert left_behind(home) == expected, f"killed after {share:.0%}"
        runs = query_published(
            load_settings(home=home), "SELECT status FROM runs ORDER BY started_at"
        )[1]
        assert runs[-1] == ("completed",)
        assert all(status in ("failed", "completed") for (status,) in runs)
        assert not list((home / "published").glob("unfinished-*"))
