"""Gathering: the rows of an entity beside each other, in periods that have ended.

Nights and backfills append all entities of a date. Read in that order, one entity's history
touches every block of every column; gathered, a few. The newest period keeps its order: the newest
date is what most readers ask for. `python -m benchmarks.ten_million` measures what readers find.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from db.tables import progress

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# Fewer rows of a signal are read in no time in any order.
ROWS_WORTH_GATHERING = 100_000
# What a night gathers, in some seconds; the next one goes on.
ROWS_A_NIGHT = 600_000


def gather(warehouse: Warehouse, most: int | None = None) -> int:
    """Gather the rows of `signals` by entity, in every period that has ended; rows moved.

    A period is a year of a signal; of its newest year, where that has many rows, a quarter. Each
    is gathered once (`ops.progress`), and again after a backfill has added to it. Readers see it
    with the next publication.

    Parameters
    ----------
    warehouse : the open store.
    most : rows, about; the next call goes on. Without, all there are: after a large backfill.
    """
    gathered = dict(warehouse.sql("SELECT name, done FROM ops.progress"))
    moved = 0
    for (signal, year, quarter), rows in _ended(warehouse).items():
        name = f"gathered {signal} {year}" + (f"Q{quarter}" if quarter else "")
        # some revisions since do no harm
        if rows < ROWS_WORTH_GATHERING or rows <= 1.2 * gathered.get(name, 0):
            continue
        if most is not None and moved and moved + rows > most:
            break
        moved += rows
        with warehouse.transaction():
            _gather(warehouse, signal, year, quarter)
            warehouse.upsert(progress, {"name": name, "done": rows})
        # the blocks of the old rows become free for the next ones
        warehouse.native.execute("CHECKPOINT")
    return moved


def _ended(warehouse: Warehouse) -> dict[tuple[str, int, int], int]:
    """Rows by signal, year and quarter (0: the whole year), oldest first.

    Without the newest period of each signal, which still grows.
    """
    # one row per (signal, year, quarter)
    found = warehouse.sql(
        """
        SELECT signal, year(as_of), quarter(as_of), count(*)
        FROM main.signals
        GROUP BY ALL
        ORDER BY ALL
        """
    )
    years = Counter[tuple[str, int]]()
    for signal, year, _, rows in found:
        years[signal, year] += rows
    last = dict(years.keys())
    periods = Counter[tuple[str, int, int]]()
    for signal, year, quarter, rows in found:
        by_quarter = year == last[signal] and years[signal, year] >= 4 * ROWS_WORTH_GATHERING
        periods[signal, year, quarter if by_quarter else 0] += rows
    newest = {signal: (year, quarter) for signal, year, quarter in periods}
    return {
        (signal, year, quarter): rows
        for (signal, year, quarter), rows in periods.items()
        if (year, quarter) != newest[signal]
    }


def _gather(warehouse: Warehouse, signal: str, year: int, quarter: int) -> None:
    first, last = (3 * quarter - 2, 3 * quarter) if quarter else (1, 12)
    period = """
        signal = $1
            AND as_of BETWEEN make_date($2, $3, 1) AND last_day(make_date($2, $4, 1))
    """
    values = (signal, year, first, last)
    warehouse.native.execute(
        f"""
        CREATE TEMP TABLE gathered AS
        SELECT *
        FROM main.signals
        WHERE {period}
        ORDER BY role, entity, as_of, horizon, model_version
        """,
        values,
    )
    warehouse.native.execute(f"DELETE FROM main.signals WHERE {period}", values)
    warehouse.native.execute("INSERT INTO main.signals SELECT * FROM gathered")
    warehouse.native.execute("DROP TABLE gathered")
