"""What a text network takes: tokens of texts, at lengths that depend on each text alone.

Training and scoring cut a text in the same way. Where texts are scored in buckets, a text is
padded to the shortest that it fits into, and each call of the network gets as many rows as any
other: it has the same score to the last bit whichever texts it is scored with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.encoding import Arrays
from models.text.networks import BIGRAMS, TOKENS
from models.text.recipes import Keep, TextRecipe
from models.text.tokens import PADDING, UNKNOWN, Numbers, Pad, Sequences, Tokens

Pairs = npt.NDArray[np.int64]
# Bits by which the first word of a pair is moved.
FIRST = 32
Run = Callable[[Arrays], npt.NDArray[Any]]


@dataclass(frozen=True)
class TextEncoding:
    """From texts to a network's inputs.

    Attributes
    ----------
    tokens : Tokens
    keep, pad : which tokens of a longer text; where a shorter one is padded.
    lengths : to which texts are padded when they are scored, ascending; the last one is the
        most that is read of a text.
    bigrams : int64, ascending: the pairs of words that have a row, the first word's number
        times 2^32 and the second's; None where the network is not told them.
    """

    tokens: Tokens
    keep: Keep
    pad: Pad
    lengths: tuple[int, ...]
    bigrams: Pairs | None = None

    @classmethod
    def fit(cls, recipe: TextRecipe, tokens: Tokens, texts: Sequence[str]) -> TextEncoding:
        """The encoding of a recipe.

        Parameters
        ----------
        tokens : as fitted on the training texts.
        texts : of training, for the most frequent pairs of words.
        """
        plain = cls(tokens, recipe.keep, recipe.pad, recipe.lengths)
        if not recipe.bigrams:
            return plain
        pairs, counts = np.unique(_pairs(tokens.ragged(texts)), return_counts=True)
        # of equally frequent ones the words that are more frequent themselves
        chosen = np.argsort(-counts, kind="stable")[: recipe.bigrams]
        return replace(plain, bigrams=np.sort(pairs[chosen]))

    def inputs(self, texts: Sequence[str]) -> Arrays:
        """What the network takes of all texts at full length: int32 (n, length) each."""
        return self._padded(self.tokens.ragged(texts), None, self.lengths[-1])

    def scored(self, texts: Sequence[str], run: Run, outputs: int) -> npt.NDArray[np.float32]:
        """What the network gives: float32 (n, outputs).

        Parameters
        ----------
        texts : n
        run : from inputs to outputs, in calls of one size (`models.onnx_graph.Graph.forward`).
        outputs : of the network.
        """
        cut = self.tokens.ragged(texts)
        bucket = np.searchsorted(self.lengths[:-1], cut.lengths)
        given = np.empty((len(cut), outputs), np.float32)
        for number in np.unique(bucket):
            rows = np.flatnonzero(bucket == number)
            # ONNX Runtime stops at the last token of a call: texts of a length go together
            rows = rows[np.argsort(cut.lengths[rows], kind="stable")]
            given[rows] = run(self._padded(cut, rows, self.lengths[number]))
        return given

    def _padded(self, cut: Sequences, rows: npt.NDArray[np.intp] | None, length: int) -> Arrays:
        keep = "last" if self.keep == "ends" else self.keep
        tokens = cut.padded(length, rows, keep=keep, pad=self.pad)
        if self.keep == "ends":
            at = np.arange(len(cut)) if rows is None else rows
            longer = np.flatnonzero(cut.lengths[at] > length)
            quarter = length // 4
            tokens[longer, :quarter] = cut.padded(quarter, at[longer], keep="first")
        # a text of no token is one of an unknown word: something has to be read
        empty = (tokens == PADDING).all(axis=1)
        tokens[empty, 0 if self.pad == "post" else -1] = UNKNOWN
        if self.bigrams is None:
            return {TOKENS: tokens}
        return {TOKENS: tokens, BIGRAMS: self._bigrams(tokens, self.bigrams)}

    def _bigrams(self, tokens: Numbers, known: Pairs) -> Numbers:
        """The row of each word and the one before it, from 1; 0 where it has none: (n, T)."""
        pairs = tokens[:, :-1].astype(np.int64) << FIRST | tokens[:, 1:]
        place = np.minimum(np.searchsorted(known, pairs), len(known) - 1)
        rows = np.zeros_like(tokens)
        rows[:, 1:] = np.where(known[place] == pairs, place + 1, 0)
        return rows

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {
            "tokens": self.tokens.to_json(),
            "keep": self.keep,
            "pad": self.pad,
            "lengths": list(self.lengths),
            "bigrams": None if self.bigrams is None else self.bigrams.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TextEncoding:
        """The encoding that `to_json` wrote.

        Raises
        ------
        RegistryError
            Its tokens are of another format.
        """
        tokens = Tokens.from_json(values["tokens"])
        lengths, pairs = tuple(values["lengths"]), values["bigrams"]
        known = None if pairs is None else np.asarray(pairs, np.int64)
        return cls(tokens, values["keep"], values["pad"], lengths, known)


def _pairs(cut: Sequences) -> Pairs:
    """The pairs of neighbouring words in texts, as numbers."""
    pairs = cut.ids[:-1].astype(np.int64) << FIRST | cut.ids[1:]
    last = cut.bounds[1:-1] - 1
    return np.delete(pairs, last[(last >= 0) & (last < len(pairs))])
