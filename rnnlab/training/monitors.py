"""A monitor for training: gradient norms by parameter, layer and lag, recorded inside the compiled step."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.tree_util import keystr

from rnnlab import _check
from rnnlab._results import result
from rnnlab.gradients.scaled import log_norm, merge
from rnnlab.typing import Array, PyTree

ALL = "all"
"""The name of the group of all parameters."""


class MonitorState(NamedTuple):
    """What the monitor carries: arrays only, with room for ``capacity`` looks; the oldest makes room for the newest."""

    step: Array  # the number of the coming step
    looks: Array  # looks so far
    steps: Array  # of each look, [capacity]
    log_norm: dict[str, Array]  # of each group, [capacity]
    edges: Array | None  # of the buckets of lags, [K + 1]
    log_norm_by_lag: Array | None  # [capacity, L, K]


@result
class GradientLooks(NamedTuple):
    """The last N looks of a monitor, oldest first; numpy arrays. Norms Euclidean, logs natural (nats), lags in steps.

    −inf marks a gradient that is exactly zero. Where training was vmapped its axes come first: ``[S, N]`` for S seeds.

    Attributes:
        steps: ``[N]``, the number of each look's step, counted from 0.
        log_norm: ``[N]``, ln‖∂L/∂θ‖ for every group: each parameter, each part of the tree that holds some, and "all".
        lags: ``[K + 1]``, the edges of the K buckets: bucket k is lags[k] ≤ lag < lags[k + 1]. None without ``lags``.
        log_norm_by_lag: ``[N, L, K]``, the mean over each bucket of the log-norms that ``flow`` gave (of logs: it is
            the log of a geometric mean), over those that are finite; −inf where none is. None without ``lags``.
        finite: ``[N]``, whether the gradient was free of NaN and infinity.
        lost: how many older looks the newer ones have overwritten.
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
    """An optax transformation that changes nothing and records ln‖∂L/∂θ‖ of every group of parameters at some steps.

    Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063) clip at 0.5 to 10 times the average norm seen in training: this
    sees it, and what the step back through time does to it. What stands before it in a chain decides what it sees::

        optimiser = optax.chain(monitor_gradients(every=10, lags=100), optax.clip_by_global_norm(1), optax.adam(1e-3))
        flow = lambda: rnnlab.gradient_flow(cell, params, xs[:, :4], loss).log_norm_by_lag  # of four examples
        updates, state = optimiser.update(gradient, state, params, flow=flow)
        looks = read_monitor(state)  # after training, or now and then

    It looks inside of the compiled step: at steps without a look nothing is computed, and ``flow`` is not run. A flow
    of the whole batch costs about as much as a step, so look at a few examples: benchmarks/monitors.py measures both.
    A loss that is a mean over fewer examples weighs each of them more, which lifts the norms at all lags alike. Under
    ``vmap`` the condition becomes a choice, so that every step pays for a look; inside ``optax.MultiSteps`` every
    mini-step of a step with a look pays. What is recorded is right in both.

    Args:
        every: looks at steps 0, ``every``, 2 ``every`` …; or a function of the step's number (a traced integer) that
            says whether to look.
        group: takes a parameter's name, such as ``"layers[0].w_h"``, to the name of its group, None for none.
            By default every parameter is a group, and so is every part of the tree above it, such as ``"layers[0]"``.
        lags: looks at the state's gradient by lag too. A number T: buckets 0, 1, 2–3, 4–7 … up to lag T − 1; or rising
            edges, e₀ ≤ lag < e₁ and so on. ``update`` then takes ``flow``, a function without arguments that returns
            log-norms by lag, ``[T]`` or ``[layers, T]``, as ``log_norm_by_lag`` of :func:`rnnlab.gradient_flow` is.
        layers: L, how many recurrent layers ``flow`` tells apart.
        capacity: how many looks are kept, the last ones.

    Returns:
        The transformation, for ``optax.chain``; its state holds what was recorded, for :func:`read_monitor`.

    Raises:
        ValueError: for numbers below 1, edges that do not rise, an ``every`` that is not one boolean, parameters
            without arrays, a group named "all", other parameters than those of ``init``, and a ``flow`` that is
            missing, not asked for or of another shape. A NaN raises nothing: :func:`read_monitor` flags it.
    """
    period = None if callable(every) else _check.positive_int("every", every)
    capacity, layers = (
        _check.positive_int("capacity", capacity),
        _check.positive_int("layers", layers),
    )
    edges = None if lags is None else _edges(lags)

    def is_due(step: Array) -> Array:
        if period is not None:
            return step % period == 0
        due = jnp.asarray(every(step))  # pyright: ignore[reportCallIssue]
        if due.shape != () or due.dtype != bool:
            raise ValueError(f"every(step) is {due.dtype}{list(due.shape)}; it must be one boolean")
        return due

    def by_lag(flow: Callable[[], Array] | None) -> Array | None:
        if (edges is None) != (flow is None):
            given, lacking = ("flow", "lags") if edges is None else ("lags", "flow")
            raise ValueError(
                f"{given} is given without {lacking}; say both monitor_gradients(lags=...) and update(..., flow=...)"
            )
        if edges is None or flow is None:
            return None
        if not callable(flow):
            raise ValueError(
                "flow is not a function, but it is to run at a look only; put lambda: before it"
            )
        norms = jnp.asarray(flow())
        steps = norms.shape[-1] if norms.ndim else 0
        if (
            norms.shape not in ((layers, steps), (steps,) if layers == 1 else ())
            or steps < edges[-1]
        ):
            raise ValueError(
                f"flow() has shape {norms.shape}, but the monitor was made for {layers} layers and lags below "
                f"{edges[-1]}; return [{layers}, T] with at least so many lags, or change its lags and layers"
            )
        norms = norms.reshape(layers, steps)
        parts = [norms[:, first:end] for first, end in itertools.pairwise(edges)]
        return jnp.stack([_finite_mean(part) for part in parts], axis=1)

    def init(params: PyTree) -> Any:
        return MonitorState(
            step=jnp.zeros((), jnp.int32),
            looks=jnp.zeros((), jnp.int32),
            steps=jnp.zeros(capacity, jnp.int32),
            log_norm={name: jnp.zeros(capacity, jnp.float32) for name in _groups(params, group)},
            edges=None if edges is None else jnp.array(edges, jnp.int32),
            log_norm_by_lag=None
            if edges is None
            else jnp.zeros((capacity, layers, len(edges) - 1), jnp.float32),
        )

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree | None = None,
        *,
        flow: Callable[[], Array] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, Any]:
        del params, extra
        groups = _groups(updates, group)
        if groups.keys() != state.log_norm.keys():
            raise ValueError(
                "the gradient has other parameters than init was given; make the optimiser's state anew"
            )

        def look() -> tuple[Array, dict[str, Array], Array | None]:
            each = [_log_norm(leaf) for leaf in jax.tree.leaves(updates)]
            by_group = {
                name: merge([each[number] for number in members])
                for name, members in groups.items()
            }
            return jax.tree.map(
                lambda new, kept: new.astype(kept.dtype), (state.step, by_group, by_lag(flow)), kept
            )

        # Only the row of one look passes through the condition, so that the arrays are written in place.
        records = state.steps, state.log_norm, state.log_norm_by_lag
        slot, due = state.looks % capacity, is_due(state.step)
        kept = jax.tree.map(lambda record: record[slot], records)
        row = lax.cond(due, look, lambda: kept)
        steps, norms, norms_by_lag = jax.tree.map(
            lambda record, new: record.at[slot].set(new), records, row
        )
        looks = state.looks + due.astype(jnp.int32)
        return updates, MonitorState(state.step + 1, looks, steps, norms, state.edges, norms_by_lag)

    return optax.GradientTransformationExtraArgs(init, update)


