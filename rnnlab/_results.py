"""Results of instruments: NamedTuples whose fields explain themselves and that print as a short table."""

import re
import textwrap
from typing import Any, TypeVar

import jax
import jax.core
import numpy as np

from rnnlab import _check

Result = TypeVar("Result", bound=type)


def result(kind: Result) -> Result:
    """Gives a NamedTuple's fields the text of its ``Attributes:`` block, and a printed form that fits on a screen.

    Printed, it is its ``finding()``, where it has one, and a line for each field: shape and range of the values. The
    block is what ``help`` shows for the class and for each field, so TypeError where it lacks a field.
    """
    texts = _attributes(kind.__doc__ or "")
    fields: tuple[str, ...] = getattr(kind, "_fields", ())
    if missing := [name for name in fields if name not in texts]:
        raise TypeError(f"{kind.__name__}: the Attributes block lacks {', '.join(missing)}")
    for name in fields:
        getattr(kind, name).__doc__ = texts[name]
    kind.__repr__ = _shown  # pyright: ignore[reportAttributeAccessIssue]
    return kind


def _attributes(doc: str) -> dict[str, str]:
    """The text of each entry in the ``Attributes:`` block of a docstring."""
    _, _, block = doc.partition("Attributes:\n")
    block = textwrap.dedent(block)
    texts: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        entry = re.match(r"(\w+): (.*)", line)
        if entry:
            name = entry[1]
            texts[name] = entry[2]
        elif name and line.startswith(" "):
            texts[name] += " " + line.strip()
        elif line.strip():
            break
    return texts


def _shown(self: Any) -> str:
    lines = [type(self).__name__]
    if hasattr(self, "finding") and not _traced(self):
        lines[0] += f": {self.finding()}"
    width = max(map(len, self._fields))
    for name, value in zip(self._fields, self, strict=True):
        lines.append(f"  {name:{width}}  {_outline(value)}")
    return "\n".join(lines)


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _outline(value: Any) -> str:
    """A value in a few words: itself where it is short, else its shape and range."""
    if value is None or isinstance(value, str | bool | int | float):
        return str(value)
    if not hasattr(value, "shape"):
        named = isinstance(value, tuple) and hasattr(value, "_fields")
        return _check.outline(value) if named or not isinstance(value, tuple) else _several(value)
    if isinstance(value, jax.core.Tracer) or not np.issubdtype(value.dtype, np.number):
        return f"{value.dtype}{list(value.shape)}" if np.ndim(value) else str(value)
    if not np.ndim(value):
        return f"{np.asarray(value)[()]:.6g}"
    return f"{list(value.shape)}{_range(np.asarray(value))}"


def _several(values: tuple) -> str:
    """The entries of a short tuple, or how many there are."""
    if len(values) <= 4:
        return "(" + ", ".join(map(_outline, values)) + ")"
    return f"{len(values)} entries"


def _range(values: np.ndarray) -> str:
    values = np.abs(values) if np.iscomplexobj(values) else values.astype(float)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, high = finite.min(), finite.max()
    text = f"  {low:.4g}" if low == high else f"  {low:.4g} to {high:.4g}"
    rest = values.size - finite.size
    return text + (f", {rest} not finite" if rest else "")
