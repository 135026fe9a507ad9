"""Nights run one by one beside a backfill of the same sessions, on the sample profile.

`python -m benchmarks.backfill [--nights 10]` runs a first night, which trains champions, then
that many nights after it, each as the flow runs it (Prefect's server started once, its start not
counted), and at last `lookback backfill` over the same sessions. It prints seconds of each, the
ratio, and whether the rows are the same (role, run and time of publication apart).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import date
from pathlib import Path

FIRST = date(2018, 12, 28)
ROWS = """
    SELECT * EXCLUDE (role, run_id, published_at)
    FROM signals
    WHERE role = '{role}' AND as_of > DATE '{first}'
    ORDER BY ALL
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--home", type=Path, help="an empty folder; default: a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(asked.home or Path(temporary) / "home", asked.nights)


def measure(home: Path, count: int) -> None:
    os.environ["LOOKBACK_HOME"] = str(home)
    os.environ["LOOKBACK_PROFILE"] = "sample"
    from db.publishing import query_published
    from db.sessions import sessions
    from db.settings import load_settings
    from flows.backfill import Asked, fill_in
    from flows.orchestration import configure

    settings = load_settings()
    home.mkdir(parents=True, exist_ok=True)
    configure(home, quiet=True)
    from flows.nightly import nightly

    calendar = sessions(settings.calendar)
    later = [calendar.offset(FIRST, number) for number in range(1, count + 1)]
    nightly(session=FIRST)
    began = time.perf_counter()
    own = sum(nightly(session=session).seconds for session in later)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    report = fill_in(settings, Asked(later[0], later[-1]))
    filled = time.perf_counter() - began
    live, backfill = (
        query_published(settings, ROWS.format(role=role, first=FIRST))[1]
        for role in ("live", "backfill")
    )
    print(f"sessions {later[0]} to {later[-1]}, {count} nights, {len(live)} live rows")
    print(f"  nights one by one    {whole:8.1f} s, {own:.1f} s of it Lookback's own work")
    print(f"  backfill             {filled:8.1f} s, exit code {report.exit_code}")
    print(f"  ratio                {whole / filled:8.1f}, of own work {own / filled:.1f}")
    print(f"  rows are the same    {live == backfill}")


if __name__ == "__main__":
    main()
