"""Networks of the builder: the table's sizes, what each option does, files, another backend."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from importlib.util import find_spec

import numpy as np
import pytest

from db.errors import UsageError
from models import backend
from models.architectures import Shape, build
from models.catalog import EQUITY_WEEK_DIRECTION, MACRO_OUTLOOK, MACRO_PATH, SP500_NEXT_CLOSE

# the table of DESIGN.md, on windows of the chapter's lengths
SHAPES = {
    "sp500_next_close": Shape(window=63, n_features=1),
    "equity_week_direction": Shape(window=52, n_features=1, symbols=2489, months=True),
    "macro_outlook": Shape(window=24, n_features=2, outputs=2),
    "macro_path": Shape(window=24, n_features=2, outputs=2, steps=12),
}
CHAPTER = {
    recipe.model: recipe
    for recipe in (SP500_NEXT_CLOSE, EQUITY_WEEK_DIRECTION, MACRO_OUTLOOK, MACRO_PATH)
}

SMALL = Shape(window=5, n_features=2)
PATH = Shape(window=5, n_features=2, outputs=2, steps=3)
TOLD = Shape(window=5, n_features=2, symbols=7, months=True)
TOLD_PATH = Shape(window=5, n_features=2, outputs=2, steps=3, symbols=7, months=True)
DECODER = {"units": [3], "decoder": True}
MASKED = -9.0


@pytest.fixture(scope="module", autouse=True)
def keras():
    backend.prepare(seed=1)
    import keras

    return keras


def inputs_of(network, rows=4, seed=5):
    """Random inputs of the shapes that a network takes."""
    draw = np.random.default_rng(seed)
    inputs = {}
    for tensor in network.inputs:
        shape = (rows, *tensor.shape[1:])
        if tensor.name == "symbol":
            # row 0 is that of unknown symbols
            inputs["symbol"] = draw.integers(0, 7, shape).astype("int32")
        elif tensor.name == "month":
            inputs["month"] = np.eye(12, dtype="f4")[draw.integers(0, 12, rows)]
        else:
            inputs[tensor.name] = draw.normal(size=shape).astype("f4")
    return inputs


def forward(network, inputs=None, **options):
    given = inputs_of(network) if inputs is None else inputs
    return np.asarray(network(given, **options))


def shaken(network, seed=2):
    """The same network with every weight away from where it starts, zeros included."""
    draw = np.random.default_rng(seed)
    network.set_weights(
        [weight + draw.normal(0, 0.3, weight.shape) for weight in network.get_weights()]
    )
    return network


def made(shape=SMALL, **layers):
    return shaken(build("recurrent", shape, layers))


def inside(network, name, inputs):
    """What one layer of a network gives."""
    import keras

    return forward(keras.Model(network.inputs, network.get_layer(name).output), inputs)


def fit(network, steps=4, **options):
    """Mean squared error before and after some steps of training on random targets."""
    import keras

    inputs = inputs_of(network, rows=16)
    targets = np.random.default_rng(3).normal(size=(16, *network.output_shape[1:])).astype("f4")
    optimizer = keras.optimizers.Adam(0.02)
    # compiling takes seconds, which so few steps do not earn back
    network.compile(optimizer, loss="mse", **(options or {"run_eagerly": True}))
    before = np.square(forward(network, inputs) - targets).mean()
    for _ in range(steps):
        network.train_on_batch(inputs, targets)
    return before, np.square(forward(network, inputs) - targets).mean()


# ------------------------------------------------------------------ the table


def chapters_network(model):
    return build("recurrent", SHAPES[model], CHAPTER[model].layers)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("sp500_next_close", 1781), ("equity_week_direction", 29_371), ("macro_outlook", 1268)],
)
def test_the_chapters_networks_have_the_chapters_sizes(model, parameters):
    network = chapters_network(model)
    assert network.count_params() == parameters
    assert network.output_shape == (None, SHAPES[model].outputs)


def test_the_catalogs_networks_are_those_of_the_table():
    kinds = {model: kinds_of(chapters_network(model)) for model in SHAPES}
    assert kinds["sp500_next_close"] == ["LSTM", "Dense"]
    assert kinds["macro_outlook"] == ["LSTM", "LSTM", "Dense", "Dense"]
    assert sorted(kinds["equity_week_direction"]) == sorted(
        ["LSTM", "LSTM", "Embedding", "Flatten", "Concatenate", "Dense", "Dense"]
    )
    panel = chapters_network("equity_week_direction")
    assert panel.get_layer("output").activation.__name__ == "sigmoid"
    assert [panel.get_layer(f"recurrent_{depth}").dropout for depth in (1, 2)] == [0.2, 0.2]
    macro = chapters_network("macro_outlook").get_layer("recurrent_2")
    assert (macro.dropout, macro.recurrent_dropout) == (0.2, 0.2)
    assert chapters_network("macro_path").output_shape == (None, 12, 2)


def kinds_of(network):
    return [
        type(layer).__name__ for layer in network.layers if type(layer).__name__ != "InputLayer"
    ]


# ------------------------------------------------------------------ cells


@pytest.mark.parametrize(
    ("layers", "parameters"),
    [
        ({"cell": "SimpleRNN"}, 4 * (2 + 4 + 1)),
        ({"cell": "LSTM"}, 4 * 4 * (2 + 4 + 1)),
        # with the reset after the product each of three gates has two biases
        ({"cell": "GRU"}, 3 * 4 * (2 + 4 + 2)),
        ({"cell": "GRU", "reset_after": False}, 3 * 4 * (2 + 4 + 1)),
        ({"cell": "Leaky", "time_constants": [1, 4]}, 4 * (2 + 4 + 1)),
        ({"cell": "Leaky", "time_constants": [2], "learned_time_constants": True}, 4 * (2 + 4 + 2)),
        ({"bidirectional": True}, 2 * 4 * 4 * (2 + 4 + 1) + 4),
        ({"layer_norm": True}, 4 * 4 * (2 + 4 + 1) + 2 * 4),
    ],
)
def test_each_cell_has_its_own_weights(layers, parameters):
    network = build("recurrent", SMALL, {"units": [4], **layers})
    assert network.count_params() == parameters + 4 + 1


@pytest.mark.parametrize("learned", [False, True])
def test_leaky_units_are_leaky_integrators(learned):
    network = made(units=[3], cell="Leaky", time_constants=[1.5, 8], learned_time_constants=learned)
    layer = network.get_layer("recurrent_1")
    W, U, b, *log_delay = layer.get_weights()
    tau = np.array([1.5, 8, 1.5])
    if learned:
        assert log_delay[0].tolist() != np.log(tau - 1).tolist()
        tau = 1 + np.exp(log_delay[0])
    window = inputs_of(network)["window"]
    state = np.zeros((4, 3))
    for step in range(5):
        state += (np.tanh(window[:, step] @ W + state @ U + b) - state) / tau
    kernel, bias = network.get_layer("output").get_weights()
    np.testing.assert_allclose(forward(network), state @ kernel + bias, atol=1e-6)


def test_learned_time_constants_start_as_declared_and_are_learned():
    layers = {"cell": "Leaky", "time_constants": [1.5, 8], "learned_time_constants": True}
    network = build("recurrent", SMALL, {"units": [3], **layers})
    cell = network.get_layer("recurrent_1").cell
    np.testing.assert_allclose(np.asarray(cell.tau()), [1.5, 8, 1.5], rtol=1e-6)
    fit(network)
    assert not np.allclose(np.asarray(cell.tau()), [1.5, 8, 1.5], rtol=1e-4)


def test_a_unit_of_time_constant_1_is_a_simple_unit():
    leaky = made(units=[3], cell="Leaky", time_constants=[1])
    simple = build("recurrent", SMALL, {"units": [3], "cell": "SimpleRNN"})
    simple.set_weights(leaky.get_weights())
    np.testing.assert_allclose(forward(leaky), forward(simple), atol=1e-6)


def test_dropout_is_drawn_in_training_only():
    for option in ("dropout", "recurrent_dropout", "dense_dropout"):
        network = made(units=[8], dense=[8], **{option: 0.5})
        plain = build("recurrent", SMALL, {"units": [8], "dense": [8]})
        plain.set_weights(network.get_weights())
        np.testing.assert_allclose(forward(network), forward(plain), atol=1e-6)
        assert not np.allclose(forward(network, training=True), forward(plain))


def test_a_bidirectional_layer_reads_from_both_ends():
    one_way = made(units=[3], cell="SimpleRNN")
    both = made(units=[3], cell="SimpleRNN", bidirectional=True)
    weights = one_way.get_layer("recurrent_1").get_weights()
    both.get_layer("recurrent_1").set_weights([*weights, *weights])
    inputs = inputs_of(both)
    from_the_end = {"window": inputs["window"][:, ::-1]}
    expected = [inside(one_way, "recurrent_1", given) for given in (inputs, from_the_end)]
    given = inside(both, "recurrent_1", inputs)
    np.testing.assert_allclose(given, np.concatenate(expected, axis=1), atol=1e-6)


# ------------------------------------------------------------------ what layers pass on


def test_skip_add_passes_on_what_a_layer_was_given():
    network = made(units=[3, 3], skip="add")
    inputs = inputs_of(network)
    below, here = (inside_last(network, depth, inputs) for depth in (1, 2))
    np.testing.assert_allclose(network_output(network, below + here), forward(network), atol=1e-6)


def test_skip_add_to_another_width_goes_through_a_linear_map():
    network = made(units=[3, 2], skip="add")
    inputs = inputs_of(network)
    below, here = (inside_last(network, depth, inputs) for depth in (1, 2))
    (linear,) = network.get_layer("skip_2").get_weights()
    joined = below @ linear + here
    np.testing.assert_allclose(network_output(network, joined), forward(network), atol=1e-6)


def test_skip_concat_puts_both_side_by_side():
    network = made(units=[3, 2], skip="concat")
    inputs = inputs_of(network)
    joined = np.concatenate([inside_last(network, depth, inputs) for depth in (1, 2)], axis=1)
    assert joined.shape == (4, 5)
    np.testing.assert_allclose(network_output(network, joined), forward(network), atol=1e-6)


def inside_last(network, depth, inputs):
    """State of a recurrent layer after the last step, where it gives its states."""
    import keras

    _, *state = network.get_layer(f"recurrent_{depth}").output
    return forward(keras.Model(network.inputs, state[0]), inputs)


def network_output(network, known):
    kernel, bias = network.get_layer("output").get_weights()
    return known @ kernel + bias


def test_skips_reach_over_all_layers():
    """The third layer is given the sum of the first two, the output that of all three."""
    network = made(units=[3, 3, 3], skip="add")
    inputs = inputs_of(network)
    layers = [inside_last(network, depth, inputs) for depth in (1, 2, 3)]
    np.testing.assert_allclose(network_output(network, sum(layers)), forward(network), atol=1e-6)


def test_layer_norm_normalises_over_the_units():
    network = build("recurrent", SMALL, {"units": [6, 4], "layer_norm": True})
    inputs = inputs_of(network)
    for depth in (1, 2):
        normal = inside(network, f"normalisation_{depth}", inputs)
        np.testing.assert_allclose(normal.mean(axis=-1), 0, atol=1e-5)
        raw = inside(network, f"recurrent_{depth}", inputs)
        deviation = np.sqrt(raw.var(axis=-1) / (raw.var(axis=-1) + 1e-3))
        np.testing.assert_allclose(normal.std(axis=-1), deviation, atol=1e-4)


def test_dense_layers_come_before_the_output():
    network = made(units=[3], dense=[4, 2], dense_activation="relu", output_activation="sigmoid")
    known = inside(network, "recurrent_1", inputs_of(network))
    for name in ("dense_1", "dense_2"):
        kernel, bias = network.get_layer(name).get_weights()
        known = np.maximum(known @ kernel + bias, 0)
    expected = 1 / (1 + np.exp(-network_output(network, known)))
    np.testing.assert_allclose(forward(network), expected, atol=1e-6)


def test_symbol_and_month_stand_beside_the_last_state():
    network = made(TOLD, units=[3], embedding=4)
    inputs = inputs_of(network)
    (rows,) = network.get_layer("embedding").get_weights()
    assert rows.shape == (7, 4)
    state = inside(network, "recurrent_1", inputs)
    known = np.concatenate([state, rows[inputs["symbol"][:, 0]], inputs["month"]], axis=1)
    np.testing.assert_allclose(network_output(network, known), forward(network), atol=1e-6)


# ------------------------------------------------------------------ where a network begins


@pytest.mark.parametrize(("steps", "decoder"), [(1, False), (3, False), (3, True)])
def test_residual_begins_as_persistence(steps, decoder):
    shape = Shape(window=5, n_features=3, outputs=2, steps=steps)
    layers = {"units": [4], "dense": [3], "residual": "last", "residual_features": [2, 0]}
    network = build("recurrent", shape, {**layers, "decoder": decoder})
    inputs = inputs_of(network)
    last = inputs["window"][:, -1, [2, 0]]
    expected = last if steps == 1 else np.repeat(last[:, None], steps, axis=1)
    np.testing.assert_array_equal(forward(network, inputs), expected)
    moved = forward(shaken(network), inputs)
    assert not np.isclose(moved, expected, atol=1e-3).any()


@pytest.mark.parametrize("shape", [SMALL, PATH])
def test_an_output_that_starts_at_zero_forecasts_no_change(shape):
    decoder = shape.steps > 1
    layers = {"units": [4], "dense": [3], "decoder": decoder}
    network = build("recurrent", shape, {**layers, "start_at_zero": True})
    assert (forward(network) == 0).all()
    assert (forward(build("recurrent", shape, layers)) != 0).all()
    before, after = fit(network)
    assert after < before
    assert (forward(network) != 0).all()


# ------------------------------------------------------------------ attention and masking


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_attention_is_a_weighted_mean_of_the_states_that_are_there(score):
    from models.layers import StateAttention

    attention = StateAttention(score)
    # with the unit vectors as states the answer is the weights themselves
    states = np.repeat(np.eye(5, dtype="f4")[None], 4, axis=0)
    query = np.random.default_rng(1).normal(size=(4, 3)).astype("f4")
    there = np.array([[0, 1, 1, 0, 1], [1] * 5, [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]], dtype=bool)
    attention(query, states)
    attention.set_weights(
        [np.random.default_rng(2).normal(size=w.shape) for w in attention.get_weights()]
    )
    for mask in (None, there):
        weights = np.asarray(attention(query, states, states_mask=mask))
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
        assert ((weights > 1e-6) == (True if mask is None else mask)).all()
        scores = scores_by_hand(attention, query, states[0])
        scores = scores if mask is None else np.where(mask, scores, -np.inf)
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights, expected, atol=1e-6)


def scores_by_hand(attention, query, states):
    """s . (W q), or v . tanh(W q + b + K s), of one window's states (T, U) for each query."""
    weights = {weight.path.split("/", 1)[1]: np.asarray(weight) for weight in attention.weights}
    asked = query @ weights["query/kernel"]
    if attention.score == "dot":
        return asked @ states.T
    asked = asked + weights["query/bias"]
    summed = np.tanh(asked[:, None] + (states @ weights["key/kernel"])[None])
    return summed @ weights["attention/scale"]


