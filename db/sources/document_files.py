"""Files of documents: JSON, JSON lines, CSV, Parquet and plain text, whatever they are named.

A file is read by what it holds where its ending says something else, packed by gzip or not.
Text is UTF-8, or UTF-16 with a byte order mark. A file in another encoding is refused: a guess
makes wrong letters that nobody notices.

A file is refused as a whole (`Refused`) or read; rows of it that cannot be read are delivered
too, with the rule that they fail, so that the quality gate holds them and the counts add up.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import os
import re
import stat
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from db.availability import AfterClose
from db.errors import SourceError
from db.instants import as_dates
from db.sources.drops import plain

# Column names that vendors use, the first of each that a row has counts; compared in lower
# case, without _ and blanks.
NAMES: Mapping[str, tuple[str, ...]] = {
    "document_id": ("documentid", "docid", "id", "idstr", "guid", "tweetid", "articleid"),
    "published_at": (
        "publishedat", "published", "pubdate", "createdat", "timestamp", "datetime", "time", "date",
    ),
    "known_at": ("knownat",),
    "text": ("text", "fulltext", "tweet", "message"),
    "title": ("headline", "title"),
    "body": ("body", "content", "summary", "description"),
    "symbols": ("symbols", "tickers", "symbol", "ticker", "entity"),
    "language": ("language", "lang"),
    "publisher": ("source", "publisher"),
}  # fmt: skip

# Columns of the frames that are made here, beside those of `DOCUMENT_COLUMNS`.
#   timed    whether the document itself says when it was published
#   file     path of the file, empty where there is none; origin: its name and line, for people
#   refused  rule that the row fails because it could not be read; the others are judged
#   problem  what was wrong with it, in words
#   content  what was refused, as JSON; identity: what makes it the same refusal another time
COLUMNS = (
    "document_id", "published_at", "text", "symbols", "language", "known_at",
    "timed", "file", "origin", "refused", "problem", "content", "identity",
)  # fmt: skip

DOCUMENT_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz")
MEGABYTE = 1_000_000

_READ = tuple(name for name in COLUMNS if name != "file")

# Documents have a time of their own, from which they are known.
WITH_THE_TEXT = AfterClose(hours=0)

_ROLES = {name: (role, rank) for role, names in NAMES.items() for rank, name in enumerate(names)}
_DELIMITERS = ",\t;|"
_LINE_KEPT = 10_000  # characters of a line that quarantine keeps; the file itself is kept whole
_LONGEST_FIELD = 2**31 - 1
_LONGEST_RECORD = 1_000  # lines of one CSV record
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_JSON_LINES, _CSV = (".jsonl", ".ndjson"), (".csv", ".tsv")
_BLANKS = re.compile(r"[\s,;|]+")


class Refused(SourceError):  # noqa: N818 - reads as what happened
    """A file that is not read at all.

    Attributes
    ----------
    rule : of the quality gate, that it fails.
    row : what is known of it: file, bytes, sha256 (None where it was not read).
    """

    def __init__(
        self, rule: str, problem: str, path: Path, size: int, digest: str | None = None
    ) -> None:
        super().__init__(problem)
        self.rule = rule
        self.row = {"file": path.name, "bytes": size, "sha256": digest}

    def as_row(self) -> dict[str, Any]:
        """The refusal as a row of the delivery, for the quality gate."""
        content = json.dumps(self.row)
        identity = self.row["sha256"] or content
        return {
            "origin": self.row["file"],
            "refused": self.rule,
            "problem": str(self),
            "content": content,
            "identity": identity,
        }


@dataclass
class _Rows:
    """Columns that grow as a file is read."""

    file: str
    unit: str = "line"
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _READ})
    good: int = 0

    def add(self, number: int, values: Mapping[str, Any], timed: bool = True) -> None:
        """A row that could be read; what it lacks is for the gate to judge."""
        columns = self.columns
        for name in ("document_id", "published_at", "text", "symbols", "language", "known_at"):
            columns[name].append(values.get(name))
        columns["timed"].append(timed)
        columns["origin"].append(f"{self.file} {self.unit} {number}")
        for name in ("refused", "problem", "content", "identity"):
            columns[name].append(None)
        self.good += 1

    def refuse(self, number: int, problem: str, raw: str) -> None:
        """A row that could not be read."""
        kept = raw if len(raw) <= _LINE_KEPT else raw[:_LINE_KEPT]
        last = self.columns
        for values in last.values():
            values.append(None)
        last["timed"][-1] = True
        last["origin"][-1] = f"{self.file} {self.unit} {number}"
        last["refused"][-1] = "row_readable"
        last["problem"][-1] = problem
        last["content"][-1] = json.dumps({"row": kept, "characters": len(raw)})
        last["identity"][-1] = hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()

    def required(self, without: str) -> pd.DataFrame:
        """The rows; a file without any that can be read is refused, `without` says why."""
        count = len(self.columns["origin"])
        if not count:
            raise _Unfit("file_empty", without)
        if not self.good:
            first = self.columns["problem"][0]
            what = self.unit.replace("entry", "entrie") + "s"
            raise _Unfit("file_readable", f"none of its {count} {what} can be read: {first}")
        frame = document_frame(self.columns)
        for time in ("published_at", "known_at"):
            frame[time] = as_dates(frame[time])
        return frame


def document_frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Rows with all of `COLUMNS`, text but for `timed`; columns that are left out are missing."""
    length = max((len(values) for values in columns.values()), default=0)
    absent = [None] * length
    frame = pd.DataFrame(
        {
            name: pd.array(columns.get(name, absent), dtype="str")
            for name in COLUMNS
            if name != "timed"
        }
    )
    frame["timed"] = pd.array(columns.get("timed", [True] * length), dtype="bool")
    return frame


