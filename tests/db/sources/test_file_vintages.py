"""Vintages of a collection as files: one source, read at every time as it stood then."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from db.settings import Settings, load_settings
from db.sources import series_files
from db.sources.catalog import price_sources
from db.sources.series_files import FilesSeries, FilesVintages
from db.sources.source import Fetched, Request, publishes_vintages
from db.warehouse import Warehouse
from tests.db.deliveries import counts, deliver

NIGHT = date(2025, 12, 15)
UNTIL = datetime(2025, 12, 16, 3, tzinfo=UTC)
REFERENCE = ("2023-05", "2025-02", "2025-08")


@pytest.fixture
def files(tmp_path: Path) -> Settings:
    """Settings of the files profile, with an empty folder of observations."""
    files = load_settings(profile="files", files_dir=tmp_path / "drops")
    (files.drops / "observations").mkdir(parents=True)
    return files


def text(first: str, **columns: list[object]) -> str:
    """A file as FRED-MD writes them: months in sasdate, m/d/Y, codes below the header."""
    length = max(len(values) for values in columns.values())
    months = pd.date_range(first, periods=length, freq="MS")
    lines = [",".join(["sasdate", *columns]), ",".join(["Transform:", *("5" for _ in columns)])]
    for number, month in enumerate(months):
        cells = [columns[name][number] for name in columns]
        lines.append(",".join([f"{month.month}/1/{month.year}", *map(str, cells)]))
    return "\n".join([*lines, "," * len(columns), ""])


def drop(files: Settings, name: str, content: str) -> Path:
    path = files.drops / "observations" / name
    path.write_text(content)
    later = path.stat().st_mtime_ns + next(_SECONDS) * 10**9
    os.utime(path, ns=(later, later))
    return path


_SECONDS = itertools.count(1)
_FETCHES = (UNTIL + timedelta(minutes=number) for number in itertools.count())


def the_source(files: Settings) -> FilesVintages:
    (source,) = price_sources(files)
    assert isinstance(source, FilesVintages)
    return source


def fetch(files: Settings, before: Fetched | None = None) -> Fetched:
    start = None if before is None else date(2018, 1, 1)
    state = {} if before is None else json.loads(json.dumps(before.state))
    return the_source(files).fetch(Request(start, UNTIL, state=state))


def night(warehouse: Warehouse, files: Settings) -> tuple[int, int, int, int]:
    return counts(deliver(warehouse, the_source(files), NIGHT, fetched_at=next(_FETCHES)))


def read(warehouse: Warehouse, instant: str) -> dict[tuple[str, str], float]:
    rows = warehouse.sql(
        "SELECT series, period, value FROM raw.observations_as_of(CAST(? AS TIMESTAMPTZ))",
        f"{instant}T00:00:00Z",
    )
    found = {(series, str(period)): value for series, period, value in rows}
    assert len(found) == len(rows)
    return found


def known(fetched: Fetched) -> list[str]:
    return sorted({f"{instant:%Y-%m-%d %H:%M}" for instant in fetched.frame["known_at"]})


# ------------------------------------------------------------------------------ fetching


def test_files_of_one_name_and_several_months_are_one_source(files: Settings) -> None:
    drop(files, "md_2018-03.csv", text("2018-01-01", A=[1, 2], B=[10, ""]))
    drop(files, "md_2018-04.csv", text("2018-01-01", A=[1, 2.5, 3], B=[10, 20, "."]))
    source = the_source(files)
    assert (source.name, source.kind, source.frequency) == ("files.md", "observations", "month")
    assert publishes_vintages(source)
    found = fetch(files)
    assert found.problems == ()
    assert str(found.frame["period"].dtype) == "datetime64[us]"
    assert str(found.frame["known_at"].dtype) == "datetime64[us, UTC]"
    assert found.frame["value"].dtype == np.float64
    rows = [
        (series, f"{period:%Y-%m-%d}", value, f"{instant:%Y-%m-%d}")
        for series, period, value, instant in found.frame.itertuples(index=False)
    ]
    assert rows == [
        ("A", "2018-01-01", 1.0, "2018-04-01"),
        ("A", "2018-02-01", 2.0, "2018-04-01"),
        ("B", "2018-01-01", 10.0, "2018-04-01"),
        ("A", "2018-01-01", 1.0, "2018-05-01"),
        ("A", "2018-02-01", 2.5, "2018-05-01"),
        ("A", "2018-03-01", 3.0, "2018-05-01"),
        ("B", "2018-01-01", 10.0, "2018-05-01"),
        ("B", "2018-02-01", 20.0, "2018-05-01"),
    ]
    assert found.state["missing_marked"] == 2
    assert found.state["transform_lines"] == 2


@pytest.mark.parametrize(
    ("name", "last", "expected"),
    [
        ("2018-03", 2, "2018-04-01"),  # as the St. Louis Fed names them
        ("2018-03", 1, "2018-04-01"),
        ("2018-02", 2, "2018-04-01"),  # named after its newest month
        ("2018-02", 4, "2018-06-01"),  # and after an older one
        ("2018-12", 11, "2019-01-01"),
    ],
)
def test_a_vintage_is_known_when_both_its_name_and_its_values_could_be(
    name: str, last: int, expected: str, files: Settings
) -> None:
    drop(files, f"md_{name}.csv", text("2018-01-01", A=[*range(last), ""]))
    assert known(fetch(files)) == [f"{expected} 00:00"]


def test_other_files_are_sources_of_their_own(files: Settings) -> None:
    drop(files, "daily_2018-03.csv", "date,A\n2018-03-01,1\n2018-03-02,2\n2018-03-05,3\n")
    drop(files, "long_2018-03.csv", "series,date,value\nA,2018-01-01,1\nA,2018-02-01,2\n")
    drop(files, "stamped_2018-03.csv", "date,A,known_at\n2018-01-01,1,x\n2018-02-01,1,x\n")
    drop(files, "md_2018-13.csv", "date,A\n2018-01-01,1\n2018-02-01,2\n")
    drop(files, "md.csv", "date,A\n2018-01-01,1\n2018-02-01,2\n")
    found = price_sources(files)
    assert all(isinstance(source, FilesSeries) for source in found)
    assert sorted(source.name for source in found) == [
        "files.daily_2018-03", "files.long_2018-03", "files.md", "files.md_2018-13",
        "files.stamped_2018-03",
    ]  # fmt: skip


def test_an_ordinary_file_in_the_layout_of_fred_md_is_read_too(files: Settings) -> None:
    drop(files, "md.csv", text("2018-01-01", A=[1, "", 3]))
    (source,) = price_sources(files)
    found = source.fetch(Request(None, UNTIL))
    assert found.frame["period"].dt.strftime("%Y-%m-%d").to_list() == ["2018-01-01", "2018-03-01"]
    assert found.state["transform_lines"] == 1
    assert found.marked_missing is not None
    assert found.marked_missing["period"].to_list() == [pd.Timestamp("2018-02-01")]


def test_dates_that_two_orders_read_are_not_guessed_where_the_header_is_not_fred_mds(
    files: Settings,
) -> None:
    drop(files, "md_2018-03.csv", text("2018-01-01", A=[1, 2]))
    drop(files, "md_2018-04.csv", text("2018-01-01", A=[1, 2]).replace("sasdate", "date"))
    found = fetch(files)
    assert known(found) == ["2018-04-01 00:00"]
    (said,) = found.problems
    assert said.startswith("md_2018-04.csv holds no value with a date that can be read in one way")


def test_what_cannot_be_a_vintage_is_named_and_the_others_come(files: Settings) -> None:
    drop(files, "md_2018-03.csv", text("2018-01-01", A=[1, 2]))
    drop(files, "md_2018-04.csv", "")
    drop(files, "md_2018-05.csv", text("2018-01-01", A=[""] * 3))
    drop(files, "md_2018-06.csv", text("2018-01-01", A=[1, 2]).replace("2/1/2018", "2/1/2081"))
    drop(files, "md.csv", text("2018-01-01", A=[1, 2]))
    drop(files, "md_2018-01.csv", text("2018-01-01", A=[1, 2]))
    found = fetch(files)
    assert known(found) == ["2018-04-01 00:00"]
    assert set(found.state["vintages"]) == {"md_2018-03.csv"}
    said = {problem.split(" ")[0]: problem for problem in found.problems}
    assert set(said) == {
        "md.csv", "md_2018-01.csv", "md_2018-04.csv", "md_2018-05.csv", "md_2018-06.csv",
    }  # fmt: skip
    assert all("\n" not in problem for problem in found.problems)
    assert "beside vintages of the same name" in said["md.csv"]
    assert "md_2018-03.csv are both known from 2018-04-01" in said["md_2018-01.csv"]
    assert "no value with a date" in said["md_2018-05.csv"]
    assert "values of 2081-02" in said["md_2018-06.csv"]
    second = fetch(files, found)
    assert (len(second.frame), len(second.problems)) == (0, 5)
    assert second.state == found.state


def test_only_what_is_new_and_what_follows_it_is_read(files: Settings) -> None:
    for month in ("03", "05"):
        drop(files, f"md_2018-{month}.csv", text("2018-01-01", A=[1, int(month)]))
    first = fetch(files)
    assert known(first) == ["2018-04-01 00:00", "2018-06-01 00:00"]
    assert len(fetch(files, first).frame) == 0
    drop(files, "md_2018-06.csv", text("2018-01-01", A=[1, 6]))
    second = fetch(files, first)
    assert known(second) == ["2018-07-01 00:00"]
    drop(files, "md_2018-04.csv", text("2018-01-01", A=[1, 4]))
    third = fetch(files, second)
    assert known(third) == ["2018-05-01 00:00", "2018-06-01 00:00", "2018-07-01 00:00"]
    assert set(third.state["vintages"]) == {f"md_2018-0{month}.csv" for month in (3, 4, 5, 6)}
    # what a newer vintage confirmed is not stored: without its file an older one must wait
    newest = files.drops / "observations" / "md_2018-06.csv"
    content = newest.read_text()
    newest.unlink()
    assert len(fetch(files, third).frame) == 0
    drop(files, "md_2018-02.csv", text("2018-01-01", A=[9]))
    waits = fetch(files, third)
    assert known(waits) == ["2018-04-01 00:00", "2018-05-01 00:00", "2018-06-01 00:00"]
    assert waits.problems == (
        "md_2018-02.csv is older than md_2018-06.csv, which was taken over and cannot be read "
        "any more; put md_2018-06.csv back, then both are read",
    )
    assert "md_2018-02.csv" not in waits.state["vintages"]
    drop(files, "md_2018-06.csv", content)
    assert known(fetch(files, waits))[0] == "2018-03-01 00:00"


def test_many_vintages_come_in_turns_the_oldest_first(
    files: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_files, "_MOST_AT_ONCE", 2)
    for month in range(3, 8):
        drop(files, f"md_2018-0{month}.csv", text("2018-01-01", A=[1, 2]))
    found = fetch(files)
    assert known(found) == ["2018-04-01 00:00", "2018-05-01 00:00"]
    assert found.problems == (
        "3 of 5 new vintages wait for the next run: 2 are taken over at once, the oldest first",
    )
    second = fetch(files, found)
    assert known(second) == ["2018-06-01 00:00", "2018-07-01 00:00"]
    third = fetch(files, second)
    assert (known(third), third.problems) == (["2018-08-01 00:00"], ())


# ------------------------------------------------------------------------- taking over


@pytest.mark.usefixtures("by_predicates")
def test_each_version_is_kept_once_and_read_at_its_time(
    files: Settings, warehouse: Warehouse
) -> None:
    drop(files, "md_2018-03.csv", text("2018-01-01", A=[1, 2]))
    drop(files, "md_2018-04.csv", text("2018-01-01", A=[1, 2.5, 3]))
    assert night(warehouse, files) == (5, 1, 4, 0)
    assert night(warehouse, files) == (0, 0, 0, 0)
    drop(files, "md_2018-05.csv", text("2018-01-01", A=[1, 2.5, 3.5, 4]))
    assert night(warehouse, files) == (4, 2, 2, 0)
    january, february, march, april = (("A", f"2018-0{month}-01") for month in (1, 2, 3, 4))
    assert read(warehouse, "2018-03-31") == {}
    assert read(warehouse, "2018-04-01") == {january: 1.0, february: 2.0}
    assert read(warehouse, "2018-05-01") == {january: 1.0, february: 2.5, march: 3.0}
    assert read(warehouse, "2018-06-01") == {january: 1.0, february: 2.5, march: 3.5, april: 4.0}


MONTHS = ("2018-03", "2018-04", "2018-05", "2018-06")
# A goes back and forth; B is confirmed by the last; C is there, gone, there; D comes late
VERSIONS: Mapping[str, Mapping[str, list[object]]] = {
    "2018-03": {"A": [1, 1], "B": [5, 5], "C": [7, 7]},
    "2018-04": {"A": [2, 1], "B": [6, 5], "C": ["", 7]},
    "2018-05": {"A": [1, 1], "B": [5, 5], "C": [7, 7], "D": [3, ""]},
    "2018-06": {"A": [1, 1], "B": [5, 5], "C": [7, 7], "D": [3, 4]},
}


@pytest.mark.usefixtures("by_predicates")
@pytest.mark.parametrize("order", list(itertools.permutations(MONTHS))[::3])
def test_vintages_that_come_in_any_order_are_read_alike(
    order: tuple[str, ...], files: Settings, warehouse: Warehouse
) -> None:
    for month in order:
        drop(files, f"md_{month}.csv", text("2018-01-01", **VERSIONS[month]))
        night(warehouse, files)
        assert night(warehouse, files) == (0, 0, 0, 0)
    expected: dict[tuple[str, str], float] = {}
    for month in MONTHS:
        for series, values in VERSIONS[month].items():
            for number, value in enumerate(values, start=1):
                if value != "":
                    expected[series, f"2018-{number:02}-01"] = float(str(value))
        known_from = (pd.Period(month, "M") + 1).start_time.strftime("%Y-%m-%d")
        assert read(warehouse, known_from) == expected


@pytest.mark.usefixtures("by_predicates")
def test_a_vintage_that_was_mended_counts_from_its_own_time(
    files: Settings, warehouse: Warehouse
) -> None:
    for month in ("2018-03", "2018-04"):
        drop(files, f"md_{month}.csv", text("2018-01-01", A=[1, 2]))
    assert night(warehouse, files) == (4, 2, 2, 0)
    drop(files, "md_2018-03.csv", text("2018-01-01", A=[1, 9]))
    # the next vintage says 2 again, and now that is news
    assert night(warehouse, files) == (4, 2, 2, 0)
    assert read(warehouse, "2018-04-01")["A", "2018-02-01"] == 9.0
    assert read(warehouse, "2018-05-01")["A", "2018-02-01"] == 2.0
    os.utime(files.drops / "observations" / "md_2018-03.csv", ns=(1, 1))
    assert night(warehouse, files) == (4, 4, 0, 0)


@pytest.mark.usefixtures("by_predicates")
def test_what_is_no_value_lies_in_quarantine_and_confirms_nothing(
    files: Settings, warehouse: Warehouse
) -> None:
    drop(files, "md_2018-04.csv", text("2018-01-01", A=[1, "n/a", 3]))
    drop(files, "md_2018-05.csv", text("2018-01-01", A=[1, "n/a", "inf"]))
    assert night(warehouse, files) == (6, 1, 2, 3)
    drop(files, "md_2018-06.csv", text("2018-01-01", A=[1, "n/a", 3]))
    assert night(warehouse, files) == (3, 2, 0, 1)
    assert read(warehouse, "2026-01-01") == {("A", "2018-01-01"): 1.0, ("A", "2018-03-01"): 3.0}


@pytest.mark.usefixtures("by_predicates")
def test_months_without_value_inside_a_series_do_not_stop_it(
    files: Settings, warehouse: Warehouse
) -> None:
    drop(files, "md_2018-06.csv", text("2018-01-01", A=[1, "", "", 4, 5], B=["", "", 3, 4, ""]))
    assert night(warehouse, files) == (5, 0, 5, 0)
    # a line that is not there at all is a gap, as ever
    content = text("2018-01-01", A=[1, 2, 3, 4, 5, 6, 7, 8])
    whole = drop(files, "md_2018-09.csv", content.replace("7/1/2018,7\n", ""))
    stopped = deliver(warehouse, the_source(files), NIGHT)
    assert stopped.status == "stopped"
    assert "2018-07" in stopped.problems[0]
    drop(files, whole.name, content)
    assert night(warehouse, files) == (8, 3, 5, 0)


def test_the_reference_vintages_are_read_as_they_stood(
    files: Settings, warehouse: Warehouse, reference_data: Path
) -> None:
    for month in REFERENCE:
        name = f"fredmd_{month}.csv"
        shutil.copy(reference_data / "macro_vintages" / name, files.drops / "observations" / name)
    delivery = deliver(warehouse, the_source(files), NIGHT)
    fetched, _, appended, quarantined = counts(delivery)
    assert (delivery.source, delivery.problems) == ("files.fredmd", ())
    published = {month: _published(reference_data, month) for month in REFERENCE}
    assert fetched == sum(map(len, published.values()))
    assert quarantined == 0
    assert warehouse.one("SELECT count(*) FROM raw.observations") == (appended,)
    assert counts(deliver(warehouse, the_source(files), NIGHT)) == (0, 0, 0, 0)

    # the files are named after older months than those that they hold
    expected: dict[tuple[str, str], float] = {}
    assert read(warehouse, "2023-06-30") == {}
    for month, instants in {
        "2023-05": ("2023-07-01", "2024-01-01", "2025-03-31"),
        "2025-02": ("2025-04-01", "2025-06-01", "2025-11-30"),
        "2025-08": ("2025-12-01", "2026-01-01"),
    }.items():
        expected |= published[month]  # a series that was given up stands as it was
        for instant in instants:
            assert read(warehouse, instant) == expected
    at = ("IPMANSICS", "2023-05-01")
    assert len({vintage[at] for vintage in published.values()}) == 3
    assert published["2023-05"]["UMCSENTx", "2023-05-01"] == 59.2
    assert read(warehouse, "2024-01-01")["UMCSENTx", "2023-05-01"] == 59.2


def _published(reference_data: Path, month: str) -> dict[tuple[str, str], float]:
    """All values of a reference file, as pandas reads it."""
    table = pd.read_csv(reference_data / "macro_vintages" / f"fredmd_{month}.csv", skiprows=[1])
    table = table.dropna(subset=["sasdate"])
    days = pd.to_datetime(table.pop("sasdate"), format="%m/%d/%Y").dt.strftime("%Y-%m-%d")
    values = table.assign(day=days).melt("day", var_name="series").dropna()
    return {(row.series, row.day): float(row.value) for row in values.itertuples()}
