"""The experiment on activities: dynamic time warping and the statistics."""

import numpy as np

from experiments.activity.run import statistics, warped_distances
from experiments.classification.data import Split


def warped(a, b):
    """The cost of the best path, by its definition."""
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            least = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = np.sum((x - y) ** 2) + least
    return total[-1, -1]


def test_the_distances_are_those_of_each_pair():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 3, 2)), rng.normal(size=(4, 5, 2))
    distances = warped_distances(a, b)
    for i in range(3):
        for j in range(5):
            np.testing.assert_allclose(distances[i, j], warped(a[:, i], b[:, j]), rtol=1e-12)


def test_a_series_that_only_stands_still_longer_is_at_no_distance():
    a = np.array([1.0, 2.0, 3.0])[:, None, None]
    b = np.array([1.0, 1.0, 2.0, 3.0, 3.0])[:, None, None]
    assert warped_distances(a, b)[0, 0] == 0


def test_the_statistics_of_a_channel():
    xs = np.array([0.0, 2.0, 1.0, 5.0])[:, None, None]
    found = statistics(Split(xs, np.array([4]), np.array([0])))
    np.testing.assert_allclose(found, [[2.0, np.sqrt(3.5), 0.0, 5.0, 7 / 3]])
