"""A large panel through the night's front half: fetch, validate, append.

    LOOKBACK_REFERENCE_DATA=… python -m benchmarks.files_night

Puts the daily reference panel (9.7 million rows) and the S&P 500 into a folder of drops, runs
profile `files` on them in a process of its own, and prints rows, seconds and peak memory.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import psutil

from benchmarks.reference import reference_folder
from db.clock import night
from db.sessions import sessions
from db.settings import load_settings
from db.sources.catalog import sources
from flows import steps
from flows.display import print_table

SESSION = date(2018, 12, 31)
DROPS = {
    "bars": ["us_equities_adj_close_daily_2007_2018.parquet"],
    "observations": ["sp500_close_daily_1990_2022.csv"],
}
SAMPLING_SECONDS = 0.05


class PeakMemory:
    """Largest resident memory of this process while it is watched, sampled."""

    def __init__(self) -> None:
        self.gib = 0.0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(SAMPLING_SECONDS):
            self.gib = max(self.gib, process.memory_info().rss / 2**30)


def link_drops(folder: Path, reference: Path) -> None:
    """Folders of drops that point at the reference files; nothing is copied."""
    for kind, names in DROPS.items():
        (folder / kind).mkdir(parents=True)
        for name in names:
            (folder / kind / name).symlink_to(reference / name)


def main() -> int:
    """Measure and print; 0 if every row is accounted for."""
    reference = reference_folder()
    with tempfile.TemporaryDirectory(prefix="lookback-") as scratch:
        link_drops(Path(scratch) / "files", reference)
        os.environ |= {"LOOKBACK_HOME": scratch, "LOOKBACK_PROFILE": "files"}
        settings = load_settings()
        calendar = sessions(settings.calendar)
        run = steps.Run(settings, "nightly", night(settings, calendar, SESSION))
        rows, began = [], time.perf_counter()
        with PeakMemory() as memory, steps.running(run):
            catalog = sources(settings)
            asked = zip(catalog, steps.requests(run, catalog), strict=True)
            for source, request in asked:
                delivery, results = steps.take_over(run, steps.fetch(run, source, request))
                failed = sum(not result.success for result in results)
                rows.append((delivery, len(results), failed))
        seconds = time.perf_counter() - began
        with run.warehouse() as warehouse:
            reasons = warehouse.sql(
                "SELECT source, rule, count(*) FROM raw.quarantine GROUP BY ALL ORDER BY ALL"
            )
            breaks = warehouse.sql(
                "SELECT source, kind, count(*) FROM raw.price_breaks GROUP BY ALL ORDER BY ALL"
            )
        print_table(
            ["source", "fetched", "appended", "quarantined", "expectations", "failed", "seconds"],
            [
                (d.source, d.fetched, d.appended, d.quarantined, checked, failed, d.seconds)
                for d, checked, failed in rows
            ],
            "profile files, whole histories",
        )
        print_table(["source", "rule", "rows"], reasons, "quarantine")
        print_table(["source", "kind", "breaks"], breaks, "price breaks")
        whole = all(d.fetched == d.appended + d.quarantined + d.unchanged for d, *_ in rows)
        print(f"{seconds:.1f} s in all, peak memory {memory.gib:.2f} GiB, rows add up: {whole}")
        return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
