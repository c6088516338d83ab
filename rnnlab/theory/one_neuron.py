"""One neuron: its fixed points, where they meet, and the wall that this builds into the loss.

    dx/dt = −x + σ(w x + b) + w′u          in continuous time, with a constant drive w′u
    xₜ = w σ(xₜ₋₁) + b                      in steps, as in Pascanu, Mikolov & Bengio 2013

In continuous time y = x − w′u rests where b + w·w′u = ln(y/(1 − y)) − w y. With v = ln(y/(1 − y)) that is a function of
v with at most two turning points, the folds, and one fixed point at most before, between and behind them.
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
    """Where two fixed points meet and vanish: first the lower with the middle one, then the upper with the middle one.

    NaN for w < 4, where there are none.

    Attributes:
        x: ``[..., 2]``, rising.
        b: ``[..., 2]``: the lower one is there below the first b, the upper one above the second;
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
    """The lower, the middle and the upper fixed point, NaN where there is none; for w ≤ 4 the only one is lower.

    Attributes:
        x: ``[..., 3]``.
        eigenvalues: −1 + w y (1 − y) ``[..., 3]``, per unit of time: how fast a small push grows
            (positive) or dies away.
        stable: ``[..., 3]``, whether it is there and dies away.
    """

    x: Array
    eigenvalues: Array
    stable: Array


@result
class BifurcationDiagram(NamedTuple):
    """The lower, the middle and the upper branch of fixed points over b, ending exactly in the folds.

    Attributes:
        b: ``[3, N]``, rising; NaN for a branch that is not there in the range.
        x: ``[3, N]``.
        eigenvalues: ``[3, N]``, per unit of time.
        stable: ``[3]``: the middle branch is not.
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
        state: x at the end; NaN, as the rest, where the solver gave up.
    """

    loss: Array
    d_w: Array
    d_b: Array
    state: Array


def fold_points(w: ArrayLike, drive: ArrayLike = 0.0) -> Folds:
    """The folds at y± = (1 ± √(1 − 4/w))/2 and b = ln(y/(1 − y)) − w y − w·w′u, for w ``[...]`` and w′u ``[...]``."""
    w, drive = _numbers(w=w, drive=drive)
    y, v = _fold(w)
    there = w[..., None] >= 4
    b = v - w[..., None] * (y + drive[..., None])
    return Folds(*(jnp.where(there, value, jnp.nan) for value in (y + drive[..., None], b)))


def cusp(drive: ArrayLike = 0.0) -> Cusp:
    """Where both folds are one: w = 4, y = ½, b = −2 − 4 w′u."""
    (drive,) = _numbers(drive=drive)
    return Cusp(jnp.full_like(drive, 4), -2 - 4 * drive, drive + 0.5)


def neuron_fixed_points(w: ArrayLike, b: ArrayLike, drive: ArrayLike = 0.0) -> NeuronFixedPoints:
    """All fixed points of dx/dt = −x + σ(w x + b) + w′u, to the precision of the floats.

    Between the folds b is a monotone function of x, so each piece is halved until nothing is left of it.

    Args:
        w: the recurrent weight.
        b: the bias.
        drive: w′u, what a constant input adds. All three are broadcast to ``[...]``.

    Returns:
        The :class:`NeuronFixedPoints`, with leading axes ``[...]``.

    Raises:
        ValueError: for what cannot be read or broadcast, NaN and infinity.
    """
    return _fixed_points(*_numbers(w=w, b=b, drive=drive))


def bifurcation_diagram(
    w: float, b: tuple[float, float] = (-4.5, -0.5), drive: float = 0.0, *, points: int = 200
) -> BifurcationDiagram:
    """The branches of fixed points of dx/dt = −x + σ(w x + b) + w′u over a range of b.

    Args:
        w: the recurrent weight, a number; there is one branch for w ≤ 4.
        b: the range, lowest and highest.
        drive: w′u, what a constant input adds, a number.
        points: N for each branch, closer to each other towards its ends, where x turns fastest.

    Returns:
        A :class:`BifurcationDiagram`.

    Raises:
        ValueError: for what is not a number, or an empty range.
    """
    low, high, weight, shift = _numbers(lowest=b[0], highest=b[1], w=w, drive=drive)
    if low.ndim:
        raise ValueError(
            f"w, b and drive broadcast to {low.shape}; give numbers, or put jax.vmap around the call"
        )
    if not b[0] < b[1]:
        raise ValueError(
            f"b runs from {b[0]} to {b[1]}; give the lowest first and a higher one second"
        )
    return _diagram(low, high, weight, shift, _check.positive_int("points", points))


