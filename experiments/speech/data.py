"""Sets of sounds for training, validation and test, as frames with their labels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.speech.sounds import (
    BANDS,
    TEST_VOICES,
    TRAINING_VOICES,
    VALIDATION_VOICES,
    Sound,
    log_mel,
    speak,
    tones,
)
from experiments.speech.templates import SILENCE
from rnnlab.data import Batch

FRAMES, LABELS = 112, 5
"""The size of a batch: the longest sound, and the most labels."""

PAUSE = 4
"""Frames at each end of a sound that hold no label."""


class Sounds(NamedTuple):
    """The parts of a set.

    Attributes:
        training: labelled sounds; in them, label 0..9 is class 1..10 of the targets.
        validation: sounds of voices or timbres of their own.
        test: sounds of voices or timbres of their own.
        examples: the frames of single labels by the voices or timbres of training.
        example_labels: their labels; the last one is silence.
    """

    training: Batch
    validation: Batch
    test: Batch
    examples: list[np.ndarray]
    example_labels: list[int]


Make = Callable[[Sequence[int], int, np.random.Generator], Sound]
"""``make(labels, part, random)``; the part is 0 for training, 1 for validation, 2 for the test."""


def make_tones(labels: Sequence[int], part: int, random: np.random.Generator) -> Sound:
    """Tones of a timbre that is drawn for each sound."""
    del part
    return tones(labels, random.uniform(0.1, 1, 4), random)


def make_words(labels: Sequence[int], part: int, random: np.random.Generator) -> Sound:
    """Digits by a voice of the part, with a speed and a pitch that are drawn for each sound."""
    voices = (TRAINING_VOICES, VALIDATION_VOICES, TEST_VOICES)[part]
    voice = voices[random.integers(len(voices))]
    return speak(
        labels, voice, int(random.integers(140, 211)), int(random.integers(30, 71)), random
    )


def sounds(make: Make, counts: tuple[int, int, int], repeats: int) -> Sounds:
    """All parts, standardised by the mean and the spread of the training frames."""
    random = np.random.default_rng(0)
    parts = []
    for part, count in enumerate(counts):
        drawn = [random.integers(0, 10, random.integers(3, LABELS + 1)) for _ in range(count)]
        parts.append([make(labels.tolist(), part, random) for labels in drawn])
    frames = [log_mel(sound) for sound in parts[0]]
    joined = np.concatenate(frames)
    mean, std = joined.mean(axis=0), joined.std(axis=0)

    def scaled(sound: Sound) -> np.ndarray:
        return (log_mel(sound) - mean) / std

    examples, labels = [], []
    for label in range(10):
        for _ in range(repeats):
            examples.append(scaled(make([label], 0, random))[PAUSE:-PAUSE])
            labels.append(label)
    pauses = [(frame[:2].mean(axis=0) - mean) / std for frame in frames]
    examples.append(np.mean(pauses, axis=0)[None])
    training, validation, test = [to_batch(part, scaled) for part in parts]
    return Sounds(training, validation, test, examples, [*labels, SILENCE])


def to_batch(part: Sequence[Sound], scaled: Callable[[Sound], np.ndarray]) -> Batch:
    """Sounds side by side, with the classes 1..10 for the labels and 0 for the blank."""
    xs = np.zeros((FRAMES, len(part), BANDS), np.float32)
    lengths = np.zeros(len(part), np.int32)
    targets = np.zeros((LABELS, len(part)), np.int32)
    mask = np.zeros((LABELS, len(part)), bool)
    for column, sound in enumerate(part):
        frames = scaled(sound)
        lengths[column] = len(frames)
        xs[: len(frames), column] = frames
        targets[: len(sound.labels), column] = np.add(sound.labels, 1)
        mask[: len(sound.labels), column] = True
    return Batch(xs, targets, mask, lengths)
