"""Backpropagation through time that keeps every step: scaled adjoints and step contributions.

With sₜ = F(θ, sₜ₋₁, xₜ), yₜ = Y(θ, sₜ₋₁, xₜ, sₜ) and the loss L(y₁ … y_T), the adjoint
λₜ = ∂L/∂sₜ runs backwards as

    λₜ = (∂Y/∂sₜ)ᵀ ∂L/∂yₜ + (∂F/∂sₜ at t+1)ᵀ λₜ₊₁ + (∂Y/∂sₜ at t+1)ᵀ ∂L/∂yₜ₊₁

and ∂L/∂θ = Σₜ (∂F/∂θ at t)ᵀ λₜ + (∂Y/∂θ at t)ᵀ ∂L/∂yₜ: one term per step, its *contribution*
(Werbos 1990; Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, eq. 3–5). λ is carried as
mantissa · 2^exponent with an integer exponent for each example, so 100 000 steps neither underflow
nor overflow, and scaling by powers of two rounds nothing.
"""

from rnnlab.gradients.record import record

__all__ = ["record"]
