"""Every cell against its slow twin, the promises of all cells, and those of each one."""

import dataclasses

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import (
    GRU,
    LSTM,
    RNN,
    GRUState,
    JordanRNN,
    JordanState,
    LeakyRNN,
    LSTMState,
    RNNState,
)
from tests.reference import close, loop, watch
from tests.reference.cells import CELLS, VARIANTS, by_name, draw_params, draw_state, gru, sigmoid

INPUTS, T, B = 2, 5, 3  # inputs, time, batch


def each(twins):
    return pytest.mark.parametrize("twin", twins, ids=lambda twin: twin.name)


RECURRENT = [twin for twin in [*CELLS, *VARIANTS] if hasattr(twin.cell, "hidden_size")]


def noise(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# What every cell promises


@pytest.mark.combinations
@each([*CELLS, *VARIANTS])
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_step_is_the_textbooks(twin, batch):
    params, state, x = (
        draw_params(twin.cell, INPUTS),
        draw_state(twin.cell, batch),
        noise(*batch, INPUTS),
    )
    expected = loop.unroll(twin.step, params, x[None], state)
    after, y = twin.cell.step(params, jax.tree.map(jnp.asarray, state), jnp.asarray(x))
    close(after, expected.final)
    close(y, expected.ys[0])


@pytest.mark.combinations
@each(CELLS)
def test_step_is_project_mix_and_gate(twin):
    """Engines rely on it: one product serves the whole sequence, and the rest equals the step."""
    cell, params, xs = twin.cell, draw_params(twin.cell, INPUTS), jnp.asarray(noise(T, B, INPUTS))
    state = jax.tree.map(jnp.asarray, draw_state(cell, (B,)))
    t = 2
    projected = cell.project(params, xs)[t]
    close(
        cell.gate(params, state, projected, cell.mix(params, state)),
        cell.step(params, state, xs[t]),
    )


WITH_MAPS = [
    twin for twin in RECURRENT if twin.cell.maps(draw_params(twin.cell, INPUTS)) is not None
]


@each(WITH_MAPS)
def test_maps_are_project_and_mix(twin):
    """And where a column is joint, the gate sees only the sum of the two."""
    cell, params, x = twin.cell, draw_params(twin.cell, INPUTS), jnp.asarray(noise(B, INPUTS))
    state = jax.tree.map(jnp.asarray, draw_state(cell, (B,)))
    maps = cell.maps(params)
    z, a = cell.project(params, x), cell.mix(params, state)
    close(z, x @ maps.w_x + (0 if maps.b is None else maps.b))
    c = 0 if maps.c is None else jnp.pad(maps.c, (a.shape[-1] - maps.c.size, 0))
    close(a, state.h @ maps.w_h + c)
    moved = jnp.where(jnp.arange(a.shape[-1]) < maps.joint, noise(B, a.shape[-1]), 0)
    into = jnp.pad(moved, ((0, 0), (0, z.shape[-1] - a.shape[-1])))
    close(cell.gate(params, state, z + into, a - moved), cell.gate(params, state, z, a))


@pytest.mark.combinations
@each(WITH_MAPS)
def test_the_adjoint_is_the_derivative_of_the_gate(twin):
    cell, params, x = twin.cell, draw_params(twin.cell, INPUTS), jnp.asarray(noise(B, INPUTS))
    state = jax.tree.map(jnp.asarray, draw_state(cell, (B,)))
    z, a, d_new = cell.project(params, x), cell.mix(params, state), draw_state(cell, (B,), seed=8)
    (new, y), back = jax.vjp(lambda *given: cell.gate(params, *given), state, z, a)
    close(y, new.h)
    close(cell.gate_residuals(params, state, z, a)[0], new)
    adjoint = cell.gate_adjoint(
        params, state, new, cell.gate_residuals(params, state, z, a)[1], d_new
    )
    found = (
        adjoint.old,
        jnp.concatenate(adjoint.joint + adjoint.z, -1),
        jnp.concatenate(adjoint.joint + adjoint.a, -1),
    )
    close(found, back((d_new, jnp.zeros_like(y))))


@each([*CELLS, *VARIANTS])
def test_form(twin):
    cell = twin.cell
    with pytest.raises(dataclasses.FrozenInstanceError):
        cell.param_dtype = jnp.float64
    for made in (
        jax.eval_shape(lambda key: cell.init(key, INPUTS), jax.random.key(0)),
        cell.initial_state((2,)),
    ):
        assert isinstance(made, tuple)
        assert hasattr(made, "_fields")


@each(CELLS)
def test_first_field_is_the_size(twin):
    kind = type(twin.cell)
    assert dataclasses.fields(kind)[0].name == "hidden_size"
    assert kind(7).hidden_size == 7
    assert kind(np.int64(7)) == kind(7)


@each(RECURRENT)
@pytest.mark.parametrize("batch", [(), (2, 1)], ids=str)
def test_initial_state_is_zero(twin, batch):
    state = twin.cell.initial_state(batch)
    close(state, type(state)(*[np.zeros((*batch, leaf.shape[-1]), np.float32) for leaf in state]))
    assert state.h.shape == (*batch, twin.cell.output_size)


@each(by_name("elman", "jordan", "lstm", "gru-before", "readout"))
def test_methods_are_pure(twin):
    one, same, other = (twin.cell.init(jax.random.key(seed), INPUTS) for seed in (0, 0, 1))
    chex.assert_trees_all_equal(one, same)
    assert not np.array_equal(one[0], other[0])
    state, x = draw_state(twin.cell, (2,)), noise(2, INPUTS)
    before = jax.tree.map(np.copy, (one, state, x))
    chex.assert_trees_all_equal(twin.cell.step(one, state, x), twin.cell.step(one, state, x))
    chex.assert_trees_all_equal((one, state, x), before)


@each([*CELLS, *VARIANTS])
def test_a_cell_is_its_fields(twin):
    again = dataclasses.replace(twin.cell)
    assert again is not twin.cell
    assert again == twin.cell
    assert hash(again) == hash(twin.cell)
    assert dataclasses.replace(twin.cell, param_dtype=jnp.float64) != twin.cell


def test_a_name_and_its_function_make_one_cell():
    assert RNN(3) == RNN(3, activation="tanh") == RNN(3, activation=jnp.tanh)
    assert RNN(3, dtype="bfloat16") == RNN(3, dtype=jnp.bfloat16)
    biases = 1, 1.0, 0.0
    assert len({LSTM(3, forget_bias=forget_bias) for forget_bias in biases}) == 2


@pytest.mark.combinations
@each(CELLS)
def test_an_equal_cell_traces_nothing(twin):
    cell = dataclasses.replace(twin.cell, param_dtype=jnp.float64)  # one that no other test has run
    params, xs = cell.init(jax.random.key(0), INPUTS), noise(T, B, INPUTS)
    others = jax.tree.map(lambda leaf: -leaf, params)
    with watch() as first:
        rnnlab.unroll(cell, params, xs)
    with watch() as second:
        rnnlab.unroll(dataclasses.replace(cell), others, -xs)
    assert first.traced
    assert first.compiled
    assert second.traced == second.compiled == []


def test_a_cell_is_a_static_argument():
    @chex.assert_max_traces(n=1)
    def last(cell, params, xs):
        return rnnlab.unroll(cell, params, xs)[1][-1]

    last = jax.jit(last, static_argnums=0)
    params, xs = GRU(3).init(jax.random.key(0), INPUTS), noise(T, B, INPUTS)
    close(last(GRU(3), params, xs), last(GRU(hidden_size=3, reset="after"), params, xs))
    with pytest.raises(AssertionError):
        last(GRU(3, reset="before"), params, xs)


BF16, F32, F64 = jnp.bfloat16, jnp.float32, jnp.float64
DTYPES = pytest.mark.parametrize(
    ("dtype", "param_dtype", "x_dtype", "state_dtype"),
    [
        (None, F32, F32, F32),
        (None, F32, BF16, F32),
        (None, F32, F64, F64),
        (None, BF16, BF16, BF16),
        (None, F64, F32, F64),
        (BF16, F32, F32, F32),  # arithmetic in half precision, memory in full
        (BF16, BF16, F32, BF16),
        (F64, F64, F64, F64),
    ],
    ids=lambda dtype: jnp.dtype(dtype).name if dtype else "None",
)


@pytest.mark.combinations
@each(CELLS)
@DTYPES
def test_dtypes(twin, dtype, param_dtype, x_dtype, state_dtype):
    cell = dataclasses.replace(twin.cell, dtype=dtype, param_dtype=param_dtype)

    def run(key):
        params, xs = cell.init(key, INPUTS), jnp.ones((T, B, INPUTS), x_dtype)
        return (
            params,
            cell.initial_state(),
            cell.project(params, xs),
            rnnlab.unroll(cell, params, xs),
        )

    params, initial, projected, (final, ys) = jax.eval_shape(run, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, initial))} == {jnp.dtype(param_dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves((final, ys))} == {jnp.dtype(state_dtype)}
    assert projected.dtype == (dtype or jnp.promote_types(param_dtype, x_dtype))


@pytest.mark.parametrize(("kind", "twin"), [(LSTM, flax.linen.LSTMCell), (GRU, flax.linen.GRUCell)])
@DTYPES
def test_dtypes_are_flaxs(kind, twin, dtype, param_dtype, x_dtype, state_dtype):
    """Parameters and the states before and after a step have the dtypes of Flax's cells."""
    x, key = jnp.ones((B, INPUTS), x_dtype), jax.random.key(0)
    # Flax's default, orthogonal weights, is refused by newer releases of JAX in half precision.
    kernel = flax.linen.initializers.lecun_normal()
    theirs = twin(3, dtype=dtype, param_dtype=param_dtype, recurrent_kernel_init=kernel)
    carry = theirs.initialize_carry(key, x.shape)
    (after, y), variables = jax.eval_shape(lambda: theirs.init_with_output(key, carry, x))
    ours = kind(3, dtype=dtype, param_dtype=param_dtype)
    params, state = jax.eval_shape(lambda: ours.init(key, INPUTS)), ours.initial_state((B,))

    def dtypes(*trees):
        return [{leaf.dtype for leaf in jax.tree.leaves(tree)} for tree in trees]

    assert dtypes(params, state, *jax.eval_shape(ours.step, params, state, x)) == dtypes(
        variables, carry, after, y
    )
    assert dtypes(y) == [{jnp.dtype(state_dtype)}]


@each(by_name("elman", "lstm", "gru-after", "readout"))
def test_parameters_in_half_precision(twin):
    params = dataclasses.replace(twin.cell, param_dtype=BF16).init(jax.random.key(0), INPUTS)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(BF16)}


