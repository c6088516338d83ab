"""The two halves of a step: how the state advances, and how the output depends on the new state."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnnlab.typing import Array, PyTree

CALLS = ("jit", "pjit", "closed_call", "remat", "remat2", "checkpoint")
"""The primitives that do nothing but call an inner program."""


class Parts(NamedTuple):
    """F and Y of a step."""

    # F(params, state, x) -> new state.
    state: Callable[..., PyTree]
    # Y(params, state, x, new state) -> y.
    output: Callable[..., Array]
    # Which leaf of the state the output *is*; None where it is none of them.
    hidden: int | None


def split(
    step: Callable[..., tuple[PyTree, Array]],
    params: PyTree,
    state: PyTree,
    x: Array,
) -> Parts:
    """F and Y with sₜ = F(θ, sₜ₋₁, xₜ) and yₜ = Y(θ, sₜ₋₁, xₜ, sₜ).

    A step returns both at once, so how its output depends on the *new* state cannot be seen from
    outside. The traced program shows it: Y is the same program, with the values of the new state as
    inputs instead of computed. So ∂Y/∂sₜ is right whether a step returns h itself, a readout of h,
    or something else, for foreign steps and for those of rnnlab.
    """
    closed, shapes = jax.make_jaxpr(step, return_shape=True)(params, state, x)
    jaxpr = closed.jaxpr
    state_shapes, y_shapes = shapes
    count = len(jax.tree.leaves(state_shapes))
    y_tree = jax.tree.structure(y_shapes)
    state_vars = jaxpr.outvars[:count]
    y_vars = jaxpr.outvars[count:]

    def advance(params: PyTree, state: PyTree, x: Array) -> PyTree:
        return step(params, state, x)[0]

    def output(
        params: PyTree,
        state: PyTree,
        x: Array,
        new_state: PyTree,
    ) -> Array:
        known = dict(zip(state_vars, jax.tree.leaves(new_state), strict=True))
        inputs = jax.tree.leaves((params, state, x))
        leaves = _evaluate(jaxpr, closed.consts, inputs, known, y_vars)
        return jax.tree.unflatten(y_tree, leaves)

    state_sources = [_source(jaxpr, var) for var in state_vars]
    y_source = _source(jaxpr, y_vars[0])
    hidden = state_sources.index(y_source) if y_source in state_sources else None
    return Parts(advance, output, hidden)


def _evaluate(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    known: dict[Any, Any],
    wanted: Sequence[Any],
) -> list[Any]:
    """The variables ``wanted`` of ``jaxpr``, with the values of those in ``known`` not computed."""
    # A state that a step passes on unchanged is an input of the program. It keeps the input's
    # value, or everything that reads the old state would read the new one.
    fixed = {*jaxpr.invars, *jaxpr.constvars}
    replaced = {}
    for var, value in known.items():
        is_computed = not isinstance(var, core.Literal) and var not in fixed
        if is_computed:
            replaced[var] = value
    input_vars = [*jaxpr.constvars, *jaxpr.invars]
    values = dict(zip(input_vars, [*consts, *inputs], strict=True)) | replaced

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in _needed(jaxpr, wanted, replaced):
        arguments = [read(atom) for atom in equation.invars]
        results = _apply(equation, arguments, replaced)
        for var, value in zip(equation.outvars, results, strict=True):
            if var not in replaced:
                values[var] = value
    return [read(atom) for atom in wanted]


def _needed(
    jaxpr: Any,
    wanted: Sequence[Any],
    known: dict[Any, Any],
) -> list[Any]:
    """The equations, in order, from which ``wanted`` is computed where ``known`` is not.

    Without the others F is not computed, and differentiated, a second time inside of Y.
    """
    needed = _variables(wanted) - known.keys()
    equations = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            equations.append(equation)
            needed |= _variables(equation.invars) - known.keys()
    equations.reverse()
    return equations


def _variables(atoms: Iterable[Any]) -> set[Any]:
    return {atom for atom in atoms if not isinstance(atom, core.Literal)}


def _apply(
    equation: Any,
    arguments: list[Any],
    known: dict[Any, Any],
) -> Sequence[Any]:
    """The outputs of one equation, with the values in ``known`` also used inside of a call."""
    inner = _body(equation)
    if inner is None:
        bind_params = equation.primitive.get_bind_params(equation.params)
        results = equation.primitive.bind(*arguments, **bind_params)
        return results if equation.primitive.multiple_results else [results]
    known_inside = {}
    pairs = zip(inner.jaxpr.outvars, equation.outvars, strict=True)
    for inner_var, outer_var in pairs:
        if outer_var in known:
            known_inside[inner_var] = known[outer_var]
    return _evaluate(inner.jaxpr, inner.consts, arguments, known_inside, inner.jaxpr.outvars)


def _source(jaxpr: Any, var: Any) -> Any:
    """The variable in which ``var`` was computed, also inside of calls."""
    for equation in jaxpr.eqns:
        if var not in equation.outvars:
            continue
        inner = _body(equation)
        if inner is not None:
            index = equation.outvars.index(var)
            return _source(inner.jaxpr, inner.jaxpr.outvars[index])
    return var


def _body(equation: Any) -> Any:
    """The closed program that ``equation`` calls; None where it is not a plain call."""
    if equation.primitive.name not in CALLS:
        return None
    body = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return body if isinstance(body, core.ClosedJaxpr) else core.ClosedJaxpr(body, ())
