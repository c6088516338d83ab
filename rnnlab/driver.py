"""The one driver: a cell over a sequence, in any engine."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.cells.base import widest
from rnnlab.cells.contract import stands_in
from rnnlab.engines.choose import run_engine, wanted
from rnnlab.engines.sequence import Engine, Marks, Sequence, before, select
from rnnlab.engines.shards import on_shards, vary_together
from rnnlab.typing import Array, Cell, Dtype, Key, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("lengths", "mask", "resets", "key"),
    meta_fields=("reverse", "engine", "every"),
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a sequence is run. Arrays are traced; the last three are fixed while tracing.

    Attributes:
        lengths: ``[...]``, whole numbers in 0..T.
        mask: ``[T, ...]``, False where a step is left out.
        resets: ``[T, ...]``, True where the state starts afresh.
        key: turns dropout on.
        reverse: from the last step to the first.
        engine: which engine is asked for.
        every: whether the state after every step is wanted, or the final one.
    """

    lengths: Array | None = None
    mask: Array | None = None
    resets: Array | None = None
    key: Key | None = None
    reverse: bool = False
    engine: Engine = Engine("auto")
    every: bool = False

    def replace(self, **changes: Any) -> "RunOptions":
        """The same with some fields changed."""
        return dataclasses.replace(self, **changes)


PLAIN = RunOptions()
"""A sequence from its first to its last step, and nothing out of the ordinary."""

RunCell = Callable[[Cell, PyTree, Array, PyTree, RunOptions], tuple[PyTree, Array]]
"""``run(cell, params, xs, state, options) -> (state, ys)``, as :func:`run` does."""


@runtime_checkable
class Composite(Protocol):
    """A cell made of cells. Engines, instruments and explanations follow it into each of them.

    It has ``init``, ``initial_state`` and ``step``, as every cell, and two things more.
    """

    @property
    def cells(self) -> tuple[Any, ...]:
        """The cells that it is made of."""
        ...

    def run_cells(
        self, params: Any, xs: Array, state: Any, options: RunOptions, run: RunCell
    ) -> tuple[Any, Array]:
        """A whole sequence, each cell by a call of ``run``; the final state, or every state, and ys.

        ``run`` may be the driver or an instrument that records or explains, so this method is called
        more than once and must do the same each time. What it does between the cells works on each
        step and example by itself: it may mix features, but not steps.
        """
        ...


def is_composite(cell: Any) -> bool:
    """Whether ``cell`` says itself how its cells run; not where a subclass overrides only its ``step``."""
    return isinstance(cell, Composite) and stands_in(cell, ("run_cells",), ("step",))


