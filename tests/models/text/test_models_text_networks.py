import numpy as np
import pytest

from db.errors import UsageError
from models import artefacts, onnx_graph
from models.text.catalog import RECIPES, SAMPLE, recipe
from models.text.networks import TextShape, build, mean_of

WORDS = 60
PADDED = TextShape(WORDS, 3)

NETWORKS = {
    "bidirectional, all pools, attention": (
        TextShape(WORDS, 3, vectors=5),
        {
            "cell": "GRU",
            "units": [5, 4],
            "bidirectional": True,
            "embedding": 6,
            "spatial_dropout": 0.1,
            "pooling": ["last", "mean", "max"],
            "attention": "additive",
            "pooled_dropout": 0.1,
            "dense": [5],
            "dense_activation": "relu",
        },
    ),
    "patches of bigrams": (
        TextShape(WORDS, 3, bigrams=20),
        {"units": [5], "embedding": 6, "patch": 4, "pooling": ["mean"], "attention": "dot"},
    ),
    "last states": (PADDED, {"units": [5], "bidirectional": True, "embedding": 6}),
    "skip, normalised": (
        PADDED,
        {
            "cell": "GRU",
            "units": [4, 4],
            "embedding": 6,
            "skip": "concat",
            "layer_norm": True,
            "pooling": ["max"],
        },
    ),
    "added to vectors, of some words, patches made narrower": (
        TextShape(WORDS, 3, vectors=6, learned=30),
        {
            "cell": "GRU",
            "units": [5],
            "embedding": 6,
            "added": True,
            "patch": 2,
            "patch_dense": 7,
            "spatial_dropout": 0.1,
        },
    ),
    "one probability": (TextShape(WORDS, 1), {"units": [5], "cell": "SimpleRNN", "embedding": 6}),
}


def random_network(shape, layers, seed=11):
    network = build(shape, layers)
    draw = np.random.default_rng(seed)
    network.set_weights(
        [
            draw.normal(0, 0.4, weights.shape).astype("f4") if weights.dtype == "f4" else weights
            for weights in network.get_weights()
        ]
    )
    return network


def random_texts(network, length, rows=300):
    """Texts of 1 to `length` tokens, padded at the end."""
    draw = np.random.default_rng(12)
    tokens = draw.integers(1, WORDS, (rows, length)).astype("i4")
    lengths = draw.integers(1, length + 1, rows)
    tokens[np.arange(length) >= lengths[:, None]] = 0
    inputs = {"tokens": tokens, "bigrams": (tokens % 20).astype("i4")}
    return {tensor.name: inputs[tensor.name] for tensor in network.inputs}


@pytest.fixture(params=NETWORKS)
def network(request):
    return random_network(*NETWORKS[request.param])


def test_scores_of_the_export_are_those_of_keras(network, tmp_path):
    inputs = random_texts(network, 12)
    onnx_graph.export(network, tmp_path / "model.onnx")
    scores = onnx_graph.load(tmp_path / "model.onnx").forward(inputs)
    expected = artefacts.keras_runner(network)(inputs)
    assert expected.std(axis=0).min() > 0.003
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_what_is_padded_does_not_count(network, tmp_path):
    """In Keras, which learns, as in the export, which scores."""
    inputs = random_texts(network, 12)
    longer = {name: np.pad(array, ((0, 0), (0, 8))) for name, array in inputs.items()}
    onnx_graph.export(network, tmp_path / "model.onnx")
    for run in (
        artefacts.keras_runner(network),
        onnx_graph.load(tmp_path / "model.onnx").forward,
    ):
        np.testing.assert_allclose(run(longer), run(inputs), rtol=0, atol=1e-6)


