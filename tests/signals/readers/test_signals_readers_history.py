"""Reading: one row per entity and date, one version a date, dated by when it can be traded."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from db.errors import LookAheadError, UsageError
from db.sessions import Sessions
from signals import readers
from tests.signals.readers.published_history import closes, scores, store

SIGNAL = "equity_week_direction"


def frame(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    """Rows of entity, as_of, tradable_from, value."""
    return pd.DataFrame(rows, columns=["entity", "as_of", "tradable_from", "value"])


def made(*rows: tuple[str, str, str, float]) -> readers.Signals:
    return readers.Signals("made up", frame(*rows))


def test_rows_are_those_of_the_contract(reversal: readers.Signals) -> None:
    assert (reversal.name, reversal.horizon, reversal.horizon_unit) == (SIGNAL, 1, "week")
    assert not reversal.frame.duplicated(["entity", "as_of"]).any()
    assert (reversal.frame["tradable_from"] > reversal.frame["as_of"]).all()
    assert len(reversal.entities) == 20
    assert reversal.frame["value"].dtype == "float64"
    newest = reversal.frame["as_of"] == reversal.frame["as_of"].max()
    assert set(reversal.frame.loc[newest, "role"]) == {"live"}
    assert reversal.sessions is not None
    assert reversal.frame["tradable_from"].isin(reversal.sessions).all()


def test_pandas_polars_and_arrow_hold_the_same(reversal: readers.Signals) -> None:
    pandas, polars, arrow = reversal.to_pandas(), reversal.to_polars(), reversal.to_arrow()
    assert arrow.num_rows == polars.height == len(pandas) == len(reversal)
    assert polars.schema["as_of"] == pl.Date
    assert polars.schema["tradable_from"] == pl.Date
    assert arrow.column_names == polars.columns == list(pandas.columns)
    assert polars["value"].to_list() == pandas["value"].tolist()
    assert polars["tradable_from"][0] == pandas["tradable_from"][0].date()
    pandas["value"] = 0.0
    assert reversal.frame["value"].abs().sum() > 0  # a copy


def test_span_role_and_version(history: Path) -> None:
    year = readers.read(history, signal=SIGNAL, start="2017-01-01", end=date(2017, 12, 31))
    assert year.frame["as_of"].dt.year.unique() == [2017]
    live = readers.read(history, signal=SIGNAL, role="live")
    assert live.frame["as_of"].unique() == [pd.Timestamp("2018-12-21")]
    assert len(readers.read(history, signal=SIGNAL, model_version="v1")) > 3000


@pytest.fixture(scope="module")
def several(empty: Path, calendar: Sessions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dates with several versions and roles, and a signal with two horizons."""
    rows = scores(calendar, closes().loc["2018-12-01":"2018-12-21"])
    first, last = rows["as_of"].min(), rows["as_of"].max()
    hour = pd.Timedelta(hours=1)
    again = rows.assign(
        role="backfill",
        model_version="v2",
        value=2.0,
        published_at=rows["published_at"] + hour,
    )
    fewer = rows[rows["as_of"] == first].head(3).assign(role="live", model_version="v3", value=3.0)
    tried = rows.assign(role="challenger", model_version="v4", value=4.0)
    ahead = rows[rows["as_of"] == last].assign(signal="path", role="live")
    rows = rows[rows["as_of"] < last].assign(role="backfill")
    parts = [rows, again, fewer, tried, ahead, ahead.assign(horizon=2)]
    return store(
        tmp_path_factory.mktemp("several"), empty, pd.concat(parts, ignore_index=True), None
    )


def test_a_date_has_the_scores_of_one_version(several: Path) -> None:
    def versions(**asked) -> list[tuple[int, str]]:
        by_date = readers.read(several, signal=SIGNAL, **asked).frame.groupby("as_of")
        return [(len(rows), "|".join(rows["model_version"].unique())) for _, rows in by_date]

    assert versions() == [(3, "v3"), (20, "v2")]  # live wins; nobody fills it up
    assert versions(role="backfill") == [(20, "v2"), (20, "v2")]  # published last
    assert versions(role=("backfill", "live")) == [(20, "v2"), (20, "v2")]
    assert versions(role="challenger") == [(20, "v4"), (20, "v4")]
    assert versions(model_version="v1") == [(20, "v1")]


def test_a_horizon_must_be_chosen_where_there_are_several(several: Path) -> None:
    with pytest.raises(UsageError, match=r"2 horizons \(1 to 2 weeks\); choose one of them"):
        readers.read(several, signal="path")
    assert readers.read(several, signal="path", horizon=2).horizon == 2


def test_first_revisions_are_what_a_trader_had(
    empty: Path, calendar: Sessions, tmp_path: Path
) -> None:
    from db.publishing import publish
    from db.settings import Settings
    from db.tables import signal_revisions
    from db.warehouse import open_warehouse

    rows = scores(calendar, closes().loc["2018-12-01":"2018-12-21"])
    home = store(tmp_path / "home", empty, rows, None)
    later = rows.head(1).assign(value=9.0, tradable_from=pd.Timestamp("2018-12-31"), revision=1)
    with open_warehouse(Settings(home=home, profile="sample"), "test") as warehouse:
        warehouse.append(signal_revisions, later)
        warehouse.native.execute(
            "UPDATE main.signals SET value = 9, tradable_from = '2018-12-31' "
            "WHERE entity = ? AND as_of = ?",
            [rows["entity"][0], rows["as_of"][0].date()],
        )
        publish(warehouse)
    newest = readers.read(home, signal=SIGNAL).frame.iloc[0]
    first = readers.read(home, signal=SIGNAL, revision="first").frame.iloc[0]
    assert newest["value"] == 9.0
    assert newest["tradable_from"] == pd.Timestamp("2018-12-31")
    assert first["value"] == rows["value"][0]
    assert first["tradable_from"] == rows["tradable_from"][0]


