"""The command line: parses, calls, prints. JAX is imported only once there is something to compute."""

import abc
import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import tyro

from rnnlab import __version__
from rnnlab.report import records
from rnnlab.report.records import Run
from rnnlab.settings import DynamicsSettings, GradientSettings, StudySettings
from rnnlab.startup import quick_start

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

CLOSER = ("singular_values", "contributions", "truncation")
"""The kinds of records, and the figures, of a closer look."""

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Settings = TypeVar("Settings", bound=StudySettings)


@dataclasses.dataclass(frozen=True)
class Command(abc.ABC):
    """A study as a command: it measures what is missing in a directory, draws it and tells what was found.

    Attributes:
        out: where to write; a directory that holds other settings is refused.
        resume: complete what is missing in DIR.
        json: print the summary as JSON on standard output, and nothing else there.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    resume: bool = False
    json: bool = False

    name: ClassVar[str]

    def __post_init__(self) -> None:  # noqa: B027 (meant to do nothing)
        """Leaves the checks to the settings, whose one sentence is then shown without a frame."""

    @property
    @abc.abstractmethod
    def kinds(self) -> tuple[str, ...]:
        """The kinds of records that it makes."""

    @abc.abstractmethod
    def settings(self) -> StudySettings:
        """The settings alone; ValueError where they make no sense."""

    @property
    @abc.abstractmethod
    def study(self) -> Any:
        """The module of the study, with JAX loaded: its ``units``, ``finished``, ``measure`` and ``summarise``."""

    @abc.abstractmethod
    def draw(self, run: Run) -> None:
        """Writes the table and the figures."""

    @abc.abstractmethod
    def tell(self, run: Run) -> "Iterator[RenderableType]":
        """What was found, for people."""

    def remark(self) -> str | None:
        """What is odd about the settings, though they can be used."""
        return None

    def run(self, arguments: list[str]) -> int:
        """Runs the study; returns the exit code."""
        with _asking():
            settings = self.settings()
            run = Run(self.out, self.name, self.kinds)
            run.admit(dataclasses.asdict(settings))

        quick_start()

        import jax  # only now, so that help and refusals come at once
        from rich.console import Console

        if settings.precision == "float64":
            jax.config.update("jax_enable_x64", True)

        from rnnlab.study import environment, source

        notes = Console(stderr=True, highlight=False)
        with _asking():
            study, data = self.study, source(settings)
            config = {"settings": dataclasses.asdict(settings), "data": data.about, **environment()}
            config["command"] = shlex.join(["rnnlab", *arguments])
            run.open(config, self.resume, study.units(settings), study.finished)
        if remark := self.remark():
            notes.print(f"note: {remark}")
        try:
            with _progress(notes, len(run.missing)) as (say, advance):
                for measured in study.measure(settings, data, run.missing, say):
                    run.add(measured.records)
                    run.save(study.summarise(settings, run.records))
                    advance()
            self.draw(run)
        except KeyboardInterrupt:
            again = shlex.join(["rnnlab", *arguments, *([] if self.resume else ["--resume"])])
            notes.print(
                f"interrupted; what was finished is in {self.out}; go on with: {again}",
                soft_wrap=True,
            )
            return INTERRUPTED
        if self.json:
            print(json.dumps(run.summary))
        else:
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
            for shown in self.tell(run):
                console.print(shown, soft_wrap=isinstance(shown, str))
        return DONE


@dataclasses.dataclass(frozen=True)
class Gradients(Command, GradientSettings):
    """Show how far back in time the gradient of each cell reaches, with pictures and numbers.

    For each cell, length and seed it takes the loss at the last step of a sequence of that length, and measures the
    norm of the gradient for each parameter and its flow to every earlier step. DIR then holds gradients.json,
    gradients.csv, gradient_norms.png, gradient_norms.svg and config.json; with --detail also singular_values,
    contributions and truncation, each as .png and .svg. Logarithms are natural.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/gradients")

    name: ClassVar = "gradients"

    @property
    def kinds(self) -> tuple[str, ...]:
        training = ("training",) if self.train_steps else ()
        return ("norms", "flow", "reach", *training, *(CLOSER if self.detail else ()))

    def settings(self) -> GradientSettings:
        return _only(GradientSettings, self)

    def remark(self) -> str | None:
        idle = self.clip is not None and not self.train_steps
        return "--clip acts on training, and --train-steps is 0" if idle else None

    @property
    def study(self) -> Any:
        from rnnlab import study

        return study

    def draw(self, run: Run) -> None:
        from rnnlab.report import figures

        norms, flow = run.records["norms"], run.records["flow"]
        columns = ("cell", "seed", "length", "phase", "parameter", "lag", "log_norm", "horizon", "vanishes",
                   "horizon_low", "horizon_high", "decay_per_step", "fit_last_lag", "late_decay_per_step",
                   "late_first_lag", "lags", "zero_share")  # fmt: skip
        tables = {"norm": norms, "flow": flow, "reach": run.records["reach"]}
        if trained := run.records.get("training"):
            columns += (
                "loss_before",
                "loss_after",
                "accuracy_before",
                "accuracy_after",
                "clipped_share",
            )
            tables |= {"training": trained}
        if self.detail:
            from rnnlab.report import detail

            columns += ("index", "log_value", "t", "k", "steps", "cosine", "relative_norm")
            tables |= {kind: run.records[kind] for kind in CLOSER}
            detail.draw(run.records, run.folder)
        records.write_csv(run.folder / "gradients.csv", columns, tables)
        figures.gradient_norms(norms, flow, run.summary, run.folder)

    def tell(self, run: Run) -> "Iterator[RenderableType]":
        from rnnlab.report import words

        settings = self.settings()
        yield words.table(run.summary, run.records["norms"], settings.lengths)
        for record in run.summary:
            yield words.sentence(record, len(settings.phases))
        yield f"The figure is {run.folder / 'gradient_norms.png'}; the numbers are beside it."
        if self.detail:
            yield f"The closer look is in {', '.join(f'{kind}.png' for kind in CLOSER)}."


