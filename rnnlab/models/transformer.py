"""A small causal Transformer, made of Flax's layers."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from rnnlab import _check
from rnnlab.models.network import Network
from rnnlab.typing import Array, Dtype, Key


@dataclasses.dataclass(frozen=True)
class Transformer(Network):
    """A causal Transformer: each step attends to itself and to all steps before it.

    x⁰ₜ = W xₜ + b + pₜ, where pₜ are sines and cosines of t, and in each layer, with the
    normalisation first (Xiong et al. 2020, arXiv 2002.04745),

        x ← x + MultiHead(LayerNorm(x)),    x ← x + W₂ gelu(W₁ LayerNorm(x) + b₁) + b₂,

    and LayerNorm after the last one (Vaswani et al. 2017, arXiv 1706.03762). Attention,
    normalisation and products are those of :mod:`flax.linen`. Time and memory grow with T².

    >>> import jax, rnnlab
    >>> from rnnlab.models import Transformer, for_task
    >>> task = rnnlab.tasks.copy_memory(delay=10)
    >>> model = for_task(task, Transformer(16, layers=1))
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> params = model.init(jax.random.key(1), batch)
    >>> model.apply(params, batch).shape
    (30, 4, 9)

    Attributes:
        hidden_size: D, the features of each step; even, and divisible by ``heads``.
        layers: the number of layers.
        heads: the number of heads of the attention.
        feedforward_size: the units of the hidden layer in each layer; 4 D by default.

    Raises:
        ValueError: for sizes below 1, an odd D, and one that ``heads`` does not divide.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    layers: int = 2
    heads: int = 2
    feedforward_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive_int("layers", self.layers)
        heads = _check.positive_int("heads", self.heads)
        size = _check.positive_int("hidden_size", self.hidden_size)
        if size % heads or size % 2:
            # Half of the features are sines and half cosines.
            raise ValueError(
                f"hidden_size is {size} and heads {heads}; give an even size that is a multiple of "
                "heads"
            )
        if self.feedforward_size is not None:
            _check.positive_int("feedforward_size", self.feedforward_size)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def _blocks(self) -> "_Blocks":
        return _Blocks(
            size=self.hidden_size,
            layers=self.layers,
            heads=self.heads,
            feedforward_size=self.feedforward_size or 4 * self.hidden_size,
            param_dtype=self.param_dtype,
        )

    def init(self, key: Key, input_size: int) -> Any:
        """Flax's initial parameters, a dict."""
        _check.to_init(key, input_size)
        xs = jnp.zeros((1, 1, input_size), self.param_dtype)
        mask = jnp.ones((1, 1, 1, 1), bool)
        variables = self._blocks.init(key, xs, jnp.zeros((1, 1), int), mask)
        return variables["params"]

    def features(self, params: Any) -> int:
        return params["input"]["kernel"].shape[0]

    def run(self, params: Any, xs: Array, starts: Array | None) -> Array:
        steps = jnp.arange(xs.shape[0])
        positions = steps[None]
        seen = (steps[:, None] >= steps)[None]  # query t sees key s ≤ t
        if starts is not None:
            positions = positions - starts.T
            seen = seen & (steps >= starts.T[..., None])
        # Flax has the batch first, and an axis for the heads in the mask.
        ys: Any = self._blocks.apply(
            {"params": params}, jnp.swapaxes(xs, 0, 1), positions, seen[:, None]
        )
        return jnp.swapaxes(ys, 0, 1)


class _Blocks(linen.Module):
    """The layers on ``xs [B, T, I]``, with ``positions [B, T]`` and ``mask [B, 1, T, T]``."""

    size: int
    layers: int
    heads: int
    feedforward_size: int
    param_dtype: Dtype

    @linen.compact
    def __call__(self, xs: Array, positions: Array, mask: Array) -> Array:
        x = self._dense(self.size, "input")(xs)
        x = x + sinusoids(positions, self.size, x.dtype)
        for layer in range(self.layers):
            h = self._norm(f"norm_{layer}")(x)
            attend = linen.MultiHeadDotProductAttention(
                num_heads=self.heads, param_dtype=self.param_dtype, name=f"attention_{layer}"
            )
            x = x + attend(h, mask=mask)
            h = self._norm(f"norm_{layer}_feedforward")(x)
            h = jax.nn.gelu(self._dense(self.feedforward_size, f"feedforward_{layer}_in")(h))
            x = x + self._dense(self.size, f"feedforward_{layer}_out")(h)
        return self._norm("norm")(x)

    def _dense(self, features: int, name: str) -> linen.Dense:
        return linen.Dense(features, param_dtype=self.param_dtype, name=name)

    def _norm(self, name: str) -> linen.LayerNorm:
        return linen.LayerNorm(param_dtype=self.param_dtype, name=name)


def sinusoids(positions: Array, size: int, dtype: Dtype = jnp.float32) -> Array:
    """sin(t ωᵢ) and cos(t ωᵢ) side by side, ωᵢ = 10000^(−2i/D), for t ``[...]``: ``[..., D]``."""
    rates = jnp.exp(-math.log(10_000) * jnp.arange(0, size, 2) / size)
    angles = positions[..., None].astype(rates.dtype) * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).astype(dtype)
