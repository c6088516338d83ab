"""Pytrees as named arrays: names, fingerprints, and comparison without a cast."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr

from rnnlab.typing import PyTree


class Leaf(NamedTuple):
    """One array of a tree, on the host.

    Attributes:
        value: the array; of a PRNG key its data.
        key: the implementation of a PRNG key, such as "threefry2x32"; None for other arrays.
    """

    value: np.ndarray
    key: str | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Shape, dtype and digest, as JSON."""
        return {
            "shape": list(self.value.shape),
            "dtype": str(self.value.dtype),
            "key": self.key,
            "sha256": hashlib.sha256(np.ascontiguousarray(self.value).tobytes()).hexdigest(),
        }


def name_of(path: tuple) -> str:
    """The name of a leaf, such as ``layers[0].w_h``."""
    return keystr(path).removeprefix(".")


def names(tree: PyTree) -> list[str]:
    """The names of all leaves, in the order of ``jax.tree.leaves``."""
    return [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def to_leaves(tree: PyTree) -> dict[str, Leaf]:
    """The arrays of ``tree`` by name, copied to the host."""
    leaves = {}
    for path, value in jax.tree_util.tree_leaves_with_path(tree):
        leaves[name_of(path)] = _leaf(value)
    return leaves


def _leaf(value: Any) -> Leaf:
    if not _is_key(value):
        return Leaf(np.asarray(jax.device_get(value)))
    implementation = str(jax.random.key_impl(value))
    return Leaf(np.asarray(jax.device_get(jax.random.key_data(value))), implementation)


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


class MismatchError(ValueError):
    """Arrays that are not those of a tree.

    Attributes:
        name: of the first array that differs.
        fault: what is wrong, such as "the checkpoint lacks b".
        is_missing: whether the array is there only in the tree.
        is_surplus: whether it is there only among the arrays.
    """

    def __init__(
        self, name: str, fault: str, fix: str, *, missing: bool = False, surplus: bool = False
    ) -> None:
        super().__init__(f"{fault}; {fix}")
        self.name = name
        self.fault = fault
        self.is_missing = missing
        self.is_surplus = surplus


def from_leaves(
    template: PyTree,
    leaves: Mapping[str, Leaf],
    *,
    source: str = "the checkpoint",
    fix: str = "restore it with the model and the optimiser that saved it",
) -> PyTree:
    """``leaves`` as a tree like ``template``, with nothing cast.

    Args:
        template: a tree of arrays and PRNG keys.
        leaves: the arrays by name.
        source: where they are from, for the error.
        fix: what to do about it.

    Raises:
        MismatchError: for a leaf that is missing or too many, or has another shape or dtype.
    """
    wanted = to_leaves(template)
    for name in wanted:
        if name not in leaves:
            raise MismatchError(name, f"{source} lacks {_shown(name)}", fix, missing=True)
    for name in leaves:
        if name not in wanted:
            fault = f"{source} has {_shown(name)}, which is not needed"
            raise MismatchError(name, fault, fix, surplus=True)
    values = []
    for name, leaf in wanted.items():
        saved = leaves[name]
        for what, old, new in (
            ("kind of key", saved.key, leaf.key),
            ("shape", saved.value.shape, leaf.value.shape),
            ("dtype", saved.value.dtype, leaf.value.dtype),
        ):
            if old != new:
                fault = f"{_shown(name)} has {what} {old} in {source}, but {new} is needed"
                raise MismatchError(name, fault, fix)
        values.append(_value(saved))
    return jax.tree.unflatten(jax.tree.structure(template), values)


def _shown(name: str) -> str:
    # A tree that is one array has no names.
    return name or "an array without a name"


def _value(leaf: Leaf) -> Any:
    value = jnp.asarray(leaf.value)
    return value if leaf.key is None else jax.random.wrap_key_data(value, impl=leaf.key)


def fingerprint(tree: PyTree) -> str:
    """The SHA-256 of the names, shapes, dtypes and bytes of all arrays.

    >>> fingerprint({"w": np.zeros(3, np.float32)})[:8]
    'cb1b062d'
    """
    digest = hashlib.sha256()
    for name, leaf in to_leaves(tree).items():
        about = leaf.about
        line = f"{name} {about['shape']} {about['dtype']} {about['key']} {about['sha256']}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def not_finite(tree: PyTree) -> list[str]:
    """The names of the floating-point arrays with NaN or infinity."""
    found = []
    for name, leaf in to_leaves(tree).items():
        value = leaf.value
        if jnp.issubdtype(value.dtype, jnp.inexact) and not np.isfinite(value).all():
            found.append(name)
    return found
