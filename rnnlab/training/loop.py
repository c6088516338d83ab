"""The training loop: compiled steps, metrics, validation, checkpoints, and resuming."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnlab import terminal
from rnnlab.data.order import check_seed
from rnnlab.training import options, program, trees
from rnnlab.training.evaluation import Validation, checked_data, evaluate
from rnnlab.training.faults import (
    FINE,
    CheckpointError,
    Interrupted,
    NonFiniteError,
    RunFolderError,
    describe,
)
from rnnlab.training.metrics import History, MetricsWriter, measurements, numbers
from rnnlab.training.monitors import without_monitors
from rnnlab.training.options import Settings, Watch
from rnnlab.training.padding import padding_share
from rnnlab.training.run_folder import RunFolder, way_to_resume
from rnnlab.training.signals import Stop, stop_on_signals
from rnnlab.training.step import COUNT, Loss, TrainState, check_loss, initial_state, train_step
from rnnlab.typing import Dtype, PyTree

CALL = 0.25
"""Seconds that one call of the compiled program may take: a signal is answered after it."""


class TrainingRun(NamedTuple):
    """The result of :func:`fit`.

    Attributes:
        params: the parameters after the last step.
        state: the whole :class:`TrainState`.
        metrics: the :class:`History` of the metrics.
        best_params: the parameters of the lowest validation loss; None without validation.
        best_step: the step of these; None without validation.
        stopped_early: whether validation ended the run.
        start: the step of the checkpoint that the run was resumed from; 0 for a new run.
    """

    params: PyTree
    state: TrainState
    metrics: History
    best_params: PyTree
    best_step: int | None
    stopped_early: bool
    start: int = 0


def fit(
    model: Any,
    data: Any,
    optimiser: optax.GradientTransformation,
    *,
    steps: int,
    seed: int = 0,
    loss: Loss | None = None,
    params: PyTree = None,
    carry: PyTree = None,
    clip: float | None = None,
    accumulate: int = 1,
    average: float | None = None,
    compute_dtype: Dtype | None = None,
    validation: Validation | None = None,
    watch: Sequence[Watch] = (),
    out: str | Path | None = None,
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    checkpoint_every: int | None = 1000,
    keep: int = 3,
    log_every: int = 1,
    most_skipped: int = 10,
    writers: Sequence[MetricsWriter] = (),
    progress: bool = True,
) -> TrainingRun:
    """Trains ``model`` on ``data``: a thin loop over :func:`rnnlab.training.train_step`.

    Several steps run in one compiled program. A run with ``out`` that is killed at any moment and
    resumed gives, on the same machine and versions, bit for bit what it would have given: the same
    parameters, optimiser, random numbers, order of data and metrics.

    Recorded for each step are "loss", "gradient_norm" (before clipping), the metrics of the loss
    and, for a :class:`rnnlab.data.Batch` with lengths, "padding": padded steps / all steps.

    >>> import jax.numpy as jnp
    >>> def loss(params, batch, key):
    ...     return jnp.mean((params - batch) ** 2), {}
    >>> run = fit(None, [jnp.ones(3)] * 20, optax.sgd(0.5), steps=20, loss=loss,
    ...           params=jnp.zeros(3), progress=False)
    >>> run.metrics["loss"][[0, -1]].round(3).tolist()
    [1.0, 0.0]

    Args:
        model: with ``init(key, batch)`` and ``loss(params, batch, key)``, such as those of
            :mod:`rnnlab.models`; None where ``loss`` and ``params`` are given.
        data: ``data[i]`` is the i-th batch, a tree of arrays, and a pure function of i; epochs
            follow one another.
        optimiser: any optax transformation.
        steps: the total number of steps; a run may be resumed with a larger one.
        seed: of the initial parameters and of dropout.
        loss: ``loss(params, batch, key) -> (value, metrics)``; by default that of the model.
        params: initial parameters; by default ``model.init``.
        carry: the initial state of a carried loss, see :func:`rnnlab.training.train_step`; None
            for any other loss.
        clip: the largest norm of the whole gradient (Pascanu, Mikolov & Bengio 2013); None for no
            clipping.
        accumulate: M; a step takes M batches, one after the other.
        average: β of a moving average of the parameters; None for no average.
        compute_dtype: the dtype of loss and gradient, such as ``jnp.bfloat16``; parameters keep
            theirs. None for the dtypes as they are.
        validation: held-out data, and when the loss on them is measured; the means become the
            metrics "validation_loss" and so on. With ``average`` the averaged parameters are
            validated. None for no validation.
        watch: further measurements, see :class:`Watch`.
        out: directory for configuration, metrics and checkpoints; None to write nothing.
        resume: goes on with the run in ``out``, or starts one where there is none. Pass the same
            arguments again. Compared are ``repr(model)``, ``seed``, ``clip``, ``accumulate``,
            ``average``, ``compute_dtype``, ``config``, and the names, shapes and dtypes of the
            arrays in the parameters, the optimiser's state and ``carry``, and whether there is
            validation. Not compared are the data, the loss, and numbers inside of the optimiser
            such as the learning rate: put those that matter into ``config``.
        config: what JSON can hold, saved with the run; a run is resumed only with an equal one.
        checkpoint_every: steps between two checkpoints; None for one at the end only. A signal
            saves one too.
        keep: the number of checkpoints that are kept, the last ones.
        log_every: steps between two records of loss and gradient norm.
        most_skipped: the run ends after this many steps in a row whose loss, gradient or update is
            not finite. Such a step is not applied.
        writers: take the metrics too, such as :class:`rnnlab.training.metrics.TensorBoard`; whoever
            opens them closes them.
        progress: whether to show the progress on standard error, and where a run that a signal
            ended stands.

    Returns:
        The :class:`TrainingRun`.

    Raises:
        ValueError: for invalid options.
        RunFolderError: for a directory that holds another run, or is in use.
        NonFiniteError: after ``most_skipped`` such steps in a row; names step and parameter.
        CheckpointError: where a checkpoint cannot be saved, or none in ``out`` is whole.
        Interrupted: after SIGTERM or SIGINT, once a checkpoint is saved; where nothing handles it,
            the process exits with 143 or 130. Without ``out`` signals act as always.
    """
    settings = options.checked(
        steps=steps,
        checkpoint_every=checkpoint_every,
        keep=keep,
        log_every=log_every,
        most_skipped=most_skipped,
        accumulate=accumulate,
        validation=validation,
        carry=carry,
        watch=watch,
    )
    options.check_parts(model, loss, params, optimiser, writers)
    options.check_data(data, settings.batches)
    options.check_folder(out, resume)
    seed = check_seed(seed)
    optimiser = _clipped(optimiser, clip)
    chosen: Loss = model.loss if loss is None else loss
    check_loss(chosen, carry is not None, "carry=..., such as model.initial_state(batch_size)")
    data = checked_data(chosen, data)
    step = train_step(
        chosen,
        optimiser,
        accumulate=settings.accumulate,
        carried=carry is not None,
        average=average,
        compute_dtype=compute_dtype,
    )
    about = _about(model, seed, clip, settings.accumulate, average, compute_dtype, config)
    # Before anything is compiled, and until the directory is closed: a signal that comes meanwhile
    # ends the run as at any step.
    with (
        _answering_signals(out, config, told=progress) as stop,
        contextlib.ExitStack() as stack,
    ):
        state = _first_state(model, data, params, optimiser, seed, carry, average)
        folder = None
        if out is not None:
            folder = stack.enter_context(
                RunFolder(Path(out), about, settings.changeable, resume=resume, keep=settings.keep)
            )
        loop = _Loop(settings, program.compiled(step), chosen, data, state, folder, writers)
        loop.restore()
        say = advance = _silent
        if progress:
            say, advance = stack.enter_context(terminal.progress(loop.step, settings.steps))
        loop.run(stop, say, advance)
        stack.close()
        if stop:
            # It came while the last checkpoint was saved.
            raise Interrupted(stop.number, loop.step)
        return loop.result()


@contextlib.contextmanager
def _answering_signals(
    out: str | Path | None, config: Mapping[str, Any] | None, *, told: bool
) -> Iterator[Stop]:
    """Signals set a flag where there is a directory to save into; says how the run goes on."""
    if out is None:
        yield Stop()
        return
    try:
        with stop_on_signals() as stop:
            yield stop
    except Interrupted as fault:
        if told:
            terminal.note(f"rnnlab: {fault}; {way_to_resume(Path(out), config or {})}")
        raise


def _clipped(
    optimiser: optax.GradientTransformation, clip: float | None
) -> optax.GradientTransformation:
    if clip is None:
        return optimiser
    options.check_clip(clip)
    return optax.chain(optax.clip_by_global_norm(clip), optimiser)


def _first_state(
    model: Any,
    data: Any,
    params: PyTree,
    optimiser: optax.GradientTransformation,
    seed: int,
    carry: PyTree,
    average: float | None,
) -> TrainState:
    k_init, k_train = jax.random.split(jax.random.key(seed))
    if params is None:
        params = model.init(k_init, data[0])
    params, carry = _copy((params, carry))
    state = initial_state(params, optimiser, k_train, carry=carry, average=average is not None)
    # An optimiser may begin with numbers of Python, whose dtypes a checkpoint must know.
    return jax.tree.map(jnp.asarray, state)


def _about(
    model: Any,
    seed: int,
    clip: float | None,
    accumulate: int,
    average: float | None,
    compute_dtype: Dtype | None,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a run is resumed with only if it is equal, as JSON."""
    return {
        # Without addresses in memory, which differ in every process.
        "model": re.sub(r" at 0x[0-9a-f]+", "", repr(model)),
        "seed": int(seed),
        "clip": None if clip is None else float(clip),
        "accumulate": accumulate,
        "average": None if average is None else float(average),
        "compute_dtype": None if compute_dtype is None else str(jnp.dtype(compute_dtype)),
        "config": dict(config or {}),
    }


