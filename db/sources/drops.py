"""Drops: files that somebody put into a folder, read as they are and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from db.errors import SourceError

# Orders in which dates are written where they are not ISO.
DATE_ORDERS = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d")
_LONGEST_HEADER = 2**20


def plain(name: str) -> str:
    """A column name in lower case, without _ and blanks: how vendors' names are compared."""
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

    @property
    def header(self) -> bytes:
        """First line of a CSV; nothing for other files, and where it cannot be read."""
        if self.path.suffix.lower() != ".csv":
            return b""
        try:
            with self.path.open("rb") as file:
                return file.readline(_LONGEST_HEADER)
        except OSError:
            return b""

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
            names[plain(column)]: column
            for column in self.relation.columns
            if plain(column) in names
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


def drops_in(folder: Path, suffixes: tuple[str, ...]) -> list[Drop]:
    """The files of a folder with one of these endings, by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return [Drop(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]


def dates_of(column: pd.Series, orders: Sequence[str] = DATE_ORDERS) -> pd.Series:
    """Midnight datetimes where the column holds dates; text that is no date stays as it is.

    Beside such text the other dates are text too, in ISO form: the gate reads no other.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        midnight: pd.Series = column.dt.tz_localize(None).dt.normalize().astype("datetime64[us]")
        return midnight
    if pd.api.types.is_integer_dtype(column):  # 20181228, not nanoseconds since 1970
        column = column.astype("str")
    elif pd.api.types.is_float_dtype(column):  # the same, in a column that has gaps
        column = column.astype("object").map(lambda number: f"{number:.15g}", na_action="ignore")
    parsed = _read_dates(column, orders)
    if parsed.isna().equals(column.isna()):
        whole: pd.Series = parsed.dt.normalize().astype("datetime64[us]")
        return whole
    as_text: pd.Series = column.where(parsed.isna(), parsed.dt.strftime("%Y-%m-%d"))
    return as_text


def _read_dates(column: pd.Series, orders: Sequence[str]) -> pd.Series:
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
    read = [pd.to_datetime(rest, errors="coerce", format=order) for order in orders]
    best = max(read, key=lambda dates: int(dates.notna().sum()))
    rivals = [
        dates
        for dates in read
        if dates.notna().sum() == best.notna().sum() and not dates.equals(best)
    ]
    if not rivals:
        parsed.loc[rest.index] = best.astype("datetime64[us]")
    return parsed
