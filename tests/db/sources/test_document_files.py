"""Files of documents: many shapes are read, what cannot be is refused in words."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.instants import read_instants
from db.sources.document_files import COLUMNS, Refused, in_full, read_documents

LARGEST = 100_000
GOOD = {"id": "1", "published_at": "2018-12-27T10:00Z", "text": "Up", "symbols": "A B"}


def read(tmp_path: Path, name: str, content: bytes | str) -> pd.DataFrame:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_documents(path, LARGEST)


def lines(*rows: Any) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def first(frame: pd.DataFrame) -> dict[str, Any]:
    assert list(frame.columns) == [*(name for name in COLUMNS if name != "timed"), "timed"]
    return {name: value for name, value in frame.iloc[0].items() if not pd.isna(value)}


def refusal(tmp_path: Path, name: str, content: bytes | str) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        read(tmp_path, name, content)
    assert caught.value.row["file"] == name
    return caught.value.rule, str(caught.value)


CSV = "id;headline;time;ticker\n1;Up;2018-12-27T10:00Z;A,B\n"
SHAPES: dict[str, bytes | str] = {
    "a.jsonl": lines(GOOD),
    "a.ndjson": lines(GOOD),
    "a.json": json.dumps([GOOD], indent=1),
    "b.json": json.dumps(GOOD, indent=1),
    "c.json": lines(GOOD, GOOD),
    "a.csv": CSV,
    "b.csv": CSV.replace(";", ",").replace("A,B", '"A, B"').replace("\n", "\r\n"),
    "c.csv": CSV.encode("utf-8-sig"),
    "d.csv": CSV.encode("utf-16"),
    "a.tsv": CSV.replace(";", "\t"),
    "a.txt": CSV,  # by what it holds
    "b.txt": lines(GOOD),
    "d.jsonl": CSV,
    "e.csv": lines(GOOD),
    "f.csv": "\n\n" + CSV,
    "without_ending": lines(GOOD),
    "a.jsonl.gz": gzip.compress(lines(GOOD).encode()),
    "packed.csv": gzip.compress(CSV.encode()),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(tmp_path: Path, name: str) -> None:
    found = first(read(tmp_path, name, SHAPES[name]))
    origin = found.pop("origin")
    assert origin.startswith(f"{name} ")
    assert found == {
        "document_id": "1",
        "published_at": "2018-12-27T10:00Z",
        "text": "Up",
        "symbols": "A B",
        "timed": True,
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"created_at": 5, "full_text": "x"}, {"published_at": "5", "text": "x"}),
        ({"timestamp": 5.5, "Title": "x"}, {"published_at": "5.500000", "text": "x"}),
        ({"title": "T", "body": "B"}, {"text": "T\nB"}),
        ({"body": "B"}, {"text": "B"}),
        ({"text": "x", "title": "T", "time": "t", "date": "d"}, {"text": "x", "published_at": "t"}),
        ({"text": "x", "time": None, "date": "d"}, {"text": "x", "published_at": "d"}),
        ({"id": 7, "source": "R", "text": "x"}, {"document_id": "R:7", "text": "x"}),
        (
            {"id": 7.0, "text": "x", "lang": "en"},
            {"document_id": "7", "text": "x", "language": "en"},
        ),
        ({"text": "x", "symbols": ["A", {"symbol": "B"}]}, {"text": "x", "symbols": "A B"}),
        ({"text": "x", "tickers": "A;B | C"}, {"text": "x", "symbols": "A B C"}),
        ({"text": "\U0001f600", "known_at": "k"}, {"text": "\U0001f600", "known_at": "k"}),
    ],
)
def test_names_that_vendors_use(tmp_path: Path, row: Any, expected: dict[str, Any]) -> None:
    found = first(read(tmp_path, "a.jsonl", lines(row)))
    assert found == expected | {"timed": True, "origin": "a.jsonl line 1"}


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "created_at": pd.to_datetime(["2018-12-27 10:00", "2018-12-28 00:00"]),
            "text": ["Up", None],
            "symbols": [["A", "B"], []],
            "id": [1.0, None],
        }
    )
    frame.to_parquet(tmp_path / "a.bin")
    found = read_documents(tmp_path / "a.bin", LARGEST)
    assert found["published_at"].tolist() == [
        "2018-12-27T10:00:00.000000Z",
        "2018-12-28T00:00:00.000000Z",
    ]
    assert first(found)["document_id"] == "1"
    assert first(found)["symbols"] == "A B"
    assert found["text"].isna().tolist() == [False, True]
    assert found["origin"].tolist() == ["a.bin row 1", "a.bin row 2"]
    frame.iloc[1:].to_parquet(tmp_path / "b.parquet")
    dates = read_documents(tmp_path / "b.parquet", LARGEST)
    assert dates["published_at"].tolist() == ["2018-12-28"]  # a date, not a midnight
    there = frame["created_at"].dt.tz_localize("America/New_York")
    frame.assign(created_at=there).iloc[1:].to_parquet(tmp_path / "c.parquet")
    zoned = read_documents(tmp_path / "c.parquet", LARGEST)
    assert zoned["published_at"].tolist() == ["2018-12-28T05:00:00.000000Z"]


def test_numbers_that_are_none_are_missing_values(tmp_path: Path) -> None:
    content = (
        '{"id": NaN, "time": "2018-12-27T10:00Z", "text": NaN}\n'
        '{"id": Infinity, "time": NaN, "date": "2018-12-28", "text": -Infinity, "title": "Up"}\n'
        '{"id": 1e999, "time": null, "text": "Down", "symbols": ["A", NaN], "lang": NaN}\n'
    )
    for name in ("a.jsonl", "a.json"):
        listed = f"[{content.strip().replace(chr(10), ',')}]"
        found = read(tmp_path, name, content if name == "a.jsonl" else listed)
        assert found["refused"].isna().all()
        assert found["document_id"].isna().all()
        assert found["language"].isna().all()
        assert found["text"].fillna("").tolist() == ["", "Up", "Down"]
        assert found["published_at"].fillna("").tolist() == ["2018-12-27T10:00Z", "2018-12-28", ""]
        assert found["symbols"].fillna("").tolist() == ["", "", "A"]


def test_missing_values_of_a_parquet(tmp_path: Path) -> None:
    nothing = float("nan")
    pd.DataFrame(
        {
            "id": [nothing, float("inf")],
            "time": pd.to_datetime(["2018-12-27 10:00", None]),
            "text": ["Up", None],
            "source": [nothing, nothing],
            "symbols": [nothing, nothing],
        }
    ).to_parquet(tmp_path / "a.parquet")
    found = read_documents(tmp_path / "a.parquet", LARGEST)
    assert found[["document_id", "symbols"]].isna().all(axis=None)
    assert found["published_at"].fillna("").tolist() == ["2018-12-27T10:00:00.000000Z", ""]
    assert found["text"].fillna("").tolist() == ["Up", ""]


@pytest.mark.parametrize("texts", [[["Up"]], [{"a": 1}], [True]])
def test_a_parquet_whose_text_is_none_is_refused(tmp_path: Path, texts: list[Any]) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"time": ["2018-12-27"], "text": texts}).to_parquet(path)
    with pytest.raises(Refused, match="its text is no text but") as caught:
        read_documents(path, LARGEST)
    assert caught.value.rule == "file_readable"


def test_a_csv_cell_is_text_as_it_stands(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", "id,time,text\n,2018-12-27,NaN\nnull,2018-12-27,\n")
    assert found["document_id"].fillna("").tolist() == ["", "null"]
    assert found["text"].fillna("").tolist() == ["NaN", ""]


@pytest.mark.parametrize("days", [["2018-12-27", "2018-12-28"], ["2018-12-27"]])
def test_midnights_only_are_dates_in_every_format(tmp_path: Path, days: list[str]) -> None:
    times = pd.to_datetime(days)
    frame = pd.DataFrame({"time": times, "known_at": times + pd.Timedelta(days=7), "text": "Up"})
    frame.to_parquet(tmp_path / "naive.parquet")
    utc = frame.assign(time=frame["time"].dt.tz_localize("UTC"))
    utc.to_parquet(tmp_path / "utc.parquet")
    frame.to_json(tmp_path / "iso.json", orient="records", date_format="iso")
    since_1970 = frame.astype({"time": "datetime64[ms]", "known_at": "datetime64[ms]"})
    since_1970 = since_1970.astype({"time": "int64", "known_at": "int64"})
    since_1970.to_json(tmp_path / "milliseconds.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "dates.csv", index=False)
    frame.to_csv(tmp_path / "times.csv", index=False, date_format="%Y-%m-%d %H:%M:%S")
    later = frame["known_at"].dt.strftime("%Y-%m-%d").tolist()
    for path in sorted(tmp_path.iterdir()):
        found = read_documents(path, LARGEST)
        assert found["published_at"].tolist() == days, path.name
        assert found["known_at"].tolist() == later, path.name


def test_a_midnight_among_times_of_day_is_a_time_in_every_format(tmp_path: Path) -> None:
    times = pd.to_datetime(["2018-12-27 00:00", "2018-12-27 10:00"])
    frame = pd.DataFrame({"time": times, "text": "Up"})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.json", orient="records", date_format="iso")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for path in sorted(tmp_path.iterdir()):
        read_back = read_instants(read_documents(path, LARGEST)["published_at"])
        assert read_back.known.tolist() == times.tz_localize("UTC").tolist(), path.name


def test_plain_text_has_the_time_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("[Reuters] Apple is up,\nby a lot")
    os.utime(path, (1545904800, 1545904800))
    found = first(read_documents(path, LARGEST))
    assert found["text"] == "[Reuters] Apple is up,\nby a lot"
    assert found["published_at"] == "2018-12-27T10:00:00+00:00"
    assert not found["timed"]


def test_broken_lines_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    content = lines(
        "{broken", GOOD, "[1]", {"text": {"a": 1}}, r'{"text": "\ud800"}',
        r'{"text": "\ud83d\ude00"}', "[" * 5000, {"text": True},
    )  # fmt: skip
    found = read(tmp_path, "a.jsonl", content)
    assert found["refused"].fillna("").tolist() == [
        "row_readable", "", "row_readable", "row_readable", "row_readable", "", "row_readable",
        "row_readable",
    ]  # fmt: skip
    assert found["problem"].dropna().tolist() == [
        "broken JSON: Expecting property name enclosed in double quotes at column 2",
        "is no JSON object",
        "text is no text",
        "holds half a character (a lone surrogate)",
        "broken JSON: nested too deep",
        "text is no text",
    ]
    assert found["origin"].tolist() == [f"a.jsonl line {number}" for number in range(1, 9)]
    assert json.loads(found["content"].iloc[0]) == {"row": "{broken", "characters": 7}
    assert found["text"].iloc[5] == "\U0001f600"


def test_a_broken_record_of_a_csv_does_not_swallow_the_rest(tmp_path: Path) -> None:
    content = (
        "time,text\n2018-12-27,a\n2018-12-27\n2018-12-27,b,c\n"
        '2018-12-27,"open\n2018-12-27,d\n2018-12-27,"e" f\n\n2018-12-27,"two\nlines, ""quoted"""\n'
    )
    found = read(tmp_path, "a.csv", content)
    assert found["text"].dropna().tolist() == ["a", "d", 'two\nlines, "quoted"']
    assert found["problem"].dropna().tolist() == [
        "has 1 fields, the header 2",
        "has 3 fields, the header 2",
        "broken CSV: ',' expected after '\"'",
        "broken CSV: ',' expected after '\"'",
    ]
    assert found["origin"].str.removeprefix("a.csv line ").tolist() == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "9",
    ]


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    content = "time,text\n" + '2018-12-27,"open\n' + "2018-12-27,x\n" * 3000
    found = read(tmp_path, "a.csv", content)
    assert found["text"].notna().sum() == 3000
    assert found["problem"].dropna().tolist() == [
        "broken CSV: a quote is not closed within 1000 lines"
    ]


