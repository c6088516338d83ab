"""A composite written by a user: everything follows it into its cells."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import bidirectional, stack
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.diagnostics import (
    bptt_contributions,
    fixed_points,
    jacobian_products,
    lyapunov_spectrum,
    phase_diagram,
    truncation_bias,
)
from tests.reference.native import needs_native

T, B, INPUTS, H = 12, 3, 4, 5
F64 = {"param_dtype": jnp.float64}


class GatedParams(NamedTuple):
    """``w [I, H]`` is the gate's own; None for a gate that is fixed."""

    left: Any
    right: Any
    w: Any


class GatedState(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class GatedSum:
    """yₜ = g ⊙ left(xₜ) + (1 − g) ⊙ right(tanh xₜ), g = σ(xₜ W), or ¼ where the gate is fixed."""

    left: Any
    right: Any
    learned: bool = False

    @property
    def cells(self):
        return self.left, self.right

    @property
    def output_size(self):
        return self.left.output_size

    def init(self, key, input_size):
        k_left, k_right, k_gate = jax.random.split(key, 3)
        w = None
        if self.learned:
            w = jax.random.normal(k_gate, (input_size, self.output_size), jnp.float64)
        return GatedParams(
            self.left.init(k_left, input_size), self.right.init(k_right, input_size), w
        )

    def initial_state(self, batch_shape=()):
        return GatedState(
            self.left.initial_state(batch_shape), self.right.initial_state(batch_shape)
        )

    def join(self, params, xs, left, right):
        g = 0.25 if params.w is None else jax.nn.sigmoid(xs @ params.w)
        return g * left + (1 - g) * right

    def step(self, params, state, x):
        left, y = self.left.step(params.left, state.left, x)
        right, z = self.right.step(params.right, state.right, jnp.tanh(x))
        return GatedState(left, right), self.join(params, x, y, z)

    def run_cells(self, params, xs, state, options, run):
        of_left = options.for_part(lambda state: state.left)
        of_right = options.for_part(lambda state: state.right)
        left, ys = run(self.left, params.left, xs, state.left, of_left)
        right, zs = run(self.right, params.right, jnp.tanh(xs), state.right, of_right)
        return GatedState(left, right), self.join(params, xs, ys, zs)


@dataclasses.dataclass(frozen=True)
class StepOnly:
    """The same cell, of which nothing is known but its step."""

    inside: Any

    def init(self, key, input_size):
        return self.inside.init(key, input_size)

    def initial_state(self, batch_shape=()):
        return self.inside.initial_state(batch_shape)

    def step(self, params, state, x):
        return self.inside.step(params, state, x)


PAIR = GRU(H, **F64), LSTM(H, **F64)
COMPOSITES = {
    "fixed gate": GatedSum(*PAIR),
    "learned gate": GatedSum(*PAIR, learned=True),
    "in a stack": stack([RNN(H, **F64), GatedSum(*PAIR, learned=True), GRU(H, **F64)]),
    "around a stack": GatedSum(stack(PAIR, residual=True), RNN(H, **F64)),
}
WITH_CELLS = {"fixed gate": 2, "around a stack": 3}
"""Composites without parameters of their own, and how many recurrent cells they hold."""


def drawn(cell, steps=T):
    params = cell.init(jax.random.key(0), INPUTS)
    return params, jax.random.normal(jax.random.key(1), (steps, B, INPUTS), jnp.float64)


def loss(ys):
    return jnp.sum(ys[-1] ** 2) + 0.1 * jnp.sum(jnp.sin(ys))


MARKS = {
    "plain": {},
    "all": {
        "lengths": jnp.array([12, 1, 7]),
        "resets": jnp.arange(T)[:, None] == jnp.array([3, 0, 9])[None],
        "reverse": True,
    },
}


def check_close(found, expected, atol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.combinations
@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS.keys())
@pytest.mark.parametrize(
    "engine",
    ["auto", "scan", "fused", "checkpointed", pytest.param("native", marks=needs_native)],
)
@pytest.mark.parametrize("cell", COMPOSITES.values(), ids=COMPOSITES.keys())
def test_every_engine_runs_it_as_its_step_does(cell, engine, marks):
    params, xs = drawn(cell)
    expected = rnnlab.unroll(StepOnly(cell), params, xs, **marks)
    check_close(rnnlab.unroll(cell, params, xs, engine=engine, **marks), expected)


@pytest.mark.combinations
@pytest.mark.parametrize("engine", ["auto", "scan"])
@pytest.mark.parametrize("cell", COMPOSITES.values(), ids=COMPOSITES.keys())
def test_each_cell_is_reset_to_its_part_of_the_reset_state(cell, engine):
    params, xs = drawn(cell)
    given = jax.tree.map(lambda leaf: leaf + 0.5, cell.initial_state((B,)))

    def whole(cell, reset_state, engine):
        _, ys = rnnlab.unroll(
            cell, params, xs, **MARKS["all"], reset_state=reset_state, engine=engine
        )
        return loss(ys)

    expected = jax.value_and_grad(whole, argnums=1)(StepOnly(cell), given, "scan")
    check_close(jax.value_and_grad(whole, argnums=1)(cell, given, engine), expected)


class Forgetful(GatedSum):
    """Gives each of its cells the reset state of the whole."""

    def run_cells(self, params, xs, state, options, run):
        left, ys = run(self.left, params.left, xs, state.left, options)
        return state._replace(left=left), ys


def test_a_composite_that_does_not_divide_the_reset_state_is_told_so():
    cell = Forgetful(*PAIR)
    params, xs = drawn(cell)
    given = cell.initial_state((B,))
    with pytest.raises(ValueError, match=r"options\.for_part"):
        rnnlab.unroll(cell, params, xs, resets=jnp.ones((T, B)), reset_state=given)


@pytest.mark.combinations
@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS.keys())
@pytest.mark.parametrize("cell", COMPOSITES.values(), ids=COMPOSITES.keys())
def test_gradient_flow_gives_the_gradient_of_automatic_differentiation(cell, marks):
    params, xs = drawn(cell)

    def whole(params, xs):
        return loss(rnnlab.unroll(StepOnly(cell), params, xs, **marks)[1])

    expected, d_xs = jax.grad(whole, (0, 1))(params, xs)
    flow = rnnlab.gradient_flow(cell, params, xs, loss, keep_contributions=True, **marks)
    check_close(flow.gradient, expected)
    check_close(flow.input_gradient, d_xs)
    kept = flow.contributions
    check_close(jax.tree.map(lambda leaf: leaf.sum(axis=0), kept), expected)
    norms = jax.tree.map(lambda leaf: jnp.linalg.norm(leaf.reshape(T, -1), axis=1), kept)
    check_close(jax.tree.map(jnp.exp, flow.log_contributions), norms, atol=1e-9)


