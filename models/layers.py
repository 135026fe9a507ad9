"""Layers that Keras does not have, registered with it as `lookback>...`.

This module imports Keras. Import it inside functions only: after `models.backend.configure`,
and before a network is read from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# Of a step that is not there; no state is as low (Keras' own attention subtracts as much).
ABSENT = -1e9

registered = keras.saving.register_keras_serializable(package="lookback")


@registered
class LeakyRNNCell(keras.layers.SimpleRNNCell):  # type: ignore[misc, unused-ignore]
    """A simple cell whose units forget at speeds of their own.

    h(t) = h(t-1) + (tanh(W x(t) + U h(t-1) + b) - h(t-1)) / tau, a leaky integrator. Units
    with a large tau carry what is slow, those with tau = 1 are those of a simple cell.

    Parameters
    ----------
    units : int
    time_constants : sequence of float
        tau in steps, 1 or more; unit `i` has the one at `i` modulo their number.
    learned : bool
        Whether each unit learns its own from there; then more than 1: tau = 1 + exp(theta).
    **options
        Those of `keras.layers.SimpleRNNCell`.

    References
    ----------
    Mozer (1992), "Induction of multiscale temporal structure"; Jaeger et al. (2007),
    "Optimization and applications of echo state networks with leaky-integrator neurons".
    """

    def __init__(
        self, units: int, time_constants: Sequence[float], learned: bool = False, **options: Any
    ) -> None:
        super().__init__(units, **options)
        self.time_constants = [float(tau) for tau in time_constants]
        self.learned = learned

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        if self.learned:
            start = np.log(self._declared() - 1)
            self.log_delay = self.add_weight(
                shape=start.shape,
                initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype),
                name="log_delay",
            )

    def call(self, sequence: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        before = states[0]
        aim, _ = super().call(sequence, [before], training=training)
        state = before + (aim - before) / self.tau()
        return state, [state]

    def tau(self) -> Any:
        """Time constant of each unit, in steps: (units,)."""
        if self.learned:
            return 1 + ops.exp(self.log_delay)
        return ops.convert_to_tensor(self._declared(), dtype=self.compute_dtype)

    def _declared(self) -> Any:
        return np.resize(self.time_constants, self.units)

    def get_config(self) -> dict[str, Any]:
        own = {"time_constants": self.time_constants, "learned": self.learned}
        return {**super().get_config(), **own}


@registered
class LastStep(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """The last step that is not masked: (batch, T, F) -> (batch, F).

    Parameters
    ----------
    features : sequence of int, optional
        Positions of those that are given, in this order; all if left out.
    """

    def __init__(self, features: Sequence[int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.features = None if features is None else list(features)
        self.supports_masking = True

    def call(self, sequence: Any, mask: Any = None) -> Any:
        if self.features is not None:
            sequence = ops.take(sequence, self.features, axis=-1)
        if mask is None:
            return sequence[:, -1]
        from_the_end = ops.argmax(ops.cast(ops.flip(mask, axis=1), "int32"), axis=1)
        steps = sequence.shape[1]
        chosen = ops.one_hot(steps - 1 - from_the_end, steps, dtype=sequence.dtype)
        return ops.sum(sequence * chosen[..., None], axis=1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """One step has no mask."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features}


