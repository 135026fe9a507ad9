"""The loss curve of a training, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def draw(title: str, history: Mapping[str, Sequence[float]], best_epoch: int, path: Path) -> None:
    """Draw training and validation loss by epoch (log scale), the best epoch marked.

    Parameters
    ----------
    title : str
    history : mapping
        `loss` and `val_loss`, one number for each epoch.
    best_epoch : int
        Counted from 1.
    path : Path
        PNG to write.
    """
    from matplotlib.figure import Figure

    epochs = range(1, len(history["loss"]) + 1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(epochs, history["loss"], label="training")
    axes.plot(epochs, history["val_loss"], label="validation")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(title=title, xlabel="epoch", ylabel="loss (scaled units)", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
