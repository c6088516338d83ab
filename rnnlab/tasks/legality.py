"""The criterion of grammar tasks: every legal symbol is more active than every other one."""

import jax.numpy as jnp

from rnnlab import _check
from rnnlab.typing import Array


def legal_first(logits: Array, legal: Array, counts: Array) -> Array:
    """Whether all legal symbols have larger logits than all others, at each step that counts.

    >>> logits = jnp.array([[[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]]])
    >>> legal = jnp.array([[[True, True, False]], [[True, False, True]]])
    >>> legal_first(logits, legal, jnp.array([[True], [True]])).tolist()
    [False]
    >>> legal_first(logits, legal, jnp.array([[True], [False]])).tolist()
    [True]

    Args:
        logits: ``[T, B, V]``.
        legal: ``[T, B, V]`` booleans.
        counts: ``[T, B]`` booleans.

    Returns:
        ``[B]`` booleans; False for a tie and for NaN.

    Raises:
        ValueError: for logits of another shape than ``legal``.
    """
    logits = _check.array("logits", logits)
    if logits.shape != legal.shape:
        raise ValueError(
            f"logits has shape {logits.shape}, but the strings need {legal.shape}; give those of "
            "this batch"
        )
    least_legal = jnp.min(jnp.where(legal, logits, jnp.inf), axis=-1)
    most_illegal = jnp.max(jnp.where(legal, -jnp.inf, logits), axis=-1)
    return jnp.all((least_legal > most_illegal) | ~counts, axis=0)
