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
