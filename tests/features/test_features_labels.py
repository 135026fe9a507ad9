"""Labels read without windows: the same as in windows, in full precision."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from db.errors import LookAheadError, LookbackError
from features.labels import read_labels
from features.materialize import materialize
from features.view import Feature
from features.windows import read_windows

DAYS = [f"2018-12-{day}" for day in (10, 11, 12, 13, 14, 17, 18, 19, 20, 21)]
END = pd.Timestamp("2018-12-22 02:00", tz="UTC")


@pytest.fixture
def store(raw, close):
    """Two series, one of them with a gap."""
    raw.observe({day: 100.1 + number for number, day in enumerate(DAYS)}, series="A")
    raw.observe({day: 7.7 * number for number, day in enumerate(DAYS) if number != 6}, series="B")
    materialize(raw.warehouse, close)
    return raw


def read(raw, view, cutoff=END, **choice):
    return read_labels(raw.warehouse, view, cutoff, ["close"], **choice)


def test_they_are_those_of_the_windows_in_full_precision(store, close):
    windows = read_windows(store.warehouse, close, END)
    index = windows.index.assign(y=windows.y, entity=windows.index["entity"].astype("str"))
    index = index[index["label_known_at"].notna()]
    labels = read(store, close).set_index(["entity", "date"])
    found = labels.loc[pd.MultiIndex.from_frame(index[["entity", "as_of"]])]
    np.testing.assert_array_equal(found["realised"].astype("f4"), index["y"])
    assert found["known_at"].tolist() == index["label_known_at"].tolist()
    assert labels.loc[("A", "2018-12-10"), "realised"] == 101.1
    assert labels.loc[("A", "2018-12-10"), "start"] == 100.1
    assert labels.loc[("A", "2018-12-14"), "target_date"] == pd.Timestamp("2018-12-17")


def test_nothing_lies_over_a_gap_or_a_price_break(store, close):
    before = read(store, close)
    of_b = before[before["entity"] == "B"]["date"].dt.day.tolist()
    assert of_b == [10, 11, 12, 13, 14, 19, 20]
    store.append_break("level", "2018-12-13", entity="A")
    of_a = read(store, close).query("entity == 'A'")["date"].dt.day.tolist()
    assert 12 not in of_a
    assert {11, 13} <= set(of_a)


def test_only_what_was_known_at_the_cutoff(store, close):
    labels = read(store, close, store.known_at("2018-12-14"))
    assert labels["target_date"].max() == pd.Timestamp("2018-12-14")
    store.observe({"2018-12-14": 999.0}, known_at=store.known_at("2018-12-18"), series="A")
    materialize(store.warehouse, close)
    then = read(store, close, store.known_at("2018-12-14")).query("entity == 'A'")
    now = read(store, close).query("entity == 'A'")
    assert then["realised"].iloc[-1] == 104.1
    assert now.set_index("date").loc["2018-12-13", "realised"] == 999.0


def test_several_horizons_ahead(store, close):
    labels = read(store, close, ahead=3).query("entity == 'A'")
    first = labels[labels["date"] == "2018-12-10"]
    assert first["horizon"].tolist() == [1, 2, 3]
    assert first["realised"].tolist() == [101.1, 102.1, 103.1]
    last = labels[labels["date"] == "2018-12-20"]
    assert last["horizon"].tolist() == [1]


def test_a_start_leaves_the_rest_as_it_is(store, close):
    every = read(store, close, ahead=2)
    late = read(store, close, ahead=2, start=date(2018, 12, 13))
    expected = every[every["date"] >= "2018-12-13"].reset_index(drop=True)
    pd.testing.assert_frame_equal(late, expected)


def test_a_value_that_looks_back_over_a_break_is_no_label(raw, close):
    view = replace(
        close,
        name="change",
        sql="""
            SELECT series AS entity, period AS date,
                value - lag(value, 2) OVER (PARTITION BY series ORDER BY period) AS close, known_at
            FROM observations
        """,
        inputs=(replace(close.inputs[0], memory=2),),
        features=(Feature("close", memory=2),),
    )
    raw.observe({day: float(number) for number, day in enumerate(DAYS)})
    raw.append_break("level", "2018-12-14")
    materialize(raw.warehouse, view)
    labels = read_labels(raw.warehouse, view, END, ["close"])
    late = read_labels(raw.warehouse, view, END, ["close"], start=date(2018, 12, 17))
    # 14 and 17 look back over the break, and nothing comes before the first 12th
    assert labels["date"].dt.day.tolist() == [12, 18, 19, 20]
    assert late["date"].dt.day.tolist() == [18, 19, 20]


def test_no_labels_where_there_is_nothing(raw, close):
    materialize(raw.warehouse, close)
    assert read(raw, close).empty


def test_a_cutoff_and_a_materialized_view_are_needed(raw, close):
    with pytest.raises(LookAheadError, match="reading labels of close needs a cut-off"):
        read(raw, close, cutoff=None)
    with pytest.raises(LookbackError, match="lookback features materialize close"):
        read(raw, close)
