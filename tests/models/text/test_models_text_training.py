import json
import os
import signal
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import psutil
import pytest

from db.errors import DivergedError, RegistryError, TrainingError
from models import artefacts
from models.artefacts import MANIFEST
from models.text import baselines, training
from models.text.catalog import recipe as recipe_of
from models.text.corpora import TWO_CLASSES, split_off
from models.text.evaluation import losses
from models.text.spans import hashes, joined, split
from models.text.tokens import UNKNOWN
from models.text.vectors import Vectors
from models.text.versions import Blend, load_folder
from models.training import work_folder


def test_the_manifest_says_what_it_is_and_what_it_learned_from(trained, recipe, spans):
    manifest = trained.manifest
    assert (manifest.kind, manifest.model, manifest.variant) == (
        "network",
        "text_sentiment_finance",
        "small",
    )
    assert manifest.view == "documents"
    assert manifest.recipe == recipe.to_json()
    assert manifest.data_snapshot == spans.data_snapshot
    assert manifest.labels_known_at == datetime(2016, 5, 1, tzinfo=UTC)
    counts = [manifest.spans[name]["texts"] for name in ("train", "validation", "test")]
    assert counts == [len(spans.train), len(spans.validation), len(spans.test)]
    assert sum(counts) == 700
    assert manifest.spans["test"]["positive"] == int((spans.test.labels == 2).sum())
    (told,) = manifest.spans["corpora"]
    assert (told["name"], told["texts"], told["published"]) == ("made_up", 700, "2016-05-01")
    assert told["licence"] == "made up for tests: nothing is forbidden"
    assert set(manifest.files) == {
        *("model.keras", "model.onnx", "history.json", "metrics.json", "loss.png"),
        *("encoding.json", "learned.npy", "text_baseline.json", "text_baseline.npz"),
    }
    assert manifest.feature_version == load_folder(trained.folder).scorer.encoding.tokens.version


def test_it_has_learned_and_is_measured_as_it_is_served(trained, spans):
    version = load_folder(trained.folder)
    said = version.probabilities(spans.test.texts)
    assert trained.manifest.metrics["accuracy"] == np.mean(said.argmax(axis=1) == spans.test.labels)
    assert trained.manifest.metrics["accuracy"] > 0.9
    assert trained.manifest.metrics["n"] == len(spans.test)


def test_every_epoch_is_reported(epochs, trained):
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert {epoch.max_epochs for epoch in epochs} == {3}
    history = json.loads((trained.folder / "history.json").read_text())
    assert history["val_loss"] == [epoch.val_loss for epoch in epochs]
    assert trained.manifest.best_epoch == epochs[-1].best_epoch


