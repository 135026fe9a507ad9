"""Tokens: how a text becomes numbers, fitted on the training texts and stored with a version.

Keras has a layer for this, `TextVectorization`. It is made of TensorFlow's string operations
whatever the backend, so scoring would have to import TensorFlow, and its numbers have neither
classes of tokens nor the way in which the chapter's corpus was numbered. Here one compiled
expression finds the tokens of many texts in one pass.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from db.errors import RegistryError, TrainingError, UsageError

Numbers = npt.NDArray[np.int32]
Keep = Literal["first", "last"]
Pad = Literal["pre", "post"]
Style = Literal["words", "characters", "keras"]

FORMAT = "lookback-tokens-1"
PADDING, UNKNOWN, START = 0, 1, 2

# Classes of tokens; their row of a table of word vectors is that of the word inside.
LINK, USER, STOCK = "<link>", "<user>", "<stock>"
NUMBER, UP, DOWN = "<number>", "<up>", "<down>"

# What Keras' Tokenizer takes out of a text by default.
KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'

# Texts are cut this many characters at a time: enough for speed, little for memory.
CHARACTERS_AT_ONCE = 200_000
# Ends a text in what is cut at once; no rule lets a token go beyond it.
END = "\n"


@dataclass(frozen=True)
class Rules:
    """How a text is cut into tokens; all of them are in lower case.

    Attributes
    ----------
    style : `words`; `characters`, of which a run of spaces is one; or `keras`, what lies between
        the characters that Keras' Tokenizer filters. The other rules are of `words` only. HTML
        is read but for `keras`: tags are left out and entities are the characters that they
        stand for. Hyphens divide words.
    marks : characters that are tokens of their own; other punctuation is left out.
    classes : whether links, users (`@name`) and cashtags (`$AAPL`, `$ aapl`) are classes of
        tokens, `<link>`, `<user>` and `<stock>`, instead of words.
    numbers : whether numbers are the classes `<number>`, `<up>` (with a +) and `<down>` (with
        a -); else `10/10` is a word.
    emoticons : whether `:-)`, `<3` and pictographs are tokens.
    contractions : whether "don't" is "do n't" and "it's" is "it 's", as the Penn Treebank has
        them and with it the vocabulary of GloVe; else they are one word.
    start : whether each text begins with a token of its own, as in Keras' IMDB.
    """

    style: Style = "words"
    marks: str = "!?"
    classes: bool = True
    numbers: bool = True
    emoticons: bool = True
    contractions: bool = True
    start: bool = False

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise UsageError(
                f"tokens: {self.style!r} is no style; there are: words, characters, keras"
            )
        if any(mark.isalnum() or mark.isspace() for mark in self.marks):
            raise UsageError(f"tokens: marks {self.marks!r} hold letters, digits or spaces")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds the tokens of texts that `lines` has joined, and the ends of texts."""
        if self.style == "keras":
            return re.compile(f"[^{re.escape(KERAS_FILTERS)} ]+|{END}")
        # with the space after it, at which all alternatives would fail one after the other
        return re.compile(f"({'|'.join(self._alternatives())}) ?")

    def _alternatives(self) -> Iterator[str]:
        """Earlier ones win."""
        yield END
        if self.classes:
            yield r"https?:/[^\s]*|www\.[^\s]+|at_user"
        if self.contractions:
            yield r"n't(?!\w)"
        rest = r"[^\W_]*" if self.contractions else r"[^\W_]*(?:'[^\W_]+)*"
        yield f"[a-z]{{2,}}{rest}"  # nearly all words, by a range that is found at once
        yield r"(?:[^\W\d_]\.){2,}"  # u.s.
        yield rf"[^\W\d_]{rest}"
        if self.numbers:
            yield r"(?:(?<![\w.)])[+-])?\d+(?:[.,:/]\d+)*"
        else:
            yield r"\d+(?:[.,:/]\d+)*"
        if self.contractions:
            yield r"'(?:s|re|ve|ll|d|m)(?!\w)"
        if self.classes:
            yield r"@\w+|\$ ?[a-z]{1,5}(?:\.[a-z]{1,2})?(?![^\W_])"
        if self.emoticons:
            yield r"[:;=][-']?[)(\]\[dp/|](?![\w/])|<3|[\u2600-\u27bf\U0001f300-\U0001faff]"
        if self.marks:
            yield f"[{re.escape(self.marks)}]"

    def cut(self, texts: Sequence[str]) -> Sequence[str]:
        """The tokens of texts, one text after the other, each begun by `END`."""
        lines = self.lines(texts)
        return lines if self.style == "characters" else self.pattern.findall(lines)

    def lines(self, texts: Sequence[str]) -> str:
        """Texts as one, each begun by `END`, ready for `pattern`."""
        if self.style == "keras":
            return "".join(END + text.replace(END, " ") for text in texts).lower()
        if self.style == "characters":
            return "".join(f"{END} {' '.join(_plain(text).split())} " for text in texts).lower()
        joined = "".join(END + _plain(text) for text in texts).lower().replace("’", "'")
        return joined.replace("n't", " n't") if self.contractions else joined


