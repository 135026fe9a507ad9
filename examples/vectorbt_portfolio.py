"""Portfolio of the tenth with the highest scores against the tenth with the lowest, in vectorbt."""

from __future__ import annotations

from inputs import Inputs, run

from signals import readers

COST_BPS = 10


def main(given: Inputs) -> None:
    """Figures on the terminal, the value day by day as Parquet."""
    import vectorbt as vbt

    vbt.settings.returns["year_freq"] = "252 days"  # rows are sessions, not calendar days
    close, size = readers.to_vectorbt(given.signals, given.close, long=0.1, short=0.1)
    portfolio = vbt.Portfolio.from_orders(
        close,
        size,
        size_type="targetpercent",
        group_by=True,
        cash_sharing=True,
        call_seq="auto",
        fees=COST_BPS / 1e4,
        init_cash=1_000_000,
        freq="1D",
    )
    print(portfolio.stats().to_string())
    file = given.output / "vectorbt_value.parquet"
    portfolio.value().to_frame("value").to_parquet(file)
    print(f"value by day: {file}")


if __name__ == "__main__":
    run(main, __doc__)
