"""Embeddings of codes, by Flax, and the inputs of models: codes or vectors."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen

from rnnlab import _check
from rnnlab.models.base import shape_of
from rnnlab.typing import Array, Dtype, Key


@dataclasses.dataclass(frozen=True)
class Embedding:
    """A vector for each of V symbols, ``flax.linen.Embed`` on a matrix ``[V, E]``.

    A code outside 0..V−1 gives NaN, so that it is seen.

    >>> import jax
    >>> embedding = Embedding(vocabulary_size=10, size=4)
    >>> matrix = embedding.init(jax.random.key(0))
    >>> embedding(matrix, jnp.zeros((20, 8), int)).shape
    (20, 8, 4)

    Attributes:
        vocabulary_size: V.
        size: E, the number of features.
        param_dtype: the dtype of the matrix.
    """

    vocabulary_size: int
    size: int
    param_dtype: Dtype = jnp.float32

    @property
    def _layer(self) -> Any:
        return linen.Embed(self.vocabulary_size, self.size, param_dtype=self.param_dtype)

    def init(self, key: Key) -> Array:
        """The matrix, drawn with variance 1/E."""
        variables = self._layer.init(key, jnp.zeros(1, jnp.int32))
        return variables["params"]["embedding"]

    def __call__(self, matrix: Array, codes: Array) -> Array:
        """The vectors of ``codes [...]``: ``[..., E]``."""
        codes = _check.codes("codes", codes)
        vectors = self._layer.apply({"params": {"embedding": matrix}}, codes)
        # Flax takes −1 for the last symbol.
        legal = (codes >= 0) & (codes < self.vocabulary_size)
        return jnp.where(legal[..., None], vectors, jnp.nan)

    def attend(self, matrix: Array, h: Array) -> Array:
        """The products of ``h [..., E]`` with all vectors: logits ``[..., V]``."""
        variables = {"params": {"embedding": matrix}}
        return self._layer.apply(variables, h, method="attend")


def check_sizes(vocabulary_size: object, embedding_size: object, prefix: str = "") -> None:
    """ValueError unless both are sizes, or None; there is no embedding without a vocabulary."""
    if vocabulary_size is not None:
        _check.positive_int(f"{prefix}vocabulary_size", vocabulary_size)
    if embedding_size is None:
        return
    _check.positive_int(f"{prefix}embedding_size", embedding_size)
    if vocabulary_size is None:
        raise ValueError(
            f"{prefix}embedding_size is given without a vocabulary; give "
            f"{prefix}vocabulary_size too, or neither where the inputs are vectors"
        )


def check_inputs(xs: Any, embedding: Embedding | None, option: str = "vocabulary_size") -> None:
    """ValueError unless ``xs`` are codes ``[T, B]``, or vectors ``[T, B, I]`` for no embedding."""
    shape, dtype = shape_of(xs)
    if embedding is not None:
        if not jnp.issubdtype(dtype, jnp.integer):
            raise ValueError(
                f"xs are {dtype}, but a model with a {option} reads codes; give whole numbers, or "
                f"leave {option} out for vectors"
            )
        if len(shape) != 2:
            raise ValueError(f"xs has shape {shape}; codes must be [T, B], time first")
        return
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"xs are {dtype}, but the model reads vectors of floats; give {option} for codes of "
            "symbols, or cast them"
        )
    if len(shape) != 3:
        raise ValueError(f"xs has shape {shape}; vectors must be [T, B, I], time first")
