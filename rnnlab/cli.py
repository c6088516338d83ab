"""The command line. JAX is imported only when there is something to compute."""

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
from rnnlab._json import as_json
from rnnlab._usage import RunError, UsageError, checking, existing_folder
from rnnlab._version import __version__
from rnnlab.startup import kept_programs, quick_start
from rnnlab.studies import records
from rnnlab.studies.cures_registry import CURES
from rnnlab.studies.cures_settings import CuresSettings
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.studies.settings import (
    TRAINED,
    DynamicsSettings,
    GradientSettings,
    StudySettings,
)
from rnnlab.studies.store import Run
from rnnlab.training_commands import (
    Evaluate,
    Generate,
    Resume,
    Train,
    check_flags,
    warnings_as_notes,
)

if TYPE_CHECKING:
    from rich.table import Table

    from rnnlab.studies.cures_network import GivenNetwork
    from rnnlab.studies.sources import Source
    from rnnlab.studies.study import Study

CLOSER = ("singular_values", "contributions", "truncation")
"""The kinds of records, and the figures, of ``--detail``."""

HELP_ON_CURES = f"any of {', '.join(CURES)}; all that apply to the cell by default."

DONE, FAILED, USAGE = 0, 1, 2
"""Exit codes, with ``terminal.INTERRUPTED``."""

Settings = TypeVar("Settings", bound=StudySettings | MemorySettings | CuresSettings)


@dataclasses.dataclass(frozen=True)
class Command(abc.ABC):
    """A study as a command: it measures the missing units, draws them and prints the results.

    Attributes:
        out: directory for the results; of the network of a training run, by default a directory in
            that of the run. A directory with results for other settings is refused.
            While a run is in progress its files are in DIR/unfinished, and an earlier run in DIR
            stays unchanged.
        resume: continue the run in DIR/unfinished, or draw missing figures of the run in DIR again.
        json: print the summary as JSON, and nothing else on standard output.
        cache: recompile everything and store nothing. By default compiled programs are kept, up to
            100 MiB, so that the next run starts sooner: in the directory
            JAX_COMPILATION_CACHE_DIR if it is set, otherwise in rnnlab in the user's cache
            directory (XDG_CACHE_HOME or ~/.cache).
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs"
    resume: bool = False
    json: bool = False
    cache: bool = True

    name: ClassVar[str]
    drawing: ClassVar[str]
    """The module that draws the figures."""

    def __post_init__(self) -> None:  # noqa: B027 (meant to do nothing)
        """Does nothing: ``settings`` makes the checks, where tyro cannot frame the error."""

    @property
    @abc.abstractmethod
    def kinds(self) -> tuple[str, ...]:
        """The kinds of records that the study gives."""

    @abc.abstractmethod
    def settings(self) -> Any:
        """The settings alone; ValueError if they are invalid."""

    @property
    @abc.abstractmethod
    def study(self) -> "Study":
        """The study to run; loads JAX."""

    @abc.abstractmethod
    def draw(self, run: Run, folder: Path) -> None:
        """Writes the table and the figures into ``folder``."""

    @abc.abstractmethod
    def tell(self, run: Run) -> "Iterator[str | Table]":
        """The results for people, as tables and sentences."""

    def remark(self) -> str | None:
        """A warning about settings that are valid but have no effect."""
        return None

    def run(self, arguments: list[str]) -> int:
        """Runs the study; returns the exit code."""
        with contextlib.ExitStack() as stack:
            with checking():
                settings = self._checked_settings()
                run = stack.enter_context(Run(self._folder(), self.name, self.kinds))
                run.admit(dataclasses.asdict(settings))

            # Only now, since JAX takes a second to import: help and errors come at once.
            quick_start()
            import jax

            # Before the first array is created: JAX would truncate it to float32.
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

    def _folder(self) -> Path:
        """The directory for the results; by default inside that of the run which is measured."""
        source = self._measured_run()
        if source is not None and self.out == type(self).__dataclass_fields__["out"].default:
            return Path(source) / self.name
        return Path(self.out)

    def _measured_run(self) -> str | None:
        """The directory of the training run that is measured; None for none."""
        return None

    def _checked_settings(self) -> Any:
        """The settings, with the checks of a command's arguments that need no JAX."""
        if not self.out:
            raise ValueError("--out is empty; give the directory to write into")
        return self.settings()

    def _source(self, settings: Any) -> tuple[Any, dict[str, Any]]:
        """The data that the study reads, and what the configuration says of them."""
        del settings
        return None, {}

    def _complete(self, run: Run, settings: Any, arguments: list[str]) -> None:
        """Measures the missing units, draws the figures, and replaces an earlier run."""
        from rnnlab.studies.environment import environment

        def summarise(rows: records.Records) -> list[dict[str, Any]]:
            return study.summarise(settings, rows)

        study = self.study
        with checking():
            data, about = self._source(settings)
            config = {
                "settings": dataclasses.asdict(settings),
                **about,
                **environment(),
                "command": shlex.join(["rnnlab", *arguments]),
            }
            units = study.units(settings)
            run.open(config, self.resume, units, study.finished, summarise)
        if run.is_whole:
            return
        if self.resume and len(run.missing) == len(units):
            terminal.note(f"note: {run.folder} holds no results to resume; starting a new run")
        if remark := self.remark():
            terminal.note(f"note: {remark}")
        terminal.say_when_interrupted(lambda: self._farewell(run, arguments))
        # Importing Matplotlib takes a second, in which this thread mostly waits for compiled code.
        threading.Thread(target=_import_ahead, args=(self.drawing,), daemon=True).start()
        done = len(units) - len(run.missing)
        with terminal.progress(done, len(units)) as (say, advance):
            try:
                for measured in study.measure(settings, data, list(run.missing), say):
                    run.add(measured.unit, measured.records)
                    run.save(summarise, when_due=True)
                    advance()
            finally:
                # Also after an error or Ctrl-C, so that --resume loses nothing.
                run.save(summarise, when_due=False)
            say("drawing")
            self.draw(run, run.unfinished)
            run.finish()

    def _farewell(self, run: Run, arguments: list[str]) -> str:
        # What counts is on the disk: the process may end before the next records are saved.
        if not (run.unfinished / f"{run.name}.json").exists():
            return "interrupted; there are no results yet"
        command = ["rnnlab", *arguments]
        if not self.resume:
            command.append("--resume")
        again = shlex.join(command)
        return f"interrupted; the results so far are in {run.unfinished}; continue with: {again}"

    def _print(self, run: Run) -> None:
        with terminal.printing():
            if self.json:
                print(as_json(run.summary))
                return
            out = terminal.console()
            for content in self.tell(run):
                terminal.show(out, content)


