"""Observations from files: one file a source, or the vintages of one collection a source.

    files/observations/prices.csv            a source of its own, `files.prices`
    files/observations/fredmd_2023-05.csv    one vintage of the source `files.fredmd`
    files/observations/fredmd_2023-06.csv    the next

A wide monthly file whose name ends in _YYYY-MM is a vintage: the whole collection as it stood
when it was published in that month. The layout and the dates are those of FRED-MD (M. McCracken
and S. Ng, "FRED-MD: A Monthly Database for Macroeconomic Research", JBES 34, 2016): months in
`sasdate`, written month/day/year, and a line of transformation codes, which is no observation.

**From when a vintage is known.** The St. Louis Fed posts a month's vintage around its last
business day, and that vintage ends with the month before. All values of a file count as known
from the first instant (UTC) of the month after its publication, which is the month in its name
or, where the file holds values beyond that, the month after its newest value: a file named
2023-05 that holds values of May 2023 was made in June, and is known from July 1st. A name that
runs ahead of its data would otherwise let a backtest see the June releases in May.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd

from db.availability import AfterClose, AfterPeriod, Availability
from db.errors import SourceError
from db.sessions import sessions
from db.settings import Settings
from db.sources.drops import DATE_ORDERS, Drop, dates_of, drops_in, plain
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request, Source

LONG_NAMES = {"series": "series", "date": "period", "period": "period", "value": "value"}
DATE_NAMES = frozenset({"date", "period", "observationdate", "sasdate"})
MONTHLY_SPACING_DAYS = 20
# A drop says nothing of its delay; four hours after the close a vendor's file is there.
AFTER_DELIVERY = AfterClose(hours=4)
# A month's values come with the next month's vintage, known from the first of the month after.
WITH_THE_NEXT_VINTAGE = AfterPeriod(31, "month")

_VINTAGE_NAME = re.compile(r"(?P<collection>.+)_(?P<month>\d{4}-(?:0[1-9]|1[0-2]))")
# FRED-MD writes months as 1/1/1959, 2/1/1959, …: both orders read them, only this one is meant.
_SASDATE_ORDER = ("%m/%d/%Y",)
# A file may be named after its newest month; dates beyond a year are errors, and would put off
# the time from which all of its values are known.
_MOST_MONTHS_BEYOND_NAME = 12


@dataclass(frozen=True)
class Observed:
    """What one file holds.

    Attributes
    ----------
    frame : columns series, period, value; text that is no date or number is as it was written.
    marked : columns series, period: dates without a value between two that have one.
    missing : cells without a value: blank, or FRED's ".".
    transform_lines : lines of transformation codes, which are no observations.
    """

    frame: pd.DataFrame
    marked: pd.DataFrame
    missing: int
    transform_lines: int


def observed(drop: Drop) -> Observed:
    """The observations of a file: a column for each series, or rows of series, date, value.

    Raises
    ------
    SourceError
        The file cannot be read, has no date column, or two columns of one name.
    """
    if _is_long(drop):
        lines, transform_lines = drop.read(LONG_NAMES, {"series", "period", "value"}), 0
        date_column = ""
    else:
        date_column = _date_column(drop)
        lines, transform_lines = _wide(drop, date_column)
    lines["period"] = dates_of(lines["period"], _orders(date_column))
    # "." and blanks are FRED's way to say: no value on this date
    missing = _is_blank(lines["value"])
    frame = lines.loc[~missing, ["series", "period", "value"]].reset_index(drop=True)
    frame["value"] = _numbers(frame["value"])
    marked = _inside(frame, lines.loc[missing, ["series", "period"]])
    return Observed(frame, marked, int(missing.sum()), transform_lines)


def _wide(drop: Drop, date_column: str) -> tuple[pd.DataFrame, int]:
    """Rows of series, period, value from a column for each series; lines of codes left out."""
    columns = {plain(column): column for column in drop.relation.columns}
    if len(columns) < len(drop.relation.columns):
        raise SourceError(
            f"{drop.path.name} has two columns whose names differ only in case, "
            "blanks or _; rename one of them"
        )
    wide = drop.read(
        {key: name if name != date_column else "period" for key, name in columns.items()},
        {"period"},
    )
    codes = wide["period"].astype("str").str.strip().str.lower().str.startswith("transform")
    # spreadsheets leave lines of nothing but commas at the end
    padding = wide.apply(_is_blank).all(axis=1)
    kept = wide[~(codes | padding)]
    rows = kept.melt(id_vars="period", var_name="series", value_name="value")
    return rows.astype({"series": "str"}), int(codes.sum())


def _is_long(drop: Drop) -> bool:
    return {"series", "value"} <= {plain(column) for column in drop.relation.columns}


def _date_column(drop: Drop) -> str:
    columns = drop.relation.columns
    found = next((name for name in columns if plain(name) in DATE_NAMES), None)
    if found is None:
        raise SourceError(f"{drop.path.name} has no date column; it has {', '.join(columns)}")
    return found


def _orders(date_column: str) -> Sequence[str]:
    return _SASDATE_ORDER if plain(date_column) == "sasdate" else DATE_ORDERS


def _is_blank(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column.isna()
    return column.isna() | column.astype("str").str.strip().isin([".", ""])


def _numbers(column: pd.Series) -> pd.Series:
    """Floats where all fields are numbers; otherwise the text, for the gate to judge."""
    parsed = pd.to_numeric(column, errors="coerce")
    return parsed.astype("float64") if parsed.notna().all() else column


def _inside(frame: pd.DataFrame, blank: pd.DataFrame) -> pd.DataFrame:
    """Of the `blank` dates those that lie between the first and last value of their series."""
    if not pd.api.types.is_datetime64_any_dtype(frame["period"]) or blank.empty:
        return blank.iloc[:0]
    span = frame.groupby("series")["period"].agg(["min", "max"]).reindex(blank["series"])
    days = blank["period"].to_numpy()
    inside = (days > span["min"].to_numpy()) & (days < span["max"].to_numpy())
    return blank[inside].reset_index(drop=True)


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
        """The observations of the file, if it changed; `state["missing_marked"]` counts blanks.

        Raises
        ------
        SourceError
            The file cannot be read.
        """
        name, fingerprint = self.drop.path.name, self.drop.fingerprint
        if request.state.get(name) == fingerprint and request.start is not None:
            return Fetched(_no_rows(), state=request.state)
        found = observed(self.drop)
        state = {name: fingerprint, "missing_marked": found.missing}
        if found.transform_lines:
            state["transform_lines"] = found.transform_lines
        return Fetched(self._stamped(found.frame), state=state, marked_missing=found.marked)

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


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=["series", "period", "value"])


# --------------------------------------------------------------------------- vintages


@dataclass(frozen=True)
class _Vintage:
    """One file of a collection, read; `known_at` is the UTC instant of all its values."""

    drop: Drop
    found: Observed
    known_at: pd.Timestamp

    @property
    def name(self) -> str:
        return self.drop.path.name

    @property
    def note(self) -> dict[str, Any]:
        """What the next fetch must know of this file (JSON)."""
        return {"fingerprint": self.drop.fingerprint, "known_at": self.known_at.isoformat()}


@dataclass(frozen=True)
class FilesVintages:
    """The vintages of one collection: all of its values as each file publishes them.

    Every value of a vintage is delivered, with the time from which the vintage was known; the
    store keeps those that differ from the vintage before. A value that a later vintage does
    not carry any more stands as it was last published: an observation cannot be taken back.

    A vintage that arrives after a newer one brings the newer ones along: what they merely
    confirmed was not stored, and would be read as the older vintage has it.
    """

    collection: str
    drops: tuple[Drop, ...]
    kind: Kind = "observations"
    frequency: Frequency = "month"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_NEXT_VINTAGE
    publishes_vintages: Literal[True] = True

    @property
    def name(self) -> str:
        return f"files.{self.collection}"

    def fetch(self, request: Request) -> Fetched:
        """The values of vintages that are new or changed, and of those published after them.

        Periods are datetime64 at midnight, `known_at` is UTC. `state` keeps what was taken
        over (`vintages`) and what was no observation (`missing_marked`, `transform_lines`).
        A file that cannot be taken over is a problem, every night, and stops no other.
        """
        taken: Mapping[str, Any] = {}
        if request.start is not None:
            taken = request.state.get("vintages", {})
        arrived, problems = self._arrived(taken)
        if not arrived:
            return Fetched(_no_rows(), problems=tuple(problems), state=request.state)
        changed_from = [_known_at(taken[name]) for name in arrived if name in taken]
        earliest = min([vintage.known_at for vintage in arrived.values()] + changed_from)
        later, unreadable = self._published_after(earliest, taken, arrived)
        problems += unreadable
        vintages = {**arrived, **later}
        for name, instant in _out_of_reach(earliest, taken, vintages).items():
            for older in [v for v in arrived.values() if v.known_at < instant]:
                vintages.pop(older.name, None)
                problems.append(
                    f"{older.name} is older than {name}, which was taken over and cannot be read "
                    f"any more; put {name} back, then both are read"
                )
        return _delivered(sorted(vintages.values(), key=lambda v: v.known_at), taken, problems)

    def _arrived(self, taken: Mapping[str, Any]) -> tuple[dict[str, _Vintage], list[str]]:
        """Files that are new or changed, by name, and a line for each that cannot be used."""
        arrived: dict[str, _Vintage] = {}
        problems = []
        there = {drop.path.name for drop in self.drops}
        instants = {_known_at(note): name for name, note in taken.items() if name in there}
        for drop in reversed(self.drops):
            name = drop.path.name
            try:
                if name in taken and taken[name]["fingerprint"] == drop.fingerprint:
                    continue
                vintage = _read(drop)
            except SourceError as error:
                problems.append(str(error))
                continue
            rival = instants.setdefault(vintage.known_at, name)
            if rival == name:
                arrived[name] = vintage
                continue
            problems.append(
                f"{name} and {rival} are both known from {vintage.known_at:%Y-%m-%d} by the "
                "months in their names and values; rename or remove one of them"
            )
        return arrived, problems

    def _published_after(
        self, earliest: pd.Timestamp, taken: Mapping[str, Any], arrived: Mapping[str, _Vintage]
    ) -> tuple[dict[str, _Vintage], list[str]]:
        """Vintages that were taken over before and are known later than `earliest`."""
        later: dict[str, _Vintage] = {}
        problems = []
        for drop in self.drops:
            name = drop.path.name
            if name in arrived or name not in taken or _known_at(taken[name]) <= earliest:
                continue
            try:
                later[name] = _read(drop)
            except SourceError as error:
                problems.append(str(error))
        return later, problems


def _read(drop: Drop) -> _Vintage:
    match = _VINTAGE_NAME.fullmatch(drop.path.stem)
    if match is None:
        raise SourceError(
            f"{drop.path.name} lies beside vintages of the same name; give it a name of its own, "
            "or the month of its publication (…_YYYY-MM)"
        )
    found = observed(drop)
    # dates beside text that is none are text too
    periods = pd.to_datetime(found.frame["period"], errors="coerce", format="ISO8601")
    if periods.isna().all():
        raise SourceError(
            f"{drop.path.name} holds no value with a date that can be read in one way only; "
            "write dates as YYYY-MM-DD"
        )
    named, newest = pd.Period(match["month"], "M"), periods.max().to_period("M")
    if newest > named + _MOST_MONTHS_BEYOND_NAME:
        raise SourceError(
            f"{drop.path.name} holds values of {newest}, more than a year after the month in its "
            "name; correct the date, or rename the file"
        )
    known_at = max(named, newest + 1).end_time.ceil("D").tz_localize("UTC").as_unit("us")
    return _Vintage(drop, found, known_at)


def _known_at(note: Mapping[str, Any]) -> pd.Timestamp:
    return pd.Timestamp(note["known_at"])


def _out_of_reach(
    earliest: pd.Timestamp, taken: Mapping[str, Any], vintages: Mapping[str, _Vintage]
) -> dict[str, pd.Timestamp]:
    """Of the vintages taken over after `earliest` and not read now, the last: its instant."""
    read = {vintage.known_at for vintage in vintages.values()}
    lost = {
        name: _known_at(note)
        for name, note in taken.items()
        if name not in vintages and _known_at(note) > earliest and _known_at(note) not in read
    }
    return dict(sorted(lost.items(), key=lambda item: item[1])[-1:])


def _delivered(
    vintages: Sequence[_Vintage], taken: Mapping[str, Any], problems: Sequence[str]
) -> Fetched:
    notes = {**taken, **{vintage.name: vintage.note for vintage in vintages}}
    frames = [v.found.frame.assign(known_at=v.known_at) for v in vintages]
    marked = [v.found.marked for v in vintages]
    return Fetched(
        pd.concat(frames, ignore_index=True) if frames else _no_rows(),
        problems=tuple(problems),
        state={
            "vintages": notes,
            "missing_marked": sum(v.found.missing for v in vintages),
            "transform_lines": sum(v.found.transform_lines for v in vintages),
        },
        marked_missing=pd.concat(marked).drop_duplicates() if marked else None,
    )


# -------------------------------------------------------------------------- catalogue


def series_sources(
    folder: Path, settings: Settings, rules: Mapping[str, Availability]
) -> Iterator[Source]:
    """A source for each collection of vintages and for each other file of a folder."""
    drops = drops_in(folder, (".parquet", ".csv"))
    spacings = {drop: _spacing(drop) for drop in drops}
    collections = {
        collection
        for drop, spacing in spacings.items()
        if _is_monthly(spacing) and (collection := _collection(drop))
    }
    members: dict[str, list[Drop]] = {collection: [] for collection in sorted(collections)}
    for drop, spacing in spacings.items():
        # a file of one month, or one that cannot be read, belongs to the others of its name
        collection = drop.path.stem
        if spacing is None or _is_monthly(spacing):
            collection = _collection(drop) or collection
        if collection in members:
            members[collection].append(drop)
        else:
            frequency: Frequency = "month" if _is_monthly(spacing) else "session"
            yield FilesSeries(drop, frequency, rules, settings.calendar)
    for collection, vintages in members.items():
        yield FilesVintages(collection, tuple(vintages))


def _collection(drop: Drop) -> str | None:
    """The name that a vintage shares with the others; None if the file can be no vintage.

    A vintage is named after its month, is wide, and its rows have no release dates of their own.
    """
    match = _VINTAGE_NAME.fullmatch(drop.path.stem)
    if match is None:
        return None
    try:
        if _is_long(drop) or "knownat" in map(plain, drop.relation.columns):
            return None
    except SourceError:
        pass  # the collection says so when it is fetched
    return match["collection"]


def _is_monthly(spacing: pd.Timedelta | None) -> bool:
    return spacing is not None and spacing > pd.Timedelta(days=MONTHLY_SPACING_DAYS)


def _spacing(drop: Drop) -> pd.Timedelta | None:
    """Median time between the first dates of a file; None where it cannot be told."""
    try:
        columns = [name for name in drop.relation.columns if plain(name) in DATE_NAMES]
        if not columns:
            return None
        head = drop.relation.project(f'"{columns[0]}"').limit(50).fetchall()
    except (SourceError, duckdb.Error):
        return None
    first = dates_of(pd.Series([row[0] for row in head]), _orders(columns[0]))
    dates = pd.to_datetime(first, errors="coerce", format="ISO8601")
    spacing = dates.drop_duplicates().diff().median()
    return None if pd.isna(spacing) else pd.Timedelta(spacing)
