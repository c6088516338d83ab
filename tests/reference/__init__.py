"""Slow twins of what rnnlab does fast, and the two meters that tests hold results to."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import jax
import pytest


def close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """The same structure, shapes, dtypes and, to ``tolerance``, values."""
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    chex.assert_trees_all_close(actual, expected, rtol=tolerance, atol=tolerance)


class Work(NamedTuple):
    """What JAX did inside a block: the names of what it traced and of what it compiled."""

    traced: list[str]
    compiled: list[str]


@contextlib.contextmanager
def watch() -> Iterator[Work]:
    """Counts JAX's own events: a program that is found again in a cache leaves none."""
    work = Work([], [])

    def listen(event: str, duration: float, **details: Any) -> None:
        del duration
        if event.endswith("/jaxpr_trace_duration"):
            work.traced.append(details["fun_name"])
        elif event.endswith("/backend_compile_duration"):
            work.compiled.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield work
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def one_sentence(call, *words):
    """The call raises a one-sentence ValueError with all ``words``: the fault, then the fix."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert not message.endswith(".")
    assert ". " not in message
    assert any(mark in message for mark in (";", " or ")), message
