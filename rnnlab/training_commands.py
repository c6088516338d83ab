"""The commands that train, resume, evaluate and generate; JAX is imported when it is needed."""

import contextlib
import dataclasses
import math
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rnnlab import terminal
from rnnlab._json import as_json
from rnnlab._usage import RunError, UsageError, checking, existing_folder
from rnnlab._wording import counted
from rnnlab.startup import kept_programs, quick_start
from rnnlab.studies.train_settings import (
    TrainSettings,
    from_mapping,
    parse_assignments,
    read_config,
)

if TYPE_CHECKING:
    from rnnlab.studies.training import Setup
    from rnnlab.training.loop import TrainingRun
    from rnnlab.training.metrics import MetricsWriter

DONE = 0

TOO_LARGE = (
    "there is not enough memory; give a smaller hidden_size, batch_size, length, context, layers "
    "or accumulate, or generate less at once"
)

Folder = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DIR")]]


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a language model of characters on Python's source code, or on a text of yours.

    It writes run.json, metrics.jsonl and checkpoints/ into DIR, and says how it goes on standard
    error. A run that was ended by anything goes on with "rnnlab resume DIR", and gives the same
    bits as one that was not. SIGTERM and Ctrl-C save a checkpoint first; the exit code is then 143
    or 130. All settings and their defaults: rnnlab train --settings.

    Attributes:
        config: a JSON file of settings, such as {"cell": "gru", "steps": 1000}.
        set: one setting, such as steps=1000; may be repeated, and overrides the file.
        out: directory for the run; one that holds a run already is refused.
        json: print the result as JSON, and nothing else on standard output.
        settings: print all settings as JSON, and do nothing else.
        tensorboard: also write TensorBoard events to DIR/tensorboard (needs tensorboardX).
        wandb: also write an offline run of Weights & Biases to DIR (needs wandb).
        cache: recompile everything and store nothing, see "rnnlab gradients --help".
    """

    config: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[CONFIG.json]")]] = (
        None
    )
    set: tyro.conf.UseAppendAction[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]
    ] = ()
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/train"
    json: bool = False
    settings: bool = False
    tensorboard: bool = False
    wandb: bool = False
    cache: bool = True

    def run(self, arguments: list[str]) -> int:
        del arguments
        with checking():
            if not self.out:
                raise ValueError("--out is empty; give the directory to write into")
            values = read_config(Path(self.config)) if self.config else {}
            settings = from_mapping({**values, **parse_assignments(self.set)})
        if self.settings:
            with terminal.printing():
                print(as_json(dataclasses.asdict(settings), indent=1))
            return DONE
        with _computing(settings, self.cache):
            from rnnlab.studies import training

            with checking():
                setup = training.prepare(settings)
                writers = _writers(self, Path(self.out))
            result = _trained(setup, Path(self.out), resume=False, writers=writers)
        _report(setup, result, Path(self.out), self.json)
        return DONE


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a training run, from its last whole checkpoint.

    Attributes:
        folder: the directory of the run, its --out.
        set: a setting with which it goes on, such as steps=2000; of the others only keep, log_every
            and most_skipped may change.
        json: print the result as JSON, and nothing else on standard output.
        tensorboard: also write TensorBoard events to DIR/tensorboard (needs tensorboardX).
        wandb: also write an offline run of Weights & Biases to DIR (needs wandb).
        cache: recompile everything and store nothing, see "rnnlab gradients --help".
    """

    folder: Folder
    set: tyro.conf.UseAppendAction[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]
    ] = ()
    json: bool = False
    tensorboard: bool = False
    wandb: bool = False
    cache: bool = True

    def run(self, arguments: list[str]) -> int:
        del arguments
        with checking():
            folder = existing_folder("DIR", self.folder)
            settings = _settings_of(folder, parse_assignments(self.set))
        with _computing(settings, self.cache):
            from rnnlab.studies import training

            with checking():
                setup = training.prepare_again(folder, settings)
                writers = _writers(self, folder)
            result = _trained(setup, folder, resume=True, writers=writers)
        _report(setup, result, folder, self.json)
        return DONE


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure the loss of a trained model on text that it was not trained on.

    Attributes:
        folder: the directory of the run, its --out.
        part: the held-out part: that for the final test, or that of the validations.
        best: the parameters of the lowest validation loss, in place of the last ones.
        json: print the record as JSON: loss (nats), bits_per_symbol, accuracy, step, and
            params_sha256, the fingerprint of the parameters.
        cache: recompile everything and store nothing, see "rnnlab gradients --help".
    """

    folder: Folder
    part: Literal["test", "validation"] = "test"
    best: bool = False
    json: bool = False
    cache: bool = True

    def run(self, arguments: list[str]) -> int:
        del arguments
        with _reading(self.folder, self.cache) as path:
            from rnnlab.studies import training

            with checking():
                trained = training.read(path, best=self.best)
            record = training.evaluation(trained, self.part)
        done = counted(record["step"], "step")
        with terminal.printing():
            if self.json:
                print(as_json(record))
                return DONE
            out = terminal.console()
            terminal.show(
                out,
                f"After {done}: {record['bits_per_symbol']:.4f} bits per character "
                f"({record['loss']:.4f} nats) and {record['accuracy']:.1%} of the characters "
                f"predicted, on the {self.part} part ({record['characters']} characters).",
            )
            terminal.show(out, f"SHA-256 of the parameters: {record['params_sha256']}")
        return DONE


@dataclasses.dataclass(frozen=True)
class Generate:
    """Let a trained model continue a text.

    Attributes:
        folder: the directory of the run, its --out.
        prompt: the text to continue.
        length: characters to generate.
        temperature: below 1 the likely characters become likelier.
        top_k: choose among the k most likely characters only.
        top_p: choose among the fewest characters that together have this probability.
        beam: search for the likeliest text with this many candidates, in place of sampling.
        greedy: take the most likely character each time, in place of sampling.
        seed: of the samples.
        best: the parameters of the lowest validation loss, in place of the last ones.
        json: print prompt, text and step as JSON.
        cache: recompile everything and store nothing, see "rnnlab gradients --help".
    """

    folder: Folder
    prompt: str = "def "
    length: int = 400
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    beam: int | None = None
    greedy: bool = False
    seed: int = 0
    best: bool = False
    json: bool = False
    cache: bool = True

    def run(self, arguments: list[str]) -> int:
        del arguments
        with checking():
            self._check()
        with _reading(self.folder, self.cache) as path, checking():
            from rnnlab.studies import training

            trained = training.read_model(path, best=self.best)
            text = training.continued(
                trained,
                self.prompt,
                self.length,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                beams=self.beam,
                greedy=self.greedy,
                seed=self.seed,
            )
        with terminal.printing():
            if self.json:
                print(as_json({"prompt": self.prompt, "text": text, "step": trained.step}))
            else:
                print(self.prompt + text)
        return DONE

    def _check(self) -> None:
        """ValueError for options that are out of range or do not go together."""
        if self.length < 1:
            raise ValueError(f"--length is {self.length}; it must be at least 1")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"--temperature is {self.temperature}; it must be above 0, or give --greedy"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"--top-k is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p is {self.top_p}; it must be above 0 and at most 1")
        if self.beam is not None and self.beam < 1:
            raise ValueError(f"--beam is {self.beam}; it must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is {self.seed}; it must be at least 0 and below 2**32")
        samples = self.temperature != 1 or self.top_k is not None or self.top_p is not None
        if self.beam is not None and (self.greedy or samples):
            raise ValueError(
                "--beam searches and does not sample; leave --greedy, --temperature, --top-k and "
                "--top-p out"
            )
        if self.greedy and samples:
            raise ValueError(
                "--greedy takes the most likely character; leave --temperature, --top-k and "
                "--top-p out"
            )


def check_flags(arguments: list[str]) -> None:
    """ValueError for a setting that is given like an option, such as ``--steps 5``."""
    if not arguments or arguments[0] not in ("train", "resume"):
        return
    fields = TrainSettings.__dataclass_fields__
    for argument, following in zip(arguments[1:], [*arguments[2:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in fields:
            continue
        if not equals:
            is_flag = fields[name].type is bool and (not following or following[0] == "-")
            value = "true" if is_flag else following or "VALUE"
        assignment = shlex.quote(f"{name}={value}")
        raise ValueError(f"{flag} is a setting, and no option; give it as --set {assignment}")


def _settings_of(folder: Path, changes: dict[str, Any]) -> TrainSettings:
    # Before JAX is imported, which reads the flags that this sets.
    quick_start()
    from rnnlab.studies import training

    return training.settings_of(folder, changes)


@contextlib.contextmanager
def _computing(settings: TrainSettings, cache: bool) -> Iterator[None]:
    """JAX with its settings, and the errors of training as sentences."""
    quick_start()
    import jax

    from rnnlab.training.faults import CheckpointError, NonFiniteError

    if settings.precision == "float64":
        jax.config.update("jax_enable_x64", True)
    with contextlib.ExitStack() as stack:
        if cache:
            stack.enter_context(kept_programs())
        stack.enter_context(warnings_as_notes())
        try:
            yield
        except (CheckpointError, NonFiniteError) as fault:
            raise RunError(str(fault)) from fault
        except (MemoryError, jax.errors.JaxRuntimeError) as fault:
            if isinstance(fault, MemoryError) or "RESOURCE_EXHAUSTED" in str(fault):
                raise RunError(TOO_LARGE) from fault
            raise


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Shows warnings of rnnlab as notes on standard error, without the line of code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        terminal.note(f"rnnlab: warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _reading(folder: str, cache: bool) -> Iterator[Path]:
    """A directory whose run is read back."""
    with checking():
        path = existing_folder("DIR", folder)
        settings = _settings_of(path, {})
    with _computing(settings, cache):
        yield path


def _writers(command: Train | Resume, out: Path) -> "list[MetricsWriter]":
    from rnnlab.training import metrics

    writers: list[metrics.MetricsWriter] = []
    if command.tensorboard:
        writers.append(metrics.TensorBoard(out / "tensorboard"))
    if command.wandb:
        writers.append(metrics.WeightsAndBiases(out))
    return writers


def _trained(
    setup: "Setup", out: Path, *, resume: bool, writers: "list[MetricsWriter]"
) -> "TrainingRun":
    from rnnlab.studies import training
    from rnnlab.training.faults import RunFolderError

    try:
        return training.train(setup, out, resume=resume, writers=writers)
    except RunFolderError as fault:
        raise UsageError(fault) from None
    finally:
        for writer in writers:
            writer.close()


def _report(setup: "Setup", result: "TrainingRun", out: Path, json: bool) -> None:
    from rnnlab.training.trees import fingerprint

    last: dict[str, Any] = {}
    for record in result.metrics.records:
        last.update(record)
    summary = {
        "step": int(result.state.step),
        "loss": last.get("loss"),
        "validation_loss": last.get("validation_loss"),
        "best_step": result.best_step,
        "stopped_early": result.stopped_early,
        "params_sha256": fingerprint(result.params),
    }
    with terminal.printing():
        if json:
            print(as_json(summary))
            return
        told = terminal.console()
        terminal.show(told, _outcome(setup, result, summary))
        again = shlex.quote(str(out))
        terminal.show(told, f"The run is in {out}; see rnnlab evaluate {again}.")


def _outcome(setup: "Setup", result: "TrainingRun", summary: dict[str, Any]) -> str:
    """What the training came to, in one sentence."""
    from rnnlab.studies.training import validation_batches

    done = counted(summary["step"], "step")
    if result.start == summary["step"]:
        parts = [f"Nothing was left to do: the run had ended after {done}"]
    elif result.start:
        parts = [f"Trained from step {result.start} to step {summary['step']}"]
    else:
        parts = [f"Trained for {done}"]
    if summary["loss"] is not None:
        parts.append(f"the last loss is {summary['loss']:.4g} nats")
    if summary["validation_loss"] is not None:
        read, all_batches = validation_batches(setup)
        part = f"the first {read} of {all_batches} batches of " if read < all_batches else ""
        step = int(result.metrics.steps("validation_loss")[-1])
        when = f" after step {step}" if step < summary["step"] else ""
        loss = f"{summary['validation_loss']:.4g} nats"
        parts.append(f"the loss on {part}held-out text{when} is {loss}")
    if result.stopped_early:
        parts.append(f"stopped early, since the best was at step {result.best_step}")
    return "; ".join(parts) + "."
