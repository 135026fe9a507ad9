"""What a baseline of text is: fitted on labelled texts, it gives probabilities of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from db.errors import TrainingError
from models.text.corpora import Corpus

Floats = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]

# Texts that are scored at once: what is made of so many headlines stays near a core, and fewer or
# more were slower.
TEXTS_AT_ONCE = 2_048


class TextBaseline(Protocol):
    """A fitted baseline of text; a frozen data class.

    Attributes
    ----------
    name : one of `models.text.baselines.NAMES`.
    classes : worst first.
    """

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def learns(self) -> bool:
        """Whether labels are in it; a lexicon has seen none."""

    @property
    def parameters(self) -> int:
        """Numbers that were learned; 0 of a lexicon."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Probabilities of the classes: (n, k), each row summing to 1.

        A text has the same ones to the last bit whichever texts it is scored with.
        """

    def to_parts(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What it has learned: what `json.dumps` takes, and arrays."""

    @classmethod
    def from_parts(
        cls, name: str, classes: tuple[str, ...], values: Mapping[str, Any], arrays: Arrays
    ) -> TextBaseline:
        """The baseline of `to_parts`; foreign parts are a ValueError, KeyError or TypeError."""


def require(name: str, corpus: Corpus) -> None:
    """Refuse texts of which one class is missing.

    Raises
    ------
    TrainingError
        There is no text, or none of a class.
    """
    missing = [of for of, count in corpus.counts.items() if not count]
    if missing:
        raise TrainingError(
            f"baseline {name}: corpus {corpus.name} has no text that is {missing[0]}; "
            "give labelled texts of every class"
        )


def by_block(
    texts: Sequence[str], classes: int, score: Callable[[Sequence[str]], Floats]
) -> Floats:
    """Probabilities of many texts, so many at once: (n, classes)."""
    found = np.empty((len(texts), classes))
    for rows in blocks(len(texts)):
        found[rows] = score(texts[rows])
    return found


def blocks(count: int) -> Iterator[slice]:
    """Rows of texts that are scored at once."""
    for begin in range(0, count, TEXTS_AT_ONCE):
        yield slice(begin, min(begin + TEXTS_AT_ONCE, count))


def one_column_each(scores: Floats) -> Floats:
    """Probabilities from scores of one class against the rest: (n, k).

    Parameters
    ----------
    scores : log-odds, (n, 1) of the better of two classes, or (n, k) of each.
    """
    from scipy.special import expit

    chances: Floats = expit(scores)
    if scores.shape[1] == 1:
        return np.concatenate([1 - chances, chances], axis=1)
    # none of the classes can be so improbable that all are zero
    chances = np.maximum(chances, np.finfo("float64").tiny)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))