@registered
class TokenMask(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Where a text has tokens: int32 (batch, T), 0 where it has none -> bool (batch, T).

    Of patches, (batch, T, p), a step is there if one of its tokens is.
    """

    def call(self, tokens: Any) -> Any:
        return (tokens if len(tokens.shape) == 2 else ops.max(tokens, axis=2)) > 0


@registered
class KnownTokens(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Tokens of the first rows of a vocabulary; others become unknown: int32 (batch, T), likewise.

    Parameters
    ----------
    rows : int
    unknown : int
        What others become.
    """

    def __init__(self, rows: int, unknown: int, **options: Any) -> None:
        super().__init__(**options)
        self.rows, self.unknown = rows, unknown

    def call(self, tokens: Any) -> Any:
        return ops.where(tokens < self.rows, tokens, self.unknown)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rows": self.rows, "unknown": self.unknown}


@registered
class Pooling(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """What all steps that are there have in common: (batch, T, F) -> (batch, F).

    Parameters
    ----------
    kind : str
        `mean` or `max`.
    """

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(**options)
        if kind not in {"mean", "max"}:
            raise ValueError(f"there is no pooling {kind!r}, only mean and max")
        self.kind = kind
        self.supports_masking = True

    def call(self, sequence: Any, mask: Any = None) -> Any:
        if self.kind == "max":
            if mask is not None:
                sequence = ops.where(mask[..., None], sequence, ABSENT)
            return ops.max(sequence, axis=1)
        if mask is None:
            return ops.mean(sequence, axis=1)
        there = ops.cast(mask, sequence.dtype)[..., None]
        return ops.sum(sequence * there, axis=1) / ops.maximum(ops.sum(there, axis=1), 1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """One row has no mask."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind}


@registered
class StateAttention(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """The mean of all states, each weighted by how it answers a query; masked ones do not count.

    Takes `query` (batch, Q) and `states` (batch, T, U), gives (batch, U).

    Parameters
    ----------
    score : str
        `dot`: s . (W q) (Luong et al. 2015, "general"); `additive`: v . tanh(W q + b + K s)
        (Bahdanau et al. 2015). The weights are the softmax of the scores over the steps.
    """

    def __init__(self, score: str, **options: Any) -> None:
        super().__init__(**options)
        self.score = score

    def build(self, query_shape: tuple[int, ...], states_shape: tuple[int, ...]) -> None:
        width = states_shape[-1]
        self.query = keras.layers.Dense(width, use_bias=self.score == "additive", name="query")
        self.query.build(query_shape)
        if self.score == "additive":
            self.key = keras.layers.Dense(width, use_bias=False, name="key")
            self.key.build(states_shape)
            self.attention = keras.layers.AdditiveAttention(name="attention")
        else:
            self.attention = keras.layers.Attention(name="attention")
        self.attention.build([(query_shape[0], 1, width), states_shape, states_shape])

    def call(self, query: Any, states: Any, states_mask: Any = None) -> Any:
        keys = self.key(states) if self.score == "additive" else states
        asked = ops.expand_dims(self.query(query), axis=1)
        answer = self.attention([asked, states, keys], mask=[None, states_mask, None])
        return ops.squeeze(answer, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "score": self.score}


@registered
class Decoder(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Forecasts step after step, and is fed what it said last.

    A cell goes on from a state; its own state, and what it attends to in the states of an
    encoder, make the output, which is fed to the next step. In training the true value takes
    the output's place for a share of examples and steps, drawn anew each time (teacher
    forcing: Williams and Zipser 1989; by a share: Bengio et al. 2015, "Scheduled sampling").

    Takes `start` (batch, k), what the first step is fed; `state`, a list of (batch, U) as the
    cell has them; and, where there are any, `memory` (batch, T, M), the states to attend to,
    `static` (batch, S), fed to every step, and `teacher` (batch, H, k), what truly precedes
    each step. Row 0 of `teacher` is not read: what the first step is fed has to be known when
    it forecasts. Gives (batch, H, k).

    Parameters
    ----------
    cell : keras.layers.Layer
        A recurrent cell of U units.
    head : keras.layers.Layer
        From state (and what is attended to) to k values.
    steps : int
        H.
    attention : str, optional
        Score of `StateAttention`; then `memory` has to be given.
    teacher_forcing : float
        The share, 0 to 1.
    residual : bool
        Whether the head gives the difference to `start` rather than the value.
    """

    def __init__(
        self,
        cell: keras.layers.Layer,
        head: keras.layers.Layer,
        steps: int,
        attention: str | None = None,
        teacher_forcing: float = 0.0,
        residual: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.cell, self.head = cell, head
        self.steps = steps
        self.score = attention
        self.attention = None if attention is None else StateAttention(attention, name="attention")
        self.teacher_forcing = teacher_forcing
        self.residual = residual
        self.draw = keras.random.SeedGenerator()

    def build(
        self,
        start_shape: tuple[int, ...],
        state_shape: Sequence[tuple[int, ...]],
        memory_shape: tuple[int, ...] | None = None,
        static_shape: tuple[int, ...] | None = None,
    ) -> None:
        batch, k = start_shape
        # a cell and a head that were read from a file are built already
        if not self.cell.built:
            self.cell.build((batch, k + (static_shape[-1] if static_shape else 0)))
        width = state_shape[0][-1]
        if self.attention is not None and memory_shape is not None:
            self.attention.build((batch, width), memory_shape)
            width += memory_shape[-1]
        if not self.head.built:
            self.head.build((batch, width))

    def call(
        self,
        start: Any,
        state: Sequence[Any],
        memory: Any = None,
        static: Any = None,
        teacher: Any = None,
        memory_mask: Any = None,
        training: bool = False,
    ) -> Any:
        taught = self._taught(teacher) if training else None
        self._forget_dropout()
        fed, outputs = start, []
        for step in range(self.steps):
            if taught is not None and step > 0:
                fed = ops.where(taught[:, step], teacher[:, step], fed)
            given = fed if static is None else ops.concatenate([fed, static], axis=-1)
            hidden, state = self.cell(given, state, training=training)
            if self.attention is not None:
                found = self.attention(hidden, memory, states_mask=memory_mask)
                hidden = ops.concatenate([hidden, found], axis=-1)
            output = self.head(hidden, training=training)
            fed = start + output if self.residual else output
            outputs.append(fed)
        self._forget_dropout()
        return ops.stack(outputs, axis=1)

    def _taught(self, teacher: Any) -> Any:
        """Where the true value is fed: bool (batch, H, 1); None if nowhere."""
        if teacher is None or self.teacher_forcing == 0:
            return None
        shape = (ops.shape(teacher)[0], self.steps, 1)
        return keras.random.uniform(shape, seed=self.draw) < self.teacher_forcing

    def _forget_dropout(self) -> None:
        """Have the cell draw its dropout anew: it keeps one mask for all steps of a batch."""
        self.cell.reset_dropout_mask()
        self.cell.reset_recurrent_dropout_mask()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "head": keras.saving.serialize_keras_object(self.head),
            "steps": self.steps,
            "attention": self.score,
            "teacher_forcing": self.teacher_forcing,
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Decoder:
        parts = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("cell", "head")
        }
        return cls(**{**config, **parts})
