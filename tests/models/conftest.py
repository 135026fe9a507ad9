"""One small trained artefact for all tests of the models, and examples to train on."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.catalog import SP500_NEXT_CLOSE
from models.examples import Examples, unmoved
from models.recipes import Recipe
from models.spans import Spans, split
from models.training import Epoch, TrainedVersion, train


def series_examples(values, window=12, start="2015-01-02"):
    """Examples of one daily series with next-day labels; the last label is unknown."""
    values = np.asarray(values, dtype=np.float32)
    X = np.lib.stride_tricks.sliding_window_view(values, window)[..., None].copy()
    as_of = pd.bdate_range(start, periods=len(values))[window - 1 :]
    known_at = (as_of + pd.Timedelta(hours=27)).tz_localize("UTC")
    index = pd.DataFrame(
        {
            "entity": pd.Categorical(["SP500"] * len(as_of)),
            "as_of": as_of,
            "known_at": known_at,
            "label_known_at": [*known_at[1:], pd.NaT],
        }
    )
    y = np.append(values[window:], np.nan).astype("f4")[:, None, None]
    last = X[:, -1, :1].astype("f8")
    return Examples(X, last, unmoved(last, None, 1), y, index, "sp500_close", "v1", "snap")


def panel_examples(entities=12, dates=60, window=4, seed=3):
    """Examples of a weekly panel whose next return leans on the last one."""
    draw = np.random.default_rng(seed)
    returns = draw.normal(0, 0.03, (dates + window, entities)).astype("f4")
    for week in range(1, len(returns)):
        returns[week] -= 0.3 * returns[week - 1]
    as_of = pd.date_range("2015-01-02", periods=dates, freq="7D")
    X = np.stack([returns[week : week + window].T for week in range(dates)])
    y = returns[window:].reshape(-1)
    known_at = (as_of + pd.Timedelta(hours=27)).tz_localize("UTC")
    index = pd.DataFrame(
        {
            "entity": pd.Categorical([f"E{number:02d}" for number in range(entities)] * dates),
            "as_of": as_of.repeat(entities),
            "known_at": known_at.repeat(entities),
            "label_known_at": (known_at + pd.Timedelta(days=7)).repeat(entities),
        }
    )
    X = X.reshape(dates * entities, window, 1)
    last = X[:, -1, :1].astype("f8")
    y = y[:, None, None]
    return Examples(X, last, unmoved(last, None, 1), y, index, "equity_weekly_return", "v1", "snap")


def pair_examples(levels, start="1989-01-01", window=24, steps=1, moves=True):
    """Examples of a monthly pair from its levels (m, 2): differences over a year.

    They say what an unmoved level makes of the year, or without `moves` know its end only.
    """
    change, move = levels[12:] - levels[:-12], np.diff(levels, axis=0)[11:]
    at = np.arange(window - 1, len(change))
    seen = np.stack([change[row - window + 1 : row + 1] for row in at]).astype("f4")
    own = np.stack([move[row - window + 1 : row + 1] for row in at])
    ahead = at[:, None] + np.arange(1, steps + 1)
    there = (ahead < len(change))[..., None]
    y = np.where(there, change[np.minimum(ahead, len(change) - 1)], np.nan).astype("f4")
    as_of = pd.date_range(start, periods=len(levels), freq="MS")[12:][at]
    known_at = (as_of + pd.Timedelta(days=60)).tz_localize("UTC")
    later = (known_at + pd.Timedelta(days=31 * steps)).where(there.all(axis=(1, 2)), pd.NaT)
    index = pd.DataFrame(
        {
            "entity": pd.Categorical(["US"] * len(at)),
            "as_of": as_of,
            "known_at": known_at,
            "label_known_at": later,
        }
    )
    last = seen[:, -1].astype("f8")
    stays = unmoved(last, own if moves else None, steps)
    return Examples(seen, last, stays, y, index, "macro_annual_change", "v1", "snap")


def walking_pair(months=212, seed=5):
    """Two levels that walk at random, the second after the first of the month before: (m, 2)."""
    shocks = np.random.default_rng(seed).normal(size=(months, 2)) * [1.0, 0.01]
    shocks[1:, 1] += 0.006 * shocks[:-1, 0]
    return np.cumsum(shocks, axis=0)


@pytest.fixture(scope="session")
def make_examples():
    return series_examples


@pytest.fixture(scope="session")
def make_pair():
    return pair_examples


@pytest.fixture(scope="session")
def pair_levels():
    return walking_pair()


@pytest.fixture(scope="session")
def examples() -> Examples:
    steps = np.random.default_rng(7).normal(0.5, 8.0, size=260)
    return series_examples(2000 + np.cumsum(steps))


@pytest.fixture(scope="session")
def panel() -> Examples:
    return panel_examples()


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    return SP500_NEXT_CLOSE.with_changes(
        layers={"units": [4]},
        batch_size=17,
        max_epochs=4,
        validation=30,
        test=30,
        train_from=None,
    )


@pytest.fixture(scope="session")
def spans(small_recipe, examples) -> Spans:
    return split(examples, small_recipe.validation, small_recipe.test)


@pytest.fixture(scope="session")
def epochs() -> list[Epoch]:
    """What the training of `trained` reported."""
    return []


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_recipe, spans, epochs) -> TrainedVersion:
    folder = tmp_path_factory.mktemp("models") / "v1"
    return train(small_recipe, spans, folder, progress=epochs.append, device="cpu")


@pytest.fixture
def artefact(trained, tmp_path) -> Path:
    """A copy of the trained artefact that a test may damage."""
    return Path(shutil.copytree(trained.folder, tmp_path / "artefact"))
