"""Architectures: recurrent networks in Keras 3, the same on every backend.

One builder; what makes a network another one is an option of `Layers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import pydantic
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from db.errors import UsageError
from models import backend

if TYPE_CHECKING:
    import keras

MONTHS = 12

Share = Annotated[float, Field(ge=0, lt=1)]
Tensor = Any


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a network takes and gives.

    Attributes
    ----------
    window : steps T of a window.
    n_features : values F of a step.
    outputs : values k that are forecast of each step ahead.
    steps : steps ahead H.
    symbols : rows of the embedding, row 0 of unknown symbols included; 0: it is not told.
    months : whether it is told the month.
    """

    window: int
    n_features: int
    outputs: int = 1
    steps: int = 1
    symbols: int = 0
    months: bool = False


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid"})
class Layers:
    """The choices of a recurrent network.

    Attributes
    ----------
    units : width of each recurrent layer, first to last.
    cell : `SimpleRNN`, `LSTM`, `GRU`, or `Leaky`: simple units of several time scales
        (`models.layers.LeakyRNNCell`).
    reset_after : of GRU: whether the reset gate comes after the product with the state, which
        the fused GPU kernel needs; False is the cell of Cho et al. (2014).
    time_constants, learned_time_constants : of Leaky: in steps, dealt to the units in turn;
        whether training changes them.
    dropout, recurrent_dropout : shares of a recurrent layer's inputs and of its states that
        are dropped in training, the same at all steps of a window.
    bidirectional : whether each layer also reads the window from its end.
    skip : how a layer passes on what it was given beside what it makes of it: `add` (He et
        al. 2016; of another width, through a linear map) or `concat` (Graves 2013).
    layer_norm : whether what a recurrent layer gives is normalised over its units.
    attention : whether all states count, not the last alone, by `dot` or `additive` score
        (`models.layers.StateAttention`): asked once by the last state, or at each step of the
        decoder by its own.
    mask_value : a step all of whose features have this value is not there.
    patch : steps that are read as one, side by side: windows of 52 weeks in patches of 4 are
        13 steps, in a quarter of the time (Nie et al., "A Time Series is Worth 64 Words",
        ICLR 2023).
    embedding : width of a symbol's row.
    dense, dense_activation, dense_dropout : width of each dense layer before the output,
        linear if no activation is named, and the share dropped before each.
    output_activation : linear if left out.
    start_at_zero : whether the output layer starts at zero: a network that learns changes or
        growth begins by forecasting no change (with a sigmoid: even odds).
    residual : `last`: the network forecasts the difference to the last value, and begins as
        persistence: the output layer starts at zero, whatever `start_at_zero` says.
    residual_features : positions of the features whose last values these are, one for each
        output; the first ones if left out. They and the target must be on one scale.
    decoder : whether several steps are forecast one after the other, each from what was
        forecast before (`models.layers.Decoder`), rather than all at once.
    teacher_forcing : of the decoder: share of steps that are fed the true value in training.
    """

    units: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    cell: Literal["SimpleRNN", "LSTM", "GRU", "Leaky"] = "LSTM"
    reset_after: bool = True
    time_constants: tuple[Annotated[float, Field(ge=1, allow_inf_nan=False)], ...] = ()
    learned_time_constants: bool = False
    dropout: Share = 0.0
    recurrent_dropout: Share = 0.0
    bidirectional: bool = False
    skip: Literal["add", "concat"] | None = None
    layer_norm: bool = False
    attention: Literal["dot", "additive"] | None = None
    patch: PositiveInt = 1
    mask_value: FiniteFloat | None = None
    embedding: PositiveInt = 10
    dense: tuple[PositiveInt, ...] = ()
    dense_activation: str | None = None
    dense_dropout: Share = 0.0
    output_activation: str | None = None
    start_at_zero: bool = False
    residual: Literal["last"] | None = None
    residual_features: tuple[NonNegativeInt, ...] = ()
    decoder: bool = False
    teacher_forcing: Annotated[float, Field(ge=0, le=1)] = 0.0

    def contradiction(self, shape: Shape) -> str | None:
        """What cannot be together, in words; None if all can."""
        slow = self.time_constants
        followed = self.residual_features or tuple(range(shape.outputs))
        wrong = {
            "reset_after is an option of GRU": not self.reset_after and self.cell != "GRU",
            "cell Leaky needs time_constants": self.cell == "Leaky" and not slow,
            "time constants are options of cell Leaky": self.cell != "Leaky"
            and bool(slow or self.learned_time_constants),
            "time_constants that are learned start above 1": self.learned_time_constants
            and 1 in slow,
            "skip needs two recurrent layers": self.skip is not None and len(self.units) == 1,
            "dense_activation and dense_dropout need dense": not self.dense
            and bool(self.dense_activation or self.dense_dropout),
            "residual forecasts a difference and takes no output_activation": self.residual
            is not None
            and self.output_activation not in {None, "linear"},
            "residual_features need residual": self.residual is None
            and bool(self.residual_features),
            f"residual_features names one of features 0..{shape.n_features - 1} for each of "
            f"{shape.outputs} outputs": self.residual is not None
            and (len(followed) != shape.outputs or max(followed) >= shape.n_features),
            f"patch must divide the {shape.window} steps of a window": bool(
                shape.window % self.patch
            ),
            "mask_value is of steps, not of patches": self.mask_value is not None
            and self.patch > 1,
            "decoder needs several steps ahead": self.decoder and shape.steps == 1,
            "decoder without attention is given the last layer's state alone, before layer_norm "
            "and skip": self.decoder
            and self.attention is None
            and (
                (self.layer_norm and len(self.units) == 1)
                or (self.skip is not None and len(self.units) == 2)
            ),
            "teacher_forcing needs decoder": self.teacher_forcing > 0 and not self.decoder,
        }
        return next((reason for reason, is_wrong in wrong.items() if is_wrong), None)


