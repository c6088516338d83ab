"""Modules one above the other, with dropout and residual connections between them."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from rnnlab import _check
from rnnlab.layers.dropout import keep_mask
from rnnlab.nnx.calls import carries_of, check_layer, flip, options_of, time_first
from rnnlab.nnx.keys import Rngs, dropout_key, source_of, stream
from rnnlab.typing import Array, PyTree


class Stacked(nnx.Module):
    """Layers of :class:`RNN` and :class:`Bidirectional`, each reading the outputs of the one below.

    For rnnlab's own cells, ``RNN(rnnlab.stack([...]), in_features, rngs=...)`` is the same in one
    module; this one is for Flax's cells, and for layers of both.

    >>> from rnnlab.nnx import RNN
    >>> rngs = nnx.Rngs(0)
    >>> layers = [RNN(nnx.LSTMCell(n, 8, rngs=rngs)) for n in (3, 8)]
    >>> Stacked(layers, dropout=0.1, rngs=rngs)(jnp.ones((4, 20, 3))).shape
    (4, 20, 8)

    Args:
        layers: modules, first to last.
        dropout: the probability of dropping an output between two layers, as in
            :func:`rnnlab.stack`.
        residual: adds the inputs of each layer but the first to its outputs.
        time_major, return_carry, reverse, keep_order: as for :class:`RNN`; they replace those of
            the layers. The carry is a tuple with one of each layer.
        deterministic: whether the dropout of this module is off; ``eval()`` and ``train()`` set it.
        rngs: draws the masks of dropout (stream "dropout").

    Raises:
        ValueError: for no layers, anything but modules that read whole sequences, and a dropout
            outside [0, 1).
    """

    def __init__(
        self,
        layers: Sequence[Any],
        *,
        dropout: float = 0.0,
        residual: bool = False,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        deterministic: bool = False,
        rngs: Rngs = None,
    ) -> None:
        if not isinstance(layers, Sequence) or not layers:
            raise ValueError(
                f"layers is {_check.brief(layers)}; give a list of one at least, such as "
                "[RNN(cell)]"
            )
        for index, layer in enumerate(layers):
            check_layer(f"layers[{index}]", layer)
        self.layers = nnx.List(layers)
        self.dropout = _check.fraction("dropout", dropout, closed=False)
        self.residual = residual
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.deterministic = deterministic
        self.rngs = nnx.data(stream(rngs, "dropout") if dropout else None)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Called by ``nnx.view``: whether dropout is off."""
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(
        self,
        inputs: Array,
        *,
        initial_carry: Sequence[PyTree] | None = None,
        seq_lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
        rngs: Any = None,
    ) -> Any:
        """The last layer's outputs, or ``(carries, outputs)``; arguments as for :class:`RNN`."""
        time_major, return_carry, reverse, keep_order, off = options_of(
            self,
            time_major=time_major,
            return_carry=return_carry,
            reverse=reverse,
            keep_order=keep_order,
            deterministic=deterministic,
        )
        rngs = source_of(rngs)
        xs, mask, resets = time_first(inputs, mask, resets, time_major)
        carries = carries_of(initial_carry, len(self.layers))
        finals = []
        for index, (layer, carry) in enumerate(zip(self.layers, carries, strict=True)):
            below = xs
            if index and self.dropout and not off:
                xs = xs * keep_mask(dropout_key(self.rngs, rngs), self.dropout, xs)
            final, xs = layer(
                xs,
                initial_carry=carry,
                seq_lengths=seq_lengths,
                mask=mask,
                resets=resets,
                return_carry=True,
                time_major=True,
                reverse=reverse,
                # In order up to the last layer, so that marks and steps belong together.
                keep_order=True,
                deterministic=deterministic,
                rngs=rngs,
            )
            finals.append(final)
            if index and self.residual:
                if below.shape != xs.shape:
                    raise ValueError(
                        f"layers[{index}] reads {below.shape[-1]} features and gives "
                        f"{xs.shape[-1]}, but residual=True adds both; give it equal sizes"
                    )
                xs = below + xs
        if reverse and not keep_order:
            xs = flip(xs, seq_lengths)
        if not time_major:
            xs = jnp.moveaxis(xs, 0, -2)
        return (tuple(finals), xs) if return_carry else xs
