"""An n-gram model with modified Kneser–Ney smoothing, the baseline of a language model."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.checks import as_array, check_codes


class Level(NamedTuple):
    """The k-grams of one order k, each as a number in base V, the last code its last digit.

    Attributes:
        grams: rising.
        discounted: max(c(hw) − D(c(hw)), 0) / Σ_w c(hw), for each.
        contexts: the (k − 1)-grams h that some of them begin with, rising.
        weights: γ(h), the share of the next lower order, for each.
    """

    grams: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class NGram:
    """A fitted model, see :func:`fit`.

    Attributes:
        levels: order 1 first.
        vocabulary_size: V.
    """

    levels: tuple[Level, ...]
    vocabulary_size: int

    def __repr__(self) -> str:
        return _check.summary(self, order=self.order, vocabulary_size=self.vocabulary_size)

    @property
    def order(self) -> int:
        return len(self.levels)

    def bits(self, codes: Any) -> np.ndarray:
        """−log₂ P(codes[t] | the order − 1 codes before it), ``[N]``; fewer at the beginning."""
        codes = _checked(codes, self.vocabulary_size)
        probabilities = np.full(codes.size, 1 / self.vocabulary_size)
        grams = np.zeros(codes.size, np.int64)
        for k, level in enumerate(self.levels, start=1):
            if codes.size < k:
                break
            # Positions before k − 1 have no k-gram, and keep the probability of a lower order.
            grams = _extend(grams, codes, k, self.vocabulary_size)
            probabilities[k - 1 :] = self._mixed(level, grams, probabilities[k - 1 :])
        return -np.log2(probabilities)

    def bits_per_symbol(self, codes: Any) -> float:
        """The mean of :meth:`bits`: the cross-entropy in bits for each symbol.

        The targets of :func:`rnnlab.data.streams` are all codes but the first: ``bits(codes)[1:]``.
        """
        return float(self.bits(codes).mean())

    def probabilities(self, context: Any) -> np.ndarray:
        """P(w | context) for every w, ``[V]``; only the last order − 1 codes are read."""
        context = as_array("context", context).reshape(-1)
        if context.size:
            check_codes("context", context, self.vocabulary_size)
        size = self.vocabulary_size
        probabilities = np.full(size, 1 / size)
        for k, level in enumerate(self.levels[: context.size + 1], start=1):
            gram = 0
            for code in context[context.size - (k - 1) :].tolist():
                gram = gram * size + code
            place = np.searchsorted(level.contexts, gram)
            if place == level.contexts.size or level.contexts[place] != gram:
                # A longer context that ends in an unseen one is unseen as well.
                break
            first, last = np.searchsorted(level.grams, [gram * size, (gram + 1) * size])
            probabilities *= level.weights[place]
            probabilities[level.grams[first:last] - gram * size] += level.discounted[first:last]
        return probabilities

    def _mixed(self, level: Level, grams: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """P_k from P_{k−1}: discounted + γ P_{k−1}; P_{k−1} itself after an unseen context."""
        weights = _look_up(level.contexts, level.weights, grams // self.vocabulary_size, 1.0)
        return _look_up(level.grams, level.discounted, grams, 0.0) + weights * lower


def fit(codes: Any, order: int, vocabulary_size: int) -> NGram:
    """An interpolated n-gram model of a text with modified Kneser–Ney smoothing.

    P_k(w | h) = (c(hw) − D(c(hw))) / Σ_w c(hw) + γ(h) P_{k−1}(w | h′),     P₀ = 1/V

    h are the k − 1 codes before w, h′ all but the first of them, and γ(h) is what makes the sum
    over w one. At the highest order c counts the k-gram, below it the different codes that precede
    it. D has three values for each order, for counts of 1, 2 and more, estimated from the numbers
    of k-grams that occur one to four times (Chen & Goodman 1999, Computer Speech & Language 13(4));
    where these numbers give no useful discount, as for single characters, D is 0.5, 1 and 1.5.

    >>> model = fit([0, 1] * 50, order=3, vocabulary_size=2)
    >>> model.bits_per_symbol([0, 1] * 50) < 0.1
    True

    Args:
        codes: ``[N]``, integers in 0..V−1; four million take about a second.
        order: n, the length of the longest n-gram; V to the power n must lie below 2⁶³.
        vocabulary_size: V.

    Raises:
        ValueError: for codes that are not integers ``[N]`` in 0..V−1 or fewer than n, and for a V
            and n that are too large together.
    """
    _check.positive_int("order", order)
    _check.positive_int("vocabulary_size", vocabulary_size)
    codes = _checked(codes, vocabulary_size)
    if vocabulary_size**order >= 2**63:
        raise ValueError(
            f"order is {order}, but {vocabulary_size} symbols to that power are more than 2**63; "
            "give a lower order"
        )
    if codes.size < order:
        raise ValueError(
            f"codes holds {codes.size} codes; a model of order {order} needs at least that many"
        )
    grams = np.zeros(codes.size, np.int64)
    for k in range(1, order + 1):
        grams = _extend(grams, codes, k, vocabulary_size)
    grams, counts = np.unique(grams, return_counts=True)
    levels = [_level(grams, counts, vocabulary_size)]
    for k in range(order - 1, 0, -1):
        # Each different (k + 1)-gram is one code that precedes its last k codes.
        grams, counts = np.unique(grams % vocabulary_size**k, return_counts=True)
        levels.append(_level(grams, counts, vocabulary_size))
    return NGram(tuple(reversed(levels)), int(vocabulary_size))


def _checked(codes: Any, vocabulary_size: int) -> np.ndarray:
    codes = as_array("codes", codes)
    if codes.ndim != 1 or codes.size == 0:
        raise ValueError(f"codes has shape {codes.shape}; it must be [N], at least one code")
    check_codes("codes", codes, vocabulary_size)
    return codes.astype(np.int64)


def _extend(grams: np.ndarray, codes: np.ndarray, k: int, size: int) -> np.ndarray:
    """The k-grams ``[N − k + 1]`` from the (k − 1)-grams ``[N − k + 2]`` (k = 1: zeros ``[N]``)."""
    if k == 1:
        return codes
    return codes[: codes.size - k + 1] * size ** (k - 1) + grams[1:]


def _level(grams: np.ndarray, counts: np.ndarray, size: int) -> Level:
    of_gram = grams // size
    # The grams rise, so those of one context lie side by side.
    starts = np.flatnonzero(np.concatenate([[True], np.diff(of_gram) > 0]))
    sizes = np.diff(np.append(starts, grams.size))
    totals = np.add.reduceat(counts, starts)
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    weights = np.add.reduceat(discounts, starts) / totals
    discounted = (counts - discounts) / np.repeat(totals, sizes)
    return Level(grams, discounted, of_gram[starts], weights)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D₀ = 0, D₁, D₂ and D₃₊ (Chen & Goodman 1999)."""
    usual = np.array([0.0, 0.5, 1.0, 1.5])
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if 0 in (n1, n2, n3, n4):
        return usual
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    # A discount of 0 would give unseen symbols no probability, a negative one less than that.
    is_useful = (discounts[1:] > 0) & (discounts[1:] <= [1, 2, 3])
    return discounts if is_useful.all() else usual


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, default: float) -> Any:
    """The value of each wanted key, or ``default``."""
    # Equal keys are looked up once, and in rising order, which reads memory in order.
    different, place_of = np.unique(wanted, return_inverse=True)
    places = np.searchsorted(keys, different)
    places = np.minimum(places, keys.size - 1)
    found = np.where(keys[places] == different, values[places], default)
    return found[place_of]
