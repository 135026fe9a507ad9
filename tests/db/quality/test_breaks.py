"""Breaks on constructed paths, the truncation property, and the score on hand-labelled ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.quality.breaks import BROKEN, LOOK_FORWARD, judge_breaks

ROOT = Path(__file__).parents[3]
REFERENCE = os.environ.get("LOOKBACK_REFERENCE_DATA")
needs_reference = pytest.mark.skipif(
    not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data"
)
AT = 100  # the row where constructed paths break


def walk(rows: int = 160, sigma: float = 0.02, seed: int = 0) -> np.ndarray:
    """A quiet stock around 50."""
    steps = np.random.default_rng(seed).normal(0, sigma, rows)
    return 50 * np.exp(np.cumsum(steps))


def frame(*paths: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "entity": f"S{i}",
                "session": pd.bdate_range("2010-01-04", periods=len(path)),
                "close": path,
            }
        )
        for i, path in enumerate(paths)
    ]
    return pd.concat(parts, ignore_index=True).assign(**columns)


def session(row: int) -> pd.Timestamp:
    return pd.bdate_range("2010-01-04", periods=row + 1)[-1]


def stepped(factor: float, at: int = AT, rows: int = 160, sigma: float = 0.02) -> np.ndarray:
    path = walk(rows, sigma)
    path[at:] *= factor
    return path


def only(breaks: pd.DataFrame) -> pd.Series:
    assert len(breaks) == 1, breaks
    return breaks.iloc[0]


@pytest.mark.parametrize(
    ("factor", "length"), [(4.0, 1), (4.0, 3), (100.0, 1), (0.1, 1), (0.01, 2)]
)
def test_prices_that_snap_back_are_a_spike(factor: float, length: int) -> None:
    path = walk()
    path[AT : AT + length] *= factor
    found = only(judge_breaks(frame(path)))
    assert found["kind"] == "spike"
    assert found["session"] == session(AT)
    assert found["until_session"] == session(AT + length - 1)
    assert found["resolved_session"] == session(AT + length)
    assert found["ratio"] == pytest.approx(path[AT] / path[AT - 1])
    assert f"after {length} session" in found["reason"]


@pytest.mark.parametrize("factor", [1 / 2, 1 / 3, 2.0, 10.0, 1 / 10])
def test_a_split_not_applied_is_a_split(factor: float) -> None:
    found = only(judge_breaks(frame(stepped(factor, sigma=0.015))))
    assert found["kind"] == "split"
    assert found["session"] == session(AT)
    assert pd.isna(found["until_session"])
    assert found["resolved_session"] == session(AT + LOOK_FORWARD)
    assert f"{max(factor, 1 / factor):g}:1" in found["reason"]


def test_a_known_split_is_no_break_and_a_wrong_one_is() -> None:
    known = np.ones(160)
    known[AT] = 0.5
    assert judge_breaks(frame(stepped(0.5), ratio=known), split_ratio="ratio").empty
    wrong = only(judge_breaks(frame(walk(), ratio=known), split_ratio="ratio"))
    assert wrong["session"] == session(AT)
    assert wrong["kind"] in BROKEN


def test_a_known_split_on_a_missing_price_counts_at_the_next_one() -> None:
    path, known = stepped(0.5), np.ones(160)
    path[AT], known[AT] = np.nan, 0.5
    assert judge_breaks(frame(path, ratio=known), split_ratio="ratio").empty


def test_a_jump_that_excites_the_market_is_real() -> None:
    path = walk(rows=AT)
    after = np.exp(np.cumsum(np.r_[0, np.random.default_rng(1).normal(0, 0.08, 59)]))
    found = only(judge_breaks(frame(np.r_[path, 3.5 * path[-1] * after])))
    assert found["kind"] == "jump"
    assert found["resolved_session"] == session(AT + LOOK_FORWARD)


def test_a_take_over_is_real() -> None:
    path = walk(rows=AT)
    pinned = 2.0 * path[-1] * np.exp(np.random.default_rng(2).normal(0, 0.001, 60))
    assert only(judge_breaks(frame(np.r_[path, pinned])))["kind"] == "jump"


def test_a_crash_is_real() -> None:
    path = walk(rows=AT, sigma=0.03)
    after = np.exp(np.cumsum(np.r_[0, np.random.default_rng(3).normal(0, 0.07, 59)]))
    assert only(judge_breaks(frame(np.r_[path, 0.2 * path[-1] * after])))["kind"] == "jump"


def test_volume_tells_news_from_a_split_not_applied() -> None:
    path, volume = stepped(0.5, sigma=0.015), np.full(160, 1e6)
    volume[AT:] *= 2  # twice the shares
    assert only(judge_breaks(frame(path, v=volume), volume="v"))["kind"] == "split"
    volume[AT] = 2e7
    assert only(judge_breaks(frame(path, v=volume), volume="v"))["kind"] == "jump"


def test_no_market_makes_a_move_of_a_thousand() -> None:
    path = stepped(4_161.0)
    path[AT + 1 :] *= np.exp(np.random.default_rng(4).normal(0, 0.3, len(path) - AT - 1))
    first = judge_breaks(frame(path)).iloc[0]
    assert (first["kind"], first["session"]) == ("level", session(AT))


def test_volatility_decides_what_is_a_break() -> None:
    assert judge_breaks(frame(walk(2_000, sigma=0.12))).empty
    quiet = walk(sigma=0.01)
    quiet[AT:] *= 1.6
    assert len(judge_breaks(frame(quiet))) == 1


def test_a_few_ticks_of_a_cent_stock_are_no_break() -> None:
    ticks = np.random.default_rng(5).choice([1, 2, 3], 300)
    ticks[:20] = [4, 5] * 10  # what a tick is shows in the first trades
    ticks[200:] = np.where(ticks[200:] == 3, 5, ticks[200:])
    assert judge_breaks(frame(0.001 * ticks)).empty


@pytest.mark.parametrize("kind_at_first_row", [0.01, 100.0])
def test_a_broken_first_row_is_a_level(kind_at_first_row: float) -> None:
    path = walk()
    path[0] *= kind_at_first_row
    found = only(judge_breaks(frame(path)))
    assert (found["kind"], found["session"]) == ("level", session(1))


def test_a_break_at_the_last_row_is_pending() -> None:
    found = only(judge_breaks(frame(stepped(4.0, at=159))))
    assert (found["kind"], found["session"]) == ("pending", session(159))
    assert pd.isna(found["resolved_session"])
    assert pd.isna(found["until_session"])


def test_symbols_do_not_touch_each_other() -> None:
    spiked = walk()
    spiked[AT] *= 5
    breaks = judge_breaks(frame(walk(), 1_000 * walk(), spiked, np.array([5.0, 5.1])))
    assert only(breaks)["entity"] == "S2"


def test_constant_short_and_empty_symbols_have_no_break() -> None:
    assert judge_breaks(frame(np.full(100, 7.0), np.array([5.0, 5.1]), np.array([3.0]))).empty
    nothing = judge_breaks(frame(walk()).iloc[:0])
    assert nothing.empty
    assert list(nothing.columns) == list(judge_breaks(frame(stepped(4.0))).columns)


def test_missing_prices_are_passed_over() -> None:
    path = walk()
    path[[3, AT - 1, AT + 1]] = np.nan
    path[50] = 0.0
    assert judge_breaks(frame(path)).empty
    path[AT] *= 5  # alone between two gaps
    found = only(judge_breaks(frame(path)))
    assert (found["kind"], found["resolved_session"]) == ("spike", session(AT + 2))


def test_unsorted_rows_are_refused() -> None:
    rows = frame(walk(), walk())
    with pytest.raises(ValueError, match="sorted by entity and session"):
        judge_breaks(rows.iloc[::-1])
    with pytest.raises(ValueError, match="sorted by entity and session"):
        judge_breaks(rows.sort_values("session"))


def test_categorical_and_plain_entities_give_the_same() -> None:
    rows = frame(walk(), stepped(10.0))
    plain = judge_breaks(rows)
    coded = judge_breaks(rows.assign(entity=rows["entity"].astype("category")))
    pd.testing.assert_frame_equal(plain, coded.astype({"entity": plain["entity"].dtype}))


def assert_truncation_holds(rows: pd.DataFrame, cut: pd.Timestamp) -> None:
    whole = judge_breaks(rows)
    cut_off = judge_breaks(rows[rows["session"] <= cut])
    known = whole[whole["resolved_session"] <= cut].reset_index(drop=True)
    resolved = cut_off[cut_off["kind"] != "pending"].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, resolved)

    open_then = whole[(whole["session"] <= cut) & ~(whole["resolved_session"] <= cut)]
    pending = cut_off.loc[cut_off["kind"] == "pending", ["entity", "session"]]
    missing = open_then[["entity", "session"]].merge(pending, how="left", indicator=True)
    assert (missing["_merge"] == "both").all()


@given(
    seed=st.integers(0, 10_000),
    sigma=st.sampled_from([0.005, 0.02, 0.05]),
    moves=st.lists(
        st.tuples(
            st.integers(1, 119),
            st.sampled_from([0.01, 0.1, 0.5, 2.0, 5.0, 100.0]),
            st.integers(1, 15),
        ),
        max_size=6,
    ),
    cut=st.integers(0, 119),
)
@settings(max_examples=150)
def test_truncation_on_random_paths(
    seed: int, sigma: float, moves: list[tuple[int, float, int]], cut: int
) -> None:
    path = walk(120, sigma, seed)
    for at, factor, length in moves:
        path[at : at + length] *= factor
    path[path > 1e6] = np.nan
    assert_truncation_holds(frame(path, walk(80, sigma, seed + 1)), session(cut))


@pytest.fixture(scope="module")
def panel() -> pd.DataFrame:
    assert REFERENCE is not None
    rows = pd.read_parquet(Path(REFERENCE) / "us_equities_adj_close_daily_2007_2018.parquet")
    rows.columns = pd.Index(["session", "entity", "close"])
    return rows.assign(session=pd.to_datetime(rows["session"]))


@pytest.mark.reference
@needs_reference
@pytest.mark.parametrize("cut", ["2008-10-15", "2009-05-12", "2015-09-18", "2018-06-29"])
def test_truncation_on_the_reference_panel(panel: pd.DataFrame, cut: str) -> None:
    assert_truncation_holds(panel, pd.Timestamp(cut))


@pytest.mark.reference
@needs_reference
def test_score_against_labels_made_by_hand() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.price_breaks", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(run.stdout)
    table = pd.DataFrame(figures.pop("weeks_table"))
    print(table[["ticker", "week", "label", "certainty", "verdict", "broken"]].to_string())
    print(figures)

    assert table["ticker"].nunique() == 72
    assert figures["tickers"]["precision"] >= 0.8
    assert figures["tickers"]["recall"] >= 0.8
    assert figures["weeks_of_high_certainty"]["precision"] == 1.0
    assert figures["weeks_of_high_certainty"]["recall"] >= 0.85
    winners = table[table["ticker"].isin(["AXL", "LEE", "RIGL", "LNG", "VNDA", "TTNP"])]
    assert not winners["broken"].any()
    assert figures["seconds"] < 30
    assert figures["extra_peak_mb"] < 2_000
