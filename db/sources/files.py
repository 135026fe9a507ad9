"""The files profile: a folder of drops for vendor data and large histories.

    files/bars/*.parquet|csv            date, symbol, open … volume, adj_close: long
    files/observations/*.parquet|csv    date and one column a series, or series, date, value;
                                        …_YYYY-MM: a vintage (db.sources.series_files)
    files/documents/*                   texts as in the inbox (docs/inbox.md), but left in place
    files/actions/*.parquet|csv         corporate actions of the bars: symbol, ex_date, kind
                                        (split, dividend, delisting), factor (split: new shares
                                        per old share; dividend: cash per share; delisting:
                                        blank or 0), known_at (optional)
    files/universes/*.parquet|csv       symbol, universe (default: the file's name),
                                        first_session, last_session (blank: still a member),
                                        known_at (optional)

A file that has been taken over is read again only when it changes; of actions and universes
all are, when one does. Files are never moved or changed; one that cannot be read is named
every night until it is mended or removed. Of a file of actions or universes with a wrong row
nothing is taken. What is no longer delivered stays: a dividend that never was is taken back
with factor 0, a split with 1.

Splits and dividends are applied to prices that are raw (LOOKBACK_FILES_ADJUSTMENT), delistings
to all. `known_at` is UTC where it has no zone; without it an action is known from its ex-date,
a spell in a universe from its first session on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from db.availability import Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.document_files import (
    DOCUMENT_ENDINGS,
    MEGABYTE,
    WITH_THE_TEXT,
    Refused,
    document_frame,
    read_documents,
)
from db.sources.drops import dates_of, drops_in
from db.sources.series_files import AFTER_DELIVERY, series_sources
from db.sources.source import (
    BAR_COLUMNS,
    Adjustment,
    Fetched,
    Frequency,
    Kind,
    Request,
    Source,
)
from db.sources.whole_files import ACTIONS, MEMBERSHIPS, read_whole_files

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


@dataclass(frozen=True)
class _Folder:
    """Drops of one kind: read what is new, name what cannot be read."""

    folder: Path
    suffixes: tuple[str, ...]

    def read(
        self, request: Request, names: Mapping[str, str], required: set[str]
    ) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, Any]]:
        parts, problems, state = [], [], {}
        for drop in drops_in(self.folder, self.suffixes):
            name = drop.path.name
            whole = request.start is None and request.entities is not None
            try:
                fingerprint = drop.fingerprint
                if not whole and request.state.get(name) == fingerprint:
                    state[name] = fingerprint
                    continue
                part = drop.read(names, required)
                if "session" in part:
                    part["session"] = dates_of(part["session"])
                parts.append(part)
                state[name] = fingerprint
            except SourceError as error:
                problems.append(str(error))
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        return frame, tuple(problems), state


@dataclass(frozen=True)
class FilesBars:
    """Bars of every file under bars/, long format, vendors' column names.

    `actions` is the folder of their corporate actions, which are delivered beside them.
    """

    folder: Path
    adjustment: Adjustment
    name: str = "files.bars"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    availability: Availability = AFTER_DELIVERY
    actions: Path | None = None

    def fetch(self, request: Request) -> Fetched:
        drops = _Folder(self.folder, (".parquet", ".csv"))
        frame, problems, state = drops.read(request, BAR_NAMES, {"entity", "session"})
        actions = None
        if self.actions is not None and request.entities is None:
            actions, refused, seen = read_whole_files(self.actions, ACTIONS, request.state)
            problems, state = (*problems, *refused), state | seen
        if frame.empty:
            return Fetched(pd.DataFrame(columns=list(BAR_COLUMNS)), actions, problems, state)
        if request.entities is not None:
            frame = frame[frame["entity"].isin(request.entities)].reset_index(drop=True)
        return Fetched(frame, actions, problems, state)


@dataclass(frozen=True)
class FilesUniverses:
    """Members of universes, of every file under universes/."""

    folder: Path
    name: str = "files.universes"
    kind: Kind = "memberships"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = AFTER_DELIVERY

    def fetch(self, request: Request) -> Fetched:
        frame, problems, state = read_whole_files(self.folder, MEMBERSHIPS, request.state)
        return Fetched(frame, None, problems, state)


@dataclass(frozen=True)
class FilesDocuments:
    """Texts of every file under documents/.

    `largest`: bytes of a file that is read.
    """

    folder: Path
    largest: int
    name: str = "files.documents"
    kind: Kind = "documents"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = WITH_THE_TEXT

    def fetch(self, request: Request) -> Fetched:
        parts: list[pd.DataFrame] = []
        problems: list[str] = []
        state: dict[str, Any] = {}
        for drop in drops_in(self.folder, DOCUMENT_ENDINGS):
            name = drop.path.name
            try:
                fingerprint = drop.fingerprint
                if request.state.get(name) != fingerprint:
                    parts.append(read_documents(drop.path, self.largest))
                state[name] = fingerprint
            except Refused as refused:
                problems.append(f"{name} {refused}")
            except (SourceError, FileNotFoundError) as error:
                problems.append(str(error))
        frame = pd.concat(parts, ignore_index=True) if parts else document_frame({})
        return Fetched(frame, None, tuple(problems), state)


def files_sources(settings: Settings, rules: Mapping[str, Availability]) -> list[Source]:
    """The sources of the files profile but its documents; `rules` are those of known series.

    Raises
    ------
    SourceError
        The folder of drops does not exist.
    """
    root = settings.drops
    if not root.is_dir():
        raise SourceError(
            f"profile files reads {root}, which is no folder; "
            "set LOOKBACK_FILES_DIR to one that holds "
            "bars/, actions/, universes/, observations/ or documents/"
        )
    return list(_files_sources(root, settings, rules))


def _files_sources(
    root: Path, settings: Settings, rules: Mapping[str, Availability]
) -> Iterator[Source]:
    # actions without bars are of no use: the night says that no bars were delivered
    if (root / "bars").is_dir() or (root / "actions").is_dir():
        yield FilesBars(root / "bars", settings.files_adjustment, actions=root / "actions")
    if (root / "universes").is_dir():
        yield FilesUniverses(root / "universes")
    yield from series_sources(root / "observations", settings, rules)


def files_documents(settings: Settings) -> list[Source]:
    """Texts of the files profile; none where nothing of the kind was dropped."""
    folder = settings.drops / "documents"
    largest = int(settings.inbox_max_megabytes * MEGABYTE)
    return [FilesDocuments(folder, largest)] if folder.is_dir() else []