# ------------------------------------------------------------------------------ look-ahead


def test_what_could_be_traded_on_its_own_bar_is_refused() -> None:
    with pytest.raises(LookAheadError, match=r"1 rows are tradable.*B as of 2018-12-28") as caught:
        made(("A", "2018-12-28", "2018-12-31", 1.0), ("B", "2018-12-28", "2018-12-28", 2.0))
    assert "\n" not in str(caught.value)
    with pytest.raises(LookAheadError):
        made(("A", "2018-12-28", "2018-12-27", 1.0))


def test_dating_by_anything_but_tradable_from_is_refused(
    reversal: readers.Signals, close: pd.DataFrame
) -> None:
    asked = [
        lambda: reversal.wide(dated="as_of"),
        lambda: readers.weights(reversal, close, dated="as_of"),
        lambda: readers.to_alphalens(reversal, close, dated="as_of"),
        lambda: readers.to_vectorbt(reversal, close, dated="as_of"),
        lambda: readers.to_bt(reversal, close, dated="as_of"),
        lambda: readers.to_backtrader(reversal, close, dated="as_of"),
        lambda: readers.to_quantstats(reversal, close, dated="known_at"),
        lambda: readers.to_pyfolio(reversal, close, dated="as_of"),
        lambda: readers.to_zipline(reversal, dated="as_of"),
    ]
    for ask in asked:
        with pytest.raises(LookAheadError, match="the close that it was made from"):
            ask()


def test_a_frame_of_ones_own_is_checked_too(close: pd.DataFrame) -> None:
    early = frame(("AAPL", "2018-12-14", "2018-12-14", 1.0))
    for adapt in (readers.to_alphalens, readers.to_vectorbt, readers.to_bt, readers.to_quantstats):
        with pytest.raises(LookAheadError):
            adapt(early, close)
    with pytest.raises(UsageError, match="needs tradable_from"):
        readers.to_bt(early.drop(columns="tradable_from"), close)
    with pytest.raises(UsageError, match="no tradable_from"):
        made(("A", "2018-12-28", None, 1.0))
    with pytest.raises(UsageError, match="A has two rows as of 2018-12-28"):
        made(("A", "2018-12-28", "2018-12-31", 1.0), ("A", "2018-12-28", "2019-01-02", 1.0))


# ------------------------------------------------------------------------------------ wide


def test_a_cross_section_replaces_the_one_before_whole() -> None:
    wide = made(
        ("A", "2018-12-14", "2018-12-17", 1.0),
        ("B", "2018-12-14", "2018-12-17", 2.0),
        ("A", "2018-12-21", "2018-12-24", 3.0),
    ).wide()
    assert wide.index.tolist() == [pd.Timestamp("2018-12-17"), pd.Timestamp("2018-12-24")]
    assert wide["A"].tolist() == [1.0, 3.0]
    assert wide["B"].isna().tolist() == [False, True]


def test_a_late_row_joins_its_cross_section_and_never_replaces_a_newer_one() -> None:
    signals = made(
        ("A", "2018-12-14", "2018-12-17", 1.0),
        ("B", "2018-12-14", "2018-12-19", 2.0),  # revised two days later
        ("C", "2018-12-14", "2018-12-27", 3.0),  # when a newer one had been there for long
        ("A", "2018-12-21", "2018-12-24", 4.0),
    )
    wide = signals.wide()
    assert [f"{day:%m-%d}" for day in wide.index] == ["12-17", "12-19", "12-24"]
    assert wide.loc["2018-12-17"].dropna().to_dict() == {"A": 1.0}
    assert wide.loc["2018-12-19"].dropna().to_dict() == {"A": 1.0, "B": 2.0}
    assert wide.loc["2018-12-24"].dropna().to_dict() == {"A": 4.0}


def test_a_session_without_prices_is_made_up_for_on_the_next() -> None:
    signals = made(
        ("A", "2018-12-07", "2018-12-10", 1.0),
        ("A", "2018-12-14", "2018-12-17", 2.0),
        ("A", "2018-12-21", "2018-12-24", 3.0),
        ("A", "2018-12-28", "2018-12-31", 4.0),
    )
    days = pd.DatetimeIndex(["2018-12-14", "2018-12-18", "2018-12-26", "2018-12-28"])
    wide = signals.wide(days=days)
    # before the first price, and after the last, nothing is traded
    assert wide["A"].to_dict() == {days[1]: 2.0, days[2]: 3.0}


def test_any_column_can_be_wide(reversal: readers.Signals) -> None:
    ranks = reversal.wide("rank")
    assert ranks.max(axis=1).eq(1.0).all()
    with pytest.raises(UsageError, match="no column 'rnak'; there are: "):
        reversal.wide("rnak")
