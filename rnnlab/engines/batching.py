"""The engines under ``vmap``: examples become a batch axis, networks are run one after the other.

JAX applies vmap to the operations inside of a function, one by one. For our passes that gives the
right values, but slow programs, so they are wrapped as one operation each, a JAX primitive, whose
rule for vmap sees all arguments at once and can choose. The operation holds the traced program
(a jaxpr) of the pass. Differentiation and compilation work on that program as if the wrapper were
absent; only an operation that brings its own ``adjoint`` is transposed by that.
"""

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
    """``run``, with an axis mapped by vmap taken as a further batch axis.

    vmap of a custom backward pass would compute a gradient of the weights for each example, and
    then sum those. Here, where only the data is mapped, the axis is moved among the batch axes, and
    the sum over examples stays inside of one product.

    Args:
        run: ``run(static, params, xs, states, marks) -> (state or states, ys)``, with xs and marks
            ``[T, ...]`` and the leaves of ``states`` ``[...]``; ``static.every`` says that states
            returned have a time axis.
    """

    def batch(
        leaves: Any,
        axes: Any,
        *,
        program: Any,
        shared: int,
        tree: Any,
        outs: Any,
        static: Any,
        **_: Any,
    ) -> Any:
        if any(axis is not None for axis in axes[:shared]):
            # Each network has weights of its own, so no product can serve all of them.
            return _vmap(program, leaves, axes)
        _, _, states, _ = jax.tree.unflatten(tree, leaves)
        first_state = shared + 1
        first_mark = first_state + len(jax.tree.leaves(states))
        size = _size(leaves, axes)

        def fold(
            leaf: Array,
            axis: int | None,
            place: int,
        ) -> Array:
            if axis is not None:
                return jnp.moveaxis(leaf, axis, place)
            # The batch axes of all data must agree, so data that is not mapped is repeated.
            shape = (*leaf.shape[:place], size, *leaf.shape[place:])
            return jnp.broadcast_to(jnp.expand_dims(leaf, place), shape)

        folded = []
        for index in range(shared, len(leaves)):
            # xs and marks start with the time axis, which must stay first; a state has none.
            timed = not first_state <= index < first_mark
            folded.append(fold(leaves[index], axes[index], int(timed)))
        # The operation is bound again, so that a vmap around this one is folded as well.
        arguments = jax.tree.unflatten(tree, [*leaves[:shared], *folded])
        results = jax.tree.leaves(bound(static, *arguments))
        # The last result is ys.
        axes_of_states = [int(static.every)] * (outs.num_leaves - 1)
        return results, [*axes_of_states, 1]

    bound = _operation(run, batch)
    return bound


def one_by_one(run: Run, adjoint: Run | None = None) -> Run:
    """``run``, with networks mapped by vmap run one after the other on a CPU.

    Several networks at once would turn every product into a batch of small ones, for which XLA's
    CPU compiler has no fast form: 32 networks took twice as long together as one by one.

    Args:
        run: ``run(static, params, ...)``; only mapped parameters count as several networks.
        adjoint: the transpose of ``run``, see ``_operation``.
    """

    def batch(
        leaves: Any,
        axes: Any,
        *,
        program: Any,
        shared: int,
        **_: Any,
    ) -> Any:
        outs = _run_mapped(program, shared, leaves, axes)
        return outs, [0] * len(outs)

    return _operation(run, batch, adjoint)


def _run_mapped(
    program: Any,
    shared: int,
    leaves: Any,
    axes: Any,
) -> list[Array]:
    """The results of the program for every index of the mapped axis, which they have first."""
    if jax.default_backend() != "cpu" or all(axis is None for axis in axes[:shared]):
        outs, _ = _vmap(program, leaves, axes)
        return outs
    mapped = {}
    for index, axis in enumerate(axes):
        if axis is not None:
            mapped[index] = jnp.moveaxis(leaves[index], axis, 0)

    def run_network(of_network: dict[int, Array]) -> list[Array]:
        # What is not mapped stays out of the loop's inputs, so it is not copied per network.
        arguments = [of_network.get(index, leaf) for index, leaf in enumerate(leaves)]
        return jaxpr_as_fun(program)(*arguments)

    return lax.map(run_network, mapped)


