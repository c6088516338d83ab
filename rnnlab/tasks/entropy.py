"""Conditional entropy: the loss of the best predictor, from exact probabilities."""

from typing import Any

import numpy as np


def conditional_entropy(joint: Any) -> float:
    """H(Y | X) in nats, the expected cross-entropy of the best predictor of y that sees x alone.

    H(Y | X) = −Σ p(x, y) ln (p(x, y) / p(x)), with 0 ln 0 = 0.

    >>> round(conditional_entropy([[1, 1], [0, 2]]), 4)  # ln 2 in half of the cases
    0.3466

    Args:
        joint: ``[X, Y]``, probabilities or expected counts, not all of them 0.
    """
    joint = np.asarray(joint, np.float64)
    given = np.broadcast_to(joint.sum(1, keepdims=True), joint.shape)
    occurs = joint > 0
    nats = joint[occurs] @ np.log(given[occurs] / joint[occurs])
    return float(nats / joint.sum())
