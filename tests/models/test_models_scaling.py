import json

import numpy as np
import pytest

from models.scaling import MinMax, Scaler


def test_training_range_maps_to_zero_and_one():
    scaler = MinMax.fit(np.array([[2.0, 10.0], [6.0, 30.0]]))
    assert scaler.transform(np.array([[2.0, 10.0], [4.0, 40.0]])).tolist() == [
        [0.0, 0.0],
        [0.5, 1.5],
    ]
    np.testing.assert_allclose(scaler.inverse(np.array([[0.5, 1.5]])), [[4.0, 40.0]])


def test_constant_column_maps_to_zero():
    assert MinMax.fit(np.full((3, 1), 7.0)).transform(np.array([[7.0]])).item() == 0.0


def test_series_target_shares_the_range_of_feature_zero():
    X = np.array([[[1.0, 5.0], [2.0, 6.0]]])
    scaler = Scaler.fit("minmax_series", X, np.array([5.0]))
    assert scaler.target == MinMax((1.0,), (5.0,))
    assert scaler.features == MinMax((1.0, 5.0), (5.0, 6.0))


def test_none_leaves_everything():
    scaler = Scaler.fit("none", np.ones((2, 3, 2)), np.ones(2))
    X = np.random.default_rng(0).normal(size=(2, 3, 2))
    np.testing.assert_array_equal(scaler.features.transform(X), X)


def test_json_keeps_every_digit():
    values = np.random.default_rng(1).normal(size=(5, 4, 3))
    scaler = Scaler.fit("minmax_series", values, values[:, -1, 0] * np.pi)
    assert Scaler.from_json(json.loads(json.dumps(scaler.to_json()))) == scaler


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_are_float64(dtype):
    scaler = MinMax.fit(np.array([[0.1], [0.2]], dtype=dtype))
    assert scaler.transform(np.array([[0.15]], dtype=dtype)).dtype == np.float64
