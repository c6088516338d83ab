"""Many training steps in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.training.step import Metrics, TrainState
from rnnlab.typing import Array, PyTree

MOST = 16
"""The most steps in one call: enough to make the cost of a call small."""

LARGEST = 4 * 2**20
"""Bytes of the batches of one call, unless a single batch is larger: they are copied together."""

Step = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


def capacity(batch: PyTree) -> int:
    """The number of steps that a program for such batches can run in one call."""
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch))
    return int(np.clip(LARGEST // max(size, 1), 1, MOST))


def stack(batches: Sequence[PyTree], room: int) -> PyTree:
    """The batches along a new first axis of length ``room``; the rest of it is not used."""

    def join(*leaves: Any) -> np.ndarray:
        first = np.asarray(leaves[0])
        joined = np.zeros((room, *first.shape), first.dtype)
        for index, leaf in enumerate(leaves):
            joined[index] = leaf
        return joined

    return jax.tree.map(join, *batches)


def compiled(step: Step) -> Callable[..., tuple[TrainState, Metrics, Array]]:
    """``(state, batches, count, most_skipped) -> (state, metrics, steps)``, compiled.

    It runs the first ``count`` batches of ``batches [N, ...]``, and ends early once
    ``most_skipped`` steps in a row were not applied; ``metrics`` are ``[N]``, of which the first
    ``steps`` count. The number is an argument: XLA may round otherwise in a program for another
    number, and a run that is resumed would differ from one that was not.
    """

    def many(
        state: TrainState, batches: PyTree, count: Array, most_skipped: Array
    ) -> tuple[TrainState, Metrics, Array]:
        def at(index: Array) -> PyTree:
            return jax.tree.map(lambda leaf: leaf[index], batches)

        _, shapes = jax.eval_shape(step, state, at(jnp.int32(0)))
        leaves = jax.tree.leaves(batches)
        room = leaves[0].shape[0] if leaves else MOST
        rows = {name: jnp.zeros((room, *row.shape), row.dtype) for name, row in shapes.items()}

        def unfinished(loop: tuple[Array, TrainState, Metrics]) -> Array:
            index, state, _ = loop
            # A run may be resumed with a smaller limit than it has reached: one step is always run.
            is_allowed = (index == 0) | (state.skipped < most_skipped)
            return (index < count) & is_allowed

        def once(loop: tuple[Array, TrainState, Metrics]) -> tuple[Array, TrainState, Metrics]:
            index, state, rows = loop
            state, metrics = step(state, at(index))
            rows = {name: row.at[index].set(metrics[name]) for name, row in rows.items()}
            return index + 1, state, rows

        done, state, rows = lax.while_loop(unfinished, once, (jnp.int32(0), state, rows))
        return state, rows, done

    return jax.jit(many, donate_argnums=0)