MASKABLE = {
    "stacked": (SMALL, {"units": [3, 2]}),
    "gru": (SMALL, {"units": [3], "cell": "GRU"}),
    "leaky": (SMALL, {"units": [3], "cell": "Leaky", "time_constants": [1, 3]}),
    "bidirectional": (SMALL, {"units": [3, 2], "bidirectional": True}),
    "attention": (SMALL, {"units": [3], "attention": "dot"}),
    "skip": (SMALL, {"units": [4, 4], "skip": "add", "attention": "additive", "layer_norm": True}),
    "residual": (SMALL, {"units": [3], "residual": "last"}),
    "decoder": (PATH, {**DECODER, "attention": "additive"}),
}


@pytest.mark.parametrize("kind", MASKABLE)
def test_a_padded_window_gives_what_the_shorter_one_gives(kind):
    """Padding on the left, on the right, and a step that is missing in between."""
    shape, layers = MASKABLE[kind]
    layers = {**layers, "mask_value": MASKED}
    with warnings.catch_warnings():
        # Keras warns where a layer would lose the mask; of NumPy's next version it warns anyway
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        network = made(shape, **layers)
    short_shape = Shape(3, 2, shape.outputs, shape.steps)
    shorter = build("recurrent", short_shape, layers)
    shorter.set_weights(network.get_weights())
    window = inputs_of(network)["window"]
    expected = forward(shorter, {"window": window[:, :3]})
    for places in ([0, 1, 2], [2, 3, 4], [0, 2, 4]):
        padded = np.full_like(window, MASKED)
        padded[:, places] = window[:, :3]
        np.testing.assert_allclose(forward(network, {"window": padded}), expected, atol=1e-6)
    assert not np.allclose(forward(network, {"window": window}), expected, atol=1e-3)


