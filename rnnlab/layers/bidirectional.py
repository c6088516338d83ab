"""A cell read in both directions."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.driver import RunCell, RunOptions
from rnnlab.typing import Array, Cell, Key


class BidirectionalParams(NamedTuple):
    """The parameters of each direction."""

    forward: Any
    backward: Any


class BidirectionalState(NamedTuple):
    """The state of each direction; the backward one is final at the first step."""

    forward: Any
    backward: Any


@dataclasses.dataclass(frozen=True)
class Bidirectional:
    """A cell read in both directions; made by :func:`bidirectional`."""

    forward: Any
    backward: Any

    @property
    def hidden_size(self) -> int:
        return self.forward.hidden_size

    @property
    def output_size(self) -> int:
        return self.forward.output_size + self.backward.output_size

    def init(self, key: Key, input_size: int) -> BidirectionalParams:
        """Fresh parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_forward, k_backward = jax.random.split(key)
        return BidirectionalParams(
            self.forward.init(k_forward, input_size), self.backward.init(k_backward, input_size)
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> BidirectionalState:
        return BidirectionalState(
            self.forward.initial_state(batch_shape), self.backward.initial_state(batch_shape)
        )

    def step(
        self, params: BidirectionalParams, state: BidirectionalState, x: Array
    ) -> tuple[BidirectionalState, Array]:
        raise ValueError(
            "a bidirectional cell has no step, since it reads the future; use rnnlab.unroll"
        )

    @property
    def cells(self) -> tuple[Any, Any]:
        return self.forward, self.backward

    def run_cells(
        self,
        params: BidirectionalParams,
        xs: Array,
        state: BidirectionalState,
        options: RunOptions,
        run: RunCell,
    ) -> tuple[BidirectionalState, Array]:
        """Each direction over the whole sequence; outputs side by side."""
        if not isinstance(params, BidirectionalParams):
            raise ValueError(
                f"params has the structure {_check.outline(params)}, but two directions are needed; "
                "give rnnlab.layers.BidirectionalParams(forward, backward)"
            )
        there, back = both_ways(options)
        ahead, ys = run(self.forward, params.forward, xs, state.forward, there)
        behind, zs = run(self.backward, params.backward, xs, state.backward, back)
        for outputs in (ys, zs):
            _check.one_output(outputs, xs.shape[1:-1], 1, "two directions need")
        return BidirectionalState(ahead, behind), jnp.concatenate([ys, zs], axis=-1)


def both_ways(options: RunOptions) -> tuple[RunOptions, RunOptions]:
    """The options of each direction. What is reset *before* step t one way is reset before t − 1 the other way."""
    resets = options.resets
    if resets is not None:
        edge = jnp.zeros_like(resets[:1])
        resets = jnp.concatenate([edge, resets[:-1]] if options.reverse else [resets[1:], edge])
    k_there, k_back = (None, None) if options.key is None else jax.random.split(options.key)
    return options.replace(key=k_there), options.replace(
        key=k_back, resets=resets, reverse=not options.reverse
    )


def bidirectional(cell: Cell, backward: Cell | None = None) -> Bidirectional:
    """A cell that reads the sequence in both directions (Schuster & Paliwal 1997); outputs ``[h_forward, h_backward]``.

    With ``lengths`` the backward direction starts at each example's last valid step; with ``resets`` it starts afresh
    at the end of each packed sequence, so that none sees another. It has no ``step``.

    Args:
        cell: the forward cell.
        backward: the backward cell; one like ``cell``, with its own parameters, by default.
    """
    backward = cell if backward is None else backward
    _check.hashable(cell)
    _check.hashable(backward)
    return Bidirectional(cell, backward)
