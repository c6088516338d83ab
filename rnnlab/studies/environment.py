"""Versions and the device of a run."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

from rnnlab._version import __version__


def environment() -> dict[str, Any]:
    """Versions, device and what XLA was told, as they stand in ``config.json``."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "numpy", "optax")
    return {
        "versions": {"python": platform.python_version(), "rnnlab": __version__}
        | {package: importlib.metadata.version(package) for package in packages},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "machine": platform.machine(),
        "xla_flags": os.environ.get("XLA_FLAGS"),
    }
