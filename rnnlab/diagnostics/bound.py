"""What the largest singular value of W_h says beforehand about the gradient of a simple recurrent network."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from rnnlab.cells import RNN
from rnnlab.diagnostics.jacobians import JacobianProducts, jacobian_products
from rnnlab.typing import Array, PyTree

_GAMMA = {"tanh": 1.0, "relu": 1.0, "identity": 1.0, "sigmoid": 0.25}  # the largest |φ′|


class PascanuBound(NamedTuple):
    """The bound (γ σ_max)^(t−k) beside the measured ‖∂hₜ/∂hₖ‖₂ for P pairs; logarithms are natural (nats)."""

    gamma: Array
    """γ, the largest slope of the nonlinearity."""
    sigma_max: Array
    """The largest singular value of W_h."""
    spectral_radius: Array
    """The largest modulus of an eigenvalue of W_h."""
    vanishing: Array
    """Whether σ_max < 1/γ: gradients vanish whatever the inputs (sufficient)."""
    exploding: Array
    """Whether σ_max > 1/γ: gradients may explode (necessary, not sufficient)."""
    lags: Array
    """t − k, ``[P]``, steps."""
    log_bound: Array
    """(t − k) ln(γ σ_max), ``[P]``."""
    log_norm: Array
    """ln ‖∂hₜ/∂hₖ‖₂ as measured, ``[P, ...]``: never above the bound."""
    products: JacobianProducts
    """All that was measured."""


def pascanu_bound(
    cell: RNN,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> PascanuBound:
    """How far (γ σ_max)^(t−k) lies above the product that it bounds (Pascanu, Mikolov & Bengio 2013, §2.1).

    ‖∂hₜ/∂hₖ‖ ≤ Π ‖diag(φ′) W_hᵀ‖ ≤ (γ σ_max)^(t−k) with γ = 1 for tanh, ReLU and the identity, ¼ for the sigmoid. For
    Gaussian weights of standard deviation g/√N σ_max ≈ 2 g while the spectral radius is ≈ g, so the bound speaks of
    vanishing only for g < ½, where the transition is at g = 1.

    Args:
        cell: a :class:`rnnlab.RNN`, in either form, with a nonlinearity that has a name.
        params, xs, initial_state, pairs: as for :func:`jacobian_products`.

    Raises:
        ValueError: as :func:`jacobian_products` does, and for another cell or a nonlinearity whose γ is not known.
    """
    if type(cell) is not RNN:  # a subclass may have another equation
        raise ValueError(
            f"the bound is one for rnnlab.RNN, not for {type(cell).__name__}; use jacobian_products"
        )
    if cell.activation not in _GAMMA:
        raise ValueError(
            "the largest slope of this activation is not known; choose tanh, relu, sigmoid or identity"
        )
    gamma = _GAMMA[cell.activation]
    products = jacobian_products(cell, params, xs, initial_state, pairs=pairs)
    sigma = jnp.linalg.norm(params.w_h, 2)
    return PascanuBound(
        jnp.asarray(gamma, sigma.dtype),
        sigma,
        jnp.abs(jnp.linalg.eigvals(params.w_h)).max(),
        gamma * sigma < 1,
        gamma * sigma > 1,
        products.lags,
        products.lags * jnp.log(gamma * sigma),
        products.log_norm,
        products,
    )
