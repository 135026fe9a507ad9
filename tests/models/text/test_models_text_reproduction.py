"""What `lookback reproduce` makes of models of text: trials, figures, neutral texts, the page."""

from dataclasses import replace

import numpy as np
import pytest

from models.reproduction.figures import Forecaster
from models.text import training
from models.text.corpora import split_off
from models.text.evaluation import compare_two, evaluate_classes
from models.text.recipes import BASELINES
from models.text.reproduction import page, pictures, systems, trials
from models.text.reproduction.figures import (
    alone_label,
    beside_networks,
    measure,
    of_two_classes,
)
from models.text.reproduction.neutral import NeutralBand
from models.text.reproduction.systems import TEXT_SYSTEMS, quick
from models.text.reproduction.trials import TextTrial
from models.text.spans import split
from models.text.versions import load_folder

CLASSES = ("negative", "positive")


# ------------------------------------------------------------------------------- systems


def test_the_books_protocol_stops_on_the_test_texts_and_no_other_does():
    for system in TEXT_SYSTEMS.values():
        assert all((recipe.validation == 0) == (system.aim > 0) for recipe in system.networks)
    # the book has one seed; a mean of several is what is held against its figure
    assert all(system.seeds >= 1 for system in TEXT_SYSTEMS.values())


def test_the_chapters_networks_stand_beside_the_improved_one():
    models = [recipe.model for recipe in TEXT_SYSTEMS["text_sentiment_reviews"].networks]
    assert models[0] == "text_sentiment_reviews"
    assert {"text_sentiment_learned", "text_sentiment_glove"} <= set(models)


def test_a_quick_system_trains_little():
    for system in TEXT_SYSTEMS.values():
        small = quick(system)
        assert (small.seeds, small.folds) == (1, systems.QUICK_FOLDS)
        for recipe in small.networks:
            assert recipe.members * (recipe.max_epochs + recipe.start_epochs) <= 2
            assert recipe.length <= systems.QUICK_LENGTH


# -------------------------------------------------------------------------------- trials


def test_a_baseline_learns_from_what_networks_stop_on(recipe, spans, tmp_path):
    trial = TextTrial("honest", recipe.baseline("nb_svm"))
    outcome = trials.run(trial, spans, tmp_path)
    learned = outcome.manifest.spans["train"]["texts"]
    assert learned == len(spans.train) + len(spans.validation)
    assert outcome.probabilities.shape == (len(spans.test), 3)
    assert outcome.alone is None


def test_the_book_has_no_validation_texts_to_add(recipe, corpus):
    spans = split(recipe.with_changes(validation=0.0, blend=None), [split_off(corpus)])
    assert spans.for_baseline() is spans


def test_a_finished_trial_is_taken_up_and_one_of_other_texts_is_not(
    recipe, spans, trained, tmp_path, monkeypatch
):
    made = []

    def train(recipe, spans, folder, vectors=None, progress=None):
        """The trained network, wherever it is wanted."""
        import shutil

        made.append(spans.data_snapshot)
        shutil.copytree(trained.folder, folder)
        return trained

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(trials.backend, "described", lambda: trained.manifest.backend)
    trial = TextTrial("honest", recipe)
    first = trials.run(trial, spans, tmp_path)
    again = trials.run(trial, spans, tmp_path)
    assert made == [spans.data_snapshot]
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    # the network is mixed with NB-SVM, and stands without it as well
    np.testing.assert_array_equal(again.alone, first.alone)
    assert not np.array_equal(first.alone, first.probabilities)
    served = load_folder(first.folder).probabilities(spans.test.texts)
    np.testing.assert_array_equal(served, first.probabilities.astype("float32"))
    figures = evaluate_classes(first.probabilities, spans.test.labels, spans.test.classes)
    assert figures["accuracy"] == trained.manifest.metrics["accuracy"]

    other = replace(spans, train=spans.train.take(slice(0, 300)))
    trials.run(trial, other, tmp_path)
    assert made == [spans.data_snapshot, other.data_snapshot]


def test_each_part_and_seed_has_a_folder_of_its_own(recipe, tmp_path):
    every = [
        TextTrial(protocol, each, part).folder(tmp_path)
        for protocol in ("book", "honest")
        for each in (recipe, recipe.with_changes(seed=7), recipe.baseline("vader"))
        for part in ("", "fold1", "fold2")
    ]
    assert len(set(every)) == len(every)


