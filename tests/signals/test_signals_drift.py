"""How far inputs and scores have moved from the training span."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from models import registry
from models.catalog import recipe
from models.examples import read_examples
from models.spans import split
from signals.declaration import SIGNALS
from signals.drift import (
    independent,
    measure_drift,
    noise_of,
    population_stability,
)

SIGNAL = SIGNALS["sp500_next_close"]
LAST = date(2018, 12, 21)


def test_the_index_of_equal_shares_is_zero_and_grows_with_the_shift():
    even = np.full(10, 0.1)
    assert population_stability(even, even) == 0.0
    # two buckets, by hand: 0.1 ln 1.2 - 0.1 ln 0.8
    half = population_stability(np.array([0.5, 0.5]), np.array([0.6, 0.4]))
    assert half == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8))
    more = population_stability(np.array([0.5, 0.5]), np.array([0.7, 0.3]))
    assert more > half


def test_the_noise_is_what_equal_distributions_give():
    draw = np.random.default_rng(4)
    edges = np.linspace(0, 1, 11)
    found = []
    for _ in range(2_000):
        shares = [np.histogram(draw.uniform(size=size), edges)[0] / size for size in (2_000, 400)]
        found.append(population_stability(*[np.maximum(each, 1e-4) for each in shares]))
    assert noise_of(10, 400, 2_000) == pytest.approx(np.quantile(found, 0.95), rel=0.1)


def test_values_that_follow_each_other_are_worth_less():
    assert independent(100, 0.0) == 100
    assert independent(100, 0.5) == pytest.approx(100 / 3)
    assert independent(5, 0.99) == 1.0


@pytest.fixture
def store(desk):
    """A drift rule fitted on a steady walk of two years."""
    days = [desk.calendar.offset(LAST, -back) for back in range(699, -1, -1)]
    steps = np.random.default_rng(2).normal(0, 5, 700)
    desk.observe(dict(zip(days, 2000 + steps.cumsum(), strict=True)))
    learned = recipe(SIGNAL.model).with_changes(train_from=None, validation=40, test=40)
    night = desk.night(LAST)
    spans = split(read_examples(desk.warehouse, learned, night.cutoff), 40, 40)
    candidates = registry.fit_baselines(desk.warehouse.settings, learned, spans, night)
    registry.register(desk.warehouse, candidates, night, "run")
    desk.days, desk.steps = days, steps
    return desk


def version(store, name="drift"):
    """A version; the rule of a drift counts as one that has learned, as a network would."""
    (found,) = store.warehouse.sql(
        "SELECT model_version FROM main.model_versions WHERE model_version LIKE ?", f"%-{name}-%"
    )
    rule = registry.find(store.warehouse, SIGNAL.model, found[0])
    return replace(rule, labels_known_at=store.cutoff(LAST)) if name == "drift" else rule


def rows(store):
    return store.warehouse.frame("FROM main.signal_drift ORDER BY session, subject")


def test_what_is_like_training_has_not_drifted(store):
    assert measure_drift(store.warehouse, SIGNAL, version(store), store.night(LAST)) == []
    found = rows(store).set_index("subject")
    assert set(found.index) == {"value", "feature close"}
    assert found["rows"].tolist() == [63, 63]
    # the level walks: so many dates are worth a few
    assert found.loc["feature close", "noise"] > 1
    assert not found["drifted"].any()


def test_inputs_beyond_what_was_seen_have(store):
    later = [store.calendar.offset(LAST, number) for number in range(1, 140)]
    jumps = np.random.default_rng(9).normal(0, 400, len(later))
    store.observe(dict(zip(later, 9000 + jumps, strict=True)))
    night = store.night(later[-1])
    measure_drift(store.warehouse, SIGNAL, version(store), store.night(LAST))
    # as of a cross-section, whose values do not follow each other
    store.warehouse.native.execute("UPDATE ops.drift_references SET persistence = 0")
    assert "feature close" in measure_drift(store.warehouse, SIGNAL, version(store), night)
    found = rows(store).query("subject == 'feature close'")
    assert found["drifted"].tolist() == [False, True]


def test_measuring_again_replaces_the_night(store):
    for _ in range(2):
        measure_drift(store.warehouse, SIGNAL, version(store), store.night(LAST))
    assert len(rows(store)) == 2
    references = store.warehouse.sql("SELECT count(*) FROM ops.drift_references")
    assert references == [(2,)]


def test_a_rule_that_learns_nothing_has_nothing_to_drift_from(store):
    rule = version(store, "persistence")
    assert rule.labels_known_at is None
    assert measure_drift(store.warehouse, SIGNAL, rule, store.night(LAST)) == []
    assert rows(store).empty
