"""Steps of a pipeline: their names, their settings, and both as JSON."""

import functools
import inspect
import json
from collections.abc import Callable, Set
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.text import dates, normalization, stems, stop_word_lists, tokenization
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


def step_name(step: Callable[[Any], Any]) -> str:
    """The name of the function that a step calls."""
    if isinstance(step, functools.partial):
        return step_name(step.func)
    return getattr(step, "__name__", type(step).__name__)


def step_to_json(place: int, step: Callable[[Any], Any]) -> dict[str, Any]:
    """A step as JSON; ValueError for a user's function, and a setting that JSON cannot hold."""
    if isinstance(step, Subwords):
        return {"step": "Subwords", **step.to_json()}
    where = f"step {place}, {step_name(step)}"
    function, settings = step, {}
    if isinstance(step, functools.partial) and not step.args:
        function, settings = step.func, step.keywords
    if _FUNCTIONS.get(step_name(function)) is not function:
        raise ValueError(
            f"{where}, is not a function of rnnlab.text (or has settings without a keyword), so "
            "that it cannot be saved; leave it out and apply it yourself"
        )
    plain = {name: _plain(f"{where}: {name}", value) for name, value in settings.items()}
    return {"step": step_name(function), "settings": plain}


def step_settings(step: Callable[[Any], Any]) -> dict[str, Any]:
    """The settings of a step by their names."""
    return step.keywords if isinstance(step, functools.partial) else {}


def _plain(name: str, value: Any) -> Any:
    """A setting as JSON: collections of words as lists."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    try:
        plain = sorted(value) if isinstance(value, Set) else value
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} is {_check.brief(value)}, which JSON cannot hold; give strings, numbers or "
            "lists of them"
        ) from None
    return plain


def step_from_json(where: str, content: Any) -> Callable[[Any], Any]:
    """The step of :func:`step_to_json`; ValueError for an unknown function or setting."""
    name = content.get("step") if isinstance(content, dict) else None
    if name == "Subwords":
        return Subwords.from_json(content, where)
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise ValueError(
            f"{where} is {name!r}, which is not a function of this rnnlab.text; install the "
            "version that saved it"
        )
    function, settings = _FUNCTIONS[name], content.get("settings", {})
    try:
        inspect.signature(function).bind(None, **settings)
    except TypeError:
        raise ValueError(f"{where}, {name}, has unknown settings: {settings}") from None
    return functools.partial(function, **settings) if settings else function
