"""The files profile: drops of many shapes, read when they change, named when they cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from db.availability import AfterClose, AfterPeriod
from db.errors import SourceError
from db.settings import Settings, load_settings
from db.sources.catalog import document_sources, price_sources
from db.sources.drops import Drop, dates_of
from db.sources.files import FilesBars, FilesDocuments, files_sources
from db.sources.series_files import FilesSeries
from db.sources.source import Fetched, Request, Source

UNTIL = datetime(2018, 12, 29, 3, tzinfo=UTC)
MONTHS = pd.date_range("2018-01-01", periods=6, freq="MS")


@pytest.fixture
def files(own_home: Path) -> Settings:
    """Settings of the files profile, with its three empty folders."""
    settings = load_settings(profile="files")
    for kind in ("bars", "observations", "documents"):
        (settings.drops / kind).mkdir(parents=True)
    return settings


def whole(source: Source, state: Mapping[str, object] | None = None) -> Fetched:
    return source.fetch(Request(start=None, until=UNTIL, state=state or {}))


def again(source: Source, before: Fetched) -> Fetched:
    start = datetime(2018, 12, 12).date()
    return source.fetch(Request(start=start, until=UNTIL, state=before.state))


def bars_of(settings: Settings) -> FilesBars:
    (source,) = [s for s in price_sources(settings) if s.kind == "bars"]
    assert isinstance(source, FilesBars)
    return source


def series_of(settings: Settings, name: str) -> FilesSeries:
    (source,) = [s for s in price_sources(settings) if s.name == f"files.{name}"]
    assert isinstance(source, FilesSeries)
    return source


def change(path: Path, text: str) -> None:
    path.write_text(text)
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


# -------------------------------------------------------------------------------- bars


def test_vendors_column_names_and_types(files: Settings) -> None:
    folder = files.drops / "bars"
    (folder / "a.csv").write_text(
        "Ticker,DATE,Open,High,Low,Close,Adj Close,Volume,Exchange\n"
        "A,2018-12-27,1,3,1,2.50,2.4,100,N\nA,12/28/2018,2,3,2,oops,,,N\n"
    )
    pd.DataFrame(
        {
            "symbol": ["B", "B"],
            "date": pd.to_datetime(["2018-12-27", "2018-12-28"]).tz_localize("UTC"),
            "adj_close": [7.0, np.nan],
        }
    ).to_parquet(folder / "b.PARQUET")
    pd.DataFrame({"entity": ["C"], "session": [20181228], "close": [9]}).to_parquet(
        folder / "c.parquet"
    )
    (folder / "notes.txt").write_text("not a drop")
    found = whole(bars_of(files))
    assert found.problems == ()
    frame = found.frame.set_index("entity")
    assert str(frame["session"].dtype) == "datetime64[us]"
    assert [str(day.date()) for day in frame["session"]] == [
        "2018-12-27", "2018-12-28", "2018-12-27", "2018-12-28", "2018-12-28",
    ]  # fmt: skip
    # fields of a CSV are the text that was written; the gate judges them
    assert frame.loc["A", "close"].to_list() == ["2.50", "oops"]
    assert frame.loc["B", "adj_close"].to_list()[0] == 7.0
    assert frame.loc["C", "close"] == 9
    assert "Exchange" not in frame
    assert set(found.state) == {"a.csv", "b.PARQUET", "c.parquet"}


def test_an_unchanged_drop_is_not_read_again_and_a_changed_one_is(
    files: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files.drops / "bars"
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(f"symbol,date,close\n{name},2018-12-27,1\n")
    read: list[str] = []
    real = Drop.read
    monkeypatch.setattr(
        Drop, "read", lambda self, *args: (read.append(self.path.name), real(self, *args))[1]
    )
    first = whole(bars_of(files))
    assert read == ["a.csv", "b.csv"]
    second = again(bars_of(files), first)
    assert read == ["a.csv", "b.csv"]
    assert (len(second.frame), second.state) == (0, first.state)
    change(folder / "b.csv", "symbol,date,close\nb,2018-12-27,2\n")
    (folder / "c.csv").write_text("symbol,date,close\nc,2018-12-28,3\n")
    third = again(bars_of(files), second)
    assert read[2:] == ["b.csv", "c.csv"]
    assert third.frame["close"].to_list() == ["2", "3"]
    assert set(third.state) == {"a.csv", "b.csv", "c.csv"}
    # a restated history is read from all files, whatever is known of them
    request = Request(start=None, until=UNTIL, entities=["a", "c"], state=third.state)
    assert bars_of(files).fetch(request).frame["entity"].to_list() == ["a", "c"]


def test_a_drop_that_cannot_be_read_is_named_and_the_others_come(files: Settings) -> None:
    folder = files.drops / "bars"
    (folder / "empty.csv").write_bytes(b"")
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "noise.csv").write_bytes(bytes(range(256)) * 20)
    (folder / "noise.parquet").write_bytes(bytes(range(256)) * 20)
    (folder / "prices.csv").write_text("price,when\n1,2018-12-27\n")
    (folder / "folder.csv").mkdir()
    (folder / "gone.csv").symlink_to(folder / "nowhere.csv")
    good = folder / "good.csv"
    good.write_text("symbol,date,close\nA,2018-12-27,1\n")
    found = whole(bars_of(files))
    assert found.frame["entity"].to_list() == ["A"]
    assert set(found.state) == {"good.csv"}
    named = sorted(problem.split(" ")[0] for problem in found.problems)
    assert named == [
        "empty.csv", "empty.parquet", "folder.csv", "gone.csv", "noise.csv", "noise.parquet",
        "prices.csv",
    ]  # fmt: skip
    assert all("\n" not in problem for problem in found.problems)
    (said,) = [problem for problem in found.problems if problem.startswith("prices.csv")]
    assert said == "prices.csv has no column for entity, session; it has price, when"
    # named again on the next night, until it is mended
    second = again(bars_of(files), found)
    assert len(second.problems) == 7
    change(folder / "prices.csv", "symbol,date,close\nB,2018-12-27,1\n")
    assert again(bars_of(files), second).frame["entity"].to_list() == ["B"]


def test_dates_that_are_none_stay_as_written_and_spoil_no_others(files: Settings) -> None:
    (files.drops / "bars" / "a.csv").write_text(
        "symbol,date,close\nA,12/27/2018,1\nA,n.d.,2\nA,2018-13-45,3\nA,,4\n"
    )
    dates = whole(bars_of(files)).frame["session"]
    assert dates.to_list()[:3] == ["2018-12-27", "n.d.", "2018-13-45"]
    assert pd.isna(dates[3])


def test_what_prices_are_adjusted_for_is_a_setting(files: Settings) -> None:
    assert bars_of(files).adjustment == "total"
    raw = load_settings(profile="files", files_adjustment="raw")
    assert bars_of(raw).adjustment == "raw"


# ------------------------------------------------------------------------ observations


def test_a_wide_file_is_a_column_for_each_series(files: Settings) -> None:
    (files.drops / "observations" / "fred.csv").write_text(
        "DATE,SP500,VIXCLS\n2018-12-26,2467.70,30.41\n2018-12-27,2488.83,.\n2018-12-28,2485.74,\n"
    )
    source = series_of(files, "fred")
    found = whole(source)
    assert found.frame[["series", "value"]].to_numpy().tolist() == [
        ["SP500", 2467.70], ["SP500", 2488.83], ["SP500", 2485.74], ["VIXCLS", 30.41],
    ]  # fmt: skip
    assert found.frame["value"].dtype == np.float64
    assert found.state["missing_marked"] == 2
    assert source.frequency == "session"
    assert source.availability == AfterClose(hours=4)
    assert found.frame["known_at"].iloc[0] >= pd.Timestamp("2018-12-26 21:00", tz="UTC")


@pytest.mark.parametrize("header", ["series,date,value", "Value,SERIES,Period"])
def test_a_long_file_has_rows_of_series_date_value(header: str, files: Settings) -> None:
    cells = {"series": "X", "date": "2018-12-27", "period": "2018-12-27", "value": "1.5"}
    row = ",".join(cells[name.lower()] for name in header.split(","))
    text = f"{header}\n{row}\n"
    (files.drops / "observations" / "long.csv").write_text(text)
    frame = whole(series_of(files, "long")).frame
    assert frame[["series", "value"]].to_numpy().tolist() == [["X", 1.5]]
    assert frame["period"].to_list() == [pd.Timestamp("2018-12-27")]


def test_an_unchanged_series_is_not_read_again_and_a_changed_one_is(files: Settings) -> None:
    path = files.drops / "observations" / "x.csv"
    path.write_text("date,X\n2018-12-27,1\n2018-12-28,.\n")
    first = whole(series_of(files, "x"))
    second = again(series_of(files, "x"), first)
    assert (len(first.frame), len(second.frame)) == (1, 0)
    assert second.state == first.state
    assert len(again(series_of(files, "x"), second).frame) == 0
    assert len(whole(series_of(files, "x"), first.state).frame) == 1  # nothing is stored yet
    change(path, "date,X\n2018-12-27,1\n2018-12-28,2\n")
    assert again(series_of(files, "x"), second).frame["value"].to_list() == [1.0, 2.0]


def test_monthly_files_are_found_by_their_spacing(files: Settings) -> None:
    folder = files.drops / "observations"
    wide = pd.DataFrame({"DATE": MONTHS, "UMCSENT": np.arange(6.0), "MINE": np.arange(6.0)})
    wide.to_parquet(folder / "wide.parquet")
    long = wide.melt("DATE", var_name="series", value_name="value")
    long.sort_values("DATE").rename(columns={"DATE": "date"}).to_csv(folder / "long.csv")
    for name in ("wide", "long"):
        source = series_of(files, name)
        assert source.frequency == "month"
        assert source.availability == AfterPeriod(45, "month")
        frame = whole(source).frame
        assert len(frame) == 12
        last = frame[frame["period"] == "2018-06-01"].set_index("series")["known_at"]
        # a series that is known has its own rule; another waits for 45 days
        assert last["MINE"] == pd.Timestamp("2018-08-15", tz="UTC")
        assert last["UMCSENT"] < last["MINE"]


def test_text_that_is_no_number_is_left_for_the_gate(files: Settings) -> None:
    (files.drops / "observations" / "x.csv").write_text(
        'date,X\n2018-12-26,1.50\n2018-12-27,"1,234"\n2018-12-28,oops\n'
    )
    assert whole(series_of(files, "x")).frame["value"].to_list() == ["1.50", "1,234", "oops"]


def test_dates_of_observations_that_are_none_stay_as_written(files: Settings) -> None:
    (files.drops / "observations" / "x.csv").write_text("date,X\n26.12.2018 x,1\n12/27/2018,2\n")
    frame = whole(series_of(files, "x")).frame
    assert frame["period"].to_list() == ["26.12.2018 x", "2018-12-27"]
    assert "known_at" not in frame  # the rule speaks of dates only


def test_a_row_without_a_series_is_not_lost(files: Settings) -> None:
    (files.drops / "observations" / "x.csv").write_text(
        "series,date,value\nX,2018-12-27,1\n,2018-12-28,2\n"
    )
    frame = whole(series_of(files, "x")).frame
    assert frame["value"].to_list() == [1.0, 2.0]
    assert list(frame["series"].isna()) == [False, True]


def test_two_series_of_one_name_are_refused(files: Settings) -> None:
    (files.drops / "observations" / "x.csv").write_text("date,Real GDP,real_gdp\n2018-12-27,1,2\n")
    with pytest.raises(SourceError, match=r"x\.csv has two columns whose names differ only"):
        whole(series_of(files, "x"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "x.csv"),
        (b"when,X\n2018-12-27,1\n", "x.csv has no date column; it has when, X"),
        (bytes(range(256)) * 20, "x.csv"),
    ],
)
def test_a_series_that_cannot_be_read_is_named(content: bytes, words: str, files: Settings) -> None:
    (files.drops / "observations" / "x.csv").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        whole(series_of(files, "x"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_series_that_went_away_is_named(files: Settings) -> None:
    path = files.drops / "observations" / "x.csv"
    path.write_text("date,X\n2018-12-27,1\n")
    source = series_of(files, "x")
    path.unlink()
    with pytest.raises(SourceError, match=r"x\.csv cannot be read: No such file"):
        whole(source)


# --------------------------------------------------------------------------- documents


def test_documents_of_three_formats(files: Settings) -> None:
    folder = files.drops / "documents"
    (folder / "a.jsonl").write_text(
        '{"id": "1", "ticker": "A", "published_at": "2018-12-27T15:00:00Z", "text": "Ünïcode"}\n'
    )
    (folder / "b.csv").write_text('document_id,time,text\n2,2018-12-27,"two\nlines, quoted"\n')
    pd.DataFrame({"document_id": ["3"], "time": ["2018-12-28"], "text": ["t"]}).to_parquet(
        folder / "c.parquet"
    )
    (folder / "d.jsonl").write_text("{broken\n")
    inbox, source = document_sources(files)
    assert (inbox.name, source.name) == ("inbox", "files.documents")
    assert isinstance(source, FilesDocuments)
    found = whole(source)
    assert found.frame["document_id"].astype(str).to_list() == ["1", "2", "3"]
    assert found.frame["text"].to_list() == ["Ünïcode", "two\nlines, quoted", "t"]
    assert [problem.split(" ")[0] for problem in found.problems] == ["d.jsonl"]
    assert len(again(source, found).frame) == 0


# --------------------------------------------------------------------------- catalogue


def test_sources_are_what_lies_in_the_folder(own_home: Path) -> None:
    settings = load_settings(profile="files")
    with pytest.raises(SourceError, match="set LOOKBACK_FILES_DIR"):
        price_sources(settings)
    settings.drops.mkdir(parents=True)
    assert price_sources(settings) == []
    assert [source.name for source in document_sources(settings)] == ["inbox"]
    (settings.drops / "observations").mkdir()
    for name in ("b.csv", "a.parquet", ".hidden", "readme.md"):
        (settings.drops / "observations" / name).write_bytes(b"")
    assert [source.name for source in files_sources(settings, {})] == ["files.a", "files.b"]


def test_actions_and_universes_are_in_the_catalogue(own_home: Path) -> None:
    settings = load_settings(profile="files")
    (settings.drops / "universes").mkdir(parents=True)
    assert [(s.name, s.kind) for s in price_sources(settings)] == [
        ("files.universes", "memberships")
    ]
    (settings.drops / "actions").mkdir()
    assert {source.name for source in price_sources(settings)} == {"files.bars", "files.universes"}
    assert bars_of(settings).actions == settings.drops / "actions"


def test_files_are_never_changed(files: Settings) -> None:
    path = files.drops / "observations" / "x.csv"
    path.write_text("date,X\n2018-12-27,1\n")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    whole(series_of(files, "x"))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in path.parent.iterdir()] == ["x.csv"]


def test_dates_with_and_without_a_zone(files: Settings) -> None:
    folder = files.drops / "bars"
    zones = ["2018-12-27 00:00:00-05:00", "2018-12-28 00:00:00-05:00"]
    (folder / "a.csv").write_text(f"symbol,date,close\nA,{zones[0]},1\nA,{zones[1]},2\n")
    (folder / "b.csv").write_text(f"symbol,date,close\nB,{zones[0]},1\nB,2018-12-28,2\n")
    (folder / "c.csv").write_text("symbol,date,close\nC,2018-12-27,1\nC,2018-12-28,2\n")
    frame = whole(bars_of(files)).frame
    assert [str(day.date()) for day in frame["session"]] == ["2018-12-27", "2018-12-28"] * 3


@pytest.mark.parametrize("order", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y"])
def test_one_order_of_dates_a_file(order: str) -> None:
    days = pd.Series(pd.bdate_range("2022-01-03", "2022-06-30").as_unit("us"))
    assert dates_of(days.dt.strftime(order)).equals(days)


def test_dates_that_two_orders_read_are_not_guessed() -> None:
    text = pd.Series(["04/01/2022", "05/01/2022", "06/01/2022"])
    assert dates_of(text).equals(text)
