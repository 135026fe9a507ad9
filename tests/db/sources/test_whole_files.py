"""Corporate actions and universes in the files profile: a file is taken whole or refused."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from db import ingest, staging
from db.ingest import Delivery
from db.sessions import sessions
from db.sources.drops import Drop
from db.sources.files import FilesBars, FilesUniverses
from db.sources.source import Fetched, Request, Source
from db.warehouse import Warehouse
from tests.db.deliveries import counts, days, deliver, night_of

NIGHT = night_of(date(2018, 12, 28))
DAYS = days(5)
HEADER = "symbol,ex_date,kind,factor\n"
SPELLS = "symbol,from,to\n"

pytestmark = pytest.mark.usefixtures("by_predicates")


@pytest.fixture
def drops(tmp_path: Path) -> Path:
    """The two folders, empty."""
    for kind in ("actions", "universes"):
        (tmp_path / "drops" / kind).mkdir(parents=True)
    return tmp_path / "drops"


def bars_of(drops: Path) -> FilesBars:
    return FilesBars(drops / "bars", "raw", actions=drops / "actions")


def fetch(source: Source, before: Fetched | None = None) -> Fetched:
    state = before.state if before is not None else {}
    return source.fetch(Request(start=None, until=NIGHT.now, state=state))


def actions_of(drops: Path) -> Fetched:
    return fetch(bars_of(drops))


def spells_of(drops: Path) -> Fetched:
    return fetch(FilesUniverses(drops / "universes"))


def rows_of(frame: pd.DataFrame | None) -> list[tuple[Any, ...]]:
    """Rows with dates as text, and without `known_at`; None where there is none."""
    assert frame is not None
    plain = frame.drop(columns="known_at").astype("object")
    return [
        tuple(
            None if pd.isna(field) else str(field.date()) if hasattr(field, "date") else field
            for field in row
        )
        for row in plain.itertuples(index=False)
    ]


def write(path: Path, text: str, later: int = 0) -> None:
    path.write_text(text)
    stamp = path.stat().st_mtime_ns + later * 10**9
    os.utime(path, ns=(stamp, stamp))


# ----------------------------------------------------------------------------- actions


def test_actions_come_beside_the_bars_by_vendors_names(drops: Path) -> None:
    (drops / "actions" / "a.csv").write_text(
        "Ticker,DATE,Kind,Amount,Note\n A ,12/27/2018,Dividend, 0.5,x\nB,12/28/2018,delisting,,\n"
    )
    pd.DataFrame(
        {"entity": ["C"], "Ex Date": [date(2018, 12, 20)], "kind": ["split"], "ratio": [2]}
    ).to_parquet(drops / "actions" / "b.parquet")
    found = actions_of(drops)
    assert found.problems == ()
    assert len(found.frame) == 0
    assert rows_of(found.actions) == [
        ("A", "2018-12-27", "dividend", 0.5),
        ("B", "2018-12-28", "delisting", 0.0),
        ("C", "2018-12-20", "split", 2.0),
    ]
    assert found.actions is not None
    assert found.actions["known_at"].isna().all()
    assert set(found.state) == {"actions/a.csv", "actions/b.parquet"}


def test_known_at_is_utc_where_it_has_no_zone(drops: Path) -> None:
    (drops / "actions" / "a.csv").write_text(
        "symbol,ex_date,kind,factor,known_at\nA,2018-12-27,split,2,2018-12-01\n"
        "B,2018-12-27,split,2,2018-12-01T16:00:00-05:00\nC,2018-12-27,split,2,\n"
    )
    actions = actions_of(drops).actions
    assert actions is not None
    assert actions["known_at"].to_list() == [
        pd.Timestamp("2018-12-01", tz="UTC"),
        pd.Timestamp("2018-12-01 21:00", tz="UTC"),
        pd.NaT,
    ]


def test_all_files_are_read_when_one_changes_and_none_when_none_does(
    drops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(drops / "actions" / f"{name}.csv", HEADER + f"{name},2018-12-27,dividend,1\n")
    first = actions_of(drops)
    with monkeypatch.context() as patch:
        patch.setattr(Drop, "read", lambda *_: pytest.fail("an unchanged drop was read"))
        second = fetch(bars_of(drops), first)
    assert (rows_of(second.actions), second.state) == ([], first.state)
    write(drops / "actions" / "b.csv", HEADER + "a,2018-12-27,dividend,2\n", later=1)
    assert rows_of(fetch(bars_of(drops), second).actions) == [
        ("a", "2018-12-27", "dividend", 1.0),
        ("a", "2018-12-27", "dividend", 2.0),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symbol,when,kind\n", "has no column for ex_date; it has symbol, when, kind"),
        (
            "symbol,date,kind,ratio,amount\n",
            "has two columns for factor, ratio and amount; keep one of them",
        ),
        (HEADER + "A,2018-12-27,split,2\nB,n.d.,split,2\n", "row 2 (B, n.d., split, 2): ex_date"),
        (HEADER + "A,,split,2\n", "row 1 (A, , split, 2): ex_date is missing"),
        (HEADER + "A,2018-12-27,merger,2\n", "row 1 (A, 2018-12-27, merger, 2): kind is none of"),
        (HEADER + "A,2018-12-27,split,0\n", "split, 0): the factor of a split is a number above 0"),
        (HEADER + "A,2018-12-27,split,\n", "the factor of a split"),
        (HEADER + "A,2018-12-27,dividend,-1\n", "the factor of a dividend"),
        (HEADER + "A,2018-12-27,dividend,inf\n", "the factor of a dividend"),
        (HEADER + "A,2018-12-27,delisting,x\n", "the factor of a delisting is 0 or blank"),
        (HEADER + " ,2018-12-27,split,2\n", "the symbol is missing"),
        (HEADER + "A,x,split,2\n,y,split,0\n", "row 1 (A, x, split, 2): ex_date is missing or"),
        (HEADER.strip() + ",known_at\nA,2018-12-27,split,2,soon\n", "known_at cannot be read"),
        (
            HEADER.strip() + ",known_at\nA,2018-12-27,dividend,1,2018-12-01\n"
            "A,2018-12-27,dividend,2,2018-12-02\n",
            "row 1 (A, 2018-12-27, dividend, 1, 2018-12-01): another row",
        ),
    ],
)
def test_a_wrong_file_is_refused_whole_and_the_others_go_on(
    text: str, said: str, drops: Path
) -> None:
    write(drops / "actions" / "a.csv", text)
    write(drops / "actions" / "b.csv", HEADER + "B,2018-12-27,split,2\n")
    found = actions_of(drops)
    (problem,) = found.problems
    assert problem.startswith("actions/a.csv")
    assert said in problem
    assert "\n" not in problem
    assert rows_of(found.actions) == [("B", "2018-12-27", "split", 2.0)]
    assert fetch(bars_of(drops), found).problems == found.problems  # named until it is mended
    write(drops / "actions" / "a.csv", HEADER + "A,2018-12-27,split,3\n", later=1)
    mended = fetch(bars_of(drops), found)
    assert mended.problems == ()
    assert len(rows_of(mended.actions)) == 2


def test_how_many_rows_are_wrong_is_said(drops: Path) -> None:
    write(drops / "actions" / "a.csv", HEADER + "A,x,split,2\n,2018-12-27,split,0\n")
    assert actions_of(drops).problems[0].endswith("; 2 rows are wrong; nothing of it is taken")


def test_actions_are_taken_on_nights_without_bars(drops: Path, warehouse: Warehouse) -> None:
    (drops / "bars").mkdir()
    prices = "".join(f"A,{day.date()},1\n" for day in DAYS)
    write(drops / "bars" / "bars.csv", "symbol,date,close\n" + prices)
    assert counts(deliver(warehouse, bars_of(drops), DAYS[4])) == (5, 0, 5, 0)
    night = night_of(days(6)[5])
    write(drops / "actions" / "a.csv", HEADER + f"A,{DAYS[2].date()},dividend,0.1\n")
    delivery = deliver(warehouse, bars_of(drops), night)
    assert (delivery.status, counts(delivery)) == ("unchanged", (0, 0, 0, 0))
    known = warehouse.sql("SELECT entity, factor, known_at FROM raw.corporate_actions")
    assert known == [("A", 0.1, DAYS[2].tz_localize("UTC"))]


# --------------------------------------------------------------------------- universes


def test_spells_by_vendors_names(drops: Path) -> None:
    (drops / "universes" / "sp500.csv").write_text(
        SPELLS + "A,1957-03-04,\nB,2001-01-02,2009-12-31\nC,2018-12-27,2018-12-27\n"
    )
    pd.DataFrame(
        {
            "Ticker": ["A", "B"],
            "universe": ["dow", None],
            "First Session": [20180102, 20180103],
            "last_session": [20180630, None],
        }
    ).to_parquet(drops / "universes" / "others.parquet")
    found = spells_of(drops)
    assert found.problems == ()
    assert rows_of(found.frame) == [
        ("A", "dow", "2018-01-02", "2018-06-30"),
        ("B", "others", "2018-01-03", None),
        ("A", "sp500", "1957-03-04", None),
        ("B", "sp500", "2001-01-02", "2009-12-31"),
        ("C", "sp500", "2018-12-27", "2018-12-27"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symbol,to\n", "has no column for first_session"),
        (SPELLS + "A,2018-13-01,\n", "row 1 (A, 2018-13-01, ): first_session is missing or"),
        (SPELLS + "A,2018-12-03,soon\n", "last_session cannot be read"),
        (SPELLS + "A,2018-12-03,2018-12-01\n", "last_session lies before first_session"),
        (SPELLS + ",2018-12-03,\n", "the symbol is missing"),
        (
            SPELLS + "B,2018-12-03,\nA,2018-12-03,\nA,2018-12-03,2018-12-05\n",
            "row 2 (A, 2018-12-03, ): another row, of this file or one before it, has the same "
            "universe, entity, first_session but another last_session or known_at",
        ),
    ],
)
def test_a_wrong_universe_is_refused_whole(text: str, said: str, drops: Path) -> None:
    write(drops / "universes" / "a.csv", text)
    write(drops / "universes" / "b.csv", SPELLS + "A,2018-12-03,\nA,2018-12-03,\n")
    found = spells_of(drops)
    (problem,) = found.problems
    assert problem.startswith("universes/a.csv")
    assert said in problem
    assert rows_of(found.frame) == [("A", "b", "2018-12-03", None)]


def test_of_two_files_that_contradict_each_other_the_later_is_refused(drops: Path) -> None:
    header = "universe,symbol,from,to\n"
    write(drops / "universes" / "a.csv", header + "u,A,2018-12-03,\n")
    write(drops / "universes" / "b.csv", header + "u,B,2018-12-03,\nu,A,2018-12-03,2018-12-05\n")
    found = spells_of(drops)
    (problem,) = found.problems
    assert problem.startswith("universes/b.csv, row 2 (")
    assert rows_of(found.frame) == [("A", "u", "2018-12-03", None)]
    assert set(found.state) == {"universes/a.csv"}


def take_over(warehouse: Warehouse, drops: Path, night: Any, folder: Path) -> Delivery:
    calendar, source = sessions(), FilesUniverses(drops / "universes")
    request = staging.request_for(warehouse, source, night, calendar)
    staged = staging.stage(source, request, folder)
    return ingest.take_over(warehouse, staged, night, calendar, "run")[0]


def members(warehouse: Warehouse, instant: Any) -> list[tuple[Any, ...]]:
    return warehouse.sql(
        """
        SELECT universe, entity, CAST(first_session AS VARCHAR), CAST(last_session AS VARCHAR)
        FROM raw.memberships_as_of(CAST(? AS TIMESTAMPTZ)) ORDER BY ALL
        """,
        instant,
    )


def test_a_changed_spell_is_a_vintage_and_old_cutoffs_see_the_old_one(
    warehouse: Warehouse, drops: Path, tmp_path: Path
) -> None:
    file = drops / "universes" / "u.csv"
    write(file, SPELLS + "A,1957-03-04,\nB,2018-12-04,\n")
    first, second, third = (night_of(day) for day in DAYS[2:])
    assert counts(take_over(warehouse, drops, first, tmp_path)) == (2, 0, 2, 0)
    delivery = take_over(warehouse, drops, second, tmp_path)
    assert (delivery.status, counts(delivery)) == ("unchanged", (0, 0, 0, 0))
    assert members(warehouse, "2018-12-03") == [("u", "A", "1957-03-04", None)]
    write(file, SPELLS + "A,1957-03-04,2018-12-06\n", later=1)
    assert counts(take_over(warehouse, drops, third, tmp_path)) == (1, 0, 1, 0)
    assert members(warehouse, second.cutoff) == [
        ("u", "A", "1957-03-04", None),
        ("u", "B", "2018-12-04", None),
    ]
    assert members(warehouse, third.now) == [
        ("u", "A", "1957-03-04", "2018-12-06"),
        ("u", "B", "2018-12-04", None),  # a spell that is no longer delivered stays
    ]
    write(file, SPELLS + "A,1957-03-04,\n", later=2)  # and it did not leave after all
    take_over(warehouse, drops, third, tmp_path)
    assert members(warehouse, third.now)[0] == ("u", "A", "1957-03-04", None)
    (health,) = warehouse.sql("SELECT kind, rows, stale FROM freshness")
    assert health == ("memberships", 4, False)


def test_a_spell_is_known_when_it_says_so(
    warehouse: Warehouse, drops: Path, tmp_path: Path
) -> None:
    file = drops / "universes" / "u.csv"
    header = "symbol,from,to,known_at\n"
    write(file, header + "A,2018-12-04,,2018-11-20T22:00:00Z\n")
    take_over(warehouse, drops, night_of(DAYS[1]), tmp_path)
    write(file, header + "A,2018-12-04,2018-12-06,2018-12-05T22:00:00Z\n", later=1)
    take_over(warehouse, drops, night_of(DAYS[4]), tmp_path)
    # a correction that keeps the old time was not known before it was fetched
    write(file, header + "A,2018-12-04,2018-12-07,2018-12-05T22:00:00Z\n", later=2)
    for _ in range(2):
        write(file, file.read_text(), later=3)
        take_over(warehouse, drops, night_of(DAYS[4]), tmp_path)
    known = warehouse.sql(
        "SELECT CAST(last_session AS VARCHAR), known_at FROM raw.memberships ORDER BY known_at"
    )
    assert known == [
        (None, pd.Timestamp("2018-11-20 22:00", tz="UTC")),
        ("2018-12-06", pd.Timestamp("2018-12-05 22:00", tz="UTC")),
        ("2018-12-07", night_of(DAYS[4]).now),
    ]


def test_an_empty_folder_of_universes_is_no_defect(
    warehouse: Warehouse, drops: Path, tmp_path: Path
) -> None:
    delivery = take_over(warehouse, drops, NIGHT, tmp_path)
    assert (delivery.status, delivery.complete) == ("unchanged", True)
    assert warehouse.sql("SELECT stale FROM freshness") == [(False,)]
    # one wrong file: named, and nothing is stored
    write(drops / "universes" / "u.csv", SPELLS + "A,soon,\n")
    delivery = take_over(warehouse, drops, NIGHT, tmp_path)
    assert (delivery.status, delivery.complete, len(delivery.problems)) == ("partial", False, 1)
    assert warehouse.one("SELECT count(*) FROM raw.memberships") == (0,)
