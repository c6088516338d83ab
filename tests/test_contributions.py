"""The matrix of contributions against derivatives by a copy of the weights for each step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, JordanRNN, LeakyRNN, Readout
from rnnlab.diagnostics import bptt_contributions, truncation_bias
from tests.reference import close, one_sentence, watch
from tests.reference.cells import draw_params

T, B, I, H = 7, 3, 2, 3
F64 = {"param_dtype": jnp.float64}


def foreign():
    """A step with a readout inside, whose output is not part of the state."""

    def step(w, state, x):
        h = jnp.tanh(state["h"] @ w["h"] + x @ w["x"])
        return {"h": h, "m": 0.5 * state["m"] + h}, jnp.sin(h + state["m"] @ w["y"])

    return rnnlab.Step(step, {"h": jnp.zeros(H, jnp.float64), "m": jnp.zeros(H, jnp.float64)})


CELLS = {
    "rnn": RNN(H, **F64),
    "leaky": LeakyRNN(H, **F64),
    "jordan": JordanRNN(H, feedback_size=2, **F64),
    "lstm": LSTM(H, recurrent_bias=True, **F64),
    "lstm without bias": LSTM(H, bias=False, **F64),
    "layer norm": LSTM(H, layer_norm=True, **F64),
    "gru": GRU(H, **F64),
    "gru before": GRU(H, reset="before", **F64),
    "stack": rnnlab.stack([GRU(H, **F64), LSTM(H, **F64), Readout(2, **F64)], residual=True),
    "foreign": foreign(),
}


def problem(name):
    cell = CELLS[name]
    if name == "foreign":
        keys = jax.random.split(jax.random.key(0), 3)
        params = {
            n: jax.random.normal(k, (I if n == "x" else H, H), jnp.float64)
            for n, k in zip("hxy", keys, strict=True)
        }
    else:
        params = draw_params(cell, I)
    return cell, params, jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)


def loss(ys):
    return jnp.sum(jnp.cos(ys.sum(axis=0))) + jnp.sum(ys**2) ** 0.5  # no sum over steps


def twin(cell, params, xs, rows, hidden=False):
    """Every term, by derivatives of a sequence with weights and a nudge of the state per step.

    A nudge reaches the output of its own step only where that is the state's h, and ``hidden`` says
    so.
    """
    g = jax.grad(loss)(rnnlab.unroll(cell, params, xs)[1])
    parts = np.array_split(np.arange(T), rows)

    def owed(copies, nudges):
        state, each = cell.initial_state((B,)), []
        for t in range(T):
            state, y = cell.step(jax.tree.map(lambda leaf, t=t: leaf[t], copies), state, xs[t])
            state = jax.tree.map(lambda leaf, nudge, t=t: leaf + nudge[t], state, nudges)
            each.append(jnp.sum(g[t] * (state.h if hidden else y)))
        each = jnp.stack(each)
        return jnp.stack([each[part].sum() for part in parts])

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (T, *leaf.shape)), params)
    nudges = jax.tree.map(lambda leaf: jnp.zeros((T, *leaf.shape)), cell.initial_state((B,)))
    return jax.jacrev(owed, (0, 1))(copies, nudges)


def log_norm(x, axes):
    with np.errstate(divide="ignore"):
        return 0.5 * np.log((np.asarray(x) ** 2).sum(axis=axes))


@pytest.mark.combinations
@pytest.mark.parametrize("rows", [T, 3])
@pytest.mark.parametrize("name", CELLS)
def test_every_term_is_that_of_a_copy_of_the_weights(name, rows):
    cell, params, xs = problem(name)
    found = bptt_contributions(cell, params, xs, loss, rows=rows, keep_contributions=True)
    terms, _ = twin(cell, params, xs, rows)
    close(found.contributions, terms)
    close(jax.tree.map(lambda leaf: leaf.sum(axis=(0, 1)), found.contributions), found.gradient)
    close(found.gradient, jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs)[1]))(params))
    jax.tree.map(
        lambda log, term: np.testing.assert_allclose(
            log, log_norm(term, tuple(range(2, term.ndim))), rtol=1e-8
        ),
        found.log_contributions,
        jax.tree.map(jnp.asarray, terms),
    )
    np.testing.assert_array_equal(found.last, {7: [1, 2, 3, 4, 5, 6, 7], 3: [3, 5, 7]}[rows])


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_the_adjoints_are_those_of_the_state(name):
    cell, params, xs = problem(name)
    found = bptt_contributions(cell, params, xs, loss, rows=T)
    _, pushes = twin(cell, params, xs, T, hidden=True)
    squares = sum(
        (np.asarray(leaf) ** 2).sum(axis=-1) for leaf in jax.tree.leaves(pushes)
    )  # [T, T, B]
    with np.errstate(divide="ignore"):
        expected = np.quantile(0.5 * np.log(squares), 0.5, axis=-1, method="inverted_cdf")
    np.testing.assert_allclose(found.log_norm_state, expected, rtol=1e-8)
    assert (found.log_norm_state[np.triu_indices(T, 1)] == -np.inf).all()


def test_rows_of_a_contracting_network_fall_by_the_gain_at_every_step():
    cell = RNN(4, activation="identity", bias=False)
    params = cell.init(jax.random.key(0), 2)
    params = params._replace(w_h=0.3 * params.w_h)
    xs = jax.random.normal(jax.random.key(1), (400, 1, 2))
    found = bptt_contributions(cell, params, xs, lambda ys: ys.sum(), rows=4).log_norm_state
    assert np.isfinite(found[0, :100]).all()
    np.testing.assert_allclose(
        np.diff(found[3, :300]), -np.log(0.3), atol=1e-4
    )  # 0.3^400 = 1e-209, in float32


@pytest.mark.combinations
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_large_or_small_readout_shifts_the_adjoints_by_its_log(scale):
    def network(scale):
        return rnnlab.Step(
            lambda w, h, x: ((h := jnp.tanh(h @ w + x)), scale * h), jnp.zeros(I, jnp.float32)
        )

    w, xs = 0.5 * jnp.eye(I, dtype=jnp.float32), problem("rnn")[2].astype(jnp.float32)
    scaled, plain = (
        bptt_contributions(network(s), w, xs, jnp.sum).log_norm_state for s in (scale, 1.0)
    )
    np.testing.assert_allclose(scaled, plain + np.log(scale), rtol=1e-5)


@pytest.mark.long
def test_any_batch_axes():
    cell, params, xs = problem("gru")
    two = jnp.stack([xs, 2 * xs], axis=1)  # [T, 2, B, I]
    flat = two.reshape(T, -1, I)
    found = bptt_contributions(cell, params, two, loss_of_all, keep_contributions=True)
    close(found, bptt_contributions(cell, params, flat, loss_of_all, keep_contributions=True))
    one = bptt_contributions(cell, params, xs[:, 0], loss_of_all)
    close(one, bptt_contributions(cell, params, xs[:, :1], loss_of_all))


def loss_of_all(ys):
    return jnp.sum(ys**3)


def test_nothing_is_compiled_twice():
    cell, params, xs = problem("gru")
    bptt_contributions(cell, params, xs, loss_of_all, rows=2)
    others = xs + 1
    with watch() as work:
        bptt_contributions(GRU(H, **F64), params, others, loss_of_all, rows=2)
    assert not work.compiled


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["rnn", "lstm", "layer norm", "stack", "foreign"])
def test_a_truncated_gradient_is_the_sum_of_the_terms_with_short_lags(name):
    cell, params, xs = problem(name)
    terms = bptt_contributions(
        cell, params, xs, loss, rows=T, keep_contributions=True
    ).contributions
    steps = [1, 2, 5, T]
    found = truncation_bias(cell, params, xs, loss, steps=steps)
    lag = np.arange(T)[:, None] - np.arange(T)
    full = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found.gradient)])
    for number, reach in enumerate(steps):
        near = jnp.asarray(lag < reach)
        own = jax.tree.map(
            lambda leaf, near=near: jnp.einsum("tk,tk...->...", near.astype(leaf.dtype), leaf),
            terms,
        )
        close(jax.tree.map(lambda leaf, number=number: leaf[number], found.truncated), own)
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(own)])
        cosine = flat @ full / np.linalg.norm(flat) / np.linalg.norm(full)
        np.testing.assert_allclose(found.cosine[number], cosine, rtol=1e-9)
        np.testing.assert_allclose(
            found.relative_norm[number], np.linalg.norm(flat) / np.linalg.norm(full), rtol=1e-9
        )
    np.testing.assert_allclose([found.cosine[-1], found.relative_norm[-1]], 1, rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize(("gain", "scale"), [(0.3, 1e-35), (3.0, 1e25)])
def test_truncation_is_told_where_floats_would_end(gain, scale):
    cell = RNN(4, activation="identity", bias=False)
    params = cell.init(jax.random.key(0), 2)
    params = params._replace(w_h=gain * params.w_h)
    xs = jax.random.normal(jax.random.key(1), (60, 1, 2))
    found = truncation_bias(
        cell, params, xs, lambda ys: scale * ys[-1].sum(), steps=[1, 20, 60]
    )  # 3^60 · 1e25 = 4e53
    same = truncation_bias(
        *in_float64(cell, params, xs), lambda ys: ys[-1].sum(), steps=[1, 20, 60]
    )
    np.testing.assert_allclose(found.cosine, same.cosine, rtol=1e-4)
    np.testing.assert_allclose(found.relative_norm, same.relative_norm, rtol=1e-4)


def in_float64(cell, *arrays):
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), arrays)
    return dataclasses.replace(cell, param_dtype=jnp.float64), *wide


@pytest.mark.parametrize("steps", [(), (0,), (8,), (2.5,)])
def test_bad_truncations(steps):
    cell, params, xs = problem("rnn")
    one_sentence(lambda: truncation_bias(cell, params, xs, loss, steps=steps), "steps")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": 8}, ("rows is 8", "7 steps")),
        ({"rows": 0}, ("rows is 0",)),
        ({"loss": lambda ys: ys[-1]}, ("must be a scalar",)),
        ({"xs": jnp.full((T, B, I), jnp.nan)}, ("xs holds NaN",)),
    ],
)
def test_bad_input(change, words):
    cell, params, xs = problem("rnn")
    given = {"xs": xs, "loss": loss, **change}
    one_sentence(lambda: bptt_contributions(cell, params, **given), *words)


@pytest.mark.long
def test_cells_without_a_step_or_a_state_are_refused():
    both = rnnlab.bidirectional(RNN(H))
    xs = jnp.ones((T, B, I))
    one_sentence(
        lambda: bptt_contributions(both, both.init(jax.random.key(0), I), xs, loss_of_all),
        "has no step",
        "unroll",
    )
    readout = Readout(2)
    one_sentence(
        lambda: bptt_contributions(readout, readout.init(jax.random.key(0), I), xs, loss_of_all),
        "no state",
    )
