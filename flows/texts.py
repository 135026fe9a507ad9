"""Texts: what a night and the hourly flow have in common, from the inbox to scores by day."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect import get_run_logger

from db.errors import LookbackError
from db.ingest import Delivery
from db.quality.rules import Result
from db.sources.catalog import document_sources
from db.sources.inbox import PutAway, put_away
from db.staging import Staged
from features.materialize import Materialized
from flows import steps
from flows.tasks import bring_in, materialize_views, score_texts
from signals.sentiment import ScoredTexts


@dataclass
class Texts:
    """What became of incoming texts in one run.

    Attributes
    ----------
    deliveries, results : of each source of documents, and of each rule of the gate.
    files : of the inbox, and where they are now.
    scored : None where none could be scored, or no signal is made of texts.
    views : brought up to date.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    results: list[tuple[str, Result]] = field(default_factory=list)
    files: list[PutAway] = field(default_factory=list)
    scored: ScoredTexts | None = None
    views: list[Materialized] = field(default_factory=list)


def bring_in_texts(run: steps.Run, texts: Texts) -> None:
    """Fetch documents, take them over, put the files of the inbox away.

    Only one run at a time does so; where another one does not finish, this one goes on without
    texts and names them missing.
    """
    try:
        with steps.texts_alone(run):
            catalog = document_sources(run.settings)

            def away(staged: Staged, delivery: Delivery) -> None:
                texts.files += put_away(staged, delivery)

            texts.deliveries, texts.results = bring_in(run, catalog, then=away)
    except LookbackError as error:
        run.miss(f"texts: {error}")


def score_new_texts(run: steps.Run, texts: Texts) -> None:
    """Score what has no score yet, and bring the views of sentiment up to date."""
    try:
        with steps.texts_alone(run):
            texts.scored = score_texts(run)
    except LookbackError as error:
        run.miss(str(error))
    except Exception as error:  # noqa: BLE001  a night without texts is a night all the same
        get_run_logger().error("texts could not be scored", exc_info=error)
        run.miss(f"texts: {type(error).__name__}: {error}")
    texts.views = materialize_views(run, list(steps.text_views().values()))
