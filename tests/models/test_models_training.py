import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO

import numpy as np
import pandas as pd
import psutil
import pytest

from db.errors import TrainingError, UsageError
from models import artefacts, backend, training_process
from models.architectures import build
from models.recipes import SP500_NEXT_CLOSE
from models.training import train

REFERENCE = os.environ.get("LOOKBACK_REFERENCE_DATA")


def test_manifest_says_what_it_is_and_where_it_comes_from(trained, windows, small_recipe):
    manifest = trained.manifest
    assert manifest.model == "sp500_next_close"
    assert (manifest.feature_version, manifest.data_snapshot) == ("v1", "snap")
    assert manifest.recipe == small_recipe.to_json()
    assert manifest.parameters == 4 * (4 * (4 + 1) + 4) + 5
    counts = [manifest.spans[name]["windows"] for name in ("train", "validation", "test")]
    assert counts == [len(windows) - 1 - 60 - 1, 29, 30]
    assert manifest.metrics["n"] == manifest.baselines["persistence"]["n"] == 30
    assert set(manifest.files) == {"model.keras", "history.json", "metrics.json", "loss.png"}
    assert (trained.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert oct(trained.folder.stat().st_mode)[-3:] == "755"


def test_nothing_learned_from_was_known_after_the_test_span_began(trained, windows):
    test_rows = windows.index.iloc[-31:-1]
    assert trained.manifest.labels_known_at < test_rows["known_at"].min()
    assert trained.manifest.labels_known_at == windows.index["label_known_at"].iloc[-33]


def test_scaler_saw_the_training_span_only(trained, windows):
    used = windows.y[: trained.manifest.spans["train"]["windows"]]
    first = windows.X[: len(used)]
    assert trained.manifest.scaler["target"] == {
        "low": [float(min(first.min(), used.min()))],
        "high": [float(max(first.max(), used.max()))],
    }


def test_every_epoch_is_reported(trained, epochs):
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4]
    best = min(epochs, key=lambda epoch: epoch.val_loss)
    assert epochs[-1].best_epoch == best.epoch == trained.manifest.best_epoch
    assert epochs[-1].max_epochs == 4


def test_the_same_seed_gives_the_same_weights(trained, small_recipe, windows, tmp_path):
    again = train(small_recipe, windows, tmp_path / "again", device="cpu")
    assert again.manifest.weights_sha256 == trained.manifest.weights_sha256
    assert again.manifest.metrics == trained.manifest.metrics


def test_a_loss_that_is_no_number_stops_the_fit(small_recipe):
    backend.prepare(small_recipe.seed)
    X, y = np.ones((34, 12, 1), "f4"), np.ones((34, 1), "f4")
    X[20, 3] = np.nan
    arrays = {"X_train": X, "y_train": y, "X_validation": X[:17], "y_validation": y[:17]}
    with pytest.raises(TrainingError, match=r"loss is nan .* after epoch 1"):
        training_process.fit(build(small_recipe, 12, 1), small_recipe, arrays, StringIO())


def test_each_epoch_has_an_order_of_its_own(small_recipe):
    rows = np.arange(40)
    batches = training_process.shuffled_batches(rows, rows, small_recipe)
    orders = []
    for _ in range(3):
        orders.append(np.concatenate([batches[i][0] for i in range(len(batches))]).tolist())
        batches.on_epoch_end()
    assert all(sorted(order) == rows.tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert len(batches) == 3


@pytest.mark.slow
def test_a_diverged_training_leaves_nothing(small_recipe, windows, tmp_path):
    broken = windows.X.copy()
    broken[100, 3, 0] = np.nan
    recipe = small_recipe.with_changes(scaling="none")
    with pytest.raises(TrainingError, match=r"loss is nan .* after epoch 1") as caught:
        train(recipe, replace(windows, X=broken), tmp_path / "v", device="cpu")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_is_an_error_with_its_signal(small_recipe, windows, tmp_path):
    def training_processes():
        children = psutil.Process().children()
        return [child for child in children if "models.training_process" in child.cmdline()]

    def kill_child():
        while not (found := training_processes()):
            time.sleep(0.05)
        os.kill(found[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_child, daemon=True)
    killer.start()
    with pytest.raises(TrainingError, match="killed by SIGKILL"):
        train(small_recipe, windows, tmp_path / "v", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_shows_its_last_words(small_recipe, windows, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    with pytest.raises(TrainingError, match=r"exit code 1.*abacus") as caught:
        train(small_recipe, windows, tmp_path / "v", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_trained_version_is_never_overwritten(trained, small_recipe, windows):
    with pytest.raises(UsageError, match="never overwritten"):
        train(small_recipe, windows, trained.folder)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["jax", "torch"])
def test_other_backends(other, small_recipe, windows, trained, tmp_path, monkeypatch):
    """Trains elsewhere; the artefact reads there and here, with the same forecasts."""
    if find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", other)
    version = train(small_recipe, windows, tmp_path / other, device="cpu")
    assert version.manifest.backend.startswith(other)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    forecast = artefacts.load(version.folder).predict(windows.X[-31:-1])
    rmse = np.sqrt(np.mean((forecast - windows.y[-31:-1]) ** 2))
    assert rmse == pytest.approx(version.manifest.metrics["rmse"], rel=1e-4)
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom models import artefacts\n"
        "model = artefacts.load(Path(sys.argv[1]))\n"
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))"
    )
    np.save(tmp_path / "X.npy", windows.X[-31:-1])
    files = [str(trained.folder), str(tmp_path / "X.npy"), str(tmp_path / "forecast.npy")]
    subprocess.run(
        [sys.executable, "-c", code, *files],
        check=True,
        env=os.environ | {"KERAS_BACKEND": other},
    )
    here = artefacts.load(trained.folder).predict(windows.X[-31:-1])
    np.testing.assert_allclose(np.load(tmp_path / "forecast.npy"), here, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data")
def test_the_chapters_network_stays_near_the_last_close(make_windows, tmp_path):
    history = pd.read_csv(f"{REFERENCE}/sp500_close_daily_1990_2022.csv", index_col="date")
    closes = history["SP500"]["2010-01-04":"2018-12-28"].to_numpy()
    windows = make_windows(closes, window=63, start="2010-01-04")
    version = train(SP500_NEXT_CLOSE, windows, tmp_path / "v", device="cpu")
    assert version.manifest.parameters == 1781
    assert (
        version.manifest.metrics["rmse"] < 1.25 * version.manifest.baselines["persistence"]["rmse"]
    )
    forecast = artefacts.load(version.folder).predict(windows.X[-1:])[0]
    assert forecast == pytest.approx(2485.74, rel=0.02)
