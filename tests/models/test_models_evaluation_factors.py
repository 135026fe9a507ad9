import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.tools import add_constant

from db.errors import UsageError
from models.evaluation import compounded, net_of_factors, rank_ic_by_date, trailing_betas

WEEKS = pd.date_range("2015-01-02", periods=160, freq="7D")


def weekly(entities=12, seed=0):
    """Returns, the two factors that make them but for noise, and the exposures, which stay."""
    draw = np.random.default_rng(seed)
    factors = pd.DataFrame(
        {
            "Mkt-RF": draw.normal(0.002, 0.02, 160),
            "SMB": draw.normal(0, 0.01, 160),
            "RF": draw.uniform(0, 0.01, 160),
        },
        WEEKS,
    )
    beta = np.column_stack([draw.uniform(0.3, 1.8, entities), draw.normal(size=entities)])
    noise = draw.normal(0, 0.005, (160, entities))
    returns = factors[["Mkt-RF", "SMB"]].to_numpy() @ beta.T + noise + factors[["RF"]].to_numpy()
    return pd.DataFrame(returns, WEEKS, [f"E{n:02d}" for n in range(entities)]), factors, beta


def test_betas_are_those_of_least_squares_over_the_last_weeks():
    returns, factors, _ = weekly()
    returns.iloc[80:100, 3] = np.nan
    found = trailing_betas(returns, factors, dates=[WEEKS[130]], window=104, fewest=52)
    assert found.factors == ("Mkt-RF", "SMB")
    assert found.values.shape == (1, 12, 2)
    for entity in (0, 3):
        rows = returns.iloc[27:131, entity].notna()
        own = (returns.iloc[27:131, entity] - factors["RF"].iloc[27:131])[rows]
        design = add_constant(factors.iloc[27:131][rows][["Mkt-RF", "SMB"]])
        np.testing.assert_allclose(found.values[0, entity], OLS(own, design).fit().params.iloc[1:])


def test_betas_use_the_past_only():
    returns, factors, _ = weekly()
    found = trailing_betas(returns, factors, dates=WEEKS[100:110])
    later_returns, later_factors = returns.copy(), factors.copy()
    later_returns.iloc[106:] = 9.0
    later_factors.iloc[106:, :2] *= -5.0
    changed = trailing_betas(later_returns, later_factors, dates=WEEKS[100:110])
    np.testing.assert_array_equal(found.values[:6], changed.values[:6])
    assert (found.values[6:] != changed.values[6:]).any()
    cut = trailing_betas(returns[:106], factors[:106], dates=WEEKS[100:106])
    np.testing.assert_array_equal(found.values[:6], cut.values)


def test_a_date_between_two_weeks_sees_the_one_before():
    returns, factors, _ = weekly()
    on, after = (
        trailing_betas(returns, factors, dates=[WEEKS[100] + pd.Timedelta(days=days)])
        for days in (0, 6)
    )
    np.testing.assert_array_equal(on.values, after.values)


def test_a_short_history_has_no_beta():
    returns, factors, _ = weekly()
    returns.iloc[:60, 0] = np.nan
    found = trailing_betas(returns, factors, fewest=52)
    first = np.isfinite(found.values[:, :, 0]).argmax(axis=0)
    assert first[0] == 111
    assert (first[1:] == 51).all()


def test_collinear_factors_and_too_few_periods_are_refused():
    returns, factors, _ = weekly()
    with pytest.raises(UsageError, match="collinear"):
        trailing_betas(returns, factors.assign(twice=2 * factors["SMB"] + 0.01))
    with pytest.raises(UsageError, match="3 coefficients need more than 3"):
        trailing_betas(returns, factors, fewest=3)


def test_a_ranking_by_beta_has_an_ic_that_the_factors_explain():
    returns, factors, beta = weekly(entities=60)
    # ranks by exposure in weeks in which the market rose: an IC that is nothing but beta
    days = WEEKS[104:]
    rising = days[factors.loc[days, "Mkt-RF"] > 0.01]
    betas = trailing_betas(returns, factors, dates=WEEKS[103:])
    # scored a week before, held against the return of the week that follows
    scored = rising - pd.Timedelta(days=7)
    realised, entities = (
        returns.loc[rising].to_numpy().ravel(),
        np.tile(returns.columns, len(rising)),
    )
    over = factors.loc[rising].set_axis(scored)
    label_days = scored.repeat(60)
    scores = np.tile(beta[:, 0], len(rising))
    net = net_of_factors(realised, label_days, entities, betas, over)
    assert rank_ic_by_date(scores, realised, label_days).mean() > 0.4
    assert abs(rank_ic_by_date(scores, net, label_days).mean()) < 0.1
    # what is left is the noise of 0.5 % a week, and the riskless return of each date
    of_date = net.reshape(len(rising), 60)
    assert (of_date - of_date.mean(axis=1, keepdims=True)).std() == pytest.approx(0.005, rel=0.15)


def test_net_of_factors_by_hand():
    returns, factors, _ = weekly()
    betas = trailing_betas(returns, factors, dates=WEEKS[[110, 120]])
    over = factors.shift(-1)
    days = [WEEKS[109], WEEKS[110], WEEKS[115], WEEKS[120], WEEKS[120]]
    found = net_of_factors([0.1] * 5, days, ["E01", "E01", "E02", "E02", "none"], betas, over)
    assert np.isnan(found[[0, 4]]).all()
    for at, row, entity, day in ((1, 0, 1, 110), (2, 0, 2, 115), (3, 1, 2, 120)):
        explained = betas.values[row, entity] @ over.iloc[day][["Mkt-RF", "SMB"]].to_numpy("f8")
        assert found[at] == pytest.approx(0.1 - explained)


def test_factor_returns_are_compounded_over_the_very_period():
    days = pd.bdate_range("2015-01-05", periods=15)
    daily = pd.DataFrame({"Mkt-RF": 0.01, "SMB": 0.02, "RF": 0.001}, days)
    daily.loc[days[5], "SMB"] = -0.5
    after = [days[0], days[4], days[9], days[0] - pd.Timedelta(days=1)]
    until = [days[4], days[9], days[14] + pd.Timedelta(days=3), days[2]]
    found = compounded(daily, after, until)
    assert found.index.tolist() == until
    # sessions 1 to 4, and 5 to 9
    assert found["SMB"].iloc[0] == pytest.approx(1.02**4 - 1)
    assert found["SMB"].iloc[1] == pytest.approx(0.5 * 1.02**4 - 1)
    assert found["RF"].iloc[0] == pytest.approx(1.001**4 - 1)
    assert found["Mkt-RF"].iloc[0] == pytest.approx(1.011**4 - 1.001**4)
    # beyond the data on either side
    assert found.iloc[2:].isna().all().all()


def test_factor_returns_that_cannot_be_are_refused():
    days = pd.bdate_range("2015-01-05", periods=3)
    with pytest.raises(UsageError, match="divide by 100"):
        compounded(pd.DataFrame({"SMB": [0.1, 1.5, -0.2]}, days), days[:1], days[1:2])
    with pytest.raises(UsageError, match="missing"):
        compounded(pd.DataFrame({"SMB": [0.1, np.nan, -0.2]}, days), days[:1], days[1:2])
