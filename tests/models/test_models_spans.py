from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import TrainingError
from models.examples import Examples
from models.spans import Cuts, split, split_at


def panel(sessions, entities, horizon, label_delay_hours, unknown):
    """Examples of a panel whose labels come `horizon` sessions later, some never."""
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
    y = np.where(labels.isna(), np.nan, np.arange(n)).astype("f4")[:, None, None]
    X, last = np.zeros((n, 2, 1), "f4"), np.zeros((n, 1))
    return Examples(X, last, last[:, None], y, index, "view", "v", "s")


@settings(max_examples=60)
@given(st.data())
def test_no_label_reaches_into_the_next_span(data):
    sessions, entities = data.draw(st.integers(12, 60)), data.draw(st.integers(1, 3))
    horizon, delay = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 30))
    validation, test = data.draw(st.integers(1, 15)), data.draw(st.integers(1, 15))
    rows = sessions * entities
    unknown = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    examples = panel(sessions, entities, horizon, delay, unknown)
    try:
        spans = split(examples, validation, test)
    except TrainingError:
        return
    parts = [spans.train.index, spans.validation.index, spans.test.index]
    for earlier, later in pairwise(parts):
        assert earlier["label_known_at"].max() < later["known_at"].min()
        assert earlier["as_of"].max() < later["as_of"].min()
    assert spans.labels_known_at < spans.test.index["known_at"].min()
    assert not any(part["label_known_at"].isna().any() for part in parts)
    labelled = int((~np.isnan(examples.y)).sum())
    assert sum(map(len, parts)) + spans.purged == labelled
    assert spans.test.index["as_of"].nunique() == test


def test_one_boundary_row_is_purged_on_each_side(examples):
    spans = split(examples, 30, 20)
    assert (len(spans.validation), len(spans.test), spans.purged) == (29, 20, 2)
    assert len(spans.train) == len(examples) - 1 - 30 - 20 - 1


def test_train_from_is_the_first_as_of(examples):
    start = examples.index["as_of"].iloc[40].date()
    assert split(examples, 30, 20, start).train.index["as_of"].min().date() == start


def test_rows_stay_with_their_labels(examples):
    spans = split(examples, 30, 20)
    np.testing.assert_array_equal(spans.test.y, examples.y[-21:-1])


@pytest.mark.parametrize(("validation", "test"), [(200, 100), (1, 20), (0, 20)])
def test_too_little_history_is_refused(examples, validation, test):
    with pytest.raises(TrainingError, match=r"lengthen|needed"):
        split(examples, validation, test)


def test_rows_that_lie_side_by_side_are_not_copied(examples):
    spans = split(examples, 30, 20)
    assert all(
        np.shares_memory(span.X, examples.X) for span in (spans.train, spans.validation, spans.test)
    )


def test_spans_are_cut_at_given_dates(examples):
    dates = np.unique(examples.index["as_of"].to_numpy("datetime64[D]"))
    train, validation, test, until = (dates[at].astype(object) for at in (20, 70, 100, 140))
    spans = split_at(examples, Cuts(validation, test, until, train))
    assert spans.train.index["as_of"].min().date() == train
    # the last label of a span is known only after the next one has begun
    assert [
        span.index["as_of"].nunique() for span in (spans.train, spans.validation, spans.test)
    ] == [49, 29, 40]
    assert spans.labels_known_at < spans.test.index["known_at"].min()
