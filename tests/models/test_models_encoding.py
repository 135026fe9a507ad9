import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoding import Encoding, Scale, learned_of, standard_ranks

FINITE = st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-3 or value == 0)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=40))
def test_scales_turn_back(values):
    values = np.array(values)
    for scale in (Scale.minmax(values), Scale.standard(values)):
        np.testing.assert_allclose(
            scale.inverse(scale.transform(values)), values, atol=1e-6, rtol=1e-9
        )


def test_minmax_maps_each_column_to_0_and_1():
    scaled = Scale.minmax(np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])).transform(
        np.array([[1.0, 5.0], [3.0, 6.0]])
    )
    np.testing.assert_array_equal(scaled, [[0, 0], [1, 1]])


def test_standard_has_mean_0_and_deviation_1_and_keeps_zero_if_not_centred():
    values = np.array([[1.0], [2.0], [6.0]])
    scaled = Scale.standard(values).transform(values)
    assert scaled.mean() == pytest.approx(0)
    assert scaled.std() == pytest.approx(1)
    around_zero = Scale.standard(values, centred=False)
    assert around_zero.transform(np.zeros((1, 1)))[0, 0] == 0
    assert around_zero.width == (pytest.approx(np.sqrt(41 / 3)),)


def test_a_series_and_its_next_value_share_one_range(small_recipe, spans):
    encoding = Encoding.fit(small_recipe, spans.train)
    low = min(spans.train.X.min(), spans.train.y.min())
    assert encoding.features == encoding.target
    assert encoding.target.offset == (low,)
    assert encoding.target.width == (max(spans.train.X.max(), spans.train.y.max()) - low,)


@pytest.mark.parametrize("learns", ["value", "change", "growth"])
def test_what_is_learned_turns_back_into_the_value(small_recipe, spans, learns):
    recipe = small_recipe.with_changes(learns=learns, scaling="standard")
    encoding = Encoding.fit(recipe, spans.train)
    forecast = encoding.forecast(encoding.targets(spans.test), spans.test)
    np.testing.assert_allclose(forecast, spans.test.y, rtol=2e-6)
    if learns != "value":
        zero = encoding.forecast(np.zeros((len(spans.test), 1)), spans.test)
        np.testing.assert_array_equal(zero[:, 0], spans.test.last)


def test_symbols_of_the_training_span_have_rows_and_others_share_row_0(small_recipe, panel):
    recipe = small_recipe.with_changes(
        task="direction", learns="up", scaling="standard", symbols=True, months=True
    )
    known = panel.take((panel.index["entity"] != "E03").to_numpy())
    encoding = Encoding.fit(recipe, known)
    given_inputs = encoding.inputs(panel)
    row = dict(zip(panel.index["entity"], given_inputs["symbol"][:, 0], strict=True))
    assert (row["E00"], row["E03"], row["E04"], row["E11"]) == (1, 0, 4, 11)
    assert encoding.shape(recipe, panel).symbols == 12
    month = panel.index["as_of"].dt.month.to_numpy()
    assert (given_inputs["month"].argmax(axis=1) + 1 == month).all()
    assert given_inputs["month"].sum() == len(panel)
    np.testing.assert_array_equal(encoding.targets(panel)[:, 0], panel.y[:, 0, 0] > 0)


def test_what_precedes_each_step_teaches_it(small_recipe, examples):
    y = np.concatenate([examples.y, examples.y + 1, examples.y + 3], axis=1)
    path = replace(examples, y=y, unmoved=np.repeat(examples.unmoved, 3, axis=1))
    path = path.take(path.labelled)
    recipe = small_recipe.with_changes(task="path", steps=3, learns="value", scaling="standard")
    encoding = Encoding.fit(recipe, path)
    teacher, targets = encoding.teacher(path), encoding.targets(path)
    np.testing.assert_array_equal(teacher[:, 1:], targets[:, :-1])
    np.testing.assert_allclose(encoding.target.inverse(teacher[:, 0]), path.last, rtol=1e-6)
    changes = Encoding.fit(recipe.with_changes(learns="change"), path)
    taught = changes.teacher(path)
    assert (taught[:, 0] == 0).all()
    np.testing.assert_array_equal(taught[:, 1:], changes.targets(path)[:, :-1])


def test_each_step_of_a_change_has_a_scale_of_its_own(small_recipe, examples):
    """What is far ahead moves more; learned on one scale, the near steps would not count."""
    y = np.concatenate([examples.y, examples.y * 3], axis=1)
    path = replace(examples, y=y, unmoved=np.repeat(examples.unmoved, 2, axis=1))
    path = path.take(path.labelled)
    recipe = small_recipe.with_changes(task="path", steps=2, learns="change", scaling="standard")
    encoding = Encoding.fit(recipe, path)
    targets = encoding.targets(path)
    np.testing.assert_allclose(np.sqrt(np.mean(targets**2, axis=0)), 1, rtol=1e-5)
    np.testing.assert_allclose(encoding.forecast(targets, path), path.y, rtol=1e-5)
    restored = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    np.testing.assert_array_equal(restored.targets(path), targets)


def test_ranks_are_of_one_date():
    values = np.array([3.0, 1.0, 2.0, 7.0, 7.0, 9.0, 5.0])
    dates = pd.Series([1, 1, 1, 2, 2, 3, 2])
    ranks = standard_ranks(values, dates) / np.sqrt(12)
    expected = [1 / 3, -1 / 3, 0, 1 / 6, 1 / 6, 0, -1 / 3]
    np.testing.assert_allclose(ranks, expected, atol=1e-12)


def test_an_unknown_label_is_unknown_in_any_terms(examples):
    for learns in ("value", "change", "growth", "up", "rank"):
        learned = learned_of(learns, examples)
        assert np.isnan(learned[-1]).all()
        assert np.isfinite(learned[:-1]).all()


def test_json_keeps_every_digit(small_recipe, panel):
    recipe = small_recipe.with_changes(
        task="rank", learns="rank", scaling="standard", symbols=True, months=True
    )
    encoding = Encoding.fit(recipe, panel)
    assert Encoding.from_json(json.loads(json.dumps(encoding.to_json()))) == encoding
