"""A user-defined cell: what a subclass overrides is what runs, in engines and instruments."""

import copy
import dataclasses
import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import diagnostics
from rnnlab.cells import (
    GRU,
    LSTM,
    RNN,
    LeakyRNN,
    LSTMState,
    Maps,
    Readout,
    Recurrent,
    RNNState,
    Step,
)
from rnnlab.cells.base import affine
from rnnlab.layers import Stack
from tests.reference import close, loop
from tests.reference.cells import CELLS, VARIANTS, draw_params, draw_state
from tests.reference.native import needs_native

I, T, B = 2, 7, 3
F64 = {"param_dtype": jnp.float64}


def noise(*shape: int, seed: int = 3) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# Subclasses of rnnlab's cells, each of which overrides one method


class HalvingGate(RNN):
    def gate(self, params, state, z, a):
        state, y = super().gate(params, state, z, a)
        return RNNState(state.h / 2), y / 2


class HalvingStep(LSTM):
    def step(self, params, state, x):
        state, y = super().step(params, state, x)
        return LSTMState(state.c, state.h / 2), y / 2


class ShiftedProject(GRU):
    def project(self, params, xs):
        return super().project(params, xs) + 0.5


class DoubledMix(LeakyRNN):
    def mix(self, params, state):
        return 2 * super().mix(params, state)


class HalvedResiduals(RNN):
    """Overrides the fast form of its gate alone, which then belongs to no gate: the gate counts."""

    def gate(self, params, state, z, a):
        state, y = super().gate(params, state, z, a)
        return RNNState(state.h / 2), y / 2

    def gate_residuals(self, params, state, z, a):
        state, kept = super().gate_residuals(params, state, z, a)
        return RNNState(state.h / 2), kept


class DoublingStack(Stack):
    def step(self, params, state, x):
        state, y = super().step(params, state, x)
        return state, 2 * y


class CountingReadout(Readout):
    """A readout that remembers: it adds up what it has read out."""

    def initial_state(self, batch_shape=()):
        return (jnp.zeros((*batch_shape, self.output_size)),)

    def step(self, params, state, x):
        total = state[0] + self(params, x)
        return (total,), total


# Cells from scratch


class IndRNNParams(NamedTuple):
    w_x: jax.Array
    u: jax.Array
    b: jax.Array


@dataclasses.dataclass(frozen=True)
class IndRNN(Recurrent):
    """hₜ = relu(W_x xₜ + u ⊙ hₜ₋₁ + b) (Li et al. 2018): each unit is connected only to itself."""

    def init(self, key, input_size):
        k_x, k_u, k_b = jax.random.split(key, 3)
        u = jax.random.uniform(k_u, (self.hidden_size,), self.param_dtype)
        w_x = self.draw_weights(self.kernel_init, k_x, input_size, 1)
        return IndRNNParams(w_x, u, self.draw_biases(k_b, 1))

    def initial_state(self, batch_shape=()):
        return RNNState(self.zeros(batch_shape))

    def mix(self, params, state):
        return params.u * state.h

    def gate(self, params, state, z, a):
        h = jax.nn.relu(z + a)
        return RNNState(h), h


class OwnParams(NamedTuple):
    bias: jax.Array
    recurrent: jax.Array
    kernel: jax.Array


class OwnState(NamedTuple):
    trace: jax.Array
    memory: jax.Array


@dataclasses.dataclass(frozen=True)
class OwnNames(Recurrent):
    """A cell with maps and names of its own: mₜ = tanh(…), eₜ = eₜ₋₁/2 + mₜ."""

    def init(self, key, input_size):
        k_x, k_h = jax.random.split(key)
        return OwnParams(
            jnp.zeros(self.hidden_size, self.param_dtype),
            self.draw_weights(self.recurrent_init, k_h, self.hidden_size, 1),
            self.draw_weights(self.kernel_init, k_x, input_size, 1),
        )

    def initial_state(self, batch_shape=()):
        return OwnState(self.zeros(batch_shape), self.zeros(batch_shape))

    def hidden(self, state):
        return state.memory

    def with_hidden(self, state, h):
        return state._replace(memory=h)

    def project(self, params, xs):
        return affine(xs, params.kernel, params.bias, self.dtype)

    def mix(self, params, state):
        return affine(state.memory, params.recurrent, None, self.dtype)

    def gate(self, params, state, z, a):
        memory = jnp.tanh(z + a + 0.1 * state.trace)
        return OwnState(0.5 * state.trace + memory, memory), memory

    def maps(self, params):
        return Maps(params.kernel, params.recurrent, params.bias, None, self.hidden_size)

    def gate_residuals(self, params, state, z, a):
        return OwnNames.gate(self, params, state, z, a)[0], ()

    def gate_adjoint(self, params, old, new, residuals, d_new):
        d = (d_new.memory + d_new.trace) * (1 - new.memory**2)
        d_old = OwnState(0.5 * d_new.trace + 0.1 * d, jnp.zeros_like(d))
        return rnnlab.cells.Adjoint(d_old, (d,), (), ())