@dataclasses.dataclass(frozen=True)
class NetworkCommand(Command):
    """A study of networks on sequences of text or noise, or of the network of a training run."""

    from_run: Annotated[str | None, tyro.conf.arg(name="from", metavar="DIR")] = None

    def _checked_settings(self) -> StudySettings:
        settings = self._resolved(super()._checked_settings())
        if not settings.data:
            raise ValueError('--data is empty; give "text", "noise", or the path of a UTF-8 file')
        if settings.data not in ("text", "noise") and not _can_be_read(Path(settings.data)):
            from rnnlab.data import read_text

            # Raises the error that says why.
            read_text(settings.data)
        return settings

    def _measured_run(self) -> str | None:
        return self.from_run

    def _resolved(self, settings: StudySettings) -> StudySettings:
        """The settings with what the network of a training run fixes."""
        if settings.from_run is None:
            return settings
        # Before JAX is imported, which reads the flags that this sets.
        quick_start()
        from rnnlab.studies.from_run import resolve

        return resolve(settings)

    def _source(self, settings: StudySettings) -> "tuple[Source, dict[str, Any]]":
        data = self._read(settings)
        network = {} if data.trained is None else {"network": data.trained.about}
        return data, {"data": data.about, **network}

    def _read(self, settings: StudySettings) -> "Source":
        """The data, and the network of a training run; RunError if that is damaged."""
        from rnnlab.studies.sources import source

        if settings.from_run is None:
            return source(settings)
        from rnnlab.training.faults import CheckpointError

        try:
            with warnings_as_notes():
                return source(settings)
        except CheckpointError as fault:
            raise RunError(str(fault)) from fault


