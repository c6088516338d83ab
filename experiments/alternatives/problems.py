"""The three tasks, one for each kind of model, with the exact loss of the best predictor."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax

from rnnlab.data import Batch
from rnnlab.studies.task_training import HELD_OUT
from rnnlab.tasks import CopyMemory, Task, copy_memory, temporal_order
from rnnlab.tasks.base import Kind
from rnnlab.theory.linear_gaussian import LinearGaussian
from rnnlab.typing import Array, Key

BITS = 6
WINDOW = 16
"""The inputs that the window models see."""


@dataclasses.dataclass(frozen=True)
class Oscillator(Task):
    """Predict the next value of a noisy linear oscillator.

        zₜ₊₁ = ρ R(2π/period) zₜ + √(1 − ρ²) wₜ,    yₜ = z₁ₜ + noise · vₜ,

    where R is a rotation of the plane and w, v are standard normal. The state has variance 1 at all
    times, and y the autocovariance ρʰ cos(2π h/period), plus noise² at h = 0. xs ``[T, B, 1]`` are
    y₁ … y_T and the targets y₂ … y_T₊₁. The floor is the loss of the Kalman filter; all variances
    here are exact.

    Attributes:
        length: T.
        decay: ρ, per step.
        period: in steps.
        noise: the standard deviation of the measurement; it may be traced in ``sample``.
    """

    kind: ClassVar[Kind] = "numbers each step"

    length: int = 48
    decay: float = 0.99
    period: float = 12.0
    noise: Any = 0.5

    @property
    def steps(self) -> int:
        return self.length

    @property
    def input_size(self) -> int:
        return 1

    @property
    def outputs(self) -> int:
        return 1

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_start, k_state, k_noise = jax.random.split(key, 3)
        turn = jnp.asarray(self._turn(), jnp.float32)
        shocks = jax.random.normal(k_state, (self.length + 1, batch_size, 2))
        shocks = math.sqrt(1 - self.decay**2) * shocks

        def step(z: Array, shock: Array) -> tuple[Array, Array]:
            return z @ turn.T + shock, z[:, :1]

        start = jax.random.normal(k_start, (batch_size, 2))
        _, values = lax.scan(step, start, shocks)
        ys = values + self.noise * jax.random.normal(k_noise, values.shape)
        return Batch(ys[:-1], ys[1:])

    def baseline(self) -> float:
        """That of the best predictor from the current value alone."""
        return self.window_floor(1)

    def floor(self) -> float:
        """The mean variance of a value given all values before it, that of the Kalman filter."""
        factor = np.linalg.cholesky(scipy.linalg.toeplitz(self._covariances()))
        # The square of a diagonal entry is the variance given the rows before.
        return float((np.diag(factor)[1:] ** 2).mean())

    def window_floor(self, window: int) -> float:
        """The mean variance of a value given the last ``window`` values."""
        covariances = self._covariances()
        variances = []
        for known in range(1, self.length + 1):
            seen = min(known, window)
            lags = covariances[1 : seen + 1]
            weights = scipy.linalg.solve_toeplitz(covariances[:seen], lags)
            variances.append(covariances[0] - weights @ lags)
        return float(np.mean(variances))

    def variance(self) -> float:
        """Var y."""
        return 1 + self.noise**2

    def system(self) -> LinearGaussian:
        """The parameters of the system itself."""
        return LinearGaussian(
            transition=self._turn(),
            state_covariance=(1 - self.decay**2) * np.eye(2),
            readout=np.eye(1, 2),
            output_covariance=np.array([[self.noise**2]]),
            start_mean=np.zeros(2),
            start_covariance=np.eye(2),
        )

    def solved(self, metrics: Any) -> bool:
        """Never, so that all models are trained for the same number of updates."""
        return False

    def _turn(self) -> np.ndarray:
        angle = 2 * math.pi / self.period
        rotation = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        return self.decay * np.array(rotation)

    def _covariances(self) -> np.ndarray:
        """Those of yₜ and yₜ₊ₕ, h = 0 … T."""
        lags = np.arange(self.length + 1)
        covariances = self.decay**lags * np.cos(2 * math.pi * lags / self.period)
        return covariances + self.noise**2 * (lags == 0)


def keys_of(seed: Any) -> Key:
    """The keys of a seed: of initial weights, of training data, and of held-out sequences."""
    return jax.random.split(jax.random.key(seed), 3)


def held_out(task: Task, seed: int) -> Batch:
    """The sequences on which all models of a seed are measured."""
    return jax.device_get(task.sample(keys_of(seed)[2], HELD_OUT))


def series(batch: Batch) -> np.ndarray:
    """y₁ … y_T₊₁ of a batch of the oscillator, ``[T + 1, B, 1]``."""
    return np.concatenate([batch.xs, batch.targets[-1:]]).astype(float)


def bits_task(bits: int = BITS) -> CopyMemory:
    """Read so many random bits, then a signal, and give the bits in their order."""
    return copy_memory(1, symbols=2, items=bits)


def tasks(quick: bool) -> dict[str, Task]:
    """The three tasks by name."""
    return {
        "bits": bits_task(3 if quick else BITS),
        "oscillator": Oscillator(),
        "long lag": temporal_order(20 if quick else 60),
    }
