"""The files profile: a folder of drops for vendor data and large histories.

    files/bars/*.parquet|csv            date, symbol, open … volume, adj_close: long
    files/observations/*.parquet|csv    date and one column a series, or series, date, value
    files/documents/*.jsonl|csv|parquet document_id, entity, time, text

A file that has been taken over is read again only when it changes. Files are never moved
or changed; one that cannot be read is named every night until it is mended or removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from db.availability import AfterClose, AfterPeriod, Availability
from db.errors import SourceError
from db.sessions import sessions
from db.settings import Settings
from db.sources.source import (
    BAR_COLUMNS,
    DOCUMENT_COLUMNS,
    Adjustment,
    Fetched,
    Frequency,
    Kind,
    Request,
    Source,
)

# Column names that vendors use -> ours; compared in lower case, without _ and spaces.
BAR_NAMES = {
    "ticker": "entity",
    "symbol": "entity",
    "entity": "entity",
    "date": "session",
    "session": "session",
    "adjclose": "adj_close",
    **{name: name for name in ("open", "high", "low", "close", "volume")},
}
LONG_NAMES = {"series": "series", "date": "period", "period": "period", "value": "value"}
DATE_NAMES = frozenset({"date", "period", "observationdate", "sasdate"})
DOCUMENT_NAMES = {
    "documentid": "document_id",
    "id": "document_id",
    "ticker": "entity",
    "symbol": "entity",
    "entity": "entity",
    "time": "time",
    "publishedat": "time",
    "text": "text",
}
MONTHLY_SPACING_DAYS = 20
# Orders in which dates are written where they are not ISO.
DATE_ORDERS = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d")
# A drop says nothing of its delay; four hours after the close a vendor's file is there.
AFTER_DELIVERY = AfterClose(hours=4)
WITH_THE_TEXT = AfterClose(hours=0)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "")


class Drop:
    """One file, opened by DuckDB: columns by our names, CSV fields still as text.

    Text stays text so that a field that is no number reaches quarantine as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def fingerprint(self) -> list[int]:
        """Size in bytes and time of the last change: what tells a changed file."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise SourceError(f"{self.path.name} cannot be read: {error.strerror}") from None
        return [status.st_size, status.st_mtime_ns]

    @cached_property
    def relation(self) -> duckdb.DuckDBPyRelation:
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        try:
            suffix = self.path.suffix.lower()
            if suffix == ".parquet":
                return connection.read_parquet(str(self.path))
            if suffix == ".jsonl":
                return self._lines(connection)
            return connection.read_csv(str(self.path), header=True, all_varchar=True)
        except duckdb.Error as error:
            raise SourceError(f"{self.path.name} cannot be read: {_first_line(error)}") from None

    def _lines(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
        """JSON objects, one a line, every field as text: a time keeps its zone."""
        keys = connection.execute(
            "SELECT DISTINCT unnest(json_keys(json)) FROM read_ndjson_objects(?)", [str(self.path)]
        ).fetchall()
        if not keys:
            raise SourceError(f"{self.path.name} cannot be read: it holds no JSON object")
        return connection.read_json(
            str(self.path), format="newline_delimited", columns={key: "VARCHAR" for (key,) in keys}
        )

    def read(self, names: Mapping[str, str], required: set[str]) -> pd.DataFrame:
        """The columns that `names` knows, renamed; others are left out.

        Raises
        ------
        SourceError
            The file cannot be read, or a required column is missing.
        """
        chosen = {
            names[_plain(column)]: column
            for column in self.relation.columns
            if _plain(column) in names
        }
        missing = required - chosen.keys()
        if missing:
            raise SourceError(
                f"{self.path.name} has no column for {', '.join(sorted(missing))}; "
                f"it has {', '.join(self.relation.columns[:12])}"
            )
        select = ", ".join(f'"{theirs}" AS "{ours}"' for ours, theirs in chosen.items())
        try:
            table: pa.Table = self.relation.project(select).arrow().read_all()
            frame: pd.DataFrame = table.to_pandas()
        except duckdb.Error as error:
            raise SourceError(f"{self.path.name} cannot be read: {_first_line(error)}") from None
        return frame


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())


def _drops(folder: Path, suffixes: tuple[str, ...]) -> list[Drop]:
    if not folder.is_dir():
        return []
    return [Drop(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]


def _dates(column: pd.Series) -> pd.Series:
    """Midnight datetimes where the column holds dates; text that is no date stays as it is.

    Beside such text the other dates are text too, in ISO form: the gate reads no other.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        midnight: pd.Series = column.dt.tz_localize(None).dt.normalize().astype("datetime64[us]")
        return midnight
    if pd.api.types.is_integer_dtype(column):  # 20181228, not nanoseconds since 1970
        column = column.astype("str")
    parsed = _read_dates(column)
    if parsed.isna().equals(column.isna()):
        whole: pd.Series = parsed.dt.normalize().astype("datetime64[us]")
        return whole
    as_text: pd.Series = column.where(parsed.isna(), parsed.dt.strftime("%Y-%m-%d"))
    return as_text


