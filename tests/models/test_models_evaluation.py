"""Levels, and the two rules that all of the evaluation keeps."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from db.errors import UsageError
from models import evaluation
from models.evaluation import evaluate_levels, hit_rate


def walk(n=300, seed=3):
    """Forecasts that know a little of the next step: forecast, actual, last."""
    draw = np.random.default_rng(seed)
    level = 1000 + np.cumsum(draw.normal(0, 8, n + 1))
    last, actual = level[:-1], level[1:]
    return last + 0.3 * (actual - last) + draw.normal(0, 5, n), actual, last


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
    # deviations 1.75, -1.25, -1.25, .75 against .5, -2.5, 2.5, -.5
    correlation = 0.5 / np.sqrt(6.75 * 13.0)
    assert figures["ic"] == pytest.approx(correlation)
    # one last value for all: returns correlate as the levels do
    assert figures["return_ic"] == pytest.approx(correlation)
    # ranks 4, 1.5, 1.5, 3 against 3, 1, 4, 2
    assert figures["rank_ic"] == pytest.approx(0.5 / np.sqrt(4.5 * 5.0))
    # right, right, wrong; the last day did not move
    assert figures["hit_rate"] == pytest.approx(2 / 3)


def test_correlations_are_those_of_scipy():
    forecast, actual, last = walk()
    figures = evaluate_levels(forecast, actual, last)
    expected, realised = forecast / last - 1, actual / last - 1
    assert figures["ic"] == pytest.approx(pearsonr(forecast, actual).statistic)
    assert figures["return_ic"] == pytest.approx(pearsonr(expected, realised).statistic)
    assert figures["return_rank_ic"] == pytest.approx(spearmanr(expected, realised).statistic)
    assert figures["return_ic_low"] < figures["return_ic"] < figures["return_ic_high"]


def test_persistence_has_no_figures_on_returns():
    _, actual, last = walk()
    figures = evaluate_levels(last, actual, last)
    assert figures["ic"] > 0.9
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((actual - last) ** 2)))
    for name in ("return_ic", "return_rank_ic", "return_ic_low", "hit_rate"):
        assert figures[name] is None


def test_copying_yesterday_has_a_high_ic_on_levels_only():
    _, actual, last = walk(600)
    copied = last + np.random.default_rng(1).normal(size=600) * 1e-3
    figures = evaluate_levels(copied, actual, last)
    assert figures["ic"] > 0.98
    assert figures["return_ic_low"] < 0 < figures["return_ic_high"]


def test_labels_that_are_not_known_are_left_out():
    forecast, actual, last = walk(50)
    longer = evaluate_levels(
        np.append(forecast, [5.0, np.nan]), np.append(actual, [np.nan] * 2), np.append(last, [1, 1])
    )
    assert longer == evaluate_levels(forecast, actual, last)


def test_two_pairs_have_no_correlation():
    figures = evaluate_levels(np.array([1.0, 2.0]), np.array([1.5, 3.0]), np.array([1.0, 1.2]))
    assert figures["rmse"] is not None
    assert figures["ic"] is None
    assert figures["return_ic"] is None


def test_no_known_label_is_said():
    nothing = evaluate_levels(np.ones(3), np.full(3, np.nan), np.ones(3))
    assert nothing["n"] == 0
    assert nothing["rmse"] is None
    assert nothing["undefined"] == "no known label"


def test_hit_rate_without_a_move_is_undefined():
    assert hit_rate(np.zeros(3), np.ones(3)) is None


def figures_of(scores, label, dates, entities):
    """Every evaluation, of the same forecasts."""
    return {
        "levels": evaluate_levels(scores, label, np.ones_like(label)),
        "cross_section": evaluation.evaluate_cross_section(scores, label, dates, entities),
        "direction": evaluation.evaluate_direction(scores, label > 0, dates, probabilities=True),
        "paths": evaluation.evaluate_paths(
            scores[:, None, None], label[:, None, None], [1.0], ["a"]
        ),
        "coverage": evaluation.coverage(
            {name: scores + offset for name, offset in (("q05", -1), ("q50", 0), ("q95", 1))}, label
        ),
    }


def small_panel():
    draw = np.random.default_rng(5)
    dates, entities = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    return draw.uniform(0.2, 0.8, 120), draw.normal(size=120), dates, entities


# of the labels alone, so they are known whatever the forecasts are
OF_LABELS = {
    *("n", "n_dates", "n_dates_two_sided", "lags", "up_rate", "majority_rate"),
    *("log_loss_of_rate", "undefined", "scale"),
}


def numbers(figures, name=""):
    """Every figure that depends on the forecasts, wherever it stands."""
    if isinstance(figures, dict):
        for key, value in figures.items():
            if key not in OF_LABELS | {"lag", "horizon"}:
                yield from numbers(value, key)
            elif key in {"n_dates", "lag"}:
                continue
    elif isinstance(figures, list):
        for value in figures:
            yield from numbers(value, name)
    else:
        yield name, figures


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_one_forecast_that_is_no_number_leaves_all_figures_undefined(broken):
    scores, label, dates, entities = small_panel()
    whole = figures_of(scores, label, dates, entities)
    assert all(figures["undefined"] is None for figures in whole.values())
    scores[17] = broken
    for kind, figures in figures_of(scores, label, dates, entities).items():
        assert "not finite" in figures["undefined"], kind
        assert {name: value for name, value in numbers(figures) if value is not None} == {}, kind


def test_figures_can_be_written_as_json():
    scores, label, dates, entities = small_panel()
    for figures in (
        figures_of(scores, label, dates, entities),
        figures_of(scores * np.nan, label, dates, entities),
    ):
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_arrays_of_different_examples_are_refused():
    scores, label, dates, entities = small_panel()
    with pytest.raises(UsageError, match="119, 120"):
        evaluate_levels(scores[1:], label, label)
    with pytest.raises(UsageError, match="same examples"):
        evaluation.evaluate_cross_section(scores, label, dates[1:], entities)


def test_a_row_without_a_date_is_refused():
    dates = np.array(["2015-01-02", "NaT", "2015-01-02"], "datetime64[D]")
    with pytest.raises(UsageError, match="1 rows have no date"):
        evaluation.rank_ic_by_date(np.ones(3), np.ones(3), dates)
