"""The options of a training run, checked before anything is computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rnnlab import _check
from rnnlab._wording import counted
from rnnlab.training.evaluation import Validation, batch_count
from rnnlab.typing import PyTree

LARGEST = 2**31 - 1
"""Of a number of steps: the state counts them in 32 bits."""


class Watch(NamedTuple):
    """A measurement at chosen steps.

    Attributes:
        every: steps between two measurements; the first is made before training.
        measure: ``measure(params, batch) -> dict`` of numbers, which become metrics; ``batch`` is
            the next one, after the last step too.
        of_state: whether ``measure`` gets the whole training state in place of the parameters.
    """

    every: int
    measure: Callable[[PyTree, PyTree], Mapping[str, Any]]
    of_state: bool = False


class Settings(NamedTuple):
    """The checked options of a run."""

    steps: int
    checkpoint_every: int | None
    keep: int
    log_every: int
    most_skipped: int
    accumulate: int
    validation: Validation | None
    watch: tuple[Watch, ...]

    @property
    def changeable(self) -> dict[str, int | None]:
        """Options of the run that may be others when it is resumed."""
        names = ("steps", "keep", "log_every", "most_skipped")
        options: dict[str, int | None] = {name: getattr(self, name) for name in names}
        if self.validation is not None:
            options["validate_every"] = self.validation.every
            options["validation_batches"] = self.validation.batches
            options["patience"] = self.validation.patience
        return options

    @property
    def batches(self) -> int:
        """The number of batches that the run reads."""
        count = self.steps * self.accumulate
        # A measurement after the last step reads the batch that would follow.
        is_measured = any(self.steps % entry.every == 0 for entry in self.watch)
        return count + 1 if is_measured else count


def checked(
    *,
    steps: int,
    checkpoint_every: int | None,
    keep: int,
    log_every: int,
    most_skipped: int,
    accumulate: int,
    validation: Validation | None,
    carry: PyTree,
    watch: Sequence[Watch],
) -> Settings:
    """The options as one value; ValueError for one that is not valid."""
    if checkpoint_every is not None:
        checkpoint_every = _count("checkpoint_every", checkpoint_every)
    return Settings(
        steps=_count("steps", steps),
        checkpoint_every=checkpoint_every,
        keep=_count("keep", keep),
        log_every=_count("log_every", log_every),
        most_skipped=_count("most_skipped", most_skipped),
        accumulate=_count("accumulate", accumulate),
        validation=_validation(validation, carry),
        watch=_watches(watch),
    )


def _watches(watch: Any) -> tuple[Watch, ...]:
    # A Watch is a tuple itself.
    is_list = isinstance(watch, list | tuple) and not isinstance(watch, Watch)
    entries: list[Any] = list(watch) if is_list else [None]
    for entry in entries:
        if not isinstance(entry, Watch):
            raise ValueError(
                f"watch is {_check.brief(watch)}; give a list of "
                "rnnlab.training.Watch(every, measure)"
            )
        _count("watch.every", entry.every)
        _check.function("watch.measure", entry.measure)
    return tuple(entries)


def _validation(validation: Any, carry: PyTree) -> Validation | None:
    """``validation`` with its number of batches."""
    if validation is None:
        return None
    if not isinstance(validation, Validation):
        raise ValueError(
            f"validation is {_check.brief(validation)}; give "
            "rnnlab.training.Validation(data, every=100)"
        )
    _count("validation.every", validation.every)
    if validation.patience is not None:
        _count("validation.patience", validation.patience)
    if (carry is None) != (validation.carry is None):
        raise ValueError(
            "one of carry and validation.carry is missing; a carried loss needs both, such as "
            "model.initial_state(batch_size), and another loss neither"
        )
    batches = batch_count("validation.batches", validation.data, validation.batches)
    return validation._replace(batches=batches)


def check_parts(
    model: Any, loss: Any, params: PyTree, optimiser: Any, writers: Sequence[Any]
) -> None:
    """ValueError unless these are parts that can be trained."""
    for part, given in (("loss", loss), ("init", params)):
        if given is None and not callable(getattr(model, part, None)):
            raise ValueError(
                f"model is {_check.brief(model)}, which has no {part}; give a model such as those "
                "of rnnlab.models, or both loss and params"
            )
    if loss is not None:
        _check.function("loss", loss, "model.loss")
    if not callable(getattr(optimiser, "init", None)):
        raise ValueError(
            f"optimiser is {_check.brief(optimiser)}; give a transformation of optax, such as "
            "optax.adam(1e-3)"
        )
    for writer in writers:
        if not callable(getattr(writer, "write", None)):
            raise ValueError(
                f"writers holds {_check.brief(writer)}, which has no write; give objects with "
                "write(step, values) and close()"
            )


def check_data(data: Any, batches: int) -> None:
    """ValueError for data that cannot be read by index, or a list of fewer ``batches``."""
    if not hasattr(data, "__getitem__"):
        raise ValueError(
            f"data is {_check.brief(data)}; give an object whose data[i] is the i-th batch, such "
            "as a list or one of rnnlab.data"
        )
    if isinstance(data, list | tuple) and len(data) < batches:
        are = "is" if batches == 1 else "are"
        raise ValueError(
            f"data holds {counted(len(data), 'batch', 'batches')}, but {batches} {are} read; give "
            "more, fewer steps, or data whose epochs follow one another, such as "
            "rnnlab.data.batches"
        )


def check_folder(out: Any, resume: bool) -> None:
    """ValueError for a run that is to be resumed from no directory."""
    if out is None and resume:
        raise ValueError(
            "resume is True, but out is None, so there is no run to go on with; give its directory "
            "as out, or resume=False"
        )


def check_clip(clip: float) -> None:
    """ValueError unless ``clip`` is a finite number above 0."""
    _check.number("clip", clip)
    if clip <= 0:
        raise ValueError(f"clip is {clip}; it must be above 0, or None for no clipping")


def _count(name: str, value: Any) -> int:
    """``value`` as an ``int``; ValueError unless it lies in 1..2³¹ − 1."""
    value = _check.positive_int(name, value)
    if value > LARGEST:
        raise ValueError(f"{name} is {value}; it must be at most {LARGEST}, or it overflows")
    return value
