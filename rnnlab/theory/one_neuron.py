"""One neuron: its fixed points, their folds, and the wall that the folds cause in the loss.

    dx/dt = −x + σ(w x + b) + w′u          in continuous time, with a constant drive w′u
    xₜ = w σ(xₜ₋₁) + b                      in steps, as in Pascanu, Mikolov & Bengio 2013

In continuous time y = x − w′u rests where b + w·w′u = ln(y/(1 − y)) − w y. With
v = ln(y/(1 − y)) the right-hand side is a function of v with at most two turning points, the folds,
and at most one fixed point before, between and behind them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from rnnlab import _check
from rnnlab._results import result
from rnnlab.typing import Array


@result
class Folds(NamedTuple):
    """Where two fixed points meet and vanish: the lower and the middle, the upper and the middle.

    NaN for w < 4, where there are none.

    Attributes:
        x: ``[..., 2]``, rising.
        b: ``[..., 2]``: the lower one exists below the first b, the upper one above the second;
            both in between.
    """

    x: Array
    b: Array


@result
class Cusp(NamedTuple):
    """Where the two folds meet; scalars.

    Attributes:
        w: 4.
        b: −2 without input, −2 − 4 w′u with it.
        x: ½, or w′u + ½ with an input.
    """

    w: Array
    b: Array
    x: Array


@result
class NeuronFixedPoints(NamedTuple):
    """The lower, the middle and the upper fixed point, NaN where there is none.

    For w ≤ 4 the only one counts as the lower.

    Attributes:
        x: ``[..., 3]``.
        eigenvalues: −1 + w y (1 − y) ``[..., 3]``, per unit of time: how fast a small perturbation
            grows (positive) or decays.
        stable: ``[..., 3]``, whether the fixed point exists and perturbations decay.
    """

    x: Array
    eigenvalues: Array
    stable: Array


@result
class BifurcationDiagram(NamedTuple):
    """The lower, the middle and the upper branch of fixed points over b, up to the exact folds.

    Attributes:
        b: ``[3, N]``, rising; NaN for a branch that does not exist in the range.
        x: ``[3, N]``.
        eigenvalues: ``[3, N]``, per unit of time.
        stable: ``[3]``; False for the middle branch.
        folds: where the branches meet, ``[2]``.
    """

    b: Array
    x: Array
    eigenvalues: Array
    stable: Array
    folds: Folds


@result
class LossSurface(NamedTuple):
    """A loss of the neuron's last state for each (w, b), and its gradient; ``[...]`` each.

    Attributes:
        loss: L.
        d_w: ∂L/∂w.
        d_b: ∂L/∂b.
        state: x at the end; NaN, like the rest, where the solver gave up.
    """

    loss: Array
    d_w: Array
    d_b: Array
    state: Array


def fold_points(w: ArrayLike, drive: ArrayLike = 0.0) -> Folds:
    """The folds, for w ``[...]`` and w′u ``[...]``.

    y± = (1 ± √(1 − 4/w))/2 and b = ln(y/(1 − y)) − w y − w·w′u.

    >>> [round(float(b), 2) for b in fold_points(5.0).b]
    [-2.34, -2.66]
    """
    w, drive = _numbers(w=w, drive=drive)
    y, v = _fold(w)
    exists = w[..., None] >= 4
    b = v - w[..., None] * (y + drive[..., None])
    x = y + drive[..., None]
    return Folds(
        x=jnp.where(exists, x, jnp.nan),
        b=jnp.where(exists, b, jnp.nan),
    )


def cusp(drive: ArrayLike = 0.0) -> Cusp:
    """The point where both folds coincide: w = 4, y = ½, b = −2 − 4 w′u."""
    (drive,) = _numbers(drive=drive)
    return Cusp(
        w=jnp.full_like(drive, 4),
        b=-2 - 4 * drive,
        x=drive + 0.5,
    )


def neuron_fixed_points(w: ArrayLike, b: ArrayLike, drive: ArrayLike = 0.0) -> NeuronFixedPoints:
    """All fixed points of dx/dt = −x + σ(w x + b) + w′u, to the precision of the floats.

    Between the folds b is a monotone function of x, so bisection finds the fixed point of each
    piece.

    Args:
        w: the recurrent weight.
        b: the bias.
        drive: w′u, the constant input. All three are broadcast to ``[...]``.

    Returns:
        The :class:`NeuronFixedPoints`, with leading axes ``[...]``.

    Raises:
        ValueError: for what cannot be read or broadcast, NaN and infinity.

    >>> neuron_fixed_points(5.0, -2.5).stable.tolist()
    [True, False, True]
    """
    return _fixed_points(*_numbers(w=w, b=b, drive=drive))


def bifurcation_diagram(
    w: float,
    b: tuple[float, float] = (-4.5, -0.5),
    drive: float = 0.0,
    *,
    points: int = 200,
) -> BifurcationDiagram:
    """The branches of fixed points of dx/dt = −x + σ(w x + b) + w′u over a range of b.

    Args:
        w: the recurrent weight, a number; there is one branch for w ≤ 4.
        b: the range, lowest and highest.
        drive: w′u, the constant input, a number.
        points: N for each branch, denser towards its ends, where x changes fastest.

    Returns:
        A :class:`BifurcationDiagram`.

    Raises:
        ValueError: for what is not a number, or an empty range.

    >>> bifurcation_diagram(5.0, points=100).x.shape
    (3, 100)
    """
    lowest, highest = b[0], b[1]
    low, high, weight, shift = _numbers(lowest=lowest, highest=highest, w=w, drive=drive)
    if low.ndim:
        raise ValueError(
            f"w, b and drive broadcast to {low.shape}; give numbers, or put jax.vmap around the "
            "call"
        )
    if not lowest < highest:
        raise ValueError(
            f"b runs from {lowest} to {highest}; give the lowest first and a higher one second"
        )
    return _diagram(low, high, weight, shift, _check.positive_int("points", points))


def neuron_trajectory(
    w: ArrayLike,
    b: ArrayLike,
    times: ArrayLike,
    *,
    x0: ArrayLike = 0.5,
    drive: ArrayLike = 0.0,
) -> Array:
    """x(t) ``[N, ...]`` of dx/dt = −x + σ(w x + b) + w′u.

    The solver is an adaptive Runge–Kutta method (Tsitouras 2011, diffrax). A neuron for which it
    takes more than its 4096 steps, as with a weight of about −1000, gets NaN.

    Args:
        w, b, x0, drive: weight, bias, x(0) and w′u, broadcast to ``[...]``; each neuron is solved
            with its own step sizes.
        times: ``[N]``, rising, from 0 on.

    Raises:
        ImportError: without diffrax, which is in the extra ``dynamics``.
        ValueError: as :func:`neuron_fixed_points` does, and for times that do not rise.
    """
    values = _numbers(w=w, b=b, x0=x0, drive=drive)
    times = _check.array("times", times)
    is_list = times.ndim == 1 and times.size > 0
    if not is_list or (np.diff(times, prepend=0) < 0).any():
        raise ValueError(
            "times must be a list of numbers that rise from 0 on; give them as [N], sorted"
        )
    # Imported here, outside of the compiled call, so that its absence raises a short error.
    _diffrax()
    xs = _trajectory(*values, times.astype(values[0].dtype))
    return jnp.moveaxis(xs, -1, 0)


def geometric_loss(
    w: ArrayLike,
    b: ArrayLike,
    *,
    target: ArrayLike = 0.855,
    time: float = 100.0,
    x0: ArrayLike = 0.5,
    drive: ArrayLike = 0.0,
) -> LossSurface:
    """L = (target − x(T))² with dx/dt = −x + σ(w x + b) + w′u, and ∂L/∂w and ∂L/∂b.

    All in one compiled call. The default target is the upper attractor at w = 5, b = −2.5, where
    x(0) = ½ is on the border between the two: beyond :func:`geometric_wall` x(T) converges to the
    lower one, and the loss jumps. The derivatives of x are solved together with x:
    d(∂x/∂w)/dt = (w σ′ − 1) ∂x/∂w + σ′ x, and with 1 in place of the last x for b.

    Args:
        w, b, target, x0, drive: broadcast to ``[...]``: ``w[:, None]`` and ``b`` give a surface.
        time: T.

    Raises:
        ImportError, ValueError: as :func:`neuron_trajectory` does.
    """
    values = _numbers(w=w, b=b, x0=x0, drive=drive, target=target)
    if not time > 0:
        raise ValueError(f"time is {time}; it must be above 0")
    _diffrax()
    return _geometric(*values, jnp.asarray(time, values[0].dtype))


def pascanu_loss(
    w: ArrayLike,
    b: ArrayLike,
    *,
    target: ArrayLike = 0.7,
    steps: int = 50,
    x0: ArrayLike = 0.5,
) -> LossSurface:
    """E = (σ(x_T) − target)² with xₜ = w σ(xₜ₋₁) + b, and ∂E/∂w and ∂E/∂b, in one compiled call.

    The surface of figure 6 of Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063), there over w in
    [4, 7] and b in [−4.5, −1.5].

    Args:
        w, b, target, x0: broadcast to ``[...]``: ``w[:, None]`` and ``b`` give a surface.
        steps: T.

    Raises:
        ValueError: as :func:`neuron_fixed_points` does, and for steps that are not a whole number.

    >>> import jax.numpy as jnp
    >>> surface = pascanu_loss(jnp.linspace(4, 7, 30)[:, None], jnp.linspace(-4.5, -1.5, 20))
    >>> surface.loss.shape
    (30, 20)
    """
    values = _numbers(w=w, b=b, x0=x0, target=target)
    return _pascanu(*values, _check.positive_int("steps", steps))


def geometric_wall(w: ArrayLike, *, x0: ArrayLike = 0.5, drive: ArrayLike = 0.0) -> Array:
    """b at which x0 is the unstable fixed point, the border between two attractors.

    b = ln(y/(1 − y)) − w x0 with y = x0 − w′u. NaN where there is no wall, since x0 is not unstable
    for any b.

    >>> float(geometric_wall(5.0))
    -2.5
    """
    w, x0, drive = _numbers(w=w, x0=x0, drive=drive)
    y = x0 - drive
    is_unstable = w * y * (1 - y) > 1
    b = jnp.log(y / (1 - y)) - w * x0
    return jnp.where(is_unstable, b, jnp.nan)


def pascanu_wall(w: ArrayLike, *, x0: ArrayLike = 0.5) -> Array:
    """b at which x0 is the unstable fixed point of xₜ = w σ(xₜ₋₁) + b: x0 − w σ(x0).

    NaN where x0 is not unstable.
    """
    w, x0 = _numbers(w=w, x0=x0)
    y = jax.nn.sigmoid(x0)
    is_unstable = w * y * (1 - y) > 1
    b = x0 - w * y
    return jnp.where(is_unstable, b, jnp.nan)


def _numbers(**values: ArrayLike) -> tuple[Array, ...]:
    """The arguments as finite floats of one dtype and one shape."""
    arrays: dict[str, Array] = {}
    for name, value in values.items():
        arrays[name] = _check.array(name, value)
    for name, array in arrays.items():
        _check.finite(name, array)
    # A single number must not widen the dtype of the arrays.
    dtypes = [array.dtype for array in arrays.values() if array.ndim]
    dtype = jnp.result_type(float, *dtypes)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{', '.join(arrays)} are {dtype}, but one neuron is real; give floats")
    floats = [array.astype(dtype) for array in arrays.values()]
    try:
        return tuple(jnp.broadcast_arrays(*floats))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"shapes do not broadcast: {shapes}; give w[:, None] and b for a surface"
        ) from None


def _diffrax() -> Any:
    try:
        import diffrax
    except ImportError:
        raise ImportError(
            "dx/dt is solved by diffrax, which is not installed; pip install 'rnnlab[dynamics]', "
            "or use the plain map of pascanu_loss"
        ) from None
    return diffrax


def _fold(w: Array) -> tuple[Array, Array]:
    """y and v = ln(y/(1 − y)) at both folds, ``[..., 2]``; those of w = 4 for smaller w."""
    w = jnp.maximum(w, 4)
    upper = (1 + jnp.sqrt(1 - 4 / w)) / 2
    # y₋ y₊ = 1/w. The form 1 − y₊ would lose its digits where y₊ is near 1.
    lower = 1 / (w * upper)
    v = jnp.log(upper / lower)
    return jnp.stack([lower, upper], -1), jnp.stack([-v, v], -1)


def _roots(w: Array, beta: Array) -> tuple[Array, Array]:
    """v ``[..., 3]`` with v − w σ(v) = β before, between and behind the folds, and if it exists.

    Where it does not, v is the nearer end of the piece.
    """
    _, v = _fold(w)
    has_folds = w > 4
    turns = v - w[..., None] * jax.nn.sigmoid(v)
    # v = β + w σ(v) lies between β and β + w, which bounds the outer pieces.
    first_start = jnp.minimum(beta, beta + w)
    left = jnp.stack([first_start, v[..., 0], v[..., 1]], -1)
    first_end = jnp.where(has_folds, v[..., 0], jnp.maximum(beta, beta + w))
    right = jnp.stack([first_end, v[..., 1], beta + jnp.abs(w)], -1)
    # The left-hand side falls on the middle piece.
    rising = jnp.array([1, -1, 1], w.dtype)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = ends
        v = (left + right) / 2
        residual = v - w[..., None] * jax.nn.sigmoid(v) - beta[..., None]
        beyond = rising * residual > 0
        return jnp.where(beyond, left, v), jnp.where(beyond, v, right)

    # One halving per bit of the mantissa, and some for the width of the first interval.
    halvings = jnp.finfo(w.dtype).nmant + 10
    left, right = lax.fori_loop(0, halvings, halve, (left, right))
    below = beta <= turns[..., 0]
    above = beta >= turns[..., 1]
    inside = (beta < turns[..., 0]) & (beta > turns[..., 1])
    pieces = [~has_folds | below, has_folds & inside, has_folds & above]
    exists = jnp.stack(pieces, -1)
    return (left + right) / 2, exists


def _eigenvalue(w: Array, v: Array) -> Array:
    return w[..., None] * _sigmoid(v)[1] - 1


@jax.jit
def _fixed_points(w: Array, b: Array, drive: Array) -> NeuronFixedPoints:
    v, exists = _roots(w, b + w * drive)
    eigenvalues = _eigenvalue(w, v)
    x = jax.nn.sigmoid(v) + drive[..., None]
    return NeuronFixedPoints(
        x=jnp.where(exists, x, jnp.nan),
        eigenvalues=jnp.where(exists, eigenvalues, jnp.nan),
        stable=exists & (eigenvalues < 0),
    )


@functools.partial(jax.jit, static_argnames="points")
def _diagram(
    low: Array,
    high: Array,
    w: Array,
    drive: Array,
    points: int,
) -> BifurcationDiagram:
    folds = fold_points(w, drive)
    # NaN where there is no fold: fmin and fmax ignore it, unlike minimum and maximum.
    first, last = folds.b
    starts = [low, jnp.fmax(low, last), jnp.fmax(low, last)]
    start = jnp.stack(starts)
    ends = [jnp.fmin(high, first), jnp.fmin(high, first), high]
    end = jnp.stack(ends)
    exists = (start < end) & (jnp.array([True, False, False]) | (w > 4))
    # Cosine spacing puts more points at the ends, where x has an infinite slope in b.
    angle = jnp.linspace(0, jnp.pi, points, dtype=w.dtype)
    along = (1 - jnp.cos(angle)) / 2
    first_b = jnp.where(exists, start, jnp.nan)[:, None]
    b = first_b + (end - start)[:, None] * along
    branch = jnp.arange(3)
    weights = jnp.full_like(b, w)
    # All three roots are computed for each branch, and each branch takes the one that it follows.
    v = _roots(weights, b + w * drive)[0][branch, :, branch]
    eigenvalues = jnp.where(jnp.isnan(b), jnp.nan, _eigenvalue(w, v))
    x = jnp.where(jnp.isnan(b), jnp.nan, jax.nn.sigmoid(v) + drive)
    stable = jnp.array([True, False, True])
    return BifurcationDiagram(b, x, eigenvalues, stable, folds)


def _solve(rate: Callable[[Any], Any], start: Any, times: Array) -> Any:
    """y(t) of dy/dt = rate(y), for leaves ``[N]``, NaN where the solver gave up."""
    diffrax = _diffrax()
    tolerance = 1e-10 if times.dtype == jnp.float64 else 1e-6

    def field(_: Array, y: Any, __: None) -> Any:
        return rate(y)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=start,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(tolerance, tolerance),
        # One neuron of a surface must not stop all others.
        throw=False,
    )
    succeeded = solution.result == diffrax.RESULTS.successful

    def masked(leaf: Array) -> Array:
        return jnp.where(succeeded, leaf, jnp.nan)

    return jax.tree.map(masked, solution.ys)


@jax.jit
def _trajectory(
    w: Array,
    b: Array,
    x0: Array,
    drive: Array,
    times: Array,
) -> Array:
    def one(
        w: Array,
        b: Array,
        x0: Array,
        drive: Array,
    ) -> Array:
        def rate(x: Array) -> Array:
            return -x + jax.nn.sigmoid(w * x + b) + drive

        return _solve(rate, x0, times)

    return jnp.vectorize(one, signature="(),(),(),()->(n)")(w, b, x0, drive)


@jax.jit
def _geometric(
    w: Array,
    b: Array,
    x0: Array,
    drive: Array,
    target: Array,
    time: Array,
) -> LossSurface:
    def one(
        w: Array,
        b: Array,
        x0: Array,
        drive: Array,
        target: Array,
    ) -> tuple[Array, ...]:
        # x, ∂x/∂w and ∂x/∂b are solved together, so that the step sizes suit all three.
        def rate(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, x_w, x_b = state
            y, slope = _sigmoid(w * x + b)
            dx = -x + y + drive
            dx_w = (w * slope - 1) * x_w + slope * x
            dx_b = (w * slope - 1) * x_b + slope
            return dx, dx_w, dx_b

        zero = jnp.zeros_like(x0)
        solved = _solve(rate, (x0, zero, zero), time[None])
        x, x_w, x_b = (leaf[0] for leaf in solved)
        # L = (target − x(T))².
        back = -2 * (target - x)
        return (target - x) ** 2, back * x_w, back * x_b, x

    each = jnp.vectorize(one, signature="(),(),(),(),()->(),(),(),()")
    return LossSurface(*each(w, b, x0, drive, target))


@functools.partial(jax.jit, static_argnames="steps")
def _pascanu(
    w: Array,
    b: Array,
    x0: Array,
    target: Array,
    steps: int,
) -> LossSurface:
    # xₜ = w σ(xₜ₋₁) + b, and its derivatives.
    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, x_w, x_b = state
        y, slope = _sigmoid(x)
        new_x = w * y + b
        new_x_w = y + w * slope * x_w
        new_x_b = 1 + w * slope * x_b
        return new_x, new_x_w, new_x_b

    start = (x0, jnp.zeros_like(x0), jnp.zeros_like(x0))
    x, x_w, x_b = lax.fori_loop(0, steps, step, start)
    y, slope = _sigmoid(x)
    # E = (σ(x_T) − target)².
    back = 2 * (y - target) * slope
    return LossSurface((y - target) ** 2, back * x_w, back * x_b, x)


def _sigmoid(v: Array) -> tuple[Array, Array]:
    """σ and σ′ = σ(v) σ(−v), which keeps its digits where σ is near 1."""
    return jax.nn.sigmoid(v), jax.nn.sigmoid(v) * jax.nn.sigmoid(-v)
