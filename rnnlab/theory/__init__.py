"""An analytically tractable model: one neuron, and the wall in its loss."""

from rnnlab.theory import one_neuron
from rnnlab.theory.wall import WallPaths, wall_paths

__all__ = ["WallPaths", "one_neuron", "wall_paths"]
