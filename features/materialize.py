"""Bringing the tables of feature views up to date with the raw tables.

A value has `known_at` and, once something replaced it, `known_until`: a read as of any
cut-off finds the value that was valid then. What was known goes from state to state: a
state begins when a correction, or a row that came after later ones, became known, and
within one only new dates are added. Work starts from the raw rows that have arrived since
the view last read them: each names an entity, the first date that it reaches and the
instant from which it was known. The table is taken back to that instant for those dates,
and the states from there on are gone through again, on the rows of those dates and as many
before them as the view remembers. So a late row gives the table that it would have given in
time, and a night costs what the night changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from db.errors import ShortHistoryError
from db.sessions import sessions
from db.tables import exchange_sessions
from db.tables import feature_views as views_table
from features.evaluate import Values, evaluate, key_of, raw_inputs
from features.rolling import Ints, Rows
from features.sql import write_macros
from features.view import FeatureView, Input
from features.vintages import (
    ALWAYS,
    FOREVER,
    NEVER,
    RAW_INPUTS,
    Asked,
    Days,
    Vintages,
    count_before,
    load,
    together,
)

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# Raw rows that are held at once, about 100 bytes each.
ROWS_AT_ONCE = 2_000_000
# Calendar days of so many sessions, with holidays: 365 / 252, and room for a long weekend.
DAYS_A_SESSION, DAYS_SPARE = 1.46, 20

Move = Callable[[float, float], None]


@dataclass(frozen=True)
class Materialized:
    """What one call did: rows added, rows replaced by a newer vintage, seconds."""

    view: str
    version: str
    added: int
    replaced: int
    seconds: float


@dataclass(frozen=True)
class Touched:
    """What new raw rows reach: arrays of shape (n,), sorted by name.

    Attributes
    ----------
    names : entities of the view's own inputs.
    first : datetime64[D], first date that something changed for.
    since : microseconds since 1970, UTC: when the first of it was known.
    shared : the same for rows that all entities read: (first date, since), None if none.
    """

    names: npt.NDArray[np.object_]
    first: Days
    since: Ints
    shared: tuple[np.datetime64, int] | None = None

    def __bool__(self) -> bool:
        return bool(len(self.names)) or self.shared is not None


@dataclass(frozen=True)
class State:
    """What some entities' knowledge was from an instant until another, in microseconds.

    Arrays of shape (n,) over the entities that went through it: positions, begin, until.
    Shared rows are seen until `common`: where those only grew, all of them may be, and
    values that were not known by an entity's own `until` go.
    """

    codes: npt.NDArray[np.int64]
    begins: Ints
    until: Ints
    common: int


@dataclass(frozen=True)
class Computed:
    """Values of one state of some entities, and what to do with them.

    Attributes
    ----------
    number : states of these entities before it that are gone through again.
    values : from the dates reached on.
    reached : for SQL: entity (not for a view of all at once), first, begins.
    earliest : the first of the dates reached.
    """

    number: int
    values: Values
    reached: pa.Table
    earliest: np.datetime64


def materialize(
    warehouse: Warehouse, view: FeatureView, *, rebuild: bool = False, move: Move | None = None
) -> Materialized:
    """Bring a view up to date, in one transaction; nothing new in raw means no work.

    Parameters
    ----------
    warehouse : the open store.
    view : what to bring up to date.
    rebuild : forget what there is and compute all of it; the rows are the same.
    move : is told how many entities are done, and of how many.

    Raises
    ------
    ShortHistoryError
        The view is new and its window longer than any history; nothing was written.
    LookbackError
        The view's SQL or transform fails; the message names the view, nothing was written.
    """
    started = time.perf_counter()
    with warehouse.transaction():
        _write_sessions(warehouse)
        if rebuild:
            warehouse.native.execute(f"DROP TABLE IF EXISTS {view.table}")
        reflected = {} if rebuild else _reflected(warehouse, view)
        present = _present(warehouse, view)
        if any(present[table][0] < count for table, (count, _) in reflected.items()):
            # raw rows were taken away, which Lookback never does: nothing stands any more
            warehouse.native.execute(f"DROP TABLE IF EXISTS {view.table}")
            reflected = {}
        new = not _is_there(warehouse, view)
        if new:
            _create_table(warehouse, view)
            reflected = {}
        touched = _touched(warehouse, view, reflected)
        added = replaced = 0
        if touched and new:
            added, replaced = _fill(warehouse, view, touched, move)
        elif touched:
            replaced = _rewind(warehouse, view, touched)
            for state in _go_through(warehouse, view, touched, move, new=False):
                more, gone = _write(warehouse, view, state)
                added, replaced = added + more, replaced + gone
        write_macros(warehouse, view)
        _record(warehouse, view, present)
    return Materialized(view.name, view.version, added, replaced, time.perf_counter() - started)


# --------------------------------------------------------------------------- what is new


def _raw_tables(view: FeatureView) -> tuple[str, ...]:
    """Raw tables that a change of the view's values can come from."""
    tables: dict[str, None] = {}
    for given in raw_inputs(view).values():
        tables[given.table] = None
        beside = RAW_INPUTS[given.table].beside
        if beside:
            tables[beside] = None
    return tuple(tables)


