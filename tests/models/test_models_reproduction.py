"""What `lookback reproduce` is made of: the book's data, trials, periods, the page."""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from db.errors import UsageError
from models import baselines, tasks, training
from models.catalog import recipe
from models.encoding import Encoding
from models.reproduction import book, page, sections, systems, trials
from models.reproduction.figures import measure
from models.reproduction.systems import SYSTEMS, System, quick
from models.reproduction.tradable import WeeklyPeriods
from models.spans import Cuts

REFERENCE = os.environ.get("LOOKBACK_REFERENCE_DATA")
needs_reference = pytest.mark.skipif(
    not REFERENCE, reason="LOOKBACK_REFERENCE_DATA is not set: no reference data"
)


# ------------------------------------------------------------------------- the book's data


@pytest.mark.reference
@needs_reference
def test_the_books_sp500_is_the_one_it_counts():
    data = book.sp500_next_close(Path(REFERENCE))
    spans = data.spans
    assert spans.train.X.shape[1:] == (63, 1)
    assert (len(spans.train), len(spans.test)) == (1950, 251)
    assert spans.test is spans.validation
    # persistence on 2018, the figures that a network has to be put beside
    error = spans.test.last[:, 0] - spans.test.y[:, 0, 0]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(0.01504, abs=5e-6)
    correlation = np.corrcoef(spans.test.last[:, 0], spans.test.y[:, 0, 0])[0, 1]
    assert correlation == pytest.approx(0.9586, abs=5e-5)
    closes = data.scale.inverse(spans.test.y[:, 0])
    assert closes[-1, 0] == pytest.approx(2506.85, abs=0.01)


@pytest.mark.reference
@needs_reference
def test_the_books_macro_pair_is_the_one_it_counts():
    spans = book.macro_outlook(Path(REFERENCE)).spans
    assert spans.train.X.shape == (396, 24, 2)
    assert spans.test.X.shape == (24, 24, 2)

    def mae(forecast):
        return float(np.abs(forecast - spans.test.y).mean())

    assert mae(spans.test.unmoved) == pytest.approx(1.11, abs=5e-3)
    assert mae(spans.test.last[:, None]) == pytest.approx(2.11, abs=5e-3)
    fitted = baselines.fit("var", "changes", spans.train)
    assert mae(fitted.predict(spans.test)) == pytest.approx(1.50, abs=5e-3)


@pytest.mark.reference
@needs_reference
def test_the_books_panel_has_live_names_only_and_is_fed_newest_first():
    spans = book.equity_week_direction(Path(REFERENCE), symbols=20).spans
    assert spans.train.index["entity"].nunique() == 20
    assert spans.train.X.shape[1:] == (52, 1)
    assert spans.test.index["as_of"].min() >= pd.Timestamp("2017-01-01")
    first = spans.test.index["entity"].iloc[0]
    own = spans.test.take((spans.test.index["entity"] == first).to_numpy())
    # the newest step of a window is the label of the week before
    np.testing.assert_array_equal(own.X[1:, 0, 0], own.y[:-1, 0, 0])


# --------------------------------------------------------------------------------- trials


def test_every_system_has_the_chapters_network_and_its_seeds():
    for system in SYSTEMS.values():
        assert system.recipes[-1].variant == "chapter"
        honest = list(trials.trials(system, "honest"))
        networks = [trial for trial in honest if not trial.is_baseline]
        assert len(networks) == system.seeds * len(system.recipes)
        assert len({trial.name for trial in honest}) == len(honest)
        task = system.recipes[-1].task
        names = {trial.recipe.variant for trial in honest if trial.inputs == "chapter"}
        assert set(baselines.NAMES[task]) <= names
    assert systems.SYSTEMS["equity_week_direction"].seeds >= 3
    assert min(s.seeds for n, s in SYSTEMS.items() if n != "equity_week_direction") >= 5


def test_a_quick_system_trains_little():
    small = quick(SYSTEMS["sp500_next_close"])
    assert {each.max_epochs for each in (*small.recipes, small.book)} == {systems.QUICK_EPOCHS}
    assert (small.seeds, small.book_seeds) == (1, 1)


@pytest.fixture
def system(small_recipe, monkeypatch) -> System:
    """A system of one small network with two seeds."""
    declared = replace(SYSTEMS["sp500_next_close"], book=small_recipe, seeds=2, book_seeds=2)
    monkeypatch.setattr(systems, "recipes", lambda *_, **__: (small_recipe,))
    return declared


def test_trials_are_taken_up_and_become_a_page(system, spans, trained, tmp_path, monkeypatch):
    made = []

    def train(recipe, spans, folder, progress=None):
        """The trained network, under the name of another seed."""
        made.append(recipe.seed)
        return training.fit_baseline(recipe.with_changes(variant="persistence"), spans, folder)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(trials.backend, "described", lambda: "baseline")
    every = list(trials.trials(system, "honest"))
    outcomes = [trials.run(trial, spans, tmp_path) for trial in every]
    assert made == [42, 43]
    assert [outcome.forecast.shape for outcome in outcomes] == [(30, 1, 1)] * 4

    honest = measure(outcomes, lambda outcome: spans.test)
    assert list(honest.forecasters) == ["chapter", "persistence", "drift"]
    assert len(honest.forecasters["chapter"].metrics) == 2
    assert honest.comparison["benchmark"] in {"persistence", "drift"}
    section = page.Section(system, None, honest, {"a picture": "a.png"})
    text = page.section_text(section, "Made by a test.")
    assert "\n\nMade by a test.\n\n" in text
    assert "**chapter** (2 seeds)" in text
    assert system.measures in text
    assert "![a picture](a.png)" in text
    rmse = honest.forecasters["drift"].mean("rmse")
    assert f"| drift | 0 | {rmse:.2f} |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| chapter")}
    assert len(widths) <= 1


