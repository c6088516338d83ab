"""The base of the cells: their shared options, and a step split into project, mix and gate."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check, initializers
from rnnlab.typing import Array, Dtype, Initializer, Key, PyTree

Activation = str | Callable[[Array], Array]


def identity(x: Array) -> Array:
    """x itself; the activation of a linear network."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": identity,
}


# As functions of y: a forward pass keeps its outputs anyway, but not the sums that entered φ.
_SLOPES: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: 1 - y * y,
    "relu": lambda y: (y > 0).astype(y.dtype),
    "sigmoid": lambda y: y * (1 - y),
    "identity": jnp.ones_like,
}


def slope(phi: Activation) -> Callable[[Array], Array] | None:
    """φ′(x) as a function of y = φ(x), for the activations that have a name; None for others."""
    return _SLOPES.get(phi) if isinstance(phi, str) else None


def activation(value: Activation) -> Activation:
    """The name of an activation, or the function itself where it has no name.

    ValueError for an unknown name. A cell keeps the name, so that it prints, compares and pickles
    by it.
    """
    # jnp.tanh given as a function becomes its name too, so that the fast passes know its slope.
    for name, phi in ACTIVATIONS.items():
        if value is phi:
            return name
    if not callable(value):
        _check.one_of("activation", value, tuple(ACTIVATIONS))
    return value


def activation_function(phi: Activation) -> Callable[[Array], Array]:
    """The function that a cell's ``activation`` stands for."""
    return ACTIVATIONS[phi] if isinstance(phi, str) else phi


class Maps(NamedTuple):
    """The two linear maps of a cell with ``project`` x W_x + b and ``mix`` h W_h + c.

    Attributes:
        w_x: ``[I, G]``.
        w_h: ``[H, G']``, G' ≤ G.
        b: ``[G]``; None without a bias.
        c: ``[C]``, for the last C of the G' columns; None without a second bias.
        joint: how many columns, from the first on, enter ``gate`` only as the sum z + a.
    """

    w_x: Array
    w_h: Array
    b: Array | None
    c: Array | None
    joint: int


Blocks = tuple[Array, ...]
"""Columns of a product by gate, ``[..., H]`` each: faster on a CPU than slices of one array."""