def _present(warehouse: Warehouse, view: FeatureView) -> dict[str, tuple[int, datetime | None]]:
    """Rows of each raw table (they are only ever appended to) and their newest known_at."""
    found = {}
    for table in _raw_tables(view):
        row = warehouse.one(f"SELECT count(*), max(known_at) FROM raw.{table}")
        assert row is not None
        found[table] = (int(row[0]), row[1])
    return found


def _reflected(warehouse: Warehouse, view: FeatureView) -> dict[str, tuple[int, Any]]:
    """Rows of each raw table that the view has read."""
    row = warehouse.one(
        "SELECT reflected FROM main.feature_views WHERE view = ? AND version = ?",
        view.name,
        view.version,
    )
    if row is None or row[0] is None:
        return {}
    return {table: (count, None) for table, count in json.loads(row[0]).items()}


def _touched(
    warehouse: Warehouse, view: FeatureView, reflected: Mapping[str, tuple[int, Any]]
) -> Touched:
    """What the raw rows beyond those that the view has read reach."""
    parts: list[pa.Table] = []
    shared: list[tuple[np.datetime64, int]] = []
    for given in raw_inputs(view).values():
        for table, entity, date in _tables_of(given):
            read = reflected.get(table, (0, None))[0]
            only = _only(entity, "$2", "$3")
            found = warehouse.native.execute(
                f"""
                -- one row per entity that something new arrived for
                SELECT {entity} AS entity, min({date}) AS first, min(epoch_us(known_at)) AS since
                FROM raw.{table}
                WHERE rowid >= $1 AND {only}
                GROUP BY ALL
                """,
                (read, list(given.entities), given.without),
            ).to_arrow_table()
            if not found.num_rows:
                continue
            if table == given.table:
                found = pa.concat_tables([found, *_taken_over(warehouse, given, read)])
            if given.shared:
                shared.append(
                    (found["first"].to_numpy().min(), int(found["since"].to_numpy().min()))
                )
            else:
                parts.append(found)
    all_of_it = None
    if shared:
        first, since = min(date for date, _ in shared), min(known for _, known in shared)
        all_of_it = (first.astype("datetime64[D]"), since)
        parts.extend(_everybody(warehouse, view, all_of_it))
    if not any(part.num_rows for part in parts):
        # shared rows reach nobody where there is no entity of the view's own
        all_of_it = all_of_it if view.whole else None
        return Touched(np.empty(0, object), np.empty(0, "M8[D]"), np.empty(0, "int64"), all_of_it)
    joined = pa.concat_tables(parts).group_by("entity", use_threads=False)
    least = joined.aggregate([("first", "min"), ("since", "min")]).sort_by("entity")
    return Touched(
        np.array(least["entity"].to_pylist(), object),
        least["first_min"].to_numpy().astype("datetime64[D]"),
        least["since_min"].to_numpy(),
        all_of_it,
    )


