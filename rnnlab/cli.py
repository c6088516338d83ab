"""The command line: parses, calls, prints. JAX is imported only once there is something to compute."""

import abc
import contextlib
import dataclasses
import importlib
import os
import shlex
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import tyro

from rnnlab import terminal
from rnnlab._version import __version__
from rnnlab.startup import kept_programs, quick_start
from rnnlab.studies import records
from rnnlab.studies.settings import DynamicsSettings, GradientSettings, StudySettings
from rnnlab.studies.store import Run

if TYPE_CHECKING:
    from rich.table import Table

CLOSER = ("singular_values", "contributions", "truncation")
"""The kinds of records, and the figures, of a closer look."""

DONE, FAILED, USAGE = 0, 1, 2
"""Exit codes, with ``terminal.INTERRUPTED``."""

Settings = TypeVar("Settings", bound=StudySettings)


@dataclasses.dataclass(frozen=True)
class Command(abc.ABC):
    """A study as a command: it measures what is missing in a directory, draws it and tells what was found.

    Attributes:
        out: where to write; a directory that holds other settings is refused. Until the run is finished it is in
            DIR/unfinished, and an earlier run stays what it is.
        resume: go on with the run in DIR/unfinished, or draw again what is missing in DIR.
        json: print the summary as JSON on standard output, and nothing else there.
        cache: compile everything anew, and keep nothing. By default compiled programs are kept in rnnlab in the user's
            cache directory (XDG_CACHE_HOME, or ~/.cache), at most 100 MiB, so that the next run starts sooner; where
            JAX_COMPILATION_CACHE_DIR is set, in that directory.
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs"
    resume: bool = False
    json: bool = False
    cache: bool = True

    name: ClassVar[str]
    drawing: ClassVar[str]
    """The module that draws."""

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
    def draw(self, run: Run, folder: Path) -> None:
        """Writes the table and the figures into ``folder``."""

    @abc.abstractmethod
    def tell(self, run: Run) -> "Iterator[str | Table]":
        """What was found, for people."""

    def remark(self) -> str | None:
        """What is odd about the settings, though they can be used."""
        return None

    def run(self, arguments: list[str]) -> int:
        """Runs the study; returns the exit code."""
        with contextlib.ExitStack() as stack:
            with _asking():
                settings = self._checked_settings()
                run = stack.enter_context(Run(Path(self.out), self.name, self.kinds))
                run.admit(dataclasses.asdict(settings))

            # Only now, so that help and refusals come at once.
            quick_start()
            import jax

            if settings.precision == "float64":
                jax.config.update("jax_enable_x64", True)
            if self.cache:
                stack.enter_context(kept_programs())
            try:
                self._complete(run, settings, arguments)
            except KeyboardInterrupt:
                terminal.note(f"rnnlab: {self._farewell(run, arguments)}")
                return terminal.INTERRUPTED
        self._print(run)
        return DONE

    def _checked_settings(self) -> StudySettings:
        """The settings, with what can be said about ``--out`` and ``--data`` at once."""
        settings = self.settings()
        if not self.out:
            raise ValueError("--out is empty; give the directory to write into")
        if not settings.data:
            raise ValueError('--data is empty; give "text", "noise", or the path of a UTF-8 file')
        if settings.data not in ("text", "noise") and not _can_be_read(Path(settings.data)):
            from rnnlab.data import read_text

            # It says why not.
            read_text(settings.data)
        return settings

    def _complete(self, run: Run, settings: StudySettings, arguments: list[str]) -> None:
        """Measures what is missing, draws it, and puts the run in its place."""
        from rnnlab.studies.environment import environment
        from rnnlab.studies.sources import source

        with _asking():
            study, data = self.study, source(settings)
            config = {"settings": dataclasses.asdict(settings), "data": data.about, **environment()}
            config["command"] = shlex.join(["rnnlab", *arguments])
            units = study.units(settings)
            run.open(config, self.resume, units, study.finished)
        if run.is_whole:
            return
        if remark := self.remark():
            terminal.note(f"note: {remark}")
        terminal.say_when_interrupted(lambda: self._farewell(run, arguments))
        # It takes a second, in which this thread mostly waits for compiled code.
        threading.Thread(target=_import_ahead, args=(self.drawing,), daemon=True).start()

        def summarise(found: records.Records) -> list[dict[str, Any]]:
            return study.summarise(settings, found)

        done = len(units) - len(run.missing)
        with terminal.progress(done, len(units)) as (say, advance):
            try:
                for measured in study.measure(settings, data, list(run.missing), say):
                    run.add(measured.unit, measured.records)
                    run.save(summarise, when_due=True)
                    advance()
            finally:
                run.save(summarise, when_due=False)
            say("drawing")
            self.draw(run, run.unfinished)
            run.finish()

    def _farewell(self, run: Run, arguments: list[str]) -> str:
        # What counts is what is on the disk: the process may end before the next records are saved.
        if not (run.unfinished / f"{run.name}.json").exists():
            return "interrupted; nothing was measured yet"
        again = shlex.join(["rnnlab", *arguments, *([] if self.resume else ["--resume"])])
        return f"interrupted; what was measured is in {run.unfinished}; go on with: {again}"

    def _print(self, run: Run) -> None:
        with terminal.printing():
            if self.json:
                print(records.as_json(run.summary))
                return
            out = terminal.console()
            for what in self.tell(run):
                terminal.show(out, what)


@dataclasses.dataclass(frozen=True)
class Gradients(Command, GradientSettings):
    """Show how far back in time the gradient of each cell reaches, with pictures and numbers.

    For each cell, length and seed it takes the loss at the last step of a sequence of that length, and measures the
    norm of the gradient for each parameter and its flow to every earlier step. DIR then holds gradients.json,
    gradients.csv, gradient_norms.png, gradient_norms.svg, config.json and SHA256SUMS, which lists them; with --detail
    also singular_values, contributions and truncation, each as .png and .svg. Logarithms are natural.
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/gradients"

    name: ClassVar = "gradients"
    drawing: ClassVar = "rnnlab.report.figures.gradients"

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
        from rnnlab.studies import gradients

        return gradients

    def draw(self, run: Run, folder: Path) -> None:
        from rnnlab.report.figures import gradients

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
            from rnnlab.report.figures import closer_look

            columns += ("index", "log_value", "t", "k", "steps", "cosine", "relative_norm")
            tables |= {kind: run.records[kind] for kind in CLOSER}
            closer_look.draw(run.records, folder)
        records.write_csv(folder / "gradients.csv", columns, tables)
        gradients.gradient_norms(norms, flow, run.summary, folder)

    def tell(self, run: Run) -> "Iterator[str | Table]":
        from rnnlab.report import sentences

        settings = self.settings()
        yield sentences.table(run.summary, run.records["norms"], settings.lengths)
        for record in run.summary:
            yield sentences.sentence(record, len(settings.phases))
        yield f"The figure is {run.folder / 'gradient_norms.png'}; the numbers are beside it."
        if self.detail:
            yield f"The closer look is in {', '.join(f'{kind}.png' for kind in CLOSER)}."


