"""Numbers and values as JSON, which has neither NaN nor infinity."""

import json
import math
from typing import Any


def number(value: float) -> float | None:
    """A number for JSON, as short as float32 distinguishes it; None for NaN and infinity.

    >>> number(1 / 3)
    0.33333334
    """
    # Not at the top: the command line prints help without waiting for NumPy.
    import numpy as np

    with np.errstate(over="ignore"):
        short = np.float32(value)
    return float(str(short)) if np.isfinite(short) else None


def as_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON, with null for NaN and infinity, which JSON does not have."""
    # NaN is rare: only then is the whole value copied.
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(without_nan(value), indent=indent, allow_nan=False)


def without_nan(value: Any) -> Any:
    """``value`` with None for every NaN and infinity in it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return value
