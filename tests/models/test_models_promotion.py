import numpy as np
import pandas as pd
import pytest

from db.errors import TrainingError
from models import baselines, tasks
from models.catalog import EQUITY_WEEK_DIRECTION, MACRO_OUTLOOK, MACRO_PATH, SP500_NEXT_CLOSE
from models.promotion import (
    MEASURES,
    Contender,
    Measure,
    beside_the_best_baseline,
    deciding_figures,
    judge,
    relative_mae,
)
from models.spans import split
from models.text.evaluation import evaluate_classes
from models.text.evaluation import losses as losses_of_texts
from models.text.recipes import TASK

LOSS = Measure("loss", "loss", relative_mae)
DATES = pd.bdate_range("2018-01-01", periods=120)


def contender(version, kind, level, noise=0.1, seed=None):
    draw = np.random.default_rng(len(version) if seed is None else seed)
    losses = pd.Series(level + noise * draw.standard_normal(len(DATES)), index=DATES)
    return Contender(version, kind, losses - losses.mean() + level)


def network(version, level, **more):
    return contender(version, "network", level, **more)


def baseline(version, level, **more):
    return contender(version, "baseline", level, **more)


def test_a_network_that_beats_every_baseline_is_the_first_champion():
    verdict = judge([network("net", 0.9), baseline("b1", 1.0), baseline("b2", 1.1)], None, LOSS)
    assert verdict.version == "net"
    assert verdict.reason == (
        "the network beats every baseline: loss 0.9 against 1 of b1, 120 dates"
    )


def test_where_no_network_beats_it_the_best_baseline_is_champion_and_says_so():
    verdict = judge([network("net", 1.2), baseline("b1", 1.0), baseline("b2", 1.1)], None, LOSS)
    assert verdict.version == "b1"
    assert verdict.reason.startswith("no network beats this baseline: loss 1 against 1.2 of net")


def test_a_champion_that_no_network_can_be_put_beside_stays():
    verdict = judge([network("new", 0.5), baseline("b", 1.0)], "old", LOSS)
    assert (verdict.version, "neither version has seen" in verdict.reason) == ("old", True)


@pytest.mark.parametrize(
    ("level", "champion"), [(0.80, "new"), (0.9, "new"), (0.905, "new"), (0.95, "old")]
)
def test_a_new_network_takes_over_unless_it_is_worse_beyond_noise(level, champion):
    sides = [network("new", level, seed=1), network("old", 0.9, seed=2), baseline("b", 1.0)]
    verdict = judge(sides, "old", LOSS)
    assert verdict.version == champion
    assert "against the champion's 0.9 on 120 dates" in verdict.reason
    assert ("worse beyond noise" in verdict.reason) == (champion == "old")


def test_a_network_champion_that_a_baseline_beats_goes():
    verdict = judge([network("new", 1.3), network("old", 1.2), baseline("b", 1.0)], "old", LOSS)
    assert verdict.version == "b"
    assert "no network beats this baseline" in verdict.reason


def test_a_network_champion_stays_where_the_new_one_loses_to_the_baseline():
    verdict = judge([network("new", 1.3), network("old", 0.9), baseline("b", 1.0)], "old", LOSS)
    assert verdict.version == "old"
    assert verdict.reason.startswith("the champion stays: the network beats every baseline")


def test_a_baseline_champion_gives_way_to_a_network_that_beats_them_all():
    sides = [network("new", 0.9), baseline("b", 1.0), baseline("old", 1.0)]
    assert judge(sides, "old", LOSS).version == "new"


def test_a_baseline_champion_is_renewed():
    sides = [network("net", 1.5), baseline("b", 1.0, seed=1), baseline("old", 1.0, seed=1)]
    assert judge(sides, "old", LOSS).version == "b"


def test_a_forecast_that_is_no_number_disqualifies():
    broken = Contender("net", "network", pd.Series(np.where(DATES[7] == DATES, np.nan, 0.1), DATES))
    assert judge([broken, baseline("b", 1.0)], None, LOSS).version == "b"
    assert judge([broken, baseline("b", 1.0)], "net", LOSS).version == "b"
    with pytest.raises(TrainingError, match="finite"):
        judge([broken], None, LOSS)


def test_a_reason_speaks_in_the_figure_of_the_tables():
    sides = [network("net", 0.47), baseline("b", 0.5)]
    said = {task: judge(sides, None, measure).reason for task, measure in MEASURES.items()}
    assert "RMSE 0.6856 against 0.7071 of b, 120 dates" in said["level"]
    assert "a step ahead, 0.47 against 0.5 of b, 120 dates" in said["changes"]
    assert "AUC within dates 0.53 against 0.5 of b, 120 dates" in said["direction"]
    assert "rank IC -0.47 against -0.5 of b, 120 dates" in said["rank"]
    assert "log loss 0.47 against 0.5 of b, 120 texts" in said[TASK]