def neuron_trajectory(
    w: ArrayLike, b: ArrayLike, times: ArrayLike, *, x0: ArrayLike = 0.5, drive: ArrayLike = 0.0
) -> Array:
    """x(t) ``[N, ...]`` of dx/dt = −x + σ(w x + b) + w′u, by an adaptive Runge–Kutta method (Tsitouras 2011, diffrax).

    A neuron for which the solver takes more than its 4096 steps, as with a weight of some −1000, gets NaN.

    Args:
        w, b, x0, drive: weight, bias, x(0) and w′u, broadcast to ``[...]``; each is solved with steps of its own.
        times: ``[N]``, rising, from 0 on.

    Raises:
        ImportError: without diffrax, which is in the extra ``dynamics``.
        ValueError: as :func:`neuron_fixed_points` does, and for times that do not rise.
    """
    numbers = _numbers(w=w, b=b, x0=x0, drive=drive)
    times = _check.array("times", times)
    if times.ndim != 1 or not times.size or (np.diff(times, prepend=0) < 0).any():
        raise ValueError(
            "times must be a list of numbers that rise from 0 on; give them as [N], sorted"
        )
    _diffrax()
    return jnp.moveaxis(_trajectory(*numbers, times.astype(numbers[0].dtype)), -1, 0)


def geometric_loss(
    w: ArrayLike,
    b: ArrayLike,
    *,
    target: ArrayLike = 0.855,
    time: float = 100.0,
    x0: ArrayLike = 0.5,
    drive: ArrayLike = 0.0,
) -> LossSurface:
    """L = (target − x(T))² with dx/dt = −x + σ(w x + b) + w′u, and ∂L/∂w and ∂L/∂b, in one compiled call.

    The default target is the upper attractor at w = 5, b = −2.5, where x(0) = ½ stands on the border between the two:
    beyond :func:`geometric_wall` x(T) comes to the lower one, and the loss leaps. The derivatives of x are solved
    beside it: d(∂x/∂w)/dt = (w σ′ − 1) ∂x/∂w + σ′ x, and with 1 in place of the last x for b.

    Args:
        w, b, target, x0, drive: broadcast to ``[...]``: ``w[:, None]`` and ``b`` give a surface.
        time: T.

    Raises:
        ImportError, ValueError: as :func:`neuron_trajectory` does.
    """
    numbers = _numbers(w=w, b=b, x0=x0, drive=drive, target=target)
    if not time > 0:
        raise ValueError(f"time is {time}; it must be above 0")
    _diffrax()
    return _geometric(*numbers, jnp.asarray(time, numbers[0].dtype))


def pascanu_loss(
    w: ArrayLike, b: ArrayLike, *, target: ArrayLike = 0.7, steps: int = 50, x0: ArrayLike = 0.5
) -> LossSurface:
    """E = (σ(x_T) − target)² with xₜ = w σ(xₜ₋₁) + b, and ∂E/∂w and ∂E/∂b, in one compiled call.

    The surface of figure 6 of Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063), there over w in [4, 7] and b in
    [−4.5, −1.5].

    Args:
        w, b, target, x0: broadcast to ``[...]``: ``w[:, None]`` and ``b`` give a surface.
        steps: T.

    Raises:
        ValueError: as :func:`neuron_fixed_points` does, and for steps that are not a whole number.
    """
    return _pascanu(*_numbers(w=w, b=b, x0=x0, target=target), _check.positive_int("steps", steps))


def geometric_wall(w: ArrayLike, *, x0: ArrayLike = 0.5, drive: ArrayLike = 0.0) -> Array:
    """b at which x0 is the unstable fixed point, the border between two attractors: ln(y/(1 − y)) − w x0, y = x0 − w′u.

    NaN where there is no wall, since x0 is not unstable for any b.
    """
    w, x0, drive = _numbers(w=w, x0=x0, drive=drive)
    y = x0 - drive
    return jnp.where(w * y * (1 - y) > 1, jnp.log(y / (1 - y)) - w * x0, jnp.nan)


