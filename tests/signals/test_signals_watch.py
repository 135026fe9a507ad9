"""What `check` says of signals that have become weak, drifted or stopped."""

import numpy as np
import pandas as pd
import pytest

from db.publishing import publish
from db.tables import signal_drift, signal_performance
from signals import watch

WEEKS = pd.date_range("2015-01-02", periods=156, freq="7D")


def performance(warehouse, rank_ic, role="live", days=WEEKS, **columns):
    rows = pd.DataFrame(
        {
            "signal": "equity_week_direction",
            "entity": "*",
            "as_of": days,
            "horizon": 1,
            "horizon_unit": "week",
            "role": role,
            "model_version": "*",
            "scored": 10,
            "known": 10,
            "rank_ic": rank_ic,
            "running_dates": 52,
        }
        | columns
    )
    warehouse.append(signal_performance, rows)


def noise(mean, count, seed=1):
    return mean + np.random.default_rng(seed).normal(0, 0.05, count)


def problems(warehouse):
    publish(warehouse)
    return [each.problem for each in watch.weakened(warehouse.settings)]


def test_a_steady_signal_is_left_alone(warehouse):
    performance(warehouse, noise(0.05, 156))
    assert problems(warehouse) == []


def test_one_that_decays_is_named_with_its_figures(warehouse):
    performance(warehouse, np.concatenate([noise(0.08, 104), noise(0.01, 52, 2)]))
    (said,) = problems(warehouse)
    assert "rank IC of the last 52 weeks is 0.0" in said
    assert said.endswith("before: it decays")


def test_a_backfill_says_what_it_was_before(warehouse):
    performance(warehouse, noise(0.08, 104), role="backfill", days=WEEKS[:104])
    performance(warehouse, noise(0.01, 52, 2), days=WEEKS[104:])
    assert len(problems(warehouse)) == 1


def test_one_that_is_wrong_more_often_than_right(warehouse):
    performance(warehouse, noise(-0.05, 52), days=WEEKS[:52])
    (said,) = problems(warehouse)
    assert said.endswith("its order is wrong more often than right")


def test_few_dates_and_backfills_alone_say_nothing(warehouse):
    performance(warehouse, noise(-0.2, 20), days=WEEKS[:20])
    assert problems(warehouse) == []
    warehouse.native.execute("DELETE FROM main.signal_performance")
    performance(warehouse, noise(-0.2, 156), role="backfill")
    assert problems(warehouse) == []


@pytest.mark.parametrize(("error", "count"), [(12.0, 1), (10.0, 0)])
def test_a_series_is_held_against_its_last_value(warehouse, error, count):
    days = pd.bdate_range("2017-01-02", periods=252)
    naive = 10 + np.random.default_rng(3).normal(0, 1, 252)
    mae = error + np.random.default_rng(4).normal(0, 1, 252)
    performance(
        warehouse,
        np.nan,
        days=days,
        signal="sp500_next_close",
        entity="SP500",
        horizon_unit="session",
        mae=mae,
        naive_mae=naive,
    )
    found = problems(warehouse)
    assert len(found) == count
    assert all("that of the last known value 10" in said for said in found)


def test_drift_is_named_with_its_subjects_strongest_first(warehouse):
    rows = [
        ("2018-12-20", "value", 0.9, True),
        ("2018-12-21", "value", 0.3, True),
        ("2018-12-21", "feature close", 0.7, True),
        ("2018-12-21", "feature week", 0.01, False),
    ]
    frame = pd.DataFrame(rows, columns=["session", "subject", "psi", "drifted"]).assign(
        signal="sp500_next_close",
        model_version="v1",
        noise=0.1,
        rows=63,
        reference_rows=500,
    )
    frame["session"] = pd.to_datetime(frame["session"])
    warehouse.append(signal_drift, frame)
    publish(warehouse)
    (concern,) = watch.drifted(warehouse.settings)
    assert concern.signal == "sp500_next_close"
    assert concern.problem == (
        "drifted from its training: feature close (PSI 0.7), value (PSI 0.3)"
    )


def test_a_signal_without_a_live_row_has_stopped_or_never_begun(warehouse):
    publish(warehouse)
    (concern,) = watch.never_scored(warehouse.settings, ["macro_path"])
    assert (concern.signal, concern.problem) == ("macro_path", "has never been scored")