Options = TypeVar("Options", bound=Layers)


class Encoded(NamedTuple):
    """What recurrent layers make of a window.

    Attributes
    ----------
    sequence : (batch, T, U), or None where it was not asked for.
    summary : (batch, U), of the last step; or None.
    state : of the last layer, as its cell has it: a list of (batch, U); empty if not asked for.
    """

    sequence: Tensor
    summary: Tensor
    state: list[Tensor]


def build(architecture: str, shape: Shape, layers: Mapping[str, Any]) -> keras.Model:
    """The untrained network of a recipe.

    Parameters
    ----------
    architecture : str
        A name in `BUILDERS`.
    shape : Shape
    layers : mapping
        Options of the architecture (`Layers`), as they come from JSON.

    Returns
    -------
    keras.Model
        Takes a dictionary: `window` float32 (batch, T, F); `symbol` int32 (batch, 1) if there
        are symbols; `month` float32 (batch, 12), one of them 1, if it is told them; `teacher`
        float32 (batch, H, k) if it is taught: what precedes each step, of which only training
        reads rows 1 and on. Gives float32 (batch, k), or (batch, H, k) if H > 1.

    Raises
    ------
    UsageError
        No such architecture; an option that it does not have, or that contradicts another.
    """
    if architecture not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise UsageError(f"no architecture {architecture!r}; there are: {known}")
    try:
        return BUILDERS[architecture](shape, options_of(Layers, layers, shape))
    except ValueError as error:
        raise UsageError(f"architecture {architecture}: {error}") from error


