"""Taking over documents: texts with a time of their own, and the symbols that they are about.

A document is known from its own time on, or from the later `known_at` that came with it; one
that is dated by the day only, from the end of that day. A changed text of a known id is a new
vintage, known from the time at which it was read. The same document delivered again adds
nothing but symbols that were not given before.

    fetched = unchanged + appended + quarantined

where a row is appended if it brought a document, a new text of one, or a symbol for one, and
unchanged if the store had all of it, from before or from an earlier row of the delivery.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from db.clock import Night
from db.instants import read_instants
from db.mentions import Names, find_symbols
from db.staging import Staged
from db.tables import documents, mentions

if TYPE_CHECKING:
    from db.quality.gate import Verdict
    from db.warehouse import Warehouse

# Rules that a row fails by itself and whatever the settings: it is not judged again when a feed
# brings it every hour.
FAILS_ALWAYS = (
    "file_readable", "file_encoding", "file_empty", "row_readable", "text_given", "time_readable",
    "known_at_readable",
)  # fmt: skip

# Characters of a text that is too long which quarantine keeps.
TEXT_KEPT = 1_000
ID_DIGITS = 32


@dataclass(frozen=True)
class Compared:
    """Staged documents, read, beside what the store has.

    Attributes
    ----------
    rows : one for each staged row, indexed by its position: the staged columns, with `known_at`
        as it came, and
        instant    UTC, published_at as it was read; NaT
        released   UTC, known_at as it was read; NaT
        earliest   UTC, from when the document could have been known
        group      number that equal documents share
        first      whether the row is the first of its group
        key        number that rows share which contradict each other
        status     new, changed, unchanged or held (in quarantine already)
        stored     UTC, newest known_at that the store has of this document; NaT
    """

    rows: pd.DataFrame

    @property
    def judged(self) -> pd.DataFrame:
        """The rows that the quality gate has to see."""
        return self.rows[self.rows["status"].isin(["new", "changed"])]


@dataclass(frozen=True)
class FileRows:
    """What became of the rows of one file; `rows = appended + unchanged + quarantined`."""

    file: str
    rows: int
    appended: int
    unchanged: int
    quarantined: int


@dataclass(frozen=True)
class TakenOver:
    """Counts of one delivery; rows that were in quarantine before count as quarantined.

    `files` counts the rows of each file, where the source reads files.
    """

    appended: int
    unchanged: int
    quarantined: int
    files: tuple[FileRows, ...] = ()


def compare_documents(warehouse: Warehouse, staged: Staged) -> Compared:
    """Read the times of staged documents, give each an id, and compare them with the store."""
    rows = _read(pd.read_parquet(staged.rows))
    stored = _stored(warehouse, staged, rows)
    rows["stored"] = stored["newest"]
    held, known = stored["held"].to_numpy(dtype=bool), stored["known"].to_numpy(dtype=bool)
    rows["status"] = np.select(
        [held, known, rows["stored"].notna()], ["held", "unchanged", "changed"], "new"
    )
    rows["key"] = _keys(rows)
    return Compared(rows)


def _read(rows: pd.DataFrame) -> pd.DataFrame:
    """Times read, ids made where none is given, equal documents grouped."""
    published, released = read_instants(rows["published_at"]), read_instants(rows["known_at"])
    rows["instant"], rows["released"] = published.times, released.known
    rows["given_id"] = rows["document_id"]
    without = rows["document_id"].fillna("").str.strip() == ""
    rows.loc[without, "document_id"] = _content_ids(rows[without])
    untimed = ~rows["timed"]
    if untimed.any():  # the time of a file says nothing of the text in it: the earliest counts
        equal = rows[untimed].groupby(["document_id", "text"], dropna=False)
        rows.loc[untimed, "instant"] = equal["instant"].transform("min")
    known = rows["instant"].where(rows["released"].notna() | untimed, published.known)
    rows["earliest"] = pd.concat([known, rows["released"]], axis=1).max(axis=1)
    content = ["document_id", "text", "instant", "released"]
    rows["group"] = rows.groupby(content, dropna=False, sort=False).ngroup()
    rows["first"] = ~rows["group"].duplicated()
    return rows


def _content_ids(rows: pd.DataFrame) -> list[str | None]:
    """Ids made from time and text; of a text whose time is only that of its file, from the text.

    None for a row that its source could not read.
    """
    micros = rows["instant"].astype("int64").where(rows["timed"] & rows["instant"].notna(), 0)
    return [
        None
        if unread
        else hashlib.sha256(f"{time}\0{'' if pd.isna(text) else text}".encode()).hexdigest()[
            :ID_DIGITS
        ]
        for time, text, unread in zip(micros, rows["text"], rows["refused"].notna(), strict=True)
    ]


def _stored(warehouse: Warehouse, staged: Staged, rows: pd.DataFrame) -> pd.DataFrame:
    """What the store has of each row: `known` (this very document), `newest`, `held`."""
    with warehouse.relation(rows.assign(position=rows.index)) as incoming:
        found = warehouse.frame(
            f"""
            WITH stored AS (
                SELECT document_id, text, published_at, known_at
                FROM raw.documents
                SEMI JOIN {incoming} USING (document_id)
                WHERE source = $1
            ),
            held AS (
                SELECT DISTINCT row_hash
                FROM raw.quarantine
                WHERE source = $1 AND list_contains($2, rule)
            )
            -- one row per incoming row
            SELECT i.position, max(s.known_at) AS newest,
                coalesce(bool_or(s.text = i.text
                    AND (s.published_at = i.instant OR NOT i.timed)), false) AS known,
                bool_or(h.row_hash IS NOT NULL) AS held
            FROM {incoming} i
            LEFT JOIN stored s USING (document_id)
            LEFT JOIN held h ON h.row_hash = {_row_hash("i")}
            GROUP BY i.position
            ORDER BY i.position
            """,
            staged.source.name,
            list(FAILS_ALWAYS),
        )
    return found.assign(newest=found["newest"].astype("datetime64[us, UTC]"))


def _keys(rows: pd.DataFrame) -> pd.Series[Any]:
    """A number that rows share where one delivery gives a document two texts or two times.

    A row without a text or a time says nothing that could be contradicted: it is held for that.
    """
    moved = rows["status"].isin(["new", "changed"]) & rows["document_id"].notna()
    moved &= (rows["text"].fillna("").str.strip() != "") & rows["instant"].notna()
    moved &= rows["known_at"].isna() | rows["released"].notna()
    alone = pd.Series(-1 - rows.index.to_numpy(), index=rows.index)
    same = rows[moved].groupby(["document_id", "released"], dropna=False, sort=False)
    contents = same["group"].transform("nunique")
    return alone.where(~(contents.reindex(rows.index) > 1), same.ngroup().reindex(rows.index))


def _row_json(alias: str, text: str) -> str:
    """SQL of a row as it was fetched; `text` is SQL of its text."""
    fields = {
        "document_id": f"{alias}.given_id",
        "published_at": f"CAST({alias}.published_at AS VARCHAR)",
        "known_at": f"CAST({alias}.known_at AS VARCHAR)",
        "symbols": f"{alias}.symbols",
        "language": f"{alias}.language",
        "text": text,
    }
    pairs = ", ".join(f"'{name}', {value}" for name, value in fields.items())
    return f"coalesce(CAST({alias}.content AS JSON), json_object({pairs}))"


def _row_hash(alias: str) -> str:
    """SQL of what makes a row the same another time, whatever file it comes in."""
    return f"md5(coalesce({alias}.identity, CAST({_row_json(alias, f'{alias}.text')} AS VARCHAR)))"


# --------------------------------------------------------------------------- writing


def append_documents(
    warehouse: Warehouse,
    staged: Staged,
    compared: Compared,
    verdict: Verdict | None,
    names: Names,
    night: Night,
    run_id: str,
) -> TakenOver:
    """Append what is good, keep the rest in quarantine; call inside a transaction.

    `verdict` is the quality gate's on `compared.judged`, None where there was nothing to judge.
    """
    rows = compared.rows
    accepted = rows.loc[verdict.accepted.index] if verdict is not None else rows.iloc[:0]
    new = accepted[accepted["first"]].assign(known_at=lambda each: _known_at(each, night))
    _append_texts(warehouse, staged, new, run_id)
    standing = pd.concat([accepted, rows[rows["status"] == "unchanged"]]).sort_index()
    brought = _append_mentions(warehouse, staged, standing, new, names, night, run_id)
    if verdict is not None:
        _quarantine(warehouse, staged, rows, verdict.rejected, run_id)
    fate = pd.Series("quarantined", index=rows.index)
    fate[standing.index] = "unchanged"
    fate[brought.union(new.index)] = "appended"
    return _counted(fate, rows["file"])


def _counted(fate: pd.Series[Any], files: pd.Series[Any]) -> TakenOver:
    """Rows by what became of them, in all and by file."""
    kinds = ("appended", "unchanged", "quarantined")
    by_file = pd.crosstab(files, fate).reindex(columns=list(kinds), fill_value=0)
    return TakenOver(
        **{kind: int((fate == kind).sum()) for kind in kinds},
        files=tuple(
            FileRows(str(file), int(counts.sum()), *(int(count) for count in counts))
            for file, counts in by_file.iterrows()
        ),
    )


def _known_at(rows: pd.DataFrame, night: Night) -> pd.Series[Any]:
    """UTC; a changed text was not known before it was read, nor before the one it replaces."""
    read = pd.Timestamp(night.now).tz_convert("UTC").as_unit("us")
    # a later release date of the source's own stands
    corrected = (rows["status"] == "changed") & ~(rows["released"] > rows["stored"])
    floor = pd.concat([rows["earliest"], rows["stored"]], axis=1).max(axis=1)
    floor = floor.where(floor > read, read)
    stamped: pd.Series[Any] = rows["earliest"].where(~corrected, floor)
    return stamped


def _append_texts(warehouse: Warehouse, staged: Staged, new: pd.DataFrame, run_id: str) -> None:
    carried = new[["document_id", "text", "known_at", "language"]].assign(
        published_at=new["instant"],
        source=staged.source.name,
        ingested_at=pd.Timestamp(staged.fetched_at),
        run_id=run_id,
    )
    warehouse.append(documents, carried.sort_values(["known_at", "document_id"]))


def _append_mentions(
    warehouse: Warehouse,
    staged: Staged,
    standing: pd.DataFrame,
    new: pd.DataFrame,
    names: Names,
    night: Night,
    run_id: str,
) -> pd.Index[Any]:
    """Append symbols that are given with documents, and those found in new texts.

    A symbol is known from its document's `known_at` on; one that is given later for a document
    that was stored before, from now on. Returns the positions of the rows that brought one.
    """
    given = _given(standing, new, names, night)
    found = _found(new, names)
    both = pd.concat([given, found], ignore_index=True)
    both = both.drop_duplicates(["document_id", "entity"], ignore_index=True)
    with warehouse.relation(both) as incoming:
        fresh = warehouse.frame(
            f"""
            SELECT i.*
            FROM {incoming} i
            ANTI JOIN (FROM raw.mentions WHERE source = $1) m USING (document_id, entity)
            ORDER BY i.known_at, i.document_id, i.entity
            """,
            staged.source.name,
        )
    brought = fresh.loc[fresh["found_by"] == "given", "position"]
    warehouse.append(
        mentions,
        fresh.drop(columns="position").assign(
            source=staged.source.name,
            ingested_at=pd.Timestamp(staged.fetched_at),
            run_id=run_id,
        ),
    )
    positions: pd.Index[Any] = pd.Index(brought.unique())
    return positions


def _given(standing: pd.DataFrame, new: pd.DataFrame, names: Names, night: Night) -> pd.DataFrame:
    """Symbols that came with documents: one row for each row and symbol, in their order."""
    of_group = new.set_index("group")["known_at"]
    known = of_group.reindex(standing["group"]).set_axis(standing.index)
    now = pd.Timestamp(night.now).tz_convert("UTC").as_unit("us")
    later = standing["stored"].where(standing["stored"] > now, now)
    some = standing["symbols"].notna()
    split = standing.loc[some, "symbols"].map(names.given)
    return pd.DataFrame(
        {
            "position": standing.index[some],
            "document_id": standing.loc[some, "document_id"].to_numpy(),
            "known_at": known.fillna(later)[some].to_numpy(),
            "entity": split.to_numpy(),
            "found_by": "given",
        }
    ).pipe(_exploded)


def _found(new: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Symbols that the texts of new documents name."""
    found = find_symbols(new["text"].tolist(), names, new["instant"])
    return pd.DataFrame(
        {
            "position": new.index,
            "document_id": new["document_id"].to_numpy(),
            "known_at": new["known_at"].to_numpy(),
            "entity": [[symbol for symbol, _ in each] for each in found],
            "found_by": [[by for _, by in each] for each in found],
        }
    ).pipe(_exploded)


