import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import RegistryError, TrainingError, UsageError
from models.text import tokens as module
from models.text.tokens import (
    CHARACTERS,
    HEADLINES,
    KERAS,
    KERAS_FILTERS,
    KERAS_IMDB,
    PADDING,
    REVIEWS,
    START,
    UNKNOWN,
    Rules,
    Tokens,
)

TEXTS = (
    "the film is good, the plot is not",
    "a bad film",
    "good good good!",
)


def cut(text, rules=HEADLINES):
    """The tokens of one text."""
    tokens = Tokens.fit([text], 1_000, rules=rules)
    return [tokens.rows[number] for number in tokens.ragged([text]).ids]


def test_headlines_are_cut_into_words_and_classes():
    text = "I don't buy $AAPL's U.S. sales: +5.6% (vs -3%) in 2008-2010 :-) @bob https://t.co/a?b=1"
    assert cut(text) == [
        *("i", "do", "n't", "buy", "<stock>", "'s", "u.s.", "sales", "<up>", "%", "vs", "<down>"),
        *("%", "in", "<number>", "<number>", ":-)", "<user>", "<link>"),
    ]


def test_spaced_cashtags_and_the_names_of_links_and_users_in_stocknet_are_classes():
    assert cut("rt AT_USER $ aapl $ brk.b $ 5 URL") == [
        *("rt", "<user>", "<stock>", "<stock>", "$", "<number>", "<link>")
    ]


def test_reviews_lose_their_html_and_keep_their_marks_out_of_ten():
    text = "Fine.<br /><br />It's <i>'great'</i> &amp; I&#39;d say 10/10!"
    assert cut(text, REVIEWS) == ["fine", "it", "'s", "great", "i", "'d", "say", "10/10", "!"]


def test_contractions_can_stay_one_word():
    assert cut("It’s John's, isn't it", Rules(contractions=False)) == [
        *("it's", "john's", "isn't", "it")
    ]


def test_words_of_other_alphabets_are_words():
    assert cut("Seppälä kasvaa、Привет") == ["seppälä", "kasvaa", "привет"]


def test_characters_are_those_of_the_plain_text():
    assert "".join(cut("A<br />&amp;  \nB", CHARACTERS)) == " a & b "


@pytest.mark.parametrize("size", [4, 7, 50])
def test_keras_style_numbers_as_keras_does(size):
    from keras.src.legacy.preprocessing.text import Tokenizer

    texts = ('Don\'t <br /> go!\tTo "it"\nagain; to, to', "it's 10/10 to\xa0go", "...", "go it")
    theirs = Tokenizer(num_words=size, oov_token="<unknown>", filters=KERAS_FILTERS)
    theirs.fit_on_texts(texts)
    ours = Tokens.fit(texts, size, rules=KERAS).ragged(texts)
    # Keras has the unknown at 1 and no row for padding, as we do
    assert [list(ours[at]) for at in range(len(texts))] == theirs.texts_to_sequences(texts)


@pytest.mark.parametrize(("keep", "truncating"), [("first", "post"), ("last", "pre")])
@pytest.mark.parametrize("pad", ["pre", "post"])
def test_cut_and_padded_as_keras_does(keep, truncating, pad):
    from keras.utils import pad_sequences

    tokens = Tokens.fit(TEXTS, 100, rules=KERAS)
    ragged = tokens.ragged([*TEXTS, ""])
    theirs = pad_sequences(
        [list(ragged[at]) for at in range(4)], maxlen=3, padding=pad, truncating=truncating
    )
    assert np.array_equal(tokens.encode([*TEXTS, ""], 3, keep=keep, pad=pad), theirs)


def test_the_most_frequent_words_are_in_the_vocabulary_and_no_others():
    tokens = Tokens.fit(TEXTS, 5, rules=HEADLINES)
    assert tokens.rows == ("<padding>", "<unknown>", "good", "the", "film")
    assert len(tokens) == 5
    ids = tokens.encode(["A good film, unseen"], 6)[0]
    assert ids.tolist() == [PADDING, PADDING, UNKNOWN, 2, 4, UNKNOWN]


def test_rare_words_have_no_row():
    assert Tokens.fit(TEXTS, 100, min_count=2).vocabulary == ("good", "the", "film", "is")


def test_a_class_is_counted_as_one_word():
    assert Tokens.fit(["1 2 3 a a"], 100).vocabulary == ("<number>", "a")


def test_nothing_of_other_texts_gets_into_the_vocabulary():
    assert "planted" not in Tokens.fit(TEXTS, 1_000).vocabulary


def test_a_start_is_before_every_text():
    tokens = Tokens.fit(TEXTS, 100, rules=KERAS_IMDB)
    assert tokens.rows[START] == "<start>"
    ragged = tokens.ragged(["", "good", "bad"])
    assert [ragged[at].tolist() for at in range(3)] == [
        [START],
        [START, tokens.rows.index("good")],
        [START, tokens.rows.index("bad")],
    ]


