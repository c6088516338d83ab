"""What all experiments share: their options, and how results are kept.

An experiment is a folder with ``run.py``, which is run from the root of the repository::

    python -m experiments.forget_bias.run            # writes result.json and figure.png beside it
    python -m experiments.forget_bias.run --quick    # a small run; writes only with --out DIR

``python -m experiments.common`` copies the results into the READMEs.
"""

import argparse
import importlib.metadata
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnlab.studies.records import write_json

Record = dict[str, Any]

HERE = Path(__file__).parent
MARKER = "<!-- written by python -m experiments.common -->"
PACKAGES = ("rnnlab", "jax", "flax", "optax", "numpy")


def experiment(
    file: str,
    doc: str | None,
    run: Callable[[bool], Record],
    draw: Callable[[Record, Path], None] | None = None,
) -> None:
    """Runs an experiment with the options of the command line.

    Args:
        file: ``__file__`` of ``run.py``; results of a full run are written beside it.
        doc: ``__doc__`` of ``run.py``.
        run: ``run(quick) -> result``, with the answer as "finding": one sentence computed from the
            numbers. The other entries are these numbers, with the settings and seeds that gave
            them; those whose names begin with an underscore are for the figure alone. A quick run
            shows that the code works, and no more.
        draw: ``draw(result, path)`` writes ``path.png``; None for an experiment without a figure.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run that writes nothing")
    parser.add_argument("--out", type=Path, help="directory of the results; default: this folder")
    options = parser.parse_args()
    folder = options.out
    if folder is None and not options.quick:
        folder = Path(file).parent
    if folder is not None:
        _writable(parser, folder)
    started = time.perf_counter()
    result = run(options.quick)
    seconds = time.perf_counter() - started
    print(result["finding"])
    if folder is None:
        return
    about = {
        "quick": options.quick,
        "seconds": round(seconds),
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    kept = {name: value for name, value in result.items() if not name.startswith("_")}
    write_json(folder / "result.json", kept | about)
    if draw is not None:
        draw(result, folder / "figure")


def _writable(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Makes the directory of the results, so that a wrong one is reported before hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        parser.error(f"{folder} cannot be written to: {fault.strerror}")


class Gradient(NamedTuple):
    """A compiled program.

    Attributes:
        program: ``(params, batch) -> ((loss, metrics), gradient)``.
        bytes: what XLA reserves for intermediate values; 0 where it does not say.
    """

    program: Callable[..., Any]
    bytes: int


def compiled_gradient(model: Any, params: Any, batch: Any) -> Gradient:
    """The program of a model's loss and its gradient; params and batch may be shapes."""
    gradient = jax.jit(jax.value_and_grad(model.loss, has_aux=True))
    program = gradient.lower(params, batch).compile()
    memory = program.memory_analysis()
    return Gradient(program, 0 if memory is None else int(memory.temp_size_in_bytes))


def table() -> str:
    """The table of all experiments that were run, in Markdown."""
    lines = ["| question | answer | command | minutes | figures |", "|---|---|---|---|---|"]
    for folder in folders():
        result = _result(folder)
        first = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0]
        question = f"[{first.removeprefix('# ')}]({folder.name}/README.md)"
        links = [f"[{name.stem}]({folder.name}/{name.name})" for name in _figures(folder)]
        figures = ", ".join(links) or "–"
        command = f"`-m experiments.{folder.name}.run`"
        answer = first_sentence(result["finding"])
        lines.append(f"| {question} | {answer} | {command} | {_minutes(result)} | {figures} |")
    return "\n".join(lines) + "\n"


def first_sentence(text: str) -> str:
    """The text up to the first full stop that a capital letter follows."""
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def spread(values: Sequence[float] | np.ndarray, form: str = ".1%") -> str:
    """The mean of the seeds and, for several, the range.

    >>> spread([0.25, 0.5]), spread([-1.0], "+.2f")
    ('37.5% (25.0% to 50.0%)', '−1.00')
    """
    mean, low, high = (format(value, form) for value in (np.mean(values), min(values), max(values)))
    return (mean if len(values) == 1 else f"{mean} ({low} to {high})").replace("-", "−")


def answer(folder: Path) -> str:
    """The result of one experiment, in Markdown: its finding and its figures."""
    result = _result(folder)
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    parts = [result["finding"]]
    parts += [f"![{name.stem}]({name.name})" for name in _figures(folder)]
    made_with = f"Python {result['python']}, {versions}"
    parts.append(f"Minutes on two cores: {_minutes(result)}. {made_with}.")
    return "\n\n".join(parts) + "\n"


def folders() -> list[Path]:
    """The folders of all experiments that were run."""
    return [path.parent for path in sorted(HERE.glob("*/result.json"))]


def with_results(path: Path, results: str) -> str:
    """The text of a README with the results below its marker."""
    before, _, _ = path.read_text(encoding="utf-8").partition(MARKER)
    return f"{before}{MARKER}\n\n{results}"


def main() -> None:
    """Writes the answers into the README of each experiment, and the table into that of all."""
    for folder in folders():
        path = folder / "README.md"
        path.write_text(with_results(path, answer(folder)), encoding="utf-8")
    path = HERE / "README.md"
    path.write_text(with_results(path, table()), encoding="utf-8")


def _result(folder: Path) -> Record:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def _minutes(result: Record) -> str:
    """How long the run took; the time of an older one was not kept."""
    seconds = result["seconds"]
    return "–" if seconds is None else str(max(1, round(seconds / 60)))


def _figures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


if __name__ == "__main__":
    main()
