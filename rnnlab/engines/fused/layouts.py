"""Layouts of one step of a split cell, and of its adjoint, inside the loop of the fused engine.

A split cell computes sₜ = gate(θ, sₜ₋₁, zₜ, aₜ) with zₜ = project(θ, xₜ) and aₜ = mix(θ, sₜ₋₁).
From λ = ∂L/∂sₜ a step back computes ∂L/∂sₜ₋₁. It also stores, as ``seen``, the factors of the
parameters' gradients: the products for the weights follow later, for many steps at once.

Outside of the loop an array is ``[n, B, F]``: steps, examples, features. Inside, one step of a
batch of B = 2 examples with F = 3 features lies in memory like this (``ef`` is feature f of
example e), and every loop-carried array and every block of gates has the same layout::

    Rows     [B, F]     00 01 02        any cell; examples are rows, as outside
                        10 11 12

    Columns  [F · B]    00 10  01 11  02 12        features first, flat; several gates
                        └ f=0┘ └ f=1┘ └ f=2┘

    Lines    [B · F]    00 01 02  10 11 12         examples first, flat; one gate
                        └ e = 0 ┘ └ e = 1 ┘

The columns of the weights fall into a joint part and a rest. In the joint part ``gate`` reads only
the sum z + a, so one product of [x, h] serves both. In the rest it reads z and a separately::

              J joint      rest
            ┌──────────┬─────────┐
    W_x     │          │  w_z    │    I rows      LSTM, RNN: all columns are joint
            │ w_joint  ├─────────┘                GRU: r and z are joint, n is the rest
    W_h     │          │  w_a    │    H rows
            └──────────┴─────────┘
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


class Layout(Protocol):
    """A cell and its parameters in one layout; sequences outside of the loop are ``[n, B, F]``."""

    def enter(self, tree: PyTree) -> PyTree:
        """Leaves ``[..., B, F]`` in the layout of the loop."""
        ...

    def leave(self, tree: PyTree) -> PyTree:
        """The inverse of ``enter``."""
        ...

    def store(self, tree: PyTree) -> PyTree:
        """A state of the loop in the form that is kept for the backward pass."""
        ...

    def recall(self, tree: PyTree) -> PyTree:
        """The inverse of ``store``."""
        ...

    def outputs(self, states: PyTree) -> Array | None:
        """The outputs read from stored states; None where they must be stored separately."""
        ...

    def select(
        self,
        flags: Array,
        yes: PyTree,
        no: PyTree,
    ) -> PyTree:
        """``yes`` where ``flags [B]``, else ``no``, for states in the loop."""
        ...

    def step(self, old: PyTree, x: Array) -> tuple[PyTree, Array, PyTree]:
        """``(new, y, kept)``; what is kept saves the backward pass all products."""
        ...

    def remember(self, olds: PyTree, xs: Array) -> PyTree:
        """What ``step`` would have kept, for many steps at once."""
        ...

    def room(self, steps: int, *like: PyTree) -> PyTree:
        """An empty buffer for ``seen`` of so many steps; ``like`` are the arguments of ``back``."""
        ...

    def back(
        self,
        room: PyTree,
        index: Array,
        old: PyTree,
        new: PyTree,
        kept: PyTree,
        d_new: PyTree,
        d_y: Array,
    ) -> tuple[PyTree, PyTree]:
        """``(∂L/∂old, room)``, with ``seen`` of this step written at ``index``."""
        ...

    def to_params(
        self,
        olds: PyTree,
        xs: Array,
        kept: PyTree,
        seen: PyTree,
    ) -> PyTree:
        """∂L/∂θ of many steps, ``[n, B, F]``, by a product or two for each weight matrix."""
        ...

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        """∂L/∂xs of many steps, ``[n, B, I]``."""
        ...


class Rows:
    """The general layout, ``[B, F]``: needs nothing of the cell but project, mix and gate."""

    def __init__(self, cell: Any, params: PyTree) -> None:
        self.cell = cell
        self.params = params

    def enter(self, tree: PyTree) -> PyTree:
        return tree

    # The loop and the outside share this layout, so all four conversions are the identity.
    leave = store = recall = enter

    def outputs(self, states: PyTree) -> None:
        # Only a cell with maps promises that its output is its h, so here outputs are stored.
        return None

    def select(
        self,
        flags: Array,
        yes: PyTree,
        no: PyTree,
    ) -> PyTree:
        return select(flags, yes, no)

    def step(self, old: PyTree, x: Array) -> tuple[PyTree, Array, PyTree]:
        z, a = self.remember(old, x)
        new, y = self.cell.gate(self.params, old, z, a)
        return new, y, (z, a)

    def remember(self, olds: PyTree, xs: Array) -> PyTree:
        z = self.cell.project(self.params, xs)
        a = self.cell.mix(self.params, olds)
        return z, a

    def room(self, steps: int, *like: PyTree) -> PyTree:
        _, seen = jax.eval_shape(self._back, *like)

        def empty(leaf: jax.ShapeDtypeStruct) -> Array:
            return _zeros((steps, *leaf.shape), leaf.dtype, like)

        return jax.tree.map(empty, seen)

    def back(
        self,
        room: PyTree,
        index: Array,
        old: PyTree,
        new: PyTree,
        kept: PyTree,
        d_new: PyTree,
        d_y: Array,
    ) -> tuple[PyTree, PyTree]:
        d_old, seen = self._back(old, new, kept, d_new, d_y)

        def write(buffer: Array, row: Array) -> Array:
            return lax.dynamic_update_index_in_dim(buffer, row, index, 0)

        return d_old, jax.tree.map(write, room, seen)

    def _back(
        self,
        old: PyTree,
        new: PyTree,
        kept: PyTree,
        d_new: PyTree,
        d_y: Array,
    ) -> tuple[PyTree, PyTree]:
        """``(∂L/∂old, seen)`` with seen = (∂L/∂z, ∂L/∂a, λ, ∂L/∂y)."""

        def gate(
            old: PyTree,
            z: Array,
            a: Array,
        ) -> tuple[PyTree, Array]:
            return self.cell.gate(self.params, old, z, a)

        def mix(old: PyTree) -> Array:
            return self.cell.mix(self.params, old)

        # The parameters are constants here: their gradient is computed once for the chunk, by
        # to_params. Differentiated here it would be one small product for each step.
        _, through_gate = jax.vjp(gate, old, *kept)
        _, through_mix = jax.vjp(mix, old)
        d_old, d_z, d_a = through_gate((d_new, d_y))
        (d_old_by_mix,) = through_mix(d_a)
        d_old = jax.tree.map(jnp.add, d_old, d_old_by_mix)
        return d_old, (d_z, d_a, d_new, d_y)

    def to_params(
        self,
        olds: PyTree,
        xs: Array,
        kept: PyTree,
        seen: PyTree,
    ) -> PyTree:
        d_z, d_a, d_new, d_y = seen

        def project(params: PyTree) -> Array:
            return self.cell.project(params, xs)

        def mix(params: PyTree) -> Array:
            return self.cell.mix(params, olds)

        def gate(params: PyTree) -> tuple[PyTree, Array]:
            return self.cell.gate(params, olds, *kept)

        _, to_project = jax.vjp(project, self.params)
        _, to_mix = jax.vjp(mix, self.params)
        _, to_gate = jax.vjp(gate, self.params)
        (by_project,) = to_project(d_z)
        (by_mix,) = to_mix(d_a)
        # gate reads parameters too: peepholes, the gains of a norm, a product after the reset.
        (by_gate,) = to_gate((d_new, d_y))

        def total(*parts: Array) -> Any:
            return sum(parts)

        return jax.tree.map(total, by_project, by_mix, by_gate)

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        d_z = seen[0]

        def project(xs: Array) -> Array:
            return self.cell.project(self.params, xs)

        _, to_xs = jax.vjp(project, xs)
        (d_xs,) = to_xs(d_z)
        return d_xs


class Columns:
    """The layout ``[F · B]`` for cells with ``maps``: features first, every gate one flat array.

    XLA's CPU compiler multiplies weights and columns faster than rows and weights. It vectorises
    arithmetic on flat arrays, but badly on ``[H, B]`` with few examples and on slices of
    ``[B, 4H]``. One product computes every sum of a part of x and a part of h.
    """

    def __init__(
        self,
        cell: Any,
        params: PyTree,
        maps: Maps,
        batch: int,
    ) -> None:
        self.cell = cell
        self.params = params
        self.maps = maps
        self.batch = batch
        self.w_x = maps.w_x.astype(cell.dtype or maps.w_x.dtype)
        self.w_h = maps.w_h.astype(cell.dtype or maps.w_h.dtype)
        b = None if maps.b is None else maps.b.astype(cell.dtype or maps.b.dtype)
        c = None if maps.c is None else maps.c.astype(cell.dtype or maps.c.dtype)
        if c is not None:
            # c belongs to the last columns of W_h. With zeros in front it is cut as W_h is.
            c = jnp.pad(c, (self.w_h.shape[1] - c.size, 0))

        cut = maps.joint
        joint, rest = slice(cut), slice(cut, None)
        self.w_z = self.w_x[:, rest]
        self.w_a = self.w_h[:, rest]
        self.w_joint = jnp.concatenate([self.w_x[:, joint], self.w_h[:, joint]])
        self.biases = (_total(b, c, joint), _total(b, None, rest), _total(None, c, rest))

        # These serve every step. Inside of the loop they would be computed again at each.
        self.transposed = (self.w_joint.T, self.w_z.T, self.w_a.T)
        repeated = []
        for bias in self.biases:
            each_example = None if bias is None else jnp.repeat(bias, batch)
            repeated.append(each_example)
        self.repeated_biases = tuple(repeated)

    def enter(self, tree: PyTree) -> PyTree:
        def flat(leaf: Array) -> Array:
            features_first = jnp.swapaxes(leaf, -1, -2)
            return features_first.reshape(*leaf.shape[:-2], -1)

        return jax.tree.map(flat, tree)

    def leave(self, tree: PyTree) -> PyTree:
        def rows(leaf: Array) -> Array:
            features = leaf.shape[-1] // self.batch
            features_first = leaf.reshape(*leaf.shape[:-1], features, self.batch)
            return jnp.swapaxes(features_first, -1, -2)

        return jax.tree.map(rows, tree)

    def store(self, tree: Any) -> Any:
        # h is stored as it is outside: it is the output, and a factor of ∂L/∂W_h. The other leaves
        # (an LSTM's c) are read by the loop alone, so turning them would be a copy for nothing.
        h = self.leave(self.cell.hidden(tree))
        return self.cell.with_hidden(tree, h)

    def recall(self, tree: Any) -> Any:
        h = self.enter(self.cell.hidden(tree))
        return self.cell.with_hidden(tree, h)

    def outputs(self, states: Any) -> Array | None:
        return None if states is None else self.cell.hidden(states)

    def select(
        self,
        flags: Array,
        yes: PyTree,
        no: PyTree,
    ) -> PyTree:
        def pick(a: Array, b: Array) -> Array:
            # The example is the fastest index, so the flags repeat as a whole, once a feature.
            features = a.shape[-1] // self.batch
            return jnp.where(jnp.tile(flags, features), a, b)

        return jax.tree.map(pick, yes, no)

    def times(self, leaf: Array, factor: Array) -> Array:
        """A leaf in the loop with each example multiplied by its own factor, ``[B]``."""
        features_first = leaf.reshape(-1, self.batch)
        return (features_first * factor[None]).ravel()

    def step(self, old: Any, x: Array) -> tuple[Any, Array, PyTree]:
        x, h = self._cast(x, self.cell.hidden(old))
        values = (jnp.concatenate([x, h]), x, h)
        sums = []
        for weights, bias, value in zip(self.transposed, self.repeated_biases, values, strict=True):
            product = weights @ value.reshape(-1, self.batch)
            sums.append(_plus(product.ravel(), bias))
        new, kept = self._gate(old, *sums)
        return new, self.cell.hidden(new), kept

    def remember(self, olds: Any, xs: Array) -> PyTree:
        # One product for all steps of a chunk, in place of a small one for each.
        weights = (self.w_joint, self.w_z, self.w_a)
        x, h = self._cast(xs, self.leave(self.cell.hidden(olds)))
        values = (jnp.concatenate((x, h), axis=-1), x, h)
        sums = []
        for matrix, bias, value in zip(weights, self.biases, values, strict=True):
            total = _plus(_flat(value) @ matrix, bias)
            sums.append(total.reshape(*xs.shape[:-1], matrix.shape[1]))
        _, kept = jax.vmap(self._gate)(olds, *self.enter(sums))
        return kept

    def _gate(
        self,
        old: Any,
        joint: Array,
        z: Array,
        a: Array,
    ) -> tuple[Any, PyTree]:
        """The cell's gate, from the sum in the joint columns and from z and a in the rest.

        ``gate_residuals`` takes z and a of all columns. In the joint columns it reads only z + a,
        so the sum stands in for z, and zeros for a.
        """
        z = jnp.concatenate([joint, z])
        a = jnp.concatenate([jnp.zeros_like(joint), a])
        return self.cell.gate_residuals(self.params, old, z, a)

    def room(self, steps: int, *like: PyTree) -> PyTree:
        dtype = self.w_h.dtype
        buffers = []
        for columns in (self.maps.joint, self.w_z.shape[1], self.w_a.shape[1]):
            shape = (steps, columns * self.batch)
            buffers.append(_zeros(shape, dtype, like))
        return tuple(buffers)

    def back(
        self,
        room: PyTree,
        index: Array,
        old: Any,
        new: Any,
        kept: PyTree,
        d_new: Any,
        d_y: Array,
    ) -> tuple[Any, PyTree]:
        d_new = add_to_hidden(self.cell, d_new, d_y)
        adjoint = self.cell.gate_adjoint(self.params, old, new, kept, d_new)
        d_old, d_joint, d_z, d_a = adjoint
        joint_buffer, z_buffer, a_buffer = room
        joint_buffer = _write(joint_buffer, index, d_joint)
        z_buffer = _write(z_buffer, index, d_z)
        a_buffer = _write(a_buffer, index, d_a)
        room = (joint_buffer, z_buffer, a_buffer)

        # δ is read back from the buffer, where the blocks of the gates are one array already.
        # Concatenating the blocks for this product would compute them again, unvectorised.
        rows = [lax.dynamic_index_in_dim(buffer, index, keepdims=False) for buffer in room]
        joint, _, a = rows
        d_h = self._mix_back(joint, a)
        return add_to_hidden(self.cell, d_old, d_h), room

    def _mix_back(self, joint: Array, a: Array) -> Array:
        """W_h δ, the part of ∂L/∂hₜ₋₁ that passes through the recurrent weights."""
        d_h = self.w_h[:, : self.maps.joint] @ joint.reshape(-1, self.batch)
        if self.w_a.size:
            d_h = d_h + self.w_a @ a.reshape(-1, self.batch)
        return d_h.ravel()

    def to_params(
        self,
        olds: Any,
        xs: Array,
        kept: PyTree,
        seen: PyTree,
    ) -> PyTree:
        """Σ (xₜ or hₜ₋₁) δₜᵀ by one product, and Σ δₜ, over all steps and examples."""
        joint, z, a = map(_flat, seen)
        x, h = map(_flat, self._cast(xs, self.cell.hidden(olds)))

        def sums(delta: Array) -> Array:
            return jnp.sum(delta, axis=0)

        d_b = _side_by_side(sums, joint, z)
        d_c = _side_by_side(sums, joint, a)
        x_columns = x.T
        d_w_x = _side_by_side(lambda delta: jnp.matmul(x_columns, delta), joint, z)
        h_columns = h.T
        d_w_h = _side_by_side(lambda delta: jnp.matmul(h_columns, delta), joint, a)
        b, c = self.maps.b, self.maps.c
        d_maps = (
            d_w_x,
            d_w_h,
            None if b is None else d_b,
            # c has only the last columns, as where it was padded.
            None if c is None else d_c[d_c.size - c.size :],
        )

        # A map need not be a parameter itself: a cell may compute it from its parameters.
        maps = self.maps[:4]
        _, to_maps = jax.vjp(lambda params: self.cell.maps(params)[:4], self.params)
        d_maps = jax.tree.map(lambda d, w: d.astype(w.dtype), d_maps, maps)
        (d_params,) = to_maps(d_maps)
        return d_params

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        joint, z = map(_flat, seen[:2])
        d_xs = joint @ self.w_x[:, : self.maps.joint].T
        if self.w_z.size:
            d_xs = d_xs + z @ self.w_z.T
        return d_xs.reshape(xs.shape).astype(xs.dtype)

    def _cast(self, x: Array, h: Array) -> tuple[Array, Array]:
        """x and h in the dtype in which the cell multiplies, as ``affine`` casts them."""
        dtype = self.cell.dtype or jnp.result_type(x, h, self.w_x)
        return x.astype(dtype), h.astype(dtype)


class Lines(Columns):
    """The layout ``[B · F]`` for cells with one gate: examples first, so nothing is transposed.

    With one gate there are no slices of ``[B, 4H]`` to avoid, which is what ``Columns`` pays for by
    transposing states and inputs.
    """

    def __init__(
        self,
        cell: Any,
        params: PyTree,
        maps: Maps,
        batch: int,
    ) -> None:
        super().__init__(cell, params, maps, batch)
        bias = self.biases[0]
        # Both serve every step. Inside of the loop they would be computed again at each.
        self.tiled_bias = None if bias is None else jnp.tile(bias, batch)
        self.w_back = self.w_h.T

    def enter(self, tree: PyTree) -> PyTree:
        def flat(leaf: Array) -> Array:
            *lead, batch, features = leaf.shape
            return leaf.reshape(*lead, batch * features)

        return jax.tree.map(flat, tree)

    def leave(self, tree: PyTree) -> PyTree:
        def rows(leaf: Array) -> Array:
            features = leaf.shape[-1] // self.batch
            return leaf.reshape(*leaf.shape[:-1], self.batch, features)

        return jax.tree.map(rows, tree)

    def select(
        self,
        flags: Array,
        yes: PyTree,
        no: PyTree,
    ) -> PyTree:
        def pick(a: Array, b: Array) -> Array:
            # The example is the slowest index, so each flag is repeated for all of its features.
            features = a.shape[-1] // self.batch
            return jnp.where(jnp.repeat(flags, features), a, b)

        return jax.tree.map(pick, yes, no)

    def times(self, leaf: Array, factor: Array) -> Array:
        rows = leaf.reshape(self.batch, -1)
        return (rows * factor[:, None]).ravel()

    def step(self, old: Any, x: Array) -> tuple[Any, Array, PyTree]:
        x, h = self.leave((x, self.cell.hidden(old)))
        values = jnp.concatenate(self._cast(x, h), axis=-1)
        product = (values @ self.w_joint).ravel()
        total = _plus(product, self.tiled_bias)
        # All columns are joint: the sum stands in for z, and zeros for a.
        new, kept = self.cell.gate_residuals(self.params, old, total, jnp.zeros_like(total))
        return new, self.cell.hidden(new), kept

    def _mix_back(self, joint: Array, a: Array) -> Array:
        delta = self.leave(joint)
        return (delta @ self.w_back).ravel()


def add_to_hidden(
    cell: Any,
    state: PyTree,
    d_h: Array,
) -> PyTree:
    """``state`` with ``d_h`` added to its h, in the dtype of h."""
    h = cell.hidden(state)
    return cell.with_hidden(state, h + d_h.astype(h.dtype))


def _zeros(
    shape: tuple[int, ...],
    dtype: Dtype,
    like: PyTree,
) -> Array:
    """Zeros that vary over the mesh axes of ``like``.

    Inside ``jax.shard_map`` a loop refuses a carry that starts replicated and becomes varying when
    the first row is written.
    """
    zeros, _ = vary_together((jnp.zeros(shape, dtype), like))
    return zeros


def _total(
    b: Array | None,
    c: Array | None,
    part: slice,
) -> Array | None:
    """b + c in the columns ``part``; None where there is neither."""
    if b is None:
        return None if c is None else c[part]
    if c is None:
        return b[part]
    return b[part] + c[part]


def _plus(product: Array, bias: Array | None) -> Array:
    return product if bias is None else product + spread(bias, product)


def _flat(xs: Array) -> Array:
    """``[n, B, F]`` as ``[n · B, F]``: one product over two contracted axes is slow on a CPU."""
    steps, batch, features = xs.shape
    return xs.reshape(steps * batch, features)


def _write(
    buffer: Array,
    index: Array,
    blocks: tuple[Array, ...],
) -> Array:
    """``buffer`` with the blocks, one after the other, in row ``index``.

    They are written one by one, since XLA's CPU compiler does not vectorise what is computed inside
    of a concatenation, and would copy a row that is computed elsewhere.
    """
    start = 0
    for block in blocks:
        row = block.astype(buffer.dtype)[None]
        buffer = lax.dynamic_update_slice(buffer, row, (index, start))
        start += block.size
    return buffer


def _side_by_side(
    product: Callable[[Array], Array],
    joint: Array,
    rest: Array,
) -> Array:
    """``product`` of the joint columns and of the rest, concatenated.

    A part without columns is left out, which spares an LSTM or an RNN an empty product and a
    concatenation with its empty result.
    """
    parts = [product(columns) for columns in (joint, rest) if columns.shape[1]]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