def test_a_trial_of_other_data_is_made_anew(system, spans, tmp_path):
    trial = next(iter(trials.trials(system, "honest")))
    first = trials.run(trial, spans, tmp_path)
    assert trials.run(trial, spans, tmp_path).manifest == first.manifest
    other = replace(spans, train=replace(spans.train, data_snapshot="another"))
    again = trials.run(trial, other, tmp_path)
    assert again.manifest.data_snapshot == "another"


# ---------------------------------------------------------------------------- the tradable week


def test_a_week_is_traded_one_session_later(calendar):
    # Good Friday 2018 was the 30th of March; the week after it ends on the 6th of April
    dates = np.array(["2018-03-29", "2018-03-23", "2018-03-29"], "datetime64[D]")
    periods = WeeklyPeriods.after(dates, calendar.days)
    assert periods.dates.tolist() == [date(2018, 3, 23), date(2018, 3, 29)]
    assert periods.label_until.tolist() == [date(2018, 3, 29), date(2018, 4, 6)]
    assert periods.from_.tolist() == [date(2018, 3, 26), date(2018, 4, 2)]
    assert periods.until.tolist() == [date(2018, 4, 2), date(2018, 4, 9)]


# --------------------------------------------------------------------------------- the page


PAGE = """# Results

What holds for all.

<!-- system: first -->
## One

| a | b |

<!-- system: third -->
## Three

![a picture](results/third.png)
"""


def test_a_section_replaces_its_own_and_leaves_the_others():
    kept = sections.parse(PAGE)
    assert [each.system for each in kept] == ["first", "third"]
    assert sections.joined("# Results\n\nWhat holds for all.", kept) == PAGE
    order = ["first", "second", "third"]
    more = sections.merged(kept, sections.Kept("second", "## Two"), order)
    assert [each.system for each in more] == order
    assert (more[0], more[2]) == kept
    again = sections.merged(more, sections.Kept("first", "## One, again"), order)
    assert [each.text for each in again] == ["## One, again", "## Two", kept[1].text]
    page_again = sections.joined("# Results", again)
    assert sections.parse(page_again) == again
    assert "| a | b |" not in page_again


def test_what_no_system_is_named_for_stays_at_the_end():
    kept = sections.parse(PAGE)
    more = sections.merged(kept, sections.Kept("second", "## Two"), ["second", "third"])
    assert [each.system for each in more] == ["second", "third", "first"]


def test_a_page_that_is_not_ours_is_refused():
    with pytest.raises(UsageError, match="not marked by system"):
        sections.parse("# Results\n\n## Something\n\n0.99\n")
    assert sections.parse("# Results\n") == ()


def test_small_parts_and_whole_data_do_not_meet():
    small = sections.Kept("first", "## One", is_small=True)
    assert sections.parse(sections.joined("# Results", [small])) == (small,)
    with pytest.raises(UsageError, match=r"whole data \(first\), and those of small parts"):
        sections.require_alike(sections.parse(PAGE), is_small=True)
    with pytest.raises(UsageError, match=r"small parts \(first\), and those of whole data"):
        sections.require_alike([small], is_small=False)
    sections.require_alike([small], is_small=True)


def test_an_aim_says_by_how_much_it_is_missed():
    missed = page.Aim("rank IC at least 0.04", 0.031, 0.04, above=True)
    assert missed.line == "not met, by 0.009: rank IC at least 0.04: 0.031 against 0.04"
    met = page.Aim("RMSE no worse than persistence's", 13.5, 13.549, above=False)
    assert met.is_met
    assert page.Aim("t above 3", None, 3.0, above=True).line == "not met: t above 3: not defined"


def test_means_and_deviations():
    assert page.spread([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert page.spread([1.0], 2) == "1.00"
    assert page.spread([], 2) == "–"


def test_figures_of_a_panel_are_held_against_other_returns(panel, tmp_path):
    chapter = recipe("equity_week_direction")
    system = replace(SYSTEMS["equity_week_direction"], seeds=1)
    cuts = Cuts(date(2015, 9, 1), date(2015, 11, 1))
    from models.spans import split_at

    spans = split_at(panel, cuts)
    outcomes = []
    for name in ("reversal", "momentum"):
        fitted = chapter.baseline(name)
        trial = trials.Trial(system.name, "honest", fitted, "chapter")
        outcomes.append(trials.run(trial, spans, tmp_path))
    network = replace(outcomes[0], trial=replace(outcomes[0].trial, recipe=chapter))
    measured = measure(
        [*outcomes, network],
        lambda outcome: spans.test,
        against=lambda outcome: {"tradable": -spans.test.y[:, 0, 0]},
    )
    found = measured.forecasters["reversal"]
    label = found.mean("cross_section.rank_ic")
    assert label > 0.1
    assert found.mean("cross_section.tradable.rank_ic") == pytest.approx(-label)
    losses = tasks.losses("rank", outcomes[0].forecast, spans.test)
    assert -losses.mean() == pytest.approx(label)
    assert measured.comparison["benchmark"] == "reversal"
    assert Encoding.fit(chapter, spans.train).symbols is not None
