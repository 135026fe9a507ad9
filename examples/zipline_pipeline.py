"""A zipline pipeline over a signal: the highest fifth, in equal parts, after each new score.

Runs in the environment that `examples/zipline_environment.sh` makes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pandas as pd
from inputs import Inputs, run

from signals import readers

SHARE = 0.2
BUNDLE = "lookback"
BAR = ["open", "high", "low", "close", "volume"]


def register(frames: dict[str, pd.DataFrame], sids: dict[str, int]) -> None:
    """A bundle of daily bars, one asset a symbol."""
    from zipline.data.bundles import register

    equities = pd.DataFrame(
        {
            "symbol": list(sids),
            "asset_name": list(sids),
            "start_date": [frames[name].index[0] for name in sids],
            "end_date": [frames[name].index[-1] for name in sids],
            "exchange": "XNYS",
        },
        index=list(sids.values()),
    )
    exchanges = pd.DataFrame([{"exchange": "XNYS", "canonical_name": "XNYS", "country_code": "US"}])

    def bars() -> Iterator[tuple[int, pd.DataFrame]]:
        for name, sid in sids.items():
            # an order fills only where there is volume, and closes alone have none
            yield sid, frames[name][BAR].replace({"volume": {0.0: 1e9}})

    def ingest(*given: Any) -> None:
        assets, daily, adjustments = given[1], given[3], given[4]
        assets.write(equities=equities, exchanges=exchanges)
        daily.write(bars())
        adjustments.write()

    days = pd.DatetimeIndex(sorted(set().union(*(frame.index for frame in frames.values()))))
    register(BUNDLE, ingest, calendar_name="XNYS", start_session=days[0], end_session=days[-1])


def main(given: Inputs) -> None:
    """Ingest the bars, run the algorithm, say what came of it."""
    environment = os.environ | {"ZIPLINE_ROOT": str(given.output / "zipline")}
    os.environ["ZIPLINE_ROOT"] = environment["ZIPLINE_ROOT"]
    from zipline import run_algorithm
    from zipline.api import attach_pipeline, order_target_percent, pipeline_output
    from zipline.data.bundles import ingest
    from zipline.pipeline import Pipeline
    from zipline.pipeline.data import Column, DataSet
    from zipline.pipeline.domain import US_EQUITIES
    from zipline.pipeline.loaders.frame import DataFrameLoader

    class Scores(DataSet):  # type: ignore[misc]
        value = Column(float)
        domain = US_EQUITIES

    frames = readers.to_backtrader(given.signals, given.close)
    sids = {name: number for number, name in enumerate(frames)}
    last = max(frame.index[-1] for frame in frames.values())
    baseline, sids = readers.to_zipline(given.signals, sids=sids, end=last)
    register(frames, sids)
    ingest(BUNDLE, environ=environment, show_progress=False)

    def initialize(context: Any) -> None:
        attach_pipeline(Pipeline({"score": Scores.value.latest}), "signals")
        context.seen = None

    def handle_data(context: Any, data: Any) -> None:
        scores = pipeline_output("signals")["score"].dropna()
        if context.seen is not None and scores.equals(context.seen):
            return
        context.seen = scores
        wanted = scores.nlargest(max(1, round(SHARE * len(scores)))).index
        for asset in context.portfolio.positions:
            if asset not in wanted:
                order_target_percent(asset, 0.0)
        for asset in wanted:
            order_target_percent(asset, 0.98 / len(wanted))

    sessions = given.signals.sessions
    result = run_algorithm(
        start=baseline.index[0],
        end=last,
        initialize=initialize,
        handle_data=handle_data,
        capital_base=1_000_000,
        bundle=BUNDLE,
        environ=environment,
        benchmark_returns=pd.Series(0.0, pd.DatetimeIndex(sessions).as_unit("ns")),
        custom_loader={Scores.value: DataFrameLoader(Scores.value, baseline)},
    )
    orders = sum(len(day) for day in result["transactions"])
    value = result["portfolio_value"].iloc[-1]
    print(f"value {value:,.0f} after {orders} transactions in {len(result)} sessions")


if __name__ == "__main__":
    run(main, __doc__)
