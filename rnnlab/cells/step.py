"""A foreign cell: any pure step function under rnnlab's driver and instruments."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.typing import Array, Key, PyTree


# Without eq, since an array as initial state could be neither compared nor hashed.
@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A cell made of a pure function ``fn(params, state, x) -> (state, y)``.

    ``x`` is ``[..., I]``, and every leaf of the state starts with the same batch axes; wrap a
    function of one example in ``jax.vmap`` first. A Flax, Haiku or Equinox cell fits once its
    parameters are an argument. A ``Step`` is hashed by identity: create it once and reuse it, so
    that nothing is compiled twice. The parameters come from the library of the function: ``init``
    raises ValueError.

    >>> def fn(w, h, x):
    ...     h = jnp.tanh(w * h + x)
    ...     return h, h
    >>> cell = Step(fn, init_state=jnp.zeros(1))
    >>> h, y = cell.step(0.5, cell.initial_state(), jnp.ones(1))

    Attributes:
        fn: the step.
        init_state: the initial state: a function of the batch shape, or the state of one example,
            which is then repeated over the batch.
    """

    fn: Callable[[PyTree, PyTree, Array], tuple[PyTree, Array]]
    init_state: PyTree

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise ValueError(
                f"fn is {_check.brief(self.fn)}; give a function (params, state, x) -> (state, y)"
            )

    def init(self, key: Key, input_size: int) -> PyTree:
        raise _check.ForeignCellError(
            "a Step has no init; make its parameters with the library that its function comes from"
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        batch_shape = _check.batch_shape(batch_shape)
        if callable(self.init_state):
            return self.init_state(batch_shape)

        def repeat(leaf: Array) -> Array:
            leaf = _check.array("init_state", leaf)
            return jnp.broadcast_to(leaf, batch_shape + leaf.shape)

        return jax.tree.map(repeat, self.init_state)

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        return self.fn(params, state, x)
