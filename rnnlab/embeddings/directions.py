"""Vectors as floats, and their directions, of which cosines are products."""

from typing import Any

import numpy as np


def as_floats(name: str, value: Any) -> np.ndarray:
    """``value`` as float32, too large numbers as infinite; ValueError for no real numbers."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biufV":
            raise ValueError("no real numbers")
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{name} cannot be read as real numbers; give a numpy array of floats"
        ) from None


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``[..., D]`` divided by their lengths; a zero vector stays zero."""
    # The squares of large numbers would overflow, and those of small ones be zero.
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scaled = vectors / np.where(largest > 0, largest, 1)
    return scaled / np.maximum(np.linalg.norm(scaled, axis=-1, keepdims=True), 1)