def test_float32_stays_float32():
    """x64 is on in these tests; nothing drifts to it, and values hold to single precision."""
    (twin,) = by_name("lstm-peephole-norm")
    params, state, xs = (
        draw_params(twin.cell, INPUTS),
        draw_state(twin.cell, (B,)),
        noise(T, B, INPUTS),
    )
    single = jax.tree.map(np.float32, (params, xs, state))
    final, ys = rnnlab.unroll(twin.cell, *single)
    expected = loop.unroll(twin.step, params, xs, state)
    close((final, ys), jax.tree.map(np.float32, (expected.final, expected.ys)), 1e-5)


@each(RECURRENT)
@pytest.mark.parametrize("size", [1, 4])
def test_init_shapes(twin, size):
    """Parameters take inputs of the size they were made for; what a cell does without is None."""
    cell = twin.cell
    params = jax.eval_shape(lambda key: cell.init(key, size), jax.random.key(0))
    assert params.w_x.shape[0] == size
    assert (params.b is None) == (not cell.bias)
    after, y = jax.eval_shape(cell.step, params, cell.initial_state((B,)), jnp.ones((B, size)))
    assert y.shape == (B, cell.output_size)
    chex.assert_trees_all_equal_shapes(after, cell.initial_state((B,)))


# The simple networks


