import numpy as np
import pytest

from db.errors import UsageError
from models.evaluation import evaluate_paths, naive_scale

NAMES = ["sentiment", "production"]


def test_naive_scale_by_hand():
    series = np.array([[1.0, 10.0], [2.0, 10.0], [4.0, 10.0], [3.0, 10.0]])
    # moves 1, 2, -1; the other never moved
    scale = naive_scale(series)
    assert scale[0] == pytest.approx(4 / 3)
    assert np.isnan(scale[1])
    # over two steps 3, 1
    assert naive_scale(series[:, 0], season=2) == pytest.approx([2.0])
    gap = np.array([1.0, 2.0, np.nan, 3.0, 5.0])
    assert naive_scale(gap) == pytest.approx([1.5])
    assert np.isnan(naive_scale(np.ones((1, 2)))).all()


def test_figures_by_hand():
    actual = np.array([[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, np.nan]]])
    forecast = np.array([[[2.0, 10.0], [2.0, 24.0]], [[0.0, 32.0], [6.0, 5.0]]])
    figures = evaluate_paths(forecast, actual, [2.0, 4.0], NAMES)
    # errors of sentiment 1, -3 and 0, 2; of production 0, 2 and 4
    one, other = figures["series"]["sentiment"], figures["series"]["production"]
    assert [each["mae"] for each in one["by_horizon"]] == pytest.approx([2.0, 1.0])
    assert [each["mae"] for each in other["by_horizon"]] == pytest.approx([1.0, 4.0])
    assert one["mase"] == pytest.approx(1.5 / 2)
    assert other["mase"] == pytest.approx(2.5 / 4)
    assert one["bias"] == pytest.approx((-1 + 1) / 2)
    assert one["rmse"] == pytest.approx(np.sqrt((5 + 2) / 2))
    assert figures["mae"] == pytest.approx(2.0)
    assert figures["mase"] == pytest.approx((0.75 + 0.625) / 2)
    assert figures["by_horizon"][1] == {
        "horizon": 2,
        "mae": pytest.approx(2.5),
        "mase": pytest.approx((1 / 2 + 4 / 4) / 2),
    }
    assert figures["undefined"] is None


def test_persistence_of_the_training_span_has_a_mase_of_one():
    series = np.random.default_rng(0).normal(size=(80, 2)).cumsum(axis=0) * [1.0, 0.001]
    figures = evaluate_paths(series[:-1, None], series[1:, None], naive_scale(series), NAMES)
    assert figures["mase"] == pytest.approx(1.0)
    assert [each["mase"] for each in figures["series"].values()] == pytest.approx([1.0, 1.0])
    # in raw units the larger series is all there is
    assert figures["series"]["production"]["mae"] < figures["mae"] / 100


def test_a_series_that_never_moved_has_no_mase():
    figures = evaluate_paths(np.ones((3, 1, 1)), np.zeros((3, 1, 1)), [np.nan], ["flat"])
    assert figures["series"]["flat"]["mae"] == 1.0
    assert figures["series"]["flat"]["mase"] is None
    assert figures["mase"] is None


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"\(n, H, k\)"):
        evaluate_paths(np.ones((3, 2, 1)), np.ones((3, 1, 1)), [1.0], ["a"])
    with pytest.raises(UsageError, match="2 scales"):
        evaluate_paths(np.ones((3, 1, 1)), np.ones((3, 1, 1)), [1.0, 2.0], ["a"])
