"""Instruments: what the gradient and the state really do."""

from rnnlab.diagnostics import clipping, one_neuron, regularizers
from rnnlab.diagnostics.attractors import AttractorKind, attractor_kind
from rnnlab.diagnostics.bound import PascanuBound, pascanu_bound
from rnnlab.diagnostics.clipping import clip_adjoints
from rnnlab.diagnostics.contributions import BpttContributions, bptt_contributions
from rnnlab.diagnostics.cycles import LimitCycles, limit_cycles
from rnnlab.diagnostics.exponents import LyapunovSpectrum, entropy_rate, kaplan_yorke
from rnnlab.diagnostics.fixed import FixedPoints, fixed_points, sample_states
from rnnlab.diagnostics.flow import GradientFlow, gradient_flow
from rnnlab.diagnostics.jacobians import JacobianProducts, jacobian_products, step_jacobians
from rnnlab.diagnostics.lyapunov import lyapunov_spectrum
from rnnlab.diagnostics.monitors import GradientLooks, monitor_gradients, read_monitor
from rnnlab.diagnostics.phase import (
    AnyDepth,
    PhaseDiagram,
    depth,
    forget_bias,
    phase_diagram,
    recurrent_gain,
)
from rnnlab.diagnostics.reach import VANISHED, ExampleReach, decay_per_step, horizon
from rnnlab.diagnostics.regularizers import flossing_loss, pascanu_omega
from rnnlab.diagnostics.truncation import TruncationBias, truncation_bias

__all__ = [
    "VANISHED",
    "AnyDepth",
    "AttractorKind",
    "BpttContributions",
    "ExampleReach",
    "FixedPoints",
    "GradientFlow",
    "GradientLooks",
    "JacobianProducts",
    "LimitCycles",
    "LyapunovSpectrum",
    "PascanuBound",
    "PhaseDiagram",
    "TruncationBias",
    "attractor_kind",
    "bptt_contributions",
    "clip_adjoints",
    "clipping",
    "decay_per_step",
    "depth",
    "entropy_rate",
    "fixed_points",
    "flossing_loss",
    "forget_bias",
    "gradient_flow",
    "horizon",
    "jacobian_products",
    "kaplan_yorke",
    "limit_cycles",
    "lyapunov_spectrum",
    "monitor_gradients",
    "one_neuron",
    "pascanu_bound",
    "pascanu_omega",
    "phase_diagram",
    "read_monitor",
    "recurrent_gain",
    "regularizers",
    "sample_states",
    "step_jacobians",
    "truncation_bias",
]
