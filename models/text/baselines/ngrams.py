"""N-grams: the words of a text and its runs of two or more, as columns of a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from db.errors import TrainingError
from models.text.tokens import Sequences, Tokens

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NGrams:
    """The n-grams of the training texts, each with a column.

    A word's column is its number, less the reserved ones. An n-gram is known by the column of
    the n-gram that it begins with and by its last word, so that no text is stored for it.

    Attributes
    ----------
    tokens : how texts are cut, and the words.
    keys : for each length from 2 on, sorted int64: column of the beginning times the number of
        words, plus the column of the last word.
    """

    tokens: Tokens
    keys: tuple[Keys, ...] = field(repr=False)

    def __post_init__(self) -> None:
        for keys in self.keys:
            if keys.dtype != np.int64 or keys.ndim != 1 or np.any(np.diff(keys) <= 0):
                raise ValueError("keys of n-grams that are not sorted")

    @property
    def columns(self) -> int:
        """Of `matrix`: all n-grams."""
        return len(self.tokens.vocabulary) + sum(len(keys) for keys in self.keys)

    @property
    def longest(self) -> int:
        """Words of the longest n-gram."""
        return len(self.keys) + 1

    @classmethod
    def fit(cls, tokens: Tokens, ragged: Sequences, longest: int, min_count: int) -> NGrams:
        """The n-grams that are in enough of the training texts.

        Parameters
        ----------
        tokens : fitted on the training texts, so that they know all words that count.
        ragged : the training texts, cut by them.
        longest : words of the longest n-gram, at least 1.
        min_count : training texts that an n-gram of two words or more has to be in.
        """
        ngrams = cls(tokens, ())
        words = ngrams._words(ragged)
        found = words.known()
        for _ in range(longest - 1):
            ends, candidates = words.longer(found)
            kept = _in_enough(candidates, words.texts[ends], len(ragged), min_count)
            ngrams = cls(tokens, (*ngrams.keys, kept))
            found = ngrams._found(ends, candidates, len(ngrams.keys) - 1)
        return ngrams

    def matrix(self, ragged: Sequences, *, binary: bool) -> csr_matrix:
        """How often each n-gram is in each text: float64 (n, columns), columns ascending.

        Parameters
        ----------
        ragged : texts, cut by `tokens`.
        binary : whether it counts once however often it is there.
        """
        from scipy.sparse import csr_matrix

        # an entry is one number, its text before its column: sorted once for all of them
        bits = self.columns.bit_length()
        entries = self._entries(ragged, bits)
        differs = np.ones(len(entries), bool)
        np.not_equal(entries[1:], entries[:-1], out=differs[1:])
        first = np.flatnonzero(differs)
        counts = np.ones(len(first)) if binary else np.diff(first, append=len(entries)) * 1.0
        different = entries[first]
        bounds = np.searchsorted(different, np.arange(len(ragged) + 1) << bits)
        columns = (different & ((1 << bits) - 1)).astype(np.int32)
        shape = (len(ragged), self.columns)
        return csr_matrix((counts, columns, bounds.astype(np.int32)), shape=shape)

    def _entries(self, ragged: Sequences, bits: int) -> npt.NDArray[np.signedinteger[Any]]:
        """The columns of all n-grams of texts, each behind its text by so many bits: sorted."""
        words = self._words(ragged)
        texts = words.texts << bits
        found = words.known()
        entries = [texts[found.ends] | found.columns]
        for number in range(len(self.keys)):
            found = self._found(*words.longer(found), number)
            entries.append(texts[found.ends] | found.columns)
        # numbers of half the width are sorted in half the time
        fits = len(ragged) << bits <= np.iinfo(np.int32).max
        return np.sort(np.concatenate(entries).astype(np.int32 if fits else np.int64, copy=False))

    def _words(self, ragged: Sequences) -> _Words:
        """The words of texts by their columns."""
        reserved = len(self.tokens) - len(self.tokens.vocabulary)
        columns = np.maximum(ragged.ids.astype(np.int64) - reserved, -1)
        texts = np.repeat(np.arange(len(ragged)), ragged.lengths)
        goes_on = np.zeros(len(columns), bool)
        goes_on[:-1] = (columns[1:] >= 0) & (texts[1:] == texts[:-1])
        return _Words(columns, texts, goes_on, len(self.tokens.vocabulary))

    @cached_property
    def _tables(self) -> tuple[pd.Index, ...]:
        """Hash tables of the keys: a tenth of the time of a search in what is sorted."""
        import pandas as pd

        return tuple(pd.Index(keys) for keys in self.keys)

    def _found(self, ends: Keys, candidates: Keys, number: int) -> _Found:
        """The candidates that have a column, as they are in the texts."""
        import pandas as pd

        places = self._tables[number].get_indexer(pd.Index(candidates))
        there = places >= 0
        first = len(self.tokens.vocabulary) + sum(len(each) for each in self.keys[:number])
        return _Found(ends[there], first + places[there])

    def to_parts(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What `json.dumps` takes, and arrays."""
        arrays = {f"ngrams_{number}": keys for number, keys in enumerate(self.keys, 2)}
        return {"tokens": self.tokens.to_json(), "longest": self.longest}, arrays

    @classmethod
    def from_parts(cls, values: Any, arrays: Any) -> NGrams:
        """The n-grams of `to_parts`; a foreign one is a ValueError, KeyError or RegistryError."""
        keys = tuple(arrays[f"ngrams_{number}"] for number in range(2, values["longest"] + 1))
        return cls(Tokens.from_json(values["tokens"]), keys)


class _Found(NamedTuple):
    """N-grams of one length, in the order of the texts.

    Attributes
    ----------
    ends : int64 (m,), where the last word of each is.
    columns : int64 (m,)
    """

    ends: Keys
    columns: Keys


@dataclass(frozen=True)
class _Words:
    """The words of texts, one text after the other.

    Attributes
    ----------
    columns : int64 (m,), -1 where a word has none.
    texts : int64 (m,), of each word.
    goes_on : bool (m,), whether a word that has a column comes next in the text.
    count : words that have a column.
    """

    columns: Keys
    texts: Keys
    goes_on: npt.NDArray[np.bool_]
    count: int

    def known(self) -> _Found:
        """Those that have a column: n-grams of one word."""
        ends = np.flatnonzero(self.columns >= 0)
        return _Found(ends, self.columns[ends])

    def longer(self, found: _Found) -> tuple[Keys, Keys]:
        """Where n-grams of one word more end, and their keys: (m,) each.

        Only what was found goes on.
        """
        on = self.goes_on[found.ends]
        ends = found.ends[on] + 1
        return ends, found.columns[on] * self.count + self.columns[ends]


def _in_enough(candidates: Keys, texts_of: Keys, texts: int, min_count: int) -> Keys:
    """The candidates that are in enough texts, sorted.

    Sorted once, as one number for each candidate and text: NumPy's `unique` of 2.4 looks
    integers up in a hash table, which takes several times as long.
    """
    if len(candidates) and int(candidates.max()) >= np.iinfo(np.int64).max // texts:
        raise TrainingError(
            f"n-grams: {texts} texts have too many different words; give fewer texts at once"
        )
    pairs = np.sort(candidates * texts + texts_of)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0] // texts
    begins = np.flatnonzero(np.diff(pairs, prepend=-1))
    in_texts = np.diff(np.append(begins, len(pairs)))
    return np.asarray(pairs[begins][in_texts >= min_count])