def _taken_over(warehouse: Warehouse, given: Input, read: int) -> Iterator[pa.Table]:
    """Entities whose older rows may have been withdrawn: all dates that they had are reached."""
    raw = RAW_INPUTS[given.table]
    candidates = f"""
        SELECT DISTINCT {raw.entity} FROM raw.{given.table}
        WHERE rowid >= $1 AND {raw.may_take_over} AND {_only(raw.entity, "$2", "$3")}
    """
    chosen = (read, list(given.entities), given.without)
    # mostly there is none, and the whole table need not be gone through
    if not warehouse.native.execute(f"{candidates} LIMIT 1", chosen).fetchone():
        return
    yield warehouse.native.execute(
        f"""
        -- one row per entity with another history, or another source, than those read
        SELECT {raw.entity} AS entity, min({raw.date}) AS first,
            min(epoch_us(known_at)) FILTER (rowid >= $1) AS since
        FROM raw.{given.table}
        WHERE {raw.entity} IN ({candidates})
        GROUP BY ALL
        HAVING {raw.takes_over}
        """,
        chosen,
    ).to_arrow_table()


def _tables_of(given: Input) -> Iterator[tuple[str, str, str]]:
    """Tables whose rows make a raw input's values: name, entity and date column."""
    raw = RAW_INPUTS[given.table]
    yield given.table, raw.entity, raw.date
    if raw.beside:
        yield raw.beside, "entity", "ex_date"


def _everybody(
    warehouse: Warehouse, view: FeatureView, change: tuple[np.datetime64, int]
) -> Iterator[pa.Table]:
    """All entities of the view's own inputs, touched by a change of a shared one."""
    first, since = change
    for given in raw_inputs(view).values():
        if given.shared:
            continue
        raw = RAW_INPUTS[given.table]
        only = _only(raw.entity, "$3", "$4")
        yield warehouse.native.execute(
            f"SELECT DISTINCT {raw.entity} AS entity, $1 AS first, CAST($2 AS BIGINT) AS since "
            f"FROM raw.{given.table} WHERE {only}",
            (first.astype(object), since, list(given.entities), given.without),
        ).to_arrow_table()


def _only(entity: str, entities: str, without: str) -> str:
    """SQL condition of an input's entities; two parameters say which and which not."""
    return (
        f"(len({entities}::VARCHAR[]) = 0 OR list_contains({entities}::VARCHAR[], {entity})) "
        f"AND ({without} = '' OR NOT starts_with({entity}, {without}))"
    )


# --------------------------------------------------------------------------- going through it


def _rewind(warehouse: Warehouse, view: FeatureView, touched: Touched) -> int:
    """Take the dates reached back to what was known before anything new; rows removed."""
    relation, condition = _reach(view, touched)
    removed = 0
    with warehouse.relation(relation, "reached"):
        removed = _changed(
            warehouse,
            f"DELETE FROM {view.table} t USING reached e WHERE {condition} "
            "AND epoch_us(t.known_at) >= e.since",
        )
        _changed(
            warehouse,
            f"UPDATE {view.table} AS t SET known_until = NULL FROM reached e WHERE {condition} "
            "AND epoch_us(t.known_until) >= e.since",
        )
    return removed


def _reach(view: FeatureView, touched: Touched) -> tuple[pa.Table, str]:
    """Entities with first date and instant for SQL, and how rows `t` of the view meet them."""
    if view.whole:
        first, since = _whole_reach(touched)
        table = pa.table({"first": pa.array(np.array([first])), "since": [since]})
        return table, f"t.date >= DATE '{first}' AND t.date >= e.first"
    table = pa.table(
        {
            "entity": pa.array(touched.names, pa.string()),
            "first": pa.array(touched.first),
            "since": touched.since,
        }
    )
    # the constant lets DuckDB pass over what lies before it
    earliest = touched.first.min()
    return table, f"t.date >= DATE '{earliest}' AND t.entity = e.entity AND t.date >= e.first"