def test_the_mean_of_several_is_one_network_with_one_export(tmp_path):
    shape, layers = NETWORKS["patches of bigrams"]
    members = [random_network(shape, layers, seed) for seed in (1, 2, 3)]
    inputs = random_texts(members[0], 12)
    expected = np.mean([artefacts.keras_runner(one)(inputs) for one in members], axis=0)
    assert mean_of(members[:1]) is members[0]
    together = mean_of(members)
    onnx_graph.export(together, tmp_path / "model.onnx")
    scores = onnx_graph.load(tmp_path / "model.onnx").forward(inputs)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_the_chapters_network_is_the_whole_one():
    chapter = recipe("text_sentiment_learned")
    network = build(TextShape(chapter.vocabulary, 1, chapter.length), chapter.layers)
    assert network.count_params() == 2_012_801
    keras_default = build(
        TextShape(chapter.vocabulary, 1, chapter.length), {**chapter.layers, "reset_after": True}
    )
    assert keras_default.count_params() == 2_012_801 + 96


def test_what_is_added_to_vectors_begins_at_zero():
    shape = TextShape(WORDS, 3, vectors=6)
    added = build(shape, {"units": [4], "embedding": 6, "added": True})
    assert not added.get_layer("embedding").get_weights()[0].any()
    alone = build(TextShape(WORDS, 3), {"units": [4], "embedding": 6, "added": True})
    assert alone.get_layer("embedding").get_weights()[0].any()


def test_frozen_vectors_are_not_learned():
    glove = recipe("text_sentiment_glove")
    vectors = np.random.default_rng(1).normal(size=(glove.vocabulary, 100)).astype("f4")
    shape = TextShape(glove.vocabulary, 1, glove.length, vectors=100)
    network = build(shape, glove.layers, vectors)
    (rows,) = network.get_layer("vectors").get_weights()
    np.testing.assert_array_equal(rows, vectors)
    learned = sum(int(np.prod(weights.shape)) for weights in network.trainable_weights)
    assert learned == network.count_params() - vectors.size
    learning = build(shape, {**glove.layers, "frozen": False}, vectors)
    assert sum(int(np.prod(w.shape)) for w in learning.trainable_weights) == network.count_params()


@pytest.mark.parametrize(
    "each",
    [one for found in (*RECIPES.values(), *SAMPLE.values()) for one in found],
    ids=lambda one: one.name,
)
def test_every_recipe_of_the_catalog_can_be_built_and_exported(each, tmp_path):
    few = each.with_changes(vocabulary=WORDS)
    shape = TextShape(
        few.vocabulary,
        len(few.classes) if len(few.classes) > 2 else 1,
        None if few.buckets else few.length,
        vectors=few.layers["embedding"] if few.layers.get("added") else 4 * bool(few.vectors),
        bigrams=20 if few.bigrams else 0,
        learned=WORDS - 5 if few.vector_words else 0,
    )
    network = random_network(shape, few.layers)
    onnx_graph.export(network, tmp_path / "model.onnx")
    inputs = random_texts(network, few.lengths[0], rows=5)
    np.testing.assert_allclose(
        onnx_graph.load(tmp_path / "model.onnx").forward(inputs),
        artefacts.keras_runner(network)(inputs),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("shape", "layers", "reason"),
    [
        (PADDED, {"units": [4], "embedding": 0}, "embedding 0 needs vectors"),
        (PADDED, {"units": [4], "pools": ["max"]}, "no layer option 'pools'"),
        (PADDED, {"units": [4], "pooling": ["median"]}, "layer option pooling"),
        (PADDED, {"units": [4], "patch_dense": 4}, "patch_dense needs patches"),
        (TextShape(9, 3, vectors=3), {"units": [4], "added": True}, "as wide as those"),
        (PADDED, {"units": [4], "mask_value": 0.0}, "are of windows"),
        (TextShape(9, 3, 10), {"units": [4], "patch": 4}, "patch must divide the 10 tokens"),
        (PADDED, {"units": [4], "cell": "Leaky", "time_constants": [2]}, "no masked steps"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(shape, layers, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        build(shape, layers)
    assert "\n" not in str(caught.value)
