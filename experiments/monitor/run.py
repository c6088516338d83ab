"""The decay of an RNN's and an LSTM's gradient with lag, while they learn to recall a symbol.

    python experiments/monitor.py

Both networks output the first of 30 symbols after the last one. Training is one compiled scan over
all steps, with a monitor inside; nothing is returned before the end. Each row of the output is one
record of the monitor: the mean loss until the next record, the norms of the gradient, and the decay
of the gradient in the state from lag 0 to each lag.

The gradient reaches further back only during learning. At the record where the LSTM's loss falls to
zero, the gradient is largest and decays least. Later it decays more than before, because the symbol
is stored in states that are insensitive to small changes: a state that latches information reliably
has vanishing gradients (Bengio, Simard & Frasconi 1994). The RNN does not learn the task.
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
UPDATES, EVERY, EXAMPLES = 1500, 150, 4


@functools.partial(jax.jit, static_argnames="cell")
def train(key: Key, cell: Cell) -> tuple[PyTree, jax.Array]:
    """The optimiser's state after training, and the loss of every update, in nats."""
    k_init, k_data = jax.random.split(key)
    model = rnnlab.stack([cell, rnnlab.Readout(SYMBOLS)])
    monitor = monitor_gradients(EVERY, lags=STEPS)
    optimiser = optax.chain(monitor, optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], jax.Array]:
        params, state = carry
        symbols = jax.random.randint(key, (STEPS, BATCH), 0, SYMBOLS)
        xs, targets = jax.nn.one_hot(symbols, SYMBOLS), symbols[0]

        def loss(params: PyTree) -> jax.Array:
            return cross_entropy(rnnlab.unroll(model, params, xs)[1][-1], targets)

        def monitored_loss(ys: jax.Array) -> jax.Array:
            return cross_entropy(ys[-1], targets[:EXAMPLES])

        def flow() -> jax.Array:
            """ln‖∂L/∂s‖ by lag, ``[L, T]``."""
            examples = xs[:, :EXAMPLES]
            result = rnnlab.gradient_flow(model, params, examples, monitored_loss)
            # Of the whole state: the norm of an LSTM's h alone omits the path through c.
            return result.log_norm_state.mean(axis=2)[:, ::-1]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state, params, flow=flow)
        return (optax.apply_updates(params, updates), state), value

    params = model.init(k_init, SYMBOLS)
    keys = jax.random.split(k_data, UPDATES)
    (_, state), losses = jax.lax.scan(step, (params, optimiser.init(params)), keys)
    return state, losses


def show(name: str, looks: GradientLooks, losses: np.ndarray) -> None:
    """Prints a row for each record of the monitor."""
    assert looks.lags is not None
    assert looks.log_norm_by_lag is not None
    lags = [f"{a}–{b - 1}" if b > a + 1 else f"{a}" for a, b in itertools.pairwise(looks.lags)]
    columns = "".join(f"{lag:>8}" for lag in lags)
    print(f"\n{name}: ln of gradient norms, and decay of the state's gradient by lag (nats)")
    print(f"{'step':>6}{'loss':>8}{'all':>8}{'cell':>8}{'readout':>9}   lag{columns}")
    norms = [looks.log_norm[group] for group in ("all", "layers[0]", "layers[1]")]
    for index, step in enumerate(looks.steps):
        total, cell, readout = (norm[index] for norm in norms)
        loss = losses[step : step + EVERY].mean()
        by_lag = looks.log_norm_by_lag[index, 0]
        decay = "".join(f"{value:8.2f}" for value in by_lag[0] - by_lag)
        print(f"{step:6}{loss:8.3f}{total:8.2f}{cell:8.2f}{readout:9.2f}{'':6}{decay}")


for name, cell in {"RNN": rnnlab.RNN(HIDDEN), "LSTM": rnnlab.LSTM(HIDDEN)}.items():
    state, losses = train(jax.random.key(0), cell)
    show(name, read_monitor(state), np.asarray(losses))
print(f"\nThe loss at chance is {np.log(SYMBOLS):.3f} nats.")
