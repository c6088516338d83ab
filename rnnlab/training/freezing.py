"""Parameters that are not trained."""

from collections.abc import Sequence

import jax
import optax

from rnnlab import _check
from rnnlab.typing import PyTree


def frozen(
    optimiser: optax.GradientTransformation, names: Sequence[str]
) -> optax.GradientTransformation:
    """``optimiser`` for all parameters but the named parts, which stay as they are.

    A part is a field, key or attribute at any depth, such as "embedding" of a classifier. Weight
    decay does not reach it either, and there is no optimiser state for it.

    >>> import jax.numpy as jnp
    >>> params = {"embedding": jnp.ones(2), "readout": jnp.ones(2)}
    >>> optimiser = frozen(optax.sgd(0.5), ["embedding"])
    >>> updates, _ = optimiser.update(params, optimiser.init(params), params)
    >>> updates["embedding"].tolist(), updates["readout"].tolist()
    ([0.0, 0.0], [-0.5, -0.5])

    Args:
        optimiser: any optax transformation.
        names: of the parts.

    Raises:
        ValueError: for a name that no parameter has, when the optimiser meets the parameters.
    """
    if isinstance(names, str):
        raise ValueError(f"names is {names!r}; give a list, such as [{names!r}]")
    names = tuple(names)

    def labels(params: PyTree) -> PyTree:
        found: set[str] = set()

        def label(path: tuple, leaf: object) -> str:
            del leaf
            own = {_name(entry) for entry in path} & set(names)
            found.update(own)
            return "frozen" if own else "trained"

        tree = jax.tree_util.tree_map_with_path(label, params)
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"no parameter is called {missing[0]!r}; choose from {_check.outline(params)}"
            )
        return tree

    return optax.partition({"trained": optimiser, "frozen": optax.set_to_zero()}, labels)


def _name(entry: object) -> str:
    """The name of one step of a path."""
    for attribute in ("name", "key", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)
