"""One small trained artefact for all tests of the models, and windows to train on."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.windows import Windows
from models.recipes import SP500_NEXT_CLOSE, Recipe
from models.training import Epoch, TrainedVersion, train


def series_windows(values, window=12, start="2015-01-02"):
    """Windows of one daily series with next-day labels; the last label is unknown."""
    values = np.asarray(values, dtype=np.float32)
    X = np.lib.stride_tricks.sliding_window_view(values, window)[..., None].copy()
    as_of = pd.bdate_range(start, periods=len(values))[window - 1 :]
    known_at = (as_of + pd.Timedelta(hours=27)).tz_localize("UTC")
    index = pd.DataFrame(
        {
            "entity": "SP500",
            "as_of": as_of,
            "known_at": known_at,
            "label_known_at": [*known_at[1:], pd.NaT],
        }
    )
    return Windows(
        X, np.append(values[window:], np.nan).astype("f4"), index, "sp500_close", "v1", "snap"
    )


@pytest.fixture(scope="session")
def make_windows():
    return series_windows


@pytest.fixture(scope="session")
def windows() -> Windows:
    steps = np.random.default_rng(7).normal(0.5, 8.0, size=260)
    return series_windows(2000 + np.cumsum(steps))


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    return SP500_NEXT_CLOSE.with_changes(
        layers={"units": [4], "outputs": 1},
        batch_size=17,  # 187 training windows: no second shape to compile
        max_epochs=4,
        validation_sessions=30,
        test_sessions=30,
        train_from=None,
    )


@pytest.fixture(scope="session")
def epochs() -> list[Epoch]:
    """What the training of `trained` reported."""
    return []


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_recipe, windows, epochs) -> TrainedVersion:
    folder = tmp_path_factory.mktemp("models") / "v1"
    return train(small_recipe, windows, folder, progress=epochs.append, device="cpu")


@pytest.fixture
def artefact(trained, tmp_path) -> Path:
    """A copy of the trained artefact that a test may damage."""
    return Path(shutil.copytree(trained.folder, tmp_path / "artefact"))
