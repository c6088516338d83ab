"""Tells the two halves of a step apart: how the state advances, and how the output is read off the new state."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnnlab.typing import Array, PyTree


class Parts(NamedTuple):
    """F and Y of a step, and which leaf of the state the output *is* (None where it is none of them)."""

    state: Callable[..., PyTree]  # F(params, state, x) -> new state
    output: Callable[..., Array]  # Y(params, state, x, new state) -> y
    hidden: int | None


def split(
    step: Callable[..., tuple[PyTree, Array]], params: PyTree, state: PyTree, x: Array
) -> Parts:
    """F and Y with sₜ = F(θ, sₜ₋₁, xₜ) and yₜ = Y(θ, sₜ₋₁, xₜ, sₜ).

    A step returns both at once, and what its output owes to the *new* state is not to be seen from outside. The traced
    program shows it: Y is the same program with the values of the new state given instead of computed. So ∂Y/∂sₜ is
    right whether a step returns h itself, a readout of h, or something else, and for foreign steps as for own ones.
    """
    closed, shapes = jax.make_jaxpr(step, return_shape=True)(params, state, x)
    jaxpr = closed.jaxpr
    count = len(jax.tree.leaves(shapes[0]))
    y_tree = jax.tree.structure(shapes[1])

    def output(params: PyTree, state: PyTree, x: Array, new_state: PyTree) -> Array:
        given = dict(zip(jaxpr.outvars[:count], jax.tree.leaves(new_state), strict=True))
        inputs = jax.tree.leaves((params, state, x))
        return jax.tree.unflatten(
            y_tree, _evaluate(jaxpr, closed.consts, inputs, given, jaxpr.outvars[count:])
        )

    sources = [_source(jaxpr, var) for var in jaxpr.outvars]
    hidden = sources.index(sources[count]) if sources[count] in sources[:count] else None
    return Parts(lambda *inputs: step(*inputs)[0], output, hidden)


def _evaluate(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    given: dict[Any, Any],
    wanted: Sequence[Any],
) -> list[Any]:
    """The variables ``wanted`` of ``jaxpr``, with the variables in ``given`` taken as given instead of computed."""
    fixed = {*jaxpr.invars, *jaxpr.constvars}
    given = {
        var: value
        for var, value in given.items()
        if not isinstance(var, core.Literal) and var not in fixed
    }
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True)) | given

    needed, equations = (
        {var for var in wanted if not isinstance(var, core.Literal)} - given.keys(),
        [],
    )
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            equations.append(equation)
            needed |= {
                var for var in equation.invars if not isinstance(var, core.Literal)
            } - given.keys()

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in reversed(equations):
        arguments = [read(atom) for atom in equation.invars]
        if inner := _body(equation):
            pairs = zip(inner.jaxpr.outvars, equation.outvars, strict=True)
            inside = {theirs: given[ours] for theirs, ours in pairs if ours in given}
            results = _evaluate(inner.jaxpr, inner.consts, arguments, inside, inner.jaxpr.outvars)
        else:
            results = equation.primitive.bind(
                *arguments, **equation.primitive.get_bind_params(equation.params)
            )
            results = results if equation.primitive.multiple_results else [results]
        values |= {
            var: value
            for var, value in zip(equation.outvars, results, strict=True)
            if var not in given
        }
    return [read(atom) for atom in wanted]


def _source(jaxpr: Any, var: Any) -> Any:
    """The variable in which ``var`` was computed, looked for through calls."""
    for equation in jaxpr.eqns:
        if var in equation.outvars and (inner := _body(equation)):
            return _source(inner.jaxpr, inner.jaxpr.outvars[equation.outvars.index(var)])
    return var


def _body(equation: Any) -> Any:
    """The closed program that ``equation`` calls, where it is a plain call."""
    if equation.primitive.name not in (
        "jit",
        "pjit",
        "closed_call",
        "remat",
        "remat2",
        "checkpoint",
    ):
        return None
    body = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return body if isinstance(body, core.ClosedJaxpr) else core.ClosedJaxpr(body, ())
