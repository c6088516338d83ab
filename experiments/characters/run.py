"""A character model of Python's standard library against n-gram models, killed and resumed.

    python -m experiments.characters.run

``rnnlab train`` trains an LSTM of two layers on the source code of the standard library, in which
whole files are held out for validation and for tests. A copy of the run then goes back to its
oldest checkpoint, is killed (SIGKILL) between two checkpoints, and is resumed: its metrics must be
those of the run byte for byte, and its parameters bit for bit.

The score is the mean of −log₂ P(character | those before) over the test files, which nothing else
has seen. The baselines are n-gram models with modified Kneser–Ney smoothing on the same parts.

``rnnlab gradients --from`` and ``rnnlab dynamics --from`` measure the network before and after the
training, ``rnnlab generate`` continues a line.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common import Record, experiment
from rnnlab.data import corpora, ngram, split_files, standard_library_files
from rnnlab.report.figures.style import drawing, grid_lines, legend_below, look, reference_line
from rnnlab.training import read_metrics

RUNS = Path("runs") / "characters"
SHOWN = ("validation_bits_per_symbol", "horizon_1", "horizon_2")
"""The metrics in the figure."""
PROMPT = "def read_config(path"


class Plan(NamedTuple):
    """What is run.

    Attributes:
        settings: those of ``rnnlab train``.
        orders: of the n-gram models.
        measure: the options of ``rnnlab gradients`` and ``rnnlab dynamics``; None for neither.
    """

    settings: dict[str, Any]
    orders: tuple[int, ...]
    measure: dict[str, list[str]] | None


FULL = Plan(
    settings={
        "cell": "lstm", "layers": 2, "hidden_size": 256, "embedding_size": 64, "dropout": 0.1,
        "batch_size": 64, "length": 100, "steps": 3000, "validate_every": 250,
        "validation_batches": 40, "checkpoint_every": 100, "watch_every": 250, "schedule": "cosine",
        "warmup": 100, "learning_rate": 0.003,
    },
    orders=(2, 3, 4, 5, 6, 7, 8),
    measure={"gradients": ["--lengths", "30", "100", "300", "1000"], "dynamics": []},
)  # fmt: skip
QUICK = Plan(
    settings={
        "cell": "lstm", "layers": 2, "hidden_size": 16, "batch_size": 8, "length": 20, "steps": 60,
        "validate_every": 20, "validation_batches": 5, "checkpoint_every": 20,
    },
    orders=(1, 3),
    measure=None,
)  # fmt: skip


def rnnlab_command(*arguments: str) -> list[str]:
    """The command line of a process that runs rnnlab."""
    return [sys.executable, "-m", "rnnlab", *arguments]


def output_of(*arguments: str) -> str:
    """What a command prints; raises CalledProcessError where it fails."""
    return subprocess.run(
        rnnlab_command(*arguments), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def lines_of(run: Path) -> list[bytes]:
    """The complete lines of a run's metrics."""
    path = run / "metrics.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def train(run: Path, plan: Plan) -> None:
    """Trains, or goes on with a run that was interrupted."""
    settings = []
    for name, value in plan.settings.items():
        settings += ["--set", f"{name}={json.dumps(value)}"]
    if run.exists():
        output_of("resume", str(run))
    else:
        output_of("train", "--out", str(run), *settings)


