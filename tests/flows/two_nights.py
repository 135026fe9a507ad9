"""Two nights by their steps, without Prefect; for killing them."""

from __future__ import annotations

import sys
from datetime import date

from db.clock import night
from db.sessions import sessions
from db.settings import load_settings
from db.sources.catalog import sources
from features.catalog import feature_views
from flows import steps
from models.catalog import RECIPES, recipe
from signals.declaration import chosen_signals

NAME = "sp500_next_close"


def one_night(session: date) -> int:
    """Run the night; returns its exit code."""
    quick = recipe(NAME).with_changes(max_epochs=2, train_from=date(2016, 6, 1))
    RECIPES[NAME] = (quick,)
    settings = load_settings(signals=[NAME])
    run = steps.Run(settings, "nightly", night(settings, sessions(settings.calendar), session))
    with steps.alone(run), steps.running(run):
        catalog = sources(settings)
        for source, request in zip(catalog, steps.requests(run, catalog), strict=True):
            steps.take_over(run, steps.fetch(run, source, request))
        for view in feature_views().values():
            steps.materialize_view(run, view, lambda *_: None)
        for name in steps.models_without_champion(run):
            steps.train(run, name, lambda *_: None, only_first=True)
        for signal in chosen_signals(settings).values():
            scored = steps.score_signal(run, signal)
            steps.judge_signal(run, signal, scored.model_version if scored else None)
        _, exit_code = steps.publish_night(run)
    return exit_code


if __name__ == "__main__":
    # the second one knows what came after the first
    sys.exit(max(one_night(session) for session in (date(2018, 12, 28), date(2018, 12, 31))))
