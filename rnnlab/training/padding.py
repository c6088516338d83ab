"""The share of padding in a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.data.batch import Batch


def padding_share(batch: Any) -> float | None:
    """Padded steps / all steps of a batch with ``lengths``; None for any other.

    A sequence whose mask is False throughout only fills the batch, so all of its steps are padding,
    as in :func:`rnnlab.data.bucketed`. A mask alone says which targets count in the loss, not which
    steps are padding.

    >>> batch = Batch(np.zeros((4, 3, 2)), np.zeros(3), np.array([True, True, False]), [4, 2, 4])
    >>> padding_share(batch)
    0.5

    Args:
        batch: a :class:`rnnlab.data.Batch`, or several with a further first axis, of which the
            share of all together is returned. Where xs are one vector for each sequence, the steps
            are those of the targets.
    """
    if not isinstance(batch, Batch) or batch.lengths is None:
        return None
    lengths = np.asarray(batch.lengths)
    time = lengths.ndim - 1
    filled = lengths
    if batch.mask is not None:
        mask = np.asarray(batch.mask)
        counts = mask.any(axis=time) if mask.ndim > lengths.ndim else mask
        filled = np.where(counts, lengths, 0)
    steps = np.shape(_with_time(batch, time))[time]
    return 1 - int(filled.sum()) / (steps * lengths.size)


def _with_time(batch: Batch, time: int) -> Any:
    """The array of a batch that has a time axis: codes ``[T, B]`` or vectors ``[T, B, I]``."""
    xs = jax.tree.leaves(batch.xs)[0]
    is_one_vector = jnp.issubdtype(jnp.result_type(xs), jnp.floating) and np.ndim(xs) == time + 2
    return batch.targets if is_one_vector else xs
