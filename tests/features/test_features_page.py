"""The worked example of docs/features.md, block by block, on the sample's stocks."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from db.sources.sample import sample_sources
from db.sources.source import Request
from features import catalog, views
from features.materialize import materialize

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
FILE = re.compile(r"# features/views/(\w+\.py)\n")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture
def own_views(tmp_path, monkeypatch):
    """The page's modules, as if they lay in features/views."""
    folder = tmp_path / "views"
    folder.mkdir()
    for block in blocks("python"):
        if found := FILE.match(block):
            (folder / found[1]).write_text(block)
    monkeypatch.setattr(views, "__path__", [*views.__path__, str(folder)])
    catalog.feature_views.cache_clear()
    yield catalog.feature_views()
    catalog.feature_views.cache_clear()


@pytest.fixture
def stocks(raw, settings):
    """The sample's stocks and VIX of 2017 and 2018, as a night would have them."""
    until = pd.Timestamp("2018-12-29 03:00", tz="UTC").to_pydatetime()
    request = Request(pd.Timestamp("2017-01-01").date(), until)
    for source in sample_sources(settings):
        if source.name not in ("sample.stocks", "sample.VIXCLS"):
            continue
        frame = source.fetch(request).frame
        dates = "session" if "session" in frame else "period"
        known = source.availability.known_at(frame[dates], raw.calendar)
        frame = frame.assign(known_at=known)
        if dates == "session":
            raw.append_bars(frame, source=source.name)
        else:
            raw.append_observations(frame[["period", "value", "known_at"]], "VIXCLS", source.name)
    return raw.warehouse


def test_the_page_holds_what_it_says(own_views, stocks):
    assert {"momentum", "fear"} <= own_views.keys()
    for name in ("momentum", "fear"):
        assert materialize(stocks, own_views[name]).added > 200
    namespace = {"warehouse": stocks}
    for block in blocks("python"):
        if not FILE.match(block):
            exec(block, namespace)  # the page's own code
    windows, joined = namespace["windows"], namespace["joined"].to_pandas()
    assert windows.X.shape[1:] == (12, 1)
    assert len(windows) > 1_000
    assert windows.index["as_of"].max() == pd.Timestamp("2018-05-31")
    by_symbol = joined.set_index("symbol")
    assert by_symbol.loc["AAPL", "momentum__date"] == pd.Timestamp("2018-04-30").date()
    assert by_symbol.loc["MSFT", "momentum__date"] == pd.Timestamp("2018-05-31").date()
    assert joined["fear__vix_change"].notna().all() or joined["fear__vix_change"].isna().all()
    for query in blocks("sql"):
        rows = stocks.sql(query)
        assert rows, query
    newest = [row[1:3] for row in rows]
    assert newest == sorted(newest, key=lambda row: -row[1])
    # what the example computes is what its name says
    prices = stocks.frame(
        "SELECT session, adj_close FROM raw.bars WHERE entity = 'AAPL' ORDER BY session"
    ).set_index("session")["adj_close"]
    place = prices.index.get_loc(pd.Timestamp("2018-05-31"))
    expected = prices.iloc[place - 21] / prices.iloc[place - 252] - 1
    found = {row[0]: row[2] for row in rows}["AAPL"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_list_of_views_is_the_catalog():
    import runpy

    made = runpy.run_path(str(PAGE.with_name("views_page.py")))["page"]()
    assert PAGE.with_name("views.md").read_text() == made
