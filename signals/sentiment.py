"""Sentiment: what incoming texts say, scored one by one, and by symbol and exchange day.

A text is scored once, by the version that was champion then. It counts to the exchange day in
which it became known, from the close before to the close: what came out after the close of
Friday belongs to Monday. Days are aggregated anew as texts come in; every state of a day has
the `known_at` of its newest text, so that a read as of any instant sees only what was out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from db.clock import Night
from db.errors import LookbackError
from db.sessions import Sessions
from db.settings import Settings
from db.tables import document_sentiment, progress, sentiment
from features.catalog import feature_view
from features.novelty import MEMORY_HOURS, novelty
from features.windows import Windows, read_windows
from models.registry import ModelVersion, champion
from models.text.versions import TextVersion
from models.text.versions import load as load_text
from signals.declaration import Signal
from signals.latest import comment_view
from signals.scoring import (
    CONTRACT,
    Imprint,
    Reading,
    Role,
    Scored,
    publish_reading,
    require_no_look_ahead,
    tradable_from,
    usable_version,
)

if TYPE_CHECKING:
    from db.warehouse import Warehouse

# Texts that are scored and written together.
TEXTS_AT_ONCE = 20_000
MENTIONS = "mentions"
# Columns of a day that the store keeps (db.tables.sentiment).
KEY = ["source", "document_id", "known_at"]
DAY = ["entity", "session"]
OF_A_DAY = ["documents", "sentiment", "dispersion", "novelty", "novel_sentiment"]

Move = Callable[[float, float, str], None]


@dataclass(frozen=True)
class ScoredTexts:
    """What scoring incoming texts did.

    Attributes
    ----------
    model_version : that scored; None where nothing was new.
    documents : texts that were scored.
    repeated : of these, such that repeat an earlier one, or nearly.
    too_old : texts left alone, known before the labels that the version learned from.
    days : days of symbols that are new, or other than before.
    """

    model_version: str | None
    documents: int = 0
    repeated: int = 0
    too_old: int = 0
    days: int = 0


def score_documents(
    warehouse: Warehouse,
    model: str,
    night: Night,
    calendar: Sessions,
    run_id: str,
    move: Move = lambda *_: None,
) -> ScoredTexts:
    """Score the texts that have no score yet and bring the days that they touch up to date.

    Each part of some thousand texts is one transaction, oldest first: killed anywhere, the next
    run goes on.

    Parameters
    ----------
    warehouse : the open store.
    model : of text, whose champion scores.
    night : whose cut-off bounds what may be known, and whose clock says when scores were made.
    calendar : of the exchange.
    run_id : of the run.
    move : called with done, of, and a line, as work proceeds.

    Raises
    ------
    LookbackError
        There are texts and the model has no champion.
    RegistryError
        The champion cannot be loaded.
    """
    version = champion(warehouse, model)
    since = version.labels_known_at if version is not None else None
    waiting, too_old = _waiting(warehouse, night, since)
    if waiting and version is None:
        raise LookbackError(f"texts: model {model} has no champion; run: lookback train {model}")
    done = ScoredTexts(version.model_version if version is not None else None, too_old=too_old)
    loaded = None
    for begin in range(0, waiting, TEXTS_AT_ONCE):
        assert version is not None
        loaded = loaded or load_text(warehouse.settings, version)
        texts = _texts(warehouse, night, begin, TEXTS_AT_ONCE)
        rows = _scored(warehouse, texts, version, loaded, night, calendar, run_id)
        with warehouse.transaction():
            _append(warehouse, rows)
            days = bring_days_up_to_date(warehouse, _touched(rows), model, night, run_id)
        done = replace(
            done,
            documents=done.documents + len(rows),
            repeated=done.repeated + int(rows["duplicate_of"].notna().sum()),
            days=done.days + days,
        )
        move(done.documents, waiting, f"{done.documents:,} of {waiting:,} texts")
    days = _take_over_mentions(warehouse, model, night, run_id)
    return replace(done, days=done.days + days)


def has_texts(warehouse: Warehouse) -> bool:
    """Whether any text has come in yet."""
    return warehouse.one("SELECT 1 FROM raw.documents LIMIT 1") is not None


def _waiting(warehouse: Warehouse, night: Night, since: datetime | None) -> tuple[int, int]:
    """Texts without a score, listed in order of `known_at`; how many, and how many are too old."""
    warehouse.native.execute(
        """
        -- one row per text without a score: (source, document_id, known_at)
        CREATE OR REPLACE TEMP TABLE waiting AS
        SELECT source, document_id, known_at,
            row_number() OVER (ORDER BY known_at, source, document_id) - 1 AS number
        FROM raw.documents d
        ANTI JOIN main.document_sentiment s USING (source, document_id, known_at)
        WHERE known_at <= $1 AND (known_at > $2 OR $2 IS NULL)
        """,
        (night.cutoff, since),
    )
    (waiting,) = warehouse.one("SELECT count(*) FROM waiting") or (0,)
    (too_old,) = warehouse.one(
        """
        SELECT count(*)
        FROM raw.documents d
        ANTI JOIN main.document_sentiment s USING (source, document_id, known_at)
        WHERE known_at <= $1 AND known_at <= $2
        """,
        night.cutoff,
        since,
    ) or (0,)
    return int(waiting), int(too_old)


def _texts(warehouse: Warehouse, night: Night, begin: int, count: int) -> pd.DataFrame:
    """The next texts without a score, and the symbols that each is known to be about, sorted."""
    return warehouse.frame(
        f"""
        -- one row per text
        WITH next AS (
            SELECT *
            FROM raw.documents d
            JOIN waiting w USING (source, document_id, known_at)
            WHERE w.number >= $1 AND w.number < $1 + $2
        ),
        about AS (
            SELECT n.number, list(DISTINCT m.entity ORDER BY m.entity) AS entities
            FROM next n
            JOIN raw.mentions m ON {_is_about("m", "n")}
            WHERE m.known_at <= $3
            GROUP BY n.number
        )
        SELECT n.source, n.document_id, n.published_at, n.known_at, n.text, n.language,
            coalesce(a.entities, []) AS entities
        FROM next n
        LEFT JOIN about a USING (number)
        ORDER BY n.number
        """,
        begin,
        count,
        night.cutoff,
    )


def _is_about(mention: str, text: str) -> str:
    """SQL: whether a symbol is one of a text's.

    One that was given is of all versions of a document; one that was found in a text is of that
    version and those after it.
    """
    return f"""{mention}.source = {text}.source AND {mention}.document_id = {text}.document_id
        AND ({mention}.found_by = 'given' OR {mention}.known_at <= {text}.known_at)"""


def _scored(
    warehouse: Warehouse,
    texts: pd.DataFrame,
    version: ModelVersion,
    loaded: TextVersion,
    night: Night,
    calendar: Sessions,
    run_id: str,
) -> pd.DataFrame:
    """Rows of `document_sentiment` for texts in order of `known_at`."""
    probabilities = loaded.probabilities(texts["text"].tolist()).astype("float64")
    if not np.isfinite(probabilities).all():
        raise LookbackError(f"texts: {version.model_version} gave a score that is not finite")
    of_class = dict(zip(loaded.classes, probabilities.T, strict=True))
    new, repeats = _novelty(warehouse, texts)
    return texts.drop(columns="text").assign(
        session=sessions_of(calendar, texts["known_at"]),
        sentiment=of_class["positive"] - of_class["negative"],
        negative=of_class["negative"],
        neutral=of_class.get("neutral", 0.0),
        positive=of_class["positive"],
        novelty=new,
        duplicate_of=np.array(repeats, object),
        model=version.model,
        model_version=version.model_version,
        scored_at=pd.Timestamp(night.time()),
        run_id=run_id,
    )


def sessions_of(calendar: Sessions, known_at: pd.Series[Any]) -> pd.Series[Any]:
    """The exchange day of each instant: the session that closes next, or at that instant.

    Parameters
    ----------
    calendar : of the exchange.
    known_at : UTC, (n,)

    Returns
    -------
    Series
        datetime64, (n,), with the index of `known_at`.
    """
    closes = calendar.closes()
    at = closes.searchsorted(pd.DatetimeIndex(known_at), side="left")
    return pd.Series(closes.index[at].astype("datetime64[us]"), index=known_at.index)


def _novelty(
    warehouse: Warehouse, texts: pd.DataFrame
) -> tuple[npt.NDArray[np.float64], list[str | None]]:
    """How new each text is, (n,), and which document it repeats; all texts that are known count."""
    first, last = texts["known_at"].iloc[0], texts["known_at"].iloc[-1]
    around = warehouse.frame(
        """
        -- one row per text of these hours and those before
        SELECT source, document_id, known_at, text
        FROM raw.documents
        WHERE known_at BETWEEN $1 AND $2
        ORDER BY known_at, source, document_id
        """,
        (first - timedelta(hours=MEMORY_HOURS)).to_pydatetime(),
        last.to_pydatetime(),
    )
    new, repeats = novelty(
        around["text"].tolist(), around["known_at"], around["document_id"].tolist()
    )
    place = pd.MultiIndex.from_frame(around[KEY]).get_indexer(pd.MultiIndex.from_frame(texts[KEY]))
    return new[place], [repeats[at] for at in place]


# --------------------------------------------------------------------------- by day


def _touched(rows: pd.DataFrame) -> pd.DataFrame:
    """Symbols and exchange days that scored texts belong to: `entity`, `session`."""
    pairs = rows[["entities", "session"]].explode("entities").dropna()
    return pairs.rename(columns={"entities": "entity"}).drop_duplicates(ignore_index=True)


def bring_days_up_to_date(
    warehouse: Warehouse, touched: pd.DataFrame, model: str, night: Night, run_id: str
) -> int:
    """Append the days of symbols that are other than they were; how many. In a transaction.

    Parameters
    ----------
    touched : `entity` and `session` of the days that may be.
    model : that scored the texts.
    """
    if touched.empty:
        return 0
    with warehouse.relation(touched.astype({"entity": "str"}), "touched"):
        texts = warehouse.frame(
            """
            -- one row per document and symbol of the days touched: its newest text of that day, as
            -- new as the first of them; known_at: of both, text and symbol
            SELECT t.entity, t.session, s.sentiment, s.model_version,
                max(s.novelty) OVER of_the_day AS novelty,
                max(greatest(s.known_at, m.known_at)) OVER of_the_day AS known_at
            FROM (
                SELECT *, unnest(entities) AS entity
                FROM main.document_sentiment
                WHERE session BETWEEN $1 AND $2
            ) s
            JOIN touched t ON t.entity = s.entity AND t.session = s.session
            JOIN raw.mentions m
                ON m.source = s.source AND m.document_id = s.document_id AND m.entity = s.entity
            WINDOW of_the_day AS (PARTITION BY t.entity, t.session, s.source, s.document_id)
            QUALIFY s.known_at = max(s.known_at) OVER of_the_day
            ORDER BY t.entity, t.session, s.known_at, s.source, s.document_id
            """,
            touched["session"].min().date(),
            touched["session"].max().date(),
        )
        known = warehouse.frame(
            """
            -- one row per day touched: its newest vintage
            SELECT r.*
            FROM raw.sentiment r
            JOIN touched t ON t.entity = r.entity AND t.session = r.session
            QUALIFY row_number() OVER (
                PARTITION BY r.entity, r.session ORDER BY r.known_at DESC, r.rowid DESC
            ) = 1
            """
        )
    days = days_of(texts)
    before = known.set_index(DAY).reindex(pd.MultiIndex.from_frame(days[DAY]))
    same = np.ones(len(days), bool)
    for name in (*OF_A_DAY, "known_at", "model_version"):
        same &= (days[name].to_numpy() == before[name].to_numpy()).astype(bool)
    changed = days[~same].assign(
        source=model, ingested_at=pd.Timestamp(night.time()), run_id=run_id
    )
    return warehouse.append(sentiment, changed)


def days_of(texts: pd.DataFrame) -> pd.DataFrame:
    """Days of symbols from their texts, which come sorted: `DAY`, `OF_A_DAY`, `known_at`, version.

    A day is known once all of its texts are, and that they are about the symbol. Every sum goes
    through a day's texts in one order, so that the same texts give the same bits.
    """
    code = pd.MultiIndex.from_frame(texts[DAY])
    first = np.flatnonzero(~code.duplicated())
    said, weight = texts["sentiment"].to_numpy("float64"), texts["novelty"].to_numpy("float64")
    count = np.diff(np.r_[first, len(texts)])
    mean = np.add.reduceat(said, first) / count
    variance = np.add.reduceat(np.square(said - np.repeat(mean, count)), first) / count
    total = np.add.reduceat(weight, first)
    weighted = np.add.reduceat(weight * said, first)
    newest = first + count - 1
    return pd.DataFrame(
        {
            **{name: texts[name].to_numpy()[first] for name in DAY},
            "documents": count,
            "sentiment": mean,
            "dispersion": np.sqrt(variance),
            "novelty": total,
            "novel_sentiment": np.where(total > 0, weighted / np.where(total > 0, total, 1), mean),
            "model_version": texts["model_version"].to_numpy()[newest],
            "known_at": texts["known_at"].groupby(np.repeat(first, count)).max().array,
        }
    )


def _take_over_mentions(warehouse: Warehouse, model: str, night: Night, run_id: str) -> int:
    """Add symbols that were found for texts scored before; days that are other than they were.

    What has been looked at is remembered; a symbol that is known after the cut-off waits.
    """
    mark = warehouse.one("SELECT done FROM ops.progress WHERE name = ?", MENTIONS)
    since = mark[0] if mark is not None else 0
    (done,) = warehouse.one(
        """
        SELECT coalesce(min(rowid) FILTER (rowid >= $1 AND known_at > $2), count(*))
        FROM raw.mentions
        """,
        since,
        night.cutoff,
    ) or (0,)
    with warehouse.transaction():
        touched = warehouse.frame(
            f"""
            -- one row per scored text and symbol that it was not known to be about
            SELECT s.source, s.document_id, s.known_at, m.entity, s.session
            FROM raw.mentions m
            JOIN main.document_sentiment s ON {_is_about("m", "s")}
            WHERE m.rowid >= $1 AND m.known_at <= $2 AND NOT list_contains(s.entities, m.entity)
            """,
            since,
            night.cutoff,
        )
        if len(touched):
            with warehouse.relation(touched, "added"):
                warehouse.native.execute(
                    """
                    UPDATE main.document_sentiment AS s
                    SET entities = list_sort(list_concat(s.entities, a.entities))
                    FROM (
                        SELECT source, document_id, known_at, list(entity) AS entities
                        FROM added
                        GROUP BY source, document_id, known_at
                    ) a
                    WHERE s.source = a.source AND s.document_id = a.document_id
                        AND s.known_at = a.known_at
                    """
                )
        days = bring_days_up_to_date(
            warehouse, touched[DAY].drop_duplicates(ignore_index=True), model, night, run_id
        )
        warehouse.upsert(progress, {"name": MENTIONS, "done": done})
    return days


def _append(warehouse: Warehouse, rows: pd.DataFrame) -> None:
    """Append rows whose symbols are lists: an empty one has no type of its own."""
    table = pa.Table.from_pandas(rows.drop(columns="entities"), preserve_index=False)
    entities = pa.array(rows["entities"].map(list).tolist(), pa.list_(pa.string()))
    for name in ("duplicate_of", "language"):
        known = rows[name].astype("object").where(rows[name].notna(), None)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(known.tolist(), pa.string()))
    warehouse.append(document_sentiment, table.append_column("entities", entities))


# --------------------------------------------------------------------------- as a signal


def score_daily(
    warehouse: Warehouse,
    declared: Signal,
    night: Night,
    calendar: Sessions,
    run_id: str,
    role: Role = "live",
) -> Scored:
    """Write the signal of a night's exchange day: one row for each symbol with a text.

    Raises
    ------
    LookbackError
        The model of text has no champion; the view has not been materialized.
    LookAheadError
        The champion learned from labels that were not known at the night's cut-off.
    RegistryError
        Neither the champion nor one before it can be loaded.
    """
    version, _, problem = usable_version(warehouse, declared, night)
    reading = read_day(warehouse, declared, version, night, calendar, Imprint(run_id, role))
    day = pd.Timestamp(night.session)
    return publish_reading(warehouse, declared, version, reading, (day, day), role, problem)


def read_day(
    warehouse: Warehouse,
    declared: Signal,
    version: ModelVersion,
    night: Night,
    calendar: Sessions,
    imprint: Imprint,
) -> Reading:
    """What texts said up to the close of a night's session, as known at its cut-off."""
    assert declared.view is not None
    windows = read_windows(
        warehouse,
        feature_view(declared.view),
        night.cutoff,
        as_of=night.session,
        features=[str(declared.feature)],
    )
    return Reading(
        len(windows),
        windows.data_snapshot,
        lambda: daily_rows(
            warehouse.settings, declared, version, windows, night, calendar, imprint
        ),
    )


