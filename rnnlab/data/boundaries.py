"""Boundaries of buckets that minimise padding."""

from typing import Any

import numpy as np

from rnnlab import _check


def bucket_boundaries(lengths: Any, buckets: int) -> tuple[int, ...]:
    """The boundaries b₁ < … < b_K that minimise the padding Σₙ (b(Tₙ) − Tₙ).

    b(T) is the least boundary that is not below T. The minimum is exact, by dynamic programming
    over the D different lengths, in O(K D²).

    >>> bucket_boundaries([1, 2, 2, 9, 10], buckets=2)
    (2, 10)

    Args:
        lengths: ``[N]``, integers of at least 1.
        buckets: K; fewer boundaries come back where there are fewer different lengths.

    Raises:
        ValueError: for lengths that are not integers of at least 1, for none of them, and for a
            ``buckets`` below 1.
    """
    _check.positive_int("buckets", buckets)
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu" or lengths.size == 0 or lengths.min() < 1:
        raise ValueError(
            f"lengths is {_check.brief(lengths)}; it must hold at least one integer, and none "
            "below 1"
        )
    edges, counts = np.unique(lengths.astype(np.int64), return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # least[j]: the padded steps of the j shortest different lengths. The sum of the lengths
    # themselves is the same for all boundaries.
    least = np.concatenate([[0], edges * before[1:]])
    cuts = []
    for _ in range(1, min(buckets, edges.size)):
        shorter = least.copy()
        cut = np.zeros(edges.size + 1, int)
        for end in range(1, edges.size + 1):
            starts = np.arange(end)
            costs = shorter[:end] + edges[end - 1] * (before[end] - before[starts])
            cut[end] = np.argmin(costs)
            least[end] = costs[cut[end]]
        cuts.append(cut)
    end = edges.size
    boundaries = [int(edges[-1])]
    for cut in reversed(cuts):
        end = cut[end]
        if end == 0:
            break
        boundaries.append(int(edges[end - 1]))
    return tuple(reversed(boundaries))
