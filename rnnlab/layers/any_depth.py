"""A stack whose depth can be varied like a weight."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.layers.stack import Stack, StackState
from rnnlab.typing import Array, Key


class DepthParams(NamedTuple):
    """The parameters of a whole stack, and how many of its layers there are."""

    stack: Any
    depth: Array


@dataclasses.dataclass(frozen=True)
class AnyDepth:
    """A stack of which only the first ``params.depth`` layers are there, so that depth can be varied like a weight.

    The output is that of layer ``depth``; the states of the layers above rest. Layers must have outputs of one size.
    ∂L/∂sₜ is that of the joint state of all layers, each layer's with the others' held fixed.
    """

    stack: Stack

    def __post_init__(self) -> None:
        if (
            not isinstance(self.stack, Stack)
            or len({cell.output_size for cell in self.stack.cells}) > 1
        ):
            raise ValueError(
                "depth can be varied in a stack whose layers have one size; give rnnlab.stack([cell, …])"
            )

    def init(self, key: Key, input_size: int) -> DepthParams:
        """Fresh parameters, with all layers there."""
        params = self.stack.init(key, input_size)
        return DepthParams(
            params, jnp.asarray(len(self.stack.cells), jax.tree.leaves(params)[0].dtype)
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> StackState:
        return self.stack.initial_state(batch_shape)

    def step(self, params: DepthParams, state: StackState, x: Array) -> tuple[StackState, Array]:
        """All layers, one time step."""
        rest = self.initial_state(x.shape[:-1])
        new, y = [], x
        for number, cell in enumerate(self.stack.cells):
            # What is not there starts afresh at every step and reads nothing, so that no derivative leads through it.
            there = number < params.depth
            old = jax.tree.map(
                functools.partial(jnp.where, there), state.layers[number], rest.layers[number]
            )
            layer, out = cell.step(params.stack.layers[number], old, jnp.where(there, x, 0))
            x = x + out if self.stack.skips(number) else out
            new.append(layer)
            y = x if number == 0 else jnp.where(there, x, y)
        return StackState(tuple(new)), y


def depth(params: DepthParams, layers: Array) -> DepthParams:
    """``params`` of an :class:`AnyDepth` with so many layers."""
    return params._replace(depth=jnp.asarray(layers, params.depth.dtype))
