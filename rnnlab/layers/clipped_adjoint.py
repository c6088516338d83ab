"""A cell whose adjoint is clipped at every step of the backward pass."""

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
    """A cell whose adjoint is clipped between any two steps; see :func:`clip_adjoints`."""

    threshold: float

    linear_adjoint: ClassVar[bool] = False

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """The step of the cell; the backward pass clips the adjoint of the state before it."""
        batch = x.shape[:-1]
        _check.batched("the state", state, batch)
        leaves, tree = jax.tree.flatten(state)
        # A custom derivative takes floats only: counters and flags in a state pass by it.
        floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        gated = iter(_gate(self.threshold, len(batch), floats))
        for index, leaf in enumerate(leaves):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                leaves[index] = next(gated)
        return self.cell.step(params, jax.tree.unflatten(tree, leaves), x)


def clip_adjoints(cell: Cell, threshold: float) -> ClippedAdjoint:
    """A cell with the same values, whose adjoint is clipped at every step of the backward pass.

    The gradient cannot explode. With m = (∂sₜ/∂sₜ₋₁)ᵀ ∂L/∂sₜ, what step t hands back, and τ the
    threshold,

        ∂L/∂sₜ₋₁ ← m · min(1, τ/‖m‖) + the direct part of the loss at yₜ₋₁ and sₜ₋₁,

    for every example separately, with ‖·‖ over its whole state (an LSTM's c and h). Parameters and
    inputs get their part of m unclipped, from the adjoint that was clipped up to that step. Unlike
    clipping the whole gradient, this keeps distant steps from dominating near ones; the direction
    of the gradient changes.

    It runs on the engines that need only a ``step`` ("scan", "checkpointed") and in stacks. Since
    its backward pass is not linear it has no forward mode, and the instruments refuse it: give them
    ``cell`` itself.

    >>> import rnnlab
    >>> cell = clip_adjoints(rnnlab.LSTM(8), threshold=1.0)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> final_state, ys = rnnlab.unroll(cell, params, jnp.ones((20, 4, 3)))

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`, with batch axes first in
            its state.
        threshold: τ, a number above 0; infinity clips nothing.

    Returns:
        The cell, whose parameters and states are those of ``cell``.

    Raises:
        ValueError: for a bidirectional cell, for an object that is not a cell, and for a threshold
            that is not a number above 0.
    """
    _check.hashable(cell)
    fault = None
    if isinstance(cell, Bidirectional):
        fault = "has no step"
    elif getattr(cell, "dropout", 0):
        fault = "steps without its dropout"
    if fault is not None:
        raise ValueError(
            f"{type(cell).__name__} {fault}, so its adjoint cannot be clipped at each step; "
            "clip its inner cells"
        )
    if not isinstance(threshold, numbers.Real) or not threshold > 0:
        raise ValueError(
            f"threshold is {threshold!r}; it must be a number above 0, infinity to clip nothing"
        )
    return ClippedAdjoint(cell, float(threshold))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gate(threshold: float, batch: int, state: list[Array]) -> list[Array]:
    """``state`` itself, with a cotangent that is clipped.

    All leaves are clipped together, for each index of the first ``batch`` axes.
    """
    del threshold, batch  # only the backward pass reads them
    return state


def _gate_forward(threshold: float, batch: int, state: list[Array]) -> tuple[list[Array], None]:
    del threshold, batch
    return state, None


def _gate_backward(
    threshold: float, batch: int, _: None, adjoint: list[Array]
) -> tuple[list[Array]]:
    def squares(leaf: Array) -> Array:
        # In half precision the squares of large adjoints overflow.
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        return jnp.sum(wide**2, axis=tuple(range(batch, leaf.ndim)))

    total = sum(map(squares, adjoint))
    far = total > threshold**2
    # min(1, τ/‖m‖). The inner where keeps √0 out, whose infinite slope gives NaN in a derivative of
    # this pass, even where the outer where discards it.
    norm = jnp.sqrt(jnp.where(far, total, 1))
    scale = jnp.where(far, threshold / norm, 1)

    def clipped(leaf: Array) -> Array:
        features = leaf.ndim - batch
        factor = scale.reshape(scale.shape + (1,) * features)
        return leaf * factor.astype(leaf.dtype)

    return ([clipped(leaf) for leaf in adjoint],)


_gate.defvjp(_gate_forward, _gate_backward)