def _read_dates(column: pd.Series) -> pd.Series:
    """Dates of a column, NaT where there is none: ISO, or one other order for all the rest.

    A date that is guessed alone turns 04/01 and 13/01 of one file into two orders. Where two
    orders read as many of the dates and disagree, none is taken: the gate names the rows.
    """
    try:
        parsed = pd.to_datetime(column, errors="coerce", format="ISO8601")
    except ValueError:  # offsets from UTC differ within the file
        parsed = pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
    parsed = parsed.dt.tz_localize(None).astype("datetime64[us]")
    rest = column[parsed.isna() & column.notna()].astype("str").str.strip()
    orders = [pd.to_datetime(rest, errors="coerce", format=order) for order in DATE_ORDERS]
    best = max(orders, key=lambda dates: int(dates.notna().sum()))
    rivals = [
        dates
        for dates in orders
        if dates.notna().sum() == best.notna().sum() and not dates.equals(best)
    ]
    if not rivals:
        parsed.loc[rest.index] = best.astype("datetime64[us]")
    return parsed


@dataclass(frozen=True)
class _Folder:
    """What the three kinds of drops share: read what is new, name what cannot be read."""

    folder: Path
    suffixes: tuple[str, ...]

    def read(
        self, request: Request, names: Mapping[str, str], required: set[str]
    ) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, Any]]:
        parts, problems, state = [], [], {}
        for drop in _drops(self.folder, self.suffixes):
            name = drop.path.name
            whole = request.start is None and request.entities is not None
            try:
                fingerprint = drop.fingerprint
                if not whole and request.state.get(name) == fingerprint:
                    state[name] = fingerprint
                    continue
                part = drop.read(names, required)
                if "session" in part:
                    part["session"] = _dates(part["session"])
                parts.append(part)
                state[name] = fingerprint
            except SourceError as error:
                problems.append(str(error))
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        return frame, tuple(problems), state


@dataclass(frozen=True)
class FilesBars:
    """Bars of every file under bars/, long format, vendors' column names."""

    folder: Path
    adjustment: Adjustment
    name: str = "files.bars"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    availability: Availability = AFTER_DELIVERY

    def fetch(self, request: Request) -> Fetched:
        drops = _Folder(self.folder, (".parquet", ".csv"))
        frame, problems, state = drops.read(request, BAR_NAMES, {"entity", "session"})
        if frame.empty:
            return Fetched(pd.DataFrame(columns=list(BAR_COLUMNS)), None, problems, state)
        if request.entities is not None:
            frame = frame[frame["entity"].isin(request.entities)].reset_index(drop=True)
        return Fetched(frame, None, problems, state)


