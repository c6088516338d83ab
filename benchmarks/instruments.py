"""The cost of the instruments, and of the PyTorch hooks that a user would write instead.

    python benchmarks/instruments.py                 # everything, about five minutes on two cores
    python benchmarks/instruments.py --only hooks    # one section

Sections, chosen with ``--only``:

- together: gradient flow, matrix of contributions and the 8 leading exponents of an RNN, an LSTM
  and a GRU, T = 1000, H = 64, B = 8, in one new process, including compilation;
- together, plain: the same without ``rnnlab.quick_start``;
- spectrum: all 1000 exponents of a random network of 1000 units over 1000 steps, and their values
  in mean-field theory;
- fixed points: a search from 1024 states of an LSTM, H = 64;
- phase diagram: 32 gains by 32 lengths up to T = 200, of an RNN and an LSTM, H = 64;
- hooks: ‖∂L/∂hₜ‖ from PyTorch, by a hook on the state of every step, and the gradient flow,
  which also returns each step's contributions. Calls alternate; the ratio is that of the fastest.

All sections but hooks are timed once, in a new process with nothing compiled; the import of rnnlab
and JAX is excluded. Processes start with ``rnnlab.quick_start``, as the command ``rnnlab`` does. In
"together, plain", LAPACK still has one thread (OPENBLAS_NUM_THREADS=1), because two wait for each
other in a loop when another process is running. ``instruments.json`` in the output directory holds
the numbers; sections that are not run keep theirs.
"""

import argparse
import functools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import rnnlab
from rnnlab.diagnostics import (
    bptt_contributions,
    fixed_points,
    gradient_flow,
    lyapunov_spectrum,
    phase_diagram,
    sample_states,
)
from rnnlab.studies.records import write_json

CELLS = {"rnn": rnnlab.RNN, "lstm": rnnlab.LSTM, "gru": rnnlab.GRU}
T, B, H = 1000, 8, 64
GOALS = {"together": 10, "spectrum": 240, "fixed points": 20, "phase diagram": 60}  # seconds


def problem(name: str, batch: int = B) -> tuple[Any, Any, jax.Array]:
    """A cell, its parameters, and noise as input."""
    cell = CELLS[name](H)
    params = cell.init(jax.random.key(0), H)
    return cell, params, jax.random.normal(jax.random.key(1), (T, batch, H))


def loss(ys: jax.Array) -> jax.Array:
    """A loss at every step."""
    return 0.5 * jnp.sum(ys**2)


def timed(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[float, Any]:
    """Seconds until the result is ready, and the result."""
    start = time.perf_counter()
    result = function(*args, **options)
    jax.block_until_ready([leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)])
    return time.perf_counter() - start, result


def together() -> dict[str, float]:
    """Seconds of each instrument for each cell, in the order of the calls."""
    seconds = {}
    for name in CELLS:
        cell, params, xs = problem(name)
        seconds[f"{name}, flow"], _ = timed(gradient_flow, cell, params, xs, loss)
        seconds[f"{name}, contributions"], _ = timed(bptt_contributions, cell, params, xs, loss)
        seconds[f"{name}, 8 exponents"], _ = timed(lyapunov_spectrum, cell, params, xs, count=8)
    return {"seconds": sum(seconds.values()), **seconds}


def spectrum() -> dict[str, float]:
    """The Lyapunov spectrum of h ← g J tanh(h), J ~ N(0, 1/N), g = 2, measured and in theory."""
    size, gain = 1000, 2.0
    cell = rnnlab.RNN(size, form="output-state", bias=False)
    k_weights, k_start = jax.random.split(jax.random.key(0))
    w_h = gain / math.sqrt(size) * jax.random.normal(k_weights, (size, size))
    params = cell.init(jax.random.key(0), 1)._replace(w_h=w_h)
    start = cell.initial_state()._replace(h=jax.random.normal(k_start, (size,)))
    xs = jnp.zeros((1300, 1))
    options = {"burn_in": 200, "warm_up": 100, "key": jax.random.key(1)}
    seconds, result = timed(lyapunov_spectrum, cell, params, xs, start, **options)
    largest, mean = mean_field(gain)
    return {
        "seconds": seconds,
        "largest": float(result.exponents[0]),
        "largest in theory": largest,
        "mean": float(result.exponents.mean()),
        "mean in theory": mean,
    }


