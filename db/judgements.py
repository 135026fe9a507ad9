"""Judgements of price breaks over the nights: when each was known, resolved or withdrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from db.availability import Availability
from db.clock import Night
from db.quality.columns import dates
from db.raw_tables import RAW
from db.sessions import Sessions
from db.staging import Staged
from db.tables import price_breaks

if TYPE_CHECKING:
    from db.warehouse import Warehouse

KEY = ["entity", "session"]
WITHDRAWN = "withdrawn: the price was corrected before it was decided"


def keep(
    warehouse: Warehouse,
    staged: Staged,
    breaks: pd.DataFrame,
    appended: pd.DataFrame,
    refused: pd.DataFrame,
    night: Night,
    calendar: Sessions,
    run_id: str,
) -> None:
    """Store new judgements on `appended` rows and on `refused` corrections of stored ones.

    What was resolved before the appended rows began stays as it was. A judgement is known
    no sooner than the rows that it rests on. One that stands again, over a restated history
    for instance, has been known since it was first made; a suspicion that corrected prices
    do not show any more is resolved tonight.
    Call inside a transaction.
    """
    if appended.empty or staged.source.frequency != "session":
        return
    raw = RAW[staged.source.kind]
    prices = appended[[raw.entity, raw.date, "known_at"]].set_axis(
        ["entity", "session", "priced_at"], axis=1
    )
    refused_prices = pd.DataFrame(
        {
            "entity": refused[raw.entity].astype("str"),
            "session": dates(refused[raw.date]),
            "priced_at": pd.Timestamp(night.now).as_unit("us"),
        }
    )
    first = prices["session"].min()
    fresh = breaks[breaks["resolved_session"].isna() | (breaks["resolved_session"] >= first)]
    stored = warehouse.frame(
        f"SELECT * FROM {price_breaks.fullname} WHERE source = ?", staged.source.name
    )
    withdrawn = _withdrawn(stored, fresh, prices, night)
    if len(fresh):
        rule = staged.source.availability
        if len(refused):
            prices = pd.concat([prices, refused_prices], ignore_index=True)
        fresh = _with_times(fresh, prices, stored, rule, calendar).assign(
            source=staged.source.name, ingested_at=pd.Timestamp(staged.fetched_at), run_id=run_id
        )
    names = [column.name for column in price_breaks.columns]
    for rows in (fresh, withdrawn):
        if rows.empty:
            continue
        with warehouse.relation(rows[names]) as incoming:
            warehouse.native.execute(
                f"""
                DELETE FROM {price_breaks.fullname} b
                USING {incoming} i
                WHERE b.source = i.source AND b.entity = i.entity
                    AND b.session = CAST(i.session AS DATE)
                """
            )
        warehouse.append(price_breaks, rows[names])


def _with_times(
    fresh: pd.DataFrame,
    prices: pd.DataFrame,
    stored: pd.DataFrame,
    rule: Availability,
    calendar: Sessions,
) -> pd.DataFrame:
    """`fresh` with known_at and resolved_at (NaT while pending)."""
    fresh = fresh.reset_index(drop=True)
    resolved = fresh["resolved_session"].astype("datetime64[us]")
    known_at = rule.known_at(fresh["session"].astype("datetime64[us]"), calendar)
    resolved_at = rule.known_at(resolved, calendar)

    spans = fresh[KEY].assign(until=resolved, number=fresh.index)
    met = spans.merge(prices, on="entity", suffixes=("", "_priced"))
    at_break = met[met["session_priced"] == met["session"]]
    within = met[met["session_priced"].between(met["session"], met["until"])]
    known_at = _later(known_at, at_break.groupby("number")["priced_at"].max())
    resolved_at = _later(resolved_at, within.groupby("number")["priced_at"].max())

    before = fresh[[*KEY, "kind"]].merge(
        stored[[*KEY, "kind", "known_at", "resolved_at"]], on=KEY, how="left", suffixes=("", "_old")
    )
    known_at = _earlier(known_at, before["known_at"])
    stands = before["kind"] == before["kind_old"]
    resolved_at = _earlier(resolved_at, before["resolved_at"].where(stands))
    return fresh.assign(known_at=known_at, resolved_at=resolved_at)


def _later(instants: pd.Series, others: pd.Series) -> pd.Series:
    others = others.reindex(instants.index)
    result: pd.Series = instants.where(~(others > instants), others)
    return result


def _earlier(instants: pd.Series, others: pd.Series) -> pd.Series:
    result: pd.Series = instants.where(~(others < instants), others)
    return result


def _withdrawn(
    stored: pd.DataFrame, fresh: pd.DataFrame, prices: pd.DataFrame, night: Night
) -> pd.DataFrame:
    """Stored suspicions that the prices from there on, now appended, do not show any more."""
    first = prices.groupby("entity")["session"].min()
    begin = stored["entity"].map(first)
    pending = stored[(stored["kind"] == "pending") & (begin <= stored["session"])]
    again = pending[KEY].merge(fresh[KEY], on=KEY, how="left", indicator=True)["_merge"] == "both"
    return pending[~again.to_numpy()].assign(
        kind="jump",
        resolved_session=pd.Timestamp(night.session),
        resolved_at=pd.Timestamp(night.now).as_unit("us"),
        reason=WITHDRAWN,
    )
