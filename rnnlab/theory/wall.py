"""Paths of gradient descent down the loss of one neuron, with and without clipping."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from rnnlab import _check
from rnnlab._results import result
from rnnlab.theory.one_neuron import LossSurface
from rnnlab.typing import Array


@result
class WallPaths(NamedTuple):
    """The paths of one neuron's weight and bias under M optimisers, N steps long.

    NaN from where a gradient is not finite.

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

    With ``[optax.sgd(0.2), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2))]`` it shows
    how a step at the wall throws the weights far away, and how clipping prevents that (Pascanu,
    Mikolov & Bengio 2013, figure 6). ``jax.vmap`` over the start follows many at once.

    Args:
        loss: ``(w [M], b [M]) -> LossSurface``, such as
            :func:`rnnlab.theory.one_neuron.pascanu_loss`; bind other settings by
            ``functools.partial``, once, since every new function is compiled again.
        start: (w, b).
        optimisers: any from optax.
        steps: N.

    Returns:
        The :class:`WallPaths`.

    Raises:
        ValueError: for no optimiser, a start that is not two finite numbers, steps that are not a
            whole number, and a loss that is not a function.

    >>> import optax
    >>> from rnnlab.theory.one_neuron import pascanu_loss
    >>> paths = wall_paths(pascanu_loss, (6.0, -3.5), [optax.sgd(0.1), optax.adam(0.1)], steps=20)
    >>> paths.loss.shape
    (21, 2)
    """
    if not optimisers:
        raise ValueError("there is no optimiser; give at least one, such as [optax.sgd(0.1)]")
    if not callable(loss):
        raise ValueError(
            f"loss is {loss!r}; it must be a function of w and b, such as pascanu_loss"
        )
    point = tuple(_check.array("start", value) for value in start)
    shapes = [value.shape for value in point]
    if shapes != [(), ()]:
        raise ValueError(f"start has shapes {shapes}; give (w, b), or put jax.vmap around the call")
    _check.finite("start", point)
    dtype = jnp.result_type(float)
    w, b = point
    count = _check.natural("steps", steps)
    return _paths(loss, w.astype(dtype), b.astype(dtype), tuple(optimisers), count)


@functools.partial(jax.jit, static_argnames=("loss", "optimisers", "steps"))
def _paths(
    loss: Callable[[Array, Array], LossSurface],
    w: Array,
    b: Array,
    optimisers: tuple[optax.GradientTransformation, ...],
    steps: int,
) -> WallPaths:
    def step(carry: list[tuple[Any, Any]], _: None) -> tuple[list[tuple[Any, Any]], WallPaths]:
        points = [point for point, _ in carry]
        ws, bs = map(jnp.stack, zip(*points, strict=True))
        # All paths share one evaluation of the loss, which may be an expensive solver.
        surface = loss(ws, bs)
        moved = []
        rows = zip(carry, optimisers, surface.d_w, surface.d_b, strict=True)
        for (point, memory), optimiser, d_w, d_b in rows:
            change, memory = optimiser.update((d_w, d_b), memory, point)
            moved.append((optax.apply_updates(point, change), memory))
        norm = jnp.hypot(surface.d_w, surface.d_b)
        return moved, WallPaths(ws, bs, surface.loss, norm)

    point = (w, b)
    first = [(point, optimiser.init(point)) for optimiser in optimisers]
    # One step more than asked for, since each step records its point before it moves.
    return lax.scan(step, first, length=steps + 1)[1]
