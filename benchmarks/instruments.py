"""What do the instruments cost, and what would a user write in their place?

    python benchmarks/instruments.py                 # everything, about five minutes on two cores
    python benchmarks/instruments.py --only hooks     # one section

Sections, to be chosen with ``--only``:

- together: gradient flow, matrix of contributions and the leading 8 exponents of an RNN, an LSTM
and a GRU, T = 1000,
  H = 64, B = 8, in one new process, compilation included;
- together, plain: the same without ``rnnlab.quick_start``;
- spectrum: all 1000 exponents of a random network of 1000 units over 1000 steps, against mean-field
theory; - fixed points: a search from 1024 states of an LSTM with H = 64; - phase diagram: 32 gains
by 32 lengths up to T = 200 of an RNN and an LSTM, H = 64; - hooks: the same norms ‖∂L/∂hₜ‖ from
PyTorch, by a hook on the state of every step, beside the gradient flow, which
  returns each step's contributions as well. Both run in turns, and the ratio is that of the fastest
  calls.

All but the hooks are timed once, in a process in which nothing is compiled yet, the import of
rnnlab and JAX left out. Processes start with ``rnnlab.quick_start``, as the command line ``rnnlab``
does; where it is left out, LAPACK still has one thread (OPENBLAS_NUM_THREADS=1), since two wait for
one another in a loop beside any other process. ``instruments.json`` in the output directory holds
the figures; sections that are not run keep theirs.
"""

import argparse
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
    """A cell, its parameters and noise to read."""
    cell = CELLS[name](H)
    return (
        cell,
        cell.init(jax.random.key(0), H),
        jax.random.normal(jax.random.key(1), (T, batch, H)),
    )


def loss(ys: jax.Array) -> jax.Array:
    """A loss at every step."""
    return 0.5 * jnp.sum(ys**2)


def timed(run: Callable[..., Any], *given: Any, **options: Any) -> tuple[float, Any]:
    """Seconds until the result is there, and the result."""
    start = time.perf_counter()
    result = run(*given, **options)
    jax.block_until_ready([leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)])
    return time.perf_counter() - start, result


def together() -> dict[str, float]:
    """Seconds of each instrument for each cell, in the order in which they are run."""
    seconds = {}
    for name in CELLS:
        cell, params, xs = problem(name)
        seconds[f"{name}, flow"], _ = timed(gradient_flow, cell, params, xs, loss)
        seconds[f"{name}, contributions"], _ = timed(bptt_contributions, cell, params, xs, loss)
        seconds[f"{name}, 8 exponents"], _ = timed(lyapunov_spectrum, cell, params, xs, count=8)
    return {"seconds": sum(seconds.values()), **seconds}


def spectrum() -> dict[str, float]:
    """h ← g J tanh(h), J ~ N(0, 1/N), g = 2; mean field: λ₁ = ln g + ½ ln⟨(1 − tanh²)²⟩ with Δ = g² ⟨tanh²(√Δ z)⟩."""
    size, gain = 1000, 2.0
    cell = rnnlab.RNN(size, form="output-state", bias=False)
    k_weights, k_start = jax.random.split(jax.random.key(0))
    w_h = gain / math.sqrt(size) * jax.random.normal(k_weights, (size, size))
    params = cell.init(jax.random.key(0), 1)._replace(w_h=w_h)
    start = cell.initial_state()._replace(h=jax.random.normal(k_start, (size,)))
    xs = jnp.zeros((1300, 1))
    options = {"burn_in": 200, "warm_up": 100, "key": jax.random.key(1)}
    seconds, found = timed(lyapunov_spectrum, cell, params, xs, start, **options)
    z, weights = np.polynomial.hermite_e.hermegauss(201)
    weights /= weights.sum()
    delta = 1.0
    for _ in range(1000):
        delta = gain**2 * weights @ np.tanh(math.sqrt(delta) * z) ** 2
    h = math.sqrt(delta) * np.abs(z)
    log_slope = 2 * (
        math.log(2) - h - np.log1p(np.exp(-2 * h))
    )  # ln(1 − tanh²), where tanh rounds to 1 too
    return {
        "seconds": seconds,
        "largest": float(found.exponents[0]),
        "largest in theory": math.log(gain) + 0.5 * math.log(weights @ np.exp(2 * log_slope)),
        "mean": float(found.exponents.mean()),
        "mean in theory": math.log(gain) - 0.5 + float(weights @ log_slope),
    }


