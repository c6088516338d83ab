"""The command line: parses, calls, prints. JAX is imported only once there is something to compute."""

import contextlib
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rnnlab import __version__
from rnnlab.report import records
from rnnlab.settings import GradientSettings

if TYPE_CHECKING:
    from rich.console import Console

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True)
class Gradients(GradientSettings):
    """Show how far back in time the gradient of each cell reaches, with pictures and numbers.

    For each cell, length and seed it takes the loss at the last step of a sequence of that length, and measures the
    norm of the gradient for each parameter and its flow to every earlier step. DIR then holds gradients.json,
    gradients.csv, gradient_norms.png, gradient_norms.svg and config.json. Logarithms are natural.

    Attributes:
        out: where to write; a directory that holds other settings is refused.
        resume: complete what is missing in DIR.
        json: print the summary as JSON on standard output, and nothing else there.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/gradients")
    resume: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Leaves the checks to GradientSettings, whose one sentence is then shown without a frame."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 when it failed, 2 for wrong usage, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"rnnlab {__version__}")
        return DONE
    try:
        options = tyro.extras.subcommand_cli_from_dict(
            {"gradients": Gradients},
            prog="rnnlab",
            description="A laboratory for recurrent networks.",
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return _gradients(options, arguments)
    except UsageError as fault:
        print(f"rnnlab: {fault}", file=sys.stderr)
        return USAGE
    except OSError as fault:
        where = f"{fault.filename}: " if fault.filename else ""
        print(f"rnnlab: {where}{fault.strerror or fault}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("rnnlab: interrupted", file=sys.stderr)
        return INTERRUPTED


class UsageError(Exception):
    """A fault in what was asked for; one sentence that says the mend."""


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """While the request is examined, a ValueError is the user's fault; later it is ours, and shows its traceback."""
    try:
        yield
    except ValueError as fault:
        raise UsageError(fault) from None


def _gradients(options: Gradients, arguments: list[str]) -> int:
    with _asking():
        settings = GradientSettings(**{f.name: getattr(options, f.name) for f in dataclasses.fields(GradientSettings)})
        run = Run(options.out)
        run.admit(settings)

    import jax  # only now, so that help and refusals come at once
    from rich.console import Console

    if settings.precision == "float64":
        jax.config.update("jax_enable_x64", True)

    from rnnlab import study

    notes = Console(stderr=True, highlight=False)
    with _asking():
        data = study.source(settings)
        config = {"settings": dataclasses.asdict(settings), "data": data.about, **study.environment()}
        run.open({**config, "command": shlex.join(["rnnlab", *arguments])}, options.resume, study.units(settings))
    if settings.clip is not None and not settings.train_steps:
        notes.print("note: --clip acts on training, and --train-steps is 0")
    try:
        with _progress(notes, len(run.missing)) as (say, advance):
            for measured in study.measure(settings, data, run.missing, say):
                run.add(measured.norms, measured.flow)
                run.save(study.summarise(settings, run.flow))
                advance()
        run.draw()
    except KeyboardInterrupt:
        again = shlex.join(["rnnlab", *arguments, *([] if options.resume else ["--resume"])])
        notes.print(f"interrupted; what was finished is in {options.out}; go on with: {again}", soft_wrap=True)
        return INTERRUPTED
    if options.json:
        print(json.dumps(run.summary))
    else:
        _show(run, settings)
    return DONE


class Run:
    """A run's directory: its configuration, its records, and what is still missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {}
        self.norms: list[dict[str, Any]] = []
        self.flow: list[dict[str, Any]] = []
        self.summary: list[dict[str, Any]] = []
        self.missing: list[Any] = []

    def admit(self, settings: GradientSettings) -> None:
        """ValueError for a directory that holds something else or cannot be written."""
        folder = self.folder
        above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise ValueError(
                f"{folder} cannot be written, since {above} is not a writable directory; choose another --out"
            )
        if not folder.exists() or not any(folder.iterdir()):
            return
        try:
            before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(f"{folder} holds files that are no run of this study; choose another --out") from None
        wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
        other = sorted(name for name in wanted | before if wanted.get(name) != before.get(name))
        if other:
            raise ValueError(f"{folder} holds a run with another {', '.join(other)}; choose another --out")

    def open(self, config: dict[str, Any], resume: bool, units: list[Any]) -> None:
        """Takes the directory and what is finished in it; ValueError for what must not be overwritten or continued."""
        self.config, self.missing = config, units
        results = self.folder / "gradients.json"
        if results.exists():
            try:
                found = json.loads(results.read_text(encoding="utf-8"))
                done = {(record["cell"], record["phase"], record["length"]) for record in found["norms"]}
                other_data = found["config"]["data"] != config["data"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{results} is damaged; remove it, or choose another --out") from None
            if other_data:
                raise ValueError(f"{self.folder} holds a run on other data; choose another --out")
            missing = [unit for unit in units if tuple(unit) not in done]
            if missing and not resume:
                raise ValueError(
                    f"{self.folder} holds an unfinished run; add --resume to go on, or choose another --out"
                )
            if resume:
                self.norms, self.flow, self.missing = found["norms"], found["flow"], missing
                self.summary, self.config = found["summary"], found["config"]
        self.folder.mkdir(parents=True, exist_ok=True)
        records.write_json(self.folder / "config.json", self.config)

    def add(self, norms: list[dict[str, Any]], flow: list[dict[str, Any]]) -> None:
        self.norms += norms
        self.flow += flow

    def save(self, summary: list[dict[str, Any]]) -> None:
        """Writes all records so far, so that an interruption loses no finished measurement."""
        self.summary = summary
        content = {"config": self.config, "norms": self.norms, "flow": self.flow, "summary": summary}
        records.write_json(self.folder / "gradients.json", content)

    def draw(self) -> None:
        """Writes the table and the figure."""
        from rnnlab.report import figures

        records.write_csv(self.folder / "gradients.csv", self.norms, self.flow)
        figures.gradient_norms(self.norms, self.flow, self.summary, self.folder)


@contextlib.contextmanager
def _progress(console: "Console", total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """``(say, advance)`` of a progress bar, which is shown on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda text: bar.update(task, description=text), lambda: bar.advance(task)


def _show(run: Run, settings: GradientSettings) -> None:
    from rich.console import Console

    from rnnlab.report import words

    width = None if sys.stdout.isatty() else 120
    console = Console(highlight=False, width=width)
    console.print(words.table(run.summary, run.norms, settings.lengths))
    for record in run.summary:
        console.print(words.sentence(record, len(settings.phases)), soft_wrap=True)
    console.print(f"The figure is {run.folder / 'gradient_norms.png'}; the numbers are beside it.", soft_wrap=True)
