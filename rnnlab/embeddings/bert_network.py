"""BERT's encoder as a pure function of its parameters (Devlin et al. 2019)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.typing import Array

_exact_gelu = functools.partial(jax.nn.gelu, approximate=False)
_tanh_gelu = functools.partial(jax.nn.gelu, approximate=True)

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _exact_gelu,
    "gelu_python": _exact_gelu,
    "gelu_10": lambda x: jnp.clip(_exact_gelu(x), -10, 10),
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_accurate": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "gelu_python_tanh": _tanh_gelu,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
"""The activations by their names in config.json; several names stand for one function."""


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT, under the names of its config.json.

    Attributes:
        vocab_size: V.
        hidden_size: D.
        num_hidden_layers: L.
        num_attention_heads: of each layer; each head has D / heads dimensions.
        intermediate_size: F, the width of the feed-forward part of a layer.
        max_position_embeddings: P, the length of the longest sequence.
        type_vocab_size: the number of segments.
        hidden_act: the activation, one of :data:`ACTIVATIONS`.
        layer_norm_eps: ε, added to the variances.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12


class Affine(NamedTuple):
    """w ``[I, O]``, b ``[O]``."""

    w: Array
    b: Array


class Norm(NamedTuple):
    """The scale and the shift of a layer normalisation, ``[D]``."""

    scale: Array
    shift: Array


class Layer(NamedTuple):
    """A layer: attention and two affine maps at each step; with a leading axis, L of them."""

    query: Affine
    key: Affine
    value: Affine
    mixed: Affine
    mixed_norm: Norm
    inner: Affine
    outer: Affine
    outer_norm: Norm


class BertParams(NamedTuple):
    """The parameters.

    Attributes:
        words, positions, segments: tables ``[V, D]``, ``[P, D]`` and ``[segments, D]``.
        norm: of the sum of the three.
        layers: with L as the leading axis.
        pooler: of the first step; None where the file has none.
    """

    words: Array
    positions: Array
    segments: Array
    norm: Norm
    layers: Layer
    pooler: Affine | None


def encoder(
    config: BertConfig, params: BertParams, codes: Array, mask: Array, segments: Array
) -> tuple[Array, Array]:
    """The output of the last layer ``[B, T, D]``, and the input of each ``[L, B, T, D]``.

    A layer is, with N for a layer normalisation,

        a = N(x + Wₒ attention(x)),    y = N(a + W₂ φ(W₁ a)).
    """
    positions = params.positions[: codes.shape[1]]
    embedded = params.words[codes] + params.segments[segments] + positions

    def advance(x: Array, layer: Layer) -> tuple[Array, Array]:
        mixed = _affine(layer.mixed, _attention(config, layer, x, mask))
        a = _normalised(config, layer.mixed_norm, x + mixed)
        inner = ACTIVATIONS[config.hidden_act](_affine(layer.inner, a))
        y = _normalised(config, layer.outer_norm, a + _affine(layer.outer, inner))
        return y, x

    return lax.scan(advance, _normalised(config, params.norm, embedded), params.layers)


def pooled(params: Affine, last: Array) -> Array:
    """tanh(W h₁ + b) of the first step of ``last [B, T, D]``."""
    return jnp.tanh(_affine(params, last[:, 0]))


def _attention(config: BertConfig, layer: Layer, x: Array, mask: Array) -> Array:
    """softmax(Q Kᵀ / √(D / heads)) V of each head over the steps that ``mask [B, T]`` holds."""
    by_head = (*x.shape[:2], config.num_attention_heads, -1)
    q, k, v = (_affine(part, x).reshape(by_head) for part in (layer.query, layer.key, layer.value))
    attended = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
    return attended.reshape(x.shape)


def _affine(params: Affine, x: Array) -> Array:
    return x @ params.w + params.b


def _normalised(config: BertConfig, params: Norm, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred * lax.rsqrt(variance + config.layer_norm_eps) * params.scale + params.shift
