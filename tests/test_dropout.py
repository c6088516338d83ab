"""Dropout that knows time, against a loop over steps with the same masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, LSTMState
from rnnlab.layers import variational_dropout, weight_dropout, zoneout
from tests.reference import one_sentence

pytestmark = pytest.mark.long

KEY = jax.random.key(3)
T, B, INPUTS, H = 9, 4, 3, 5
F64 = {"param_dtype": jnp.float64}
CELLS = {
    "rnn": RNN(H, **F64),
    "lstm": LSTM(H, **F64),
    "gru": GRU(H, **F64),
    "gru before": GRU(H, reset="before", **F64),
    "peephole": LSTM(H, peephole=True, **F64),
}
WRAPPERS = {
    "variational": lambda cell: variational_dropout(cell, inputs=0.2, state=0.3, outputs=0.1),
    "inputs": lambda cell: variational_dropout(cell, inputs=0.4),
    "weights": lambda cell: weight_dropout(cell, 0.4),
    "zoneout": lambda cell: zoneout(cell, 0.3),
}


def problem(cell):
    params = cell.init(jax.random.key(0), INPUTS)
    return params, jax.random.normal(jax.random.key(1), (T, B, INPUTS), jnp.float64)


def check_close(found, expected, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("wrapper", "name"),
    [(wrapper, "lstm") for wrapper in WRAPPERS]
    + [("variational", name) for name in CELLS if name != "lstm"]
    + [("zoneout", "gru before")],
)
def test_engines_agree_in_values_and_gradients(wrapper, name):
    cell = WRAPPERS[wrapper](CELLS[name])
    params, xs = problem(cell)
    options = {
        "key": KEY,
        "lengths": jnp.array([9, 1, 4, 0]),
        "resets": jnp.arange(T)[:, None] == jnp.array([3, 0, 2, 8])[None],
    }

    def loss(params, xs, engine):
        final, ys = rnnlab.unroll(cell, params, xs, engine=engine, **options)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(final))

    expected = jax.value_and_grad(loss, (0, 1))(params, xs, "scan")
    for engine in ("auto", "checkpointed"):
        check_close(jax.value_and_grad(loss, (0, 1))(params, xs, engine), expected, atol=1e-10)


@pytest.mark.parametrize("name", ["variational", "inputs", "weights"])
def test_without_a_key_nothing_is_dropped(name):
    inner = CELLS["lstm"]
    cell = WRAPPERS[name](inner)
    params, xs = problem(cell)
    check_close(rnnlab.unroll(cell, params, xs), rnnlab.unroll(inner, params, xs))


def test_the_mask_of_the_state_is_the_same_at_every_step():
    """With W_x = 0 and W_h = I a unit is dropped for good or scaled by 1/(1 − p) at each step."""
    cell = variational_dropout(RNN(200, activation="identity", bias=False, **F64), state=0.25)
    params, _ = problem(cell)
    params = params._replace(w_x=jnp.zeros_like(params.w_x), w_h=jnp.eye(200))
    start = cell.cell.initial_state((1,))._replace(h=jnp.ones((1, 200)))
    _, ys = rnnlab.unroll(cell, params, jnp.zeros((6, 1, INPUTS)), start, key=KEY)
    kept = np.asarray(ys[0, 0] > 0)
    assert 0.1 < 1 - kept.mean() < 0.4
    expected = np.where(kept, (4 / 3) ** np.arange(1, 7)[:, None], 0)
    np.testing.assert_allclose(ys[:, 0], expected, rtol=1e-12)


def test_masks_of_inputs_and_outputs_are_the_same_at_every_step():
    cell = variational_dropout(RNN(4, **F64), inputs=0.5, outputs=0.5)
    params, xs = problem(cell)
    slope = jax.jacobian(lambda xs: rnnlab.unroll(cell, params, xs, key=KEY)[1].sum((0, 2)))(xs)
    dead = np.asarray(jnp.stack([slope[b, :, b] == 0 for b in range(B)]))  # [B, T, I]
    np.testing.assert_array_equal(dead, np.broadcast_to(dead[:, :1], dead.shape))
    assert dead.any()
    assert not dead.all()


def test_weight_dropout_drops_weights_of_the_whole_batch():
    cell = weight_dropout(CELLS["gru"], 0.5)
    params, xs = problem(cell)
    gradient = jax.grad(lambda p: rnnlab.unroll(cell, p, xs, key=KEY)[1].sum())(params)
    share = float((gradient.w_h == 0).mean())
    assert 0.3 < share < 0.7
    assert (gradient.w_x != 0).all()
    dropped = cell._dropped(params, jax.random.split(KEY)[0])
    check_close(rnnlab.unroll(cell, params, xs, key=KEY), rnnlab.unroll(cell.cell, dropped, xs))
    values = np.unique(np.round(np.asarray(dropped.w_h / params.w_h), 12))
    np.testing.assert_array_equal(values, [0, 2])


def test_zoneout_keeps_old_values_or_takes_new_ones():
    cell = zoneout(CELLS["lstm"], 0.4)
    params, xs = problem(cell)
    states, ys = rnnlab.unroll_states(cell, params, xs, key=KEY)
    np.testing.assert_array_equal(ys, states.h)
    zeros = jnp.zeros((1, B, H))
    old = LSTMState(*[jnp.concatenate([zeros, leaf[:-1]]) for leaf in states])
    new = jax.vmap(lambda s, x: cell.cell.step(params, s, x)[0])(old, xs)
    for before, after, now in zip(old, new, states, strict=True):
        kept = np.isclose(now, before, atol=1e-14)
        assert (kept | np.isclose(now, after, atol=1e-14)).all()
        assert 0.3 < kept.mean() < 0.6


def test_zoneout_without_a_key_is_the_expectation():
    cell = zoneout(RNN(H, **F64), 0.25)
    params, xs = problem(cell)
    state, y = cell.step(params, cell.initial_state((B,)), xs[0])
    new, _ = cell.cell.step(params, cell.initial_state((B,)), xs[0])
    np.testing.assert_allclose(y, 0.75 * new.h, atol=1e-15)
    np.testing.assert_array_equal(y, state.h)
    _, ys = rnnlab.unroll(cell, params, xs[:1])
    np.testing.assert_allclose(ys[0], y, atol=1e-15)


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["variational", "inputs", "zoneout"])
def test_gradient_flow_follows_the_masks(name):
    cell = WRAPPERS[name](CELLS["lstm"])
    params, xs = problem(cell)

    def loss(ys):
        return jnp.sum(ys[-1] ** 2)

    flow = rnnlab.gradient_flow(cell, params, xs, loss, key=KEY)
    expected = jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs, key=KEY)[1]))(params)
    check_close(flow.gradient, expected)


def test_in_a_stack_each_layer_has_masks_of_its_own():
    layer = variational_dropout(GRU(H, **F64), state=0.5)
    deep = rnnlab.stack([layer, layer])
    params, xs = problem(deep)
    one = rnnlab.unroll(deep, params, xs, key=KEY)
    other = rnnlab.unroll(deep, params, xs, key=jax.random.key(9))
    assert not np.allclose(one[1], other[1])
    check_close(rnnlab.unroll(deep, params, xs, key=KEY), one)


def test_bad_input():
    step = rnnlab.Step(lambda p, h, x: (h, h), jnp.zeros(3))  # noqa: ARG005
    one_sentence(lambda: variational_dropout(RNN(3), state=1.0), "state is 1.0", "below 1")
    one_sentence(lambda: weight_dropout(RNN(3), -0.1), "rate is -0.1")
    one_sentence(lambda: zoneout(step, 0.1), "zoneout needs a cell", "rnnlab.Recurrent")
    one_sentence(lambda: variational_dropout(step, state=0.1), "project, mix, gate")
    one_sentence(lambda: variational_dropout(3, inputs=0.1), "not a cell")
    cell = weight_dropout(RNN(3), 0.1, weights=("u",))
    params, xs = problem(cell)
    one_sentence(lambda: rnnlab.unroll(cell, params, xs, key=KEY), "none of the weights u")
