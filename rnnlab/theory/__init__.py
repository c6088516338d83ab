"""Analytically tractable models: one neuron and its wall, hidden Markov models, linear dynamics."""

from rnnlab.theory import hidden_markov, linear_gaussian, one_neuron
from rnnlab.theory.wall import WallPaths, wall_paths

__all__ = ["WallPaths", "hidden_markov", "linear_gaussian", "one_neuron", "wall_paths"]
