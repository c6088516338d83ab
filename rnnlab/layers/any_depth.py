"""A stack whose depth can be varied like a weight."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.layers.stack import Stack, StackState
from rnnlab.typing import Array, Key


class DepthParams(NamedTuple):
    """The parameters of a whole stack, and how many of its layers are active."""

    stack: Any
    depth: Array


@dataclasses.dataclass(frozen=True)
class AnyDepth:
    """A stack with ``params.depth`` active layers, so that depth can be varied like a weight.

    The first layers are active. The output is that of layer ``depth``; the layers above keep their
    initial state. Layers must have outputs of one size. ∂L/∂sₜ is that of the joint state of all
    layers, each layer's with the others' held fixed.

    >>> import rnnlab
    >>> cell = AnyDepth(rnnlab.stack([rnnlab.RNN(8), rnnlab.RNN(8)]))
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> shallow = depth(params, jnp.asarray(1))
    >>> float(shallow.depth)
    1.0
    """

    stack: Stack

    def __post_init__(self) -> None:
        if isinstance(self.stack, Stack):
            sizes = {cell.output_size for cell in self.stack.cells}
            if len(sizes) == 1:
                return
        raise ValueError(
            "depth can be varied in a stack whose layers have one size; give "
            "rnnlab.stack([cell, …])"
        )

    def init(self, key: Key, input_size: int) -> DepthParams:
        """Initial parameters, with all layers active."""
        params = self.stack.init(key, input_size)
        dtype = jax.tree.leaves(params)[0].dtype
        return DepthParams(params, jnp.asarray(len(self.stack.cells), dtype))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> StackState:
        return self.stack.initial_state(batch_shape)

    def step(self, params: DepthParams, state: StackState, x: Array) -> tuple[StackState, Array]:
        """All layers, one time step."""
        initial = self.initial_state(x.shape[:-1])
        new_states = []
        y = x
        for index, cell in enumerate(self.stack.cells):
            # An inactive layer starts from its initial state at every step and reads zeros, so that
            # no derivative leads through it.
            active = index < params.depth
            choose = functools.partial(jnp.where, active)
            old = jax.tree.map(choose, state.layers[index], initial.layers[index])
            new, out = cell.step(params.stack.layers[index], old, jnp.where(active, x, 0))
            new_states.append(new)
            x = x + out if self.stack.skips(index) else out
            y = x if index == 0 else jnp.where(active, x, y)
        return StackState(tuple(new_states)), y


def depth(params: DepthParams, layers: Array) -> DepthParams:
    """``params`` of an :class:`AnyDepth` with so many active layers."""
    return params._replace(depth=jnp.asarray(layers, params.depth.dtype))
