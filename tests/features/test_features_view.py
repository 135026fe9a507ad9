import importlib.util
from dataclasses import fields, replace

import pytest

from db.errors import UsageError
from features import rolling
from features import view as view_module
from features.view import Feature, FeatureView, Input

VIEW = FeatureView(
    name="closes",
    description="closes",
    entity="series",
    inputs=(Input("observations", memory=0),),
    sql="SELECT series AS entity, period AS date, value AS close, known_at FROM observations",
    features=(Feature("close"),),
    window=5,
    target="close",
    horizon=1,
    horizon_unit="session",
)
TWO = (Feature("close"), Feature("volume"))

OTHERWISE = {
    "name": "other",
    "entity": "symbol",
    "inputs": (Input("bars", memory=0),),
    "sql": VIEW.sql.replace("value", "ln(value)"),
    "features": TWO,
    "window": 6,
    "horizon": 2,
    "horizon_unit": "week",
    "scope": "all",
    "largest_gap": 4,
    "static": ("month",),
    "stored": "float32",
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_whatever_determines_the_values_is_in_the_version(name):
    other = replace(VIEW, **{name: OTHERWISE[name]})
    assert other.version != VIEW.version
    assert other.table != VIEW.table


def test_the_target_and_the_order_of_features_are_in_the_version():
    two = replace(VIEW, features=TWO)
    assert replace(two, target="volume").version != two.version
    assert replace(two, features=TWO[::-1]).version != two.version


def test_every_field_but_the_description_is_declared():
    said = {field.name for field in fields(VIEW)} - {"description"}
    assert said == set(OTHERWISE) | {"target", "transform"}
    assert set(VIEW.declaration) == said - {"transform"} | {"engine", "upstream"}


INPUTS = {
    "entities": Input("observations", entities=("SP500",), memory=0),
    "without": Input("observations", without="^", memory=0),
    "shared": Input("observations", shared=True, memory=0),
    "memory": Input("observations", memory=1),
    "the whole history": Input("observations"),
}


@pytest.mark.parametrize("what", INPUTS)
def test_how_an_input_is_read_is_in_the_version(what):
    assert replace(VIEW, inputs=(INPUTS[what],)).version != VIEW.version


def test_a_features_memory_is_in_the_version_and_its_description_is_not():
    assert replace(VIEW, features=(Feature("close", 1),)).version != VIEW.version
    assert replace(VIEW, features=(Feature("close", 0, "points"),)).version == VIEW.version


def test_the_engine_is_in_the_version(monkeypatch):
    monkeypatch.setattr(view_module, "ENGINE_VERSION", view_module.ENGINE_VERSION + 1)
    assert replace(VIEW).version != VIEW.version


SAME = {
    "description": {"description": "the same values in other words"},
    "line breaks": {"sql": VIEW.sql.replace(" FROM", "\n        FROM").replace(", ", ",\n ")},
    "blanks around": {"sql": f"\n   {VIEW.sql}\n"},
    "comments": {"sql": f"-- one row per close\n{VIEW.sql}  /* all\n of them */ -- known by then"},
}


@pytest.mark.parametrize("what", SAME)
def test_words_for_people_do_not_change_the_version(what):
    assert replace(VIEW, **SAME[what]).version == VIEW.version


def test_blanks_and_dashes_inside_quotes_change_it():
    versions = {
        replace(VIEW, sql=f"{VIEW.sql} WHERE series = {text}").version
        for text in ("'A B'", "'A  B'", "'A -- B'", "'A -- C'", "'A''  B'", '"A  B"', '"A B"')
    }
    assert len(versions) == 7


def test_a_comment_does_not_swallow_what_follows_its_line():
    commented = VIEW.sql.replace("AS close", "-- points\n * 2 AS close")
    swallowing = VIEW.sql.replace("AS close", "-- points * 2 AS close\n")
    assert replace(VIEW, sql=commented).version != replace(VIEW, sql=swallowing).version
    assert replace(VIEW, sql=swallowing).version != VIEW.version


def test_the_version_is_the_same_in_every_process():
    assert VIEW.version == "2c0dbe051d9f"
    assert VIEW.table == "features.closes_2c0dbe051d9f"


# --------------------------------------------------------------------------- transforms


MODULE = """
YEAR = 252


def change(inputs):
    rows = inputs["bars"]
    return {"close": rows["close"] - rows.lag(rows["close"], YEAR)}


def other(inputs):
    rows = inputs["bars"]
    return {"close": rows["close"] - rows.lag(rows["close"], YEAR)}
"""
TO_PEOPLE = {
    "a comment": MODULE.replace("252", "252  # sessions"),
    "layout": MODULE.replace("(inputs):", "(\n    inputs,\n):").replace("\n\n\n", "\n\n"),
    "a docstring": MODULE.replace("(inputs):", '(inputs):\n    """Of a year."""', 1),
    "the module's docstring": f'"""Changes."""\n{MODULE}',
}
TO_VALUES = {
    "a constant": MODULE.replace("252", "251"),
    "an operation": MODULE.replace("- rows.lag", "+ rows.lag", 1),
    "a text that is no docstring": MODULE.replace("YEAR = 252", "YEAR = 252\nNAME = 'year'"),
}


@pytest.fixture
def from_source(tmp_path, monkeypatch):
    """A view by the transform of a module with this source, read in a process of its own."""

    def view(source, transform="change"):
        number = len(list(tmp_path.iterdir()))
        path = tmp_path / f"module_{number}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("researchers_module", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(view_module.sys.modules, "researchers_module", module)
        spec.loader.exec_module(module)
        made = replace(
            VIEW, inputs=(Input("bars"),), sql=None, transform=getattr(module, transform)
        )
        made.version  # noqa: B018, hashed while the module is there
        return made

    return view


@pytest.mark.parametrize("what", TO_PEOPLE)
def test_words_in_code_do_not_change_the_version(from_source, what):
    assert from_source(TO_PEOPLE[what]).version == from_source(MODULE).version


@pytest.mark.parametrize("what", TO_VALUES)
def test_code_beside_the_transform_is_in_the_version(from_source, what):
    assert from_source(TO_VALUES[what]).version != from_source(MODULE).version


def test_which_function_of_a_module_is_in_the_version(from_source):
    assert from_source(MODULE).version != from_source(MODULE, "other").version


def test_the_window_kernels_are_in_the_version(from_source, monkeypatch):
    before = from_source(MODULE).version
    getsource = view_module.inspect.getsource
    monkeypatch.setattr(
        view_module.inspect,
        "getsource",
        lambda module: (
            getsource(module).replace("np.add", "np.subtract")
            if module is rolling
            else getsource(module)
        ),
    )
    assert from_source(MODULE).version != before


# --------------------------------------------------------------------------- bad declarations


BAD = {
    "name": ("Closes", "lower case"),
    "entity": ("company", "symbol, series, document"),
    "inputs": ((), "reads nothing"),
    "horizon_unit": ("day", "session, week, month"),
    "scope": ("some", "entity, all"),
    "static": (("year",), "symbol, month, weekday"),
    "stored": ("float16", "float32, float64"),
    "window": (0, "positive"),
    "horizon": (-1, "positive"),
    "largest_gap": (-1, "negative"),
    "target": ("open", "none of its features"),
    "features": ((Feature("close"), Feature("close")), "twice"),
    "sql": (None, "either sql or transform"),
    "transform": (lambda inputs: {}, "either sql or transform"),
}
REFUSED = [
    *((field, *BAD[field]) for field in BAD),
    ("inputs", (Input("bars"), Input("bars", shared=True)), "an input is named twice"),
    ("inputs", (Input("bars", memory=-1),), "memory of input bars must not be negative"),
    ("features", (Feature("close", -1),), "memory of feature close must not be negative"),
]


@pytest.mark.parametrize(("field", "value", "reason"), REFUSED)
def test_a_bad_declaration_is_refused_in_one_line(field, value, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        replace(VIEW, **{field: value})
    message = str(caught.value)
    assert message.startswith("feature view ")
    assert ("Closes" if field == "name" else "closes") in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "feature", ["Close", "date", "known_at", "known_until", "rows", "a b", "a;b"]
)
def test_a_feature_is_a_column_name_of_its_own(feature):
    with pytest.raises(UsageError, match="feature view closes: feature") as caught:
        replace(VIEW, features=(Feature("close"), Feature(feature)))
    assert repr(feature) in str(caught.value)