@dataclasses.dataclass(frozen=True)
class Dynamics(Command, DynamicsSettings):
    """Show what the state of each cell does: whether neighbouring states part, where it rests, and what gain changes.

    For each cell it measures the leading Lyapunov exponents along trajectories (with --drive none beside those of
    linear theory where the state comes to rest), the fixed points under zero input, and,
    for the first seed, how far gradients reach over recurrent gain and sequence length. DIR then holds dynamics.json,
    dynamics.csv, spectrum, portrait and phase, each as .png and .svg, and config.json. Logarithms are natural.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/dynamics")

    name: ClassVar = "dynamics"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("spectrum", "trace", "fixed_points", "trajectories", "attractors", "phase")

    def settings(self) -> DynamicsSettings:
        return _only(DynamicsSettings, self)

    @property
    def study(self) -> Any:
        from rnnlab import dynamics

        return dynamics

    def draw(self, run: Run) -> None:
        from rnnlab.report import dynamics

        columns = (
            "cell", "seed", "index", "step", "exponent", "theory", "number", "kind", "unstable", "q", "slowest",
            "period", "example", "pc1", "pc2", "axis", "value", "length", "horizon", "vanishes", "decay_per_step",
        )  # fmt: skip
        records.write_csv(run.folder / "dynamics.csv", columns, run.records)
        dynamics.draw(run.records, run.summary, run.folder)

    def tell(self, run: Run) -> "Iterator[RenderableType]":
        from rnnlab.report import words

        yield words.dynamics_table(run.summary)
        yield from words.dynamics_sentences(
            run.summary, run.records["fixed_points"], run.records["phase"]
        )
        yield f"The figures are spectrum.png, portrait.png and phase.png in {run.folder}; the numbers are beside them."


@dataclasses.dataclass(frozen=True)
class Report:
    """Gather a run into one HTML page, report.html in its directory, which needs no network.

    Attributes:
        folder: the directory of a finished run, its --out.
    """

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DIR")]]

    def run(self, arguments: list[str]) -> int:
        """Writes the page; returns the exit code."""
        from rnnlab.report.page import write_page

        with _asking():
            page = write_page(self.folder)
        print(f"The page is {page}.")
        return DONE


def _only(kind: type[Settings], options: object) -> Settings:
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 when it failed, 2 for wrong usage, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"rnnlab {__version__}")
        return DONE
    try:
        options = tyro.extras.subcommand_cli_from_dict(
            {"gradients": Gradients, "dynamics": Dynamics, "report": Report},
            prog="rnnlab",
            description="A laboratory for recurrent networks.",
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return options.run(arguments)
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


@contextlib.contextmanager
def _progress(
    console: "Console", total: int
) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """``(say, advance)`` of a progress bar, which is shown on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda text: bar.update(task, description=text), lambda: bar.advance(task)
