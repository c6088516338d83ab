"""The driver: a cell over a sequence, in any engine."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.cells.base import widest, within
from rnnlab.cells.contract import stands_in
from rnnlab.engines.choose import parse_engine, run_engine
from rnnlab.engines.sequence import EngineChoice, EngineInput, Marks, before, select
from rnnlab.engines.shards import on_shards, vary_together
from rnnlab.typing import Array, Cell, Dtype, Key, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("lengths", "mask", "resets", "reset_state", "key"),
    meta_fields=("reverse", "engine", "every"),
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run. Arrays are traced; the last three are fixed while tracing.

    Attributes:
        lengths: ``[...]``, whole numbers in 0..T.
        mask: ``[T, ...]``, False where a step is left out.
        resets: ``[T, ...]``, True where the state is reset before the step.
        reset_state: the state after a reset; None for the cell's ``initial_state``. It is that of
            the whole composite, see :meth:`for_part`.
        key: enables dropout.
        reverse: runs from the last step to the first.
        engine: the engine that is asked for.
        every: returns the state after every step in place of the final one.
    """

    lengths: Array | None = None
    mask: Array | None = None
    resets: Array | None = None
    reset_state: PyTree = None
    key: Key | None = None
    reverse: bool = False
    engine: EngineChoice = EngineChoice("auto")
    every: bool = False

    def replace(self, **changes: Any) -> "RunOptions":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def for_part(self, part: Callable[[PyTree], PyTree]) -> "RunOptions":
        """The options for a cell inside of a composite, whose state is ``part(state)``."""
        if self.reset_state is None:
            return self
        return self.replace(reset_state=part(self.reset_state))


PLAIN = RunOptions()
"""A run from the first to the last step, without marks and dropout."""

RunCell = Callable[[Cell, PyTree, Array, PyTree, RunOptions], tuple[PyTree, Array]]
"""``run(cell, params, xs, state, options) -> (state, ys)``, as :func:`run` does."""


@runtime_checkable
class Composite(Protocol):
    """A cell made of cells. Engines, instruments and explanations follow it into each of them.

    It has ``init``, ``initial_state`` and ``step``, as every cell, and the two members below.
    """

    @property
    def cells(self) -> tuple[Any, ...]:
        """The cells that it consists of."""
        ...

    def run_cells(
        self, params: Any, xs: Array, state: Any, options: RunOptions, run: RunCell
    ) -> tuple[Any, Array]:
        """Runs a whole sequence, each cell by a call of ``run``.

        ``run`` may be the driver or an instrument that records or explains, so this method is
        called more than once and must do the same each time. What it computes between the cells
        must treat each step and example separately: it may mix features, but not steps. A cell
        whose state is only a part of ``state`` is run with ``options.for_part(...)``.

        Returns:
            The final state, or every state where ``options`` ask for it, and the outputs.
        """
        ...


