"""Weights from and to other libraries: PyTorch's modules, and the cells of Flax (linen and NNX).

Neither library is imported until a function needs it, and numpy arrays under PyTorch's names need no PyTorch at all.
What the other side cannot hold raises ValueError: nothing is dropped, folded or cast on the way.
"""

from rnnlab.interop.flax import from_flax, to_flax
from rnnlab.interop.torch import from_torch, to_torch

__all__ = ["from_flax", "from_torch", "to_flax", "to_torch"]