def unroll(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    time_major: bool = True,
    engine: str = "auto",
    residuals: str | None = None,
    segments: int | tuple[int, ...] | None = None,
    key: Key | None = None,
) -> tuple[PyTree, Array]:
    """Runs ``cell`` over ``xs`` and returns ``(final_state, ys)``.

    sₜ, yₜ = step(params, sₜ₋₁, xₜ) for t = 1 … T.

    Args:
        cell: any cell, stack, bidirectional cell or :class:`rnnlab.Step`.
        params: its parameters, from ``cell.init``.
        xs: inputs, ``[T, ..., I]``, time first; any number of batch axes, also none.
        initial_state: s₀ with leading axes ``[...]``; ``cell.initial_state`` by default.
        lengths: ``[...]``, whole numbers in 0..T: the steps beyond are padding. Their outputs are zero, and the
            final state is the one at each length, which is the initial state where that is 0.
        mask: ``[T, ...]``, booleans or 0 and 1, in any pattern: a step that is False is left out. Its output is
            zero, the state is carried over to the next step, and a reset there does nothing.
        resets: ``[T, ...]``, booleans or 0 and 1: where True the state starts afresh (at ``cell.initial_state``)
            before that step.
        reverse: runs from the last step to the first, outputs staying at their steps: the same as flipping ``xs``
            and ``resets`` in time, running, and flipping ``ys``. With ``lengths`` each valid part is reversed.
        time_major: False for ``xs``, ``mask``, ``resets`` and outputs (and every state) as ``[B, T, ...]``.
        engine: "auto" chooses, and :func:`rnnlab.explain_engine` says what and why. "scan" is plain ``lax.scan``, the
            reference. "fused" has a backward pass of its own, faster and with less memory, for every rnnlab cell.
            "checkpointed" keeps memory of order √T. "cudnn" is NVIDIA's LSTM, on a GPU, which we have not yet run. All
            give the same values and derivatives, in both modes and to any order (cudnn: the gradient alone).
        residuals: what "fused" keeps for the backward pass: "gates" (the default, fastest) or "states", from which
            the gates are computed again, a chunk of steps at a time.
        segments: into how many parts "checkpointed" cuts the sequence; a tuple cuts each part again. None chooses.
        key: turns dropout on, in a stack and in the layers of :mod:`rnnlab.layers` that drop something.

    Returns:
        The final state, leaves ``[..., H]``, and the outputs ``[T, ..., O]``.

    Raises:
        ValueError: where shapes, dtypes, structures, lengths or the engine do not fit; the message says how to fix it.
    """
    asked = wanted(engine, residuals, segments)
    options = RunOptions(
        lengths=lengths, mask=mask, resets=resets, key=key, reverse=reverse, engine=asked
    )
    return _unroll(cell, params, xs, initial_state, options, time_major)


def unroll_states(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    time_major: bool = True,
    engine: str = "auto",
    residuals: str | None = None,
    segments: int | tuple[int, ...] | None = None,
    key: Key | None = None,
) -> tuple[PyTree, Array]:
    """As :func:`unroll`, but returns ``(states, ys)`` with the state after every step, leaves ``[T, ..., H]``.

    In the padding beyond an example's length the state rests: it is the final one, or with ``reverse`` the initial one.
    """
    asked = wanted(engine, residuals, segments)
    options = RunOptions(
        lengths=lengths,
        mask=mask,
        resets=resets,
        key=key,
        reverse=reverse,
        engine=asked,
        every=True,
    )
    return _unroll(cell, params, xs, initial_state, options, time_major)


def _unroll(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None,
    options: RunOptions,
    time_major: bool,
) -> tuple[PyTree, Array]:
    _check.flag("time_major", time_major)
    if time_major:
        return _compiled(cell, params, *prepare(cell, params, xs, initial_state, options))
    options = options.replace(
        mask=None if options.mask is None else _time_first("mask", options.mask),
        resets=None if options.resets is None else _time_first("resets", options.resets),
    )
    xs = _time_first("xs", xs)
    state, ys = _compiled(cell, params, *prepare(cell, params, xs, initial_state, options))
    if options.every:
        state = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), state)
    return state, jnp.swapaxes(ys, 0, 1)


def _time_first(name: str, value: Array) -> Array:
    """``[B, T, ...]`` as ``[T, B, ...]``."""
    value = _check.array(name, value)
    if value.ndim < 2 + (name == "xs"):
        raise ValueError(
            f"{name} has shape {value.shape}; with time_major=False it must be [B, T, ...], one batch axis first"
        )
    return jnp.swapaxes(value, 0, 1)


def run(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions
) -> tuple[PyTree, Array]:
    """The driver without its checks: for layers, which are run one by one, and for code that is traced already."""
    composite: Any = cell
    if is_composite(composite):
        xs = without_padding(xs, options)
        state, ys = composite.run_cells(params, xs, state, options, run)
        return state, without_padding(ys, options)

    def run_shard(
        params: PyTree, xs: Array, state: PyTree, lengths: Array | None, timed: tuple
    ) -> tuple[PyTree, Array]:
        mask, resets = timed
        own = options.replace(lengths=lengths, mask=mask, resets=resets)
        xs, marks = arrange(xs, own)
        params, xs, state, marks = vary_together((params, xs, state, marks))
        needs = None
        if marks.valid is not None:
            needs = "a mask needs" if lengths is None else "lengths need"
        state = settle(cell, params, xs[0], state, needs)
        masked = mask is not None
        sequence = Sequence(xs, state, marks, options.reverse, options.every, masked)
        return run_engine(cell, params, sequence, options.engine)

    timed = options.mask, options.resets
    return on_shards(run_shard, params, xs, state, options.lengths, timed, options.every)


