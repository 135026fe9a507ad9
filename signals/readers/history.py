"""Signals as a backtest reads them: one row per entity and date, none before it could be traded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa

from db.errors import LookAheadError, StoreError, UsageError
from signals.readers.opening import (
    PathLike,
    fetch,
    open_parquet,
    open_published,
    parquet_folder,
)

if TYPE_CHECKING:
    import polars as pl

Day = str | date | pd.Timestamp
TRADABLE = "tradable_from"
# What a frame of signals cannot do without.
ROLES = ("live", "backfill", "challenger")
NEEDED = ("entity", "as_of", TRADABLE, "value")


@dataclass(frozen=True, eq=False, repr=False)
class Signals:
    """Scores of one signal and horizon.

    Attributes
    ----------
    name : of the signal.
    frame : one row per (entity, as_of), in the order of as_of and entity. `as_of` and
        `tradable_from` are sessions (datetime64 without a time zone), `value` a float64; the
        other columns are those of the published table `signals`.
    horizon, horizon_unit : how far ahead: so many sessions, weeks or months.
    sessions : of the exchange, ascending, from the table `sessions` of the published file;
        None where there was none, such as beside Parquet.

    Raises
    ------
    UsageError
        A column is missing, a row has no date, or an entity has two rows on one date.
    LookAheadError
        A row could be traded on the very session whose close it needs.
    """

    name: str
    frame: pd.DataFrame
    horizon: int = 1
    horizon_unit: str = "week"
    sessions: pd.DatetimeIndex | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", _checked(self.name, self.frame))

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        days = self.frame["as_of"]
        span = f", {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}" if len(self) else ""
        return (
            f"<Signals {self.name}, {self.horizon} {self.horizon_unit} ahead: {len(self):,} rows "
            f"of {self.frame['entity'].nunique():,} entities{span}>"
        )

    @property
    def entities(self) -> list[str]:
        """Symbols or series, sorted."""
        return sorted(self.frame["entity"].unique())

    def to_pandas(self) -> pd.DataFrame:
        """A copy of the frame."""
        return self.frame.copy()

    def to_arrow(self) -> pa.Table:
        """The frame as an Arrow table; sessions are dates."""
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        for name in ("as_of", TRADABLE):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(pa.date32()))
        return table

    def to_polars(self) -> pl.DataFrame:
        """The frame as a Polars frame; sessions are dates."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def wide(
        self, column: str = "value", days: pd.DatetimeIndex | None = None, *, dated: str = TRADABLE
    ) -> pd.DataFrame:
        """One row for each session on which what can be traded changes, one column an entity.

        A row holds a whole cross-section: who is not in it has NaN and not an older value. A
        row that became tradable late, such as a revised one, joins its cross-section then, and
        never replaces a newer one.

        Parameters
        ----------
        column : a numeric column of the frame.
        days : sessions on which there are prices; a row that is tradable from another day
            counts from the next of them on. What begins before the first or after the last of
            them is left out.
        dated : `tradable_from`, and nothing else.

        Raises
        ------
        LookAheadError
            `dated` is another date.
        """
        require_tradable_dates(self.name, dated)
        if column not in self.frame:
            raise UsageError(
                f"signal {self.name} has no column {column!r}; there are: "
                f"{', '.join(self.frame.columns)}"
            )
        rows = self.frame[["entity", "as_of", TRADABLE]].assign(
            score=pd.to_numeric(self.frame[column])
        )
        if days is not None:
            rows = _on_days(rows, days)
        changes = rows[[TRADABLE, "as_of"]].drop_duplicates().sort_values([TRADABLE, "as_of"])
        newest = changes["as_of"] == changes["as_of"].cummax()
        changes = changes[newest].drop_duplicates(TRADABLE, keep="last")
        there = changes.merge(rows, on="as_of", suffixes=("", "_of_row"))
        there = there[there[f"{TRADABLE}_of_row"] <= there[TRADABLE]]
        return wide_of(there, TRADABLE, "score")


def wide_of(rows: pd.DataFrame, index: str, values: str) -> pd.DataFrame:
    """One column an entity; two rows of one place are an error, not their mean."""
    return rows.pivot(index=index, columns="entity", values=values)  # noqa: PD010


