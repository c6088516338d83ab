"""Sounds to transcribe: tones that are computed here, and digits that espeak-ng speaks."""

import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PITCHES = tuple(round(220 * 2 ** (step / 4)) for step in range(10))
"""Of the tones, in Hz: a minor third apart."""

TRAINING_VOICES = ("en-us+m1", "en-us+f1", "en-gb+m3", "en-gb+f2", "en-us+m5", "en-gb-x-rp+f3")
VALIDATION_VOICES = ("en-gb+m4", "en-us+f4")
TEST_VOICES = ("en-gb-scotland+m7", "en-gb-x-rp+m6", "en-us+f5", "en-gb+m2")

BANDS = 24
HOP = 0.025
"""Seconds from one frame to the next."""


class Sound(NamedTuple):
    """Samples in −1..1, their number for each second, and the labels 0..9 that they stand for."""

    samples: np.ndarray
    rate: int
    labels: list[int]


def has_espeak() -> bool:
    """Whether words can be spoken."""
    return shutil.which("espeak-ng") is not None


def tones(labels: Sequence[int], timbre: np.ndarray, random: np.random.Generator) -> Sound:
    """A tone for each label, of 0.1 to 0.3 s, with harmonics of the amplitudes ``timbre [K]``."""
    rate = 16_000
    pieces = []
    for label in labels:
        times = np.arange(int(rate * random.uniform(0.1, 0.3))) / rate
        pitch = PITCHES[label] * (1 + 0.02 * random.uniform(-1, 1))
        orders = np.arange(1, len(timbre) + 1)[:, None]
        phases = random.uniform(0, 2 * np.pi, orders.shape)
        waves = np.sin(2 * np.pi * pitch * orders * times + phases)
        # Without a slow start and end a tone would click.
        envelope = np.minimum(1, np.minimum(times, times[::-1]) / 0.02)
        pieces += [envelope * (timbre @ waves), np.zeros(int(rate * random.uniform(0.03, 0.1)))]
    samples = with_noise(np.concatenate(pieces), rate, random.uniform(0.1, 0.5), random)
    return Sound(samples, rate, list(labels))


def speak(
    labels: Sequence[int], voice: str, speed: int, pitch: int, random: np.random.Generator
) -> Sound:
    """Digits spoken by espeak-ng."""
    text = " ".join(WORDS[label] for label in labels)
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    rate = int.from_bytes(wav[24:28], "little")
    # The header's lengths are wrong in a pipe; the samples begin after its 44 bytes.
    samples = np.frombuffer(wav[44 : len(wav) // 2 * 2], np.int16).astype(float)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    samples = with_noise(samples, rate, random.uniform(0.005, 0.03), random)
    return Sound(samples, rate, list(labels))


def with_noise(
    samples: np.ndarray, rate: int, spread: float, random: np.random.Generator
) -> np.ndarray:
    """The samples between pauses of 0.1 s, with a peak of 1, and white noise on all."""
    pause = np.zeros(rate // 10)
    samples = np.concatenate([pause, samples / np.abs(samples).max(), pause])
    return samples + spread * random.normal(size=samples.size)


def log_mel(sound: Sound, bands: int = BANDS) -> np.ndarray:
    """The logarithm of the power in bands of the mel scale, a frame every 25 ms, ``[T, bands]``.

    m = 2595 log₁₀(1 + f / 700); Hann windows of 32 ms, triangular bands from 50 Hz to 7.5 kHz.
    """
    size, hop = int(0.032 * sound.rate), int(HOP * sound.rate)
    starts = np.arange(0, len(sound.samples) - size + 1, hop)
    frames = sound.samples[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    frequencies = np.fft.rfftfreq(1024, 1 / sound.rate)
    low, high = 2595 * np.log10(1 + np.array([50, 7500]) / 700)
    corners = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    rising = (frequencies - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - frequencies) / np.diff(corners)[1:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    return np.log(power @ weights.T + 1e-3)
