"""A character model of Python's standard library against n-gram models, killed on the way.

    python experiments/characters.py            # about twenty minutes on two cores
    python experiments/characters.py --quick    # a minute, writes nothing: a small model, few steps

``rnnlab train`` trains an LSTM of two layers on the source code of the standard library, in which
whole files are held out for validation and for tests. The process is killed (SIGKILL) once, on the
way, and ``rnnlab resume`` goes on from the last checkpoint. The steps between that checkpoint and
the kill run twice, so their metrics must be written twice alike, byte for byte.

The score is the mean of −log₂ P(character | those before) over the test files, which nothing else
has seen. The baselines are n-gram models with modified Kneser–Ney smoothing on the same parts.

``rnnlab gradients --from`` and ``rnnlab dynamics --from`` measure the network before and after the
training, ``rnnlab generate`` continues a line.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rnnlab.data import corpora, ngram, split_files, standard_library_files
from rnnlab.report.figures.style import drawing, grid_lines, legend_below, look, reference_line
from rnnlab.studies.records import write_json
from rnnlab.training import read_metrics
from rnnlab.training.metrics import History

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
PROMPT = "def read_config(path"


class Plan(NamedTuple):
    """What is run.

    Attributes:
        settings: those of ``rnnlab train``.
        killed_after: the step after which the process is killed.
        orders: of the n-gram models.
        measure: the options of ``rnnlab gradients`` and ``rnnlab dynamics``; None for neither.
    """

    settings: dict[str, Any]
    killed_after: int
    orders: tuple[int, ...]
    measure: dict[str, list[str]] | None


FULL = Plan(
    settings={
        "cell": "lstm", "layers": 2, "hidden_size": 256, "embedding_size": 64, "dropout": 0.1,
        "batch_size": 64, "length": 100, "steps": 1500, "validate_every": 250,
        "validation_batches": 40, "checkpoint_every": 100, "watch_every": 250, "schedule": "cosine",
        "warmup": 100, "learning_rate": 0.003,
    },
    killed_after=650,
    orders=(2, 3, 4, 5, 6, 7, 8, 9, 10),
    measure={"gradients": ["--lengths", "30", "100", "300", "1000"], "dynamics": []},
)  # fmt: skip
QUICK = Plan(
    settings={
        "cell": "lstm", "layers": 2, "hidden_size": 16, "batch_size": 8, "length": 20, "steps": 60,
        "validate_every": 20, "validation_batches": 5, "checkpoint_every": 20,
    },
    killed_after=35,
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


def train(run: Path, plan: Plan) -> dict[str, Any]:
    """Trains, kills, resumes; returns how the metrics of the steps that ran twice compare."""
    settings = []
    for name, value in plan.settings.items():
        settings += ["--set", f"{name}={json.dumps(value)}"]
    with subprocess.Popen(rnnlab_command("train", "--out", str(run), *settings)) as process:
        while process.poll() is None:
            time.sleep(0.1)
            lines = lines_of(run)
            if lines and json.loads(lines[-1])["step"] >= plan.killed_after:
                break
        process.kill()
    before = lines_of(run)
    checkpoint = max(int(path.name.split("_")[1]) for path in run.glob("checkpoints/step_*"))
    output_of("resume", str(run))
    after = lines_of(run)
    again = [line for line in before if json.loads(line)["step"] > checkpoint]
    return {
        "killed_after": json.loads(before[-1])["step"],
        "resumed_from": checkpoint,
        "records_written_twice": len(again),
        "equal_bytes": after[: len(before)] == before,
    }


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


def draw(path: Path, history: History, score: float, bits: dict[int, float]) -> None:
    """Bits per character over training, and how far back the gradient reaches meanwhile."""
    with drawing(path, 1, 2, (11, 4.6)) as (figure, (left, right)):
        left.plot(
            history.steps("validation_bits_per_symbol"),
            history["validation_bits_per_symbol"],
            **look(0),
            label="LSTM, validation files",
        )
        left.plot([history.steps("loss")[-1]], [score], **look(1), linestyle="none", label="test")
        for order in (3, 6, min(bits, key=bits.__getitem__)):
            if order in bits:
                reference_line(left, bits[order])
                left.annotate(
                    f"{order}-gram, test {bits[order]:.2f}", (0, bits[order]), fontsize=8,
                    va="bottom",
                )  # fmt: skip
        left.set(xlabel="step", ylabel="bits per character")
        left.set_title("Held-out files of the standard library", fontsize=10)
        for layer in (1, 2):
            name = f"horizon_{layer}"
            if name in history.names():
                right.plot(
                    history.steps(name), history[name], **look(layer - 1), label=f"layer {layer}"
                )
        right.set(xlabel="step", ylabel="horizon in characters")
        right.set_title("Lag at which the gradient is below 1/1000", fontsize=10)
        for axes in (left, right):
            grid_lines(axes)
        legend_below(figure, left)


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """All figures of the experiment."""
    place = folder / "run"
    start = time.perf_counter()
    resumed = train(place, plan)
    seconds = time.perf_counter() - start
    scores = json.loads(output_of("evaluate", str(place), "--json"))
    bits = baselines(plan.orders, 128)
    best = min(bits, key=bits.__getitem__)
    print(f"LSTM: {scores['bits_per_symbol']:.3f} bits per character on the test files")
    for order, value in bits.items():
        print(f"{order}-gram: {value:.3f}")
    print(
        f"killed after step {resumed['killed_after']}, resumed from {resumed['resumed_from']}: "
        f"{resumed['records_written_twice']} records written twice, equal: "
        f"{resumed['equal_bytes']}"
    )
    texts = {
        "greedy": output_of("generate", str(place), "--prompt", PROMPT, "--greedy"),
        "top_p_0.9": output_of("generate", str(place), "--prompt", PROMPT, "--top-p", "0.9"),
    }
    print(texts["top_p_0.9"])
    for name, options in (plan.measure or {}).items():
        output_of(name, "--from", str(place), "--out", str(folder / name), *options)
    return {
        "settings": plan.settings,
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "seconds": seconds,
        "test": scores,
        "ngram_bits_per_character": bits,
        "best_ngram": best,
        "beats_best_ngram": scores["bits_per_symbol"] < bits[best],
        "resumed": resumed,
        "texts": texts,
    }


def main() -> None:
    """Runs the experiment; writes characters.json, .png and .svg, and the instruments' figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute; writes nothing")
    parser.add_argument("--run", type=Path, help="directory for the run; default: a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.run or Path(temporary)
        result = run(plan, folder)
        if options.quick:
            return
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "characters.json", result)
        history = read_metrics(folder / "run" / "metrics.jsonl")
        bits = result["ngram_bits_per_character"]
        draw(options.out / "characters", history, result["test"]["bits_per_symbol"], bits)
        shutil.copy(
            folder / "gradients" / "gradient_norms.png", options.out / "characters_gradients.png"
        )
        for figure in (folder / "dynamics").glob("*.png"):
            shutil.copy(figure, options.out / f"characters_{figure.name}")


if __name__ == "__main__":
    main()
