"""rnnlab: recurrent networks as pure functions, and instruments that measure their gradients.

>>> import jax, rnnlab
>>> cell = rnnlab.LSTM(8)
>>> params = cell.init(jax.random.key(0), input_size=3)
>>> state, ys = rnnlab.unroll(cell, params, jax.numpy.ones((20, 3)))
>>> ys.shape
(20, 8)
"""

from typing import TYPE_CHECKING

from rnnlab._lazy import lazily
from rnnlab._version import __version__ as __version__

if TYPE_CHECKING:
    from rnnlab import cells as cells
    from rnnlab import data as data
    from rnnlab import diagnostics as diagnostics
    from rnnlab import embeddings as embeddings
    from rnnlab import engines as engines
    from rnnlab import initializers as initializers
    from rnnlab import interop as interop
    from rnnlab import layers as layers
    from rnnlab import models as models
    from rnnlab import nnx as nnx
    from rnnlab import report as report
    from rnnlab import studies as studies
    from rnnlab import tasks as tasks
    from rnnlab import text as text
    from rnnlab import theory as theory
    from rnnlab import training as training
    from rnnlab.cells import GRU as GRU
    from rnnlab.cells import LSTM as LSTM
    from rnnlab.cells import MGU as MGU
    from rnnlab.cells import RNN as RNN
    from rnnlab.cells import BatchNormLSTM as BatchNormLSTM
    from rnnlab.cells import ConvGRU as ConvGRU
    from rnnlab.cells import ConvLSTM as ConvLSTM
    from rnnlab.cells import Highway as Highway
    from rnnlab.cells import IndRNN as IndRNN
    from rnnlab.cells import JordanRNN as JordanRNN
    from rnnlab.cells import LeakyRNN as LeakyRNN
    from rnnlab.cells import Readout as Readout
    from rnnlab.cells import Recurrent as Recurrent
    from rnnlab.cells import Step as Step
    from rnnlab.diagnostics import GradientFlow as GradientFlow
    from rnnlab.diagnostics import gradient_flow as gradient_flow
    from rnnlab.driver import unroll as unroll
    from rnnlab.driver import unroll_states as unroll_states
    from rnnlab.explain import explain_engine as explain_engine
    from rnnlab.layers import bidirectional as bidirectional
    from rnnlab.layers import stack as stack
    from rnnlab.startup import quick_start as quick_start


_HOME = {
    "BatchNormLSTM": "cells",
    "ConvGRU": "cells",
    "ConvLSTM": "cells",
    "GRU": "cells",
    "GradientFlow": "diagnostics",
    "Highway": "cells",
    "IndRNN": "cells",
    "JordanRNN": "cells",
    "LSTM": "cells",
    "LeakyRNN": "cells",
    "MGU": "cells",
    "RNN": "cells",
    "Readout": "cells",
    "Recurrent": "cells",
    "Step": "cells",
    "bidirectional": "layers",
    "explain_engine": "explain",
    "gradient_flow": "diagnostics",
    "quick_start": "startup",
    "stack": "layers",
    "unroll": "driver",
    "unroll_states": "driver",
}
_MODULES = (
    "cells",
    "data",
    "diagnostics",
    "embeddings",
    "engines",
    "initializers",
    "interop",
    "layers",
    "models",
    "nnx",
    "report",
    "studies",
    "tasks",
    "text",
    "theory",
    "training",
)

__all__ = ["__version__", *_HOME, *_MODULES]

__getattr__, __dir__ = lazily("rnnlab", _HOME, _MODULES)
