"""The checkpointed engine: memory of order √T, for one more run forwards.

The sequence is cut into S segments of T/S steps. Forwards only the state before each segment is kept; backwards each
segment is run again from there, and only then is what its steps' derivatives need remembered (Chen et al. 2016,
arXiv 1604.06174; Gruslys et al. 2016, arXiv 1606.03401). So a gradient keeps S states and the residuals of T/S steps
in place of those of T. A second level cuts every segment again, for a further run forwards: of the larger segment only
the inputs, the outputs and their gradients are there at once, and residuals only of the smaller one. Within a segment
the steps are those of the fused engine where the cell allows it, else those of scan.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.engines.fused.engine import fused, refusal
from rnnlab.engines.scan import scan
from rnnlab.engines.sequence import Engine, Sequence, known
from rnnlab.typing import Array, Cell, PyTree


def checkpointed(
    cell: Cell, params: PyTree, sequence: Sequence, engine: Engine
) -> tuple[PyTree, Array]:
    """As ``scan``, segment by segment; ``engine.segments`` says how many at each level, None leaves that to ``choose``.

    S segments have ⌈T/S⌉ steps each; what is left over is a shorter one of its own, for a copy of ys. ValueError for
    more segments than there are steps to cut.
    """
    total = steps = sequence.xs.shape[0]
    counts = engine.segments or (choose(total),)
    if engine.segments and not known(total):
        raise ValueError(
            f"segments cannot cut {total} steps, a number that is not known yet; leave it out, or "
            "export the program for a fixed number of steps"
        )
    for count in counts:
        if count > steps:
            whole = "the sequence" if steps == total else "a segment of the level above"
            raise ValueError(
                f"segments asks for {count}, but {whole} has {steps} steps; use at most {steps}"
            )
        steps = -(-steps // count)
    final, (states, ys) = _run(cell, params, sequence, engine, counts)
    return (states if sequence.every else final), ys


def choose(steps: int) -> int:
    """How many segments for T steps, at one level: of about √T/2 steps each.

    S states and the residuals of T/S steps, each R times a state, are least for √(T/R) steps; R was measured as 5 for
    RNN, 7 for LSTM and 11 for GRU. Somewhat longer segments are quicker. The nearest length that divides T is taken if
    it is within a factor of 3, since then nothing is left over. A symbolic T cannot be cut: one segment.
    """
    if not known(steps):
        return 1
    best = math.sqrt(steps) / 2
    near = [
        length
        for length in range(int(best * 3), math.ceil(best / 3) - 1, -1)
        if steps % length == 0
    ]
    return math.ceil(
        steps / min(near, key=lambda n: max(n / best, best / n), default=max(1, round(best)))
    )


def _run(
    cell: Cell, params: PyTree, sequence: Sequence, engine: Engine, counts: tuple[int, ...]
) -> tuple[PyTree, tuple[PyTree, Array]]:
    """``(final, (states or None, ys))``: cut into ``counts[0]`` segments, and each of them by the other counts."""
    xs, state, marks, reverse, every, masked = sequence
    if not counts:
        after, ys = (scan if refusal(cell) else fused)(cell, params, sequence, engine)
        if not every:
            return after, (None, ys)
        last = 0 if reverse else -1
        return jax.tree.map(lambda leaf: leaf[last], after), (after, ys)
    length = -(-xs.shape[0] // counts[0])
    number, rest = divmod(xs.shape[0], length)
    cut = number * length

    # A segment reads its steps out of the whole sequence. Were that cut up beforehand, it would be copied where
    # something is left over, and under vmap over parameters once for each network. It is an argument, since
    # jax.checkpoint would remember the values of one call where the function closed over them.
    @functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=3)
    def checkpoint(
        whole: PyTree, state: PyTree, first: Array | int, length: int
    ) -> tuple[PyTree, tuple[PyTree, Array]]:
        params, *timed = whole
        part = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, length), timed)
        return _run(
            cell,
            params,
            Sequence(part[0], state, part[1], reverse, every, masked),
            engine,
            counts[1:],
        )

    segment = functools.partial(checkpoint, (params, xs, marks))

    def run_whole(state: PyTree) -> tuple[PyTree, PyTree]:
        state, outs = lax.scan(
            lambda *at: segment(*at, length), state, length * jnp.arange(number), reverse=reverse
        )
        return state, jax.tree.map(lambda leaf: leaf.reshape(cut, *leaf.shape[2:]), outs)

    if not rest:
        return run_whole(state)
    if reverse:
        state, last = segment(state, cut, rest)
        state, outs = run_whole(state)
    else:
        state, outs = run_whole(state)
        state, last = segment(state, cut, rest)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), outs, last)
