"""Staging: what a source delivered, on disk, before anything is taken over."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from db.clock import Night
from db.errors import SourceError
from db.raw_tables import RAW
from db.sessions import Sessions
from db.sources.document_files import in_full
from db.sources.source import ACTION_COLUMNS, Fetched, Request, Source

if TYPE_CHECKING:
    from db.warehouse import Warehouse


@dataclass(frozen=True)
class Staged:
    """What a source delivered, on disk, not yet taken over.

    `marked_missing` holds series and date of what the source says has no value.
    """

    source: Source
    request: Request
    rows: Path
    actions: Path | None
    fetched: int
    problems: tuple[str, ...]
    state: dict[str, Any]
    fetched_at: datetime
    seconds: float
    marked_missing: tuple[tuple[str, date], ...] = ()

    @property
    def gives_known_at(self) -> bool:
        """Whether the source says of its rows when they became known."""
        return "known_at" in pq.read_schema(self.rows).names


def request_for(warehouse: Warehouse, source: Source, night: Night, calendar: Sessions) -> Request:
    """Only what is new since the source's watermark, with an overlap for restatements."""
    found = warehouse.one(
        "SELECT last_date, state FROM ops.watermarks WHERE source = ?", source.name
    )
    if found is None:
        return Request(start=None, until=night.now)
    last_date, state = found
    start = None
    # spells of a universe come whole, documents as they come in; both may be older than the
    # calendar
    if last_date is not None and source.kind in ("bars", "observations"):
        start = calendar.offset(last_date, -warehouse.settings.overlap_sessions)
        if source.frequency == "month":
            # revisions of monthly series reach back for months
            start = (pd.Timestamp(last_date) - pd.DateOffset(months=12)).date()
    return Request(start=start, until=night.now, state=json.loads(state))


def stage(source: Source, request: Request, folder: Path) -> Staged:
    """Fetch and put the rows on disk; holds no lock and touches no table.

    Raises
    ------
    SourceError
        The source gave no usable answer.
    """
    started = time.perf_counter()
    fetched_at = datetime.now(UTC)
    fetched: Fetched = source.fetch(request)
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / f"{source.name}.parquet"
    frame = fetched.frame
    if source.kind == "documents":
        frame = in_full(frame)
    else:
        frame = _of_one_type(_in_full(frame, source), RAW[source.kind].entity)
    frame.to_parquet(rows, index=False)
    actions = None
    if fetched.actions is not None and len(fetched.actions):
        actions = folder / f"{source.name}.actions.parquet"
        extra = ["known_at"] if "known_at" in fetched.actions else []
        fetched.actions[[*ACTION_COLUMNS, *extra]].to_parquet(actions, index=False)
    return Staged(
        source,
        request,
        rows,
        actions,
        len(fetched.frame),
        fetched.problems,
        dict(fetched.state),
        fetched_at,
        time.perf_counter() - started,
        _pairs(fetched.marked_missing),
    )


def _pairs(marked: pd.DataFrame | None) -> tuple[tuple[str, date], ...]:
    if marked is None or marked.empty:
        return ()
    return tuple(zip(marked["series"].astype("str"), marked["period"].dt.date, strict=True))


def _in_full(frame: pd.DataFrame, source: Source) -> pd.DataFrame:
    """All columns of the kind; those that the vendor does not have are blank."""
    raw = RAW[source.kind]
    missing = {raw.entity, raw.date} - set(frame.columns)
    if missing:
        raise SourceError(f"{source.name} delivered no column {', '.join(sorted(missing))}")
    columns = [raw.entity, raw.date, *raw.values]
    blank = {name: np.nan for name in columns if name not in frame}
    extra = ["known_at"] if "known_at" in frame else []
    return frame.assign(**blank)[[*columns, *extra]]


def _of_one_type(frame: pd.DataFrame, entity: str) -> pd.DataFrame:
    """Columns that mix numbers and text as text: a file has one type; the gate judges them."""
    as_text = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype != object:
            continue
        found = pd.api.types.infer_dtype(column)
        # names that are all missing are text too: they are compared with stored ones
        if found.startswith("mixed") or (found == "empty" and name == entity):
            as_text[name] = column.where(column.isna(), column.astype("str")).astype("str")
    return frame.assign(**as_text) if as_text else frame


def stage_whole(staged: Staged, entities: Sequence[str]) -> Staged:
    """The same delivery with the whole history of `entities` instead of its newest part.

    Raises
    ------
    SourceError
        The source gave no usable answer.
    """
    whole = replace(staged.request, start=None, entities=entities)
    anew = stage(staged.source, whole, staged.rows.parent / "whole")
    frame = pd.read_parquet(staged.rows)
    others = frame[~frame[RAW[staged.source.kind].entity].isin(entities)]
    combined = pd.concat([others, pd.read_parquet(anew.rows)], ignore_index=True)
    # a file of its own: DuckDB may still hold parts of the one that it has read
    combined_rows = staged.rows.with_name(f"{staged.source.name}.whole.parquet")
    combined.to_parquet(combined_rows, index=False)
    return replace(
        staged,
        rows=combined_rows,
        actions=_both_actions(staged, anew),
        fetched=len(combined),
        problems=tuple(dict.fromkeys((*staged.problems, *anew.problems))),
        seconds=staged.seconds + anew.seconds,
    )


def _both_actions(staged: Staged, anew: Staged) -> Path | None:
    """Corporate actions of both fetches: the whole history brings those that came before.

    An action that both bring counts as the later one says it: two factors would be summed.
    """
    found = [path for path in (staged.actions, anew.actions) if path is not None]
    if len(found) < 2:
        return found[0] if found else None
    newest, whole = (pd.read_parquet(path) for path in found)
    key = [name for name in ACTION_COLUMNS if name != "factor"]
    again = pd.MultiIndex.from_frame(newest[key]).isin(pd.MultiIndex.from_frame(whole[key]))
    both = pd.concat([newest[~again], whole], ignore_index=True)
    path = staged.rows.with_name(f"{staged.source.name}.whole.actions.parquet")
    both.to_parquet(path, index=False)
    return path