def points() -> dict[str, float]:
    """From states of noisy trajectories, under zero input."""
    cell, params, xs = problem("lstm")
    states, _ = rnnlab.unroll_states(cell, params, xs)
    starts = sample_states(jax.random.key(2), states, 1024, 0.1)
    seconds, found = timed(fixed_points, cell, params, jnp.zeros(H), starts)
    return {"seconds": seconds, "points": len(found.states)}


def phases() -> dict[str, float]:
    """32 gains by 32 lengths; the slower cell counts."""
    lengths = jnp.asarray(np.unique(np.geomspace(2, 200, 40).round().astype(int))[-32:])
    gains = jnp.geomspace(0.25, 4, 32)
    seconds = {}
    for name in ("rnn", "lstm"):
        cell, params, xs = problem(name, 4)
        seconds[name], found = timed(phase_diagram, cell, params, xs[:200], gains, lengths)
        assert found.exponent.shape == (32, 32)
    return {"seconds": max(seconds.values()), **seconds}


def hooks(rounds: int = 8) -> dict[str, float]:
    """The fastest of some calls in turns, all compiled; the norms are the same."""
    import torch

    torch.manual_seed(0)
    results: dict[str, float] = {}
    for name in CELLS:
        module = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[
            name
        ](H, H)
        cell, params = rnnlab.interop.from_torch(module.state_dict())
        _, _, xs = problem(name)
        inputs = torch.from_numpy(np.array(xs))

        def by_hooks(module: Any = module, inputs: Any = inputs, name: str = name) -> Any:
            norms = [None] * T
            h = torch.zeros(B, H)
            state: Any = (h, torch.zeros(B, H)) if name == "lstm" else h
            total = torch.zeros(())
            for t in range(T):
                state = module(inputs[t], state)
                h = state[0] if name == "lstm" else state

                def keep(g: Any, t: int = t) -> None:
                    norms[t] = g.norm(dim=1)

                h.register_hook(keep)
                total = total + 0.5 * (h**2).sum()
            module.zero_grad()
            total.backward()
            return torch.log(torch.stack(norms))  # pyright: ignore[reportArgumentType]

        def by_flow(cell: Any = cell, params: Any = params, xs: Any = xs) -> Any:
            return gradient_flow(cell, params, xs, loss)

        np.testing.assert_allclose(by_flow().log_norm_state, by_hooks().numpy(), atol=2e-3)
        calls: dict[str, list[float]] = {"hooks": [], "flow": []}
        for _ in range(rounds):
            for which, run in (("hooks", by_hooks), ("flow", by_flow)):
                calls[which].append(timed(run)[0])
        best = {which: min(times) for which, times in calls.items()}
        results |= {f"{name}, hooks": best["hooks"], f"{name}, flow": best["flow"]}
        results[f"{name}, ratio"] = best["hooks"] / best["flow"]
    return results


SECTIONS = {
    "together": together,
    "together, plain": together,
    "spectrum": spectrum,
    "fixed points": points,
    "phase diagram": phases,
    "hooks": hooks,
}


def main() -> None:
    """Runs each section in a process of its own, and writes down what it found."""
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
    plain = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
    rnnlab.quick_start()
    path = options.out / "instruments.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for section in options.only:
        command = [sys.executable, __file__, "--alone", section]
        environment = plain if section == "together, plain" else None  # that of this process
        own = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        found[section] = json.loads(own.stdout)
        write_json(path, found)
        show(section, found[section])


def show(section: str, figures: dict[str, float]) -> None:
    """A table of one section."""
    goal = f" (goal: under {GOALS[section]} s)" if section in GOALS else ""
    table = Table("", "", title=section + goal, show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


if __name__ == "__main__":
    main()
