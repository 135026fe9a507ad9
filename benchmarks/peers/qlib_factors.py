"""The 14 factors with Qlib's expression engine, from its own binary store, every cache off."""

from __future__ import annotations

import sys

import pandas as pd
import qlib
from qlib.data import D
from stopwatch import measure

RET1 = "($close/Ref($close, 1)-1)"
DIFF = "($close-Ref($close, 1))"
FACTORS = {
    **{f"return_{k}": f"$close/Ref($close, {k})-1" for k in (1, 5, 21, 63, 252)},
    **{f"ma_ratio_{k}": f"$close/Mean($close, {k})" for k in (5, 21, 63, 252)},
    **{f"volatility_{k}": f"Std({RET1}, {k})" for k in (21, 63)},
    "drawdown_252": "$close/Max($close, 252)-1",
    "rsi_14": f"100*Mean(Greater({DIFF}, 0), 14)/Mean(Abs({DIFF}), 14)",
    "volume_ratio_5_21": "Mean($volume, 5)/Mean($volume, 21)",
}


def start(store: str) -> None:
    """Open the store with one kernel and no cache on disk."""
    qlib.init(
        provider_uri=store,
        region="us",
        kernels=1,
        expression_cache=None,
        dataset_cache=None,
        logging_level=40,
    )


def compute(_: str) -> pd.DataFrame:
    """Windows not yet full are there too: Qlib's operators ask for one row only."""
    stocks = D.instruments("all")
    factors = D.features(stocks, list(FACTORS.values()), freq="day", disk_cache=0)
    return factors.set_axis(list(FACTORS), axis=1)


def write(factors: pd.DataFrame, target: str) -> None:
    keys = {"instrument": "ticker", "datetime": "date"}
    factors.reset_index().rename(columns=keys).to_parquet(target, index=False)


if __name__ == "__main__":
    start(sys.argv[1])
    measure("Qlib", qlib.__version__, None, compute, write)
