"""ONNX graphs: trained networks as files that ONNX Runtime scores, without Keras.

Keras 3.15 exports through another converter on each backend (tf2onnx, jax2onnx, torch.onnx),
none of which anything else here needs. Here a network is translated layer by layer, the same
on every backend. Sequences stay time first from layer to layer, as ONNX' recurrent operators
have them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from db.errors import LookbackError, RegistryError

if TYPE_CHECKING:
    import keras
    import onnx
    import onnxruntime

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

# Rows of one call. Windows a second of processor time (ONNX Runtime 1.32, the 29,371 parameters
# of the chapter's three-input network): 43,900 in chunks of 64, 41,200 of 128, 39,800 of 256,
# 38,900 of 1,024, 39,600 of 8,192. A chunk that is filled up wastes less if it is small.
CHUNK = 64

# The newest operators that are used are of 20 (Gelu); ONNX Runtime 1.23 reads up to 23.
OPSET, IR_VERSION = 20, 9

# A sigmoid of this is 0 or 1 in float32.
SATURATED = 100.0
# Of a step that is not there (`models.layers`).
ABSENT = -1e9

# Keras activation -> ONNX operator of the same default constants.
ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "softmax": "Softmax",
    "elu": "Elu",
    "selu": "Selu",
    "gelu": "Gelu",
    "exponential": "Exp",
}


class NotExportable(LookbackError):  # noqa: N818  what the network is, not what went wrong
    """A network has a layer, or an option of one, that is not translated."""


def export(network: keras.Model, path: Path) -> None:
    """Write the ONNX graph of a network, its weights in it; equal networks give equal bytes.

    Parameters
    ----------
    network : keras.Model
        As `models.architectures.build` makes it, with one output.
    path : Path
        The file.

    Raises
    ------
    NotExportable
        It has a layer that is not translated: masking, and what the builder does not use.
    """
    path.write_bytes(_Translation(network).model().SerializeToString(deterministic=True))


def load(path: Path, threads: int | None = None) -> Graph:
    """Read a graph; what is in it are tensors and operators of ONNX Runtime, no code.

    Parameters
    ----------
    path : Path
        As `export` wrote it.
    threads : int, optional
        Chunks that are scored at a time; all cores that the process may use if left out.

    Raises
    ------
    RegistryError
        It cannot be read.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # a chunk is too small to be shared: each is scored by one thread
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        content = path.read_bytes()
        _require_self_contained(content)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RegistryError(
            f"{path}: ONNX Runtime cannot read it ({reason}); "
            "roll back to another version or train it again"
        ) from error
    return Graph(session, threads or _cores())


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_self_contained(content: bytes) -> None:
    """ValueError if weights lie in other files: ONNX Runtime would read those, whatever they are.

    Graphs within the graph, where such weights could hide, are none of ours.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    attributes = [one for node in model.graph.node for one in node.attribute]
    tensors = [*model.graph.initializer, *(one.t for one in attributes)]
    inner = [*model.functions, *model.graph.sparse_initializer]
    inner += [one for one in attributes if one.HasField("g") or one.graphs]
    if inner or any(onnx.external_data_helper.uses_external_data(one) for one in tensors):
        raise ValueError("it holds more than one plain graph")


@dataclass(frozen=True)
class Graph:
    """A network that can be scored.

    Attributes
    ----------
    session : of one thread.
    threads : chunks that are scored at a time.
    """

    session: onnxruntime.InferenceSession
    threads: int

    def forward(self, inputs: Arrays) -> npt.NDArray[np.float32]:
        """What the network gives: float32 (n, k), or (n, H, k).

        Every call of the session gets `CHUNK` rows, the last one filled up: a window then has
        the same output to the last bit whichever windows it is scored with.

        Parameters
        ----------
        inputs : mapping
            Name -> (n, ...), at least one of them. Inputs that are missing are zeros, and what
            the network does not take is left out.
        """
        rows = len(next(iter(inputs.values())))
        (output,) = self.session.get_outputs()
        outputs = np.empty((rows, *output.shape[1:]), dtype=np.float32)

        def score(start: int) -> None:
            stop = min(start + CHUNK, rows)
            (given,) = self.session.run(None, self._chunk(inputs, start, stop))
            outputs[start:stop] = given[: stop - start]

        starts = range(0, rows, CHUNK)
        if self.threads == 1 or len(starts) < 2:
            for start in starts:
                score(start)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(score, starts))
        return outputs

    def _chunk(self, inputs: Arrays, start: int, stop: int) -> dict[str, Array]:
        """Rows of each input, filled up with zeros."""
        chunk = {}
        for wanted in self.session.get_inputs():
            dtype = np.int32 if wanted.type == "tensor(int32)" else np.float32
            given = inputs.get(wanted.name)
            if given is not None and stop - start == CHUNK:
                chunk[wanted.name] = np.ascontiguousarray(given[start:stop], dtype=dtype)
                continue
            shape = wanted.shape if given is None else given.shape
            chunk[wanted.name] = np.zeros((CHUNK, *shape[1:]), dtype=dtype)
            if given is not None:
                chunk[wanted.name][: stop - start] = given[start:stop]
        return chunk


class _Tensor(NamedTuple):
    """A tensor of the graph: batch first, or time first, as ONNX' recurrent operators have it."""

    name: str
    time_first: bool = False