HTML_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")


def _plain(text: str) -> str:
    """The text without HTML and without line breaks."""
    if "<" in text:
        text = HTML_TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    return text.replace(END, " ")


class _Numbers(dict[str, int]):
    """Numbers of the words of a vocabulary; another token has that of its class."""

    def __init__(self, rules: Rules, words: Mapping[str, int]) -> None:
        super().__init__(words, **{END: START if rules.start else -1})
        self.rules = rules

    def __missing__(self, token: str) -> int:
        return self.get(_class_of(token, self.rules), UNKNOWN)


# Other ways to write a link and a user: those of the StockNet tweets.
ALIASES = {"url": LINK, "at_user": USER}


def _class_of(token: str, rules: Rules) -> str:
    """The class of a token, or the token itself where it is of none."""
    if rules.style != "words":
        return token
    first, found = token[0], token
    if rules.classes:
        if len(token) > 1 and first in "@$":
            found = USER if first == "@" else STOCK
        elif first in "hw" and token.startswith(("http:/", "https:/", "www.")):
            found = LINK
        else:
            found = ALIASES.get(token, token)
    if rules.numbers:
        if first.isdigit():
            found = NUMBER
        elif len(token) > 1 and first in "+-":
            found = UP if first == "+" else DOWN
    return found


def _parts(texts: Sequence[str]) -> Iterator[slice]:
    """Texts that are cut at once."""
    characters, begin = 0, 0
    for at, text in enumerate(texts):
        characters += len(text)
        if characters >= CHARACTERS_AT_ONCE:
            yield slice(begin, at + 1)
            characters, begin = 0, at + 1
    if begin < len(texts):
        yield slice(begin, len(texts))


# The chapter's two, and what serves reviews and headlines.
KERAS = Rules(style="keras")
KERAS_IMDB = Rules(style="keras", start=True)
REVIEWS = Rules(classes=False, numbers=False)
HEADLINES = Rules(marks="!?%$")
CHARACTERS = Rules(style="characters")


@dataclass(frozen=True)
class Sequences:
    """Texts as numbers, one after the other.

    Attributes
    ----------
    ids : int32 (m,), the tokens of all texts.
    bounds : int64 (n + 1,); text i is `ids[bounds[i]:bounds[i + 1]]`.
    """

    ids: Numbers
    bounds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, at: int) -> Numbers:
        """The tokens of one text."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self.ids[self.bounds[at] : self.bounds[at + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text: (n,)."""
        return np.diff(self.bounds)

    def padded(
        self,
        length: int,
        rows: npt.NDArray[np.intp] | None = None,
        *,
        keep: Keep = "last",
        pad: Pad = "pre",
    ) -> Numbers:
        """Texts cut and padded to one length: int32 (n, length).

        Parameters
        ----------
        length : tokens.
        rows : positions of the texts; None for all.
        keep : which tokens of a longer text.
        pad : where a shorter text has its zeros; `pre` and `last` are Keras' defaults.
        """
        starts, ends = self.bounds[:-1], self.bounds[1:]
        if rows is not None:
            starts, ends = starts[rows], ends[rows]
        kept = np.minimum(ends - starts, length)
        first = starts if keep == "first" else ends - kept
        within = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
        column = np.arange(length)
        empty = length - kept[:, None]
        filled = column >= empty if pad == "pre" else column < length - empty
        padded = np.full((len(kept), length), PADDING, dtype=np.int32)
        padded[filled] = self.ids[np.repeat(first, kept) + within]
        return padded


