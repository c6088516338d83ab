"""Boxes that a map sends into themselves, found by interval arithmetic on the map's operations."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from rnnlab.typing import Array

ROUNDS = 64
"""How often a box grows before it is given up."""

GROWTH = 0.05
"""By how much of its width a box grows beyond what leaves it, doubled each time, up to all of it."""

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

    By Brouwer's theorem a continuous map of a box into itself has a fixed point in it. The image of a box is bounded by
    interval arithmetic on the operations of ``step``, rounded outward (Moore, Kearfott & Cloud 2009, Introduction to
    Interval Analysis), and the box grows until it holds its image. Bounds are those of the map in exact arithmetic
    with the parameters as they are.

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
            more = min(1, GROWTH * 2**count) * (high - low)
            lo, hi = np.where(low < lo, low - more, lo), np.where(high > hi, high + more, hi)
            if not np.isfinite(hi - lo).all():
                return None
    return None


class Interval:
    """Bounds of an array, element by element, and what it was made of.

    The latter tells a weighted mean (1 − u) a + u b, with u between 0 and 1, from other sums: it lies between a and b,
    where bounds of its two terms add up to more. Without it no box could be found for a GRU.
    """

    def __init__(self, lo: np.ndarray, hi: np.ndarray, made: tuple[Any, ...] = ("",)) -> None:
        # NaN comes of ∞ − ∞ and 0 · ∞, where there is no bound.
        self.lo = np.where(np.isnan(lo), -np.inf, lo)
        self.hi = np.where(np.isnan(hi), np.inf, hi)
        self.made = made


Value = Interval | np.ndarray


def _run(jaxpr: Any, consts: Sequence[Value], args: Sequence[Value]) -> list[Value]:
    """The outputs of a program; what does not depend on an interval is computed as it is."""
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Value:
        return np.asarray(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        values.update(zip(eqn.outvars, _apply(eqn, inputs), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, inputs: list[Value]) -> list[Value]:
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS:
        inner = params["call_jaxpr" if "call_jaxpr" in params else "jaxpr"]
        consts = [np.asarray(const) for const in getattr(inner, "consts", ())]
        return _run(getattr(inner, "jaxpr", inner), consts, inputs)
    if name == "split":
        cuts = np.cumsum(params["sizes"])[:-1]
        lo, hi = (np.split(end, cuts, params["axis"]) for end in _ends(inputs[0]))
        return [_interval(inputs, *ends) for ends in zip(lo, hi, strict=True)]
    if name in MOVES:
        lo, hi = (MOVES[name](params, *ends) for ends in zip(*map(_ends, inputs), strict=True))
        return [_interval(inputs, lo, hi)]
    if not any(isinstance(value, Interval) for value in inputs):
        return list(_constant(eqn, *map(np.asarray, inputs)))
    if name in RISING:
        operation, least, greatest = RISING[name]
        risen = _outward(_rising(operation, inputs))
        return [Interval(np.clip(risen.lo, least, greatest), np.clip(risen.hi, least, greatest))]
    if name in RULES:
        return [RULES[name](params, *inputs)]
    raise NotEnclosedError(name)


def _constant(eqn: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """What does not depend on the state; by JAX, which compiles each operation, only where it must be."""
    name, params = eqn.primitive.name, eqn.params
    if name in ARITHMETIC:
        return [ARITHMETIC[name](*inputs)]
    if name == "dot_general" and not any(params["dimension_numbers"][1]):
        x, y = inputs
        return [np.tensordot(x, y, params["dimension_numbers"][0])]
    made = eqn.primitive.bind(*inputs, **params)
    return [np.asarray(part) for part in (made if eqn.primitive.multiple_results else [made])]


ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}

CALLS = ("jit", "pjit", "closed_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call")
"""Operations that run a program of their own."""


def _broadcast(params: Any, x: np.ndarray) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for axis, length in zip(params["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = length
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _convert(params: Any, x: np.ndarray) -> np.ndarray:
    if not jax.numpy.issubdtype(params["new_dtype"], np.floating):
        raise NotEnclosedError("conversion to whole numbers")
    return x.astype(params["new_dtype"])


def _pad(params: Any, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    widths = [(before, after) for before, after, _ in params["padding_config"]]
    if any(before < 0 or after < 0 for before, after in widths) or any(
        inner for _, _, inner in params["padding_config"]
    ):
        raise NotEnclosedError("pad")
    return np.pad(x, widths, constant_values=value)


def _slice(params: Any, x: np.ndarray) -> np.ndarray:
    strides = params["strides"] or (1,) * x.ndim
    ends = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*along) for along in ends)]


MOVES: dict[str, Callable[..., np.ndarray]] = {
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
"""Operations that move or choose numbers: continuous, and nowhere falling in any operand."""


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


RISING: dict[str, tuple[Callable[..., np.ndarray], float, float]] = {
    "exp": (np.exp, 0, np.inf),
    "logistic": (_logistic, 0, 1),
    "tanh": (np.tanh, -1, 1),
}
"""Continuous operations that fall in no operand, and the range of each."""


def _ends(value: Value) -> tuple[np.ndarray, np.ndarray]:
    return (value.lo, value.hi) if isinstance(value, Interval) else (value, value)


def _rising(operation: Callable[..., np.ndarray], inputs: Sequence[Value]) -> Interval:
    """Lower bounds give the lower bound, and upper bounds the upper one."""
    lo, hi = (operation(*ends) for ends in zip(*map(_ends, inputs), strict=True))
    return Interval(lo, hi)


def _interval(inputs: Sequence[Value], lo: np.ndarray, hi: np.ndarray) -> Value:
    """An interval where one of the inputs is one."""
    return Interval(lo, hi) if any(isinstance(value, Interval) for value in inputs) else lo


def _outward(
    interval: Interval, size: np.ndarray | None = None, roundings: int = OUTWARD
) -> Interval:
    """The interval, wider by some roundings of ``size``, by default of its own bounds."""
    lo, hi = interval.lo, interval.hi
    below, above = (abs(lo), abs(hi)) if size is None else (size, size)
    precision = roundings * np.finfo(np.float64).eps
    return Interval(lo - precision * below, hi + precision * above, interval.made)


def _add(_: Any, x: Value, y: Value) -> Interval:
    """x + y, where it is (1 − u) a + u b or a + u (b − a) with u between 0 and 1: between a and b."""
    total = _outward(_rising(np.add, [x, y]))
    parts = _parts(x, y) or _parts(y, x)
    if parts is None:
        return total
    u, a, b = parts
    (a_lo, a_hi), (b_lo, b_hi) = _ends(a), _ends(b)
    mean = (u.lo >= 0) & (u.hi <= 1)
    lo, hi = np.minimum(a_lo, b_lo), np.maximum(a_hi, b_hi)
    return Interval(np.where(mean, lo, total.lo), np.where(mean, hi, total.hi))


def _parts(x: Value, y: Value) -> tuple[Interval, Value, Value] | None:
    """u, a and b of a weighted mean."""
    for weight, b in _factors(y):
        if not isinstance(weight, Interval):
            continue
        kind, *terms = _made(b)
        if kind == "difference" and terms[1] is x:
            return weight, x, terms[0]
        for other, a in _factors(x):
            kind, *terms = _made(other)
            if kind == "complement" and terms[0] is weight:
                return weight, a, b
    return None


def _made(value: Value) -> tuple[Any, ...]:
    return value.made if isinstance(value, Interval) else ("",)


def _factors(x: Value) -> list[tuple[Value, Value]]:
    """The two factors of a product, in either order."""
    kind, *terms = _made(x)
    return [(terms[0], terms[1]), (terms[1], terms[0])] if kind == "product" else []


def _subtract(_: Any, x: Value, y: Value) -> Interval:
    (x_lo, x_hi), (y_lo, y_hi) = _ends(x), _ends(y)
    one = isinstance(x, np.ndarray) and (x == 1).all()
    made = ("complement", y) if one else ("difference", x, y)
    return _outward(Interval(x_lo - y_hi, x_hi - y_lo, made))


def _multiply(_: Any, x: Value, y: Value) -> Interval:
    if x is y and isinstance(x, Interval):
        return _even(np.square, x)
    corners = np.stack(np.broadcast_arrays(*(a * b for a in _ends(x) for b in _ends(y))))
    return _outward(Interval(corners.min(axis=0), corners.max(axis=0), ("product", x, y)))


def _even(power: Callable[[np.ndarray], np.ndarray], x: Interval) -> Interval:
    low, high = power(x.lo), power(x.hi)
    across = (x.lo < 0) & (x.hi > 0)
    return _outward(Interval(np.where(across, 0, np.minimum(low, high)), np.maximum(low, high)))


def _power(params: Any, x: Interval) -> Interval:
    exponent = params.get("y", 2)
    if exponent < 0:
        raise NotEnclosedError("negative power")

    def power(x: np.ndarray) -> np.ndarray:
        return x**exponent

    return _even(power, x) if exponent % 2 == 0 else _outward(_rising(power, [x]))


def _divide(params: Any, x: Value, y: Value) -> Interval:
    lo, hi = _ends(y)
    if ((lo <= 0) & (hi >= 0)).any():
        raise NotEnclosedError("division by zero")
    return _multiply(params, x, _outward(Interval(1 / hi, 1 / lo)))


def _root(_: Any, x: Interval) -> Interval:
    if (x.lo < 0).any():
        raise NotEnclosedError("root of a negative number")
    return _outward(_rising(np.sqrt, [x]))


def _inverse_root(params: Any, x: Interval) -> Interval:
    root = _root(params, x)
    return _divide(params, np.ones_like(root.lo), root)


def _total(params: Any, x: Interval) -> Interval:
    axes = tuple(params["axes"])
    size = np.maximum(abs(x.lo), abs(x.hi)).sum(axis=axes)
    return _outward(_rising(lambda x: x.sum(axis=axes), [x]), size, OUTWARD * x.lo.size)


def _dot(params: Any, x: Value, y: Value) -> Interval:
    """|x y − x₀ y₀| ≤ r |y| + |x₀| s for x within r of x₀ and y within s of y₀."""
    axes, batch = params["dimension_numbers"]
    if any(batch):
        raise NotEnclosedError("batched product")
    (x_mid, x_half), (y_mid, y_half) = _centred(x), _centred(y)
    y_size = abs(y_mid) + y_half
    middle = np.tensordot(x_mid, y_mid, axes)
    half = np.tensordot(x_half, y_size, axes) + np.tensordot(abs(x_mid), y_half, axes)
    size = np.tensordot(abs(x_mid) + x_half, y_size, axes)
    return _outward(Interval(middle - half, middle + half), size, OUTWARD * x_mid.size)


def _centred(x: Value) -> tuple[np.ndarray, np.ndarray]:
    """The middle of an interval, and half its width, rounded up."""
    lo, hi = _ends(x)
    middle = 0.5 * lo + 0.5 * hi
    return middle, np.maximum(hi - middle, middle - lo) * (1 + 1e-15)


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
"""Continuous operations with a rule of their own; each takes the parameters of the operation, and its operands."""
