"""Films of a moving digit, forecasts without a network, and the loop of a film model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from experiments.video.baselines import Tracker, shift_between
from experiments.video.data import Films, Motion, bounced, draw_at, ink_box
from experiments.video.networks import FilmModel
from tests.reference import close

DIGIT = np.random.default_rng(0).uniform(0.5, 1, (4, 3)).astype(np.float32)


def film_of(places):
    """A film of 10 × 10 pixels with the digit at these places."""
    film = np.zeros((len(places), 10, 10), np.float32)
    for frame, place in zip(film, places, strict=True):
        draw_at(frame, DIGIT, np.array(place))
    return film


def test_a_place_is_reflected_at_both_walls():
    room = 4.0
    walked, place, step = [], 1.0, 0.75
    for _ in range(20):
        walked.append(place)
        place += step
        if not 0 <= place <= room:
            place = -place if place < 0 else 2 * room - place
            step = -step
    close(bounced(1.0 + 0.75 * np.arange(20), np.array(room)), np.array(walked))


def test_all_ink_stays_inside_and_films_are_those_of_their_index():
    films = Films("validation", Motion(12, 40), 6, 2)
    first = films[0]
    # All of a digit is seen in every frame.
    close(first.sum(axis=2), np.broadcast_to(first[0].sum(axis=1), (40, 6)))
    np.testing.assert_array_equal(first, films[0])
    assert not np.array_equal(first, films[1])
    assert len(films) == 2
    with pytest.raises(IndexError):
        films[2]


def test_no_digit_is_in_two_parts():
    parts = [
        {digit.tobytes() for digit in Films(part, Motion(), 1, 1).digits}
        for part in ("training", "validation", "test")
    ]
    assert parts[0].isdisjoint(parts[1])
    assert (parts[0] | parts[1]).isdisjoint(parts[2])


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-4, 1)])
def test_the_shift_of_a_digit_is_found(shift):
    before, after = film_of([(4, 4), (4 + shift[0], 4 + shift[1])])
    np.testing.assert_array_equal(shift_between(before, after), shift)


@pytest.mark.parametrize("lag", [1, 2])
def test_a_tracker_is_exact_while_nothing_bounces(lag):
    film = film_of([(time, 5 - time) for time in range(6)])
    for has_walls in (False, True):
        close(Tracker(lag, has_walls).forecast(film[:3], 3), film[3:])


def test_a_tracker_that_knows_the_walls_bounces_and_the_other_leaves():
    film = film_of([(4, 0), (5, 0), (6, 0), (5, 0), (4, 0)])
    close(Tracker(1, True).forecast(film[:3], 2), film[3:])
    without = Tracker(1, False).forecast(film[:3], 4)
    assert ink_box(without[0])[1][0] == 10
    assert not without[3].any()


@pytest.mark.parametrize("cell", [rnnlab.LSTM(5), rnnlab.ConvLSTM(2, shape=(3, 4))], ids=repr)
def test_a_film_model_reads_frames_and_then_its_predictions(cell):
    model = FilmModel(cell, 12, 3)
    frames = jnp.asarray(np.random.default_rng(1).uniform(size=(5, 2, 12)))
    params = model.init(jax.random.key(0))
    state, x, expected = cell.initial_state((2,)), frames[0], []
    for time in range(4):
        state, y = cell.step(params.cell, state, x)
        predicted = x + model.change(params, y)
        expected.append(predicted)
        x = frames[time + 1] if time < 2 else predicted
    close(model.apply(params, frames[:3], 2), jnp.stack(expected))
    close(model.forecast(params, frames[:3], 2), jnp.stack(expected[2:]))
    loss, _ = model.loss(params, frames, jax.random.key(0))
    close(loss, jnp.mean((jnp.stack(expected) - frames[1:]) ** 2))