def _whole_reach(touched: Touched) -> tuple[np.datetime64, int]:
    """First date and instant over everything touched."""
    firsts, sinces = list(touched.first), list(touched.since)
    if touched.shared:
        firsts.append(touched.shared[0])
        sinces.append(np.int64(touched.shared[1]))
    return min(firsts), int(min(sinces))


def _fill(
    warehouse: Warehouse, view: FeatureView, touched: Touched, move: Move | None
) -> tuple[int, int]:
    """Write a new table; rows added and replaced.

    The first state of every entity goes in at once and in the order in which nights will
    add to it, by date: so a night finds what it needs at the table's end.
    """
    firsts, later = [], []
    for state in _go_through(warehouse, view, touched, move, new=True):
        if state.number:
            later.append(state)
        else:
            firsts.append(state.values)
    added, replaced = _insert(warehouse, view, Values.concatenated(firsts, view)), 0
    for state in later:
        more, gone = _write(warehouse, view, state)
        added, replaced = added + more, replaced + gone
    _require_windows(warehouse, view)
    return added, replaced


def _go_through(
    warehouse: Warehouse,
    view: FeatureView,
    touched: Touched,
    move: Move | None,
    *,
    new: bool,
) -> Iterator[Computed]:
    """Compute the states of everything touched, those of an entity oldest first."""
    if view.whole:
        yield from _all_at_once(warehouse, view, touched)
        return
    shared = {
        key: load(warehouse, given.table, _asked_whole(warehouse, given))
        for key, given in raw_inputs(view).items()
        if given.shared
    }
    count = len(touched.names)
    for begin, end in _chunks(warehouse, view, touched):
        part = Touched(
            touched.names[begin:end],
            touched.first[begin:end],
            touched.since[begin:end],
            touched.shared,
        )
        own = {
            key: _load_own(warehouse, given, part, new=new)
            for key, given in raw_inputs(view).items()
            if not given.shared
        }
        yield from _some_entities(warehouse, view, part, own, shared)
        if move is not None:
            move(end, count)


def _chunks(warehouse: Warehouse, view: FeatureView, touched: Touched) -> Iterator[tuple[int, int]]:
    """Stretches of the touched entities whose rows can be held at once."""
    own = [given for given in raw_inputs(view).values() if not given.shared]
    rows, first, last = 0.0, NEVER, np.datetime64("1970-01-01", "D")
    for given in own:
        raw = RAW_INPUTS[given.table]
        found = warehouse.one(
            f"SELECT count(*), min({raw.date}), max({raw.date}) FROM raw.{given.table}"
        )
        assert found is not None
        if found[0]:
            rows = max(rows, found[0])
            first = min(first, np.datetime64(found[1], "D"))
            last = max(last, np.datetime64(found[2], "D"))
    reach = [np.maximum(_start(touched.first, given.memory), first) for given in own]
    sessions_each = np.max([(last - start).astype("int64") * 252 / 365 for start in reach], axis=0)
    weight = np.cumsum(np.clip(sessions_each, 1, max(rows, 1)))
    begin = 0
    while begin < len(weight):
        before = weight[begin - 1] if begin else 0
        end = int(np.searchsorted(weight, before + ROWS_AT_ONCE, side="right"))
        end = max(end, begin + 1)
        yield begin, end
        begin = end


def _start(first: Days, memory: int | None) -> Days:
    """From which date on rows are read, so that `memory` of them lie before `first`."""
    if memory is None:
        return np.full(len(first), ALWAYS)
    if memory == 0:
        return first
    days = int(memory * DAYS_A_SESSION) + DAYS_SPARE
    start: Days = np.maximum(first, ALWAYS + days) - days
    return start


def _asked_whole(warehouse: Warehouse, given: Input) -> Asked:
    """All entities of an input, all of their histories."""
    entity = RAW_INPUTS[given.table].entity
    names = [
        name
        for (name,) in warehouse.sql(
            f"SELECT DISTINCT {entity} FROM raw.{given.table} "
            f"WHERE {_only(entity, '$1', '$2')} ORDER BY 1",
            list(given.entities),
            given.without,
        )
    ]
    return Asked(np.array(names, object), np.full(len(names), ALWAYS))


