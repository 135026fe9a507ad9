"""Keys and values of raw rows, by kind."""

from __future__ import annotations

from dataclasses import dataclass

from db.sources.source import Kind


@dataclass(frozen=True)
class RawTable:
    """How one kind of rows is stored: its table, key and values."""

    name: str
    entity: str
    date: str
    values: tuple[str, ...]
    as_of: str


RAW: dict[Kind, RawTable] = {
    "bars": RawTable(
        "raw.bars",
        "entity",
        "session",
        ("open", "high", "low", "close", "adj_close", "volume"),
        "raw.bars_as_of",
    ),
    "observations": RawTable(
        "raw.observations", "series", "period", ("value",), "raw.observations_as_of"
    ),
    "documents": RawTable(
        "raw.documents", "document_id", "time", ("entity", "text"), "raw.documents_as_of"
    ),
}
