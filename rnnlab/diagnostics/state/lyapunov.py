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

TURN = 1000
"""Steps in which directions turn before anything is summed, where ``warm_up`` is not given."""

BLOCKS = 20
"""At most so many blocks stand behind a standard error."""


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
    2006.02427) and Vogt et al. 2022 (arXiv 2006.14123). λ₁ says how fast a gradient grows
    (positive) or vanishes (negative) in the long run. Differentiable in ``params``, and
    ``jax.vmap`` over stacked parameters gives the spread over seeds::

        spectrum = lyapunov_spectrum(cell, params, xs, count=8)
        print(spectrum)  # the finding, and a line for each field
        spectrum.mean[0], spectrum.standard_error[..., 0]

    **Directions.** λᵢ is the rate of a direction of its own. Drawn directions turn towards these,
    and λ₁ is too low by about (½ ln n)/T if that is counted: by .07 for 64 units and 30 steps. They
    are therefore turned beforehand, in some 1000 steps that use up none of the sequence: along the
    last steps of the burn-in or, where these are fewer, along the sequence itself, which is run from
    its first state as often as it takes, and once more to be measured. With a constant Jacobian λᵢ
    is then ln |eigenvalue|, however short the sequence, up to what 1000 steps leave of directions
    that decay almost as slowly. Where the Jacobian varies, steps that are run again favour what
    grows in just these steps: in driven networks λ₁ came out too high by up to .01 over 30 steps and
    .003 over 100. A burn-in has other steps, and no such bias. (Singular values of Jₜ ⋯ J₁ need no
    directions, but overstate λ₁ by more: .02 to .08 over 30 steps of the same networks.)

    **Precision.** With ε the precision of the floats, a direction that one decomposition finds
    shorter than 4 ε times the largest number of R is lost in rounding: shorter by 14.6 nats in
    float32, by 34.7 in float64. λᵢ is −inf where that is so in more steps than those in which the
    direction comes within a factor of 1000 of it, so where there is a gap: below the rank of the
    Jacobian, or where ReLUs are off. A slope that falls smoothly, as of a saturated unit, has no
    such gap; the steps in which it is lost are counted at the limit. So an exponent is also −inf if
    it is truly 14.6 or 34.7 nats below the largest stretch of a step.

    **Standard error.** By batch means: the sequence is cut into M blocks, and the standard
    deviation of their exponents over √M is the error of the whole, if blocks are longer than the
    trajectory is correlated. Of fewer than about 100 steps it says little.

    States, inputs and parameters of fewer than 32 bits are computed with in float32.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``; zeros for the autonomous network.
        initial_state: s₀, ``cell.initial_state`` by default. It is often a fixed point: start from
            noise to leave it.
        key: draws the first directions; by default they are the same in every call.
        count: k, how many of the leading exponents; all by default.
        burn_in: steps at the start in which only the state is run, to let it come to its attractor.
        warm_up: steps after these in which directions turn but nothing is summed, in place of the
            turning described above; 0 for none.
        qr_every: steps between two decompositions. More are quicker and less exact: the limits of
            precision hold for what happens between two of them.
        blocks: M; by default the square root of the number of decompositions, at most 20.
        zero: the largest |λ| that counts as zero in the dimension and the entropy rate, and in the
            growth at a point where the state is ``stuck``, nats a step.

    Returns:
        A :class:`LyapunovSpectrum`: exponents of each example, their errors, blocks and course.

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
            "ask for at most so many exponents"
        )
    plan = make_plan(xs.shape[0], burn_in, warm_up, qr_every, blocks)
    dtype = jnp.result_type(*jax.tree.leaves(state))
    directions = _first_directions(flat.size, count).astype(dtype) if key is None else None
    found = decompositions(cell, params, xs, state, key, directions, count, plan)
    return summarise(found, zero, flat.size, plan.blocks, qr_every)


