"""Pictures of a reproduction: loss curves, forecasts, errors by horizon, rank IC over time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from models.examples import Examples
from models.reproduction.figures import Measured
from models.reproduction.trials import Outcome
from models.training_process import HISTORY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SESSIONS_SHOWN = 120
DPI = 110


def histories(outcomes: Sequence[Outcome]) -> dict[str, list[Path]]:
    """Folders of each network's artefacts, by label."""
    networks: dict[str, list[Path]] = {}
    for outcome in outcomes:
        if not outcome.trial.is_baseline:
            networks.setdefault(outcome.trial.label, []).append(outcome.folder)
    return networks


def loss_curves(networks: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Training and validation loss by epoch, one panel for each network, a line for each seed.

    Parameters
    ----------
    networks : label -> folders of artefacts.
    path : PNG to write.
    """
    figure = new_figure(4.2 * len(networks), 3.2)
    axes = figure.subplots(1, len(networks), squeeze=False)[0]
    for each, (label, folders) in zip(axes, networks.items(), strict=True):
        for folder in folders:
            history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
            epochs = range(1, len(history["loss"]) + 1)
            each.plot(epochs, history["loss"], color="tab:blue", alpha=0.6)
            each.plot(epochs, history["val_loss"], color="tab:orange", alpha=0.6)
        each.set(title=label, xlabel="epoch", ylabel="loss", yscale="log")
        each.legend(["training", "validation"])
    save(figure, path)


def levels(outcomes: Sequence[Outcome], test: Examples, path: Path) -> None:
    """The last sessions of the test span: closes and forecasts, each network's first seed."""
    shown = slice(max(0, len(test) - SESSIONS_SHOWN), len(test))
    dates = test.index["as_of"].iloc[shown]
    figure = new_figure(9, 3.6)
    axes = figure.subplots()
    axes.plot(dates, test.y[shown, 0, 0], color="black", linewidth=1.5, label="next close")
    for label, outcome in _first_seeds(outcomes).items():
        axes.plot(dates, outcome.forecast[shown, 0, 0], linewidth=1, label=label)
    axes.set(ylabel="index points", title="forecast of the next close, by day of the forecast")
    axes.legend()
    save(figure, path)


def changes(outcomes: Sequence[Outcome], test: Examples, names: Sequence[str], path: Path) -> None:
    """Next month's changes over a year: what came and what was forecast, one panel a series."""
    figure = new_figure(9, 2.8 * len(names))
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    chosen = _first_seeds(outcomes) | {
        each.trial.label: each for each in outcomes if each.trial.recipe.variant == "var"
    }
    for number, (each, name) in enumerate(zip(axes, names, strict=True)):
        dates = test.index["as_of"]
        each.plot(dates, test.y[:, 0, number], color="black", linewidth=1.5, label="came")
        for label, outcome in chosen.items():
            each.plot(dates, outcome.forecast[:, 0, number], linewidth=1, label=label)
        each.set(ylabel=name)
    axes[0].legend(ncols=4)
    axes[0].set(title="change over 12 months, next month")
    save(figure, path)


def by_horizon(measured: Measured, names: Sequence[str], path: Path) -> None:
    """Mean absolute scaled error of each series by months ahead, mean over the seeds."""
    figure = new_figure(4.6 * len(names), 3.6)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for each, name in zip(axes, names, strict=True):
        for label, forecaster in measured.forecasters.items():
            curves = [
                [step["mase"] for step in metrics["series"][name]["by_horizon"]]
                for metrics in forecaster.metrics
            ]
            curve = np.mean(np.array(curves, "float64"), axis=0)
            style = "--" if forecaster.is_baseline else "-"
            each.plot(range(1, len(curve) + 1), curve, style, label=label)
        each.set(title=name, xlabel="months ahead", ylabel="MASE")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    save(figure, path)


def rank_ic(curves: Mapping[str, Mapping[str, pd.Series[float]]], path: Path) -> None:
    """Sums of the weekly rank IC over time, one panel for each kind of return."""
    figure = new_figure(4.8 * len(curves), 4.4)
    axes = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for each, (against, of) in zip(axes, curves.items(), strict=True):
        for label, series in of.items():
            known = series.dropna()
            each.plot(known.index, known.cumsum(), linewidth=1.2, label=label)
        each.axhline(0, color="grey", linewidth=0.8)
        each.set(title=f"against {against}", ylabel="sum of the weekly rank IC")
        each.tick_params(axis="x", rotation=30)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(figure, path)


def _first_seeds(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    """The first seed of each network, by label."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        if not outcome.trial.is_baseline:
            found.setdefault(outcome.trial.label, outcome)
    return found


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, the same bytes for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