def _load_own(
    warehouse: Warehouse, given: Input, touched: Touched, *, new: bool = False
) -> Vintages:
    """An own input's rows from `memory` rows before the first date of each entity on."""
    memory = None if new else given.memory
    if memory is not None and RAW_INPUTS[given.table].beside:
        memory += 1  # an action counts at the first bar from its ex-date on: the one before says
    start = _start(touched.first, memory)
    found = load(warehouse, given.table, Asked(touched.names, start))
    if not memory:
        return found
    short = count_before(found, touched.first, touched.since) < memory
    if short.any():
        # not those that are young and were read whole
        short &= _first_dates(warehouse, given, touched.names) < start
    if not short.any():
        return found
    # such that seldom trade: all that there is
    start = np.where(short, ALWAYS, NEVER)
    whole = load(warehouse, given.table, Asked(touched.names, start))
    return together(found.only(~short[found.entity]), whole)


def _first_dates(warehouse: Warehouse, given: Input, names: npt.NDArray[np.object_]) -> Days:
    """Date of the oldest row of each entity, (n,)."""
    raw = RAW_INPUTS[given.table]
    found = dict(
        warehouse.sql(f"SELECT {raw.entity}, min({raw.date}) FROM raw.{given.table} GROUP BY 1")
    )
    return np.array([found.get(name, NEVER) for name in names], "datetime64[D]")


def _some_entities(
    warehouse: Warehouse,
    view: FeatureView,
    touched: Touched,
    own: Mapping[Any, Vintages],
    shared: Mapping[Any, Vintages],
) -> Iterator[Computed]:
    every = {**shared, **own}
    for number, state in enumerate(_states(own, shared, touched)):
        until = np.full(len(touched.names), np.iinfo(np.int64).min)
        until[state.codes] = state.until

        def read(given: Input, until: Ints = until, common: int = state.common) -> Rows:
            vintages = every[key_of(given)]
            if given.shared:
                return vintages.as_of(np.full(len(vintages.names), common))
            return vintages.as_of(until)

        names, first = touched.names[state.codes], touched.first[state.codes]
        values = evaluate(warehouse, view, read, dict(zip(names, first, strict=True)))
        ends = dict(zip(names, state.until, strict=True))
        values = values.chosen(
            values.known_at
            < np.array([ends.get(name, FOREVER) for name in values.names], "int64")[values.entity]
        )
        reached = pa.table(
            {
                "entity": pa.array(names, pa.string()),
                "first": pa.array(first),
                "begins": _instants(state.begins),
            }
        )
        yield Computed(number, values, reached, first.min())


def _states(
    own: Mapping[Any, Vintages], shared: Mapping[Any, Vintages], touched: Touched
) -> Iterator[State]:
    """The states that the touched entities went through, oldest first, as few as will do.

    Entities go through theirs at the same time, each up to an instant of its own, unless
    shared rows were corrected meanwhile: then an instant is the same for all.
    """
    size = len(touched.names)
    codes, instants = [], []
    corrected = False
    for vintages in own.values():
        code, instant = vintages.turning_points(touched.since)
        codes.append(code.astype("int64"))
        instants.append(instant)
    for vintages in shared.values():
        least = np.full(len(vintages.names), touched.since.min(initial=FOREVER))
        turns = np.unique(vintages.turning_points(least)[1])
        corrected |= len(turns) > 0
        code = np.repeat(np.arange(size), len(turns))
        instant = np.tile(turns, size)
        later = instant > touched.since[code]
        codes.append(code[later])
        instants.append(instant[later])
    pairs = np.unique(np.column_stack([np.concatenate(codes), np.concatenate(instants)]), axis=0)
    code, begins = (
        np.concatenate([np.arange(size), pairs[:, 0]]),
        np.concatenate([touched.since, pairs[:, 1]]),
    )
    order = np.lexsort((begins, code))
    code, begins = code[order], begins[order]
    until = np.r_[begins[1:], FOREVER]
    until[np.r_[code[1:] != code[:-1], True][: len(code)]] = FOREVER
    rank = np.arange(len(code)) - np.searchsorted(code, code)
    group = until if corrected else rank
    for value in np.unique(group):
        chosen = group == value
        common = int(value) if corrected else FOREVER
        yield State(code[chosen], begins[chosen], until[chosen], common)