@dataclasses.dataclass(frozen=True)
class Gradients(NetworkCommand, GradientSettings):
    """Measure how far back in time the gradient of each cell reaches.

    The loss is taken at the last step of sequences of each length. For each cell, length and seed,
    the command measures the norm of the gradient of each parameter and of the state at every
    earlier step. It writes gradients.json, gradients.csv, gradient_norms.png, gradient_norms.svg,
    config.json and SHA256SUMS, which lists these files; with --detail also singular_values,
    contributions and truncation, each as .png and .svg. Logarithms are natural.
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/gradients"

    name: ClassVar = "gradients"
    drawing: ClassVar = "rnnlab.report.figures.gradients"

    @property
    def kinds(self) -> tuple[str, ...]:
        kinds = ("norms", "flow", "reach")
        if TRAINED in self.phases:
            kinds += ("training",)
        if self.detail:
            kinds += CLOSER
        return kinds

    def settings(self) -> GradientSettings:
        return _only(GradientSettings, self)

    def remark(self) -> str | None:
        if self.clip is None or self.train_steps:
            return None
        return "--clip has no effect without training; set --train-steps"

    @property
    def study(self) -> "Study":
        from rnnlab.studies import gradients

        return gradients

    def draw(self, run: Run, folder: Path) -> None:
        from rnnlab.report.figures import gradients

        norms, flow = run.records["norms"], run.records["flow"]
        columns = (
            "cell", "seed", "length", "phase", "parameter", "lag", "log_norm", "horizon",
            "vanishes", "horizon_low", "horizon_high", "decay_per_step", "fit_last_lag",
            "late_decay_per_step", "late_first_lag", "lags", "zero_share",
        )  # fmt: skip
        tables = {"norm": norms, "flow": flow, "reach": run.records["reach"]}
        training = run.records.get("training")
        if training:
            columns += (
                "loss_before",
                "loss_after",
                "accuracy_before",
                "accuracy_after",
                "clipped_share",
            )
            tables["training"] = training
        if self.detail:
            from rnnlab.report.figures import closer_look

            columns += ("index", "log_value", "t", "k", "steps", "cosine", "relative_norm")
            for kind in CLOSER:
                tables[kind] = run.records[kind]
            closer_look.draw(run.records, folder)
        records.write_csv(folder / "gradients.csv", columns, tables)
        gradients.gradient_norms(norms, flow, run.summary, folder)

    def tell(self, run: Run) -> "Iterator[str | Table]":
        from rnnlab.report import sentences

        settings = self.settings()
        yield sentences.table(run.summary, run.records["norms"], settings.lengths)
        for record in run.summary:
            yield sentences.sentence(record, len(settings.phases))
        figure = run.folder / "gradient_norms.png"
        yield f"The figure is {figure}; the numbers are in the same directory."
        if self.detail:
            names = ", ".join(f"{kind}.png" for kind in CLOSER)
            yield f"The figures of --detail are {names}."


@dataclasses.dataclass(frozen=True)
class Dynamics(NetworkCommand, DynamicsSettings):
    """Measure the dynamics of each cell: Lyapunov exponents, fixed points and a phase diagram.

    For each cell and seed, the command measures the leading Lyapunov exponents (the first, λ₁, is
    negative where nearby trajectories converge and positive where they diverge), and the fixed
    points and attractors under zero input; for the first seed also how λ₁ and the reach of the
    gradient depend on recurrent gain and sequence length. With --drive none, the exponents are
    compared with linear theory if the state settles at a fixed point. It writes dynamics.json,
    dynamics.csv, spectrum, portrait and phase, each as .png and .svg, config.json and SHA256SUMS,
    which lists these files. Logarithms are natural.
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
    def study(self) -> "Study":
        from rnnlab.studies import dynamics

        return dynamics

    def draw(self, run: Run, folder: Path) -> None:
        from rnnlab.report.figures import dynamics

        columns = (
            "cell", "seed", "index", "step", "exponent", "theory", "number", "kind", "unstable",
            "q", "slowest", "period", "example", "pc1", "pc2", "axis", "value", "length", "horizon",
            "vanishes", "decay_per_step",
        )  # fmt: skip
        records.write_csv(folder / "dynamics.csv", columns, run.records)
        dynamics.draw(run.records, run.summary, folder)

    def tell(self, run: Run) -> "Iterator[str | Table]":
        from rnnlab.report import sentences

        points, phase = run.records["fixed_points"], run.records["phase"]
        yield sentences.dynamics_table(run.summary)
        yield from sentences.dynamics_sentences(run.summary, points, phase)
        figures = "spectrum.png, portrait.png and phase.png"
        yield f"The figures {figures} and the numbers are in {run.folder}."


