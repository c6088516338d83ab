"""Pooling: one vector for a sequence from the outputs of all its steps, without the padding."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.base import within
from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.training.losses import masked_mean
from rnnlab.typing import Array, Dtype, Key

POOLS = ("last", "mean", "max", "attention")


class PoolingParams(NamedTuple):
    """Those of attention pooling: W ``[H, H]`` and b in ``hidden``, v ``[H, 1]`` in ``score``."""

    hidden: ReadoutParams
    score: ReadoutParams


def init_pooling(how: str, key: Key, size: int, dtype: Dtype) -> PoolingParams | None:
    """Initial parameters for outputs of ``size`` features; None where pooling has none."""
    if how != "attention":
        return None
    k_hidden, k_score = jax.random.split(key)
    hidden, score = _layers(size, dtype)
    return PoolingParams(hidden.init(k_hidden, size), score.init(k_score, size))


def _layers(size: int, dtype: Dtype) -> tuple[Readout, Readout]:
    return Readout(size, param_dtype=dtype), Readout(1, bias=False, param_dtype=dtype)


def pool(
    how: str, cell: Any, params: PoolingParams | None, ys: Array, lengths: Array | None
) -> Array:
    """``ys [T, B, H]`` of a cell as ``[B, H]``; zeros for a sequence of no steps.

    "last": y at the last valid step; of a bidirectional cell, the features of the backward
    direction at the first step, where that has read the whole sequence.
    "mean", "max": over the valid steps.
    "attention": Σₜ αₜ yₜ, α = softmax over the valid steps of v · tanh(W yₜ + b) (Yang et al. 2016,
    "Hierarchical attention networks for document classification").
    """
    if how == "last":
        return last_outputs(cell, ys, lengths)
    valid = None if lengths is None else within(lengths, ys.shape[0])[..., None]
    if how == "mean":
        return masked_mean(ys, valid, axis=0)
    if how == "max":
        return _max(ys, valid)
    weights = pooling_weights(params, ys, valid)
    return jnp.einsum("tb,tbh->bh", weights, ys)


def last_outputs(cell: Any, ys: Array, lengths: Array | None) -> Array:
    """The outputs ``[B, H]`` after the whole sequence was read, in either direction."""
    first = ys[0]
    last = ys[-1]
    if lengths is not None:
        # A sequence of no steps takes step 0, whose output is zero. In int32, since 0 − 1 would be
        # 255 in uint8.
        index = jnp.maximum(lengths.astype(jnp.int32) - 1, 0)
        last = jnp.take_along_axis(ys, index[None, :, None], axis=0)[0]
    parts = []
    start = 0
    for size, is_backward in directions(cell):
        source = first if is_backward else last
        parts.append(source[:, start : start + size])
        start += size
    return jnp.concatenate(parts, axis=-1)


def directions(cell: Any) -> list[tuple[int, bool]]:
    """The features of a cell's outputs side by side: how many, and whether they run backward."""
    if hasattr(cell, "backward"):
        flipped = [(size, not is_backward) for size, is_backward in directions(cell.backward)]
        return directions(cell.forward) + flipped
    inner = getattr(cell, "cells", ())
    # Of a stack the last layer decides; a wrapper has the outputs of its only cell.
    if inner and getattr(inner[-1], "output_size", None) == cell.output_size:
        return directions(inner[-1])
    return [(cell.output_size, False)]


def pooling_weights(params: Any, ys: Array, valid: Array | None) -> Array:
    """α ``[T, B]``, which sum to 1 over the valid steps and are 0 in the padding."""
    hidden, score = _layers(ys.shape[-1], ys.dtype)
    scores = score(params.score, jnp.tanh(hidden(params.hidden, ys)))
    return masked_softmax(scores, valid, axis=0)[..., 0]


def _max(ys: Array, valid: Array | None) -> Array:
    if valid is None:
        return jnp.max(ys, axis=0)
    largest = jnp.max(jnp.where(valid, ys, -jnp.inf), axis=0)
    return jnp.where(jnp.any(valid, axis=0), largest, 0)


def masked_softmax(scores: Array, valid: Array | None, axis: int) -> Array:
    """The softmax over the valid entries, 0 elsewhere; all zeros where none is valid."""
    if valid is None:
        return jax.nn.softmax(scores, axis=axis)
    # Over no entries the softmax is 0/0: it is taken over all of them instead, and set to zero.
    nothing = ~jnp.any(valid, axis=axis, keepdims=True)
    weights = jax.nn.softmax(scores, axis=axis, where=valid | nothing)
    return jnp.where(valid, weights, 0)
