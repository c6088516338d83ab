"""The linear readout: a cell without a state, so that it can be the last layer of a stack."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from rnnlab import _check, initializers
from rnnlab.cells.base import affine
from rnnlab.typing import Array, Dtype, Initializer, Key


class ReadoutParams(NamedTuple):
    """w ``[H, O]``, b ``[O]`` (None without a bias)."""

    w: Array
    b: Array | None


class ReadoutState(NamedTuple):
    """An empty state."""


@dataclasses.dataclass(frozen=True)
class Readout:
    """Linear readout, y = W h + b.

    Shapes: h ``[..., H]``, y ``[..., O]``; call it as ``readout(params, h)``, or stack it on cells.
    Raises ValueError for an ``output_size`` below 1.

    >>> import jax
    >>> readout = Readout(2)
    >>> params = readout.init(jax.random.key(0), input_size=8)
    >>> readout(params, jnp.ones((4, 8))).shape
    (4, 2)

    Attributes:
        output_size: O, the number of outputs.
        kernel_init: draws W as ``(H, O)``.
        bias: whether there is a bias, starting at zero.
        dtype: the dtype of the computation; None takes it from inputs and parameters.
        param_dtype: the dtype of the parameters.
    """

    output_size: int
    _: dataclasses.KW_ONLY
    kernel_init: Initializer = initializers.lecun_normal()
    bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        _check.positive_int("output_size", self.output_size)
        _check.initializer("kernel_init", self.kernel_init)
        _check.flag("bias", self.bias)
        param_dtype = _check.float_dtype("param_dtype", self.param_dtype)
        object.__setattr__(self, "param_dtype", param_dtype)
        if self.dtype is not None:
            object.__setattr__(self, "dtype", _check.float_dtype("dtype", self.dtype))

    def init(self, key: Key, input_size: int) -> ReadoutParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        shape = input_size, self.output_size
        w = self.kernel_init(key, shape, self.param_dtype)
        w = _check.drawn("kernel_init", w, shape)
        b = jnp.zeros(self.output_size, self.param_dtype) if self.bias else None
        return ReadoutParams(w, b)

    def __call__(self, params: ReadoutParams, h: Array) -> Array:
        return affine(h, params.w, params.b, self.dtype)  # y = W h + b

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> ReadoutState:
        del batch_shape
        return ReadoutState()

    def step(
        self, params: ReadoutParams, state: ReadoutState, x: Array
    ) -> tuple[ReadoutState, Array]:
        return state, self(params, x)
