"""The cudnn engine: NVIDIA's LSTM kernel, through ``jax.experimental.rnn``.

How weights, lengths and direction are passed on is tested everywhere, against JAX's reference
implementation of that kernel (``jax.experimental.rnn.lstm_ref``). The kernel itself needs a GPU: on
machines without one the tests have not run it. It gives first derivatives in reverse mode only, has
no rule for ``vmap``, and multiplies in TF32 unless ``jax.default_matmul_precision`` is "highest".
"""

from typing import cast

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from rnnlab.cells.lstm import LSTM, LSTMParams, LSTMState
from rnnlab.engines.sequence import EngineChoice, EngineInput, select
from rnnlab.typing import Array, Cell, PyTree


def cudnn(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[LSTMState, Array]:
    """As ``scan``, for a plain LSTM on a GPU; ValueError for anything else."""
    del engine  # it has no options
    if reason := refusal(cell, params, sequence):
        raise ValueError(f"engine 'cudnn' {reason}; use engine='auto'")
    xs, state, marks, reverse, *_ = sequence
    steps, batch, inputs = xs.shape
    lengths = None if marks.valid is None else marks.valid.sum(axis=0, dtype=jnp.int32)
    # The kernel runs forwards, or in both directions at twice the cost, but not backwards alone.
    xs = _flip_valid(xs, lengths) if reverse else xs
    # The kernel wants the batch first, and states with an axis for layers.
    result = rnn.lstm(
        jnp.swapaxes(xs, 0, 1),
        state.h[None],
        state.c[None],
        pack(params),
        jnp.full(batch, steps, jnp.int32) if lengths is None else lengths,
        input_size=inputs,
        hidden_size=state.h.shape[-1],
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    ys, h, c = cast(tuple[Array, Array, Array], result)
    ys = jnp.swapaxes(ys, 0, 1)
    ys = _flip_valid(ys, lengths) if reverse else ys
    if marks.valid is not None:
        # The kernel may leave anything in the padding, and no gradient may enter it from there.
        ys = select(marks.valid, ys, jnp.zeros_like(ys))
    return LSTMState(c=c[0], h=h[0]), ys


def refusal(cell: Cell, params: PyTree, sequence: EngineInput) -> str | None:
    """What this engine lacks to run that, as the end of a sentence; None where it can run it."""
    platform = jax.default_backend()
    if platform != "gpu":
        return f"needs a GPU, but this runs on {platform}"
    if type(cell) is not LSTM:
        return f"runs rnnlab.LSTM only, but the cell is of type {type(cell).__name__}"
    for option in ("peephole", "layer_norm"):
        if getattr(cell, option):
            return f"does not support {option}"
    if cell.proj_size is not None:
        return "does not support proj_size"
    if cell.dtype is not None:
        return f"runs an LSTM with dtype=None only, but dtype is {cell.dtype}"
    inputs = {"params": params, "xs": sequence.xs, "the state": sequence.state}
    for name, tree in inputs.items():
        for dtype in map(jnp.result_type, jax.tree.leaves(tree)):
            if dtype != jnp.float32:
                return f"computes in float32 only, but {name} holds {dtype}"
    if sequence.xs.ndim != 3:
        return f"needs exactly one batch axis, but xs has shape {sequence.xs.shape}"
    if sequence.marks.reset is not None:
        return "does not support resets"
    if sequence.masked:
        return "supports lengths but not a mask"
    if sequence.every:
        return "returns the final state only, not the state after every step"
    return None


def pack(params: LSTMParams) -> Array:
    """All weights as one vector, in the order in which the kernel reads them.

    W_ih ``[4H, I]``, W_hh ``[4H, H]``, b_ih and b_hh ``[4H]``, each by i, f, g, o.
    """
    absent = jnp.zeros(params.w_h.shape[1], params.w_h.dtype)
    b = absent if params.b is None else params.b
    c = absent if params.c is None else params.c
    return jnp.concatenate([params.w_x.T.ravel(), params.w_h.T.ravel(), b, c])


def _flip_valid(sequence: Array, lengths: Array | None) -> Array:
    """``[T, B, F]`` with each example's valid part reversed, and its padding left in place."""
    if lengths is None:
        return jnp.flip(sequence, axis=0)
    index = jnp.arange(sequence.shape[0])[:, None]
    source = jnp.where(index < lengths, lengths - 1 - index, index)
    return jnp.take_along_axis(sequence, source[..., None], axis=0)