@pytest.mark.parametrize(("name", "phi"), [("tanh", np.tanh), ("sigmoid", sigmoid)])
def test_pascanus_form_is_elmans_network(name, phi):
    """xₜ = W φ(xₜ₋₁) + W_in uₜ + b gives Elman's state φ(xₜ) if that starts from φ(x₀)."""
    params, state, xs = draw_params(RNN(3), INPUTS), draw_state(RNN(3), (B,)), noise(T, B, INPUTS)
    inner, _ = rnnlab.unroll_states(
        RNN(3, activation=name, form="output-state"), params, xs, state, lengths=[5, 1, 3]
    )
    outer, _ = rnnlab.unroll_states(
        RNN(3, activation=name), params, xs, RNNState(phi(state.h)), lengths=[5, 1, 3]
    )
    close(phi(np.asarray(inner.h)), np.asarray(outer.h))


def test_pascanus_form_starts_where_phi_of_zero_is():
    """Where φ(0) = 0 the two agree from their own starts and after resets.

    A sigmoid's x₀ = 0 is Elman's h₀ = ½.
    """
    params, xs = draw_params(RNN(3), INPUTS), noise(T, B, INPUTS)
    resets = np.random.default_rng(4).random((T, B)) < 0.4
    inner, _ = rnnlab.unroll_states(RNN(3, form="output-state"), params, xs, resets=resets)
    outer, _ = rnnlab.unroll_states(RNN(3), params, xs, resets=resets)
    close(np.tanh(np.asarray(inner.h)), np.asarray(outer.h))

    inner, _ = rnnlab.unroll(RNN(3, activation="sigmoid", form="output-state"), params, xs)
    outer, _ = rnnlab.unroll(
        RNN(3, activation="sigmoid"), params, xs, RNNState(np.full((B, 3), 0.5))
    )
    close(sigmoid(np.asarray(inner.h)), np.asarray(outer.h))


