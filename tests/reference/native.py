"""The native engine in tests: whether it is there, and processes that choose how it runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rnnlab.engines.native.library import sets_here

ROOT = Path(__file__).parents[2]
SETS = sets_here()
needs_native = pytest.mark.skipif(not SETS, reason="there is no library of the native engine")

NATIVE = {
    "native": {"engine": "native"},
    "native, states": {"engine": "native", "residuals": "states"},
}
TWINS = (
    "elman",
    "elman-relu",
    "elman-sigmoid",
    "elman-identity",
    "elman-no-bias",
    "elman-two-biases",
    "leaky",
    "leaky-relu",
    "lstm",
    "lstm-no-bias",
    "lstm-two-biases",
    "gru-after",
    "gru-no-bias",
    "gru-two-biases",
)
"""The names of the cells that it runs, see ``tests.reference.cells``."""


def pairs(engines, twins):
    """Every engine with every one of ``twins`` that it can run."""
    listed = []
    for twin in twins:
        for name, how in engines.items():
            native = how["engine"] == "native"
            if not native or twin.name in TWINS:
                marks = needs_native if native else ()
                listed.append(pytest.param(twin, how, marks=marks, id=f"{twin.name}-{name}"))
    return pytest.mark.parametrize(("twin", "how"), listed)


def under(engines):
    """Every engine, for cells that all of them run."""
    listed = [
        pytest.param(how, marks=needs_native if how["engine"] == "native" else (), id=name)
        for name, how in engines.items()
    ]
    return pytest.mark.parametrize("how", listed)


def alone(script, **variables):
    """What ``script`` prints in a process of its own, which has one device and ``variables``."""
    devices = r"--xla_force_host_platform_device_count=\d+"
    given = {
        **os.environ,
        "XLA_FLAGS": re.sub(devices, "", os.environ["XLA_FLAGS"]),
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script], env=given, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
