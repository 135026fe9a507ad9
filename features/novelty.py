"""Novelty: how far a text is from what was out before it, and which document it repeats.

Retweets and syndicated headlines say again what is known. The likeness of two texts is the
cosine of the sets of their word pairs, after case, punctuation, addresses and the marks of
retweets are taken out: shared pairs over the root of the product of their numbers. Only texts
that were known before count, so a value never changes when later ones come in, and it does not
depend on which texts are looked at together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# A text is compared with those of the three days before it: weekends are bridged.
MEMORY_HOURS = 72

# Chosen by looking at pairs of tweets (StockNet): from here on they are retweets, the same
# headline with another tail, or one advertisement with other symbols; at 0.7 there is other
# news of one form ("current report filing (8-k)" of another company).
REPEATS_FROM = 0.75

_FEATURES = 2**20
_ROWS, _COLUMNS = 512, 8192  # of one product: at most 4 M numbers at a time

# AT_USER and URL stand for both in tokenised tweets.
_TAKEN_OUT = re.compile(r"https?\s?:\s?//\S*|www\.\S+|@\w+|\bAT_USER\b|\bURL\b|^\s*RT\b", re.ASCII)
_RETWEET = re.compile(r"^\s*rt\s+(?=@|AT_USER\b)", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[\W_]+")


def novelty(
    texts: Sequence[str], known_at: pd.Series[Any], ids: Sequence[str]
) -> tuple[npt.NDArray[np.float64], list[str | None]]:
    """How new each text is, and the document that it repeats.

    Parameters
    ----------
    texts : (n,), ordered by `known_at`; texts of one instant count in the order given.
    known_at : UTC, (n,)
    ids : of the documents, (n,)

    Returns
    -------
    novelty : (n,), 1 less the likeness to the most similar text of the `MEMORY_HOURS` before;
        1 where there is none, and of a text without words.
    duplicate_of : (n,), id of that text (the earliest of equally similar ones) where the
        likeness is at least `REPEATS_FROM`, else None.

    Raises
    ------
    ValueError
        The lengths differ, or `known_at` does not ascend.
    """
    moments = pd.DatetimeIndex(pd.to_datetime(known_at, utc=True))
    instants = moments.tz_convert(None).to_numpy("datetime64[us]")
    if not len(texts) == len(instants) == len(ids):
        raise ValueError(f"{len(texts)} texts, {len(instants)} instants and {len(ids)} ids")
    if (instants[1:] < instants[:-1]).any():
        raise ValueError("texts must be ordered by known_at")
    if not len(texts):
        return np.empty(0), []
    pairs = word_pairs(texts)
    since = np.searchsorted(instants, instants - np.timedelta64(MEMORY_HOURS, "h"), side="left")
    likeness, nearest = _nearest_before(pairs, since)
    repeats = likeness >= REPEATS_FROM
    duplicate_of = [
        ids[at] if repeated else None for at, repeated in zip(nearest, repeats, strict=True)
    ]
    return 1.0 - likeness, duplicate_of


def plain_words(text: str) -> str:
    """A text in small letters, its words with one blank between, without marks of retweets."""
    bare = _TAKEN_OUT.sub(" ", _RETWEET.sub("", text))
    return _BETWEEN_WORDS.sub(" ", bare.lower()).strip()


def word_pairs(texts: Sequence[str]) -> csr_matrix:
    """Which pairs of neighbouring words each text has, its borders counted: (n, 2**20), int32.

    The pairs are hashed: no vocabulary grows, and a text gives the same row whenever it comes.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(
        n_features=_FEATURES,
        ngram_range=(2, 2),
        token_pattern=r"\S+",  # noqa: S106 - a pattern of words
        lowercase=False,
        binary=True,
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
    )
    words = (plain_words(text) for text in texts)
    # borders make a pair of a single word; nothing stays nothing
    pairs: csr_matrix = hashing.transform([f"^ {text} $" if text else "" for text in words])
    return pairs.astype(np.int32)


def _nearest_before(
    pairs: csr_matrix, since: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Likeness to the most similar row between `since` and the row itself, and which one it is."""
    count = pairs.shape[0]
    sizes = np.diff(pairs.indptr).astype(np.float64)
    likeness, nearest = np.zeros(count), np.zeros(count, dtype=np.intp)
    for first in range(0, count, _ROWS):
        rows = slice(first, min(first + _ROWS, count))
        for begin in range(int(since[first]), rows.stop, _COLUMNS):
            columns = slice(begin, min(begin + _COLUMNS, rows.stop))
            shared = (pairs[rows] @ pairs[columns].T).tocoo()
            row, column = shared.row + rows.start, shared.col + columns.start
            earlier = (column < row) & (column >= since[row])
            row, column, both = row[earlier], column[earlier], shared.data[earlier]
            _keep_nearest(
                row, column, both / np.sqrt(sizes[row] * sizes[column]), likeness, nearest
            )
    return likeness, nearest


def _keep_nearest(
    row: npt.NDArray[np.intp],
    column: npt.NDArray[np.intp],
    alike: npt.NDArray[np.float64],
    likeness: npt.NDArray[np.float64],
    nearest: npt.NDArray[np.intp],
) -> None:
    """Take over what is more similar than what was found before, of equals the first."""
    order = np.lexsort((column, -alike, row))
    best = order[np.unique(row[order], return_index=True)[1]]
    best = best[alike[best] > likeness[row[best]]]
    likeness[row[best]] = alike[best]
    nearest[row[best]] = column[best]