class ComputedMaps(RNN):
    """The recurrent matrix is a function of the parameter: maps are not leaves of parameters."""

    def mix(self, params, state):
        return affine(state.h, jnp.tanh(params.w_h), params.c, self.dtype)

    def maps(self, params):
        return Maps(params.w_x, jnp.tanh(params.w_h), params.b, params.c, self.hidden_size)


OWN = {
    "gate": HalvingGate(4, **F64),
    "step": HalvingStep(4, **F64),
    "project": ShiftedProject(4, **F64),
    "mix": DoubledMix(4, **F64),
    "residuals": HalvedResiduals(4, **F64),
    "stack": DoublingStack((RNN(3, **F64), LSTM(4, **F64))),
    "readout": rnnlab.stack([GRU(4, **F64), CountingReadout(2, **F64)]),
    "in a stack": rnnlab.stack([HalvingGate(4, **F64), HalvingStep(3, **F64)]),
    "IndRNN": IndRNN(4, **F64),
    "own names": OwnNames(4, **F64),
    "computed maps": ComputedMaps(4, **F64),
}
each = pytest.mark.parametrize("cell", OWN.values(), ids=OWN.keys())


def setting(cell):
    return draw_params(cell, I), noise(T, B, I), jax.tree.map(jnp.asarray, draw_state(cell, (B,)))


def test_the_reported_subclass_halves_on_every_engine():
    """Seen as 92.6 on "scan" and 201.1 on the others."""
    cell = HalvingGate(16)
    params = cell.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(1), (20, 4, 3))
    engines = ("scan", "auto", "fused", "checkpointed")
    sums = [jnp.abs(rnnlab.unroll(cell, params, xs, engine=engine)[1]).sum() for engine in engines]
    expected = np.abs(loop.unroll(cell.step, params, xs, cell.initial_state((4,))).ys).sum()
    np.testing.assert_allclose(sums, expected, rtol=1e-5)


@pytest.mark.combinations
@each
@pytest.mark.parametrize("engine", ["scan", "auto", "checkpointed"])
def test_every_engine_runs_the_cells_own_step(cell, engine):
    params, xs, state = setting(cell)
    expected = loop.unroll(cell.step, params, xs, state)
    final, ys = rnnlab.unroll(cell, params, xs, state, engine=engine)
    close((final, ys), (expected.final, expected.ys))

    def by_hand(params, xs, state):
        ys = []
        for x in xs:
            state, y = cell.step(params, state, x)
            ys.append(y)
        return jnp.sum(jnp.sin(jnp.stack(ys)))

    def by_engine(params, xs, state):
        return jnp.sum(jnp.sin(rnnlab.unroll(cell, params, xs, state, engine=engine)[1]))

    close(*(jax.grad(loss, (0, 1, 2))(params, xs, state) for loss in (by_engine, by_hand)))


@pytest.mark.combinations
@each
def test_the_gradient_flow_is_that_of_the_step(cell):
    """As of a bare step, of which no engine knows anything."""
    params, xs, state = setting(cell)
    loss = lambda ys: jnp.sum(jnp.sin(ys))  # noqa: E731
    flow = rnnlab.gradient_flow(cell, params, xs, loss, initial_state=state)
    bare = Step(cell.step, cell.initial_state)
    expected = rnnlab.gradient_flow(bare, params, xs, loss, initial_state=state)
    close(flow.gradient, expected.gradient)
    close(flow.loss, expected.loss)
    close(flow.log_contributions, expected.log_contributions, 1e-8)
    if not isinstance(cell, Stack):
        close(flow.log_norm_state, expected.log_norm_state, 1e-8)