_compiled = jax.jit(run, static_argnames="cell")


def arrange(xs: Array, options: RunOptions) -> tuple[Array, Marks]:
    """Inputs and marks as an engine wants them.

    Steps that do not count are zeroed, so that a NaN in the padding reaches no value and no gradient.
    """
    return without_padding(xs, options), Marks(valid_steps(options, xs.shape[0]), options.resets)


def without_padding(xs: Array, options: RunOptions) -> Array:
    """``xs [T, ..., F]`` with zeros at the steps that do not count."""
    valid = valid_steps(options, xs.shape[0])
    return xs if valid is None else select(valid, xs, jnp.zeros_like(xs))


def valid_steps(options: RunOptions, steps: int) -> Array | None:
    """Whether each step counts, ``[T, ...]``; None where all do."""
    if options.lengths is None:
        return options.mask
    valid = within(options.lengths, steps)
    return valid if options.mask is None else valid & options.mask


class Trajectory(NamedTuple):
    """A run of which every state is known."""

    xs: Array  # [T, ..., I], zero in the padding
    start: PyTree  # the state before the first step, in the dtype in which the step returns it
    olds: PyTree  # sₜ₋₁, the state before each step, [T, ...]
    states: PyTree  # sₜ, the state after each step, [T, ...]
    ys: Array  # [T, ..., O]
    marks: Marks
    reverse: bool


def trajectory(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions = PLAIN
) -> Trajectory:
    """A run with every state; for code that is traced already, from checked inputs."""
    xs, marks = arrange(xs, options)
    start = settle(cell, params, xs[0], state)
    states, ys = run(cell, params, xs, start, options.replace(every=True))
    olds = before(start, states, options.reverse)
    return Trajectory(xs, start, olds, states, ys, marks, options.reverse)


def within(lengths: Array, steps: int) -> Array:
    """Whether each of so many steps lies within its example's length, ``[T, ...]``."""
    return jnp.arange(steps).reshape(-1, *(1,) * lengths.ndim) < lengths[None]


def settle(
    cell: Cell,
    params: PyTree,
    x: Array | jax.ShapeDtypeStruct,
    state: PyTree,
    output_for: str | None = None,
) -> PyTree:
    """``state`` in the dtype in which the step returns it.

    ValueError for a step that changes the state's form and, where ``output_for`` says what needs it
    ("lengths need"), for one whose output is not one array with the batch axes.
    """
    after, y = _after(cell, params, x, state)
    if output_for is not None:
        _check.one_output(y, x.shape[:-1], 0, output_for)
    state = jax.tree.map(lambda s, n: _widen(s, n.dtype), state, after)
    after, _ = _after(cell, params, x, state)
    for old, new in zip(jax.tree.leaves(_check.shapes(state)), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                f"the step turns a state of {old.dtype}{list(old.shape)} into {new.dtype}{list(new.shape)}; "
                "it must return a state of the shape and dtype that it is given"
            )
    return state


