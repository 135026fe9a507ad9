"""The 14 factors with Polars: a lazy aggregation by stock, exploded to rows again.

Measured beside it on 2.1.0 (800 x 3,400, one thread): `over` with "explode" takes as long,
plain `over` half as long again, a frame of a column for each stock many times as long.
"""

from __future__ import annotations

import polars as pl
from stopwatch import measure

CLOSE, VOLUME = pl.col("close"), pl.col("volume")
RET1, DIFF = CLOSE / CLOSE.shift(1) - 1, CLOSE.diff()
FACTORS = {
    **{f"return_{k}": CLOSE / CLOSE.shift(k) - 1 for k in (1, 5, 21, 63, 252)},
    **{f"ma_ratio_{k}": CLOSE / CLOSE.rolling_mean(k) for k in (5, 21, 63, 252)},
    **{f"volatility_{k}": RET1.rolling_std(k) for k in (21, 63)},
    "drawdown_252": CLOSE / CLOSE.rolling_max(252) - 1,
    "rsi_14": 100 * DIFF.clip(0).rolling_mean(14) / DIFF.abs().rolling_mean(14),
    "volume_ratio_5_21": VOLUME.rolling_mean(5) / VOLUME.rolling_mean(21),
}


def load(source: str) -> pl.DataFrame:
    return pl.read_parquet(source, columns=["ticker", "date", "close", "volume"])


def compute(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a stock stand in order of date."""
    by_stock = frame.lazy().group_by("ticker", maintain_order=True)
    return by_stock.agg("date", **FACTORS).explode("date", *FACTORS).collect()


if __name__ == "__main__":
    measure(
        "Polars",
        pl.__version__,
        load,
        compute,
        lambda factors, target: factors.write_parquet(target),
    )
