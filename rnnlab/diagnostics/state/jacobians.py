"""Jacobians of the state: of single steps, and of products over many of them."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab._results import result
from rnnlab.diagnostics.state.state_map import StateMap, state_map
from rnnlab.engines.sequence import select
from rnnlab.typing import Array, Cell, PyTree

Pairs = tuple[tuple[int, int], ...]
"""(t, k) of each product."""

SWEEPS = 40
"""QR sweeps over a finished product, after which its scales have converged to singular values."""

LOST = 4
"""A row of R counts as rounding below so many ε times the longest column."""

ZERO = -1e30
"""ln 0 as a finite number: −inf − (−inf) is NaN where two scales are compared."""


@result
class JacobianProducts(NamedTuple):
    """Singular values of ∂sₜ/∂sₖ for P pairs (t, k), as natural logarithms (nats).

    Attributes:
        pairs: t and k, ``[P, 2]``, steps.
        lags: t − k, ``[P]``, steps.
        log_singular_values: ln σᵢ ``[P, ..., n]`` of every example, nats, from the largest to the
            smallest; −inf where one is zero up to the rounding of a step.
        log_norm: ln ‖∂sₜ/∂sₖ‖₂ = ln σ₁, ``[P, ...]``, nats.
        log_frobenius: ½ ln Σ σᵢ², ``[P, ...]``, nats.
        log_condition: ln (σ₁/σₙ), ``[P, ...]``, nats; inf where the product is singular.
        median_log_singular_values: the median of ln σᵢ over the batch, ``[P, n]``, nats, which a
            single singular example does not make −inf.
    """

    pairs: Array
    lags: Array
    log_singular_values: Array
    log_norm: Array
    log_frobenius: Array
    log_condition: Array
    median_log_singular_values: Array

    def finding(self) -> str:
        """The largest change of a gradient over the longest lag, in one sentence."""
        index = int(np.argmax(self.lags))
        median = float(np.median(self.log_norm[index]))
        lag = int(self.lags[index])
        return f"over {lag} steps a gradient changes by a factor of at most e^{median:.3g} (median)"


def step_jacobians(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
) -> Array:
    """The Jacobian ∂sₜ/∂sₜ₋₁ of every step.

    The state is one vector, the concatenation of its leaves in the order of its fields: c, then h
    for an LSTM. The result takes T n² numbers for every example. States, inputs and parameters
    narrower than 32 bits are converted to float32.

    >>> cell = rnnlab.LSTM(4)
    >>> params = cell.init(jax.random.key(0), 1)
    >>> step_jacobians(cell, params, jnp.zeros((20, 1))).shape
    (20, 8, 8)

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        initial_state: s₀, ``cell.initial_state`` by default.

    Returns:
        ``[T, ..., n, n]``: row i is the derivative of the i-th number of the new state.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, and for a state without derivatives.
    """
    _, xs, state = state_map(cell, params, xs, initial_state)
    return _jacobians(cell, params, xs, state)


@functools.partial(jax.jit, static_argnames="cell")
def _jacobians(cell: Cell, params: PyTree, xs: Array, state: PyTree) -> Array:
    flat, xs, state = state_map(cell, params, xs, state)
    start = flat.pack(state)
    eye = flat.identity(start)

    def advance(state: Array, x: Array) -> tuple[Array, Array]:
        return flat.push(state, x, eye)

    _, jacobians = lax.scan(advance, start, xs)
    return jacobians


def jacobian_products(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> JacobianProducts:
    """The singular values of ∂sₜ/∂sₖ = Jₜ Jₜ₋₁ ⋯ Jₖ₊₁ for chosen t and k.

    By Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063, eq. 5) the gradient of a loss at t reaches
    step k through this product. The product is never formed: as in the periodic QR algorithm
    (Stewart 1997) it is kept as Q B D with D diagonal, in logarithms, and B close to the identity.
    So after 10 000 steps the smallest singular value is as exact as the largest, where the product
    itself would have underflowed.

    A direction that one step shortens to less than 4 ε times the longest column of its Jacobian (ε
    the precision of the floats) is rounding: by 14.6 nats in float32, by 34.7 in float64. It counts
    as zero: ln σᵢ is −inf beyond the rank of a Jacobian, and also for a nonzero σᵢ that falls below
    this limit in one step. The decrease over many steps has no limit. States, inputs and parameters
    narrower than 32 bits are converted to float32.

    >>> cell = rnnlab.RNN(8)
    >>> params = cell.init(jax.random.key(0), 1)
    >>> products = jacobian_products(cell, params, jnp.zeros((20, 1)), pairs=[(20, 10), (20, 0)])
    >>> products.lags.tolist(), products.log_singular_values.shape
    ([10, 20], (2, 8))

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        initial_state: s₀, ``cell.initial_state`` by default.
        pairs: (t, k) with 0 ≤ k < t ≤ T, k = 0 being the initial state; t = T and some 30 lags
            t − k from 1 to T by default. Time and memory grow with the number of different t.

    Returns:
        :class:`JacobianProducts`, for each pair and example, and the median over the examples.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a state without derivatives, and for pairs
            outside of these limits.
    """
    _, xs, state = state_map(cell, params, xs, initial_state)
    last = xs.shape[0]
    if pairs is None:
        lags = {round(lag) for lag in np.geomspace(1, last, 30)}
        pairs = [(last, last - lag) for lag in sorted(lags)]
    checked = tuple(_pair(pair, last) for pair in pairs)
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(f"pairs are {checked}; give at least one, and each only once")
    longest = max(t for t, _ in checked)
    return _products(cell, params, xs[:longest], state, checked)


def _pair(pair: tuple[int, int], last: int) -> tuple[int, int]:
    if np.shape(pair) != (2,):
        raise ValueError(f"a pair is {pair!r}; give two integers, (t, k)")
    t = _check.positive_int("t of a pair", pair[0])
    k = _check.natural("k of a pair", pair[1])
    if t > last:
        raise ValueError(f"t of a pair is {t}, but xs has {last} steps; give at most that many")
    if k >= t:
        raise ValueError(
            f"a pair is (t, k) = ({t}, {k}), but a state depends on earlier ones only; give k < t"
        )
    return t, k


class Graded(NamedTuple):
    """The matrix ``factor · diag(exp(log_scale))``, up to an orthogonal factor on its right."""

    factor: Array  # [..., n, n]
    log_scale: Array  # [..., n]


@functools.partial(jax.jit, static_argnames=("cell", "pairs"))
def _products(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    pairs: Pairs,
) -> JacobianProducts:
    flat, xs, state = state_map(cell, params, xs, state)
    start = flat.pack(state)

    def advance(state: Array, x: Array) -> tuple[Array, Array]:
        return flat.step(state, x), state

    # [T, ..., n], the states before each step
    _, states = lax.scan(advance, start, xs)
    snapshots = _snapshots(flat, start, states, xs, pairs)
    logs = lax.map(_log_singular_values, snapshots)
    return _summary(pairs, logs)


def _snapshots(
    flat: StateMap,
    start: Array,
    states: Array,
    xs: Array,
    pairs: Pairs,
) -> Graded:
    """The transposed product of each pair, with P as the leading axis."""
    # One product for each different t; a pair is a snapshot of one of them on the way back.
    ends = sorted({t for t, _ in pairs})
    rows, started = _schedule(pairs, ends, len(xs))

    def back(
        carry: tuple[Graded, Graded],
        inputs: tuple[Array, ...],
    ) -> tuple[tuple[Graded, Graded], None]:
        product, snapshots = carry
        state, x, row, started = inputs

        def pull(factor: Array) -> Array:
            return flat.pull(state, x, factor)

        # Transposed, since a step further back is one more factor Jᵀ on the left, where QR acts.
        longer = product._replace(factor=jax.vmap(pull)(product.factor))
        product = select(started, _rescale(longer), product)

        def store(kept: Array, new: Array) -> Array:
            # Row P does not exist: products that complete no pair at this step are dropped.
            return kept.at[row].set(new, mode="drop")

        snapshots = jax.tree.map(store, snapshots, product)
        return (product, snapshots), None

    def repeat(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (len(ends), *leaf.shape))

    def reserve(leaf: Array) -> Array:
        return jnp.zeros((len(pairs), *leaf.shape), leaf.dtype)

    identity = Graded(flat.identity(start), jnp.zeros_like(start))
    first = jax.tree.map(repeat, identity)
    empty = jax.tree.map(reserve, identity)
    inputs = states, xs, jnp.asarray(rows), jnp.asarray(started)
    (_, snapshots), _ = lax.scan(back, (first, empty), inputs, reverse=True)
    return snapshots


def _schedule(pairs: Pairs, ends: list[int], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each product is stored after each step, and whether it has started, ``[T, ends]``."""
    # Step k + 1 leads from sₖ to sₖ₊₁ and has index k, so that it completes the pair (t, k).
    rows = np.full((steps, len(ends)), len(pairs))
    for row, (t, k) in enumerate(pairs):
        rows[k, ends.index(t)] = row
    started = np.arange(steps)[:, None] < np.array(ends)
    return rows, started