def _after(
    cell: Cell, params: PyTree, x: Array | jax.ShapeDtypeStruct, state: PyTree
) -> tuple[PyTree, PyTree]:
    """The form of the state and of the output after a step."""
    # What a dtype becomes is found by promotion, also where JAX is told not to promote: the state is
    # then cast before the first step, and nothing is left to promote.
    with jax.numpy_dtype_promotion("standard"):
        after = jax.eval_shape(cell.step, params, state, x)
    if not isinstance(after, tuple) or len(after) != 2:
        raise ValueError(
            f"the step returns {_check.outline(after)}; it must return a pair, (state, y)"
        )
    if jax.tree.structure(after[0]) != jax.tree.structure(state):
        raise ValueError(
            f"the step turns a state of {_check.outline(state)} into {_check.outline(after[0])}; "
            "it must return a state of the structure that it is given"
        )
    return after


def _widen(leaf: Array, dtype: Dtype) -> Array:
    floats = jnp.issubdtype(leaf.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating)
    return leaf.astype(widest(leaf.dtype, dtype)) if floats else leaf


def prepare(
    cell: Cell, params: PyTree, xs: Array, state: PyTree | None, options: RunOptions = PLAIN
) -> tuple[Array, PyTree, RunOptions]:
    """Checked ``(xs, initial state, options)``; ValueError before anything is compiled."""
    _check.hashable(cell)
    if options.key is not None:
        _check.key("key", options.key)
    _check.flag("reverse", options.reverse)
    xs = _check.array("xs", xs)
    _check.sequence(xs)
    check_params(cell, params, xs.shape[-1])
    lengths, resets = options.lengths, options.resets
    batch_shape = xs.shape[1:-1]
    mask = options.mask
    if lengths is not None:
        lengths = _check.lengths(lengths, xs.shape[0], batch_shape)
    if mask is not None:
        mask = _check.flags("mask", mask, xs.shape[:-1])
    if resets is not None:
        resets = _check.flags("resets", resets, xs.shape[:-1])
        if lengths is not None:
            # A reset in the padding would reach a valid step of the other direction.
            resets = resets & within(lengths, xs.shape[0])
    default = cell.initial_state(batch_shape)
    if lengths is not None or mask is not None or resets is not None:
        _check.batched("the state", default, batch_shape)
    if state is None:
        state = default
    else:
        advice = f"start from cell.initial_state({batch_shape})"
        _check.same_tree("initial_state", state, _check.shapes(default), advice)
        state = jax.tree.map(lambda s, d: _widen(jnp.asarray(s), d.dtype), state, default)
    return xs, state, options.replace(lengths=lengths, mask=mask, resets=resets)


def check_params(cell: Cell, params: PyTree, input_size: int) -> None:
    """ValueError unless ``params`` are the cell's own for ``input_size`` features; of foreign cells, any arrays."""
    wanted = _params_shapes(cell, input_size)
    if wanted is None:
        _check.arrays("params", params)
        return
    made_for = _made_for(params, wanted, _params_shapes(cell, input_size + 1))
    if made_for not in (None, input_size):
        raise ValueError(
            f"xs has {input_size} features, but params were made for {made_for}; "
            f"call cell.init(key, input_size={input_size})"
        )
    _check.same_tree(
        "params", params, wanted, f"make them with cell.init(key, input_size={input_size})"
    )


@functools.lru_cache(maxsize=256)
def _params_shapes(cell: Cell, input_size: int) -> PyTree | None:
    """The shapes that ``cell.init`` makes; None for a foreign cell."""
    try:
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    except _check.ForeignCellError:
        return None


def _made_for(params: PyTree, wanted: PyTree, with_one_more: PyTree) -> int | None:
    """How many input features ``params`` were made for; None where their form does not show it.

    Args:
        params: parameters of the cell.
        wanted: the shapes that are needed.
        with_one_more: the shapes that one more input feature would need: axes that differ count features.
    """
    if jax.tree.structure(params) != jax.tree.structure(wanted):
        return None
    trees = params, wanted, with_one_more
    for given, need, longer in zip(*map(jax.tree.leaves, trees), strict=True):
        if len(np.shape(given)) != len(need.shape):
            continue
        for axis, size in enumerate(np.shape(given)):
            if longer.shape[axis] == need.shape[axis] + 1:
                return size
    return None
