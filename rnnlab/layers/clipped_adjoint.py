"""A cell whose adjoint is clipped at every step on its way back."""

import dataclasses
import functools
import numbers
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.layers.bidirectional import Bidirectional
from rnnlab.layers.wrapper import Wrapper
from rnnlab.typing import Array, Cell, PyTree


@dataclasses.dataclass(frozen=True)
class ClippedAdjoint(Wrapper):
    """A cell whose adjoint is clipped between any two steps; made by :func:`clip_adjoints`."""

    threshold: float

    linear_adjoint: ClassVar[bool] = False

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """As the cell's own; on the way back what it hands to the step before is clipped."""
        batch = x.shape[:-1]
        _check.batched("the state", state, batch)
        leaves, tree = jax.tree.flatten(state)
        floats = [
            number for number, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        for number, leaf in zip(
            floats, _gate(self.threshold, len(batch), [leaves[n] for n in floats]), strict=True
        ):
            leaves[number] = leaf
        return self.cell.step(params, jax.tree.unflatten(tree, leaves), x)


def clip_adjoints(cell: Cell, threshold: float) -> ClippedAdjoint:
    """A cell with the same values whose gradient cannot explode, as its adjoint is clipped at every step.

    With m = (∂sₜ/∂sₜ₋₁)ᵀ ∂L/∂sₜ, what step t hands back, and τ the threshold,

        ∂L/∂sₜ₋₁ ← m · min(1, τ/‖m‖) + what the loss says of yₜ₋₁ and sₜ₋₁ itself,

    for every example on its own, ‖·‖ over its whole state (an LSTM's c and h). Parameters and inputs get their part of
    m unclipped, of the adjoint that was clipped on its way. Unlike the clipping of the whole gradient this keeps
    far steps from outshouting near ones; the gradient's direction changes.

    It runs on the engines that need only a ``step`` ("scan", "checkpointed") and in stacks. Since its way back is not
    linear it has no forward mode, and the instruments refuse it: give them ``cell`` itself.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`, with batch axes first in its state.
        threshold: τ, a number above 0; infinity clips nothing.

    Returns:
        The cell, whose parameters and states are those of ``cell``.

    Raises:
        ValueError: for a bidirectional cell, what is no cell, and a threshold that is not a number above 0.
    """
    _check.hashable(cell)
    if isinstance(cell, Bidirectional) or getattr(cell, "dropout", 0):
        what = "has no step" if isinstance(cell, Bidirectional) else "steps without its dropout"
        raise ValueError(
            f"{type(cell).__name__} {what}, so it cannot be clipped at each; clip the cells inside of it"
        )
    if not isinstance(threshold, numbers.Real) or not threshold > 0:
        raise ValueError(
            f"threshold is {threshold!r}; it must be a number above 0, infinity to clip nothing"
        )
    return ClippedAdjoint(cell, float(threshold))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gate(threshold: float, batch: int, state: list[Array]) -> list[Array]:
    """``state`` itself; its cotangent is clipped, all leaves together, for each index of the first ``batch`` axes."""
    del threshold, batch  # only the way back reads them
    return state


def _there(threshold: float, batch: int, state: list[Array]) -> tuple[list[Array], None]:
    del threshold, batch
    return state, None


def _back(threshold: float, batch: int, _: None, adjoint: list[Array]) -> tuple[list[Array]]:
    def squares(leaf: Array) -> Array:
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        return jnp.sum(wide**2, axis=tuple(range(batch, leaf.ndim)))

    total = sum(map(squares, adjoint))
    far = total > threshold**2
    scale = jnp.where(
        far, threshold / jnp.sqrt(jnp.where(far, total, 1)), 1
    )  # min(1, τ/‖m‖), smooth at m = 0

    def clipped(leaf: Array) -> Array:
        return leaf * scale.reshape(scale.shape + (1,) * (leaf.ndim - batch)).astype(leaf.dtype)

    return ([clipped(leaf) for leaf in adjoint],)


_gate.defvjp(_there, _back)