REFUSED: dict[str, tuple[bytes | str, str, str]] = {
    "a.jsonl": (b"", "file_empty", "holds nothing"),
    "b.txt": (" \n\t", "file_empty", "holds nothing"),
    "c.csv": ("id,published_at,text\n", "file_empty", "has a header and no rows"),
    "c.tsv": ("id\tpublished_at\ttext", "file_empty", "has a header and no rows"),
    "c.txt": ("time;text\n\n", "file_empty", "has a header and no rows"),
    "d.json": ("[]", "file_empty", "holds an empty list"),
    "e.csv": ("id,text\n1,x\n", "file_readable", "has no column for text and time"),
    "f.csv": ("time,text\n1\n2\n", "file_readable", "none of its 2 lines can be read: has 1"),
    "g.jsonl": ("{broken\n", "file_readable", "none of its 1 lines can be read: broken JSON"),
    "h.json": ("[1, 2]", "file_readable", "none of its 2 entries can be read"),
    "i.json": ('[{"text": "x"}', "file_readable", "is broken JSON: Expecting ',' delimiter"),
    "j.json": ("[" * 50_000, "file_readable", "is broken JSON: nested too deep"),
    "k.txt": (b"a\0b", "file_readable", "is binary"),
    "l.csv": (b"time,text\n1,caf\xe9\n", "file_encoding", "is no UTF-8: byte 0xe9 in line 2"),
    "m.csv": (b"\xff\xfea", "file_encoding", "is no UTF-16"),
    "n.parquet": (b"PAR1 and no more", "file_readable", "is no whole Parquet file"),
    "o.parquet": ("text", "file_readable", "is no Parquet file"),
    "p.gz": (gzip.compress(b"x" * 1000)[:-9], "file_readable", "is no whole gzip file"),
    "q.gz": (gzip.compress(b"x" * (LARGEST + 1)), "file_size", "unpacks to more than 0.1 MB"),
    "r.csv": (b"x" * (LARGEST + 1), "file_size", "is larger than 0.1 MB"),
    "s.xml": ("<rss/>", "file_readable", "is neither JSON, CSV nor Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(tmp_path: Path, name: str) -> None:
    content, rule, words = REFUSED[name]
    found, said = refusal(tmp_path, name, content)
    assert (found, words in said) == (rule, True), said


def test_a_parquet_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"time": ["2018"] * 2, "text": ["x" * LARGEST, "y" * LARGEST]}).to_parquet(path)
    assert path.stat().st_size < LARGEST
    with pytest.raises(Refused, match="unpacks to more"):
        read_documents(path, LARGEST)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(200_000_000)  # without a byte on disk
    with pytest.raises(Refused) as caught:
        read_documents(path, LARGEST)
    assert caught.value.row == {"file": "huge.csv", "bytes": 200_000_000, "sha256": None}


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target.txt").write_text("secret")
    (tmp_path / "link.txt").symlink_to(tmp_path / "target.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("link.txt", "pipe.txt"):
        with pytest.raises(Refused):
            read_documents(tmp_path / name, LARGEST)
    with pytest.raises(FileNotFoundError):
        read_documents(tmp_path / "gone.txt", LARGEST)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300),
    st.sampled_from([".csv", ".json", ".jsonl", ".txt", ".parquet", ".gz", ""]),
)
def test_whatever_lies_there_is_read_or_refused(
    tmp_path: Path, content: bytes, ending: str
) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    with contextlib.suppress(Refused):
        assert len(read_documents(path, LARGEST))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1)
)
def test_texts_come_through_every_shape_as_they_are(tmp_path: Path, texts: list[str]) -> None:
    frame = pd.DataFrame({"time": "2018-12-27", "text": texts})
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "a.json", orient="records")
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.parquet"):
        assert read_documents(tmp_path / name, LARGEST)["text"].tolist() == texts
    frame.to_csv(tmp_path / "a.csv", index=False, quoting=1)
    assert read_documents(tmp_path / "a.csv", LARGEST)["text"].tolist() == texts


def test_in_full_adds_what_a_source_leaves_out() -> None:
    frame = pd.DataFrame({"published_at": pd.to_datetime(["2018-12-27"], utc=True), "text": ["x"]})
    full = in_full(frame)
    assert set(full.columns) == set(COLUMNS)
    assert full["timed"].tolist() == [True]
    assert full["published_at"].equals(frame["published_at"])
