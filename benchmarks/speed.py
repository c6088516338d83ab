"""How fast are rnnlab's engines beside PyTorch, Flax, Haiku, Equinox and Keras, on the same work in one process?

    python benchmarks/speed.py                    # everything, about half an hour on two cores
    python benchmarks/speed.py --quick            # under two minutes
    python benchmarks/speed.py --only claims --cells lstm --threads 1

Sections, to be chosen with ``--only``:

- speed: every contender, forward and forward + backward, with compilation in a column of its own;
- memory: temporary bytes of a gradient, for each of rnnlab's engines;
- claims: what one engine or instrument costs relative to another;
- sweep: time against T, H and B beside what this machine allows, and a figure of it.

Contenders are timed in rounds, one blocked call of each in an order drawn anew every round, so that
a slow minute of the machine meets them all; ratios are ratios of minima. Nothing else may run
meanwhile: PyTorch's threads wait for one another in every step, and where one other process takes a
core from them an LSTM can take a hundred times as long.

``speed.json`` in the output directory holds the seconds of every call, and bytes; ``speed.png`` is
the figure. A new run overwrites both. Needs Linux. ``pip install 'rnnlab[peers]'`` brings the
peers; those that are missing are named.
"""

import argparse
import importlib.metadata
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
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
    "long": (16384, 8, 32, 64),
}
MEMORY = (1024, 32, 64, 128)
SHORT, LONG = (1000, 1, 32, 64), (100_000, 1, 32, 64)
SEEDS = 32
RATIOS = (
    ("fused states", "fused"),
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
    "contenders": ["auto", "scan", "fused", *_peers.PACKAGES],
    "rounds": 5,
    "base": (64, 8, 64, 64),
    "axes": {"T": (16, 64, 256), "H": (32, 64, 128), "B": (1, 8, 32)},
    "drawn": ("auto", "PyTorch", "Flax linen"),
}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class Results:
    """What ``speed.json`` holds; written after every race, so that an interruption loses little."""

    def __init__(self, folder: Path, environment: dict[str, Any], missing: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "speed.json"
        self.content: dict[str, Any] = {
            "environment": environment,
            "missing": missing,
            "cannot_serve": [],
        }

    def add(self, section: str, new: Iterable[dict[str, Any]]) -> None:
        self.content.setdefault(section, []).extend(new)
        write_json(self.path, self.content)


def gather(
    options: argparse.Namespace,
    results: Results,
    names: Iterable[str],
    work: Work,
    backward: bool = True,
) -> list[Contender]:
    """The chosen contenders that can do this work; the others are noted."""
    made = []
    for name in names:
        try:
            if name in options.contenders:
                made.append(_peers.build(name, work, backward))
        except ValueError as fault:
            why = str(fault) if name in _peers.PACKAGES else f"cannot serve: {fault}"
            results.add(
                "cannot_serve",
                [{"contender": name, **work._asdict(), "backward": backward, "why": why}],
            )
    return made


def race(
    contenders: Sequence[Contender], rounds: int, budget: float, fewest: int = 5
) -> dict[str, list[float]]:
    """Seconds of every call: at most ``rounds``, and beyond the ``fewest`` only while ``budget`` seconds last."""
    for contender in contenders:
        contender.call()
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    began = time.perf_counter()
    for played in range(rounds):
        if played >= fewest and time.perf_counter() - began > budget:
            break
        for index in random.permutation(len(contenders)):
            start = time.perf_counter()
            contenders[index].call()
            times[contenders[index].name].append(round(time.perf_counter() - start, 9))
    return times


def speed(options: argparse.Namespace, results: Results) -> None:
    """Every contender on every shape, pass and cell."""
    for shape, sizes in options.shapes:
        for backward in (False, True):
            way = "forward + backward" if backward else "forward"
            title = "{}: T = {}, B = {}, I = {}, H = {}, {}".format(shape, *sizes, way)
            table = grid(title, "cell", "contender", numbers=("min\nms", "median\nms", "min over\nPyTorch",
                         "min over best\nJAX peer", "compile\ns", "memory\nMiB"))  # fmt: skip
            for cell in options.cells:
                work = Work(cell, *sizes)
                contenders = gather(options, results, _peers.ALL, work, backward)
                differences = _peers.verify(contenders, work, backward)
                times = race(contenders, options.rounds, options.budget)
                least = {name: min(seconds) for name, seconds in times.items()}
                median = {name: statistics.median(seconds) for name, seconds in times.items()}
                results.add("speed", (
                    {"shape": shape, **work._asdict(), "pass": way, "contender": made.name,
                     "minimum": least[made.name], "median": median[made.name],
                     "compile_seconds": made.compile_seconds, "memory": made.memory, "parameters": made.parameters,
                     "difference": differences.get(made.name), "seconds": times[made.name]}
                    for made in contenders
                ))  # fmt: skip
                peer = min(
                    (least[name] for name in _peers.JAX_PEERS if name in least), default=None
                )
                for made in contenders:
                    fastest, used = (
                        least[made.name],
                        made.memory.get("temp", made.memory.get("allocated")),
                    )
                    table.add_row(cell, made.name, f"{1e3 * fastest:.2f}", f"{1e3 * median[made.name]:.2f}",
                                  over(fastest, least.get("PyTorch")), over(fastest, peer),
                                  f"{made.compile_seconds:.2f}", over(used, 2**20))  # fmt: skip
                table.add_section()
            show(table, results, sizes)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results.add("peak_rss_of_the_whole_process_so_far", [{"shape": shape, "bytes": peak}])


def memory(options: argparse.Namespace, results: Results) -> None:
    """Temporary bytes of a gradient, for each engine."""
    title = "Temporary memory of a gradient, T = {}, B = {}, I = {}, H = {}".format(*MEMORY)
    table = grid(title, "cell", "engine", numbers=("MiB", "over scan"))
    for cell in options.cells:
        work = Work(cell, *MEMORY)
        used = {
            made.name: made.memory["temp"]
            for made in gather(options, results, _peers.ENGINES, work)
        }
        results.add(
            "memory",
            ({**work._asdict(), "engine": name, "temp": size} for name, size in used.items()),
        )
        for name, size in used.items():
            table.add_row(cell, name, f"{size / 2**20:.1f}", over(size, used.get("scan")))
        table.add_section()
    show(table, results, MEMORY)


def claims(options: argparse.Namespace, results: Results) -> None:
    """What engines and instruments cost relative to one another, forward + backward."""
    table = grid("Claims, forward + backward", "claim", "shape", "cell", numbers=("measured",))

    def claim(
        text: str, shape: str, cell: str, value: float, unit: str = "×", **numbers: list[float]
    ) -> None:
        about = {"claim": text, "shape": shape, "cell": cell, "value": value, "unit": unit}
        results.add("claims", [about | numbers])
        table.add_row(text, shape, cell, f"{value:.2f} {unit}")

    for cell in options.cells:
        for shape in ("S", "M"):
            work = Work(cell, *SHAPES[shape])
            contenders = [*gather(options, results, _peers.ENGINES, work), _peers.flow(work)]
            if shape == "S":
                contenders.append(_peers.seeds(work, SEEDS))
            else:
                for made in contenders:
                    claim(f"to compile {made.name}", shape, cell, made.compile_seconds, "s")
            times = race(contenders, options.rounds, options.budget)
            for a, b in RATIOS:
                if a in times and b in times:
                    ratio = min(times[a]) / min(times[b])
                    claim(
                        f"{a} over {b}",
                        shape,
                        cell,
                        ratio,
                        seconds=times[a],
                        other_seconds=times[b],
                    )
        short, long = (
            gather(options, results, _peers.ENGINES, Work(cell, *sizes)) for sizes in (SHORT, LONG)
        )
        longer = {made.name: made._replace(name=f"{made.name}, T = {LONG[0]}") for made in long}
        times = race([*short, *longer.values()], options.rounds, options.budget)
        for a, b in ((longer[made.name].name, made.name) for made in short if made.name in longer):
            ratio = min(times[a]) / min(times[b])
            claim(
                f"{a} over T = {SHORT[0]}",
                "B = 1",
                cell,
                ratio,
                seconds=times[a],
                other_seconds=times[b],
            )
        table.add_section()
    show(table, results, SHAPES["M"])


def sweep(options: argparse.Namespace, results: Results) -> None:
    """Time against T, H and B beside what this machine allows, and the figure."""
    rates = results.content["rates"] = _floor.rates(
        with_torch="PyTorch" not in results.content["missing"]
    )
    base = Work(options.sweep_cell, *options.base)
    points = {base._replace(**({"H": value, "I": value} if axis == "H" else {axis: value})): None
              for axis, values in options.axes.items() for value in values}  # fmt: skip
    for work in points:
        contenders = gather(options, results, options.drawn, work)
        _peers.verify(contenders, work, backward=True)
        times = race(contenders, options.rounds, options.budget / 6, fewest=3)
        about = {**work._asdict(), "floor": _floor.floor(work, rates)}
        results.add("sweep", ({**about, "contender": name, "minimum": min(seconds), "seconds": seconds}
                              for name, seconds in times.items()))  # fmt: skip
    _floor.draw(results.content["sweep"], base, options.out / "speed.png")
    reached = f"{rates['operations_per_second'] / 1e9:.0f} GFLOP/s and {rates['bytes_per_second'] / 1e9:.0f} GB/s"
    console.print(
        f"This machine reaches {reached}; the figure is {options.out / 'speed.png'}.",
        soft_wrap=True,
    )


SECTIONS = {"speed": speed, "memory": memory, "claims": claims, "sweep": sweep}


def grid(title: str, *words: str, numbers: Iterable[str]) -> Table:
    """A table whose first columns are words."""
    table = Table(title=title)
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def over(value: float | None, other: float | None) -> str:
    """A ratio, where both are known."""
    return f"{value / other:.2f}" if value is not None and other else "–"


def show(table: Table, results: Results, sizes: Sequence[int]) -> None:
    """The table, and below it who is not in it and why."""
    console.print(table)
    absent: dict[tuple[str, str], list[str]] = {
        pair: [] for pair in results.content["missing"].items()
    }
    for refusal in results.content["cannot_serve"]:
        if [refusal[axis] for axis in "TBIH"] == [*sizes]:
            absent.setdefault((refusal["contender"], refusal["why"]), []).append(refusal["cell"])
    for (name, why), cells in absent.items():
        about = f" ({', '.join(dict.fromkeys(cells))})" if cells else ""
        console.print(f"  {name}{about}: {why}", style="dim", soft_wrap=True)


def named_sizes(text: str) -> tuple[str, tuple[int, ...]]:
    """A name and T, B, I, H."""
    sizes = SHAPES[text] if text in SHAPES else tuple(map(int, text.split(",")))
    if len(sizes) != 4:
        raise ValueError(text)
    return text, sizes


def parse() -> argparse.Namespace:
    """The options; ``--quick`` changes the defaults of others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer shapes, engines and rounds, a small sweep"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run"
    )
    parser.add_argument(
        "--no-sweep", action="store_true", help="leaves out the sweep and its figure"
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=named_sizes,
        default=SHAPES.items(),
        metavar="SHAPE",
        # fmt: skip
        help=f"of the section speed: {', '.join(SHAPES)}, or numbers T,B,I,H",
    )
    parser.add_argument("--cells", nargs="+", choices=_peers.CELLS, default=_peers.CELLS)
    parser.add_argument("--sweep-cell", choices=_peers.CELLS, default="lstm")
    parser.add_argument("--contenders", nargs="+", choices=_peers.ALL, default=_peers.ALL)
    parser.add_argument(
        "--rounds", type=int, default=50, help="most calls of each contender in a race"
    )
    parser.add_argument(
        "--budget", type=float, default=30, help="seconds after which a race ends that had 5 rounds"
    )
    parser.add_argument(
        "--threads",
        type=int,
        choices=range(1, len(os.sched_getaffinity(0)) + 1),
        metavar="N",
        # fmt: skip
        help="processors for all; by default those that this process may use",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    parser.set_defaults(base=BASE, axes=SWEEP, drawn=DRAWN)
    if parser.parse_args().quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


def restrict(threads: int | None) -> int:
    """The number of processors that XLA and OpenMP found when they were loaded; for another the program starts anew."""
    usable = sorted(os.sched_getaffinity(0))
    if threads and threads < len(usable):
        os.sched_setaffinity(0, usable[:threads])
        os.execv(sys.executable, sys.orig_argv)
    return len(usable)


def surroundings(threads: int, precision: str) -> dict[str, Any]:
    """Versions, processor, device, and what all contenders have in common."""
    found: dict[str, Any] = environment()
    for package in ("flax", "torch", "dm-haiku", "equinox", "keras"):
        try:
            found["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    models = [
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = models[0].partition(": ")[2] if models else None
    found |= {
        "cpu": cpu,
        "threads": threads,
        "precision": precision,
        "xla_flags": os.environ.get("XLA_FLAGS"),
    }
    return found | {"load_before": os.getloadavg()[0]}


def main() -> None:
    """Runs the sections that are asked for."""
    options = parse()
    threads = restrict(options.threads)
    precision, missing = _peers.level(threads)
    environment = surroundings(threads, precision)
    if environment["load_before"] > 0.5:
        console.print(
            f"note: the machine is not idle, its load is {environment['load_before']:.1f}"
        )
    options.contenders = [name for name in options.contenders if name not in missing]
    results = Results(options.out, environment | {"options": sys.argv[1:]}, missing)
    for name, section in SECTIONS.items():
        if name in options.only and not (name == "sweep" and options.no_sweep):
            section(options, results)


if __name__ == "__main__":
    main()
