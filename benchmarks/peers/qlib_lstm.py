"""Qlib's LSTM on a folder of windows (see window_folder.py), by its own interpreter.

The windows are the features of a handler of Qlib's, one column for each step, with the
processors of its own LSTM recipe on Alpha360: features by median and MAD of the training span,
clipped, and the label by its rank within the date. A lone series has no cross-section and a
level leaves what it was trained on: levels are scaled by mean and standard deviation of the
training span, and forecasts scaled back. Loss, clipping and order are Qlib's own; it keeps the
best weights by the loss of validation, and leaves out an incomplete batch of either span.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from window_folder import Span, Training, are_levels, read_spans, trained_and_forecast

if TYPE_CHECKING:
    from qlib.data.dataset import DatasetH
    from qlib.data.dataset.processor import Processor

SEGMENTS = {"train": "train", "validation": "valid", "test": "test"}


def keys_of(span: Span) -> pd.MultiIndex:
    """Qlib's keys of the windows, in their order."""
    index = span.index
    return pd.MultiIndex.from_arrays(
        [index["as_of"], index["entity"]], names=["datetime", "instrument"]
    )


def frame(spans: Mapping[str, Span]) -> pd.DataFrame:
    """Qlib's frame of all windows: the steps of feature 0, of feature 1, ..., and the label."""
    X = np.concatenate([span.X for span in spans.values()])
    y = np.concatenate([span.y for span in spans.values()])
    count, steps, features = X.shape
    # its LSTM takes (features, steps) apart again
    flat = X.transpose(0, 2, 1).reshape(count, features * steps)
    names = [("feature", f"x{of}_{step}") for of in range(features) for step in range(steps)]
    keys = pd.concat([keys_of(span).to_frame(index=False) for span in spans.values()])
    whole = pd.DataFrame(
        np.column_stack([flat, y]),
        index=pd.MultiIndex.from_frame(keys),
        columns=pd.MultiIndex.from_tuples([*names, ("label", "next")]),
    )
    return whole.sort_index()


def dataset(spans: Mapping[str, Span]) -> tuple[DatasetH, Processor | None]:
    """The windows as Qlib's data set, and what scales labels, where they are scaled."""
    from qlib.data.dataset import DatasetH
    from qlib.data.dataset.handler import DataHandlerLP
    from qlib.data.dataset.loader import StaticDataLoader
    from qlib.data.dataset.processor import CSRankNorm, DropnaLabel, RobustZScoreNorm, ZScoreNorm

    segments = {
        segment: (spans[name].index["as_of"].min(), spans[name].index["as_of"].max())
        for name, segment in SEGMENTS.items()
    }
    levels = are_levels(spans["train"].X)
    scaled = ZScoreNorm(*segments["train"], "label") if levels else None
    features = (ZScoreNorm if levels else RobustZScoreNorm)(*segments["train"], "feature")
    handler = DataHandlerLP(
        data_loader=StaticDataLoader(frame(spans)),
        infer_processors=[features],
        learn_processors=[DropnaLabel(), scaled or CSRankNorm("label")],
    )
    return DatasetH(handler, segments), scaled


def main() -> None:
    """Fit on train, stop on validation, forecast test."""
    asked = Training.asked(__doc__)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")

    import qlib
    import torch
    from qlib.contrib.model.pytorch_lstm import LSTM

    torch.use_deterministic_algorithms(mode=True)
    spans = read_spans(asked.folder)
    test = spans["test"]
    if len(spans["validation"]) < asked.batch:
        sys.exit(f"Qlib validates whole batches only: fewer than {asked.batch:,} windows")
    with (
        tempfile.TemporaryDirectory(prefix="qlib-") as scratch,
        trained_and_forecast("Qlib", version=qlib.__version__, torch=torch.__version__) as line,
    ):
        data, scaled = dataset(spans)
        model = LSTM(
            d_feat=test.X.shape[2],
            hidden_size=asked.hidden,
            num_layers=asked.layers,
            dropout=asked.dropout if asked.layers > 1 else 0.0,
            n_epochs=asked.epochs,
            lr=asked.learning_rate,
            batch_size=asked.batch,
            early_stop=asked.patience,
            GPU=-1,
            seed=asked.seed,
        )
        epochs: dict[str, list[float]] = {}
        model.fit(data, evals_result=epochs, save_path=Path(scratch) / "weights")
        forecast = model.predict(data).reindex(keys_of(test)).to_numpy()
        if scaled is not None:
            forecast = forecast * scaled.std_train[0] + scaled.mean_train[0]
        line |= {
            "parameters": sum(weights.numel() for weights in model.lstm_model.parameters()),
            "epochs": len(epochs["valid"]),
        }
    asked.leave(forecast, test)


if __name__ == "__main__":
    main()
