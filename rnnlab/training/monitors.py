"""A monitor for training: gradient norms by parameter, layer and lag, from the compiled step."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rnnlab import _check
from rnnlab._json import number
from rnnlab._results import result
from rnnlab.gradients.scaled import log_norm, merge
from rnnlab.training import trees
from rnnlab.training.options import Watch
from rnnlab.typing import Array, PyTree

ALL = "all"
"""The name of the group of all parameters."""


class MonitorState(NamedTuple):
    """The state of the monitor: arrays only, with room for the last ``capacity`` records."""

    step: Array  # the index of the coming step
    looks: Array  # records so far
    steps: Array  # of each record, [capacity]
    log_norm: dict[str, Array]  # of each group, [capacity]
    edges: Array | None  # of the buckets of lags, [K + 1]
    log_norm_by_lag: Array | None  # [capacity, L, K]


@result
class GradientLooks(NamedTuple):
    """The last N records of a monitor, oldest first; numpy arrays.

    Norms are Euclidean, logs natural (nats), lags in steps; −inf marks a gradient that is exactly
    zero. Where training was vmapped its axes come first: ``[S, N]`` for S seeds.

    Attributes:
        steps: ``[N]``, the index of each record's step, counted from 0.
        log_norm: ``[N]``, ln‖∂L/∂θ‖ for every group: each parameter, each part of the tree that
            holds some, and "all".
        lags: ``[K + 1]``, the edges of the K buckets: bucket k is lags[k] ≤ lag < lags[k + 1]. None
            without ``lags``.
        log_norm_by_lag: ``[N, L, K]``, the mean over each bucket of the log-norms that ``flow``
            returned (a mean of logs, so the log of a geometric mean), over those that are finite;
            −inf where none is. None without ``lags``.
        finite: ``[N]``, whether the gradient was free of NaN and infinity.
        lost: how many older records the newer ones have overwritten.
    """

    steps: np.ndarray
    log_norm: dict[str, np.ndarray]
    lags: np.ndarray | None
    log_norm_by_lag: np.ndarray | None
    finite: np.ndarray
    lost: int


def monitor_gradients(
    every: int | Callable[[Array], Array] = 10,
    *,
    group: Callable[[str], str | None] | None = None,
    lags: int | Sequence[int] | None = None,
    layers: int = 1,
    capacity: int = 1000,
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation that changes nothing and records ln‖∂L/∂θ‖ of groups of parameters.

    Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063) clip at 0.5 to 10 times the average norm in
    training: the monitor measures it, and the gradient of the state by lag. It sees the gradient as
    the transformations before it in a chain leave it::

        optimiser = optax.chain(
            monitor_gradients(every=10, lags=100),
            optax.clip_by_global_norm(1),
            optax.adam(1e-3),
        )
        # The flow of four examples.
        flow = lambda: rnnlab.gradient_flow(cell, params, xs[:, :4], loss).log_norm_by_lag
        updates, state = optimiser.update(gradient, state, params, flow=flow)
        looks = read_monitor(state)  # after training, or now and then

    It records inside of the compiled step: at steps without a record nothing is computed, and
    ``flow`` is not run. A flow of the whole batch costs about as much as a step, so use a few
    examples: benchmarks/monitors.py measures both. A loss that is a mean over fewer examples weighs
    each of them more, which raises the norms at all lags alike. Under ``vmap`` XLA computes both
    branches of the condition, so that every step pays for a record; inside ``optax.MultiSteps``
    every mini-step of a step with a record pays. The records are right in both cases.

    Args:
        every: records steps 0, ``every``, 2 ``every`` …; or a function of the step's index (a
            traced integer) that says whether to record.
        group: takes a parameter's name, such as ``"layers[0].w_h"``, to the name of its group, None
            for none. By default every parameter is a group, and so is every part of the tree above
            it, such as ``"layers[0]"``.
        lags: records the state's gradient by lag too. A number T: buckets 0, 1, 2–3, 4–7 … up to
            lag T − 1; or rising edges, e₀ ≤ lag < e₁ and so on. ``update`` then takes ``flow``, a
            function without arguments that returns log-norms by lag, ``[T]`` or ``[layers, T]``,
            like ``log_norm_by_lag`` of :func:`rnnlab.gradient_flow`.
        layers: L, the number of recurrent layers in the result of ``flow``.
        capacity: the number of records that are kept, the last ones.

    Returns:
        The transformation, for ``optax.chain``; its state holds the records for
        :func:`read_monitor`.

    Raises:
        ValueError: for numbers below 1, edges that do not rise, an ``every`` that is not one
            boolean, parameters without arrays, a group named "all", other parameters than those of
            ``init``, and a ``flow`` that is missing, not asked for or of another shape. A NaN
            raises nothing: :func:`read_monitor` flags it.

    >>> import jax.numpy as jnp
    >>> monitor = monitor_gradients(every=1)
    >>> gradient = {"w": jnp.ones(4)}
    >>> _, state = monitor.update(gradient, monitor.init(gradient))
    >>> round(float(read_monitor(state).log_norm["all"][0]), 3)
    0.693
    """
    settings = _Settings(
        every=every if callable(every) else _check.positive_int("every", every),
        group=group,
        capacity=_check.positive_int("capacity", capacity),
        layers=_check.positive_int("layers", layers),
        edges=None if lags is None else _edges(lags),
    )

    def init(params: PyTree) -> Any:
        return _initial(settings, params)

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree | None = None,
        *,
        flow: Callable[[], Array] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, Any]:
        del params, extra
        return updates, _advanced(settings, updates, state, flow)

    return optax.GradientTransformationExtraArgs(init, update)


