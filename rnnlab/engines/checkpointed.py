"""The checkpointed engine: memory of order √T, at the cost of one more forward pass.

The sequence is cut into S segments of T/S steps. The forward pass keeps only the state before each
segment. The backward pass runs each segment again from there, and only then keeps what the
derivatives of its steps need (Chen et al. 2016, arXiv 1604.06174; Gruslys et al. 2016,
arXiv 1606.03401). So a gradient keeps S states and the residuals of T/S steps in place of those of
T. A second level cuts every segment again, for a further forward pass: of the larger segment only
the inputs, the outputs and their gradients exist at once, and residuals only of the smaller one.
Within a segment the steps are those of the fused engine where the cell allows it, else of scan.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.engines.fused.engine import fused, refusal
from rnnlab.engines.scan import scan
from rnnlab.engines.sequence import EngineChoice, EngineInput, known
from rnnlab.typing import Array, Cell, PyTree


def checkpointed(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[PyTree, Array]:
    """As ``scan``, segment by segment.

    ``engine.segments`` says how many at each level; None leaves that to
    ``segment_count``. S segments have ⌈T/S⌉ steps each; the steps left over form a shorter segment,
    which costs a copy of ys.
    ValueError for more segments than there are steps to cut.
    """
    total = sequence.xs.shape[0]
    counts = engine.segments or (segment_count(total),)
    if engine.segments:
        _check_counts(counts, total)
    final, (states, ys) = _run(cell, params, sequence, engine, counts)
    return (states if sequence.every else final), ys


def _check_counts(counts: tuple[int, ...], total: int) -> None:
    if not known(total):
        raise ValueError(
            f"segments cannot cut {total} steps, a number that is not known yet; leave it out, or "
            "export the program for a fixed number of steps"
        )
    steps = total
    for count in counts:
        if count > steps:
            whole = "the sequence" if steps == total else "a segment of the level above"
            raise ValueError(
                f"segments asks for {count}, but {whole} has {steps} steps; use at most {steps}"
            )
        steps = -(-steps // count)


def segment_count(steps: int) -> int:
    """How many segments for T steps, at one level: of about √T/2 steps each.

    S states and the residuals of T/S steps, each R times a state, are least for √(T/R) steps; R was
    measured as 5 for RNN, 7 for LSTM and 11 for GRU. Somewhat longer segments are faster. The
    nearest length that divides T is taken if it is within a factor of 3, since then nothing is left
    over. A symbolic T cannot be cut: one segment.
    """
    if not known(steps):
        return 1
    best = math.sqrt(steps) / 2

    def ratio(length: int) -> float:
        return max(length / best, best / length)

    # Longest first, so that of two lengths equally near min takes the longer, faster one.
    lengths = range(int(best * 3), math.ceil(best / 3) - 1, -1)
    divisors = [length for length in lengths if steps % length == 0]
    length = min(divisors, key=ratio, default=max(1, round(best)))
    return math.ceil(steps / length)


def _run(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
    counts: tuple[int, ...],
) -> tuple[PyTree, tuple[PyTree, Array]]:
    """``(final, (states or None, ys))``: ``counts[0]`` segments, each cut by the other counts."""
    if not counts:
        return _run_uncut(cell, params, sequence, engine)
    xs, state, marks, reverse, every, masked, reset_state = sequence
    steps = xs.shape[0]
    length = -(-steps // counts[0])
    whole_count, rest = divmod(steps, length)
    cut = whole_count * length

    # A segment reads its steps out of the whole sequence. Were that cut up beforehand, it would be
    # copied where steps are left over, and under vmap over parameters once for each network. It is
    # an argument, since jax.checkpoint would keep values that the function closed over for each
    # call. XLA does not merge the two forward passes, since each is a loop: the barrier that
    # prevent_cse would add against that only costs time.
    @functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=3)
    def checkpoint(
        whole: PyTree,
        state: PyTree,
        first: Array | int,
        length: int,
    ) -> tuple[PyTree, tuple[PyTree, Array]]:
        params, reset_state, *timed = whole

        def steps_of_segment(leaf: Array) -> Array:
            return lax.dynamic_slice_in_dim(leaf, first, length)

        xs, marks = jax.tree.map(steps_of_segment, timed)
        part = EngineInput(xs, state, marks, reverse, every, masked, reset_state)
        return _run(cell, params, part, engine, counts[1:])

    segment = functools.partial(checkpoint, (params, reset_state, xs, marks))

    def run_segment(state: PyTree, first: Array) -> tuple[PyTree, PyTree]:
        return segment(state, first, length)

    def run_whole(state: PyTree) -> tuple[PyTree, PyTree]:
        firsts = length * jnp.arange(whole_count)
        state, outs = lax.scan(run_segment, state, firsts, reverse=reverse)
        return state, jax.tree.map(lambda leaf: leaf.reshape(cut, *leaf.shape[2:]), outs)

    if not rest:
        return run_whole(state)
    # The shorter segment holds the last steps in time, so a run in reverse starts with it.
    if reverse:
        state, last = segment(state, cut, rest)
        state, outs = run_whole(state)
    else:
        state, outs = run_whole(state)
        state, last = segment(state, cut, rest)
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), outs, last)


def _run_uncut(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[PyTree, tuple[PyTree, Array]]:
    run = scan if refusal(cell) else fused
    after, ys = run(cell, params, sequence, engine)
    if not sequence.every:
        return after, (None, ys)
    last = 0 if sequence.reverse else -1
    final = jax.tree.map(lambda leaf: leaf[last], after)
    return final, (after, ys)
