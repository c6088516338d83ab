"""Linear models of a map near a state, and the steps that two methods take on them.

A model stands for A = ∂G/∂h of G(h) = Fᵖ(h) − h at one state: as a matrix for small states, as
products with vectors for large ones. Both give the same steps.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.typing import Array

Residual = Callable[[Array], Array]
"""G, from states ``[n]`` to ``[n]``."""

PROBES = 16
"""Random vectors from which the norms of rows are estimated where there is no matrix."""

INNER = 200
"""The largest number of products with A and Aᵀ in one step where there is no matrix."""

EXACT = 1e-12
"""The factor by which these reduce the gradient of what a step minimises."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """A as a matrix, from n products of forward differentiation; steps by Cholesky and LU."""

    residual: Residual

    def at(self, h: Array) -> tuple[Array, Array]:
        """G(h) and A ``[n, n]``."""

        # The value is also the auxiliary output, which saves a second evaluation of Fᵖ.
        def twice(h: Array) -> tuple[Array, Array]:
            value = self.residual(h)
            return value, value

        jacobian, value = jax.jacfwd(twice, has_aux=True)(h)
        return value, jacobian

    def damped(self, a: Array, g: Array, mu: Array) -> Array:
        """The δ that minimises ‖A δ + G‖² + μ ‖δ‖²."""
        gram = a.T @ a
        normal = gram + mu * jnp.eye(g.size, dtype=g.dtype)
        factor = jax.scipy.linalg.cho_factor(normal)
        return -jax.scipy.linalg.cho_solve(factor, a.T @ g)

    def implicit(self, a: Array, g: Array, weights: Array, dt: Array) -> Array:
        """The δ with (1/Δt − W A) δ = W G: a step of implicit Euler of dh/dt = W G(h)."""
        eye = jnp.eye(g.size, dtype=g.dtype)
        matrix = eye / dt - weights[:, None] * a
        return jnp.linalg.solve(matrix, weights * g)

    def rows(self, a: Array) -> Array:
        """The norms of the rows of A, ``[n]``."""
        return jnp.linalg.norm(a, axis=1)

    def spread(self, a: Array) -> Array:
        """‖∂Fᵖ/∂h‖² = ‖A + 1‖², the sum of squares."""
        jacobian = a + jnp.eye(a.shape[0], dtype=a.dtype)
        return jnp.sum(jacobian**2)


class Point(NamedTuple):
    """The state at which A is taken, with the norms that are estimated there."""

    h: Array  # [n]
    rows: Array  # [n]
    spread: Array


@dataclasses.dataclass(frozen=True)
class Iterative:
    """A as products with vectors; steps by conjugate gradients. Memory of order n."""

    residual: Residual

    def at(self, h: Array) -> tuple[Array, Point]:
        """G(h) and h itself, with norms estimated from random signs v: E (A v)ᵢ² = ‖Aᵢ‖²."""
        value, forward = jax.linearize(self.residual, h)
        # One fixed key: weights that changed from step to step would make the search noisy.
        key = jax.random.key(0)
        signs = jax.random.rademacher(key, (PROBES, h.size), h.dtype)
        products = jax.vmap(forward)(signs)
        rows = jnp.sqrt(jnp.mean(products**2, axis=0))
        # A v + v = (∂Fᵖ/∂h) v
        with_identity = products + signs
        spread = jnp.sum(jnp.mean(with_identity**2, axis=0))
        return value, Point(h, rows, spread)

    def damped(self, a: Point, g: Array, mu: Array) -> Array:
        _, forward = jax.linearize(self.residual, a.h)
        _, vjp = jax.vjp(self.residual, a.h)

        def backward(v: Array) -> Array:
            (product,) = vjp(v)
            return product

        return least_squares(forward, backward, -g, mu)

    def implicit(self, a: Point, g: Array, weights: Array, dt: Array) -> Array:
        _, jvp = jax.linearize(self.residual, a.h)
        _, vjp = jax.vjp(self.residual, a.h)

        def forward(v: Array) -> Array:
            return v / dt - weights * jvp(v)

        def backward(v: Array) -> Array:
            scaled = v / dt
            (product,) = vjp(weights * v)
            return scaled - product

        return least_squares(forward, backward, weights * g, jnp.zeros_like(dt))

    def rows(self, a: Point) -> Array:
        return a.rows

    def spread(self, a: Point) -> Array:
        return a.spread


Model = Dense | Iterative


def least_squares(
    forward: Callable[[Array], Array],
    backward: Callable[[Array], Array],
    b: Array,
    mu: Array,
) -> Array:
    """The d that minimises ‖B d − b‖² + μ ‖d‖², from products with B and Bᵀ.

    Conjugate gradients on the normal equations, without forming them (CGLS: Hestenes & Stiefel
    1952; Björck 1996, Numerical Methods for Least Squares Problems, section 7.4).
    """
    start = backward(b)
    target = (EXACT**2) * jnp.sum(start**2)

    def unfinished(carry: tuple) -> Array:
        count, _, _, _, size = carry
        return (count < INNER) & (size > target)

    def improve(carry: tuple) -> tuple:
        count, d, residual, direction, size = carry
        image = forward(direction)
        curvature = jnp.sum(image**2) + mu * jnp.sum(direction**2)
        length = size / curvature
        d = d + length * direction
        residual = residual - length * image
        slope = backward(residual) - mu * d
        new_size = jnp.sum(slope**2)
        count = count + 1
        direction = slope + new_size / size * direction
        return count, d, residual, direction, new_size

    nothing = jnp.zeros_like(b)
    carry = 0, nothing, b, start, jnp.sum(start**2)
    _, d, *_ = lax.while_loop(unfinished, improve, carry)
    return d