def is_composite(cell: Any) -> bool:
    """Whether ``cell`` runs its cells itself; not where a subclass overrides only its ``step``."""
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
    reset_state: PyTree | None = None,
    reverse: bool = False,
    time_major: bool = True,
    engine: str = "auto",
    residuals: str | None = None,
    segments: int | tuple[int, ...] | None = None,
    key: Key | None = None,
) -> tuple[PyTree, Array]:
    """Runs ``cell`` over ``xs`` and returns ``(final_state, ys)``.

    sₜ, yₜ = step(params, sₜ₋₁, xₜ) for t = 1 … T.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> final_state, ys = rnnlab.unroll(cell, params, jax.numpy.ones((20, 4, 3)))
    >>> ys.shape
    (20, 4, 8)

    Args:
        cell: any cell, stack, bidirectional cell or :class:`rnnlab.Step`.
        params: its parameters, from ``cell.init``.
        xs: inputs, ``[T, ..., I]``, time first; any number of batch axes, also none.
        initial_state: s₀ with leading axes ``[...]``; ``cell.initial_state`` by default.
        lengths: ``[...]``, whole numbers in 0..T: the steps beyond are padding. Their outputs are
            zero, and the final state is the one at each length, which is the initial state where
            that is 0.
        mask: ``[T, ...]``, booleans or 0 and 1, in any pattern: a step that is False is left out.
            Its output is zero, the state is carried over to the next step, and a reset there does
            nothing.
        resets: ``[T, ...]``, booleans or 0 and 1: where True the state is reset to
            ``reset_state`` before that step.
        reset_state: the state after a reset, shaped like ``initial_state``; differentiable, so that
            it can be learned. ``cell.initial_state`` by default.
        reverse: runs from the last step to the first, with outputs at the steps of their inputs:
            the same as flipping ``xs`` and ``resets`` in time, running, and flipping ``ys``. With
            ``lengths`` each valid part is reversed.
        time_major: False for ``xs``, ``mask``, ``resets`` and outputs (and every state) as
            ``[B, T, ...]``.
        engine: "auto" chooses, and :func:`rnnlab.explain_engine` says which and why. "scan" is
            plain ``lax.scan``, the reference. "fused" has a custom backward pass, which is faster
            and needs less memory, for cells that split their step. "native" runs RNN, LeakyRNN,
            LSTM and GRU in compiled C++ on a CPU, where it was built at installation; it takes
            about half the time. "checkpointed" keeps memory of order √T. "cudnn" is NVIDIA's LSTM,
            on a GPU; its kernel has not been run yet. All give the same values. All but "cudnn"
            give the same derivatives, in forward and reverse mode, to any order; "cudnn" gives
            first-order gradients in reverse mode only.
        residuals: what "fused" and "native" keep for the backward pass: "gates" (the default,
            fastest) or "states", from which the gates are recomputed.
        segments: into how many parts "checkpointed" cuts the sequence; a tuple cuts each part
            again. None chooses.
        key: enables dropout, in a stack and in the dropout layers of :mod:`rnnlab.layers`.

    Returns:
        The final state, leaves ``[..., H]``, and the outputs ``[T, ..., O]``.

    Raises:
        ValueError: where shapes, dtypes, structures, lengths or the engine do not fit; the message
            says how to fix it.
    """
    asked = parse_engine(engine, residuals, segments)
    options = RunOptions(
        lengths=lengths,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        key=key,
        reverse=reverse,
        engine=asked,
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
    reset_state: PyTree | None = None,
    reverse: bool = False,
    time_major: bool = True,
    engine: str = "auto",
    residuals: str | None = None,
    segments: int | tuple[int, ...] | None = None,
    key: Key | None = None,
) -> tuple[PyTree, Array]:
    """As :func:`unroll`, but returns ``(states, ys)`` with the state after every step.

    The leaves of ``states`` are ``[T, ..., H]``. In the padding beyond an example's length the
    state does not change: it is the final one, or with ``reverse`` the initial one.

    >>> import jax, rnnlab
    >>> cell = rnnlab.LSTM(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> states, ys = rnnlab.unroll_states(cell, params, jax.numpy.ones((20, 4, 3)))
    >>> states.c.shape
    (20, 4, 8)
    """
    asked = parse_engine(engine, residuals, segments)
    options = RunOptions(
        lengths=lengths,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
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
    mask, resets = options.mask, options.resets
    if mask is not None:
        mask = _time_first("mask", mask)
    if resets is not None:
        resets = _time_first("resets", resets)
    options = options.replace(mask=mask, resets=resets)
    xs = _time_first("xs", xs)
    state, ys = _compiled(cell, params, *prepare(cell, params, xs, initial_state, options))
    if options.every:
        state = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), state)
    return state, jnp.swapaxes(ys, 0, 1)


def _time_first(name: str, value: Array) -> Array:
    """``[B, T, ...]`` as ``[T, B, ...]``."""
    value = _check.array(name, value)
    least_axes = 3 if name == "xs" else 2
    if value.ndim < least_axes:
        raise ValueError(
            f"{name} has shape {value.shape}; with time_major=False it must be [B, T, ...], one "
            "batch axis first"
        )
    return jnp.swapaxes(value, 0, 1)


def run(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions
) -> tuple[PyTree, Array]:
    """The driver without its checks: for cells inside of layers, and for traced code."""
    composite: Any = cell
    if is_composite(composite):
        # Zeros before and after, since a composite may compute on the padding between its cells.
        xs = without_padding(xs, options)
        state, ys = composite.run_cells(params, xs, state, options, run)
        return state, without_padding(ys, options)

    def run_shard(
        params: PyTree, xs: Array, states: tuple, lengths: Array | None, timed: tuple
    ) -> tuple[PyTree, Array]:
        # On a mesh these are the shard's part of the options, not all of them.
        state, reset_state = states
        mask, resets = timed
        own = options.replace(
            lengths=lengths, mask=mask, resets=resets, reset_state=reset_state, key=None
        )
        params, xs, state, own = vary_together((params, xs, state, own))
        return run_engine(cell, params, engine_input(cell, params, xs, state, own), own.engine)

    states = state, options.reset_state
    timed = options.mask, options.resets
    return on_shards(run_shard, params, xs, states, options.lengths, timed, options.every)


