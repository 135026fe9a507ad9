from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import TrainingError
from features.windows import Windows
from models.spans import split


def panel(sessions, entities, horizon, label_delay_hours, unknown):
    """Windows of a panel whose labels come `horizon` sessions later, some never."""
    days = pd.bdate_range("2016-01-04", periods=sessions)
    as_of = days.repeat(entities)
    known_at = (as_of + pd.Timedelta(hours=27)).tz_localize("UTC")
    labels = pd.Series(known_at + pd.offsets.BDay(horizon) + pd.Timedelta(hours=label_delay_hours))
    labels[np.asarray(unknown)[: len(labels)]] = pd.NaT
    index = pd.DataFrame(
        {
            "entity": [f"E{i}" for i in range(entities)] * sessions,
            "as_of": as_of,
            "known_at": known_at,
            "label_known_at": labels.to_numpy(),
        }
    )
    index["label_known_at"] = labels.array
    n = len(index)
    y = np.where(labels.isna(), np.nan, np.arange(n)).astype("f4")
    return Windows(np.zeros((n, 2, 1), "f4"), y, index, "view", "v", "s")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_label_reaches_into_the_next_span(data):
    sessions, entities = data.draw(st.integers(12, 60)), data.draw(st.integers(1, 3))
    horizon, delay = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 30))
    validation, test = data.draw(st.integers(1, 15)), data.draw(st.integers(1, 15))
    rows = sessions * entities
    unknown = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    windows = panel(sessions, entities, horizon, delay, unknown)
    try:
        spans = split(windows, validation, test)
    except TrainingError:
        return
    parts = [spans.train.index, spans.validation.index, spans.test.index]
    for earlier, later in pairwise(parts):
        assert earlier["label_known_at"].max() < later["known_at"].min()
        assert earlier["as_of"].max() < later["as_of"].min()
    assert spans.labels_known_at < spans.test.index["known_at"].min()
    assert not any(part["label_known_at"].isna().any() for part in parts)
    labelled = int((~np.isnan(windows.y)).sum())
    assert sum(map(len, parts)) + spans.purged == labelled
    assert spans.test.index["as_of"].nunique() == test


def test_one_boundary_row_is_purged_on_each_side(windows):
    spans = split(windows, 30, 20)
    assert (len(spans.validation), len(spans.test), spans.purged) == (29, 20, 2)
    assert len(spans.train) == len(windows) - 1 - 30 - 20 - 1


def test_train_from_is_the_first_as_of(windows):
    start = windows.index["as_of"].iloc[40].date()
    assert split(windows, 30, 20, start).train.index["as_of"].min().date() == start


def test_rows_stay_with_their_labels(windows):
    spans = split(windows, 30, 20)
    np.testing.assert_array_equal(spans.test.y, windows.y[-21:-1])


@pytest.mark.parametrize(("validation", "test"), [(200, 100), (1, 20), (0, 20)])
def test_too_little_history_is_refused(windows, validation, test):
    with pytest.raises(TrainingError, match=r"lengthen|needed"):
        split(windows, validation, test)
