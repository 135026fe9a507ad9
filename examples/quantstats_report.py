"""Returns of a signal's portfolio after costs: an HTML report by quantstats, figures by pyfolio."""

from __future__ import annotations

import warnings

from inputs import Inputs, run
from pictures import saved

from signals import readers

COST_BPS = 10


def main(given: Inputs) -> None:
    """The report as one HTML file; pyfolio's table on the terminal, its pictures as PNG."""
    import pyfolio
    import quantstats

    returns = readers.to_quantstats(given.signals, given.close, cost_bps=COST_BPS)
    report = given.output / "quantstats.html"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantstats.reports.html(returns, output=str(report), title=given.signals.name)
    print(f"report: {report}")

    daily, positions = readers.to_pyfolio(given.signals, given.close, cost_bps=COST_BPS)
    print(pyfolio.timeseries.perf_stats(daily, positions=positions).to_string())
    with saved(given.output, "pyfolio") as pictures, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyfolio.create_position_tear_sheet(daily, positions)
    print(f"{len(pictures)} pictures in {given.output}")


if __name__ == "__main__":
    run(main, __doc__)
