"""A cell that reads the sequence in both directions."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

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
    """A cell that reads in both directions; see :func:`bidirectional`."""

    forward: Any
    backward: Any

    @property
    def hidden_size(self) -> int:
        return self.forward.hidden_size

    @property
    def output_size(self) -> int:
        return self.forward.output_size + self.backward.output_size

    def init(self, key: Key, input_size: int) -> BidirectionalParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_forward, k_backward = jax.random.split(key)
        forward = self.forward.init(k_forward, input_size)
        backward = self.backward.init(k_backward, input_size)
        return BidirectionalParams(forward, backward)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> BidirectionalState:
        forward = self.forward.initial_state(batch_shape)
        backward = self.backward.initial_state(batch_shape)
        return BidirectionalState(forward, backward)

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
                f"params has the structure {_check.outline(params)}, but two directions are "
                "needed; give rnnlab.layers.BidirectionalParams(forward, backward)"
            )
        forwards, backwards = both_ways(options)
        forward, ys = run(self.forward, params.forward, xs, state.forward, forwards)
        backward, zs = run(self.backward, params.backward, xs, state.backward, backwards)
        for outputs in (ys, zs):
            _check.one_output(outputs, xs.shape[1:-1], 1, "two directions need")
        return BidirectionalState(forward, backward), jnp.concatenate([ys, zs], axis=-1)


def both_ways(options: RunOptions) -> tuple[RunOptions, RunOptions]:
    """The options of each direction."""
    resets = options.resets
    if resets is not None:
        resets = _resets_of_the_other(resets, options.mask, options.reverse)
    k_forward, k_backward = None, None
    if options.key is not None:
        k_forward, k_backward = jax.random.split(options.key)
    forwards = options.replace(key=k_forward).for_part(lambda state: state.forward)
    backwards = options.replace(key=k_backward, resets=resets, reverse=not options.reverse)
    return forwards, backwards.for_part(lambda state: state.backward)


def _resets_of_the_other(resets: Array, mask: Array | None, reverse: bool) -> Array:
    """The resets of the direction that runs against ``resets [T, ...]``.

    A reset before step t cuts between t − 1 and t. The other direction crosses that cut when it
    comes to t − 1, so its resets are shifted by one step: to the nearest step that counts, since a
    reset at a step that the mask leaves out does nothing.
    """
    edge = jnp.zeros_like(resets[:1])
    if mask is None:
        return jnp.concatenate([edge, resets[:-1]] if reverse else [resets[1:], edge])

    def shift(pending: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        reset, counts = step
        return jnp.where(counts, reset, pending), pending

    _, shifted = lax.scan(shift, edge[0], (resets, mask), reverse=not reverse)
    return shifted


def bidirectional(cell: Cell, backward: Cell | None = None) -> Bidirectional:
    """A cell that reads the sequence in both directions (Schuster & Paliwal 1997).

    Outputs are ``[h_forward, h_backward]``. With ``lengths`` the backward direction starts at each
    example's last valid step; with ``resets`` its state is reset at the end of each packed
    sequence, so that none sees another. It has no ``step``.

    >>> import rnnlab
    >>> cell = rnnlab.bidirectional(rnnlab.GRU(8))
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> _, ys = rnnlab.unroll(cell, params, jnp.ones((20, 4, 3)))
    >>> ys.shape
    (20, 4, 16)

    Args:
        cell: the forward cell.
        backward: the backward cell; one like ``cell``, with its own parameters, by default.
    """
    backward = cell if backward is None else backward
    _check.hashable(cell)
    _check.hashable(backward)
    return Bidirectional(cell, backward)
