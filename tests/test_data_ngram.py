"""The n-gram model: a dictionary twin, sums of one, and known sources."""

import collections
import itertools

import numpy as np
import pytest

from rnnlab.data import ngram


class SlowNGram:
    """Interpolated modified Kneser–Ney with dictionaries, one probability at a time."""

    def __init__(self, codes, order, size):
        self.size, self.order = size, order
        grams = [tuple(codes[t : t + order]) for t in range(len(codes) - order + 1)]
        counts = collections.Counter(grams)
        self.counts = {order: counts}
        for k in range(order - 1, 0, -1):
            before = collections.defaultdict(set)
            for gram in self.counts[k + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[k] = {gram: len(codes) for gram, codes in before.items()}
        self.after = collections.defaultdict(list)
        for k, counts in self.counts.items():
            for gram, count in counts.items():
                self.after[k, gram[:-1]].append(count)
        self.discounts = {k: self.discount(list(c.values())) for k, c in self.counts.items()}

    @staticmethod
    def discount(counts):
        n = [counts.count(times) for times in range(5)]
        if 0 in n[1:]:
            return [0, 0.5, 1, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [0] + [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
        useful = all(0 < found[i] <= i for i in (1, 2, 3))
        return found if useful else [0, 0.5, 1, 1.5]

    def probability(self, context, word):
        context = tuple(context)[-(self.order - 1) :] if self.order > 1 else ()
        if not context:
            return self.mixed(1, (), word, 1 / self.size)
        return self.mixed(len(context) + 1, context, word, None)

    def mixed(self, k, context, word, lower):
        if lower is None:
            lower = self.mixed(k - 1, context[1:], word, None) if k > 1 else 1 / self.size
        counts = self.after.get((k, context))
        if counts is None:
            return lower
        d = self.discounts[k]
        count = self.counts[k].get((*context, word), 0)
        weight = sum(d[min(c, 3)] for c in counts) / sum(counts)
        return (count - d[min(count, 3)]) / sum(counts) + weight * lower


def draw(size, vocabulary_size, seed=0):
    """A text with structure: a random walk with jumps, so that counts differ."""
    rng = np.random.default_rng(seed)
    steps = rng.geometric(0.45, size) - 1
    return np.cumsum(steps) % vocabulary_size


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_bits_are_those_of_the_dictionary_twin(order):
    size = 6
    training, held_out = draw(400, size), draw(60, size, seed=1)
    slow = SlowNGram(training.tolist(), order, size)
    expected = []
    for t, code in enumerate(held_out.tolist()):
        expected.append(-np.log2(slow.probability(held_out[:t].tolist(), code)))
    model = ngram.fit(training, order, size)
    np.testing.assert_allclose(model.bits(held_out), expected, rtol=1e-12)
    assert model.bits_per_symbol(held_out) == pytest.approx(np.mean(expected), rel=1e-12)
    assert model.order == order


def test_estimated_discounts_are_used():
    """The texts above reach both branches: estimated discounts, and the usual ones."""
    model = SlowNGram(draw(400, 6).tolist(), 5, 6)
    usual = [0, 0.5, 1, 1.5]
    assert {found == usual for found in model.discounts.values()} == {True, False}


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_sum_to_one(order):
    size = 5
    model = ngram.fit(draw(300, size) % 4, order, size)
    # Contexts that were seen, that were not (4 never occurs), and of every length.
    for length in range(4):
        for context in itertools.product(range(size), repeat=length):
            p = model.probabilities(context)
            assert p.min() > 0
            assert abs(p.sum() - 1) < 4e-15


def test_probabilities_are_those_of_the_bits():
    codes = draw(50, 6, seed=2)
    model = ngram.fit(draw(400, 6), 3, 6)
    bits = model.bits(codes)
    for t, code in enumerate(codes):
        assert -np.log2(model.probabilities(codes[:t])[code]) == pytest.approx(bits[t], rel=1e-13)


def test_a_periodic_text_costs_almost_nothing_and_noise_its_entropy():
    periodic = np.arange(3000) % 5
    assert ngram.fit(periodic, 3, 5).bits_per_symbol(periodic[:500]) < 0.02
    noise = np.random.default_rng(0).integers(0, 4, 50_000)
    held_out = np.random.default_rng(1).integers(0, 4, 5000)
    # The cost of estimating 4² · 3 probabilities from the text is below a thousandth of a bit.
    assert ngram.fit(noise, 3, 4).bits_per_symbol(held_out) == pytest.approx(2, abs=2e-3)


def test_a_longer_memory_helps_where_there_is_one():
    training, held_out = draw(20_000, 6), draw(2000, 6, seed=1)
    bits = [ngram.fit(training, order, 6).bits_per_symbol(held_out) for order in (1, 2)]
    assert bits[1] < bits[0] - 0.5


def test_a_text_shorter_than_the_order_has_the_probabilities_of_its_contexts():
    model = ngram.fit(draw(300, 6), 5, 6)
    long = draw(60, 6, seed=1)
    np.testing.assert_allclose(model.bits(long[:2]), model.bits(long)[:2], rtol=1e-14)


@pytest.mark.parametrize(
    ("codes", "order", "size", "words"),
    [
        ([0, 1, 2], 2, 2, r"codes\[2\] is 2; a code must lie in 0..1"),
        ([0, -1], 2, 2, r"codes\[1\] is -1"),
        ([0.0, 1.0], 2, 2, "codes is float64; a code must be an integer"),
        ([], 2, 2, r"codes has shape \(0,\); it must be \[N\], at least one code"),
        ([[0, 1]], 2, 2, r"codes has shape \(1, 2\)"),
        ([0, 1], 3, 2, "codes holds 2 codes; a model of order 3 needs at least that many"),
        ([0, 1], 0, 2, "order is 0"),
        ([0, 1], 2, 0, "vocabulary_size is 0"),
        ([0] * 99, 10, 128, r"order is 10, but 128 symbols to that power are more than 2\*\*63"),
    ],
)
def test_bad_codes_are_refused(codes, order, size, words):
    with pytest.raises(ValueError, match=words) as caught:
        ngram.fit(codes, order, size)
    assert "\n" not in str(caught.value)
