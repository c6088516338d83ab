"""Truncated backpropagation against the gradients of each window's new targets by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab.data import Batch, streams
from rnnlab.models import language_model
from rnnlab.training import cross_entropy, initial_state, train_step, truncated_loss
from tests.reference import close, one_sentence

V, B = 3, 2
CODES = np.random.default_rng(0).integers(0, V, 80)
CELL = rnnlab.RNN(4, param_dtype=jnp.float64)
MODEL = language_model(CELL, V)


def start(model=MODEL):
    batch = Batch(np.zeros((1, B), np.int32), None)
    params = model.init(jax.random.key(0), batch)
    # Larger weights, so that what lies far back matters.
    return jax.tree.map(lambda leaf: 2 * leaf, params)


PARAMS = start()
State = type(MODEL.initial_state(B))
SOME = State(jax.random.normal(jax.random.key(3), (B, 4)))


@jax.jit
def truncated_by_hand(params, windows, states):
    """The mean loss of the new targets, step by step, from given states at the windows' begins."""

    def loss(params):
        losses = []
        for batch, state in zip(windows, states, strict=True):
            state = jax.lax.stop_gradient(state)
            for t, codes in enumerate(batch.xs):
                reset = batch.resets[t]
                state = jnp.where(reset[:, None], 0.0, state)
                state, logits = by_step(params, state, codes)
                picked = jnp.take_along_axis(logits, batch.targets[t][:, None], 1)[:, 0]
                each = jax.nn.logsumexp(logits, 1) - picked
                losses.append(jnp.sum(jnp.where(batch.mask[t], each, 0)))
        count = sum(np.sum(batch.mask) for batch in windows)
        return sum(losses) / count

    return jax.value_and_grad(loss)(params)


def by_step(params, h, codes):
    """hₜ = tanh(W_x xₜ + W_h hₜ₋₁ + b), and the readout."""
    x = params.embedding[codes]
    h = jnp.tanh(x @ params.cell.w_x + h @ params.cell.w_h + params.cell.b)
    return h, h @ params.readout.w + params.readout.b


@pytest.fixture(scope="module")
def unbroken():
    """The states of each stream before each step of an epoch, without windows."""
    data = streams(CODES, B, 5, seed=1)
    windows = [data[index] for index in range(data.batches_per_epoch)]
    xs = np.concatenate([batch.xs for batch in windows])
    resets = np.concatenate([batch.resets for batch in windows])
    states, state = [], jnp.zeros((B, 4))
    for codes, reset in zip(xs, resets, strict=True):
        state = jnp.where(reset[:, None], 0.0, state)
        states.append(state)
        state, _ = by_step(PARAMS, state, codes)
    return [*states, state]


def test_the_step_by_hand_is_that_of_the_model(unbroken):
    batch = streams(CODES, B, 5, seed=1)[0]
    state, _ = MODEL.run(PARAMS, batch.xs, MODEL.initial_state(B), resets=batch.resets)
    close(state.h, unbroken[5], 1e-12)


@pytest.mark.combinations
@pytest.mark.parametrize("context", [7, 3])
def test_each_new_target_reaches_to_the_begin_of_its_window(unbroken, context):
    """k₁ = 5 < k₂ = 5 + context: value, gradient and the state that is handed on."""
    k1 = 5
    data = streams(CODES, B, k1, context=context, seed=1)
    loss = truncated_loss(MODEL, k1)
    measure = jax.jit(jax.value_and_grad(loss, has_aux=True))
    carry = MODEL.initial_state(B)
    for index in range(data.batches_per_epoch):
        batch = data[index]
        first = index * k1 - context
        # Before the first step there is filler; the state before it is of no account.
        begin = unbroken[first] if first >= 0 else carry.h
        (value, (metrics, carry)), gradient = measure(PARAMS, batch, None, carry)
        expected, wanted = truncated_by_hand(PARAMS, [batch], [begin])
        close(value, expected, 1e-10)
        close(gradient, wanted, 1e-9)
        assert int(metrics["count"]) == batch.mask.sum()
        if first + k1 >= 0 and index < data.batches_per_epoch - 1:
            last = unbroken[first + k1]
            # The unbroken run resets at the text's end; a window does at its first step there.
            kept = ~data[index + 1].resets[0]
            close(carry.h[kept], last[kept], 1e-10)


