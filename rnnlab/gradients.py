"""Backpropagation through time that keeps every step: scaled adjoints and each step's own contribution.

With sₜ = F(θ, sₜ₋₁, xₜ), yₜ = Y(θ, sₜ₋₁, xₜ, sₜ) and the loss L(y₁ … y_T), the adjoint λₜ = ∂L/∂sₜ runs backwards as

    λₜ = (∂Y/∂sₜ)ᵀ ∂L/∂yₜ + (∂F/∂sₜ at t+1)ᵀ λₜ₊₁ + (∂Y/∂sₜ at t+1)ᵀ ∂L/∂yₜ₊₁

and ∂L/∂θ = Σₜ (∂F/∂θ at t)ᵀ λₜ + (∂Y/∂θ at t)ᵀ ∂L/∂yₜ: one term a step, its *contribution* (Werbos 1990; Pascanu,
Mikolov & Bengio 2013, arXiv 1211.5063, eq. 3–5). λ is carried as mantissa · 2^exponent with an integer exponent for
each example, so 100 000 steps neither underflow nor overflow, and scaling by powers of two rounds nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import hidden_leaf, map_leaves
from rnnlab.driver import Course, arrange, is_composite, run, settle, without_padding
from rnnlab.engines.fused import (
    Chunk,
    before_marks,
    forward,
    one_axis,
    own_axes,
    steps_of,
    walk_back,
)
from rnnlab.engines.plan import before, begin, select
from rnnlab.engines.steps import add_to_hidden
from rnnlab.output import split
from rnnlab.scaled import (
    NOTHING,
    Scaled,
    add,
    level,
    log_norm,
    log_root,
    merge,
    plain,
    power_of_two,
    renormalise,
    rescale,
    zero,
)
from rnnlab.typing import Array, Cell, PyTree
from rnnlab.wires import Wires


class StateNorms(NamedTuple):
    """ln‖∂L/∂·ₜ‖ in one recurrent layer and direction, ``[T, ...]``; −inf where the gradient is exactly zero."""

    h: Array  # the hidden state: the state's field h, or what the step returns as its output
    c: Array | None  # the rest of the state, such as an LSTM's cell state
    joint: Array  # the whole state
    initial: Array  # the hidden state before the first step, [...]


class Adjoint(NamedTuple):
    """The adjoint of one recurrent layer and direction."""

    norms: StateNorms
    course: Course  # how the layer was run
    layered: bool = False  # whether it is that of one of the cells of a composite


class ParameterGradients(NamedTuple):
    """What a backward pass gives for the parameters."""

    gradient: PyTree  # ∂L/∂θ, like the parameters
    log_gradient: PyTree  # ln‖∂L/∂θ‖ of each parameter, free of overflow and underflow
    log_contributions: PyTree  # ln‖·‖ of each step's contribution to each parameter, [T]
    contributions: PyTree | None  # the contributions themselves, [T, *parameter], where asked for


class Backward(NamedTuple):
    """What one backward pass through a cell or a stack gives."""

    adjoints: tuple[Adjoint, ...]  # one for each recurrent layer and direction, first to last
    params: ParameterGradients | None  # None where only the adjoints were asked for
    dxs: Scaled  # ∂L/∂xₜ, mantissa [T, ..., I] and exponent [T, ...]


class Back(Protocol):
    """Takes ∂L/∂ys back through a recorded run."""

    def __call__(self, g: Scaled, *, adjoints_only: bool = False) -> Backward:
        """``adjoints_only`` leaves the gradients of the parameters out, which is quicker."""
        ...


Recording = tuple[Array, Back]


def record(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, course: Course, keep: bool
) -> Recording:
    """Runs ``cell``; returns its outputs ``ys`` and what takes ∂L/∂ys back. ``keep`` keeps the contributions."""
    if is_composite(cell):
        recording = _record_composite(cell, params, xs, state, course, keep)
        if recording is not None:
            return recording
        if course.key is not None:
            raise ValueError(
                f"{type(cell).__name__} has parameters of its own, so it is followed by its step, "
                "which has no dropout; leave key out"
            )
    if map_leaves(cell, params) is not None:
        return _record_fused(cell, params, xs, state, course, keep)
    return _record_steps(cell, params, xs, state, course, keep)


def _record_fused(
    cell: Any, params: PyTree, xs: Array, state: PyTree, course: Course, keep: bool
) -> Recording:
    """For cells whose gate has its adjoint: the fused pass with scaled adjoints.

    All that is asked of the parameters then follows from the products z and a alone: with δₜ = ∂L/∂aₜ a step
    contributes Σ_b h_b ⊗ δ_b to ∂L/∂W_h, whose squared norm is Σ_bb' (h_b · h_b') (δ_b · δ_b'): two Gram matrices of
    the batch, and never a matrix of the weights' size (the "ghost norm" of Goodfellow 2015, arXiv 1510.01799).
    """
    reverse, batch = course.reverse, xs.shape[1:-1]
    xs, marks = arrange(xs, course.lengths, course.resets)
    state = settle(cell, params, xs[0], state)
    (xs, marks), state = one_axis(batch, 1, (xs, marks)), one_axis(batch, 0, state)
    _, ys, memory = forward(cell, params, xs, state, marks, reverse, states=True, gates=True)
    steps = steps_of(cell, params, xs)
    hidden = hidden_leaf(cell, state)

    def step_back(
        carry: tuple[Scaled, PyTree], inputs: tuple
    ) -> tuple[tuple[Scaled, PyTree], tuple]:
        (adjoint, room), (number, old, new, kept, mark, g) = carry, inputs
        d_new, exponent = adjoint  # λₜ · 2^−exponent, with ∂L/∂yₜ already in it
        inside = d_new
        if mark.valid is not None:
            inside = steps.choose(mark.valid, d_new, jax.tree.map(jnp.zeros_like, d_new))
        no_output = jnp.zeros_like(cell.hidden(d_new))
        d_old, room = steps.back(room, number, old, new, kept, inside, no_output)
        # ∂L/∂y of the next step is added already here, so that what the loop carries needs no scaling when it is read.
        d_old = before_marks(steps, mark, d_old, d_new)
        return (_advance(cell, steps, d_old, exponent, g), room), (inside, exponent)

    def chunk_back(
        carry: tuple[Scaled, Scaled | None], chunk: Chunk
    ) -> tuple[tuple[Scaled, Scaled | None], tuple]:
        adjoint, total = carry
        g = Scaled(steps.enter(chunk.extra.mantissa), chunk.extra.exponent)
        inputs = chunk.numbers, chunk.olds, chunk.states, chunk.kept, chunk.marks, g
        start = adjoint, chunk.room(steps, adjoint.mantissa, g.mantissa)
        (adjoint, seen), (inside, exponent) = lax.scan(
            step_back, start, inputs, reverse=not reverse
        )
        norms = state_norms(hidden, steps.leave(inside), exponent, 2)
        seen = renormalise(steps.leave(seen), exponent, 2)
        dxs = Scaled(steps.to_inputs(chunk.xs, seen.mantissa), seen.exponent)
        if total is None:
            return (adjoint, None), (norms, None, None, dxs)
        olds = steps.leave(chunk.olds)
        logs = log_contributions(cell, params, chunk.xs, cell.hidden(olds), seen)

        # The parameters are shared by the batch, so their part is taken at one scale: the largest of the chunk.
        top = seen.exponent.max()
        at_top = rescale(seen, jnp.broadcast_to(top, seen.exponent.shape))
        own = Scaled(steps.to_params(olds, chunk.xs, None, at_top), top)
        kept = _contributions(steps, olds, chunk.xs, seen) if keep else None
        return (adjoint, add(total, own)), (norms, logs, kept, dxs)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        mantissa, exponent = one_axis(batch, 1, g)
        if marks.valid is not None:
            mantissa = select(marks.valid, mantissa, jnp.zeros_like(mantissa))
        first, coming = _one_ahead(Scaled(mantissa, exponent), reverse)
        nothing = jax.tree.map(jnp.zeros_like, steps.enter(state))
        total = None if adjoints_only else zero(params, ())
        entered = Scaled(steps.enter(first.mantissa), first.exponent)
        start = _advance(cell, steps, nothing, first.exponent, entered)
        carry, (norms, logs, kept, dxs) = walk_back(
            chunk_back, (start, total), cell, steps, memory, coming, reverse
        )
        adjoint, total = carry
        if marks.valid is not None:
            norms = jax.tree.map(lambda norm: jnp.where(marks.valid, norm, -jnp.inf), norms)
        h, c, joint = own_axes(batch, 1, norms)
        initial = own_axes(
            batch, 0, state_norms(hidden, steps.leave(adjoint.mantissa), adjoint.exponent, 1)[0]
        )
        found = None if total is None else _parameter_gradients(total, logs, kept)
        adjoints = (Adjoint(StateNorms(h, c, joint, initial), course),)
        return Backward(adjoints, found, own_axes(batch, 1, dxs))

    return own_axes(batch, 1, ys), back


def _parameter_gradients(total: Scaled, logs: PyTree, kept: PyTree | None) -> ParameterGradients:
    log_gradient = jax.tree.map(lambda leaf: log_norm(leaf, total.exponent, 0), total.mantissa)
    return ParameterGradients(plain(total), log_gradient, logs, kept)


def _one_ahead(g: Scaled, reverse: bool) -> tuple[Scaled, Scaled]:
    """The first of a sequence on the way back, and beside every step the one that comes next; nothing comes last."""
    nothing = Scaled(jnp.zeros_like(g.mantissa[0]), jnp.full_like(g.exponent[0], NOTHING))
    return jax.tree.map(lambda leaf: leaf[0 if reverse else -1], g), before(nothing, g, reverse)


def _advance(cell: Any, steps: Any, d_old: Any, exponent: Array, g: Scaled) -> Scaled:
    """``d_old · 2^exponent`` with ∂L/∂y added to that of h, which is the output, each example at a scale of its own.

    All scaling of a step is done here, in one product for each leaf, as the loop of ``steps`` reads it.
    """
    common = jnp.maximum(level(steps.leave(d_old), exponent, 1), g.exponent)

    def scaled(leaf: Array, own: Array) -> Array:
        most = int(jnp.finfo(leaf.dtype).maxexp) - 2  # only where all is zero would it be more
        return steps.times(leaf, power_of_two(jnp.clip(own - common, -(2**20), most), leaf.dtype))

    total = jax.tree.map(lambda leaf: scaled(leaf, exponent), d_old)
    return Scaled(add_to_hidden(cell, total, scaled(g.mantissa, g.exponent)), common)


def log_contributions(cell: Any, params: PyTree, xs: Array, h: Array, seen: Scaled) -> PyTree:
    """ln‖·‖ of n contributions to each parameter, from δ ``[n, B, gates]``, each example's at its scale.

    xs and h are ``[n, B, features]``, or ``[1, B, features]`` where all n contributions are those of one step.
    """
    joint, z, a = seen.mantissa
    top = seen.exponent.max(axis=1, keepdims=True)
    ones = Scaled(jnp.ones(seen.exponent.shape, joint.dtype), seen.exponent)
    factor = rescale(ones, jnp.broadcast_to(top, seen.exponent.shape))
    d_z, d_a = (jnp.concatenate([joint, rest], axis=-1) if rest.size else joint for rest in (z, a))

    def scaled_gram(d: Array) -> Array:
        return _gram(d) * factor[:, :, None] * factor[:, None, :]

    gram_z = scaled_gram(d_z)
    gram_a = gram_z if d_a is d_z else scaled_gram(d_a)

    def of_matrix(inputs: Array, gram: Array) -> Array:
        rows, exponent = renormalise(inputs, jnp.zeros(inputs.shape[0], jnp.int32), 1)
        return log_root(jnp.sum(_gram(rows) * gram, axis=(1, 2)), exponent + top[:, 0])

    def of_bias(bias: Array | None, d: Array) -> Array | None:
        if bias is None:
            return None
        total = jnp.einsum("nb,nbf->nf", factor, d[..., d.shape[-1] - bias.size :])
        return log_norm(total, top[:, 0], 1)

    maps = cell.maps(params)
    logs = of_matrix(xs, gram_z), of_matrix(h, gram_a), of_bias(maps.b, d_z), of_bias(maps.c, d_a)
    return to_params(cell, params, logs)


def to_params(cell: Any, params: PyTree, of_maps: tuple[Array | None, ...]) -> PyTree:
    """What is given for the maps w_x, w_h, b and c (None for one that is absent), like the parameters."""
    leaves, tree = jax.tree.flatten(params)
    for place, value in zip(map_leaves(cell, params) or (), of_maps, strict=True):
        if place is not None:
            leaves[place] = value
    return jax.tree.unflatten(tree, leaves)


def _contributions(steps: Any, olds: PyTree, xs: Array, seen: Scaled) -> PyTree:
    """Each step's contribution itself, ``[n, *parameter]``."""
    top = seen.exponent.max(axis=1)
    at_top = rescale(seen, jnp.broadcast_to(top[:, None], seen.exponent.shape))
    one_by_one = jax.vmap(
        lambda *step: steps.to_params(*jax.tree.map(lambda leaf: leaf[None], step))
    )
    return plain(Scaled(one_by_one(olds, xs, None, at_top), top))


def _gram(rows: Array) -> Array:
    """The products of the rows of each step, ``[n, B, B]``."""
    return jnp.einsum("nbf,ncf->nbc", rows, rows)


def _record_steps(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, course: Course, keep: bool
) -> Recording:
    """For any cell: the derivative of the whole step, one step after the other."""
    reverse, batch = course.reverse, xs.ndim - 2
    xs, marks = arrange(xs, course.lengths, course.resets)
    state = settle(cell, params, xs[0], state)
    states, ys = run(cell, params, xs, state, course._replace(every=True))
    olds = before(state, states, reverse)
    fresh = cell.initial_state(xs.shape[1:-1])
    remembers = bool(jax.tree.leaves(state))
    parts = split(cell.step, params, state, xs[0])
    hidden = hidden_leaf(cell, state)
    hidden = parts.hidden if hidden is None else hidden

    def step_back(
        carry: tuple[Scaled, Scaled | None], inputs: tuple
    ) -> tuple[tuple[Scaled, Scaled | None], tuple]:
        adjoint, total = carry
        old, x, g, mark = inputs
        after, f_back = jax.vjp(parts.state, params, begin(mark, fresh, old), x)
        _, y_back = jax.vjp(parts.output, params, begin(mark, fresh, old), x, after)

        exponent = jnp.maximum(adjoint.exponent, g.exponent)
        at_state, at_output = rescale(adjoint, exponent), rescale(g, exponent)
        _, d_old, d_x, d_after = y_back(at_output)
        at_state = jax.tree.map(jnp.add, at_state, d_after)  # λₜ · 2^−exponent
        norms = state_norms(hidden, at_state, exponent, batch) if remembers else None

        masked = (
            at_state
            if mark.valid is None
            else select(mark.valid, at_state, jax.tree.map(jnp.zeros_like, at_state))
        )
        _, d_old_f, d_x_f = f_back(masked)
        d_old, d_x = jax.tree.map(jnp.add, (d_old, d_x), (d_old_f, d_x_f))
        if mark.reset is not None:
            d_old = select(mark.reset, jax.tree.map(jnp.zeros_like, d_old), d_old)
        if mark.valid is not None:
            d_old = select(mark.valid, d_old, at_state)
            norms = jax.tree.map(lambda norm: jnp.where(mark.valid, norm, -jnp.inf), norms)

        d_start = renormalise(d_old, exponent, batch)
        dxs = renormalise(d_x, exponent, batch)
        if total is None:
            return (d_start, None), (norms, None, None, dxs)

        # The parameters are shared by the batch, so their part is taken at the batch's largest scale.
        top = exponent.max()
        shift = jnp.broadcast_to(top, exponent.shape)
        d_params = jax.tree.map(
            jnp.add,
            f_back(rescale(Scaled(masked, exponent), shift))[0],
            y_back(rescale(Scaled(at_output, exponent), shift))[0],
        )
        own = Scaled(d_params, top)
        logs = jax.tree.map(lambda leaf: log_norm(leaf, top, 0), d_params)
        return (d_start, add(total, own)), (norms, logs, plain(own) if keep else None, dxs)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        if marks.valid is not None:
            g = Scaled(select(marks.valid, g.mantissa, jnp.zeros_like(g.mantissa)), g.exponent)
        start = zero(state, xs.shape[1:-1]), None if adjoints_only else zero(params, ())
        carry, (norms, logs, kept, dxs) = lax.scan(
            step_back, start, (olds, xs, g, marks), reverse=not reverse
        )
        adjoint, total = carry
        adjoints = ()
        if remembers:
            h, c, joint = norms
            initial = state_norms(hidden, adjoint.mantissa, adjoint.exponent, batch)[0]
            adjoints = (Adjoint(StateNorms(h, c, joint, initial), course),)
        found = None if total is None else _parameter_gradients(total, logs, kept)
        return Backward(adjoints, found, dxs)

    return ys, back


def _record_composite(
    cell: Any, params: PyTree, xs: Array, state: PyTree, course: Course, keep: bool
) -> Recording | None:
    """Each cell of a composite recorded on its own, joined by the derivatives of what is between them.

    None where the composite has parameters of its own, or gives one to several cells: what a step
    contributes to such a parameter is not what it contributes in one cell.
    """
    leaves, tree = jax.tree.flatten(params)
    lengths = course.lengths
    backs: list[Back] = []
    outputs: list[Array] = []
    given: list[Any] = []

    def recorded(
        inner: Cell, weights: PyTree, seen: Array, start: PyTree, its_course: Course
    ) -> tuple[PyTree, Array]:
        ys, back = record(inner, weights, seen, start, its_course, keep)
        backs.append(back)
        outputs.append(ys)
        given.extend(jax.tree.leaves(weights))
        return start, ys

    xs = without_padding(xs, lengths)
    cell.run_cells(params, xs, state, course, recorded)
    if sorted(map(id, given)) != sorted(map(id, leaves)):
        return None
    order = [next(n for n, leaf in enumerate(leaves) if leaf is own) for own in given]

    def between(values: list[Array]) -> list[Array]:
        """From the composite's inputs and its cells' outputs: what each cell reads, and the composite's outputs."""
        left = iter(values[1:])
        read: list[Array] = []

        def replayed(
            inner: Cell, weights: PyTree, seen: Array, start: PyTree, its_course: Course
        ) -> tuple[PyTree, Array]:
            read.append(seen)
            return start, next(left)

        _, ys = cell.run_cells(params, values[0], state, course, replayed)
        return [*read, without_padding(ys, lengths)]

    wires = Wires(between, [xs, *outputs], xs.ndim - 1)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        arrived: dict[int, Scaled] = {}
        wires.pull(arrived, len(backs), g)
        parts: list[Backward] = []
        for number in reversed(range(len(backs))):
            coming = wires.take(arrived, number + 1)
            part = backs[number](coming, adjoints_only=adjoints_only)
            wires.pull(arrived, number, part.dxs)
            parts.append(part)
        return _gather(parts[::-1], order, tree, wires.take(arrived, 0))

    return wires.values()[-1], back


def _gather(parts: list[Backward], order: list[int], tree: Any, dxs: Scaled) -> Backward:
    """The backward passes of several cells as that of the cell made of them."""
    adjoints = [adjoint._replace(layered=True) for part in parts for adjoint in part.adjoints]
    found = [part.params for part in parts if part.params is not None]
    if not found:
        return Backward(tuple(adjoints), None, dxs)

    def together(trees: list[PyTree]) -> PyTree:
        values = jax.tree.leaves(trees)
        leaves = dict(zip(order, values, strict=True))
        return jax.tree.unflatten(tree, [leaves[place] for place in range(len(leaves))])

    fields = [together(list(each)) for each in zip(*(part[:3] for part in found), strict=True)]
    kept = [part.contributions for part in found]
    contributions = None if kept[0] is None else together(kept)
    return Backward(tuple(adjoints), ParameterGradients(*fields, contributions), dxs)


def state_norms(
    hidden: int | None, state: PyTree, exponent: Array, batch: int
) -> tuple[Array, Array | None, Array]:
    """Log-norms of the hidden part of a state adjoint, of the rest (None if there is none), and of all of it."""
    leaves = jax.tree.leaves(state)
    each = [log_norm(leaf, exponent, batch) for leaf in leaves]
    joint = merge(each)
    if hidden is None or len(each) < 2:
        return joint, None, joint
    return each[hidden], merge(each[:hidden] + each[hidden + 1 :]), joint