_compiled = jax.jit(run, static_argnames="cell")


def engine_input(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions
) -> EngineInput:
    """What an engine runs, from checked inputs and options."""
    valid = valid_steps(options, xs.shape[0])
    # Zeros in the padding, so that a NaN there reaches no value and no gradient: a gradient through
    # ``where`` alone would be 0 · NaN = NaN.
    xs = without_padding(xs, options)
    output_for = None
    if valid is not None:
        output_for = "a mask needs" if options.lengths is None else "lengths need"
    state = settle(cell, params, xs[0], state, output_for)
    return EngineInput(
        xs=xs,
        state=state,
        marks=Marks(valid, options.resets),
        reverse=options.reverse,
        every=options.every,
        masked=options.mask is not None,
        reset_state=after_reset(cell, state, xs.shape[1:-1], options),
    )


def after_reset(
    cell: Cell, state: PyTree, batch: tuple[int, ...], options: RunOptions
) -> PyTree | None:
    """The state after a reset, in the dtypes of ``state``; None where nothing is reset."""
    if options.resets is None:
        return None
    reset_state = options.reset_state
    if reset_state is None:
        reset_state = cell.initial_state(batch)
    if jax.tree.structure(reset_state) != jax.tree.structure(state):
        raise ValueError(
            f"reset_state is {_check.outline(reset_state)}, but the state is "
            f"{_check.outline(state)}; a composite must pass each cell its own part: use "
            "options.for_part"
        )
    # A loop must carry one dtype, and a step may have widened that of the initial state.
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), reset_state, state)


def without_padding(xs: Array, options: RunOptions) -> Array:
    """``xs [T, ..., F]`` with zeros at the steps that do not count."""
    valid = valid_steps(options, xs.shape[0])
    if valid is None:
        return xs
    return select(valid, xs, jnp.zeros_like(xs))


def valid_steps(options: RunOptions, steps: int) -> Array | None:
    """Whether each step counts, ``[T, ...]``; None where all do."""
    if options.lengths is None:
        return options.mask
    valid = within(options.lengths, steps)
    return valid if options.mask is None else valid & options.mask


class Trajectory(NamedTuple):
    """A run with every state.

    Attributes:
        xs: ``[T, ..., I]``, zero in the padding.
        start: the state before the first step, in the dtype in which the step returns it.
        olds: sₜ₋₁, the state before each step, ``[T, ...]``.
        states: sₜ, the state after each step, ``[T, ...]``.
        ys: ``[T, ..., O]``.
        marks: which steps count, and where the state is reset.
        reverse: whether it ran from the last step to the first.
        reset_state: the state after a reset; None where nothing is reset.
    """

    xs: Array
    start: PyTree
    olds: PyTree
    states: PyTree
    ys: Array
    marks: Marks
    reverse: bool
    reset_state: PyTree | None


def trajectory(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions = PLAIN
) -> Trajectory:
    """A run with every state; for traced code, from checked inputs."""
    inputs = engine_input(cell, params, xs, state, options)
    start = inputs.state
    states, ys = run(cell, params, inputs.xs, start, options.replace(every=True))
    return Trajectory(
        xs=inputs.xs,
        start=start,
        olds=before(start, states, options.reverse),
        states=states,
        ys=ys,
        marks=inputs.marks,
        reverse=options.reverse,
        reset_state=inputs.reset_state,
    )


def settle(
    cell: Cell,
    params: PyTree,
    x: Array | jax.ShapeDtypeStruct,
    state: PyTree,
    output_for: str | None = None,
) -> PyTree:
    """``state`` in the dtype in which the step returns it.

    ValueError for a step that changes the state's shapes or dtypes and, where ``output_for`` says
    what needs it ("lengths need"), for one whose output is not one array with the batch axes.
    """
    after, y = _after(cell, params, x, state)
    if output_for is not None:
        _check.one_output(y, x.shape[:-1], 0, output_for)
    state = jax.tree.map(lambda leaf, like: _widen(leaf, like.dtype), state, after)
    # Widened once, the state must be stable: a loop carries one dtype from step to step.
    after, _ = _after(cell, params, x, state)
    olds = jax.tree.leaves(_check.shapes(state))
    for old, new in zip(olds, jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                f"the step turns a state of {old.dtype}{list(old.shape)} into "
                f"{new.dtype}{list(new.shape)}; "
                "it must keep the shape and dtype of the state"
            )
    return state


