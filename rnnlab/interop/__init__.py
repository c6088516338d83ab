"""Weights from and to other libraries: PyTorch's modules, Flax's cells (linen and NNX), Keras's layers.

No library is imported until a function needs it, and numpy arrays under PyTorch's names need no PyTorch at all.
What the other side cannot hold raises ValueError: nothing is dropped, folded or cast on the way.
"""

from rnnlab.interop.flax import from_flax, to_flax
from rnnlab.interop.keras import from_keras, to_keras
from rnnlab.interop.torch import from_torch, to_torch

__all__ = ["from_flax", "from_keras", "from_torch", "to_flax", "to_keras", "to_torch"]
