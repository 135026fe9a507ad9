import numpy as np
import pytest
from scipy.signal import lfilter
from statsmodels.regression.linear_model import OLS

from models.evaluation.significance import (
    block_length,
    correlation_interval,
    mean_interval,
    newey_west_lags,
    newey_west_t,
)


def autoregression(n, phi=0.6, mean=0.0, seed=0):
    """A stationary AR(1) with shocks of one, after a start that is forgotten."""
    shocks = np.random.default_rng(seed).normal(size=n + 200)
    return mean + lfilter([1.0], [1.0, -phi], shocks)[200:]


def by_hand(values, lags):
    """Newey and West (1987): Bartlett weights 1 - j / (lags + 1), small-sample factor."""
    n, centred = len(values), values - values.mean()
    variance = centred @ centred
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag])
    return values.mean() / np.sqrt(variance / n**2 * n / (n - 1))


@pytest.mark.parametrize("lags", [0, 1, 5, 12])
def test_newey_west_is_the_formula_and_statsmodels(lags):
    values = autoregression(250, mean=0.1)
    fitted = OLS(values, np.ones(250)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}
    )
    assert newey_west_t(values, lags) == pytest.approx(fitted.tvalues[0])
    assert newey_west_t(values, lags) == pytest.approx(by_hand(values, lags))


def test_newey_west_discounts_what_is_autocorrelated():
    values = autoregression(400, phi=0.8, mean=0.5)
    # the long-run deviation of an AR(1) is (1 + phi) / (1 - phi) = 9 times the variance
    assert newey_west_t(values) < 0.7 * newey_west_t(values, 0)
    assert newey_west_t(np.r_[values, np.nan, np.inf]) == newey_west_t(values)


def test_lags():
    assert [newey_west_lags(n) for n in (0, 1, 2, 100, 157, 1000)] == [0, 0, 1, 4, 4, 6]
    assert newey_west_lags(157, overlap=12) == 22
    assert newey_west_lags(10, overlap=12) == 9


def test_what_has_no_t():
    assert newey_west_t([]) is None
    assert newey_west_t([1.0]) is None
    assert newey_west_t(np.full(50, 0.3)) is None


def test_blocks_are_longer_where_values_are_dependent():
    independent, dependent = autoregression(500, 0.0), autoregression(500, 0.9)
    assert 1 <= block_length(independent) < 5 < block_length(dependent)
    assert block_length(independent, overlap=12) == 12
    assert block_length(np.ones(100)) == block_length(np.ones(3)) == 1


def test_interval_of_a_mean_covers_it_as_often_as_it_says():
    # 90 % are meant; percentile intervals of 300 dependent values fall a little short: 85 % of
    # 1,000 when measured
    inside = 0
    for seed in range(100):
        interval = mean_interval(autoregression(300, 0.4, seed=seed), repetitions=200, seed=seed)
        inside += interval.low < 0 < interval.high
    assert 78 <= inside <= 97


def test_interval_of_dependent_values_is_wider_than_without_blocks():
    values = autoregression(400, 0.8)
    blocks, alone = mean_interval(values), mean_interval(values, block=1.0)
    assert blocks.high - blocks.low > 1.5 * (alone.high - alone.low)
    assert blocks == mean_interval(np.r_[values, np.nan])


def test_too_few_values_have_no_interval():
    assert mean_interval(np.arange(7.0)).low is None
    assert mean_interval(np.arange(8.0)).low is not None


def test_interval_of_a_correlation():
    one = autoregression(300, 0.3)
    other = 0.5 * one + autoregression(300, 0.3, seed=1)
    interval = correlation_interval(one, other)
    assert interval.low < np.corrcoef(one, other)[0, 1] < interval.high
    assert interval.low > 0.2
    assert correlation_interval(one, np.ones(300)).low is None
