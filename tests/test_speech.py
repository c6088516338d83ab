"""The experiment on sounds: frames, and connected templates."""

import numpy as np
import pytest

from experiments.speech.data import make_tones, sounds
from experiments.speech.sounds import PITCHES, Sound, log_mel, tones
from experiments.speech.templates import SILENCE, Templates
from rnnlab import GRU
from rnnlab.models import ctc_transcriber


def test_a_pure_tone_is_in_the_band_around_it():
    """Band b has its peak at the corner b + 1 of corners that are equally far apart in mel."""
    rate = 16_000
    ends = 2595 * np.log10(1 + np.array([50, 7500]) / 700)
    corners = 700 * (10 ** (np.linspace(*ends, 22) / 2595) - 1)
    for band in (4, 10, 17):
        samples = np.sin(2 * np.pi * corners[band + 1] * np.arange(rate) / rate)
        frames = log_mel(Sound(samples, rate, []), 20)
        assert frames.shape == (39, 20)
        assert (frames.argmax(axis=1) == band).all()


def test_tones_begin_and_end_with_a_pause():
    sound = tones([0, 5, 9], np.ones(2), np.random.default_rng(0))
    assert sound.labels == [0, 5, 9]
    assert len(PITCHES) == 10
    frames = log_mel(sound).sum(axis=1)
    assert frames[:2].max() < np.median(frames)


def examples(seed=0):
    """Three templates of two bands, and one of silence."""
    rng = np.random.default_rng(seed)
    shapes = [10 * rng.normal(size=(size, 2)) for size in (3, 4, 2)]
    return [*shapes, np.zeros((1, 2))]


def test_a_sound_made_of_templates_is_read_as_them():
    a, b, c, silence = examples()
    read = Templates([a, b, c, silence], [0, 1, 2, SILENCE])
    frames = np.concatenate([silence, b, a, a, silence, silence, c])
    assert read(frames, 0.5) == [1, 0, 0, 2]


def test_a_slower_sound_is_read_as_well():
    a, b, c, silence = examples()
    read = Templates([a, b, c, silence], [0, 1, 2, SILENCE])
    frames = np.repeat(np.concatenate([c, a, b]), 2, axis=0)
    assert read(frames, 0.5) == [2, 0, 1]


def test_a_high_price_leaves_one_word():
    a, b, c, silence = examples()
    read = Templates([a, b, c, silence], [0, 1, 2, SILENCE])
    assert len(read(np.concatenate([a, b, c]), 1e9)) <= 1


@pytest.mark.long
def test_the_sounds_are_batches_that_fit_the_model():
    data = sounds(make_tones, (6, 3, 3), 2)
    model = ctc_transcriber(GRU(2), 11)
    for part in (data.training, data.validation, data.test):
        model.check_batch(part)
    assert data.example_labels[-1] == SILENCE
    assert len(data.examples) == 21