class _Weights(NamedTuple):
    """A recurrent cell as its ONNX operator takes it, for one direction.

    Attributes
    ----------
    operator : LSTM, GRU or RNN.
    W : (gates * U, F)
    R : (gates * U, U)
    B : (2 * gates * U,), of the input, then of the state.
    options : attributes of the operator.
    """

    operator: str
    W: Array
    R: Array
    B: Array
    options: Mapping[str, Any] = MappingProxyType({})


class _States(NamedTuple):
    """What a recurrent operator gives: (T, directions, N, U); final ones (directions, N, U)."""

    all: str
    last: list[str]


@dataclass
class _Translation:
    """The graph of a network while it grows, from the output back to the inputs."""

    network: keras.Model
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    given: dict[tuple[str, int], list[_Tensor]] = field(default_factory=dict)
    counted: dict[str, str] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        """The whole of it, checked."""
        import onnx
        from onnx import helper

        self.node("Identity", self.output(), name="outputs")
        shape = ["n", *self.network.output_shape[1:]]
        graph = helper.make_graph(
            self.nodes,
            self.network.name,
            self.inputs,
            [helper.make_tensor_value_info("outputs", onnx.TensorProto.FLOAT, shape)],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model

    def output(self) -> _Tensor:
        """What the network gives."""
        config = self.network.get_config()
        self.calls = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
        if len(self.network.outputs) != 1:
            raise NotExportable(f"network {self.network.name} has several outputs")
        return self.batch_first(self.value(config["output_layers"]))

    def value(self, source: Any) -> _Tensor:
        """The tensor at a place of the network: layer, number of its call, number in it."""
        while len(source) == 1:  # one output, in a list or not
            (source,) = source
        layer, call, number = source
        if (layer, call) not in self.given:
            self.given[layer, call] = self.translated(self.network.get_layer(layer), call)
        return self.given[layer, call][int(number)]

    def translated(self, layer: keras.layers.Layer, call: int) -> list[_Tensor]:
        """What a call of a layer gives."""
        kind = type(layer).__name__
        if kind == "InputLayer":
            return [self.input(layer)]
        if kind not in TRANSLATORS:
            raise NotExportable(f"layer {layer.name}: {kind} is not translated to ONNX")
        if layer.compute_dtype != "float32":
            raise NotExportable(f"layer {layer.name} computes in {layer.compute_dtype}")
        arguments = self.calls[layer.name][call]
        args = [self.arguments(value) for value in arguments["args"]]
        kwargs = {
            name: self.arguments(value)
            for name, value in arguments["kwargs"].items()
            if name != "training" and not _is_left_out(value)
        }
        unknown = kwargs.keys() - inspect.signature(TRANSLATORS[kind]).parameters.keys()
        if unknown:
            raise NotExportable(f"layer {layer.name}: {min(unknown)} is not translated to ONNX")
        return TRANSLATORS[kind](self, layer, *args, **kwargs)

    def arguments(self, value: Any) -> Any:
        """An argument of a call as the configuration has it, its tensors translated."""
        if isinstance(value, Mapping):
            if value.get("class_name") == "__keras_tensor__":
                return self.value(value["config"]["keras_history"])
            if "class_name" in value:
                raise NotExportable(f"an argument of {value['class_name']} is not translated")
            return {name: self.arguments(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.arguments(one) for one in value]
        return value

    def input(self, layer: keras.layers.Layer) -> _Tensor:
        from onnx import TensorProto, helper

        types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
        # sizes that a network leaves open have names
        sizes = layer.output.shape[1:]
        shape = ["n", *(size or f"{layer.name}_{axis}" for axis, size in enumerate(sizes, 1))]
        kind = types[layer.output.dtype]
        self.inputs.append(helper.make_tensor_value_info(layer.name, kind, shape))
        return _Tensor(layer.name)

    def node(
        self, operator: str, *inputs: _Tensor | str, name: str | None = None, **options: Any
    ) -> str:
        """One more operator with one output; the output's name."""
        return self.nodes_of(operator, inputs, [name or self.fresh(operator)], **options)[0]

    def nodes_of(
        self,
        operator: str,
        inputs: Sequence[_Tensor | str],
        outputs: list[str],
        **options: Any,
    ) -> list[str]:
        from onnx import helper

        names = [one if isinstance(one, str) else one.name for one in inputs]
        self.nodes.append(helper.make_node(operator, names, outputs, **options))
        return outputs

    def fresh(self, operator: str) -> str:
        return f"{operator.lower()}_{len(self.nodes)}"

    def constant(self, values: Any, dtype: str = "float32") -> str:
        """A tensor of the file; one that is there already is not stored again."""
        from onnx import numpy_helper

        array = np.asarray(values, dtype=dtype, order="C")
        key = f"{dtype}{array.shape}{array.tobytes().hex()}"
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return str(self.constants[key].name)

    def axes(self, *axes: int) -> str:
        return self.constant(axes, "int64")

    def batch_first(self, tensor: _Tensor) -> _Tensor:
        if not tensor.time_first:
            return tensor
        return _Tensor(self.node("Transpose", tensor, perm=[1, 0, 2]))

    def time_first(self, tensor: _Tensor) -> _Tensor:
        if tensor.time_first:
            return tensor
        return _Tensor(self.node("Transpose", tensor, perm=[1, 0, 2]), time_first=True)

    def alike(self, tensors: Sequence[_Tensor]) -> list[_Tensor]:
        """All of them one way round."""
        if all(tensor.time_first for tensor in tensors):
            return list(tensors)
        return [self.batch_first(tensor) for tensor in tensors]

    def activation(self, tensor: str, layer: keras.layers.Layer) -> str:
        name = _activation(layer.activation)
        if name == "linear":
            return tensor
        if name == "silu":
            return self.node("Mul", tensor, self.node("Sigmoid", tensor))
        if name not in ACTIVATIONS:
            raise NotExportable(f"layer {layer.name}: activation {name} is not translated to ONNX")
        return self.node(ACTIVATIONS[name], tensor)

    def affine(self, tensor: _Tensor | str, layer: keras.layers.Layer) -> str:
        """A dense layer on the last axis."""
        product = self.node("MatMul", tensor, self.constant(_array(layer.kernel)))
        if layer.use_bias:
            product = self.node("Add", product, self.constant(_array(layer.bias)))
        return self.activation(product, layer)

    def lengths(self, mask: _Tensor) -> str:
        """Steps that are there, at the beginning of each row of a mask: int32 (N,), 1 or more.

        Rows that fill up a chunk have none, which no recurrent operator takes.
        """
        if mask.name not in self.counted:
            ones = self.node("Cast", mask, to=_int32())
            there = self.node("ReduceSum", ones, self.axes(1), keepdims=0)
            self.counted[mask.name] = self.node("Max", there, self.constant(1, "int32"))
        return self.counted[mask.name]

    def recurrent(
        self,
        directions: Sequence[_Weights],
        sequence: str,
        start: Sequence[str] = (),
        mask: _Tensor | None = None,
    ) -> _States:
        """A recurrent operator over a sequence (T, N, F).

        Parameters
        ----------
        directions : forward alone, or forward and backward.
        start : states (1, N, U) that it goes on from; zeros if left out.
        mask : (N, T), the steps that are there; all if left out.
        """
        lengths = self.lengths(mask) if mask is not None else ""
        operator, options = directions[0].operator, directions[0].options
        weights = [
            self.constant(np.stack([getattr(one, part) for one in directions])) for part in "WRB"
        ]
        states = 2 if operator == "LSTM" else 1
        names = [f"{self.fresh(operator)}_{part}" for part in ("all", "last", "cell")[: states + 1]]
        self.nodes_of(
            operator,
            # an empty name is of an input that is left out
            [sequence, *weights, *([lengths, *start] if start or lengths else [])],
            names,
            hidden_size=directions[0].R.shape[1],
            direction="bidirectional" if len(directions) == 2 else "forward",
            **options,
        )
        return _States(names[0], names[1:])


def _is_left_out(value: Any) -> bool:
    """Whether an argument is None, or holds nothing else: the masks of several inputs."""
    if isinstance(value, Mapping):
        return all(_is_left_out(one) for one in value.values())
    if isinstance(value, list | tuple):
        return all(_is_left_out(one) for one in value)
    return value is None


def _int32() -> int:
    from onnx import TensorProto

    return int(TensorProto.INT32)


def _array(weights: Any) -> Array:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(weights))


def _activation(function: Any) -> str:
    import keras

    return str(keras.activations.serialize(function))


def _weights(cell: keras.layers.Layer) -> _Weights:
    """A cell's weights in the order in which ONNX has the gates.

    Keras has the gates of an LSTM as i, f, c, o and ONNX as i, o, f, c; of a GRU both have
    them as z, r, h.
    """
    kind = type(cell).__name__
    if kind not in CELLS:
        raise NotExportable(f"layer {cell.name}: cell {kind} is not translated to ONNX")
    wanted = {"activation": "tanh"}
    if kind in {"LSTMCell", "GRUCell"}:
        wanted["recurrent_activation"] = "sigmoid"
    for option, name in wanted.items():
        found = _activation(getattr(cell, option))
        if found != name:
            raise NotExportable(f"layer {cell.name}: {option} {found} is not translated to ONNX")
    return CELLS[kind](cell)


def _simple(cell: keras.layers.Layer) -> _Weights:
    W, R = _array(cell.kernel).T, _array(cell.recurrent_kernel).T
    b = _array(cell.bias) if cell.use_bias else np.zeros(len(W))
    return _Weights("RNN", W, R, np.concatenate([b, np.zeros(len(W))]))


def _lstm(cell: keras.layers.Layer) -> _Weights:
    def gates(values: Array) -> Array:
        i, f, c, o = np.split(values, 4)
        return np.concatenate([i, o, f, c])

    W, R = gates(_array(cell.kernel).T), gates(_array(cell.recurrent_kernel).T)
    b = gates(_array(cell.bias)) if cell.use_bias else np.zeros(len(W))
    return _Weights("LSTM", W, R, np.concatenate([b, np.zeros(len(W))]))


def _gru(cell: keras.layers.Layer) -> _Weights:
    W, R = _array(cell.kernel).T, _array(cell.recurrent_kernel).T
    # with reset_after a row for the input and one for the state
    b = _array(cell.bias).ravel() if cell.use_bias else np.zeros(0)
    B = np.concatenate([b, np.zeros(2 * len(W) - len(b))])
    return _Weights("GRU", W, R, B, {"linear_before_reset": int(cell.reset_after)})


def _leaky(cell: keras.layers.Layer) -> _Weights:
    """A leaky unit is that of a GRU whose gates are constant: z = 1 - 1 / tau, r = 1.

    z is the sigmoid of log(tau - 1).
    """
    simple = _simple(cell)
    units = len(simple.W)
    with np.errstate(divide="ignore"):
        z = np.maximum(np.log(_array(cell.tau()) - 1.0), -SATURATED)
    B = np.concatenate([z, np.full(units, SATURATED), simple.B[:units], np.zeros(3 * units)])
    W, R = (
        np.concatenate([np.zeros((2 * units, values.shape[1])), values])
        for values in (simple.W, simple.R)
    )
    return _Weights("GRU", W, R, B, {"linear_before_reset": 1})


CELLS: Mapping[str, Callable[[Any], _Weights]] = {
    "SimpleRNNCell": _simple,
    "LSTMCell": _lstm,
    "GRUCell": _gru,
    "LeakyRNNCell": _leaky,
}


def _rnn(
    graph: _Translation, layer: Any, sequence: _Tensor, mask: _Tensor | None = None
) -> list[_Tensor]:
    _require_plain(layer)
    read = graph.time_first(sequence).name
    states = graph.recurrent([_weights(layer.cell)], read, mask=mask)
    last = [_Tensor(graph.node("Squeeze", state, graph.axes(0))) for state in states.last]
    first = last[0]
    if layer.return_sequences:
        every = graph.node("Squeeze", states.all, graph.axes(1))
        first = _Tensor(every, time_first=True)
    return [first, *last] if layer.return_state else [first]


def _bidirectional(
    graph: _Translation, layer: Any, sequence: _Tensor, mask: _Tensor | None = None
) -> list[_Tensor]:
    both = layer.forward_layer, layer.backward_layer
    _require_plain(both[0])
    if layer.merge_mode != "concat":
        raise NotExportable(f"layer {layer.name}: merge_mode {layer.merge_mode} is not translated")
    units = both[0].units if hasattr(both[0], "units") else both[0].cell.units
    read = graph.time_first(sequence).name
    states = graph.recurrent([_weights(one.cell) for one in both], read, mask=mask)
    forward, backward = (
        [
            _Tensor(graph.node("Gather", state, graph.constant(direction, "int64"), axis=0))
            for state in states.last
        ]
        for direction in (0, 1)
    )
    if layer.return_sequences:
        by_row = graph.node("Transpose", states.all, perm=[0, 2, 1, 3])
        joined = graph.node("Reshape", by_row, graph.axes(0, 0, 2 * units))
        first = _Tensor(joined, time_first=True)
    else:
        first = _Tensor(graph.node("Concat", forward[0], backward[0], axis=-1))
    return [first, *forward, *backward] if layer.return_state else [first]


def _require_plain(layer: Any) -> None:
    for option in ("go_backwards", "stateful"):
        if getattr(layer, option):
            raise NotExportable(f"layer {layer.name}: {option} is not translated to ONNX")


def _dense(graph: _Translation, layer: Any, tensor: _Tensor) -> list[_Tensor]:
    return [tensor._replace(name=graph.affine(tensor, layer))]


def _dropout(graph: _Translation, layer: Any, tensor: _Tensor) -> list[_Tensor]:
    return [tensor]


def _embedding(graph: _Translation, layer: Any, rows: _Tensor) -> list[_Tensor]:
    if layer.mask_zero:
        raise NotExportable(f"layer {layer.name}: mask_zero is not translated to ONNX")
    return [_Tensor(graph.node("Gather", graph.constant(_array(layer.embeddings)), rows, axis=0))]


def _flatten(graph: _Translation, layer: Any, tensor: _Tensor) -> list[_Tensor]:
    return [_Tensor(graph.node("Flatten", graph.batch_first(tensor), axis=1))]


def _reshape(graph: _Translation, layer: Any, tensor: _Tensor) -> list[_Tensor]:
    shape = graph.axes(0, *layer.target_shape)
    return [_Tensor(graph.node("Reshape", graph.batch_first(tensor), shape))]


def _repeat(graph: _Translation, layer: Any, tensor: _Tensor) -> list[_Tensor]:
    row = graph.node("Unsqueeze", tensor, graph.axes(1))
    return [_Tensor(graph.node("Expand", row, graph.axes(1, layer.n, 1)))]


def _concatenate(graph: _Translation, layer: Any, tensors: list[_Tensor]) -> list[_Tensor]:
    alike = graph.alike(tensors)
    if layer.axis != -1:
        raise NotExportable(f"layer {layer.name}: axis {layer.axis} is not translated to ONNX")
    return [alike[0]._replace(name=graph.node("Concat", *alike, axis=-1))]


def _add(graph: _Translation, layer: Any, tensors: list[_Tensor]) -> list[_Tensor]:
    total, *others = graph.alike(tensors)
    for other in others:
        total = total._replace(name=graph.node("Add", total, other))
    return [total]


def _average(graph: _Translation, layer: Any, tensors: list[_Tensor]) -> list[_Tensor]:
    alike = graph.alike(tensors)
    return [alike[0]._replace(name=graph.node("Mean", *alike))]


def _network(graph: _Translation, layer: Any, given: Any) -> list[_Tensor]:
    """A network within the network, one input of which is given by name or by itself."""
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(layer.input_names, given)
    inner = _Translation(layer, graph.nodes, graph.inputs, graph.constants, counted=graph.counted)
    inner.given = {(name, 0): [tensor] for name, tensor in by_name.items()}
    return [inner.output()]


def _normalisation(graph: _Translation, layer: Any, tensor: _Tensor) -> list[_Tensor]:
    if list(np.atleast_1d(layer.axis)) != [-1]:
        raise NotExportable(f"layer {layer.name}: axis {layer.axis} is not translated to ONNX")
    width = layer.gamma.shape[0]
    scale = _array(layer.gamma) if layer.scale else np.ones(width)
    shift = _array(layer.beta) if layer.center else np.zeros(width)
    inputs = (tensor, graph.constant(scale), graph.constant(shift))
    name = graph.node("LayerNormalization", *inputs, axis=-1, epsilon=layer.epsilon)
    return [tensor._replace(name=name)]


def _last_step(graph: _Translation, layer: Any, sequence: _Tensor) -> list[_Tensor]:
    axis = 0 if sequence.time_first else 1
    last = graph.node("Gather", sequence, graph.constant(-1, "int64"), axis=axis)
    if layer.features is not None:
        last = graph.node("Gather", last, graph.constant(layer.features, "int64"), axis=1)
    return [_Tensor(last)]


def _known_tokens(graph: _Translation, layer: Any, tokens: _Tensor) -> list[_Tensor]:
    known = graph.node("Less", tokens, graph.constant(layer.rows, "int32"))
    unknown = graph.constant(layer.unknown, "int32")
    return [_Tensor(graph.node("Where", known, tokens, unknown))]


def _token_mask(graph: _Translation, layer: Any, tokens: _Tensor) -> list[_Tensor]:
    steps = tokens.name
    if len(layer.input.shape) == 3:
        steps = graph.node("ReduceMax", tokens, graph.axes(2), keepdims=0)
    return [_Tensor(graph.node("Greater", steps, graph.constant(0, "int32")))]


def _pooling(
    graph: _Translation, layer: Any, sequence: _Tensor, mask: _Tensor | None = None
) -> list[_Tensor]:
    axis = 0 if sequence.time_first else 1
    there = None
    if mask is not None:
        turned = graph.node("Transpose", mask, perm=[1, 0]) if sequence.time_first else mask
        there = graph.node("Unsqueeze", turned, graph.axes(2))
    if layer.kind == "max":
        if there is not None:
            absent = graph.constant(ABSENT)
            sequence = sequence._replace(name=graph.node("Where", there, sequence, absent))
        return [_Tensor(graph.node("ReduceMax", sequence, graph.axes(axis), keepdims=0))]
    if there is None or mask is None:
        return [_Tensor(graph.node("ReduceMean", sequence, graph.axes(axis), keepdims=0))]
    kept = graph.node("Where", there, sequence, graph.constant(0.0))
    total = graph.node("ReduceSum", kept, graph.axes(axis), keepdims=0)
    count = graph.node("Unsqueeze", graph.lengths(mask), graph.axes(1))
    return [_Tensor(graph.node("Div", total, graph.node("CastLike", count, total)))]


def _attention(
    graph: _Translation,
    layer: Any,
    query: _Tensor,
    states: _Tensor,
    states_mask: _Tensor | None = None,
) -> list[_Tensor]:
    memory = graph.batch_first(states)
    keys = _keys(graph, layer, memory)
    return [_Tensor(_attended(graph, layer, query.name, memory, keys, states_mask))]


def _keys(graph: _Translation, layer: Any, memory: _Tensor) -> str:
    """What a query is compared with: (N, T, U)."""
    return graph.affine(memory, layer.key) if layer.score == "additive" else memory.name


def _attended(
    graph: _Translation,
    layer: Any,
    query: str,
    memory: _Tensor,
    keys: str,
    mask: _Tensor | None = None,
) -> str:
    """The mean of all states by their scores (`models.layers.StateAttention`): (N, U)."""
    asked = graph.affine(query, layer.query)
    if layer.score == "additive":
        row = graph.node("Unsqueeze", asked, graph.axes(1))
        met = graph.node("Tanh", graph.node("Add", row, keys))
        scale = _array(layer.attention.scale)[:, None]
        scores = graph.node("MatMul", met, graph.constant(scale))
    else:
        column = graph.node("Unsqueeze", asked, graph.axes(2))
        scores = graph.node("MatMul", keys, column)
    if mask is not None:
        there = graph.node("Unsqueeze", mask, graph.axes(2))
        scores = graph.node("Where", there, scores, graph.constant(ABSENT))
    shares = graph.node("Transpose", graph.node("Softmax", scores, axis=1), perm=[0, 2, 1])
    mean = graph.node("MatMul", shares, memory)
    return graph.node("Squeeze", mean, graph.axes(1))


def _decoder(
    graph: _Translation,
    layer: Any,
    start: _Tensor,
    state: list[_Tensor],
    memory: _Tensor | None = None,
    static: _Tensor | None = None,
    teacher: _Tensor | None = None,
) -> list[_Tensor]:
    """All steps one after the other (`models.layers.Decoder`); a teacher is for training."""
    weights = _weights(layer.cell)
    remembered = None
    if layer.attention is not None and memory is not None:
        of_rows = graph.batch_first(memory)
        remembered = of_rows, _keys(graph, layer.attention, of_rows)
    states = [graph.node("Unsqueeze", one, graph.axes(0)) for one in state]
    fed, outputs = start.name, []
    for _ in range(layer.steps):
        given = fed if static is None else graph.node("Concat", fed, static, axis=-1)
        states = graph.recurrent(
            [weights], graph.node("Unsqueeze", given, graph.axes(0)), states
        ).last
        hidden = graph.node("Squeeze", states[0], graph.axes(0))
        if remembered is not None:
            found = _attended(graph, layer.attention, hidden, *remembered)
            hidden = graph.node("Concat", hidden, found, axis=-1)
        output = _Tensor(hidden)
        for part in layer.head.layers:
            (output,) = TRANSLATORS[type(part).__name__](graph, part, output)
        fed = graph.node("Add", start, output) if layer.residual else output.name
        outputs.append(graph.node("Unsqueeze", fed, graph.axes(1)))
    return [_Tensor(graph.node("Concat", *outputs, axis=1))]


TRANSLATORS: Mapping[str, Callable[..., list[_Tensor]]] = {
    "Add": _add,
    "Average": _average,
    "Bidirectional": _bidirectional,
    "Concatenate": _concatenate,
    "Decoder": _decoder,
    "Dense": _dense,
    "Dropout": _dropout,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "Functional": _network,
    "GRU": _rnn,
    "KnownTokens": _known_tokens,
    "LSTM": _rnn,
    "LastStep": _last_step,
    "LayerNormalization": _normalisation,
    "Pooling": _pooling,
    "RNN": _rnn,
    "RepeatVector": _repeat,
    "Reshape": _reshape,
    "SimpleRNN": _rnn,
    "SpatialDropout1D": _dropout,
    "StateAttention": _attention,
    "TokenMask": _token_mask,
}
