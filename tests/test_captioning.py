"""The images of the captioning experiment and their names."""

import numpy as np

from experiments.captioning.data import LETTERS, SIDE, UNSEEN, name, spelled, two_digits, written


def test_each_number_has_a_name_of_its_own_that_is_read_back():
    numbers = np.arange(100)
    names = [name(number) for number in range(100)]
    assert len(set(names)) == 100
    assert set("".join(names)) <= set(LETTERS)
    codes, counts = written(numbers, max(map(len, names)) + 1)
    assert spelled(codes) == names
    # The end is learned too.
    np.testing.assert_array_equal(counts.sum(axis=0), [len(text) + 1 for text in names])


def halves_of(images):
    """Each digit of images of two."""
    return np.concatenate(np.split(images.pixels, 2, axis=2))


def test_unseen_numbers_and_images_of_the_test_are_not_learned_from():
    data = two_digits((300, 100))
    assert data.unseen is not None
    assert not np.isin(UNSEEN, data.training.numbers).any()
    assert not np.isin(UNSEEN, data.validation.numbers).any()
    assert np.isin(data.unseen.numbers, UNSEEN).all()
    digits = [
        {half.tobytes() for half in halves_of(part)}
        for part in (data.training, data.validation, data.test)
    ]
    assert data.test.pixels.shape[1:] == (SIDE, 2 * SIDE)
    assert not (digits[0] | digits[1]) & digits[2]
