"""A small corpus that can be learned, and one trained version for all tests of text models."""

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from models.text.corpora import THREE_CLASSES, Corpus, split_off
from models.text.recipes import TextRecipe
from models.text.spans import TextSpans, split
from models.text.training import train
from models.training import Epoch, TrainedVersion

TELLING = {
    0: ("loss", "fell", "warning", "lawsuit"),
    1: ("meeting", "report", "agenda", "address"),
    2: ("profit", "rose", "record", "upgrade"),
}
FILLING = tuple(f"word{number}" for number in range(40))
LICENCE = "made up for tests: nothing is forbidden"


def made_up(count, seed, name="made_up", published=date(2016, 5, 1)):
    """Texts whose class one word in four tells, sorted by class as real corpora are."""
    draw = np.random.default_rng(seed)
    labels = np.sort(draw.integers(0, 3, count)).astype("int8")
    texts = []
    for number, label in enumerate(labels):
        words = draw.choice(FILLING, draw.integers(3, 18)).tolist()
        for at in range(0, len(words), 3):
            words[at] = str(draw.choice(TELLING[int(label)]))
        texts.append(" ".join([*words, f"only{seed}x{number}"]))
    return Corpus(name, tuple(texts), labels, THREE_CLASSES, LICENCE, published, "a generator")


@pytest.fixture(scope="session")
def make_corpus():
    return made_up


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return made_up(700, seed=3)


@pytest.fixture(scope="session")
def recipe() -> TextRecipe:
    """A small network of few epochs; every choice that leaves a trace is made."""
    return TextRecipe(
        model="text_sentiment_finance",
        variant="small",
        description="probabilities that a text is bad, neutral or good news",
        corpora=("made_up",),
        vocabulary=200,
        length=16,
        buckets=(4, 8, 16),
        layers={
            "cell": "GRU",
            "units": [6],
            "bidirectional": True,
            "embedding": 8,
            "spatial_dropout": 0.1,
            "pooling": ["mean", "max"],
            "pooled_dropout": 0.2,
        },
        hidden_words=0.05,
        learning_rate=2e-2,
        schedule="cosine",
        balanced=True,
        smoothing=0.05,
        batch_size=32,
        max_epochs=3,
        patience=3,
        blend="nb_svm",
        validation=0.2,
    )


@pytest.fixture(scope="session")
def spans(recipe, corpus) -> TextSpans:
    return split(recipe, [split_off(corpus)])


@pytest.fixture(scope="session")
def epochs() -> list[Epoch]:
    """What the training of `trained` reported."""
    return []


@pytest.fixture(scope="session")
def trained(tmp_path_factory, recipe, spans, epochs) -> TrainedVersion:
    folder = tmp_path_factory.mktemp("texts") / "v1"
    return train(recipe, spans, folder, progress=epochs.append, device="cpu")


@pytest.fixture
def artefact(trained, tmp_path) -> Path:
    """A copy of the trained artefact that a test may damage."""
    return Path(shutil.copytree(trained.folder, tmp_path / "artefact"))