def mean_field(gain: float) -> tuple[float, float]:
    """λ₁ and the mean exponent in mean-field theory, with Δ = g² ⟨tanh²(√Δ z)⟩.

    λ₁ = ln g + ½ ln⟨(1 − tanh²)²⟩; the mean is ln g − ½ + ⟨ln(1 − tanh²)⟩.
    """
    z, weights = np.polynomial.hermite_e.hermegauss(201)
    weights /= weights.sum()
    delta = 1.0
    for _ in range(1000):
        delta = gain**2 * weights @ np.tanh(math.sqrt(delta) * z) ** 2
    h = math.sqrt(delta) * np.abs(z)
    # ln(1 − tanh²(h)), in a form that stays finite where tanh rounds to 1.
    log_slope = 2 * (math.log(2) - h - np.log1p(np.exp(-2 * h)))
    largest = math.log(gain) + 0.5 * math.log(weights @ np.exp(2 * log_slope))
    return largest, math.log(gain) - 0.5 + float(weights @ log_slope)


def points() -> dict[str, float]:
    """Fixed points for zero input, from states of noisy trajectories."""
    cell, params, xs = problem("lstm")
    states, _ = rnnlab.unroll_states(cell, params, xs)
    starts = sample_states(jax.random.key(2), states, 1024, 0.1)
    seconds, result = timed(fixed_points, cell, params, jnp.zeros(H), starts)
    return {"seconds": seconds, "points": len(result.states)}


def phases() -> dict[str, float]:
    """Phase diagrams of 32 gains by 32 lengths; ``seconds`` is the time of the slower cell."""
    lengths = jnp.asarray(np.unique(np.geomspace(2, 200, 40).round().astype(int))[-32:])
    gains = jnp.geomspace(0.25, 4, 32)
    seconds = {}
    for name in ("rnn", "lstm"):
        cell, params, xs = problem(name, 4)
        seconds[name], diagram = timed(phase_diagram, cell, params, xs[:200], gains, lengths)
        assert diagram.exponent.shape == (32, 32)
    return {"seconds": max(seconds.values()), **seconds}


def hooks(rounds: int = 8) -> dict[str, float]:
    """The fastest of several alternating calls, all compiled, with equal norms."""
    import torch

    torch.manual_seed(0)
    modules = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    results: dict[str, float] = {}
    for name in CELLS:
        module = modules[name](H, H)
        cell, params = rnnlab.interop.from_torch(module.state_dict())
        _, _, xs = problem(name)
        inputs = torch.from_numpy(np.array(xs))
        by_hooks = functools.partial(hook_norms, module, inputs, name)
        by_flow = functools.partial(gradient_flow, cell, params, xs, loss)
        np.testing.assert_allclose(by_flow().log_norm_h, by_hooks().numpy(), atol=2e-3)
        hook_seconds, flow_seconds = [], []
        for _ in range(rounds):
            hook_seconds.append(timed(by_hooks)[0])
            flow_seconds.append(timed(by_flow)[0])
        results[f"{name}, hooks"] = min(hook_seconds)
        results[f"{name}, flow"] = min(flow_seconds)
        results[f"{name}, ratio"] = min(hook_seconds) / min(flow_seconds)
    return results


def hook_norms(module: Any, inputs: Any, name: str) -> Any:
    """ln‖∂L/∂hₜ‖ ``[T, B]`` from PyTorch."""
    import torch

    norms: list[Any] = [None] * T
    h = torch.zeros(B, H)
    state: Any = (h, torch.zeros(B, H)) if name == "lstm" else h
    total = torch.zeros(())
    for t in range(T):
        state = module(inputs[t], state)
        h = state[0] if name == "lstm" else state

        def keep(gradient: Any, t: int = t) -> None:
            norms[t] = gradient.norm(dim=1)

        h.register_hook(keep)
        total = total + 0.5 * (h**2).sum()
    module.zero_grad()
    total.backward()
    return torch.log(torch.stack(norms))


SECTIONS = {
    "together": together,
    "together, plain": together,
    "spectrum": spectrum,
    "fixed points": points,
    "phase diagram": phases,
    "hooks": hooks,
}


def main() -> None:
    """Runs each section in a new process, and writes and prints its numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    parser.add_argument("--alone", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(SECTIONS[options.alone]()))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    # quick_start changes the environment, which the other sections inherit.
    plain = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
    rnnlab.quick_start()
    path = options.out / "instruments.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for section in options.only:
        process = subprocess.run(
            [sys.executable, __file__, "--alone", section],
            env=plain if section == "together, plain" else None,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        results[section] = json.loads(process.stdout)
        write_json(path, results)
        show(section, results[section])


def show(section: str, numbers: dict[str, float]) -> None:
    """Prints the numbers of one section as a table."""
    goal = f" (goal: under {GOALS[section]} s)" if section in GOALS else ""
    table = Table("", "", title=section + goal, show_header=False)
    for name, value in numbers.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


if __name__ == "__main__":
    main()
