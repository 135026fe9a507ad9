"""Drops that are taken whole or not at all: corporate actions and members of universes.

A row of these changes how others are read, and there is no quarantine for it: a file with a
wrong row is refused, with one line that names the row. All files of a folder are read as soon
as one of them is new or changed, because rows of one key may lie in several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import SourceError
from db.sources.drops import Drop, dates_of, drops_in, plain
from db.sources.source import ACTION_COLUMNS, MEMBERSHIP_COLUMNS

SUFFIXES = (".parquet", ".csv")
KINDS = ("split", "dividend", "delisting")

# Column names that vendors use -> ours; compared in lower case, without _ and spaces.
SYMBOL_NAMES = {"symbol": "entity", "ticker": "entity", "entity": "entity", "knownat": "known_at"}
ACTION_NAMES = {
    **SYMBOL_NAMES,
    **dict.fromkeys(("exdate", "date"), "ex_date"),
    "kind": "kind",
    **dict.fromkeys(("factor", "ratio", "amount"), "factor"),
}
UNIVERSE_NAMES = {
    **SYMBOL_NAMES,
    "universe": "universe",
    **dict.fromkeys(("firstsession", "from", "start"), "first_session"),
    **dict.fromkeys(("lastsession", "to", "end"), "last_session"),
}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WholeFile:
    """What a file of one folder holds.

    Attributes
    ----------
    names : vendors' column names -> ours.
    required : columns that every file has.
    columns : columns of a row, those that a file lacks are blank; `known_at` may follow.
    key : columns that identify a row; rows of one key agree in all of `agreed`.
    tidy : a file's rows in our types, and the wrong ones: reason -> mask, (n,) each.
    """

    names: Mapping[str, str]
    required: set[str]
    columns: tuple[str, ...]
    key: tuple[str, ...]
    agreed: tuple[str, ...]
    tidy: Callable[[pd.DataFrame, str], tuple[pd.DataFrame, dict[str, Mask]]]

    def read(self, drop: Drop) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of a file as they were written, and in our types.

        Raises
        ------
        SourceError
            The file cannot be read, or a row of it is wrong.
        """
        _require_single_columns(drop, self.names)
        written = drop.read(self.names, self.required)
        given = pd.DataFrame({name: written.get(name) for name in (*self.columns, "known_at")})
        rows, wrong = self.tidy(given, drop.path.stem)
        rows["known_at"], wrong["known_at cannot be read; write 2018-12-28T21:00:00Z"] = _instants(
            given["known_at"]
        )
        _require_right_rows(drop, written, wrong)
        return written, rows


def _actions(given: pd.DataFrame, stem: str) -> tuple[pd.DataFrame, dict[str, Mask]]:
    del stem  # says nothing of actions
    entity, kind = _text(given["entity"]), _text(given["kind"]).str.lower()
    ex_date, no_date = _dates(given["ex_date"])
    factor = pd.to_numeric(given["factor"], errors="coerce").astype("float64")
    factor = factor.mask((kind == "delisting") & (_text(given["factor"]) == ""), 0.0)
    finite = np.isfinite(factor)
    wrong = {
        "the symbol is missing": entity == "",
        "ex_date is missing or cannot be read": no_date,
        f"kind is none of {', '.join(KINDS)}": ~kind.isin(KINDS),
        "the factor of a split is a number above 0, new shares per old share": (
            (kind == "split") & ~(finite & (factor > 0))
        ),
        "the factor of a dividend is a number from 0 on, cash per share": (
            (kind == "dividend") & ~(finite & (factor >= 0))
        ),
        "the factor of a delisting is 0 or blank": (kind == "delisting") & (factor != 0),
    }
    rows = pd.DataFrame({"entity": entity, "ex_date": ex_date, "kind": kind, "factor": factor})
    return rows, {reason: mask.to_numpy(bool) for reason, mask in wrong.items()}


def _memberships(given: pd.DataFrame, stem: str) -> tuple[pd.DataFrame, dict[str, Mask]]:
    entity, universe = _text(given["entity"]), _text(given["universe"])
    first, no_first = _dates(given["first_session"])
    last, no_last = _dates(given["last_session"])
    wrong = {
        "the symbol is missing": entity == "",
        "first_session is missing or cannot be read": no_first,
        "last_session cannot be read": no_last & (_text(given["last_session"]) != ""),
        "last_session lies before first_session": last < first,
    }
    rows = pd.DataFrame(
        {
            "entity": entity,
            "universe": universe.mask(universe == "", stem),
            "first_session": first,
            "last_session": last,
        }
    )
    return rows, {reason: mask.to_numpy(bool) for reason, mask in wrong.items()}


ACTIONS = WholeFile(
    ACTION_NAMES,
    {"entity", "ex_date", "kind"},
    ACTION_COLUMNS,
    ("entity", "ex_date", "kind"),
    # several dividends of one date are one sum, which becomes known at one time
    ("known_at",),
    _actions,
)
MEMBERSHIPS = WholeFile(
    UNIVERSE_NAMES,
    {"entity", "first_session"},
    MEMBERSHIP_COLUMNS,
    ("universe", "entity", "first_session"),
    ("last_session", "known_at"),
    _memberships,
)


