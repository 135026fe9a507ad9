"""NeuralForecast's LSTM on a folder of windows (see window_folder.py), by its own interpreter.

NeuralForecast learns from series, not from windows: those of train and validation are put
together again, and it cuts the very same windows from them. Every test window is then a series
of its own, of which the next value is forecast: one step, nothing refitted. A step draws its
windows from 32 series at most; an epoch is as many steps as there are batches of windows. Its
scaler of each window, its decoder and all else that is not asked for are its own; its loss is
MSE, and its weights are the last ones: it does not restore the best.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
from window_folder import Span, Training, read_spans, trained_and_forecast

# windows that are forecast at once as series of their own: bounds the memory of the long frame
AT_ONCE = 25_000


def long_frame(values: np.ndarray) -> pd.DataFrame:
    """NeuralForecast's frame of series (s, n): unique_id, ds, y."""
    series, steps = values.shape
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(series), steps),
            "ds": np.tile(np.arange(steps), series),
            "y": values.ravel(),
        }
    )


def joined_series(train: Span, validation: Span) -> np.ndarray:
    """The series that windows and targets of both spans were cut from: (entities, T + dates).

    Raises
    ------
    ValueError
        The windows have more than one feature, or are not those of every entity on every one of
        successive dates.
    """
    X, y = np.concatenate([train.X, validation.X]), np.concatenate([train.y, validation.y])
    keys = pd.concat([train.index, validation.index], ignore_index=True)
    entities, dates = keys["entity"].nunique(), keys["as_of"].nunique()
    if X.shape[2] != 1 or len(X) != entities * dates:
        raise ValueError("windows of one feature, of every entity on every date, are needed")
    order = keys.sort_values(["as_of", "entity"]).index.to_numpy()
    windows = X[order, :, 0].reshape(dates, entities, -1)
    series = np.concatenate([windows[0], y[order].reshape(dates, entities).T], axis=1)
    length = windows.shape[2]
    again = np.lib.stride_tricks.sliding_window_view(series, length, axis=1)[:, :dates]
    if not np.array_equal(again.transpose(1, 0, 2), windows):
        raise ValueError("windows do not follow each other step by step, or y is not the next")
    return series


def main() -> None:
    """Fit on train, stop on validation, forecast test."""
    asked = Training.asked(__doc__)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM

    torch.use_deterministic_algorithms(mode=True)
    spans = read_spans(asked.folder)
    test = spans["test"]
    steps = math.ceil(len(spans["train"]) / asked.batch)
    with (
        tempfile.TemporaryDirectory(prefix="neuralforecast-") as scratch,
        trained_and_forecast(
            "NeuralForecast", version=version("neuralforecast"), torch=torch.__version__
        ) as line,
    ):
        os.chdir(scratch)  # where Lightning would leave its logs
        model = LSTM(
            h=1,
            input_size=test.X.shape[1],
            encoder_hidden_size=asked.hidden,
            encoder_n_layers=asked.layers,
            encoder_dropout=asked.dropout if asked.layers > 1 else 0.0,
            loss=MSE(),
            learning_rate=asked.learning_rate,
            windows_batch_size=asked.batch,
            max_steps=asked.epochs * steps,
            val_check_steps=steps,
            early_stop_patience_steps=asked.patience,
            random_seed=asked.seed,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        engine = NeuralForecast([model], freq=1)
        engine.fit(
            long_frame(joined_series(spans["train"], spans["validation"])),
            val_size=spans["validation"].index["as_of"].nunique(),
        )
        parts = [
            engine.predict(df=long_frame(test.X[begin : begin + AT_ONCE, :, 0]))
            .sort_values("unique_id")["LSTM"]
            .to_numpy()
            for begin in range(0, len(test), AT_ONCE)
        ]
        fitted = engine.models[0]
        line |= {
            "parameters": sum(weights.numel() for weights in fitted.parameters()),
            "epochs": round(len(fitted.train_trajectories) / steps),
        }
    asked.leave(np.concatenate(parts), test)


if __name__ == "__main__":
    main()
