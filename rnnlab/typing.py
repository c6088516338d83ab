"""Types of arrays, parameters and cells."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

Array = jax.Array
AnyArray = Any
"""An array of JAX or of NumPy; a function computes with the library of the array that it gets."""

Key = jax.Array
PyTree = Any
Dtype = Any
Initializer = Callable[..., jax.Array]
"""``(key, shape, dtype) -> array``, as in :mod:`jax.nn.initializers`."""


@runtime_checkable
class Cell(Protocol):
    """The interface of every cell; states and parameters are pytrees of arrays.

    ``step(params, state, x) -> (state, y)`` advances one time step; ``x`` and ``y`` are
    ``[..., features]`` and every state leaf starts with the same leading batch axes.
    """

    def init(self, key: Key, input_size: int) -> PyTree: ...
    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PyTree: ...
    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]: ...