def _summary(pairs: Pairs, logs: Array) -> JacobianProducts:
    lags = [t - k for t, k in pairs]
    largest = logs[..., 0]
    smallest = logs[..., -1]
    return JacobianProducts(
        pairs=jnp.asarray(pairs),
        lags=jnp.asarray(lags),
        log_singular_values=logs,
        log_norm=largest,
        log_frobenius=0.5 * jax.nn.logsumexp(2 * logs, axis=-1),
        log_condition=jnp.where(jnp.isneginf(smallest), jnp.inf, largest - smallest),
        median_log_singular_values=_median(logs),
    )


def _median(logs: Array) -> Array:
    """The median over the batch axes of ``[P, ..., n]``."""
    if logs.ndim == 2:
        return logs
    pairs, *_, size = logs.shape
    rows = jnp.sort(logs.reshape(pairs, -1, size), axis=1)
    count = rows.shape[1]
    # Not jnp.median: it weights one of the two middle values with 0, and 0 · (−inf) is NaN.
    below = rows[:, (count - 1) // 2]
    above = rows[:, count // 2]
    return (below + above) / 2


def _rescale(product: Graded) -> Graded:
    """The same singular values, with a factor closer to orthogonal and more of them in the scales.

    With D sorted, B D = Q R D = Q D (D⁻¹ R D), whose last factor is upper triangular and no larger
    than R. It is L W with W orthogonal, which drops out; and D L = (D L D⁻¹) D in the same way.
    """
    # Sorted, so that D⁻¹ R D shrinks every entry of the upper triangle and none overflows.
    order = jnp.argsort(-product.log_scale, axis=-1)
    scale = jnp.take_along_axis(product.log_scale, order, axis=-1)
    factor = jnp.take_along_axis(product.factor, order[..., None, :], axis=-1)
    q, r = _qr(factor)
    # D⁻¹ R D divides by the scale of the row and multiplies by that of the column.
    column = scale[..., None, :]
    row = scale[..., :, None]
    upper, scale = _scale_out(r * _falling(column - row), scale, -1)

    # The lengths that were just moved into the scales may have changed their order.
    order = jnp.argsort(-scale, axis=-1)
    scale = jnp.take_along_axis(scale, order, axis=-1)
    q = jnp.take_along_axis(q, order[..., None, :], axis=-1)
    upper = jnp.take_along_axis(upper, order[..., :, None], axis=-2)
    _, transposed = _qr(jnp.swapaxes(upper, -1, -2))
    lower = jnp.swapaxes(transposed, -1, -2)
    row = scale[..., :, None]
    column = scale[..., None, :]
    lower, scale = _scale_out(lower * _falling(row - column), scale, -2)
    return Graded(q @ lower, scale)


def _qr(matrix: Array) -> tuple[Array, Array]:
    """Q and R, where rows of R that are only rounding are set to zero: the matrix lacks that rank.

    Otherwise a zero singular value would come back as the product of the rounding of each step.
    """
    q, r = jnp.linalg.qr(matrix)
    precision = LOST * jnp.finfo(r.dtype).eps
    longest_column = jnp.linalg.norm(r, axis=-2).max(axis=-1)
    limit = precision * longest_column
    largest = jnp.abs(r).max(axis=-1)
    lost = largest <= limit[..., None]
    return q, jnp.where(lost[..., None], 0, r)


def _falling(difference: Array) -> Array:
    """exp of differences of scales, which are at most 0 in the triangle that counts."""
    # Without the minimum the other triangle overflows, and 0 · inf there is NaN.
    return jnp.exp(jnp.minimum(difference, 0))


def _scale_out(matrix: Array, scale: Array, axis: int) -> tuple[Array, Array]:
    """The vectors along ``axis`` with length one, and their lengths added to the scales."""
    norm = jnp.linalg.norm(matrix, axis=axis)
    zero = norm == 0
    divisor = jnp.where(zero, 1, norm)
    unit = matrix / jnp.expand_dims(divisor, axis)
    log_norm = jnp.where(zero, ZERO, jnp.log(divisor))
    # Clamped, since sums of many ZEROs would fall towards −inf, whose differences are NaN.
    scale = jnp.maximum(scale + log_norm, ZERO)
    return unit, scale


def _log_singular_values(product: Graded) -> Array:
    """ln σᵢ from the largest to the smallest, ``[..., n]``."""
    product = lax.fori_loop(0, SWEEPS, lambda _, product: _rescale(product), product)
    by_scale = -jnp.sort(-product.log_scale, axis=-1)
    top = by_scale[..., :1]
    relative_scale = jnp.exp(product.log_scale - top)
    matrix = product.factor * relative_scale[..., None, :]
    values = jnp.linalg.svd(matrix, compute_uv=False)
    # The SVD is exact for values that differ little, which sweeps separate slowly. It loses the
    # small ones to rounding; those are read off the scales, which sweeps separate fast.
    precision = 100 * values.shape[-1] * jnp.finfo(values.dtype).eps
    largest = values[..., :1]
    exact = values > precision * largest
    by_svd = jnp.log(jnp.where(exact, values, 1)) + top
    logs = jnp.where(exact, by_svd, by_scale)
    return jnp.where(logs < ZERO / 2, -jnp.inf, logs)
