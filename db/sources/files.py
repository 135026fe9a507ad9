"""The files profile: a folder of drops for vendor data and large histories.

    files/bars/*.parquet|csv            date, symbol, open … volume, adj_close: long
    files/observations/*.parquet|csv    date and one column a series, or series, date, value;
                                        …_YYYY-MM: a vintage (db.sources.series_files)
    files/documents/*.jsonl|csv|parquet document_id, entity, time, text

A file that has been taken over is read again only when it changes. Files are never moved
or changed; one that cannot be read is named every night until it is mended or removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from db.availability import AfterClose, Availability
from db.errors import SourceError
from db.settings import Settings
from db.sources.drops import dates_of, drops_in
from db.sources.series_files import AFTER_DELIVERY, series_sources
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
WITH_THE_TEXT = AfterClose(hours=0)


@dataclass(frozen=True)
class _Folder:
    """What the three kinds of drops share: read what is new, name what cannot be read."""

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
    yield from series_sources(root / "observations", settings, rules)
    if (root / "documents").is_dir():
        yield FilesDocuments(root / "documents")