def killed_copy(run: Path, folder: Path) -> dict[str, Any]:
    """How a copy of the run ends that goes back, is killed, and is resumed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    first, *later = sorted(folder.glob("checkpoints/step_*"))
    for checkpoint in later:
        shutil.rmtree(checkpoint)
    start = int(first.name.split("_")[1])
    # Between two checkpoints.
    kill_after = start + (int(later[0].name.split("_")[1]) - start) // 2
    kept = [line for line in lines_of(folder) if json.loads(line)["step"] <= start]
    (folder / "metrics.jsonl").write_bytes(b"\n".join(kept) + b"\n")
    with subprocess.Popen(rnnlab_command("resume", str(folder))) as process:
        while process.poll() is None and last_step(folder) < kill_after:
            time.sleep(0.1)
        process.kill()
    killed_after = last_step(folder)
    output_of("resume", str(folder))
    scores = [json.loads(output_of("evaluate", str(path), "--json")) for path in (run, folder)]
    return {
        "resumed_from": start,
        "killed_after": killed_after,
        "same_metrics": lines_of(run) == lines_of(folder),
        "same_params": scores[0]["params_sha256"] == scores[1]["params_sha256"],
    }


def last_step(run: Path) -> int:
    """The step of the last record of a run; −1 without any."""
    lines = lines_of(run)
    return json.loads(lines[-1])["step"] if lines else -1


def baselines(orders: tuple[int, ...], alphabet: int) -> dict[int, float]:
    """Bits per character of n-gram models on the test files, by order."""
    parts = corpora(split_files(standard_library_files()), alphabet)
    symbols = len(parts.training.alphabet)
    bits = {}
    for order in orders:
        model = ngram.fit(parts.training.codes, order, symbols)
        # The network does not predict the first character either.
        bits[order] = float(model.bits(parts.test.codes)[1:].mean())
    return bits


def draw(path: Path, result: Record) -> None:
    """Bits per character over training, and how far back the gradient reaches meanwhile."""
    curves, bits = result["curves"], result["ngram_bits_per_character"]
    score, last = result["test"]["bits_per_symbol"], result["test"]["step"]
    with drawing(path, 1, 2, (11, 4.6)) as (figure, (left, right)):
        validation = curves["validation_bits_per_symbol"]
        left.plot(*validation, **look(0), label="LSTM, validation files")
        left.plot([last], [score], **look(1), linestyle="none", label="test")
        for order in (3, 6, min(bits, key=bits.__getitem__)):
            if order in bits:
                reference_line(left, bits[order])
                left.text(
                    1, bits[order], f"{order}-gram, test", fontsize=8, ha="right", va="bottom",
                    transform=left.get_yaxis_transform(),
                )  # fmt: skip
        left.set(xlabel="step", ylabel="bits per character")
        left.set_title("Held-out files of the standard library", fontsize=10)
        for layer in (1, 2):
            name = f"horizon_{layer}"
            if name in curves:
                right.plot(*curves[name], **look(layer + 1), label=f"layer {layer}")
        right.set(xlabel="step", ylabel="horizon (characters, at most the whole sequence)")
        right.set_title("Lag at which the gradient is below 1/1000", fontsize=10)
        for axes in (left, right):
            grid_lines(axes)
        if right.lines:  # a quick run measures no horizons
            right.legend(frameon=False, fontsize=8)
        legend_below(figure, left)


def run(quick: bool) -> Record:
    """Trains, kills and resumes, scores, generates and measures.

    A full run leaves its files in ``runs/characters``, and goes on there if it was interrupted.
    """
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            return measured(QUICK, Path(folder))
    return measured(FULL, RUNS)


def measured(plan: Plan, folder: Path) -> Record:
    """All numbers of the experiment."""
    place = folder / "run"
    train(place, plan)
    killed = killed_copy(place, folder / "killed")
    scores = json.loads(output_of("evaluate", str(place), "--json"))
    bits = baselines(plan.orders, 128)
    print(f"LSTM: {scores['bits_per_symbol']:.3f} bits per character on the test files")
    for order, value in bits.items():
        print(f"{order}-gram: {value:.3f}")
    print(
        f"resumed from step {killed['resumed_from']}, killed after {killed['killed_after']}, "
        f"resumed: same metrics: {killed['same_metrics']}, same parameters: {killed['same_params']}"
    )
    texts = {
        "greedy": output_of("generate", str(place), "--prompt", PROMPT, "--greedy"),
        "top_p_0.9": output_of("generate", str(place), "--prompt", PROMPT, "--top-p", "0.9"),
    }
    print(texts["top_p_0.9"])
    for name, options in (plan.measure or {}).items():
        output_of(name, "--from", str(place), "--out", str(folder / name), *options)
    history = read_metrics(place / "metrics.jsonl")
    return {
        "finding": finding(scores["bits_per_symbol"], bits, killed),
        "settings": plan.settings,
        "test": scores,
        "ngram_bits_per_character": bits,
        "killed": killed,
        "texts": texts,
        "curves": {
            name: [history.steps(name).tolist(), history[name].tolist()]
            for name in SHOWN
            if name in history
        },
    }


def finding(score: float, bits: dict[int, float], killed: Record) -> str:
    """The scores, and whether the killed run ended as the other one, in two sentences."""
    best = min(bits, key=bits.__getitem__)
    verb = "below" if score < bits[best] else "not below"
    equal = killed["same_metrics"] and killed["same_params"]
    return (
        f"It needs {score:.3f} bits per character on held-out files, {verb} the {bits[best]:.3f} "
        f"of the best n-gram model (order {best}). A copy that was killed after step "
        f"{killed['killed_after']} and resumed "
        f"{'ends with the same bits' if equal else 'ends otherwise'}."
    )


def draw_result(result: Record, path: Path) -> None:
    """The figure of a result, and those of the instruments."""
    draw(path, result)
    for source in RUNS.glob("*/*.png"):
        shutil.copy(source, path.parent / source.name)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw_result)


if __name__ == "__main__":
    main()