def _silent(*_: Any) -> None:
    """Shows no progress."""


class _Best(NamedTuple):
    """The lowest validation loss so far, and how many validations since were not lower."""

    loss: float | None = None
    step: int | None = None
    since: int = 0


class Content(NamedTuple):
    """What a checkpoint holds: the state, and the parameters of the lowest validation loss."""

    state: TrainState
    best: PyTree


_PARTS = {
    "best": "validation",
    "state.average": "average",
    "state.carry": "carry",
    "state.key": "kind of random keys",
    "state.optimiser": "optimiser",
    "state.params": "model",
}
"""Where the arrays of a checkpoint come from, in the words of :func:`fit`."""


def _another_run(folder: Path, mismatch: trees.MismatchError) -> str:
    """What differs from the arguments with which the run was started, and what to do."""
    part = next(part for name, part in _PARTS.items() if mismatch.name.startswith(name))
    is_optional = part in ("average", "carry", "validation")
    which = f"with another {part}"
    if is_optional and mismatch.is_missing:
        which = f"without {part}"
    elif is_optional and mismatch.is_surplus:
        which = f"with {part}"
    return (
        f"{folder} holds a run {which} ({mismatch.fault}); give fit the same model, optimiser, "
        "validation, average and carry as before, or choose another directory"
    )


