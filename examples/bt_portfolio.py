"""Long and short portfolio of a signal in bt, with costs, beside all of its symbols alike."""

from __future__ import annotations

from inputs import Inputs, run

from signals import readers

COST_BPS = 10


def main(given: Inputs) -> None:
    """Figures of both on the terminal, their prices as Parquet."""
    import bt

    def backtest(name: str, **choice: float) -> bt.Backtest:
        close, weights = readers.to_bt(given.signals, given.close, **choice)
        strategy = bt.Strategy(name, [bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
        return bt.Backtest(
            strategy,
            close,
            commissions=lambda quantity, price: abs(quantity) * price * COST_BPS / 1e4,
            integer_positions=False,
            progress_bar=False,
        )

    result = bt.run(backtest("signal", long=0.1, short=0.1), backtest("equal", long=1, short=0))
    result.display()
    file = given.output / "bt_prices.parquet"
    result.prices.to_parquet(file)
    print(f"prices of the strategies: {file}")


if __name__ == "__main__":
    run(main, __doc__)
