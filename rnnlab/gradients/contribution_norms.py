"""Norms of what single steps contribute to a parameter's gradient, from products of the batch.

With δₜ = ∂L/∂aₜ a step contributes Σ_b h_b ⊗ δ_b to ∂L/∂W_h. The squared norm of that is
Σ_bb' (h_b · h_b') (δ_b · δ_b'): two Gram matrices of the batch, and never a matrix of the weights' size
(the "ghost norm" of Goodfellow 2015, arXiv 1510.01799).
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.cells.contract import map_leaves
from rnnlab.gradients.scaled import Scaled, log_norm, log_root, renormalise, rescale
from rnnlab.typing import Array, PyTree


def log_contributions(cell: Any, params: PyTree, xs: Array, h: Array, seen: Scaled) -> PyTree:
    """ln‖·‖ of n contributions to each parameter, from δ ``[n, B, gates]``, each example's at its scale.

    xs and h are ``[n, B, features]``, or ``[1, B, features]`` where all n contributions are those of one step.
    """
    joint, z, a = seen.mantissa
    top = seen.exponent.max(axis=1, keepdims=True)
    ones = Scaled(jnp.ones(seen.exponent.shape, joint.dtype), seen.exponent)
    factor = rescale(ones, jnp.broadcast_to(top, seen.exponent.shape))
    d_z, d_a = (jnp.concatenate([joint, rest], axis=-1) if rest.size else joint for rest in (z, a))

    def scaled_gram(d: Array) -> Array:
        return _gram(d) * factor[:, :, None] * factor[:, None, :]

    gram_z = scaled_gram(d_z)
    gram_a = gram_z if d_a is d_z else scaled_gram(d_a)

    def of_matrix(inputs: Array, gram: Array) -> Array:
        rows, exponent = renormalise(inputs, jnp.zeros(inputs.shape[0], jnp.int32), 1)
        return log_root(jnp.sum(_gram(rows) * gram, axis=(1, 2)), exponent + top[:, 0])

    def of_bias(bias: Array | None, d: Array) -> Array | None:
        if bias is None:
            return None
        total = jnp.einsum("nb,nbf->nf", factor, d[..., d.shape[-1] - bias.size :])
        return log_norm(total, top[:, 0], 1)

    maps = cell.maps(params)
    logs = of_matrix(xs, gram_z), of_matrix(h, gram_a), of_bias(maps.b, d_z), of_bias(maps.c, d_a)
    return to_params(cell, params, logs)


def to_params(cell: Any, params: PyTree, of_maps: tuple[Array | None, ...]) -> PyTree:
    """What is given for the maps w_x, w_h, b and c (None for one that is absent), like the parameters."""
    leaves, tree = jax.tree.flatten(params)
    for place, value in zip(map_leaves(cell, params) or (), of_maps, strict=True):
        if place is not None:
            leaves[place] = value
    return jax.tree.unflatten(tree, leaves)


def _gram(rows: Array) -> Array:
    """The products of the rows of each step, ``[n, B, B]``."""
    return jnp.einsum("nbf,ncf->nbc", rows, rows)
