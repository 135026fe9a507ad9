"""Architectures: plain Keras 3 networks, the same on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from db.errors import UsageError
from models import backend
from models.recipes import Recipe

if TYPE_CHECKING:
    import keras


def build(recipe: Recipe, window: int, n_features: int) -> keras.Model:
    """The untrained network of a recipe.

    Parameters
    ----------
    recipe : Recipe
    window : int
        Steps T of a window.
    n_features : int
        Values F of a step.

    Returns
    -------
    keras.Model
        Takes float32 (batch, T, F), gives float32 (batch, outputs), both scaled.
    """
    if recipe.architecture not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise UsageError(
            f"recipe {recipe.name}: no architecture {recipe.architecture!r}; there are: {known}"
        )
    return BUILDERS[recipe.architecture](window, n_features, **recipe.layers)


def recurrent(
    window: int,
    n_features: int,
    *,
    units: Sequence[int],
    outputs: int,
    cell: str = "LSTM",
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    dense: Sequence[int] = (),
    output_activation: str | None = None,
) -> keras.Model:
    """Stacked recurrent layers, then dense layers, then the output.

    Parameters
    ----------
    window, n_features : int
        Shape (T, F) of a window.
    units : sequence of int
        Width of each recurrent layer, first to last.
    outputs : int
        Values that are forecast.
    cell : str
        Keras layer: `LSTM`, `GRU` or `SimpleRNN`.
    dropout, recurrent_dropout : float
        Shares of inputs and of states that are dropped in training.
    dense : sequence of int
        Width of each dense layer between the recurrent ones and the output.
    output_activation : str, optional
        Linear if left out.
    """
    import keras

    options = backend.recurrent_options() if cell in {"LSTM", "GRU"} else {}
    layers = [
        getattr(keras.layers, cell)(
            width,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            return_sequences=depth < len(units) - 1,
            **options,
        )
        for depth, width in enumerate(units)
    ]
    layers += [keras.layers.Dense(width) for width in dense]
    output = keras.layers.Dense(outputs, activation=output_activation)
    return keras.Sequential([keras.Input((window, n_features)), *layers, output])


BUILDERS = {"recurrent": recurrent}
