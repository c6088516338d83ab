"""Compiled programs that equal training runs share, which saves most of the time of their tests."""

import contextlib
import functools
from collections.abc import Iterator

import pytest

from rnnlab.training import loop, program


@contextlib.contextmanager
def shared_programs() -> Iterator[None]:
    """Within the block, runs with the same loss, optimiser and options are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", functools.lru_cache(loop.train_step))
        patch.setattr(program, "compiled", functools.lru_cache(program.compiled))
        yield
