"""Sounds, and the features of sounds that the published networks read."""

import importlib.util
import math
from pathlib import Path

import numpy as np
from scipy.io import wavfile

RATE = 16000


def speech() -> tuple[np.ndarray, str]:
    """Some seconds of sound at 16 kHz, and a few words on what it is.

    A sentence of the CMU ARCTIC corpus where pysptk is installed, which has it as an example; else
    white noise.
    """
    spec = importlib.util.find_spec("pysptk")
    if spec is None or spec.origin is None:
        noise = np.random.default_rng(0).standard_normal(4 * RATE)
        return 0.03 * noise, "white noise (pysptk, which has a spoken sentence, is not installed)"
    path = Path(spec.origin).with_name("example_audio_data") / "arctic_a0007.wav"
    rate, samples = wavfile.read(path)
    if rate != RATE:
        raise ValueError(f"{path.name} has {rate} samples a second; {RATE} are expected")
    return samples / 2**15, "a spoken sentence (CMU ARCTIC a0007)"


def mel_frames(wave: np.ndarray) -> np.ndarray:
    """Mel spectrogram ``[frames, 40]`` as Resemblyzer's: 25 ms windows every 10 ms, power.

    As ``librosa.feature.melspectrogram`` computes it, after the volume is raised to −30 dBFS.
    """
    level = 20 * math.log10(float(np.sqrt(np.mean(wave**2))))
    wave = wave * 10 ** (max(-30 - level, 0) / 20)
    size, hop = 400, 160
    padded = np.pad(wave, size // 2)
    count = 1 + (len(padded) - size) // hop
    frames = np.stack([padded[hop * i : hop * i + size] for i in range(count)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return power @ _slaney(size, 40).T


def _slaney(size: int, bands: int) -> np.ndarray:
    """Triangular filters of equal area on Slaney's mel scale, ``[bands, size/2 + 1]``."""
    frequencies = np.linspace(0, RATE / 2, size // 2 + 1)
    # Linear up to 1 kHz, which is mel 15; 27 mels for a factor of 6.4 above.
    top = 15 + 27 * math.log(RATE / 2 / 1000) / math.log(6.4)
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def drums(beats_per_minute: float, seconds: float, rate: int = 22050) -> np.ndarray:
    """A bass drum on every beat, and a short noise between two beats."""
    time = np.arange(int(seconds * rate)) / rate
    phase = time * beats_per_minute / 60
    since = (phase - np.floor(phase)) * 60 / beats_per_minute
    pitch = 50 * since + 4 * (1 - np.exp(-since / 0.02))  # falls from 250 Hz to 50 Hz
    kick = np.exp(-since / 0.15) * np.sin(2 * np.pi * pitch)
    half = (phase + 0.5 - np.floor(phase + 0.5)) * 60 / beats_per_minute
    hat = np.exp(-half / 0.02) * np.random.default_rng(0).standard_normal(len(time))
    return 0.6 * kick + 0.1 * hat


def log_bands(wave: np.ndarray, rate: int = 22050) -> np.ndarray:
    """What BeatNet reads, ``[frames, 272]``: 136 logarithmic bands, and their rises.

    After madmom: 64 ms windows every 20 ms, 24 triangular filters an octave from 30 Hz on, and the
    logarithm to base 10 of one plus the magnitude.
    """
    size, hop = int(0.064 * rate), int(0.02 * rate)
    count = 1 + (len(wave) - size) // hop
    frames = np.stack([wave[hop * i : hop * i + size] for i in range(count)])
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(size)))[:, : size // 2]
    bands = np.log10(1 + magnitude @ _logarithmic(size, rate))
    rises = np.maximum(0, np.diff(bands, axis=0, prepend=bands[:1]))
    return np.concatenate([bands, rises], axis=1)


def _logarithmic(size: int, rate: int) -> np.ndarray:
    """Triangular filters of unit area, ``[bins, bands]``."""
    frequencies = np.fft.rfftfreq(size, 1 / rate)[: size // 2]
    steps = np.arange(math.floor(24 * math.log2(30 / 440)), math.ceil(24 * math.log2(17000 / 440)))
    wanted = 440 * 2.0 ** (steps / 24)
    wanted = wanted[(wanted >= 30) & (wanted <= 17000)]
    above = np.clip(np.searchsorted(frequencies, wanted), 1, len(frequencies) - 1)
    is_lower = wanted - frequencies[above - 1] < frequencies[above] - wanted
    bins = np.unique(above - is_lower)
    filters = np.zeros((len(frequencies), len(bins) - 2))
    for band, (low, centre, high) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        rising = np.linspace(0, 1, centre - low, endpoint=False)
        falling = np.linspace(1, 0, high - centre, endpoint=False)
        shape = np.concatenate([rising, falling])
        filters[low:high, band] = shape / shape.sum()
    return filters
