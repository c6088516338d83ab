"""Time and memory of a loss and its gradient against the length of a sequence."""

import time

import jax
import numpy as np

from experiments.alternatives.problems import Oscillator
from experiments.alternatives.training import NETWORKS, sized
from experiments.common import Record, compiled_gradient

BUDGET = 20_000
BATCH = 2
REPEATS = 5


def costs(names: tuple[str, ...], lengths: tuple[int, ...]) -> list[Record]:
    """CPU seconds and bytes of one gradient for each network and length."""
    rows = []
    for name in names:
        model = sized(Oscillator(), NETWORKS[name], BUDGET)
        for length in lengths:
            batch = Oscillator(length=length).sample(jax.random.key(0), BATCH)
            params = model.init(jax.random.key(1), batch)
            gradient = compiled_gradient(model, params, batch)
            jax.block_until_ready(gradient.program(params, batch))
            seconds = []
            for _ in range(REPEATS):
                began = time.process_time()
                jax.block_until_ready(gradient.program(params, batch))
                seconds.append(time.process_time() - began)
            rows.append(
                {
                    "model": name,
                    "length": length,
                    "seconds": min(seconds),
                    "bytes": gradient.bytes,
                }
            )
    return rows


def growth(rows: list[Record], name: str, what: str) -> float:
    """The exponent p of what grows as Tᵖ, between the two longest sequences."""
    own = [row for row in rows if row["model"] == name]
    before, last = own[-2], own[-1]
    ratio = last[what] / before[what]
    return float(np.log(ratio) / np.log(last["length"] / before["length"]))
