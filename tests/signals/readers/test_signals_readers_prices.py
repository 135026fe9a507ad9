"""Prices of the published file: total returns, flat across breaks, on the scale they began at."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from signals import readers
from tests.signals.readers.published_history import closes


def test_prices_are_the_closes_that_were_taken_over(close: pd.DataFrame) -> None:
    taken = closes()[close.columns]
    assert close.index.equals(taken.index.astype("datetime64[ns]"))
    np.testing.assert_allclose(close, taken, rtol=1e-4)  # returns are stored as float32


def test_a_part_begins_at_its_own_first_price(history: Path) -> None:
    part = readers.prices(history, entities=["AAPL", "KO"], start="2018-06-01", end="2018-06-29")
    taken = closes().loc["2018-06-01":"2018-06-29", ["AAPL", "KO"]]
    np.testing.assert_allclose(part, taken, rtol=1e-5)
    gains = readers.total_returns(history, entities=["KO"], start="2018-06-01", end="2018-06-29")
    np.testing.assert_allclose(gains.iloc[1:], taken[["KO"]].pct_change().iloc[1:], atol=1e-6)


def test_bars_stand_to_the_close(history: Path, tmp_path: Path) -> None:
    bars = readers.bars(history, entities=["KO"], start="2018-12-01")
    assert list(bars) == ["entity", "session", "open", "high", "low", "close", "volume"]
    # the sample has closes only
    assert (bars["open"] == bars["close"]).all()
    assert (bars["volume"] == 0).all()
    copy = _changed(
        history,
        tmp_path,
        "UPDATE raw.bars SET close = 4 * adj_close, open = 2 * adj_close, volume = 7 "
        "WHERE session = '2018-12-03'",
    )
    first = readers.bars(copy, entities=["KO"], start="2018-12-03").iloc[0]
    assert first["open"] == pytest.approx(first["close"] / 2)
    assert first["high"] == first["close"]
    assert first["volume"] == 7


def test_a_break_has_no_return_and_a_spike_no_price(history: Path, tmp_path: Path) -> None:
    def judged(entity: str, session: str, kind: str, until: str = "NULL") -> str:
        return (
            "INSERT INTO raw.price_breaks BY NAME SELECT 'sample.stocks' AS source, "
            f"'{entity}' AS entity, DATE '{session}' AS session, '{kind}' AS kind, 2.0 AS ratio, "
            f"CAST({until} AS DATE) AS until_session, DATE '2018-12-20' AS resolved_session, "
            "TIMESTAMPTZ '2018-12-20 22:00:00+00' AS resolved_at, 'test' AS reason, "
            "TIMESTAMPTZ '2018-12-10 22:00:00+00' AS known_at, now() AS ingested_at, 'r' AS run_id;"
        )

    copy = _changed(
        history,
        tmp_path,
        judged("KO", "2018-12-10", "split")
        + judged("PG", "2018-12-10", "spike", "'2018-12-11'")
        + judged("GE", "2018-12-10", "jump"),
    )
    before = readers.prices(history, start="2018-12-03", end="2018-12-14")
    after = readers.prices(copy, start="2018-12-03", end="2018-12-14")
    gains = readers.total_returns(copy, start="2018-12-03", end="2018-12-14")
    pd.testing.assert_frame_equal(after[["AAPL", "GE"]], before[["AAPL", "GE"]])
    assert np.isnan(gains["KO"]["2018-12-10"])
    assert after["KO"]["2018-12-10"] == after["KO"]["2018-12-07"]
    moved = before["KO"]["2018-12-11"] / before["KO"]["2018-12-10"]
    assert after["KO"]["2018-12-11"] / after["KO"]["2018-12-10"] == pytest.approx(moved)
    assert after["PG"][["2018-12-10", "2018-12-11"]].isna().all()
    assert after["PG"]["2018-12-12"] == after["PG"]["2018-12-07"]  # back at its level


def _changed(history: Path, folder: Path, statements: str) -> Path:
    file = folder / "lookback.duckdb"
    file.write_bytes(readers.published_file(history).read_bytes())
    with duckdb.connect(str(file)) as connection:
        connection.execute(statements)
    return file


def test_a_move_beyond_the_largest_is_no_return(history: Path, close: pd.DataFrame) -> None:
    gains = close.pct_change()
    name = gains.max().idxmax()
    day = gains[name].idxmax()
    bounded = readers.prices(history, largest_move=1 + float(gains.loc[day, name]) - 1e-9)
    after = bounded.pct_change()
    assert gains.loc[day, name] > 0.1
    assert after.loc[day, name] == 0
    pd.testing.assert_frame_equal(after.drop(index=day), gains.drop(index=day), rtol=1e-9)