# ------------------------------------------------------------------------------- figures


@pytest.fixture(scope="module")
def measured(recipe, spans, tmp_path_factory):
    """Two baselines on the test texts, and the first of them as if it were two folds."""
    root = tmp_path_factory.mktemp("trials")
    outcomes = [
        trials.run(TextTrial("honest", recipe.baseline(name)), spans, root)
        for name in ("nb_svm", "majority")
    ]
    return outcomes, measure(outcomes, [spans.test] * 2)


def test_figures_come_with_their_intervals(measured, spans):
    outcomes, found = measured
    of = found["nb_svm"]
    assert of.is_baseline
    assert of.parameters == outcomes[0].manifest.parameters
    chance = found["majority"]
    for name in ("accuracy", "macro_f1"):
        assert chance.mean(f"{name}_low") < chance.mean(name) < chance.mean(f"{name}_high")
    assert chance.mean("auc_low") == chance.mean("auc_high") == 0.5
    assert of.mean("best_epoch") is None
    folds = measure([outcomes[0]] * 2, [spans.test] * 2)["nb_svm"]
    assert folds.values("accuracy") == 2 * of.values("accuracy")


def test_a_mixed_network_stands_without_its_baseline_too(recipe, spans, measured):
    outcomes, _ = measured
    even = np.full((len(spans.test), 3), 1 / 3)
    network = replace(outcomes[0], trial=TextTrial("honest", recipe), alone=even)
    found = measure([network], [spans.test])
    label = network.trial.label
    assert label == "finance, small"
    assert list(found) == [label, alone_label(label)]
    assert found[label].mean("log_loss") < found[alone_label(label)].mean("log_loss")
    assert found[alone_label(label)].mean("log_loss") == pytest.approx(np.log(3))
    another = Forecaster("another", False, 1, (), None)
    both = beside_networks(found | measured[1], another)
    assert list(both) == [*found, "another", "nb_svm", "majority"]


# ------------------------------------------------------------------------- neutral texts


def test_a_band_parts_three_classes_that_lie_apart():
    draw = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], 200).astype("int8")
    positive = np.clip(labels * 0.3 + 0.1 + draw.uniform(0, 0.2, 600), 0, 1)
    band = NeutralBand.fit(positive, labels)
    assert 0.29 <= band.low <= 0.41
    assert 0.59 <= band.high <= 0.71
    assert (band.classes(positive) == labels).mean() > 0.98


def test_no_band_that_is_tried_is_better():
    draw = np.random.default_rng(8)
    labels = draw.choice([0, 1, 2], 300, p=[0.2, 0.5, 0.3]).astype("int8")
    positive = np.clip(labels / 3 + draw.normal(0.2, 0.25, 300), 0, 1)
    band = NeutralBand.fit(positive, labels)

    def score(low, high):
        said = np.eye(3)[NeutralBand(low, high).classes(positive)]
        return evaluate_classes(said, labels, ("a", "b", "c"))["macro_f1"]

    best = score(band.low, band.high)
    for low, high in draw.choice(positive, (100, 2)):
        assert score(min(low, high), max(low, high)) <= best + 0.02


def test_what_says_no_probability_has_no_log_loss(corpus):
    positive = corpus.labels / 2
    found, bands = of_two_classes("films", 9, [(positive, corpus, positive, corpus)] * 2)
    assert found.values("accuracy") == [1.0, 1.0]
    assert found.mean("log_loss") is None
    assert found.mean("accuracy_low") == 1.0
    assert [band.classes(np.array([0.0, 0.5, 1.0])).tolist() for band in bands] == [[0, 1, 2]] * 2


# ------------------------------------------------------------------------ one against one


def test_equal_models_do_not_differ():
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 200)
    positive = draw.uniform(0, 1, 200)
    given = np.stack([1 - positive, positive], axis=1)
    found = compare_two(given, given, labels, CLASSES, resamples=50)
    assert (found["accuracy_difference"], found["mcnemar_p"]) == (0.0, 1.0)
    assert found["auc_difference"] == found["auc_difference_low"] == 0.0