def options_of(kind: type[Options], layers: Mapping[str, Any], shape: Shape) -> Options:
    """The options of a builder as declared, or ValueError in one line.

    Parameters
    ----------
    kind : `Layers`, or what a builder of its own has beside these.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(layers.keys() - set(known))
    if unknown:
        raise ValueError(f"no layer option {unknown[0]!r}; there are: {', '.join(known)}")
    try:
        options = kind(**layers)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"layer option {place}: {first['msg']}") from None
    reason = options.contradiction(shape)
    if reason is not None:
        raise ValueError(f"layer option {reason}")
    _require_activations(options)
    return options


def _require_activations(options: Layers) -> None:
    import keras

    for name in (options.dense_activation, options.output_activation):
        try:
            keras.activations.get(name)
        except ValueError:
            raise ValueError(f"Keras has no activation {name!r}") from None


def recurrent(shape: Shape, options: Layers) -> keras.Model:
    """Recurrent layers over the window, dense layers, and the output."""
    import keras

    inputs = _inputs(shape, options)
    window = inputs["window"]
    if options.mask_value is not None:
        window = keras.layers.Masking(options.mask_value, name="masking")(window)
    encoded = encode(_patched(window, shape, options), options)
    static = _static(inputs, shape, options)
    if options.decoder:
        outputs = _decode(window, encoded, static, inputs.get("teacher"), shape, options)
    else:
        outputs = _forecast_at_once(window, encoded, static, shape, options)
    return keras.Model(inputs, outputs, name="recurrent")


BUILDERS = {"recurrent": recurrent}


def _inputs(shape: Shape, options: Layers) -> dict[str, Tensor]:
    import keras

    inputs = {"window": keras.Input((shape.window, shape.n_features), name="window")}
    if shape.symbols:
        inputs["symbol"] = keras.Input((1,), dtype="int32", name="symbol")
    if shape.months:
        inputs["month"] = keras.Input((MONTHS,), name="month")
    if options.teacher_forcing:
        inputs["teacher"] = keras.Input((shape.steps, shape.outputs), name="teacher")
    return inputs


def _patched(window: Tensor, shape: Shape, options: Layers) -> Tensor:
    """Steps side by side: (batch, T / p, p * F)."""
    import keras

    if options.patch == 1:
        return window
    patches = (shape.window // options.patch, options.patch * shape.n_features)
    return keras.layers.Reshape(patches, name="patches")(window)


def _static(inputs: Mapping[str, Tensor], shape: Shape, options: Layers) -> list[Tensor]:
    """What the network is told beside the window: (batch, S) each."""
    import keras

    static = []
    if shape.symbols:
        rows = keras.layers.Embedding(shape.symbols, options.embedding, name="embedding")
        static.append(keras.layers.Flatten(name="symbol_row")(rows(inputs["symbol"])))
    if shape.months:
        static.append(inputs["month"])
    return static


def encode(
    window: Tensor, options: Layers, *, mask: Tensor = None, every_step: bool = False
) -> Encoded:
    """Run the recurrent layers, each over what the one before it gave.

    Parameters
    ----------
    window : (batch, T, F)
    mask : bool (batch, T), the steps that are there; all, or those that the window's own mask
        says, if left out.
    every_step : whether all states of the last layer are wanted, where nothing attends to them.
    """
    below = Encoded(window, None, [])
    for depth, width in enumerate(options.units, start=1):
        is_top = depth == len(options.units)
        wanted = _Wanted(
            sequence=not is_top or options.attention is not None or every_step,
            state=options.skip is not None
            or (is_top and (options.decoder or options.attention is not None or every_step)),
        )
        here = _run(below.sequence, mask, width, depth, wanted, options)
        if options.skip is not None and depth > 1:
            here = _skipped(below, here, depth, options.skip)
        below = _normalised(here, depth) if options.layer_norm else here
    return below


class _Wanted(NamedTuple):
    """What a recurrent layer has to give: all steps, or the last one alone; its final state."""

    sequence: bool
    state: bool


def _run(
    sequence: Tensor, mask: Tensor, width: int, depth: int, wanted: _Wanted, options: Layers
) -> Encoded:
    import keras

    layer = _recurrent_layer(width, depth, wanted, options)
    given = layer(sequence) if mask is None else layer(sequence, mask=mask)
    if not wanted.state:
        return Encoded(given, None, []) if wanted.sequence else Encoded(None, given, [])
    first, *state = given
    if options.bidirectional:
        pairs = zip(state[: len(state) // 2], state[len(state) // 2 :], strict=True)
        state = [keras.layers.Concatenate()(list(pair)) for pair in pairs]
    return Encoded(first if wanted.sequence else None, state[0], state)


def _recurrent_layer(
    width: int, depth: int, wanted: _Wanted, options: Layers
) -> keras.layers.Layer:
    import keras

    name = f"recurrent_{depth}"
    gives = {"return_sequences": wanted.sequence, "return_state": wanted.state, "name": name}
    if options.cell == "Leaky":
        layer = keras.layers.RNN(_cell(width, options), **gives)
    else:
        if options.cell in {"LSTM", "GRU"}:
            gives |= backend.recurrent_options()
        kind = getattr(keras.layers, options.cell)
        layer = kind(width, **_cell_options(options), **gives)
    return keras.layers.Bidirectional(layer, name=name) if options.bidirectional else layer


def _cell(width: int, options: Layers) -> keras.layers.Layer:
    import keras

    from models.layers import LeakyRNNCell

    if options.cell == "Leaky":
        return LeakyRNNCell(width, **_cell_options(options))
    return getattr(keras.layers, f"{options.cell}Cell")(width, **_cell_options(options))


def _cell_options(options: Layers) -> dict[str, Any]:
    shares = {"dropout": options.dropout, "recurrent_dropout": options.recurrent_dropout}
    if options.cell == "GRU":
        return shares | {"reset_after": options.reset_after}
    if options.cell == "Leaky":
        slow = {"time_constants": options.time_constants, "learned": options.learned_time_constants}
        return shares | slow
    return shares


def _skipped(below: Encoded, here: Encoded, depth: int, skip: str) -> Encoded:
    """Put beside what a layer gives what it was given, step by step and for the last step."""
    import keras

    if skip == "concat":
        join, passed = keras.layers.Concatenate, below
    else:
        join, passed = keras.layers.Add, below
        if below.summary.shape[-1] != here.summary.shape[-1]:
            width = here.summary.shape[-1]
            linear = keras.layers.Dense(width, use_bias=False, name=f"skip_{depth}")
            passed = _of_each(linear, below)
    sequence = None
    if here.sequence is not None:
        sequence = join()([passed.sequence, here.sequence])
    return Encoded(sequence, join()([passed.summary, here.summary]), here.state)


def _normalised(here: Encoded, depth: int) -> Encoded:
    import keras

    return _of_each(keras.layers.LayerNormalization(name=f"normalisation_{depth}"), here)


def _of_each(layer: keras.layers.Layer, encoded: Encoded) -> Encoded:
    """One layer applied to all steps and to the last one; the state stays."""
    parts = (encoded.sequence, encoded.summary)
    sequence, summary = (None if part is None else layer(part) for part in parts)
    return Encoded(sequence, summary, encoded.state)


def _forecast_at_once(
    window: Tensor, encoded: Encoded, static: list[Tensor], shape: Shape, options: Layers
) -> Tensor:
    """All steps from the last state: (batch, k), or (batch, H, k)."""
    import keras

    from models.layers import LastStep, StateAttention

    known = [encoded.summary, *static]
    if options.attention is not None:
        attention = StateAttention(options.attention, name="attention")
        known.insert(1, attention(encoded.summary, encoded.sequence))
    outputs = keras.layers.Concatenate(name="known")(known) if len(known) > 1 else known[0]
    for layer in head(shape.steps * shape.outputs, options):
        outputs = layer(outputs)
    if shape.steps > 1:
        outputs = keras.layers.Reshape((shape.steps, shape.outputs), name="steps")(outputs)
    if options.residual is None:
        return outputs
    last = LastStep(_residual_features(shape, options), name="last")(window)
    if shape.steps > 1:
        last = keras.layers.RepeatVector(shape.steps, name="last_of_each_step")(last)
    return keras.layers.Add(name="forecast")([last, outputs])


def _decode(
    window: Tensor,
    encoded: Encoded,
    static: list[Tensor],
    teacher: Tensor | None,
    shape: Shape,
    options: Layers,
) -> Tensor:
    """Step after step, from the encoder's last state: (batch, H, k)."""
    import keras

    from models.layers import Decoder, LastStep

    if options.residual is not None:
        start = LastStep(_residual_features(shape, options), name="last")(window)
    else:
        start = keras.layers.Dense(shape.outputs, name="start")(LastStep(name="last")(window))
    decoder = Decoder(
        _cell(encoded.state[0].shape[-1], options),
        keras.Sequential(head(shape.outputs, options), name="head"),
        shape.steps,
        attention=options.attention,
        teacher_forcing=options.teacher_forcing,
        residual=options.residual is not None,
        name="decoder",
    )
    beside = {
        "memory": encoded.sequence,
        "static": keras.layers.Concatenate(name="known")(static) if len(static) > 1 else None,
        "teacher": teacher,
    }
    if len(static) == 1:
        beside["static"] = static[0]
    there = {name: tensor for name, tensor in beside.items() if tensor is not None}
    return decoder(start, encoded.state, **there)


def head(width: int, options: Layers) -> list[keras.layers.Layer]:
    """The dense layers and the output."""
    import keras

    layers: list[keras.layers.Layer] = []
    for number, hidden in enumerate(options.dense, start=1):
        if options.dense_dropout:
            layers.append(keras.layers.Dropout(options.dense_dropout, name=f"dropout_{number}"))
        dense = keras.layers.Dense(
            hidden, activation=options.dense_activation, name=f"dense_{number}"
        )
        layers.append(dense)
    # persistence is where a network that forecasts the difference to it begins
    is_zero = options.start_at_zero or options.residual is not None
    start = "zeros" if is_zero else "glorot_uniform"
    output = keras.layers.Dense(
        width, activation=options.output_activation, kernel_initializer=start, name="output"
    )
    return [*layers, output]


def _residual_features(shape: Shape, options: Layers) -> tuple[int, ...]:
    return options.residual_features or tuple(range(shape.outputs))