@pytest.mark.combinations
@pytest.mark.parametrize("name", COMPOSITES)
def test_cells_are_followed_one_by_one_where_all_parameters_are_theirs(name):
    cell = COMPOSITES[name]
    flow = rnnlab.gradient_flow(cell, *drawn(cell), loss)
    assert flow.log_norm_state.shape == {
        "learned gate": (T, B), "in a stack": (3, T, B)
    }.get(name, (WITH_CELLS.get(name), T, B))  # fmt: skip


def test_norms_of_a_cell_are_those_of_a_gradient_in_its_state():
    """∂L/∂h₀ of each cell, by automatic differentiation."""
    cell = COMPOSITES["around a stack"]
    params, xs = drawn(cell)
    state = cell.initial_state((B,))
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    g = jax.grad(lambda s: loss(rnnlab.unroll(StepOnly(cell), params, xs, s)[1]))(state)
    each = [*g.left.layers, g.right]
    expected = [jnp.log(jnp.linalg.norm(own.h, axis=-1)) for own in each]
    np.testing.assert_allclose(flow.log_norm_h0, jnp.stack(expected), atol=1e-10)


@pytest.mark.long
def test_a_long_gradient_neither_underflows_nor_overflows():
    """In float64 0.05^400 is below the smallest number."""
    inner = RNN(1, activation="identity", bias=False, **F64)
    cell = GatedSum(inner, inner)
    params = cell.init(jax.random.key(0), 1)
    shrink = params.left._replace(w_h=jnp.full((1, 1), 0.05), w_x=jnp.ones((1, 1)))
    params = GatedParams(shrink, shrink._replace(w_h=jnp.full((1, 1), 0.5)), None)
    flow = rnnlab.gradient_flow(cell, params, jnp.ones((401, 1, 1)), lambda ys: ys[-1].sum())
    fall = flow.log_norm_state[:, 0, 0] - flow.log_norm_state[:, -1, 0]
    np.testing.assert_allclose(fall, 400 * np.log([0.05, 0.5]), rtol=1e-10)


