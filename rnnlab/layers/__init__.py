"""Cells made of cells: stacks, two directions, dropout, variable depth, and clipped adjoints."""

from rnnlab.layers.any_depth import AnyDepth, DepthParams, depth
from rnnlab.layers.bidirectional import (
    Bidirectional,
    BidirectionalParams,
    BidirectionalState,
    bidirectional,
)
from rnnlab.layers.clipped_adjoint import ClippedAdjoint, clip_adjoints
from rnnlab.layers.dropout import (
    VariationalDropout,
    WeightDropout,
    Zoneout,
    variational_dropout,
    weight_dropout,
    zoneout,
)
from rnnlab.layers.stack import Stack, StackParams, StackState, stack

__all__ = [
    "AnyDepth",
    "Bidirectional",
    "BidirectionalParams",
    "BidirectionalState",
    "ClippedAdjoint",
    "DepthParams",
    "Stack",
    "StackParams",
    "StackState",
    "VariationalDropout",
    "WeightDropout",
    "Zoneout",
    "bidirectional",
    "clip_adjoints",
    "depth",
    "stack",
    "variational_dropout",
    "weight_dropout",
    "zoneout",
]