def test_leaky_network_of_alpha_one_is_elmans():
    params, xs, state = draw_params(RNN(3), INPUTS), noise(T, B, INPUTS), draw_state(RNN(3), (B,))

    def loss(cell, *inputs):
        return jnp.sum(rnnlab.unroll(cell, *inputs)[1] ** 2)

    leaky, plain = LeakyRNN(3, alpha=1.0), RNN(3)
    close(rnnlab.unroll(leaky, params, xs, state), rnnlab.unroll(plain, params, xs, state))
    gradients = [
        jax.grad(loss, argnums=(1, 2, 3))(cell, params, xs, state) for cell in (leaky, plain)
    ]
    close(*gradients)


def test_leaky_network_is_exact_where_nothing_drives_it():
    """Without weights h_T = (1 − α)^T h₀: memory fades with the time constant 1/α."""
    cell = LeakyRNN(3, alpha=0.25)
    params = jax.tree.map(np.zeros_like, draw_params(cell, INPUTS))
    state = draw_state(cell)
    final, _ = rnnlab.unroll(cell, params, noise(T, INPUTS), state)
    close(np.asarray(final.h), 0.75**T * state.h)


def test_jordans_network_remembers_only_its_output():
    """Hidden layers of any width are fed back through O numbers; all else is forgotten."""
    cell = JordanRNN(4, feedback_size=2)
    params = draw_params(cell, INPUTS)
    assert params.w_h.shape == (2, 4)
    final, ys = rnnlab.unroll(cell, params, noise(T, B, INPUTS))
    close(final, JordanState(ys[-1]))
    # With the output put to the identity, Jordan's network is Elman's.
    same = draw_params(JordanRNN(3), INPUTS)._replace(w_y=np.eye(3), b_y=np.zeros(3))
    elmans = draw_params(RNN(3), INPUTS)._replace(w_x=same.w_x, w_h=same.w_h, b=same.b)
    xs = noise(T, B, INPUTS)
    close(rnnlab.unroll(JordanRNN(3), same, xs)[1], rnnlab.unroll(RNN(3), elmans, xs)[1])


# LSTM


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, 2.5])
def test_forget_bias_lives_in_the_parameters(forget_bias):
    b = LSTM(3, forget_bias=forget_bias).init(jax.random.key(0), INPUTS).b
    close(np.asarray(b), np.float32([0.0] * 3 + [forget_bias] * 3 + [0.0] * 6))


@pytest.mark.parametrize("forget_bias", [1.0, np.log(99.0)])
def test_the_forget_gate_sets_how_far_a_gradient_reaches(forget_bias):
    """Zero weights: ∂c_T/∂c₀ = σ(b)^T; σ(ln(T − 1))^T = (1 − 1/T)^T, about 1/e."""
    cell, steps = LSTM(1, forget_bias=float(forget_bias), param_dtype=jnp.float64), 100
    params = cell.init(jax.random.key(0), 1)
    params = params._replace(w_x=0 * params.w_x, w_h=0 * params.w_h)

    def last_memory(c):
        return rnnlab.unroll(cell, params, np.ones((steps, 1)), LSTMState(c, jnp.zeros(1)))[0].c[0]

    close(jax.grad(last_memory)(jnp.ones(1)), np.full(1, sigmoid(forget_bias) ** steps))


