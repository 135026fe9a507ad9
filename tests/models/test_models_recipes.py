import json
import subprocess
import sys

import pytest

from db.errors import UsageError
from features.catalog import feature_view
from models.catalog import RECIPES, recipe, recipes
from models.recipes import Recipe
from models.text import catalog as texts
from signals.declaration import SIGNALS

EVERY = [each for several in RECIPES.values() for each in several]


@pytest.mark.parametrize("declared", EVERY, ids=lambda each: each.name)
def test_json_round_trip(declared):
    back = Recipe.from_json(json.loads(json.dumps(declared.to_json())))
    assert back.to_json() == declared.to_json()


@pytest.mark.parametrize("declared", EVERY, ids=lambda each: each.name)
def test_a_recipe_names_what_its_view_has(declared):
    for name in (declared.view, *declared.stand_ins.values()):
        names = feature_view(name).names
        wanted = (*declared.features, *declared.targets, *filter(None, declared.moves))
        assert set(wanted) <= set(names)


def test_every_signal_has_recipes_and_the_chapters_is_the_last():
    of_texts = {signal.model for signal in SIGNALS.values()} - RECIPES.keys()
    for signal in SIGNALS.values():
        if signal.model not in of_texts:
            assert recipes(signal.model)[-1].variant == "chapter"
    for model in of_texts:  # those that score texts have a catalog of their own, in each profile
        assert texts.recipes(model)
        assert texts.recipes(model, "sample")


def test_a_profile_has_stand_ins():
    assert recipe("macro_outlook", profile="sample").view == "macro_annual_change_sample"
    assert recipe("macro_outlook", profile="files").view == "macro_annual_change"


def test_unknown_names_list_what_there_is():
    with pytest.raises(UsageError, match="sp500_next_close"):
        recipe("sp500")
    with pytest.raises(UsageError, match=r"only .*chapter"):
        recipe("sp500_next_close", "transformer")


WRONG = {
    "no task": {"task": "colour"},
    "a network learns": {"learns": "up"},
    "forecasts 3 steps": {"steps": 3},
    "one feature for each target": {"moves": ("close",)},
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_recipe_that_cannot_be_is_refused_in_one_line(reason):
    with pytest.raises(UsageError, match=reason) as caught:
        recipe("sp500_next_close").with_changes(**WRONG[reason])
    assert str(caught.value).startswith("recipe sp500_next_close/chapter: ")
    assert "\n" not in str(caught.value)


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, models.training, models.training_process, models.artefacts, models.spans\n"
        "import models.architectures, models.evaluation, models.recipes, models.backend\n"
        "import models.baselines, models.onnx_graph, models.registry, models.tasks\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'jax', 'torch', 'sklearn', 'scipy',\n"
        "    'statsmodels', 'arch', 'onnx', 'onnxruntime', 'skops'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
