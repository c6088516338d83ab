"""The driver's slow twin: one example after the other, one step after the other."""

from typing import Any, NamedTuple

import jax
import numpy as np

from tests.reference.cells import Step


class Unrolled(NamedTuple):
    """The state after the last step, the states after every step and the outputs."""

    final: Any
    states: Any
    ys: np.ndarray


def unroll(
    step: Step,
    params: Any,
    xs: np.ndarray,
    initial: Any,
    lengths: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    resets: np.ndarray | None = None,
    reset_state: Any = None,
    reverse: bool = False,
) -> Unrolled:
    """``step`` over ``xs [T, ..., I]`` from ``initial``; a reset starts from zeros by default."""
    steps, batch = xs.shape[0], xs.shape[1:-1]
    if reset_state is None:
        reset_state = jax.tree.map(np.zeros_like, initial)
    examples = []
    for index in np.ndindex(*batch):
        length = steps if lengths is None else int(np.asarray(lengths)[index])
        reset = np.zeros(steps, bool) if resets is None else resets[:, *index]
        counts = np.arange(steps) < length
        if mask is not None:
            counts &= np.asarray(mask, bool)[:, *index]
        state, after_reset = jax.tree.map(
            lambda leaf, index=index: leaf[index], (initial, reset_state)
        )
        examples.append(
            _one(step, params, xs[:, *index], state, counts, reset, after_reset, reverse)
        )

    def gather(axis: int, *leaves: np.ndarray) -> np.ndarray:
        whole = np.stack(leaves, axis)
        return whole.reshape(*whole.shape[:axis], *batch, *whole.shape[axis + 1 :])

    final = jax.tree.map(
        lambda *leaves: gather(0, *leaves), *[example.final for example in examples]
    )
    rest = jax.tree.map(
        lambda *leaves: gather(1, *leaves), *[(example.states, example.ys) for example in examples]
    )
    return Unrolled(final, *rest)


def _one(
    step: Step,
    params: Any,
    xs: np.ndarray,
    state: Any,
    counts: np.ndarray,
    resets: np.ndarray,
    reset_state: Any,
    reverse: bool,
) -> Any:
    """One example: a step that does not count is not run at all, and its output is zero."""
    states, ys = [state] * len(xs), [None] * len(xs)
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        if counts[t]:
            if resets[t]:
                state = reset_state
            state, ys[t] = step(params, state, xs[t])
        states[t] = state
    silence = np.zeros_like(step(params, state, np.zeros_like(xs[0]))[1])
    ys = [silence if y is None else y for y in ys]
    return Unrolled(state, jax.tree.map(lambda *leaves: np.stack(leaves), *states), np.stack(ys))
