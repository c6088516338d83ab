"""Prediction of a sine wave."""

import dataclasses
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Key


@dataclasses.dataclass(frozen=True)
class SineWave(Task):
    """Prediction of a sine wave; see :func:`sine_wave`.

    Attributes:
        length: T.
        period: in steps, where it is fixed; else the shortest and the longest.
        noise: the standard deviation of the noise.
    """

    kind: ClassVar[Kind] = "numbers each step"

    length: int
    period: float | tuple[float, float]
    noise: float = 0.0

    def __post_init__(self) -> None:
        self._store(
            length=_check.positive_int("length", self.length),
            period=_period(self.period),
            noise=_noise(self.noise),
        )
        # The lag depends on the period.
        _check.at_least("length", self.length, self.lag + 1)

    @property
    def periods(self) -> tuple[float, float]:
        """The shortest and the longest period, in steps; equal where it is fixed."""
        return self.period if isinstance(self.period, tuple) else (self.period, self.period)

    @property
    def steps(self) -> int:
        return self.length

    @property
    def lag(self) -> int:
        # xₜ₊₁ = 2 cos(ω) xₜ − xₜ₋₁; to find cos(ω) takes another value.
        return 1 if self.periods[0] == self.periods[1] else 2

    @property
    def input_size(self) -> int:
        return 1

    @property
    def outputs(self) -> int:
        return 1

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_phase, k_period, k_noise = jax.random.split(key, 3)
        phase = jax.random.uniform(k_phase, (batch_size,), jnp.float32)
        low, high = self.periods
        period = jax.random.uniform(k_period, (batch_size,), jnp.float32, low, high)
        steps = jnp.arange(self.length + 1, dtype=jnp.float32)[:, None]
        cycles = phase + steps / period
        # The sine of a small angle: that of a large one has fewer digits in float32.
        values = jnp.sin(2 * math.pi * (cycles - jnp.floor(cycles)))
        if self.noise:
            values += self.noise * jax.random.normal(k_noise, values.shape, jnp.float32)
        values = values[..., None]
        is_predictable = jnp.arange(self.length)[:, None] >= self.lag
        mask = jnp.broadcast_to(is_predictable, (self.length, batch_size))
        return Batch(values[:-1], values[1:], mask=mask)

    def baseline(self) -> float:
        # E[sin(φ + ω) | x] = E[cos ω] E[sin φ | x]: φ and π − φ are equally likely given x, so the
        # part with cos φ vanishes.
        explained = _mean_cosine(*self.periods) ** 2 * _explained(self.noise)
        return 0.5 - explained + self.noise**2

    def floor(self) -> float:
        return self.noise**2

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether the loss lies above the floor by at most 1/100 of what the baseline does."""
        return metrics["loss"] - self.floor() <= (self.baseline() - self.floor()) / 100


def _mean_cosine(low: float, high: float) -> float:
    """The mean of cos(2π/P) over a period P that is uniform between two."""
    if low == high:
        return math.cos(2 * math.pi / low)
    return (_integrated_cosine(high) - _integrated_cosine(low)) / (high - low)


def _integrated_cosine(period: float) -> float:
    """∫ cos(2π/P) dP = P cos(2π/P) + 2π Si(2π/P), with the sine integral Si."""
    import scipy.special

    omega = 2 * math.pi / period
    sine_integral, _ = scipy.special.sici(omega)
    return period * math.cos(omega) + 2 * math.pi * float(sine_integral)


def _explained(noise: float) -> float:
    """E[E[s | x]²] for x = s + noise ε, where s = sin φ with a uniform φ, and ε is normal.

    This part of the variance ½ of s is known to one who sees x.
    """
    if noise < 1e-4:
        # The best predictor explains more than the linear one by about noise^2.5, here 1e-10.
        return 0.25 / (0.5 + noise**2)
    # Equal steps over x converge exponentially: the integrand is smooth and vanishes at both ends.
    step = noise / 4
    x = np.arange(-1 - 8 * noise, 1 + 8 * noise, step)
    # Gauss's nodes over those φ in [−π/2, π/2] that lie within 9 standard deviations of x.
    nodes, weights = np.polynomial.legendre.leggauss(48)
    low = np.arcsin(np.clip(x - 9 * noise, -1, 1))
    high = np.arcsin(np.clip(x + 9 * noise, -1, 1))
    half = (high - low) / 2
    s = np.sin(low + half * (1 + nodes[:, None]))
    likelihood = np.exp(-(((x - s) / noise) ** 2) / 2) / (noise * math.sqrt(2 * math.pi))
    density = likelihood * weights[:, None] * half / math.pi
    mean = (density * s).sum(axis=0) / density.sum(axis=0)
    return float((density.sum(axis=0) * mean**2).sum() * step)


def sine_wave(
    length: int = 100,
    *,
    period: float | tuple[float, float] = (10.0, 50.0),
    noise: float = 0.0,
) -> SineWave:
    """The next value of a sine wave, at each step.

    xₜ = sin(2πt/P + φ) + noise · εₜ, with a uniform phase φ, a period P that is fixed or uniform
    between two, and a standard normal εₜ that is drawn for each step. xs ``[T, B, 1]``: x₀ to
    x_{T−1}. targets ``[T, B, 1]``: x₁ to x_T. The mask leaves out the first step, at which no
    predictor can know in which direction the wave goes, and also the second if the period is drawn.

    The baseline is ½ − E[cos ω]² m + noise², with ω = 2π/P: given xₜ alone, the best prediction of
    the wave is E[cos ω] E[sin φₜ | xₜ], whose second factor has the mean square m. Without noise m
    is ½, so the baseline is sin²(ω)/2 for a fixed period; with noise it is integrated numerically.
    The floor is noise², that of a predictor that knows the wave, as after a long past; without
    noise it is 0, and two steps of a fixed period suffice: xₜ₊₁ = 2 cos(ω) xₜ − xₜ₋₁. Solved means
    a mean squared error above the floor by at most a hundredth of what the baseline is above it.

    >>> import jax
    >>> task = sine_wave(50, period=8)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.targets.shape, round(task.baseline(), 4)
    ((50, 4, 1), (50, 4, 1), 0.25)

    Args:
        length: T, the steps of a sequence; at least 2, and 3 for a period that is drawn.
        period: in steps, a number above 2; or the shortest and the longest.
        noise: the standard deviation of the noise on each value.

    Raises:
        ValueError: for a shorter length, a period of at most 2, and a negative noise.
    """
    return SineWave(length, period, noise)


def _period(period: Any) -> float | tuple[float, float]:
    """One period, or the shortest and the longest; ValueError unless they are above 2."""
    pair = period if isinstance(period, tuple | list) else (period, period)
    are_numbers = all(isinstance(value, Real) and math.isfinite(value) for value in pair)
    if len(pair) != 2 or not are_numbers or not 2 < pair[0] <= pair[1]:
        raise ValueError(
            f"period is {_check.brief(period)}; it must be a number of steps above 2, or the "
            "shortest and the longest, such as (10.0, 50.0)"
        )
    low, high = map(float, pair)
    return low if low == high else (low, high)


def _noise(noise: float) -> float:
    _check.number("noise", noise)
    if noise < 0:
        raise ValueError(f"noise is {noise}; it must be a standard deviation, at least 0")
    return float(noise)
