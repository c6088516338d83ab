"""Instruments of the state: Jacobians, Lyapunov exponents, attractors."""
