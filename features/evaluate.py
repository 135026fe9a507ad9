"""Evaluating a view on what was known: its SQL or its transform over the rows of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from db.errors import LookbackError
from features.catalog import feature_view
from features.rolling import Floats, Ints, Rows
from features.view import ROWS, FeatureView, Input
from features.vintages import NEVER, RAW_INPUTS

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# Rows that a transform gets at once: their columns stay in a core's cache.
ROWS_AT_ONCE = 32_000

# Rows of a raw input as they were known; every entity may have an instant of its own.
ReadRaw = Callable[[Input], Rows]


@dataclass(frozen=True)
class Values:
    """Values of a view, one row per entity and date; arrays of shape (n,).

    `entity` holds positions in `names`; `values` are float64 (n, F); `known_at` in
    microseconds since 1970, UTC.
    """

    names: npt.NDArray[np.object_]
    entity: npt.NDArray[np.int32]
    date: npt.NDArray[np.datetime64]
    values: Floats
    known_at: Ints

    def __len__(self) -> int:
        return len(self.entity)

    def chosen(self, rows: npt.NDArray[np.bool_]) -> Values:
        """These rows, by mask."""
        if rows.all():
            return self
        return Values(
            self.names, self.entity[rows], self.date[rows], self.values[rows], self.known_at[rows]
        )

    def at(self, rows: Ints) -> Values:
        """The rows at these positions."""
        return Values(
            self.names, self.entity[rows], self.date[rows], self.values[rows], self.known_at[rows]
        )

    @staticmethod
    def empty(view: FeatureView) -> Values:
        """No values."""
        return Values(
            np.empty(0, object),
            np.empty(0, "int32"),
            np.empty(0, "datetime64[D]"),
            np.empty((0, len(view.names))),
            np.empty(0, "int64"),
        )

    @staticmethod
    def concatenated(parts: Sequence[Values], view: FeatureView) -> Values:
        """Parts of different entities, as one, in the precision that the view is stored in."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return Values.empty(view)
        before = np.cumsum([0, *(len(part.names) for part in parts[:-1])])
        return Values(
            np.concatenate([part.names for part in parts]),
            np.concatenate(
                [part.entity + np.int32(lift) for part, lift in zip(parts, before, strict=True)]
            ),
            np.concatenate([part.date for part in parts]),
            np.concatenate([part.values.astype(view.stored) for part in parts]),
            np.concatenate([part.known_at for part in parts]),
        )

    def table(self, view: FeatureView) -> pa.Table:
        """For SQL: entity, date, the features (NULL where there is no value), known_at."""
        return pa.table(
            {
                "entity": pa.DictionaryArray.from_arrays(
                    self.entity, pa.array(self.names, pa.string())
                ),
                "date": pa.array(self.date),
                **{
                    name: pa.array(self.values[:, number], from_pandas=True)
                    for number, name in enumerate(view.names)
                },
                "known_at": instants_of(self.known_at),
            }
        )


Key = tuple[str, tuple[str, ...], str, bool]


def raw_inputs(view: FeatureView) -> dict[Key, Input]:
    """Raw tables that a view reads, itself and through other views, by what is read of them.

    The memory of each counts in its own rows and covers the whole way.
    """
    found: dict[Key, Input] = {}
    for given in view.inputs:
        beneath = [given] if given.is_raw else raw_inputs(feature_view(given.table)).values()
        for raw in beneath:
            memory = raw.memory
            if not given.is_raw:
                memory = None if None in (given.memory, memory) else given.memory + memory  # type: ignore[operator]
            one = replace(raw, shared=raw.shared or given.shared, memory=memory)
            known = found.get(key_of(one))
            if known is not None:
                both = (known.memory, one.memory)
                one = replace(one, memory=None if None in both else max(both))  # type: ignore[type-var]
            found[key_of(one)] = one
    return found


