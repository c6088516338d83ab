"""Clipping: of the whole gradient, of its entries, unit by unit, or of the adjoint at every step on its way back."""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from rnnlab import _check
from rnnlab._results import result
from rnnlab.diagnostics.one_neuron import LossSurface
from rnnlab.layers import Bidirectional
from rnnlab.typing import Array, Cell, Key, PyTree


def clip_by_global_norm(threshold: ArrayLike) -> optax.GradientTransformation:
    """ĝ ← τ ĝ/‖ĝ‖ if ‖ĝ‖ ≥ τ, over all parameters (Pascanu, Mikolov & Bengio 2013, Algorithm 1); optax's own.

    The direction stays. τ is ``threshold``, above 0; infinity clips nothing. ValueError for others.
    """
    return optax.clip_by_global_norm(_positive("threshold", threshold))


def clip_by_value(threshold: ArrayLike) -> optax.GradientTransformation:
    """ĝᵢ ← min(max(ĝᵢ, −τ), τ) for each number, so that the direction changes (Mikolov 2012); optax's own.

    τ is ``threshold``, above 0; infinity clips nothing. ValueError for others.
    """
    return optax.clip(_positive("threshold", threshold))


def clip_adaptively(ratio: ArrayLike) -> optax.GradientTransformation:
    """ĝ ← r ‖θ‖ ĝ/‖ĝ‖ if ‖ĝ‖ > r ‖θ‖, for each unit's weights θ on their own (Brock et al. 2021); optax's own.

    arXiv 2102.06171. A unit is a column of a matrix, ‖θ‖ counts as at least 0.001, and r is ``ratio``, above 0;
    infinity clips nothing. ValueError for others.
    """
    return optax.adaptive_grad_clip(_positive("ratio", ratio))


@result
class ThresholdRange(NamedTuple):
    """Thresholds worth a try; scalars, in units of the gradient.

    Attributes:
        low: half the average.
        average: the average norm.
        high: ten times the average.
    """

    low: Array
    average: Array
    high: Array


def threshold_range(norms: ArrayLike) -> ThresholdRange:
    """Half to ten times the average norm of gradients, within which training hardly depends on τ.

    Pascanu, Mikolov & Bengio 2013, §3.2. ``norms`` are those of many updates, of any shape; leave out those at a wall,
    one of which may outweigh all others. ValueError for none, NaN and infinity.
    """
    norms = _check.array("norms", norms)
    if not norms.size:
        raise ValueError("norms holds no number; give the gradient norms of some updates")
    _check.finite("norms", norms)
    average = jnp.mean(norms)
    return ThresholdRange(average / 2, average, 10 * average)


@dataclasses.dataclass(frozen=True)
class ClippedAdjoint:
    """A cell whose adjoint is clipped between any two steps; made by :func:`clip_adjoints`."""

    cell: Any
    threshold: float

    linear_adjoint: ClassVar[bool] = False

    @property
    def hidden_size(self) -> int:
        return self.cell.hidden_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def init(self, key: Key, input_size: int) -> PyTree:
        """As the cell's own."""
        return self.cell.init(key, input_size)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return self.cell.initial_state(batch_shape)

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
    if not isinstance(threshold, numbers.Real):
        raise ValueError(f"threshold is {threshold!r}; it must be a number above 0")
    return ClippedAdjoint(cell, float(_positive("threshold", threshold)))


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


@result
class WallPaths(NamedTuple):
    """Where M optimisers take one neuron's two weights in N steps; NaN from where a gradient is not finite.

    Attributes:
        w: ``[N + 1, M]``, from the start on.
        b: ``[N + 1, M]``.
        loss: ``[N + 1, M]``.
        gradient_norm: ‖(∂L/∂w, ∂L/∂b)‖ before any clipping, ``[N + 1, M]``.
    """

    w: Array
    b: Array
    loss: Array
    gradient_norm: Array


def wall_paths(
    loss: Callable[[Array, Array], LossSurface],
    start: tuple[ArrayLike, ArrayLike],
    optimisers: Sequence[optax.GradientTransformation],
    steps: int,
) -> WallPaths:
    """The paths of several optimisers down one loss surface, side by side in one compiled scan.

    With ``[optax.sgd(0.2), optax.chain(clip_by_global_norm(0.5), optax.sgd(0.2))]`` it shows how a step at the wall
    throws the weights away, and how clipping holds them (Pascanu, Mikolov & Bengio 2013, figure 6). ``jax.vmap`` over
    the start follows many at once.

    Args:
        loss: ``(w [M], b [M]) -> LossSurface``, such as :func:`rnnlab.diagnostics.one_neuron.pascanu_loss`; bind other
            settings by ``functools.partial``, once, as a new function is compiled anew.
        start: (w, b).
        optimisers: any of optax.
        steps: N.

    Returns:
        The :class:`WallPaths`.

    Raises:
        ValueError: for no optimiser, a start that is not two finite numbers, steps that are no whole number, and a loss
            that is no function.
    """
    if not optimisers:
        raise ValueError("there is no optimiser; give at least one, such as [optax.sgd(0.1)]")
    if not callable(loss):
        raise ValueError(
            f"loss is {loss!r}; it must be a function of w and b, such as pascanu_loss"
        )
    begin = tuple(_check.array("start", value) for value in start)
    if [value.shape for value in begin] != [(), ()]:
        raise ValueError(
            f"start has shapes {[value.shape for value in begin]}; give (w, b), or put jax.vmap around"
        )
    _check.finite("start", begin)
    w, b = (value.astype(jnp.result_type(float)) for value in begin)
    return _paths(loss, w, b, tuple(optimisers), _check.natural("steps", steps))


@functools.partial(jax.jit, static_argnames=("loss", "optimisers", "steps"))
def _paths(
    loss: Callable[[Array, Array], LossSurface],
    w: Array,
    b: Array,
    optimisers: tuple[optax.GradientTransformation, ...],
    steps: int,
) -> WallPaths:
    def step(carry: list[tuple[Any, Any]], _: None) -> tuple[list[tuple[Any, Any]], WallPaths]:
        ws, bs = (jnp.stack(column) for column in zip(*[point for point, _ in carry], strict=True))
        at = loss(ws, bs)
        after = []
        for (point, memory), optimiser, *slope in zip(
            carry, optimisers, at.d_w, at.d_b, strict=True
        ):
            change, memory = optimiser.update(tuple(slope), memory, point)
            after.append((optax.apply_updates(point, change), memory))
        return after, WallPaths(ws, bs, at.loss, jnp.hypot(at.d_w, at.d_b))

    first = [((w, b), optimiser.init((w, b))) for optimiser in optimisers]
    return lax.scan(step, first, length=steps + 1)[1]


def _positive(name: str, value: Any) -> Any:
    """``value``; ValueError unless it is above 0, as far as it is known yet."""
    if not isinstance(value, jax.core.Tracer) and not value > 0:
        raise ValueError(f"{name} is {value!r}; it must be above 0, infinity to clip nothing")
    return value
