"""Numbers as mantissa · 2^exponent, one integer exponent for a whole array or for each example of a batch."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.base import widest
from rnnlab.typing import Array, Dtype, PyTree

NOTHING = -(2**30)  # the exponent of zero: below every other, and far from overflow when added to


class Scaled(NamedTuple):
    """The tree ``mantissa · 2^exponent``; leaves ``[*batch, ...]``, exponent int32 ``[*batch]``."""

    mantissa: PyTree
    exponent: Array


def zero(tree: PyTree, batch: tuple[int, ...]) -> Scaled:
    """Zero in the form of ``tree``, whose leaves start with ``batch``."""
    return Scaled(jax.tree.map(jnp.zeros_like, tree), jnp.full(batch, NOTHING, jnp.int32))


def renormalise(tree: PyTree, exponent: Array, batch: int) -> Scaled:
    """``tree · 2^exponent`` with each example's largest element brought into [½, 1) by a power of two, which is exact.

    An element so small that the power would overflow comes half of the way.
    """
    own = level(tree, exponent, batch)
    shift = jnp.minimum(
        exponent - own, _reach(tree)
    )  # of zero, which any scale leaves zero, it would be far too large
    return Scaled(_times(tree, shift), own)


def level(tree: PyTree, exponent: Array, batch: int) -> Array:
    """The exponent under which ``tree · 2^exponent`` has its largest element in [½, 1); of zero the smallest of all."""
    largest = jnp.zeros(exponent.shape, jnp.float32)
    for leaf in jax.tree.leaves(tree):
        part = jnp.abs(lax.stop_gradient(leaf)).max(axis=tuple(range(batch, leaf.ndim)), initial=0)
        largest = jnp.maximum(largest, part)
    reach = _reach(tree)
    return jnp.where(largest == 0, NOTHING, exponent + jnp.clip(_exponent(largest), -reach, reach))


def rescale(value: Scaled, exponent: Array) -> PyTree:
    """The mantissa that ``value`` has under another ``exponent``; what is too small for it becomes zero."""
    return _times(value.mantissa, jnp.clip(value.exponent - exponent, -(2**20), 2**20))


def add(a: Scaled, b: Scaled) -> Scaled:
    """a + b, at the larger exponent of the two; the sum is not brought back into range."""
    exponent = jnp.maximum(a.exponent, b.exponent)
    return Scaled(jax.tree.map(jnp.add, rescale(a, exponent), rescale(b, exponent)), exponent)


def plain(value: Scaled) -> PyTree:
    """``value`` as ordinary floats, which may overflow or underflow."""
    half = (
        value.exponent >> 1
    )  # in two strides, since 2^exponent itself may leave the range that the product keeps to
    return _times(_times(value.mantissa, half), value.exponent - half)


def log_norm(leaf: Array, exponent: Array, batch: int) -> Array:
    """ln‖leaf · 2^exponent‖₂ over all but the first ``batch`` axes, in nats; −inf, with gradient zero, at zero."""
    leaf = leaf.astype(widest(leaf.dtype, jnp.float32))
    own = renormalise(leaf, jnp.zeros_like(exponent), batch)
    return log_root(
        jnp.sum(own.mantissa**2, axis=tuple(range(batch, leaf.ndim))), own.exponent + exponent
    )


def log_root(squares: Array, exponent: Array) -> Array:
    """ln √(squares · 4^exponent); −inf, with gradient zero, at zero and below, where rounding may lead."""
    zero = squares <= 0
    shift = math.log(2) * exponent.astype(squares.dtype)
    return jnp.where(zero, -jnp.inf, 0.5 * jnp.log(jnp.where(zero, 1, squares)) + shift)


def merge(logs: list[Array]) -> Array:
    """ln √(Σ exp(2 l)): the log-norm of parts whose log-norms are ``logs``."""
    if len(logs) == 1:
        return logs[0]
    stacked = jnp.stack(logs)
    largest = lax.stop_gradient(stacked.max(axis=0))
    base = jnp.where(jnp.isfinite(largest), largest, 0.0)
    squares = jnp.sum(jnp.exp(2 * (stacked - base[None])), axis=0)
    zero = squares == 0
    return jnp.where(zero, -jnp.inf, 0.5 * jnp.log(jnp.where(zero, 1.0, squares)) + base)


def power_of_two(exponent: Array, dtype: Dtype) -> Array:
    """2^exponent, exactly, from its bits; 0 below the normal range of ``dtype`` and inf above it."""
    info = jnp.finfo(dtype)
    word = {16: jnp.int16, 32: jnp.int32, 64: jnp.int64}[info.bits]
    biased = jnp.clip(exponent + (info.maxexp - 1), 0, 2 * info.maxexp - 1)
    return lax.bitcast_convert_type(biased.astype(word) << info.nmant, dtype)


def _times(tree: PyTree, exponent: Array) -> PyTree:
    """``tree · 2^exponent``."""
    factors = {
        dtype: power_of_two(exponent, dtype)
        for dtype in {leaf.dtype for leaf in jax.tree.leaves(tree)}
    }
    return jax.tree.map(lambda leaf: leaf * _align(factors[leaf.dtype], leaf), tree)


def _reach(tree: PyTree) -> int:
    """The largest power of two by which every leaf may be multiplied."""
    return (
        min([int(jnp.finfo(leaf.dtype).maxexp) for leaf in jax.tree.leaves(tree)], default=128) - 2
    )


def _exponent(x: Array) -> Array:
    """e with x in [2^(e−1), 2^e), from the bits of x > 0; anything for zero, infinity and NaN."""
    info = jnp.finfo(x.dtype)
    word = jnp.int32 if info.bits == 32 else jnp.int64
    return ((lax.bitcast_convert_type(x, word) >> info.nmant) - (info.maxexp - 2)).astype(jnp.int32)


def _align(scale: Array, leaf: Array) -> Array:
    return scale.reshape(scale.shape + (1,) * (leaf.ndim - scale.ndim))
