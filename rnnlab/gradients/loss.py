"""The gradient of a loss with respect to the outputs, where a backward pass starts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.gradients.scaled import Scaled, renormalise
from rnnlab.typing import Array, PyTree


def loss_gradient(
    loss: Callable[..., Array], ys: Array, loss_args: tuple[Any, ...], of_args: bool
) -> tuple[Array, Array, PyTree | None]:
    """``L, ∂L/∂ys`` and, where asked for, ∂L/∂ of the floats in ``loss_args``, None for the rest."""
    _check.scalar_loss(loss, ys, *loss_args)
    leaves, tree = jax.tree.flatten(loss_args)
    floats = [place for place, leaf in enumerate(leaves)
              if of_args and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]  # fmt: skip

    def of(ys: Array, given: list[Array]) -> Array:
        filled = list(leaves)
        for place, leaf in zip(floats, given, strict=True):
            filled[place] = leaf
        return loss(ys, *jax.tree.unflatten(tree, filled))

    value, (g, found) = jax.value_and_grad(of, (0, 1))(ys, [leaves[place] for place in floats])
    if not of_args:
        return value, g, None
    gradients: list[Array | None] = [None] * len(leaves)
    for place, gradient in zip(floats, found, strict=True):
        gradients[place] = gradient
    return value, g, jax.tree.unflatten(tree, gradients)


def entering_gradient(g: Array) -> Scaled:
    """∂L/∂ys with an exponent for each step and example."""
    # A constant g, as that of a linear loss, would be scaled by XLA while it compiles, which takes seconds.
    g = lax.optimization_barrier(g)
    return renormalise(g, jnp.zeros(g.shape[:-1], jnp.int32), g.ndim - 1)


def steps_read(loss: Callable[..., Array], ys: Array, loss_args: tuple[Any, ...]) -> set[int]:
    """The steps of ``ys`` that the loss reads, as far as its program shows: all, unless it cuts some out."""
    traced = jax.make_jaxpr(loss)(ys, *loss_args).jaxpr
    return _read(traced, traced.invars[0], ys.shape[0])


def _read(jaxpr: Any, var: Any, steps: int) -> set[int]:
    everything = set(range(steps))
    if var in jaxpr.outvars:
        return everything
    read: set[int] = set()
    for equation in jaxpr.eqns:
        if var not in equation.invars:
            continue
        if equation.primitive.name == "slice":
            first, end = equation.params["start_indices"][0], equation.params["limit_indices"][0]
            read |= set(range(first, end))
        elif equation.primitive.name in ("jit", "pjit") and equation.invars.count(var) == 1:
            inner = equation.params["jaxpr"].jaxpr
            read |= _read(inner, inner.invars[equation.invars.index(var)], steps)
        else:
            return everything
    return read