# --------------------------------------------------------------------------- as tables show it


def measured(recipe, examples):
    """Figures of every baseline of a recipe on its test span, and its losses there."""
    spans = split(examples, recipe.validation, recipe.test)
    figures, losses = {}, {}
    for name in baselines.NAMES[recipe.task]:
        fitted = baselines.fit(name, recipe.task, spans.train)
        forecast = np.reshape(fitted.predict(spans.test), spans.test.y.shape)
        figures[name] = tasks.evaluate(recipe, forecast, spans.test, spans.train)
        losses[name] = float(tasks.losses(recipe.task, forecast, spans.test).mean())
    return figures, losses


def shown(recipe, figures):
    """What tables show of each of them, in its own row and beside the others."""
    found = {}
    for name, metrics in figures.items():
        beside = {other: each for other, each in figures.items() if other != name}
        own = {"task": recipe.task, "variant": name}
        found[name], others = deciding_figures(own, metrics, beside)
        assert others.keys() == beside.keys()
        assert all(others[other] == found[other] for other in others if other in found)
    return found


@pytest.mark.parametrize(("recipe", "steps"), [(MACRO_OUTLOOK, 1), (MACRO_PATH, 12)])
def test_tables_of_changes_show_the_loss_that_decides(recipe, steps, make_pair, pair_levels):
    examples = make_pair(pair_levels, steps=steps)
    chosen = recipe.with_changes(train_from=None, validation=24, test=24)
    figures, losses = measured(chosen, examples)
    assert shown(chosen, figures) == pytest.approx(losses)
    # the scale of the training span would have weighed the two series otherwise
    assert {name: each["mase"] for name, each in figures.items()} != pytest.approx(losses)


def test_tables_of_levels_show_the_root_of_the_loss_that_decides(examples):
    recipe = SP500_NEXT_CLOSE.with_changes(validation=30, test=30)
    figures, losses = measured(recipe, examples)
    assert shown(recipe, figures) == pytest.approx(
        {name: np.sqrt(loss) for name, loss in losses.items()}
    )


@pytest.mark.parametrize("task", ["direction", "rank"])
def test_tables_of_cross_sections_show_what_the_loss_falls_short_of(task, panel):
    learns = {"direction": "up", "rank": "rank"}[task]
    recipe = EQUITY_WEEK_DIRECTION.with_changes(task=task, learns=learns, validation=12, test=12)
    figures, losses = measured(recipe, panel)
    best = {"direction": 1, "rank": 0}[task]
    assert shown(recipe, figures) == pytest.approx(
        {name: best - loss for name, loss in losses.items()}
    )


def test_tables_of_texts_show_the_log_loss():
    draw = np.random.default_rng(0)
    given, labels = draw.dirichlet(np.ones(3), 50), draw.integers(0, 3, 50)
    metrics = evaluate_classes(given, labels, ("negative", "neutral", "positive"))
    figure, _ = deciding_figures({"task": TASK, "variant": "net"}, metrics, {})
    assert figure == pytest.approx(losses_of_texts(given, labels).mean())


def test_the_best_baseline_is_the_best_by_what_decides():
    figures = {
        "logistic": {"log_loss": 0.58, "macro_f1": 0.7531},
        "nb_svm": {"log_loss": 0.60, "macro_f1": 0.76},
        "broken": {"log_loss": None, "macro_f1": None},
    }
    recipe = {"task": TASK, "variant": "net"}
    told = beside_the_best_baseline(recipe, {"log_loss": 0.57, "macro_f1": 0.7525}, figures)
    assert told == {
        "metric": "log_loss",
        "test": 0.57,
        "best_baseline": "logistic",
        "baseline_test": 0.58,
    }
    assert MEASURES[TASK].is_better(told["test"], told["baseline_test"])
    assert beside_the_best_baseline(recipe, {}, {}) == {
        "metric": "log_loss",
        "test": None,
        "best_baseline": None,
        "baseline_test": None,
    }


def test_relative_errors_need_persistence():
    def metrics(mae, first=None):
        at = [{"horizon": 1, "mae": mae if first is None else first}]
        return {"series": {"a": {"mae": mae, "by_horizon": at}}}

    assert relative_mae(metrics(3.0), metrics(9.0, first=2.0)) == 1.5
    assert relative_mae(metrics(3.0), metrics(9.0, first=0.0)) == 3.0  # it never moved
    assert relative_mae(metrics(None), metrics(2.0)) is None
    assert relative_mae(metrics(3.0), {}) is None
    assert relative_mae({}, metrics(2.0)) is None
