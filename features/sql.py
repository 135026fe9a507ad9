"""Views in SQL: table macros of the store, which its published copies carry.

For each view and version `features.<view>_as_of(ts)` gives its values,
`features.<view>_windows(ts)` its windows, and `features.<view>_windows_on(ts, day)` those that
end on a day, as they could be seen at an instant, by the rules of `features.windows`;
`features.<view>_<version>_as_of(ts)` and so on are those of one version. A window is cut when
it is asked for, so the store holds each value once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.view import FeatureView

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# The step of each row, in the unit of the view's horizon: as `features.windows.steps`.
STEP = {
    "session": "s.number",
    "week": "(v.date - DATE '1970-01-05') // 7",
    "month": "12 * year(v.date) + month(v.date)",
}
# Calendar days that so many steps take at most, and some to spare.
DAYS_A_STEP, DAYS_SPARE = {"session": 1.5, "week": 7.0, "month": 31.0}, 30


def write_macros(warehouse: Warehouse, view: FeatureView) -> None:
    """Write a view's macros; those without a version are of the one written last."""
    for name in (f"features.{view.name}", view.table):
        warehouse.native.execute(
            f"CREATE OR REPLACE MACRO {name}_as_of(ts) AS TABLE {_as_of(view)}"
        )
        warehouse.native.execute(
            f"CREATE OR REPLACE MACRO {name}_windows(ts) AS TABLE {_windows(view)}"
        )
        warehouse.native.execute(
            f"CREATE OR REPLACE MACRO {name}_windows_on(ts, day) AS TABLE {_windows(view, on=True)}"
        )


def _stretches(view: FeatureView, *, on: bool = False) -> str:
    """CTEs that end in `valued`: visible values by their unbroken stretch.

    With `on`, of as many dates up to `day` as a window and what it looks back over can span
    without a gap that ends its stretch.
    """
    rows = view.window + max(feature.memory for feature in view.features)
    days = int(rows * (view.largest_gap + 1) * DAYS_A_STEP[view.horizon_unit]) + DAYS_SPARE
    reach = f"AND v.date <= day AND v.date > CAST(day AS DATE) - {days}" if on else ""
    calendar = (
        "LEFT JOIN main.sessions s ON s.session = v.date" if view.horizon_unit == "session" else ""
    )
    return f"""
        WITH visible AS (
            -- one row per entity and date: the value that held at ts
            SELECT v.*, {STEP[view.horizon_unit]} AS step
            FROM {view.table} v
            {calendar}
            WHERE v.known_at <= ts AND (v.known_until IS NULL OR v.known_until > ts)
                {reach}
        ),
        breaks AS (
            -- price breaks as judged by ts; a jump is none, nor is a split that is known
            SELECT DISTINCT b.entity, b.session, b.until_session
            FROM raw.price_breaks_as_of(ts) b
            ANTI JOIN raw.corporate_actions_as_of(ts) a
                ON a.entity = b.entity AND a.ex_date = b.session AND a.kind = 'split'
            WHERE b.kind <> 'jump'
        ),
        edges AS (
            SELECT entity, session AS edge FROM breaks
            UNION
            SELECT entity, until_session + 1 FROM breaks WHERE until_session IS NOT NULL
        ),
        parted AS (
            SELECT v.*, e.edge,
                coalesce(
                    step - lag(step) OVER (PARTITION BY v.entity ORDER BY v.date)
                        > {view.largest_gap + 1},
                    false
                ) AS after_gap
            FROM visible v
            ASOF LEFT JOIN edges e ON e.entity = v.entity AND v.date >= e.edge
        ),
        kept AS (
            SELECT p.*,
                count(*) FILTER (after_gap) OVER (PARTITION BY p.entity ORDER BY p.date) AS gaps
            FROM parted p
        ),
        numbered AS (
            -- rows of a stretch before each, those in a spike left out
            SELECT k.*,
                row_number() OVER (PARTITION BY k.entity, k.edge, k.gaps ORDER BY k.date) - 1
                    AS since
            FROM kept k
            ANTI JOIN breaks b
                ON b.entity = k.entity AND k.date BETWEEN b.session AND b.until_session
        ),
        valued AS (
            SELECT entity, date, known_at, edge, gaps,
                {", ".join(_value(view))}
            FROM numbered
        )
    """


def _value(view: FeatureView) -> list[str]:
    """Features, NULL where they look back over the beginning of their stretch."""
    return [
        f"CASE WHEN since >= {feature.memory} THEN {feature.name} END AS {feature.name}"
        if feature.memory
        else feature.name
        for feature in view.features
    ]


def _as_of(view: FeatureView) -> str:
    return f"""
        {_stretches(view)}
        -- one row per entity and date
        SELECT entity, date, {", ".join(view.names)}, known_at
        FROM valued
    """


def _windows(view: FeatureView, *, on: bool = False) -> str:
    lists = [f"CAST(list({name}) OVER w AS FLOAT[{view.window}]) AS {name}" for name in view.names]
    complete = [f"count({name}) OVER w = {view.window}" for name in view.names]
    return f"""
        {_stretches(view, on=on)}
        -- one row per window: entity and the date of its last value; oldest value first
        SELECT entity, date AS as_of, {", ".join(lists)}, max(known_at) OVER w AS known_at
        FROM valued
        WINDOW w AS (
            PARTITION BY entity, edge, gaps ORDER BY date
            ROWS BETWEEN {view.window - 1} PRECEDING AND CURRENT ROW
        )
        QUALIFY {" AND ".join(complete)} {"AND date = day" if on else ""}
    """
