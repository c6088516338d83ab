"""Checks of cells and weights that all libraries share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rnnlab import _check
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.driver import check_params
from rnnlab.typing import Array, Cell, PyTree

# Fields that no trained weight depends on, and those that each library checks for itself.
_FREE = {"hidden_size", "activation", "forget_bias", "kernel_init", "recurrent_init", "bias_init"}
_FREE |= {"bias", "recurrent_bias", "recurrent_bias_init", "dtype", "param_dtype"}


def plain(cell: Any, library: str, besides: tuple[str, ...] = ()) -> RNN | LSTM | GRU:
    """``cell``; ValueError unless it is a plain RNN, LSTM or GRU, but for options ``besides``."""
    # A subclass may have other equations: hence type() and not isinstance().
    if type(cell) not in (RNN, LSTM, GRU):
        raise ValueError(f"{library} has no {type(cell).__name__}; give an RNN, an LSTM or a GRU")
    for field in dataclasses.fields(cell):
        if field.name in _FREE or field.name in besides:
            continue
        value = getattr(cell, field.name)
        if value != field.default:
            raise ValueError(
                f"{library} has no {type(cell).__name__} with {field.name}={value!r}; "
                f"give one with {field.name}={field.default!r}"
            )
    return cell


def own_params(cell: Cell, params: PyTree) -> None:
    """ValueError unless ``params`` are those of the cell, for any number of input features."""
    leaves = jax.tree.leaves(params)
    # The first leaf is w_x, [I, gates · H]; of anything else the check below says what is wrong.
    is_matrix = bool(leaves) and np.ndim(leaves[0]) == 2
    inputs = leaves[0].shape[0] if is_matrix else 1
    check_params(cell, params, inputs)


def one_dtype(name: str, arrays: Mapping[str, Any]) -> np.dtype:
    """The floating dtype that all ``arrays`` share.

    ValueError where they differ, or where JAX would truncate them.
    """
    examples = {}
    for key, array in arrays.items():
        dtype = np.dtype(getattr(array, "dtype", type(array)))
        examples[str(dtype)] = key
    if len(examples) != 1:
        dtypes = " and ".join(f"{dtype} ({key})" for dtype, key in sorted(examples.items()))
        raise ValueError(f"{name} holds {dtypes}; cast all to one dtype")
    dtype = _check.float_dtype(name, next(iter(examples)))
    has_float64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    if dtype == np.float64 and not has_float64:
        raise ValueError(
            f"{name} is float64, which JAX would truncate; "
            'call jax.config.update("jax_enable_x64", True) or cast it'
        )
    return dtype


def blank(x: Array | np.ndarray) -> bool:
    """Whether every element is +0, so that leaving ``x`` out loses no bit."""
    x = np.asarray(x)
    # −0 counts as something: it would come back as +0.
    return not (np.any(x) or np.any(np.signbit(x)))