def test_no_text_and_texts_of_nothing():
    tokens = Tokens.fit(TEXTS, 100)
    assert tokens.encode([], 4).shape == (0, 4)
    assert not tokens.encode(["", "...", "\n"], 4).any()
    assert tokens.ragged(["", "...", "\n"]).lengths.tolist() == [0, 0, 0]


def test_chosen_texts_are_padded_alone():
    ragged = Tokens.fit(TEXTS, 100).ragged(TEXTS)
    rows = np.array([2, 0])
    assert np.array_equal(ragged.padded(5, rows), ragged.padded(5)[rows])


PIECES = [*"aZé5 .:/+-$@#!?%'’<>&;\n\r\tnt)İΣ", "br", "&#10;", "http://", "n't"]
AWKWARD = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.mark.parametrize("rules", [HEADLINES, REVIEWS, KERAS, KERAS_IMDB, CHARACTERS], ids=repr)
@given(texts=st.lists(AWKWARD, min_size=1, max_size=5))
def test_a_text_has_the_same_numbers_whatever_is_beside_it(rules, texts):
    tokens = Tokens.fit(["a z é 5 n't t br http <up> :) the ! $"], 100, rules=rules)
    together = tokens.ragged(texts)
    assert len(together) == len(texts)
    for at, text in enumerate(texts):
        assert np.array_equal(together[at], tokens.ragged([text])[0])


@pytest.mark.parametrize("rules", [HEADLINES, REVIEWS, Rules(contractions=False)], ids=repr)
@given(texts=st.lists(AWKWARD, min_size=1, max_size=5))
def test_the_way_to_find_words_soon_finds_the_same(rules, texts):
    """Neither the range of letters nor the space after a token changes what is found."""
    slow = [one for one in rules._alternatives() if not one.startswith("[a-z]{2,}")]
    assert len(slow) == len(list(rules._alternatives())) - 1
    assert rules.cut(texts) == re.findall("|".join(slow), rules.lines(texts))


@given(texts=st.lists(st.text(max_size=20) | AWKWARD, min_size=1, max_size=5))
def test_characters_have_the_numbers_of_their_code_points(texts):
    tokens = Tokens.fit(["aé\U0001f680 σ\ud800"], 100, rules=CHARACTERS)
    ragged = tokens.ragged(texts)
    for at, text in enumerate(texts):
        lines = CHARACTERS.lines([text]).removeprefix("\n")
        known = [tokens.rows.index(each) if each in tokens.rows else UNKNOWN for each in lines]
        assert ragged[at].tolist() == known


def test_texts_cut_in_parts_have_the_same_numbers(monkeypatch):
    tokens = Tokens.fit(TEXTS, 100)
    whole = tokens.ragged(TEXTS * 3)
    monkeypatch.setattr(module, "CHARACTERS_AT_ONCE", 20)
    parts = tokens.ragged(TEXTS * 3)
    assert np.array_equal(parts.ids, whole.ids)
    assert np.array_equal(parts.bounds, whole.bounds)
    assert Tokens.fit(TEXTS, 100) == tokens


def test_counts_are_of_rows():
    tokens = Tokens.fit(TEXTS, 4)
    assert tokens.counts(TEXTS).tolist() == [0, 9, 4, 2]


def test_tokens_come_back_from_json():
    tokens = Tokens.fit(TEXTS, 100, rules=REVIEWS)
    again = Tokens.from_json(json.loads(json.dumps(tokens.to_json())))
    assert again == tokens
    assert again.version == tokens.version
    assert np.array_equal(again.encode(TEXTS, 5), tokens.encode(TEXTS, 5))


def test_other_rules_or_words_are_another_version():
    versions = {
        Tokens.fit(TEXTS, size, rules=rules).version
        for size in (5, 100)
        for rules in (REVIEWS, HEADLINES)
    }
    assert len(versions) == 4


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "lookback-tokens-0"},
        {"rules": {"style": "words", "unknown": 1}},
        {"rules": {"style": "other"}},
        {"vocabulary": "good"},
        {"vocabulary": ["good", 1]},
        {"vocabulary": ["good", "good"]},
    ],
    ids=str,
)
def test_foreign_tokens_are_refused(damage):
    values = Tokens.fit(TEXTS, 100).to_json() | damage
    with pytest.raises(RegistryError, match="no tokens of format"):
        Tokens.from_json(values)


def test_missing_parts_are_refused():
    with pytest.raises(RegistryError, match="no tokens of format"):
        Tokens.from_json({})


def test_texts_without_a_frequent_token_are_refused():
    with pytest.raises(TrainingError, match="give more texts"):
        Tokens.fit(["one", "two"], 100, min_count=2)


def test_rules_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="no style"):
        Rules(style="bytes")
    with pytest.raises(UsageError, match="marks"):
        Rules(marks="a!")
