"""The native engine on random sizes and options against "scan".

Most of the time would go into compiling "scan" for every size. It is compiled once for each
cell, for the largest size, and a smaller network lies in it: weights of what is absent are zero,
and examples and steps beyond the end do not count.
"""

import functools
import os

import jax
import numpy as np
import pytest

from rnnlab import unroll_states
from rnnlab.cells import GRU, LSTM, RNN, LeakyRNN
from rnnlab.engines.native import engine
from rnnlab.engines.sequence import Marks
from tests.reference.cells import draw_params, draw_state
from tests.reference.native import needs_native

T, B, I, H = 10, 52, 35, 35
KINDS = {
    "tanh": functools.partial(RNN, activation="tanh"),
    "relu": functools.partial(RNN, activation="relu"),
    "sigmoid": functools.partial(RNN, activation="sigmoid"),
    "identity": functools.partial(RNN, activation="identity"),
    "leaky": functools.partial(LeakyRNN, alpha=0.3),
    "leaky relu": functools.partial(LeakyRNN, activation="relu", alpha=0.8),
    "lstm": LSTM,
    "gru": GRU,
}
GATES = {"lstm": 4, "gru": 3}


def size(rng, most):
    """Often one at which a vector or a block is full, or one beside it."""
    edges = [n for n in (1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 31, 32, 33, 48, 49) if n <= most]
    return int(rng.choice(edges) if rng.random() < 0.5 else rng.integers(1, most + 1))


def random_problem(seed):
    """Drawn by NumPy: Hypothesis varies one of its examples a little, and so tries few cells."""
    rng = np.random.default_rng(seed)
    sizes = {"steps": T, "batch": B, "inputs": I, "units": H}
    flags = ("bias", "recurrent_bias", "reverse", "every", "gates", "valid", "resets")
    return {
        "seed": seed,
        "kind": str(rng.choice([*KINDS])),
        "dtype": str(rng.choice(["float64", "float32"])),
        **{name: size(rng, most) for name, most in sizes.items()},
        **{name: bool(rng.random() < 0.5) for name in flags},
    }


def drawn(problem):
    """The cell and all arrays, in float64, with weights that keep every sum near 1."""
    rng = np.random.default_rng([problem["seed"], 1])
    steps, batch = problem["steps"], problem["batch"]
    biases = {name: problem[name] for name in ("bias", "recurrent_bias")}
    cell = KINDS[problem["kind"]](problem["units"], **biases)
    params = draw_params(cell, problem["inputs"], problem["seed"])
    params = jax.tree.map(
        lambda leaf: leaf if leaf.ndim == 1 else leaf / np.sqrt(len(leaf)), params
    )
    xs = rng.normal(size=(steps, batch, problem["inputs"]))
    start, again = (draw_state(cell, (batch,), seed) for seed in rng.integers(2**31, size=2))
    marks = Marks(
        rng.random((steps, batch)) < 0.8 if problem["valid"] else None,
        rng.random((steps, batch)) < 0.3 if problem["resets"] else None,
    )
    lead = (steps, batch) if problem["every"] else (batch,)
    d_state = jax.tree.map(lambda leaf: rng.normal(size=(*lead, leaf.shape[-1])), start)
    d_ys = rng.normal(size=(steps, batch, problem["units"]))
    return cell, (params, xs, start, again, marks), (d_state, d_ys)


def by_native(problem, cell, arguments, cotangents):
    """``(states, ys)`` and the gradients of all arguments."""
    params, xs, start, again, marks = arguments
    reset_state = again if problem["resets"] else None
    static = engine.Static(cell, problem["reverse"], problem["every"], problem["gates"])

    @jax.jit
    def both(params, xs, start, reset_state, marks, cotangents):
        outs, memory = engine.remember(static, params, xs, start, reset_state, marks)
        return outs, engine._backward(static, params, memory, cotangents)

    return both(params, xs, start, reset_state, marks, cotangents)


@functools.cache
def by_scan(kind, reverse):
    """The same of the largest size, with two biases; states after every step."""
    cell = KINDS[kind](H, recurrent_bias=True)

    @jax.jit
    def both(params, xs, start, again, marks, cotangents):
        def run(params, xs, start, again):
            given = {"mask": marks.valid, "resets": marks.reset, "reset_state": again}
            return unroll_states(cell, params, xs, start, **given, reverse=reverse, engine="scan")

        outs, pull = jax.vjp(run, params, xs, start, again)
        return outs, pull(cotangents)

    return both


def grown(array, shape):
    """``array`` at the beginning of zeros."""
    whole = np.zeros(shape, array.dtype)
    whole[tuple(map(slice, array.shape))] = array
    return whole


