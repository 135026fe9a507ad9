"""Spans of text: what a version learns from, stops on and is measured on.

Texts of a corpus have no time of their own that a label could be known at: a corpus is known as
a whole from the day it was published. So a span is a random part, drawn by the texts alone: a
text that was measured on once is measured on by every version that learns from the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import TrainingError
from models.text.corpora import Corpus, likeness, split_off
from models.text.recipes import TextRecipe
from models.text.tokens import FORMAT
from models.text.vectors import Vectors

Part = tuple[Corpus, Corpus]


@dataclass(frozen=True)
class TextSpans:
    """Disjoint texts.

    Attributes
    ----------
    train, validation, test : learned from, stopped on, measured on.
    start : learned from before; None where there is none.
    corpora : that all of these are parts of, whole.
    vectors_published : UTC date since which the word vectors are public that come with them;
        None where there are none.
    """

    train: Corpus
    validation: Corpus
    test: Corpus
    start: Corpus | None
    corpora: tuple[Corpus, ...]
    vectors_published: date | None = None

    @property
    def labels_known_at(self) -> datetime:
        """UTC; from when on all that was learned from, labels and vectors, could be known."""
        dates = [corpus.published for corpus in self.corpora]
        dates += [self.vectors_published] if self.vectors_published is not None else []
        return datetime.combine(max(dates), time(), UTC)

    @property
    def version(self) -> str:
        """Of how texts are read: that of the code, before any word is known."""
        return FORMAT

    def with_vectors(self, vectors: Vectors) -> TextSpans:
        """The same, learned from with word vectors.

        Raises
        ------
        TrainingError
            It is not known since when these are public.
        """
        if vectors.published is None:
            raise TrainingError(
                f"word vectors {vectors.name}: it is not known since when they are public, so no "
                "document may be scored with them; use those of GloVe"
            )
        return replace(self, vectors_published=vectors.published)

    @cached_property
    def data_snapshot(self) -> str:
        """12 hexadecimal digits of a hash of all texts and labels, span by span."""
        parts = [self.train, self.validation, self.test, *([self.start] if self.start else [])]
        return hashlib.sha256(" ".join(part.snapshot for part in parts).encode()).hexdigest()[:12]

    @cached_property
    def learned(self) -> npt.NDArray[np.uint64]:
        """Hashes of the texts that were learned or stopped on, ascending."""
        seen = [self.train, self.validation, *([self.start] if self.start else [])]
        return np.unique(np.concatenate([hashes(part.texts) for part in seen]))

    def for_baseline(self) -> TextSpans:
        """Spans of what stops on nothing: it learns from the validation texts, too.

        Those of the chapter stay as they are: there the test texts are stopped on.
        """
        if self.validation is self.test:
            return self
        both = joined([self.train, self.validation], self.train.classes)
        return replace(self, train=both, start=None)

    def described(self) -> dict[str, Any]:
        """For a manifest: texts and labels of each span, and where they come from."""
        spans = {name: getattr(self, name) for name in ("train", "validation", "test")}
        if self.start is not None:
            spans = {"start": self.start, **spans}
        corpora = [
            {
                "name": corpus.name,
                "texts": len(corpus),
                "snapshot": corpus.snapshot,
                "published": corpus.published.isoformat(),
                "licence": corpus.licence,
                "source": corpus.source,
            }
            for corpus in self.corpora
        ]
        return {
            **{
                name: {"texts": len(span), **span.counts, "snapshot": span.snapshot}
                for name, span in spans.items()
            },
            "corpora": corpora,
        }


def hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """A number of each text, alike texts (`models.text.corpora.likeness`) having the same: (n,)."""
    digests = b"".join(
        hashlib.blake2b(likeness(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def split(recipe: TextRecipe, parts: Sequence[Part], start: Sequence[Part] = ()) -> TextSpans:
    """The spans of a recipe.

    Parameters
    ----------
    recipe : TextRecipe
    parts : of each corpus that it learns from what is learned from and what is measured on.
    start : likewise of those that it learns from before; what is measured on is left alone.

    Raises
    ------
    TrainingError
        Too few texts.
    """
    test = joined([away for _, away in parts], recipe.classes)
    rest = joined([kept for kept, _ in parts], recipe.classes)
    before = joined([kept for kept, _ in start], recipe.classes).without(test) if start else None
    corpora = tuple(
        joined([kept, away], recipe.classes).called(kept.name.split("/")[0].split(" without ")[0])
        for kept, away in (*parts, *start)
    )
    if not recipe.validation:
        return TextSpans(rest, test, test, before, corpora)
    rest = rest.without(test)
    train, validation = _stopped_on(recipe, rest)
    if before is not None:
        before = before.without(validation)
    return TextSpans(train, validation, test, before, corpora)


def _stopped_on(recipe: TextRecipe, rest: Corpus) -> Part:
    """What is learned from, and what is stopped on."""
    if not recipe.validation_block:
        return split_off(rest, recipe.validation, recipe.seed)
    block = np.arange(len(rest)) // recipe.validation_block
    blocks = int(block[-1]) + 1
    draw = np.random.default_rng(recipe.seed)
    chosen = draw.permutation(blocks)[: max(1, round(recipe.validation * blocks))]
    away = rest.take(np.isin(block, chosen))
    return rest.take(~np.isin(block, chosen)).without(away), away


def joined(corpora: Sequence[Corpus], classes: tuple[str, ...]) -> Corpus:
    """Several corpora as one, labels by name of the class; a class that one has not stays empty."""
    labels = [
        np.array([classes.index(name) for name in corpus.classes], "int8")[corpus.labels]
        for corpus in corpora
    ]
    ratings = [corpus.ratings for corpus in corpora if corpus.ratings is not None]
    newest = max(corpora, key=lambda corpus: corpus.published)
    return Corpus(
        " + ".join(corpus.name for corpus in corpora),
        tuple(text for corpus in corpora for text in corpus.texts),
        np.concatenate(labels),
        classes,
        "; ".join(dict.fromkeys(corpus.licence for corpus in corpora)),
        newest.published,
        "; ".join(dict.fromkeys(corpus.source for corpus in corpora)),
        np.concatenate(ratings) if len(ratings) == len(corpora) else None,
    )
