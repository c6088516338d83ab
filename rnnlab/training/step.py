"""The training step of any loss: gradient, update, and refusal of non-finite updates."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnnlab import _check
from rnnlab.training.faults import FINE, LOSS, UPDATE
from rnnlab.typing import Array, Dtype, Key, PyTree

Metrics = dict[str, Array]
"""Scalars by name. Always among them: "loss", "gradient_norm", "fault" (−1, or why the step was not
applied, see :mod:`rnnlab.training.faults`) and "skipped", of the state after the step."""

OWN = ("loss", "gradient_norm", "fault", "skipped", "step")
"""The names of metrics that the step and the loop report themselves."""

COUNT = "count"
"""The metric that says over how many targets a loss is a mean; it weighs batches in averages."""

Loss = Callable[..., tuple[Array, Any]]
"""``loss(params, batch, key) -> (value, metrics)``, or with a carried state
``loss(params, batch, key, carry) -> (value, (metrics, carry))``."""


class TrainState(NamedTuple):
    """Everything that a training step changes.

    Attributes:
        params: the parameters.
        optimiser: the optimiser's state.
        key: a typed PRNG key; step t uses ``fold_in(key, t)``, so that t decides its random
            numbers.
        step: t, the number of steps so far.
        skipped: how many steps in a row were not applied, up to now.
        carry: what a carried loss hands on to the next batch; None for others.
        average: the exponential moving average of the parameters; None without one.
    """

    params: PyTree
    optimiser: PyTree
    key: Key
    step: Array
    skipped: Array
    carry: PyTree = None
    average: PyTree = None


def initial_state(
    params: PyTree,
    optimiser: optax.GradientTransformation,
    key: Key,
    *,
    carry: PyTree = None,
    average: bool = False,
) -> TrainState:
    """The :class:`TrainState` before the first step.

    Args:
        params: initial parameters.
        optimiser: any optax transformation.
        key: a key of ``jax.random.key``.
        carry: the initial state of a carried loss.
        average: whether the step also averages the parameters.
    """
    _check.key("key", key)
    return TrainState(
        params=params,
        optimiser=optimiser.init(params),
        key=key,
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        carry=carry,
        # A copy, since the step may reuse the memory of its arguments.
        average=jax.tree.map(jnp.copy, params) if average else None,
    )


def train_step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    carried: bool = False,
    average: float | None = None,
    compute_dtype: Dtype | None = None,
) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """A pure function ``(state, batch) -> (state, metrics)``: one update of the parameters.

    The function is not compiled: put ``jax.jit`` around it, ``jax.vmap`` for many seeds, and
    ``jax.lax.scan`` for many steps. A step whose loss, gradient or update is not finite changes
    neither parameters nor optimiser, and counts in ``state.skipped``.

    >>> import jax, optax
    >>> def loss(params, batch, key):
    ...     return jax.numpy.mean((params - batch) ** 2), {}
    >>> optimiser = optax.sgd(0.5)
    >>> state = initial_state(jax.numpy.zeros(3), optimiser, jax.random.key(0))
    >>> state, metrics = jax.jit(train_step(loss, optimiser))(state, jax.numpy.ones(3))
    >>> float(metrics["loss"]), state.params.tolist()
    (1.0, [0.3333333432674408, 0.3333333432674408, 0.3333333432674408])

    Args:
        loss: ``loss(params, batch, key) -> (value, metrics)`` for any JAX model: a scalar and a
            dictionary of scalars. A metric named "count", the number of targets in the mean, weighs
            it where batches are averaged.
        optimiser: any optax transformation, on the gradient of the whole batch.
        accumulate: M; every array of a batch then has a leading axis of M parts, and the gradient
            is δ = Σₖ nₖ δₖ / Σₖ nₖ, with nₖ the count of part k (1 where there is none): that of
            the large batch, in the memory of a small one. A part without a target that counts adds
            nothing. A carried state goes from part to part.
        carried: the loss takes a fourth argument, what the previous batch handed on, and returns
            ``(value, (metrics, carry))``. No gradient flows through it.
        average: β of the moving average θ̄ ← β θ̄ + (1 − β) θ in ``state.average``, with β at most
            (1 + t)/(10 + t), so that the first steps do not weigh too much; the state then needs
            ``initial_state(average=True)``.
        compute_dtype: the dtype in which loss and gradient are computed, such as ``jnp.bfloat16``;
            parameters and updates keep theirs.

    Raises:
        ValueError: for an ``accumulate`` below 1, an ``average`` outside [0, 1), a loss that takes
            other arguments or does not return a scalar and a dictionary, and a state without the
            parts asked for.
    """
    check_loss(loss, carried, "carried=True, and the carry to initial_state")
    accumulate = _check.positive_int("accumulate", accumulate)
    if average is not None:
        average = _check.fraction("average", average, closed=False)
    if compute_dtype is not None:
        compute_dtype = _check.float_dtype("compute_dtype", compute_dtype)
    optimiser = optax.with_extra_args_support(optimiser)
    gradient_of = _gradient_of(loss, carried, compute_dtype)
    if accumulate > 1:
        gradient_of = _accumulated(gradient_of)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        gradient, (value, metrics, carry) = gradient_of(state.params, batch, key, state.carry)
        updates, optimiser_state = optimiser.update(
            gradient, state.optimiser, state.params, value=value
        )
        new = state._replace(
            params=optax.apply_updates(state.params, updates),
            optimiser=optimiser_state,
            carry=carry,
        )
        if average is not None:
            new = new._replace(average=_moving_average(average, state, new.params))
        squares = [_sum_of_squares(leaf) for leaf in jax.tree.leaves(gradient)]
        fault = _fault(value, squares, new.params)
        kept = state._replace(step=state.step + 1, skipped=state.skipped + 1)
        new = new._replace(step=state.step + 1, skipped=jnp.zeros_like(state.skipped))
        state = _choose(fault == FINE, new, kept)
        norm = jnp.sqrt(sum(squares))
        own = {"loss": value, "gradient_norm": norm, "fault": fault, "skipped": state.skipped}
        return state, metrics | own

    return step


def check_loss(loss: Any, carried: bool, option: str) -> None:
    """ValueError unless ``loss`` can be called as a :data:`Loss`, with a carry where ``carried``.

    ``option`` says how a carry is given.
    """
    _check.function("loss", loss, "model.loss")
    count = 4 if carried else 3
    if _takes(loss, count):
        return
    if carried and _takes(loss, 3):
        raise ValueError(
            "a carry is given, but loss takes (params, batch, key) alone; leave the carry out, or "
            "give a carried loss, such as rnnlab.training.truncated_loss(model, length)"
        )
    if not carried and _takes(loss, 4):
        raise ValueError(
            f"loss takes a carry as its fourth argument, but none is given; give {option}, or a "
            "loss of (params, batch, key)"
        )
    wanted = ", ".join(("params", "batch", "key", "carry")[:count])
    raise ValueError(
        f"loss takes ({', '.join(inspect.signature(loss).parameters)}), but it is called with "
        f"({wanted}); give a function of these"
    )


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments; True where this is not known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _gradient_of(loss: Loss, carried: bool, dtype: Dtype | None) -> Callable[..., Any]:
    """``(params, batch, key, carry) -> (gradient, (value, metrics, carry))``."""

    def value_of(params: PyTree, batch: PyTree, key: Key, carry: PyTree) -> tuple[Array, Any]:
        if dtype is not None:
            params, batch = _cast((params, batch), dtype)
        if not carried:
            value, metrics = _returned(loss(params, batch, key))
            return value, (value, _checked(value, metrics), carry)
        value, (metrics, after) = _returned(loss(params, batch, key, carry))
        # A step in another precision must not change the dtype of what it hands on.
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry)
        return value, (value, _checked(value, metrics), lax.stop_gradient(after))

    return jax.grad(value_of, has_aux=True)


def _returned(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            f"loss returned {_check.brief(result)}; return (value, metrics), with {{}} for no "
            "metrics"
        )
    return result


def _checked(value: Any, metrics: Any) -> Metrics:
    """The metrics as arrays; ValueError unless all are scalars and the names are free."""
    if jnp.shape(value) != ():
        raise ValueError(f"loss has shape {jnp.shape(value)}; it must be a scalar; take its mean")
    if not isinstance(metrics, dict):
        raise ValueError(f"the metrics of loss are {_check.brief(metrics)}; return a dictionary")
    for name, metric in metrics.items():
        if name in OWN:
            raise ValueError(
                f"loss returned a metric {name!r}, which the step reports itself; rename it"
            )
        if jnp.shape(metric) != ():
            raise ValueError(
                f"metric {name!r} has shape {jnp.shape(metric)}; metrics must be scalars"
            )
    return {name: jnp.asarray(metric) for name, metric in metrics.items()}


def _accumulated(gradient_of: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient over parts, weighed by their counts; the parts run one after the other.

    Where no part has a target that counts, loss, gradient and metrics are 0.
    """

    def total(params: PyTree, batch: PyTree, key: Key, carry: PyTree) -> Any:
        parts = batch, jax.random.split(key, _parts(batch))

        def weighted(carry: PyTree, part: Any) -> tuple[PyTree, PyTree]:
            gradient, (value, metrics, carry) = gradient_of(params, *part, carry)
            count = metrics.pop(COUNT, None)
            # A sum of counts needs more digits than half precision has.
            dtype = jnp.promote_types(value.dtype, jnp.float32)
            weight = jnp.ones((), dtype) if count is None else count.astype(dtype)

            def weigh(leaf: Array) -> Array:
                # A mean over no targets may be NaN, and 0 · NaN too.
                return jnp.where(weight == 0, 0, leaf * weight)

            sums = jax.tree.map(weigh, (gradient, value, metrics))
            return (weight, *sums), (carry, count)

        def add(loop: PyTree, part: Any) -> tuple[PyTree, PyTree]:
            total, carry = loop
            new, (carry, count) = weighted(carry, part)
            return (jax.tree.map(jnp.add, total, new), carry), count

        first = jax.tree.map(lambda leaf: leaf[0], parts)
        shapes, _ = jax.eval_shape(weighted, carry, first)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        ((weight, *sums), carry), counts = lax.scan(add, (zeros, carry), parts)
        weight = jnp.where(weight == 0, 1, weight)
        gradient, value, metrics = jax.tree.map(lambda leaf: leaf / weight, sums)
        # Weights of float32 must not widen a gradient in half precision.
        gradient = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), gradient, params)
        if counts is not None:
            metrics[COUNT] = jnp.sum(counts)
        return gradient, (value, metrics, carry)

    return total


