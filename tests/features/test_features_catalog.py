import pytest

from db.errors import UsageError
from features import views
from features.catalog import feature_view, feature_views

MODULE = """
from dataclasses import replace
from features.views.sp500_close import VIEW as CLOSE
VIEW = replace(CLOSE, name="{name}")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One more folder of views, in a catalog that is read anew."""
    monkeypatch.setattr(views, "__path__", [*views.__path__, str(tmp_path)])
    feature_views.cache_clear()
    yield tmp_path
    feature_views.cache_clear()


def test_a_module_with_a_view_is_in_the_catalog(folder):
    (folder / "one_more_close.py").write_text(MODULE.format(name="one_more"))
    (folder / "notes_without_view.py").write_text("WORDS = 'no view here'\n")
    assert set(feature_views()) >= {"sp500_close", "one_more"}
    assert feature_view("one_more").features == ("close",)
    assert feature_view("one_more").version != feature_view("sp500_close").version


def test_a_name_declared_twice_is_refused(folder):
    (folder / "zz_doubled.py").write_text(MODULE.format(name="sp500_close"))
    with pytest.raises(UsageError, match=r"sp500_close is declared twice: zz_doubled\.py"):
        feature_views()


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match=r"no feature view 'sp500'; there are: .*sp500_close"):
        feature_view("sp500")


def test_the_reference_view_is_the_chapters():
    view = feature_view("sp500_close")
    assert (view.window, view.target, view.horizon) == (63, "close", 1)
