"""Norms of the contributions of single steps to a parameter's gradient, from Gram matrices.

With δₜ = ∂L/∂aₜ a step contributes Σ_b h_b ⊗ δ_b to ∂L/∂W_h. The squared norm of that is
Σ_bb' (h_b · h_b') (δ_b · δ_b'): two Gram matrices of the batch, and never a matrix of the size of
the weights (the "ghost norm" of Goodfellow 2015, arXiv 1510.01799).
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.cells.contract import map_leaves
from rnnlab.gradients.scaled import Scaled, log_norm, log_root, renormalise, rescale
from rnnlab.typing import Array, PyTree


def log_contributions(
    cell: Any,
    params: PyTree,
    xs: Array,
    h: Array,
    delta: Scaled,
) -> PyTree:
    """ln‖·‖ of n contributions to each parameter, from δ ``[n, B, gates]``, scaled by example.

    xs and h are ``[n, B, features]``, or ``[1, B, features]`` where all n contributions belong to
    the same step.
    """
    joint, z, a = delta.mantissa
    top = delta.exponent.max(axis=1, keepdims=True)
    # A contribution sums over the batch, so its examples need a common scale. It is applied to the
    # [B, B] products instead of δ, which is the larger array.
    shape = delta.exponent.shape
    ones = Scaled(jnp.ones(shape, joint.dtype), delta.exponent)
    factor = rescale(ones, jnp.broadcast_to(top, shape))
    d_z = _joined(joint, z)
    d_a = _joined(joint, a)

    def scaled_gram(d: Array) -> Array:
        return _gram(d) * factor[:, :, None] * factor[:, None, :]

    gram_z = scaled_gram(d_z)
    gram_a = gram_z if d_a is d_z else scaled_gram(d_a)

    def of_matrix(inputs: Array, gram: Array) -> Array:
        no_exponent = jnp.zeros(inputs.shape[0], jnp.int32)
        rows, exponent = renormalise(inputs, no_exponent, 1)
        squares = jnp.sum(_gram(rows) * gram, axis=(1, 2))
        return log_root(squares, exponent + top[:, 0])

    def of_bias(bias: Array | None, d: Array) -> Array | None:
        if bias is None:
            return None
        # A bias may serve the last gates only.
        d_bias = d[..., d.shape[-1] - bias.size :]
        total = jnp.einsum("nb,nbf->nf", factor, d_bias)
        return log_norm(total, top[:, 0], 1)

    maps = cell.maps(params)
    of_w_x = of_matrix(xs, gram_z)
    of_w_h = of_matrix(h, gram_a)
    of_b = of_bias(maps.b, d_z)
    of_c = of_bias(maps.c, d_a)
    return to_params(cell, params, (of_w_x, of_w_h, of_b, of_c))


def to_params(cell: Any, params: PyTree, of_maps: tuple[Array | None, ...]) -> PyTree:
    """Values for the maps w_x, w_h, b and c (None for an absent one), arranged like ``params``."""
    leaves, tree = jax.tree.flatten(params)
    places = map_leaves(cell, params) or ()
    for place, value in zip(places, of_maps, strict=True):
        if place is not None:
            leaves[place] = value
    return jax.tree.unflatten(tree, leaves)


def _joined(joint: Array, rest: Array) -> Array:
    """The gates that both maps share and those of one; ``joint`` itself where there are no others.

    The same array for both maps tells ``log_contributions`` that one Gram matrix serves both.
    """
    if not rest.size:
        return joint
    return jnp.concatenate([joint, rest], axis=-1)


def _gram(rows: Array) -> Array:
    """The inner products of the rows of each step, ``[n, B, B]``."""
    return jnp.einsum("nbf,ncf->nbc", rows, rows)