@dataclasses.dataclass(frozen=True)
class Dynamics(Command, DynamicsSettings):
    """Show what the state of each cell does: whether neighbouring states part, where it rests, and what gain changes.

    For each cell it measures the leading Lyapunov exponents along trajectories (with --drive none beside those of
    linear theory where the state comes to rest), the fixed points under zero input, and,
    for the first seed, how far gradients reach over recurrent gain and sequence length. DIR then holds dynamics.json,
    dynamics.csv, spectrum, portrait and phase, each as .png and .svg, config.json, and SHA256SUMS, which lists them.
    Logarithms are natural.
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/dynamics"

    name: ClassVar = "dynamics"
    drawing: ClassVar = "rnnlab.report.figures.dynamics"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("spectrum", "trace", "fixed_points", "trajectories", "attractors", "phase")

    def settings(self) -> DynamicsSettings:
        return _only(DynamicsSettings, self)

    @property
    def study(self) -> Any:
        from rnnlab.studies import dynamics

        return dynamics

    def draw(self, run: Run, folder: Path) -> None:
        from rnnlab.report.figures import dynamics

        columns = (
            "cell", "seed", "index", "step", "exponent", "theory", "number", "kind", "unstable", "q", "slowest",
            "period", "example", "pc1", "pc2", "axis", "value", "length", "horizon", "vanishes", "decay_per_step",
        )  # fmt: skip
        records.write_csv(folder / "dynamics.csv", columns, run.records)
        dynamics.draw(run.records, run.summary, folder)

    def tell(self, run: Run) -> "Iterator[str | Table]":
        from rnnlab.report import sentences

        yield sentences.dynamics_table(run.summary)
        yield from sentences.dynamics_sentences(
            run.summary, run.records["fixed_points"], run.records["phase"]
        )
        yield f"The figures are spectrum.png, portrait.png and phase.png in {run.folder}; the numbers are beside them."


@dataclasses.dataclass(frozen=True)
class Report:
    """Gather a run into one HTML page, report.html in its directory, which needs no network.

    Attributes:
        folder: the directory of a finished run, its --out.
    """

    folder: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DIR")]]

    def run(self, arguments: list[str]) -> int:
        """Writes the page, and says what is missing in the directory; returns the exit code."""
        from rnnlab.report.page.write import write_page
        from rnnlab.studies.store import faults

        with _asking():
            if not self.folder:
                raise ValueError("DIR is empty; give the --out directory of a finished run")
            page = write_page(Path(self.folder))
        for fault in faults(page.parent):
            terminal.note(f"note: {fault}")
        with terminal.printing():
            terminal.show(terminal.console(), f"The page is {page}.")
        return DONE


def _import_ahead(module: str) -> None:
    # What is wrong with it is told when it is used.
    with contextlib.suppress(Exception):
        importlib.import_module(module)


def _can_be_read(path: Path) -> bool:
    """Whether it is there, readable and no directory; it may be a pipe, which can be read only once."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False
    return not is_folder and os.access(path, os.R_OK)


def _only(kind: type[Settings], options: object) -> Settings:
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def _parse(arguments: list[str]) -> Command | Report | None:
    """The command that is asked for; None where printing was all. SystemExit for help and for what cannot be parsed."""
    with terminal.printing(), terminal.room_for_help():
        if arguments == ["--version"]:
            print(f"rnnlab {__version__}")
            return None
        return tyro.extras.subcommand_cli_from_dict(
            {"gradients": Gradients, "dynamics": Dynamics, "report": Report},
            prog="rnnlab",
            description="A laboratory for recurrent networks.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 when done, 1 when it failed, 2 for wrong usage, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = _parse(arguments or ["--help"])
        return command.run(arguments) if command else DONE
    except UsageError as fault:
        terminal.note(f"rnnlab: {fault}")
        return USAGE
    except OSError as fault:
        where = f"{fault.filename}: " if fault.filename else ""
        terminal.note(f"rnnlab: {where}{fault.strerror or fault}")
        return FAILED
    except KeyboardInterrupt:
        terminal.note("rnnlab: interrupted")
        return terminal.INTERRUPTED


class UsageError(Exception):
    """A fault in what was asked for; one sentence that says the fix."""


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """While the request is examined, a ValueError is the user's fault; later it is ours, and shows its traceback."""
    try:
        yield
    except ValueError as fault:
        raise UsageError(fault) from None