def key_of(given: Input) -> Key:
    """What is read of a raw table: the table, which entities, and for whom."""
    return (given.table, given.entities, given.without, given.shared)


def evaluate(
    warehouse: Warehouse,
    view: FeatureView,
    read: ReadRaw,
    first: Mapping[str, np.datetime64] | None = None,
) -> Values:
    """The view's values at the dates wanted: of each entity from `first` on, None for all.

    Raises
    ------
    LookbackError
        The SQL or the transform fails; the line names the view and, where it is one
        symbol's rows that a transform cannot take, the symbol.
    """
    inputs = {given.table: _read_input(warehouse, given, read) for given in view.inputs}
    if view.sql is not None:
        found = _by_sql(warehouse, view, inputs)
    else:
        found = transformed(view, inputs, first)
    # an infinite value is none: a price of zero gives no return
    found.values[np.isinf(found.values)] = np.nan
    if first is not None:
        earliest = np.array([first.get(name, NEVER) for name in found.names], "datetime64[D]")
        found = found.chosen(found.date >= earliest[found.entity])
    return _one_a_day(view, found)


def _read_input(warehouse: Warehouse, given: Input, read: ReadRaw) -> Rows:
    if given.is_raw:
        return read(given)
    upstream = feature_view(given.table)

    def read_beneath(raw: Input) -> Rows:
        return read(replace(raw, shared=raw.shared or given.shared))

    found = evaluate(warehouse, upstream, read_beneath)
    wanted = slice(None)
    if given.entities:
        chosen = np.isin(found.names.astype(str), given.entities)
        found = found.chosen(chosen[found.entity])
    return Rows(
        found.names,
        found.entity[wanted],
        found.date[wanted],
        found.known_at[wanted],
        {name: found.values[wanted, number] for number, name in enumerate(upstream.names)},
    )


def _by_sql(warehouse: Warehouse, view: FeatureView, inputs: Mapping[str, Rows]) -> Values:
    import duckdb

    registered = {f"input_{name}": rows for name, rows in inputs.items()}
    features = ", ".join(f"CAST({name} AS DOUBLE) AS {name}" for name in view.names)
    ctes = ", ".join(f"{name} AS (FROM input_{name})" for name in inputs)
    try:
        for name, rows in registered.items():
            warehouse.native.register(name, _arrow(rows, name.removeprefix("input_")))
        found = warehouse.native.execute(
            f"""
            WITH {ctes},
            sessions AS (FROM main.sessions)
            SELECT CAST(entity AS VARCHAR) AS entity, CAST(date AS DATE) - DATE '1970-01-01' AS day,
                {features}, epoch_us(CAST(known_at AS TIMESTAMPTZ)) AS known
            FROM (
{view.sql}
            )
            """
        ).to_arrow_table()
    except duckdb.Error as error:
        cause = " ".join(str(error).split("LINE ")[0].split())
        raise LookbackError(f"feature view {view.name}: its SQL fails: {cause}") from None
    finally:
        for name in registered:
            warehouse.native.unregister(name)
    for name in ("entity", "day", "known"):
        if found[name].null_count:
            raise LookbackError(
                f"feature view {view.name}: its SQL gives {found[name].null_count} rows without "
                f"{ {'day': 'date', 'known': 'known_at'}.get(name, name) }"
            )
    return _sorted_values(view, found)


def _sorted_values(view: FeatureView, found: pa.Table) -> Values:
    codes = found["entity"].combine_chunks().dictionary_encode()
    names = np.array(codes.dictionary.to_pylist(), dtype=object)
    order_of_names = np.argsort(names)
    rank = np.empty(len(names), "int32")
    rank[order_of_names] = np.arange(len(names))
    entity = rank[codes.indices.to_numpy()] if len(names) else np.empty(0, "int32")
    day = found["day"].to_numpy().astype("int64")
    order = np.lexsort((day, entity))
    values = np.column_stack(
        [found[name].to_numpy().astype("float64")[order] for name in view.names]
    )
    return Values(
        names[order_of_names],
        entity[order],
        day[order].astype("datetime64[D]"),
        values,
        found["known"].to_numpy()[order],
    )


