import os

import numpy as np
import pytest

from db.errors import RegistryError
from models import artefacts, onnx_graph
from models.architectures import Shape, build

ROWS = 2 * onnx_graph.CHUNK + 37

SMALL = Shape(window=7, n_features=3)
STEPS = Shape(window=7, n_features=3, outputs=2, steps=3)
TOLD = Shape(window=7, n_features=3, outputs=2, steps=3, symbols=5, months=True)

# The chapter's network of 29,371 parameters; then every option of the builder at least once.
THREE_INPUTS = Shape(window=52, n_features=1, symbols=2489, months=True)
CHAPTER = {
    "units": [25, 10],
    "dropout": 0.2,
    "embedding": 10,
    "dense": [10],
    "output_activation": "sigmoid",
}
NETWORKS = {
    "three inputs": (THREE_INPUTS, CHAPTER),
    "gru": (SMALL, {"units": [5, 4], "cell": "GRU"}),
    "gru, reset before": (SMALL, {"units": [5, 4], "cell": "GRU", "reset_after": False}),
    "simple": (SMALL, {"units": [5, 4], "cell": "SimpleRNN", "recurrent_dropout": 0.1}),
    "leaky": (SMALL, {"units": [5, 4], "cell": "Leaky", "time_constants": [1, 2, 12]}),
    "leaky, learned": (
        SMALL,
        {
            "units": [5],
            "cell": "Leaky",
            "time_constants": [1.5, 12],
            "learned_time_constants": True,
        },
    ),
    "bidirectional": (SMALL, {"units": [5, 4], "bidirectional": True}),
    "bidirectional gru, added, attention": (
        SMALL,
        {
            "units": [5, 4],
            "cell": "GRU",
            "bidirectional": True,
            "skip": "add",
            "layer_norm": True,
            "attention": "additive",
            "dense": [6],
            "dense_activation": "gelu",
            "dense_dropout": 0.1,
        },
    ),
    "concatenated, dot attention": (
        SMALL,
        {
            "units": [5, 4],
            "skip": "concat",
            "attention": "dot",
            "dense": [6],
            "dense_activation": "silu",
        },
    ),
    "steps at once, residual": (
        STEPS,
        {"units": [5], "residual": "last", "residual_features": [2, 1]},
    ),
    "decoder": (
        STEPS,
        {
            "units": [5],
            "cell": "GRU",
            "decoder": True,
            "attention": "additive",
            "teacher_forcing": 0.5,
        },
    ),
    "decoder that is told, residual": (
        TOLD,
        {
            "units": [5, 4],
            "decoder": True,
            "attention": "dot",
            "layer_norm": True,
            "residual": "last",
            "dense": [4],
            "dense_activation": "relu",
        },
    ),
}


def random_network(shape, layers):
    """A network none of whose weights is what it starts from, biases included."""
    network = build("recurrent", shape, layers)
    draw = np.random.default_rng(11)
    network.set_weights(
        [
            draw.normal(0, 0.4, weights.shape).astype("f4") if weights.dtype == "f4" else weights
            for weights in network.get_weights()
        ]
    )
    return network


def random_inputs(network, rows=ROWS):
    draw = np.random.default_rng(12)
    inputs = {}
    for tensor in network.inputs:
        shape = (rows, *tensor.shape[1:])
        inputs[tensor.name] = draw.normal(0, 1, shape).astype("f4")
    if "symbol" in inputs:
        symbols = network.get_layer("embedding").input_dim
        inputs["symbol"] = draw.integers(0, symbols, (rows, 1)).astype("i4")
        inputs["month"] = np.eye(12, dtype="f4")[draw.integers(0, 12, rows)]
    return inputs


@pytest.fixture(scope="module")
def chapter():
    return random_network(THREE_INPUTS, CHAPTER)


@pytest.fixture(scope="module")
def graph(chapter, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / artefacts.GRAPH
    onnx_graph.export(chapter, path)
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_keras(name, tmp_path):
    network = random_network(*NETWORKS[name])
    inputs = random_inputs(network)
    path = tmp_path / artefacts.GRAPH
    onnx_graph.export(network, path)
    scores = onnx_graph.load(path).forward(inputs)
    expected = artefacts.keras_runner(network)(inputs)
    assert (scores.shape, scores.dtype) == (expected.shape, np.float32)
    assert expected.std(axis=0).min() > 0.01
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_the_chapters_network_is_the_whole_one(chapter):
    assert chapter.count_params() == 29_371


def test_a_score_does_not_depend_on_its_neighbours_or_the_threads(chapter, graph):
    inputs = random_inputs(chapter)
    model = onnx_graph.load(graph)
    together = model.forward(inputs)
    order = np.random.default_rng(13).permutation(ROWS)
    shuffled = model.forward({name: given[order] for name, given in inputs.items()})
    np.testing.assert_array_equal(shuffled, together[order])
    for row in (0, 1, onnx_graph.CHUNK, ROWS - 1):
        alone = model.forward({name: given[row : row + 1] for name, given in inputs.items()})
        np.testing.assert_array_equal(alone, together[row : row + 1])
    for threads in (1, 3):
        np.testing.assert_array_equal(onnx_graph.load(graph, threads).forward(inputs), together)


def test_missing_inputs_are_zeros_and_others_are_not_read(chapter, graph):
    inputs = random_inputs(chapter, rows=5)
    model = onnx_graph.load(graph)
    zero = inputs | {"month": np.zeros((5, 12), "f4")}
    without = {name: inputs[name] for name in ("window", "symbol")} | {"target": np.ones(5)}
    np.testing.assert_array_equal(model.forward(without), model.forward(zero))
    assert model.forward({"window": np.zeros((0, 52, 1), "f4")}).shape == (0, 1)


def test_equal_networks_give_equal_files(chapter, graph, tmp_path):
    onnx_graph.export(chapter, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == graph.read_bytes()


def other_activation():
    import keras

    window = keras.Input((4, 1), name="window")
    return keras.Model({"window": window}, keras.layers.LSTM(2, activation="relu")(window))


def convolution():
    import keras

    window = keras.Input((4, 1), name="window")
    return keras.Model({"window": window}, keras.layers.Conv1D(2, 4)(window))


REFUSED = {
    "Masking": lambda: build("recurrent", SMALL, {"units": [2], "mask_value": 0.0}),
    "activation mish": lambda: build(
        "recurrent", SMALL, {"units": [2], "dense": [2], "dense_activation": "mish"}
    ),
    "activation relu": other_activation,
    "Conv1D": convolution,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_translated_is_said(reason, tmp_path):
    path = tmp_path / artefacts.GRAPH
    with pytest.raises(onnx_graph.NotExportable, match=reason):
        onnx_graph.export(REFUSED[reason](), path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"no graph", None])
def test_an_unreadable_file_is_refused_in_one_line(graph, tmp_path, content):
    path = tmp_path / artefacts.GRAPH
    whole = graph.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(RegistryError, match="ONNX Runtime cannot read it") as caught:
        onnx_graph.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RegistryError, match="No such file"):
        onnx_graph.load(tmp_path / "missing.onnx")


def test_weights_in_another_file_are_refused(graph, tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    onnx.save_model(
        onnx.load(graph), "model.onnx", save_as_external_data=True, location="weights.bin"
    )
    assert os.path.exists("weights.bin")
    with pytest.raises(RegistryError, match="more than one plain graph"):
        onnx_graph.load(tmp_path / "model.onnx")
