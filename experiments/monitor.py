"""Does a gradient reach further back once a network has learned to look back?

    python experiments/monitor.py

A plain RNN and an LSTM are to name the first of 30 symbols after the last. Their training is
watched from inside: it is one compiled scan over all steps, and nothing leaves it before the end.
Each line is a look: the loss from there to the next look, the gradient's norms, and how far the
gradient in the state has fallen on its way back to each lag.

Only while it learns: at the look at which the LSTM's loss falls to nothing, the gradient is largest
and falls least on its way back. After that it falls further than before, since the symbol is kept
in states that forget small changes: what is latched reliably has gradients that vanish (Bengio,
Simard & Frasconi 1994). The RNN never learns.
"""

import functools
import itertools

import jax
import numpy as np
import optax

import rnnlab
from rnnlab.training import GradientLooks, monitor_gradients, read_monitor
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import Cell, Key, PyTree

STEPS, BATCH, SYMBOLS, HIDDEN = 30, 32, 3, 32
TRAINING, EVERY, EXAMPLES = 1500, 150, 4


@functools.partial(jax.jit, static_argnames="cell")
def train(key: Key, cell: Cell) -> tuple[PyTree, jax.Array]:
    """The optimiser's state after training, and the loss of every step, in nats."""
    k_init, k_data = jax.random.split(key)
    model = rnnlab.stack([cell, rnnlab.Readout(SYMBOLS)])
    watch = monitor_gradients(EVERY, lags=STEPS)
    optimiser = optax.chain(watch, optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], jax.Array]:
        params, state = carry
        symbols = jax.random.randint(key, (STEPS, BATCH), 0, SYMBOLS)
        xs, first = jax.nn.one_hot(symbols, SYMBOLS), symbols[0]

        def loss(params: PyTree) -> jax.Array:
            return cross_entropy(rnnlab.unroll(model, params, xs)[1][-1], first)

        def flow() -> jax.Array:
            """The whole state's: of an LSTM's h alone it would miss the way through c."""
            some = xs[:, :EXAMPLES]
            seen = rnnlab.gradient_flow(
                model, params, some, lambda ys: cross_entropy(ys[-1], first[:EXAMPLES])
            )
            return seen.log_norm_joint.mean(axis=2)[:, ::-1]  # [L, T], by lag

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state, params, flow=flow)
        return (optax.apply_updates(params, updates), state), value

    params = model.init(k_init, SYMBOLS)
    (_, state), losses = jax.lax.scan(
        step, (params, optimiser.init(params)), jax.random.split(k_data, TRAINING)
    )
    return state, losses


def show(name: str, looks: GradientLooks, losses: np.ndarray) -> None:
    """A line for each look."""
    assert looks.lags is not None
    assert looks.log_norm_by_lag is not None
    buckets = [f"{a}–{b - 1}" if b > a + 1 else f"{a}" for a, b in itertools.pairwise(looks.lags)]
    print(
        f"\n{name}: norms of gradients in nats, and by how many nats the state's has fallen at each lag"
    )
    print(
        f"{'step':>6}{'loss':>8}{'all':>8}{'cell':>8}{'readout':>9}   lag"
        + "".join(f"{b:>8}" for b in buckets)
    )
    for number, step in enumerate(looks.steps):
        every, cell, readout = (
            looks.log_norm[group][number] for group in ("all", "layers[0]", "layers[1]")
        )
        by_lag = looks.log_norm_by_lag[number, 0]
        loss = losses[step : step + EVERY].mean()
        print(f"{step:6}{loss:8.3f}{every:8.2f}{cell:8.2f}{readout:9.2f}{'':6}"
              + "".join(f"{fallen:8.2f}" for fallen in by_lag[0] - by_lag))  # fmt: skip


for name, cell in {"RNN": rnnlab.RNN(HIDDEN), "LSTM": rnnlab.LSTM(HIDDEN)}.items():
    state, losses = train(jax.random.key(0), cell)
    show(name, read_monitor(state), np.asarray(losses))
print(f"\nA guess costs {np.log(SYMBOLS):.3f} nats.")
