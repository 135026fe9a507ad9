"""The evaluation catches leakage: labels nobody can know, and features that know them."""

import numpy as np
import pytest

from db.errors import UsageError
from models.evaluation import (
    evaluate_cross_section,
    evaluate_direction,
    leaking_features,
    shuffled_within_dates,
)

DATES, ENTITIES = 120, 80
DAYS = np.repeat(np.datetime64("2015-01-02") + 7 * np.arange(DATES), ENTITIES)
NAMES = np.tile(np.arange(ENTITIES), DATES)


def weekly_panel(seed):
    """Returns with a market, and scores that know them well: rank IC about 0.3."""
    draw = np.random.default_rng(seed)
    market = draw.normal(0.002, 0.02, DATES)[:, None]
    returns = market + draw.standard_t(4, (DATES, ENTITIES)) * 0.03
    scores = market + 0.3 * (returns - market) + draw.normal(0, 0.03, returns.shape)
    return scores.ravel(), returns.ravel()


def honest_features(seed, label):
    """What is known of a stock before: reversal, momentum, size, the market's last week."""
    draw = np.random.default_rng(1000 + seed)
    own = label.reshape(DATES, ENTITIES)
    drift = draw.normal(0, 0.002, ENTITIES)
    # last week's return, of which next week's takes a tenth back: rank IC about -0.1
    reversal = -0.1 * own + draw.normal(0, 0.04, own.shape)
    # momentum: right for a while and then wrong
    sign = np.sign(np.sin(np.arange(DATES) / 6.0))[:, None]
    momentum = 0.25 * sign * own + draw.normal(0, 0.04, own.shape)
    size = np.tile(draw.normal(size=ENTITIES), (DATES, 1))
    market = np.tile(draw.normal(size=DATES)[:, None], (1, ENTITIES))
    return {
        "reversal": reversal + drift,
        "momentum": momentum,
        "size": size,
        "market": market,
        "noise": draw.normal(size=own.shape),
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_label_shuffled_within_dates_has_a_rank_ic_within_noise_of_zero(seed):
    scores, label = weekly_panel(seed)
    honest = evaluate_cross_section(scores, label, DAYS, NAMES)
    assert honest["rank_ic"] > 0.2
    assert honest["rank_ic_t"] > 10
    shuffled = shuffled_within_dates(label, DAYS, seed)
    figures = evaluate_cross_section(scores, shuffled, DAYS, NAMES)
    # a rank IC of 80 entities has a deviation of 1 / 79^(1/2), their mean one of 0.0103
    assert abs(figures["rank_ic"]) < 3 * 0.0103
    assert abs(figures["rank_ic_t"]) < 3
    assert honest["rank_ic_low"] > figures["rank_ic_high"]
    within = evaluate_direction(scores, shuffled > 0, DAYS, probabilities=False)
    assert abs(within["auc_within_date_t"]) < 3


def test_the_interval_of_a_shuffled_label_holds_zero_as_often_as_it_says():
    scores, label = weekly_panel(0)
    inside = 0
    for seed in range(20):
        figures = evaluate_cross_section(
            scores, shuffled_within_dates(label, DAYS, seed), DAYS, NAMES, furthest=0
        )
        inside += figures["rank_ic_low"] < 0 < figures["rank_ic_high"]
    # 90 % are meant
    assert inside >= 15


def test_what_knows_the_week_keeps_its_pooled_auc_and_loses_that_within_dates():
    draw = np.random.default_rng(0)
    market = draw.normal(0, 0.04, DATES)
    label = (market[:, None] + draw.normal(0, 0.03, (DATES, ENTITIES))).ravel()
    scores = np.repeat(market, ENTITIES) + draw.normal(0, 1e-3, label.size)
    figures = evaluate_direction(
        scores, shuffled_within_dates(label, DAYS, 1) > 0, DAYS, probabilities=False
    )
    assert figures["auc"] > 0.8
    assert abs(figures["auc_within_date_t"]) < 3


def test_shuffling_moves_rows_whole_and_within_their_dates_only():
    rows = np.random.default_rng(0).permutation(len(DAYS))
    days, label = DAYS[rows], np.column_stack([np.arange(len(DAYS)), np.arange(len(DAYS))])
    shuffled = shuffled_within_dates(label, days, 3)
    assert (shuffled[:, 0] == shuffled[:, 1]).all()
    assert (shuffled != label).any(axis=1).mean() > 0.9
    for day in np.unique(days)[:10]:
        there = days == day
        assert sorted(shuffled[there, 0]) == sorted(label[there, 0])
    np.testing.assert_array_equal(shuffled, shuffled_within_dates(label, days, 3))
    assert (shuffled != shuffled_within_dates(label, days, 4)).any()


LEAKS = {
    "the label": lambda label, draw: label,
    "its float32 copy": lambda label, draw: label.astype("f4"),
    "scaled and shifted": lambda label, draw: 3 - 0.01 * label,
    "its sign": lambda label, draw: label > 0,
    "its logarithm": lambda label, draw: np.log1p(label),
    "a little noise": lambda label, draw: label + draw.normal(0, label.std(), label.size),
    "much noise": lambda label, draw: label + draw.normal(0, 4 * label.std(), label.size),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("leak", LEAKS)
def test_a_feature_that_contains_the_label_is_flagged(leak, seed):
    _, label = weekly_panel(seed)
    honest = honest_features(seed, label)
    draw = np.random.default_rng(seed)
    features = np.column_stack(
        [LEAKS[leak](label, draw), *(each.ravel() for each in honest.values())]
    )
    found = leaking_features(features, label, DAYS, ["leak", *honest])
    assert [each.feature for each in found] == ["leak"]
    assert found[0].n_dates == DATES
    assert abs(found[0].rank_ic) > 0.1


@pytest.mark.parametrize("seed", range(10))
def test_honest_features_are_not_flagged(seed):
    _, label = weekly_panel(seed)
    honest = honest_features(seed, label)
    features = np.column_stack([each.ravel() for each in honest.values()])
    assert leaking_features(features, label, DAYS, list(honest)) == []


def test_of_windows_the_last_step_is_looked_at(panel):
    label = panel.y[:, 0, 0]
    assert leaking_features(panel.X, label, panel.index["as_of"], ["weekly_return"]) == []
    leaking = panel.X.copy()
    leaking[:, -1, 0] = label
    (found,) = leaking_features(leaking, label, panel.index["as_of"], ["weekly_return"])
    assert found.reason == "equals the label, scaled and shifted"
    assert found.correlation == pytest.approx(1.0)


def test_of_one_series_only_the_label_itself_is_found():
    level = 1000 + np.random.default_rng(0).normal(size=401).cumsum()
    last, label, days = level[:-1], level[1:], np.arange(400)
    # levels of neighbouring days correlate by nature
    assert np.corrcoef(last, label)[0, 1] > 0.98
    features = np.column_stack([last, label * 2 + 7])
    (found,) = leaking_features(features, label, days, ["last", "next"])
    assert found.feature == "next"
    assert (found.rank_ic, found.n_dates) == (None, 0)


def test_rows_without_a_label_are_left_out():
    _, label = weekly_panel(0)
    feature = label + 0.0
    label[::7] = np.nan
    feature[3::7] = np.nan
    assert [each.feature for each in leaking_features(feature[:, None], label, DAYS, ["x"])] == [
        "x"
    ]


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="2 names do not fit"):
        leaking_features(np.ones((3, 1)), np.ones(3), np.arange(3), ["a", "b"])
