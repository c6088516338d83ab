"""Attention of a decoder over the outputs of an encoder, without its padding."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.models.pooling import masked_softmax
from rnnlab.typing import Array, Dtype, Key


class AdditiveParams(NamedTuple):
    """query W_q ``[S, A]``, key W_k ``[H, A]`` with its bias b, score v ``[A, 1]``."""

    query: ReadoutParams
    key: ReadoutParams
    score: ReadoutParams


class DotParams(NamedTuple):
    """key W_k ``[H, D]`` and combine W_c ``[H + D, D]``."""

    key: ReadoutParams
    combine: ReadoutParams


@dataclasses.dataclass(frozen=True)
class Additive:
    """Additive attention (Bahdanau, Cho & Bengio 2015, arXiv 1409.0473).

    e_ti = v · tanh(W_q sₜ₋₁ + W_k hᵢ + b), αₜ = softmax(eₜ), cₜ = Σᵢ αₜᵢ hᵢ, where sₜ₋₁ is the
    state of the decoder before the step (all leaves side by side) and hᵢ are the outputs of the
    encoder.

    >>> attention = Additive(size=6)
    >>> params = attention.init(jax.random.key(0), queries=4, features=5)
    >>> hs = jnp.ones((20, 8, 5))
    >>> weights = attention.weights(params, jnp.ones((8, 4)), attention.keys(params, hs), None)
    >>> weights.shape
    (8, 20)

    Attributes:
        size: A.
        dtype: the dtype of the parameters.
    """

    size: int
    dtype: Dtype = jnp.float32

    def _product(self, *, bias: bool = False) -> Readout:
        return Readout(self.size, bias=bias, param_dtype=self.dtype)

    @property
    def _score(self) -> Readout:
        return Readout(1, bias=False, param_dtype=self.dtype)

    def init(self, key: Key, queries: int, features: int) -> AdditiveParams:
        """Initial parameters for states and encoder outputs of these sizes."""
        k_query, k_key, k_score = jax.random.split(key, 3)
        return AdditiveParams(
            query=self._product().init(k_query, queries),
            key=self._product(bias=True).init(k_key, features),
            score=self._score.init(k_score, self.size),
        )

    def keys(self, params: AdditiveParams, hs: Array) -> Array:
        """W_k hᵢ + b ``[T, B, A]``, once for all steps of the decoder."""
        return self._product(bias=True)(params.key, hs)

    def weights(self, params: AdditiveParams, s: Array, keys: Array, valid: Array | None) -> Array:
        """αₜ ``[B, T]`` of the state ``[B, S]``; ``valid [T, B]`` leaves out the padding."""
        query = self._product()(params.query, s)
        scores = self._score(params.score, jnp.tanh(query[None] + keys))[..., 0]
        return masked_softmax(scores, valid, axis=0).T


@dataclasses.dataclass(frozen=True)
class Dot:
    """Scaled dot-product attention (Luong, Pham & Manning 2015, arXiv 1508.04025), by Flax.

    e_ti = sₜ · W_k hᵢ / √D, αₜ = softmax(eₜ), cₜ = Σᵢ αₜᵢ hᵢ, and s̃ₜ = tanh(W_c [cₜ; sₜ]), where sₜ
    are the outputs of the decoder and hᵢ those of the encoder. The factor 1/√D is that of Vaswani
    et al. 2017 (arXiv 1706.03762).

    >>> attention = Dot(size=4)
    >>> params = attention.init(jax.random.key(0), features=5)
    >>> keys = attention.keys(params, jnp.ones((20, 8, 5)))
    >>> attention.weights(jnp.ones((7, 8, 4)), keys, None).shape
    (7, 8, 20)

    Attributes:
        size: D, the number of features of the decoder's outputs.
        dtype: the dtype of the parameters.
    """

    size: int
    dtype: Dtype = jnp.float32

    @property
    def _product(self) -> Readout:
        return Readout(self.size, bias=False, param_dtype=self.dtype)

    def init(self, key: Key, features: int) -> DotParams:
        """Initial parameters for encoder outputs of this size."""
        k_key, k_combine = jax.random.split(key)
        key_params = self._product.init(k_key, features)
        return DotParams(key_params, self._product.init(k_combine, features + self.size))

    def keys(self, params: DotParams, hs: Array) -> Array:
        """W_k hᵢ ``[T, B, D]``."""
        return self._product(params.key, hs)

    def weights(self, ss: Array, keys: Array, valid: Array | None) -> Array:
        """α ``[T_out, B, T]`` of the outputs ``[T_out, B, D]``; ``valid [T, B]``."""
        # Flax has the batch first, and an axis for heads, of which there is one.
        query = jnp.swapaxes(ss, 0, 1)[:, :, None]
        key = jnp.swapaxes(keys, 0, 1)[:, :, None]
        mask = None if valid is None else valid.T[:, None, None]
        weights = linen.dot_product_attention_weights(query, key, mask=mask)
        if mask is not None:
            # Where no step is valid, Flax spreads the weights over all.
            weights = jnp.where(mask, weights, 0)
        return jnp.swapaxes(weights[:, 0], 0, 1)

    def combine(self, params: DotParams, contexts: Array, ss: Array) -> Array:
        """s̃ ``[..., D]``."""
        return jnp.tanh(self._product(params.combine, jnp.concatenate([contexts, ss], axis=-1)))


def context(weights: Array, hs: Array) -> Array:
    """cₜ = Σᵢ αₜᵢ hᵢ: weights ``[..., B, T]`` and ``hs [T, B, H]`` give ``[..., B, H]``."""
    return jnp.einsum("...bt,tbh->...bh", weights, hs)
