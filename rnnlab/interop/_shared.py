"""What every library is asked before its weights are read or written."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rnnlab import _check
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.driver import check_params
from rnnlab.typing import Array, Cell, PyTree

# What no trained weight depends on, and what each library decides for itself.
_FREE = {"hidden_size", "activation", "forget_bias", "kernel_init", "recurrent_init", "bias_init"}
_FREE |= {"bias", "recurrent_bias", "recurrent_bias_init", "dtype", "param_dtype"}


def plain(cell: Any, library: str, besides: tuple[str, ...] = ()) -> RNN | LSTM | GRU:
    """``cell``; ValueError unless it is a plain RNN, LSTM or GRU, but for the options ``besides``."""
    if type(cell) not in (RNN, LSTM, GRU):
        raise ValueError(f"{library} has no {type(cell).__name__}; give an RNN, an LSTM or a GRU")
    for field in dataclasses.fields(cell):
        if field.name not in (*_FREE, *besides) and getattr(cell, field.name) != field.default:
            fault = f"{type(cell).__name__} with {field.name}={getattr(cell, field.name)!r}"
            raise ValueError(
                f"{library} has no {fault}; give one with {field.name}={field.default!r}"
            )
    return cell


def own_params(cell: Cell, params: PyTree) -> None:
    """ValueError unless ``params`` are the cell's own, for however many input features."""
    leaves = jax.tree.leaves(params)
    check_params(cell, params, leaves[0].shape[0] if leaves and np.ndim(leaves[0]) == 2 else 1)


def one_dtype(name: str, arrays: Mapping[str, Any]) -> np.dtype:
    """The floating dtype that all ``arrays`` share; ValueError where they differ, or where JAX would truncate them."""
    dtypes = {
        str(np.dtype(getattr(array, "dtype", type(array)))): key for key, array in arrays.items()
    }
    if len(dtypes) != 1:
        found = " and ".join(f"{dtype} ({key})" for dtype, key in sorted(dtypes.items()))
        raise ValueError(f"{name} holds {found}; cast all to one dtype")
    dtype = _check.float_dtype(name, next(iter(dtypes)))
    if dtype == np.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            f'{name} is float64, which JAX would truncate; call jax.config.update("jax_enable_x64", True) or cast it'
        )
    return dtype


def blank(x: Array | np.ndarray) -> bool:
    """Whether every element is +0, so that leaving ``x`` out loses not one bit."""
    x = np.asarray(x)
    return not (np.any(x) or np.any(np.signbit(x)))
