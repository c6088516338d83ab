"""Jacobians of the state: of single steps, and of products over many of them."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, PyTree

SWEEPS = 40
"""How often the triangular factors of a product are turned into one another before its singular values are read off."""


class JacobianProducts(NamedTuple):
    """Singular values of ∂sₜ/∂sₜ₋ₗ at K lags ℓ, natural logarithms (nats); −inf where one is exactly zero."""

    lags: Array
    """ℓ ``[K]``, steps."""
    log_singular_values: Array
    """ln σᵢ ``[K, ..., n]``, falling, of every example."""
    log_norm: Array
    """ln ‖∂sₜ/∂sₜ₋ₗ‖₂ = ln σ₁, ``[K, ...]``."""
    log_frobenius: Array
    """½ ln Σ σᵢ², ``[K, ...]``."""
    log_condition: Array
    """ln (σ₁/σₙ), ``[K, ...]``; inf where the product is singular."""
    mean_log_singular_values: Array
    """The mean of ln σᵢ over the batch, ``[K, n]``."""


def step_jacobians(cell: Cell, params: PyTree, xs: Array, initial_state: PyTree | None = None) -> Array:
    """∂sₜ/∂sₜ₋₁ of every step, ``[T, ..., n, n]``: row i is the derivative of the i-th number of the new state.

    The state is taken as one vector, its leaves side by side in the order of its fields: c, then h for an LSTM. Takes
    T n² numbers for every example.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        initial_state: s₀, ``cell.initial_state`` by default.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, and for a state without derivatives.
    """
    flat, xs, state = state_map(cell, params, xs, initial_state)
    return _jacobians(cell, params, xs, flat.unpack(state))


@functools.partial(jax.jit, static_argnames="cell")
def _jacobians(cell: Cell, params: PyTree, xs: Array, state: PyTree) -> Array:
    flat, xs, start = state_map(cell, params, xs, state)
    eye = flat.identity(start)
    return lax.scan(lambda s, x: flat.push(s, x, eye), start, xs)[1]


def jacobian_products(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    step: int | None = None,
    lags: Sequence[int] | None = None,
) -> JacobianProducts:
    """The singular values of ∂sₜ/∂sₖ = Jₜ Jₜ₋₁ ⋯ Jₖ₊₁ against the lag t − k: what a gradient can become.

    By Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063, eq. 5) the gradient of a loss at t reaches step k through this
    product. It is never formed: as in the periodic QR algorithm (Stewart 1997) it is kept as Q B D with D diagonal, in
    logarithms, and B near to the identity, so that after 10 000 steps the smallest singular value is as exact as the
    largest, where the product itself would have underflowed.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        initial_state: s₀, ``cell.initial_state`` by default.
        step: t, the number of steps after which the product ends; T by default.
        lags: t − k, each in 1..t; some 30 of them, from 1 to t, by default.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a state without derivatives, and for a lag that leads back beyond
            the start.
    """
    flat, xs, state = state_map(cell, params, xs, initial_state)
    last = xs.shape[0] if step is None else _check.positive_int("step", step)
    if last > xs.shape[0]:
        raise ValueError(f"step is {last}, but xs has {xs.shape[0]} steps; give at most so many")
    if lags is None:
        lags = sorted({round(lag) for lag in np.geomspace(1, last, 30)})
    wanted = tuple(sorted({_check.positive_int("each of lags", lag) for lag in lags}))
    if not wanted or wanted[-1] > last:
        raise ValueError(f"lags are {wanted}; give at least one, and none beyond step = {last}, where all begins")
    return _products(cell, params, xs[:last], flat.unpack(state), wanted)


@functools.partial(jax.jit, static_argnames=("cell", "lags"))
def _products(cell: Cell, params: PyTree, xs: Array, state: PyTree, lags: tuple[int, ...]) -> JacobianProducts:
    flat, xs, start = state_map(cell, params, xs, state)
    _, states = lax.scan(lambda s, x: (flat.step(s, x), s), start, xs)  # before each step
    lag = np.arange(len(xs), 0, -1)
    slot = np.where(np.isin(lag, lags), np.searchsorted(lags, lag), len(lags))  # where the product is kept, or nowhere

    def back(carry: tuple[Graded, Graded], inputs: tuple[Array, Array, Array]) -> tuple[tuple[Graded, Graded], None]:
        product, kept = carry
        state, x, slot = inputs
        # The transposed product: a step further back is one more factor Jᵀ on its left.
        product = _turn(product._replace(factor=flat.pull(state, x, product.factor)))
        kept = jax.tree.map(lambda rows, row: rows.at[slot].set(row, mode="drop"), kept, product)
        return (product, kept), None

    first = Graded(flat.identity(start), jnp.zeros_like(start))
    room = jax.tree.map(lambda leaf: jnp.zeros((len(lags), *leaf.shape), leaf.dtype), first)
    (_, kept), _ = lax.scan(back, (first, room), (states, xs, jnp.asarray(slot)), reverse=True)
    logs = lax.map(_log_singular_values, kept)
    return JacobianProducts(
        jnp.asarray(lags),
        logs,
        logs[..., 0],
        0.5 * jax.nn.logsumexp(2 * logs, axis=-1),
        logs[..., 0] - logs[..., -1],
        logs.mean(axis=tuple(range(1, logs.ndim - 1))),
    )


class Graded(NamedTuple):
    """The matrix ``factor · diag(exp(log_scale))``, known up to an orthogonal factor on its right."""

    factor: Array  # [..., n, n]
    log_scale: Array  # [..., n]


ZERO = -1e30
"""ln 0, as a number that can be subtracted from itself."""


def _turn(product: Graded) -> Graded:
    """The same singular values, with the factor nearer to an orthogonal matrix and more of them in the scales.

    With D sorted, B D = Q R D = Q D (D⁻¹ R D), whose last factor is upper triangular and no larger than R. It is L W
    with W orthogonal, which drops out; and D L = (D L D⁻¹) D in the same way.
    """
    order = jnp.argsort(-product.log_scale, axis=-1)
    scale = jnp.take_along_axis(product.log_scale, order, axis=-1)
    q, r = jnp.linalg.qr(jnp.take_along_axis(product.factor, order[..., None, :], axis=-1))
    upper, scale = _scale_out(r * _falling(scale[..., None, :] - scale[..., :, None]), scale, -1)

    order = jnp.argsort(-scale, axis=-1)
    scale = jnp.take_along_axis(scale, order, axis=-1)
    q = jnp.take_along_axis(q, order[..., None, :], axis=-1)
    upper = jnp.take_along_axis(upper, order[..., :, None], axis=-2)
    lower = jnp.swapaxes(jnp.linalg.qr(jnp.swapaxes(upper, -1, -2))[1], -1, -2)
    lower, scale = _scale_out(lower * _falling(scale[..., :, None] - scale[..., None, :]), scale, -2)
    return Graded(q @ lower, scale)


def _falling(difference: Array) -> Array:
    """exp of differences that are negative in the triangle that counts; what they are in the other does not matter."""
    return jnp.exp(jnp.minimum(difference, 0))


def _scale_out(matrix: Array, scale: Array, axis: int) -> tuple[Array, Array]:
    """Vectors along ``axis`` with length one, and their lengths in the scales."""
    norm = jnp.linalg.norm(matrix, axis=axis)
    zero = norm == 0
    unit = matrix / jnp.expand_dims(jnp.where(zero, 1, norm), axis)
    return unit, jnp.maximum(scale + jnp.where(zero, ZERO, jnp.log(jnp.where(zero, 1, norm))), ZERO)


def _log_singular_values(product: Graded) -> Array:
    """Falling, ``[..., n]``: the largest from a decomposition, those lost in its rounding from the scales."""
    product = lax.fori_loop(0, SWEEPS, lambda _, product: _turn(product), product)
    by_scale = -jnp.sort(-product.log_scale, axis=-1)
    top = by_scale[..., :1]
    values = jnp.linalg.svd(product.factor * jnp.exp(product.log_scale - top)[..., None, :], compute_uv=False)
    floor = 100 * values.shape[-1] * jnp.finfo(values.dtype).eps * values[..., :1]
    exact = values > floor
    logs = jnp.where(exact, jnp.log(jnp.where(exact, values, 1)) + top, by_scale)
    return jnp.where(logs < ZERO / 2, -jnp.inf, logs)
