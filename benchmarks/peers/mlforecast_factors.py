"""The 14 factors from mlforecast's lag features, put together with Polars.

`MLForecast` refuses lag 0: its features of a row end the row before. `transform_exog`, the
same features of other columns, takes it, so these are the same windows as everyone's.
"""

from __future__ import annotations

from importlib.metadata import version

import polars as pl
from mlforecast.feature_engineering import transform_exog
from mlforecast.lag_transforms import RollingMax, RollingMean, RollingStd
from stopwatch import measure

KEYS = {"ticker": "unique_id", "date": "ds"}
LAGS = [1, 5, 21, 63, 252]
CLOSE, BEFORE = pl.col("close"), pl.col("close_lag1")


def window(column: str, statistic: str, rows: int) -> pl.Expr:
    """A feature by the name that mlforecast gives it."""
    return pl.col(f"{column}_rolling_{statistic}_lag0_window_size{rows}")


FACTORS = {
    **{f"return_{k}": CLOSE / pl.col(f"close_lag{k}") - 1 for k in LAGS},
    **{f"ma_ratio_{k}": CLOSE / window("close", "mean", k) for k in (5, 21, 63, 252)},
    **{f"volatility_{k}": window("ret1", "std", k) for k in (21, 63)},
    "drawdown_252": CLOSE / window("close", "max", 252) - 1,
    "rsi_14": 100 * window("gain", "mean", 14) / window("move", "mean", 14),
    "volume_ratio_5_21": window("volume", "mean", 5) / window("volume", "mean", 21),
}


def load(source: str) -> pl.DataFrame:
    frame = pl.read_parquet(source, columns=[*KEYS, "close", "volume"])
    return frame.rename(KEYS)


def features(
    frame: pl.DataFrame, columns: list[str], transforms: list, **lags: list
) -> pl.DataFrame:
    """`columns` and their features, in the order of the rows: sorted by stock and date."""
    inputs = frame.select(*KEYS.values(), *columns)
    computed = transform_exog(inputs, lag_transforms={0: transforms}, num_threads=1, **lags)
    return computed.drop(*KEYS.values())


def compute(frame: pl.DataFrame) -> pl.DataFrame:
    means = [RollingMean(k) for k in (5, 21, 63, 252)]
    closes = features(frame, ["close"], [*means, RollingMax(252)], lags=LAGS)
    moves = frame.select(*KEYS.values()).with_columns(
        closes.select(
            ret1=CLOSE / BEFORE - 1, gain=(CLOSE - BEFORE).clip(0), move=(CLOSE - BEFORE).abs()
        )
    )
    parts = [
        frame.select(*KEYS.values()),
        closes,
        features(moves, ["ret1"], [RollingStd(21), RollingStd(63)]),
        features(moves, ["gain", "move"], [RollingMean(14)]),
        features(frame, ["volume"], [RollingMean(5), RollingMean(21)]),
    ]
    names = {new: old for old, new in KEYS.items()}
    return pl.concat(parts, how="horizontal").select(*names, **FACTORS).rename(names)


if __name__ == "__main__":
    measure(
        "mlforecast",
        version("mlforecast"),
        load,
        compute,
        lambda factors, target: factors.write_parquet(target),
    )