def _all_at_once(warehouse: Warehouse, view: FeatureView, touched: Touched) -> Iterator[Computed]:
    """States of a view whose values are made of all entities' rows."""
    first, since = _whole_reach(touched)
    every = {}
    for key, given in raw_inputs(view).items():
        asked = _asked_whole(warehouse, given)
        start = np.full(len(asked.names), first)
        every[key] = (
            load(warehouse, given.table, asked)
            if given.shared
            else _load_own(
                warehouse, given, Touched(asked.names, start, np.full(len(start), since))
            )
        )
    turns = [
        vintages.strict_turning_points(since)
        if view.compares
        else vintages.turning_points(np.full(len(vintages.names), since))[1]
        for vintages in every.values()
    ]
    begins = np.unique(np.concatenate([[since], *turns])).astype("int64")
    for number, begin in enumerate(begins):
        until = begins[number + 1] if number + 1 < len(begins) else FOREVER

        def read(given: Input, until: int = until) -> Rows:
            vintages = every[key_of(given)]
            return vintages.as_of(np.full(len(vintages.names), until))

        values = evaluate(warehouse, view, read)
        reached = pa.table({"first": pa.array(np.array([first])), "begins": _instants([begin])})
        yield Computed(number, values.chosen(values.date >= first), reached, first)


# --------------------------------------------------------------------------- writing


def _write(warehouse: Warehouse, view: FeatureView, state: Computed) -> tuple[int, int]:
    """Write the values of one state at the dates that it reaches; rows added, replaced.

    A value that changed was not known before its state began; one that is gone was known
    until then.
    """
    values, reached, earliest = state.values, state.reached, state.earliest
    meets = (
        "s.entity = t.entity AND t.date >= s.first" if "entity" in reached.column_names else "true"
    )
    same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM c.{name}" for name in view.names)
    features = ", ".join(f"CAST(c.{name} AS {_type(view)}) AS {name}" for name in view.names)
    with warehouse.relation(values.table(view), "given"), warehouse.relation(reached, "reached"):
        warehouse.native.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE standing AS
            -- one row per value that holds at the dates reached, with when the state began
            SELECT t.*, s.begins
            FROM {view.table} t
            JOIN reached s ON {meets}
            WHERE t.date >= DATE '{earliest}' AND t.known_until IS NULL
            """
        )
        warehouse.native.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE fresh AS
            -- one row per new or changed value
            WITH computed AS (
                SELECT c.entity, c.date, {features}, c.known_at FROM given c
            )
            SELECT c.* REPLACE (
                CASE WHEN t.entity IS NULL THEN c.known_at
                    ELSE greatest(c.known_at, t.begins) END AS known_at
            )
            FROM computed c
            LEFT JOIN standing t ON t.entity = c.entity AND t.date = c.date
            WHERE t.entity IS NULL OR NOT ({same})
            """
        )
        warehouse.native.execute(
            """
            CREATE OR REPLACE TEMP TABLE ended AS
            -- one row per value that was replaced, or that is gone
            SELECT t.entity, t.date, coalesce(f.known_at, t.begins) AS at
            FROM standing t
            LEFT JOIN fresh f ON f.entity = t.entity AND f.date = t.date
            WHERE f.entity IS NOT NULL
                OR NOT EXISTS (FROM given c WHERE c.entity = t.entity AND c.date = t.date)
            """
        )
    (endings,) = warehouse.one("SELECT count(*) FROM ended") or (0,)
    if endings:
        _changed(
            warehouse,
            f"""
            UPDATE {view.table} AS t
            SET known_until = e.at
            FROM ended e
            WHERE t.known_until IS NULL AND t.date >= DATE '{earliest}'
                AND t.entity = e.entity AND t.date = e.date
            """,
        )
    columns = f"entity, date, {', '.join(view.names)}, known_at"
    added = _changed(
        warehouse,
        f"INSERT INTO {view.table} ({columns}) SELECT {columns} FROM fresh ORDER BY date, entity",
    )
    return added, int(endings)