def pascanu_wall(w: ArrayLike, *, x0: ArrayLike = 0.5) -> Array:
    """b at which x0 is the unstable fixed point of xₜ = w σ(xₜ₋₁) + b: x0 − w σ(x0); NaN where it is not unstable."""
    w, x0 = _numbers(w=w, x0=x0)
    y = jax.nn.sigmoid(x0)
    return jnp.where(w * y * (1 - y) > 1, x0 - w * y, jnp.nan)


def _numbers(**given: ArrayLike) -> tuple[Array, ...]:
    """The arguments as finite floats of one dtype and one shape."""
    arrays = {name: _check.array(name, value) for name, value in given.items()}
    for name, value in arrays.items():
        _check.finite(name, value)
    dtype = jnp.result_type(float, *[value.dtype for value in arrays.values() if value.ndim])
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{', '.join(arrays)} are {dtype}, but one neuron is real; give floats")
    try:
        return tuple(jnp.broadcast_arrays(*(value.astype(dtype) for value in arrays.values())))
    except ValueError:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in arrays.items())
        raise ValueError(
            f"shapes do not broadcast: {shapes}; give w[:, None] and b for a surface"
        ) from None


def _diffrax() -> Any:
    try:
        import diffrax
    except ImportError:
        raise ImportError(
            "dx/dt is solved by diffrax, which is not installed; pip install 'rnnlab[dynamics]', or use the plain map "
            "of pascanu_loss"
        ) from None
    return diffrax


def _fold(w: Array) -> tuple[Array, Array]:
    """y and v = ln(y/(1 − y)) at both folds, ``[..., 2]``; those of w = 4 for smaller w."""
    w = jnp.maximum(w, 4)
    upper = (1 + jnp.sqrt(1 - 4 / w)) / 2
    lower = 1 / (w * upper)  # y₋ y₊ = 1/w; unlike 1 − y₊ it loses no digits
    v = jnp.log(upper / lower)
    return jnp.stack([lower, upper], -1), jnp.stack([-v, v], -1)


def _roots(w: Array, beta: Array) -> tuple[Array, Array]:
    """v ``[..., 3]`` with v − w σ(v) = β before, between and behind the folds, and whether it is there.

    Where it is not, v is the end of the piece that is nearer to one.
    """
    _, v = _fold(w)
    several = w > 4
    turns = v - w[..., None] * jax.nn.sigmoid(v)
    left = jnp.stack([jnp.minimum(beta, beta + w), v[..., 0], v[..., 1]], -1)
    right = jnp.stack(
        [jnp.where(several, v[..., 0], jnp.maximum(beta, beta + w)), v[..., 1], beta + jnp.abs(w)],
        -1,
    )
    rising = jnp.array([1, -1, 1], w.dtype)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = ends
        v = (left + right) / 2
        beyond = rising * (v - w[..., None] * jax.nn.sigmoid(v) - beta[..., None]) > 0
        return jnp.where(beyond, left, v), jnp.where(beyond, v, right)

    left, right = lax.fori_loop(0, jnp.finfo(w.dtype).nmant + 10, halve, (left, right))
    below, above = beta <= turns[..., 0], beta >= turns[..., 1]
    inside = (beta < turns[..., 0]) & (beta > turns[..., 1])
    there = jnp.stack([~several | below, several & inside, several & above], -1)
    return (left + right) / 2, there


def _eigenvalue(w: Array, v: Array) -> Array:
    return w[..., None] * _sigmoid(v)[1] - 1


@jax.jit
def _fixed_points(w: Array, b: Array, drive: Array) -> NeuronFixedPoints:
    v, there = _roots(w, b + w * drive)
    values = _eigenvalue(w, v)
    x = jax.nn.sigmoid(v) + drive[..., None]
    return NeuronFixedPoints(
        jnp.where(there, x, jnp.nan), jnp.where(there, values, jnp.nan), there & (values < 0)
    )


