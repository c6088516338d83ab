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
from rnnlab.diagnostics.state.state_map import state_map
from rnnlab.engines.sequence import select
from rnnlab.typing import Array, Cell, PyTree

SWEEPS = 40
"""How often the triangular factors of a product are turned before its values are read off."""


LOST = 4
"""A row of R is lost in rounding below so many ε, as a part of the longest column."""


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
        median_log_singular_values: the median of ln σᵢ over the batch, ``[P, n]``, nats, which one
            singular example does not decide.
    """

    pairs: Array
    lags: Array
    log_singular_values: Array
    log_norm: Array
    log_frobenius: Array
    log_condition: Array
    median_log_singular_values: Array

    def finding(self) -> str:
        """What the product over the longest lag does to a gradient, in one sentence."""
        place = int(np.argmax(self.lags))
        median = float(np.median(self.log_norm[place]))
        lag = int(self.lags[place])
        return f"over {lag} steps a gradient changes by a factor of at most e^{median:.3g} (median)"


def step_jacobians(
    cell: Cell, params: PyTree, xs: Array, initial_state: PyTree | None = None
) -> Array:
    """The Jacobian ∂sₜ/∂sₜ₋₁ of every step.

    The state is taken as one vector, its leaves side by side in the order of its fields: c, then h
    for an LSTM. Takes T n² numbers for every example. States, inputs and parameters of fewer than
    32 bits are computed with in float32.

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
    return lax.scan(lambda s, x: flat.push(s, x, eye), start, xs)[1]


def jacobian_products(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> JacobianProducts:
    """The singular values of ∂sₜ/∂sₖ = Jₜ Jₜ₋₁ ⋯ Jₖ₊₁ for chosen t and k: what a gradient becomes.

    By Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063, eq. 5) the gradient of a loss at t reaches
    step k through this product. It is never formed: as in the periodic QR algorithm (Stewart 1997)
    it is kept as Q B D with D diagonal, in logarithms, and B near to the identity, so that after
    10 000 steps the smallest singular value is as exact as the largest, where the product itself
    would have underflowed.

    What a single step shortens to less than 4 ε times the longest column of its Jacobian (ε the
    precision of the floats) is rounding: by 14.6 nats in float32, by 34.7 in float64. It counts as
    zero, so that below the rank of a Jacobian ln σᵢ is −inf, and so it is for a truly non-zero σᵢ
    beyond that limit in one step. What many steps shorten together has no limit. States, inputs and
    parameters of fewer than 32 bits are computed with in float32.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        initial_state: s₀, ``cell.initial_state`` by default.
        pairs: (t, k) with 0 ≤ k < t ≤ T, k = 0 being the initial state; t = T and some 30 lags
            t − k from 1 to T by default. Time and memory go with the number of different t.

    Returns:
        :class:`JacobianProducts`, for each pair and example, and the median over the examples.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a state without derivatives, and for pairs
            outside of these limits.
    """
    _, xs, state = state_map(cell, params, xs, initial_state)
    last = xs.shape[0]
    if pairs is None:
        pairs = [
            (last, last - lag) for lag in sorted({round(lag) for lag in np.geomspace(1, last, 30)})
        ]
    wanted = tuple(_pair(pair, last) for pair in pairs)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"pairs are {wanted}; give at least one, and each only once")
    return _products(cell, params, xs[: max(t for t, _ in wanted)], state, wanted)


def _pair(pair: tuple[int, int], last: int) -> tuple[int, int]:
    if np.shape(pair) != (2,):
        raise ValueError(f"a pair is {pair!r}; give two whole numbers, (t, k)")
    t, k = _check.positive_int("t of a pair", pair[0]), _check.natural("k of a pair", pair[1])
    if t > last:
        raise ValueError(f"t of a pair is {t}, but xs has {last} steps; give at most so many")
    if k >= t:
        raise ValueError(
            f"a pair is (t, k) = ({t}, {k}), but a state depends on earlier ones only; give k < t"
        )
    return t, k


@functools.partial(jax.jit, static_argnames=("cell", "pairs"))
def _products(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, pairs: tuple[tuple[int, int], ...]
) -> JacobianProducts:
    flat, xs, state = state_map(cell, params, xs, state)
    start = flat.pack(state)
    _, states = lax.scan(lambda s, x: (flat.step(s, x), s), start, xs)  # before each step
    ends = sorted({t for t, _ in pairs})  # a product for each t, beside one another
    place = {pair: number for number, pair in enumerate(pairs)}
    steps = range(len(xs))  # step k + 1 leads from sₖ to the next state
    slots = np.array(
        [[place.get((t, k), len(pairs)) for t in ends] for k in steps]
    )  # where it is kept, or nowhere
    begun = np.array([[k < t for t in ends] for k in steps])

    def back(
        carry: tuple[Graded, Graded], inputs: tuple[Array, ...]
    ) -> tuple[tuple[Graded, Graded], None]:
        product, kept = carry
        state, x, slot, begun = inputs
        # The transposed product: a step further back is one more factor Jᵀ on its left.
        longer = jax.vmap(lambda factor: flat.pull(state, x, factor))(product.factor)
        product = select(begun, _turn(product._replace(factor=longer)), product)
        kept = jax.tree.map(lambda rows, row: rows.at[slot].set(row, mode="drop"), kept, product)
        return (product, kept), None

    one = Graded(flat.identity(start), jnp.zeros_like(start))
    first = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(ends), *leaf.shape)), one)
    room = jax.tree.map(lambda leaf: jnp.zeros((len(pairs), *leaf.shape), leaf.dtype), one)
    inputs = states, xs, jnp.asarray(slots), jnp.asarray(begun)
    (_, kept), _ = lax.scan(back, (first, room), inputs, reverse=True)
    logs = lax.map(_log_singular_values, kept)
    return JacobianProducts(
        jnp.asarray(pairs),
        jnp.asarray([t - k for t, k in pairs]),
        logs,
        logs[..., 0],
        0.5 * jax.nn.logsumexp(2 * logs, axis=-1),
        jnp.where(jnp.isneginf(logs[..., -1]), jnp.inf, logs[..., 0] - logs[..., -1]),
        _median(logs),
    )


