"""Weights from and to other libraries: PyTorch's modules, Flax's cells, Keras's layers.

A library is imported only when a function needs it; numpy arrays under PyTorch's names need no
PyTorch. Weights that the other side cannot hold raise ValueError: nothing is dropped, merged or
cast.
"""

from rnnlab.interop.flax import from_flax, to_flax
from rnnlab.interop.keras import from_keras, to_keras
from rnnlab.interop.torch import from_torch, to_torch

__all__ = ["from_flax", "from_keras", "from_torch", "to_flax", "to_keras", "to_torch"]
