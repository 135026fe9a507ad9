import numpy as np
import pandas as pd
import pytest

from db.errors import TrainingError
from models.promotion import Contender, judge

DATES = pd.bdate_range("2018-01-01", periods=120)


def contender(version, kind, level, noise=0.1, seed=None):
    draw = np.random.default_rng(len(version) if seed is None else seed)
    losses = pd.Series(level + noise * draw.standard_normal(len(DATES)), index=DATES)
    return Contender(version, kind, losses - losses.mean() + level)


def network(version, level, **more):
    return contender(version, "network", level, **more)


def baseline(version, level, **more):
    return contender(version, "baseline", level, **more)


def test_a_network_that_beats_every_baseline_is_the_first_champion():
    verdict = judge([network("net", 0.9), baseline("b1", 1.0), baseline("b2", 1.1)], None, "loss")
    assert verdict.version == "net"
    assert verdict.reason == (
        "the network beats every baseline: loss 0.9 against 1 of b1, 120 dates"
    )


def test_where_no_network_beats_it_the_best_baseline_is_champion_and_says_so():
    verdict = judge([network("net", 1.2), baseline("b1", 1.0), baseline("b2", 1.1)], None, "loss")
    assert verdict.version == "b1"
    assert verdict.reason.startswith("no network beats this baseline: loss 1 against 1.2 of net")


def test_a_champion_that_no_network_can_be_put_beside_stays():
    verdict = judge([network("new", 0.5), baseline("b", 1.0)], "old", "loss")
    assert (verdict.version, "neither version has seen" in verdict.reason) == ("old", True)


@pytest.mark.parametrize(
    ("level", "champion"), [(0.80, "new"), (0.9, "new"), (0.905, "new"), (0.95, "old")]
)
def test_a_new_network_takes_over_unless_it_is_worse_beyond_noise(level, champion):
    sides = [network("new", level, seed=1), network("old", 0.9, seed=2), baseline("b", 1.0)]
    verdict = judge(sides, "old", "loss")
    assert verdict.version == champion
    assert "against the champion's 0.9 on 120 dates" in verdict.reason
    assert ("worse beyond noise" in verdict.reason) == (champion == "old")


def test_a_network_champion_that_a_baseline_beats_goes():
    verdict = judge([network("new", 1.3), network("old", 1.2), baseline("b", 1.0)], "old", "loss")
    assert verdict.version == "b"
    assert "no network beats this baseline" in verdict.reason


def test_a_network_champion_stays_where_the_new_one_loses_to_the_baseline():
    verdict = judge([network("new", 1.3), network("old", 0.9), baseline("b", 1.0)], "old", "loss")
    assert verdict.version == "old"
    assert verdict.reason.startswith("the champion stays: the network beats every baseline")


def test_a_baseline_champion_gives_way_to_a_network_that_beats_them_all():
    sides = [network("new", 0.9), baseline("b", 1.0), baseline("old", 1.0)]
    assert judge(sides, "old", "loss").version == "new"


def test_a_baseline_champion_is_renewed():
    sides = [network("net", 1.5), baseline("b", 1.0, seed=1), baseline("old", 1.0, seed=1)]
    assert judge(sides, "old", "loss").version == "b"


def test_a_forecast_that_is_no_number_disqualifies():
    broken = Contender("net", "network", pd.Series(np.where(DATES[7] == DATES, np.nan, 0.1), DATES))
    assert judge([broken, baseline("b", 1.0)], None, "loss").version == "b"
    assert judge([broken, baseline("b", 1.0)], "net", "loss").version == "b"
    with pytest.raises(TrainingError, match="finite"):
        judge([broken], None, "loss")
