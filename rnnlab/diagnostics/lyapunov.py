"""Lyapunov spectra: how fast neighbouring states of a recurrent network part or meet."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, Key, PyTree


class LyapunovSpectrum(NamedTuple):
    """Lyapunov exponents λ₁ ≥ λ₂ ≥ …, nats a step, of every example (driven by inputs of its own)."""

    exponents: Array
    """λᵢ ``[..., k]``, in the order in which the QR algorithm finds them: falling, up to what it has not resolved."""
    mean: Array
    """Their mean over the batch, ``[k]``."""
    spread: Array
    """Their standard deviation over the batch, ``[k]``; zero for a single example."""
    trace: Array
    """The estimates after each QR decomposition, ``[N, ..., k]``; the last is ``exponents``."""
    kaplan_yorke: Array
    """The dimension D = j + Σᵢ≤ⱼ λᵢ/|λⱼ₊₁| with the largest j for which the sum is not negative, ``[...]``; NaN where
    fewer exponents were asked for than that takes."""
    entropy_rate: Array
    """Σ λᵢ over the positive ones, ``[...]``, nats a step: Pesin's upper bound of the entropy rate."""


def lyapunov_spectrum(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    key: Key | None = None,
    count: int | None = None,
    burn_in: int = 0,
    warm_up: int = 0,
    qr_every: int = 1,
) -> LyapunovSpectrum:
    """The Lyapunov spectrum along the trajectory that ``xs`` drives, by QR decompositions (Benettin et al. 1980).

    Jₜ Qₜ₋₁ = Qₜ Rₜ and λᵢ = (1/T) Σₜ ln |(Rₜ)ᵢᵢ|, with Jₜ = ∂sₜ/∂sₜ₋₁ of the whole state (an LSTM's c and h: 2H
    exponents), as in Engelken, Wolf & Abbott 2023 (arXiv 2006.02427) and Vogt et al. 2022 (arXiv 2006.14123). λ₁ says
    how fast a gradient grows (positive) or vanishes (negative) in the long run. Differentiable in ``params``, and
    ``jax.vmap`` over stacked parameters gives the spread over seeds.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``; of zeros for the autonomous network.
        initial_state: s₀, ``cell.initial_state`` by default. It is often a fixed point: start from noise to leave it.
        key: draws the first directions; unit vectors by default, which miss the leading exponents where ``count`` is
            less than the size of the state and its numbers do not act on one another.
        count: k, how many of the leading exponents; all by default.
        burn_in: steps at the start in which only the state is run, to let it come to its attractor.
        warm_up: steps after these in which directions turn but nothing is summed yet.
        qr_every: steps between two decompositions. More are quicker and less exact: what parts by more than the
            precision of the floats between two decompositions is lost.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a state without derivatives, for more exponents than numbers in
            the state, and where the steps that are left to measure are not a multiple of ``qr_every``.
    """
    flat, xs, state = state_map(cell, params, xs, initial_state)
    count = flat.size if count is None else _check.positive_int("count", count)
    if count > flat.size:
        raise ValueError(
            f"count is {count}, but the state has {flat.size} numbers; ask for at most so many exponents"
        )
    qr_every = _check.positive_int("qr_every", qr_every)
    burn_in, warm_up = _check.natural("burn_in", burn_in), _check.natural("warm_up", warm_up)
    left = xs.shape[0] - burn_in - warm_up
    if left < qr_every or left % qr_every or warm_up % qr_every:
        raise ValueError(
            f"{xs.shape[0]} steps less {burn_in} of burn-in and {warm_up} of warm-up leave {left}; make that a "
            f"positive multiple of qr_every = {qr_every}, and warm_up a multiple of it"
        )
    return _spectrum(cell, params, xs, state, key, count, burn_in, warm_up, qr_every)


@functools.partial(jax.jit, static_argnames=("cell", "count", "burn_in", "warm_up", "qr_every"))
def _spectrum(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    key: Key | None,
    count: int,
    burn_in: int,
    warm_up: int,
    qr_every: int,
) -> LyapunovSpectrum:
    flat, xs, state = state_map(cell, params, xs, state)
    start, _ = lax.scan(lambda s, x: (flat.step(s, x), None), flat.pack(state), xs[:burn_in])
    directions = flat.identity(start, count)
    if key is not None:
        directions = jnp.linalg.qr(jax.random.normal(key, directions.shape, directions.dtype))[0]

    def one(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], None]:
        return flat.push(carry[0], x, carry[1]), None

    def several(carry: tuple[Array, Array], xs: Array) -> tuple[tuple[Array, Array], Array]:
        (state, columns), _ = lax.scan(one, carry, xs)
        directions, r = jnp.linalg.qr(columns)
        return (state, directions), jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))

    def in_parts(xs: Array) -> Array:
        return xs.reshape(-1, qr_every, *xs.shape[1:])

    carry, _ = lax.scan(several, (start, directions), in_parts(xs[burn_in : burn_in + warm_up]))
    _, stretch = lax.scan(several, carry, in_parts(xs[burn_in + warm_up :]))
    steps = qr_every * jnp.arange(1, stretch.shape[0] + 1, dtype=stretch.dtype)
    trace = jnp.cumsum(stretch, axis=0) / steps.reshape(-1, *(1,) * (stretch.ndim - 1))
    exponents = trace[-1]
    over = tuple(range(exponents.ndim - 1))
    return LyapunovSpectrum(
        exponents,
        exponents.mean(axis=over),
        exponents.std(axis=over),
        trace,
        kaplan_yorke(exponents, flat.size),
        jnp.sum(jnp.maximum(exponents, 0), axis=-1),
    )


def kaplan_yorke(exponents: Array, size: int) -> Array:
    """The Kaplan–Yorke dimension of spectra ``[..., k]`` of a state of ``size`` numbers (Kaplan & Yorke 1979)."""
    falling = -jnp.sort(-exponents, axis=-1)
    sums = jnp.cumsum(falling, axis=-1)
    whole = jnp.sum(sums >= 0, axis=-1)  # sums rise and then fall, so that these are the first ones
    count = exponents.shape[-1]
    last = jnp.take_along_axis(sums, jnp.maximum(whole - 1, 0)[..., None], axis=-1)[..., 0]
    following = jnp.take_along_axis(falling, jnp.minimum(whole, count - 1)[..., None], axis=-1)[
        ..., 0
    ]
    between = whole + jnp.where(whole > 0, last, 0) / jnp.where(
        whole < count, jnp.abs(following), 1
    )
    return jnp.where(whole < count, between, count if count == size else jnp.nan)
