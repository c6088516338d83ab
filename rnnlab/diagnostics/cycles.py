"""Limit cycles of a recurrent network: orbits that close after p steps, and what a small push does along them."""

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.diagnostics.search import check_starts, distinct, newton, stability, within_reach
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, PyTree

STUCK = 1e12
"""Damping at which a search is given up: its steps are too small to lead anywhere."""


class LimitCycles(NamedTuple):
    """N periodic orbits of h ↦ F(h, x), by rising period and then by rising q; numpy arrays."""

    periods: np.ndarray
    """p ``[N]``, steps: the smallest after which the orbit closes."""
    orbits: tuple[np.ndarray, ...]
    """The states of each orbit as vectors ``[p, n]``, in the order in which they follow one another."""
    q: np.ndarray
    """½ ‖Fᵖ(h) − h‖² at the first state of each, ``[N]``."""
    multipliers: np.ndarray
    """Floquet multipliers: the eigenvalues of Jₚ ⋯ J₂ J₁ around the orbit, complex ``[N, n]``, by falling modulus."""
    unstable: np.ndarray
    """How many of them lie outside of the unit circle (by more than the square root of the precision), ``[N]``."""
    kind: tuple[str, ...]
    """"stable" (none of them), "unstable" (all of them) or "saddle", for each orbit."""
    time_constants: np.ndarray
    """−p/ln |multiplier| ``[N, n]``, steps in which a push falls to 1/e; negative where it grows by as much."""


def limit_cycles(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    *,
    periods: Sequence[int] = (2, 3, 4),
    tolerance: float = 1e-12,
    unique: float = 1e-3,
    outlier: float = 10.0,
    steps: int = 100,
) -> LimitCycles:
    """Periodic orbits under a constant input: the states with Fᵖ(h) = h that no smaller period brings back.

    Fixed points of Fᵖ, found as :func:`fixed_points` finds those of F (Sussillo & Barak 2013, Neural Computation 25),
    by minimising q(h) = ½ ‖Fᵖ(h, x) − h‖² from many starting points at once, but with Newton's step in place of Adam's:
    with G(h) = Fᵖ(h) − h and A = ∂G/∂h it is the δ that minimises ‖A δ + G‖² + μ ‖δ‖², where the damping μ is a
    multiple of ‖G‖² (Levenberg & Marquardt; Yamashita & Fukushima 2001, Computing Supplement 15). So cycles are found
    that no trajectory would come to, and an orbit is counted once, not once for each of its states.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[S, ...]``, such as :func:`sample_states` draws.
        periods: p, each of those looked for; 1 stands for fixed points.
        tolerance: the largest q of a cycle. With floats of 32 bits the rounding of p steps may exceed the default where
            they spread it; allow more, or use 64 bits.
        unique: two orbits with states nearer than this are one, and an orbit that comes nearer to its start than this
            after a divisor of p is one of that smaller period.
        outlier: an orbit is dropped that starts further from the centre of the starts than this many times their mean
            distance from it.
        steps: of Newton, at most.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for starts that are not finite or not states of the cell, and for
            periods that are not whole numbers of at least 1.

    Warns:
        UserWarning: where nothing is found; the result is then empty.
    """
    x, first = check_starts(cell, params, x, starts)
    wanted = sorted({_check.positive_int("each of periods", period) for period in periods})
    if not wanted:
        raise ValueError("periods is empty; give at least one, such as (2, 3, 4)")
    steps = _check.positive_int("steps", steps)
    of_period, orbits, at, around, smallest = [], [], [], [], np.inf
    for period in wanted:
        found, q, products = jax.device_get(
            _search(cell, params, x, starts, period, wanted[-1], steps)
        )
        own = (
            np.isfinite(q)
            & within_reach(found[:, 0], first, outlier)
            & ~_closes_sooner(found, period, unique)
        )
        smallest = min(smallest, q[own].min(initial=np.inf))
        closed = np.flatnonzero(own & (q <= tolerance))
        for number in closed[distinct(found[closed, :period], q[closed], unique)]:
            of_period.append(period)
            orbits.append(found[number, :period])
            at.append(q[number])
            around.append(products[number])
    if not orbits:
        best = f"the smallest q is {smallest:.1e}, above the tolerance of {tolerance:.0e}"
        warnings.warn(
            f"no cycle of period {' or '.join(map(str, wanted))} was found from {len(first)} starts: "
            f"{best if smallest < np.inf else 'all lead away or to smaller periods'}; "
            "try more steps, more starts or other periods",
            stacklevel=2,
        )
    size, dtype = first.shape[1], first.dtype
    multipliers = np.linalg.eigvals(np.array(around, dtype).reshape(-1, size, size)).astype(complex)
    multipliers = np.take_along_axis(multipliers, np.argsort(-np.abs(multipliers), axis=1), axis=1)
    period = np.array(of_period, int)
    found = stability(np.abs(multipliers), period[:, None], dtype)
    return LimitCycles(period, tuple(orbits), np.array(at, dtype), multipliers, *found)


@functools.partial(jax.jit, static_argnames=("cell", "longest"))
def _search(
    cell: Cell, params: PyTree, x: Array, starts: PyTree, period: int, longest: int, steps: int
) -> tuple[Array, Array, Array]:
    """``longest`` states of the orbit to which each start leads, ``[S, longest, n]``, q and ∂Fᵖ/∂h at its first."""
    count = jax.tree.leaves(starts)[0].shape[0]
    flat, xs, starts = state_map(cell, params, jnp.broadcast_to(x, (1, count, *x.shape)), starts)
    first = flat.pack(starts)
    held = xs[0, 0]
    precision = jnp.finfo(first.dtype).eps

    def after(h: Array) -> Array:  # Fᵖ(h)
        return lax.fori_loop(0, period, lambda _, h: flat.step(h, held), h)

    def q(h: Array) -> Array:
        return 0.5 * jnp.sum((after(h) - h) ** 2)

    def unfinished(carry: tuple) -> Array:
        number, h, each, damping = carry
        return (number < steps) & moving(h, each, damping).any()

    def moving(h: Array, each: Array, damping: Array) -> Array:
        rounding = 0.5 * (10 * precision * jnp.linalg.norm(h, axis=-1)) ** 2
        return (each > rounding) & (damping < STUCK)

    def improve(carry: tuple) -> tuple:
        number, h, each, damping = carry
        new = h + jax.vmap(newton, (None, 0, 0))(after, h, damping)
        new_each = jax.vmap(q)(new)
        better = moving(h, each, damping) & (new_each < each)
        damping = damping * jnp.where(better, 0.1, 10)
        return (
            number + 1,
            jnp.where(better[:, None], new, h),
            jnp.where(better, new_each, each),
            damping,
        )

    carry = 0, first, jax.vmap(q)(first), jnp.ones(count, first.dtype)
    _, h, each, _ = lax.while_loop(unfinished, improve, carry)
    _, orbits = lax.scan(
        lambda h, _: (flat.step(h, jnp.broadcast_to(held, (count, *x.shape))), h), h, length=longest
    )
    return jnp.swapaxes(orbits, 0, 1), each, jax.vmap(jax.jacfwd(after))(h)


def _closes_sooner(orbits: np.ndarray, period: int, unique: float) -> np.ndarray:
    """Whether each of the orbits ``[S, ..., n]`` is back after a divisor of ``period``."""
    divisors = [d for d in range(1, period) if period % d == 0]
    return (np.linalg.norm(orbits[:, divisors] - orbits[:, :1], axis=-1) <= unique).any(axis=1)
