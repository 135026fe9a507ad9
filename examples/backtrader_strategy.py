"""A backtrader strategy that reads each bar's `signal` line: the highest fifth, held a week."""

from __future__ import annotations

from math import isfinite
from typing import Any

import backtrader
from inputs import Inputs, run

from signals import readers

COST_BPS = 10
SHARE = 0.2


class HighestFifth(backtrader.Strategy):  # type: ignore[misc]
    """Holds the symbols with the highest scores in equal parts, from the close it sees them at."""

    def __init__(self) -> None:
        self.seen: tuple[float, ...] = ()

    def prenext(self) -> None:
        self.next()  # symbols that are listed later do not keep the others waiting

    def next(self) -> None:
        scores = {feed: feed.signal[0] for feed in self.datas if len(feed)}
        scores = {feed: score for feed, score in scores.items() if isfinite(score)}
        if not scores or tuple(scores.values()) == self.seen:
            return
        self.seen = tuple(scores.values())
        count = max(1, round(SHARE * len(scores)))
        wanted = set(sorted(scores, key=scores.__getitem__)[-count:])
        for feed in sorted(self.datas, key=lambda feed: feed in wanted):  # sells come first
            # a little stays in cash: the costs are paid from it
            self.order_target_percent(feed, target=0.98 / count if feed in wanted else 0.0)


def main(given: Inputs) -> None:
    """Value at the end, and what was paid for it."""
    feed: Any = readers.backtrader_feed()
    cerebro = backtrader.Cerebro()
    for name, frame in readers.to_backtrader(given.signals, given.close).items():
        cerebro.adddata(feed(dataname=frame), name=name)
    cerebro.addstrategy(HighestFifth)
    cerebro.broker.setcash(1_000_000)
    cerebro.broker.setcommission(commission=COST_BPS / 1e4)
    cerebro.broker.set_coc(True)  # fill at the close of `tradable_from`, not at the next open
    cerebro.addanalyzer(backtrader.analyzers.TradeAnalyzer, _name="trades")
    cerebro.addanalyzer(backtrader.analyzers.TimeReturn, _name="returns")
    (strategy,) = cerebro.run()
    trades = strategy.analyzers.trades.get_analysis()
    print(f"value {cerebro.broker.getvalue():,.0f} after {trades.total.closed} closed trades")
    days = strategy.analyzers.returns.get_analysis()
    print(f"{len(days)} sessions, the worst {min(days.values()):.2%}")


if __name__ == "__main__":
    run(main, __doc__)