@pytest.mark.long
def test_padding_that_is_not_a_number_reaches_nothing():
    cell = COMPOSITES["learned gate"]
    params, xs = drawn(cell)
    lengths = jnp.array([12, 1, 7])
    padding = (jnp.arange(T)[:, None] >= lengths[None])[..., None]
    bad = jnp.where(padding, jnp.nan, xs)

    def whole(params, xs):
        return loss(rnnlab.unroll(cell, params, xs, lengths=lengths)[1])

    check_close(jax.grad(whole)(params, bad), jax.grad(whole)(params, xs))
    flow = rnnlab.gradient_flow(cell, params, bad, loss, lengths=lengths)
    check_close(flow.gradient, jax.grad(whole)(params, xs))
    assert bool(flow.finite)


def test_explain_engine_names_the_engine_of_each_cell():
    cell = COMPOSITES["around a stack"]
    found = rnnlab.explain_engine(cell, *drawn(cell))
    assert found.engine == "fused, fused, fused"
    assert [len(layer.layers) for layer in found.layers] == [2, 0]
    step_only = rnnlab.Step(lambda _p, h, _x: (h, h), jnp.zeros(H))
    params = GatedParams(PAIR[0].init(jax.random.key(0), INPUTS), None, None)
    mixed = rnnlab.explain_engine(GatedSum(PAIR[0], step_only), params, drawn(cell)[1])
    assert mixed.engine == "fused, scan"


@pytest.mark.long
@pytest.mark.parametrize("cell", [COMPOSITES["fixed gate"], COMPOSITES["learned gate"]])
def test_the_instruments_of_the_state_take_its_step(cell):
    params, xs = drawn(cell)
    other = StepOnly(cell)
    starts = jax.tree.map(lambda leaf: 0.1 + leaf, cell.initial_state((4,)))
    for instrument in (
        lambda cell: lyapunov_spectrum(cell, params, xs).exponents,
        lambda cell: jacobian_products(cell, params, xs).log_singular_values,
        lambda cell: fixed_points(cell, params, xs[0, 0], starts).states,
        lambda cell: bptt_contributions(cell, params, xs, loss).log_contributions,
        lambda cell: truncation_bias(cell, params, xs, loss, steps=(2, 5)).cosine,
    ):
        check_close(instrument(cell), instrument(other), atol=1e-8)


@pytest.mark.long
def test_a_phase_diagram_varies_all_recurrent_weights():
    cell = COMPOSITES["fixed gate"]
    params, xs = drawn(cell, steps=40)
    found = phase_diagram(cell, params, xs, jnp.array([0.2, 1.5]), jnp.array([40]))
    assert found.horizon[0, 0] < found.horizon[1, 0]


def test_a_composite_with_parameters_of_its_own_has_no_dropout_to_follow():
    cell = COMPOSITES["learned gate"]
    with pytest.raises(ValueError, match=r"its own parameters.*omit key"):
        rnnlab.gradient_flow(cell, *drawn(cell), loss, key=jax.random.key(0))


@pytest.mark.long
def test_dropout_and_both_directions_inside_a_composite():
    cell = GatedSum(stack(PAIR, dropout=0.4), bidirectional(LSTM(3, **F64), RNN(2, **F64)))
    params, xs = drawn(cell)
    key = jax.random.key(5)
    expected = jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs, key=key)[1]))(params)
    flow = rnnlab.gradient_flow(cell, params, xs, loss, key=key)
    check_close(flow.gradient, expected)
    assert flow.log_norm_state.shape == (4, T, B)


def test_a_subclass_that_overrides_the_step_alone_is_run_by_it():
    class Halved(GatedSum):
        def step(self, params, state, x):
            state, y = super().step(params, state, x)
            return state, 0.5 * y

    cell = Halved(*PAIR)
    params, xs = drawn(cell)
    _, ys = rnnlab.unroll(cell, params, xs)
    _, whole = rnnlab.unroll(GatedSum(*PAIR), params, xs)
    check_close(ys, 0.5 * whole)
