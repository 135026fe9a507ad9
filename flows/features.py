"""The commands about feature views: what there is, bringing it up to date, looking at windows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import duckdb

from db.clock import night
from db.errors import LookbackError, UsageError
from db.publishing import open_published
from db.sessions import sessions
from db.settings import Settings
from features.catalog import feature_view, feature_views
from features.materialize import Materialized

BLOCK_BYTES = 262_144  # of DuckDB's files
COLUMNS = (
    "view",
    "version",
    "declared",
    "window",
    "horizon",
    "rows",
    "entities",
    "first_date",
    "last_date",
    "coverage",
    "windows",
    "watermark",
    "mib",
)


def list_views(settings: Settings, *, count_windows: bool) -> list[dict[str, Any]]:
    """Every declared view and every version in the newest publication, a row each.

    `declared` says whether this version is the one of the declaration; `coverage` is the share
    of the last date's values that are there; `windows` (None unless asked for) how many can be
    read as of now; `mib` what the values take on disk.

    Raises
    ------
    StoreError
        Nothing is published.
    """
    declared = feature_views()
    with open_published(settings) as connection:
        stored = connection.execute(
            """
            SELECT view, version, "window", horizon || ' ' || horizon_unit AS horizon, "rows",
                entities, first_date, last_date, watermark, declaration
            FROM feature_views
            ORDER BY view, materialized_at
            """
        )
        names = [column[0] for column in stored.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in stored.fetchall()]
        for row in rows:
            view = declared.get(row["view"])
            row["declared"] = view is not None and view.version == row["version"]
            row["windows"] = None
            row.update(_measured(connection, row, count_windows=count_windows))
            del row["declaration"]
    there = {(row["view"], row["version"]) for row in rows}
    for view in declared.values():
        if (view.name, view.version) not in there:
            rows.append(
                dict.fromkeys(COLUMNS)
                | {
                    "view": view.name,
                    "version": view.version,
                    "declared": True,
                    "window": view.window,
                    "horizon": f"{view.horizon} {view.horizon_unit}",
                    "rows": 0,
                }
            )
    return sorted(
        ({name: row[name] for name in COLUMNS} for row in rows), key=lambda row: str(row["view"])
    )


def _measured(
    connection: duckdb.DuckDBPyConnection, row: dict[str, Any], *, count_windows: bool
) -> dict[str, Any]:
    import json

    table = f"features.{row['view']}_{row['version']}"
    there = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'features' AND table_name = ?",
        (table.removeprefix("features."),),
    ).fetchone()
    if there is None or not row["rows"]:
        return {"coverage": None, "mib": None}
    features = [
        feature[0] if isinstance(feature, list) else feature
        for feature in json.loads(row["declaration"])["features"]
    ]
    shares = " + ".join(f"count({name})" for name in features)
    coverage = connection.execute(
        f"SELECT ({shares}) / (count(*) * {len(features)}) FROM {table} WHERE date = ? "
        "AND known_until IS NULL",
        (row["last_date"],),
    ).fetchone()
    blocks = connection.execute(
        "SELECT count(DISTINCT block_id) FROM pragma_storage_info(?) WHERE block_id >= 0", (table,)
    ).fetchone()
    assert blocks is not None
    assert coverage is not None
    found = {"coverage": coverage[0], "mib": blocks[0] * BLOCK_BYTES / 2**20}
    if count_windows:
        counted = connection.execute(
            f"SELECT count(*) FROM {table}_windows(TIMESTAMPTZ 'infinity')"
        ).fetchone()
        assert counted is not None
        found["windows"] = counted[0]
    return found


def run_materialize(settings: Settings, names: Sequence[str], *, rebuild: bool) -> int:
    """Bring views up to date from the command line and publish them; returns the exit code.

    Raises
    ------
    UsageError
        A view is not in the catalog.
    LookbackError
        A view fails; those before it are up to date, and published by the next night.
    """
    from flows import steps
    from flows.display import new_console, print_table
    from flows.progress import ConsoleProgress, step

    chosen = [feature_view(name) for name in names] or list(feature_views().values())
    newest = steps.newest_session(settings)
    if newest is None:
        raise UsageError(f"there are no rows under {settings.home} yet; run: lookback nightly")
    run = steps.Run(settings, "features", night(settings, sessions(settings.calendar), newest))
    done: list[Materialized] = []
    with steps.alone(run), ConsoleProgress(new_console()).shown(), steps.running(run):
        for view in chosen:
            with step(f"materialize {view.name}") as shown:
                found = steps.materialize_view(run, view, shown.move, rebuild=rebuild)
                shown.detail = f"{found.added:,} rows added, {found.replaced:,} replaced"
                done.append(found)
        with step("publish") as shown:
            path, exit_code = steps.publish_night(run)
            shown.detail = path.parent.name
    print_table(
        ["view", "version", "added", "replaced", "seconds"],
        [(one.view, one.version, one.added, one.replaced, one.seconds) for one in done],
    )
    return exit_code


def read_window(
    settings: Settings,
    name: str,
    entity: str | None,
    as_of: date | None,
    cutoff: datetime | None,
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a window as it could be seen at a cut-off, oldest value first.

    Parameters
    ----------
    settings : of the service.
    name : view.
    entity : symbol or series; None for the first.
    as_of : date of its last value; None for the newest.
    cutoff : UTC instant; None for the cut-off of the night of `as_of`.

    Raises
    ------
    UsageError
        Neither a date nor a cut-off is given, or the view is unknown.
    LookbackError
        There is no such window.
    """
    view = feature_view(name)
    if cutoff is None:
        if as_of is None:
            raise UsageError("a window is read as of a cut-off: give --cutoff or --as-of")
        calendar = sessions(settings.calendar)
        cutoff = night(settings, calendar, calendar.require(as_of)).cutoff
    with open_published(settings) as connection:
        try:
            found = connection.execute(
                f"""
                SELECT *
                FROM {view.table}_windows{"_on($1, $3)" if as_of else "($1)"}
                WHERE $2 IS NULL OR entity = $2
                ORDER BY as_of DESC, entity
                LIMIT 1
                """,
                (cutoff, entity, as_of) if as_of else (cutoff, entity),
            ).fetchone()
        except duckdb.CatalogException:
            raise LookbackError(
                f"version {view.version} of {name} is not published; "
                f"run: lookback features materialize {name}"
            ) from None
        if found is None:
            which = f"{f' of {entity}' if entity else ''}{f' as of {as_of}' if as_of else ''}"
            raise LookbackError(
                f"{name} has no window{which} that was known at {cutoff:%Y-%m-%d %H:%M} UTC"
            )
        window = dict(zip(("entity", "as_of", *view.names, "known_at"), found, strict=True))
        dates = connection.execute(
            f"SELECT date FROM {view.table}_as_of($1) WHERE entity = $2 AND date <= $3 "
            f"ORDER BY date DESC LIMIT {view.window}",
            (cutoff, window["entity"], window["as_of"]),
        ).fetchall()
    days = [day for (day,) in reversed(dates)]
    values = [window[feature] for feature in view.names]
    return (
        ["entity", "date", *view.names],
        [(window["entity"], day, *row) for day, *row in zip(days, *values, strict=True)],
    )
