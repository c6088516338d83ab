"""Steps of text processing in a row, saved as JSON."""

import dataclasses
import functools
import importlib.metadata
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnnlab import _check
from rnnlab.text import dates, normalization, stems, stop_word_lists, tokenization
from rnnlab.text.saved import read_saved, write_saved
from rnnlab.text.subwords import Subwords

_FUNCTIONS = {
    function.__name__: function
    for function in (
        normalization.normalize_unicode,
        normalization.lower_case,
        normalization.strip_accents,
        normalization.expand_contractions,
        normalization.replace_numbers,
        normalization.remove_punctuation,
        normalization.collapse_whitespace,
        dates.normalize_dates,
        dates.replace_dates,
        tokenization.words,
        tokenization.sentences,
        tokenization.characters,
        stop_word_lists.remove_stop_words,
        stems.stem,
        stems.lemmatize,
    )
}
_PACKAGES = ("nltk", "scikit-learn", "simplemma", "stop-words", "tokenizers")
_PROBE = (
    "Dr. Müller's cats don't like 3 naïve dogs.\tOn 4 May 2024 they paid $1,250.50 for studies "
    "of the universities (see example.org) – and the mice went home :-)"
)
"""A text with something for every step: its tokens tell whether a loaded pipeline is the same."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Steps in a row, each a function of what the one before gives; see :func:`pipeline`."""

    steps: tuple[Callable[[Any], Any], ...]

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(_name(step) for step in self.steps)})"

    def __call__(self, text: str) -> Any:
        """What the last step gives; errors name the step."""
        value = text
        for place, step in enumerate(self.steps, 1):
            try:
                value = step(value)
            except ValueError as error:
                raise ValueError(f"step {place}, {_name(step)}: {error}") from None
        return value

    def save(self, path: str | Path) -> None:
        """Writes the steps as JSON, with the versions of the packages.

        Raises:
            ValueError: for a step that is no function of :mod:`rnnlab.text`, no ``partial`` of one
                with keywords alone, no :class:`Subwords` and no :class:`Vocabulary`.
        """
        steps = [_to_json(place, step) for place, step in enumerate(self.steps, 1)]
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
        ValueError: for no steps, and a step that is no function.
    """
    if not steps:
        raise ValueError("the pipeline has no steps; give at least one function")
    for place, step in enumerate(steps, 1):
        if not callable(step):
            raise ValueError(f"step {place} is {_check.brief(step)}; give a function")
    return Pipeline(tuple(steps))


def load_pipeline(path: str | Path) -> Pipeline:
    """The pipeline of :meth:`Pipeline.save`; it gives the same tokens.

    Raises:
        ValueError: for a file that is unreadable, of another kind or of another version, unknown
            steps or settings, and where the packages of today give other tokens for a test
            sentence than those it was saved with.
        ImportError: where a package that a step needs is not installed.
    """
    content = read_saved(path, "text pipeline")
    steps = content.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"{path} has no list of steps; save the pipeline again")
    loaded = pipeline(*[_from_json(f"{path}, step {n}", step) for n, step in enumerate(steps, 1)])
    if _probe(loaded) != content.get("probe"):
        saved, here = content.get("packages"), _versions()
        raise ValueError(
            f"{path} gives other tokens here ({_listed(here)}) than where it was saved "
            f"({_listed(saved)}); install those versions, or build and save the pipeline again"
        )
    return loaded


def _name(step: Callable[[Any], Any]) -> str:
    if isinstance(step, functools.partial):
        return _name(step.func)
    return getattr(step, "__name__", type(step).__name__)


def _to_json(place: int, step: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(step, Subwords):
        return {"step": "Subwords", **step.to_json()}
    function, settings = step, {}
    if isinstance(step, functools.partial) and not step.args:
        function, settings = step.func, step.keywords
    if _FUNCTIONS.get(_name(function)) is not function:
        raise ValueError(
            f"step {place}, {_name(step)}, is no function of rnnlab.text (or has settings without "
            "a keyword), so that it cannot be saved; leave it out and apply it yourself"
        )
    return {"step": _name(function), "settings": {name: _plain(v) for name, v in settings.items()}}


def _plain(value: Any) -> Any:
    """A setting as JSON: collections of words as lists."""
    return sorted(value) if isinstance(value, set | frozenset) else value


def _from_json(where: str, content: Any) -> Callable[[Any], Any]:
    name = content.get("step") if isinstance(content, dict) else None
    if name == "Subwords":
        return Subwords.from_json(content, where)
    if name not in _FUNCTIONS:
        raise ValueError(f"{where} is {name!r}, which is no function of this rnnlab.text")
    function, settings = _FUNCTIONS[name], content.get("settings", {})
    try:
        inspect.signature(function).bind(None, **settings)
    except TypeError:
        raise ValueError(f"{where}, {name}, has unknown settings: {settings}") from None
    return functools.partial(function, **settings) if settings else function


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
