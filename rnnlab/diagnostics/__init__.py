"""Instruments: what the gradient and the state really do."""

from rnnlab.diagnostics.flow import FELT, GradientFlow, decay_per_step, gradient_flow, horizon

__all__ = ["FELT", "GradientFlow", "decay_per_step", "gradient_flow", "horizon"]
