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
    loss: Callable[..., Array],
    ys: Array,
    loss_args: tuple[Any, ...],
    of_args: bool,
) -> tuple[Array, Array, PyTree | None]:
    """``L, ∂L/∂ys`` and, where ``of_args``, ∂L/∂ of the floats in ``loss_args``, None elsewhere."""
    _check.scalar_loss(loss, ys, *loss_args)
    leaves, tree = jax.tree.flatten(loss_args)
    floats = _float_places(leaves) if of_args else []

    def value_of(ys: Array, float_args: list[Array]) -> Array:
        filled = list(leaves)
        for place, leaf in zip(floats, float_args, strict=True):
            filled[place] = leaf
        return loss(ys, *jax.tree.unflatten(tree, filled))

    float_args = [leaves[place] for place in floats]
    derivative = jax.value_and_grad(value_of, (0, 1))
    value, (g, args_gradient) = derivative(ys, float_args)
    if not of_args:
        return value, g, None
    gradients: list[Array | None] = [None] * len(leaves)
    for place, gradient in zip(floats, args_gradient, strict=True):
        gradients[place] = gradient
    return value, g, jax.tree.unflatten(tree, gradients)


def _float_places(leaves: list[Any]) -> list[int]:
    # JAX differentiates floats only, so labels and keys among the arguments stay out.
    places: list[int] = []
    for place, leaf in enumerate(leaves):
        dtype = jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.floating):
            places.append(place)
    return places


def entering_gradient(g: Array) -> Scaled:
    """∂L/∂ys with an exponent for each step and example."""
    # The gradient of a linear loss is a constant, which XLA would scale while it compiles. That
    # takes seconds; the barrier hides that it is a constant.
    g = lax.optimization_barrier(g)
    no_exponent = jnp.zeros(g.shape[:-1], jnp.int32)
    return renormalise(g, no_exponent, g.ndim - 1)


def steps_read(
    loss: Callable[..., Array],
    ys: Array,
    loss_args: tuple[Any, ...],
) -> set[int]:
    """The steps of ``ys`` that the program of the loss reads: all, unless it slices some out."""
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
        name = equation.primitive.name
        if name == "slice":
            start = equation.params["start_indices"][0]
            end = equation.params["limit_indices"][0]
            read |= set(range(start, end))
        elif name in ("jit", "pjit") and equation.invars.count(var) == 1:
            inner = equation.params["jaxpr"].jaxpr
            index = equation.invars.index(var)
            read |= _read(inner, inner.invars[index], steps)
        else:
            # Any other operation may read every step.
            return everything
    return read
