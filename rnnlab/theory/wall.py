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

    With ``[optax.sgd(0.2), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2))]`` it shows how
    a step at the wall throws the weights away, and how clipping holds them (Pascanu, Mikolov & Bengio
    2013, figure 6). ``jax.vmap`` over the start follows many at once.

    Args:
        loss: ``(w [M], b [M]) -> LossSurface``, such as :func:`rnnlab.theory.one_neuron.pascanu_loss`; bind other
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
