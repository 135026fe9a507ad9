"""What a recipe becomes where something optional is not installed."""

from __future__ import annotations

import pytest

from models.text import catalog

FINANCE = catalog.recipe("text_sentiment_finance")


@pytest.mark.parametrize("recipe", [FINANCE, FINANCE.with_changes(lexicons=False)])
def test_a_recipe_does_without_a_dictionary_that_is_not_installed(
    recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.baselines, "is_installed", lambda name: name != catalog.LEXICON)
    without = catalog._as_installed(recipe)
    assert not without.lexicons
    assert set(recipe.baselines) - set(without.baselines) == {catalog.LEXICON}
    narrower = catalog.LEXICON_COLUMNS if recipe.lexicons and recipe.layers.get("added") else 0
    assert without.layers["embedding"] == recipe.layers["embedding"] - narrower
    assert {k: v for k, v in without.layers.items() if k != "embedding"} == {
        k: v for k, v in recipe.layers.items() if k != "embedding"
    }


def test_a_recipe_stays_as_it_is_where_all_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.baselines, "is_installed", lambda name: True)
    assert catalog._as_installed(FINANCE) == FINANCE
