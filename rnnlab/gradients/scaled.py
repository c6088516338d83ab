"""Numbers as mantissa · 2^exponent, with one integer exponent for an array or for each example."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.base import widest
from rnnlab.typing import Array, Dtype, PyTree

NOTHING = -(2**30)
"""The exponent of zero: below every other, and too small in size to overflow when added to."""


class Scaled(NamedTuple):
    """The tree ``mantissa · 2^exponent``; leaves ``[*batch, ...]``, exponent int32 ``[*batch]``."""

    mantissa: PyTree
    exponent: Array


def zero(tree: PyTree, batch: tuple[int, ...]) -> Scaled:
    """Zero with the structure of ``tree``, whose leaves start with ``batch``."""
    mantissa = jax.tree.map(jnp.zeros_like, tree)
    exponent = jnp.full(batch, NOTHING, jnp.int32)
    return Scaled(mantissa, exponent)


def renormalise(tree: PyTree, exponent: Array, batch: int) -> Scaled:
    """``tree · 2^exponent`` with the largest element of each example in [½, 1).

    Scaling by a power of two is exact. Where the element is so small that the power would overflow,
    it comes half of the way.
    """
    new_exponent = level(tree, exponent, batch)
    # A zero is left alone: XLA may multiply constant factors first, which overflow, and 0 · inf is
    # NaN.
    shift = jnp.where(new_exponent == NOTHING, 0, exponent - new_exponent)
    return Scaled(_times(tree, shift), new_exponent)


def level(tree: PyTree, exponent: Array, batch: int) -> Array:
    """The exponent at which ``tree · 2^exponent`` has its largest element in [½, 1).

    ``NOTHING`` where the tree is zero.
    """
    largest = jnp.zeros(exponent.shape, jnp.float32)
    for leaf in jax.tree.leaves(tree):
        # Rescaling changes no value, so its exponent must not take part in second derivatives.
        sizes = jnp.abs(lax.stop_gradient(leaf))
        features = tuple(range(batch, leaf.ndim))
        of_leaf = sizes.max(axis=features, initial=0)
        largest = jnp.maximum(largest, of_leaf)
    limit = _largest_power(tree)
    is_zero = largest == 0
    shift = jnp.clip(_exponent(largest), -limit, limit)
    return jnp.where(is_zero, NOTHING, exponent + shift)


def rescale(value: Scaled, exponent: Array) -> PyTree:
    """The mantissa of ``value`` at another ``exponent``; what is too small for it becomes zero."""
    # The clip keeps the later sum with the bias of the floats inside of int32.
    shift = jnp.clip(value.exponent - exponent, -(2**20), 2**20)
    return _times(value.mantissa, shift)


def add(a: Scaled, b: Scaled) -> Scaled:
    """a + b, at the larger exponent of the two; the sum is not renormalised."""
    exponent = jnp.maximum(a.exponent, b.exponent)
    first = rescale(a, exponent)
    second = rescale(b, exponent)
    return Scaled(jax.tree.map(jnp.add, first, second), exponent)


def plain(value: Scaled) -> PyTree:
    """``value`` as ordinary floats, which may overflow or underflow."""
    # In two steps: 2^exponent itself may overflow or underflow where the product does not.
    half = value.exponent >> 1
    halfway = _times(value.mantissa, half)
    return _times(halfway, value.exponent - half)


def log_norm(leaf: Array, exponent: Array, batch: int) -> Array:
    """ln‖leaf · 2^exponent‖₂ over all but the first ``batch`` axes, in nats.

    −inf, with gradient zero, at zero.
    """
    leaf = leaf.astype(widest(leaf.dtype, jnp.float32))
    # Without this the squares would overflow or underflow at half the range of the floats.
    scaled = renormalise(leaf, jnp.zeros_like(exponent), batch)
    features = tuple(range(batch, leaf.ndim))
    squares = jnp.sum(scaled.mantissa**2, axis=features)
    return log_root(squares, scaled.exponent + exponent)


def log_root(squares: Array, exponent: Array) -> Array:
    """ln √(squares · 4^exponent); −inf, with gradient zero, at zero and below.

    Rounding may make a sum of squares from a Gram matrix slightly negative.
    """
    is_zero = squares <= 0
    shift = math.log(2) * exponent.astype(squares.dtype)
    # The inner ``where`` keeps the unused branch finite, since 0 · inf in its derivative is NaN.
    nonzero = jnp.where(is_zero, 1, squares)
    log = 0.5 * jnp.log(nonzero) + shift
    return jnp.where(is_zero, -jnp.inf, log)


def merge(logs: list[Array]) -> Array:
    """ln √(Σ exp(2 l)): the log-norm of parts whose log-norms are ``logs``."""
    if len(logs) == 1:
        return logs[0]
    stacked = jnp.stack(logs)
    largest = lax.stop_gradient(stacked.max(axis=0))
    base = jnp.where(jnp.isfinite(largest), largest, 0.0)
    relative = stacked - base[None]
    squares = jnp.sum(jnp.exp(2 * relative), axis=0)
    is_zero = squares == 0
    nonzero = jnp.where(is_zero, 1.0, squares)
    log = 0.5 * jnp.log(nonzero) + base
    return jnp.where(is_zero, -jnp.inf, log)


def power_of_two(exponent: Array, dtype: Dtype) -> Array:
    """2^exponent, exactly, from its bits; 0 below the normal range of ``dtype`` and inf above."""
    info = jnp.finfo(dtype)
    words = {16: jnp.int16, 32: jnp.int32, 64: jnp.int64}
    word = words[info.bits]
    # The biased exponent 0 with an empty mantissa is the float 0, and the largest one is inf.
    bias = info.maxexp - 1
    biased = jnp.clip(exponent + bias, 0, 2 * info.maxexp - 1)
    bits = biased.astype(word) << info.nmant
    return lax.bitcast_convert_type(bits, dtype)


def _times(tree: PyTree, exponent: Array) -> PyTree:
    """``tree · 2^exponent``."""
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    factors = {dtype: power_of_two(exponent, dtype) for dtype in dtypes}

    def scaled(leaf: Array) -> Array:
        return leaf * _align(factors[leaf.dtype], leaf)

    return jax.tree.map(scaled, tree)


def _largest_power(tree: PyTree) -> int:
    """The largest power of two by which every leaf may be multiplied."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(tree)]
    limits = [int(jnp.finfo(dtype).maxexp) for dtype in dtypes]
    return min(limits, default=128) - 2


def _exponent(x: Array) -> Array:
    """e with x in [2^(e−1), 2^e), from the bits of x > 0; anything for zero, infinity and NaN."""
    info = jnp.finfo(x.dtype)
    word = jnp.int32 if info.bits == 32 else jnp.int64
    biased = lax.bitcast_convert_type(x, word) >> info.nmant
    return (biased - (info.maxexp - 2)).astype(jnp.int32)


def _align(scale: Array, leaf: Array) -> Array:
    ones = (1,) * (leaf.ndim - scale.ndim)
    return scale.reshape(scale.shape + ones)
