"""Versions and the device of a run."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

from rnnlab._version import __version__


def environment() -> dict[str, Any]:
    """Versions, device and XLA's flags, as written to ``config.json``."""
    versions = {"python": platform.python_version(), "rnnlab": __version__}
    for package in ("jax", "jaxlib", "numpy", "optax"):
        versions[package] = importlib.metadata.version(package)
    device = jax.devices()[0]
    return {
        "versions": versions,
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "machine": platform.machine(),
        "xla_flags": os.environ.get("XLA_FLAGS"),
    }
