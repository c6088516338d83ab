"""What a process is told before JAX starts."""

import os
import subprocess
import sys

import pytest

from rnnlab import quick_start

NAMES = ("XLA_FLAGS", "OPENBLAS_NUM_THREADS")


@pytest.fixture
def bare(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.usefixtures("bare")
def test_the_flags_are_known_to_this_jaxlib():
    """An unknown one would end the process."""
    script = "import rnnlab; rnnlab.quick_start(); import jax, jax.numpy as jnp; print(jax.jit(jnp.sum)(jnp.ones(100)))"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "100.0\n"), ran.stderr


def test_later_jaxlibs_are_told_only_what_they_know(bare):
    bare.setattr("rnnlab.startup.version", lambda _: "0.12.0")
    quick_start()
    assert os.environ["XLA_FLAGS"] == "--xla_disable_hlo_passes=tree_reduction_rewriter"


def test_what_the_user_has_set_stays(bare):
    bare.setenv("XLA_FLAGS", "--xla_dump_to=somewhere")
    quick_start()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=somewhere"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
