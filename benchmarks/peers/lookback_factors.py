"""The 14 factors with Lookback's own window statistics, as a feature view computes them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from stopwatch import measure

from features.evaluate import transformed
from features.rolling import Floats, Rows
from features.view import Feature, FeatureView, Input

WINDOWS = (5, 21, 63, 252)


def factors(inputs: Mapping[str, Rows]) -> dict[str, Floats]:
    """The factors of one stretch of stocks."""
    bars = inputs["bars"]
    growth, volume = bars["growth"], bars["volume"]
    gain = growth - 1
    levels = bars.levels(growth, WINDOWS)
    change = 1 - 1 / growth
    risen, moved = bars.priced_sums(growth, (np.maximum(change, 0), np.abs(change)), 14)
    month, quarter = bars.stds(gain, (21, 63))
    volume_week, volume_month = bars.means(volume, (5, 21))
    return {
        "return_1": bars.now(gain),
        **{f"return_{k}": level.growth - 1 for k, level in zip(WINDOWS, levels, strict=True)},
        **{f"ma_ratio_{k}": 1 / level.mean for k, level in zip(WINDOWS, levels, strict=True)},
        "volatility_21": month,
        "volatility_63": quarter,
        "drawdown_252": 1 / levels[-1].highest - 1,
        "rsi_14": 100 * risen / moved,
        "volume_ratio_5_21": volume_week / volume_month,
    }


NAMES = (
    "return_1",
    *(f"return_{k}" for k in WINDOWS),
    *(f"ma_ratio_{k}" for k in WINDOWS),
    "volatility_21",
    "volatility_63",
    "drawdown_252",
    "rsi_14",
    "volume_ratio_5_21",
)
VIEW = FeatureView(
    name="fourteen_factors",
    description="the factors of the benchmark",
    entity="symbol",
    inputs=(Input("bars", memory=252),),
    transform=factors,
    features=tuple(Feature(name) for name in NAMES),
    window=1,
    target="return_1",
    horizon=1,
    horizon_unit="session",
)


def load(source: str) -> Rows:
    """The panel as the rows of an input, with growth from close to close."""
    columns = ["ticker", "date", "close", "volume"]
    table = pq.read_table(source, columns=columns, read_dictionary=["ticker"], use_threads=False)
    tickers = table["ticker"].unify_dictionaries().combine_chunks()
    codes = tickers.indices.to_numpy()  # the rows are sorted by ticker and date
    close = table["close"].to_numpy()
    growth = np.full(len(close), np.nan)
    growth[1:] = close[1:] / close[:-1]
    growth[1:][codes[1:] != codes[:-1]] = np.nan
    day = table["date"].to_numpy().astype("datetime64[D]")
    return Rows(
        np.array(tickers.dictionary.to_pylist(), dtype=object),
        codes,
        day,
        day.astype("int64"),
        {"growth": growth, "volume": table["volume"].to_numpy()},
    )


def write(rows_and_values: tuple[Rows, np.ndarray], target: str) -> None:
    """Factors with ticker and date, to Parquet."""
    rows, values = rows_and_values
    frame = pd.DataFrame(values, columns=list(NAMES))
    frame.insert(0, "ticker", rows.names[rows.entity])
    frame.insert(1, "date", rows.date.astype("datetime64[us]"))
    frame.to_parquet(target, index=False)


def compute(rows: Rows) -> tuple[Rows, np.ndarray]:
    """All factors of all rows, float64 (n, 14)."""
    return rows, transformed(VIEW, {"bars": rows}).values


if __name__ == "__main__":
    measure("Lookback", version("lookback"), load, compute, write)