@dataclasses.dataclass(frozen=True)
class TaskCommand(Command):
    """A study of networks that are trained on synthetic tasks."""

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("scores", "curves")

    def tell(self, run: Run) -> "Iterator[str | Table]":
        sentences = self._sentences()
        yield sentences.table(run.summary)
        yield from sentences.sentences(run.summary)
        figure = run.folder / f"{self.name}.png"
        yield f"The figure is {figure}; the numbers are in the same directory."

    @abc.abstractmethod
    def _sentences(self) -> Any:
        """The module of the table and the sentences."""


@dataclasses.dataclass(frozen=True)
class Memory(TaskCommand, MemorySettings):
    """Train each cell on tasks with a long lag: what it learns, and how far its gradient reaches.

    For each cell, task, length and budget of parameters, the command trains networks of several
    seeds until they have solved the task, at most for a number of updates. It measures the loss on
    held-out sequences beside the exact loss without memory, and before and after the training the
    reach of the gradient and the first Lyapunov exponent. It writes memory.json, memory.csv, memory
    as .png and .svg, config.json and SHA256SUMS, which lists these files.
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/memory"

    name: ClassVar = "memory"
    drawing: ClassVar = "rnnlab.report.figures.memory"

    def settings(self) -> MemorySettings:
        return _only(MemorySettings, self)

    @property
    def study(self) -> "Study":
        from rnnlab.studies import memory

        return memory

    def draw(self, run: Run, folder: Path) -> None:
        from rnnlab.report.figures import memory

        columns = (
            "cell", "task", "length", "budget", "seed", "hidden_size", "parameters", "lag",
            "updates", "solved_after", "loss", "accuracy", "baseline", "floor", "skill", "lags",
            "horizon_before", "horizon_after", "exponent_before", "exponent_after",
        )  # fmt: skip
        records.write_csv(folder / "memory.csv", columns, run.records)
        memory.draw(run.records["scores"], folder)

    def _sentences(self) -> Any:
        from rnnlab.report import memory_sentences

        return memory_sentences


@dataclasses.dataclass(frozen=True)
class Cures(TaskCommand, CuresSettings):
    """Compare remedies that may help a network learn long lags, and measure their cost.

    The command trains one network on a task with a long lag, unchanged and with each cure: other
    initial weights, normalisation, gates, terms in the loss, other training. For each it measures
    whether the task is learned and after how many updates, the reach of the gradient before and
    after the training, the time of an update, and the memory of the backward pass. It writes
    cures.json, cures.csv, cures as .png and .svg, config.json and SHA256SUMS, which lists these
    files.
    """

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/cures"
    cures: Annotated[tuple[str, ...], tyro.conf.arg(help=HELP_ON_CURES)] = ()
    network: Annotated[str | None, tyro.conf.arg(name="from", metavar="PATH")] = None

    name: ClassVar = "cures"
    drawing: ClassVar = "rnnlab.report.figures.cures"

    def settings(self) -> CuresSettings:
        return _only(CuresSettings, self)

    def _measured_run(self) -> str | None:
        # Weights may also be in a file.
        is_run = self.network is not None and Path(self.network).is_dir()
        return self.network if is_run else None

    def _checked_settings(self) -> CuresSettings:
        settings = super()._checked_settings()
        if settings.network is None:
            return settings
        from rnnlab.studies.cures_network import resolve

        return resolve(settings, self._network(settings))

    def _source(self, settings: CuresSettings) -> "tuple[GivenNetwork | None, dict[str, Any]]":
        network = self._network(settings)
        return network, {} if network is None else {"network": network.about}

    def _network(self, settings: CuresSettings) -> "GivenNetwork | None":
        """The network that the settings name; RunError for a run that is damaged."""
        if settings.network is None:
            return None
        # Before JAX is imported, which reads the flags that this sets.
        quick_start()
        import jax

        from rnnlab.studies.cures_network import read
        from rnnlab.training.faults import CheckpointError

        if settings.precision == "float64":
            jax.config.update("jax_enable_x64", True)
        try:
            with warnings_as_notes():
                return read(settings)
        except CheckpointError as fault:
            raise RunError(str(fault)) from fault

    @property
    def study(self) -> "Study":
        from rnnlab.studies import cures

        return cures

    def draw(self, run: Run, folder: Path) -> None:
        from rnnlab.report.figures import cures

        columns = (
            "cure", "seed", "length", "lag", "parameters", "updates", "solved_after", "loss",
            "accuracy", "skill", "seconds", "kept_bytes", "lags", "horizon_before",
            "horizon_after", "exponent_before", "exponent_after",
        )  # fmt: skip
        records.write_csv(folder / "cures.csv", columns, run.records)
        cures.draw(run.summary, folder)

    def _sentences(self) -> Any:
        from rnnlab.report import cures_sentences

        return cures_sentences


@dataclasses.dataclass(frozen=True)
class Report:
    """Write report.html, one page with all results of a run, which can be read offline.

    For a training run, which may be in progress, it also draws training.png and training.svg.

    Attributes:
        folder: the directory of a finished study or of a training run, its --out.
    """

    folder: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DIR")]]

    def run(self, arguments: list[str]) -> int:
        """Writes the page, and notes what is missing in the directory; returns the exit code."""
        from rnnlab.report.page.write import faults, write_page

        with checking():
            page = write_page(existing_folder("DIR", self.folder, "finished run"))
        for fault in faults(page.parent):
            terminal.note(f"note: {fault}")
        with terminal.printing():
            terminal.show(terminal.console(), f"The page is {page}.")
        return DONE


def _import_ahead(module: str) -> None:
    # An error here is raised again, and shown, when the module is used.
    with contextlib.suppress(Exception):
        importlib.import_module(module)


def _can_be_read(path: Path) -> bool:
    """Whether the path is a readable file or pipe."""
    # Nothing is read: what a pipe holds can be read only once.
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False
    return not is_folder and os.access(path, os.R_OK)


def _only(kind: type[Settings], options: object) -> Settings:
    """The options of a command that are settings of its study."""
    values = {}
    for field in dataclasses.fields(kind):
        values[field.name] = getattr(options, field.name)
    return kind(**values)


def _native_engine() -> str:
    """Which native engine this installation has, or why it has none."""
    from rnnlab.engines.native.library import Absent, library

    found = library()
    if isinstance(found, Absent):
        return f"no native engine: it {found.reason}"
    return f"native engine: {found.instructions}"


def _parse(arguments: list[str]) -> Any:
    """The command, or None after ``--version``. SystemExit for help and for wrong options."""
    with checking():
        check_flags(arguments)
    with terminal.printing(), terminal.room_for_help():
        if arguments == ["--version"]:
            print(f"rnnlab {__version__}\n{_native_engine()}")
            return None
        return tyro.extras.subcommand_cli_from_dict(
            {
                "train": Train,
                "resume": Resume,
                "evaluate": Evaluate,
                "generate": Generate,
                "gradients": Gradients,
                "dynamics": Dynamics,
                "memory": Memory,
                "cures": Cures,
                "report": Report,
            },
            prog="rnnlab",
            description="Train recurrent networks; measure their gradients, dynamics and memory.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code.

    0 when done, 1 when it failed, 2 for wrong usage, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = _parse(arguments or ["--help"])
        return command.run(arguments) if command else DONE
    except UsageError as fault:
        terminal.note(f"rnnlab: {fault}")
        return USAGE
    except RunError as fault:
        terminal.note(f"rnnlab: {fault}")
        return FAILED
    except OSError as fault:
        path = f"{fault.filename}: " if fault.filename else ""
        terminal.note(f"rnnlab: {path}{fault.strerror or fault}")
        return FAILED
    except KeyboardInterrupt:
        terminal.note("rnnlab: interrupted")
        return terminal.INTERRUPTED
