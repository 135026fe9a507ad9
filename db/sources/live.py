"""The sources of the live profile."""

from __future__ import annotations

from db.settings import Settings
from db.sources.fama_french import FamaFrenchDaily
from db.sources.fred import FredSeries
from db.sources.source import Source
from db.sources.tiingo_bars import TiingoBars
from db.sources.yfinance_bars import YfinanceBars


def live_sources(settings: Settings) -> list[Source]:
    """Every FRED series as a source of its own, the Fama/French factors, the chosen bars."""
    series = dict.fromkeys(name.strip().upper() for name in settings.fred_series)
    bars = TiingoBars if settings.bars_vendor == "tiingo" else YfinanceBars
    return [
        *(FredSeries(name, settings) for name in series),
        FamaFrenchDaily(settings),
        bars(settings),
    ]