@pytest.mark.combinations
@each
def test_the_matrix_of_contributions_is_that_of_the_step(cell):
    params, xs, state = setting(cell)
    loss = lambda ys: jnp.sum(jnp.sin(ys))  # noqa: E731
    bare = Step(cell.step, cell.initial_state)
    found, expected = (
        diagnostics.bptt_contributions(
            c, params, xs, loss, initial_state=state, keep_contributions=True
        )
        for c in (cell, bare)
    )
    close(found, expected, 1e-8)


@pytest.mark.long
def test_state_norms_follow_the_cells_own_hidden_state():
    cell = OwnNames(4, **F64)
    params, xs, state = setting(cell)
    flow = rnnlab.gradient_flow(cell, params, xs, lambda ys: jnp.sum(ys**2), initial_state=state)
    bare = Step(cell.step, cell.initial_state)  # whose output is found to be the memory
    expected = rnnlab.gradient_flow(
        bare, params, xs, lambda ys: jnp.sum(ys**2), initial_state=state
    )
    close(flow.log_norm_h, expected.log_norm_h)
    close(flow.log_norm_c, expected.log_norm_c)


@pytest.mark.long
@pytest.mark.parametrize("name", ["gate", "own names", "IndRNN"])
def test_other_instruments_take_a_cell_of_ones_own(name):
    cell = OWN[name]
    params, xs, _ = setting(cell)
    bare = Step(cell.step, cell.initial_state)
    for instrument in (
        lambda c: diagnostics.lyapunov_spectrum(c, params, xs).exponents,
        lambda c: diagnostics.step_jacobians(c, params, xs),
        lambda c: diagnostics.truncation_bias(c, params, xs, lambda ys: jnp.sum(ys**2), steps=[3]),
    ):
        close(instrument(cell), instrument(bare), 1e-8)


def test_a_subclass_is_refused_by_fused_in_one_sentence():
    cell = HalvingStep(4, **F64)
    params, xs, _ = setting(cell)
    with pytest.raises(ValueError, match="HalvingStep overrides step"):
        rnnlab.unroll(cell, params, xs, engine="fused")


@needs_native
@each
def test_a_subclass_is_refused_by_native_in_one_sentence(cell):
    params, xs, state = setting(cell)
    with pytest.raises(ValueError, match="'native' has no code for"):
        rnnlab.unroll(cell, params, xs, state, engine="native")


def test_the_bound_is_not_given_for_another_equation():
    cell = HalvingGate(4, **F64)
    params, xs, _ = setting(cell)
    with pytest.raises(ValueError, match=r"rnnlab\.RNN, not for HalvingGate"):
        diagnostics.pascanu_bound(cell, params, xs)


# Cells travel: printed, pickled, copied


TRAVELLERS = [twin.cell for twin in [*CELLS, *VARIANTS] if twin.name != "elman-callable"]
TRAVELLERS += [IndRNN(4), LSTM(4, bias_init=rnnlab.initializers.chrono(100))]
TRAVELLERS += [rnnlab.stack([rnnlab.bidirectional(GRU(3)), Readout(2)], dropout=0.1)]


@pytest.mark.parametrize("cell", TRAVELLERS, ids=str)
def test_a_cell_can_be_pickled_copied_and_read(cell):
    assert pickle.loads(pickle.dumps(cell)) == copy.deepcopy(cell) == copy.copy(cell) == cell
    assert hash(pickle.loads(pickle.dumps(cell))) == hash(cell)
    assert " at 0x" not in repr(cell)


def _sum_of_states(cell):
    params = cell.init(jax.random.key(0), I)
    return float(jnp.sum(rnnlab.unroll(cell, params, jnp.ones((T, I)))[1]))


@pytest.mark.long
def test_a_cell_reaches_a_spawned_process():
    import concurrent.futures
    import multiprocessing

    cell = LSTM(3, bias_init=rnnlab.initializers.chrono(50))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        there = pool.submit(_sum_of_states, cell).result(timeout=120)
    assert there == pytest.approx(_sum_of_states(cell), rel=1e-5)  # it has no 64-bit floats