def daily_rows(
    settings: Settings,
    declared: Signal,
    version: ModelVersion,
    windows: Windows,
    night: Night,
    calendar: Sessions,
    imprint: Imprint,
) -> pd.DataFrame:
    """Rows of `signals` that the values of a day give."""
    require_no_look_ahead(version, night)
    view, acted_at = feature_view(windows.view), night.time()
    delay = settings.publication_delay_minutes
    value = pd.Series(windows.X[:, -1, 0].astype("float64"))
    rows = pd.DataFrame(
        {
            "signal": declared.name,
            "entity": windows.index["entity"].astype("str"),
            "as_of": windows.index["as_of"],
            "horizon": view.horizon,
            "horizon_unit": view.horizon_unit,
            "role": imprint.role,
            "known_at": windows.index["known_at"],
            "tradable_from": tradable_from(calendar, acted_at, delay),
            "value": value,
            **dict.fromkeys(("q05", "q50", "q95", "probability")),
            # a rank says nothing about a symbol alone
            "rank": value.rank(pct=True) if len(value) > 1 else np.nan,
            "model": version.model,
            "model_version": version.model_version,
            "feature_view": windows.view,
            "feature_version": windows.version,
            "data_snapshot": windows.data_snapshot,
            "published_at": pd.Timestamp(imprint.published_at or acted_at),
            "run_id": imprint.run_id,
        }
    )
    return rows[list(CONTRACT)]