class Plan(NamedTuple):
    """What is done with the steps of a sequence, in this order; numbers of steps."""

    run: int  # the state is run
    again: int  # directions turn in so many of the next steps,
    times: int  # as often as this, each time from the same state
    turn: int  # directions turn
    qr_every: int
    blocks: int  # into which the rest is cut


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
    given = 0 if warm_up is None else _check.natural("warm_up", warm_up)
    left = steps - burn_in - given
    if left < qr_every or left % qr_every or given % qr_every:
        raise ValueError(
            f"{steps} steps less {burn_in} of burn-in and {given} of warm-up leave {left}; "
            f"make that a positive multiple of qr_every = {qr_every}, and warm_up a multiple of it"
        )
    count = left // qr_every
    if blocks is None:
        blocks = min(BLOCKS, math.isqrt(count))
    elif _check.positive_int("blocks", blocks) > count:
        raise ValueError(
            f"blocks is {blocks}, but there are {count} decompositions; ask for at most so many"
        )
    if warm_up is not None:
        return Plan(burn_in, 0, 0, given, qr_every, blocks)
    turn = _multiple(min(burn_in, TURN), qr_every)
    missing = _multiple(TURN - turn, qr_every)
    again = min(turn + left, missing)
    times = round(missing / again) if again else 0
    return Plan(burn_in - turn, again, times, turn, qr_every, blocks)


def _multiple(steps: int, of: int) -> int:
    """The largest multiple that is no larger than ``steps``."""
    return steps - steps % of


@functools.lru_cache(maxsize=16)
def _first_directions(size: int, count: int) -> np.ndarray:
    """Orthonormal columns ``[n, k]``, the first of them the same for every k.

    Unit vectors would miss the leading exponents of units that do not act on one another.
    """
    drawn = np.random.default_rng(0).standard_normal((count, size))
    return np.linalg.qr(drawn.T)[0]


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
    """All that is run; the first directions are drawn by ``key``, or given where that is None."""
    flat, xs, state = state_map(cell, params, xs, state)
    start = flat.pack(state)
    if plan.run:
        start, _ = lax.scan(lambda s, x: (flat.step(s, x), None), start, xs[: plan.run])
    shape = (*start.shape, count)
    if key is not None:
        directions = jnp.linalg.qr(jax.random.normal(key, shape, start.dtype))[0]
    columns = jnp.broadcast_to(jnp.asarray(directions, start.dtype), shape)
    return _follow(flat, xs[plan.run :], start, columns, plan)


def _follow(flat: StateMap, xs: Array, start: Array, columns: Array, plan: Plan) -> Decompositions:
    """The decompositions that are measured."""
    # Turning and measuring are one loop, in which the state ``restarts`` each time: a second loop
    # would take longer to compile than to run.
    if plan.times:
        xs = jnp.concatenate([xs[: plan.again]] * plan.times + [xs])
    xs = xs.reshape(-1, plan.qr_every, *xs.shape[1:])
    rounds = plan.again // plan.qr_every
    restarts = np.isin(np.arange(len(xs)), rounds * np.arange(plan.times + 1))

    def one(carry: tuple[Array, Array, Array], x: Array) -> tuple[tuple[Array, Array, Array], None]:
        state, columns, _ = carry
        new, columns = flat.push(state, x, columns)
        return (new, columns, jnp.all(new == state, axis=-1)), None

    def several(
        carry: tuple[Array, Array], inputs: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], Decompositions]:
        old, columns = carry
        xs, restarts = inputs
        if plan.times:
            old = jnp.where(restarts, start, old)
        (new, columns, still), _ = lax.scan(
            one, (old, columns, jnp.zeros(old.shape[:-1], bool)), xs
        )
        columns, r = jnp.linalg.qr(columns)
        found = Decompositions(
            jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)),
            jnp.abs(lax.stop_gradient(r)).max(axis=(-2, -1)),
            still,
        )
        return (new, columns), found

    _, found = lax.scan(several, (start, columns), (xs, jnp.asarray(restarts)))
    measured = rounds * plan.times + plan.turn // plan.qr_every
    return jax.tree.map(lambda leaf: leaf[measured:], found)
