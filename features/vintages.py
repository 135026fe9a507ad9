"""Raw rows as views read them: every vintage of a stretch of history, and what was known when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from db.errors import LookbackError
from db.sessions import Sessions, sessions
from features.order import by_entity_and_date
from features.rolling import Floats, Ints, Rows, positions

if TYPE_CHECKING:
    from db.warehouse import Warehouse

Days = npt.NDArray[np.datetime64]

FOREVER = np.iinfo(np.int64).max
ALWAYS, NEVER = np.datetime64("0001-01-01", "D"), np.datetime64("9999-12-31", "D")
# Columns of a read that seldom hold more than one value: a comparison costs less than an order.
MOSTLY_ALIKE = frozenset({"history", "origin", "is_raw"})
PRICES = ("open", "high", "low", "close", "adj_close", "volume")
SENTIMENT = ("documents", "sentiment", "dispersion", "novelty", "novel_sentiment")


@dataclass(frozen=True)
class RawInput:
    """How a raw table is read: its key and values, and what lies beside it.

    `beside` names the table of corporate actions, whose rows change values of this one.
    A restated history takes the place of the one before, and a source that of another whose
    name comes later: `may_take_over` says of a new row (rowid >= $1), in SQL, whether to
    look for that, `takes_over` of all rows of its entity whether it happened.
    """

    entity: str
    date: str
    values: tuple[str, ...]
    history: str
    adjusted: str
    may_take_over: str
    takes_over: str
    beside: str | None = None


RAW_INPUTS = {
    "bars": RawInput(
        "entity",
        "session",
        PRICES,
        "history",
        "adjustment",
        "history > 0",
        "max(history) FILTER (rowid >= $1) > max(history) FILTER (rowid < $1)",
        "corporate_actions",
    ),
    "observations": RawInput(
        "series", "period", ("value",), "0", "''", "true", "count(DISTINCT source) > 1"
    ),
    "sentiment": RawInput("entity", "session", SENTIMENT, "0", "''", "false", "false"),
}


@dataclass(frozen=True)
class Asked:
    """What is loaded: entities, and from which date on each of them.

    Attributes
    ----------
    names : entity names, sorted, (n,).
    start : datetime64[D], (n,): rows before it are left out.
    """

    names: npt.NDArray[np.object_]
    start: Days

    def table(self) -> pa.Table:
        """For SQL: entity, code (its position), start."""
        return pa.table(
            {
                "entity": pa.array(self.names, pa.string()),
                "code": np.arange(len(self.names), dtype="int32"),
                "start": pa.array(self.start),
            }
        )


@dataclass(frozen=True)
class Actions:
    """Corporate actions, newest last: arrays of shape (n,)."""

    entity: npt.NDArray[np.int32]
    ex_date: Days
    kind: npt.NDArray[np.object_]
    factor: Floats
    known_at: Ints

    def as_of(self, until: Ints) -> Actions:
        """Those known before an instant, which each entity has its own of; one vintage each."""
        known = np.flatnonzero(self.known_at < until[self.entity])
        newest: dict[tuple[Any, ...], int] = {}
        for row in known:
            newest[self.entity[row], self.ex_date[row], self.kind[row]] = int(row)
        rows = np.array(sorted(newest.values()), dtype="int64")
        return Actions(
            self.entity[rows],
            self.ex_date[rows],
            self.kind[rows],
            self.factor[rows],
            self.known_at[rows],
        )


NO_ACTIONS = Actions(
    np.empty(0, "int32"),
    np.empty(0, "datetime64[D]"),
    np.empty(0, object),
    np.empty(0),
    np.empty(0, "int64"),
)


@dataclass(frozen=True)
class Vintages:
    """Rows of one raw table with all their vintages, sorted by entity, date and `known_at`.

    Arrays have shape (n,); `known_at` in microseconds since 1970, UTC.
    """

    table: str
    names: npt.NDArray[np.object_]
    entity: npt.NDArray[np.int32]
    date: Days
    known_at: Ints
    history: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int64]
    is_raw: npt.NDArray[np.bool_]
    columns: dict[str, Floats]
    calendar: Sessions
    actions: Actions = field(default=NO_ACTIONS)
    # what was made last, by the instants that it was made for: views of one night ask alike
    _last: dict[bytes, Rows] = field(default_factory=dict, init=False, repr=False, compare=False)

    def as_of(self, until: Ints) -> Rows:
        """What was known before an instant, which each entity has its own of: (len(names),).

        One vintage of each row, from the newest restated history; of a series in several
        sources, that whose name comes first in the alphabet. Bars with `growth`, the
        total return since the bar before plus 1, and nothing from a delisting on. NaN where
        there is none. For raw prices that is CRSP's holding period return,
        (price · split + dividend) / price before.

        The columns are read-only: views share them.

        Raises
        ------
        LookbackError
            Two sources have bars of the same symbol and session.
        """
        asked = until.tobytes()
        if asked not in self._last:
            rows = self._as_of(until)
            for column in rows.columns.values():
                column.flags.writeable = False
            self._last.clear()
            self._last[asked] = rows
        return self._last[asked]

    def _as_of(self, until: Ints) -> Rows:
        visible = self.known_at < until[self.entity]
        if self.table == "observations" and self.origin.any():
            # a series is read from one source, never mixed: alfred goes before fred
            first = np.full(len(self.names), FOREVER)
            np.minimum.at(first, self.entity[visible], self.origin[visible])
            visible &= self.origin == first[self.entity]
        if self.history.any():
            newest = np.zeros(len(self.names), "int32")
            np.maximum.at(newest, self.entity[visible], self.history[visible])
            visible &= self.history == newest[self.entity]
        rows = np.flatnonzero(visible)
        entity, date = self.entity[rows], self.date[rows]
        again = (entity[1:] == entity[:-1]) & (date[1:] == date[:-1])
        if again.any():
            if self.table != "sentiment":
                self._require_one_source(rows, again)
            rows = rows[np.r_[~again, True]]
            date = self.date[rows]
        if self.table == "bars":
            return self._bars(rows, self.actions.as_of(until))
        columns = {name: column[rows] for name, column in self.columns.items()}
        if self.table == "sentiment":
            columns |= _places(self.calendar, date)
        return Rows(self.names, self.entity[rows], self.date[rows], self.known_at[rows], columns)

    def turning_points(self, since: Ints) -> tuple[npt.NDArray[np.int32], Ints]:
        """When knowledge changed and did not only grow, after `since` (len(names),).

        That is when a correction became known, a restated history or another source, a row
        after later ones of its entity, or an action after bars that it changes: entity codes
        and instants, (k,) each.
        """
        if not len(self.entity):
            return np.empty(0, "int32"), np.empty(0, "int64")
        entity, date, known = self.entity, self.date, self.known_at
        same = entity[1:] == entity[:-1]
        turns = np.r_[False, same & (date[1:] == date[:-1])]
        earliest = _earliest_from_here(entity, known)
        turns[:-1] |= same & (known[:-1] > earliest[1:])
        codes, instants = [entity[turns]], [known[turns]]
        edition = self.history if self.table == "bars" else self.origin
        if edition.any():
            # the first row of a history, or of a source, withdraws others, whatever its date
            order = np.lexsort((known, edition, entity))
            code, number = entity[order], edition[order]
            begins = np.r_[True, (code[1:] != code[:-1]) | (number[1:] != number[:-1])]
            codes.append(code[begins])
            instants.append(known[order][begins])
        actions = self.actions
        if len(actions.entity):
            first = np.searchsorted(_key(entity, date), _key(actions.entity, actions.ex_date))
            inside = np.minimum(first, len(entity) - 1)
            late = (
                (first < len(entity))
                & (entity[inside] == actions.entity)
                & (earliest[inside] < actions.known_at)
            )
            codes.append(actions.entity[late])
            instants.append(actions.known_at[late])
        code, instant = np.concatenate(codes), np.concatenate(instants)
        later = instant > since[code]
        return code[later], instant[later]

    def strict_turning_points(self, since: int) -> Ints:
        """As `turning_points` for values made of all entities' rows: instants, (k,).

        Here a row of the same date of another entity that was known earlier counts too.
        """
        if not len(self.date):
            return np.empty(0, "int64")
        order = np.argsort(self.date, kind="stable")
        date, known = self.date[order], self.known_at[order]
        earliest = np.minimum.accumulate(known[::-1])[::-1]
        first_of_date = np.searchsorted(date, date)
        turns = known > earliest[first_of_date]
        own = self.turning_points(np.full(len(self.names), since))[1]
        instants = np.concatenate([known[turns], own])
        return np.unique(instants[instants > since])

    def only(self, rows: npt.NDArray[np.bool_]) -> Vintages:
        """These rows (a mask), with all actions."""
        return replace(
            self,
            entity=self.entity[rows],
            date=self.date[rows],
            known_at=self.known_at[rows],
            history=self.history[rows],
            origin=self.origin[rows],
            is_raw=self.is_raw[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )

    def _require_one_source(self, rows: Ints, again: npt.NDArray[np.bool_]) -> None:
        origin = self.origin[rows]
        mixed = np.flatnonzero(again & (origin[1:] != origin[:-1]))
        if len(mixed):
            row = rows[mixed[0]]
            raise LookbackError(
                f"two sources have {self.table} of {self.names[self.entity[row]]} on "
                f"{self.date[row]}; give one of them another symbol"
            )

    def _bars(self, rows: Ints, actions: Actions) -> Rows:
        entity, date = self.entity[rows], self.date[rows]
        key = _key(entity, date)
        at = np.searchsorted(key, _key(actions.entity, actions.ex_date))
        inside = at < len(entity)
        inside[inside] = entity[at[inside]] == actions.entity[inside]
        # what went before the first bar changes none
        counts = inside.copy()
        row = at[inside]
        counts[inside] = (date[row] == actions.ex_date[inside]) | (positions(entity)[row] > 0)
        split, dividend = np.ones(len(rows)), np.zeros(len(rows))
        for kind, factor, row in zip(
            actions.kind[counts], actions.factor[counts], at[counts], strict=True
        ):
            if kind == "split":
                split[row] *= factor
            elif kind == "dividend":
                dividend[row] += factor
        columns = {name: column[rows] for name, column in self.columns.items()}
        columns["split"], columns["dividend"] = split, dividend
        columns["growth"] = _growth(entity, columns, self.is_raw[rows])
        columns |= _places(self.calendar, date)
        bars = Rows(self.names, entity, date, self.known_at[rows], columns)
        ended = inside & (actions.kind == "delisting")
        return _without_ends(bars, at[ended]) if ended.any() else bars


def load(warehouse: Warehouse, table: str, asked: Asked) -> Vintages:
    """All vintages of the rows asked for, of a raw table in `RAW_INPUTS`."""
    raw = RAW_INPUTS[table]
    values = ", ".join(f"r.{name}" for name in raw.values)
    earliest = asked.start.min() if len(asked.start) else ALWAYS
    with warehouse.relation(asked.table(), "asked") as relation:
        found = warehouse.native.execute(
            f"""
            -- one row per vintage
            SELECT a.code, r.{raw.date} AS date, epoch_us(r.known_at) AS known,
                {raw.history} AS history, list_position($2, r.source) AS origin,
                {raw.adjusted} = 'raw' AS is_raw, r.rowid AS arrival, {values}
            FROM raw.{table} r
            JOIN {relation} a ON a.entity = r.{raw.entity}
            WHERE r.{raw.date} >= $1 AND r.{raw.date} >= a.start
            """,
            (earliest.astype(object), _sources(warehouse, table, earliest)),
        ).to_arrow_table()
    order = _sorted(found)
    nothing = np.full(found.num_rows, np.nan)

    def placed(name: str, dtype: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = found[name].to_numpy()
        if name in MOSTLY_ALIKE and len(values) and (values == values[0]).all():
            return np.full(len(values), values[0], dtype)
        return values[order].astype(dtype, copy=False)

    return Vintages(
        table,
        asked.names,
        placed("code", "int32"),
        placed("date", "datetime64[D]"),
        placed("known", "int64"),
        placed("history", "int32"),
        placed("origin", "int64") - 1,
        placed("is_raw", "bool"),
        {
            # most sources leave most prices out: they share one column of NaN
            name: nothing if found[name].null_count == found.num_rows else placed(name, "float64")
            for name in raw.values
        },
        sessions(warehouse.settings.calendar),
        _load_actions(warehouse, asked) if raw.beside else NO_ACTIONS,
    )


def _sources(warehouse: Warehouse, table: str, since: np.datetime64) -> list[str]:
    """Names of the sources of rows from a date on, in the order of the alphabet."""
    date = RAW_INPUTS[table].date
    return [
        name
        for (name,) in warehouse.sql(
            f"SELECT DISTINCT source FROM raw.{table} WHERE {date} >= $1 ORDER BY 1",
            since.astype(object),
        )
    ]


def count_before(vintages: Vintages, first: Days, since: Ints) -> Ints:
    """Dates before `first` that were known at `since`, of each entity: (len(names),).

    Where a history was restated, those of the newest one.
    """
    entity, date = vintages.entity, vintages.date
    earlier = (date < first[entity]) & (vintages.known_at <= since[entity])
    if vintages.history.any():
        newest = np.zeros(len(vintages.names), "int32")
        np.maximum.at(newest, entity, vintages.history)
        earlier &= vintages.history == newest[entity]
    entity, date = entity[earlier], date[earlier]
    distinct = np.r_[True, (entity[1:] != entity[:-1]) | (date[1:] != date[:-1])][: len(entity)]
    return np.bincount(entity[distinct], minlength=len(vintages.names))


def together(left: Vintages, right: Vintages) -> Vintages:
    """Rows of different entities of one list of names; actions are those of `left`."""
    entity = np.concatenate([left.entity, right.entity])
    order = np.argsort(entity, kind="stable")

    def joined(mine: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        both: npt.NDArray[Any] = np.concatenate([mine, theirs])[order]
        return both

    return replace(
        left,
        entity=entity[order],
        date=joined(left.date, right.date),
        known_at=joined(left.known_at, right.known_at),
        history=joined(left.history, right.history),
        origin=joined(left.origin, right.origin),
        is_raw=joined(left.is_raw, right.is_raw),
        columns={name: joined(left.columns[name], right.columns[name]) for name in left.columns},
    )


def _load_actions(warehouse: Warehouse, asked: Asked) -> Actions:
    """All vintages of the corporate actions of the entities asked for, oldest first."""
    with warehouse.relation(asked.table(), "asked") as relation:
        found = warehouse.native.execute(
            f"""
            SELECT a.code, r.ex_date - DATE '1970-01-01' AS day, r.kind, r.factor,
                epoch_us(r.known_at) AS known
            FROM raw.corporate_actions r
            JOIN {relation} a ON a.entity = r.entity
            ORDER BY a.code, r.ex_date, r.kind, r.known_at, r.rowid
            """
        ).to_arrow_table()
    return Actions(
        found["code"].to_numpy().astype("int32"),
        found["day"].to_numpy().astype("int64").astype("datetime64[D]"),
        found["kind"].to_numpy(),
        found["factor"].to_numpy(),
        found["known"].to_numpy(),
    )


def _sorted(found: pa.Table) -> Ints:
    """Order by entity, date, known_at and arrival; vintages are few, and most loads have none."""
    code, date = found["code"].to_numpy(), found["date"].to_numpy()
    order: Ints = by_entity_and_date(code, date)
    code, date = code[order], date[order]
    if ((code[1:] == code[:-1]) & (date[1:] == date[:-1])).any():
        arrival, known = found["arrival"].to_numpy()[order], found["known"].to_numpy()[order]
        order = order[np.lexsort((arrival, known, date, code))]
    return order


def _key(entity: npt.NDArray[np.int32], date: Days) -> Ints:
    """Ascending where rows are sorted by entity and date."""
    key: Ints = (entity.astype("int64") << 32) + date.astype("int64")
    return key


def _earliest_from_here(entity: npt.NDArray[np.int32], known: Ints) -> Ints:
    """Earliest `known_at` of each row and the later ones of its entity, (n,)."""
    base = known.min()
    span = int(known.max() - base) + 1
    if span * (int(entity.max()) + 1) >= 2**63:
        # decades of thousands of entities in microseconds: their order is enough
        instants, rank = np.unique(known, return_inverse=True)
        in_order: Ints = instants[_earliest_from_here(entity, rank)]
        return in_order
    lifted = known - base + entity.astype("int64") * span
    # going back, an entity's values all lie below those of the next one
    running = np.minimum.accumulate(lifted[::-1])[::-1]
    earliest: Ints = running - entity.astype("int64") * span + base
    return earliest


def _growth(
    entity: npt.NDArray[np.int32], columns: dict[str, Floats], is_raw: npt.NDArray[np.bool_]
) -> Floats:
    """Price over the price one bar before, splits and dividends counted, (n,)."""
    close, adjusted = columns["close"], columns["adj_close"]
    price = np.where(is_raw | np.isnan(adjusted), close, adjusted)
    split = np.where(is_raw, columns["split"], 1.0)
    dividend = np.where(is_raw, columns["dividend"], 0.0)
    growth = np.full(len(price), np.nan)
    if len(price) > 1:
        growth[1:] = (price[1:] * split[1:] + dividend[1:]) / price[:-1]
        growth[1:][entity[1:] != entity[:-1]] = np.nan
    growth[~np.isfinite(growth)] = np.nan
    return growth


def _places(calendar: Sessions, date: Days) -> dict[str, Floats]:
    """Number of each date's session (-1: none), and whether its week or month ends there."""
    if not len(date):
        return {name: np.empty(0) for name in ("session", "week", "week_end", "month_end")}
    # worked out for each day of the calendar once, and looked up for each row
    first = date.min()
    every = np.arange(first, date.max() + 1)
    number = calendar.index(every)
    days = calendar.days
    following = np.r_[days[1:], days[-1:]]
    week, next_week = _week(days), _week(following)
    month, next_month = days.astype("datetime64[M]"), following.astype("datetime64[M]")
    of_day = {
        "session": number,
        "week": _week(every),
        "week_end": (week != next_week)[number] & (number >= 0),
        "month_end": (month != next_month)[number] & (number >= 0),
    }
    day = (date - first).view("int64")
    return {name: column.astype("float64")[day] for name, column in of_day.items()}


def _week(days: Days) -> Ints:
    """Weeks, from Monday to Sunday, since 1970-01-05."""
    weeks: Ints = (days - np.datetime64("1970-01-05")).astype("int64") // 7
    return weeks


def _without_ends(bars: Rows, ends: Ints) -> Rows:
    """Bars without those of an entity from the first of `ends` on."""
    first_end = np.full(len(bars.names), FOREVER)
    np.minimum.at(first_end, bars.entity[ends], bars.position[ends])
    keep = positions(bars.entity) < first_end[bars.entity]
    return Rows(
        bars.names,
        bars.entity[keep],
        bars.date[keep],
        bars.known_at[keep],
        {name: column[keep] for name, column in bars.columns.items()},
    )
