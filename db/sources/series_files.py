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
# FRED-MD has some 90,000 values in a vintage and 300 vintages: 60 at once take 3 GB of memory.
_MOST_AT_ONCE = 60


@dataclass(frozen=True)
class Observed:
    """What one file holds.

    Attributes
    ----------
    frame : columns series, period, value; text that is no date or number is as it was written.
    blank : columns series, period: cells without a value, or with FRED's ".".
    transform_lines : lines of transformation codes, which are no observations.
    """

    frame: pd.DataFrame
    blank: pd.DataFrame
    transform_lines: int

    @property
    def marked_missing(self) -> pd.DataFrame:
        """Of the blank cells those between the first and the last value of their series."""
        if not pd.api.types.is_datetime64_any_dtype(self.frame["period"]) or self.blank.empty:
            return self.blank.iloc[:0]
        periods = self.frame.groupby("series")["period"]
        span = periods.agg(["min", "max"]).reindex(self.blank["series"])
        days = self.blank["period"].to_numpy()
        inside = (days > span["min"].to_numpy()) & (days < span["max"].to_numpy())
        return self.blank[inside].reset_index(drop=True)


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
    return Observed(frame, lines.loc[missing, ["series", "period"]], transform_lines)


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
        state = {name: fingerprint, "missing_marked": len(found.blank)}
        if found.transform_lines:
            state["transform_lines"] = found.transform_lines
        marked = found.marked_missing if self.frequency == "month" else None
        return Fetched(self._stamped(found.frame), state=state, marked_missing=marked)

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

    name: str
    fingerprint: list[int]
    found: Observed
    known_at: pd.Timestamp

    @property
    def note(self) -> dict[str, Any]:
        """What the next fetch must know of this file (JSON)."""
        return {"fingerprint": self.fingerprint, "known_at": self.known_at.isoformat()}


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
        new, problems = self._new(taken)
        if len(new) > _MOST_AT_ONCE:
            problems.append(
                f"{len(new) - _MOST_AT_ONCE} of {len(new)} new vintages wait for the next run: "
                f"{_MOST_AT_ONCE} are taken over at once, the oldest first"
            )
        there = {drop.path.name for drop in self.drops}
        instants = {_known_at(note): name for name, note in taken.items() if name in there}
        arrived: dict[str, _Vintage] = {}
        for drop in reversed(new[:_MOST_AT_ONCE]):
            try:
                vintage = _read(drop)
            except SourceError as error:
                problems.append(str(error))
                continue
            rival = instants.setdefault(vintage.known_at, vintage.name)
            if rival == vintage.name:
                arrived[vintage.name] = vintage
                continue
            problems.append(
                f"{vintage.name} and {rival} are both known from {vintage.known_at:%Y-%m-%d} by "
                "the months in their names and values; rename or remove one of them"
            )
        return arrived, problems

    def _new(self, taken: Mapping[str, Any]) -> tuple[list[Drop], list[str]]:
        """Files that were not taken over as they are now, and a line for each that is gone."""
        new, problems = [], []
        for drop in self.drops:
            try:
                if taken.get(drop.path.name, {}).get("fingerprint") != drop.fingerprint:
                    new.append(drop)
            except SourceError as error:
                problems.append(str(error))
        return new, problems

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
    fingerprint = drop.fingerprint  # as it is now: a change during the read is seen next time
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
    return _Vintage(drop.path.name, fingerprint, found, known_at)


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
    marked = [v.found.marked_missing for v in vintages]
    return Fetched(
        pd.concat(frames, ignore_index=True) if frames else _no_rows(),
        problems=tuple(problems),
        state={
            "vintages": notes,
            "missing_marked": sum(len(v.found.blank) for v in vintages),
            "transform_lines": sum(v.found.transform_lines for v in vintages),
        },
        marked_missing=pd.concat(marked).drop_duplicates() if marked else None,
    )


# -------------------------------------------------------------------------- catalogue


def series_sources(
    folder: Path, settings: Settings, rules: Mapping[str, Availability]
) -> Iterator[Source]:
    """A source for each collection of vintages and for each other file of a folder."""
    layouts = _layouts(drops_in(folder, (".parquet", ".csv")))
    collections = {
        layout.collection: list[Drop]()
        for layout in layouts.values()
        if layout.collection is not None and _is_monthly(layout.spacing)
    }
    for drop, layout in layouts.items():
        # a file of one month, or one that cannot be read, belongs to the others of its name
        name = drop.path.stem
        if layout.collection is not None and (
            layout.spacing is None or _is_monthly(layout.spacing)
        ):
            name = layout.collection
        if name in collections:
            collections[name].append(drop)
        else:
            frequency: Frequency = "month" if _is_monthly(layout.spacing) else "session"
            yield FilesSeries(drop, frequency, rules, settings.calendar)
    for name, drops in collections.items():
        yield FilesVintages(name, tuple(drops))


@dataclass(frozen=True)
class _Layout:
    """What tells a vintage from other files.

    Attributes
    ----------
    collection : the name that a vintage shares with the others; None if the file can be none:
        it is not named after a month, is long, or has release dates of its own.
    spacing : median time between its first dates; None where that cannot be told.
    """

    collection: str | None
    spacing: pd.Timedelta | None


def _layouts(drops: Sequence[Drop]) -> dict[Drop, _Layout]:
    """The layout of each file, by name.

    Of files named after months that share their name and their header the newest is looked at:
    DuckDB takes a third of a second to make out a file as wide as FRED-MD's.
    """
    known: dict[tuple[str, bytes], _Layout] = {}
    found: dict[Drop, _Layout] = {}
    for drop in reversed(drops):
        match = _VINTAGE_NAME.fullmatch(drop.path.stem)
        header = drop.header
        if match is None or not header:
            found[drop] = _layout(drop, match and match["collection"])
            continue
        key = (match["collection"], header)
        if key not in known or known[key].spacing is None:
            known[key] = _layout(drop, match["collection"])
        found[drop] = known[key]
    return {drop: found[drop] for drop in drops}


def _layout(drop: Drop, collection: str | None) -> _Layout:
    try:
        if _is_long(drop) or "knownat" in map(plain, drop.relation.columns):
            collection = None
    except SourceError:
        return _Layout(collection, None)  # whoever fetches it says so
    return _Layout(collection, _spacing(drop))


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
