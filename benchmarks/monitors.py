"""The cost of monitoring gradients at every 10th step of training.

    python benchmarks/monitors.py                  # about three minutes on two idle cores
    python benchmarks/monitors.py --rounds 10      # about one minute

Adam trains an LSTM with a readout on the cross-entropy of every step: without a monitor, with
``monitor_gradients`` for norms by parameter and layer, and with norms by lag as well, from the
gradient flow of some examples.

A block is 10 steps, one of which is monitored. Single calls of the compiled step, which donates its
state, are timed, one of each contender in a new random order, so that a slow period of the machine
affects all of them. The time of a block is the sum over its 10 steps of the fastest call. The table
also shows the median ratio of whole blocks that ran at the same time. The contender without a
monitor runs twice, which shows the error of both figures.
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import rnnlab
from rnnlab.training import monitor_gradients
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import PyTree

T, B, I, H, CLASSES = 100, 32, 64, 128, 10  # noqa: E741
EVERY = 10
# The number of examples whose norms are recorded by lag; None for no monitor.
CONTENDERS: dict[str, int | None] = {
    "no monitor": None,
    "no monitor, repeated": None,
    "norms": 0,
    **{f"norms, and by lag for {examples} examples": examples for examples in (2, 4, 8, B)},
}

cell = rnnlab.stack([rnnlab.LSTM(H), rnnlab.Readout(CLASSES)])
k_params, k_xs, k_labels = jax.random.split(jax.random.key(0), 3)
xs = jax.random.normal(k_xs, (T, B, I))
labels = jax.random.randint(k_labels, (T, B), 0, CLASSES)


def contender(examples: int | None) -> Callable[[], None]:
    """A function that runs the next training step."""
    monitor = [] if examples is None else [monitor_gradients(EVERY, lags=T if examples else None)]
    optimiser = optax.chain(*monitor, optax.adam(1e-3))

    def batch_loss(params: PyTree) -> jax.Array:
        return cross_entropy(rnnlab.unroll(cell, params, xs)[1], labels)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        def flow() -> jax.Array:
            def loss(ys: jax.Array) -> jax.Array:
                return cross_entropy(ys, labels[:, :examples])

            return rnnlab.gradient_flow(cell, params, xs[:, :examples], loss).log_norm_by_lag

        gradient = jax.grad(batch_loss)(params)
        extra = {"flow": flow} if examples else {}
        updates, state = optimiser.update(gradient, state, params, **extra)
        return optax.apply_updates(params, updates), state

    params = cell.init(k_params, I)
    carry = params, optimiser.init(params)

    def call() -> None:
        nonlocal carry
        carry = jax.block_until_ready(step(*carry))

    return call


def measure(rounds: int) -> np.ndarray:
    """Seconds of every call, ``[contenders, rounds, EVERY]``; step 0 of a block is monitored."""
    calls = [contender(examples) for examples in CONTENDERS.values()]
    # The first call compiles; after a whole block, the next step is a monitored one again.
    for call, _ in itertools.product(calls, range(EVERY)):
        call()
    seconds = np.zeros((len(calls), rounds, EVERY))
    random = np.random.default_rng(0)
    for block, step in itertools.product(range(rounds), range(EVERY)):
        for index in random.permutation(len(calls)):
            start = time.perf_counter()
            calls[index]()
            seconds[index, block, step] = time.perf_counter() - start
    return seconds


def tabulate(seconds: np.ndarray) -> Table:
    """The times of all contenders, and their ratios to the first."""
    rounds = seconds.shape[1]
    table = Table(
        title=f"{rounds} blocks of {EVERY} steps, one of them monitored\n"
        f"LSTM, T = {T}, B = {B}, I = {I}, H = {H}"
    )
    table.add_column("monitor")
    columns = ("fastest block\nms", "over no\nmonitor", "median of\nratios", "one record\nms")
    for column in columns:
        table.add_column(column, justify="right")
    fastest = seconds.min(axis=1)
    best, blocks = fastest.sum(axis=1), seconds.sum(axis=2)
    for index, name in enumerate(CONTENDERS):
        record = fastest[index, 0] - fastest[index, 1:].mean()
        table.add_row(
            name,
            f"{1e3 * best[index]:.1f}",
            f"{best[index] / best[0]:.3f}",
            f"{np.median(blocks[index] / blocks[0]):.3f}",
            f"{1e3 * record:.2f}",
        )
    return table


def main() -> None:
    """Measures all contenders and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="number of blocks per contender")
    seconds = measure(parser.parse_args().rounds)
    Console(highlight=False, width=120).print(tabulate(seconds))


if __name__ == "__main__":
    main()
