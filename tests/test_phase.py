"""Phase diagrams against linear networks of known reach, and one network and length at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, LSTMParams
from rnnlab.diagnostics import gradient_flow, lyapunov_spectrum
from rnnlab.diagnostics.phase_diagram import (
    forget_bias,
    phase_diagram,
    recurrent_gain,
)
from rnnlab.layers import AnyDepth, depth
from tests.reference import close, one_sentence, watch


def orthogonal(size):
    cell = RNN(size, activation="identity", bias=False, param_dtype=jnp.float64)
    return cell, cell.init(jax.random.key(0), 2)


def test_a_scaled_orthogonal_network_reaches_as_far_as_its_gain_says():
    cell, params = orthogonal(5)
    xs = jax.random.normal(jax.random.key(1), (60, 3, 2), jnp.float64)
    gains = np.array([0.5, 0.8, 0.9, 1.0, 1.1])
    lengths = np.array([5, 20, 60])
    found = phase_diagram(cell, params, xs, gains, lengths)
    rates = np.broadcast_to(np.log(gains)[:, None], (5, 3))
    np.testing.assert_allclose(found.decay_per_step, -rates, atol=1e-10)
    np.testing.assert_allclose(found.exponent, rates, atol=1e-10)
    with np.errstate(divide="ignore"):
        lag = np.where(
            rates < -1e-9, np.floor(np.log(1000) / np.maximum(-rates, 1e-300)) + 1, np.inf
        )
    np.testing.assert_array_equal(found.horizon, np.minimum(lag, lengths))
    np.testing.assert_array_equal(found.vanishes, lag < lengths)


@pytest.mark.long
def test_the_exponent_of_an_lstm_without_weights_is_its_forget_gate():
    cell = LSTM(3, param_dtype=jnp.float64)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 2))
    biases = np.array([-1.0, 0.5, 3.0])
    lengths = np.array([3, 12])
    found = phase_diagram(cell, params, jnp.ones((12, 2)), biases, lengths, vary=forget_bias)
    expected = np.broadcast_to(-np.log1p(np.exp(-biases))[:, None], (3, 2))
    np.testing.assert_allclose(found.exponent, expected, rtol=1e-10)


@pytest.mark.parametrize("normal", [True, False])
def test_the_line_of_exponent_zero_is_at_a_spectral_radius_of_one(normal):
    u = np.random.default_rng(0).normal(size=(64, 64))
    u = np.linalg.qr(u)[0] if normal else u
    w = u * np.linspace(-0.98, 1, 64) @ np.linalg.inv(u)
    cell, params = orthogonal(64)
    params = params._replace(w_h=jnp.asarray(w))
    gains = np.array([0.9, 1.0, 1.1])
    found = phase_diagram(cell, params, jnp.zeros((100, 2)), gains, [30, 48, 100])
    expected = np.broadcast_to(np.log(gains)[:, None], (3, 3))
    np.testing.assert_allclose(found.exponent, expected, atol=1e-8)


def foreign():
    return rnnlab.Step(
        lambda w, h, x: (new := jnp.tanh(h @ w["w"] + x), new), jnp.zeros(3, jnp.float64)
    )


def scaled(params, gain):
    return {"w": gain * params["w"]}


@pytest.mark.long
@pytest.mark.parametrize("name", ["lstm", "stack", "foreign"])
def test_each_entry_is_that_of_one_network_at_one_length(name):
    xs = jax.random.normal(jax.random.key(1), (14, 2, 3), jnp.float64)
    vary = scaled if name == "foreign" else recurrent_gain
    if name == "foreign":
        cell, params = foreign(), {"w": jax.random.normal(jax.random.key(2), (3, 3), jnp.float64)}
    else:
        layers = [GRU(3, param_dtype=jnp.float64), LSTM(3, param_dtype=jnp.float64)]
        cell = {"lstm": layers[1], "gru": layers[0], "stack": rnnlab.stack(layers)}[name]
        params = cell.init(jax.random.key(0), 3)
    found = phase_diagram(cell, params, xs, [0.3, 1.5], [4, 14], vary=vary, key=jax.random.key(4))
    for row, gain in enumerate((0.3, 1.5)):
        for column, length in enumerate((4, 14)):
            own = vary(params, gain)
            flow = gradient_flow(cell, own, xs[:length], lambda ys: 0.5 * jnp.sum(ys[-1] ** 2))
            spectrum = lyapunov_spectrum(cell, own, xs, count=1, key=jax.random.key(4))
            exponent = spectrum.trace[length - 1].mean()  # of directions turned along all steps
            np.testing.assert_allclose(found.exponent[row, column], exponent, rtol=1e-9)
            if name == "stack":
                continue  # its flow is told layer by layer
            np.testing.assert_allclose(
                found.decay_per_step[row, column], flow.decay_per_step, rtol=1e-9
            )
            assert found.horizon[row, column] == flow.horizon
            assert found.vanishes[row, column] == flow.vanishes


def doubled(cell, params, state, x):
    """The step, with an output that is not part of the state, so the state is taken whole."""
    new, y = cell.step(params, state, x)
    return new, 2 * y


@pytest.mark.long
def test_a_stack_of_any_depth_is_the_stack_of_its_first_layers():
    cells = [GRU(3, param_dtype=jnp.float64) for _ in range(3)]
    whole = AnyDepth(rnnlab.stack(cells))
    params = whole.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (9, 2, 2), jnp.float64)
    found = phase_diagram(whole, params, xs, [1, 2, 3], [9], vary=depth)
    for number in (1, 2, 3):
        first = rnnlab.stack(cells[:number])
        own = params.stack._replace(layers=params.stack.layers[:number])
        ys = rnnlab.unroll(whole, depth(params, number), xs)[1]
        close(ys, rnnlab.unroll(first, own, xs)[1])
        joint = rnnlab.Step(functools.partial(doubled, first), first.initial_state)
        same = phase_diagram(joint, own, xs, [1.0], [9])
        for name in ("horizon", "decay_per_step", "exponent"):
            np.testing.assert_allclose(
                getattr(found, name)[number - 1], getattr(same, name)[0], rtol=1e-8
            )


def test_gain_and_forget_bias_change_nothing_else():
    params = LSTM(2, recurrent_bias=True).init(jax.random.key(0), 3)
    assert isinstance(params, LSTMParams)
    close(recurrent_gain(params, 0.5), params._replace(w_h=0.5 * params.w_h))
    close(forget_bias(params, -2.0), params._replace(b=params.b.at[2:4].set(-2.0)))


@pytest.mark.long
def test_the_forget_bias_of_an_lstm_from_pytorch_is_the_sum_of_its_two():
    """Asked for 2, with a second bias of 2, it used to be 4."""
    params = LSTM(3, recurrent_bias=True).init(jax.random.key(0), 2)
    imported = params._replace(c=params.c + 2.0)
    changed = forget_bias(imported, 2.0)
    np.testing.assert_array_equal((changed.b + changed.c)[3:6], np.full(3, 2.0))
    rest = np.r_[0:3, 6:12]
    np.testing.assert_array_equal(changed.c[rest], imported.c[rest])
    np.testing.assert_array_equal(changed.b[rest], imported.b[rest])
    alone = params._replace(b=(imported.b + imported.c).at[3:6].set(2.0), c=0 * params.c)
    xs = jax.random.normal(jax.random.key(1), (30, 2, 2))
    both = LSTM(3, recurrent_bias=True)
    diagrams = [
        phase_diagram(both, p, xs, [0.0, 3.0], [30], vary=forget_bias) for p in (imported, alone)
    ]
    np.testing.assert_allclose(diagrams[0].decay_per_step, diagrams[1].decay_per_step, rtol=1e-5)


def test_the_whole_grid_is_compiled_once():
    cell, params = orthogonal(3)
    xs = jnp.ones((8, 2))
    phase_diagram(cell, params, xs, [0.5, 1.0], [3, 8])
    with watch() as work:
        phase_diagram(cell, params, 2 * xs, [0.2, 3.0], [6, 8])
    assert "_diagram" not in work.compiled


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": 1.0}, ("values has shape ()",)),
        ({"values": []}, ("values has shape (0,)",)),
        ({"values": [1.0, np.nan]}, ("values holds NaN",)),
        ({"lengths": [[3]]}, ("lengths has shape (1, 1)",)),
        ({"lengths": [0, 3]}, ("each must lie in 1..8",)),
        ({"lengths": [9]}, ("each must lie in 1..8",)),
        ({"lengths": [2.5]}, ("must be integers",)),
        ({"vary": forget_bias}, ("no LSTM with a bias",)),
        ({"params": {"w": np.ones((2, 2))}}, ("params has the structure",)),
    ],
)
def test_bad_input(change, words):
    cell, params = orthogonal(3)
    given = {
        "params": params,
        "xs": jnp.ones((8, 2)),
        "values": [0.5, 1.0],
        "lengths": [3, 8],
        **change,
    }
    one_sentence(lambda: phase_diagram(cell, **given), *words)


def test_what_has_no_recurrent_matrix_or_no_one_size_is_refused():
    one_sentence(lambda: recurrent_gain({"w": jnp.ones(2)}, 2.0), "no recurrent matrix w_h")
    one_sentence(lambda: AnyDepth(rnnlab.stack([GRU(3), GRU(2)])), "layers have one size")
