"""Codes of tokens as arrays and as one-hot vectors."""

from typing import Any

import numpy as np

from rnnlab import _check


def one_hot(codes: Any, size: int) -> np.ndarray:
    """``codes [...]`` as vectors ``[..., V]``, float32: 1 at the code, 0 elsewhere.

    >>> one_hot([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)

    Args:
        codes: whole numbers of any shape.
        size: V.

    Raises:
        ValueError: for codes that are not whole numbers in 0..V−1.
    """
    _check.positive_int("size", size)
    codes = as_array(codes)
    if codes.dtype.kind not in "iu":
        raise ValueError(f"codes are {codes.dtype}; give whole numbers")
    if codes.size and (codes.min() < 0 or codes.max() >= size):
        outside = codes.min() if codes.min() < 0 else codes.max()
        raise ValueError(f"codes hold {outside}; each must lie in 0..{size - 1}")
    vectors = np.zeros((codes.size, size), np.float32)
    vectors[np.arange(codes.size), codes.ravel()] = 1
    return vectors.reshape(*codes.shape, size)


def as_array(codes: Any) -> np.ndarray:
    """``codes`` as an array; ValueError for lists of several lengths."""
    try:
        return np.asarray(codes)
    except ValueError:
        raise ValueError("codes are lists of several lengths; give whole numbers [N]") from None