def require_tradable_dates(name: str, dated: str) -> None:
    """Refuse to date a signal by anything but the session from which it can be traded."""
    if dated != TRADABLE:
        raise LookAheadError(
            f"signal {name}: dated by {dated} it would trade at the close that it was made from, "
            f"and before it was published; date it by {TRADABLE}"
        )


def signals_of(given: Signals | pd.DataFrame) -> Signals:
    """Signals, or what a frame with the columns of the published table holds of one."""
    if isinstance(given, Signals):
        return given
    name = given["signal"].iloc[0] if "signal" in given and len(given) else "of a frame"
    return Signals(str(name), given)


def read(
    path: PathLike | None = None,
    *,
    signal: str,
    role: str | Sequence[str] = ("live", "backfill"),
    start: Day | None = None,
    end: Day | None = None,
    horizon: int | None = None,
    model_version: str | None = None,
    revision: Literal["newest", "first"] = "newest",
) -> Signals:
    """The rows of one signal, as a backtest needs them.

    Each date has the scores of one version in one role, so that a cross-section is never mixed
    from two models: the role named first wins, then the version that was published last.

    Parameters
    ----------
    path : the published file, its folder, a LOOKBACK_HOME, or a folder of `signal=…/year=…`
        with the Parquet; the settings' home if left out.
    signal : its name.
    role : `live`, `backfill`, `challenger`, or several of them.
    start, end : first and last `as_of`, both included.
    horizon : needed where the signal has several.
    model_version : only rows of that version.
    revision : `newest`, or what was published of each row in the first place: what a trader
        had, where rows were revised later. Parquet holds the newest.

    Raises
    ------
    StoreError
        Nothing can be read there (see `open_published`), there is no such signal, or it has no
        such rows; the message lists what there is.
    UsageError
        The signal has several horizons and none was chosen, or a date is none.
    """
    roles = [role] if isinstance(role, str) else list(role)
    if unknown := [name for name in roles if name not in ROLES]:
        raise UsageError(f"no role {unknown[0]!r}; there are: {', '.join(ROLES)}")
    span = day_of("start", start, "0001-01-01"), day_of("end", end, "9999-12-31")
    folder = parquet_folder(path)
    if folder is not None and revision == "first":
        raise StoreError(f"{folder} holds the newest revisions only; read the published file")
    with open_parquet(folder) if folder is not None else open_published(path) as connection:
        place = str(folder) if folder is not None else _name_of(connection)
        return _read(connection, place, signal, roles, span, horizon, model_version, revision)


def _read(
    connection: duckdb.DuckDBPyConnection,
    place: str,
    signal: str,
    roles: list[str],
    span: tuple[date, date],
    horizon: int | None,
    model_version: str | None,
    revision: str,
) -> Signals:
    table = "main.signals"
    if revision == "first":
        table = "(SELECT * EXCLUDE (revision) FROM main.signal_revisions WHERE revision = 0)"
    given = {
        "signal": signal,
        "roles": roles,
        "first": span[0],
        "last": span[1],
        "horizon": horizon,
        "version": model_version,
    }
    rows = fetch(
        connection,
        f"""
        WITH candidates AS (
            SELECT *
            FROM {table}
            WHERE signal = $signal AND list_contains($roles, role)
                AND as_of BETWEEN $first AND $last
                AND ($horizon IS NULL OR horizon = $horizon)
                AND ($version IS NULL OR model_version = $version)
        ),
        chosen AS (
            -- one row per date: the role and version that count
            SELECT as_of, role, model_version
            FROM candidates
            GROUP BY as_of, role, model_version
            QUALIFY row_number() OVER (
                PARTITION BY as_of
                ORDER BY list_position($roles, role), max(published_at) DESC, model_version
            ) = 1
        )
        -- one row per entity, date and horizon
        SELECT c.*
        FROM candidates c
        SEMI JOIN chosen USING (as_of, role, model_version)
        ORDER BY as_of, entity, horizon
        """,
        given,
    )
    if rows.empty:
        raise StoreError(_why_empty(connection, place, signal, roles, given))
    horizons = sorted(rows["horizon"].unique())
    if len(horizons) > 1:
        raise UsageError(
            f"signal {signal} has {len(horizons)} horizons ({horizons[0]} to {horizons[-1]} "
            f"{rows['horizon_unit'].iloc[0]}s); choose one of them"
        )
    return Signals(
        signal,
        rows,
        int(horizons[0]),
        str(rows["horizon_unit"].iloc[0]),
        _sessions(connection),
    )


