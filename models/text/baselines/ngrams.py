"""N-grams: the words of a text and its runs of two or more, as columns of a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from db.errors import TrainingError
from models.text.tokens import Sequences, Tokens

if TYPE_CHECKING:
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
        columns, texts_of = ngrams._unigrams(ragged)
        words = columns
        for _ in range(longest - 1):
            candidates = ngrams._candidates(columns, words, texts_of)
            kept = _in_enough(candidates, texts_of[1:], len(ragged), min_count)
            ngrams = cls(tokens, (*ngrams.keys, kept))
            columns = ngrams._found(candidates, len(ngrams.keys) - 1)
        return ngrams

    def matrix(self, ragged: Sequences, *, binary: bool) -> csr_matrix:
        """How often each n-gram is in each text: float64 (n, columns).

        Parameters
        ----------
        ragged : texts, cut by `tokens`.
        binary : whether it counts once however often it is there.
        """
        from scipy.sparse import csr_matrix

        columns, texts_of = self._unigrams(ragged)
        words = columns
        found, rows = [columns], [texts_of]
        for number in range(len(self.keys) if len(words) else 0):
            columns = self._found(self._candidates(columns, words, texts_of), number)
            found.append(columns)
            rows.append(texts_of)
        column, row = np.concatenate(found), np.concatenate(rows)
        there = column >= 0
        shape = (len(ragged), self.columns)
        matrix = csr_matrix((np.ones(there.sum()), (row[there], column[there])), shape=shape)
        if binary:
            matrix.data[:] = 1.0
        return matrix

    def _unigrams(self, ragged: Sequences) -> tuple[Keys, Keys]:
        """Column of each word, -1 where it has none, and its text: (m,) each."""
        reserved = len(self.tokens) - len(self.tokens.vocabulary)
        columns = ragged.ids.astype(np.int64) - reserved
        return np.maximum(columns, -1), np.repeat(np.arange(len(ragged)), ragged.lengths)

    def _candidates(self, beginnings: Keys, words: Keys, texts_of: Keys) -> Keys:
        """Key of each n-gram of one word more than `beginnings`, -1 where there is none: (m - 1,).

        Beginnings stand where they end, so that each goes on with the word after it.
        """
        begins, last = beginnings[:-1], words[1:]
        there = (begins >= 0) & (last >= 0) & (texts_of[:-1] == texts_of[1:])
        return np.where(there, begins * len(self.tokens.vocabulary) + last, -1)

    def _found(self, candidates: Keys, number: int) -> Keys:
        """Column of each candidate, where it ends; -1 where it has none: (m,)."""
        keys = self.keys[number]
        found = np.full(len(candidates) + 1, -1, dtype=np.int64)
        if len(keys):
            at = np.minimum(np.searchsorted(keys, candidates), len(keys) - 1)
            first = len(self.tokens.vocabulary) + sum(len(each) for each in self.keys[:number])
            found[1:] = np.where(keys[at] == candidates, first + at, -1)
        return found

    def to_parts(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What `json.dumps` takes, and arrays."""
        arrays = {f"ngrams_{number}": keys for number, keys in enumerate(self.keys, 2)}
        return {"tokens": self.tokens.to_json(), "longest": self.longest}, arrays

    @classmethod
    def from_parts(cls, values: Any, arrays: Any) -> NGrams:
        """The n-grams of `to_parts`; a foreign one is a ValueError, KeyError or RegistryError."""
        keys = tuple(arrays[f"ngrams_{number}"] for number in range(2, values["longest"] + 1))
        return cls(Tokens.from_json(values["tokens"]), keys)


def _in_enough(candidates: Keys, texts_of: Keys, texts: int, min_count: int) -> Keys:
    """The candidates that are in enough texts, sorted.

    Sorted once, as one number for each candidate and text: NumPy's `unique` of 2.4 looks
    integers up in a hash table, which takes several times as long.
    """
    there = candidates >= 0
    found = candidates[there]
    if len(found) and int(found.max()) >= np.iinfo(np.int64).max // texts:
        raise TrainingError(
            f"n-grams: {texts} texts have too many different words; give fewer texts at once"
        )
    pairs = np.sort(found * texts + texts_of[there])
    pairs = pairs[np.diff(pairs, prepend=-1) > 0] // texts
    begins = np.flatnonzero(np.diff(pairs, prepend=-1))
    in_texts = np.diff(np.append(begins, len(pairs)))
    return np.asarray(pairs[begins][in_texts >= min_count])
