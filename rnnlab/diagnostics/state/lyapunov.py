"""Lyapunov spectra: the rates at which nearby trajectories converge or diverge."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.diagnostics.state.exponents import ZERO, Decompositions, LyapunovSpectrum, summarise
from rnnlab.diagnostics.state.state_map import StateMap, state_map
from rnnlab.typing import Array, Cell, Key, PyTree

WARM_UP = 1000
"""Steps in which directions align before anything is summed, where ``warm_up`` is not given."""

BLOCKS = 20
"""The largest number of blocks that a standard error is computed from."""


def lyapunov_spectrum(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    key: Key | None = None,
    count: int | None = None,
    burn_in: int = 0,
    warm_up: int | None = None,
    qr_every: int = 1,
    blocks: int | None = None,
    zero: float | Array = ZERO,
) -> LyapunovSpectrum:
    """The Lyapunov spectrum along the trajectory that ``xs`` drives (Benettin et al. 1980).

    Jₜ Qₜ₋₁ = Qₜ Rₜ by QR decomposition and λᵢ = (1/T) Σₜ ln |(Rₜ)ᵢᵢ|, with Jₜ = ∂sₜ/∂sₜ₋₁ of the
    whole state (an LSTM's c and h: 2H exponents), as in Engelken, Wolf & Abbott 2023 (arXiv
    2006.02427) and Vogt et al. 2022 (arXiv 2006.14123). λ₁ is the rate at which a gradient grows
    (positive) or vanishes (negative) in the long run. Differentiable in ``params``, and
    ``jax.vmap`` over stacked parameters gives the spread over seeds.

    >>> cell = rnnlab.RNN(8)
    >>> params = cell.init(jax.random.key(0), 1)
    >>> spectrum = lyapunov_spectrum(cell, params, jnp.zeros((100, 1)), count=2)
    >>> spectrum.exponents.shape, spectrum.trace.shape
    ((2,), (100, 2))

    **Directions.** Each λᵢ is the rate of one direction. Random directions only gradually align
    with these, and λ₁ is too low by about (½ ln n)/T if the alignment is summed as well: by .07 for
    64 units and 30 steps. So directions are aligned beforehand, in some 1000 steps that use up none
    of the sequence: along the last steps of the burn-in or, where these are fewer, along the
    sequence itself, which is run from its first state as often as it takes, and once more to be
    measured. With a constant Jacobian λᵢ is then ln |eigenvalue|, however short the sequence, up to
    what 1000 steps leave of directions that decay almost as slowly. Where the Jacobian varies,
    repeated steps favour directions that grow in just these steps: in driven networks λ₁ came out
    too high by up to .01 over 30 steps and .003 over 100. A burn-in has other steps, and no such
    bias. (Singular values of Jₜ ⋯ J₁ need no directions, but overestimate λ₁ by more: .02 to .08
    over 30 steps of the same networks.)

    **Precision.** Let ε be the precision of the floats and n the size of the state (4 if it is
    smaller). A direction is lost in rounding when one decomposition shortens it to at most 2 √n ε
    times the largest entry of R: by 14.6 nats in float32 and 34.7 in float64 for n = 4, and by 13.2
    and 33.3 for n = 64. λᵢ is −inf where the direction is lost in more steps than those in which it
    comes within a factor of 1000 of this limit, that is, where there is a gap: beyond the rank of
    the Jacobian, or where ReLUs are off. A slope that falls smoothly, as of a saturated unit, has
    no such gap; the steps in which it is lost count as the limit. So an exponent also comes out as
    −inf if its true value lies that far below the largest stretch of a step.

    **Standard error.** By batch means: the sequence is cut into M blocks, and the standard
    deviation of their exponents over √M is the error of the whole, if blocks are longer than the
    correlation time of the trajectory. It is unreliable for fewer than about 100 steps.

    States, inputs and parameters narrower than 32 bits are converted to float32.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``; zeros for the autonomous network.
        initial_state: s₀, ``cell.initial_state`` by default. It is often a fixed point: start from
            noise to leave it.
        key: draws the first directions; by default they are the same in every call.
        count: k, the number of leading exponents; all by default.
        burn_in: steps at the start in which only the state is run, to let it reach its attractor.
        warm_up: steps after these in which directions align but nothing is summed, in place of the
            alignment described above; 0 for none.
        qr_every: steps between two decompositions. A larger number is faster and less exact:
            the limits of precision apply to all steps between two decompositions.
        blocks: M; by default the square root of the number of decompositions, at most 20.
        zero: the largest |λ| that counts as zero in the dimension and the entropy rate, and in the
            growth at a point where the state is ``stuck``, nats per step.

    Returns:
        A :class:`LyapunovSpectrum`: exponents of each example, their errors, blocks and trace.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a state without derivatives, for more
            exponents than numbers in the state, for more blocks than decompositions, and where the
            steps that are left to measure are not a multiple of ``qr_every``.
    """
    flat, xs, state = state_map(cell, params, xs, initial_state)
    count = flat.size if count is None else _check.positive_int("count", count)
    if count > flat.size:
        raise ValueError(
            f"count is {count}, but the state has {flat.size} numbers; "
            "ask for at most that many exponents"
        )
    plan = make_plan(xs.shape[0], burn_in, warm_up, qr_every, blocks)
    directions = None
    if key is None:
        dtype = jnp.result_type(*jax.tree.leaves(state))
        directions = _first_directions(flat.size, count).astype(dtype)
    measured = decompositions(cell, params, xs, state, key, directions, count, plan)
    return summarise(measured, zero, flat.size, plan.blocks, qr_every)


class Plan(NamedTuple):
    """The phases of a sequence, in this order; the steps after them are measured."""

    # steps in which only the state is run
    burn_in: int
    # steps after these in which directions align, each time from the same state
    repeat_steps: int
    # how often these are run
    repeats: int
    # steps in which directions align as the state goes on
    warm_up: int
    # steps between two decompositions
    qr_every: int
    # blocks into which the measured steps are cut
    blocks: int


def make_plan(
    steps: int,
    burn_in: int,
    warm_up: int | None = None,
    qr_every: int = 1,
    blocks: int | None = None,
) -> Plan:
    """ValueError where the numbers of steps do not fit."""
    qr_every = _check.positive_int("qr_every", qr_every)
    burn_in = _check.natural("burn_in", burn_in)
    discarded = 0 if warm_up is None else _check.natural("warm_up", warm_up)
    left = steps - burn_in - discarded
    if left < qr_every or left % qr_every or discarded % qr_every:
        raise ValueError(
            f"{steps} steps less {burn_in} of burn-in and {discarded} of warm-up leave {left}; "
            f"make that a positive multiple of qr_every = {qr_every}, and warm_up a multiple of it"
        )
    count = left // qr_every
    if blocks is None:
        blocks = min(BLOCKS, math.isqrt(count))
    elif _check.positive_int("blocks", blocks) > count:
        raise ValueError(
            f"blocks is {blocks}, but there are {count} decompositions; ask for at most that many"
        )
    if warm_up is not None:
        return Plan(burn_in, 0, 0, discarded, qr_every, blocks)
    # The end of the burn-in comes first, since repeats of measured steps bias λ₁ upward.
    aligning = _multiple(min(burn_in, WARM_UP), qr_every)
    missing = _multiple(WARM_UP - aligning, qr_every)
    repeat_steps = min(aligning + left, missing)
    repeats = round(missing / repeat_steps) if repeat_steps else 0
    return Plan(burn_in - aligning, repeat_steps, repeats, aligning, qr_every, blocks)


def _multiple(steps: int, of: int) -> int:
    """The largest multiple that is no larger than ``steps``."""
    return steps - steps % of


@functools.lru_cache(maxsize=16)
def _first_directions(size: int, count: int) -> np.ndarray:
    """Orthonormal columns ``[n, k]``, the first of them the same for every k.

    Unit vectors would miss the leading exponents of units that do not interact.
    """
    # Drawn as rows, so that a larger k appends columns and leaves the first as they are.
    drawn = np.random.default_rng(0).standard_normal((count, size))
    q, _ = np.linalg.qr(drawn.T)
    return q


@functools.partial(jax.jit, static_argnames=("cell", "count", "plan"))
def decompositions(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    key: Key | None,
    directions: Array | None,
    count: int,
    plan: Plan,
) -> Decompositions:
    """The measured decompositions, from ``directions``, or from drawn ones where ``key`` is set."""
    flat, xs, state = state_map(cell, params, xs, state)
    start = flat.pack(state)
    if plan.burn_in:
        start, _ = lax.scan(lambda s, x: (flat.step(s, x), None), start, xs[: plan.burn_in])
    shape = (*start.shape, count)
    if key is not None:
        normal = jax.random.normal(key, shape, start.dtype)
        directions, _ = jnp.linalg.qr(normal)
    columns = jnp.broadcast_to(jnp.asarray(directions, start.dtype), shape)
    return _follow(flat, xs[plan.burn_in :], start, columns, plan)


def _follow(
    flat: StateMap,
    xs: Array,
    start: Array,
    columns: Array,
    plan: Plan,
) -> Decompositions:
    """The decompositions that are measured."""
    # Aligning and measuring are one loop, in which the state restarts from ``start`` for each
    # repeat: a second loop would take longer to compile than to run.
    if plan.repeats:
        xs = jnp.concatenate([xs[: plan.repeat_steps]] * plan.repeats + [xs])
    xs = xs.reshape(-1, plan.qr_every, *xs.shape[1:])
    rounds = plan.repeat_steps // plan.qr_every
    restarts = np.isin(np.arange(len(xs)), rounds * np.arange(plan.repeats + 1))

    def advance(
        carry: tuple[Array, Array, Array], x: Array
    ) -> tuple[tuple[Array, Array, Array], None]:
        old, columns, _ = carry
        new, columns = flat.push(old, x, columns)
        still = jnp.all(new == old, axis=-1)
        return (new, columns, still), None

    def decompose(
        carry: tuple[Array, Array], inputs: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], Decompositions]:
        state, columns = carry
        xs, restarts = inputs
        if plan.repeats:
            state = jnp.where(restarts, start, state)
        moving = jnp.zeros(state.shape[:-1], bool)
        (state, columns, still), _ = lax.scan(advance, (state, columns, moving), xs)
        columns, r = jnp.linalg.qr(columns)
        lengths = jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1))
        # No gradient, since this only sets the limit below which directions are lost.
        longest = jnp.abs(lax.stop_gradient(r)).max(axis=(-2, -1))
        return (state, columns), Decompositions(lengths, longest, still)

    _, all_rounds = lax.scan(decompose, (start, columns), (xs, jnp.asarray(restarts)))
    first = rounds * plan.repeats + plan.warm_up // plan.qr_every
    return jax.tree.map(lambda leaf: leaf[first:], all_rounds)