def in_full(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of documents with all of `COLUMNS`; times that are datetimes stay such."""
    made = document_frame({"origin": [None] * len(frame)}).set_axis(frame.index)
    return made.assign(**{name: frame[name] for name in COLUMNS if name in frame})


def read_documents(path: Path, largest: int) -> pd.DataFrame:
    """Rows of one file, those that cannot be read included.

    Parameters
    ----------
    path : a regular file; links are not followed.
    largest : bytes that a file may have, packed and unpacked.

    Returns
    -------
    DataFrame
        `COLUMNS`; `published_at` and `known_at` as they are written, or as dates where every
        time of the column is a midnight; `symbols` with blanks between.

    Raises
    ------
    Refused
        The file as a whole cannot be read, is too large, empty, or in another encoding.
    FileNotFoundError
        It is no longer there.
    """
    data, modified = _bytes_of(path, largest)
    size, digest = len(data), hashlib.sha256(data).hexdigest()

    def refuse(rule: str, problem: str) -> Refused:
        return Refused(rule, problem, path, size, digest)

    name = path
    if data.startswith(_GZIP):
        try:
            data = _unpacked(data, largest)
        except (OSError, EOFError, zlib.error) as error:
            raise refuse("file_readable", f"is no whole gzip file: {error}") from None
        if len(data) > largest:
            raise refuse("file_size", f"unpacks to more than {largest / 1e6:g} MB")
        name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    ending = name.suffix.lower()
    try:
        if data.startswith(_PARQUET):
            return _parquet(data, _Rows(path.name, "row"), largest)
        if not data.strip():
            raise _Unfit("file_empty", "holds nothing")
        if ending == ".parquet":
            raise _Unfit("file_readable", "is no Parquet file")
        text = _decoded(data)
        if not text.strip():
            raise _Unfit("file_empty", "holds nothing but blanks")
        return _text_rows(text, ending, _Rows(path.name), modified)
    except _Unfit as unfit:
        raise refuse(unfit.rule, str(unfit)) from None


class _Unfit(Exception):  # noqa: N818 - reads as what it is
    """Why a file is refused, before its size and digest are put to it."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(problem)
        self.rule = rule


def _bytes_of(path: Path, largest: int) -> tuple[bytes, datetime]:
    """The whole file and the UTC time of its last change; a file that is too large is not read."""
    try:
        # a pipe that nobody writes to would block, a link lead anywhere
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        size = path.lstat().st_size
        raise Refused("file_readable", f"cannot be opened: {error.strerror}", path, size) from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("file_readable", "is no regular file", path, status.st_size)
        too_large = f"is larger than {largest / 1e6:g} MB (LOOKBACK_INBOX_MAX_MEGABYTES)"
        if status.st_size > largest:
            raise Refused("file_size", too_large, path, status.st_size)
        try:
            data = file.read(largest + 1)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise Refused("file_readable", problem, path, status.st_size) from None
        if len(data) > largest:  # it grew meanwhile
            raise Refused("file_size", too_large, path, status.st_size)
        return data, datetime.fromtimestamp(status.st_mtime, UTC)


def _unpacked(data: bytes, largest: int) -> bytes:
    """At most one byte more than `largest`: a small file may unpack to any size."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        return packed.read(largest + 1)


def _decoded(data: bytes) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in data:
        raise _Unfit("file_readable", "is binary: no text, JSON, CSV or Parquet")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Unfit(
            "file_encoding",
            f"is no {encoding.upper().removesuffix('-SIG')}: byte {data[error.start]:#04x} in line "
            f"{line}; save it as UTF-8",
        ) from None


def _text_rows(text: str, ending: str, rows: _Rows, modified: datetime) -> pd.DataFrame:
    """Rows of a text, by what it looks like; its ending decides where that leaves a choice."""
    first_line = text.lstrip().split("\n", 1)[0]
    looks_json = first_line[:1] in ("{", "[")
    header = _header(first_line)
    if ending == ".json" or (looks_json and ending not in (".txt", *_JSON_LINES, *_CSV)):
        return _json(text, rows)
    if ending == ".txt" and looks_json and not _is_object(first_line):
        looks_json = False  # [Reuters] Apple …
    if looks_json:
        return _json_lines(text, rows) if first_line[0] == "{" else _json(text, rows)
    if header is not None:
        return _csv(text, header, rows)
    if ending in _JSON_LINES:
        return _json_lines(text, rows)
    if ending in _CSV:
        raise _Unfit("file_readable", _no_columns(first_line))
    if ending == ".txt":
        rows.unit = "from line"
        rows.add(1, {"text": text, "published_at": modified.isoformat()}, timed=False)
        return rows.required("")
    raise _Unfit("file_readable", "is neither JSON, CSV nor Parquet, and not named .txt")


# --------------------------------------------------------------------------- JSON


def _json(text: str, rows: _Rows) -> pd.DataFrame:
    """A list of objects or one object; JSON lines where it is neither."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return _json_lines(text, rows)
        raise _Unfit("file_readable", f"is broken JSON: {_words(error)}") from None
    rows.unit = "entry"
    for number, entry in enumerate(found if isinstance(found, list) else [found], 1):
        _add_entry(rows, number, entry, None, escapes="\\u" in text)
    return rows.required("holds an empty list")


def _json_lines(text: str, rows: _Rows) -> pd.DataFrame:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            rows.refuse(number, f"broken JSON: {_words(error)}", line)
            continue
        _add_entry(rows, number, entry, line, escapes="\\u" in line)
    return rows.required("holds no line")


def _add_entry(rows: _Rows, number: int, entry: Any, line: str | None, *, escapes: bool) -> None:
    """One JSON value; `line` is what it was read from, `escapes` whether that has any."""
    if not isinstance(entry, dict):
        rows.refuse(number, "is no JSON object", line or json.dumps(entry))
        return
    chosen: dict[str, tuple[int, Any]] = {}
    for key, value in entry.items():
        role = _role(key)
        if role is None or _is_missing(value):
            continue
        if _outranks(role[1], chosen.get(role[0])):
            chosen[role[0]] = (role[1], value)
    values = {name: _scalar(name, value) for name, (_, value) in chosen.items()}
    unfit = [name for name, value in values.items() if value is _NO_TEXT]
    if unfit:
        rows.refuse(number, f"{unfit[0]} is no text", line or json.dumps(entry))
    elif escapes and not _is_unicode(values.values()):
        rows.refuse(number, "holds half a character (a lone surrogate)", line or json.dumps(entry))
    else:
        rows.add(number, _document(values))


def _outranks(rank: int, chosen: tuple[int, Any] | None) -> bool:
    return chosen is None or rank < chosen[0]


def _is_missing(value: Any) -> bool:
    """Whether a value of JSON or Parquet is none: null, NaN or Infinity."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


_NO_TEXT: Any = object()


def _scalar(name: str, value: Any) -> Any:
    """A JSON value as text; `_NO_TEXT` where it cannot be."""
    if name == "symbols":
        return _symbols(value)
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _NO_TEXT
    return _number(value)


def _number(value: float) -> str:
    """Without a fraction where there is none: an id among missing ones is read as 7.0."""
    return f"{value:.6f}" if value != value // 1 else str(int(value))


def _symbols(value: Any) -> str:
    """Symbols with blanks between: of a list, of objects that have a symbol, of text."""
    if isinstance(value, str):
        return " ".join(part for part in _BLANKS.split(value) if part)
    if isinstance(value, dict):
        value = next((value[key] for key in ("symbol", "ticker") if key in value), None)
        return _symbols(value) if isinstance(value, str) else ""
    if isinstance(value, (list, tuple)):
        return " ".join(part for part in map(_symbols, value) if part)
    return ""


def _is_unicode(values: Iterable[Any]) -> bool:
    try:
        for value in values:
            value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}" + (
            f" of line {error.lineno}" if error.lineno > 1 else ""
        )
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _role(name: Any) -> tuple[str, int] | None:
    return _ROLES.get(plain(str(name)).replace("-", ""))


def _document(values: Mapping[str, Any]) -> dict[str, Any]:
    """Our columns from those that were recognised: a title stands before its body."""
    text = values.get("text")
    if text is None:
        parts = [values[name] for name in ("title", "body") if values.get(name)]
        text = "\n".join(parts) if parts else None
    document_id = values.get("document_id")
    if document_id and values.get("publisher"):
        # the ids of two publishers may meet
        document_id = f"{values['publisher']}:{document_id}"
    return {**values, "text": text, "document_id": document_id}


# --------------------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _Header:
    delimiter: str
    fields: int
    positions: Mapping[str, int]


def _header(line: str) -> _Header | None:
    """The header of a CSV that has a text and a time, by the delimiter that finds most; or None."""
    best: _Header | None = None
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
        except csv.Error:
            continue
        positions = _positions(names)
        if best is None or len(positions) > len(best.positions):
            best = _Header(delimiter, len(names), positions)
    if best is None or not _suffices(best.positions):
        return None
    return best


def _positions(names: Sequence[Any]) -> dict[str, int]:
    """Which column holds what: role -> position."""
    chosen: dict[str, tuple[int, int]] = {}
    for position, name in enumerate(names):
        role = _role(name)
        if role is not None and _outranks(role[1], chosen.get(role[0])):
            chosen[role[0]] = (role[1], position)
    return {role: position for role, (_, position) in chosen.items()}


def _suffices(positions: Mapping[str, int]) -> bool:
    return "published_at" in positions and not positions.keys().isdisjoint(
        ("text", "title", "body")
    )


def _no_columns(line: str) -> str:
    return (
        "has no column for text and time (text or headline, published_at or created_at); "
        f"its first line is {line[:80]!r}"
    )


def _csv(text: str, header: _Header, rows: _Rows) -> pd.DataFrame:
    csv.field_size_limit(_LONGEST_FIELD)  # the gate says what is too long
    lines = _Lines(text)
    records = csv.reader(lines, delimiter=header.delimiter, strict=True)
    while not next(records):  # blank lines before the header
        pass
    while True:
        lines.taken.clear()
        number = lines.number + 1
        try:
            record = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            # a quote that is not closed swallows what follows: only its own line is given up
            rows.refuse(number, f"broken CSV: {error}", lines.taken[0])
            lines.give_back()
            continue
        if not record:
            continue
        if len(record) != header.fields:
            problem = f"has {len(record)} fields, the header {header.fields}"
            rows.refuse(number, problem, "".join(lines.taken))
            continue
        values = {role: record[at] or None for role, at in header.positions.items()}
        if values.get("symbols"):
            values["symbols"] = _symbols(values["symbols"])
        rows.add(number, _document(values))
    return rows.required("has a header and no rows")


class _Lines(Iterator[str]):
    """Lines of a text, of which some can be given back.

    Attributes
    ----------
    number : lines taken and not given back.
    taken : those since the list was cleared: what a record was made of.
    """

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._again: deque[str] = deque()
        self.number = 0
        self.taken: list[str] = []

    def __next__(self) -> str:
        if len(self.taken) >= _LONGEST_RECORD:
            raise csv.Error(f"a quote is not closed within {_LONGEST_RECORD} lines")
        line = self._again.popleft() if self._again else next(self._lines)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """Give back all taken lines but the first."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1


# --------------------------------------------------------------------------- Parquet


def _parquet(data: bytes, rows: _Rows, largest: int) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        positions = _positions(names)
        if not _suffices(positions):
            raise _Unfit("file_readable", _no_columns(",".join(names)))
        wanted = [names[at] for at in positions.values()]
        if _unpacked_size(file.metadata, set(wanted)) > largest:
            raise _Unfit("file_size", f"unpacks to more than {largest / 1e6:g} MB")
        table = file.read(columns=wanted)
        columns = {role: _column(role, table[names[at]]) for role, at in positions.items()}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split("\n")[0].split())
        raise _Unfit("file_readable", f"is no whole Parquet file: {problem}") from None
    for number, record in enumerate(zip(*columns.values(), strict=True), 1):
        rows.add(number, _document(dict(zip(columns, record, strict=True))))
    return rows.required("has no rows")


def _unpacked_size(metadata: Any, wanted: set[str]) -> int:
    """Bytes of the wanted columns, unpacked."""
    return sum(
        metadata.row_group(group).column(at).total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for at in range(metadata.num_columns)
        if metadata.row_group(group).column(at).path_in_schema.split(".")[0] in wanted
    )


def _column(role: str, column: Any) -> list[Any]:
    """Values of a Parquet column as text."""
    import pyarrow as pa

    if role == "symbols":
        return [None if value is None else _symbols(value) for value in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        return _timestamps(column)
    if pa.types.is_nested(column.type) or pa.types.is_boolean(column.type):
        raise _Unfit("file_readable", f"its {role} is no text but {column.type}")
    values = column.to_pylist()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return list(values)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None if value is None else value.decode() for value in values]
    if pa.types.is_floating(column.type):
        return [None if _is_missing(value) else _number(value) for value in values]
    return [None if value is None else str(value) for value in values]


def _timestamps(column: Any) -> list[Any]:
    """ISO 8601, in UTC."""
    values = column.to_pandas()
    if column.type.tz is not None:
        values = values.dt.tz_convert("UTC")
    written = values.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return [None if missing else text for text, missing in zip(written, values.isna(), strict=True)]
