"""Novelty: only what was known before counts, and nothing else changes a value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import novelty as module
from features.novelty import MEMORY_HOURS, novelty, plain_words

HEADLINE = "Apple beats estimates and raises its dividend by a tenth"


def hours(*after: float) -> pd.Series:
    start = pd.Timestamp("2018-12-27", tz="UTC")
    return pd.Series([start + pd.Timedelta(hours=hour) for hour in after])


def of(*texts: str, after: tuple[float, ...] | None = None):
    known_at = hours(*(after or range(len(texts))))
    new, repeats = novelty(texts, known_at, [str(number) for number in range(len(texts))])
    return new.round(3).tolist(), repeats


def test_the_first_is_new_and_a_repetition_is_not() -> None:
    assert of(HEADLINE, HEADLINE) == ([1.0, 0.0], [None, "0"])
    assert of("Something else entirely", HEADLINE) == ([1.0, 1.0], [None, None])


@pytest.mark.parametrize(
    "again",
    [
        f"RT @trader: {HEADLINE}",
        f"rt AT_USER {HEADLINE} URL",
        f"{HEADLINE.upper()}! https://t.co/x?y=1",
        HEADLINE.replace(" ", "  ").replace("beats", '"beats"'),
    ],
)
def test_marks_of_a_retweet_do_not_count(again: str) -> None:
    assert of(HEADLINE, again) == ([1.0, 0.0], [None, "0"])


def test_the_likeness_is_the_cosine_of_the_word_pairs() -> None:
    # ^a ab bc c$ and ^a ab bd d$ share two of four pairs
    assert of("a b c", "a b d") == ([1.0, 0.5], [None, None])
    # ^a a$ and ^a ab b$ share one: 1 / sqrt(2 * 3)
    assert of("a", "a b")[0][1] == round(1 - 1 / np.sqrt(6), 3)


def test_of_equally_similar_ones_the_first_counts() -> None:
    assert of(HEADLINE, HEADLINE, HEADLINE)[1] == [None, "0", "0"]
    assert of(HEADLINE, HEADLINE, after=(1, 1)) == ([1.0, 0.0], [None, "0"])  # ties as given


def test_what_lies_longer_back_than_the_memory_is_forgotten() -> None:
    assert of(HEADLINE, HEADLINE, after=(0, MEMORY_HOURS))[1] == [None, "0"]
    assert of(HEADLINE, HEADLINE, after=(0, MEMORY_HOURS + 0.001)) == ([1.0, 1.0], [None, None])


def test_texts_without_words_are_new() -> None:
    assert of("😀 http://t.co/x", "!!", "", "😀") == ([1.0] * 4, [None] * 4)
    assert novelty([], hours(), [])[1] == []


def test_what_is_not_in_order_is_refused() -> None:
    with pytest.raises(ValueError, match="ordered"):
        novelty(["a", "b"], hours(1, 0), ["1", "2"])
    with pytest.raises(ValueError, match="2 texts, 1 instants"):
        novelty(["a", "b"], hours(1), ["1", "2"])


WORDS = st.lists(st.sampled_from(["up", "down", "apple", "fed", "cuts"]), min_size=0, max_size=5)


@settings(max_examples=30)
@given(st.lists(st.tuples(WORDS, st.integers(0, 40)), min_size=1, max_size=25), st.data())
def test_later_texts_and_batches_change_nothing(drawn, data) -> None:
    texts = [" ".join(words) for words, _ in drawn]
    known_at = hours(*np.cumsum([gap for _, gap in drawn]))
    ids = [str(number) for number in range(len(texts))]
    whole = novelty(texts, known_at, ids)
    cut = data.draw(st.integers(0, len(texts)))
    part = novelty(texts[:cut], known_at[:cut], ids[:cut])
    assert part[0].tolist() == whole[0][:cut].tolist()
    assert part[1] == whole[1][:cut]
    # each alone, beside what its memory holds
    for at in range(len(texts)):
        since = known_at.searchsorted(known_at[at] - pd.Timedelta(hours=MEMORY_HOURS))
        alone = novelty(texts[since : at + 1], known_at[since : at + 1], ids[since : at + 1])
        assert (alone[0][-1], alone[1][-1]) == (whole[0][at], whole[1][at])


def test_the_size_of_a_product_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(list("abcdef"), 6)) for _ in range(60)]
    whole = novelty(texts, hours(*range(60)), [str(n) for n in range(60)])
    monkeypatch.setattr(module, "_ROWS", 7)
    monkeypatch.setattr(module, "_COLUMNS", 5)
    small = novelty(texts, hours(*range(60)), [str(n) for n in range(60)])
    assert small[0].tolist() == whole[0].tolist()
    assert small[1] == whole[1]


def test_plain_words() -> None:
    assert plain_words("RT @a: $AAPL's up_10% www.x.com/y URL") == "aapl s up 10"
    assert plain_words("rt if you like") == "rt if you like"
