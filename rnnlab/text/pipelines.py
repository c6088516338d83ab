"""Pipelines of text processing steps, saved as JSON."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rnnlab import _check
from rnnlab.text.pipeline_steps import step_from_json, step_name, step_settings, step_to_json
from rnnlab.text.saved import read_saved, write_saved

_PACKAGES = ("nltk", "scikit-learn", "simplemma", "stop-words", "tokenizers")
_PROBE = (
    "Dr. Müller's cats don't like 3 naïve dogs.\tOn 4 May 2024 they paid $1,250.50 for studies "
    "of the universities (see example.org) – and the mice went home :-)"
)
"""A text with something for every step: its tokens tell whether a loaded pipeline is the same."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Steps, each a function of the result of the one before; see :func:`pipeline`."""

    steps: tuple[Callable[[Any], Any], ...]

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(step_name(step) for step in self.steps)})"

    def __call__(self, text: str) -> Any:
        """The result of the last step; an error names the step that failed."""
        value = text
        for place, step in enumerate(self.steps, 1):
            try:
                value = step(value)
            except ValueError as error:
                raise ValueError(f"step {place}, {step_name(step)}: {error}") from None
        return value

    def save(self, path: str | Path) -> None:
        """Writes the steps as JSON, with the versions of the packages.

        Raises:
            ValueError: for a step that is neither a function of :mod:`rnnlab.text`, nor a
                ``partial`` of one with keyword arguments only, nor a :class:`Subwords`; and for a
                setting that JSON cannot hold.
        """
        steps = [step_to_json(place, step) for place, step in enumerate(self.steps, 1)]
        content = {"steps": steps, "packages": _versions(), "probe": _probe(self)}
        write_saved(path, "text pipeline", content)


def pipeline(*steps: Callable[[Any], Any]) -> Pipeline:
    """Steps of text processing as one function of a text.

    >>> from functools import partial
    >>> from rnnlab import text
    >>> clean = pipeline(text.lower_case, text.words, partial(text.stem, algorithm="porter"))
    >>> clean("The universities ARE studying")
    ['the', 'univers', 'are', 'studi']

    Args:
        steps: functions of :mod:`rnnlab.text`, with settings by ``functools.partial``, or your own:
            first those from text to text, then one that splits (:func:`words`,
            :func:`characters`, :func:`sentences` or :class:`Subwords`), then those from tokens to
            tokens. A step ``vocabulary.encode`` is left to the caller, who may want "<bos>".

    Raises:
        ValueError: for no steps, a step that is not callable, and a setting that is an iterator,
            which the first text would use up.
    """
    if not steps:
        raise ValueError("the pipeline has no steps; give at least one function")
    for place, step in enumerate(steps, 1):
        if not callable(step):
            raise ValueError(f"step {place} is {_check.brief(step)}; give a function")
        for name, value in step_settings(step).items():
            if isinstance(value, Iterator):
                raise ValueError(
                    f"step {place}, {step_name(step)}: {name} is an iterator, which the first text "
                    "would use up; give a list"
                )
    return Pipeline(tuple(steps))


def load_pipeline(path: str | Path) -> Pipeline:
    """The pipeline that :meth:`Pipeline.save` wrote.

    Raises:
        ValueError: for a file that is unreadable, of another kind or of another version, unknown
            steps or settings, and if the installed packages give other tokens for a test sentence
            than those that were saved.
        ImportError: where a package that a step needs is not installed.
    """
    content = read_saved(path, "text pipeline")
    steps = content.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"{path} has no list of steps; save the pipeline again")
    read = [step_from_json(f"{path}, step {n}", step) for n, step in enumerate(steps, 1)]
    loaded = pipeline(*read)
    try:
        probe = _probe(loaded)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None
    if probe != content.get("probe"):
        saved, here = content.get("packages"), _versions()
        raise ValueError(
            f"{path} gives other tokens here ({_listed(here)}) than where it was saved "
            f"({_listed(saved)}); install those versions, or build and save the pipeline again"
        )
    return loaded


def _probe(steps: Pipeline) -> Any:
    return steps(_PROBE)


def _versions() -> dict[str, str]:
    """The versions of the packages that are installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _listed(versions: Any) -> str:
    if not isinstance(versions, dict):
        return "unknown packages"
    return ", ".join(f"{name} {version}" for name, version in versions.items())