def test_the_better_one_is_found_by_both_tests():
    draw = np.random.default_rng(2)
    labels = draw.integers(0, 2, 600)
    good, bad = (np.clip(labels + draw.normal(0, sd, 600), 0, 1) for sd in (0.4, 1.0))
    first, second = (np.stack([1 - each, each], axis=1) for each in (good, bad))
    found = compare_two(first, second, labels, CLASSES, resamples=200)
    own = [evaluate_classes(each, labels, CLASSES) for each in (first, second)]
    assert found["accuracy_difference"] == pytest.approx(own[0]["accuracy"] - own[1]["accuracy"])
    assert found["auc_difference"] == pytest.approx(own[0]["auc"] - own[1]["auc"])
    assert 0 < found["auc_difference_low"] < found["auc_difference"] < found["auc_difference_high"]
    assert found["mcnemar_p"] < 1e-6
    # exact, two-sided: the binomial probability of what differs
    from scipy.stats import binomtest

    apart = found["only_first"] + found["only_second"]
    assert found["mcnemar_p"] == pytest.approx(binomtest(found["only_first"], apart).pvalue)


def test_what_is_no_number_is_not_compared():
    given = np.array([[0.4, 0.6], [np.nan, np.nan]])
    found = compare_two(given, given, [0, 1], CLASSES)
    assert found["undefined"]
    assert found["mcnemar_p"] is None


# ------------------------------------------------------------------------------ the page


def _forecaster(label, *, is_baseline=False, **figures):
    return Forecaster(label, is_baseline, 10, (figures,), None)


def test_aims_of_film_reviews_are_held_against_the_baselines():
    every = [
        _forecaster("reviews", auc=0.975, accuracy=0.915),
        _forecaster("nb_svm", is_baseline=True, auc=0.973, accuracy=0.918),
        _forecaster("logistic", is_baseline=True, auc=0.970, accuracy=0.905),
    ]
    found = page.reviews_aims({each.label: each for each in every}, "reviews")
    lines = [aim.line for aim in found]
    assert lines[0] == "met: AUC at least 0.97: 0.975 against 0.97"
    assert lines[1] == "not met, by 0.005: accuracy at least 0.92: 0.915 against 0.92"
    assert [aim.is_met for aim in found] == [True, False, True, False, True, True]


def test_aims_of_finance_are_asked_of_the_split_and_of_the_folds():
    network = _forecaster("finance", accuracy=0.81, macro_f1=0.76)
    found = page.finance_aims({"finance": network}, {"finance": network})
    assert [aim.is_met for aim in found] == [True, False, True, False]


def test_a_section_of_the_book_says_what_it_was_made_with(recipe, corpus, measured, trained):
    outcomes, found = measured
    network = replace(
        outcomes[0],
        trial=TextTrial("book", recipe.with_changes(blend=None)),
        manifest=replace(
            trained.manifest, recipe=recipe.with_changes(validation=0.0, blend=None).to_json()
        ),
    )
    every = measure([network], [corpus.take(np.arange(len(network.probabilities)))]) | found
    system = replace(TEXT_SYSTEMS["text_sentiment_learned"], aim=0.5)
    parts = page.book_parts(system, every, network.manifest, "text_sentiment_reviews")
    section = page.TextSection(system, "Made by a test.", {"a picture": "a.png"})
    text = section.text(parts)
    assert text.startswith(f"## {system.title}\n\n`text_sentiment_learned`. The book: ")
    assert "\n\nMade by a test.\n\n" in text
    assert "stopped and measured on" in text
    assert f"| **finance, small** (1 seed) | {trained.manifest.parameters:,} |" in text
    assert "mean AUC at least 0.5" in text
    assert corpus.licence in text
    assert text.endswith("![a picture](a.png)")


def test_every_baseline_is_asked_of(recipe):
    assert set(BASELINES) == set(recipe.baselines)


def test_pictures_are_drawn(corpus, tmp_path):
    two = replace(corpus, labels=(corpus.labels > 0).astype("int8"), classes=CLASSES)
    chance = np.clip(two.labels * 0.5 + np.linspace(0, 0.5, len(two)), 0, 1)
    given = {"one": np.stack([1 - chance, chance], axis=1)}
    pictures.reliability_and_roc(given, two, tmp_path / "reliability.png")
    pictures.confusions({"one": np.eye(3, dtype="int64")}, corpus.classes, tmp_path / "said.png")
    for name in ("reliability.png", "said.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
