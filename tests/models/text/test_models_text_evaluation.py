import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from db.errors import UsageError
from models.text.corpora import THREE_CLASSES, TWO_CLASSES
from models.text.evaluation import evaluate_classes, evaluate_ratings, intervals, losses


def drawn(n=400, k=3, seed=1, sharp=2.0):
    """Labels and probabilities that know something of them."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(k, n, p=[0.2, 0.5, 0.3][:k] if k == 3 else [0.4, 0.6])
    scores = draw.normal(size=(n, k)) + sharp * np.eye(k)[labels]
    # rounded, so that there are ties
    weights = np.exp(scores).round(2) + 0.01
    return weights / weights.sum(axis=1, keepdims=True), labels


def test_figures_of_three_classes_are_those_of_scikit_learn():
    probabilities, labels = drawn()
    figures = evaluate_classes(probabilities, labels, THREE_CLASSES)
    said = probabilities.argmax(axis=1)
    assert figures["n"] == 400
    assert figures["accuracy"] == pytest.approx((said == labels).mean())
    assert figures["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert figures["auc"] == pytest.approx(
        roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    assert figures["log_loss"] == pytest.approx(log_loss(labels, probabilities))
    assert np.sum(figures["confusion"]) == 400
    positive = figures["by_class"]["positive"]
    assert positive["recall"] == pytest.approx((said == 2)[labels == 2].mean())
    assert positive["precision"] == pytest.approx((labels == 2)[said == 2].mean())
    assert figures["undefined"] is None
    json.dumps(figures, allow_nan=False)


def test_auc_of_two_classes_is_of_the_better_one():
    probabilities, labels = drawn(k=2)
    figures = evaluate_classes(probabilities, labels, TWO_CLASSES)
    assert figures["auc"] == pytest.approx(roc_auc_score(labels, probabilities[:, 1]))


def test_the_majority_has_its_rate_as_accuracy_and_half_as_auc():
    _, labels = drawn()
    shares = np.bincount(labels) / len(labels)
    figures = evaluate_classes(np.tile(shares, (len(labels), 1)), labels, THREE_CLASSES)
    assert figures["accuracy"] == figures["majority_rate"] == pytest.approx(shares.max())
    assert figures["auc"] == 0.5
    assert figures["calibration_error"] == pytest.approx(0, abs=1e-12)
    assert figures["by_class"]["negative"]["precision"] is None
    assert figures["by_class"]["negative"]["f1"] == 0


def test_overconfidence_is_a_calibration_error():
    draw = np.random.default_rng(2)
    chance = draw.uniform(0.05, 0.95, 20_000)
    labels = (draw.uniform(size=len(chance)) < chance).astype(int)
    sharper = chance**3 / (chance**3 + (1 - chance) ** 3)
    calm = evaluate_classes(np.stack([1 - chance, chance], 1), labels, TWO_CLASSES)
    sure = evaluate_classes(np.stack([1 - sharper, sharper], 1), labels, TWO_CLASSES)
    assert sure["accuracy"] == calm["accuracy"]
    assert sure["auc"] == calm["auc"]
    assert calm["calibration_error"] < 0.02
    assert sure["calibration_error"] == pytest.approx(np.abs(sharper - chance).mean(), abs=0.02)


def test_a_class_that_is_not_there_counts_for_nothing():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.7, 0.1, 0.2]])
    figures = evaluate_classes(probabilities, [0, 2, 0], THREE_CLASSES)
    assert figures["accuracy"] == figures["macro_f1"] == figures["auc"] == 1
    assert figures["by_class"]["neutral"] == {
        "n": 0,
        "precision": None,
        "recall": None,
        "f1": None,
    }


def test_documents_of_one_class_have_no_auc():
    assert evaluate_classes([[0.2, 0.8]], [1], TWO_CLASSES)["auc"] is None
    assert intervals([[0.2, 0.8]], [1], TWO_CLASSES)["auc"] is None


def test_a_forecast_that_is_no_number_leaves_all_undefined():
    figures = evaluate_classes([[0.5, 0.5], [np.nan, 1]], [0, 1], TWO_CLASSES)
    assert figures["accuracy"] is None
    assert figures["undefined"] == "1 of 4 probabilities are not finite"
    assert evaluate_classes(np.empty((0, 2)), [], TWO_CLASSES)["undefined"] == "no label"
    assert intervals(np.empty((0, 2)), [], TWO_CLASSES)["accuracy"] is None


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        ([[0.5, 0.5]], [0, 1], "1, 2 rows"),
        ([[0.5, 0.3, 0.2]], [0], "for 2 classes"),
        ([[0.5, 0.5]], [2], "no position"),
        ([[0.5, 0.5]], [-1], "no position"),
        ([[2.0, 3.0]], [1], "sum to 1"),
        ([[-1.0, 2.0]], [1], "sum to 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(probabilities, labels, said):
    with pytest.raises(UsageError, match=said):
        evaluate_classes(probabilities, labels, TWO_CLASSES)


def test_a_loss_is_of_a_document_and_finite():
    assert losses([[1, 0], [0.25, 0.75]], [1, 1]) == pytest.approx([-np.log(1e-7), -np.log(0.75)])


@pytest.mark.parametrize("k", [2, 3])
def test_intervals_are_those_of_resampled_documents(k):
    classes = TWO_CLASSES if k == 2 else THREE_CLASSES
    probabilities, labels = drawn(k=k, n=300)
    found = intervals(probabilities, labels, classes)
    assert found == intervals(probabilities, labels, classes)
    draw = np.random.default_rng(5)
    plain = []
    for _ in range(400):
        rows = draw.integers(len(labels), size=len(labels))
        figures = evaluate_classes(probabilities[rows], labels[rows], classes)
        plain.append([figures["accuracy"], figures["macro_f1"], figures["auc"]])
    expected = np.quantile(plain, [0.05, 0.95], axis=0)
    for at, name in enumerate(("accuracy", "macro_f1", "auc")):
        assert found[name] == pytest.approx(expected[:, at], abs=0.012), name


def test_figures_of_ratings():
    ratings = np.array([1, 2, 4, 7, 9, 10])
    expected = np.array([1.4, 3.0, 3.6, 7.0, 12.0, 8.5])
    figures = evaluate_ratings(expected, ratings)
    assert figures["mae"] == pytest.approx(np.abs(expected - ratings).mean())
    assert figures["mae_of_median"] == pytest.approx(np.abs(5.5 - ratings).mean())
    said = np.array([1, 3, 4, 7, 10, 8])
    by_chance = ((ratings[:, None] - said) ** 2).mean()
    assert figures["kappa"] == pytest.approx(1 - ((ratings - said) ** 2).mean() / by_chance)
    assert evaluate_ratings([np.inf], [1])["undefined"] == "1 of 1 expected ratings are not finite"
    assert evaluate_ratings([], [])["undefined"] == "no rating"
    assert evaluate_ratings([5, 5], [5, 5])["kappa"] is None