# ------------------------------------------------------------------ the decoder


def test_a_decoder_is_fed_what_it_said():
    """The loop by hand: what the decoder gives at each step goes into the next one."""
    network = made(PATH, units=[3], cell="SimpleRNN", decoder=True, residual="last")
    inputs = inputs_of(network)
    decoder = network.get_layer("decoder")
    W, U, b = decoder.cell.get_weights()
    kernel, bias = decoder.head.get_weights()
    state, fed = inside_last(network, 1, inputs), inputs["window"][:, -1]
    expected = []
    for _ in range(3):
        state = np.tanh(fed @ W + state @ U + b)
        fed = inputs["window"][:, -1] + state @ kernel + bias
        expected.append(fed)
    np.testing.assert_allclose(forward(network), np.stack(expected, axis=1), atol=1e-6)


TAUGHT = {**DECODER, "attention": "additive", "teacher_forcing": 1.0}


def test_a_taught_decoder_reads_the_teacher_in_training_alone():
    network = made(PATH, **TAUGHT)
    free = build("recurrent", PATH, {**TAUGHT, "teacher_forcing": 0.0})
    free.set_weights(network.get_weights())
    inputs = inputs_of(network)
    other = {**inputs, "teacher": inputs["teacher"] + 1}
    alone = {"window": inputs["window"]}
    # without a teacher it is the network that has none
    np.testing.assert_array_equal(forward(network, inputs), forward(network, other))
    np.testing.assert_array_equal(forward(network, inputs), forward(free, alone))
    taught, retaught = (forward(network, given, training=True) for given in (inputs, other))
    assert not np.allclose(taught, forward(network, inputs), atol=1e-3)
    # what the first step says is known before it is taught, and row 0 is not read
    np.testing.assert_array_equal(taught[:, 0], forward(network, inputs)[:, 0])
    np.testing.assert_array_equal(taught[:, 0], retaught[:, 0])
    assert (np.abs(taught[:, 1:] - retaught[:, 1:]) > 1e-4).all()
    first = {**inputs, "teacher": inputs["teacher"].copy()}
    first["teacher"][:, 0] = 99
    np.testing.assert_array_equal(forward(network, first, training=True), taught)


