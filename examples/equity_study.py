"""What a weekly equity signal is worth: rank IC, decay, turnover, and a portfolio after costs.

    python examples/equity_study.py --signals PATH --start 2015-01-01 --end 2017-12-31

Beside it stand last week's reversal and all symbols in equal parts, on the same symbols and
dates. Returns are counted from the close that made a score (the label) and from the close of
`tradable_from` (what could be traded). Portfolios are vectorbt's; pictures are alphalens's.

A daily move by more than the factor of `--largest-move` up or down counts as no return, as a
break that the quality gate found does; the study says how many there are. A label or tradable
return over either is left out.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from inputs import parser

from db.errors import LookbackError
from models.evaluation import evaluate_cross_section
from models.reproduction.tradable import WeeklyPeriods
from signals import readers

YEAR = 252
# Sessions that decay and the last holding reach beyond the last score.
AHEAD = pd.Timedelta(days=60)
PERIODS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Prices:
    """Wide daily closes; `broken` marks sessions whose return is unknown."""

    close: pd.DataFrame
    broken: pd.DataFrame
    breaks: int
    moves: int

    def returns(
        self, rows: pd.DataFrame, bought: Any, sold: Any, per_date: WeeklyPeriods
    ) -> npt.NDArray[np.float64]:
        """Return of each row's entity between two sessions of its date: (n,), NaN if unknown."""
        days = self.close.index.to_numpy("datetime64[D]")
        place = np.searchsorted(per_date.dates, rows["as_of"].to_numpy("datetime64[D]"))
        begin, end = np.searchsorted(days, bought)[place], np.searchsorted(days, sold)[place]
        column = self.close.columns.get_indexer(rows["entity"])
        known = (column >= 0) & (end < len(days))
        begin, end, column = begin[known], end[known], column[known]
        close, breaks = self.close.to_numpy(), self.broken.to_numpy().cumsum(axis=0)
        found = np.full(len(rows), np.nan)
        unbroken = breaks[end, column] == breaks[begin, column]
        found[known] = np.where(unbroken, close[end, column] / close[begin, column] - 1, np.nan)
        return found


def read_prices(path: Path | None, signals: readers.Signals, largest_move: float) -> Prices:
    """Total-return closes of the signal's symbols, unbelievable moves taken out."""
    dates = signals.frame["as_of"]
    span = {"start": dates.min() - pd.Timedelta(days=14), "end": dates.max() + AHEAD}
    gains = readers.total_returns(path, entities=signals.entities, **span)
    close = readers.prices(path, entities=signals.entities, **span)
    first = close.notna().cumsum() == 1
    breaks = close.notna() & gains.isna() & ~first
    moves = (gains + 1 > largest_move) | (gains + 1 < 1 / largest_move)
    growth = (1 + gains.mask(moves)).where(~first).fillna(1.0).cumprod()
    level = (growth * close.bfill().iloc[0]).where(close.notna())
    return Prices(level, breaks | moves, int(breaks.sum().sum()), int(moves.sum().sum()))


def reversal(signals: readers.Signals, prices: Prices, week: WeeklyPeriods) -> readers.Signals:
    """The week's return with its sign turned, for the same rows, where it is known."""
    days = prices.close.index.to_numpy("datetime64[D]")
    monday = week.dates - (week.dates.astype("int64") + 3) % 7
    before = days[np.searchsorted(days, monday) - 1]
    gains = prices.returns(signals.frame, before, week.dates, week)
    frame = signals.frame.assign(value=-gains)
    return replace(signals, name="reversal", frame=frame[np.isfinite(gains)])


def ranking(signals: readers.Signals, prices: Prices, week: WeeklyPeriods) -> dict[str, Any]:
    """Figures of the ranking against label and tradable return."""
    rows = signals.frame
    return evaluate_cross_section(
        rows["value"],
        prices.returns(rows, week.label_from, week.label_until, week),
        rows["as_of"],
        rows["entity"],
        against={"tradable": prices.returns(rows, week.from_, week.until, week)},
    )


def portfolio(
    signals: readers.Signals, prices: Prices, cost_bps: float, long: float, short: float
) -> dict[str, float]:
    """A portfolio in vectorbt, without costs and with; turnover is of a rebalance, one way."""
    import vectorbt as vbt

    close, size = readers.to_vectorbt(signals, prices.close, long=long, short=short)
    held = (size.fillna(0.0) != 0).any()
    close, size = close.loc[:, held], size.loc[:, held]
    weights = readers.weights(signals, prices.close, long=long, short=short)
    sequence = sells_first(weights, close)

    def daily(fees: float) -> pd.Series[float]:
        found = vbt.Portfolio.from_orders(
            close,
            size,
            size_type="targetpercent",
            group_by=True,
            cash_sharing=True,
            call_seq=sequence,
            fees=fees,
            init_cash=1e9,
            freq="1D",
        ).returns()
        begun: pd.Series[float] = found[found.index >= size.dropna(how="all").index[0]]
        return begun

    turnover = readers.portfolio_returns(weights, prices.close)["turnover"].reindex(weights.index)
    gross, net = daily(0.0), daily(cost_bps / 1e4)
    value = (1 + net).cumprod()
    return {
        "gross p.a.": _per_year(gross),
        "net p.a.": _per_year(net),
        "volatility": float(net.std() * YEAR**0.5),
        "Sharpe gross": float(gross.mean() / gross.std() * YEAR**0.5),
        "Sharpe net": float(net.mean() / net.std() * YEAR**0.5),
        "worst fall": float((value / value.cummax() - 1).min()),
        "turnover": float(turnover.iloc[1:].mean()),
    }