def read_monitor(opt_state: PyTree) -> GradientLooks:
    """The records of the one monitor in ``opt_state``, also in chains, masks and ``MultiSteps``.

    Returns:
        The :class:`GradientLooks`.

    Raises:
        ValueError: where there is no monitor or more than one, and where seeds have different
            numbers of records.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_monitor)
    monitors = list(filter(_is_monitor, nodes))
    if len(monitors) != 1:
        raise ValueError(
            f"the state holds {len(monitors)} monitors; give one, or the part of the state that "
            "has one"
        )
    state = jax.device_get(monitors[0])
    looks = int(state.looks.flat[0])
    if (state.looks != looks).any():
        raise ValueError("the seeds have different numbers of records; read them one by one")
    capacity = state.steps.shape[-1]
    lost = max(looks - capacity, 0)
    # The slots are a ring, in which the oldest record need not be the first.
    order = np.arange(lost, looks) % capacity
    axis = state.looks.ndim

    def in_order(record: np.ndarray) -> np.ndarray:
        return record.take(order, axis=axis)

    records = (state.steps, state.log_norm, state.log_norm_by_lag)
    steps, log_norm, by_lag = jax.tree.map(in_order, records)
    edges = state.edges
    if edges is not None:
        # vmap gives every seed a copy of the edges.
        edges = edges.reshape(-1, edges.shape[-1])[0]
    return GradientLooks(
        steps=steps,
        log_norm=log_norm,
        lags=edges,
        log_norm_by_lag=by_lag,
        finite=log_norm[ALL] < np.inf,
        lost=lost,
    )


def without_monitors(tree: PyTree) -> PyTree:
    """``tree`` with None in place of each monitor's state."""

    def kept(node: Any) -> Any:
        return None if _is_monitor(node) else node

    return jax.tree.map(kept, tree, is_leaf=_is_monitor)


def _is_monitor(node: Any) -> bool:
    return isinstance(node, MonitorState)


