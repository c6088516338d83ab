"""The decay of an RNN's and an LSTM's gradient with lag, while they learn to recall a symbol.

    python -m experiments.monitor.run

Both networks output the first of 30 symbols after the last one. Training is one compiled scan over
all steps, with a monitor inside; nothing is returned before the end. Each row of the output is one
record of the monitor: the mean loss until the next record, the norms of the gradient, and the decay
of the gradient in the state from lag 0 to each lag.

A state that stores a symbol reliably is insensitive to small changes, so that its gradient vanishes
(Bengio, Simard & Frasconi 1994): a gradient that decays need not mean that nothing was learned.
"""

import functools
import itertools
import math
from pathlib import Path

import jax
import numpy as np
import optax

import rnnlab
from experiments.common import Record, experiment
from rnnlab.report.figures.style import drawing, grid_lines, look, reference_line, title
from rnnlab.training import GradientLooks, monitor_gradients, read_monitor
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import Cell, Key, PyTree

STEPS, BATCH, SYMBOLS, HIDDEN = 30, 32, 3, 32
EVERY, EXAMPLES = 150, 4


@functools.partial(jax.jit, static_argnames=("cell", "updates"))
def train(key: Key, cell: Cell, updates: int) -> tuple[PyTree, jax.Array]:
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
        change, state = optimiser.update(gradient, state, params, flow=flow)
        return (optax.apply_updates(params, change), state), value

    params = model.init(k_init, SYMBOLS)
    keys = jax.random.split(k_data, updates)
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


def record_of(looks: GradientLooks, losses: np.ndarray) -> Record:
    """The loss from each record of the monitor to the next, and the decay over all lags there."""
    assert looks.lags is not None
    assert looks.log_norm_by_lag is not None
    by_lag = looks.log_norm_by_lag[:, 0]
    decay = by_lag[:, 0] - by_lag[:, -1]
    means = [float(losses[step : step + EVERY].mean()) for step in looks.steps]
    return {"steps": looks.steps.tolist(), "loss": means, "decay": decay.tolist()}


def run(quick: bool) -> Record:
    """What the monitor sees while an RNN and an LSTM are trained."""
    updates = 300 if quick else 4500
    rows = {}
    for name, cell in {"RNN": rnnlab.RNN(HIDDEN), "LSTM": rnnlab.LSTM(HIDDEN)}.items():
        state, losses = train(jax.random.key(0), cell, updates)
        looks = read_monitor(state)
        show(name, looks, np.asarray(losses))
        rows[name] = record_of(looks, np.asarray(losses))
    return {"finding": finding(rows), "updates": updates, "seed": 0, "rows": rows}


def finding(rows: Record) -> str:
    """The last loss of each network, and how much its gradient decays during training."""
    parts = []
    for name, row in rows.items():
        most = int(np.argmax(row["decay"]))
        parts.append(
            f"the {name}'s gradient decays over all lags by {row['decay'][0]:.1f} nats before "
            f"training, by at most {row['decay'][most]:.1f} (update {row['steps'][most]}), and by "
            f"{row['decay'][-1]:.1f} at the end, where its loss is {row['loss'][-1]:.4f} nats"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} (chance: {math.log(SYMBOLS):.2f})."


def draw(result: Record, path: Path) -> None:
    """The loss, and the decay of the gradient over all lags, during training."""
    with drawing(path, 1, 2, (10, 4.2)) as (figure, (left, right)):
        for index, (name, row) in enumerate(result["rows"].items()):
            left.plot(row["steps"], row["loss"], **look(index), label=name)
            right.plot(row["steps"], row["decay"], **look(index), label=name)
        reference_line(left, math.log(SYMBOLS))
        left.set(xlabel="update", ylabel="loss (nats; dotted: chance)")
        right.set(xlabel="update", ylabel="decay from lag 0 to the first symbol (nats)")
        for axes in (left, right):
            grid_lines(axes)
        left.legend(frameon=False)
        title(figure, headline(result["rows"]), 100)


def headline(rows: Record) -> str:
    """The decay of each network before and after the training."""
    parts = []
    for name, row in rows.items():
        parts.append(f"{name} {row['decay'][0]:.1f} before training, {row['decay'][-1]:.1f} after")
    return f"Decay of the gradient over all lags, in nats: {'; '.join(parts)}"


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