def _arrow(rows: Rows, name: str) -> pa.Table:
    """Rows of an input for SQL, under the names that its table has."""
    raw = RAW_INPUTS.get(name)
    entity, date = (raw.entity, raw.date) if raw else ("entity", "date")
    columns = dict(rows.columns)
    if "session" in columns and date == "session":
        # `session` is the date in SQL, and its number is in `sessions`
        columns.pop("session")
        for flag in ("week_end", "month_end"):
            columns[flag] = columns[flag].astype(bool)
    return pa.table(
        {
            entity: pa.DictionaryArray.from_arrays(rows.entity, pa.array(rows.names, pa.string())),
            date: pa.array(rows.date),
            **{key: pa.array(column, from_pandas=True) for key, column in columns.items()},
            "known_at": instants_of(rows.known_at),
        }
    )


def instants_of(microseconds: Ints | Sequence[int]) -> pa.Array:
    """Instants for SQL, from microseconds since 1970, UTC."""
    return pa.array(np.asarray(microseconds, "int64"), pa.timestamp("us", tz="UTC"))


def transformed(
    view: FeatureView,
    inputs: Mapping[str, Rows],
    first: Mapping[str, np.datetime64] | None = None,
) -> Values:
    """What a view's transform makes of its inputs, by name; from `first` on of each entity.

    Raises
    ------
    LookbackError
        It fails; the line names the view and the symbol whose rows it cannot take.
    """
    if view.whole:
        return _transformed(view, dict(inputs))
    parts = list(_parts(view, inputs, first))
    if not parts:
        return Values.empty(view)
    given = _transformed(view, parts[0])
    if given.names is not parts[0][view.own_inputs[0].table].names:
        tables = [given, *(_transformed(view, part) for part in parts[1:])]
        return _sorted_values(view, pa.concat_tables([_by_day(one.table(view)) for one in tables]))
    whole = _Filled(view, given.names, sum(_size(view, part) for part in parts))
    whole.add(given)
    for part in parts[1:]:
        whole.add(_transformed(view, part))
    return whole.values()


class _Filled:
    """Values of all parts, put where they belong as they come: none are held twice."""

    def __init__(self, view: FeatureView, names: npt.NDArray[np.object_], size: int) -> None:
        self._names = names
        self._count = 0
        self._entity = np.empty(size, "int32")
        self._date = np.empty(size, "datetime64[D]")
        # each feature's values lie together, as they are read and written
        self._values = np.empty((len(view.names), size)).T
        self._known_at = np.empty(size, "int64")

    def add(self, part: Values) -> None:
        """Append the values of some entities."""
        rows = slice(self._count, self._count + len(part))
        self._entity[rows], self._date[rows] = part.entity, part.date
        self._values[rows], self._known_at[rows] = part.values, part.known_at
        self._count += len(part)

    def values(self) -> Values:
        """All that were added."""
        rows = slice(self._count)
        return Values(
            self._names,
            self._entity[rows],
            self._date[rows],
            self._values[rows],
            self._known_at[rows],
        )


def _size(view: FeatureView, inputs: Mapping[str, Rows]) -> int:
    """Rows of the leading input that values are wanted for."""
    rows = inputs[(view.own_inputs or view.inputs)[0].table]
    return len(rows) if rows.asked is None else len(rows.asked)


def _by_day(table: pa.Table) -> pa.Table:
    """A table of values in the form that SQL gives them in."""
    days = table["date"].cast(pa.int32())
    known = table["known_at"].cast(pa.int64())
    return (
        table.drop_columns(["date", "known_at"])
        .set_column(0, "entity", table["entity"].cast(pa.string()))
        .append_column("day", days)
        .append_column("known", known)
    )


