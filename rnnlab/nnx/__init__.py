"""Flax NNX modules that run any cell on rnnlab's engines, with the signatures of Flax's own.

A Flax model changes one import, ``from rnnlab.nnx import RNN, Bidirectional`` in place of
``from flax.nnx import RNN, Bidirectional``, and keeps its cells, parameters and checkpoints.
"""

from rnnlab.nnx.bidirectional import Bidirectional
from rnnlab.nnx.rnn import RNN
from rnnlab.nnx.stacked import Stacked

__all__ = ["RNN", "Bidirectional", "Stacked"]
