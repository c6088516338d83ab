"""Initial weights. Every name but ``zeros`` is a factory: equal arguments give the *same* initialiser.

An initialiser is ``(key, shape, dtype) -> array``. Because equal arguments give the same object, two cells
built alike are equal and hash alike, and a compiled program is found again. A cell asks for one gate's matrix
at a time, so ``shape`` is ``(I, H)`` for inputs and ``(H, H)`` for the recurrence; biases are asked for as
``(gates, H)``, a row for each gate.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.typing import Array, Dtype, Initializer, Key


def _factory(make: Callable[..., Initializer]) -> Callable[..., Initializer]:
    """``make``, but equal arguments, however they are written, give the same object."""
    signature = inspect.signature(make)
    made: dict[
        tuple, Initializer
    ] = {}  # not functools.cache, which takes 100 and 100.0 for two things

    @functools.wraps(make)
    def call(*args: Any, **named: Any) -> Initializer:
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        key = (*bound.args, *bound.kwargs.items())
        if key not in made:
            made[key] = make(*bound.args, **bound.kwargs)
        return made[key]

    return call


zeros = jax.nn.initializers.zeros
orthogonal = _factory(jax.nn.initializers.orthogonal)
lecun_normal = _factory(jax.nn.initializers.lecun_normal)
glorot_uniform = _factory(jax.nn.initializers.glorot_uniform)
normal = _factory(jax.nn.initializers.normal)
uniform = _factory(jax.nn.initializers.uniform)
constant = _factory(jax.nn.initializers.constant)


@_factory
def identity(scale: float = 1.0) -> Initializer:
    """``scale`` · I, the recurrent weights of the IRNN (Le, Jaitly & Hinton 2015, arXiv 1504.00941).

    The paper pairs it with ReLU and zero bias: ``RNN(H, "relu", recurrent_init=identity())``.
    Raises ValueError for a matrix that is not square.
    """

    def init(key: Key, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        del key
        _square("identity", shape)
        return scale * jnp.eye(shape[0], dtype=dtype)

    return init


@_factory
def gaussian_gain(gain: float = 1.0) -> Initializer:
    """g · N(0, 1/N): spectral radius about g, largest singular value about 2g (Pascanu et al. 2013)."""

    def init(key: Key, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        return gain / math.sqrt(shape[0]) * jax.random.normal(key, shape, dtype)

    return init


@_factory
def spectral_radius(radius: float = 1.0) -> Initializer:
    """A Gaussian matrix rescaled so that its largest absolute eigenvalue is exactly ``radius`` (Jaeger 2001).

    The eigenvalues are those of the drawn matrix, so the result is exact, not only in expectation.
    Needs JAX's non-symmetric eigenvalue solver, so a CPU. Raises ValueError for a matrix that is not square.
    """

    def init(key: Key, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        _square("spectral_radius", shape)
        w = jax.random.normal(key, shape, dtype)
        return radius * w / jnp.abs(jnp.linalg.eigvals(w)).max().astype(dtype)

    return init


@_factory
def logistic() -> Initializer:
    """Gaussian of standard deviation 3.6/√N for logistic units, N the fan-in (Yilmaz & Poli 2022)."""

    def init(key: Key, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        return 3.6 / math.sqrt(shape[0]) * jax.random.normal(key, shape, dtype)

    return init


@_factory
def chrono(max_lag: float) -> Initializer:
    """Chrono biases for lags up to ``max_lag`` steps (Tallec & Ollivier 2018, arXiv 1804.11188).

    LSTM: b_f = ln U[1, max_lag − 1] and b_i = −b_f, other gates zero. GRU, whose z keeps the old state:
    b_z = ln U[1, max_lag − 1], other gates zero. Give it as ``bias_init``; it takes the place of ``forget_bias``.
    Raises ValueError for ``max_lag`` below 3 and for a bias that is neither an LSTM's nor a GRU's.
    """
    if not max_lag >= 3:
        raise ValueError(
            f"max_lag is {max_lag!r}; chrono biases need a longest lag of at least 3 steps"
        )

    def init(key: Key, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        if len(shape) != 2 or shape[0] not in (3, 4):
            raise ValueError(
                f"chrono biases are for LSTM (4 gates) and GRU (3 gates), not for the shape {shape}"
            )
        keep = jnp.log(jax.random.uniform(key, shape[1:], dtype, 1.0, max_lag - 1.0))
        rest = jnp.zeros_like(keep)
        rows = (
            [-keep, keep, rest, rest] if shape[0] == 4 else [rest, keep, rest]
        )  # i f g o, or r z n
        return jnp.stack(rows)

    return init


def _square(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} needs a square matrix, not {shape}; give it as recurrent_init")
    _check.positive_int("size", shape[0])
