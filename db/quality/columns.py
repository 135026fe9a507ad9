"""The columns that row rules judge: values in their types, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from db.quality.batch import Batch
from db.quality.rules import Mask, repeated
from db.quality.suites import READING_RULES

NO_DAY = np.iinfo(np.int64).min  # NaT as an integer


@dataclass(frozen=True)
class Judged:
    """An increment made ready for its row rules.

    Attributes
    ----------
    canonical : the increment in its declared types; what cannot be read is missing.
    columns : one column for each thing judged, rows as in the increment.
    skipped : columns that row rules name and that are not there, with the reason.
    order : ascends by entity (alphabetically) and date: shape (n,), int64; negative
        where entity or date is missing.
    """

    canonical: pd.DataFrame
    columns: pd.DataFrame
    skipped: Mapping[str, str]
    order: npt.NDArray[np.int64]


def judged_columns(batch: Batch, tolerance: float) -> Judged:
    """The increment in its types and the columns that row rules read."""
    canonical, readable = _typed(batch)
    days = _days(canonical[batch.day])
    codes = _entity_codes(canonical[batch.entity])
    order = _order(codes, days)
    repeats, keys = _keys(batch.frame, order, canonical)

    columns: dict[str, Any] = {
        batch.day: canonical[batch.day],
        "entity_given": codes >= 0,
        "date_only": _without_time(canonical[batch.day]),
        "repeats": repeats,
        "key": keys,
        "calendar_position": _calendar_positions(batch, days),
        "days_ahead": np.where(days == NO_DAY, 0, days - np.datetime64(batch.last_day).astype(int)),
        **{f"{name}_readable": mask for name, mask in readable.items()},
        **_values(batch, canonical, tolerance),
    }
    skipped = {
        f"{name}_readable": f"{name} is a number already"
        for name in batch.numbers
        if name not in readable
    }
    missing = [name for name in batch.numbers if name not in columns]
    skipped |= {name: f"{name} is wholly missing" for name in missing}
    skipped |= {f"{name}_tolerant": f"{name} is wholly missing" for name in missing}
    return Judged(canonical, pd.DataFrame(columns, copy=False), skipped, order)


def document_columns(frame: pd.DataFrame, fetched_at: datetime) -> pd.DataFrame:
    """What the rules of documents read, rows as in `frame`; `fetched_at` is UTC.

    A row that its source could not read fails the rule that the source names, and no other.
    """
    unread = frame["refused"].notna().to_numpy()
    text = frame["text"].astype("str")
    given = text.notna().to_numpy() & (text.fillna("").str.strip() != "").to_numpy()
    size = pc.binary_length(pa.array(text, type=pa.string())).fill_null(0)
    at = frame[["instant", "released"]].max(axis=1)
    ahead = (at - pd.Timestamp(fetched_at)).dt.total_seconds().to_numpy()
    read = frame["known_at"].isna().to_numpy() | frame["released"].notna().to_numpy()
    # any instant will do for a row that was not read
    instant = frame["instant"].where(~unread, pd.Timestamp(fetched_at))
    refused = frame["refused"]
    return pd.DataFrame(
        {
            **{rule.name: (refused != rule.name).to_numpy() for rule in READING_RULES},
            "text_given": given | unread,
            "text_bytes": size.to_numpy(),
            "instant": instant,
            "known_at_readable": read,
            "seconds_ahead": ahead,
            "key": frame["key"],
        },
        copy=False,
    )


def _typed(batch: Batch) -> tuple[pd.DataFrame, dict[str, Mask]]:
    """The frame in its declared types, and which values of doubtful columns could be read."""
    frame = batch.frame
    changed: dict[str, pd.Series] = {}
    readable: dict[str, Mask] = {}
    for name in batch.numbers:
        raw = frame[name]
        if raw.dtype == np.float64:
            continue
        if pd.api.types.is_numeric_dtype(raw.dtype):
            changed[name] = raw.astype("float64")
            continue
        changed[name] = _numbers(raw)
        readable[name] = (changed[name].notna() | raw.isna()).to_numpy()
    day = dates(frame[batch.day])
    if day is not frame[batch.day]:
        changed[batch.day] = day
    return (frame.assign(**changed) if changed else frame), readable


def _numbers(raw: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return pd.Series(np.nan, index=raw.index)
    read: pd.Series = pd.to_numeric(raw, errors="coerce").astype("float64")
    return read


def dates(raw: pd.Series) -> pd.Series:
    """Dates without a zone; what is no date (numbers included) is NaT."""
    if isinstance(raw.dtype, pd.DatetimeTZDtype):
        local: pd.Series = raw.dt.tz_localize(None)
        return local
    if pd.api.types.is_datetime64_dtype(raw.dtype):
        return raw
    if pd.api.types.is_numeric_dtype(raw.dtype):
        return pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us]")
    read = pd.to_datetime(raw.astype("str"), errors="coerce", format="ISO8601", utc=True)
    return read.dt.tz_localize(None)


def _days(dates: pd.Series) -> npt.NDArray[np.int64]:
    """Days since 1970-01-01, `NO_DAY` where the date is missing."""
    days: npt.NDArray[np.int64] = dates.to_numpy().astype("datetime64[D]").astype(np.int64)
    return days


def _without_time(dates: pd.Series) -> Mask:
    instants = dates.to_numpy()
    whole: Mask = (instants == instants.astype("datetime64[D]")) | np.isnat(instants)
    return whole


def _entity_codes(entity: pd.Series) -> npt.NDArray[np.int64]:
    """Alphabetical rank of each entity, -1 where it is missing, blank or no text."""
    codes, names = pd.factorize(entity)
    text = [name if isinstance(name, str) and name.strip() else None for name in names]
    known = sorted(name for name in text if name is not None)
    rank = {name: number for number, name in enumerate(known)}
    ranks = np.array([-1 if name is None else rank[name] for name in text] + [-1], dtype=np.int64)
    ranked: npt.NDArray[np.int64] = ranks[codes]
    return ranked


def _order(codes: npt.NDArray[np.int64], days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    complete = (codes >= 0) & (days != NO_DAY)
    if not complete.any():
        return np.full(len(codes), -1, dtype=np.int64)
    given = days if complete.all() else days[complete]
    first, last = int(given.min()), int(given.max())
    order: npt.NDArray[np.int64] = codes * (last - first + 1) + (days - first)
    order[~complete] = -1
    return order


def _keys(
    frame: pd.DataFrame, order: npt.NDArray[np.int64], canonical: pd.DataFrame
) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Which rows repeat an earlier one, and a key that conflicting rows share.

    Rows that repeat, or have no complete key, get a key of their own. Rows with release
    dates (`known_at`) conflict only within one release: several are vintages.
    """
    keys = order
    if "known_at" in canonical:
        releases, _ = pd.factorize(canonical["known_at"])
        keys = np.where(order < 0, -1, order * (releases.max() + 2) + releases + 1)
    repeats = np.zeros(len(keys), dtype=bool)
    complete = keys >= 0
    shared = np.flatnonzero(repeated(keys) & complete)
    if len(shared) == 0 and complete.all():
        return repeats, keys
    repeats[shared] = frame.iloc[shared].duplicated(keep="first").to_numpy()
    alone = repeats | ~complete
    return repeats, np.where(alone, -1 - np.arange(len(keys)), keys)


def _calendar_positions(batch: Batch, days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Position among the sessions, -1 where the date is none; 0 where it is missing."""
    given = days[days != NO_DAY]
    if len(given) == 0:
        return np.zeros(len(days), dtype=np.int64)
    first, last = int(given.min()), int(given.max())
    every = np.arange(first, last + 1).astype("datetime64[D]")
    table = batch.sessions.index(every).astype(np.int64)
    if len(given) == len(days):
        return table[days - first]
    return np.where(days == NO_DAY, 0, table[np.where(days == NO_DAY, 0, days - first)])


def _values(batch: Batch, canonical: pd.DataFrame, tolerance: float) -> dict[str, Any]:
    if batch.kind == "observations":
        return {"value": canonical["value"]}
    values: dict[str, Any] = {
        name: canonical[name] for name in batch.numbers if not canonical[name].isna().all()
    }
    if "low" in values:
        values["low_tolerant"] = values["low"] * (1 - tolerance)
    if "high" in values:
        values["high_tolerant"] = values["high"] * (1 + tolerance)
    prices = [values[name] for name in ("close", "adj_close") if name in values]
    given = np.zeros(len(canonical), dtype=bool)
    for price in prices:
        given |= price.notna().to_numpy()
    return values | {"price_given": given}
