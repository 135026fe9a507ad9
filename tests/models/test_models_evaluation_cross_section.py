import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr
from statsmodels.regression.linear_model import OLS

from db.errors import UsageError
from models.evaluation import evaluate_cross_section, ic_by_date, rank_ic_by_date
from models.evaluation.cross_section import turnover
from models.evaluation.significance import block_length, mean_interval


def ranked_panel(dates=60, entities=25, skill=0.3, seed=0, ties=False):
    """Scores that know some of the returns; a third of the rows missing, in no order."""
    draw = np.random.default_rng(seed)
    returns = draw.normal(0, 0.03, (dates, entities))
    scores = skill * returns / 0.03 + draw.normal(size=returns.shape)
    rows = draw.permutation(np.flatnonzero(draw.random(returns.size) < 2 / 3))
    scores, returns = scores.ravel()[rows], returns.ravel()[rows]
    if ties:
        scores, returns = scores.round(0), returns.round(2)
    days = np.datetime64("2015-01-02") + 7 * (rows // entities)
    return scores, returns, days, np.array([f"E{number}" for number in rows % entities])


def of_each_date(statistic, scores, returns, days):
    found = {}
    for day in np.unique(days):
        rows = (days == day) & np.isfinite(scores) & np.isfinite(returns)
        found[day] = statistic(scores[rows], returns[rows]).statistic
    return np.array(list(found.values()))


@pytest.mark.parametrize("ties", [False, True])
def test_ic_and_rank_ic_are_those_of_scipy_date_by_date(ties):
    scores, returns, days, _ = ranked_panel(ties=ties)
    returns[::17] = np.nan
    ic, rank_ic = ic_by_date(scores, returns, days), rank_ic_by_date(scores, returns, days)
    assert ic.index.is_monotonic_increasing
    np.testing.assert_allclose(ic, of_each_date(pearsonr, scores, returns, days), atol=1e-12)
    np.testing.assert_allclose(rank_ic, of_each_date(spearmanr, scores, returns, days), atol=1e-12)


def test_dates_that_cannot_be_ranked_have_no_ic():
    days = np.repeat([0, 1, 2, 3], [2, 3, 3, 3])
    scores = np.array([1.0, 2.0, 0.1, 0.1, 0.1, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    returns = np.array([1.0, 2.0, 1.0, 2.0, 3.0, 7.0, 7.0, 7.0, 1.0, 2.0, 4.0])
    found = rank_ic_by_date(scores, returns, days)
    # two pairs, the same score, the same return; the last one is in order
    assert np.isnan(found.iloc[:3]).all()
    assert found.iloc[3] == pytest.approx(1.0)


def test_a_score_of_a_different_size_each_date_is_no_skill():
    draw = np.random.default_rng(2)
    days = np.repeat(np.arange(200), 30)
    week = draw.normal(0, 1, 200)[days]
    scores, returns = week + draw.normal(0, 0.1, 6000), week + draw.normal(0, 0.1, 6000)
    figures = evaluate_cross_section(scores, returns, days, np.tile(np.arange(30), 200))
    # pooled they correlate at 0.99; within dates there is nothing
    assert np.corrcoef(scores, returns)[0, 1] > 0.95
    assert figures["rank_ic_low"] < 0 < figures["rank_ic_high"]
    assert abs(figures["rank_ic_t"]) < 3


def test_means_ratios_and_t():
    scores, returns, days, entities = ranked_panel()
    figures = evaluate_cross_section(scores, returns, days, entities)
    ic = of_each_date(pearsonr, scores, returns, days)
    rank_ic = of_each_date(spearmanr, scores, returns, days)
    assert figures["n"] == len(scores)
    assert figures["n_dates"] == 60
    assert figures["ic"] == pytest.approx(ic.mean())
    assert figures["rank_ic"] == pytest.approx(rank_ic.mean())
    assert figures["rank_icir"] == pytest.approx(rank_ic.mean() / rank_ic.std(ddof=1))
    # 4 (60 / 100)^(2/9) = 3.57
    assert figures["lags"] == 3
    hac = {"maxlags": 3, "use_correction": True}
    by_hand = OLS(rank_ic, np.ones(60)).fit(cov_type="HAC", cov_kwds=hac)
    assert figures["rank_ic_t"] == pytest.approx(by_hand.tvalues[0])
    assert figures["rank_ic_low"] < figures["rank_ic"] < figures["rank_ic_high"]
    assert figures["undefined"] is None


def test_the_order_of_rows_does_not_matter():
    scores, returns, days, entities = ranked_panel(dates=30)
    rows = np.random.default_rng(1).permutation(len(scores))
    one = evaluate_cross_section(scores, returns, days, entities)
    other = evaluate_cross_section(scores[rows], returns[rows], days[rows], entities[rows])
    assert one["rank_ic"] == pytest.approx(other["rank_ic"], abs=1e-14)
    assert one["turnover"] == pytest.approx(other["turnover"], abs=1e-14)
    assert one["spread"] == pytest.approx(other["spread"], abs=1e-14)


def test_one_entity_has_no_cross_section():
    scores = np.random.default_rng(0).normal(size=40)
    figures = evaluate_cross_section(scores, scores, np.arange(40), ["SP500"] * 40)
    assert figures["n_dates"] == 0
    assert figures["undefined"] == "one entity a date: there is no cross-section to rank"
    for name in ("ic", "rank_ic", "rank_icir", "rank_ic_t", "rank_ic_low", "spread", "turnover"):
        assert figures[name] is None


def test_why_there_is_no_cross_section():
    def reason(scores, label, days):
        entities = np.arange(len(scores))
        return evaluate_cross_section(scores, label, days, entities)["undefined"]

    assert reason(np.ones(4), np.full(4, np.nan), np.zeros(4)) == "no known label"
    assert "more than 2 entities" in reason(np.arange(4.0), np.arange(4.0), np.repeat([0, 1], 2))
    assert "the same for all entities" in reason(np.ones(4), np.arange(4.0), np.zeros(4))


def test_two_rows_of_an_entity_on_a_date_are_refused():
    with pytest.raises(UsageError, match="two rows on one date"):
        evaluate_cross_section(np.ones(3), np.ones(3), np.zeros(3), ["A", "B", "A"])


def test_label_and_tradable_return_stand_side_by_side():
    scores, returns, days, entities = ranked_panel()
    tradable = np.where(np.arange(len(returns)) % 5 == 0, np.nan, -returns)
    figures = evaluate_cross_section(
        scores, returns, days, entities, against={"tradable": tradable}
    )
    alone = evaluate_cross_section(scores, tradable, days, entities)
    assert figures["rank_ic"] > 0 > figures["tradable"]["rank_ic"]
    assert figures["tradable"]["rank_ic"] == alone["rank_ic"]
    assert figures["tradable"]["decay"] == alone["decay"]


def test_spread_is_top_less_bottom_fifth_of_each_date():
    # ten entities whose returns are their places, and then the other way round
    scores = np.tile(np.arange(10.0), 4)
    returns = np.concatenate([np.arange(10.0)] * 3 + [np.arange(10.0)[::-1]])
    days, entities = np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4)
    figures = evaluate_cross_section(scores, returns, days, entities)
    # fifths have means 0.5, 2.5, 4.5, 6.5, 8.5, and once the reverse
    assert figures["bucket_returns"] == pytest.approx([2.5, 3.5, 4.5, 5.5, 6.5])
    assert figures["spread"] == pytest.approx((3 * 8 - 8) / 4)
    assert figures["spread_hit_rate"] == pytest.approx(3 / 4)


def test_top_and_bottom_are_equally_large_where_a_date_cannot_be_divided():
    returns = np.arange(7.0)
    figures = evaluate_cross_section(returns, returns, np.zeros(7), np.arange(7))
    # one, two, one, two and one of seven
    assert figures["bucket_returns"] == pytest.approx([0.0, 1.5, 3.0, 4.5, 6.0])
    few = evaluate_cross_section(returns[:4], returns[:4], np.zeros(4), np.arange(4))
    assert few["rank_ic"] == pytest.approx(1.0)
    assert few["bucket_returns"] is few["spread"] is few["spread_hit_rate"] is None


def test_decay_looks_at_the_return_of_the_same_entity_some_periods_later():
    draw = np.random.default_rng(4)
    returns = draw.normal(size=(50, 20))
    # scores know the return that begins two periods later, and no other
    scores = np.vstack([returns[2:], draw.normal(size=(2, 20))])
    days, entities = np.repeat(np.arange(50), 20), np.tile(np.arange(20), 50)
    figures = evaluate_cross_section(scores.ravel(), returns.ravel(), days, entities)
    decay = {each["lag"]: each for each in figures["decay"]}
    assert list(decay) == [0, 1, 2, 3, 4]
    assert decay[0]["rank_ic"] == figures["rank_ic"]
    assert decay[2]["n_dates"] == 48
    assert decay[2]["rank_ic"] == pytest.approx(1.0)
    assert all(abs(decay[lag]["rank_ic"]) < 0.15 for lag in (0, 1, 3, 4))


def test_decay_passes_over_dates_without_the_entity():
    # B is not there on the second date: its first score meets nothing one period later
    frame = pd.DataFrame(
        {
            "day": [0, 0, 0, 0, 1, 1, 1],
            "entity": ["A", "B", "C", "D", "A", "C", "D"],
            "score": [1.0, 9.0, 2.0, 3.0, 0.0, 0.0, 0.0],
            "label": [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0],
        }
    )
    figures = evaluate_cross_section(
        frame["score"], frame["label"], frame["day"], frame["entity"], furthest=1
    )
    assert figures["decay"][1] == {"lag": 1, "rank_ic": 1.0, "t": None, "n_dates": 1}


def test_turnover_by_hand():
    days, names = np.repeat([0, 1, 2], 3), np.tile(["A", "B", "C"], 3)
    same = np.tile([1.0, 2.0, 3.0], 3)
    assert turnover(same, days, names) == pytest.approx(0.0)
    turned = np.array([1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 1.0, 2.0, 3.0])
    # weights -1/2, 0, 1/2 against 1/2, 0, -1/2
    assert turnover(turned, days, names) == pytest.approx(1.0)
    # a date on which all are alike has no portfolio, and none is exchanged
    flat = np.array([1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0])
    assert turnover(flat, days, names) is None


def test_turnover_of_an_order_drawn_anew_is_two_thirds():
    draw = np.random.default_rng(0)
    days, names = np.repeat(np.arange(40), 300), np.tile(np.arange(300), 40)
    assert turnover(draw.normal(size=12_000), days, names) == pytest.approx(2 / 3, abs=0.01)


def test_turnover_against_a_wide_frame_of_weights():
    scores, _, days, entities = ranked_panel(dates=12, ties=True)
    wide = pd.DataFrame({"day": days, "entity": entities, "score": scores})
    wide = wide.pivot_table(index="day", columns="entity", values="score")
    ranks = wide.apply(lambda row: pd.Series(rankdata(row, nan_policy="omit"), row.index), axis=1)
    centred = ranks.sub(ranks.mean(axis=1), axis=0)
    weights = centred.div(centred.abs().sum(axis=1), axis=0).fillna(0)
    expected = weights.diff().abs().sum(axis=1).iloc[1:].mean() / 2
    assert turnover(scores, days, entities) == pytest.approx(expected)


def test_overlapping_labels_widen_the_noise():
    draw = np.random.default_rng(6)
    shocks = draw.normal(size=(112, 30))
    # a return over twelve periods, and a score that does not change
    returns = np.stack([shocks[at : at + 12].sum(axis=0) for at in range(100)])
    scores, returns = np.tile(draw.normal(size=30), 100), returns.ravel()
    days, entities = np.repeat(np.arange(100), 30), np.tile(np.arange(30), 100)
    arguments = scores, returns, days, entities
    alone = evaluate_cross_section(*arguments)
    overlapping = evaluate_cross_section(*arguments, overlap=12)
    assert overlapping["lags"] == 22
    assert abs(overlapping["rank_ic_t"]) < abs(alone["rank_ic_t"])
    assert overlapping["rank_ic"] == alone["rank_ic"]
    values = rank_ic_by_date(scores, returns, days)
    for figures, overlap in ((alone, 1), (overlapping, 12)):
        expected = mean_interval(values, block=block_length(values.to_numpy(), overlap))
        assert (figures["rank_ic_low"], figures["rank_ic_high"]) == (expected.low, expected.high)
