from dataclasses import replace

import pytest

from db.errors import UsageError
from features import views
from features.catalog import feature_view, feature_views, in_order
from features.view import Feature, FeatureView, Input

MODULE = """
from dataclasses import replace
from features.views.sp500_close import VIEW as CLOSE
VIEW = replace(CLOSE, name="{name}")
"""
SEVERAL = """
from dataclasses import replace
from features.views.sp500_close import VIEW as CLOSE
VIEWS = tuple(replace(CLOSE, name=name) for name in ("first_of_two", "second_of_two"))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One more folder of views, in a catalog that is read anew."""
    monkeypatch.setattr(views, "__path__", [*views.__path__, str(tmp_path)])
    feature_views.cache_clear()
    yield tmp_path
    feature_views.cache_clear()


def reading(name, *inputs):
    """A view of that name over others."""
    return FeatureView(
        name=name,
        description=name,
        entity="series",
        inputs=tuple(Input(table) for table in inputs),
        sql="SELECT 1",
        features=(Feature("value"),),
        window=1,
        target="value",
        horizon=1,
        horizon_unit="session",
    )


def test_a_module_with_a_view_is_in_the_catalog(folder):
    (folder / "one_more_close.py").write_text(MODULE.format(name="one_more"))
    (folder / "notes_without_view.py").write_text("WORDS = 'no view here'\n")
    assert set(feature_views()) >= {"sp500_close", "one_more"}
    assert feature_view("one_more").names == ("close",)
    assert feature_view("one_more").version != feature_view("sp500_close").version


def test_a_module_may_declare_several(folder):
    (folder / "two_more_closes.py").write_text(SEVERAL)
    assert set(feature_views()) >= {"first_of_two", "second_of_two"}


def test_a_name_declared_twice_is_refused(folder):
    (folder / "zz_doubled.py").write_text(MODULE.format(name="sp500_close"))
    with pytest.raises(UsageError, match=r"sp500_close is declared twice: zz_doubled\.py"):
        feature_views()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("VIEW = (\n", "SyntaxError: .*never closed"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(folder, source, reason):
    (folder / f"broken_{len(source)}.py").write_text(source)
    with pytest.raises(
        UsageError, match=rf"feature views of broken_\d+\.py .*: {reason}"
    ) as caught:
        feature_views()
    assert "\n" not in str(caught.value)


def test_a_bad_declaration_keeps_its_own_words(folder):
    (folder / "backwards.py").write_text(
        MODULE.format(name="backwards").replace('name="b', 'horizon=-1, name="b')
    )
    with pytest.raises(UsageError, match=r"^feature view backwards: window and horizon"):
        feature_views()


def test_a_view_over_one_that_is_not_there_is_refused(folder):
    (folder / "astray.py").write_text(
        "from features.view import Input\n"
        + MODULE.format(name="astray").replace("CLOSE,", "CLOSE, inputs=(Input('closes'),),")
    )
    with pytest.raises(UsageError, match=r"feature view astray: it reads .closes., which is"):
        feature_views()


def test_a_view_stands_after_those_that_it_reads():
    given = {
        "c": reading("c", "b", "a"),
        "b": reading("b", "a"),
        "a": reading("a", "observations"),
        "d": reading("d", "bars", "c"),
    }
    assert list(in_order(given)) == ["a", "b", "c", "d"]


def test_views_that_read_each_other_are_refused():
    given = {
        "first": reading("first", "bars"),
        "a": reading("a", "b"),
        "b": reading("b", "c"),
        "c": reading("c", "a"),
    }
    with pytest.raises(UsageError, match="feature view a reads itself in a circle: a → b → c → a"):
        in_order(given)


def test_a_view_that_reads_itself_is_refused():
    with pytest.raises(UsageError, match="feature view a reads itself in a circle: a → a"):
        in_order({"a": reading("a", "a")})


def test_a_view_over_another_has_another_version_with_it(monkeypatch):
    def version(upstream):
        catalog = {view.name: view for view in (upstream, reading("over", "under"))}
        monkeypatch.setattr("features.catalog.feature_views", lambda: catalog)
        return catalog["over"].version

    under = reading("under", "bars")
    assert version(replace(under, sql="SELECT 2")) != version(under)
    assert version(replace(under, description="in other words")) == version(under)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match=r"no feature view 'sp500'; there are: .*sp500_close"):
        feature_view("sp500")


def test_the_reference_views_are_the_chapters():
    close = feature_view("sp500_close")
    assert (close.window, close.target, close.horizon) == (63, "close", 1)
    week = feature_view("equity_weekly_return")
    assert (week.window, week.horizon_unit, week.static) == (52, "week", ("symbol", "month"))
    macro = feature_view("macro_annual_change")
    assert (macro.window, macro.horizon_unit) == (24, "month")
    assert macro.names[:2] == ("level_change", "index_change")
