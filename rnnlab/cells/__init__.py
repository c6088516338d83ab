"""Cells: frozen dataclasses with pure methods; one family a file."""

from rnnlab.cells.base import Adjoint, Maps, Recurrent
from rnnlab.cells.gru import GRU, GRUNorm, GRUParams, GRUState
from rnnlab.cells.jordan import JordanParams, JordanRNN, JordanState
from rnnlab.cells.lstm import LSTM, LSTMNorm, LSTMParams, LSTMState
from rnnlab.cells.readout import Readout, ReadoutParams, ReadoutState
from rnnlab.cells.rnn import RNN, LeakyRNN, RNNParams, RNNState
from rnnlab.cells.step import Step

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Adjoint",
    "GRUNorm",
    "GRUParams",
    "GRUState",
    "JordanParams",
    "JordanRNN",
    "JordanState",
    "LSTMNorm",
    "LSTMParams",
    "LSTMState",
    "LeakyRNN",
    "Maps",
    "RNNParams",
    "RNNState",
    "Readout",
    "ReadoutParams",
    "ReadoutState",
    "Recurrent",
    "Step",
]
