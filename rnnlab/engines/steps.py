"""One step of a split cell and its adjoint, in the two layouts that the fused pass knows.

sₜ = gate(θ, sₜ₋₁, zₜ, aₜ) with zₜ = project(θ, xₜ) and aₜ = mix(θ, sₜ₋₁). Given λ = ∂L/∂sₜ a step back gives
∂L/∂sₜ₋₁, and as ``seen`` what the parameters' gradients are made of, later and for many steps at once.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.typing import Array, PyTree


class Steps(Protocol):
    """A cell and its parameters, ready for a loop; sequences are ``[n, B, features]`` outside of it."""

    def enter(self, tree: PyTree) -> PyTree:
        """A sequence, or a state, as the loop reads it."""
        ...

    def leave(self, tree: PyTree) -> PyTree:
        """A state as it is outside of the loop."""
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

    def back(self, old: PyTree, new: PyTree, kept: PyTree, d_new: PyTree, d_y: Array) -> tuple[PyTree, PyTree]:
        """``(∂L/∂old, seen)``."""
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

    leave = enter

    def choose(self, flags: Array, yes: PyTree, no: PyTree) -> PyTree:
        return jax.tree.map(lambda a, b: jnp.where(flags.reshape(-1, *(1,) * (b.ndim - 1)), a, b), yes, no)

    def step(self, old: PyTree, x: Array) -> tuple[PyTree, Array, PyTree]:
        z, a = self.remember(old, x)
        return *self.cell.gate(self.params, old, z, a), (z, a)

    def remember(self, olds: PyTree, xs: Array) -> PyTree:
        return self.cell.project(self.params, xs), self.cell.mix(self.params, olds)

    def back(self, old: PyTree, new: PyTree, kept: PyTree, d_new: PyTree, d_y: Array) -> tuple[PyTree, PyTree]:
        _, through_gate = jax.vjp(lambda old, z, a: self.cell.gate(self.params, old, z, a), old, *kept)
        _, through_mix = jax.vjp(lambda old: self.cell.mix(self.params, old), old)
        d_old, d_z, d_a = through_gate((d_new, d_y))
        return jax.tree.map(jnp.add, d_old, through_mix(d_a)[0]), (d_z, d_a, d_new, d_y)

    def to_params(self, olds: PyTree, xs: Array, kept: PyTree, seen: PyTree) -> PyTree:
        d_z, d_a, d_new, d_y = seen
        _, to_project = jax.vjp(lambda params: self.cell.project(params, xs), self.params)
        _, to_mix = jax.vjp(lambda params: self.cell.mix(params, olds), self.params)
        _, to_gate = jax.vjp(lambda params: self.cell.gate(params, olds, *kept), self.params)
        return jax.tree.map(lambda *parts: sum(parts), to_project(d_z)[0], to_mix(d_a)[0], to_gate((d_new, d_y))[0])

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        return jax.vjp(lambda xs: self.cell.project(self.params, xs), xs)[1](seen[0])[0]


class Columns:
    """For cells with ``maps``: features first, ``[features, B]``, and one product for all that x and h share.

    XLA's CPU compiler is quicker at weights times columns than at rows times weights, and it keeps gate arithmetic
    vectorised where every gate is an array of its own.
    """

    def __init__(self, cell: Any, params: PyTree) -> None:
        self.cell, self.params, self.maps = cell, params, cell.maps(params)
        w_x, w_h = (w.astype(cell.dtype or w.dtype) for w in self.maps[:2])
        b, c = (bias if bias is None else bias.astype(cell.dtype or bias.dtype) for bias in self.maps[2:4])
        if c is not None:
            c = jnp.pad(c, (w_h.shape[1] - c.size, 0))
        cut = self.maps.joint
        self.w_x, self.w_h, self.b, self.c = w_x, w_h, b, c
        self.w_joint, self.b_joint = jnp.concatenate([w_x[:, :cut], w_h[:, :cut]]), _total(b, c, slice(cut))
        self.w_z, self.b_z = w_x[:, cut:], _total(b, None, slice(cut, None))
        self.w_a, self.b_a = w_h[:, cut:], _total(None, c, slice(cut, None))
        self.turned = self.w_joint.T, self.w_z.T, self.w_a.T
        self.gate = jax.vmap(lambda *given: cell.gate(params, *given), -1, -1)
        self.gate_residuals = jax.vmap(lambda *given: cell.gate_residuals(params, *given), -1, -1)

    def enter(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, -1, -2), tree)

    leave = enter

    def choose(self, flags: Array, yes: PyTree, no: PyTree) -> PyTree:
        return jax.tree.map(lambda a, b: jnp.where(flags, a, b), yes, no)

    def step(self, old: PyTree, x: Array) -> tuple[PyTree, Array, PyTree]:
        x, h = self._cast(x, old.h)
        weights = zip(self.turned, (self.b_joint, self.b_z, self.b_a), strict=True)
        inputs = jnp.concatenate([x, h]), x, h
        sums = tuple(_plus(w @ v, None if b is None else b[:, None]) for (w, b), v in zip(weights, inputs, strict=True))
        if not self.cell.has_adjoint:
            return *self.gate(old, *_blocks(sums)), sums
        new, kept = self.gate_residuals(old, *_blocks(sums))
        return new, new.h, kept

    def remember(self, olds: PyTree, xs: Array) -> PyTree:
        xs, h = self._cast(xs, olds.h)
        weights = (self.w_joint, self.b_joint), (self.w_z, self.b_z), (self.w_a, self.b_a)
        inputs = jnp.concatenate([xs, h], axis=-1), xs, h
        sums = tuple(_plus(_flat(v) @ w, b) for (w, b), v in zip(weights, inputs, strict=True))
        sums = self.enter(tuple(leaf.reshape(*xs.shape[:-1], leaf.shape[-1]) for leaf in sums))
        if not self.cell.has_adjoint:
            return sums
        return jax.vmap(self.gate_residuals)(self.enter(olds), *_blocks(sums))[1]

    def back(self, old: PyTree, new: PyTree, kept: PyTree, d_new: PyTree, d_y: Array) -> tuple[PyTree, PyTree]:
        if self.cell.has_adjoint:
            d_old, *blocks = self.cell.gate_adjoint(self.params, old, new, kept, d_new._replace(h=d_new.h + d_y))
            joint, z, a = (_pile(part, d_y) for part in blocks)
            seen = joint, z, a
        else:
            _, through_gate = jax.vjp(lambda old, *sums: self.gate(old, *_blocks(sums)), old, *kept)
            d_old, joint, z, a = through_gate((d_new, d_y))
            seen = joint, z, a, d_new, d_y
        d_h = self.w_h[:, : self.maps.joint] @ joint.astype(self.w_h.dtype)
        if self.w_a.size:
            d_h = d_h + self.w_a @ a.astype(self.w_h.dtype)
        return d_old._replace(h=d_old.h + d_h.astype(d_old.h.dtype)), seen

    def to_params(self, olds: PyTree, xs: Array, kept: PyTree, seen: PyTree) -> PyTree:
        joint, z, a, *outside = seen
        joint, z, a = (_flat(d).astype(self.w_x.dtype) for d in (joint, z, a))
        x, h = (_flat(v) for v in self._cast(xs, olds.h))
        d_b, d_c = (_beside(jnp.sum, joint, rest, axis=0) for rest in (z, a))
        d_maps = (
            _beside(jnp.matmul, joint, z, x.T),
            _beside(jnp.matmul, joint, a, h.T),
            None if self.maps.b is None else d_b,
            None if self.maps.c is None else d_c[d_c.size - self.maps.c.size :],
        )
        _, to_maps = jax.vjp(lambda params: self.cell.maps(params)[:4], self.params)
        (d_params,) = to_maps(jax.tree.map(lambda d, w: d.astype(w.dtype), d_maps, self.maps[:4]))
        if self.cell.has_adjoint:
            return d_params
        given = olds, *_blocks(self.leave(kept), axis=-1)
        _, to_gate = jax.vjp(lambda params: self.cell.gate(params, *given), self.params)
        return jax.tree.map(jnp.add, d_params, to_gate(tuple(outside))[0])

    def to_inputs(self, xs: Array, seen: PyTree) -> Array:
        joint, z = (_flat(d).astype(self.w_x.dtype) for d in seen[:2])
        d_xs = joint @ self.w_x[:, : self.maps.joint].T
        if self.w_z.size:
            d_xs = d_xs + z @ self.w_z.T
        return d_xs.reshape(xs.shape).astype(xs.dtype)

    def _cast(self, x: Array, h: Array) -> tuple[Array, Array]:
        dtype = self.cell.dtype or jnp.result_type(x, h, self.w_x)
        return x.astype(dtype), h.astype(dtype)


def _blocks(sums: tuple[Array, ...], axis: int = -2) -> tuple[Array, Array]:
    """z and a as ``gate`` wants them: where it sees only their sum, z is the sum and a is zero."""
    joint, z, a = sums
    return jnp.concatenate([joint, z], axis=axis), jnp.concatenate([jnp.zeros_like(joint), a], axis=axis)


def _total(b: Array | None, c: Array | None, part: slice) -> Array | None:
    """b + c in the columns ``part``; None where there is neither."""
    there = [bias[part] for bias in (b, c) if bias is not None]
    return sum(there[1:], there[0]) if there else None


def _plus(product: Array, bias: Array | None) -> Array:
    return product if bias is None else product + bias


def _flat(xs: Array) -> Array:
    """``[n, B, F]`` as ``[n · B, F]``: one product over two contracted axes is slow on a CPU."""
    return xs.reshape(xs.shape[0] * xs.shape[1], xs.shape[2])


def _pile(blocks: tuple[Array, ...], like: Array) -> Array:
    """Blocks ``[H, B]`` one below the other: written one by one, since XLA's CPU compiler computes what stands in a
    concatenation element by element."""
    if len(blocks) == 1:
        return blocks[0]
    pile = jnp.zeros((sum(block.shape[0] for block in blocks), like.shape[-1]), like.dtype)
    below = 0
    for block in blocks:
        pile = lax.dynamic_update_slice(pile, block.astype(pile.dtype), (below, 0))
        below += block.shape[0]
    return pile


def _beside(product: Callable[..., Array], joint: Array, rest: Array, *left: Array, **how: Any) -> Array:
    """``product`` of the joint columns and of the rest, side by side."""
    parts = [product(*left, columns, **how) for columns in (joint, rest) if columns.shape[1]]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
