"""Instruments: what the gradient and the state really do."""

from rnnlab.diagnostics.bound import PascanuBound, pascanu_bound
from rnnlab.diagnostics.fixed import FixedPoints, fixed_points, sample_states
from rnnlab.diagnostics.flow import FELT, GradientFlow, decay_per_step, gradient_flow, horizon
from rnnlab.diagnostics.jacobians import JacobianProducts, jacobian_products, step_jacobians
from rnnlab.diagnostics.lyapunov import LyapunovSpectrum, kaplan_yorke, lyapunov_spectrum

__all__ = [
    "FELT",
    "FixedPoints",
    "GradientFlow",
    "JacobianProducts",
    "LyapunovSpectrum",
    "PascanuBound",
    "decay_per_step",
    "fixed_points",
    "gradient_flow",
    "horizon",
    "jacobian_products",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "pascanu_bound",
    "sample_states",
    "step_jacobians",
]
