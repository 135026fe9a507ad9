import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from db.errors import UsageError
from models.evaluation import auc_by_date, evaluate_direction


def panel(dates=40, entities=30, seed=0, ties=False):
    draw = np.random.default_rng(seed)
    days = np.repeat(np.arange(dates), entities)
    up = draw.random(days.size) < 0.5
    probability = np.clip(0.5 + 0.05 * (up - 0.5) + draw.normal(0, 0.1, days.size), 0, 1)
    return (probability.round(1) if ties else probability), up, days


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_that_of_scikit_learn_date_by_date(ties):
    scores, up, days = panel(ties=ties)
    expected = [roc_auc_score(up[days == day], scores[days == day]) for day in np.unique(days)]
    np.testing.assert_allclose(auc_by_date(scores, up, days), expected, rtol=1e-12)
    figures = evaluate_direction(scores, up, days, probabilities=True)
    assert figures["auc_within_date"] == pytest.approx(np.mean(expected))
    assert figures["auc"] == pytest.approx(roc_auc_score(up, scores))
    assert figures["n_dates_two_sided"] == 40
    low, high = figures["auc_within_date_low"], figures["auc_within_date_high"]
    assert low < figures["auc_within_date"] < high


def test_dates_on_which_all_rise_or_none_have_no_auc():
    days = np.repeat([0, 1, 2], 3)
    up = np.array([1, 1, 1, 0, 0, 0, 0, 1, 1], bool)
    found = auc_by_date(np.arange(9.0), up, days)
    assert np.isnan(found.iloc[:2]).all()
    assert found.iloc[2] == 1.0
    figures = evaluate_direction(np.arange(9.0), up, days, probabilities=False)
    assert figures["n_dates"] == 3
    assert figures["n_dates_two_sided"] == 1
    assert figures["auc_within_date_t"] is None


def test_knowing_the_week_is_worth_nothing_within_it():
    draw = np.random.default_rng(1)
    days = np.repeat(np.arange(150), 40)
    rate = draw.uniform(0.1, 0.9, 150)[days]
    up = draw.random(days.size) < rate
    scores = np.clip(rate + draw.normal(0, 0.01, days.size), 0, 1)
    figures = evaluate_direction(scores, up, days, probabilities=True)
    assert figures["auc"] > 0.7
    assert figures["auc_within_date"] == pytest.approx(0.5, abs=0.025)
    assert abs(figures["auc_within_date_t"]) < 3


def test_always_saying_the_rate_is_the_entropy_and_half():
    _, up, days = panel()
    figures = evaluate_direction(np.full(up.size, up.mean()), up, days, probabilities=True)
    assert figures["auc"] == pytest.approx(0.5)
    assert figures["auc_within_date"] == pytest.approx(0.5)
    assert figures["log_loss"] == pytest.approx(figures["log_loss_of_rate"])
    assert figures["log_loss"] == pytest.approx(log_loss(up, np.full(up.size, up.mean())))
    assert figures["brier"] == pytest.approx(up.mean() * (1 - up.mean()))
    assert figures["calibration_error"] == pytest.approx(0.0, abs=1e-12)
    assert len(figures["reliability"]) == 1
    # no difference from one half on any date
    assert figures["auc_within_date_t"] is None


def test_accuracy_by_threshold():
    up = np.array([1, 0, 1, 1], bool)
    days = np.zeros(4)
    probabilities = np.array([0.6, 0.6, 0.4, 0.9])
    figures = evaluate_direction(probabilities, up, days, probabilities=True)
    assert figures["accuracy"] == pytest.approx(2 / 4)
    assert figures["up_rate"] == figures["majority_rate"] == pytest.approx(3 / 4)
    scores = np.array([0.1, -0.2, 0.3, -0.1])
    figures = evaluate_direction(scores, up, days, probabilities=False)
    assert figures["accuracy"] == pytest.approx(3 / 4)
    assert figures["log_loss"] is figures["brier"] is figures["reliability"] is None


def test_calibration_of_probabilities_that_are_right_and_of_ones_too_sure():
    draw = np.random.default_rng(2)
    probability = draw.uniform(0.3, 0.7, 20_000)
    up, days = draw.random(20_000) < probability, np.zeros(20_000)
    right = evaluate_direction(probability, up, days, probabilities=True)
    assert len(right["reliability"]) == 10
    assert [each["n"] for each in right["reliability"]] == [2000] * 10
    assert right["calibration_error"] < 0.015
    # twice as far from one half as is true: 0.1 off on average
    sure = evaluate_direction(0.5 + 2 * (probability - 0.5), up, days, probabilities=True)
    assert sure["calibration_error"] == pytest.approx(0.1, abs=0.015)
    assert sure["log_loss"] > right["log_loss"]
    assert sure["auc"] == pytest.approx(right["auc"])


def test_a_direction_that_is_not_known_is_refused():
    with pytest.raises(UsageError, match="not known"):
        evaluate_direction(np.ones(2), [1.0, np.nan], np.zeros(2), probabilities=True)
    with pytest.raises(UsageError, match="not known"):
        auc_by_date(np.ones(2), [1.0, np.nan], np.zeros(2))


def test_scores_are_no_probabilities():
    with pytest.raises(UsageError, match="no probabilities"):
        evaluate_direction([0.2, 1.2], [True, False], [0, 0], probabilities=True)


def test_without_a_row_nothing_is_defined():
    figures = evaluate_direction([], np.zeros(0, bool), [], probabilities=True)
    assert figures["undefined"] == "no known label"
    assert figures["auc"] is figures["up_rate"] is figures["log_loss_of_rate"] is None