class _Pending(NamedTuple):
    """A call of the compiled program whose metrics were not read yet."""

    first: int
    rows: dict[str, Any]
    done: Any
    start: float
    padding: list[float | None]
    is_timed: bool


class _Loop:
    """One run: where it stands, and what happens at which step."""

    def __init__(
        self,
        settings: Settings,
        advance: Callable[..., Any],
        loss: Loss,
        data: Any,
        state: TrainState,
        folder: RunFolder | None,
        writers: Sequence[MetricsWriter],
    ) -> None:
        self.settings = settings
        self.call = advance
        self.loss = loss
        self.data = data
        self.state = state
        self.folder = folder
        self.writers = list(writers)
        self.records: list[dict[str, Any]] = []
        self.names = trees.names(state.params)
        self.start = self.step = 0
        self.best = _Best()
        self.best_params = _copy(state.params) if settings.validation else None
        self.stopped_early = False
        # Such as the lowest loss of a schedule that waits for a plateau, infinite before the first.
        self.infinite = set(_not_finite(state)) if folder else set()
        self.last_saved: int | None = None
        self.seconds_per_step: float | None = None
        self.last_end = 0.0
        self.compiled: set[Any] = set()
        self.pending: _Pending | None = None
        self.trained: tuple[float | None, float | None] | None = None

    def restore(self) -> None:
        """Goes back to the last checkpoint of the folder, if there is one."""
        if self.folder is None:
            return
        try:
            restored = self.folder.restore(self._content())
        except trees.MismatchError as fault:
            raise RunFolderError(_another_run(self.folder.folder, fault)) from None
        if restored is None:
            return
        self.state, self.best_params = restored.state
        self.start = self.step = self.last_saved = restored.step
        self.best = _Best(**restored.about["best"])
        self.stopped_early = restored.about["stopped_early"]

    def run(self, stop: Stop, say: Callable[[str], None], advance: Callable[..., None]) -> None:
        """Steps until the end, a signal or an error."""
        # A checkpoint of step 0 comes after these measurements.
        if self.last_saved is None:
            self._watch()
        while self.step < self.settings.steps and not self.stopped_early:
            end = self._next_event()
            while self.step < end and not stop:
                count = self._advance(end)
                advance(count)
                say(self._told())
            self._read()
            if self.step == end:
                self._measure()
            if stop:
                self._save()
                self._wait()
                raise Interrupted(stop.number, self.step)
            every = self.settings.checkpoint_every
            if every is not None and self.step % every == 0:
                self._save()
        self._save()
        self._wait()

    def _next_event(self) -> int:
        """The next step at which the loop has something to do."""
        settings = self.settings
        periods = [entry.every for entry in settings.watch]
        if settings.validation is not None:
            periods.append(settings.validation.every)
        if settings.checkpoint_every is not None:
            periods.append(settings.checkpoint_every)
        ends = [(self.step // every + 1) * every for every in periods]
        return min([settings.steps, *ends])

    def _advance(self, end: int) -> int:
        """Starts one call of the program, and reads the metrics of the one before it."""
        first = self._batch(self.step)
        room = program.capacity(first)
        most = min(room, end - self.step)
        # Not yet measured, or zero by a coarse clock.
        if not self.seconds_per_step:
            most = 1
        else:
            most = min(most, max(1, int(CALL / self.seconds_per_step)))
        batches = [first]
        shapes = _shapes(first)
        for index in range(self.step + 1, self.step + most):
            batch = self._batch(index)
            # Batches of another shape run in a program of their own.
            if _shapes(batch) != shapes:
                break
            batches.append(batch)
        is_compiled = shapes in self.compiled
        if not is_compiled:
            # Otherwise the time of the call before would be that of compiling too.
            self._read()
            self.compiled.add(shapes)
        start = time.monotonic()
        self.state, rows, done = self.call(
            self.state, program.stack(batches, room), len(batches), self.settings.most_skipped
        )
        before = self.pending
        padding = [padding_share(batch) for batch in batches]
        self.pending = _Pending(self.step, rows, done, start, padding, is_compiled)
        self.step += len(batches)
        if before is not None:
            # The device computes meanwhile.
            self._record(before)
        return len(batches)

    def _batch(self, step: int) -> PyTree:
        """The batch of a step, or the batches that it accumulates, stacked."""
        parts = self.settings.accumulate
        if parts == 1:
            return self.data[step]
        batches = [self.data[step * parts + part] for part in range(parts)]
        shapes = set(map(_shapes, batches))
        if len(shapes) > 1:
            raise ValueError(
                "the batches that a step accumulates have different shapes; give them one shape, "
                "or accumulate=1"
            )
        return program.stack(batches, parts)

    def _read(self) -> None:
        """Records the metrics of the last call, which ends first."""
        pending, self.pending = self.pending, None
        if pending is not None:
            self._record(pending)

    def _record(self, pending: _Pending) -> None:
        rows, done = jax.device_get((pending.rows, pending.done))
        self._time(pending, int(done))
        for index in range(int(done)):
            step = pending.first + index + 1
            row = {name: values[index] for name, values in rows.items() if name != COUNT}
            fault, skipped = int(row.pop("fault")), int(row.pop("skipped"))
            share = pending.padding[index]
            if share is not None:
                # A metric of that name from the loss takes precedence.
                row.setdefault("padding", share)
            values: dict[str, Any] = numbers(row)
            self.trained = values["loss"], values["gradient_norm"]
            if fault != FINE:
                values["skipped"] = describe(fault, self.names)
            if fault != FINE or step % self.settings.log_every == 0:
                self._write(step, values)
            if skipped >= self.settings.most_skipped:
                self._give_up(step, fault)
        if self.folder is not None:
            # Those who read along see the records, and a save that failed ends the run at once.
            self.folder.metrics.flush()
            self.folder.checkpoints.check()

    def _time(self, pending: _Pending, count: int) -> None:
        """Takes the time of a call, which may have waited for the one before it."""
        now = time.monotonic()
        seconds = (now - max(pending.start, self.last_end)) / max(count, 1)
        self.last_end = now
        # A call that compiles says nothing about the speed of the steps.
        if pending.is_timed:
            # A moving average, so that one slow call does not decide.
            before = seconds if self.seconds_per_step is None else self.seconds_per_step
            self.seconds_per_step = 0.8 * before + 0.2 * seconds

    def _give_up(self, step: int, fault: int) -> None:
        """NonFiniteError: the last steps were not applied."""
        if self.folder is not None:
            # What ends the run matters more than a disk that is full.
            with contextlib.suppress(CheckpointError):
                self.folder.metrics.flush()
        raise NonFiniteError(
            f"step {step}: {describe(fault, self.names)}, and {self.settings.most_skipped} steps "
            "in a row were not applied; lower the learning rate, clip the gradient, or look at the "
            "data",
            step,
            self.names[fault] if fault >= 0 else None,
        )

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if self.folder is None:
            self.records.append({"step": step, **values})
        else:
            self.folder.metrics.write(step, values)
        for writer in self.writers:
            writer.write(step, values)

    def _measure(self) -> None:
        """Validation and watches that are due at this step."""
        validation = self.settings.validation
        self._watch()
        if validation is None or self.step % validation.every != 0:
            return
        state = self.state
        params = state.params if state.average is None else state.average
        means = evaluate(
            self.loss,
            params,
            validation.data,
            validation.batches,
            carry=validation.carry,
        )
        named = {f"validation_{name}": value for name, value in means.items()}
        self._write(self.step, numbers(named))
        loss = means["loss"]
        if np.isfinite(loss) and (self.best.loss is None or loss < self.best.loss):
            self.best = _Best(loss, self.step)
            self.best_params = _copy(params)
        else:
            self.best = self.best._replace(since=self.best.since + 1)
        if validation.patience is not None and self.best.since >= validation.patience:
            self.stopped_early = True

    def _watch(self) -> None:
        for entry in self.settings.watch:
            if self.step % entry.every != 0:
                continue
            subject = self.state if entry.of_state else self.state.params
            batch = self.data[self.step * self.settings.accumulate]
            self._write(self.step, measurements(entry.measure(subject, batch)))

    def _content(self) -> Content:
        return Content(self.state, self.best_params)

    def _save(self) -> None:
        """Starts to save a checkpoint of this step, unless there is one."""
        if self.folder is None or self.last_saved == self.step:
            return
        bad = [name for name in _not_finite(self.state) if name not in self.infinite]
        if bad:
            raise CheckpointError(
                f"{bad[0]} is not finite after step {self.step}, so no checkpoint was saved; lower "
                "the learning rate or clip the gradient"
            )
        about = {"best": self.best._asdict(), "stopped_early": self.stopped_early}
        self.folder.save(self.step, self._content(), about)
        self.last_saved = self.step

    def _wait(self) -> None:
        if self.folder is not None:
            self.folder.checkpoints.wait()

    def _told(self) -> str:
        """The line of progress."""
        if self.trained is None or not self.seconds_per_step:
            return "compiling"
        loss, norm = self.trained
        left = (self.settings.steps - self.step) * self.seconds_per_step
        minutes, seconds = divmod(int(left), 60)
        return (
            f"loss {_short(loss)}, gradient norm {_short(norm)}, "
            f"{1 / self.seconds_per_step:.3g} steps/s, {minutes}:{seconds:02} left"
        )

    def result(self) -> TrainingRun:
        records = self.records if self.folder is None else self.folder.metrics.records
        return TrainingRun(
            params=self.state.params,
            state=self.state,
            metrics=History(records),
            best_params=self.best_params if self.best.step is not None else None,
            best_step=self.best.step,
            stopped_early=self.stopped_early,
            start=self.start,
        )


def _copy(tree: PyTree) -> PyTree:
    """A copy of the arrays, since the compiled program reuses the memory of its arguments."""
    return jax.tree.map(jnp.array, tree)


def _not_finite(state: TrainState) -> list[str]:
    """The names of the arrays with NaN or infinity."""
    # A monitor records −inf for a parameter whose gradient is zero.
    return trees.not_finite(without_monitors(state))


def _short(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4g}"


def _shapes(batch: PyTree) -> tuple[Any, ...]:
    """The structure, shapes and dtypes of a batch, which decide the program that runs it."""
    leaves, structure = jax.tree.flatten(batch)
    kinds = [(np.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves]
    return structure, *kinds
