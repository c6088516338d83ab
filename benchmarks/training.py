"""The time of a training step with everything around it, beside PyTorch; and what the loop costs.

    python benchmarks/training.py                   # about fifteen minutes on two idle cores
    python benchmarks/training.py --quick           # about one minute
    python benchmarks/training.py --only overhead

A language model of characters (embedding, one RNN, LSTM or GRU with both biases, readout) trains on
the source code of Python's standard library: the same initial weights, windows, carried state,
clipping, Adam and metrics on both sides. A step includes loading the data, the update, and writing
loss, accuracy and gradient norm as a line of JSON. rnnlab runs ``rnnlab.training.fit``; PyTorch an
ordinary loop with its fused Adam.

``overhead`` compares ``fit`` with the bare compiled step on one batch, with and without a
checkpoint every 100 steps. Contenders take turns, round by round; the figures are minima over the
rounds of the mean step, and their ratios. ``training.json`` holds all of them.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import rnnlab
from rnnlab.data import Streams
from rnnlab.models import LanguageModel, language_model
from rnnlab.studies.records import write_json
from rnnlab.training import fit, initial_state, train_step, truncated_loss
from rnnlab.typing import PyTree

SIZES = {"S": (100, 32, 64, 128), "M": (512, 32, 128, 256)}
"""T, B, I (features of a character) and H, as in speed.py."""

CELLS: dict[str, Any] = {"rnn": rnnlab.RNN, "gru": rnnlab.GRU, "lstm": rnnlab.LSTM}
SYMBOLS = 128
CLIP, RATE = 1.0, 1e-3
SKIPPED = 20
"""Steps at the beginning of each round that are not timed: compilation, and first calls."""

console = Console()


class Problem(NamedTuple):
    """One model and its data."""

    cell: str
    size: str
    model: LanguageModel
    data: Streams
    params: PyTree


class Timed(NamedTuple):
    """Seconds of a step, and the losses of all steps."""

    seconds: float
    losses: list[float]


class Clock:
    """A metrics writer that notes when each step was recorded."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, step: int, values: Any) -> None:
        del step, values
        self.times.append(time.perf_counter())

    def close(self) -> None:
        pass


def problem(cell: str, size: str) -> Problem:
    """The model of a size, with parameters that do not depend on the contender."""
    steps, batch_size, features, hidden = SIZES[size]
    text, source = rnnlab.data.standard_library()
    corpus = rnnlab.data.encode(text, source, SYMBOLS)
    model = language_model(
        CELLS[cell](hidden, recurrent_bias=True), SYMBOLS, embedding_size=features
    )
    data = rnnlab.data.streams(corpus.codes, batch_size, steps)
    return Problem(cell, size, model, data, model.init(jax.random.key(0), data[0]))


def with_rnnlab(
    work: Problem, steps: int, folder: Path, checkpoint_every: int | None = None
) -> Timed:
    """One round of ``fit``."""
    batch_size, length = work.data.batch_size, work.data.length
    clock = Clock()
    run = fit(
        work.model,
        work.data,
        optax.adam(RATE),
        clip=CLIP,
        steps=steps,
        params=work.params,
        loss=truncated_loss(work.model, length),
        carry=work.model.initial_state(batch_size),
        out=folder / "run",
        checkpoint_every=checkpoint_every,
        writers=[clock],
        progress=False,
    )
    losses = run.metrics["loss"].tolist()
    # The records end with the last step; a checkpoint of the end comes after them.
    seconds = (clock.times[-1] - clock.times[SKIPPED - 1]) / (steps - SKIPPED)
    shutil.rmtree(folder / "run")
    return Timed(seconds, losses)


