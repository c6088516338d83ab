"""One step of a split cell and its adjoint, in the layouts that the fused pass knows.

sₜ = gate(θ, sₜ₋₁, zₜ, aₜ) with zₜ = project(θ, xₜ) and aₜ = mix(θ, sₜ₋₁). Given λ = ∂L/∂sₜ a step back gives
∂L/∂sₜ₋₁, and as ``seen`` what the parameters' gradients are made of, later and for many steps at once.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.base import Maps, spread
from rnnlab.engines.sequence import select
from rnnlab.engines.shards import vary_together
from rnnlab.typing import Array, Dtype, PyTree


class Steps(Protocol):
    """A cell and its parameters, ready for a loop; sequences are ``[n, B, features]`` outside of it."""

    def enter(self, tree: PyTree) -> PyTree:
        """Leaves ``[..., B, features]`` as the loop reads them."""
        ...

    def leave(self, tree: PyTree) -> PyTree:
        """The inverse of ``enter``."""
        ...

    def store(self, tree: PyTree) -> PyTree:
        """A state as it is kept for the way back."""
        ...

    def recall(self, tree: PyTree) -> PyTree:
        """The inverse of ``store``."""
        ...

    def outputs(self, states: PyTree) -> Array | None:
        """The outputs, read off states as they are kept; None where they have to be kept beside them."""
        ...

    def choose(self, flags: Array, yes: PyTree, no: PyTree) -> PyTree:
        """``yes`` where ``flags [B]``, else ``no``, for states in the loop."""
        ...

    def step(self, old: PyTree, x: Array) -> tuple[PyTree, Array, PyTree]:
        """``(new, y, kept)``; what is kept spares the way back all products."""
        ...

    def remember(self, olds: PyTree, xs: Array) -> PyTree:
        """What ``step`` would have kept, for many steps at once."""
        ...

    def room(self, steps: int, *like: PyTree) -> PyTree:
        """Where ``back`` puts what it has seen of so many steps; ``like`` is what ``back`` will be given."""
        ...

    def back(
        self,
        room: PyTree,
        number: Array,
        old: PyTree,
        new: PyTree,
        kept: PyTree,
        d_new: PyTree,
        d_y: Array,
    ) -> tuple[PyTree, PyTree]:
        """``(∂L/∂old, room)``, with what was seen of step ``number`` in its place."""
        ...

    def to_params(self, olds: PyTree, xs: Array, kept: PyTree, seen: PyTree) -> PyTree:
        """∂L/∂θ of many steps, as they are outside of the loop: a product or two for each weight matrix."""
        ...

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        """∂L/∂xs of many steps, as they are outside of the loop."""
        ...


class Rows:
    """The general layout, ``[B, features]``: asks nothing of the cell but project, mix and gate."""

    def __init__(self, cell: Any, params: PyTree) -> None:
        self.cell, self.params = cell, params

    def enter(self, tree: PyTree) -> PyTree:
        return tree

    leave = store = recall = enter

    def outputs(self, states: PyTree) -> None:
        return None

    def choose(self, flags: Array, yes: PyTree, no: PyTree) -> PyTree:
        return select(flags, yes, no)

    def step(self, old: PyTree, x: Array) -> tuple[PyTree, Array, PyTree]:
        z, a = self.remember(old, x)
        return *self.cell.gate(self.params, old, z, a), (z, a)

    def remember(self, olds: PyTree, xs: Array) -> PyTree:
        return self.cell.project(self.params, xs), self.cell.mix(self.params, olds)

    def room(self, steps: int, *like: PyTree) -> PyTree:
        seen = jax.eval_shape(self._back, *like)[1]
        return jax.tree.map(lambda leaf: _zeros((steps, *leaf.shape), leaf.dtype, like), seen)

    def back(
        self,
        room: PyTree,
        number: Array,
        old: PyTree,
        new: PyTree,
        kept: PyTree,
        d_new: PyTree,
        d_y: Array,
    ) -> tuple[PyTree, PyTree]:
        d_old, seen = self._back(old, new, kept, d_new, d_y)
        return d_old, jax.tree.map(
            lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, number, 0), room, seen
        )

    def _back(
        self, old: PyTree, new: PyTree, kept: PyTree, d_new: PyTree, d_y: Array
    ) -> tuple[PyTree, PyTree]:
        _, through_gate = jax.vjp(
            lambda old, z, a: self.cell.gate(self.params, old, z, a), old, *kept
        )
        _, through_mix = jax.vjp(lambda old: self.cell.mix(self.params, old), old)
        d_old, d_z, d_a = through_gate((d_new, d_y))
        return jax.tree.map(jnp.add, d_old, through_mix(d_a)[0]), (d_z, d_a, d_new, d_y)

    def to_params(self, olds: PyTree, xs: Array, kept: PyTree, seen: PyTree) -> PyTree:
        d_z, d_a, d_new, d_y = seen
        _, to_project = jax.vjp(lambda params: self.cell.project(params, xs), self.params)
        _, to_mix = jax.vjp(lambda params: self.cell.mix(params, olds), self.params)
        _, to_gate = jax.vjp(lambda params: self.cell.gate(params, olds, *kept), self.params)
        return jax.tree.map(
            lambda *parts: sum(parts), to_project(d_z)[0], to_mix(d_a)[0], to_gate((d_new, d_y))[0]
        )

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        return jax.vjp(lambda xs: self.cell.project(self.params, xs), xs)[1](seen[0])[0]


class Columns:
    """For cells with ``maps``: features first, and every gate one flat array ``[H · B]``.

    XLA's CPU compiler multiplies weights and columns faster than rows and weights, and vectorises arithmetic on flat
    arrays, which it does badly on ``[H, B]`` with few examples and on slices of ``[B, 4H]``. One product serves all
    that x and h share.
    """

    def __init__(self, cell: Any, params: PyTree, maps: Maps, batch: int) -> None:
        self.cell, self.params, self.maps, self.batch = cell, params, maps, batch
        w_x, w_h = (w.astype(cell.dtype or w.dtype) for w in self.maps[:2])
        b, c = (
            bias if bias is None else bias.astype(cell.dtype or bias.dtype)
            for bias in self.maps[2:4]
        )
        if c is not None:
            c = jnp.pad(c, (w_h.shape[1] - c.size, 0))
        cut = self.maps.joint
        self.w_x, self.w_h, self.w_z, self.w_a = w_x, w_h, w_x[:, cut:], w_h[:, cut:]
        self.w_joint = jnp.concatenate([w_x[:, :cut], w_h[:, :cut]])
        self.biases = (
            _total(b, c, slice(cut)),
            _total(b, None, slice(cut, None)),
            _total(None, c, slice(cut, None)),
        )
        # Turned and spread over the batch once, not at every step.
        self.columns = tuple(w.T for w in (self.w_joint, self.w_z, self.w_a))
        self.spread = tuple(
            bias if bias is None else jnp.repeat(bias, batch) for bias in self.biases
        )

    def enter(self, tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: jnp.swapaxes(leaf, -1, -2).reshape(*leaf.shape[:-2], -1), tree
        )

    def leave(self, tree: PyTree) -> PyTree:
        def turn(leaf: Array) -> Array:
            features = leaf.shape[-1] // self.batch
            return jnp.swapaxes(leaf.reshape(*leaf.shape[:-1], features, self.batch), -1, -2)

        return jax.tree.map(turn, tree)

    def store(self, tree: Any) -> Any:
        # h is the output, and a factor of ∂L/∂W_h.
        return self.cell.with_hidden(tree, self.leave(self.cell.hidden(tree)))

    def recall(self, tree: Any) -> Any:
        return self.cell.with_hidden(tree, self.enter(self.cell.hidden(tree)))

    def outputs(self, states: Any) -> Array | None:
        return None if states is None else self.cell.hidden(states)

    def choose(self, flags: Array, yes: PyTree, no: PyTree) -> PyTree:
        def pick(a: Array, b: Array) -> Array:
            return jnp.where(jnp.tile(flags, a.shape[-1] // self.batch), a, b)

        return jax.tree.map(pick, yes, no)

    def times(self, leaf: Array, factor: Array) -> Array:
        """A leaf in the loop with every example multiplied by its own factor, ``[B]``."""
        return (leaf.reshape(-1, self.batch) * factor[None]).ravel()

    def step(self, old: Any, x: Array) -> tuple[Any, Array, PyTree]:
        x, h = self._cast(x, self.cell.hidden(old))
        joint, z, a = (
            _plus((w @ v.reshape(-1, self.batch)).ravel(), bias)
            for w, bias, v in zip(
                self.columns, self.spread, (jnp.concatenate([x, h]), x, h), strict=True
            )
        )
        new, kept = self._gate(old, joint, z, a)
        return new, self.cell.hidden(new), kept

    def remember(self, olds: Any, xs: Array) -> PyTree:
        weights, inputs = (
            (self.w_joint, self.w_z, self.w_a),
            self._cast(xs, self.leave(self.cell.hidden(olds))),
        )
        both = jnp.concatenate(inputs, axis=-1), *inputs
        sums = tuple(
            _plus(_flat(v) @ w, bias).reshape(*xs.shape[:-1], w.shape[1])
            for w, bias, v in zip(weights, self.biases, both, strict=True)
        )
        return jax.vmap(self._gate)(olds, *self.enter(sums))[1]

    def _gate(self, old: Any, joint: Array, z: Array, a: Array) -> tuple[Any, PyTree]:
        """z and a as ``gate`` wants them: where it sees only their sum, z is the sum and a is zero."""
        both = jnp.concatenate([joint, z]), jnp.concatenate([jnp.zeros_like(joint), a])
        return self.cell.gate_residuals(self.params, old, *both)

    def room(self, steps: int, *like: PyTree) -> PyTree:
        joint, z, a = self.maps.joint, self.w_z.shape[1], self.w_a.shape[1]
        return tuple(
            _zeros((steps, columns * self.batch), self.w_h.dtype, like) for columns in (joint, z, a)
        )

    def back(
        self, room: PyTree, number: Array, old: Any, new: Any, kept: PyTree, d_new: Any, d_y: Array
    ) -> tuple[Any, PyTree]:
        d_new = add_to_hidden(self.cell, d_new, d_y)
        d_old, *blocks = self.cell.gate_adjoint(self.params, old, new, kept, d_new)
        room = tuple(_put(place, number, part) for place, part in zip(room, blocks, strict=True))
        joint, _, a = (lax.dynamic_index_in_dim(place, number, keepdims=False) for place in room)
        d_h = self._mix_back(joint, a)
        return add_to_hidden(self.cell, d_old, d_h), room

    def _mix_back(self, joint: Array, a: Array) -> Array:
        """W_h δ."""
        d_h = self.w_h[:, : self.maps.joint] @ joint.reshape(-1, self.batch)
        if self.w_a.size:
            d_h = d_h + self.w_a @ a.reshape(-1, self.batch)
        return d_h.ravel()

    def to_params(self, olds: Any, xs: Array, kept: PyTree, seen: PyTree) -> PyTree:
        joint, z, a = (_flat(d) for d in seen)
        x, h = (_flat(v) for v in self._cast(xs, self.cell.hidden(olds)))
        d_b, d_c = (_beside(jnp.sum, joint, rest, axis=0) for rest in (z, a))
        d_maps = (
            _beside(jnp.matmul, joint, z, x.T),
            _beside(jnp.matmul, joint, a, h.T),
            None if self.maps.b is None else d_b,
            None if self.maps.c is None else d_c[d_c.size - self.maps.c.size :],
        )
        _, to_maps = jax.vjp(lambda params: self.cell.maps(params)[:4], self.params)
        return to_maps(jax.tree.map(lambda d, w: d.astype(w.dtype), d_maps, self.maps[:4]))[0]

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        joint, z = (_flat(d) for d in seen[:2])
        d_xs = joint @ self.w_x[:, : self.maps.joint].T
        if self.w_z.size:
            d_xs = d_xs + z @ self.w_z.T
        return d_xs.reshape(xs.shape).astype(xs.dtype)

    def _cast(self, x: Array, h: Array) -> tuple[Array, Array]:
        dtype = self.cell.dtype or jnp.result_type(x, h, self.w_x)
        return x.astype(dtype), h.astype(dtype)


class Lines(Columns):
    """Columns for cells with one gate: examples first, ``[B · H]``, so that nothing has to be turned."""

    def __init__(self, cell: Any, params: PyTree, maps: Maps, batch: int) -> None:
        super().__init__(cell, params, maps, batch)
        bias = self.biases[0]
        self.line = bias if bias is None else jnp.tile(bias, batch)
        self.w_back = self.w_h.T  # turned once, not at every step

    def enter(self, tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: leaf.reshape(*leaf.shape[:-2], leaf.shape[-2] * leaf.shape[-1]), tree
        )

    def leave(self, tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: leaf.reshape(*leaf.shape[:-1], self.batch, leaf.shape[-1] // self.batch),
            tree,
        )

    def choose(self, flags: Array, yes: PyTree, no: PyTree) -> PyTree:
        def pick(a: Array, b: Array) -> Array:
            return jnp.where(jnp.repeat(flags, a.shape[-1] // self.batch), a, b)

        return jax.tree.map(pick, yes, no)

    def times(self, leaf: Array, factor: Array) -> Array:
        return (leaf.reshape(self.batch, -1) * factor[:, None]).ravel()

    def step(self, old: Any, x: Array) -> tuple[Any, Array, PyTree]:
        both = jnp.concatenate(self._cast(*self.leave((x, self.cell.hidden(old)))), axis=-1)
        total = _plus((both @ self.w_joint).ravel(), self.line)
        new, kept = self.cell.gate_residuals(self.params, old, total, jnp.zeros_like(total))
        return new, self.cell.hidden(new), kept

    def _mix_back(self, joint: Array, a: Array) -> Array:
        return (self.leave(joint) @ self.w_back).ravel()


def add_to_hidden(cell: Any, state: PyTree, d_h: Array) -> PyTree:
    """``state`` with ``d_h`` added to its h, in the dtype of h."""
    h = cell.hidden(state)
    return cell.with_hidden(state, h + d_h.astype(h.dtype))


def _zeros(shape: tuple[int, ...], dtype: Dtype, like: PyTree) -> Array:
    """Zeros that vary over the same mesh axes as ``like`` does inside of ``jax.shard_map``."""
    return vary_together((jnp.zeros(shape, dtype), like))[0]


def _total(b: Array | None, c: Array | None, part: slice) -> Array | None:
    """b + c in the columns ``part``; None where there is neither."""
    there = [bias[part] for bias in (b, c) if bias is not None]
    return sum(there[1:], there[0]) if there else None


def _plus(product: Array, bias: Array | None) -> Array:
    return product if bias is None else product + spread(bias, product)


def _flat(xs: Array) -> Array:
    """``[n, B, F]`` as ``[n · B, F]``: one product over two contracted axes is slow on a CPU."""
    return xs.reshape(xs.shape[0] * xs.shape[1], xs.shape[2])


def _put(place: Array, number: Array, blocks: tuple[Array, ...]) -> Array:
    """Blocks one behind the other in row ``number``: written one by one, since XLA's CPU compiler does not vectorise
    what is computed inside of a concatenation, and would copy a row that is made elsewhere."""
    start = 0
    for block in blocks:
        place = lax.dynamic_update_slice(place, block.astype(place.dtype)[None], (number, start))
        start += block.size
    return place


def _beside(
    product: Callable[..., Array], joint: Array, rest: Array, *left: Array, **how: Any
) -> Array:
    """``product`` of the joint columns and of the rest, side by side."""
    parts = [product(*left, columns, **how) for columns in (joint, rest) if columns.shape[1]]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
