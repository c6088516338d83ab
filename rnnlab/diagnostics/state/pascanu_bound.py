"""Pascanu's bound on the gradients of a simple recurrent network."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from rnnlab._results import result
from rnnlab.cells import RNN
from rnnlab.diagnostics.state.jacobians import JacobianProducts, jacobian_products
from rnnlab.diagnostics.state.state_map import at_least_float32
from rnnlab.typing import Array, PyTree

_GAMMA = {"tanh": 1.0, "relu": 1.0, "identity": 1.0, "sigmoid": 0.25}
"""γ of each activation: its largest slope |φ′|."""


@result
class PascanuBound(NamedTuple):
    """The bound (γ σ_max)^(t−k) and the measured ‖∂hₜ/∂hₖ‖₂ for P pairs; natural logarithms.

    Attributes:
        gamma: γ, the largest slope of the nonlinearity, a scalar.
        sigma_max: the largest singular value of W_h, a scalar.
        spectral_radius: the largest modulus of an eigenvalue of W_h, a scalar.
        vanishing: whether σ_max < 1/γ, so that gradients vanish whatever the inputs (sufficient).
        exploding: whether σ_max > 1/γ, so that gradients may explode (necessary, not sufficient).
        lags: t − k, ``[P]``, steps.
        log_bound: (t − k) ln(γ σ_max), ``[P]``, nats.
        log_norm: ln ‖∂hₜ/∂hₖ‖₂ as measured, ``[P, ...]``, nats: never above the bound.
        products: the :class:`JacobianProducts` that were measured.
    """

    gamma: Array
    sigma_max: Array
    spectral_radius: Array
    vanishing: Array
    exploding: Array
    lags: Array
    log_bound: Array
    log_norm: Array
    products: JacobianProducts

    def finding(self) -> str:
        """The conclusion from the bound, in one sentence."""
        factor = self.gamma * self.sigma_max
        if self.vanishing:
            return f"gradients vanish, since γ σ_max = {factor:.3g} < 1"
        text = f"γ σ_max = {factor:.3g}, so the bound allows gradients to explode"
        return f"{text}; the spectral radius is {self.spectral_radius:.3g}"


def pascanu_bound(
    cell: RNN,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> PascanuBound:
    """How far (γ σ_max)^(t−k) lies above the product that it bounds (Pascanu et al. 2013, §2.1).

    ‖∂hₜ/∂hₖ‖ ≤ Π ‖diag(φ′) W_hᵀ‖ ≤ (γ σ_max)^(t−k) with γ = 1 for tanh, ReLU and the identity, ¼
    for the sigmoid (Pascanu, Mikolov & Bengio, arXiv 1211.5063). For Gaussian weights of standard
    deviation g/√N, σ_max ≈ 2 g while the spectral radius is ≈ g, so the bound implies vanishing
    only for g < ½, although the transition is at g = 1. Parameters narrower than 32 bits are
    converted to float32.

    >>> cell = rnnlab.RNN(8)
    >>> params = cell.init(jax.random.key(0), 1)
    >>> bound = pascanu_bound(cell, params, jnp.zeros((20, 1)))
    >>> bool((bound.log_norm <= bound.log_bound + 1e-5).all())
    True

    Args:
        cell: a :class:`rnnlab.RNN`, in either form, with a nonlinearity that has a name.
        params, xs, initial_state, pairs: as for :func:`jacobian_products`.

    Returns:
        :class:`PascanuBound`: the bound and the measured norms.

    Raises:
        ValueError: as :func:`jacobian_products` does, and for another cell or a nonlinearity whose
            γ is not known.
    """
    # Not isinstance: a subclass may have another equation, for which the bound does not hold.
    if type(cell) is not RNN:
        raise ValueError(
            f"the bound is one for rnnlab.RNN, not for {type(cell).__name__}; use jacobian_products"
        )
    phi = cell.activation
    if not isinstance(phi, str) or phi not in _GAMMA:
        raise ValueError(
            "the largest slope of this activation is not known; "
            "choose tanh, relu, sigmoid or identity"
        )
    gamma = _GAMMA[phi]
    products = jacobian_products(cell, params, xs, initial_state, pairs=pairs)
    w_h = at_least_float32(params.w_h)
    sigma = jnp.linalg.norm(w_h, 2)
    eigenvalues = jnp.linalg.eigvals(w_h)
    return PascanuBound(
        gamma=jnp.asarray(gamma, sigma.dtype),
        sigma_max=sigma,
        spectral_radius=jnp.abs(eigenvalues).max(),
        vanishing=gamma * sigma < 1,
        exploding=gamma * sigma > 1,
        lags=products.lags,
        log_bound=products.lags * jnp.log(gamma * sigma),
        log_norm=products.log_norm,
        products=products,
    )
