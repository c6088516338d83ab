"""Fixed points of a recurrent network, and their stability."""

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
        states: the points as vectors ``[N, n]``, the concatenation of the state's leaves.
        q: ½ ‖F(h) − h‖² at each point, ``[N]``.
        eigenvalues: of the Jacobian ∂F/∂h at each point, complex ``[N, n]``, by falling modulus.
        eigenvectors: of the same, as columns, complex ``[N, n, n]``.
        unstable: the number of eigenvalues outside of the unit circle, ``[N]``: directions in which
            a perturbation grows.
        marginal: the number of eigenvalues on the unit circle, within the tolerance ``marginal``,
            ``[N]``: directions in which a perturbation neither grows nor decays, such as along a
            line or a ring of fixed points.
        kind: "unstable" (every eigenvalue is outside), "saddle" (some are), "marginal" (none is
            outside, some are on the circle) or "stable" (all are inside), for each point.
        time_constants: −1/ln |eigenvalue| ``[N, n]``, steps in which a perturbation decays to 1/e;
            negative where it grows by as much, inf for marginal directions.
        slow_states: ``[M, n]``, where the search ended with q above the tolerance but at most
            ``slow``: points near which the state lingers.
        slow_q: ½ ‖F(h) − h‖² at the slow points, ``[M]``.
        outcomes: the outcomes of the starts.
        must_exist: whether F provably maps a box around the starts into itself, so that it has a
            fixed point there (Brouwer). False proves nothing.
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
        """The number of points of each kind, and of starts that led to none, in one sentence."""
        points = "no fixed point"
        if self.kind:
            kinds = collections.Counter(self.kind)
            counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            plural = "" if len(self.kind) == 1 else "s"
            points = f"{len(self.kind)} fixed point{plural} ({counts})"
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
    """Fixed points under a constant input: states with F(h, x) = h, searched from many starts.

    As in Sussillo & Barak 2013 (Neural Computation 25) and Golub & Sussillo 2018 (JOSS 3),
    q(h) = ½ ‖F(h, x) − h‖² is minimised from every start, which also finds points that no
    trajectory converges to; but by Levenberg–Marquardt, which needs some ten steps where gradient
    descent needs thousands. From starts where that fails, pseudo-transient continuation follows the
    network's own flow, with separate time steps for each unit and then ever longer ones (Kelley &
    Keyes 1998): it finds stable points of networks whose gates are all but closed. The search runs
    in 64-bit floats, whatever the precision of the network, unless the step rejects these.

    Where F provably maps a box around the starts into itself, the search stays in that box.

    >>> cell = rnnlab.Step(lambda w, h, x: (jnp.tanh(w * h + x), h), jnp.zeros(1))
    >>> points = fixed_points(cell, jnp.array(2.0), jnp.zeros(1), jnp.array([[-1.0], [0.1], [1.0]]))
    >>> round(float(points.states.max()), 3), sorted(points.kind)
    (0.958, ['stable', 'stable', 'unstable'])

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[S, ...]``, such as
            :func:`sample_states` draws; one is enough for a search, though not for all points.
        tolerance: the largest q of a fixed point; by default the q that 32 roundings leave,
            ½ (32 ε)² (1 + ‖h‖²/n) (n + ‖∂F/∂h‖²) with the Frobenius norm and the ε of 64-bit
            floats, 2.2e-16: some 1e-26 for 256 units of order one.
        unique: two points closer than this are one; the one with the smaller q is kept.
        slow: the largest q of a slow point.
        outlier: a point is dropped that lies further from the centre of the starts than this many
            times their mean distance from it or, if larger, the distance to which the median
            trajectory of 1000 steps leads from there. Nothing is dropped from a box that F maps
            into itself.
        marginal: the largest | |λ| − 1 | of an eigenvalue on the unit circle; by default 32 √n ε
            with the ε of the network's floats, about the change of an eigenvalue when weights are
            rounded: 6e-5 for 256 units in 32 bits.
        steps: the largest number of steps of either method from a start.
        solver: "dense" solves with Jacobians, "iterative" with products of Jacobians and vectors in
            memory of order n; "auto" is "dense" up to n = 1024.

    Returns:
        :class:`FixedPoints`: the points, their stability, slow points, and outcomes of the starts.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for starts that are not finite or not states of
            the cell, and for options that are out of range.

    Warns:
        UserWarning: where no point is found; the result is then empty. It names the smallest q, and
            whether a fixed point must exist.
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
        points, slow_points, outcomes = _select(reached, unique, slow)
        must_exist = search.box is not None
        if not len(points):
            fault = f"no fixed point was found from {len(first)} starts"
            none = "all searches left the region of the starts"
            text = nothing_found(fault, reached, reached.near, none, steps, must_exist)
            warnings.warn(f"{text}, or look at slow_states", stacklevel=2)
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
        slow_states=reached.states[slow_points],
        slow_q=reached.q[slow_points],
        outcomes=outcomes,
        must_exist=must_exist,
    )


def sample_states(key: Key, states: PyTree, count: int, noise: float = 0.0) -> PyTree:
    """States drawn from those of trajectories, as starts of a search for fixed points.

    >>> cell = rnnlab.RNN(8)
    >>> params = cell.init(jax.random.key(0), 1)
    >>> states, _ = rnnlab.unroll_states(cell, params, jnp.zeros((20, 4, 1)))
    >>> sample_states(jax.random.key(1), states, count=32).h.shape
    (32, 8)

    Args:
        key: draws them, with replacement, and the noise.
        states: ``[T, B, ...]``, as :func:`rnnlab.unroll_states` returns them.
        count: the number of states.
        noise: the standard deviation of what is added to every number.

    Returns:
        The states, in the structure of ``states`` with leaves ``[count, ...]``.

    Raises:
        ValueError: for a count below 1, a noise that is not a number of at least 0, and states
            without ``[T, B]``.
    """
    count = _check.positive_int("count", count)
    if not (noise >= 0 and np.isfinite(noise)):
        raise ValueError(f"noise is {noise}; it must be a number of at least 0")
    leaves, tree = jax.tree.flatten(states)
    if not leaves or min(map(np.ndim, leaves)) < 2:
        raise ValueError("states must have leaves [T, B, ...]; give those of rnnlab.unroll_states")
    k_which, k_noise = jax.random.split(key)
    steps, batch = leaves[0].shape[:2]
    # One draw for all leaves, so that c and h of an LSTM stay those of one state.
    which = jax.random.randint(k_which, (count,), 0, steps * batch)
    keys = jax.random.split(k_noise, len(leaves))
    sampled = []
    for k, leaf in zip(keys, leaves, strict=True):
        flat = leaf.reshape(steps * batch, *leaf.shape[2:])
        drawn = flat[which]
        normal = jax.random.normal(k, drawn.shape, drawn.dtype)
        sampled.append(drawn + noise * normal)
    return jax.tree.unflatten(tree, sampled)


def _select(
    reached: Reached, unique: float, slow: float
) -> tuple[np.ndarray, np.ndarray, Outcomes]:
    """The indices of fixed points and of slow points, and the outcomes of all starts."""
    states, q, _, near, solved = reached
    solved = near & solved
    points = _distinct(states, q, solved, unique)
    to_nearest = np.full(len(states), np.inf)
    for point in points:
        distances = np.linalg.norm(states - states[point], axis=1)
        to_nearest = np.minimum(to_nearest, distances)
    # Rounding may stop a start beside a point, with q above the tolerance: it is not a slow point.
    again = near & ((solved | (q <= slow)) & (to_nearest <= unique))
    lingering = near & ~solved & ~again & (q <= slow)
    outlier = np.isfinite(q) & ~near
    slow_points = _distinct(states, q, lingering, unique)
    found = len(points)
    duplicates = again.sum() - found
    outliers = outlier.sum()
    lingerers = lingering.sum()
    outcomes = Outcomes(
        found=np.asarray(found),
        duplicates=np.asarray(duplicates),
        sooner=np.asarray(0),
        outliers=np.asarray(outliers),
        slow=np.asarray(lingerers),
        failed=np.asarray(len(q) - found - duplicates - outliers - lingerers),
    )
    return points, slow_points, outcomes


def _distinct(states: np.ndarray, q: np.ndarray, among: np.ndarray, unique: float) -> np.ndarray:
    """The indices of one of each group of states closer than ``unique``, of those in ``among``."""
    indices = np.flatnonzero(among)
    # A fixed point is an orbit of period 1.
    paths = states[indices][:, None]
    kept = distinct(paths, q[indices], unique)
    return indices[kept]


def _spectra(search: Search, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues ``[N, n]`` and eigenvectors ``[N, n, n]`` of ∂F/∂h, by falling modulus."""
    count, size = states.shape
    values = np.empty((count, size), complex)
    vectors = np.empty((count, size, size), complex)
    for index, state in enumerate(states):
        # One at a time, since every other number of points would compile another program.
        (matrix,) = jacobians(search.cell, search.params, search.x, search.like, state[None])
        value, vector = np.linalg.eig(np.asarray(matrix, np.float64))
        order = np.argsort(-np.abs(value), kind="stable")
        values[index] = value[order]
        vectors[index] = vector[:, order]
    return values, vectors
