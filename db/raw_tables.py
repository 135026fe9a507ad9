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

    def current(self, since: str) -> str:
        """SQL of what the store holds of source $1 from a date on: newest vintages only.

        As `raw.…_as_of('infinity')`, but the date is applied before vintages are ranked,
        so that a night reads what it delivers and not the whole history. `since` is SQL;
        where it is NULL, all dates.
        """
        newest_history = """
            SEMI JOIN (
                SELECT entity, max(history) AS history
                FROM raw.bars
                WHERE source = $1
                GROUP BY entity
            ) h USING (entity, history)
        """
        return f"""
            SELECT {self.entity}, {self.date}, {", ".join(self.values)}
            FROM {self.name}
            {newest_history if self.name == "raw.bars" else ""}
            WHERE source = $1 AND ({self.date} >= {since} OR {since} IS NULL)
            QUALIFY row_number() OVER (
                PARTITION BY {self.entity}, {self.date} ORDER BY known_at DESC, ingested_at DESC
            ) = 1
        """


RAW: dict[Kind, RawTable] = {
    "bars": RawTable(
        "raw.bars",
        "entity",
        "session",
        ("open", "high", "low", "close", "adj_close", "volume"),
    ),
    "observations": RawTable("raw.observations", "series", "period", ("value",)),
    "documents": RawTable(
        "raw.documents", "document_id", "published_at", ("text", "symbols", "language")
    ),
    "memberships": RawTable(
        "raw.memberships", "entity", "first_session", ("universe", "last_session")
    ),
}