def test_a_perfect_pupil_is_taught_nothing():
    """Taught what it would have said itself, a decoder says the same in training."""
    network = made(PATH, **TAUGHT)
    inputs = inputs_of(network)
    said = forward(network, inputs)
    inputs["teacher"] = np.concatenate([np.full_like(said[:, :1], np.nan), said[:, :-1]], axis=1)
    np.testing.assert_allclose(forward(network, inputs, training=True), said, atol=1e-6)


def test_teacher_forcing_is_a_share():
    network = made(PATH, **{**TAUGHT, "teacher_forcing": 0.25})
    inputs = inputs_of(network, rows=2000)
    said, trained = forward(network, inputs), forward(network, inputs, training=True)
    differs = (np.abs(said - trained) > 1e-6).any(axis=-1).mean(axis=0)
    # the second step is taught in a quarter of the examples; the third also hears of it
    np.testing.assert_allclose(differs, [0, 0.25, 1 - 0.75**2], atol=0.04)
    again = forward(network, inputs, training=True)
    assert not np.array_equal(trained, again)


@pytest.mark.parametrize("cell", ["LSTM", "Leaky"])
def test_a_taught_decoder_trains(cell):
    slow = {"time_constants": [1, 4]} if cell == "Leaky" else {}
    shares = {"dropout": 0.1, "recurrent_dropout": 0.1, "teacher_forcing": 0.5}
    network = build("recurrent", TOLD_PATH, {**TAUGHT, **slow, **shares, "cell": cell})
    weights = network.get_weights()
    before, after = fit(network)
    assert after < before
    moved = [(old != new).any() for old, new in zip(weights, network.get_weights(), strict=True)]
    assert all(moved)