def with_torch(work: Problem, steps: int, folder: Path) -> Timed:
    """One round of an ordinary PyTorch loop."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    kinds = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    _, _, features, hidden = SIZES[work.size]
    embedding = torch.nn.Embedding(SYMBOLS, features)
    recurrent = kinds[work.cell](features, hidden)
    readout = torch.nn.Linear(hidden, SYMBOLS)
    recurrent.load_state_dict(rnnlab.interop.to_torch(work.model.cell, work.params.cell))
    with torch.no_grad():
        embedding.weight.copy_(torch.tensor(np.asarray(work.params.embedding)))
        readout.weight.copy_(torch.tensor(np.asarray(work.params.readout.w.T)))
        readout.bias.copy_(torch.tensor(np.asarray(work.params.readout.b)))
    network = torch.nn.ModuleList([embedding, recurrent, readout])
    optimiser = torch.optim.Adam(network.parameters(), RATE, fused=True)
    state = None
    losses, times = [], []
    with (folder / "torch.jsonl").open("w") as file:
        for step in range(steps):
            batch = work.data[step]
            xs, targets = torch.from_numpy(batch.xs), torch.from_numpy(batch.targets).long()
            ys, state = recurrent(embedding(xs), state)
            state = (
                tuple(part.detach() for part in state)
                if isinstance(state, tuple)
                else state.detach()
            )
            logits = readout(ys)
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
            accuracy = (logits.argmax(-1) == targets).float().mean()
            record = {
                "step": step + 1,
                "loss": loss.item(),
                "gradient_norm": norm.item(),
                "accuracy": accuracy.item(),
            }
            file.write(json.dumps(record) + "\n")
            losses.append(record["loss"])
            times.append(time.perf_counter())
    return Timed((times[-1] - times[SKIPPED - 1]) / (steps - SKIPPED), losses)


def bare(work: Problem, steps: int, folder: Path) -> Timed:
    """The compiled step alone, on one batch that is on the device already."""
    del folder
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))
    loss = truncated_loss(work.model, work.data.length)
    step = jax.jit(train_step(loss, optimiser, carried=True), donate_argnums=0)
    # A copy, since the step reuses the memory of its arguments.
    params = jax.tree.map(jnp.array, work.params)
    carry = work.model.initial_state(work.data.batch_size)
    state = initial_state(params, optimiser, jax.random.key(0), carry=carry)
    batch = jax.tree.map(jnp.asarray, work.data[0])
    state, metrics = step(state, batch)
    for _ in range(SKIPPED):
        state, metrics = step(state, batch)
    jax.block_until_ready(state)
    start = time.perf_counter()
    for _ in range(steps - SKIPPED):
        state, metrics = step(state, batch)
    jax.block_until_ready(state)
    seconds = (time.perf_counter() - start) / (steps - SKIPPED)
    return Timed(seconds, [float(metrics["loss"])])


Contender = Callable[[Problem, int, Path], Timed]


def measure(
    work: Problem, contenders: dict[str, Contender], rounds: int, steps: int
) -> dict[str, Any]:
    """Seconds of a step by contender, one for each round, and the losses of the last round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, list[float]] = {}
    random = np.random.default_rng(0)
    names = list(contenders)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for index in random.permutation(len(names)):
                timed = contenders[names[index]](work, steps, Path(folder))
                seconds[names[index]].append(timed.seconds)
                losses[names[index]] = timed.losses
    return {"seconds": seconds, "losses": losses}


def against_torch(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The table beside PyTorch."""
    table = Table(title="a training step with data, clipping, Adam and metrics")
    for column in ("cell", "size", "rnnlab ms", "PyTorch ms", "ratio", "losses differ by"):
        table.add_column(column, justify="right")
    records = []
    for size in options.sizes:
        for cell in CELLS:
            work = problem(cell, size)
            steps = SKIPPED + options.steps[size]
            contenders: dict[str, Contender] = {"rnnlab": with_rnnlab, "PyTorch": with_torch}
            measured = measure(work, contenders, options.rounds, steps)
            ours, theirs = (min(times) for times in measured["seconds"].values())
            curves = np.array([measured["losses"][name] for name in contenders])
            differences = np.abs(curves[0] - curves[1]) / curves[1]
            record = {
                "section": "torch", "cell": cell, "size": size, "steps": steps,
                "ratio": ours / theirs, "largest_difference": float(differences.max()), **measured,
            }  # fmt: skip
            records.append(record)
            table.add_row(
                cell, size, f"{ours * 1e3:.1f}", f"{theirs * 1e3:.1f}", f"{ours / theirs:.2f}",
                f"{differences.max():.1e}",
            )  # fmt: skip
    console.print(table)
    return records


def overhead(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The cost of the loop at S."""

    def with_checkpoints(work: Problem, steps: int, folder: Path) -> Timed:
        return with_rnnlab(work, steps, folder, checkpoint_every=100)

    table = Table(title="the training loop beside the bare compiled step, size S")
    for column in ("cell", "bare ms", "loop", "with checkpoints"):
        table.add_column(column, justify="right")
    records = []
    contenders: dict[str, Contender] = {
        "bare": bare, "loop": with_rnnlab, "checkpoints": with_checkpoints,
    }  # fmt: skip
    for cell in CELLS:
        work = problem(cell, "S")
        steps = SKIPPED + options.loop_steps
        measured = measure(work, contenders, options.rounds, steps)
        best = {name: min(times) for name, times in measured.pop("seconds").items()}
        ratios = {name: value / best["bare"] for name, value in best.items()}
        records.append({"section": "overhead", "cell": cell, "steps": steps, **best})
        table.add_row(
            cell, f"{best['bare'] * 1e3:.2f}", f"{ratios['loop']:.3f}",
            f"{ratios['checkpoints']:.3f}",
        )  # fmt: skip
    console.print(table)
    return records


SECTIONS = {"torch": against_torch, "overhead": overhead}


def main() -> None:
    """Runs the chosen sections."""
    parser = argparse.ArgumentParser(description="Times training steps beside PyTorch.")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="S alone, two short rounds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.steps, options.loop_steps = {"S": 100, "M": 30}, 400
    if options.quick:
        options.sizes, options.rounds = ["S"], 2
        options.steps, options.loop_steps = {"S": 30}, 100
    records = []
    for name in options.only:
        records += SECTIONS[name](options)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], "jax": jax.__version__}
    path = options.out / "training.json"
    write_json(path, {"about": about, "records": records})
    console.print(f"All figures: {path}")


if __name__ == "__main__":
    rnnlab.quick_start()
    main()
