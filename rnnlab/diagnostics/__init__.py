"""Instruments: what the gradient and the state really do."""

from rnnlab.diagnostics.bound import PascanuBound, pascanu_bound
from rnnlab.diagnostics.contributions import BpttContributions, bptt_contributions
from rnnlab.diagnostics.fixed import FixedPoints, fixed_points, sample_states
from rnnlab.diagnostics.flow import FELT, GradientFlow, decay_per_step, gradient_flow, horizon
from rnnlab.diagnostics.jacobians import JacobianProducts, jacobian_products, step_jacobians
from rnnlab.diagnostics.lyapunov import LyapunovSpectrum, kaplan_yorke, lyapunov_spectrum
from rnnlab.diagnostics.monitors import GradientLooks, monitor_gradients, read_monitor
from rnnlab.diagnostics.phase import AnyDepth, PhaseDiagram, depth, forget_bias, phase_diagram, recurrent_gain
from rnnlab.diagnostics.truncation import TruncationBias, truncation_bias

__all__ = [
    "FELT",
    "AnyDepth",
    "BpttContributions",
    "FixedPoints",
    "GradientFlow",
    "GradientLooks",
    "JacobianProducts",
    "LyapunovSpectrum",
    "PascanuBound",
    "PhaseDiagram",
    "TruncationBias",
    "bptt_contributions",
    "decay_per_step",
    "depth",
    "fixed_points",
    "forget_bias",
    "gradient_flow",
    "horizon",
    "jacobian_products",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "monitor_gradients",
    "pascanu_bound",
    "phase_diagram",
    "read_monitor",
    "recurrent_gain",
    "sample_states",
    "step_jacobians",
    "truncation_bias",
]
