import numpy as np
import pytest

from models import baselines
from models.evaluation import evaluate_baselines, evaluate_levels, hit_rate


def test_figures_by_hand():
    last = np.array([100.0, 100.0, 100.0, 100.0])
    actual = np.array([101.0, 98.0, 103.0, 100.0])
    forecast = np.array([102.0, 99.0, 99.0, 101.0])
    figures = evaluate_levels(forecast, actual, last, range_width=10.0)
    assert figures["n"] == 4
    # errors 1, 1, -4, 1
    assert figures["rmse"] == pytest.approx(np.sqrt(19 / 4))
    assert figures["mae"] == pytest.approx(7 / 4)
    assert figures["bias"] == pytest.approx(-1 / 4)
    assert figures["rmse_scaled"] == pytest.approx(np.sqrt(19 / 4) / 10)
    assert figures["mae_scaled"] == pytest.approx(0.175)
    # Deviations 1.75, -1.25, -1.25, .75 against .5, -2.5, 2.5, -.5.
    correlation = 0.5 / np.sqrt(6.75 * 13.0)
    assert figures["ic"] == pytest.approx(correlation)
    # One last value for all: returns correlate as the levels do.
    assert figures["return_ic"] == pytest.approx(correlation)
    # Ranks 4, 1.5, 1.5, 3 against 3, 1, 4, 2.
    assert figures["rank_ic"] == pytest.approx(0.5 / np.sqrt(4.5 * 5.0))
    # Right, right, wrong; the last day did not move.
    assert figures["hit_rate"] == pytest.approx(2 / 3)


def test_persistence_has_no_figures_on_returns():
    X = np.array([[[1.0], [2.0]], [[2.0], [4.0]], [[4.0], [3.0]]])
    figures = evaluate_baselines(X, np.array([4.0, 3.0, 3.5]))
    assert figures["persistence"]["return_ic"] is None
    assert figures["persistence"]["hit_rate"] is None
    assert figures["persistence"]["rmse"] == pytest.approx(np.sqrt((4 + 1 + 0.25) / 3))
    assert figures["drift"]["hit_rate"] == pytest.approx(1 / 3)


def test_copying_yesterday_has_a_high_ic_on_levels_only():
    rng = np.random.default_rng(3)
    walk = 1000 + np.cumsum(rng.normal(size=600))
    copied = evaluate_levels(walk[:-1] + rng.normal(size=599) * 1e-3, walk[1:], walk[:-1])
    assert copied["ic"] > 0.99
    assert abs(copied["return_ic"]) < 0.15


def test_baselines():
    X = np.array([[[1.0, 9.0], [2.0, 9.0], [5.0, 9.0]]])
    assert baselines.persistence(X).tolist() == [5.0]
    assert baselines.drift(X).tolist() == [7.0]


def test_hit_rate_without_a_move_is_undefined():
    assert hit_rate(np.zeros(3), np.ones(3)) is None