def _exploded(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each symbol; `found_by` is one word or a list beside that of the symbols."""
    lists = rows[rows["entity"].map(len) > 0]
    together = [name for name in ("entity", "found_by") if _holds_lists(lists[name])]
    long = lists.explode(together, ignore_index=True) if len(lists) else lists
    return long.astype(
        {
            "entity": "str",
            "document_id": "str",
            "found_by": "str",
            "position": "int64",
            "known_at": "datetime64[us, UTC]",
        }
    )


def _holds_lists(column: pd.Series[Any]) -> bool:
    return bool(len(column)) and isinstance(column.iloc[0], list)


def _quarantine(
    warehouse: Warehouse,
    staged: Staged,
    rows: pd.DataFrame,
    rejected: pd.DataFrame,
    run_id: str,
) -> None:
    """Keep each rejected row once, with the rule, the reason and where it was."""
    if rejected.empty:
        return
    held = rows.loc[rejected.index].assign(
        rule=rejected["rule"].astype("str"), reason=_reasons(rejected)
    )
    with warehouse.relation(held) as incoming:
        warehouse.native.execute(
            f"""
            INSERT INTO raw.quarantine
            SELECT $1, 'documents', coalesce(r.document_id, r.origin), CAST(r.instant AS DATE),
                r.rule, r.reason, {_row_json("r", f"left(r.text, {TEXT_KEPT})")},
                {_row_hash("r")} AS row_hash, $2, $3
            FROM {incoming} r
            ANTI JOIN raw.quarantine q
                ON q.source = $1 AND q.rule = r.rule AND q.row_hash = {_row_hash("r")}
            QUALIFY row_number() OVER (PARTITION BY r.rule, {_row_hash("r")}) = 1
            """,
            (staged.source.name, staged.fetched_at, run_id),
        )


def _reasons(rejected: pd.DataFrame) -> list[str]:
    """What the gate says, what the source says, and where the row was."""
    return [
        str(reason)
        + ("" if pd.isna(problem) else f": {problem}")
        + ("" if pd.isna(origin) else f" ({origin})")
        for reason, problem, origin in zip(
            rejected["reason"], rejected["problem"], rejected["origin"], strict=True
        )
    ]
