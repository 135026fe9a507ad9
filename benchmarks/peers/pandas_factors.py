"""The 14 factors with pandas, in one of two layouts: `… SOURCE TARGET groupby|matrix`.

`groupby` takes histories of any length; `matrix` takes whole histories only, as one matrix of
dates by stocks (made with `pivot` from rows in any order, it takes longer than `groupby`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from stopwatch import measure


def load(source: str) -> pd.DataFrame:
    return pd.read_parquet(source, columns=["ticker", "date", "close", "volume"])


def factors(close: Any, volume: Any, lag: Callable, rolling: Callable) -> dict[str, Any]:
    """The factors in the layout of `close`; `rolling(values, k)` gives windows of k rows."""
    before = lag(close, 1)
    ret1, diff = close / before - 1, close - before
    computed = {f"return_{k}": close / lag(close, k) - 1 for k in (1, 5, 21, 63, 252)}
    for k in (5, 21, 63, 252):
        computed[f"ma_ratio_{k}"] = close / rolling(close, k, "mean")
    for k in (21, 63):
        computed[f"volatility_{k}"] = rolling(ret1, k, "std")
    computed["drawdown_252"] = close / rolling(close, 252, "max") - 1
    gain, move = rolling(diff.clip(lower=0), 14, "mean"), rolling(diff.abs(), 14, "mean")
    computed["rsi_14"] = 100 * gain / move
    computed["volume_ratio_5_21"] = rolling(volume, 5, "mean") / rolling(volume, 21, "mean")
    return computed


def compute_groupby(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a stock stand together, in order of date."""
    keys = frame["ticker"].astype("category").cat.codes

    def lag(values: pd.Series, k: int) -> pd.Series:
        return values.groupby(keys, sort=False).shift(k)

    def rolling(values: pd.Series, k: int, statistic: str) -> np.ndarray:
        windows = values.groupby(keys, sort=False).rolling(k)
        return getattr(windows, statistic)().to_numpy()  # the rows' own order: no alignment

    computed = factors(frame["close"], frame["volume"], lag, rolling)
    return frame[["ticker", "date"]].assign(**computed)


def compute_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by stock and date, as many for each stock."""
    sessions = int((frame["ticker"] == frame["ticker"].iloc[0]).sum())

    def matrix(name: str) -> pd.DataFrame:
        return pd.DataFrame(frame[name].to_numpy().reshape(-1, sessions).T)

    def lag(values: pd.DataFrame, k: int) -> pd.DataFrame:
        return values.shift(k)

    def rolling(values: pd.DataFrame, k: int, statistic: str) -> pd.DataFrame:
        return getattr(values.rolling(k), statistic)()

    computed = factors(matrix("close"), matrix("volume"), lag, rolling)
    long = {name: np.ravel(wide.to_numpy(), order="F") for name, wide in computed.items()}
    return frame[["ticker", "date"]].assign(**long)


if __name__ == "__main__":
    layout = sys.argv[3]
    measure(
        f"pandas, {layout}",
        pd.__version__,
        load,
        {"groupby": compute_groupby, "matrix": compute_matrix}[layout],
        lambda computed, target: computed.to_parquet(target, index=False),
    )