def _median(logs: Array) -> Array:
    """The median over the batch axes of ``[P, ..., n]``."""
    if logs.ndim == 2:
        return logs
    rows = jnp.sort(logs.reshape(logs.shape[0], -1, logs.shape[-1]), axis=1)
    count = rows.shape[1]
    # jnp.median weighs its two neighbours, one of them with 0, which makes NaN of −inf.
    return (rows[:, (count - 1) // 2] + rows[:, count // 2]) / 2


class Graded(NamedTuple):
    """The matrix ``factor · diag(exp(log_scale))``, up to an orthogonal factor on its right."""

    factor: Array  # [..., n, n]
    log_scale: Array  # [..., n]


ZERO = -1e30
"""ln 0, as a number that can be subtracted from itself."""


def _turn(product: Graded) -> Graded:
    """The same singular values, with a factor nearer to orthogonal and more of them in the scales.

    With D sorted, B D = Q R D = Q D (D⁻¹ R D), whose last factor is upper triangular and no larger
    than R. It is L W with W orthogonal, which drops out; and D L = (D L D⁻¹) D in the same way.
    """
    order = jnp.argsort(-product.log_scale, axis=-1)
    scale = jnp.take_along_axis(product.log_scale, order, axis=-1)
    q, r = _qr(jnp.take_along_axis(product.factor, order[..., None, :], axis=-1))
    upper, scale = _scale_out(r * _falling(scale[..., None, :] - scale[..., :, None]), scale, -1)

    order = jnp.argsort(-scale, axis=-1)
    scale = jnp.take_along_axis(scale, order, axis=-1)
    q = jnp.take_along_axis(q, order[..., None, :], axis=-1)
    upper = jnp.take_along_axis(upper, order[..., :, None], axis=-2)
    lower = jnp.swapaxes(_qr(jnp.swapaxes(upper, -1, -2))[1], -1, -2)
    lower, scale = _scale_out(
        lower * _falling(scale[..., :, None] - scale[..., None, :]), scale, -2
    )
    return Graded(q @ lower, scale)


def _qr(matrix: Array) -> tuple[Array, Array]:
    """Q and R, where a row of R that is nothing but rounding is zero: the matrix lacks that rank.

    Without that, a zero singular value would come back as the rounding of each step, multiplied.
    """
    q, r = jnp.linalg.qr(matrix)
    limit = LOST * jnp.finfo(r.dtype).eps * jnp.linalg.norm(r, axis=-2).max(axis=-1)
    lost = jnp.abs(r).max(axis=-1) <= limit[..., None]
    return q, jnp.where(lost[..., None], 0, r)


def _falling(difference: Array) -> Array:
    """exp of differences, which are negative in the triangle that counts."""
    return jnp.exp(jnp.minimum(difference, 0))


def _scale_out(matrix: Array, scale: Array, axis: int) -> tuple[Array, Array]:
    """Vectors along ``axis`` with length one, and their lengths in the scales."""
    norm = jnp.linalg.norm(matrix, axis=axis)
    zero = norm == 0
    unit = matrix / jnp.expand_dims(jnp.where(zero, 1, norm), axis)
    return unit, jnp.maximum(scale + jnp.where(zero, ZERO, jnp.log(jnp.where(zero, 1, norm))), ZERO)


def _log_singular_values(product: Graded) -> Array:
    """Falling, ``[..., n]``: the largest from a decomposition, those that it loses from the scales."""
    product = lax.fori_loop(0, SWEEPS, lambda _, product: _turn(product), product)
    by_scale = -jnp.sort(-product.log_scale, axis=-1)
    top = by_scale[..., :1]
    values = jnp.linalg.svd(
        product.factor * jnp.exp(product.log_scale - top)[..., None, :], compute_uv=False
    )
    floor = 100 * values.shape[-1] * jnp.finfo(values.dtype).eps * values[..., :1]
    exact = values > floor
    logs = jnp.where(exact, jnp.log(jnp.where(exact, values, 1)) + top, by_scale)
    return jnp.where(logs < ZERO / 2, -jnp.inf, logs)
