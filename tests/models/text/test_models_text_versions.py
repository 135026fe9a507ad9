from dataclasses import replace

import numpy as np
import pytest

from models.text.versions import TextNetwork, contenders, load_folder

ODD = {
    "empty": "",
    "of spaces": " \n\t ",
    "of marks": "... --- ,,,",
    "of unknown words only": "qwzx vbnm plk",
    "very long": "profit rose " * 3_000,
}


@pytest.fixture(scope="module")
def version(trained):
    return load_folder(trained.folder)


def test_a_score_depends_on_its_text_alone_to_the_last_bit(version, spans):
    """Not on its companions, nor on their number or order, nor on the length that they have."""
    texts = [*spans.test.texts, *ODD.values()]
    together = version.probabilities(texts)
    order = np.random.default_rng(5).permutation(len(texts))
    mixed = version.probabilities([texts[row] for row in order])
    assert (mixed == together[order]).all()
    for row in [0, 1, 2, *range(len(texts) - len(ODD), len(texts))]:
        alone = version.probabilities([texts[row]])
        assert (alone[0] == together[row]).all()
    some = version.probabilities([texts[row] for row in order] * 3)
    assert (some == np.tile(together[order], (3, 1))).all()


def test_a_score_does_not_depend_on_the_bucket(version, spans):
    """What is served in buckets is what was trained at full length: no skew between them."""
    scorer = version.scorer
    whole = scorer.run(scorer.encoding.inputs(spans.test.texts))
    served = scorer.encoding.scored(spans.test.texts, scorer.run, scorer.outputs)
    lengths = scorer.encoding.tokens.ragged(spans.test.texts).lengths
    assert {int(np.searchsorted((4, 8), length)) for length in lengths} == {0, 1, 2}
    np.testing.assert_allclose(served, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_have_a_score(version, text):
    given = version.probabilities([text])
    assert given.shape == (1, 3)
    assert np.isfinite(given).all()
    assert given.sum() == pytest.approx(1, abs=1e-5)


def test_what_has_no_token_is_what_nobody_knows(version):
    nothing, unknown = version.probabilities(["", "qwzx"])
    np.testing.assert_array_equal(nothing, unknown)


def test_of_a_long_text_so_many_tokens_are_read(version):
    begin = " ".join(["profit"] * 16)
    alone = version.scorer.encoding.inputs([begin])
    longer = version.scorer.encoding.inputs([begin + " loss" * 5_000])
    np.testing.assert_array_equal(alone["tokens"], longer["tokens"])


def test_no_text_has_no_score(version):
    assert version.probabilities([]).shape == (0, 3)
    assert version.sentiment([]).shape == (0,)


def test_sentiment_is_good_less_bad(version):
    texts = ["profit rose record", "loss fell lawsuit", "meeting agenda"]
    given = version.probabilities(texts).astype("f8")
    sentiment = version.sentiment(texts)
    np.testing.assert_array_equal(sentiment, given[:, 2] - given[:, 0])
    assert sentiment.dtype == np.float64
    assert sentiment[0] > 0.5 > -0.5 > sentiment[1]
    assert abs(sentiment[2]) < 0.5


def test_stars_become_classes(version):
    scorer = TextNetwork(
        ("negative", "positive"), version.scorer.encoding, version.scorer.run, 4, (1, 4, 7, 10)
    )
    given = np.array([[0.1, 0.2, 0.3, 0.4]], "f4")
    np.testing.assert_allclose(scorer.by_class(given), [[0.3, 0.7]], rtol=1e-6)


def test_contenders_are_measured_on_texts_that_none_has_learned_from(trained, spans, make_corpus):
    test = spans.test
    (alone,) = contenders([("new", trained.folder)], None, test)
    said = load_folder(trained.folder).probabilities(test.texts).astype("f8")
    expected = -np.log(said[np.arange(len(test)), test.labels])
    np.testing.assert_allclose(alone.losses, expected, rtol=1e-6)
    both = contenders([("new", trained.folder)], ("old", trained.folder), test)
    assert [each.version for each in both] == ["new", "old"]
    # a champion that has learned from what it would be measured on is not measured
    fresh = make_corpus(200, seed=77)
    mixed = replace(
        fresh,
        texts=fresh.texts + spans.train.texts,
        labels=np.concatenate([fresh.labels, spans.train.labels]),
    )
    (judged,) = contenders([("new", trained.folder)], None, mixed)
    assert len(judged.losses) == 200
