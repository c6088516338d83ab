"""Fixed points of a recurrent network: where its state rests, and what a small push does there."""

import collections
import warnings
from typing import Literal, NamedTuple

import jax
import numpy as np

from rnnlab import _check
from rnnlab._results import result
from rnnlab.diagnostics.invariant_sets.search import (
    Outcomes,
    Reached,
    Search,
    check_options,
    check_starts,
    default_marginal,
    distinct,
    double_precision,
    jacobians,
    nothing_found,
    prepare,
    run,
    stability,
)
from rnnlab.typing import Array, Cell, Key, PyTree


@result
class FixedPoints(NamedTuple):
    """N fixed points of h ↦ F(h, x), by rising q; numpy arrays of 64-bit floats.

    Attributes:
        states: the points as vectors ``[N, n]``, the leaves of the state side by side.
        q: ½ ‖F(h) − h‖² at each point, ``[N]``.
        eigenvalues: of the Jacobian ∂F/∂h at each point, complex ``[N, n]``, by falling modulus.
        eigenvectors: of the same, as columns, complex ``[N, n, n]``.
        unstable: the number of eigenvalues outside of the unit circle, ``[N]``: directions in which a push grows.
        marginal: the number of eigenvalues on the unit circle, within the tolerance ``marginal``, ``[N]``: directions
            in which a push neither grows nor decays, such as along a line or a ring of fixed points.
        kind: "unstable" (every eigenvalue is outside), "saddle" (some are), "marginal" (none is outside, some are on
            the circle) or "stable" (all are inside), for each point.
        time_constants: −1/ln |eigenvalue| ``[N, n]``, steps in which a push decays to 1/e; negative where it grows by
            as much, inf for marginal directions.
        slow_states: ``[M, n]``, where the search ended with q above the tolerance but at most ``slow``: points near
            which the state lingers.
        slow_q: ½ ‖F(h) − h‖² at the slow points, ``[M]``.
        outcomes: what became of the starts.
        must_exist: whether F was proved to map a box around the starts into itself, so that it has a fixed point
            there (Brouwer). False says nothing.
    """

    states: np.ndarray
    q: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    unstable: np.ndarray
    marginal: np.ndarray
    kind: tuple[str, ...]
    time_constants: np.ndarray
    slow_states: np.ndarray
    slow_q: np.ndarray
    outcomes: Outcomes
    must_exist: bool

    def finding(self) -> str:
        """How many points of each kind, and how many starts led to none, in one sentence."""
        kinds = collections.Counter(self.kind)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        plural = "" if len(self.kind) == 1 else "s"
        points = f"{len(self.kind)} fixed point{plural} ({counted})" if kinds else "no fixed point"
        starts = sum(int(count) for count in self.outcomes)
        lost = starts - int(self.outcomes.found) - int(self.outcomes.duplicates)
        return f"{points} from {starts} starts, {lost} of which led to none"


def fixed_points(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    *,
    tolerance: float | None = None,
    unique: float = 1e-3,
    slow: float = 1e-6,
    outlier: float = 10.0,
    marginal: float | None = None,
    steps: int = 100,
    solver: Literal["auto", "dense", "iterative"] = "auto",
) -> FixedPoints:
    """Fixed points under a constant input: states with F(h, x) = h, searched from many starts at once.

    As in Sussillo & Barak 2013 (Neural Computation 25) and Golub & Sussillo 2018 (JOSS 3), q(h) = ½ ‖F(h, x) − h‖² is
    minimised from every start, so that points are found that no trajectory comes to; but by Levenberg–Marquardt,
    which needs some ten steps where gradient descent needs thousands. From starts where that fails,
    pseudo-transient continuation follows the network's own flow, with time steps of their own for each unit and then
    ever longer ones (Kelley & Keyes 1998): it comes to stable points of networks whose gates are all but closed. The
    search runs in 64-bit floats, whatever the precision of the network, unless the step insists on another.

    Where F provably maps a box around the starts into itself, the search stays in that box.

    >>> cell = rnnlab.Step(lambda w, h, x: (jnp.tanh(w * h + x), h), jnp.zeros(1))
    >>> found = fixed_points(cell, jnp.array(2.0), jnp.zeros(1), jnp.array([[-1.0], [0.1], [1.0]]))
    >>> round(float(found.states.max()), 3), sorted(found.kind)
    (0.958, ['stable', 'stable', 'unstable'])

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[S, ...]``, such as :func:`sample_states` draws; one is
            enough for a search, though not for all points.
        tolerance: the largest q of a fixed point; by default what 32 roundings leave,
            ½ (32 ε)² (1 + ‖h‖²/n) (n + ‖∂F/∂h‖²) with the Frobenius norm and the ε of 64-bit floats, 2.2e-16: some
            1e-26 for 256 units of order one.
        unique: two points nearer than this are one; the one with the smaller q is kept.
        slow: the largest q of a slow point.
        outlier: a point is dropped that lies further from the centre of the starts than this many times their mean
            distance from it or, if larger, the distance to which the median trajectory of 1000 steps leads from there.
            Nothing is dropped from a box that F maps into itself.
        marginal: the largest | |λ| − 1 | of an eigenvalue on the unit circle; by default 32 √n ε with the ε of the
            network's floats, about what rounding of the weights does to an eigenvalue: 6e-5 for 256 units in 32 bits.
        steps: of either method from a start, at most.
        solver: "dense" solves with Jacobians, "iterative" with products of Jacobians and vectors in memory of order n;
            "auto" is "dense" up to n = 1024.

    Returns:
        :class:`FixedPoints`: the points, how stable they are, slow points, and what became of the starts.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for starts that are not finite or not states of the cell, and for
            options that are out of range.

    Warns:
        UserWarning: where nothing is found; the result is then empty. It says which q was reached, and whether a fixed
            point must exist.
    """
    x, first = check_starts(cell, params, x, starts)
    check_options(
        steps,
        solver,
        tolerance=tolerance,
        unique=unique,
        slow=slow,
        outlier=outlier,
        marginal=marginal,
    )
    marginal = default_marginal(marginal, first.dtype, first.shape[1])
    with double_precision():
        search = prepare(cell, params, x, starts, outlier)
        reached = run(search, 1, 1, tolerance, steps, solver)
        points, (slow_states, slow_q), outcomes = _sort(reached, unique, slow)
        if not len(points):
            fault = f"no fixed point was found from {len(first)} starts"
            exists = search.box is not None
            told = nothing_found(fault, reached, reached.near, "all lead away", steps, exists)
            warnings.warn(f"{told}, or look at slow_states", stacklevel=2)
        values, vectors = _spectra(search, reached.states[points])
    with np.errstate(divide="ignore"):
        log_moduli = np.log(np.abs(values))
    unstable, on_circle, kind, times = stability(log_moduli, 1, marginal)
    return FixedPoints(
        states=reached.states[points],
        q=reached.q[points],
        eigenvalues=values,
        eigenvectors=vectors,
        unstable=unstable,
        marginal=on_circle,
        kind=kind,
        time_constants=times,
        slow_states=slow_states,
        slow_q=slow_q,
        outcomes=outcomes,
        must_exist=search.box is not None,
    )