def _parts(
    view: FeatureView, inputs: Mapping[str, Rows], first: Mapping[str, np.datetime64] | None
) -> Iterator[dict[str, Rows]]:
    """Inputs cut at borders of entities; shared ones are in every part."""
    own = {given.table: inputs[given.table] for given in view.own_inputs}
    leading = next(iter(own.values()))
    own = {table: _recoded(rows, leading.names) for table, rows in own.items()}
    for begin, end in _entity_spans(leading.entity):
        part = dict(inputs)
        low, high = leading.entity[begin], leading.entity[end - 1]
        for table, rows in own.items():
            start, stop = np.searchsorted(rows.entity, (low, high + 1))
            part[table] = _between(rows, int(start), int(stop))
        if first is not None:
            table, rows = next(iter(own)), part[next(iter(own))]
            wanted = np.array(
                [first.get(name, NEVER) for name in rows.names[low : high + 1]], "datetime64[D]"
            )
            asked = np.flatnonzero(rows.date >= wanted[rows.entity - low])
            if not len(asked):
                continue
            part[table] = replace(rows, asked=asked)
        yield part


def _entity_spans(entity: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Stretches of whole entities, of about ROWS_AT_ONCE rows each."""
    begin = 0
    while begin < len(entity):
        end = min(begin + ROWS_AT_ONCE, len(entity))
        # to the end of the entity that the last row belongs to
        end = int(np.searchsorted(entity, entity[end - 1], side="right"))
        yield begin, end
        begin = end


def _recoded(rows: Rows, names: npt.NDArray[np.object_]) -> Rows:
    """Rows with the entity codes of another list of names; those of other entities go."""
    if rows.names is names:
        return rows
    codes = {name: code for code, name in enumerate(names)}
    entity = np.array([codes.get(name, -1) for name in rows.names], "int32")[rows.entity]
    keep = np.flatnonzero(entity >= 0)
    keep = keep[np.argsort(entity[keep], kind="stable")]
    return Rows(
        names,
        entity[keep],
        rows.date[keep],
        rows.known_at[keep],
        {name: column[keep] for name, column in rows.columns.items()},
    )


def _between(rows: Rows, start: int, stop: int) -> Rows:
    return Rows(
        rows.names,
        rows.entity[start:stop],
        rows.date[start:stop],
        rows.known_at[start:stop],
        {name: column[start:stop] for name, column in rows.columns.items()},
    )


def _transformed(view: FeatureView, inputs: dict[str, Rows]) -> Values:
    """What the transform gives for these rows; a failure is traced to its symbol."""
    assert view.transform is not None
    try:
        with np.errstate(all="ignore"):  # NaN says that there is no value
            return _result(view, inputs, view.transform(inputs))
    except Exception as error:
        if not view.whole:
            _blame(view, inputs)
        raise LookbackError(
            f"feature view {view.name} failed: {type(error).__name__}: {_one_line(error)}"
        ) from error


def _blame(view: FeatureView, inputs: dict[str, Rows]) -> None:
    """Go through the entities one by one and name the first that the transform fails for."""
    assert view.transform is not None
    leading = view.own_inputs[0].table
    for code in np.unique(inputs[leading].entity):
        alone = dict(inputs)
        for given in view.own_inputs:
            rows = inputs[given.table]
            start, stop = np.searchsorted(rows.entity, (code, code + 1))
            alone[given.table] = _between(rows, int(start), int(stop))
        try:
            with np.errstate(all="ignore"):
                _result(view, alone, view.transform(alone))
        except Exception as error:
            name = inputs[leading].names[code]
            raise LookbackError(
                f"feature view {view.name} failed for {name}: "
                f"{type(error).__name__}: {_one_line(error)}"
            ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _result(view: FeatureView, inputs: dict[str, Rows], given: Any) -> Values:
    if not isinstance(given, Mapping):
        table = given if isinstance(given, pa.Table) else pa.Table.from_pandas(given)
        return _from_table(view, table)
    missing = [name for name in view.names if name not in given]
    if missing:
        raise LookbackError(f"its transform gives no {', '.join(missing)}")
    rows, size = inputs[(view.own_inputs or view.inputs)[0].table], _size(view, inputs)
    for name in (*view.names, *([ROWS] if ROWS in given else [])):
        if np.shape(given[name]) != (size,):
            raise LookbackError(f"{name} has shape {np.shape(given[name])}, wanted is ({size},)")
    known, complete = _known(view, inputs, rows)
    values = Values(
        rows.names,
        rows.now(rows.entity),
        rows.now(rows.date),
        # each feature's values lie together, as they are read and written
        np.array([given[name] for name in view.names], dtype="float64").T,
        known,
    )
    if ROWS in given:
        complete = complete & np.asarray(given[ROWS], dtype=bool)
    return values.chosen(complete)


def _from_table(view: FeatureView, table: pa.Table) -> Values:
    """A transform's own rows: entity, date, the features and known_at."""
    missing = {"entity", "date", "known_at", *view.names} - set(table.column_names)
    if missing:
        raise LookbackError(f"its transform gives no {', '.join(sorted(missing))}")
    days = table["date"].cast(pa.timestamp("us")).cast(pa.date32()).cast(pa.int32())
    known = table["known_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    columns = {name: table[name].cast(pa.float64()) for name in view.names}
    return _sorted_values(
        view,
        pa.table(
            {
                "entity": table["entity"].cast(pa.string()),
                "day": days,
                **columns,
                "known": known,
            }
        ),
    )


def _known(
    view: FeatureView, inputs: dict[str, Rows], rows: Rows
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """When each value could be known, and whether all inputs have a row of its date: (m,) each.

    Known when the latest row of its memory was. A value that does not wait for all inputs
    would be another one when the last of them came.
    """
    known, complete = rows.known_at.copy(), np.ones(len(rows), bool)
    memory = 0
    for given in view.inputs:
        other = inputs[given.table]
        memory = max(memory, len(rows) if given.memory is None else given.memory)
        if other is rows:
            continue
        of_date = _known_by_date(rows, other, shared=given.shared)
        complete &= of_date > 0
        known = np.maximum(known, of_date)
    return replace(rows, known_at=known).newest(memory), rows.now(complete)


def _known_by_date(rows: Rows, other: Rows, *, shared: bool) -> Ints:
    """Latest `known_at` of another input's rows of each row's date, (n,); 0 without one."""
    latest = np.zeros(len(rows), "int64")
    if not len(other):
        return latest
    if shared:
        dates, position = np.unique(other.date, return_inverse=True)
        newest = np.zeros(len(dates), "int64")
        np.maximum.at(newest, position, other.known_at)
        at = np.searchsorted(dates, rows.date)
        found = at < len(dates)
        found[found] = dates[at[found]] == rows.date[found]
        latest[found] = newest[at[found]]
        return latest
    theirs, mine = _day_key(other), _day_key(rows)
    at = np.searchsorted(theirs, mine)
    found = at < len(theirs)
    found[found] = theirs[at[found]] == mine[found]
    latest[found] = other.known_at[at[found]]
    return latest


def _day_key(rows: Rows) -> Ints:
    """Ascending over rows sorted by entity and date, (n,)."""
    key: Ints = (rows.entity.astype("int64") << 32) + rows.date.astype("int64")
    return key


def _one_a_day(view: FeatureView, found: Values) -> Values:
    again = np.flatnonzero(
        (found.entity[1:] == found.entity[:-1]) & (found.date[1:] == found.date[:-1])
    )
    if len(again):
        row = again[0]
        raise LookbackError(
            f"feature view {view.name} gives several rows for {found.names[found.entity[row]]} on "
            f"{found.date[row]}, where one is wanted; does it read more than one source?"
        )
    return found
