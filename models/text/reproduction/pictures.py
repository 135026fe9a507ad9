"""Pictures of models of text: how far what they say comes true, and what they take for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.encoding import Floats
from models.evaluation.direction import reliability
from models.reproduction.pictures import new_figure, save
from models.text.corpora import Corpus


def reliability_and_roc(given: Mapping[str, Floats], test: Corpus, path: Path) -> None:
    """How often what is said to be positive is so, and the ROC curve, a line for each model.

    Parameters
    ----------
    given : label -> probabilities of two classes, (n, 2).
    test : the n texts.
    path : PNG to write.
    """
    from sklearn.metrics import roc_curve

    positive = test.labels == 1
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for label, probabilities in given.items():
        bins = reliability(probabilities[:, 1], positive)
        said = [each["mean_probability"] for each in bins]
        left.plot(said, [each["up_rate"] for each in bins], marker=".", label=label)
        false, true, _ = roc_curve(positive, probabilities[:, 1])
        right.plot(false, true, linewidth=1.2)
    left.set(xlabel="probability of positive, tenths of the texts", ylabel="share that is positive")
    right.set(xlabel="share of negative texts taken for positive", ylabel="share of positive found")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(figure, path)


def confusions(
    matrices: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str], path: Path
) -> None:
    """What texts of each class were taken for, one panel for each model.

    Parameters
    ----------
    matrices : label -> (k, k), rows of labels, columns of what was said.
    classes : k names.
    path : PNG to write.
    """
    figure = new_figure(3.6 * len(matrices), 3.6)
    panels = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
    for axes, (label, matrix) in zip(panels, matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = str(matrix[row, column])
            axes.text(column, row, number, ha="center", va="center", color=colour)
        axes.set(title=label, xlabel="taken for")
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
    panels[0].set_ylabel("is")
    save(figure, path)