def _why_empty(
    connection: duckdb.DuckDBPyConnection,
    place: str,
    signal: str,
    roles: list[str],
    given: dict[str, Any],
) -> str:
    there = connection.execute(
        """
        -- one row per signal and role
        SELECT signal, role, min(as_of), max(as_of)
        FROM main.signals
        GROUP BY ALL
        ORDER BY ALL
        """
    ).fetchall()
    if not there:
        return f"{place} holds no signals yet; run: lookback nightly"
    names = sorted({name for name, *_ in there})
    if signal not in names:
        return f"{place} has no signal {signal!r}; there are: {', '.join(names)}"
    spans = [f"{role} {first} to {last}" for name, role, first, last in there if name == signal]
    asked = [
        f"role {' or '.join(roles)}",
        *(f"{name} {given[name]}" for name in ("horizon", "version") if given[name] is not None),
    ]
    return (
        f"{place} has no rows of signal {signal} with {', '.join(asked)}, as_of {given['first']} "
        f"to {given['last']}; it has {', '.join(spans)}"
    )


def _sessions(connection: duckdb.DuckDBPyConnection) -> pd.DatetimeIndex | None:
    """Sessions of the exchange; files of schema 0001 and Parquet have none."""
    try:
        days = fetch(connection, "SELECT session FROM main.sessions ORDER BY session")
    except duckdb.CatalogException:
        return None
    return pd.DatetimeIndex(days["session"], name="session").as_unit("ns")


def _name_of(connection: duckdb.DuckDBPyConnection) -> str:
    found = connection.execute("SELECT path FROM duckdb_databases() WHERE NOT internal")
    return str(Path(found.fetchall()[0][0]))


def day_of(name: str, given: Day | None, default: str) -> date:
    """A day as a date; the default where none was given."""
    try:
        if given is None:
            return date.fromisoformat(default)
        found: date = pd.Timestamp(given).date()
    except ValueError:
        raise UsageError(f"{name} {given!r} is no date; write it as 2018-12-28") from None
    return found


def _checked(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A copy with dates and floats, sorted; refused where it cannot be traded honestly."""
    missing = [column for column in NEEDED if column not in frame]
    if missing:
        raise UsageError(f"signal {name}: a frame of signals needs {', '.join(missing)}")
    frame = frame.assign(
        entity=frame["entity"].astype("str"),
        as_of=_dates(name, frame["as_of"]),
        tradable_from=_dates(name, frame[TRADABLE]),
        value=pd.to_numeric(frame["value"]).astype("float64"),
    ).sort_values(["as_of", "entity"], ignore_index=True)
    twice = frame.duplicated(["entity", "as_of"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise UsageError(
            f"signal {name}: {row['entity']} has two rows as of {row['as_of']:%Y-%m-%d}; "
            "read one horizon, and one version"
        )
    early = frame[TRADABLE] <= frame["as_of"]
    if early.any():
        row = frame[early].iloc[0]
        raise LookAheadError(
            f"signal {name}: {int(early.sum())} rows are tradable from the session whose close "
            f"they were made from, or before ({row['entity']} as of {row['as_of']:%Y-%m-%d}, "
            f"tradable from {row[TRADABLE]:%Y-%m-%d}); the first session after it is the earliest"
        )
    return frame


def _dates(name: str, column: pd.Series[Any]) -> pd.Series[Any]:
    days = pd.to_datetime(column)
    if days.isna().any():
        raise UsageError(f"signal {name}: {int(days.isna().sum())} rows have no {column.name}")
    if days.dt.tz is not None:
        days = days.dt.tz_localize(None)
    return days.dt.normalize().astype("datetime64[ns]")


def _on_days(rows: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Rows that are tradable within the days, each from one of them on."""
    at = days.searchsorted(rows[TRADABLE])
    inside = (at < len(days)) & (rows[TRADABLE] >= days[0]).to_numpy()
    return rows[inside].assign(**{TRADABLE: days[at[inside]]})