def watch_monitor(every: int) -> Watch:
    """A :class:`~rnnlab.training.Watch` of the monitor in the optimiser, for ``fit``.

    The newest record becomes the metrics "log_norm.GROUP", in nats, one for each group. Give the
    monitor of the optimiser an ``every`` that divides this one.

    >>> import optax, rnnlab
    >>> def loss(params, batch, key):
    ...     return jnp.mean((params["w"] - batch) ** 2), {}
    >>> run = rnnlab.training.fit(
    ...     None, [jnp.ones(3)] * 21, optax.chain(monitor_gradients(every=10), optax.sgd(0.1)),
    ...     steps=20, loss=loss, params={"w": jnp.zeros(3)}, watch=[watch_monitor(10)],
    ...     progress=False)
    >>> run.metrics.steps("log_norm.all").tolist()
    [10, 20]
    """

    def measure(state: Any, batch: PyTree) -> dict[str, Any]:
        del batch
        looks = read_monitor(state.optimiser)
        if not looks.steps.size:
            return {}
        newest = {}
        for name, log_norms in looks.log_norm.items():
            newest[f"log_norm.{name}"] = number(log_norms[-1])
        return newest

    return Watch(every, measure, of_state=True)


class _Settings(NamedTuple):
    """The checked arguments of a monitor."""

    every: int | Callable[[Array], Array]
    group: Callable[[str], str | None] | None
    capacity: int
    layers: int
    # The edges of the buckets of lags; None where the monitor does not record lags.
    edges: tuple[int, ...] | None


def _initial(settings: _Settings, params: PyTree) -> MonitorState:
    capacity = settings.capacity
    step = jnp.zeros((), jnp.int32)
    looks = jnp.zeros((), jnp.int32)
    steps = jnp.zeros(capacity, jnp.int32)
    log_norm = {}
    for name in _groups(params, settings.group):
        log_norm[name] = jnp.zeros(capacity, jnp.float32)
    edges, by_lag = None, None
    if settings.edges is not None:
        edges = jnp.array(settings.edges, jnp.int32)
        buckets = len(settings.edges) - 1
        by_lag = jnp.zeros((capacity, settings.layers, buckets), jnp.float32)
    return MonitorState(step, looks, steps, log_norm, edges, by_lag)


def _advanced(
    settings: _Settings,
    updates: PyTree,
    state: MonitorState,
    flow: Callable[[], Array] | None,
) -> MonitorState:
    """The state after one step, with a record of ``updates`` where one is due."""
    groups = _groups(updates, settings.group)
    if groups.keys() != state.log_norm.keys():
        raise ValueError(
            "the gradient has other parameters than those of init; initialise the optimiser's "
            "state again"
        )

    records = (state.steps, state.log_norm, state.log_norm_by_lag)
    slot = state.looks % settings.capacity
    due = _is_due(settings.every, state.step)

    def at_slot(record: Array) -> Array:
        return record[slot]

    kept = jax.tree.map(at_slot, records)

    def as_kept(new: Array, kept: Array) -> Array:
        return new.astype(kept.dtype)

    def look() -> tuple[Array, dict[str, Array], Array | None]:
        log_norms = _group_norms(updates, groups)
        row = (state.step, log_norms, _by_lag(settings, flow))
        return jax.tree.map(as_kept, row, kept)

    def skip() -> tuple[Array, dict[str, Array], Array | None]:
        return kept

    def write(record: Array, new: Array) -> Array:
        return record.at[slot].set(new)

    # Only one row of the records passes through the condition. If all rows did, XLA would copy them
    # at every step instead of writing them in place.
    row = lax.cond(due, look, skip)
    steps, log_norm, by_lag = jax.tree.map(write, records, row)
    looks = state.looks + due.astype(jnp.int32)
    return MonitorState(
        state.step + 1,
        looks,
        steps,
        log_norm,
        state.edges,
        by_lag,
    )


def _is_due(every: int | Callable[[Array], Array], step: Array) -> Array:
    if not callable(every):
        return step % every == 0
    due = jnp.asarray(every(step))
    if due.shape != () or due.dtype != bool:
        raise ValueError(f"every(step) is {due.dtype}{list(due.shape)}; it must be one boolean")
    return due


def _group_norms(updates: PyTree, groups: dict[str, list[int]]) -> dict[str, Array]:
    """ln‖∂L/∂θ‖ of each group."""
    leaf_norms = [log_norm_of(leaf) for leaf in jax.tree.leaves(updates)]
    log_norms: dict[str, Array] = {}
    for name, members in groups.items():
        parts = [leaf_norms[index] for index in members]
        log_norms[name] = merge(parts)
    return log_norms


