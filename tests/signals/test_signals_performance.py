"""How good signals were, from outcomes written by hand."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from db.tables import outcomes, signals
from signals.declaration import SIGNALS
from signals.performance import FEWEST_DATES, measure

WEEK = SIGNALS["equity_week_direction"]
INDEX = SIGNALS["sp500_next_close"]
START = date(2010, 1, 1)
WEEKS = pd.date_range("2015-01-02", periods=60, freq="7D")
NAMES = [f"E{number:02d}" for number in range(12)]


def panel(seed=5, weeks=WEEKS, version="v1", role="live"):
    """Scores that lean on the returns to come, with probabilities; one return is missing."""
    draw = np.random.default_rng(seed)
    shape = (len(weeks), len(NAMES))
    returns = draw.normal(0.002, 0.03, shape)
    value = 0.5 + returns + draw.normal(0, 0.05, shape)
    rows = pd.DataFrame(
        {
            "signal": WEEK.name,
            "entity": NAMES * len(weeks),
            "as_of": weeks.repeat(len(NAMES)),
            "horizon_unit": "week",
            "role": role,
            "model_version": version,
            "value": value.ravel(),
            "probability": np.clip(value.ravel(), 0.01, 0.99),
            "realised": returns.ravel(),
            "tradable_return": draw.permutation(returns.ravel()),
            "published_at": (weeks.repeat(len(NAMES)) + pd.Timedelta(hours=30)).tz_localize("UTC"),
        }
    )
    rows["start"], rows["error"] = 0.0, np.nan
    middle = rows.groupby("as_of")[["value", "realised"]].transform("median")
    rows["hit"] = (rows["value"] > middle["value"]) == (rows["realised"] > middle["realised"])
    rows["rank"] = rows.groupby("as_of")["value"].rank(pct=True)
    return rows


def series(days=300, better=1.0, unit="session", signal=INDEX.name):
    """Forecasts of a walk; `better` is how much of the next step they know."""
    draw = np.random.default_rng(8)
    steps = draw.normal(0, 10, days)
    start = 2000 + np.concatenate([[0], steps.cumsum()[:-1]])
    value = start + better * steps + draw.normal(0, 5, days)
    as_of = pd.bdate_range("2015-01-02", periods=days)
    rows = pd.DataFrame(
        {
            "signal": signal,
            "entity": "SP500",
            "as_of": as_of,
            "horizon_unit": unit,
            "role": "live",
            "model_version": "v1",
            "value": value,
            "q05": value - 8.0,
            "q50": value,
            "q95": value + 8.0,
            "start": start,
            "realised": start + steps,
            "error": value - start - steps,
            "hit": (value > start) == (steps > 0),
            "tradable_return": np.append(steps[1:], np.nan) / 2000,
            "published_at": (as_of + pd.Timedelta(hours=30)).tz_localize("UTC"),
        }
    )
    return rows.assign(rank=np.nan)


def write(warehouse, rows):
    """The rows as signals and as outcomes."""
    rows = rows.assign(
        horizon=1,
        known_at=rows["published_at"],
        tradable_from=rows["as_of"] + pd.Timedelta(days=3),
        target_date=rows["as_of"] + pd.Timedelta(days=7),
        label_return=rows["realised"],
        tradable_until=rows["as_of"] + pd.Timedelta(days=10),
        recorded_at=rows["published_at"],
        model="m",
        feature_view="v",
        feature_version="1",
        data_snapshot="s",
        run_id="run",
    )
    for table in (signals, outcomes):
        columns = [column.name for column in table.columns if column.name in rows]
        warehouse.append(table, rows[columns])


def measured(warehouse, declared, first=START):
    measure(warehouse, declared, first)
    return warehouse.frame(
        "FROM main.signal_performance WHERE signal = ? ORDER BY model_version, as_of, entity",
        declared.name,
    )


def test_a_cross_section_is_measured_within_its_dates(warehouse):
    rows = panel()
    write(warehouse, rows)
    found = measured(warehouse, WEEK)
    assert found["entity"].unique().tolist() == ["*"]
    assert found["model_version"].value_counts().to_dict() == {"*": 60, "v1": 60}
    of_one = found[found["model_version"] == "v1"].set_index("as_of")
    day = rows[rows["as_of"] == WEEKS[7]]
    got = of_one.loc[WEEKS[7]]
    assert (got["scored"], got["known"]) == (12, 12)
    assert got["ic"] == pytest.approx(stats.pearsonr(day["value"], day["realised"])[0])
    assert got["rank_ic"] == pytest.approx(stats.spearmanr(day["value"], day["realised"])[0])
    assert got["auc"] == pytest.approx(roc_auc_score(day["realised"] > 0, day["value"]))
    assert got["tradable_ic"] == pytest.approx(
        stats.pearsonr(day["value"], day["tradable_return"])[0]
    )
    assert got["hit_rate"] == pytest.approx(day["hit"].mean())
    assert got["brier"] == pytest.approx(((day["probability"] - (day["realised"] > 0)) ** 2).mean())
    assert np.isnan(got["mae"])
    # both are about the middle of the date, so the same rule for what could be traded
    middle = day[["value", "tradable_return"]].median()
    right = (day["value"] > middle["value"]) == (day["tradable_return"] > middle["tradable_return"])
    assert got["tradable_hit_rate"] == pytest.approx(right.mean())


def test_running_figures_are_means_of_a_year_of_dates(warehouse):
    write(warehouse, panel())
    found = measured(warehouse, WEEK).query("model_version == 'v1'").reset_index(drop=True)
    last = found.iloc[-1]
    assert last["running_dates"] == 52
    year = found.iloc[-52:]
    for name in ("ic", "rank_ic", "auc", "hit_rate", "tradable_rank_ic"):
        running = f"running_{name}"
        assert last[running] == pytest.approx(year[name].mean()), name
    assert last["running_rank_ic_t"] > 5
    assert abs(last["running_tradable_rank_ic_t"]) < 3
    few = found.iloc[: FEWEST_DATES - 1]
    assert few["running_rank_ic"].isna().all()
    assert few["running_dates"].tolist() == list(range(1, FEWEST_DATES))


def test_a_date_whose_outcomes_are_not_all_known_says_so(warehouse):
    rows = panel(weeks=WEEKS[:12])
    write(warehouse, rows)
    warehouse.native.execute("DELETE FROM main.outcomes WHERE entity = 'E00'")
    found = measured(warehouse, WEEK)
    assert set(found["scored"]) == {12}
    assert set(found["known"]) == {11}


def test_the_signal_is_measured_whoever_made_it(warehouse):
    first, second = WEEKS[:30], WEEKS[28:]
    write(warehouse, panel(weeks=first))
    later = panel(seed=6, weeks=second, version="v2")
    later["published_at"] += pd.Timedelta(days=1)
    write(warehouse, later)
    found = measured(warehouse, WEEK)
    together = found[found["model_version"] == "*"].set_index("as_of")
    of_two = found[found["model_version"] == "v2"].set_index("as_of")
    assert len(together) == 60
    # where two versions scored a date, the one published last counts
    assert together.loc[WEEKS[28], "ic"] == pytest.approx(of_two.loc[WEEKS[28], "ic"])
    assert together.loc[WEEKS[28], "scored"] == 12
    assert together["running_dates"].iloc[-1] == 52
    assert of_two["running_dates"].iloc[-1] == 32


def test_a_series_is_measured_over_its_dates(warehouse):
    rows = series()
    write(warehouse, rows)
    found = measured(warehouse, INDEX).query("model_version == 'v1'").reset_index(drop=True)
    assert found["ic"].isna().all()
    last, year = found.iloc[-1], rows.iloc[-252:]
    assert last["running_dates"] == 252
    expected, came = year["value"] - year["start"], year["realised"] - year["start"]
    assert last["running_ic"] == pytest.approx(stats.pearsonr(expected, came)[0])
    assert last["running_rank_ic"] == pytest.approx(stats.spearmanr(expected, came)[0])
    assert last["running_auc"] == pytest.approx(roc_auc_score(came > 0, expected))
    assert last["running_hit_rate"] == pytest.approx(year["hit"].mean())
    assert last["running_mae"] == pytest.approx(year["error"].abs().mean())
    assert last["running_naive_mae"] == pytest.approx(came.abs().mean())
    known = year["tradable_return"].notna()
    assert last["running_tradable_ic"] == pytest.approx(
        stats.pearsonr(expected[known], year["tradable_return"][known])[0]
    )


def test_measuring_a_part_again_gives_what_measuring_all_gives(warehouse):
    rows = panel()
    write(warehouse, rows[rows["as_of"] <= WEEKS[50]])
    measure(warehouse, WEEK, START)
    write(warehouse, rows[rows["as_of"] > WEEKS[50]])
    bit_by_bit = measured(warehouse, WEEK, WEEKS[51].date())
    warehouse.native.execute("DELETE FROM main.signal_performance")
    pd.testing.assert_frame_equal(bit_by_bit, measured(warehouse, WEEK), rtol=1e-12)


def test_probabilities_and_quantiles_are_held_against_what_came(warehouse):
    rows = panel()
    write(warehouse, rows)
    write(warehouse, series())
    measure(warehouse, WEEK, START)
    measure(warehouse, INDEX, START)
    found = warehouse.frame(
        "FROM main.signal_calibration WHERE model_version = 'v1' ORDER BY kind, bucket"
    )
    of_week = found[found["signal"] == WEEK.name]
    assert set(of_week["kind"]) == {"probability"}
    assert of_week["rows"].sum() == 52 * 12
    assert of_week["expected"].is_monotonic_increasing
    newest = rows[rows["as_of"] >= WEEKS[8]]
    weighted = (of_week["observed"] * of_week["rows"]).sum() / of_week["rows"].sum()
    assert weighted == pytest.approx((newest["realised"] > 0).mean())
    of_index = found[found["signal"] == INDEX.name]
    assert of_index["expected"].tolist() == [0.05, 0.5, 0.95]
    year = series().iloc[-252:]
    assert of_index["observed"].tolist() == pytest.approx(
        [(year["realised"] <= year[name]).mean() for name in ("q05", "q50", "q95")]
    )
    again = warehouse.frame("FROM main.signal_calibration ORDER BY ALL")
    measure(warehouse, WEEK, START)
    pd.testing.assert_frame_equal(
        warehouse.frame("FROM main.signal_calibration ORDER BY ALL"), again
    )


def test_nothing_known_is_nothing_measured(warehouse):
    assert measure(warehouse, WEEK, START) == 0
    write(warehouse, panel(weeks=WEEKS[:2]))
    warehouse.native.execute("DELETE FROM main.outcomes")
    assert measure(warehouse, WEEK, START) == 0
