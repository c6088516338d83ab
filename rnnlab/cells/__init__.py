"""Cells: frozen dataclasses with pure methods; one family per file."""

from typing import TYPE_CHECKING

from rnnlab._lazy import lazily

if TYPE_CHECKING:
    from rnnlab.cells.base import Adjoint as Adjoint
    from rnnlab.cells.base import Maps as Maps
    from rnnlab.cells.base import Recurrent as Recurrent
    from rnnlab.cells.batch_norm import BatchNormGains as BatchNormGains
    from rnnlab.cells.batch_norm import BatchNormLSTM as BatchNormLSTM
    from rnnlab.cells.batch_norm import BatchNormParams as BatchNormParams
    from rnnlab.cells.conv import Convolutional as Convolutional
    from rnnlab.cells.conv import ConvParams as ConvParams
    from rnnlab.cells.conv_gru import ConvGRU as ConvGRU
    from rnnlab.cells.conv_lstm import ConvLSTM as ConvLSTM
    from rnnlab.cells.gru import GRU as GRU
    from rnnlab.cells.gru import GRUNorm as GRUNorm
    from rnnlab.cells.gru import GRUParams as GRUParams
    from rnnlab.cells.gru import GRUState as GRUState
    from rnnlab.cells.highway import Highway as Highway
    from rnnlab.cells.highway import HighwayParams as HighwayParams
    from rnnlab.cells.highway import HighwayState as HighwayState
    from rnnlab.cells.indrnn import IndRNN as IndRNN
    from rnnlab.cells.indrnn import IndRNNParams as IndRNNParams
    from rnnlab.cells.indrnn import IndRNNState as IndRNNState
    from rnnlab.cells.jordan import JordanParams as JordanParams
    from rnnlab.cells.jordan import JordanRNN as JordanRNN
    from rnnlab.cells.jordan import JordanState as JordanState
    from rnnlab.cells.lstm import LSTM as LSTM
    from rnnlab.cells.lstm import LSTMNorm as LSTMNorm
    from rnnlab.cells.lstm import LSTMParams as LSTMParams
    from rnnlab.cells.lstm import LSTMState as LSTMState
    from rnnlab.cells.mgu import MGU as MGU
    from rnnlab.cells.mgu import MGUParams as MGUParams
    from rnnlab.cells.mgu import MGUState as MGUState
    from rnnlab.cells.moments import LSTMMoments as LSTMMoments
    from rnnlab.cells.moments import Moments as Moments
    from rnnlab.cells.population import PopulationLSTM as PopulationLSTM
    from rnnlab.cells.population import PopulationParams as PopulationParams
    from rnnlab.cells.population import PopulationState as PopulationState
    from rnnlab.cells.population import population_statistics as population_statistics
    from rnnlab.cells.readout import Readout as Readout
    from rnnlab.cells.readout import ReadoutParams as ReadoutParams
    from rnnlab.cells.readout import ReadoutState as ReadoutState
    from rnnlab.cells.rnn import RNN as RNN
    from rnnlab.cells.rnn import LeakyRNN as LeakyRNN
    from rnnlab.cells.rnn import RNNParams as RNNParams
    from rnnlab.cells.rnn import RNNState as RNNState
    from rnnlab.cells.step import Step as Step

_HOME = {
    "Adjoint": "base",
    "BatchNormGains": "batch_norm",
    "BatchNormLSTM": "batch_norm",
    "BatchNormParams": "batch_norm",
    "ConvGRU": "conv_gru",
    "ConvLSTM": "conv_lstm",
    "ConvParams": "conv",
    "Convolutional": "conv",
    "GRU": "gru",
    "GRUNorm": "gru",
    "GRUParams": "gru",
    "GRUState": "gru",
    "Highway": "highway",
    "HighwayParams": "highway",
    "HighwayState": "highway",
    "IndRNN": "indrnn",
    "IndRNNParams": "indrnn",
    "IndRNNState": "indrnn",
    "JordanParams": "jordan",
    "JordanRNN": "jordan",
    "JordanState": "jordan",
    "LSTM": "lstm",
    "LSTMMoments": "moments",
    "LSTMNorm": "lstm",
    "LSTMParams": "lstm",
    "LSTMState": "lstm",
    "LeakyRNN": "rnn",
    "MGU": "mgu",
    "MGUParams": "mgu",
    "MGUState": "mgu",
    "Maps": "base",
    "Moments": "moments",
    "PopulationLSTM": "population",
    "PopulationParams": "population",
    "PopulationState": "population",
    "RNN": "rnn",
    "RNNParams": "rnn",
    "RNNState": "rnn",
    "Readout": "readout",
    "ReadoutParams": "readout",
    "ReadoutState": "readout",
    "Recurrent": "base",
    "Step": "step",
    "population_statistics": "population",
}

__all__ = [*_HOME]

__getattr__, __dir__ = lazily("rnnlab.cells", _HOME)