def _by_lag(settings: _Settings, flow: Callable[[], Array] | None) -> Array | None:
    """The mean log-norms of each bucket of lags, ``[L, K]``; None where lags are not asked for."""
    edges, layers = settings.edges, settings.layers
    # One without the other would record nothing, silently, so both ways are refused.
    if (edges is None) != (flow is None):
        present, missing = ("flow", "lags") if edges is None else ("lags", "flow")
        raise ValueError(
            f"{present} is given without {missing}; pass both monitor_gradients(lags=...) and "
            "update(..., flow=...)"
        )
    if edges is None or flow is None:
        return None
    if not callable(flow):
        raise ValueError(
            "flow is not a function; put lambda: before it, so that it runs only at recorded steps"
        )
    log_norms = jnp.asarray(flow())
    steps = log_norms.shape[-1] if log_norms.ndim else 0
    shapes: list[tuple[int, ...]] = [(layers, steps)]
    if layers == 1:
        shapes.append((steps,))
    if log_norms.shape not in shapes or steps < edges[-1]:
        raise ValueError(
            f"flow() has shape {log_norms.shape}, but the monitor is for {layers} layers and lags "
            f"below {edges[-1]}; return [{layers}, T] with at least that many lags, or change its "
            "lags and layers"
        )
    log_norms = log_norms.reshape(layers, steps)
    buckets = [log_norms[:, start:end] for start, end in itertools.pairwise(edges)]
    return jnp.stack([_finite_mean(bucket) for bucket in buckets], axis=1)


def _edges(lags: int | Sequence[int]) -> tuple[int, ...]:
    """The edges of the buckets of lags."""
    if isinstance(lags, int | np.integer):
        end = _check.positive_int("lags", lags)
        powers = [0]
        edge = 1
        while edge < end:
            powers.append(edge)
            edge *= 2
        return (*powers, end)
    edges = tuple(_check.natural("each of lags", edge) for edge in lags)
    is_rising = all(start < end for start, end in itertools.pairwise(edges))
    if len(edges) < 2 or not is_rising:
        raise ValueError(
            f"lags is {edges}, which leaves a bucket empty; give two or more rising edges, or a "
            "number T"
        )
    return edges


def _groups(tree: PyTree, group: Callable[[str], str | None] | None) -> dict[str, list[int]]:
    """The indices of the leaves of ``tree`` in each group."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if not paths:
        raise ValueError(
            "the parameters hold no arrays, so there is nothing to monitor; give those that are "
            "trained"
        )
    groups: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        for name in _group_names(path, group):
            groups.setdefault(name, []).append(index)
    if ALL in groups:
        raise ValueError(
            f"a group is named {ALL!r}, like that of the whole gradient; choose another name in "
            "group"
        )
    everything = list(range(len(paths)))
    if group is None:
        # A part of the tree that holds everything would repeat "all".
        leaves = set(map(trees.name_of, paths))
        for name, members in list(groups.items()):
            if name not in leaves and members == everything:
                del groups[name]
    return groups | {ALL: everything}


def _group_names(path: tuple, group: Callable[[str], str | None] | None) -> list[str]:
    """The groups of one parameter: by default itself and every part of the tree above it."""
    if group is None:
        return [trees.name_of(path[:depth]) for depth in range(1, len(path) + 1)]
    name = group(trees.name_of(path))
    return [] if name is None else [name]


def _finite_mean(log_norms: Array) -> Array:
    """The mean of the finite log-norms ``[L, K]`` over K; −inf where all gradients are zero."""
    used = jnp.isfinite(log_norms)
    count = used.sum(axis=1)
    total = jnp.sum(jnp.where(used, log_norms, 0), axis=1)
    mean = total / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, -jnp.inf)


def log_norm_of(leaf: Array) -> Array:
    """ln‖leaf‖, free of overflow and underflow."""
    leaf = jnp.asarray(leaf)
    if jnp.iscomplexobj(leaf):
        # The norm of real and imaginary parts together is that of the complex numbers.
        leaf = jnp.stack([leaf.real, leaf.imag])
    return log_norm(leaf, jnp.int32(0), 0)
