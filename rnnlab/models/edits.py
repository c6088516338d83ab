"""The edit distance between sequences of labels."""

import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.cells.base import within
from rnnlab.typing import Array


def edit_distance(
    labels: Array,
    others: Array,
    *,
    lengths: Array | None = None,
    other_lengths: Array | None = None,
) -> Array:
    """The least number of insertions, deletions and substitutions between sequences, ``[B]``.

    d[t, n] = min(d[t−1, n] + 1, d[t, n−1] + 1, d[t−1, n−1] + [aₜ ≠ bₙ]) (Levenshtein 1966). Divided
    by the number of correct labels it is the label error rate; of words, the word error rate.

    >>> import jax.numpy as jnp
    >>> kitten, sitting = (jnp.array([list(map(ord, word))]).T for word in ("kitten", "sitting"))
    >>> edit_distance(kitten, sitting).tolist()
    [3]

    Args:
        labels: a, whole numbers ``[T, B]``.
        others: b, ``[N, B]``.
        lengths: ``[B]``, the labels of each in a; those beyond are not read.
        other_lengths: ``[B]``, the labels of each in b.

    Raises:
        ValueError: for arrays that are not ``[T, B]`` and ``[N, B]`` whole numbers, and lengths
            that do not fit.
    """
    labels = _check.codes("labels", labels)
    others = _check.codes("others", others)
    if labels.ndim != 2 or others.ndim != 2 or labels.shape[1] != others.shape[1]:
        raise ValueError(
            f"labels has shape {labels.shape} and others {others.shape}; give [T, B] and [N, B], "
            "time first, for the same B"
        )
    (steps, count), size = labels.shape, others.shape[0]
    places = jnp.arange(size + 1)
    valid = None
    if lengths is not None:
        valid = within(_check.lengths(lengths, steps, (count,)), steps)
    ends = jnp.full(count, size)
    if other_lengths is not None:
        ends = _check.lengths(other_lengths, size, (count,))

    def step(row: Array, now: tuple[Array, Array | None]) -> tuple[Array, None]:
        label, is_valid = now
        replaced = row[:, :-1] + (label[:, None] != others.T)
        best = row + 1
        best = best.at[:, 1:].min(replaced)
        # Insertions: d[n] = min over k ≤ n of best[k] + n − k.
        after = places + lax.cummin(best - places, axis=1)
        return (after if is_valid is None else jnp.where(is_valid[:, None], after, row)), None

    row, _ = lax.scan(step, jnp.broadcast_to(places, (count, size + 1)), (labels, valid))
    return jnp.take_along_axis(row, ends[:, None], axis=1)[:, 0]
