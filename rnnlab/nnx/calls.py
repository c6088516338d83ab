"""The order of axes and steps in a call of a module, and the options of the call."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from rnnlab import _check
from rnnlab.cells.base import within
from rnnlab.typing import Array


def options_of(module: Any, **given: bool | None) -> list[bool]:
    """Each option of a call in turn; where it is None, the module's own."""
    options = []
    for name, value in given.items():
        options.append(getattr(module, name) if value is None else value)
    return options


def time_first(
    inputs: Array, mask: Array | None, resets: Array | None, time_major: bool
) -> tuple[Array, Array | None, Array | None]:
    """Inputs and marks as ``[T, ...]``."""
    xs = _check.array("inputs", inputs)
    if xs.ndim < 2:
        raise ValueError(
            f"inputs has shape {xs.shape}; it must be [B, T, I], or [T, B, I] with time_major=True"
        )
    if time_major:
        return xs, mask, resets
    return (
        jnp.moveaxis(xs, -2, 0),
        _last_axis_first("mask", mask),
        _last_axis_first("resets", resets),
    )


def _last_axis_first(name: str, mark: Array | None) -> Array | None:
    if mark is None:
        return None
    mark = _check.array(name, mark)
    # A scalar is refused later, by its shape.
    return jnp.moveaxis(mark, -1, 0) if mark.ndim else mark


def carries_of(initial_carry: Any, count: int) -> tuple[Any, ...]:
    """A carry for each of so many modules, or None; ValueError for another number of them."""
    if initial_carry is None:
        return (None,) * count
    if not isinstance(initial_carry, Sequence) or len(initial_carry) != count:
        raise ValueError(
            f"initial_carry is {_check.outline(initial_carry)}; give a tuple of {count}, a carry "
            "or None for each module"
        )
    return tuple(initial_carry)


def flip(ys: Array, lengths: Array | None) -> Array:
    """``ys [T, ..., H]`` turned around in time; with ``lengths`` each valid part of it."""
    if lengths is None:
        return ys[::-1]
    # One more axis, as ``jax_numpy_rank_promotion="raise"`` asks; int32, since T − 1 − t may be
    # negative or too large for the dtype of the lengths.
    lengths = jnp.asarray(lengths)[None].astype(jnp.int32)
    index = jnp.arange(ys.shape[0], dtype=jnp.int32).reshape(-1, *(1,) * (lengths.ndim - 1))
    # Steps of the padding stay where they are.
    source = jnp.where(index < lengths, lengths - 1 - index, index)
    return jnp.take_along_axis(ys, source[..., None], axis=0)


def within_lengths(resets: Array | None, lengths: Array | None, xs: Array) -> Array | None:
    """``resets [T, ...]`` without those in the padding.

    The other direction would otherwise take a reset just beyond a length for one at its own start,
    and lose the carry that it is given.
    """
    if resets is None or lengths is None:
        return resets
    steps, *batch = xs.shape[:-1]
    lengths = _check.lengths(lengths, steps, tuple(batch))
    return _check.flags("resets", resets, xs.shape[:-1]) & within(lengths, steps)


def check_layer(name: str, layer: Any) -> None:
    """ValueError unless ``layer`` is a module that reads a whole sequence."""
    if not isinstance(layer, nnx.Module) or isinstance(layer, nnx.RNNCellBase):
        raise ValueError(
            f"{name} is {_check.brief(layer)}; it must be a module that reads whole sequences, "
            "such as rnnlab.nnx.RNN(cell, in_features, rngs=nnx.Rngs(0))"
        )
