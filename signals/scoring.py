"""Scoring: the champion of a signal scores the windows of one session.

A version may score a date only if every label that it was trained or stopped on was known
before that date's cut-off. What was published once is never rewritten: a changed value is
a new revision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from db.clock import Night
from db.errors import LookAheadError, LookbackError, RegistryError
from db.sessions import Sessions
from db.settings import Settings
from db.tables import SIGNAL_KEY, signal_revisions, signals
from features.catalog import feature_view
from models import tasks
from models.artefacts import Version
from models.encoding import Floats
from models.examples import Examples, read_examples, targets_of
from models.recipes import Recipe
from models.registry import ModelVersion, champion, load, past_champions, require_usable
from signals.declaration import Signal

if TYPE_CHECKING:
    from db.warehouse import Warehouse
    from features.view import FeatureView

Role = Literal["live", "backfill", "challenger"]
QUANTILES = ("q05", "q50", "q95")
SCORES = ("value", "q05", "q50", "q95", "probability", "rank")
# Tasks whose forecasts order returns: a probability, a rank or a return, as the version has it.
SCORES_OF_RETURNS = ("direction", "rank")
CONTRACT = [column.name for column in signals.columns]


@dataclass(frozen=True)
class Imprint:
    """What rows say of how they came about.

    Attributes
    ----------
    run_id : of the run.
    role : live, backfill or challenger.
    published_at : UTC; the night's own clock if left out. A backfill publishes past nights
        today, and says so; `tradable_from` stays what the night would have given.
    """

    run_id: str
    role: Role = "live"
    published_at: datetime | None = None


@dataclass(frozen=True)
class Reading:
    """What a night has read for a signal, not yet scored.

    Attributes
    ----------
    count : rows of the signal that it gives: one for each entity, step ahead and target.
    data_snapshot : content hash of the values read.
    rows : scores it; rows of `signals`.
    """

    count: int
    data_snapshot: str
    rows: Callable[[], pd.DataFrame]

    def stands(self, known: pd.DataFrame) -> bool:
        """Whether the same version has published the same number of rows from these values."""
        same = set(known["data_snapshot"]) == {self.data_snapshot}
        return len(known) == self.count and (same or not self.count)


@dataclass(frozen=True)
class Scored:
    """What scoring one signal for one night did; `problem` names a champion that could not."""

    signal: str
    model_version: str
    rows: int
    new: int
    revised: int
    problem: str | None = None

    @property
    def unchanged(self) -> int:
        """Rows that stand as they were published before."""
        return self.rows - self.new - self.revised


def score(
    warehouse: Warehouse,
    declared: Signal,
    night: Night,
    calendar: Sessions,
    run_id: str,
    role: Role = "live",
) -> Scored:
    """Score the newest windows of a night and write what is new or different.

    Raises
    ------
    LookbackError
        No champion, or no window that ends on the session; the message says why.
    LookAheadError
        The champion learned from labels that were not known at the night's cut-off.
    RegistryError
        Neither the champion nor one before it can score; the message is the champion's.
    """
    version, loaded, problem = usable_version(warehouse, declared, night)
    view = feature_view(version.feature_view)
    imprint = Imprint(run_id, role)
    examples = newest_examples(warehouse, version.made_by, view, night, calendar)
    if not len(examples):
        raise LookbackError(f"{declared.name}: {_why_no_window(warehouse, view.table, night)}")
    days = examples.index["as_of"]
    reading = _reading(
        warehouse.settings, declared, version, loaded, examples, night, calendar, imprint
    )
    return publish_reading(
        warehouse, declared, version, reading, (days.min(), days.max()), role, problem
    )


def publish_reading(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    reading: Reading,
    span: tuple[pd.Timestamp, pd.Timestamp],
    role: Role,
    problem: str | None,
) -> Scored:
    """Write the rows of what was read, unless they stand as they are."""
    known = published(warehouse, declared, version, span, role)
    name = version.model_version
    if reading.stands(known):
        return Scored(declared.name, name, reading.count, 0, 0, problem)
    rows = reading.rows()
    new, revised = write(warehouse, rows, known)
    return Scored(declared.name, name, len(rows), new, revised, problem)


def read_windows_of(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    loaded: Callable[[], Version],
    night: Night,
    calendar: Sessions,
    imprint: Imprint,
) -> Reading | None:
    """The windows of a past night that end on its session; None of a month that is not new."""
    view = feature_view(version.feature_view)
    examples = newest_examples(warehouse, version.made_by, view, night, calendar)
    on = (examples.index["as_of"] == pd.Timestamp(night.session)).to_numpy()
    if view.horizon_unit == "month" and not on.any():
        return None
    return _reading(
        warehouse.settings, declared, version, loaded, examples.take(on), night, calendar, imprint
    )


def _reading(
    settings: Settings,
    declared: Signal,
    version: ModelVersion,
    loaded: Callable[[], Version],
    examples: Examples,
    night: Night,
    calendar: Sessions,
    imprint: Imprint,
) -> Reading:
    _, steps, targets = examples.y.shape
    return Reading(
        len(examples) * int(steps * targets),
        examples.data_snapshot,
        lambda: score_rows(
            settings, declared, version, loaded(), examples, night, calendar, imprint
        ),
    )


def is_due(warehouse: Warehouse, declared: Signal, night: Night, calendar: Sessions) -> bool:
    """Whether a night scores the signal: a weekly one on the last session of its week."""
    version = champion(warehouse, declared.model)
    if version is None or feature_view(version.feature_view).horizon_unit != "week":
        return True
    return calendar.is_week_end(night.session)


def usable_version(
    warehouse: Warehouse, declared: Signal, night: Night
) -> tuple[ModelVersion, Callable[[], Version], str | None]:
    """The champion, or where it cannot be loaded the last good one before it.

    Returns
    -------
    version, load, problem
        `load` gives what forecasts; `problem` says what is wrong with the champion, if
        another version has to stand in.
    """
    chosen = champion(warehouse, declared.model)
    if chosen is None:
        raise LookbackError(
            f"{declared.name}: model {declared.model} has no champion; run: lookback train"
        )
    require_no_look_ahead(chosen, night)
    try:
        require_usable(warehouse.settings, chosen)
    except RegistryError as error:
        for earlier in past_champions(warehouse, declared.model):
            try:
                require_no_look_ahead(earlier, night)
                require_usable(warehouse.settings, earlier)
            except LookbackError:
                continue
            problem = f"{declared.name}: {error}; {earlier.model_version} scored in its place"
            return earlier, partial(load, warehouse.settings, earlier), problem
        raise RegistryError(f"{declared.name}: {error}") from error
    return chosen, partial(load, warehouse.settings, chosen), None


def newest_examples(
    warehouse: Warehouse, recipe: Recipe, view: FeatureView, night: Night, calendar: Sessions
) -> Examples:
    """The windows that a night scores, each dated by the session that could use it first.

    Of sessions and weeks these are the windows that end on the night's session. A month's
    value comes weeks after its month: the newest window that is known counts, as of the first
    session at whose cut-off it was.
    """
    if view.horizon_unit != "month":
        return read_examples(warehouse, recipe, night.cutoff, as_of=night.session)
    examples = read_examples(warehouse, recipe, night.cutoff)
    newest = examples.index.groupby("entity", observed=True)["as_of"].transform("max")
    examples = examples.take((examples.index["as_of"] == newest).to_numpy())
    delay = night.cutoff - calendar.close(night.session)
    closes = calendar.closes()
    first = closes.searchsorted(examples.index["known_at"] - delay, side="left")
    index = examples.index.assign(as_of=closes.index[first].astype("datetime64[us]"))
    return replace(examples, index=index)


def require_no_look_ahead(version: ModelVersion, night: Night) -> None:
    """Refuse a version that learned from what was not known at the night's cut-off.

    Or that was chosen by it: a rule that learns nothing is chosen on dates, too.
    """
    learned = version.labels_known_at
    if learned is not None and learned >= night.cutoff:
        what = f"learned from labels known until {learned:%Y-%m-%d %H:%M} UTC"
    elif version.cutoff > night.cutoff and not version.is_of_text:
        # a version of texts was chosen on texts that were known when its labels were
        what = f"was chosen on what was known until {version.cutoff:%Y-%m-%d %H:%M} UTC"
    else:
        return
    raise LookAheadError(
        f"{version.model} {version.model_version} {what}, after the cut-off of {night.session} "
        f"({night.cutoff:%Y-%m-%d %H:%M} UTC): it may not score that session; past sessions "
        "need versions of their time: lookback backfill"
    )


def tradable_from(calendar: Sessions, published_at: datetime, delay_minutes: int) -> pd.Timestamp:
    """The first session that opens after publication plus the delay that an order needs."""
    instant = published_at + timedelta(minutes=delay_minutes)
    return pd.Timestamp(calendar.first_open_after(instant))


def _why_no_window(warehouse: Warehouse, table: str, night: Night) -> str:
    newest = warehouse.one(f"SELECT max(date) FROM {table} WHERE known_at <= ?", night.cutoff)
    if newest is None or newest[0] is None:
        return f"no data by the cut-off of {night.session}; see: lookback check"
    if newest[0] < night.session:
        return f"newest value is of {newest[0]}, {night.session} is not there; see: lookback check"
    return f"too little unbroken history before {night.session} for a window"


def published(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    span: tuple[pd.Timestamp, pd.Timestamp],
    role: Role,
) -> pd.DataFrame:
    """The newest published revisions of a version's rows, from one `as_of` to another."""
    return warehouse.frame(
        """
        SELECT *
        FROM main.signal_revisions
        WHERE signal = ? AND as_of BETWEEN ? AND ? AND model_version = ? AND role = ?
        QUALIFY revision = max(revision) OVER (
            PARTITION BY entity, as_of, horizon, horizon_unit
        )
        """,
        declared.name,
        span[0].date(),
        span[1].date(),
        version.model_version,
        role,
    )


