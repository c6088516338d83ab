"""vmap over examples as one more batch axis, so that shared weights keep one gradient and not one for each example."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnnlab.typing import Array, PyTree


def folding(run: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``run(static, params, xs, state, marks) -> (state or states, ys)`` that takes a vmapped axis as a batch axis.

    vmap of a ``custom_vjp`` would give each example a gradient of its own for the weights and sum those. Here, where
    only the data is mapped, the axis is moved among the batch axes instead; where parameters are mapped too (seeds, an
    ensemble), and under differentiation, this is ``run`` itself. ``static.every`` says that states have a time axis.
    """
    primitive = Primitive(f"rnnlab{run.__name__}")
    primitive.multiple_results = True

    def call(*leaves: Array, static: Any, tree: Any) -> list[Array]:
        return jax.tree.leaves(run(static, *jax.tree.unflatten(tree, leaves)))

    def shapes(*leaves: Any, static: Any, tree: Any) -> list[Any]:
        outs = jax.eval_shape(functools.partial(call, static=static, tree=tree), *leaves)
        return [jax.core.ShapedArray(out.shape, out.dtype) for out in outs]

    def jvp(primals: Any, tangents: Any, **given: Any) -> Any:
        tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
        return jax.jvp(functools.partial(call, **given), tuple(primals), tuple(tangents))

    def batch(leaves: Any, axes: Any, *, static: Any, tree: Any) -> Any:
        size = next(leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None)
        shared = len(jax.tree.leaves(jax.tree.unflatten(tree, leaves)[0]))
        if any(axis is not None for axis in axes[:shared]):
            outs = jax.vmap(functools.partial(call, static=static, tree=tree), axes, axis_size=size)(*leaves)
            return outs, [0] * len(outs)
        stateful = jax.tree.structure(jax.tree.unflatten(tree, leaves)[2]).num_leaves
        timed = [False] * shared + [True] + [False] * stateful + [True] * (len(leaves) - shared - 1 - stateful)

        def fold(leaf: Array, axis: int | None, where: int) -> Array:
            if axis is None:
                return jnp.broadcast_to(jnp.expand_dims(leaf, where), (*leaf.shape[:where], size, *leaf.shape[where:]))
            return jnp.moveaxis(leaf, axis, where)

        every = zip(leaves, axes, timed, strict=True)
        folded = [fold(leaf, axis, int(late)) for leaf, axis, late in every][shared:]
        outs = primitive.bind(*leaves[:shared], *folded, static=static, tree=tree)
        return outs, [int(static.every)] * stateful + [1]

    primitive.def_impl(call)
    primitive.def_abstract_eval(shapes)
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(call, multiple_results=True))

    @functools.wraps(run)
    def bound(static: Any, params: PyTree, xs: Array, state: PyTree, marks: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten((params, xs, state, marks))
        outs = primitive.bind(*leaves, static=static, tree=tree)
        return jax.tree.unflatten(jax.tree.structure(state), outs[:-1]), outs[-1]

    return bound