def test_variants_start_as_the_plain_cell():
    """Peepholes start at zero, gains at one."""
    params = LSTM(3, peephole=True, layer_norm=True).init(jax.random.key(0), INPUTS)
    assert not params.peephole.any()
    assert all((gain == 1).all() for gain in (params.norm.x, params.norm.h, params.norm.c))
    assert not params.norm.c_bias.any()
    assert (GRU(3, layer_norm=True).init(jax.random.key(0), INPUTS).norm.h == 1).all()


def test_layer_norm_forgets_the_scale_of_its_inputs():
    """LN(W_x x) is the same for x and 10⁶ x, up to ε."""
    for cell in (
        LSTM(3, layer_norm=True),
        GRU(3, layer_norm=True),
        GRU(3, reset="before", layer_norm=True),
    ):
        params, xs = draw_params(cell, INPUTS), 1e6 * noise(T, B, INPUTS)
        close(rnnlab.unroll(cell, params, xs), rnnlab.unroll(cell, params, 1e3 * xs))


# GRU


@pytest.mark.parametrize(
    "cell",
    [GRU(3), GRU(3, reset="before"), GRU(3, recurrent_bias=True)],
    ids=["after", "before", "two-biases"],
)
def test_both_meanings_of_z_are_one_network(cell):
    """σ(−a) = 1 − σ(a): negating the weights and biases of z exchanges z and 1 − z.

    It turns h = (1 − z) n + z hₜ₋₁ into h = (1 − z) hₜ₋₁ + z n.
    """
    params, xs, state = draw_params(cell, INPUTS), noise(T, B, INPUTS), draw_state(cell, (B,))
    sign = np.array([1.0] * 3 + [-1.0] * 3 + [1.0] * 3)
    negated = params._replace(w_x=params.w_x * sign, w_h=params.w_h * sign, b=params.b * sign)
    if cell.recurrent_bias:
        negated = negated._replace(c=params.c * sign)
    other = loop.unroll(gru(cell.reset, z_writes=True), negated, xs, state)
    close(rnnlab.unroll(cell, params, xs, state), (other.final, other.ys))


def test_an_open_update_gate_copies_the_old_state():
    """z keeps: b_z → ∞ makes hₜ = hₜ₋₁."""
    cell = GRU(3)
    params, state = draw_params(cell, INPUTS), draw_state(cell, (B,))
    params.b[3:6] = 1e3
    final, _ = rnnlab.unroll(cell, params, noise(T, B, INPUTS), state)
    close(final, GRUState(jnp.asarray(state.h)))


def test_where_the_reset_acts():
    """The two forms differ in general, and agree where r = 1 and b_n's second part is zero."""
    after, before = GRU(3), GRU(3, reset="before")
    params, xs = draw_params(before, INPUTS), noise(T, B, INPUTS)
    with_c = draw_params(after, INPUTS)._replace(
        w_x=params.w_x, w_h=params.w_h, b=params.b, c=np.zeros(3)
    )
    assert (
        np.abs(rnnlab.unroll(after, with_c, xs)[1] - rnnlab.unroll(before, params, xs)[1]).max()
        > 1e-3
    )
    params.b[:3] = 1e3  # shared with with_c
    close(rnnlab.unroll(after, with_c, xs), rnnlab.unroll(before, params, xs))


# Options


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU, LeakyRNN, JordanRNN])
def test_options_are_given_by_name(kind):
    """``LSTM(10, 20)`` used to be an LSTM of 10 units with a forget bias of 20."""
    with pytest.raises(TypeError, match="positional"):
        kind(10, 20)


def test_no_option_is_silently_ignored():
    chrono = rnnlab.initializers.chrono(100)
    for kind, options in (
        (LSTM, {"forget_bias": 0.0, "bias_init": chrono}),
        (LSTM, {"forget_bias": 1.0, "bias_init": chrono}),
        (LSTM, {"forget_bias": 1.0, "bias": False}),
        (GRU, {"bias_init": chrono, "bias": False}),
        (RNN, {"bias_init": rnnlab.initializers.zeros, "bias": False}),
    ):
        with pytest.raises(ValueError, match="bias"):
            kind(4, **options)


def test_what_is_given_where_no_forget_bias_is():
    b = LSTM(4, bias_init=rnnlab.initializers.constant(3.0)).init(jax.random.key(0), 2).b
    np.testing.assert_array_equal(b, np.full(16, 3.0))
    np.testing.assert_array_equal(LSTM(4).init(jax.random.key(0), 2).b[4:8], np.ones(4))