@dataclass(frozen=True)
class Tokens:
    """Rules and the vocabulary that was fitted with them.

    Row 0 is padding, 1 is what the vocabulary has not, 2 is the start of a text where the rules
    ask for it; then the words follow.

    Attributes
    ----------
    rules : Rules
    vocabulary : words, the most frequent first, those that came first before others.
    """

    rules: Rules
    vocabulary: tuple[str, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """What each number stands for, as the rows of an embedding have it."""
        reserved = ("<padding>", "<unknown>", "<start>")[: self._reserved]
        return reserved + self.vocabulary

    @property
    def _reserved(self) -> int:
        return START + 1 if self.rules.start else START

    @cached_property
    def _numbers(self) -> _Numbers:
        words = {word: at for at, word in enumerate(self.vocabulary, self._reserved)}
        return _Numbers(self.rules, words)

    @property
    def version(self) -> str:
        """12 hexadecimal digits of a hash of rules and vocabulary."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:12]

    @classmethod
    def fit(
        cls, texts: Sequence[str], size: int, min_count: int = 1, rules: Rules = HEADLINES
    ) -> Tokens:
        """Choose the most frequent tokens of the training texts, and of no others.

        Parameters
        ----------
        texts : of the training span only.
        size : the most rows, the reserved ones included: those of an embedding.
        min_count : tokens that are rarer have no row.
        rules : how texts are cut.

        Raises
        ------
        TrainingError
            No token is frequent enough.
        """
        found: Counter[str] = Counter()
        for part in _parts(texts):
            found.update(rules.cut(texts[part]))
        counts: Counter[str] = Counter()
        for token, count in found.items():
            if token != END:
                counts[_class_of(token, rules)] += count
        # of equally frequent ones the first seen is first, as in Keras' Tokenizer
        frequent = [word for word, count in counts.most_common() if count >= min_count]
        words = frequent[: max(size - (START + 1 if rules.start else START), 0)]
        if not words:
            raise TrainingError(
                f"tokens: {len(texts)} training texts and {size} rows leave no token that is "
                f"there {min_count} times; give more texts or a lower min_count"
            )
        return cls(rules, tuple(words))

    def ragged(self, texts: Sequence[str]) -> Sequences:
        """Texts as numbers, each as long as it is.

        A text has the same numbers whichever texts are cut with it. A text of no token is
        empty.
        """
        ids: list[Numbers] = []
        lengths: list[npt.NDArray[np.int64]] = []
        for part in _parts(texts):
            numbers = self._numbered(self.rules.cut(texts[part]))
            starts = np.flatnonzero(numbers == self._numbers[END])
            lengths.append(np.diff(np.append(starts, len(numbers))) - (not self.rules.start))
            ids.append(numbers if self.rules.start else np.delete(numbers, starts))
        if not ids:
            return Sequences(np.empty(0, np.int32), np.zeros(1, np.int64))
        bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        return Sequences(np.concatenate(ids), bounds.astype(np.int64))

    def _numbered(self, tokens: Sequence[str]) -> Numbers:
        """The number of each token: (m,)."""
        if isinstance(tokens, str):
            points = np.frombuffer(tokens.encode("utf-32-le", "surrogatepass"), "<u4")
            return self._of_characters.take(points, mode="clip")
        get = self._numbers.__getitem__
        return np.fromiter(map(get, tokens), dtype=np.int32, count=len(tokens))

    @cached_property
    def _of_characters(self) -> Numbers:
        """The number of each code point; the last one is of all that come after it."""
        numbers = {ord(each): at for each, at in self._numbers.items() if len(each) == 1}
        found = np.full(max(numbers) + 2, UNKNOWN, np.int32)
        found[list(numbers)] = list(numbers.values())
        return found

    def encode(
        self, texts: Sequence[str], length: int, *, keep: Keep = "last", pad: Pad = "pre"
    ) -> Numbers:
        """Texts cut and padded to one length: int32 (n, length); see `Sequences.padded`."""
        return self.ragged(texts).padded(length, keep=keep, pad=pad)

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """How often each row is in texts: int64 (rows,)."""
        return np.bincount(self.ragged(texts).ids, minlength=len(self)).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {
            "format": FORMAT,
            "rules": asdict(self.rules),
            "vocabulary": list(self.vocabulary),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tokens:
        """The tokens that `to_json` wrote.

        Raises
        ------
        RegistryError
            It did not write these.
        """
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}")
            rules, vocabulary = Rules(**values["rules"]), values["vocabulary"]
            if not isinstance(vocabulary, list) or not all(
                isinstance(word, str) for word in vocabulary
            ):
                raise ValueError("the vocabulary is no list of words")
            if len(set(vocabulary)) != len(vocabulary):
                raise ValueError("a word is twice in the vocabulary")
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise RegistryError(
                f"these are no tokens of format {FORMAT} ({error!s:.80}); roll back to another "
                "version or train it again"
            ) from None
        return cls(rules, tuple(vocabulary))
