"""Initial weights: frozen dataclasses that are called as ``init(key, shape, dtype) -> array``.

Equal arguments give equal initialisers, so two cells with equal settings are equal and share one
compiled program. An initialiser prints as the call that constructs it, and can be pickled and
copied. Each has a second name in lower case, as in :mod:`jax.nn.initializers`: ``orthogonal()`` is
``Orthogonal()``.

A cell draws the matrix of one gate at a time, so ``shape`` is ``(I, H)`` for inputs and ``(H, H)``
for the recurrence. Biases are drawn as ``(gates, H)``, a row for each gate.

>>> import rnnlab
>>> rnnlab.initializers.identity(0.5)
Identity(scale=0.5)
>>> rnnlab.RNN(4, activation="relu", recurrent_init=rnnlab.initializers.identity()).hidden_size
4
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.typing import Array, Dtype, Initializer, Key

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Zeros:
    """All zeros."""

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        del key
        return jnp.zeros(shape, dtype)


@dataclasses.dataclass(frozen=True)
class Constant:
    """Every element is ``value``."""

    value: float

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        del key
        return jnp.full(shape, self.value, dtype)


@dataclasses.dataclass(frozen=True)
class Normal:
    """N(0, stddev²)."""

    stddev: float = 0.01

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return jax.nn.initializers.normal(self.stddev)(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """U[0, scale)."""

    scale: float = 0.01

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return jax.nn.initializers.uniform(self.scale)(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class LecunNormal:
    """Truncated normal of variance 1/I, I the fan-in (LeCun et al. 1998)."""

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return jax.nn.initializers.lecun_normal()(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class GlorotUniform:
    """U[−a, a) with a² = 6/(fan-in + fan-out) (Glorot & Bengio 2010)."""

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return jax.nn.initializers.glorot_uniform()(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class HiddenUniform:
    """U[−1/√H, 1/√H) for weights and biases, H the hidden units, as PyTorch's recurrent modules."""

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        bound = 1 / math.sqrt(shape[-1])
        return jax.random.uniform(key, shape, dtype, -bound, bound)


@dataclasses.dataclass(frozen=True)
class AllGates:
    """The matrices of all gates drawn as one, ``[I, gates · H]``, as in Keras.

    This differs from one matrix for each gate: an orthogonal matrix for four gates has blocks of
    spectral radius about ½, where an orthogonal matrix has 1.
    """

    init: Initializer

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return self.init(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """``scale`` times an orthogonal matrix, uniform over all of them (Saxe et al. 2014)."""

    scale: float = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        init = jax.nn.initializers.orthogonal(self.scale)
        return _one_by_one(lambda key: init(key, shape, dtype), key)


@dataclasses.dataclass(frozen=True)
class Identity:
    """``scale`` · I, the recurrent weights of the IRNN.

    Le, Jaitly & Hinton 2015, arXiv 1504.00941. The paper pairs it with ReLU and zero bias:
    ``RNN(H, activation="relu", recurrent_init=identity())``.
    Raises ValueError for a matrix that is not square.
    """

    scale: float = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        del key
        _square("identity", shape)
        return self.scale * jnp.eye(shape[0], dtype=dtype)


@dataclasses.dataclass(frozen=True)
class GaussianGain:
    """g · N(0, 1/N): spectral radius about g, largest singular value about 2g.

    Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063.
    """

    gain: float = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return self.gain / math.sqrt(shape[0]) * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class SpectralRadius:
    """A Gaussian matrix rescaled so that its spectral radius is exactly ``radius`` (Jaeger 2001).

    The eigenvalues are those of the drawn matrix, so the result is exact, not only in expectation.
    Needs JAX's non-symmetric eigenvalue solver, so a CPU. Raises ValueError for a matrix that is
    not square.
    """

    radius: float = 1.0

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        _square("spectral_radius", shape)

        def draw(key: Key) -> Array:
            w = jax.random.normal(key, shape, dtype)
            moduli = jnp.abs(jnp.linalg.eigvals(w))
            return self.radius * w / moduli.max().astype(dtype)

        return _one_by_one(draw, key)


@dataclasses.dataclass(frozen=True)
class Logistic:
    """N(0, (3.6/√N)²) for logistic units, N the fan-in (Yilmaz & Poli 2022)."""

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        return 3.6 / math.sqrt(shape[0]) * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Chrono:
    """Chrono biases for lags up to ``max_lag`` steps (Tallec & Ollivier 2018, arXiv 1804.11188).

    LSTM: b_f = ln U[1, max_lag − 1] and b_i = −b_f, other gates zero. GRU, whose z keeps the old
    state: b_z = ln U[1, max_lag − 1], other gates zero. Give it as ``bias_init``, without a
    ``forget_bias``. Raises ValueError for ``max_lag`` below 3 and for a bias that is neither an
    LSTM's nor a GRU's.
    """

    max_lag: float

    def __post_init__(self) -> None:
        if not self.max_lag >= 3:
            raise ValueError(
                f"max_lag is {self.max_lag!r}; chrono biases need a longest lag of at least 3 steps"
            )

    def __call__(self, key: Key, shape: Shape, dtype: Dtype = jnp.float32) -> Array:
        if len(shape) != 2 or shape[0] not in (3, 4):
            raise ValueError(
                f"chrono biases are for LSTM (4 gates) and GRU (3 gates), not for the shape {shape}"
            )
        lags = jax.random.uniform(key, shape[1:], dtype, 1.0, self.max_lag - 1.0)
        keep = jnp.log(lags)
        zero = jnp.zeros_like(keep)
        if shape[0] == 4:
            # The gates i, f, g, o of an LSTM.
            return jnp.stack([-keep, keep, zero, zero])
        # The gates r, z, n of a GRU.
        return jnp.stack([zero, keep, zero])


zeros = Zeros()
constant = Constant
normal = Normal
uniform = Uniform
lecun_normal = LecunNormal
glorot_uniform = GlorotUniform
hidden_uniform = HiddenUniform
all_gates = AllGates
orthogonal = Orthogonal
identity = Identity
gaussian_gain = GaussianGain
spectral_radius = SpectralRadius
logistic = Logistic
chrono = Chrono


def _one_by_one(draw: Callable[[Key], Array], key: Key) -> Array:
    """``draw(key)``; under ``vmap`` one key after the other.

    On CPUs a decomposition of several matrices waits for threads of the pool that runs it. Two such
    decompositions in one program, such as those of two gates, can wait for each other for ever
    (jaxlib 0.10.2).
    """
    return jax.custom_batching.sequential_vmap(draw)(key)


def _square(name: str, shape: Shape) -> None:
    """ValueError unless ``shape`` is that of a square matrix."""
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} needs a square matrix, not {shape}; give it as recurrent_init")
    _check.positive_int("size", shape[0])