def _after(
    cell: Cell, params: PyTree, x: Array | jax.ShapeDtypeStruct, state: PyTree
) -> tuple[PyTree, PyTree]:
    """The shapes and dtypes of the state and of the output after a step."""
    # The dtype follows from promotion, also where JAX is configured not to promote: the state is
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
            "it must keep the structure of the state"
        )
    return after


def _widen(leaf: Array, dtype: Dtype) -> Array:
    # Counters and flags in a state keep their dtype.
    for kind in (leaf.dtype, dtype):
        if not jnp.issubdtype(kind, jnp.floating):
            return leaf
    return leaf.astype(widest(leaf.dtype, dtype))


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
    batch_shape = xs.shape[1:-1]
    options = _checked_marks(options, xs)
    default = cell.initial_state(batch_shape)
    if options.lengths is not None or options.mask is not None or options.resets is not None:
        _check.batched("the state", default, batch_shape)
    advice = f"start from cell.initial_state({batch_shape})"
    if state is None:
        state = default
    else:
        state = _checked_state("initial_state", state, default, advice)
    if options.reset_state is not None:
        like = f"give one like cell.initial_state({batch_shape})"
        reset_state = _checked_state("reset_state", options.reset_state, state, like)
        # A loop carries one dtype, the wider of the two.
        state = jax.tree.map(lambda leaf, like: _widen(leaf, like.dtype), state, reset_state)
        options = options.replace(reset_state=reset_state)
    return xs, state, options


def _checked_state(name: str, state: PyTree, default: PyTree, advice: str) -> PyTree:
    """A state that the user gives, as arrays of at least the precision of the default."""
    _check.same_tree(name, state, _check.shapes(default), advice)
    return jax.tree.map(lambda leaf, d: _widen(jnp.asarray(leaf), d.dtype), state, default)


def _checked_marks(options: RunOptions, xs: Array) -> RunOptions:
    lengths, mask, resets = options.lengths, options.mask, options.resets
    if options.reset_state is not None and resets is None:
        raise ValueError("reset_state is given without resets; pass resets=[T, ...] too")
    steps = xs.shape[0]
    if lengths is not None:
        lengths = _check.lengths(lengths, steps, xs.shape[1:-1])
    if mask is not None:
        mask = _check.flags("mask", mask, xs.shape[:-1])
    if resets is not None:
        resets = _check.flags("resets", resets, xs.shape[:-1])
        if lengths is not None:
            # A reset in the padding would reach a valid step of the other direction.
            resets = resets & within(lengths, steps)
    return options.replace(lengths=lengths, mask=mask, resets=resets)


def check_params(
    cell: Cell, params: PyTree, input_size: int, given: str = "xs has {} features"
) -> None:
    """ValueError unless ``params`` are those of the cell for ``input_size`` features.

    The parameters of a foreign cell may be any arrays. ``given`` says where the size is from.
    """
    needed = _params_shapes(cell, input_size)
    if needed is None:
        _check.arrays("params", params)
        return
    made_for = _made_for(cell, params, needed, input_size)
    if made_for not in (None, input_size):
        raise ValueError(
            f"{given.format(input_size)}, but params were made for {made_for}; "
            f"call cell.init(key, input_size={input_size})"
        )
    advice = f"make them with cell.init(key, input_size={input_size})"
    _check.same_tree("params", params, needed, advice)


# Tracing init takes milliseconds, and every call of unroll asks for these shapes.
@functools.lru_cache(maxsize=256)
def _params_shapes(cell: Cell, input_size: int) -> PyTree | None:
    """The shapes of the parameters from ``cell.init``; None for a foreign cell."""
    try:
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    except _check.ForeignCellError:
        return None


def _made_for(cell: Cell, params: PyTree, needed: PyTree, input_size: int) -> int | None:
    """For how many input features ``params`` were initialised; None where shapes do not show it.

    Args:
        cell: the cell.
        params: parameters of the cell.
        needed: the shapes that are needed for ``input_size`` features.
        input_size: I.
    """
    if jax.tree.structure(params) != jax.tree.structure(needed):
        return None
    # Axes that differ for one more feature are those that count features.
    try:
        with_one_more = _params_shapes(cell, input_size + 1)
    except ValueError:
        # A cell may take only some sizes, such as multiples of the pixels of an image.
        return None
    leaves = map(jax.tree.leaves, (params, needed, with_one_more))
    for leaf, need, longer in zip(*leaves, strict=True):
        shape = np.shape(leaf)
        if len(shape) != len(need.shape):
            continue
        for axis, size in enumerate(shape):
            if longer.shape[axis] == need.shape[axis] + 1:
                return size
    return None
