"""Cells made of cells, and the four shapes of a task: one or many inputs to one or many outputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import bidirectional, stack, unroll, unroll_states
from rnnlab.cells import GRU, LSTM, RNN, LSTMState, Readout, ReadoutParams, ReadoutState, RNNState
from rnnlab.layers import BidirectionalParams, BidirectionalState, StackParams, StackState
from tests.reference import close, loop, watch
from tests.reference.cells import by_name, draw, draw_params, draw_state, readout

INPUTS, H, T, B = 2, 3, 5, 3  # inputs, hidden units, time, batch
ELMAN, GRU_BEFORE = by_name("elman", "gru-before")


pytestmark = pytest.mark.long


def noise(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def marks(seed: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"lengths": rng.integers(1, T + 1, B), "resets": rng.random((T, B)) < 0.35}


def reset_to(cell, seed: int = 6) -> dict[str, Any]:
    return {"reset_state": draw_state(cell, (B,), seed)}


# The readout


@pytest.mark.parametrize("bias", [True, False])
def test_readout(bias):
    """y = W h + b, called on anything that ends in features, or run as a cell."""
    cell = Readout(4, bias=bias)
    params, h = draw_params(cell, H), noise(T, B, H)
    expected = h @ params.w + (params.b if bias else 0.0)
    close(cell(params, jnp.asarray(h)), jnp.asarray(expected))
    close(cell(params, jnp.asarray(h[0, 0])), jnp.asarray(expected[0, 0]))
    close(unroll(cell, params, h), (ReadoutState(), jnp.asarray(expected)))
    assert (cell.init(jax.random.key(0), H).b is None) != bias


# Stacks


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_a_stack_is_its_layers_one_after_the_other(residual, reverse):
    """From the second layer on a residual adds inputs to outputs, but not around a readout."""
    cell = stack([GRU(3, reset="before"), RNN(3), Readout(3)], residual=residual)
    params, state, xs = draw_params(cell, INPUTS), draw_state(cell, (B,)), noise(T, B, INPUTS)
    options = marks() | {"reverse": reverse} | reset_to(cell)

    def run(number, step, xs):
        own = options | {"reset_state": options["reset_state"].layers[number]}
        return loop.unroll(step, params.layers[number], xs, state.layers[number], **own)

    first = run(0, GRU_BEFORE.step, xs)
    second = run(1, ELMAN.step, first.ys)
    third = run(2, readout, second.ys + (first.ys if residual else 0))
    layers = [first, second, third]
    close(
        unroll(cell, params, xs, state, **options),
        (StackState(tuple(r.final for r in layers)), third.ys),
    )
    states, _ = unroll_states(cell, params, xs, state, **options)
    close(states, StackState(tuple(r.states for r in layers)))


@pytest.mark.parametrize("residual", [False, True])
def test_a_stacks_steps_are_its_unroll(residual):
    """Layer by layer over time and step by step through the layers are the same network."""
    cell = stack([LSTM(3), stack([GRU(3), RNN(3)]), Readout(2)], residual=residual)
    params, xs = draw_params(cell, INPUTS), noise(T, B, INPUTS)
    state, ys = cell.initial_state((B,)), []
    for x in xs:
        state, y = cell.step(params, state, x)
        ys.append(y)
    close(unroll(cell, params, xs), (state, jnp.stack(ys)))


def test_a_stack_goes_on_where_it_stopped():
    cell = stack([LSTM(3), GRU(4)])
    params, xs = draw_params(cell, INPUTS), noise(T, B, INPUTS)
    final, ys = unroll(cell, params, xs)
    middle, first = unroll(cell, params, xs[:2])
    last, second = unroll(cell, params, xs[2:], middle)
    close((last, jnp.concatenate([first, second])), (final, ys))


def test_a_stack_of_one_is_its_cell():
    params, xs = draw_params(LSTM(3), INPUTS), noise(T, B, INPUTS)
    final, ys = unroll(LSTM(3), params, xs)
    close(unroll(stack([LSTM(3)]), StackParams((params,)), xs), (StackState((final,)), ys))


def test_layers_are_drawn_one_by_one_and_fit_each_other():
    cell = stack([RNN(5), bidirectional(RNN(5)), RNN(5), Readout(2)])
    params = cell.init(jax.random.key(0), INPUTS)
    widths = [
        params.layers[0].w_x,
        params.layers[1].forward.w_x,
        params.layers[2].w_x,
        params.layers[3].w,
    ]
    assert [w.shape for w in widths] == [(2, 5), (5, 5), (10, 5), (5, 2)]
    assert cell.output_size == 2
    drawn = [
        params.layers[0].w_h,
        params.layers[1].forward.w_h,
        params.layers[1].backward.w_h,
        params.layers[2].w_h,
    ]
    assert len({w.tobytes() for w in map(np.asarray, drawn)}) == 4


def test_a_layer_may_be_a_step_of_ones_own():
    double = rnnlab.Step(lambda params, s, x: (s, params * x), jnp.zeros(()))
    params, xs = draw_params(RNN(3), INPUTS), noise(T, B, INPUTS)
    _, ys = unroll(stack([RNN(3), double]), StackParams((params, 2.0)), xs)
    close(ys, 2 * unroll(RNN(3), params, xs)[1])


def test_an_equal_stack_compiles_nothing():
    def make():
        return bidirectional(stack([RNN(3), GRU(3)], dropout=0.25))

    assert make() == make()
    assert hash(make()) == hash(make())
    params, xs, key = draw_params(make(), INPUTS), noise(T, B, INPUTS), jax.random.key(0)
    unroll(make(), params, xs, key=key)
    with watch() as second:
        unroll(make(), params, xs, key=key)
    assert second.traced == second.compiled == []


def test_a_stack_of_readouts_can_be_a_layer():
    cell = stack([RNN(3), stack([Readout(3)])], residual=True)
    _, ys = unroll(cell, draw_params(cell, INPUTS), noise(T, B, INPUTS))
    assert ys.shape == (T, B, 3)


# Two directions


@pytest.mark.parametrize("reverse", [False, True])
def test_two_directions_side_by_side(reverse):
    """Two independent cells; with lengths the backward one starts at each last valid step."""
    cell = bidirectional(RNN(3), GRU(3, reset="before"))
    params, state, xs = draw_params(cell, INPUTS), draw_state(cell, (B,)), noise(T, B, INPUTS)
    lengths = np.array([5, 1, 3])
    ahead = loop.unroll(ELMAN.step, params.forward, xs, state.forward, lengths, reverse=reverse)
    back = loop.unroll(
        GRU_BEFORE.step, params.backward, xs, state.backward, lengths, reverse=not reverse
    )
    final, ys = unroll(cell, params, xs, state, lengths=lengths, reverse=reverse)
    close(final, BidirectionalState(ahead.final, back.final))
    close(ys, jnp.concatenate([ahead.ys, back.ys], axis=-1))
    states, _ = unroll_states(cell, params, xs, state, lengths=lengths, reverse=reverse)
    close(states, BidirectionalState(ahead.states, back.states))


def test_the_backward_direction_is_one_like_the_forward():
    cell = bidirectional(GRU(3))
    assert cell == bidirectional(GRU(3), GRU(3))
    assert (cell.hidden_size, cell.output_size) == (3, 6)
    params = cell.init(jax.random.key(0), INPUTS)
    assert not np.array_equal(params.forward.w_x, params.backward.w_x)


def test_one_direction_turned_round_is_the_other():
    """With the parameters swapped and time turned round, the halves of the output change places."""
    cell = bidirectional(GRU(3))
    params, xs = draw_params(cell, INPUTS), noise(T, B, INPUTS)
    _, ys = unroll(cell, params, xs)
    _, turned = unroll(cell, BidirectionalParams(params.backward, params.forward), xs[::-1])
    close(ys, jnp.roll(turned[::-1], 3, axis=-1))


DEEP = stack([bidirectional(RNN(3)), bidirectional(RNN(2)), Readout(2)])


def test_packed_sequences_stay_apart_in_both_directions():
    """Three sequences, each begun by a reset, have the values and gradients of separate runs."""
    params, xs, parts = draw_params(DEEP, INPUTS), noise(9, INPUTS), [(0, 3), (3, 5), (5, 9)]
    resets = np.isin(np.arange(9), [0, 3, 5])
    weights = noise(9, 2, seed=5)

    def packed(params, xs):
        return jnp.sum(weights * unroll(DEEP, params, xs, resets=resets)[1])

    def separate(params, xs):
        return sum(jnp.sum(weights[a:b] * unroll(DEEP, params, xs[a:b])[1]) for a, b in parts)

    results = [
        jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, xs) for f in (packed, separate)
    ]
    close(*results)


@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_stay_apart_across_steps_that_a_mask_leaves_out(reverse):
    """Where the step before a reset is left out, the other direction is reset a step earlier."""
    params, xs = draw_params(DEEP, INPUTS), noise(11, INPUTS)
    parts = [(0, 3), (4, 6), (7, 11)]
    starts = [b - 1 if reverse else a for a, b in parts]
    options = {
        "resets": np.isin(np.arange(11), starts),
        "mask": ~np.isin(np.arange(11), [3, 6]),
        "reverse": reverse,
    }
    _, ys = unroll(DEEP, params, xs, **options)
    for a, b in parts:
        close(ys[a:b], unroll(DEEP, params, xs[a:b], reverse=reverse)[1])


def test_both_directions_in_reverse():
    """As for one direction, the same as flipping inputs and resets, running, flipping outputs."""
    cell = bidirectional(RNN(3))
    params, state, xs = draw_params(cell, INPUTS), draw_state(cell), noise(9, INPUTS)
    resets = np.isin(np.arange(9), [2, 4])
    final, ys = unroll(cell, params, xs, state, resets=resets, reverse=True)
    there, back = unroll(cell, params, xs[::-1], state, resets=resets[::-1])
    close((final, ys), (there, back[::-1]))
    _, alone = unroll(
        cell, params, xs[3:5], reverse=True
    )  # a reset before step 4, so after it for the other direction
    close(ys[3:5], alone)


def test_padding_stays_out_in_both_directions():
    """NaN in the padding of a deep bidirectional network reaches no value and no gradient."""
    params, xs, lengths = draw_params(DEEP, INPUTS), noise(T, 2, INPUTS), np.array([2, 5])
    valid = np.arange(T)[:, None, None] < lengths[:, None]
    weights = noise(T, 2, 2, seed=5)

    def together(params, xs):
        ys = unroll(DEEP, params, xs, lengths=lengths)[1]
        return jnp.sum(weights * ys), ys

    def alone(params, xs):
        ys = [
            jnp.pad(unroll(DEEP, params, xs[:n, b])[1], ((0, T - n), (0, 0)))
            for b, n in enumerate(lengths)
        ]
        return jnp.sum(weights * jnp.stack(ys, 1)), jnp.stack(ys, 1)

    padded, expected = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True)) for f in (together, alone)
    )
    expected = expected(params, xs)
    for garbage in (0.0, np.nan):
        close(padded(params, np.where(valid, xs, garbage)), expected)


def test_a_bidirectional_cell_has_no_step():
    cell = bidirectional(RNN(3))
    for network in (cell, stack([RNN(3), cell])):
        params = draw_params(network, INPUTS)
        with pytest.raises(
            ValueError, match=r"no step, since it reads the future; use rnnlab\.unroll"
        ):
            network.step(params, network.initial_state((B,)), jnp.ones((B, INPUTS)))


# Dropout between layers


def copies(layers: int, size: int, dropout: float, residual: bool = False):
    """Layers that each copy their input, so that the output is what dropout made of the input."""
    params = StackParams((ReadoutParams(np.eye(size), None),) * layers)
    return stack([Readout(size, bias=False)] * layers, dropout=dropout, residual=residual), params


@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_dropout_is_inverted_and_keeps_the_mean(dropout):
    """Between two layers a number is dropped with probability p or multiplied by 1/(1 − p).

    Inputs of the first layer are kept.
    """
    cell, params = copies(2, 20, dropout)
    xs = np.ones((50, 20, 20))
    _, ys = unroll(cell, params, xs, key=jax.random.key(0))
    kept = np.asarray(ys) != 0
    close(np.asarray(ys), kept / (1 - dropout))
    error = np.sqrt(dropout * (1 - dropout) / ys.size)
    assert abs(kept.mean() - (1 - dropout)) < 5 * error
    assert abs(ys.mean() - 1) < 5 * error / (1 - dropout)
    assert not (kept[0] == kept[1]).all()  # afresh at each step
    assert not (kept[:, 0] == kept[:, 1]).all()  # and for each example


def test_dropout_falls_between_layers_only():
    """One layer has no between; three layers have two, drawn apart."""
    xs = np.ones((20, 10, 10))
    cell, params = copies(1, 10, 0.5)
    close(unroll(cell, params, xs, key=jax.random.key(0))[1], jnp.asarray(xs))
    cell, params = copies(3, 10, 0.5)
    _, ys = unroll(cell, params, xs, key=jax.random.key(0))
    assert set(np.unique(ys)) == {0.0, 4.0}
    assert abs((ys != 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / ys.size)


def test_dropout_needs_a_key():
    """Off without one, the same for the same one, another for another."""
    layers = [LSTM(3), GRU(3), Readout(2)]
    dry, wet = stack(layers), stack(layers, dropout=0.5)
    params, xs = draw_params(dry, INPUTS), noise(T, B, INPUTS)
    one, two = jax.random.split(jax.random.key(0))
    close(unroll(wet, params, xs), unroll(dry, params, xs))
    close(unroll(wet, params, xs, key=one), unroll(wet, params, xs, key=one))
    close(unroll(dry, params, xs, key=one), unroll(dry, params, xs))
    assert not np.allclose(unroll(wet, params, xs, key=one)[1], unroll(wet, params, xs, key=two)[1])
    assert not np.allclose(unroll(wet, params, xs, key=one)[1], unroll(wet, params, xs)[1])


def test_dropout_leaves_a_residual_connection_whole():
    """The residual is not dropped: around a layer of zeros the input comes through unchanged."""
    cell = stack([RNN(4), RNN(4)], residual=True, dropout=0.9)
    params = draw_params(cell, INPUTS)
    silent = params._replace(
        layers=(params.layers[0], jax.tree.map(np.zeros_like, params.layers[1]))
    )
    xs = noise(T, B, INPUTS)
    close(
        unroll(cell, silent, xs, key=jax.random.key(0))[1], unroll(RNN(4), params.layers[0], xs)[1]
    )


def test_dropout_reaches_inner_stacks():
    """Each draws its own: twice a half is kept, and what both keep is 4."""
    inner, params = copies(2, 50, 0.5)
    _, ys = unroll(
        stack([inner, inner]),
        StackParams((params,) * 2),
        np.ones((4, 2, 50)),
        key=jax.random.key(0),
    )
    assert set(np.unique(ys)) == {0.0, 4.0}


def test_dropout_is_drawn_for_each_direction():
    inner, params = copies(2, 50, 0.5)
    params, xs = BidirectionalParams(params, params), np.ones((4, 2, 50))
    _, ys = unroll(bidirectional(inner), params, xs, key=jax.random.key(0))
    ahead, back = np.split(np.asarray(ys), 2, axis=-1)
    assert set(np.unique(ys)) == {0.0, 2.0}
    assert not (ahead == back).all()


# The four shapes of a task, each as an example


def test_one_to_one():
    """T = 1 is a feed-forward network: y = W tanh(W_x x + b) + c."""
    cell = stack([RNN(3), Readout(2)])
    params, xs = draw_params(cell, INPUTS), noise(1, B, INPUTS)
    hidden, out = params.layers
    _, ys = unroll(cell, params, xs)
    close(ys[0], jnp.asarray(np.tanh(xs[0] @ hidden.w_x + hidden.b) @ out.w + out.b))


def test_one_to_many():
    """Each output is the next input; the outputs are those of the whole input at once."""
    cell = stack([LSTM(3), Readout(INPUTS)])
    params, x = draw_params(cell, INPUTS), noise(B, INPUTS)

    def feed_back(carry, _):
        state, x = carry
        state, y = cell.step(params, state, x)
        return (state, y), y

    start = jax.tree.map(jnp.float64, cell.initial_state((B,)))
    (final, _), ys = jax.lax.scan(feed_back, (start, jnp.asarray(x)), length=T)
    close(unroll(cell, params, jnp.concatenate([x[None], ys[:-1]])), (final, ys))

    (lstm,) = by_name("lstm")
    state = LSTMState(np.zeros(3), np.zeros(3))
    said = x[0]
    for t in range(T):  # the slow twin of the first example
        state, h = lstm.step(params.layers[0], state, said)
        said = params.layers[1].w.T @ h + params.layers[1].b
        close(np.asarray(ys[t, 0]), said)


def test_many_to_one():
    """A label for each sequence: the readout of the state at its length, whatever follows."""
    cell, head = GRU(3, reset="before"), Readout(2)
    params, weights, xs, lengths = (
        draw_params(cell, INPUTS),
        draw_params(head, 3),
        noise(T, B, INPUTS),
        np.array([2, 5, 1]),
    )

    def logits(xs):
        final, _ = unroll(cell, params, xs, lengths=lengths)
        return head(weights, final.h)

    for b, length in enumerate(lengths):
        alone = loop.unroll(GRU_BEFORE.step, params, xs[:length, b], GRU(3).initial_state())
        close(np.asarray(logits(xs)[b]), weights.w.T @ alone.final.h + weights.b)
    felt = np.asarray(jax.jacobian(logits)(jnp.asarray(xs)))  # [B, O, T, B, I]
    reach = (
        (felt != 0).any(axis=(1, 4)).transpose(1, 0, 2)
    )  # [T, B, B]: which example's steps a label depends on
    assert (reach == (np.arange(T)[:, None, None] < lengths) & np.eye(B, dtype=bool)).all()


def test_many_to_many():
    """A label for every step: yₜ depends on x₁ … xₜ, in a bidirectional network on all inputs."""
    xs = jnp.asarray(noise(T, INPUTS))
    for cell, reach in (
        (stack([RNN(3), Readout(2)]), np.tri(T, dtype=bool)),
        (stack([bidirectional(RNN(3)), Readout(2)]), np.ones((T, T), bool)),
    ):
        params = draw_params(cell, INPUTS)
        felt = jax.jacobian(lambda xs, cell=cell, params=params: unroll(cell, params, xs)[1])(
            xs
        )  # [T, O, T, I]
        assert ((np.asarray(felt) != 0).any(axis=(1, 3)) == reach).all()


def test_outputs_fed_back_are_jordans_network():
    """Elman's network that reads its last readout beside xₜ and forgets its state is Jordan's."""
    cell = rnnlab.JordanRNN(4, feedback_size=2)
    params, xs = draw_params(cell, INPUTS), noise(T, B, INPUTS)
    hidden, head = RNN(4), Readout(2)
    weights = draw(
        jax.eval_shape(lambda k: hidden.init(k, INPUTS + 2), jax.random.key(0)), 0
    )._replace(w_x=np.concatenate([params.w_x, params.w_h]), b=params.b)
    y, ys = np.zeros((B, 2)), []
    for x in xs:
        _, h = hidden.step(weights, RNNState(jnp.zeros((B, 4))), np.concatenate([x, y], axis=-1))
        y = head(ReadoutParams(params.w_y, params.b_y), h)
        ys.append(y)
    close(unroll(cell, params, xs)[1], jnp.stack(ys))
