import json
import subprocess
import sys

import pytest

from db.errors import UsageError
from models import architectures, backend
from models.recipes import RECIPES, Recipe, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name):
    assert Recipe.from_json(json.loads(json.dumps(RECIPES[name].to_json()))) == RECIPES[name]


def test_unknown_model_names_the_catalog():
    with pytest.raises(UsageError, match="sp500_next_close"):
        recipe("sp500")


def test_parameter_count_of_the_chapter():
    backend.configure()
    assert architectures.build(recipe("sp500_next_close"), 63, 1).count_params() == 1781


def test_the_builder_stacks_layers():
    backend.configure()
    # The chapter's macro network: LSTM(12), LSTM(6), Dense(10), Dense(2).
    network = architectures.recurrent(24, 2, units=[12, 6], dense=[10], outputs=2)
    assert network.count_params() == 1268
    assert network.output_shape == (None, 2)


def test_unknown_architecture_is_refused():
    with pytest.raises(UsageError, match="recurrent"):
        architectures.build(recipe("sp500_next_close").with_changes(architecture="rnn"), 63, 1)


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, models.training, models.training_process, models.artefacts, models.spans\n"
        "import models.architectures, models.evaluation, models.recipes, models.backend\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'jax', 'torch', 'sklearn', 'scipy'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
