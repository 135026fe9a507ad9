"""Examples: what a recipe makes of windows, when its labels were known, what is known already."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.catalog import feature_view
from features.windows import Windows
from models.catalog import recipe
from models.examples import examples_of, targets_of, unmoved

VIEW = feature_view("macro_annual_change")
MONTHS = 80


@pytest.fixture(scope="module")
def moves():
    """One-month moves of two series; the second one repeats itself every year."""
    draw = np.random.default_rng(5)
    season = draw.normal(0, 1, 12)
    season -= season.mean()
    return np.column_stack([draw.normal(0, 1, MONTHS), np.resize(season, MONTHS)])


@pytest.fixture(scope="module")
def windows(moves):
    """Windows of 24 months of changes and moves, each known six weeks after its month."""
    changes = np.array([moves[m - 11 : m + 1].sum(axis=0) for m in range(11, MONTHS)])
    values = np.concatenate([changes, moves[11:]], axis=1).astype("f4")
    X = np.lib.stride_tricks.sliding_window_view(values, VIEW.window, axis=0).transpose(0, 2, 1)
    as_of = pd.date_range("2001-01-01", periods=len(X), freq="MS")
    known_at = (as_of + pd.Timedelta(days=45)).tz_localize("UTC")
    index = pd.DataFrame(
        {
            "entity": pd.Categorical(["US"] * len(X)),
            "as_of": as_of,
            "known_at": known_at,
            "label_known_at": [*known_at[1:], pd.NaT],
        }
    )
    y = np.append(X[1:, -1, 0], np.nan).astype("f4")
    return Windows(np.ascontiguousarray(X), y, index, VIEW.name, VIEW.version, "snap")


def made(windows, settings, name="macro_path", **changes):
    chosen = recipe(name, profile="files").with_changes(**changes)
    return examples_of(chosen, VIEW, windows, VIEW.names, settings)


def test_labels_are_the_later_ends_of_windows(windows, settings):
    examples = made(windows, settings)
    assert examples.y.shape == (len(windows), 12, 2)
    for ahead in (1, 12):
        np.testing.assert_array_equal(
            examples.y[:-12, ahead - 1], windows.X[ahead : len(windows) - 12 + ahead, -1, :2]
        )
    np.testing.assert_array_equal(examples.last, windows.X[:, -1, :2].astype("f8"))


def test_a_path_is_known_when_its_last_step_is(windows, settings):
    examples = made(windows, settings)
    known = examples.index["label_known_at"]
    assert known[:-12].tolist() == windows.index["known_at"][12:].tolist()
    assert known[-12:].isna().all()
    assert examples.labelled.tolist() == [True] * (len(windows) - 12) + [False] * 12


def test_a_month_that_is_not_there_is_no_label(windows, settings):
    hole = 20
    rows = np.delete(np.arange(len(windows)), hole)
    examples = made(windows.take(rows), settings, "macro_outlook")
    assert not examples.labelled[hole - 1]
    assert examples.labelled[[hole - 2, hole]].all()


def test_what_is_known_of_a_sum_is_what_stays_in_it(windows, settings, moves):
    """The moves that are to come taken as none: what is left of the twelve."""
    examples = made(windows, settings, seasonal=())
    at = 11 + VIEW.window - 1 + np.arange(len(windows))
    for ahead in (1, 5, 12):
        left = np.array([moves[m - 11 + ahead : m + 1].sum(axis=0) for m in at])
        np.testing.assert_allclose(examples.unmoved[:, ahead - 1], left, atol=1e-5)


def test_a_season_that_repeats_itself_is_foreseen(windows, settings):
    examples = made(windows, settings)
    known = examples.labelled
    error = examples.unmoved[known] - examples.y[known]
    assert np.abs(error[..., 1]).max() < 1e-5
    assert np.abs(error[..., 0]).mean() > 0.5


def test_without_moves_the_last_value_stays():
    last = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(unmoved(last, None, 3), [[[1, 2]] * 3])


def test_the_network_sees_the_features_that_it_names(windows, settings):
    chapter = made(windows, settings, "macro_outlook")
    assert chapter.X.shape == (len(windows), 24, 2)
    np.testing.assert_array_equal(chapter.X, windows.X[..., :2])
    assert np.shares_memory(chapter.X, windows.X)


def test_a_ratio_needs_a_level_above_zero(windows, settings):
    view = replace(VIEW, target="level_change")
    grown = recipe("sp500_next_close").with_changes(learns="growth", targets=())
    found = examples_of(grown, view, windows, VIEW.names, settings)
    below = found.last[:, 0] <= 0
    assert below.any()
    assert np.isnan(found.y[below]).all()
    assert np.isfinite(found.y[:-1][~below[:-1]]).all()


def test_targets_are_named_after_their_series():
    assert targets_of(recipe("macro_path", profile="files")) == {
        "level_change": "UMCSENT",
        "index_change": "IPGMFN",
    }
    assert targets_of(recipe("equity_week_direction")) == {}
    assert targets_of(recipe("sp500_next_close")) == {}
