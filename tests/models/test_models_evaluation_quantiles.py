import json

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from db.errors import UsageError
from models.evaluation import ErrorQuantiles, coverage, error_quantiles


def test_offsets_are_the_order_statistics_of_the_errors():
    # n = 19: the first and the last of them, (n + 1) q = 1 and 19
    actual = np.random.default_rng(0).permutation(np.arange(19.0))
    found = error_quantiles(np.zeros(19), actual)
    assert found.n == 19
    assert {name: float(offset) for name, offset in found.offsets.items()} == {
        "q05": 0.0,
        "q50": 9.0,
        "q95": 18.0,
    }
    # n = 39: 2 and 38
    found = error_quantiles(np.zeros(39), np.arange(39.0))
    assert (float(found.offsets["q05"]), float(found.offsets["q95"])) == (1.0, 37.0)
    # n = 20: the floor of 1.05, the ceiling of 19.95
    found = error_quantiles(np.zeros(20), np.arange(20.0))
    assert (float(found.offsets["q05"]), float(found.offsets["q95"])) == (0.0, 19.0)


def test_too_few_errors_have_a_median_only():
    found = error_quantiles(np.zeros(18), np.arange(18.0))
    assert np.isnan(found.offsets["q05"])
    assert np.isnan(found.offsets["q95"])
    assert found.offsets["q50"] == 8.5
    assert np.isnan(error_quantiles(np.zeros(0), np.zeros(0)).offsets["q50"])


@pytest.mark.parametrize("n", [19, 50, 199])
def test_coverage_on_exchangeable_errors_is_what_conformal_prediction_promises(n):
    # skewed, so that a symmetric rule would fail; per tail P = floor((n + 1) 0.05) / (n + 1)
    draw = np.random.default_rng(n)
    repetitions, test = 400, 50
    outside = {"q05": 0.0, "q95": 0.0}
    for _ in range(repetitions):
        calibration, outcome = draw.exponential(size=n), draw.exponential(size=test)
        offsets = error_quantiles(np.zeros(n), calibration).offsets
        outside["q05"] += np.mean(outcome < offsets["q05"]) / repetitions
        outside["q95"] += np.mean(outcome > offsets["q95"]) / repetitions
    expected = np.floor((n + 1) * 0.05 + 1e-9) / (n + 1)
    assert expected <= 0.05
    for share in outside.values():
        assert share == pytest.approx(expected, abs=0.012)


def test_relative_offsets_grow_with_the_level():
    draw = np.random.default_rng(1)
    last = draw.uniform(10, 1000, 500)
    actual = last * (1 + draw.normal(0, 0.02, 500))
    found = error_quantiles(last, actual, last)
    assert found.relative
    around = found.around(np.array([100.0, -100.0]), np.array([100.0, -100.0]))
    # 1.645 standard deviations of 2 %
    assert around["q95"] == pytest.approx([103.3, -96.7], abs=0.5)
    assert (around["q05"] < around["q50"]).all()
    assert (around["q50"] < around["q95"]).all()
    with pytest.raises(UsageError, match="shares of"):
        found.around(np.ones(2))


def test_each_step_and_series_has_its_own():
    draw = np.random.default_rng(2)
    errors = draw.normal(size=(400, 3, 2)) * np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    found = error_quantiles(np.zeros_like(errors), errors)
    assert found.offsets["q95"].shape == (3, 2)
    assert found.offsets["q95"] / 1.645 == pytest.approx(
        np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]), rel=0.25
    )
    assert found.around(np.zeros((5, 3, 2)))["q05"].shape == (5, 3, 2)


def test_unknown_outcomes_are_left_out_and_a_broken_forecast_is_not():
    actual, forecast = np.arange(40.0), np.zeros(40)
    actual[5] = np.nan
    forecast[5] = np.nan
    assert error_quantiles(forecast, actual).n == 39
    forecast[6] = np.nan
    broken = error_quantiles(forecast, actual)
    assert broken.n == 0
    assert all(np.isnan(offset) for offset in broken.offsets.values())


def test_quantiles_go_through_json():
    for found in (
        error_quantiles(np.zeros((30, 2, 1)), np.random.default_rng(0).normal(size=(30, 2, 1))),
        error_quantiles(np.zeros(5), np.arange(5.0), np.ones(5)),
    ):
        text = json.dumps(found.to_json(), allow_nan=False)
        back = ErrorQuantiles.from_json(json.loads(text))
        assert (back.relative, back.n) == (found.relative, found.n)
        for name, offset in found.offsets.items():
            np.testing.assert_array_equal(back.offsets[name], offset)


def test_coverage_by_hand_and_the_loss_of_scikit_learn():
    actual = np.array([0.0, 1.0, 2.0, 3.0, np.nan])
    quantiles = {"q05": np.full(5, 0.5), "q50": np.full(5, 1.0), "q95": np.full(5, 2.0)}
    found = coverage(quantiles, actual)
    assert found["n"] == 4
    assert found["coverage"] == pytest.approx(2 / 4)
    assert found["below_q05"] == pytest.approx(1 / 4)
    assert found["below_q50"] == pytest.approx(1 / 4)
    assert found["below_q95"] == pytest.approx(2 / 4)
    assert found["width"] == pytest.approx(1.5)
    losses = [
        mean_pinball_loss(actual[:4], quantiles[name][:4], alpha=q)
        for name, q in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95))
    ]
    assert found["pinball"] == pytest.approx(np.mean(losses))


def test_quantiles_without_an_end_have_no_coverage():
    quantiles = {"q05": np.full(3, np.nan), "q50": np.zeros(3), "q95": np.full(3, np.nan)}
    found = coverage(quantiles, np.zeros(3))
    assert found["coverage"] is None
    assert "not finite" in found["undefined"]
    assert coverage(quantiles, np.full(3, np.nan))["undefined"] == "no known label"
