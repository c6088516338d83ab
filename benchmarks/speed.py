"""The speed of rnnlab's engines and of PyTorch, Flax, Haiku, Equinox and Keras on equal work.

    python benchmarks/speed.py                    # everything, about an hour on two cores
    python benchmarks/speed.py --quick            # under two minutes
    python benchmarks/speed.py --only claims --cells lstm --threads 1

Sections, chosen with ``--only``:

- speed: every contender, forward and forward + backward, with compile time in a separate column;
- memory: temporary bytes of a gradient, for each rnnlab engine;
- claims: the cost of engines and instruments relative to one another;
- sweep: time against T, H and B, with a lower bound, as a figure.

Calls are interleaved: each round times every contender once, blocking, in a new random order, so
that a slow period of the machine affects all of them. A short call is timed right after an untimed
one of the same contender, since PyTorch's threads keep their core for some milliseconds after a
call. Ratios are ratios of minima. The machine must be otherwise idle: PyTorch's threads synchronise
at every step, and if another process takes one of their cores, an LSTM can take a hundred times as
long.

``speed.json`` in the output directory holds the seconds of every call, and memory in bytes;
``speed.png`` is the figure of the sweep. A new run overwrites both. Linux only.
``pip install 'rnnlab[peers]'`` installs the peers; missing ones are listed below each table.
"""

import argparse
import importlib.metadata
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import _floor
import _peers
import numpy as np
from _peers import Contender, Work
from rich.console import Console
from rich.table import Table

from rnnlab.studies.environment import environment
from rnnlab.studies.records import write_json

SHAPES = {  # T, B, I, H
    "S": (100, 32, 64, 128),
    "M": (512, 32, 128, 256),
    "L": (1024, 16, 256, 512),
    "one-example": (1000, 1, 32, 64),
    "large-batch": (256, 256, 128, 128),
    "long": (16384, 8, 32, 64),
}
MEMORY = (1024, 32, 64, 128)
SHORT, LONG = (1000, 1, 32, 64), (100_000, 1, 32, 64)
SEEDS = 32
SHORT_CALL = 0.2
"""Seconds below which each timed call follows an untimed one."""

RATIOS = (
    ("fused states", "fused"),
    ("native states", "native"),
    ("native", "fused"),
    ("checkpointed", "fused"),
    ("gradient flow", "scan"),
    (f"{SEEDS} seeds", "auto"),
)
BASE = (256, 32, 128, 128)
SWEEP = {
    "T": (16, 64, 256, 1024, 4096),
    "H": (32, 64, 128, 256, 512, 1024),
    "B": (1, 4, 16, 32, 64, 256),
}
DRAWN = ("auto", "PyTorch", "Flax linen", "Haiku", "Keras")
QUICK = {
    "only": ["speed", "sweep"],
    "shapes": [(name, SHAPES[name]) for name in ("S", "one-example")],
    "contenders": ["auto", "scan", "fused", "native", *_peers.PACKAGES],
    "rounds": 5,
    "base": (64, 8, 64, 64),
    "axes": {"T": (16, 64, 256), "H": (32, 64, 128), "B": (1, 8, 32)},
    "drawn": ("auto", "PyTorch", "Flax linen"),
}
IDLE_LOAD = 0.5
"""The largest load average of a machine that counts as idle."""

