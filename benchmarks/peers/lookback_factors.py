"""The 14 factors with Lookback's own window statistics."""

from __future__ import annotations

from importlib.metadata import version

import pandas as pd
from stopwatch import measure


def load(source: str) -> pd.DataFrame:
    return pd.read_parquet(source, columns=["ticker", "date", "close", "volume"])


def compute(frame: pd.DataFrame) -> pd.DataFrame:
    """`ticker`, `date` and the 14 factors, a row for each row of `frame`, in its order."""
    raise NotImplementedError("features.rolling")


if __name__ == "__main__":
    measure(
        "Lookback",
        version("lookback"),
        load,
        compute,
        lambda factors, target: factors.to_parquet(target, index=False),
    )