def read_whole_files(
    folder: Path, holds: WholeFile, seen: Mapping[str, Any]
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, Any]]:
    """Rows of all files of a folder, problems, and what was seen, by folder and file name.

    No rows where every file was taken over as it is now: `seen` is what an earlier read said.
    """
    taken = pd.DataFrame(columns=[*holds.columns, "known_at"])
    problems: list[str] = []
    state: dict[str, Any] = {}
    drops, fingerprints = drops_in(folder, SUFFIXES), {}
    for drop in drops:
        name = f"{folder.name}/{drop.path.name}"
        try:
            fingerprints[name] = drop.fingerprint
        except SourceError as error:
            problems.append(f"{folder.name}/{error}")
    if not problems and all(seen.get(name) == found for name, found in fingerprints.items()):
        return taken, (), fingerprints
    for drop in drops:
        name = f"{folder.name}/{drop.path.name}"
        if name not in fingerprints:
            continue
        try:
            written, rows = holds.read(drop)
            together = pd.concat([taken, rows], ignore_index=True) if len(taken) else rows
            _require_agreement(drop, written, together, holds)
        except SourceError as error:
            problems.append(f"{folder.name}/{error}")
            continue
        taken, state[name] = together, fingerprints[name]
    return taken.drop_duplicates(ignore_index=True), tuple(problems), state


def _require_single_columns(drop: Drop, names: Mapping[str, str]) -> None:
    found: dict[str, str] = {}
    for column in drop.relation.columns:
        ours = names.get(plain(column))
        if ours is not None and ours in found:
            raise SourceError(
                f"{drop.path.name} has two columns for {ours}, {found[ours]} and {column}; "
                "keep one of them"
            )
        if ours is not None:
            found[ours] = column


def _require_right_rows(drop: Drop, written: pd.DataFrame, wrong: Mapping[str, Mask]) -> None:
    firsts: dict[int, str] = {}
    for reason, mask in wrong.items():
        if mask.any():
            firsts.setdefault(int(np.argmax(mask)), reason)
    if firsts:
        row = min(firsts)
        count = int(np.logical_or.reduce(list(wrong.values())).sum())
        more = f"; {count} rows are wrong" if count > 1 else ""
        raise SourceError(
            f"{_place(drop, written, row)}: {firsts[row]}{more}; nothing of it is taken"
        )


def _require_agreement(
    drop: Drop, written: pd.DataFrame, together: pd.DataFrame, holds: WholeFile
) -> None:
    """Refuse a file whose rows, the last ones of `together`, contradict each other or the rest."""
    key, agreed = list(holds.key), list(holds.agreed)
    versions = together[[*key, *agreed]].drop_duplicates()
    torn = versions[versions.duplicated(key, keep=False)]
    if torn.empty:
        return
    own = together.tail(len(written)).reset_index(drop=True)
    contradicts = own[key].merge(torn[key].drop_duplicates(), how="left", indicator=True)["_merge"]
    row = int(np.argmax((contradicts == "both").to_numpy()))
    raise SourceError(
        f"{_place(drop, written, row)}: another row, of this file or one before it, has the same "
        f"{', '.join(key)} but another {' or '.join(agreed)}; nothing of it is taken"
    )


def _place(drop: Drop, written: pd.DataFrame, row: int) -> str:
    """A row for people: its number below the header, from 1, and what it says."""
    fields = ["" if pd.isna(field) else str(field) for field in written.iloc[row]]
    return f"{drop.path.name}, row {row + 1} ({', '.join(fields)})"


def _text(column: pd.Series) -> pd.Series:
    """Text without blanks around it; empty where nothing is given."""
    text: pd.Series = column.astype("object").where(column.notna(), "").astype("str").str.strip()
    return text


def _dates(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Midnight datetimes, and where there is none."""
    if column.dtype == object or isinstance(column.dtype, pd.StringDtype):
        column = column.where(_text(column) != "", None)
    # dates beside text that is none come as text: read once more, with NaT in its place
    dates = pd.to_datetime(dates_of(column), errors="coerce", format="ISO8601")
    dates = dates.astype("datetime64[us]")
    return dates, dates.isna()


def _instants(column: pd.Series) -> tuple[pd.Series, Mask]:
    """UTC instants, NaT where none is given, and where one cannot be read; no zone is UTC."""
    if pd.api.types.is_datetime64_any_dtype(column):
        instants = pd.to_datetime(column, utc=True)
    else:
        text = _text(column)
        instants = pd.to_datetime(
            text.where(text != "", None), errors="coerce", utc=True, format="ISO8601"
        )
    wrong: Mask = (instants.isna() & (_text(column) != "")).to_numpy(bool)
    return instants.astype("datetime64[us, UTC]"), wrong
