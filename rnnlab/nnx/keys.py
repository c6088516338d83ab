"""Random keys of the modules: where they come from, and whether a cell uses one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from rnnlab import _check
from rnnlab.driver import RunOptions, is_composite, run
from rnnlab.typing import Array, Cell, Key, PyTree

Rngs = nnx.Rngs | nnx.RngStream | None


def params_key(rngs: Any) -> Key:
    """A key for initial parameters; ValueError without a source of keys."""
    if isinstance(rngs, nnx.Rngs):
        return rngs.params()
    if isinstance(rngs, nnx.RngStream):
        return rngs()
    raise ValueError(
        f"rngs is {_check.brief(rngs)}, but parameters must be drawn; give rngs=nnx.Rngs(0), or "
        "the parameters themselves as params"
    )


def stream(rngs: Any, name: str) -> nnx.RngStream | None:
    """A stream of its own for a module, as Flax's modules take it; None without a source."""
    if isinstance(rngs, nnx.Rngs):
        return rngs[name].fork()
    if isinstance(rngs, nnx.RngStream):
        return rngs.fork()
    if rngs is None or isinstance(rngs, bool):
        return None
    raise ValueError(f"rngs is {_check.brief(rngs)}; give nnx.Rngs(0) or a stream of it")


def source_of(rngs: Any) -> Any:
    """What a call is given, as a source of several keys: each layer needs one of its own."""
    return nnx.RngStream(rngs, tag="dropout") if isinstance(rngs, jax.Array) else rngs


def dropout_key(own: Rngs, given: Any) -> Key:
    """The next key for dropout: of what a call is given, else of the module's own stream."""
    source = own if given is None else given
    if isinstance(source, nnx.Rngs):
        return source.dropout()
    if isinstance(source, nnx.RngStream):
        return source()
    if source is None:
        raise ValueError(
            "there is dropout, but no source of random numbers; give rngs=nnx.Rngs(0) to the "
            "module or to the call, or deterministic=True"
        )
    _check.key("rngs", source)
    return source


def has_dropout(cell: Cell, params: PyTree, in_features: int) -> bool:
    """Whether the outputs of ``cell`` depend on a key.

    A module without dropout must not draw keys: that would change its state at every call.
    """
    if not is_composite(cell):
        return False

    def outputs(key: Key, params: PyTree, xs: Array, state: PyTree) -> Any:
        return run(cell, params, xs, state, RunOptions(key=key))

    # Two examples, since batch normalisation refuses one.
    xs = jax.ShapeDtypeStruct((1, 2, in_features), jnp.float32)
    state = jax.eval_shape(lambda: cell.initial_state((2,)))
    key = jax.eval_shape(lambda: jax.random.key(0))
    # A run splits the key for its cells in any case, so its presence alone says nothing.
    program = jax.make_jaxpr(outputs)(key, params, xs, state).jaxpr
    random = {program.invars[0]}

    def is_random(var: Any) -> bool:
        return not isinstance(var, core.Literal) and var in random

    for equation in program.eqns:
        if any(map(is_random, equation.invars)):
            random.update(equation.outvars)
    return any(map(is_random, program.outvars))
