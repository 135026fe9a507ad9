"""Linear classifiers of n-grams: what NB-SVM and the logistic regression have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.text.baselines.baseline import Floats
from models.text.baselines.ngrams import NGrams
from models.text.corpora import Corpus
from models.text.tokens import Rules, Sequences, Tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Texts whose median is shorter than this many characters are headlines, others are reviews. Of
# the corpora here, tweets and sentences have some 120, reviews 980.
SHORT_TEXT = 400
# As many rows as there are words.
ALL_WORDS = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Words:
    """Which n-grams are looked at.

    Attributes
    ----------
    rules : how texts are cut.
    longest : words of the longest n-gram.
    min_count : training texts that have to hold it.
    """

    rules: Rules
    longest: int
    min_count: int

    def cut(self, corpus: Corpus) -> tuple[NGrams, Sequences]:
        """The n-grams of a corpus, and its texts as they are cut for them."""
        tokens = Tokens.fit(corpus.texts, ALL_WORDS, self.min_count, self.rules)
        ragged = tokens.ragged(corpus.texts)
        return NGrams.fit(tokens, ragged, self.longest, self.min_count), ragged


def are_short(corpus: Corpus) -> bool:
    """Whether texts are as short as headlines."""
    return bool(np.median([len(text) for text in corpus.texts]) < SHORT_TEXT)


def memberships(corpus: Corpus) -> list[npt.NDArray[np.bool_]]:
    """Whether each text is of the better of two classes, or of each of more: m times (n,)."""
    k = len(corpus.classes)
    return [corpus.labels == at for at in (range(k) if k > 2 else [k - 1])]


def fit(
    matrix: csr_matrix, member: npt.NDArray[np.bool_], strength: float, seed: int
) -> tuple[Floats, float]:
    """Weights and intercept of a logistic regression of one class against the rest.

    By dual coordinate descent, which takes seconds where there are more columns than rows.

    Parameters
    ----------
    matrix : float64 (n, columns)
    member : (n,)
    strength : of the losses beside half the squared weights, C.
    seed : of the order in which rows are visited.
    """
    from sklearn.linear_model import LogisticRegression

    # with a hundredth of this tolerance it takes twice as long for the same figures
    fitted = LogisticRegression(
        C=strength, solver="liblinear", dual=True, tol=0.01, max_iter=1_000, random_state=seed
    ).fit(matrix, member)
    return fitted.coef_[0], float(fitted.intercept_[0])


def by_column(weights: npt.NDArray[np.float32]) -> Floats:
    """Weights as a sparse matrix is multiplied by them: (columns, m).

    The product is summed text by text, so that scores do not depend on each other.
    """
    return np.ascontiguousarray(weights.T, np.float64)


def check(
    classes: tuple[str, ...],
    weights: npt.NDArray[np.float32],
    intercepts: Floats,
    columns: int,
) -> None:
    """Refuse weights that are not those of these classes and columns.

    Raises
    ------
    ValueError
        They are not.
    """
    m = 1 if len(classes) == 2 else len(classes)
    if weights.dtype != np.float32 or weights.shape != (m, columns):
        raise ValueError(f"weights {weights.shape} of {weights.dtype}, not {(m, columns)}")
    if intercepts.dtype != np.float64 or intercepts.shape != (m,):
        raise ValueError(f"intercepts {intercepts.shape} of {intercepts.dtype}, not {(m,)}")
    if not (np.isfinite(weights).all() and np.isfinite(intercepts).all()):
        raise ValueError("weights that are not finite")