def score_rows(
    settings: Settings,
    declared: Signal,
    version: ModelVersion,
    loaded: Version,
    examples: Examples,
    night: Night,
    calendar: Sessions,
    imprint: Imprint,
) -> pd.DataFrame:
    """Rows of `signals` that a version gives for a night's examples.

    Raises
    ------
    LookbackError
        A score is not finite.
    """
    view = feature_view(examples.view)
    acted_at = night.time()
    forecast = loaded.forecast(examples)
    if not np.isfinite(forecast).all():
        raise LookbackError(
            f"{declared.name}: {version.model_version} gave a score that is not finite"
        )
    n, steps, k = forecast.shape
    named = targets_of(version.made_by)
    entity = examples.index["entity"].astype("str").to_numpy()
    known_at = examples.index["known_at"].take(np.repeat(np.arange(n), steps * k))
    rows = pd.DataFrame(
        {
            "signal": declared.name,
            "entity": np.repeat(entity, steps * k)
            if not named
            else np.tile(np.array(list(named.values())), n * steps),
            "as_of": np.repeat(examples.index["as_of"].to_numpy(), steps * k),
            "horizon": np.tile(np.repeat(np.arange(1, steps + 1) * view.horizon, k), n),
            "horizon_unit": view.horizon_unit,
            "role": imprint.role,
            "known_at": known_at.reset_index(drop=True),
            "tradable_from": tradable_from(calendar, acted_at, settings.publication_delay_minutes),
            **_scores(version, loaded, examples, forecast),
            "model": version.model,
            "model_version": version.model_version,
            "feature_view": examples.view,
            "feature_version": examples.version,
            "data_snapshot": examples.data_snapshot,
            "published_at": pd.Timestamp(imprint.published_at or acted_at),
            "run_id": imprint.run_id,
        }
    )
    of_the_same = rows.groupby(["as_of", "horizon"])["value"]
    if version.made_by.task in SCORES_OF_RETURNS:
        # whatever the champion's score is of, readers get one unit
        differ = of_the_same.transform("max") > of_the_same.transform("min")
        from_the_mean = rows["value"] - of_the_same.transform("mean")
        standard = from_the_mean / of_the_same.transform("std", ddof=0)
        rows["value"] = standard.where(differ, 0.0)
        of_the_same = rows.groupby(["as_of", "horizon"])["value"]
    # a rank says nothing about a signal of one entity
    alone = of_the_same.transform("count") == 1
    rows["rank"] = of_the_same.rank(pct=True).mask(alone | bool(named))
    return rows[list(CONTRACT)]