@dataclass(frozen=True)
class FilesSeries:
    """One file of observations: a column for each series, or rows of series, date, value."""

    drop: Drop
    frequency: Frequency
    rules: Mapping[str, Availability]
    calendar: str
    kind: Kind = "observations"
    adjustment: Adjustment = "raw"

    @property
    def name(self) -> str:
        return f"files.{self.drop.path.stem}"

    @property
    def availability(self) -> Availability:
        return AfterPeriod(45, "month") if self.frequency == "month" else AFTER_DELIVERY

    def fetch(self, request: Request) -> Fetched:
        name, fingerprint = self.drop.path.name, self.drop.fingerprint
        if request.state.get(name) == fingerprint and request.start is not None:
            empty = pd.DataFrame(columns=["series", "period", "value"])
            return Fetched(empty, state=request.state)
        frame = self._long()
        frame["period"] = _dates(frame["period"])
        # "." and blanks are FRED's way to say: no value on this date
        missing = frame["value"].isna() | frame["value"].astype(str).str.strip().isin([".", ""])
        frame = frame[~missing].reset_index(drop=True)
        frame["value"] = _numbers(frame["value"])
        return Fetched(
            self._stamped(frame),
            state={name: fingerprint, "missing_marked": int(missing.sum())},
        )

    def _long(self) -> pd.DataFrame:
        columns = {_plain(column): column for column in self.drop.relation.columns}
        if {"series", "value"} <= columns.keys():
            return self.drop.read(LONG_NAMES, {"series", "period", "value"})
        date_column = next((name for key, name in columns.items() if key in DATE_NAMES), None)
        if date_column is None:
            raise SourceError(
                f"{self.drop.path.name} has no date column; it has {', '.join(columns.values())}"
            )
        if len(columns) < len(self.drop.relation.columns):
            raise SourceError(
                f"{self.drop.path.name} has two columns whose names differ only in case, "
                "blanks or _; rename one of them"
            )
        wide = self.drop.read(
            {key: name if name != date_column else "period" for key, name in columns.items()},
            {"period"},
        )
        return wide.melt(id_vars="period", var_name="series", value_name="value").astype(
            {"series": "str"}
        )

    def _stamped(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows with `known_at` by the rule of each series, where the dates are dates."""
        if not pd.api.types.is_datetime64_any_dtype(frame["period"]):
            return frame
        stamped = [
            part.assign(
                known_at=self.rules.get(str(series), self.availability).known_at(
                    part["period"], sessions(self.calendar)
                )
            )
            for series, part in frame.groupby("series", sort=False, dropna=False)
        ]
        return pd.concat(stamped, ignore_index=True) if stamped else frame


def _numbers(column: pd.Series) -> pd.Series:
    """Floats where all fields are numbers; otherwise the text, for the gate to judge."""
    parsed = pd.to_numeric(column, errors="coerce")
    return parsed.astype("float64") if parsed.notna().all() else column


@dataclass(frozen=True)
class FilesDocuments:
    """Texts of every file under documents/."""

    folder: Path
    name: str = "files.documents"
    kind: Kind = "documents"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_TEXT

    def fetch(self, request: Request) -> Fetched:
        drops = _Folder(self.folder, (".jsonl", ".csv", ".parquet"))
        frame, problems, state = drops.read(
            request, DOCUMENT_NAMES, {"document_id", "time", "text"}
        )
        if frame.empty:
            frame = pd.DataFrame(columns=list(DOCUMENT_COLUMNS))
        return Fetched(frame, None, problems, state)


def files_sources(settings: Settings, rules: Mapping[str, Availability]) -> list[Source]:
    """The sources of the files profile; `rules` are the publication rules of known series.

    Raises
    ------
    SourceError
        The folder of drops does not exist.
    """
    root = settings.drops
    if not root.is_dir():
        raise SourceError(
            f"profile files reads {root}, which is no folder; "
            "set LOOKBACK_FILES_DIR to one that holds bars/, observations/ or documents/"
        )
    return list(_files_sources(root, settings, rules))


def _files_sources(
    root: Path, settings: Settings, rules: Mapping[str, Availability]
) -> Iterator[Source]:
    if (root / "bars").is_dir():
        yield FilesBars(root / "bars", settings.files_adjustment)
    for drop in _drops(root / "observations", (".parquet", ".csv")):
        yield FilesSeries(drop, _frequency(drop), rules, settings.calendar)
    if (root / "documents").is_dir():
        yield FilesDocuments(root / "documents")


def _frequency(drop: Drop) -> Frequency:
    """Monthly if the first dates lie weeks apart; an unreadable file says so when fetched."""
    try:
        columns = [name for name in drop.relation.columns if _plain(name) in DATE_NAMES]
        if not columns:
            return "session"
        head = drop.relation.project(f'"{columns[0]}"').limit(50).fetchall()
    except (SourceError, duckdb.Error):
        return "session"
    dates = pd.to_datetime(_dates(pd.Series([row[0] for row in head])), errors="coerce")
    spacing = dates.drop_duplicates().diff().median()
    return "month" if spacing > pd.Timedelta(days=MONTHLY_SPACING_DAYS) else "session"