def wide(array, gates, rows=None):
    """Columns of ``gates`` gates, each H wide and with zeros at its end."""
    parts = np.split(array, gates, axis=-1)
    lead = () if rows is None else (rows,)
    return np.concatenate([grown(part, (*lead, H)) for part in parts], axis=-1)


def narrow(array, gates, units, rows=None):
    """The inverse of ``wide``."""
    parts = np.split(np.asarray(array)[:rows], gates, axis=-1)
    return np.concatenate([part[..., :units] for part in parts], axis=-1)


def embedded(problem, arguments, cotangents):
    """The arrays of ``by_scan`` for a smaller problem."""
    params, xs, start, again, marks = arguments
    gates = GATES.get(problem["kind"], 1)
    nothing = np.zeros(gates * H)
    c = nothing.copy()
    if params.c is not None:
        # A GRU may have it for its last gate alone.
        of_c = len(params.c) // problem["units"]
        c[(gates - of_c) * H :] = wide(params.c, of_c)
    whole = params._replace(
        w_x=wide(params.w_x, gates, I),
        w_h=wide(params.w_h, gates, H),
        b=nothing if params.b is None else wide(params.b, gates),
        c=c,
    )
    shape = xs.shape[:2]
    valid = np.ones(shape, bool) if marks.valid is None else marks.valid
    resets = np.zeros(shape, bool) if marks.reset is None else marks.reset
    marks = Marks(grown(valid, (T, B)), grown(resets, (T, B)))
    states = jax.tree.map(lambda leaf: grown(leaf, (B, H)), (start, again))
    d_state, d_ys = cotangents

    def every(leaf):
        if problem["every"]:
            return grown(leaf, (T, B, H))
        # The final state is that after the last step of the direction.
        d_states = np.zeros((T, B, H))
        d_states[0 if problem["reverse"] else -1] = grown(leaf, (B, H))
        return d_states

    d_states = jax.tree.map(every, d_state)
    d_ys = np.where(marks.valid[..., None], grown(d_ys, (T, B, H)), 0)
    return (whole, grown(xs, (T, B, I)), *states, marks), (d_states, d_ys)


def cut(problem, params, results):
    """The part of the results of ``by_scan`` that ``by_native`` has too."""
    (states, ys), (d_params, d_xs, d_start, d_again) = results
    steps, batch, inputs, units = (problem[n] for n in ("steps", "batch", "inputs", "units"))
    gates = GATES.get(problem["kind"], 1)
    last = 0 if problem["reverse"] else -1
    pick = slice(steps) if problem["every"] else last
    states = jax.tree.map(lambda leaf: leaf[pick][..., :batch, :units], states)
    d_states = jax.tree.map(lambda leaf: leaf[:batch, :units], (d_start, d_again))
    d_params = d_params._replace(
        w_x=narrow(d_params.w_x, gates, units, inputs),
        w_h=narrow(d_params.w_h, gates, units, units),
        b=None if params.b is None else narrow(d_params.b, gates, units),
        c=None if params.c is None else narrow(d_params.c, gates, units)[-len(params.c) :],
    )
    outs = states, ys[:steps, :batch, :units]
    d_start, d_again = d_states
    return outs, (d_params, d_xs[:steps, :batch, :inputs], d_start, d_again)


def check(problem):
    cell, arguments, cotangents = drawn(problem)
    whole, d_whole = embedded(problem, arguments, cotangents)
    expected = by_scan(problem["kind"], problem["reverse"])(*whole, d_whole)
    # JAX would compile a program for each slice of its arrays; NumPy does not.
    expected = cut(problem, arguments[0], jax.device_get(expected))
    if not problem["resets"]:
        expected = expected[0], (*expected[1][:3], None)
    dtype = np.dtype(problem["dtype"])
    cast = functools.partial(
        jax.tree.map, lambda leaf: leaf if leaf.dtype == bool else leaf.astype(dtype)
    )
    found = by_native(problem, cell, cast(arguments), cast(cotangents))
    tolerance = 1e-11 if dtype == np.float64 else 2e-4
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == dtype
        largest = max(1.0, np.abs(other).max(initial=0))
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * largest, err_msg=str(problem)
        )


@needs_native
def test_some_problems():
    for seed in range(60):
        check(random_problem(seed))


@pytest.mark.long
@needs_native
def test_many_problems():
    """RNNLAB_PROBLEMS=10000 tries more of them."""
    for seed in range(60, 60 + int(os.environ.get("RNNLAB_PROBLEMS", "1000"))):
        check(random_problem(seed))
