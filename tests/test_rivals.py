"""Networks without recurrence in the place of a cell: windows, convolutions, attention."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import rnnlab
from rnnlab import GRU
from rnnlab.data import Batch
from rnnlab.models import (
    Autoregression,
    TimeDelayNetwork,
    Transformer,
    WindowNetwork,
    attention,
    classifier,
    for_task,
    forecaster,
    language_model,
    step_regressor,
    tagger,
)
from rnnlab.models.network import sequence_starts
from rnnlab.models.transformer import sinusoids
from tests.reference import close, one_sentence
from tests.reference.cells import draw_params
from tests.reference.models import STEP_NUMBERS, TAGS, VECTORS, B, C, I, T, V, float64_params

LONG = np.random.default_rng(2).normal(size=(20, 2, I))
NETWORKS = {
    "window": (WindowNetwork(3, window=4, layers=2, activation="tanh"), 4),
    "time delay": (TimeDelayNetwork(3, taps=3, dilations=(1, 3), activation="tanh"), 9),
    "autoregression": (Autoregression(I, window=5), 5),
    "transformer": (Transformer(4, layers=2, heads=2), 20),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


# What an output depends on


@each_network
def test_an_output_depends_on_the_inputs_in_its_receptive_field_and_on_no_others(name):
    """The gradient is exactly zero for later inputs, and for those beyond a window."""
    network, receptive_field = NETWORKS[name]
    params = draw_params(network, I)

    def output(xs, step):
        return jnp.sum(jnp.sin(network(params, xs)[step, 0]))

    slopes = np.asarray(jax.jit(jax.vmap(jax.grad(output), (None, 0)))(LONG, jnp.arange(20)))
    steps = np.arange(20)
    back = steps[:, None] - steps
    is_seen = (back >= 0) & (back < receptive_field)
    np.testing.assert_array_equal(np.any(slopes[:, :, 0] != 0, axis=-1), is_seen)
    assert not slopes[:, :, 1].any()  # another example
    assert getattr(network, "receptive_field", 20) == receptive_field


@each_network
def test_packed_sequences_are_those_apart(name):
    """Nothing before a reset is seen, and steps are counted from it."""
    network, _ = NETWORKS[name]
    params = draw_params(network, I)
    resets = np.zeros((20, 2), bool)
    resets[[0, 7, 12], 0] = True
    resets[9, 1] = True
    parts = [(0, 0, 7), (0, 7, 12), (0, 12, 20), (1, 0, 9), (1, 9, 20)]
    apart = np.full((20, len(parts), I), np.nan)
    for column, (example, first, last) in enumerate(parts):
        apart[: last - first, column] = LONG[first:last, example]
    lengths = np.array([last - first for _, first, last in parts])
    packed = jax.jit(network)(params, LONG, resets=resets)
    ys = jax.jit(network)(params, apart, lengths=lengths)
    for column, (example, first, last) in enumerate(parts):
        close(packed[first:last, example], ys[: last - first, column])


def test_the_first_step_of_each_sequence():
    resets = jnp.array([[0, 0, 1, 0, 1, 0]], bool).T
    assert sequence_starts(resets)[:, 0].tolist() == [0, 0, 2, 2, 4, 4]


@each_network
def test_the_padding_is_never_read(name):
    network, _ = NETWORKS[name]
    params = draw_params(network, I)
    lengths = np.array([20, 6])
    garbage = LONG.copy()
    garbage[6:, 1] = np.nan

    def total(params, xs):
        ys = network(params, xs, lengths=lengths)
        return jnp.sum(jnp.sin(ys)), ys

    gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    (_, ys), slopes = gradient(params, garbage)
    assert not ys[6:, 1].any()
    assert not slopes[1][6:, 1].any()
    # The network is causal, so the steps before the padding are those of a longer sequence.
    close(ys[:6], jax.jit(network)(params, LONG)[:6])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


# Equations


def delayed_by_hand(xs, layers, delays, phi):
    """One step, one example and one delay at a time."""
    for layer, steps_back in zip(layers, delays, strict=True):
        ys = np.zeros((*xs.shape[:2], layer.w.shape[1]))
        blocks = np.split(layer.w, len(steps_back))
        for t, b in np.ndindex(xs.shape[:2]):
            total = layer.b.copy()
            for delay, w in zip(steps_back, blocks, strict=True):
                if t - delay >= 0:
                    total += xs[t - delay, b] @ w
            ys[t, b] = phi(total)
        xs = ys
    return xs


def test_a_window_network_is_feed_forward_on_the_last_inputs():
    network = WindowNetwork(3, window=4, layers=2, activation="tanh")
    params = draw_params(network, I)
    expected = delayed_by_hand(LONG, params.layers, ((0, 1, 2, 3), (0,)), np.tanh)
    close(network(params, LONG), jnp.asarray(expected))


def test_a_time_delay_network_is_a_causal_convolution():
    """By hand, and by Flax, whose kernel begins with the oldest input."""
    network = TimeDelayNetwork(3, taps=3, dilations=(1, 3), activation="relu")
    params = draw_params(network, I)
    ys = network(params, LONG)
    delays = ((0, 1, 2), (0, 3, 6))
    expected = delayed_by_hand(LONG, params.layers, delays, lambda x: np.maximum(x, 0))
    close(ys, jnp.asarray(expected))
    h = jnp.swapaxes(LONG, 0, 1)
    for layer, dilation in zip(params.layers, network.dilations, strict=True):
        convolution = linen.Conv(3, (3,), kernel_dilation=dilation, padding="CAUSAL")
        kernel = layer.w.reshape(3, -1, 3)[::-1]
        h = jax.nn.relu(convolution.apply({"params": {"kernel": kernel, "bias": layer.b}}, h))
    close(ys, jnp.swapaxes(h, 0, 1))


def test_a_window_longer_than_the_sequence_sees_zeros_before_it():
    network = WindowNetwork(3, window=50)
    params = draw_params(network, I)
    short = params._replace(
        layers=(params.layers[0]._replace(w=params.layers[0].w[: 20 * I]),),
    )
    close(network(params, LONG), WindowNetwork(3, window=20)(short, LONG))


def test_least_squares_on_an_autoregression_are_those_of_statsmodels():
    """The same predictions of the next value, where the whole window has been seen."""
    autoreg = pytest.importorskip("statsmodels.tsa.ar_model").AutoReg
    rng = np.random.default_rng(0)
    series = np.cumsum(rng.normal(size=60)) / 4
    model = step_regressor(Autoregression(1, window=3), 1)
    xs = series[:-1, None, None]
    window = np.asarray(model.cell((), jnp.asarray(xs)))[2:, 0]
    targets = series[3:]
    design = np.concatenate([window, np.ones((len(window), 1))], axis=1)
    weights = np.linalg.lstsq(design, targets)[0]
    fitted = autoreg(series, 3).fit()
    np.testing.assert_allclose(weights[[3, 0, 1, 2]], fitted.params, rtol=1e-8)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), Batch(jnp.asarray(xs), None)))
    readout = shapes.readout._replace(w=weights[:3, None], b=weights[3:])
    outputs = model.apply(shapes._replace(readout=readout), Batch(xs, None))
    np.testing.assert_allclose(outputs[2:, 0, 0], fitted.fittedvalues, rtol=1e-8)


def normed(x, scale, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def transformed_by_hand(params, xs, heads):
    """One example ``[T, I]`` through one layer, one query at a time."""
    size = params["input"]["kernel"].shape[1]
    x = xs @ params["input"]["kernel"] + params["input"]["bias"]
    for t, i in np.ndindex(len(xs), size // 2):
        angle = t / 10_000 ** (2 * i / size)
        x[t, i] += np.sin(angle)
        x[t, size // 2 + i] += np.cos(angle)
    h = normed(x, **params["norm_0"])
    weights = params["attention_0"]
    added = np.zeros_like(x) + weights["out"]["bias"]
    for t, head in np.ndindex(len(xs), heads):
        parts = {}
        for name in ("query", "key", "value"):
            parts[name] = h @ weights[name]["kernel"][:, head] + weights[name]["bias"][head]
        scores = parts["key"][: t + 1] @ parts["query"][t] / np.sqrt(size / heads)
        raised = np.exp(scores - scores.max())
        context = raised / raised.sum() @ parts["value"][: t + 1]
        added[t] += context @ weights["out"]["kernel"][head]
    x = x + added
    h = normed(x, **params["norm_0_feedforward"])
    inside = h @ params["feedforward_0_in"]["kernel"] + params["feedforward_0_in"]["bias"]
    gelu = inside / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inside + 0.044715 * inside**3)))
    out = params["feedforward_0_out"]
    return normed(x + gelu @ out["kernel"] + out["bias"], **params["norm"])


def test_a_transformer_against_its_equations():
    network = Transformer(4, layers=1, heads=2, feedforward_size=5)
    params = draw_params(network, I)
    ys = network(params, LONG)
    for example in range(2):
        expected = transformed_by_hand(params, LONG[:, example], 2)
        close(ys[:, example], jnp.asarray(expected), 1e-8)


def test_positions_tell_equal_inputs_apart():
    """Without them, a constant input would give a constant output."""
    network = Transformer(4, layers=1)
    params = draw_params(network, I)
    ys = network(params, np.ones((20, 1, I)))
    assert np.abs(np.diff(ys, axis=0)).max(axis=-1).min() > 1e-6
    close(jnp.sum(sinusoids(jnp.arange(9), 6, jnp.float64) ** 2, -1), jnp.full(9, 3.0), 1e-6)


# Attention


def attention_by_hand(q, k, v, seen):
    """One query ``[D]`` at a time."""
    ys = np.zeros((*q.shape[:-1], v.shape[-1]))
    for *batch, t in np.ndindex(q.shape[:-1]):
        kept = seen[(*batch, t)]
        if not kept.any():
            continue
        scores = k[tuple(batch)][kept] @ q[(*batch, t)] / np.sqrt(q.shape[-1])
        raised = np.exp(scores - scores.max())
        ys[(*batch, t)] = raised / raised.sum() @ v[tuple(batch)][kept]
    return jnp.asarray(ys)


RNG = np.random.default_rng(3)
Q, K, KEYS, VALUES = (RNG.normal(size=shape) for shape in [(2, 3, 6, 4)] * 3 + [(2, 3, 6, 5)])
SOME = RNG.random((2, 3, 6, 6)) < 0.5
SOME[0, 0, 2] = False  # a query that may see nothing


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, SOME, SOME[0, 0, :1]], ids=["none", "full", "broadcast"])
def test_attention_is_a_softmax_over_the_keys_that_are_seen(causal, mask):
    seen = np.broadcast_to(True if mask is None else mask, SOME.shape)
    if causal:
        seen = seen & np.tri(6, dtype=bool)
    actual = attention(Q, K, VALUES, causal=causal, mask=mask)
    close(actual, attention_by_hand(Q, K, VALUES, seen))
    assert not actual[~seen.any(-1)].any()


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_jax_and_of_flax(causal):
    """Both have the axes [B, T, heads, D]."""
    mask = SOME | np.eye(6, dtype=bool)
    swapped = [jnp.swapaxes(array, 1, 2) for array in (Q, K, KEYS)]
    expected = attention(Q, K, KEYS, causal=causal, mask=mask)
    theirs = jax.nn.dot_product_attention(*swapped, mask=mask, is_causal=causal)
    close(jnp.swapaxes(theirs, 1, 2), expected, 1e-6)
    seen = mask & np.tri(6, dtype=bool) if causal else mask
    flax = linen.dot_product_attention(*swapped, mask=jnp.asarray(seen))
    close(jnp.swapaxes(flax, 1, 2), expected)


def test_the_gradient_of_attention_is_finite_where_nothing_is_seen():
    slopes = jax.grad(lambda q: jnp.sum(attention(q, K, VALUES, mask=SOME)))(jnp.asarray(Q))
    assert np.isfinite(slopes).all()
    assert not slopes[0, 0, 2].any()


# As models


TASKS = {
    "classes": rnnlab.tasks.temporal_order(10),
    "numbers": rnnlab.tasks.adding(5),
    "class each step": rnnlab.tasks.copy_memory(3, items=2),
    "numbers each step": rnnlab.tasks.flip_flop(6),
}


@pytest.mark.combinations
@pytest.mark.parametrize("kind", TASKS)
@each_network
def test_each_network_takes_each_kind_of_task(name, kind):
    task = TASKS[kind]
    assert task.kind == kind
    network, _ = NETWORKS[name]
    if name == "autoregression":
        network = Autoregression(task.input_size or 4, window=5)
    model = for_task(task, network)
    batch = jax.eval_shape(lambda: task.sample(jax.random.key(0), 4))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    value, metrics = jax.eval_shape(model.loss, params, batch)
    assert value.shape == ()
    assert metrics["count"].shape == ()
    assert f"{model.table(batch).parameters:,}" in str(model.table(batch))


@pytest.mark.long
def test_a_trained_window_solves_what_its_window_holds():
    """And a shorter one learns nothing: the loss is that of chance."""
    task = rnnlab.tasks.copy_memory(1, symbols=2, items=3)
    losses = []
    for window in (5, 3):
        model = for_task(task, WindowNetwork(32, window=window))
        run = rnnlab.training.fit(
            model,
            task.batches(64),
            optax.adam(1e-2),
            steps=200,
            progress=False,
        )
        losses.append(float(run.metrics["loss"][-20:].mean()))
    assert losses[0] < task.baseline() / 20
    assert losses[1] > task.baseline() * 0.9


FAULTS = {
    "a window": (lambda: WindowNetwork(3, window=0), "window", "0"),
    "no units": (lambda: WindowNetwork(0), "hidden_size"),
    "taps": (lambda: TimeDelayNetwork(3, taps=1.5), "taps"),
    "no layers": (lambda: TimeDelayNetwork(3, dilations=()), "dilations", "(1, 2, 4)"),
    "a dilation": (lambda: TimeDelayNetwork(3, dilations=(1, 0)), "dilation is 0"),
    "an activation": (lambda: WindowNetwork(3, activation="tan"), "'tan'", "'tanh'"),
    "heads": (lambda: Transformer(6, heads=4), "heads 4"),
    "an odd size": (lambda: Transformer(3, heads=1), "even"),
    "a feed-forward size": (lambda: Transformer(4, feedforward_size=0), "feedforward_size"),
    "a dtype": (lambda: WindowNetwork(3, param_dtype=jnp.int32), "param_dtype"),
    "features": (
        lambda: step_regressor(Autoregression(3), 1).init(
            jax.random.key(0), Batch(VECTORS, STEP_NUMBERS)
        ),
        "2 features",
        "Autoregression(2, window=8)",
    ),
    "no vectors": (
        lambda: WindowNetwork(3)(draw_params(WindowNetwork(3), I), np.ones((T, B, I), int)),
        "floats",
    ),
    "lengths": (
        lambda: WindowNetwork(3)(draw_params(WindowNetwork(3), I), VECTORS, lengths=[1, 2, 9]),
        "lengths",
    ),
    "resets": (
        lambda: WindowNetwork(3)(draw_params(WindowNetwork(3), I), VECTORS, resets=np.ones(T)),
        "resets",
        "(5, 3)",
    ),
    "a language model": (lambda: language_model(Transformer(4), V), "Transformer", "LSTM"),
    "a forecaster": (lambda: forecaster(WindowNetwork(4), horizon=2, outputs=1), "not a cell"),
    "parameters": (
        lambda: tagger(WindowNetwork(3, window=2), C).apply(
            float64_params(tagger(WindowNetwork(3), C), Batch(VECTORS, TAGS)), Batch(VECTORS, TAGS)
        ),
        "params.cell.layers[0].w",
        "(16, 3)",
        "(4, 3)",
    ),
    "resets where one output is wanted": (
        lambda: classifier(Transformer(4), C).apply(
            None, Batch(VECTORS, TAGS[0], resets=np.zeros((T, B), bool))
        ),
        "resets",
    ),
    "keys and queries": (lambda: attention(Q, VALUES, VALUES), "(2, 3, 6, 4)", "[..., S, D]"),
    "keys and values": (lambda: attention(Q, K, VALUES[..., :5, :]), "[..., S, E]"),
    "a vector": (lambda: attention(Q[0, 0, 0], K, VALUES), "[..., T, D]"),
    "causal": (lambda: attention(Q[..., :2, :], K, VALUES, causal=True), "2 queries", "6 keys"),
    "a mask of numbers": (lambda: attention(Q, K, VALUES, mask=SOME * 1.0), "mask", "boolean"),
    "the shape of a mask": (lambda: attention(Q, K, VALUES, mask=SOME[..., :2]), "broadcast"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_input_gives_one_sentence(fault):
    call, *words = FAULTS[fault]
    one_sentence(call, *words)


@each_network
def test_inputs_that_do_not_fit_are_refused(name):
    network, _ = NETWORKS[name]
    params = network.init(jax.random.key(0), I)
    one_sentence(lambda: network(params, jnp.zeros((5, 2, I + 1))), f"xs has {I + 1} features")
    for shape in ((5, I), (5, 2, 2, I)):
        one_sentence(lambda shape=shape: network(params, jnp.zeros(shape)), "[T, B, I]")


def test_networks_are_no_cells():
    """An instrument of recurrence says so."""
    network = WindowNetwork(3)
    one_sentence(
        lambda: rnnlab.gradient_flow(network, draw_params(network, I), VECTORS, jnp.sum),
        "not a cell",
    )
    assert WindowNetwork(3) == WindowNetwork(3, activation=jax.nn.relu)
    assert hash(TimeDelayNetwork(3, dilations=[1, 2])) == hash(
        TimeDelayNetwork(3, dilations=(1, 2))
    )
    assert for_task(TASKS["classes"], GRU(3)).cell == GRU(3)
