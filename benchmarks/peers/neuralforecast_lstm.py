"""NeuralForecast's LSTM on a folder of windows (see window_folder.py), by its own interpreter.

    python neuralforecast_lstm.py FOLDER [--seed 0] [--steps 1000]

NeuralForecast learns from series, not from windows: those of train and validation are put
together again from their windows, on one calendar, and what is not known on it is masked. No
window of the test span is among them. Every test window is then a series of its own, T rows
without a label, of which the next value is forecast: one step, nothing refitted. Hyper-parameters
are NeuralForecast's own, but for the loss (MSE, as the others have) and the checks that stop it
early: each CHECK_STEPS steps on the validation span, PATIENCE of them without a better one. Its
weights are the last ones: NeuralForecast does not restore the best.

Writes neuralforecast_forecast_test.npy, float32 (n,), and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from window_folder import Span, read_spans, trained_and_forecast

CHECK_STEPS, PATIENCE = 50, 5
# windows that are forecast at once as series of their own: bounds the memory of the long frame
AT_ONCE = 25_000
SAME = {"rtol": 1e-5, "atol": 1e-7}  # float32 values that were rounded twice


@dataclass(frozen=True)
class Series:
    """Series on one calendar.

    Attributes
    ----------
    values : (series, steps, F), zero where nothing is known.
    known : (series, steps)
    train_steps : steps up to the last target of the training span; the rest is validation.
    """

    values: np.ndarray
    known: np.ndarray
    train_steps: int

    def frame(self) -> pd.DataFrame:
        """The long frame of NeuralForecast: unique_id, ds, y, x1 ..., available_mask."""
        series, steps, features = self.values.shape
        columns = {
            "unique_id": np.repeat(np.arange(series), steps),
            "ds": np.tile(np.arange(steps), series),
            "y": self.values[:, :, 0].ravel(),
            **{f"x{at}": self.values[:, :, at].ravel() for at in range(1, features)},
            "available_mask": self.known.ravel().astype(np.float32),
        }
        return pd.DataFrame(columns)

    def train_windows(self, length: int) -> int:
        """Windows of `length` steps and a target that are known throughout, in training."""
        return int(complete(self.known[:, : self.train_steps], length + 1).sum())


def complete(known: np.ndarray, length: int) -> np.ndarray:
    """Whether `length` steps in a row are known, for each place: (series, steps - length + 1)."""
    return np.lib.stride_tricks.sliding_window_view(known, length, axis=1).all(axis=-1)


def calendar_steps(span: Span) -> dict[pd.Timestamp, int]:
    """The step of each date, from how far the windows of an entity have moved between two.

    Dates that no window ends on (labels that were not known in time) leave a gap of their own.
    """
    X, index = span.X, span.index
    by_date = {date: rows.to_numpy() for date, rows in index.groupby("as_of").groups.items()}
    dates = sorted(by_date)
    entity = index["entity"].to_numpy()
    steps, length = {dates[0]: X.shape[1] - 1}, X.shape[1]
    for before, after in itertools.pairwise(dates):
        _, old, new = np.intersect1d(
            entity[by_date[before]], entity[by_date[after]], return_indices=True
        )
        earlier, later = X[by_date[before][old]], X[by_date[after][new]]
        for move in range(1, length):
            agree = np.isclose(earlier[:, move:], later[:, :-move], **SAME).all(axis=(1, 2))
            if agree.mean() > 0.5:
                steps[after] = steps[before] + move
                break
        else:
            sys.exit(f"windows of {after:%Y-%m-%d} do not go on from those of {before:%Y-%m-%d}")
    return steps


def rebuilt_series(train: Span, validation: Span) -> Series:
    """The series that the windows and targets of two spans were cut from.

    A window that contradicts what is there (an entity that was away has fewer steps than the
    calendar) begins a series of its own. Series without a whole training window are left out:
    NeuralForecast fails on a batch of nothing else.
    """
    X, y = np.concatenate([train.X, validation.X]), np.concatenate([train.y, validation.y])
    index = pd.concat([train.index, validation.index], ignore_index=True)
    step_of = calendar_steps(Span(X, y, index))
    length, features = X.shape[1:]
    steps = max(step_of.values()) + 2  # the last target lies one after the last window
    values: list[np.ndarray] = []
    known: list[np.ndarray] = []
    current: dict[str, int] = {}
    ends = index["as_of"].map(step_of).to_numpy()
    denied = 0
    for row in np.argsort(ends, kind="stable"):
        entity, end = index["entity"].iloc[row], ends[row]
        span = slice(end - length + 1, end + 1)
        at = current.get(entity)
        if at is not None:
            there = known[at][span]
            # a target is one feature; others of that step are filled by the next window
            same = np.isclose(values[at][span, 0], X[row, :, 0], **SAME)
            at = at if same[there].all() else None
            denied += at is None
        if at is None:
            current[entity] = at = len(values)
            values.append(np.zeros((steps, features), np.float32))
            known.append(np.zeros(steps, bool))
        values[at][span], known[at][span] = X[row], True
        values[at][end + 1, 0], known[at][end + 1] = y[row], True
    if denied > len(current) + 0.01 * len(X):
        sys.exit(
            f"{denied:,} of {len(X):,} windows contradict those before: "
            "y must be the next value of feature 0, windows must follow one calendar"
        )
    last = step_of[train.index["as_of"].max()] + 1
    whole = Series(np.stack(values), np.stack(known), last + 1)
    some = complete(whole.known[:, : whole.train_steps], length + 1).any(axis=1)
    return Series(whole.values[some], whole.known[some], whole.train_steps)


def windows_frame(X: np.ndarray) -> pd.DataFrame:
    """Each window a series: what can be forecast from and nothing else."""
    every = np.ones(X.shape[:2], bool)
    return Series(X, every, X.shape[1]).frame()


def main() -> None:
    """Fit on train, stop on validation, forecast test."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM

    torch.use_deterministic_algorithms(mode=True)
    spans = read_spans(folder)
    length, features = spans["train"].X.shape[1:]
    with (
        tempfile.TemporaryDirectory(prefix="neuralforecast-") as scratch,
        trained_and_forecast(
            "neuralforecast",
            version=version("neuralforecast"),
            torch=torch.__version__,
            seed=asked.seed,
            forecast="target",
        ) as line,
    ):
        os.chdir(scratch)  # where Lightning would leave its logs
        series = rebuilt_series(spans["train"], spans["validation"])
        model = LSTM(
            h=1,
            input_size=length,
            hist_exog_list=[f"x{at}" for at in range(1, features)] or None,
            loss=MSE(),
            max_steps=asked.steps,
            val_check_steps=min(CHECK_STEPS, asked.steps),
            early_stop_patience_steps=PATIENCE,
            training_data_availability_threshold=1.0,  # whole windows, as the others see
            valid_batch_size=256,
            random_seed=asked.seed,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        engine = NeuralForecast([model], freq=1)
        engine.fit(series.frame(), val_size=series.values.shape[1] - series.train_steps)
        fitted = engine.models[0]
        test = spans["test"].X
        parts = [
            engine.predict(df=windows_frame(test[begin : begin + AT_ONCE]))
            .sort_values("unique_id")["LSTM"]
            .to_numpy(np.float32)
            for begin in range(0, len(test), AT_ONCE)
        ]
        forecast = np.concatenate(parts)
        checks = [float(loss) for _, loss in fitted.valid_trajectories]
        line |= {
            "parameters": sum(weights.numel() for weights in fitted.parameters()),
            "steps": len(fitted.train_trajectories),
            "checks": len(checks),
            "validation_rmse": checks[-1] ** 0.5,
            "series": len(series.values),
            "train_windows": series.train_windows(length),
        }
    np.save(folder / "neuralforecast_forecast_test.npy", forecast)


if __name__ == "__main__":
    main()