@functools.partial(jax.jit, static_argnames="points")
def _diagram(low: Array, high: Array, w: Array, drive: Array, points: int) -> BifurcationDiagram:
    folds = fold_points(w, drive)
    first, last = folds.b  # NaN where there is no fold: fmin and fmax pass over it
    start = jnp.stack([low, jnp.fmax(low, last), jnp.fmax(low, last)])
    end = jnp.stack([jnp.fmin(high, first), jnp.fmin(high, first), high])
    there = (start < end) & (jnp.array([True, False, False]) | (w > 4))
    along = (1 - jnp.cos(jnp.linspace(0, jnp.pi, points, dtype=w.dtype))) / 2
    b = jnp.where(there, start, jnp.nan)[:, None] + (end - start)[:, None] * along
    branch = jnp.arange(3)
    weights = jnp.full_like(b, w)
    v = _roots(weights, b + w * drive)[0][branch, :, branch]
    values = jnp.where(jnp.isnan(b), jnp.nan, _eigenvalue(w, v))
    x = jnp.where(jnp.isnan(b), jnp.nan, jax.nn.sigmoid(v) + drive)
    return BifurcationDiagram(b, x, values, jnp.array([True, False, True]), folds)


def _solve(rate: Callable[[Any], Any], start: Any, times: Array) -> Any:
    """y(t) of dy/dt = rate(y), for leaves ``[N]``, NaN where the solver gave up."""
    diffrax = _diffrax()
    tolerance = 1e-10 if times.dtype == jnp.float64 else 1e-6
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda _, y, __: rate(y)),
        diffrax.Tsit5(),
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=start,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(tolerance, tolerance),
        throw=False,
    )
    found = solution.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda leaf: jnp.where(found, leaf, jnp.nan), solution.ys)


@jax.jit
def _trajectory(w: Array, b: Array, x0: Array, drive: Array, times: Array) -> Array:
    def one(w: Array, b: Array, x0: Array, drive: Array) -> Array:
        return _solve(lambda x: -x + jax.nn.sigmoid(w * x + b) + drive, x0, times)

    return jnp.vectorize(one, signature="(),(),(),()->(n)")(w, b, x0, drive)


@jax.jit
def _geometric(
    w: Array, b: Array, x0: Array, drive: Array, target: Array, time: Array
) -> LossSurface:
    def one(w: Array, b: Array, x0: Array, drive: Array, target: Array) -> LossSurface:
        def rate(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, x_w, x_b = (
                state  # x, ∂x/∂w and ∂x/∂b, which are solved together so that the steps suit all three
            )
            y, slope = _sigmoid(w * x + b)
            return -x + y + drive, (w * slope - 1) * x_w + slope * x, (w * slope - 1) * x_b + slope

        zero = jnp.zeros_like(x0)
        x, x_w, x_b = (leaf[0] for leaf in _solve(rate, (x0, zero, zero), time[None]))
        back = -2 * (target - x)
        return LossSurface((target - x) ** 2, back * x_w, back * x_b, x)  # L = (target − x(T))²

    each = jnp.vectorize(
        lambda *numbers: tuple(one(*numbers)), signature="(),(),(),(),()->(),(),(),()"
    )
    return LossSurface(*each(w, b, x0, drive, target))


@functools.partial(jax.jit, static_argnames="steps")
def _pascanu(w: Array, b: Array, x0: Array, target: Array, steps: int) -> LossSurface:
    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, x_w, x_b = state
        y, slope = _sigmoid(x)
        return (
            w * y + b,
            y + w * slope * x_w,
            1 + w * slope * x_b,
        )  # xₜ = w σ(xₜ₋₁) + b, and its derivatives

    x, x_w, x_b = lax.fori_loop(0, steps, step, (x0, jnp.zeros_like(x0), jnp.zeros_like(x0)))
    y, slope = _sigmoid(x)
    back = 2 * (y - target) * slope
    return LossSurface((y - target) ** 2, back * x_w, back * x_b, x)  # E = (σ(x_T) − target)²


def _sigmoid(v: Array) -> tuple[Array, Array]:
    """σ and σ′ = σ(v) σ(−v), which keeps its digits where σ is near 1."""
    return jax.nn.sigmoid(v), jax.nn.sigmoid(v) * jax.nn.sigmoid(-v)
