"""What a recipe becomes where something optional is not installed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from models.text import catalog

FINANCE = catalog.recipe("text_sentiment_finance")
DICTIONARY, TODAY = "loughran_mcdonald", datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("recipe", [FINANCE, FINANCE.with_changes(lexicons=False)])
def test_a_recipe_does_without_a_dictionary_that_is_not_installed(
    recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.baselines, "is_installed", lambda name: name != DICTIONARY)
    without = catalog._with_known_lexicons(recipe, TODAY)
    assert not without.lexicons
    assert set(recipe.baselines) - set(without.baselines) == {DICTIONARY}
    narrower = catalog.LEXICON_COLUMNS if recipe.lexicons and recipe.layers.get("added") else 0
    assert without.layers["embedding"] == recipe.layers["embedding"] - narrower
    assert {k: v for k, v in without.layers.items() if k != "embedding"} == {
        k: v for k, v in recipe.layers.items() if k != "embedding"
    }


def test_a_recipe_stays_as_it_is_where_all_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.baselines, "is_installed", lambda name: True)
    assert catalog._with_known_lexicons(FINANCE, TODAY) == FINANCE


def test_a_training_as_of_2013_has_no_lexicon_of_2014(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.baselines, "is_installed", lambda name: True)
    then = catalog._with_known_lexicons(FINANCE, datetime(2014, 1, 1, tzinfo=UTC))
    assert not then.lexicons
    assert set(FINANCE.baselines) - set(then.baselines) == {"vader"}
