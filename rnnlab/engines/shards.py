"""Batches that are divided among devices: explicit meshes, and the inside of ``jax.shard_map``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from rnnlab import _check
from rnnlab.typing import Array, Dtype, PyTree


def on_shards(
    run: Callable[..., tuple[PyTree, Array]],
    params: PyTree,
    xs: Array,
    states: PyTree,
    lengths: Array | None,
    timed: PyTree,
    every: bool,
) -> tuple[PyTree, Array]:
    """``run(params, xs, states, lengths, timed)``, shard by shard on a mesh with explicit axes.

    Examples do not depend on one another, so each device runs its own, and only the gradient of
    the parameters is summed over devices. Whatever is sharded along other axes than those of the
    batch is gathered first: a step needs all of its parameters and features.
    """
    arguments = params, xs, states, lengths, timed
    leaves = jax.tree.leaves(arguments)
    mesh = _explicit_mesh(leaves)
    if mesh is None:
        return run(*arguments)
    batch = _partitions(xs)[1:-1]
    names = _names(batch)
    if not any(_names(_partitions(leaf)) for leaf in leaves):
        return _replicated(run, arguments, mesh)
    one = PartitionSpec(*batch)
    each_step = PartitionSpec(None, *batch)
    specs = PartitionSpec(), each_step, one, one, each_step

    def place(spec: PartitionSpec, tree: PyTree) -> PyTree:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(lambda leaf: jax.reshard(leaf, sharding), tree)

    placed = tuple(map(place, specs, arguments))
    if not names:
        return _replicated(run, placed, mesh)
    _check.batched("the state", states, xs.shape[1:-1])
    outs = (each_step if every else one), each_step
    by_shard = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=outs, axis_names=names)
    return by_shard(*placed)


def _explicit_mesh(leaves: list[Any]) -> Any:
    """The first mesh with explicit axes on which a leaf lies; None where there is none."""
    for leaf in leaves:
        mesh = jax.typeof(leaf).sharding.mesh
        if mesh.explicit_axes:
            return mesh
    return None


def _replicated(run: Callable[..., Any], arguments: tuple, mesh: Any) -> Any:
    """``run(*arguments)`` on the mesh of the arguments.

    Arrays that ``run`` creates itself must lie on that mesh too: JAX refuses to combine arrays of
    different meshes.
    """
    if not jax.sharding.get_abstract_mesh().empty:
        return run(*arguments)
    with jax.sharding.use_abstract_mesh(mesh):
        return run(*arguments)


def _partitions(leaf: Any) -> tuple:
    """For each axis of ``leaf`` the explicit mesh axes along which it is sharded, or None."""
    spec = tuple(jax.typeof(leaf).sharding.spec)
    return spec + (None,) * (jnp.ndim(leaf) - len(spec))


def _names(partitions: tuple) -> set[str]:
    """All mesh axes that ``partitions`` names."""
    names = set()
    for axes in partitions:
        if axes is not None:
            names.update((axes,) if isinstance(axes, str) else axes)
    return names


def varying_axes(x: Any) -> frozenset[str]:
    """The mesh axes over which ``x`` varies inside ``jax.shard_map``; none elsewhere."""
    kind = jax.typeof(x)
    # The attribute has another name in newer releases of JAX.
    manual = getattr(kind, "manual_axis_type", None)
    return getattr(kind, "vma", frozenset()) if manual is None else manual.varying


def vary_together(tree: PyTree) -> PyTree:
    """``tree`` with every leaf varying over all mesh axes over which any of its leaves varies.

    Inside ``jax.shard_map`` that is part of an array's type. A loop carries one type from step to
    step, so a state that is the same on every device must be cast where the inputs are not. The
    transpose of the cast is a sum over the devices: that of a parameter's gradients.
    """
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves(tree)))

    def cast(leaf: Any) -> Any:
        for axis in sorted(axes - varying_axes(leaf)):
            leaf = lax.pcast(leaf, axis, to="varying")
        return leaf

    return jax.tree.map(cast, tree) if axes else tree


def shape_like(
    shape: tuple[int, ...],
    x: Array,
    dtype: Dtype | None = None,
) -> jax.ShapeDtypeStruct:
    """A shape, in the dtype of ``x`` by default; it varies over the mesh axes that ``x`` does."""
    dtype = x.dtype if dtype is None else dtype
    if not varying_axes(x):
        return jax.ShapeDtypeStruct(shape, dtype)
    # Named otherwise in older releases of JAX.
    kind = jax.typeof(x)
    name = "manual_axis_type" if hasattr(kind, "manual_axis_type") else "vma"
    # The stubs of this class leave both names out.
    options: dict[str, Any] = {name: getattr(kind, name)}
    # The axes are those of a mesh, which the shape must name too.
    sharding = NamedSharding(kind.sharding.mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding, **options)