def test_a_decoder_compiles_as_a_training_compiles_it():
    layers = {**TAUGHT, "cell": "SimpleRNN", "teacher_forcing": 0.5}
    network = build("recurrent", replace(PATH, steps=2), layers)
    before, after = fit(network, **backend.fit_options())
    assert after < before


# ------------------------------------------------------------------ what cannot be


REFUSED = {
    "reset_after is an option of GRU": {"reset_after": False},
    "needs time_constants": {"cell": "Leaky"},
    "options of cell Leaky": {"time_constants": [2]},
    "start above 1": {"cell": "Leaky", "time_constants": [1], "learned_time_constants": True},
    "two recurrent layers": {"skip": "add"},
    "need dense": {"dense_activation": "relu"},
    "no output_activation": {"residual": "last", "output_activation": "sigmoid"},
    "need residual": {"residual_features": [0]},
    r"features 0\.\.1 for each of 1 outputs": {"residual": "last", "residual_features": [2]},
    "each of 1": {"residual": "last", "residual_features": [0, 1]},
    "several steps ahead": {"decoder": True},
    "teacher_forcing needs decoder": {"teacher_forcing": 0.5},
    "no layer option 'width'; there are: units": {"width": 4},
    "option units": {"units": []},
    r"option units\.0": {"units": [0]},
    "option cell": {"cell": "Elman"},
    "option dropout": {"dropout": 1.0},
    "option mask_value": {"mask_value": float("nan")},
    r"option time_constants\.0": {"cell": "Leaky", "time_constants": [0.5]},
    "no activation 'swoosh'": {"output_activation": "swoosh"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(reason):
    with pytest.raises(UsageError, match=reason) as caught:
        build("recurrent", SMALL, {"units": [3], **REFUSED[reason]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", [{"layer_norm": True}, {"units": [3, 3], "skip": "add"}])
def test_a_decoder_that_would_not_see_an_option_is_refused(lost):
    with pytest.raises(UsageError, match="last layer's state alone"):
        build("recurrent", PATH, {**DECODER, **lost})
    assert build("recurrent", PATH, {**DECODER, **lost, "attention": "dot"}).count_params()


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UsageError, match="no architecture 'transformer'; there are: recurrent"):
        build("transformer", SMALL, {"units": [3]})


# ------------------------------------------------------------------ files and another backend


KINDS = {
    "simple": (SMALL, {"units": [3], "cell": "SimpleRNN"}),
    "gru_before": (SMALL, {"units": [3], "cell": "GRU", "reset_after": False}),
    "leaky": (
        SMALL,
        {"units": [3], "cell": "Leaky", "time_constants": [2], "learned_time_constants": True},
    ),
    "told": (TOLD, {"units": [3, 2], "dense": [4], "dense_dropout": 0.1, "dropout": 0.1}),
    "skips": (SMALL, {"units": [3, 2, 2], "skip": "concat", "layer_norm": True}),
    "attention": (
        PATH,
        {"units": [3], "bidirectional": True, "attention": "additive", "mask_value": MASKED},
    ),
    "residual": (PATH, {"units": [3], "attention": "dot", "residual": "last"}),
    "decoder": (TOLD_PATH, {**TAUGHT, "dense": [4], "mask_value": MASKED}),
    "slow_decoder": (
        PATH,
        {**DECODER, "cell": "Leaky", "time_constants": [1, 4], "residual": "last"},
    ),
    "deep_decoder": (
        PATH,
        {**TAUGHT, "units": [3, 3], "bidirectional": True, "skip": "add"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_read_back_in_safe_mode(kind, keras, tmp_path):
    shape, layers = KINDS[kind]
    # options come from JSON, where tuples are lists
    network = made(shape, **json.loads(json.dumps(layers)))
    network.save(tmp_path / "network.keras")
    read = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True, compile=False)
    inputs = inputs_of(network)
    np.testing.assert_array_equal(forward(read, inputs), forward(network, inputs))
    assert read.count_params() == network.count_params()


# the horizon of `macro_path` is cut to 2 steps: JAX compiles the decoder step by step
ON_BOTH = {
    model: (SHAPES[model] if model != "macro_path" else replace(SHAPES[model], steps=2))
    for model in SHAPES
}

# compile carelessly: 9 s of 29 s of this process went into making code fast
HASTY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

ELSEWHERE = """
import json
import sys
from pathlib import Path

import numpy as np

from models import architectures, backend

backend.prepare(seed=1)
import keras

from models import layers  # registers our own layers with Keras

folder = Path(sys.argv[1])
for name, (shape, options) in json.loads((folder / "networks.json").read_text()).items():
    inputs = dict(np.load(folder / f"{name}.inputs.npz"))
    read = keras.saving.load_model(folder / f"{name}.keras", safe_mode=True, compile=False)
    outputs = read.predict(inputs, verbose=0)
    network = architectures.build("recurrent", architectures.Shape(**shape), options)
    network.set_weights(read.get_weights())
    before = network.get_weights()
    network.compile(optimizer="sgd", loss="mse", **backend.fit_options())
    fitted = network.fit(inputs, np.zeros_like(outputs), verbose=0)
    moved = [bool((old != new).any()) for old, new in zip(before, network.get_weights())]
    result = {"loss": fitted.history["loss"][0], "moved": all(moved)}
    result["backend"] = keras.backend.backend()
    (folder / f"{name}.json").write_text(json.dumps(result))
    np.save(folder / f"{name}.outputs.npy", outputs)
"""


@pytest.mark.skipif(not find_spec("jax"), reason="JAX is not installed")
def test_jax_gives_what_tensorflow_gives_and_trains(tmp_path):
    """Networks that TensorFlow wrote, read, run and fitted one step in a process of JAX."""
    asked, expected = {}, {}
    for model, shape in ON_BOTH.items():
        layers = CHAPTER[model].layers
        network = shaken(build("recurrent", shape, layers))
        inputs = inputs_of(network)
        expected[model] = forward(network, inputs)
        network.save(tmp_path / f"{model}.keras")
        np.savez(tmp_path / f"{model}.inputs.npz", **inputs)
        asked[model] = (asdict(shape), dict(layers))
    (tmp_path / "networks.json").write_text(json.dumps(asked))
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)],
        check=True,
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": HASTY},
    )
    for model, here in expected.items():
        result = json.loads((tmp_path / f"{model}.json").read_text())
        assert result["backend"] == "jax"
        assert np.isfinite(result["loss"])
        assert result["moved"]
        np.testing.assert_allclose(np.load(tmp_path / f"{model}.outputs.npy"), here, atol=1e-5)
