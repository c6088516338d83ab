"""Instruments that measure the gradients and the states of recurrent networks."""

from rnnlab.diagnostics.gradient.contributions import BpttContributions, bptt_contributions
from rnnlab.diagnostics.gradient.flow import GradientFlow, gradient_flow
from rnnlab.diagnostics.gradient.reach import VANISHED, ExampleReach, decay_per_step, horizon
from rnnlab.diagnostics.gradient.truncation import TruncationBias, truncation_bias
from rnnlab.diagnostics.invariant_sets.cycles import LimitCycles, limit_cycles
from rnnlab.diagnostics.invariant_sets.fixed_points import FixedPoints, fixed_points, sample_states
from rnnlab.diagnostics.phase_diagram import (
    PhaseDiagram,
    forget_bias,
    phase_diagram,
    recurrent_gain,
)
from rnnlab.diagnostics.state.attractors import AttractorKind, attractor_kind
from rnnlab.diagnostics.state.exponents import LyapunovSpectrum, entropy_rate, kaplan_yorke
from rnnlab.diagnostics.state.jacobians import JacobianProducts, jacobian_products, step_jacobians
from rnnlab.diagnostics.state.lyapunov import lyapunov_spectrum
from rnnlab.diagnostics.state.pascanu_bound import PascanuBound, pascanu_bound

__all__ = [
    "VANISHED",
    "AttractorKind",
    "BpttContributions",
    "ExampleReach",
    "FixedPoints",
    "GradientFlow",
    "JacobianProducts",
    "LimitCycles",
    "LyapunovSpectrum",
    "PascanuBound",
    "PhaseDiagram",
    "TruncationBias",
    "attractor_kind",
    "bptt_contributions",
    "decay_per_step",
    "entropy_rate",
    "fixed_points",
    "forget_bias",
    "gradient_flow",
    "horizon",
    "jacobian_products",
    "kaplan_yorke",
    "limit_cycles",
    "lyapunov_spectrum",
    "pascanu_bound",
    "phase_diagram",
    "recurrent_gain",
    "sample_states",
    "step_jacobians",
    "truncation_bias",
]