def _scores(
    version: ModelVersion, loaded: Version, examples: Examples, forecast: Floats
) -> dict[str, Any]:
    """Value, quantiles and probability, one for each entity, step and target: (n·H·k,) each."""
    manifest = loaded.manifest
    scores: dict[str, Any] = {"value": forecast.ravel()}
    around = tasks.with_quantiles(manifest.quantiles, version.made_by, forecast, examples)
    scores |= {name: around[name].ravel() if around else None for name in QUANTILES}
    return scores | {"probability": forecast.ravel() if manifest.gives_probability else None}


def write(warehouse: Warehouse, rows: pd.DataFrame, known: pd.DataFrame) -> tuple[int, int]:
    """Append revisions of the rows that are new or differ; replace them among the newest.

    Returns
    -------
    new, revised
        How many rows of each there were.
    """
    key = ["entity", "as_of", "horizon"]
    before = known.astype({"entity": "str"}).set_index(key)
    before = before.reindex(pd.MultiIndex.from_frame(rows[key]))
    is_new = before["revision"].isna().to_numpy()
    same = ~is_new
    for column in SCORES:
        old = pd.to_numeric(before[column]).to_numpy("float64")
        new = pd.to_numeric(rows[column]).to_numpy("float64")
        same &= (old == new) | (pd.isna(old) & pd.isna(new))
    revisions = rows.assign(revision=(before["revision"].fillna(-1) + 1).astype("int32").to_numpy())
    revisions = revisions[~same]
    replaced = rows[~same & ~is_new]
    with warehouse.transaction():
        warehouse.append(signal_revisions, revisions)
        if len(replaced):
            with warehouse.relation(replaced) as incoming:
                matches = " AND ".join(f"s.{column} = i.{column}" for column in SIGNAL_KEY)
                # the span of dates lets DuckDB pass over all other blocks of the table
                warehouse.native.execute(
                    f"""
                    DELETE FROM main.signals s USING {incoming} i
                    WHERE {matches} AND s.as_of BETWEEN $1 AND $2
                    """,
                    [replaced["as_of"].min().date(), replaced["as_of"].max().date()],
                )
        warehouse.append(signals, revisions[CONTRACT])
    return int(is_new.sum()), len(replaced)
