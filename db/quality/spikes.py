"""Returns beyond what volatility justifies: the increment judged together with its past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.quality.batch import Batch
from db.quality.columns import Judged, dates
from db.quality.rules import Mask

# Frame sorted by entity and session (columns entity, session, price; volume and split_ratio
# where known) to one row per break.
JudgeBreaks = Callable[[pd.DataFrame], pd.DataFrame]

BREAK_COLUMNS = (
    "entity", "session", "kind", "ratio", "until_session", "resolved_session", "reason",
)  # fmt: skip


# A series with fewer values than this at or below zero is a level, and those are errors.
STRAY_SHARE = 0.01
NEXT_TO_NOTHING = 1e-3


@dataclass(frozen=True)
class Spikes:
    """What the price paths show.

    Attributes
    ----------
    breaks : every break found, in history too: columns `BREAK_COLUMNS`.
    of_row : row of `breaks` that makes an increment's row a spike, -1 where none does.
    """

    breaks: pd.DataFrame
    of_row: npt.NDArray[np.int64]

    @property
    def mask(self) -> Mask:
        """Which rows of the increment belong to a spike."""
        found: Mask = self.of_row >= 0
        return found


def no_breaks() -> pd.DataFrame:
    """A breaks frame without rows."""
    days = ("session", "until_session", "resolved_session")
    types = dict.fromkeys(days, "datetime64[us]") | {"ratio": "float64"}
    return pd.DataFrame(columns=list(BREAK_COLUMNS)).astype(
        {name: types.get(name, "str") for name in BREAK_COLUMNS}
    )


def find_spikes(
    batch: Batch, judged: Judged, good: Mask, older: pd.DataFrame, judge: JudgeBreaks | None
) -> Spikes:
    """Judges the paths of the rows that passed all other rules (`good`).

    Only daily bars, and daily observations of series that are levels.
    """
    nothing = Spikes(no_breaks(), np.full(len(good), -1, dtype=np.int64))
    if batch.frequency != "session":
        return nothing
    path = _paths(batch, judged, good, older)
    if path.empty:
        return nothing
    breaks = (judge or _judge_breaks)(_with_splits(path, batch)).reset_index(drop=True)
    return Spikes(breaks, _spike_of_row(batch, judged.canonical, good, breaks))


def _judge_breaks(path: pd.DataFrame) -> pd.DataFrame:
    from db.quality.breaks import judge_breaks

    return judge_breaks(
        path,
        price="price",
        volume="volume" if "volume" in path else None,
        split_ratio="split_ratio" if "split_ratio" in path else None,
    )


def _with_splits(path: pd.DataFrame, batch: Batch) -> pd.DataFrame:
    """Raw prices with `split_ratio`, what known splits make of the price before: 0.5 for 2:1."""
    if batch.adjustment != "raw" or batch.actions is None:
        return path
    splits = batch.actions[batch.actions["kind"] == "split"]
    if splits.empty:
        return path
    known = pd.DataFrame(
        {
            "entity": splits["entity"].astype("str"),
            "session": dates(splits["ex_date"]),
            "split_ratio": 1.0 / splits["factor"].astype("float64"),
        }
    ).drop_duplicates(["entity", "session"], keep="last")
    return path.astype({"entity": "str"}).merge(known, on=["entity", "session"], how="left")


def price_column(batch: Batch, judged: Judged) -> str | None:
    """The column whose path is judged; None where no price is given at all."""
    if batch.kind == "observations":
        return "value"
    wanted = ("adj_close", "close") if batch.adjustment == "total" else ("close", "adj_close")
    return next((name for name in wanted if name in judged.columns), None)


def _paths(batch: Batch, judged: Judged, good: Mask, older: pd.DataFrame) -> pd.DataFrame:
    """History and increment as paths: columns entity, session, price, in that order sorted."""
    column = price_column(batch, judged)
    if column is None:
        return pd.DataFrame(columns=["entity", "session", "price"])
    names = {batch.entity: "entity", batch.day: "session", column: "price"}
    if "volume" in judged.columns:
        names["volume"] = "volume"
    given = good & judged.canonical[column].notna().to_numpy()
    new = _sorted(judged, given & _newest_release(batch, judged.canonical), list(names))
    new = new.rename(columns=names)
    if len(older):
        past = older[list(names)].rename(columns=names).dropna(subset=["price"])
        past = past.assign(session=dates(past["session"]), price=past["price"].astype("float64"))
        if batch.adjustment != "raw":
            past = _on_scale_of(new, past, batch, names)
        path = pd.concat(
            [past.astype({"entity": "str"}), new.astype({"entity": "str"})], ignore_index=True
        )
        new = path.sort_values(["entity", "session"], kind="stable", ignore_index=True)
    if batch.kind == "observations":
        return _of_levels(new)
    return new


def _of_levels(path: pd.DataFrame) -> pd.DataFrame:
    """The series that are levels; spreads, returns and the like have no ratios to judge.

    A stray value of a level that is not positive is judged as next to nothing: a spike, or
    a suspicion while it is the newest.
    """
    positive = path["price"] > 0
    share = positive.groupby(path["entity"], observed=True).transform("mean")
    level = share > 1 - STRAY_SHARE
    smallest = path["price"].where(positive).groupby(path["entity"], observed=True).transform("min")
    price = path["price"].where(positive, smallest * NEXT_TO_NOTHING)
    return path.assign(price=price)[level].reset_index(drop=True)


def _newest_release(batch: Batch, canonical: pd.DataFrame) -> Mask:
    """Which rows are the newest release of their date: a path has one value a date."""
    if "known_at" not in canonical:
        return np.ones(len(canonical), dtype=bool)
    releases = canonical.sort_values("known_at", kind="stable", na_position="first")
    older = releases.duplicated([batch.entity, batch.day], keep="last")
    newest: Mask = ~older.reindex(canonical.index).to_numpy()
    return newest


def _sorted(judged: Judged, chosen: Mask, names: list[str]) -> pd.DataFrame:
    """The chosen rows by entity and date, without a copy where they lie so already."""
    rows = judged.canonical[names]
    order = judged.order
    if not chosen.all():
        rows, order = rows[chosen], order[chosen]
    if not bool((order[1:] >= order[:-1]).all()):
        rows = rows.iloc[np.argsort(order, kind="stable")]
    return rows.reset_index(drop=True)


def _on_scale_of(
    new: pd.DataFrame, past: pd.DataFrame, batch: Batch, names: dict[str, str]
) -> pd.DataFrame:
    """The past on the increment's scale: a vendor that adjusts prices rescales them all.

    The scale is the median ratio over the sessions that both have; 1 where there are none.
    """
    stored = batch.history
    if stored is None:
        return past
    column = next(old for old, name in names.items() if name == "price")
    before = pd.DataFrame(
        {
            "entity": stored[batch.entity].astype("str"),
            "session": dates(stored[batch.day]),
            "before": stored[column].astype("float64"),
        }
    )
    both = before.merge(new.astype({"entity": "str"}), on=["entity", "session"])
    ratio = (both["price"] / both["before"]).groupby(both["entity"]).median()
    scale = past["entity"].astype("str").map(ratio).fillna(1.0)
    return past.assign(price=past["price"] * scale.to_numpy())


def _spike_of_row(
    batch: Batch, canonical: pd.DataFrame, good: Mask, breaks: pd.DataFrame
) -> npt.NDArray[np.int64]:
    of_row = np.full(len(canonical), -1, dtype=np.int64)
    spikes = breaks[breaks["kind"] == "spike"]
    if spikes.empty:
        return of_row
    entities = canonical[batch.entity]
    concerned = np.flatnonzero(good & entities.isin(spikes["entity"].astype("str")).to_numpy())
    rows = pd.DataFrame(
        {
            "row": concerned,
            "entity": entities.iloc[concerned].astype("str").to_numpy(),
            "day": canonical[batch.day].iloc[concerned].to_numpy(),
        }
    )
    spans = pd.DataFrame(
        {
            "entity": spikes["entity"].astype("str"),
            "break": spikes.index,
            "first": spikes["session"],
            "last": spikes["until_session"].fillna(spikes["session"]),
        }
    )
    met = rows.merge(spans, on="entity")
    met = met[(met["day"] >= met["first"]) & (met["day"] <= met["last"])]
    of_row[met["row"].to_numpy()] = met["break"].to_numpy()
    return of_row