def refresh_daily(warehouse: Warehouse) -> None:
    """Make the view `sentiment_daily`: one row per symbol and exchange day, its newest values."""
    view = feature_view("sentiment_daily")
    known = warehouse.one(
        "SELECT 1 FROM main.feature_views WHERE view = ? AND version = ?", view.name, view.version
    )
    table = view.table
    if known is None:
        # a store that no text has come to has the view all the same
        values = ", ".join(f"NULL::DOUBLE AS {name}" for name in view.names)
        table = f"""(
                SELECT NULL::VARCHAR AS entity, NULL::DATE AS date, {values},
                    NULL::TIMESTAMPTZ AS known_at, NULL::TIMESTAMPTZ AS known_until
                WHERE false
            )"""
    described = {
        "entity": "symbol",
        "session": "exchange day, from the close before it to its own close",
        **{feature.name: feature.description for feature in view.features},
        "known_at": "UTC time at which the newest of the day's texts was known",
    }
    # a count is a whole number, though a feature is none
    columns = [
        "CAST(documents AS BIGINT) AS documents" if name == "documents" else name
        for name in view.names
    ]
    with warehouse.transaction():
        warehouse.native.execute(
            f"""
            -- one row per (entity, session)
            CREATE OR REPLACE VIEW main.sentiment_daily AS
            SELECT entity, date AS session, {", ".join(columns)}, known_at
            FROM {table}
            WHERE known_until IS NULL
            """
        )
        comment_view(
            warehouse,
            "sentiment_daily",
            "What texts said of each symbol from close to close: one row per (entity, session), "
            "as known now; at an instant: features.sentiment_daily_as_of(ts)",
            described,
        )
