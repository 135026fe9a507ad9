"""Symbols in texts: cashtags, exchange tags, company names in their time."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from db.errors import UsageError
from db.mentions import CompanyName, Names, company_names, find_symbols, read_names
from db.settings import DEFAULT_SYMBOLS, Settings, load_settings

NAMES = Names.of(
    [
        CompanyName("AAPL", "Apple"),
        CompanyName("APLE", "Apple Hospitality"),
        CompanyName("AAPL", "@apple"),
        CompanyName("AAPL", "#aapl"),
        CompanyName("PFE", "pfizer"),
        CompanyName("BAC", "Bank of America"),
        CompanyName("JNJ", "Johnson & Johnson"),
        CompanyName("UAL", "@united"),
        CompanyName("RTN", "raytheon", last=date(2020, 4, 2)),
        CompanyName("RTX", "raytheon", first=date(2020, 4, 3)),
    ],
    ["BRK-A", "C", "AAPL"],
)


def found(text: str) -> list[tuple[str, str]]:
    return find_symbols([text], NAMES)[0]


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("$AAPL up", ["AAPL"]),
        ("up ($XYZ), $ABC.", ["XYZ", "ABC"]),
        ("$aapl and $xyz", ["AAPL"]),  # small letters: known symbols only
        ("$ aapl $ c $ xyz $ XYZ", ["AAPL", "C"]),  # with a blank too
        ("$BRK.A $ brk-a $VOD.L", ["BRK-A", "VOD.L"]),
        ("$AAPL$C", ["AAPL", "C"]),
        ("costs $5, 5$ c, $1b, $$C, $AAPL5 $", []),
        ("(NASDAQ:AAPL) and NYSE: BRK.A", ["AAPL", "BRK-A"]),
    ],
)
def test_cashtags(text: str, symbols: list[str]) -> None:
    assert found(text) == [(symbol, "cashtag") for symbol in symbols]


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Apple's day", ["AAPL"]),
        ("APPLE BEATS", ["AAPL"]),
        ("an apple, Apples, Pineapple, AppleCare", []),
        ("Pfizer or PFIZER or pfizer", ["PFE"]),
        ("bank  of america", ["BAC"]),
        ("johnson & Johnson", ["JNJ"]),
        ("@United is late, @unitedway is not", ["UAL"]),
        ("united we stand", []),
        ("#AAPL", ["AAPL"]),
        ("Apple Hospitality buys", ["APLE"]),  # the longest counts
        ("Apple Hospitality buys from Apple", ["APLE", "AAPL"]),
    ],
)
def test_names(text: str, symbols: list[str]) -> None:
    assert found(text) == [(symbol, "name") for symbol in symbols]


def test_a_cashtag_counts_before_a_name() -> None:
    assert found("Apple $AAPL @apple") == [("AAPL", "cashtag")]


def test_a_name_counts_in_its_time() -> None:
    days = pd.Series(pd.to_datetime(["2020-04-02 23:59", "2020-04-03 00:00"], utc=True))
    assert find_symbols(["Raytheon"] * 2, NAMES, days) == [[("RTN", "name")], [("RTX", "name")]]
    assert find_symbols([], NAMES, days[:0]) == []
    unknown = pd.Series([pd.NaT], dtype="datetime64[us, UTC]")
    assert len(find_symbols(["Raytheon"], NAMES, unknown)[0]) == 2


def test_given_symbols() -> None:
    assert NAMES.given("aapl, $BRK.A;#C|^GSPC none N/A vod.l aapl") == [
        "AAPL", "BRK-A", "C", "^GSPC", "VOD.L",
    ]  # fmt: skip


# --------------------------------------------------------------------------- the tables


def test_the_shipped_table(settings: Settings) -> None:
    names = company_names(settings)
    assert set(DEFAULT_SYMBOLS) <= names.symbols
    assert {"UAL", "AAL", "DAL", "LUV", "JBLU", "GOOGL", "VA"} <= names.symbols
    tweets = [
        "@AmericanAir thanks", "@SouthwestAir", "@JetBlue", "@Delta", "Delta variant",
        "Visa for travel", "Alphabet Inc", "a gap", "target price", "Home Depot",
    ]  # fmt: skip
    assert [[symbol for symbol, _ in each] for each in find_symbols(tweets, names)] == [
        ["AAL"], ["LUV"], ["JBLU"], ["DAL"], [], [], ["GOOGL"], [], [], ["HD"],
    ]  # fmt: skip
    days = pd.Series(pd.to_datetime(["2016-12-14", "2016-12-15"], utc=True))
    assert find_symbols(["@VirginAmerica"] * 2, names, days) == [[("VA", "name")], []]


def test_every_name_of_the_shipped_table_finds_its_symbol(settings: Settings) -> None:
    names = company_names(settings)
    for each in {name for found in names.by_word.values() for name in found}:
        day = each.last or each.first or date(2015, 6, 1)
        times = pd.Series(pd.to_datetime([day.isoformat()], utc=True))
        ((*symbols,),) = find_symbols([f"so {each.name} it is"], names, times)
        assert each.symbol in {symbol for symbol, _ in symbols}, each


@pytest.mark.reference
def test_the_shipped_table_knows_the_symbols_of_the_tweets(
    settings: Settings, reference_data: Path
) -> None:
    tickers = pd.read_parquet(reference_data / "stock_tweets_2014_2015.parquet", columns=["ticker"])
    assert set(tickers["ticker"]) <= company_names(settings).symbols


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text(
        "\ufeffname,symbol,last\nAcme,acm,\n\nold acme,ACM,2015-01-01\n", encoding="utf-8"
    )
    settings = load_settings(company_names=path, symbols=["ZZZ"])
    names = company_names(settings)
    assert names.symbols == {"ACM", "ZZZ"}
    assert find_symbols(["Acme, not Apple, $ zzz"], names) == [
        [("ZZZ", "cashtag"), ("ACM", "name")]
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("symbol\nA\n", "has no column name"),
        ("symbol,name\nA,Acme\n,x\n", "line 3: no symbol or no name"),
        ("symbol,name\nA,&\n", "line 2: no symbol or no name"),
        ("symbol,name,first\nA,Acme,1/2/2015\n", "line 2: .*days are written"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "names.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_names(path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="see LOOKBACK_COMPANY_NAMES"):
        company_names(load_settings(company_names=tmp_path / "none.csv"))
