"""Scores of a night: extremes of a cross-section, forecasts of series with what was known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from db.errors import LookbackError
from models.examples import targets_of
from models.recipes import Recipe
from signals.declaration import SIGNALS, Signal
from signals.report.reading import FIRST_JUDGED, FIRST_SCORED, Row, rows

SHOWN = 5  # of a cross-section, from each end
HISTORY_DATES = 26  # of a row's small picture
HISTORY_VALUES = {"session": 60, "week": 52, "month": 36}
# A score that is older than this belongs to an entity that has ended.
MEMORY_DAYS = 75
FEW_ENTITIES = 8
CROSS_SECTIONS = ("direction", "rank")


@dataclass(frozen=True)
class Score:
    """One entity's place in a cross-section.

    Attributes
    ----------
    value, rank : of the newest date; the rank lies in 0..1, None where there is nothing to rank.
    change : of the rank since the date before; None if it was not scored then.
    history : ranks of the newest dates, oldest first, this one included; None where not scored.
    """

    entity: str
    value: float
    rank: float | None
    change: float | None
    history: tuple[float | None, ...]


@dataclass(frozen=True)
class CrossSection:
    """Newest scores of many entities.

    Attributes
    ----------
    highest, lowest : by value, the most extreme first.
    risers, fallers : by change of rank since the date before.
    values : of all entities, ascending.
    """

    highest: tuple[Score, ...]
    lowest: tuple[Score, ...]
    risers: tuple[Score, ...]
    fallers: tuple[Score, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """A forecast for a date, and what came, where it is known."""

    target: date
    horizon: int
    value: float
    q05: float | None
    q95: float | None
    realised: float | None = None


@dataclass(frozen=True)
class Forecast:
    """The newest forecasts of one series.

    Attributes
    ----------
    entity : series.
    last : newest value of the target that the forecast could see, None where unknown.
    known : such values by date, oldest first.
    ahead : by horizon.
    past : forecasts of the shortest horizon whose outcome is known, oldest first.
    """

    entity: str
    last: float | None
    known: tuple[tuple[date, float], ...]
    ahead: tuple[Point, ...]
    past: tuple[Point, ...]

    @property
    def ends(self) -> tuple[Point, ...]:
        """The nearest and the farthest forecast."""
        return self.ahead if len(self.ahead) < 3 else (self.ahead[0], self.ahead[-1])


@dataclass(frozen=True)
class Scores:
    """The newest scores of one signal.

    Attributes
    ----------
    name, unit : of the signal.
    task : `level`, `changes`, `path`, `direction` or `rank`; None if no version tells.
    model, model_version : that scored.
    role : live, or backfill where no night has scored.
    as_of, before : newest date scored, and the one before it.
    published_at : UTC, of the newest row.
    tradable_from : first session that could trade on it.
    age : sessions from `as_of` to the session of the page.
    horizon, horizon_unit, horizons : the shortest; its unit; all of them.
    rows : of the newest date.
    cross_section, forecasts : one of them.
    """

    name: str
    unit: str
    task: str | None
    model: str
    model_version: str
    role: str
    as_of: date
    before: date | None
    published_at: datetime
    tradable_from: date
    age: int
    horizon: int
    horizon_unit: str
    horizons: tuple[int, ...]
    rows: int
    cross_section: CrossSection | None
    forecasts: tuple[Forecast, ...]


def read_scores(connection: duckdb.DuckDBPyConnection, session: date) -> list[Scores]:
    """Newest scores of every signal by `session`, in the order of declaration."""
    names = [
        row["signal"]
        for row in rows(
            connection,
            """
            SELECT DISTINCT signal
            FROM main.signals
            WHERE role <> 'challenger' AND as_of BETWEEN ? AND ?
            """,
            date.fromordinal(session.toordinal() - MEMORY_DAYS),
            session,
        )
    ]
    order = list(SIGNALS)
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    return [_scores(connection, name, session) for name in names]


def _scores(connection: duckdb.DuckDBPyConnection, name: str, session: date) -> Scores:
    dates = _dates(connection, name, session)
    newest = _on(connection, name, dates[-1:])
    first = newest[0]
    recipe = _recipe(connection, first)
    horizons = tuple(sorted({row["horizon"] for row in newest}))
    shortest = [row for row in newest if row["horizon"] == horizons[0]]
    declared = SIGNALS.get(name)
    across = _orders(declared, recipe, len(shortest))
    return Scores(
        name,
        declared.unit if declared else "",
        recipe.task if recipe else None,
        first["model"],
        first["model_version"],
        first["role"],
        dates[-1],
        dates[-2] if len(dates) > 1 else None,
        max(row["published_at"] for row in newest),
        max(row["tradable_from"] for row in newest),
        _age(connection, dates[-1], session),
        horizons[0],
        first["horizon_unit"],
        horizons,
        len(newest),
        _cross_section(connection, name, dates, horizons[0]) if across else None,
        () if across else tuple(_forecasts(connection, name, newest, recipe, session)),
    )


def _orders(declared: Signal | None, recipe: Recipe | None, entities: int) -> bool:
    """Whether a signal says who stands above whom, and forecasts no value."""
    if recipe is not None:
        return recipe.task in CROSS_SECTIONS
    return (declared is not None and declared.is_of_texts) or entities >= FEW_ENTITIES


def _dates(connection: duckdb.DuckDBPyConnection, name: str, session: date) -> list[date]:
    """Newest dates of a signal, oldest first."""
    found = rows(
        connection,
        """
        SELECT DISTINCT as_of
        FROM main.signals
        WHERE signal = ? AND as_of <= ? AND role <> 'challenger'
        ORDER BY as_of DESC
        LIMIT ?
        """,
        name,
        session,
        HISTORY_DATES,
    )
    return [row["as_of"] for row in reversed(found)]


def _on(connection: duckdb.DuckDBPyConnection, name: str, dates: Sequence[date]) -> list[Row]:
    return rows(
        connection,
        f"""
        -- one row an entity, date and horizon
        SELECT *
        FROM main.signals
        WHERE signal = ? AND as_of BETWEEN ? AND ? AND role <> 'challenger'
        QUALIFY {FIRST_SCORED}
        ORDER BY as_of, horizon, entity
        """,
        name,
        dates[0],
        dates[-1],
    )


def _recipe(connection: duckdb.DuckDBPyConnection, score: Row) -> Recipe | None:
    found = rows(
        connection,
        "SELECT recipe FROM main.model_versions WHERE model = ? AND model_version = ?",
        score["model"],
        score["model_version"],
    )
    try:
        return Recipe.from_json(json.loads(found[0]["recipe"])) if found else None
    except (LookbackError, KeyError, TypeError):  # of an older or a newer Lookback
        return None


def _age(connection: duckdb.DuckDBPyConnection, as_of: date, session: date) -> int:
    (found,) = rows(
        connection,
        "SELECT count(*) AS age FROM main.sessions WHERE session > ? AND session <= ?",
        as_of,
        session,
    )
    return int(found["age"])


def _cross_section(
    connection: duckdb.DuckDBPyConnection, name: str, dates: Sequence[date], horizon: int
) -> CrossSection:
    newest, before = (
        [row for row in _on(connection, name, [day]) if row["horizon"] == horizon]
        for day in (dates[-1], dates[max(0, len(dates) - 2)])
    )
    ranked = {row["entity"]: row["rank"] for row in before if row["as_of"] != dates[-1]}
    change = {
        row["entity"]: row["rank"] - ranked[row["entity"]]
        for row in newest
        if row["rank"] is not None and ranked.get(row["entity"]) is not None
    }
    newest.sort(key=lambda row: (-row["value"], row["entity"]))
    moved = [row for row in newest if change.get(row["entity"])]
    moved.sort(key=lambda row: (change[row["entity"]], row["entity"]))
    sides = (
        newest[: min(SHOWN, (len(newest) + 1) // 2)],
        newest[::-1][: min(SHOWN, len(newest) // 2)],
        [row for row in moved[::-1][:SHOWN] if change[row["entity"]] > 0],
        [row for row in moved[:SHOWN] if change[row["entity"]] < 0],
    )
    shown = {row["entity"] for side in sides for row in side}
    history = _ranks(connection, name, dates, horizon, sorted(shown))
    highest, lowest, risers, fallers = (
        tuple(
            Score(
                row["entity"],
                row["value"],
                row["rank"],
                change.get(row["entity"]),
                tuple(history.get((row["entity"], day)) for day in dates),
            )
            for row in side
        )
        for side in sides
    )
    values = tuple(row["value"] for row in reversed(newest))
    return CrossSection(highest, lowest, risers, fallers, values)


def _ranks(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    dates: Sequence[date],
    horizon: int,
    entities: Sequence[str],
) -> dict[tuple[str, date], float]:
    """Ranks of some entities by date."""
    found = rows(
        connection,
        f"""
        -- one row an entity and date
        SELECT entity, as_of, "rank"
        FROM main.signals
        WHERE signal = ? AND as_of BETWEEN ? AND ? AND horizon = ? AND role <> 'challenger'
            AND list_contains(?, entity) AND "rank" IS NOT NULL
        QUALIFY {FIRST_SCORED}
        """,
        name,
        dates[0],
        dates[-1],
        horizon,
        list(entities),
    )
    return {(row["entity"], row["as_of"]): row["rank"] for row in found}


# --------------------------------------------------------------------------- series


def _forecasts(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    newest: Sequence[Row],
    recipe: Recipe | None,
    session: date,
) -> list[Forecast]:
    by_entity: dict[str, list[Row]] = {}
    for row in newest:
        by_entity.setdefault(row["entity"], []).append(row)
    found = []
    for entity, scored in sorted(by_entity.items()):
        known = _known(connection, scored[0], recipe)
        ahead = [
            Point(day, row["horizon"], row["value"], row["q05"], row["q95"])
            for row in scored
            if (day := _target(connection, row, known)) is not None
        ]
        past = _past(connection, name, scored[0], session)
        last = known[-1][1] if known else None
        found.append(Forecast(entity, last, tuple(known), tuple(ahead), tuple(past)))
    return found


def _known(
    connection: duckdb.DuckDBPyConnection, score: Row, recipe: Recipe | None
) -> list[tuple[date, float]]:
    """Newest values of the target that the score could see, oldest first."""
    found = rows(
        connection,
        "SELECT declaration FROM main.feature_views WHERE view = ? AND version = ?",
        score["feature_view"],
        score["feature_version"],
    )
    if not found:
        return []
    named = _named(recipe)
    # the rows of a view of one economy are not named after the series
    feature = {series: target for target, series in named.items()}.get(score["entity"])
    chosen = feature or json.loads(found[0]["declaration"])["target"]
    table = _quoted(f"{score['feature_view']}_{score['feature_version']}")
    values = rows(
        connection,
        f"""
        SELECT date, {_quoted(chosen)} AS value
        FROM features.{table}
        WHERE known_at <= ? AND (known_until IS NULL OR known_until > ?)
            AND (entity = ? OR ?) AND {_quoted(chosen)} IS NOT NULL
        ORDER BY date DESC
        LIMIT ?
        """,
        score["known_at"],
        score["known_at"],
        score["entity"],
        feature is not None,
        HISTORY_VALUES.get(score["horizon_unit"], 60),
    )
    return [(row["date"], row["value"]) for row in reversed(values)]


def _named(recipe: Recipe | None) -> Mapping[str, str]:
    try:
        return targets_of(recipe) if recipe else {}
    except LookbackError:  # a view that is declared no longer
        return {}


def _target(
    connection: duckdb.DuckDBPyConnection, score: Row, known: Sequence[tuple[date, float]]
) -> date | None:
    """Date that a forecast is for: months follow the newest known one, sessions `as_of`."""
    if score["horizon_unit"] == "month":
        last = known[-1][0] if known else score["as_of"]
        months = last.year * 12 + last.month - 1 + score["horizon"]
        return date(months // 12, months % 12 + 1, 1)
    step = "week_end" if score["horizon_unit"] == "week" else "session"
    found = rows(
        connection,
        f"""
        SELECT DISTINCT {step} AS target
        FROM main.sessions
        WHERE {step} > ?
        ORDER BY target
        LIMIT 1 OFFSET ?
        """,
        score["as_of"],
        score["horizon"] - 1,
    )
    return found[0]["target"] if found else None


def _past(
    connection: duckdb.DuckDBPyConnection, name: str, score: Row, session: date
) -> list[Point]:
    found = rows(
        connection,
        f"""
        -- one row a date
        SELECT target_date, horizon, value, q05, q95, realised
        FROM main.outcomes
        WHERE signal = ? AND entity = ? AND horizon = ? AND horizon_unit = ?
            AND role <> 'challenger' AND target_date <= ?
        QUALIFY {FIRST_JUDGED}
        ORDER BY target_date DESC, as_of
        LIMIT ?
        """,
        name,
        score["entity"],
        score["horizon"],
        score["horizon_unit"],
        session,
        HISTORY_VALUES.get(score["horizon_unit"], 60),
    )
    return [
        Point(
            row["target_date"],
            row["horizon"],
            row["value"],
            row["q05"],
            row["q95"],
            row["realised"],
        )
        for row in reversed(found)
    ]


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
