"""Results of instruments: NamedTuples with documented fields that print as a short table."""

import re
import textwrap
from typing import Any, TypeVar

import jax
import jax.core
import numpy as np

from rnnlab import _check

Result = TypeVar("Result", bound=type)


def result(kind: Result) -> Result:
    """A class decorator for results: documented fields, and a printed form that fits on a screen.

    The text of each field comes from the class's ``Attributes:`` block, so ``help`` shows it for
    the class and for the field; TypeError where the block lacks a field. Printed, a result is its
    ``finding()``, where it has one, and a line for each field: shape and range of the values.
    """
    texts = _attributes(kind.__doc__ or "")
    fields: tuple[str, ...] = getattr(kind, "_fields", ())
    missing = [name for name in fields if name not in texts]
    if missing:
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
            # An entry goes on in indented lines.
            texts[name] += " " + line.strip()
        elif line.strip():
            # The next block of the docstring.
            break
    return texts


def _shown(self: Any) -> str:
    head = type(self).__name__
    # A finding needs values, which tracers do not have.
    if hasattr(self, "finding") and not _is_traced(self):
        head += f": {self.finding()}"
    lines = [head]
    width = max(map(len, self._fields))
    for name, value in zip(self._fields, self, strict=True):
        lines.append(f"  {name:{width}}  {_outline(value)}")
    return "\n".join(lines)


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _outline(value: Any) -> str:
    """A value in short: itself where it is short, else its shape and range."""
    if value is None or isinstance(value, str | bool | int | float):
        return str(value)
    if not hasattr(value, "shape"):
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return _several(value)
        return _check.outline(value)
    if isinstance(value, jax.core.Tracer) or not np.issubdtype(value.dtype, np.number):
        # Without values, or with values that have no range.
        return f"{value.dtype}{list(value.shape)}" if np.ndim(value) else str(value)
    if not np.ndim(value):
        return f"{np.asarray(value)[()]:.6g}"
    return f"{list(value.shape)}{_range(np.asarray(value))}"


def _several(values: tuple) -> str:
    """The entries of a short tuple, or their number."""
    if len(values) > 4:
        return f"{len(values)} entries"
    entries = ", ".join(map(_outline, values))
    return f"({entries})"


def _range(values: np.ndarray) -> str:
    """The range of the finite values, and the number of the others."""
    values = np.abs(values) if np.iscomplexobj(values) else values.astype(float)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, high = finite.min(), finite.max()
    text = f"  {low:.4g}" if low == high else f"  {low:.4g} to {high:.4g}"
    rest = values.size - finite.size
    if rest:
        text += f", {rest} not finite"
    return text
