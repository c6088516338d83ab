"""Boxes that a map sends into themselves, found by interval arithmetic on the map's operations."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from rnnlab.typing import Array

ROUNDS = 64
"""How often a box grows before the search for one ends."""

GROWTH = 0.05
"""How far a box grows beyond its image, relative to its width, doubled each time up to 1."""

OUTWARD = 4
"""Roundings by which bounds are moved outward after an operation."""


class NotEnclosedError(Exception):
    """Raised for an operation without bounds here, or one that is not known to be continuous."""


class Box(NamedTuple):
    """The states between two."""

    lo: np.ndarray  # [n]
    hi: np.ndarray  # [n]


def trapping_box(step: Callable[[Array], Array], start: Box) -> Box | None:
    """A box around ``start`` that ``step`` provably maps into itself; None where none is found.

    By Brouwer's theorem a continuous map of a box into itself has a fixed point in it. The image of
    a box is bounded by interval arithmetic on the operations of ``step``, rounded outward (Moore,
    Kearfott & Cloud 2009, Introduction to Interval Analysis), and the box grows until it contains
    its image. Bounds are those of the map in exact arithmetic with the parameters as they are.

    None proves nothing: the bounds may be too wide, or an operation may not be known here.
    """
    traced = jax.make_jaxpr(step)(start.lo)
    consts = [np.asarray(const) for const in traced.consts]
    lo, hi = start
    with np.errstate(all="ignore"):
        for count in range(ROUNDS):
            try:
                (image,) = _run(traced.jaxpr, consts, [Interval(lo, hi)])
            except NotEnclosedError:
                return None
            low, high = _ends(image)
            if (low >= lo).all() and (high <= hi).all():
                return Box(lo, hi)
            # Beyond the image, since a box that only just holds its image seldom holds the next.
            margin = min(1, GROWTH * 2**count) * (high - low)
            lo = np.where(low < lo, low - margin, lo)
            hi = np.where(high > hi, high + margin, hi)
            if not np.isfinite(hi - lo).all():
                return None
    return None


Origin = tuple[Any, ...]
"""The kind of an operation and its operands, or an empty kind."""


class Interval:
    """Bounds of an array, element by element, and the operation that they come from.

    The operation tells a weighted mean (1 − u) a + u b, with u between 0 and 1, from other sums: it
    lies between a and b, where the sum of the bounds of its terms is wider. Without it no box could
    be found for a GRU.
    """

    def __init__(
        self,
        lo: np.ndarray,
        hi: np.ndarray,
        origin: Origin = ("",),
    ) -> None:
        # NaN comes from ∞ − ∞ and 0 · ∞, where there is no bound.
        self.lo = np.where(np.isnan(lo), -np.inf, lo)
        self.hi = np.where(np.isnan(hi), np.inf, hi)
        self.origin = origin


Value = Interval | np.ndarray
Ends = tuple[np.ndarray, np.ndarray]
Operation = Callable[..., np.ndarray]


def _run(jaxpr: Any, consts: Sequence[Value], args: Sequence[Value]) -> list[Value]:
    """The outputs of a program; values that do not depend on an interval are computed exactly."""
    values: dict[Any, Value] = {}
    values.update(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val)
        return values[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        outputs = _apply(eqn, inputs)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, inputs: list[Value]) -> list[Value]:
    name = eqn.primitive.name
    params = eqn.params
    # Calls come before the check for intervals, since to bind one would compile its program.
    if name in CALLS:
        return _call(params, inputs)
    if name == "split":
        return _split(params, inputs)
    if name in MOVES:
        lo, hi = _each_end(functools.partial(MOVES[name], params), inputs)
        return [_interval(inputs, lo, hi)]
    if not _any_interval(inputs):
        arrays = [np.asarray(value) for value in inputs]
        return list(_constant(eqn, *arrays))
    if name in RISING:
        operation, least, greatest = RISING[name]
        risen = _outward(_rising(operation, inputs))
        # Outward rounding may leave the range of the operation, such as tanh above 1.
        lo = np.clip(risen.lo, least, greatest)
        hi = np.clip(risen.hi, least, greatest)
        return [Interval(lo, hi)]
    if name in RULES:
        return [RULES[name](params, *inputs)]
    raise NotEnclosedError(name)


def _call(params: Any, inputs: list[Value]) -> list[Value]:
    inner = params["call_jaxpr" if "call_jaxpr" in params else "jaxpr"]
    # Some operations hold a closed program with constants, others a bare one without.
    consts = [np.asarray(const) for const in getattr(inner, "consts", ())]
    jaxpr = getattr(inner, "jaxpr", inner)
    return _run(jaxpr, consts, inputs)


def _split(params: Any, inputs: list[Value]) -> list[Value]:
    cuts = np.cumsum(params["sizes"])[:-1]
    lo, hi = _ends(inputs[0])
    lows = np.split(lo, cuts, params["axis"])
    highs = np.split(hi, cuts, params["axis"])
    parts = []
    for low, high in zip(lows, highs, strict=True):
        part = _interval(inputs, low, high)
        parts.append(part)
    return parts


def _constant(eqn: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """Values that do not depend on the state."""
    # By JAX only where it must be, since that compiles each operation.
    name = eqn.primitive.name
    params = eqn.params
    if name in ARITHMETIC:
        return [ARITHMETIC[name](*inputs)]
    if name == "dot_general":
        contracting, batch = params["dimension_numbers"]
        if not any(batch):
            x, y = inputs
            return [np.tensordot(x, y, contracting)]
    outputs = eqn.primitive.bind(*inputs, **params)
    if not eqn.primitive.multiple_results:
        outputs = [outputs]
    return [np.asarray(output) for output in outputs]


ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}

CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "checkpoint",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
)
"""Operations that run an inner program."""


def _broadcast(params: Any, x: np.ndarray) -> np.ndarray:
    shape = params["shape"]
    axes = params["broadcast_dimensions"]
    aligned = [1] * len(shape)
    for axis, length in zip(axes, x.shape, strict=True):
        aligned[axis] = length
    return np.broadcast_to(x.reshape(aligned), shape)


def _convert(params: Any, x: np.ndarray) -> np.ndarray:
    dtype = params["new_dtype"]
    if not jax.numpy.issubdtype(dtype, np.floating):
        raise NotEnclosedError("conversion to whole numbers")
    return x.astype(dtype)


def _pad(params: Any, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    widths = []
    for before, after, inner in params["padding_config"]:
        # NumPy neither crops nor pads between entries.
        if before < 0 or after < 0 or inner:
            raise NotEnclosedError("pad")
        widths.append((before, after))
    return np.pad(x, widths, constant_values=value)


def _slice(params: Any, x: np.ndarray) -> np.ndarray:
    starts = params["start_indices"]
    limits = params["limit_indices"]
    strides = params["strides"] or (1,) * x.ndim
    slices = tuple(map(slice, starts, limits, strides))
    return x[slices]


MOVES: dict[str, Operation] = {
    "broadcast_in_dim": _broadcast,
    "clamp": lambda _, low, x, high: np.clip(x, low, high),
    "concatenate": lambda params, *xs: np.concatenate(xs, params["dimension"]),
    "convert_element_type": _convert,
    "copy": lambda _, x: x,
    "max": lambda _, x, y: np.maximum(x, y),
    "min": lambda _, x, y: np.minimum(x, y),
    "pad": _pad,
    "reduce_max": lambda params, x: x.max(axis=params["axes"]),
    "reduce_min": lambda params, x: x.min(axis=params["axes"]),
    "reshape": lambda params, x: x.reshape(params["new_sizes"]),
    "slice": _slice,
    "squeeze": lambda params, x: x.squeeze(params["dimensions"]),
    "stack": lambda params, *xs: np.stack(xs, params["axis"]),
    "transpose": lambda params, x: x.transpose(params["permutation"]),
}
"""Operations that move or choose numbers: continuous, and nondecreasing in every operand."""


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


RISING: dict[str, tuple[Operation, float, float]] = {
    "exp": (np.exp, 0, np.inf),
    "logistic": (_logistic, 0, 1),
    "tanh": (np.tanh, -1, 1),
}
"""Continuous operations that are nondecreasing in every operand, and the range of each."""


def _ends(value: Value) -> Ends:
    if isinstance(value, Interval):
        return value.lo, value.hi
    return value, value


def _any_interval(inputs: Sequence[Value]) -> bool:
    return any(isinstance(value, Interval) for value in inputs)


def _each_end(operation: Operation, inputs: Sequence[Value]) -> Ends:
    """A nondecreasing operation on all lower bounds, and on all upper ones."""
    lows = []
    highs = []
    for value in inputs:
        low, high = _ends(value)
        lows.append(low)
        highs.append(high)
    return operation(*lows), operation(*highs)


def _rising(operation: Operation, inputs: Sequence[Value]) -> Interval:
    lo, hi = _each_end(operation, inputs)
    return Interval(lo, hi)


def _interval(inputs: Sequence[Value], lo: np.ndarray, hi: np.ndarray) -> Value:
    """An interval where one of the inputs is one."""
    if _any_interval(inputs):
        return Interval(lo, hi)
    return lo


def _outward(
    interval: Interval,
    size: np.ndarray | None = None,
    roundings: int = OUTWARD,
) -> Interval:
    """The interval, wider by some roundings of ``size``, by default of its own bounds."""
    lo = interval.lo
    hi = interval.hi
    low_size = abs(lo) if size is None else size
    high_size = abs(hi) if size is None else size
    precision = roundings * np.finfo(np.float64).eps
    lo = lo - precision * low_size
    hi = hi + precision * high_size
    return Interval(lo, hi, interval.origin)


def _add(_: Any, x: Value, y: Value) -> Interval:
    """x + y; between a and b where it is (1 − u) a + u b or a + u (b − a) with 0 ≤ u ≤ 1."""
    total = _outward(_rising(np.add, [x, y]))
    mean = _weighted_mean(x, y) or _weighted_mean(y, x)
    if mean is None:
        return total
    u, a, b = mean
    a_lo, a_hi = _ends(a)
    b_lo, b_hi = _ends(b)
    # Element by element: only some of the weights may be bounded by 0 and 1.
    bounded = (u.lo >= 0) & (u.hi <= 1)
    smallest = np.minimum(a_lo, b_lo)
    largest = np.maximum(a_hi, b_hi)
    lo = np.where(bounded, smallest, total.lo)
    hi = np.where(bounded, largest, total.hi)
    return Interval(lo, hi)


def _weighted_mean(x: Value, y: Value) -> tuple[Interval, Value, Value] | None:
    """u, a and b where y is u b and x is (1 − u) a, or y is u (b − a) and x is a."""
    # Compared by identity: two intervals with the same bounds are not the same number.
    for u, b in _factors(y):
        if not isinstance(u, Interval):
            continue
        kind, *terms = _origin(b)
        if kind == "difference" and terms[1] is x:
            return u, x, terms[0]
        for complement, a in _factors(x):
            kind, *terms = _origin(complement)
            if kind == "complement" and terms[0] is u:
                return u, a, b
    return None


def _origin(value: Value) -> Origin:
    if isinstance(value, Interval):
        return value.origin
    return ("",)


def _factors(x: Value) -> list[tuple[Value, Value]]:
    """The two factors of a product, in either order."""
    kind, *terms = _origin(x)
    if kind != "product":
        return []
    first, second = terms
    return [(first, second), (second, first)]


def _subtract(_: Any, x: Value, y: Value) -> Interval:
    x_lo, x_hi = _ends(x)
    y_lo, y_hi = _ends(y)
    from_one = isinstance(x, np.ndarray) and (x == 1).all()
    origin: Origin = ("complement", y) if from_one else ("difference", x, y)
    lo = x_lo - y_hi
    hi = x_hi - y_lo
    return _outward(Interval(lo, hi, origin))


def _multiply(_: Any, x: Value, y: Value) -> Interval:
    # A square is not negative, which the product of two independent intervals can be.
    if x is y and isinstance(x, Interval):
        return _even(np.square, x)
    x_lo, x_hi = _ends(x)
    y_lo, y_hi = _ends(y)
    products = [
        x_lo * y_lo,
        x_lo * y_hi,
        x_hi * y_lo,
        x_hi * y_hi,
    ]
    corners = np.stack(np.broadcast_arrays(*products))
    lo = corners.min(axis=0)
    hi = corners.max(axis=0)
    return _outward(Interval(lo, hi, ("product", x, y)))


def _even(power: Callable[[np.ndarray], np.ndarray], x: Interval) -> Interval:
    low = power(x.lo)
    high = power(x.hi)
    across = (x.lo < 0) & (x.hi > 0)
    lo = np.minimum(low, high)
    hi = np.maximum(low, high)
    # An even power falls and rises again where the interval contains zero.
    lo = np.where(across, 0, lo)
    return _outward(Interval(lo, hi))


def _power(params: Any, x: Interval) -> Interval:
    exponent = params.get("y", 2)
    if exponent < 0:
        raise NotEnclosedError("negative power")

    def power(x: np.ndarray) -> np.ndarray:
        return x**exponent

    if exponent % 2 == 0:
        return _even(power, x)
    return _outward(_rising(power, [x]))


def _divide(params: Any, x: Value, y: Value) -> Interval:
    lo, hi = _ends(y)
    if ((lo <= 0) & (hi >= 0)).any():
        raise NotEnclosedError("division by zero")
    inverse = _outward(Interval(1 / hi, 1 / lo))
    return _multiply(params, x, inverse)


def _root(_: Any, x: Interval) -> Interval:
    if (x.lo < 0).any():
        raise NotEnclosedError("root of a negative number")
    return _outward(_rising(np.sqrt, [x]))


def _inverse_root(params: Any, x: Interval) -> Interval:
    root = _root(params, x)
    return _divide(params, np.ones_like(root.lo), root)


def _total(params: Any, x: Interval) -> Interval:
    axes = tuple(params["axes"])

    def total(x: np.ndarray) -> np.ndarray:
        return x.sum(axis=axes)

    # Terms that cancel leave a small sum with the rounding of large terms.
    largest = np.maximum(abs(x.lo), abs(x.hi))
    roundings = OUTWARD * x.lo.size
    return _outward(_rising(total, [x]), total(largest), roundings)


def _dot(params: Any, x: Value, y: Value) -> Interval:
    """|x y − x₀ y₀| ≤ r |y| + |x₀| s for x within r of x₀ and y within s of y₀."""
    axes, batch = params["dimension_numbers"]
    if any(batch):
        raise NotEnclosedError("batched product")
    x_mid, x_half = _centred(x)
    y_mid, y_half = _centred(y)
    y_size = abs(y_mid) + y_half
    middle = np.tensordot(x_mid, y_mid, axes)
    from_x = np.tensordot(x_half, y_size, axes)
    from_y = np.tensordot(abs(x_mid), y_half, axes)
    half = from_x + from_y
    x_size = abs(x_mid) + x_half
    size = np.tensordot(x_size, y_size, axes)
    product = Interval(middle - half, middle + half)
    roundings = OUTWARD * x_mid.size
    return _outward(product, size, roundings)


def _centred(x: Value) -> tuple[np.ndarray, np.ndarray]:
    """The middle of an interval, and half its width, rounded up."""
    lo, hi = _ends(x)
    # Not half of lo + hi, which may overflow.
    middle = 0.5 * lo + 0.5 * hi
    half = np.maximum(hi - middle, middle - lo)
    return middle, half * (1 + 1e-15)


RULES: dict[str, Callable[..., Interval]] = {
    "add": _add,
    "add_any": _add,
    "div": _divide,
    "dot_general": _dot,
    "integer_pow": _power,
    "mul": _multiply,
    "neg": lambda _, x: Interval(-x.hi, -x.lo),
    "reduce_sum": _total,
    "rsqrt": _inverse_root,
    "sqrt": _root,
    "square": _power,
    "sub": _subtract,
}
"""Other continuous operations; each rule takes the operation's parameters and its operands."""