def _operation(
    run: Run,
    batch: Callable[..., Any],
    adjoint: Run | None = None,
) -> Run:
    """``run`` as one operation, with the rule ``batch`` for vmap; differentiated it is ``run``.

    Args:
        run: ``run(static, params, ...)``.
        batch: the rule for vmap. It gets the flat arguments and their mapped axes, and by name:
            ``program``, the jaxpr of ``run``; ``shared``, how many of the first arguments are
            parameters; ``tree`` and ``outs``, the structures of arguments and results; ``static``.
        adjoint: its presence says that ``run`` is linear in its last argument. It takes the same
            arguments, but cotangents of the outputs as the last, and is the transpose. Under vmap
            the operation stays one, whose transpose is the adjoint under vmap.
    """
    # JAX looks rules up by the primitive, so each wrapped function needs one of its own.
    primitive = Primitive(f"rnnlab{run.__name__}")
    primitive.multiple_results = True

    def call(
        *leaves: Array,
        program: Any,
        **_: Any,
    ) -> list[Array]:
        return jaxpr_as_fun(program)(*leaves)

    primitive.def_impl(call)
    primitive.def_abstract_eval(lambda *_, program, **__: program.out_avals)
    ad.primitive_jvps[primitive] = _jvp
    if adjoint is not None:
        ad.primitive_transposes[primitive] = functools.partial(_transpose, adjoint)
        batch = functools.partial(_batch_linear, primitive)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(call, multiple_results=True))

    @functools.wraps(run)
    def bound(static: Any, *arguments: PyTree) -> PyTree:
        # Traced here, with the structures at hand: a primitive takes and returns flat arrays only.
        trace = jax.make_jaxpr(functools.partial(run, static), return_shape=True)
        program, shape = trace(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        shared = len(jax.tree.leaves(arguments[0]))
        outs = jax.tree.structure(shape)
        results = primitive.bind(
            *leaves, program=program, shared=shared, tree=tree, outs=outs, static=static, mapped=()
        )
        return jax.tree.unflatten(outs, results)

    return bound


def _jvp(
    primals: Any,
    tangents: Any,
    *,
    program: Any,
    **_: Any,
) -> Any:
    """The derivative of the program itself.

    It holds the custom JVP of a pass and the operations inside of it, whose rules for vmap and for
    transposition therefore survive differentiation.
    """
    # What has no tangent stays a constant inside, so that a pass sees whose derivative is wanted.
    moving = [index for index, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

    def call(*values: Array) -> list[Array]:
        leaves = list(primals)
        for index, value in zip(moving, values, strict=True):
            leaves[index] = value
        return jaxpr_as_fun(program)(*leaves)

    return jax.jvp(call, [primals[i] for i in moving], [tangents[i] for i in moving])


def _batch_linear(
    primitive: Primitive,
    leaves: Any,
    axes: Any,
    **parameters: Any,
) -> Any:
    """The operation once more, for all indices of the mapped axis.

    ``mapped`` remembers which arguments have the axis, for the transpose.
    """
    program, shared, tree = (parameters[name] for name in ("program", "shared", "tree"))
    size = _size(leaves, axes)
    constant_count = len(leaves) - tree.children()[-1].num_leaves
    leaves, axes = list(leaves), list(axes)
    for index in range(constant_count, len(leaves)):
        # The transpose returns a cotangent with the axis for each of these.
        if axes[index] is None:
            leaves[index] = jnp.broadcast_to(leaves[index], (size, *leaves[index].shape))
            axes[index] = 0

    def call(*leaves: Array) -> list[Array]:
        return _run_mapped(program, shared, leaves, axes)

    mapped = (*parameters["mapped"], (tuple(axes[:constant_count]), size))
    parameters |= {"program": jax.make_jaxpr(call)(*leaves), "mapped": mapped}
    outs = primitive.bind(*leaves, **parameters)
    return outs, [0] * len(outs)


def _transpose(
    adjoint: Run,
    cotangents: Any,
    *leaves: Any,
    tree: Any,
    outs: Any,
    static: Any,
    mapped: Any,
    **_: Any,
) -> Any:
    """A cotangent for each argument in which the operation is linear; None for the others."""
    *constant_trees, linear = tree.children()
    constant_count = len(leaves) - linear.num_leaves
    sizes = [constant.num_leaves for constant in constant_trees]

    def flat(*values: Array) -> list[Array]:
        arguments, start = [], 0
        for constant, size in zip(constant_trees, sizes, strict=True):
            arguments.append(jax.tree.unflatten(constant, values[start : start + size]))
            start += size
        dense = jax.tree.unflatten(outs, values[start:])
        return jax.tree.leaves(adjoint(static, *arguments, dense))

    call: Any = flat
    for axes, size in mapped:
        call = jax.vmap(call, (*axes, *[0] * outs.num_leaves), axis_size=size)
    dense = [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
    results = call(*leaves[:constant_count], *dense)
    transposed = []
    for leaf, result in zip(leaves[constant_count:], results, strict=True):
        # A tangent may be a known value, such as zeros for an input that is not differentiated.
        # JAX fails on a cotangent for anything but an undefined primal.
        asked = ad.is_undefined_primal(leaf)
        transposed.append(result if asked else None)
    return [None] * constant_count + transposed


def _vmap(
    program: Any,
    leaves: Any,
    axes: Any,
) -> Any:
    """JAX's own vmap of the program; every result has its mapped axis first."""

    def call(*leaves: Array) -> list[Array]:
        return jaxpr_as_fun(program)(*leaves)

    outs = jax.vmap(call, axes, axis_size=_size(leaves, axes))(*leaves)
    return outs, [0] * len(outs)


def _size(leaves: Any, axes: Any) -> int:
    """The size of the mapped axis."""
    for leaf, axis in zip(leaves, axes, strict=True):
        if axis is not None:
            return leaf.shape[axis]
    raise AssertionError("vmap maps at least one argument")
