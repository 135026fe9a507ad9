"""Mentions: the symbols that a text is about, by cashtag and by company name."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from db.errors import UsageError
from db.settings import Settings

CASHTAG, NAME = "cashtag", "name"

# Large US companies by the names that people write; some with the dates of a listing.
SHIPPED = Path(__file__).with_name("company_names.csv")

# $AAPL, $BRK.B, and the `$ aapl` of tokenised tweets; never $5 or 5$ a share.
_CASHTAG = re.compile(r"(?<![\d$])\$(\s?)([A-Za-z]{1,6}(?:[.-][A-Za-z](?![A-Za-z]))?)(?!\w)")
# (NYSE:BRK.B), (NASDAQ: AAPL) in headlines.
_LISTED = re.compile(r"\b(?:NYSE|NASDAQ|AMEX|NYSEARCA)\s?:\s?([A-Z]{1,5}(?:[.-][A-Z])?)(?!\w)")
_WORD = re.compile(r"[@#]?\w+")
_SEPARATORS = re.compile(r"[\s,;|]+")
_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.=^-]{0,14}")
_NO_SYMBOL = frozenset({"NONE", "NULL", "NAN", "NA"})


@dataclass(frozen=True)
class CompanyName:
    """A name that stands for a symbol in texts of some time.

    Attributes
    ----------
    symbol : as the bars have it; a share class after a hyphen (BRK-B).
    name : matched as a whole word: in any case if it is written in small letters, begins with
        @ or #, or has several words; else as it is written or all in capitals, since a word
        such as Apple or Target means something else in small letters.
    first, last : days on which it counts; None without a limit.
    """

    symbol: str
    name: str
    first: date | None = None
    last: date | None = None

    def counts_on(self, day: np.datetime64 | None) -> bool:
        """Whether a text of that day means the symbol; a text without a time counts."""
        if day is None or np.isnat(day):
            return True
        begun = self.first is None or np.datetime64(self.first) <= day
        ended = self.last is not None and day > np.datetime64(self.last)
        return bool(begun and not ended)

    @property
    def pattern(self) -> str:
        """What matches the name, without its borders."""
        words = r"\s+".join(re.escape(word) for word in self.name.split())
        if self.name[0] in "@#" or " " in self.name or self.name == self.name.lower():
            return f"(?i:{words})"
        return f"(?:{words}|{re.escape(self.name.upper())})"


@dataclass(frozen=True)
class Names:
    """The names and symbols that texts are searched for.

    Attributes
    ----------
    symbols : known ones; only these are found with a blank after the $ or in small letters.
    by_word : names by their first word in small letters, longest first.
    patterns : of each first word: all its names, the longest that fits.
    """

    symbols: frozenset[str]
    by_word: Mapping[str, tuple[CompanyName, ...]]
    patterns: Mapping[str, re.Pattern[str]]

    @classmethod
    def of(cls, names: Iterable[CompanyName], symbols: Iterable[str] = ()) -> Names:
        """Searchable names; their symbols and `symbols` are known."""
        every = sorted(names, key=lambda each: (-len(each.name), each.name, each.symbol))
        by_word: dict[str, list[CompanyName]] = {}
        for each in every:
            word = _WORD.search(each.name)
            if word is not None:
                by_word.setdefault(word.group().lower(), []).append(each)
        return cls(
            frozenset(each.symbol for each in every) | frozenset(symbols),
            {word: tuple(found) for word, found in by_word.items()},
            {word: _pattern(found) for word, found in by_word.items()},
        )

    def given(self, text: str) -> list[str]:
        """Symbols that came with a document, in capitals and once each; no symbol is left out."""
        parts = (part.lstrip("$#").upper() for part in _SEPARATORS.split(text))
        found = (self._hyphenated(part) for part in parts if _SYMBOL.fullmatch(part))
        return [symbol for symbol in dict.fromkeys(found) if symbol not in _NO_SYMBOL]

    def cashtags(self, text: str) -> list[str]:
        """Symbols behind a $: known ones in any case, others in capitals without a blank.

        Those behind the name of their exchange too, as in (NASDAQ:AAPL).
        """
        found = [self._hyphenated(symbol) for symbol in _LISTED.findall(text)]
        for blank, tag in _CASHTAG.findall(text):
            symbol = self._hyphenated(tag.upper())
            if symbol in self.symbols or (not blank and tag == tag.upper()):
                found.append(symbol)
        return found

    def named(self, text: str, day: np.datetime64 | None = None) -> list[str]:
        """Symbols whose names stand in the text; of names that overlap, the longest counts."""
        words = self.by_word.keys() & set(_WORD.findall(text.lower()))
        if not words:
            return []
        spans: list[tuple[int, int, list[str]]] = []
        for word in words:
            names = self.by_word[word]
            for match in self.patterns[word].finditer(text):
                # one name may stand for several symbols, each in its time
                same = names[(match.lastindex or 1) - 1].name
                meant = [each.symbol for each in names if each.name == same and each.counts_on(day)]
                spans.append((match.start(), match.end(), meant))
        spans.sort(key=lambda span: (span[0] - span[1], span[0]))
        taken: list[tuple[int, int, list[str]]] = []
        for begin, end, meant in spans:
            if all(end <= other or begin >= last for other, last, _ in taken):
                taken.append((begin, end, meant))
        return [symbol for _, _, meant in sorted(taken) for symbol in meant]

    def _hyphenated(self, symbol: str) -> str:
        """BRK.B is BRK-B where that is known: bars write share classes with a hyphen."""
        hyphenated = symbol.replace(".", "-")
        return hyphenated if hyphenated in self.symbols else symbol


def _pattern(names: Sequence[CompanyName]) -> re.Pattern[str]:
    """One group for each name, longest first."""
    before = r"(?<!\w)" if names[0].name[0] in "@#" else r"(?<![\w@#$])"
    groups = "|".join(f"({each.pattern})" for each in names)
    return re.compile(rf"{before}(?:{groups})(?!\w)")


def find_symbols(
    texts: Sequence[str], names: Names, times: pd.Series[Any] | None = None
) -> list[list[tuple[str, str]]]:
    """Symbols that each text names, once each: cashtags first, then company names.

    Parameters
    ----------
    texts : (n,)
    names : what is known of symbols.
    times : UTC, (n,), of the texts: names count from a day on and until one; without it always.

    Returns
    -------
    list
        For each text its (symbol, found_by), found_by `cashtag` or `name`.
    """
    days: npt.NDArray[np.datetime64] | None = None
    if times is not None and len(texts):
        days = times.dt.tz_convert(None).to_numpy().astype("datetime64[D]")
    found = []
    for number, text in enumerate(texts):
        by: dict[str, str] = {}
        if "$" in text or ":" in text:
            by = dict.fromkeys(names.cashtags(text), CASHTAG)
        for symbol in names.named(text, None if days is None else days[number]):
            by.setdefault(symbol, NAME)
        found.append(list(by.items()))
    return found


def company_names(settings: Settings) -> Names:
    """The names that the settings ask for; the settings' own symbols are known too.

    Raises
    ------
    UsageError
        The table cannot be read.
    """
    path = settings.company_names or SHIPPED
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; see LOOKBACK_COMPANY_NAMES"
        ) from None
    return _names(path, changed, tuple(settings.symbols))


@lru_cache(maxsize=4)
def _names(path: Path, _changed: int, symbols: tuple[str, ...]) -> Names:
    return Names.of(read_names(path), symbols)


def read_names(path: Path) -> list[CompanyName]:
    """Names of a CSV with columns symbol, name and, where they are limited, first and last.

    Raises
    ------
    UsageError
        A column or a value is missing, or a day is none; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}; save it as UTF-8") from None
    rows = csv.DictReader(text.splitlines())
    missing = {"symbol", "name"} - set(rows.fieldnames or ())
    if missing:
        raise UsageError(
            f"{path} has no column {', '.join(sorted(missing))}; it needs symbol and name, "
            "first and last if names count for a time only"
        )
    return [_name(path, rows.line_num, row) for row in rows]


def _name(path: Path, line: int, row: Mapping[str, str | None]) -> CompanyName:
    symbol, name = (row["symbol"] or "").strip().upper(), (row["name"] or "").strip()
    if not _SYMBOL.fullmatch(symbol) or _WORD.search(name) is None:
        raise UsageError(f"{path} line {line}: no symbol or no name: {symbol!r}, {name!r}")
    try:
        first, last = (
            date.fromisoformat(given.strip()) if given and given.strip() else None
            for given in (row.get("first"), row.get("last"))
        )
    except ValueError as error:
        raise UsageError(f"{path} line {line}: {error}; days are written 2016-12-14") from None
    return CompanyName(symbol, name, first, last)