def _parts(batch: PyTree) -> int:
    """M, the leading axis that all arrays of an accumulated batch share."""
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1:
        raise ValueError(
            "the arrays of batch have different leading axes; with accumulate each needs one of M "
            "parts first"
        )
    return sizes.pop()


def _moving_average(decay: float, state: TrainState, params: PyTree) -> PyTree:
    """θ̄ ← β θ̄ + (1 − β) θ."""
    if state.average is None:
        raise ValueError(
            "the state has no average of the parameters; make it with initial_state(average=True)"
        )

    def mix(old: Array, new: Array) -> Array:
        step = state.step.astype(old.dtype)
        beta = jnp.minimum(decay, (1 + step) / (10 + step))
        return beta * old + (1 - beta) * new

    return jax.tree.map(mix, state.average, params)


def _sum_of_squares(leaf: Array) -> Array:
    """‖leaf‖², in at least float32."""
    leaf = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    return jnp.sum(jnp.real(leaf * jnp.conj(leaf)))


def _fault(value: Array, squares: list[Array], params: PyTree) -> Array:
    """FINE, LOSS or UPDATE, or the index of the first parameter whose gradient is not finite."""
    is_bad = ~jnp.isfinite(jnp.stack(squares))
    gradient = jnp.where(jnp.any(is_bad), jnp.argmax(is_bad), FINE)
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
    update = jnp.where(jnp.all(jnp.stack(finite)), gradient, UPDATE)
    fault = jnp.where(gradient == FINE, update, gradient)
    return jnp.where(jnp.isfinite(value), fault, LOSS).astype(jnp.int32)


def _choose(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def _cast(tree: PyTree, dtype: Dtype) -> PyTree:
    """``tree`` with its floating-point arrays in ``dtype``; codes and booleans stay."""

    def cast(leaf: Any) -> Any:
        is_floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype) if is_floating else leaf

    return jax.tree.map(cast, tree)
