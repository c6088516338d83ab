"""Linear models of a map near a state, and the steps that two methods take on them.

A model stands for A = ∂G/∂h of G(h) = Fᵖ(h) − h at one state: as a matrix where the state is small, as products
with vectors where it is large. Both give the same steps.
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
"""Products with A and Aᵀ that one step may take where there is no matrix."""

EXACT = 1e-12
"""How far these reduce the gradient of what a step minimises."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """A as a matrix, from n products of forward differentiation; steps by Cholesky and LU."""

    residual: Residual

    def at(self, h: Array) -> tuple[Array, Array]:
        """G(h) and A ``[n, n]``."""
        jacobian, value = jax.jacfwd(lambda h: (self.residual(h),) * 2, has_aux=True)(h)
        return value, jacobian

    def damped(self, a: Array, g: Array, mu: Array) -> Array:
        """The δ that minimises ‖A δ + G‖² + μ ‖δ‖²."""
        normal = a.T @ a + mu * jnp.eye(g.size, dtype=g.dtype)
        return -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(normal), a.T @ g)

    def implicit(self, a: Array, g: Array, weights: Array, dt: Array) -> Array:
        """The δ with (1/Δt − W A) δ = W G: a step of implicit Euler of dh/dt = W G(h), linearised."""
        return jnp.linalg.solve(
            jnp.eye(g.size, dtype=g.dtype) / dt - weights[:, None] * a, weights * g
        )

    def rows(self, a: Array) -> Array:
        """The norms of the rows of A, ``[n]``."""
        return jnp.linalg.norm(a, axis=1)

    def spread(self, a: Array) -> Array:
        """‖∂Fᵖ/∂h‖² = ‖A + 1‖², the sum of squares."""
        return jnp.sum((a + jnp.eye(a.shape[0], dtype=a.dtype)) ** 2)


class Point(NamedTuple):
    """Where A is taken, with what is known of it."""

    h: Array  # [n]
    rows: Array  # [n]
    spread: Array


@dataclasses.dataclass(frozen=True)
class Iterative:
    """A as products with vectors; steps by conjugate gradients. Memory of order n."""

    residual: Residual

    def at(self, h: Array) -> tuple[Array, Point]:
        """G(h) and h itself, with norms estimated from random signs v: the mean of (A v)ᵢ² is ‖Aᵢ‖²."""
        value, forward = jax.linearize(self.residual, h)
        signs = jax.random.rademacher(jax.random.key(0), (PROBES, h.size), h.dtype)
        products = jax.vmap(forward)(signs)
        rows = jnp.sqrt(jnp.mean(products**2, axis=0))
        return value, Point(h, rows, jnp.sum(jnp.mean((products + signs) ** 2, axis=0)))

    def damped(self, a: Point, g: Array, mu: Array) -> Array:
        _, forward = jax.linearize(self.residual, a.h)
        _, backward = jax.vjp(self.residual, a.h)
        return least_squares(forward, lambda v: backward(v)[0], -g, mu)

    def implicit(self, a: Point, g: Array, weights: Array, dt: Array) -> Array:
        _, forward = jax.linearize(self.residual, a.h)
        _, backward = jax.vjp(self.residual, a.h)
        return least_squares(
            lambda v: v / dt - weights * forward(v),
            lambda v: v / dt - backward(weights * v)[0],
            weights * g,
            jnp.zeros_like(dt),
        )

    def rows(self, a: Point) -> Array:
        return a.rows

    def spread(self, a: Point) -> Array:
        return a.spread


Model = Dense | Iterative


def least_squares(
    forward: Callable[[Array], Array], backward: Callable[[Array], Array], b: Array, mu: Array
) -> Array:
    """The d that minimises ‖B d − b‖² + μ ‖d‖², from products with B and Bᵀ.

    Conjugate gradients on the normal equations, without forming them (CGLS: Hestenes & Stiefel 1952; Björck 1996,
    Numerical Methods for Least Squares Problems, section 7.4).
    """
    start = backward(b)
    least = (EXACT**2) * jnp.sum(start**2)

    def unfinished(carry: tuple) -> Array:
        count, _, _, _, size = carry
        return (count < INNER) & (size > least)

    def improve(carry: tuple) -> tuple:
        count, d, rest, direction, size = carry
        image = forward(direction)
        curvature = jnp.sum(image**2) + mu * jnp.sum(direction**2)
        length = size / curvature
        d = d + length * direction
        rest = rest - length * image
        slope = backward(rest) - mu * d
        new = jnp.sum(slope**2)
        return count + 1, d, rest, slope + new / size * direction, new

    carry = 0, jnp.zeros_like(b), b, start, jnp.sum(start**2)
    return lax.while_loop(unfinished, improve, carry)[1]
