import json

import numpy as np
import pandas as pd
import pytest

from db.errors import LookbackError, UsageError
from models.evaluation import (
    compare,
    confidence_set,
    losses_by_date,
    superior_ability,
    worse_beyond_noise,
)

DAYS = np.arange(np.datetime64("2015-01-02"), np.datetime64("2015-01-02") + 200)


def losses(better=0.0, several=6, seed=0, days=200):
    """Squared errors that share what was hard to forecast; the last forecaster's are smaller."""
    draw = np.random.default_rng(seed)
    hard = 1 + draw.gamma(2.0, 0.5, days)
    frame = pd.DataFrame(
        {f"m{number}": hard + draw.normal(0, 0.3, days) for number in range(several)},
        index=DAYS[:days],
    )
    frame["m0"] -= better
    return frame


def test_losses_of_a_date_are_averaged():
    dates = np.array(["2015-01-03", "2015-01-02", "2015-01-03"], "datetime64[D]")
    found = losses_by_date({"a": [1.0, 5.0, 3.0], "b": [0.0, 1.0, 1.0]}, dates)
    assert found.index.tolist() == pd.to_datetime(["2015-01-02", "2015-01-03"]).tolist()
    assert found["a"].tolist() == [5.0, 2.0]
    assert found["b"].tolist() == [1.0, 0.5]


def test_identical_losses_are_not_worse():
    ours = losses()["m1"]
    found = worse_beyond_noise(ours, ours, DAYS)
    assert not found.is_worse
    assert not found.is_better
    assert (found.mean_difference, found.low, found.high, found.t) == (0.0, 0.0, 0.0, None)
    assert found.n_dates == 200


def test_clearly_larger_losses_are_worse():
    frame = losses(better=0.2)
    found = worse_beyond_noise(frame["m1"], frame["m0"], DAYS)
    assert found.is_worse
    assert found.mean_difference == pytest.approx((frame["m1"] - frame["m0"]).mean())
    assert found.low < found.mean_difference < found.high
    assert found.t > 4
    turned = worse_beyond_noise(frame["m0"], frame["m1"], DAYS)
    assert turned.is_better
    assert turned.t == pytest.approx(-found.t)


def test_equally_good_forecasters_are_seldom_told_apart():
    # 5 % beyond each end are meant
    worse = [
        worse_beyond_noise(frame["m0"], frame["m1"], DAYS, repetitions=200).is_worse
        for frame in (losses(several=2, seed=seed) for seed in range(60))
    ]
    assert sum(worse) <= 9


def test_one_bad_date_is_not_many():
    # 500 entities of one date lose together: it is one observation, not 500
    dates = np.repeat(DAYS[:20], 500)
    ours = np.random.default_rng(0).normal(1, 0.1, dates.size)
    theirs = ours.copy()
    ours[dates == DAYS[3]] += 1.0
    found = worse_beyond_noise(ours, theirs, dates)
    assert found.n_dates == 20
    assert not found.is_worse


def test_too_few_dates_tell_nothing():
    found = worse_beyond_noise(np.full(5, 9.0), np.arange(5.0), DAYS[:5])
    assert not found.is_worse
    assert not found.is_better
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["low"] is None
    frame = losses(better=5.0, days=5)
    assert superior_ability(frame, "m1") is None
    assert set(confidence_set(frame).values()) == {1.0}


def test_overlapping_labels_widen_the_interval():
    draw = np.random.default_rng(3)
    difference = np.convolve(draw.normal(size=211), np.ones(12), "valid") / 12
    alone = worse_beyond_noise(difference, np.zeros(200), DAYS)
    overlapping = worse_beyond_noise(difference, np.zeros(200), DAYS, overlap=40)
    assert abs(overlapping.t) < abs(alone.t)


def test_a_loss_that_is_no_number_is_refused_in_one_line():
    broken = losses()["m1"].to_numpy().copy()
    broken[7] = np.nan
    with pytest.raises(LookbackError, match=r"ours has 1 losses .* 2015-01-09") as error:
        worse_beyond_noise(broken, broken * 0, DAYS)
    assert "\n" not in str(error.value)
    with pytest.raises(LookbackError, match="m1 has 1 losses"):
        superior_ability(losses().assign(m1=broken), "m0")


def test_spa_does_not_reject_for_noise_and_does_for_a_better_forecaster():
    # the best of twenty worthless ones looks good; of 150 tests 15 % were below 0.1 when measured
    p = [
        superior_ability(losses(several=20, seed=seed), "m1", repetitions=200) for seed in range(20)
    ]
    assert sum(each < 0.1 for each in p) <= 6
    assert min(p) > 0.001
    assert superior_ability(losses(better=0.2, several=20), "m1") < 0.01
    # against the one that is better nobody is
    assert superior_ability(losses(better=0.2, several=20), "m0") > 0.5


def test_spa_of_the_benchmark_itself_is_not_defined():
    frame = losses(several=1)
    assert superior_ability(frame.assign(copy=frame["m0"]), "m0") is None
    # what rounding makes is no difference
    assert superior_ability(frame.assign(copy=frame["m0"] * 3 / 3), "m0") is None
    assert superior_ability(frame, "m0") is None


def test_confidence_set_holds_the_best_and_drops_the_worse():
    frame = losses(better=0.3, several=5)
    chances = confidence_set(frame.assign(copy=frame["m0"]))
    assert list(chances) == ["m0", "m1", "m2", "m3", "m4", "copy"]
    assert chances["m0"] == chances["copy"] == 1.0
    assert max(chances[name] for name in ("m1", "m2", "m3", "m4")) < 0.05
    same = confidence_set(losses(several=5))
    assert sum(chance > 0.1 for chance in same.values()) >= 4
    assert confidence_set(losses(several=1)) == {"m0": 1.0}


def test_compare_puts_all_beside_the_benchmark():
    frame = losses(better=0.3, several=3)
    found = compare(frame, "m1")
    assert found["n_dates"] == 200
    assert found["spa_p"] < 0.01
    best = found["forecasters"]["m0"]
    assert best["loss"] == pytest.approx(frame["m0"].mean())
    assert best["in_confidence_set"]
    assert best["difference"]["high"] < 0
    assert "difference" not in found["forecasters"]["m1"]
    assert not found["forecasters"]["m2"]["in_confidence_set"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert compare(frame, "m1") == found


def test_an_unknown_benchmark_is_named():
    with pytest.raises(UsageError, match=r"no losses of var; there are: m0, m1"):
        compare(losses(several=2), "var")