def test_a_blend_has_the_weights_that_the_validation_texts_choose(trained, recipe, spans):
    """For the choice the baseline has not learned from them; the one that is mixed in has."""
    version = load_folder(trained.folder)
    described, scorer = trained.manifest.encoding["blend"], version.scorer
    blend = scorer.blend
    assert described["name"] == blend.baseline.name == "nb_svm"
    assert described["network_weight"] == blend.network_weight
    assert described["baseline_weight"] == blend.baseline_weight
    apart, whole = (
        baselines.fit("nb_svm", learned, recipe.seed)
        for learned in (spans.train, spans.for_baseline().train)
    )
    assert len(spans.for_baseline().train) == len(spans.train) + len(spans.validation)
    assert baselines.weights_sha256(blend.baseline) == baselines.weights_sha256(whole)

    def loss(corpus, network_weight, baseline_weight):
        mixing = Blend(apart, network_weight, baseline_weight)
        said = replace(scorer, blend=mixing).probabilities(corpus.texts)
        return losses(said, corpus.labels).mean()

    chosen = loss(spans.validation, blend.network_weight, blend.baseline_weight)
    for other in [(1, 0), (0, 1), (0.5, 0.5), (1, 1)]:
        assert chosen <= loss(spans.validation, *other) + 1e-4
    alone = replace(scorer, blend=None).probabilities(spans.test.texts)
    as_it_is = replace(scorer, blend=replace(blend, network_weight=1, baseline_weight=0))
    np.testing.assert_allclose(as_it_is.probabilities(spans.test.texts), alone, atol=1e-5)


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(trained, recipe, spans, tmp_path):
    """Killed after its second epoch, from outside: what it had done is not done again.

    With it the same seed is shown to give the same weights.
    """

    def kill(epoch):
        if epoch.epoch == 2:
            for child in psutil.Process().children():
                if "models.training_process" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match="killed by SIGKILL"):
        training.train(recipe, spans, tmp_path / "v", progress=kill, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == [work_folder(tmp_path / "v").name]
    reported = []
    resumed = training.train(recipe, spans, tmp_path / "v", progress=reported.append, device="cpu")
    assert [epoch.epoch for epoch in reported] == [3]
    assert resumed.manifest.weights_sha256 == trained.manifest.weights_sha256
    assert resumed.manifest.metrics == trained.manifest.metrics
    assert (resumed.folder / "history.json").read_text() == (
        trained.folder / "history.json"
    ).read_text()


@pytest.mark.slow
def test_members_that_begin_on_other_texts_go_on_there_too(
    recipe, corpus, make_corpus, tmp_path, monkeypatch
):
    """Killed while the second member begins, and not; on another backend than the others."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    begun = recipe.with_changes(
        start=("before",), start_epochs=1, members=2, max_epochs=1, blend=None
    )
    before = make_corpus(200, seed=9, name="before", published=date(2017, 3, 1))
    spans = split(begun, [split_off(corpus)], [split_off(before)])

    def kill(epoch):
        if epoch.epoch == 3:
            for child in psutil.Process().children():
                if "models.training_process" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)

    undisturbed = training.train(begun, spans, tmp_path / "undisturbed", device="cpu")
    with pytest.raises(TrainingError, match="killed by SIGKILL"):
        training.train(begun, spans, tmp_path / "v", progress=kill, device="cpu")
    reported = []
    resumed = training.train(begun, spans, tmp_path / "v", progress=reported.append, device="cpu")
    assert [epoch.epoch for epoch in reported] == [4]
    assert {epoch.max_epochs for epoch in reported} == {4}
    assert resumed.manifest.weights_sha256 == undisturbed.manifest.weights_sha256
    assert resumed.manifest.backend.startswith("jax")
    assert resumed.manifest.labels_known_at == datetime(2017, 3, 1, tzinfo=UTC)
    assert resumed.manifest.spans["start"]["texts"] == 160
    assert [each["name"] for each in resumed.manifest.spans["corpora"]] == ["made_up", "before"]

    network = artefacts.load_network(resumed.folder)
    scorer = load_folder(resumed.folder).scorer
    inputs = scorer.encoding.inputs(spans.test.texts)
    one, other = (
        artefacts.keras_runner(network.get_layer(name))(inputs) for name in ("member_1", "member_2")
    )
    assert np.abs(one - other).max() > 0.001
    mean = scorer.probabilities(spans.test.texts)
    np.testing.assert_allclose(mean, (one + other) / 2, rtol=0, atol=1e-5)


def test_words_of_what_is_stopped_or_measured_on_have_no_row(recipe, spans):
    """And neither have those of one class rather than of another, though all are as rare."""
    planted = spans.test.texts[0] + " plantedword plantedword plantedword"
    watched = spans.validation.texts[0] + " watchedword watchedword watchedword"
    changed = replace(
        spans,
        test=replace(spans.test, texts=(planted, *spans.test.texts[1:])),
        validation=replace(spans.validation, texts=(watched, *spans.validation.texts[1:])),
    )
    tokens = training.fit_tokens(recipe, changed, None)
    assert not {"plantedword", "watchedword"} & set(tokens.vocabulary)
    assert tokens == training.fit_tokens(recipe, spans, None)
    assert "profit" in tokens.vocabulary

    every = recipe.with_changes(min_count=1, vocabulary=350)
    rows = training.fit_tokens(every, spans, None)
    unknown = rows.ragged(spans.train.texts)
    share = [
        np.mean([(unknown[at] == UNKNOWN).any() for at in np.flatnonzero(spans.train.labels == k)])
        for k in range(3)
    ]
    assert max(share) - min(share) < 0.2
    assert min(share) > 0.2


def test_words_with_vectors_have_rows_beside_those_of_the_training_texts(recipe, spans):
    words = ("profit", "unheard", "never")
    vectors = Vectors("made up", words, np.eye(3, 4, dtype="f4"), "none", date(2014, 1, 1))
    tokens = training.fit_tokens(recipe.with_changes(vectors="x", vector_words=2), spans, vectors)
    plain = training.fit_tokens(recipe, spans, None)
    assert tokens.vocabulary == (*plain.vocabulary, "unheard")


def test_a_training_in_which_no_word_is_unknown_is_refused(recipe, spans, tmp_path):
    careless = recipe.with_changes(min_count=1, vocabulary=10_000, hidden_words=0.0)
    with pytest.raises(TrainingError, match=r"unknown words would not be learned; set min_count"):
        training.train(careless, spans, tmp_path / "v", device="cpu")


def test_targets_are_of_classes_or_of_stars(recipe, corpus):
    few = corpus.take(np.array([0, len(corpus) - 1]))
    plain = training.targets(recipe.with_changes(smoothing=0.0), few, ())
    np.testing.assert_array_equal(plain, [[1, 0, 0], [0, 0, 1]])
    smooth = training.targets(recipe.with_changes(smoothing=0.3), few, ())
    np.testing.assert_allclose(smooth, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], atol=1e-6)
    two = replace(few, classes=TWO_CLASSES, labels=np.array([0, 1], "i1"))
    reviews = recipe_of("text_sentiment_learned")
    np.testing.assert_array_equal(training.targets(reviews, two, ()), [[0], [1]])
    starred = replace(two, ratings=np.array([1, 9], "i1"))
    levels = (1, 2, 9, 10)
    np.testing.assert_array_equal(
        training.targets(reviews, starred, levels), [[1, 0, 0, 0], [0, 0, 1, 0]]
    )


def test_rare_classes_count_as_much_as_frequent_ones(corpus):
    weights = training.balance(corpus)
    sums = [weights[corpus.labels == label].sum() for label in range(3)]
    np.testing.assert_allclose(sums, len(corpus) / 3, rtol=1e-5)


def test_a_diverged_training_leaves_nothing(recipe, spans, tmp_path, monkeypatch):
    def diverge(work, *_):
        assert (work / "train.tokens.npy").exists()
        raise DivergedError("loss is nan")

    monkeypatch.setattr("models.training.run_process", diverge)
    with pytest.raises(DivergedError, match="loss is nan"):
        training.train(recipe, spans, tmp_path / "v", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_spans_share_no_text(make_corpus, recipe):
    corpus = make_corpus(300, seed=1)
    again = corpus.take(slice(0, 40)).called("copied")
    spans = split(recipe, [split_off(corpus)], [split_off(make_corpus(60, seed=2)), (again, again)])
    parts = [hashes(part.texts) for part in (spans.validation, spans.test)]
    assert not np.isin(hashes(spans.train.texts), np.concatenate(parts)).any()
    assert not np.isin(hashes(spans.start.texts), np.concatenate(parts)).any()
    assert not np.isin(*parts).any()
    assert np.isin(hashes(spans.train.texts), spans.learned).all()
    assert np.isin(hashes(spans.validation.texts), spans.learned).all()
    assert not np.isin(hashes(spans.test.texts), spans.learned).any()


def test_the_book_stops_on_what_it_is_measured_on(make_corpus, recipe):
    spans = split(
        recipe.with_changes(validation=0.0, blend=None), [split_off(make_corpus(300, seed=1))]
    )
    assert spans.validation is spans.test


def test_two_classes_join_three_by_name(make_corpus):
    two = replace(
        make_corpus(40, seed=1), classes=TWO_CLASSES, labels=np.repeat([0, 1], 20).astype("i1")
    )
    both = joined([two, make_corpus(30, seed=2)], ("negative", "neutral", "positive"))
    assert both.labels[:40].tolist() == [0] * 20 + [2] * 20
    assert both.published == date(2016, 5, 1)


# ----------------------------------------------------------------- artefacts


@pytest.mark.parametrize(
    "name", ["model.onnx", "encoding.json", "learned.npy", "text_baseline.npz"]
)
def test_a_damaged_artefact_is_refused(artefact, name):
    content = bytearray((artefact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artefact / name).write_bytes(content)
    with pytest.raises(RegistryError, match=rf"{name} was altered after training"):
        load_folder(artefact)


def test_tokens_of_another_format_are_refused(artefact):
    encoding = json.loads((artefact / "encoding.json").read_text())
    encoding["tokens"]["format"] = "lookback-tokens-0"
    (artefact / "encoding.json").write_text(json.dumps(encoding))
    manifest = artefacts.read_manifest(artefact)
    files = {**manifest.files, "encoding.json": artefacts.sha256(artefact / "encoding.json")}
    artefacts.write_manifest(artefact, replace(manifest, files=files))
    with pytest.raises(RegistryError, match="no tokens of format"):
        load_folder(artefact)


def test_what_scores_texts_is_not_asked_for_windows(artefact):
    with pytest.raises(RegistryError, match="scores texts, not windows"):
        artefacts.load(artefact)


def test_without_an_export_keras_gives_the_same(artefact, trained, spans):
    manifest = artefacts.read_manifest(artefact)
    (artefact / "model.onnx").unlink()
    files = {name: sha for name, sha in manifest.files.items() if name != "model.onnx"}
    sha256 = artefacts.write_manifest(artefact, replace(manifest, files=files))
    texts = spans.test.texts[:60]
    np.testing.assert_allclose(
        load_folder(artefact, sha256).probabilities(texts),
        load_folder(trained.folder).probabilities(texts),
        rtol=0,
        atol=1e-5,
    )
    assert (artefact / MANIFEST).exists()
