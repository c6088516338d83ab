"""What the engines do under ``vmap``: examples become a batch axis, networks are run one after the other."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from rnnlab.typing import Array, PyTree

Run = Callable[..., PyTree]


def folding(run: Run) -> Run:
    """``run(static, params, xs, state, marks) -> (state or states, ys)`` that takes a vmapped axis as a batch axis.

    vmap of a pass of one's own would give each example a gradient of its own for the weights and sum those. Here, where
    only the data is mapped, the axis is moved among the batch axes instead. ``static.every`` says that states have a
    time axis.
    """

    def batch(
        leaves: Any, axes: Any, *, program: Any, shared: int, tree: Any, static: Any, **_: Any
    ) -> Any:
        if any(axis is not None for axis in axes[:shared]):
            return _vmap(program, leaves, axes)
        size = _size(leaves, axes)
        given = jax.tree.unflatten(tree, leaves)
        stateful = jax.tree.structure(given[2]).num_leaves
        timed = (
            [False] * shared
            + [True]
            + [False] * stateful
            + [True] * (len(leaves) - shared - 1 - stateful)
        )

        def fold(leaf: Array, axis: int | None, where: int) -> Array:
            if axis is None:
                return jnp.broadcast_to(
                    jnp.expand_dims(leaf, where), (*leaf.shape[:where], size, *leaf.shape[where:])
                )
            return jnp.moveaxis(leaf, axis, where)

        every = zip(leaves, axes, timed, strict=True)
        folded = [fold(leaf, axis, int(late)) for leaf, axis, late in every][shared:]
        outs = jax.tree.leaves(
            bound(static, *jax.tree.unflatten(tree, [*leaves[:shared], *folded]))
        )
        return outs, [int(static.every)] * stateful + [1]

    bound = _operation(run, batch)
    return bound


def one_by_one(run: Run, adjoint: Run | None = None) -> Run:
    """``run(static, params, ...)`` that, where parameters are vmapped, runs one network after the other on a CPU.

    Several networks at once would turn every product into a batch of small ones, for which XLA's CPU compiler has no
    fast form: 32 networks took twice as long together as one by one. ``adjoint``: see ``_operation``.
    """

    def batch(leaves: Any, axes: Any, *, program: Any, shared: int, **_: Any) -> Any:
        if jax.default_backend() != "cpu" or all(axis is None for axis in axes[:shared]):
            return _vmap(program, leaves, axes)
        mapped = {
            i: jnp.moveaxis(leaves[i], axis, 0) for i, axis in enumerate(axes) if axis is not None
        }

        def one(own: dict[int, Array]) -> list[Array]:
            return jaxpr_as_fun(program)(*(own.get(i, leaf) for i, leaf in enumerate(leaves)))

        outs = lax.map(one, mapped)
        return outs, [0] * len(outs)

    return _operation(run, batch, adjoint)


def _operation(run: Run, batch: Callable[..., Any], adjoint: Run | None = None) -> Run:
    """``run(static, params, ...)`` as one operation with a batching rule of its own; differentiated it is ``run``.

    With ``adjoint``, ``run`` is linear in its last argument, and ``adjoint`` of the same arguments, but for cotangents
    of the outputs as the last, is its transpose.
    """
    primitive = Primitive(f"rnnlab{run.__name__}")
    primitive.multiple_results = True

    def call(*leaves: Array, program: Any, **_: Any) -> list[Array]:
        return jaxpr_as_fun(program)(*leaves)

    def jvp(primals: Any, tangents: Any, *, program: Any, **_: Any) -> Any:
        tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
        return jax.jvp(
            lambda *leaves: jaxpr_as_fun(program)(*leaves), tuple(primals), tuple(tangents)
        )

    def transpose(
        cotangents: Any, *leaves: Any, tree: Any, outs: Any, static: Any, **_: Any
    ) -> Any:
        assert adjoint is not None
        *held, _ = jax.tree.unflatten(tree, leaves)
        whole = jax.tree.unflatten(
            outs, [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
        )
        found = jax.tree.leaves(adjoint(static, *held, whole))
        linear = leaves[len(leaves) - len(found) :]
        asked = [
            ct if ad.is_undefined_primal(leaf) else None
            for ct, leaf in zip(found, linear, strict=True)
        ]
        return [None] * (len(leaves) - len(found)) + asked

    primitive.def_impl(call)
    primitive.def_abstract_eval(lambda *_, program, **__: program.out_avals)
    ad.primitive_jvps[primitive] = jvp
    if adjoint is not None:
        ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(call, multiple_results=True))

    @functools.wraps(run)
    def bound(static: Any, *given: PyTree) -> PyTree:
        program, shape = jax.make_jaxpr(functools.partial(run, static), return_shape=True)(*given)
        leaves, tree = jax.tree.flatten(given)
        shared = len(jax.tree.leaves(given[0]))
        outs = jax.tree.structure(shape)
        found = primitive.bind(
            *leaves, program=program, shared=shared, tree=tree, outs=outs, static=static
        )
        return jax.tree.unflatten(outs, found)

    return bound


def _vmap(program: Any, leaves: Any, axes: Any) -> Any:
    outs = jax.vmap(
        lambda *given: jaxpr_as_fun(program)(*given), axes, axis_size=_size(leaves, axes)
    )(*leaves)
    return outs, [0] * len(outs)


def _size(leaves: Any, axes: Any) -> int:
    return next(
        leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None
    )