def _insert(warehouse: Warehouse, view: FeatureView, values: Values) -> int:
    """Insert values that nothing stands in the way of, in the order of dates; rows added."""
    order = np.lexsort((values.entity, values.date))
    columns = f"entity, date, {', '.join(view.names)}, known_at"
    for begin in range(0, len(order), ROWS_AT_ONCE):
        part = values.at(order[begin : begin + ROWS_AT_ONCE])
        with warehouse.relation(part.table(view), "given"):
            _changed(warehouse, f"INSERT INTO {view.table} ({columns}) SELECT {columns} FROM given")
    return len(order)


def _is_there(warehouse: Warehouse, view: FeatureView) -> bool:
    schema, table = view.table.split(".")
    return bool(
        warehouse.one(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", schema, table
        )
    )


def _create_table(warehouse: Warehouse, view: FeatureView) -> None:
    values = ", ".join(f"{name} {_type(view)}" for name in view.names)
    warehouse.native.execute(
        f"""
        CREATE TABLE {view.table} (
            entity VARCHAR NOT NULL, date DATE NOT NULL, {values},
            known_at TIMESTAMPTZ NOT NULL, known_until TIMESTAMPTZ
        )
        """
    )


def _type(view: FeatureView) -> str:
    return "FLOAT" if view.stored == "float32" else "DOUBLE"


def _instants(microseconds: Any) -> pa.Array:
    return pa.array(np.asarray(microseconds, "int64"), pa.timestamp("us", tz="UTC"))


def _changed(warehouse: Warehouse, statement: str) -> int:
    """Rows that a statement added, changed or removed."""
    found = warehouse.native.execute(statement).fetchone()
    return int(found[0]) if found else 0


# --------------------------------------------------------------------------- keeping the books


def _require_windows(warehouse: Warehouse, view: FeatureView) -> None:
    """A window longer than any history would never be read: say so at once."""
    longest = warehouse.one(
        f"""
        -- the entity with the most values that hold
        SELECT entity, count(*) AS rows
        FROM {view.table}
        WHERE known_until IS NULL
        GROUP BY entity
        ORDER BY rows DESC, entity
        LIMIT 1
        """
    )
    if longest is not None and longest[1] < view.window:
        raise ShortHistoryError(
            f"feature view {view.name}: its window of {view.window} rows is longer than any "
            f"history; the longest, of {longest[0]}, has {longest[1]}"
        )


def _write_sessions(warehouse: Warehouse) -> None:
    """Keep the sessions of the exchange where SQL can read them."""
    calendar = sessions(warehouse.settings.calendar)
    if warehouse.one("SELECT count(*), max(session) FROM main.sessions") == (
        len(calendar.days),
        calendar.days[-1].astype(object),
    ):
        return
    warehouse.native.execute("DELETE FROM main.sessions")
    warehouse.append(exchange_sessions, calendar.table())


def _record(
    warehouse: Warehouse, view: FeatureView, present: Mapping[str, tuple[int, datetime | None]]
) -> None:
    counts = warehouse.one(
        f"""
        SELECT count(*), min(date), max(date), count(DISTINCT entity)
        FROM {view.table}
        """
    )
    assert counts is not None
    rows, first, last, entities = counts
    known = [newest for _, newest in present.values() if newest is not None]
    warehouse.upsert(
        views_table,
        {
            "view": view.name,
            "version": view.version,
            "entity": view.entity,
            "window": view.window,
            "horizon": view.horizon,
            "horizon_unit": view.horizon_unit,
            "declaration": view.declaration,
            "description": view.description,
            "rows": rows,
            "entities": entities,
            "first_date": first,
            "last_date": last,
            "watermark": max(known) if known else None,
            "reflected": {table: count for table, (count, _) in present.items()},
            "materialized_at": datetime.now(UTC),
        },
    )
