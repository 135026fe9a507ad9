"""The sources of each profile."""

from __future__ import annotations

from db.settings import Settings
from db.sources.source import Source


def sources(settings: Settings) -> list[Source]:
    """The sources that a profile reads, in the order in which a night fetches them.

    Raises
    ------
    SourceError
        The files profile has no folder to read.
    UsageError
        An address of a feed is none.
    """
    return [*price_sources(settings), *document_sources(settings)]


def price_sources(settings: Settings) -> list[Source]:
    """Bars, series and universes: what becomes known by session or period.

    Raises
    ------
    SourceError
        The files profile has no folder to read.
    """
    if settings.profile == "sample":
        from db.sources.sample import sample_sources

        return sample_sources(settings)
    if settings.profile == "files":
        from db.sources.files import files_sources
        from db.sources.fred import PUBLICATION_RULES

        rules = {name: rule.availability for name, rule in PUBLICATION_RULES.items()}
        return files_sources(settings, rules)
    from db.sources.live import live_sources

    return live_sources(settings)


def document_sources(settings: Settings) -> list[Source]:
    """Texts, which come at any hour: the inbox of every profile, and what the profile has.

    Raises
    ------
    UsageError
        An address of a feed is none.
    """
    from db.sources.inbox import Inbox

    found: list[Source] = [Inbox.of(settings)]
    if settings.profile == "sample":
        from db.sources.sample_texts import SampleTexts

        return [*found, SampleTexts(settings.calendar)]
    if settings.profile == "files":
        from db.sources.files import files_documents

        found += files_documents(settings)
    if settings.feeds:  # the sample profile needs no network
        from db.sources.feeds import feed_sources

        found += feed_sources(settings)
    return found