def sells_first(weights: pd.DataFrame, close: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The order in which vectorbt fills a day's orders, so that what is sold pays for the rest.

    Its own `call_seq="auto"` gives the same; its time grows with the square of the symbols.
    """
    held = readers.holdings(weights[close.columns], close).positions.reindex(columns=close.columns)
    trades = (held - held.shift() * (close / close.shift()).reindex(held.index)).fillna(0.0)
    order = np.tile(np.arange(close.shape[1]), (len(close), 1))
    order[-len(held) :] = np.argsort(trades.to_numpy(), axis=1, kind="stable")
    return order


def _per_year(returns: pd.Series[float]) -> float:
    return float((1 + returns).prod() ** (YEAR / len(returns)) - 1)


def tear_sheet(signals: readers.Signals, prices: Prices, output: Path) -> None:
    """Alphalens' tables on the terminal and its pictures as PNG."""
    from alphalens import tears, utils
    from pictures import saved

    with saved(output, "alphalens") as pictures, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        factor, close = readers.to_alphalens(signals, prices.close)
        data = utils.get_clean_factor_and_forward_returns(
            factor, close, periods=PERIODS, quantiles=5
        )
        tears.create_full_tear_sheet(data)
    print(f"{len(pictures)} pictures in {output}")


def study(given: argparse.Namespace) -> None:
    """Print the tables."""
    signals = readers.read(
        given.signals, signal=given.signal, role=given.role, start=given.start, end=given.end
    )
    if signals.sessions is None:
        raise LookbackError(f"{given.signals} has no sessions; give a published file")
    prices = read_prices(given.signals, signals, given.largest_move)
    week = WeeklyPeriods.after(signals.frame["as_of"], signals.sessions.to_numpy("datetime64[D]"))
    both = {signals.name: signals, "reversal": reversal(signals, prices, week)}
    print(
        f"{signals.name}: {len(signals):,} scores of {len(signals.entities):,} symbols on "
        f"{len(week.dates)} dates, {week.dates[0]} to {week.dates[-1]}; "
        f"versions {', '.join(signals.frame['model_version'].unique())}\n"
        f"no return on {prices.breaks:,} breaks and on {prices.moves:,} daily moves beyond "
        f"{given.largest_move:g} times\n"
    )
    figures = {name: ranking(each, prices, week) for name, each in both.items()}
    print(_table({name: _ic_row(found) for name, found in figures.items()}), end="\n\n")
    print("rank IC with the tradable return that begins so many weeks later")
    print(_table({name: _decay(found) for name, found in figures.items()}), end="\n\n")
    long_short = {
        name: portfolio(each, prices, given.cost_bps, given.long, given.short)
        for name, each in both.items()
    }
    long_short["all in equal parts"] = portfolio(signals, prices, given.cost_bps, 1.0, 0.0)
    print(
        f"portfolios: the highest {given.long:.0%} against the lowest {given.short:.0%}, half of "
        f"the value each, weekly at the close of tradable_from, {given.cost_bps:g} bp a trade"
    )
    print(_table(long_short))
    if not given.no_tear_sheet:
        given.output.mkdir(parents=True, exist_ok=True)
        tear_sheet(signals, prices, given.output)


def _ic_row(found: dict[str, Any]) -> dict[str, float]:
    tradable = found["tradable"]
    return {
        "label rank IC": found["rank_ic"],
        "t": found["rank_ic_t"],
        "tradable rank IC": tradable["rank_ic"],
        "t ": tradable["rank_ic_t"],
        "dates": found["n_dates"],
        "turnover": found["turnover"],
    }


def _decay(found: dict[str, Any]) -> dict[str, float]:
    return {f"lag {each['lag']}": each["rank_ic"] for each in found["tradable"]["decay"]}


def _table(rows: dict[str, dict[str, float]]) -> str:
    return pd.DataFrame(rows).T.to_string(float_format=lambda value: f"{value:.4f}")


def main() -> None:
    """Run the study; what is wrong with its inputs is one line."""
    arguments = parser(__doc__)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--role", default="backfill", choices=["backfill", "live"])
    arguments.add_argument("--start")
    arguments.add_argument("--end")
    arguments.add_argument("--cost-bps", type=float, default=10.0)
    arguments.add_argument("--long", type=float, default=0.1)
    arguments.add_argument("--short", type=float, default=0.1)
    arguments.add_argument("--no-tear-sheet", action="store_true")
    try:
        study(arguments.parse_args())
    except LookbackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
