"""The sources of the live profile."""

from __future__ import annotations

from db.settings import Settings
from db.sources.alfred import AlfredSeries, has_key, is_revised
from db.sources.fama_french import FamaFrenchDaily
from db.sources.fred import FredSeries
from db.sources.source import Source
from db.sources.tiingo_bars import TiingoBars
from db.sources.yfinance_bars import YfinanceBars


def live_sources(settings: Settings) -> list[Source]:
    """Every FRED series as a source of its own, the Fama/French factors, the chosen bars.

    With a key of FRED's the monthly series come with their vintages, from ALFRED; index levels
    and series without a publication rule of their own are read from FRED's CSV all the same.
    """
    series = dict.fromkeys(name.strip().upper() for name in settings.fred_series)
    bars = TiingoBars if settings.bars_vendor == "tiingo" else YfinanceBars
    return [
        *(_of_fred(name, settings) for name in series),
        FamaFrenchDaily(settings),
        bars(settings),
    ]


def _of_fred(series: str, settings: Settings) -> Source:
    if has_key(settings) and is_revised(series):
        return AlfredSeries(series, settings)
    return FredSeries(series, settings)