def read_monitor(opt_state: PyTree) -> GradientLooks:
    """What the one monitor in ``opt_state`` has seen, wherever optax has put it: in chains, masks, ``MultiSteps`` ….

    Returns:
        The :class:`GradientLooks`.

    Raises:
        ValueError: where there is no monitor or more than one, and where seeds have made different numbers of looks.
    """

    def is_monitor(node: Any) -> bool:
        return isinstance(node, MonitorState)

    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_monitor) if is_monitor(node)]
    if len(found) != 1:
        raise ValueError(
            f"the state holds {len(found)} monitors; give one, or the part of the state that has one"
        )
    state = jax.device_get(found[0])
    if (state.looks != state.looks.flat[0]).any():
        raise ValueError("the seeds have made different numbers of looks; read them one by one")
    looks, capacity, axes = int(state.looks.flat[0]), state.steps.shape[-1], state.looks.ndim
    order = np.arange(max(looks - capacity, 0), looks) % capacity
    steps, norms, by_lag = jax.tree.map(
        lambda record: record.take(order, axis=axes),
        (state.steps, state.log_norm, state.log_norm_by_lag),
    )
    edges = None if state.edges is None else state.edges.reshape(-1, state.edges.shape[-1])[0]
    return GradientLooks(steps, norms, edges, by_lag, norms[ALL] < np.inf, max(looks - capacity, 0))


def _edges(lags: int | Sequence[int]) -> tuple[int, ...]:
    """The edges of the buckets of lags."""
    if isinstance(lags, int | np.integer):
        end = _check.positive_int("lags", lags)
        return (
            0,
            *itertools.takewhile(lambda edge: edge < end, (2**k for k in itertools.count())),
            end,
        )
    edges = tuple(_check.natural("each of lags", edge) for edge in lags)
    if len(edges) < 2 or any(first >= end for first, end in itertools.pairwise(edges)):
        raise ValueError(
            f"lags is {edges}, which leaves a bucket empty; give two or more rising edges, or a number T"
        )
    return edges


def _groups(tree: PyTree, group: Callable[[str], str | None] | None) -> dict[str, list[int]]:
    """Which leaves of ``tree`` each group holds."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if not paths:
        raise ValueError(
            "the parameters hold no arrays, so there is nothing to monitor; give those that are trained"
        )
    groups: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        names = [keystr(path[:depth]).removeprefix(".") for depth in range(1, len(path) + 1)]
        if group is not None:
            own = group(names[-1] if names else "")
            names = [] if own is None else [own]
        for name in names:
            groups.setdefault(name, []).append(number)
    if ALL in groups:
        raise ValueError(
            f"a group is named {ALL!r}, as the whole gradient is; name it otherwise with group="
        )
    everything = list(range(len(paths)))
    if group is None:  # a part of the tree that holds everything is no part
        leaves = {keystr(path).removeprefix(".") for path in paths}
        groups = {
            name: members
            for name, members in groups.items()
            if name in leaves or members != everything
        }
    return groups | {ALL: everything}


def _finite_mean(norms: Array) -> Array:
    """The mean of the finite log-norms ``[L, K]`` over K; −inf where all gradients are exactly zero."""
    there = jnp.isfinite(norms)
    count = there.sum(axis=1)
    mean = jnp.sum(jnp.where(there, norms, 0), axis=1) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, -jnp.inf)


def _log_norm(leaf: Array) -> Array:
    """ln‖leaf‖, free of overflow and underflow."""
    leaf = jnp.asarray(leaf)
    if jnp.iscomplexobj(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag])
    return log_norm(leaf, jnp.int32(0), 0)