def sample_states(key: Key, states: PyTree, count: int, noise: float = 0.0) -> PyTree:
    """States drawn from those of trajectories, where a search for fixed points may start.

    Args:
        key: draws them, with replacement, and the noise.
        states: ``[T, B, ...]``, as :func:`rnnlab.unroll_states` returns them.
        count: how many.
        noise: the standard deviation of what is added to every number.

    Returns:
        The states, in the structure of ``states`` with leaves ``[count, ...]``.

    Raises:
        ValueError: for a count below 1, a noise that is not a number of at least 0, and states without ``[T, B]``.
    """
    count = _check.positive_int("count", count)
    if not (noise >= 0 and np.isfinite(noise)):
        raise ValueError(f"noise is {noise}; it must be a number of at least 0")
    leaves, tree = jax.tree.flatten(states)
    if not leaves or min(np.ndim(leaf) for leaf in leaves) < 2:
        raise ValueError("states must have leaves [T, B, ...]; give those of rnnlab.unroll_states")
    k_which, k_noise = jax.random.split(key)
    steps, batch = leaves[0].shape[:2]
    which = jax.random.randint(k_which, (count,), 0, steps * batch)
    drawn = [leaf.reshape(steps * batch, *leaf.shape[2:])[which] for leaf in leaves]
    keys = jax.random.split(k_noise, len(drawn))
    return jax.tree.unflatten(
        tree,
        [
            leaf + noise * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, drawn, strict=True)
        ],
    )


def _sort(
    reached: Reached, unique: float, slow: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], Outcomes]:
    """The numbers of the starts that are kept as fixed points, the slow points with q, and what became of all."""
    states, q, _, near, solved = reached
    solved = near & solved
    points = _distinct(states, q, solved, unique)
    apart = np.full(len(states), np.inf)
    for point in points:
        apart = np.minimum(apart, np.linalg.norm(states - states[point], axis=1))
    # Rounding may stop a start beside a point.
    again = near & ((solved | (q <= slow)) & (apart <= unique))
    lingering = near & ~solved & ~again & (q <= slow)
    outlier = np.isfinite(q) & ~near
    slow_points = _distinct(states, q, lingering, unique)
    counts = [len(points), again.sum() - len(points), 0, outlier.sum(), lingering.sum()]
    outcomes = Outcomes(*map(np.asarray, [*counts, len(q) - sum(counts)]))
    return points, (states[slow_points], q[slow_points]), outcomes


def _distinct(states: np.ndarray, q: np.ndarray, among: np.ndarray, unique: float) -> np.ndarray:
    """The numbers of one of each group of states that are nearer than ``unique``, of those ``among`` which to look."""
    numbers = np.flatnonzero(among)
    return numbers[distinct(states[numbers][:, None], q[numbers], unique)]


def _spectra(search: Search, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues ``[N, n]`` and eigenvectors ``[N, n, n]`` of ∂F/∂h at each state, by falling modulus."""
    size = states.shape[1]
    values = np.empty((len(states), size), complex)
    vectors = np.empty((len(states), size, size), complex)
    for number, state in enumerate(states):
        (matrix,) = jacobians(search.cell, search.params, search.x, search.like, state[None])
        value, vector = np.linalg.eig(np.asarray(matrix, np.float64))
        order = np.argsort(-np.abs(value), kind="stable")
        values[number], vectors[number] = value[order], vector[:, order]
    return values, vectors