def test_a_window_of_the_whole_text_has_the_full_gradient():
    """k₂ = T; nothing is left out, and the parts of ``run`` do not cut the gradient."""
    whole = streams(CODES[:31], B, 15)[0]
    batch = whole._replace(resets=np.zeros_like(whole.resets))

    @jax.jit
    @jax.grad
    def full(params):
        logits = MODEL.apply(params, batch._replace(resets=None))
        return cross_entropy(logits, batch.targets)

    wanted = full(PARAMS)
    for length in (15, 6):
        gradient_of = jax.jit(jax.grad(truncated_loss(MODEL, length), has_aux=True))
        gradient, _ = gradient_of(PARAMS, batch, None, MODEL.initial_state(B))
        close(gradient, wanted, 1e-10)


def test_no_gradient_flows_through_what_is_carried():
    """With context 0 the gradient is that of the window alone, given the state."""
    batch = streams(CODES, B, 5)[1]
    loss = truncated_loss(MODEL, 5)
    optimiser = optax.sgd(1.0)
    step = jax.jit(train_step(loss, optimiser, carried=True))
    state = initial_state(PARAMS, optimiser, jax.random.key(0), carry=SOME)
    state, _ = step(state, batch)
    _, wanted = truncated_by_hand(PARAMS, [batch], [SOME.h])
    close(state.params, jax.tree.map(jnp.subtract, PARAMS, wanted), 1e-10)


def test_a_reset_forgets_the_state_and_cuts_the_gradient():
    """What comes before it has no effect on the losses after it."""
    batch = streams(CODES, B, 8)[0]
    resets = np.zeros((8, B), bool)
    resets[5] = True
    mask = np.zeros((8, B), bool)
    mask[5:] = True
    batch = batch._replace(resets=resets, mask=mask)
    loss = truncated_loss(MODEL, 3)

    @jax.jit
    def value(carry, xs):
        return loss(PARAMS, batch._replace(xs=xs), None, carry)[0]

    close(jax.grad(value)(SOME, batch.xs), jax.tree.map(jnp.zeros_like, SOME), 0)
    other = batch.xs.copy()
    other[:5] = (other[:5] + 1) % V
    assert float(value(SOME, batch.xs)) == float(value(MODEL.initial_state(B), other))
    no_resets = loss(PARAMS, batch._replace(resets=None), None, SOME)[0]
    assert float(value(SOME, batch.xs)) != pytest.approx(float(no_resets), rel=1e-3)


def test_accumulated_windows_are_weighed_by_their_targets(unbroken):
    """One step over M windows is the gradient of all their new targets together."""
    k1, context, parts = 5, 3, 2
    data = streams(CODES, B, k1, context=context, seed=1)
    # With the last one, which is not full.
    chosen = range(data.batches_per_epoch - parts, data.batches_per_epoch)
    windows = [data[index] for index in chosen]
    begins = [unbroken[index * k1 - context] for index in chosen]
    optimiser = optax.sgd(1.0)
    loss = truncated_loss(MODEL, k1)
    step = jax.jit(train_step(loss, optimiser, accumulate=parts, carried=True))
    state = initial_state(PARAMS, optimiser, jax.random.key(0), carry=State(begins[0]))
    state, metrics = step(state, jax.tree.map(lambda *leaves: np.stack(leaves), *windows))
    value, wanted = truncated_by_hand(PARAMS, windows, begins)
    close(metrics["loss"], value, 1e-10)
    close(state.params, jax.tree.map(jnp.subtract, PARAMS, wanted), 1e-9)
    counts = [batch.mask.sum() for batch in windows]
    assert counts[-1] < counts[0]
    assert int(metrics["count"]) == sum(counts)


def test_dropout_differs_between_steps_and_is_off_without_a_key():
    model = language_model(CELL, V, dropout=0.5)
    loss = truncated_loss(model, 5)
    batch = streams(CODES, B, 5, context=2)[1]
    carry = model.initial_state(B)
    keys = jax.random.split(jax.random.key(0))
    with_key = jax.jit(lambda key: loss(PARAMS, batch, key, carry)[0])
    values = [float(with_key(key)) for key in (*keys, keys[0])]
    values.append(float(loss(PARAMS, batch, None, carry)[0]))
    assert values[0] == values[2]
    assert len(set(values)) == 3
    plain = truncated_loss(MODEL, 5)
    assert values[3] == float(plain(PARAMS, batch, None, carry)[0])


@pytest.mark.parametrize(
    ("length", "change", "words"),
    [
        (0, {}, ("length is 0",)),
        (2.0, {}, ("length is 2.0",)),
        (9, {}, ("windows have 8 steps", "length is 9")),
        (8, {"lengths": np.array([8, 3])}, ("lengths", "streams")),
    ],
)
def test_wrong_windows_are_refused_in_one_sentence(length, change, words):
    batch = streams(CODES, B, 8)[0]._replace(**change)
    carry = MODEL.initial_state(B)
    one_sentence(lambda: truncated_loss(MODEL, length)(PARAMS, batch, None, carry), *words)
