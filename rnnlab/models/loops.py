"""Loops in which a model's own output is its next input, and scheduled sampling."""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.driver import RunOptions, run
from rnnlab.models.base import split
from rnnlab.typing import Array, Cell, Key, PyTree


def is_sampled(sampling: Any, key: Key | None) -> bool:
    """Whether some inputs are the model's own outputs; False only for the plain number 0.

    ValueError for anything but a probability, and where there is no key.
    """
    is_number = isinstance(sampling, numbers.Real)
    is_scalar = is_number or (hasattr(sampling, "dtype") and np.shape(sampling) == ())
    # A traced probability has no value yet.
    is_known = not isinstance(sampling, jax.core.Tracer)
    if not is_scalar or (is_known and not 0 <= np.asarray(sampling) <= 1):
        raise ValueError(
            f"sampling is {_check.brief(sampling)}; it must be a probability, a number from 0 to 1"
        )
    if isinstance(sampling, int | float) and sampling == 0:
        return False
    if key is None:
        raise ValueError(
            "sampling needs random numbers, but there is no key; give one, "
            "model.loss(params, batch, key, sampling=sampling)"
        )
    return True


def step_with(
    cell: Cell, params: PyTree, state: PyTree, x: Array, key: Key | None
) -> tuple[PyTree, Array]:
    """One step; ``key`` enables the dropout inside of a cell.

    Each step is a sequence of its own then, so a mask per sequence is drawn anew at each.
    """
    if key is None:
        return cell.step(params, state, x)
    state, ys = run(cell, params, x[None], state, RunOptions(key=key))
    return state, ys[0]


Advance = Callable[[PyTree, Array, Key | None], tuple[PyTree, Array]]
"""``advance(state, x, key) -> (state, output)``, one step of a model."""

Feed = Callable[[Key | None, Array], Array]
"""``feed(key, output)``: the next input, made of an output."""


def itself(key: Key | None, output: Array) -> Array:
    """The output as the next input; a :data:`Feed`."""
    del key
    return output


def feed_back(
    advance: Advance, feed: Feed, state: PyTree, first: Array, steps: int, key: Key | None
) -> Array:
    """The outputs ``[steps, ...]`` of a model that reads its own: x₁ = first, xₜ₊₁ = feed(yₜ)."""

    def step(carry: tuple[PyTree, Array], key: Key | None) -> tuple[tuple[PyTree, Array], Array]:
        state, x = carry
        k_feed, k_inside = split(key, 2)
        state, output = advance(state, x, k_inside)
        return (state, feed(k_feed, output)), output

    keys = None if key is None else jax.random.split(key, steps)
    state = settled(advance, state, first)
    _, outputs = lax.scan(step, (state, first), keys, length=steps)
    return outputs


def sample_inputs(
    advance: Advance, feed: Feed, state: PyTree, xs: Array, key: Key, sampling: Array | float
) -> Array:
    """The outputs ``[T, ...]`` where each input is, with probability ``sampling``, the model's own.

    Scheduled sampling (Bengio et al. 2015, arXiv 1506.03099): a coin for each step and example
    chooses between xₜ and feed(yₜ₋₁). The first input is always x₁.
    """

    def step(
        carry: tuple[PyTree, Array], now: tuple[Array, Key]
    ) -> tuple[tuple[PyTree, Array], Array]:
        state, own = carry
        x, key = now
        k_coin, k_feed, k_inside = jax.random.split(key, 3)
        # One coin for each example, whatever the features.
        coins = jax.random.bernoulli(k_coin, sampling, x.shape[:1])
        is_own = coins.reshape(coins.shape + (1,) * (x.ndim - 1))
        state, output = advance(state, jnp.where(is_own, own, x), k_inside)
        return (state, feed(k_feed, output)), output

    keys = jax.random.split(key, xs.shape[0])
    state = settled(advance, state, xs[0])
    _, outputs = lax.scan(step, (state, xs[0]), (xs, keys))
    return outputs


def settled(advance: Advance, state: PyTree, x: Array) -> PyTree:
    """``state`` in the dtypes in which a step returns it: a loop carries one dtype."""
    after, _ = jax.eval_shape(lambda state, x: advance(state, x, None), state, x)
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), state, after)