class Adjoint(NamedTuple):
    """The result of ``gate_adjoint``.

    Attributes:
        old: the part of ∂L/∂sₜ₋₁ that does not pass through ``mix``.
        joint: ∂L/∂(z + a), in the joint columns.
        z: ∂L/∂z in the other columns.
        a: ∂L/∂a in the other columns.
    """

    old: Any
    joint: Blocks
    z: Blocks
    a: Blocks


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """The base of rnnlab's own cells. Frozen and hashable: equal cells share one compiled program.

    A cell splits its step in three, so that engines and instruments are written once for all cells:
    ``project`` is everything that needs no state (one matrix product covers the whole sequence),
    ``mix`` is the product of the state and the recurrent weights, and ``gate`` is the rest, element
    by element where the cell's equation allows it.

    For speed a cell may add its ``maps``, where project and mix are affine, together with
    ``gate_residuals`` and ``gate_adjoint``, the derivative of ``gate`` written by hand; tests bind
    each to what it replaces.

    Attributes:
        hidden_size: H, the number of hidden units.
        kernel_init: draws one gate's input weights, ``[I, H]``.
        recurrent_init: draws one gate's recurrent weights, ``[H, H]``.
        bias_init: draws the bias b as ``(gates, H)``; None for zeros.
        bias: whether there is a bias b.
        recurrent_bias: whether there is also PyTorch's second bias c, of the recurrent product.
        recurrent_bias_init: draws c as ``(gates, H)``; None for zeros.
        dtype: the dtype of the computation; None takes it from inputs and parameters, as Flax does.
        param_dtype: the dtype of the parameters and of the state.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    kernel_init: Initializer = initializers.lecun_normal()
    recurrent_init: Initializer = initializers.orthogonal()
    bias_init: Initializer | None = None
    bias: bool = True
    recurrent_bias: bool = False
    recurrent_bias_init: Initializer | None = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        hidden_size = _check.positive_int("hidden_size", self.hidden_size)
        param_dtype = _check.float_dtype("param_dtype", self.param_dtype)
        # Normalised values, so that cells of equal options are equal and share a compiled program.
        object.__setattr__(self, "hidden_size", hidden_size)
        object.__setattr__(self, "param_dtype", param_dtype)
        for field in dataclasses.fields(self):
            # In a user's module with postponed annotations the type is a string.
            if field.type in (bool, "bool"):
                _check.flag(field.name, getattr(self, field.name))
        self._check_initializers()
        if self.dtype is not None:
            object.__setattr__(self, "dtype", _check.float_dtype("dtype", self.dtype))

    def _check_initializers(self) -> None:
        _check.initializer("kernel_init", self.kernel_init)
        _check.initializer("recurrent_init", self.recurrent_init)
        if self.bias_init is not None:
            _check.initializer("bias_init", self.bias_init)
            if not self.bias:
                raise ValueError(
                    "bias_init is given, but bias=False leaves no bias; leave one of the two out"
                )
        if self.recurrent_bias_init is not None:
            _check.initializer("recurrent_bias_init", self.recurrent_bias_init)
            if not self.recurrent_bias:
                raise ValueError(
                    "recurrent_bias_init is given, but there is no second bias; add "
                    "recurrent_bias=True"
                )

    @property
    def output_size(self) -> int:
        """The number of features of an output."""
        return self.hidden_size

    def step(self, params: Any, state: Any, x: Array) -> tuple[Any, Array]:
        """One time step: ``(params, state, x [..., I]) -> (state, y [..., H])``."""
        z = self.project(params, x)
        a = self.mix(params, state)
        return self.gate(params, state, z, a)

    def project(self, params: Any, xs: Array) -> Array:
        """W_x x + b, for one step or a whole sequence: ``[..., I] -> [..., gates · H]``."""
        return affine(xs, params.w_x, params.b, self.dtype)

    def mix(self, params: Any, state: Any) -> Array:
        """W_h h + c: ``[..., H] -> [..., gates · H]``."""
        return affine(self.hidden(state), params.w_h, params.c, self.dtype)

    def gate(
        self,
        params: Any,
        state: Any,
        z: Array,
        a: Array,
    ) -> tuple[Any, Array]:
        raise NotImplementedError

    def hidden(self, state: Any) -> Array:
        """h ``[..., H]``, the part of the state that ``mix`` multiplies; also the output."""
        return state.h

    def with_hidden(self, state: Any, h: Array) -> Any:
        """``state`` with another h."""
        return state._replace(h=h)

    def maps(self, params: Any) -> Maps | None:
        """The weights of ``project`` and ``mix``; None unless these are x W_x + b and h W_h + c.

        A cell with maps defines the two methods below as well: its gate works element by element on
        blocks of H columns side by side, and its output is :meth:`hidden` of the new state. So
        blocks may be arrays of any shape, also flat ones.
        """
        return None

    def gate_residuals(
        self,
        params: Any,
        state: Any,
        z: Array,
        a: Array,
    ) -> tuple[Any, Blocks]:
        """The new state, as ``gate`` returns it, and the values that ``gate_adjoint`` needs."""
        raise NotImplementedError

    def gate_adjoint(
        self,
        params: Any,
        old: Any,
        new: Any,
        residuals: Blocks,
        d_new: Any,
    ) -> Adjoint:
        """The derivatives from ∂L/∂sₜ, element by element, so that any layout can use it."""
        raise NotImplementedError

    def zeros(self, batch_shape: tuple[int, ...], size: int | None = None) -> Array:
        """Part of an initial state: ``[..., H]``, or another size, in ``param_dtype``."""
        batch_shape = _check.batch_shape(batch_shape)
        return jnp.zeros((*batch_shape, size or self.hidden_size), self.param_dtype)

    def draw_weights(
        self,
        init: Initializer,
        key: Key,
        rows: int,
        gates: int,
    ) -> Array:
        """``[rows, gates · H]``, each gate drawn separately.

        Orthogonal thus means orthogonal for each gate. Half-precision parameters are drawn in
        float32, since matrix decompositions need it.
        """
        if isinstance(init, initializers.AllGates):
            return self.draw_matrix(init, key, (rows, gates * self.hidden_size))
        shape = rows, self.hidden_size
        keys = jax.random.split(key, gates)
        drawn = [self.draw_matrix(init, gate_key, shape) for gate_key in keys]
        return jnp.concatenate(drawn, axis=-1)

    def draw_matrix(self, init: Initializer, key: Key, shape: tuple[int, int]) -> Array:
        """One matrix in ``param_dtype``, drawn in at least float32."""
        weights = init(key, shape, widest(self.param_dtype, jnp.float32))
        return _check.drawn("the initialiser", weights, shape).astype(self.param_dtype)

    def draw_biases(self, key: Key, gates: int) -> Array:
        """b ``[gates · H]``, a row of ``bias_init`` for each gate."""
        return self._draw_rows("bias_init", self.bias_init, key, gates)

    def draw_recurrent_biases(self, key: Key, gates: int) -> Array:
        """c ``[gates · H]``, a row of ``recurrent_bias_init`` for each gate."""
        # b is drawn with the same key, so without this c would repeat its values.
        key = jax.random.fold_in(key, 1)
        return self._draw_rows("recurrent_bias_init", self.recurrent_bias_init, key, gates)

    def _draw_rows(
        self,
        name: str,
        init: Initializer | None,
        key: Key,
        gates: int,
    ) -> Array:
        draw = initializers.zeros if init is None else init
        shape = gates, self.hidden_size
        biases = draw(key, shape, self.param_dtype)
        return _check.drawn(name, biases, shape).reshape(-1)


def affine(
    x: Array,
    w: Array,
    b: Array | None,
    dtype: Dtype | None,
) -> Array:
    """x W (+ b), computed in ``dtype`` or, where that is None, in the promoted dtype of x and W."""
    if dtype is not None:
        x = x.astype(dtype)
        w = w.astype(dtype)
        b = None if b is None else b.astype(dtype)
    y = x @ w
    return y if b is None else y + spread(b, y)


def spread(b: Array, y: Array) -> Array:
    """b ``[F]`` with as many axes as y ``[..., F]``, for ``jax_numpy_rank_promotion="raise"``."""
    return lax.broadcast_to_rank(b, y.ndim)


def within(lengths: Array, steps: int) -> Array:
    """Whether each of so many steps lies within its example's length, ``[T, ...]``."""
    batch_axes = (1,) * lengths.ndim
    index = jnp.arange(steps).reshape(-1, *batch_axes)
    return index < lengths[None]


def widest(a: Dtype, b: Dtype) -> Dtype:
    """The dtype to which two promote, also under ``jax_numpy_dtype_promotion="strict"``."""
    # Strict mode asks for explicit casts, and callers cast. Only the target needs promotion.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def lift(x: Array, part: Array) -> Array:
    """x in no less precision than a part of the state: bfloat16 gates can act on float32."""
    return x.astype(widest(x.dtype, part.dtype))


def keep_precision(new: PyTree, old: PyTree) -> PyTree:
    """``new`` in no less precision than the state it replaces: a float32 state stays float32."""
    return jax.tree.map(lift, new, old)
