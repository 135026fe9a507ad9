import json
import os
import signal
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO

import numpy as np
import pandas as pd
import psutil
import pytest

from db.errors import DivergedError, TrainingError, UsageError
from models import architectures, artefacts, backend, checkpoints, training_process
from models.catalog import SP500_NEXT_CLOSE
from models.encoding import Encoding
from models.spans import split
from models.training import train, work_folder

REFERENCE = os.environ.get("LOOKBACK_REFERENCE_DATA")


def arrays_of(recipe, span, encoding):
    return {**encoding.inputs(span), training_process.TARGET: encoding.targets(span)}


def network_of(recipe, spans, encoding):
    return architectures.build(
        recipe.architecture, encoding.shape(recipe, spans.train), recipe.layers
    )


def test_manifest_says_what_it_is_and_where_it_comes_from(trained, examples, small_recipe):
    manifest = trained.manifest
    assert (manifest.kind, manifest.model, manifest.variant) == (
        "network",
        "sp500_next_close",
        "chapter",
    )
    assert (manifest.feature_version, manifest.data_snapshot) == ("v1", "snap")
    assert manifest.recipe == small_recipe.to_json()
    assert manifest.parameters == 4 * (4 * (4 + 1) + 4) + 5
    assert [row["parameters"] for row in manifest.layers if row["parameters"]] == [96, 5]
    counts = [manifest.spans[name]["windows"] for name in ("train", "validation", "test")]
    assert counts == [len(examples) - 1 - 60 - 1, 29, 30]
    assert manifest.spans["purged"] == 2
    assert manifest.metrics["n"] == manifest.metrics["quantiles"]["n"] == 30
    assert set(manifest.files) == {
        "model.keras",
        "model.onnx",
        "history.json",
        "metrics.json",
        "loss.png",
    }
    assert (trained.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert oct(trained.folder.stat().st_mode)[-3:] == "755"


def test_nothing_learned_from_was_known_after_the_test_span_began(trained, examples):
    test_rows = examples.index.iloc[-31:-1]
    assert trained.manifest.labels_known_at < test_rows["known_at"].min()
    assert trained.manifest.labels_known_at == examples.index["label_known_at"].iloc[-33]


def test_the_scale_saw_the_training_span_only(trained, examples):
    count = trained.manifest.spans["train"]["windows"]
    seen = np.append(examples.X[:count].ravel(), examples.y[:count].ravel()).astype("float64")
    target = trained.manifest.encoding["target"]
    assert target["offset"] == [seen.min()]
    assert target["width"] == pytest.approx([np.ptp(seen)], rel=1e-6)


def test_every_epoch_is_reported(trained, epochs):
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4]
    best = min(epochs, key=lambda epoch: epoch.val_loss)
    assert epochs[-1].best_epoch == best.epoch == trained.manifest.best_epoch
    assert epochs[-1].max_epochs == 4