Record = dict[str, Any]
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class Results:
    """The content of ``speed.json``; the file is rewritten after every addition."""

    def __init__(self, folder: Path, environment: Record, missing: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "speed.json"
        self.content: Record = {
            "environment": environment,
            "missing": missing,
            "cannot_serve": [],
        }

    def add(self, section: str, records: Iterable[Record]) -> None:
        self.content.setdefault(section, []).extend(records)
        write_json(self.path, self.content)


def build(
    options: argparse.Namespace,
    results: Results,
    names: Iterable[str],
    work: Work,
    backward: bool = True,
) -> list[Contender]:
    """The chosen contenders that support this work; the others are recorded with the reason."""
    contenders = []
    for name in names:
        if name not in options.contenders:
            continue
        try:
            contenders.append(_peers.build(name, work, backward))
        except ValueError as error:
            why = str(error) if name in _peers.PACKAGES else f"not supported: {error}"
            record = {"contender": name, **work._asdict(), "backward": backward, "why": why}
            results.add("cannot_serve", [record])
    return contenders


def measure(
    contenders: Sequence[Contender], rounds: int, budget: float, min_rounds: int = 5
) -> dict[str, list[float]]:
    """Seconds of every call, by contender.

    Args:
        contenders: each has one timed call per round, in random order.
        rounds: the maximum number of rounds.
        budget: seconds after which no new round starts.
        min_rounds: rounds that run even beyond the budget.
    """
    is_short = {contender.name: _seconds(contender) < SHORT_CALL for contender in contenders}
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    first = time.perf_counter()
    for completed in range(rounds):
        if completed >= min_rounds and time.perf_counter() - first > budget:
            break
        for index in random.permutation(len(contenders)):
            contender = contenders[index]
            if is_short[contender.name]:
                contender.call()
            times[contender.name].append(_seconds(contender))
    return times


def _seconds(contender: Contender) -> float:
    """The time of one call."""
    start = time.perf_counter()
    contender.call()
    return round(time.perf_counter() - start, 9)


def speed(options: argparse.Namespace, results: Results) -> None:
    """Measures every contender for every shape, pass and cell."""
    for shape, sizes in options.shapes:
        for backward in (False, True):
            direction = "forward + backward" if backward else "forward"
            title = "{}: T = {}, B = {}, I = {}, H = {}, {}".format(shape, *sizes, direction)
            table = speed_table(title)
            for cell in options.cells:
                work = Work(cell, *sizes)
                about = {"shape": shape, **work._asdict(), "pass": direction}
                records = [
                    about | record for record in speed_records(options, results, work, backward)
                ]
                results.add("speed", records)
                add_speed_rows(table, records)
            show(table, results, sizes)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results.add("peak_rss_of_the_whole_process_so_far", [{"shape": shape, "bytes": peak}])


def speed_records(
    options: argparse.Namespace, results: Results, work: Work, backward: bool
) -> list[Record]:
    """Time and memory of each contender."""
    contenders = build(options, results, _peers.ALL, work, backward)
    differences = _peers.verify(contenders, work, backward)
    times = measure(contenders, options.rounds, options.budget)
    records = []
    for contender in contenders:
        seconds = times[contender.name]
        records.append(
            {
                "contender": contender.name,
                "minimum": min(seconds),
                "median": statistics.median(seconds),
                "compile_seconds": contender.compile_seconds,
                "memory": contender.memory,
                "parameters": contender.parameters,
                "difference": differences.get(contender.name),
                "seconds": seconds,
            }
        )
    return records


def speed_table(title: str) -> Table:
    """The empty table of a shape and a pass."""
    numbers = (
        "min\nms",
        "median\nms",
        "min over\nPyTorch",
        "min over best\nJAX peer",
        "compile\ns",
        "memory\nMiB",
    )
    return grid(title, "cell", "contender", numbers=numbers)


def add_speed_rows(table: Table, records: Sequence[Record]) -> None:
    """Adds the rows of one cell."""
    minima = {record["contender"]: record["minimum"] for record in records}
    peer = min((minima[name] for name in _peers.JAX_PEERS if name in minima), default=None)
    for record in records:
        memory = record["memory"]
        table.add_row(
            record["cell"],
            record["contender"],
            f"{1e3 * record['minimum']:.2f}",
            f"{1e3 * record['median']:.2f}",
            over(record["minimum"], minima.get("PyTorch")),
            over(record["minimum"], peer),
            f"{record['compile_seconds']:.2f}",
            over(memory.get("temp", memory.get("allocated")), 2**20),
        )
    table.add_section()


def memory(options: argparse.Namespace, results: Results) -> None:
    """Tabulates the temporary bytes of a gradient, for each engine."""
    title = "Temporary memory of a gradient, T = {}, B = {}, I = {}, H = {}".format(*MEMORY)
    table = grid(title, "cell", "engine", numbers=("MiB", "over scan"))
    for cell in options.cells:
        work = Work(cell, *MEMORY)
        contenders = build(options, results, _peers.ENGINES, work)
        temp = {contender.name: contender.memory["temp"] for contender in contenders}
        results.add(
            "memory",
            [{**work._asdict(), "engine": name, "temp": size} for name, size in temp.items()],
        )
        for name, size in temp.items():
            table.add_row(cell, name, f"{size / 2**20:.1f}", over(size, temp.get("scan")))
        table.add_section()
    show(table, results, MEMORY)


def claims(options: argparse.Namespace, results: Results) -> None:
    """Measures the relative cost of engines and instruments, forward + backward."""
    title = "Relative cost, forward + backward"
    table = grid(title, "claim", "shape", "cell", numbers=("measured",))

    def add(records: Iterable[Record]) -> None:
        for record in records:
            results.add("claims", [record])
            value = f"{record['value']:.2f} {record['unit']}"
            table.add_row(record["claim"], record["shape"], record["cell"], value)

    for cell in options.cells:
        add(engine_claims(options, results, cell, "S"))
        add(engine_claims(options, results, cell, "M"))
        add(length_claims(options, results, cell))
        table.add_section()
    show(table, results, SHAPES["M"])


def engine_claims(
    options: argparse.Namespace, results: Results, cell: str, shape: str
) -> Iterator[Record]:
    """The ratios in RATIOS; for shape M also compile times, for S the cost of many seeds."""
    work = Work(cell, *SHAPES[shape])
    contenders = [*build(options, results, _peers.ENGINES, work), _peers.flow(work)]
    if shape == "S":
        contenders.append(_peers.seeds(work, SEEDS))
    else:
        for contender in contenders:
            text = f"compile time of {contender.name}"
            yield claim(text, shape, cell, contender.compile_seconds, "s")
    times = measure(contenders, options.rounds, options.budget)
    for name, other in RATIOS:
        if name in times and other in times:
            yield ratio(f"{name} over {other}", shape, cell, times[name], times[other])


def length_claims(options: argparse.Namespace, results: Results, cell: str) -> Iterator[Record]:
    """The time of a long sequence over that of a short one, for each engine."""
    short = build(options, results, _peers.ENGINES, Work(cell, *SHORT))
    long = build(options, results, _peers.ENGINES, Work(cell, *LONG))
    # Times are kept by name, and both have the same names.
    names = {contender.name: f"{contender.name}, T = {LONG[0]}" for contender in long}
    renamed = [contender._replace(name=names[contender.name]) for contender in long]
    times = measure([*short, *renamed], options.rounds, options.budget)
    for contender in short:
        if contender.name in names:
            name = names[contender.name]
            text = f"{name} over T = {SHORT[0]}"
            yield ratio(text, "B = 1", cell, times[name], times[contender.name])


def claim(text: str, shape: str, cell: str, value: float, unit: str) -> Record:
    """The record of one number."""
    return {"claim": text, "shape": shape, "cell": cell, "value": value, "unit": unit}


def ratio(
    text: str, shape: str, cell: str, seconds: list[float], other_seconds: list[float]
) -> Record:
    """The record of a ratio of minima, with the seconds of every call."""
    value = min(seconds) / min(other_seconds)
    times = {"seconds": seconds, "other_seconds": other_seconds}
    return claim(text, shape, cell, value, "×") | times


def sweep(options: argparse.Namespace, results: Results) -> None:
    """Measures time against T, H and B, and draws it with the lower bound."""
    with_torch = "PyTorch" not in results.content["missing"]
    rates = results.content["rates"] = _floor.rates(with_torch)
    bases = [Work(cell, *options.base) for cell in options.cells]
    works = [work for base in bases for work in variations(base, options.axes)]
    for work in works:
        contenders = build(options, results, options.drawn, work)
        _peers.verify(contenders, work, backward=True)
        times = measure(contenders, options.rounds, options.budget / 10, min_rounds=3)
        about = {**work._asdict(), "floor": _floor.floor(work, rates)}
        results.add(
            "sweep",
            (
                {**about, "contender": name, "minimum": min(seconds), "seconds": seconds}
                for name, seconds in times.items()
            ),
        )
    path = options.out / "speed.png"
    _floor.draw(results.content["sweep"], bases, path)
    throughput = f"{rates['operations_per_second'] / 1e9:.0f} GFLOP/s"
    bandwidth = f"{rates['bytes_per_second'] / 1e9:.0f} GB/s"
    console.print(
        f"The lower bound is for {throughput} and {bandwidth}, as measured. Figure: {path}",
        soft_wrap=True,
    )


def variations(base: Work, axes: dict[str, Sequence[int]]) -> list[Work]:
    """``base`` with one size at a time replaced; I is equal to H where H varies."""
    works = []
    for axis, values in axes.items():
        for value in values:
            sizes = {"H": value, "I": value} if axis == "H" else {axis: value}
            works.append(base._replace(**sizes))
    # The base is on every axis.
    return list(dict.fromkeys(works))


SECTIONS = {"speed": speed, "memory": memory, "claims": claims, "sweep": sweep}


def grid(title: str, *words: str, numbers: Iterable[str]) -> Table:
    """An empty table with columns of words, followed by columns of numbers."""
    table = Table(title=title)
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def over(value: float | None, other: float | None) -> str:
    """A ratio, or a dash where one of the two is missing."""
    return f"{value / other:.2f}" if value is not None and other else "–"


def show(table: Table, results: Results, sizes: Sequence[int]) -> None:
    """Prints the table, and below it the contenders that are missing, with the reason."""
    console.print(table)
    cells_by_reason: dict[tuple[str, str], list[str]] = {
        pair: [] for pair in results.content["missing"].items()
    }
    for record in results.content["cannot_serve"]:
        if [record[axis] for axis in "TBIH"] == [*sizes]:
            pair = record["contender"], record["why"]
            cells_by_reason.setdefault(pair, []).append(record["cell"])
    for (name, why), cells in cells_by_reason.items():
        # A cell may be recorded once for each pass.
        suffix = f" ({', '.join(dict.fromkeys(cells))})" if cells else ""
        console.print(f"  {name}{suffix}: {why}", style="dim", soft_wrap=True)


def named_sizes(text: str) -> tuple[str, tuple[int, ...]]:
    """A shape's name and its T, B, I, H."""
    sizes = SHAPES[text] if text in SHAPES else tuple(map(int, text.split(",")))
    if len(sizes) != 4:
        raise ValueError(text)
    return text, sizes


def parse() -> argparse.Namespace:
    """The command line options; ``--quick`` changes the defaults of others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer shapes, engines and rounds, a small sweep"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run"
    )
    parser.add_argument("--no-sweep", action="store_true", help="omit the sweep and its figure")
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=named_sizes,
        default=SHAPES.items(),
        metavar="SHAPE",
        help=f"shapes of the section speed: {', '.join(SHAPES)}, or sizes as T,B,I,H",
    )
    parser.add_argument("--cells", nargs="+", choices=_peers.CELLS, default=_peers.CELLS)
    parser.add_argument("--contenders", nargs="+", choices=_peers.ALL, default=_peers.ALL)
    parser.add_argument(
        "--rounds", type=int, default=50, help="maximum number of timed calls of a contender"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=30,
        help="seconds after which no new round starts; the first 5 rounds always run",
    )
    parser.add_argument(
        "--threads",
        type=int,
        choices=range(1, len(os.sched_getaffinity(0)) + 1),
        metavar="N",
        help="number of processors to use; default: all that this process may use",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    parser.set_defaults(base=BASE, axes=SWEEP, drawn=DRAWN)
    if parser.parse_args().quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


def restrict(threads: int | None) -> int:
    """Restricts the process to ``threads`` processors; returns the number of processors in use.

    XLA and OpenMP count processors when they are loaded, so the program restarts itself.
    """
    usable = sorted(os.sched_getaffinity(0))
    if threads and threads < len(usable):
        os.sched_setaffinity(0, usable[:threads])
        os.execv(sys.executable, sys.orig_argv)
    return len(usable)


def conditions(threads: int, precision: str) -> Record:
    """Versions, device, processor, and settings common to all contenders."""
    record: Record = environment()
    for package in ("flax", "torch", "dm-haiku", "equinox", "keras"):
        try:
            record["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return record | {
        "cpu": processor(),
        "threads": threads,
        "precision": precision,
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "load_before": os.getloadavg()[0],
    }


def processor() -> str | None:
    """The processor's name; None where Linux does not say."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return None


def main() -> None:
    """Runs the chosen sections."""
    options = parse()
    threads = restrict(options.threads)
    precision, missing = _peers.configure(threads)
    about = conditions(threads, precision)
    if about["load_before"] > IDLE_LOAD:
        console.print(f"Warning: the machine is not idle (load {about['load_before']:.1f}).")
    options.contenders = [name for name in options.contenders if name not in missing]
    results = Results(options.out, about | {"options": sys.argv[1:]}, missing)
    for name, section in SECTIONS.items():
        if name in options.only and not (name == "sweep" and options.no_sweep):
            section(options, results)


if __name__ == "__main__":
    main()
