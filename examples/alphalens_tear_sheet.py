"""Tear sheet of a signal with alphalens: returns by quantile, IC, turnover; pictures as PNG."""

from __future__ import annotations

import warnings

from inputs import Inputs, run
from pictures import saved

from signals import readers


def main(given: Inputs) -> None:
    """Tables on the terminal, pictures in the output folder."""
    from alphalens import tears, utils

    factor, prices = readers.to_alphalens(given.signals, given.close)
    data = utils.get_clean_factor_and_forward_returns(
        factor, prices, quantiles=5, periods=(1, 5, 10)
    )
    with saved(given.output, "alphalens") as pictures, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tears.create_full_tear_sheet(data)
    print(f"{len(pictures)} pictures in {given.output}")


if __name__ == "__main__":
    run(main, __doc__)