def test_the_same_seed_gives_the_same_weights(trained, small_recipe, spans, tmp_path):
    again = train(small_recipe, spans, tmp_path / "again", device="cpu")
    assert again.manifest.weights_sha256 == trained.manifest.weights_sha256
    assert again.manifest.metrics == trained.manifest.metrics


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    trained, small_recipe, spans, tmp_path
):
    """Killed after its second epoch, from outside: what it had done is not done again."""

    def kill(epoch):
        if epoch.epoch == 2:
            children = psutil.Process().children()
            for child in children:
                if "models.training_process" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match="killed by SIGKILL"):
        train(small_recipe, spans, tmp_path / "v", progress=kill, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == [work_folder(tmp_path / "v").name]
    reported = []
    resumed = train(small_recipe, spans, tmp_path / "v", progress=reported.append, device="cpu")
    assert reported[0].epoch > 1
    assert reported[-1].epoch == small_recipe.max_epochs
    assert resumed.manifest.weights_sha256 == trained.manifest.weights_sha256
    assert resumed.manifest.metrics == trained.manifest.metrics
    assert json.loads((resumed.folder / "history.json").read_text()) == json.loads(
        (trained.folder / "history.json").read_text()
    )
    assert list(tmp_path.iterdir()) == [resumed.folder]


def test_a_checkpoint_of_other_inputs_is_not_gone_on_from(small_recipe, spans, tmp_path):
    work = work_folder(tmp_path / "v")
    work.mkdir()
    (work / training_process.REQUEST).write_text("{}")
    (work / training_process.CHECKPOINT).write_bytes(b"of another training")
    reported = []
    one_epoch = small_recipe.with_changes(max_epochs=1)
    train(one_epoch, spans, tmp_path / "v", progress=reported.append, device="cpu")
    assert [epoch.epoch for epoch in reported] == [1]


def test_a_fit_stopped_at_any_epoch_goes_on_as_if_it_had_not_been(small_recipe, spans, tmp_path):
    """Dropout, a momentum and a rate that changes are all part of what is remembered."""
    recipe = small_recipe.with_changes(
        layers={"units": [3], "dropout": 0.3},
        optimizer="adam",
        schedule="cosine",
        clipnorm=1.0,
        weight_decay=0.01,
        max_epochs=3,
    )
    encoding = Encoding.fit(recipe, spans.train)
    arrays = [arrays_of(recipe, span, encoding) for span in (spans.train, spans.validation)]

    def fit(until, checkpoint):
        backend.prepare(recipe.seed)
        network = network_of(recipe, spans, encoding)
        whole = recipe.with_changes(max_epochs=recipe.max_epochs)

        class Stop(StringIO):
            def write(self, text):
                if f'"epoch": {until + 1}' in text:
                    raise KeyboardInterrupt
                return super().write(text)

        try:
            history = training_process.fit(network, whole, *arrays, Stop(), checkpoint)
        except KeyboardInterrupt:
            return None, None
        return history, network.get_weights()

    history, weights = fit(99, tmp_path / "undisturbed.npz")
    assert fit(1, tmp_path / "stopped.npz") == (None, None)
    resumed_history, resumed = fit(99, tmp_path / "stopped.npz")
    assert resumed_history == history
    assert len(history["learning_rate"]) == len(set(history["learning_rate"])) == 3
    for one, other in zip(weights, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_patience_ends_a_fit_and_the_best_weights_stay(small_recipe, spans):
    recipe = small_recipe.with_changes(learning_rate=1.0, patience=2, max_epochs=30)
    encoding = Encoding.fit(recipe, spans.train)
    train_arrays, validation = (
        arrays_of(recipe, span, encoding) for span in (spans.train, spans.validation)
    )
    backend.prepare(recipe.seed)
    network = network_of(recipe, spans, encoding)
    history = training_process.fit(network, recipe, train_arrays, validation, StringIO())
    losses = history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + recipe.patience < recipe.max_epochs
    assert network.evaluate(
        {"window": validation["window"]}, validation["target"], verbose=0
    ) == pytest.approx(losses[best], rel=1e-5)


def test_a_loss_that_is_no_number_stops_the_fit(small_recipe, spans):
    encoding = Encoding.fit(small_recipe, spans.train)
    train_arrays, validation = (
        arrays_of(small_recipe, span, encoding) for span in (spans.train, spans.validation)
    )
    train_arrays["window"][20, 3] = np.nan
    backend.prepare(small_recipe.seed)
    network = network_of(small_recipe, spans, encoding)
    with pytest.raises(DivergedError, match=r"loss is nan .* after epoch 1"):
        training_process.fit(network, small_recipe, train_arrays, validation, StringIO())


def test_each_epoch_has_an_order_of_its_own(small_recipe):
    rows = np.arange(40)
    arrays = {"window": rows, training_process.TARGET: rows}
    batches = training_process.shuffled_batches(arrays, ["window"], small_recipe)
    orders = []
    for _ in range(3):
        orders.append(np.concatenate([batches[i][1] for i in range(len(batches))]).tolist())
        batches.on_epoch_end()
    assert len(batches) == 2  # an incomplete last batch is left out
    assert all(len(set(order)) == 34 for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    later = training_process.shuffled_batches(arrays, ["window"], small_recipe, first_epoch=2)
    assert np.concatenate([later[i][1] for i in range(2)]).tolist() == orders[2]


def test_some_symbols_are_hidden_so_that_the_unknown_row_is_learned(small_recipe):
    recipe = small_recipe.with_changes(hidden_symbols=0.25, batch_size=1000)
    symbols = np.arange(1, 1001, dtype="int32")[:, None]
    arrays = {"symbol": symbols, training_process.TARGET: np.arange(1000)}
    batches = training_process.shuffled_batches(arrays, ["symbol"], recipe)
    given, _ = batches[0]
    assert 0.2 < np.mean(given["symbol"] == 0) < 0.3
    assert (symbols > 0).all()


def test_a_diverged_training_leaves_nothing(small_recipe, spans, tmp_path):
    broken = spans.train.X.copy()
    broken[100, 3, 0] = np.nan
    diverging = replace(spans, train=replace(spans.train, X=broken))
    recipe = small_recipe.with_changes(scaling="none")
    with pytest.raises(DivergedError, match=r"loss is nan .* after epoch 1") as caught:
        train(recipe, diverging, tmp_path / "v", device="cpu")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_shows_its_last_words(small_recipe, spans, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    monkeypatch.setattr(backend, "described", lambda: "abacus 1")
    with pytest.raises(TrainingError, match=r"exit code 1.*abacus") as caught:
        train(small_recipe, spans, tmp_path / "v", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_process_that_says_nothing_is_stopped(small_recipe, spans, tmp_path, monkeypatch):
    from models import training

    monkeypatch.setattr(training, "STALLED_SECONDS", 0.2)
    with pytest.raises(TrainingError, match=r"killed by SIGKILL"):
        train(small_recipe, spans, tmp_path / "v", device="cpu")


def test_a_trained_version_is_never_overwritten(trained, small_recipe, spans):
    with pytest.raises(UsageError, match="never overwritten"):
        train(small_recipe, spans, trained.folder)


def test_a_damaged_checkpoint_is_an_error_of_the_process(small_recipe, spans, tmp_path):
    file = tmp_path / "checkpoint.npz"
    file.write_bytes(b"half of it")
    encoding = Encoding.fit(small_recipe, spans.train)
    network = network_of(small_recipe, spans, encoding)
    network.compile(optimizer="rmsprop", loss="mse")
    network.optimizer.build(network.trainable_variables)
    watch = checkpoints.Watch.resumed(network, small_recipe, file)
    assert watch.epochs == 0


@pytest.mark.slow
@pytest.mark.parametrize("other", ["jax", "torch"])
def test_other_backends(other, small_recipe, spans, tmp_path, monkeypatch):
    """Trains elsewhere; the artefact reads here, as graph and as Keras' own, the same."""
    if find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", other)
    version = train(small_recipe, spans, tmp_path / other, device="cpu")
    assert version.manifest.backend.startswith(other)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    loaded = artefacts.load(version.folder)
    forecast = loaded.forecast(spans.test)
    rmse = np.sqrt(np.mean((forecast - spans.test.y) ** 2))
    assert rmse == pytest.approx(version.manifest.metrics["rmse"], rel=1e-9)
    keras = replace(loaded, run=artefacts.keras_runner(artefacts.load_network(version.folder)))
    np.testing.assert_allclose(keras.forecast(spans.test), forecast, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data")
def test_the_chapters_network_stays_near_the_last_close(make_examples, tmp_path):
    history = pd.read_csv(f"{REFERENCE}/sp500_close_daily_1990_2022.csv", index_col="date")
    closes = history["SP500"]["2010-01-04":"2018-12-28"].to_numpy()
    whole = make_examples(closes, window=63, start="2010-01-04")
    spans = split(whole, SP500_NEXT_CLOSE.validation, SP500_NEXT_CLOSE.test)
    version = train(SP500_NEXT_CLOSE, spans, tmp_path / "v", device="cpu")
    assert version.manifest.parameters == 1781
    error = spans.test.last[:, 0] - spans.test.y[:, 0, 0]
    assert version.manifest.metrics["rmse"] < 1.25 * np.sqrt(np.mean(error**2))
    forecast = artefacts.load(version.folder).forecast(whole.take(slice(len(whole) - 1, None)))
    assert forecast[0, 0, 0] == pytest.approx(2485.74, rel=0.02)
