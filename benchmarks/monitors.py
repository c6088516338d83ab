"""What does it cost to watch the gradients of a training step at every 10th step?

    python benchmarks/monitors.py                  # about three minutes on two idle cores
    python benchmarks/monitors.py --rounds 10      # about one

An LSTM with a readout is trained by Adam on the cross-entropy of every step, first unwatched, then
with ``monitor_gradients``: norms by parameter and layer only, or norms by lag too, from a flow of
some of the examples.

What is timed are blocks of 10 steps, so that one look is in every block: single calls of the
compiled step, its state donated, one of each contender in an order drawn anew every time, so that a
slow moment of the machine meets them all. A block's time is the sum of the fastest calls at each of
its 10 places. Beside it stands the median of the ratios of whole blocks that were run side by side.
The unwatched step is entered twice, which shows how far to trust both.
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
CONTENDERS: dict[
    str, int | None
] = {  # at how many examples it looks by lag; None where it does not look at all
    "nothing": None,
    "nothing, again": None,
    "norms": 0,
    **{f"norms, and lags of {examples} examples": examples for examples in (2, 4, 8, B)},
}

cell = rnnlab.stack([rnnlab.LSTM(H), rnnlab.Readout(CLASSES)])
k_params, k_xs, k_labels = jax.random.split(jax.random.key(0), 3)
xs = jax.random.normal(k_xs, (T, B, I))
labels = jax.random.randint(k_labels, (T, B), 0, CLASSES)


def contender(examples: int | None) -> Callable[[], None]:
    """A function that takes one step, from where the last one ended."""
    watch = [] if examples is None else [monitor_gradients(EVERY, lags=T if examples else None)]
    optimiser = optax.chain(*watch, optax.adam(1e-3))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        def flow() -> jax.Array:
            def loss(ys: jax.Array) -> jax.Array:
                return cross_entropy(ys, labels[:, :examples])

            return rnnlab.gradient_flow(cell, params, xs[:, :examples], loss).log_norm_by_lag

        gradient = jax.grad(
            lambda params: cross_entropy(rnnlab.unroll(cell, params, xs)[1], labels)
        )(params)
        extra = {"flow": flow} if examples else {}
        updates, state = optimiser.update(gradient, state, params, **extra)
        return optax.apply_updates(params, updates), state

    params = cell.init(k_params, I)
    carried = params, optimiser.init(params)

    def call() -> None:
        nonlocal carried
        carried = jax.block_until_ready(step(*carried))

    return call


def main() -> None:
    """Times the contenders and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="blocks of each contender")
    rounds = parser.parse_args().rounds
    calls = [contender(examples) for examples in CONTENDERS.values()]
    for call, _ in itertools.product(
        calls, range(EVERY)
    ):  # compiles, and ends where the next step is a look
        call()
    seconds = np.zeros((len(calls), rounds, EVERY))
    random = np.random.default_rng(0)
    for block, place in itertools.product(range(rounds), range(EVERY)):
        for number in random.permutation(len(calls)):
            start = time.perf_counter()
            calls[number]()
            seconds[number, block, place] = time.perf_counter() - start
    best, whole = seconds.min(axis=1).sum(axis=1), seconds.sum(axis=2)
    table = Table(
        title=f"{rounds} blocks of {EVERY} steps with one look,\nLSTM, T = {T}, B = {B}, I = {I}, H = {H}"
    )
    table.add_column("watched")
    for column in ("fastest block\nms", "over\nnothing", "median of\nratios", "a look\nms"):
        table.add_column(column, justify="right")
    for number, name in enumerate(CONTENDERS):
        median = np.median(whole[number] / whole[0])
        look = seconds[number].min(axis=0)
        table.add_row(name, f"{1e3 * best[number]:.1f}", f"{best[number] / best[0]:.3f}", f"{median:.3f}",
                      f"{1e3 * (look[0] - look[1:].mean()):.2f}")  # fmt: skip
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
