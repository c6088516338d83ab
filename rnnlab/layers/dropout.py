"""Dropout for recurrent cells: variational dropout, DropConnect and zoneout.

Each wrapper is a cell with the parameters and the state of the cell inside. With a ``key``,
:func:`rnnlab.unroll` draws the masks; without one, there is no dropout, and zoneout uses its
expected value. Kept values are divided by the probability of keeping them, so nothing is scaled at
test time.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.contract import splits
from rnnlab.driver import RunCell, RunOptions
from rnnlab.layers.wrapper import Wrapper
from rnnlab.typing import Array, Cell, Key, PyTree


@dataclasses.dataclass(frozen=True)
class VariationalDropout(Wrapper):
    """One dropout mask per sequence; see :func:`variational_dropout`."""

    _: dataclasses.KW_ONLY
    inputs: float = 0.0
    state: float = 0.0
    outputs: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inputs", "state", "outputs"):
            _check.fraction(name, getattr(self, name), closed=False)
        if self.state:
            _check_splits(self.cell, "variational_dropout of the state")

    def run_cells(
        self, params: PyTree, xs: Array, state: PyTree, options: RunOptions, run: RunCell
    ) -> tuple[PyTree, Array]:
        """Runs the cell over the whole sequence, with masks if there is a key."""
        if options.key is None:
            return run(self.cell, params, xs, state, options)
        k_inputs, k_state, k_outputs, k_inside = jax.random.split(options.key, 4)
        options = options.replace(key=k_inside)
        # One mask for all steps: it has an axis of one step.
        xs = xs * keep_mask(k_inputs, self.inputs, xs[:1])
        cell = self.cell
        if self.state:
            h = cell.hidden(cell.initial_state(xs.shape[1:-1]))
            mask = keep_mask(k_state, self.state, h).astype(xs.dtype)
            every_step = jnp.broadcast_to(mask, (xs.shape[0], *mask.shape))
            xs = jnp.concatenate([xs, every_step], axis=-1)
            cell = MaskedRecurrence(cell, masks=h.shape[-1])
        state, ys = run(cell, params, xs, state, options)
        return state, ys * keep_mask(k_outputs, self.outputs, ys[:1])


def variational_dropout(
    cell: Cell, *, inputs: float = 0.0, state: float = 0.0, outputs: float = 0.0
) -> VariationalDropout:
    """``cell`` with the same dropout mask at every step (Gal & Ghahramani 2016, arXiv 1512.05287).

    xₜ ← xₜ ⊙ m_x, hₜ₋₁ ← hₜ₋₁ ⊙ m_h in the product with W_h, yₜ ← yₜ ⊙ m_y, one m per example.

    Args:
        cell: any cell; ``state`` needs one with project, mix and gate.
        inputs, state, outputs: the probabilities of dropping a feature, in [0, 1).

    Raises:
        ValueError: for a probability outside [0, 1), and for ``state`` with a cell that has only a
            step.

    >>> import jax, rnnlab
    >>> cell = rnnlab.layers.variational_dropout(rnnlab.LSTM(8), inputs=0.1, state=0.3)
    >>> params, xs = cell.init(jax.random.key(0), 4), jax.numpy.ones((20, 2, 4))
    >>> _, ys = rnnlab.unroll(cell, params, xs, key=jax.random.key(1))
    """
    return VariationalDropout(cell, inputs=inputs, state=state, outputs=outputs)


@dataclasses.dataclass(frozen=True)
class WeightDropout(Wrapper):
    """One mask per sequence on the weights; see :func:`weight_dropout`."""

    _: dataclasses.KW_ONLY
    rate: float
    weights: tuple[str, ...] = ("w_h",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.fraction("rate", self.rate, closed=False)

    def run_cells(
        self, params: PyTree, xs: Array, state: PyTree, options: RunOptions, run: RunCell
    ) -> tuple[PyTree, Array]:
        """Runs the cell over the whole sequence, with masked weights if there is a key."""
        if options.key is None:
            return run(self.cell, params, xs, state, options)
        k_weights, k_inside = jax.random.split(options.key)
        dropped = self._dropped(params, k_weights)
        return run(self.cell, dropped, xs, state, options.replace(key=k_inside))

    def _dropped(self, params: PyTree, key: Key) -> PyTree:
        paths = jax.tree_util.tree_leaves_with_path(params)
        leaves = []
        chosen = 0
        for place, (path, leaf) in enumerate(paths):
            if getattr(path[-1], "name", None) in self.weights:
                leaf = leaf * keep_mask(jax.random.fold_in(key, place), self.rate, leaf)
                chosen += 1
            leaves.append(leaf)
        if not chosen:
            raise ValueError(
                f"params hold none of the weights {', '.join(self.weights)}; name those to drop"
            )
        return jax.tree.unflatten(jax.tree.structure(params), leaves)


def weight_dropout(
    cell: Cell, rate: float, *, weights: tuple[str, ...] = ("w_h",)
) -> WeightDropout:
    """``cell`` with DropConnect on its recurrent weights.

    There is one mask per sequence, which the examples of a batch share.

    W_h ← W_h ⊙ m (Wan et al. 2013; Merity, Keskar & Socher 2018, arXiv 1708.02182).

    Args:
        cell: any cell with such weights.
        rate: the probability of dropping a weight, in [0, 1).
        weights: the names of the parameters to drop from.

    Raises:
        ValueError: for a rate outside [0, 1), and if no parameter has such a name.

    >>> import jax, rnnlab
    >>> cell = rnnlab.layers.weight_dropout(rnnlab.LSTM(8), 0.5)
    >>> params, xs = cell.init(jax.random.key(0), 4), jax.numpy.ones((20, 2, 4))
    >>> _, ys = rnnlab.unroll(cell, params, xs, key=jax.random.key(1))
    """
    return WeightDropout(cell, rate=rate, weights=tuple(weights))


@dataclasses.dataclass(frozen=True)
class Zoneout(Wrapper):
    """Units that keep their previous value at random; see :func:`zoneout`."""

    _: dataclasses.KW_ONLY
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.fraction("rate", self.rate, closed=False)

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One step in expectation: s ← p s + (1 − p) s′."""
        return ZoneoutStep(self.cell, self.rate).step(params, state, x)

    def run_cells(
        self, params: PyTree, xs: Array, state: PyTree, options: RunOptions, run: RunCell
    ) -> tuple[PyTree, Array]:
        """Runs the cell over the whole sequence; in expectation if there is no key."""
        if options.key is None:
            return run(ZoneoutStep(self.cell, self.rate), params, xs, state, options)
        k_masks, k_inside = jax.random.split(options.key)
        # The masks of all steps travel beside the inputs, since a step has no key of its own.
        size = sum(leaf.shape[-1] for leaf in jax.tree.leaves(state))
        keeps_old = jax.random.bernoulli(k_masks, self.rate, (*xs.shape[:-1], size))
        both = jnp.concatenate([xs, keeps_old.astype(xs.dtype)], axis=-1)
        cell = ZoneoutStep(self.cell, self.rate, masks=size)
        return run(cell, params, both, state, options.replace(key=k_inside))


def zoneout(cell: Cell, rate: float) -> Zoneout:
    """``cell`` whose state units keep their previous value with probability ``rate`` at each step.

    sₜ ← m ⊙ sₜ₋₁ + (1 − m) ⊙ s′ₜ with a new m at each step, and m = p without a key (Krueger et al.
    2017, arXiv 1606.01305). The output is the hidden state that results.

    Args:
        cell: a cell whose output is its hidden state, such as RNN, LSTM or GRU.
        rate: p, in [0, 1).

    Raises:
        ValueError: for a rate outside [0, 1), and for a cell without project, mix, gate and hidden.

    >>> import jax, rnnlab
    >>> cell = rnnlab.layers.zoneout(rnnlab.GRU(8), 0.1)
    >>> params, xs = cell.init(jax.random.key(0), 4), jax.numpy.ones((20, 2, 4))
    >>> _, ys = rnnlab.unroll(cell, params, xs, key=jax.random.key(1))
    """
    _check_splits(cell, "zoneout")
    return Zoneout(cell, rate=rate)


@dataclasses.dataclass(frozen=True)
class MaskedRecurrence(Wrapper):
    """A cell whose recurrent product takes h ⊙ m.

    The mask m, ``[..., H]``, follows the inputs of each step.
    """

    masks: int = 0

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One time step."""
        return self.gate(params, state, self.project(params, x), self.mix(params, state))

    def project(self, params: PyTree, xs: Array) -> Array:
        """The projection of the inputs, followed by the mask."""
        z = self.cell.project(params, xs[..., : -self.masks])
        return jnp.concatenate([z, xs[..., -self.masks :].astype(z.dtype)], axis=-1)

    def mix(self, params: PyTree, state: PyTree) -> Array:
        """An array of no features: the product needs the mask, which only ``gate`` has."""
        del params
        h = self.cell.hidden(state)
        return jnp.zeros((*h.shape[:-1], 0), h.dtype)

    def gate(self, params: PyTree, state: PyTree, z: Array, a: Array) -> tuple[PyTree, Array]:
        """The gates of the cell, with the masked product."""
        del a
        h = self.cell.hidden(state)
        masked = self.cell.with_hidden(state, h * z[..., -self.masks :].astype(h.dtype))
        return self.cell.gate(params, state, z[..., : -self.masks], self.cell.mix(params, masked))

    def hidden(self, state: PyTree) -> Array:
        """The hidden state of the cell."""
        return self.cell.hidden(state)


@dataclasses.dataclass(frozen=True)
class ZoneoutStep(Wrapper):
    """A cell with zoneout: with masks that follow the inputs of each step, or in expectation."""

    rate: float = 0.0
    masks: int = 0

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One time step."""
        width = x.shape[-1] - self.masks
        after, _ = self.cell.step(params, state, x[..., :width])
        old, tree = jax.tree.flatten(state)
        new = jax.tree.leaves(after)
        kept = []
        start = width
        for before, now in zip(old, new, strict=True):
            mask = self.rate
            if self.masks:
                mask = x[..., start : start + before.shape[-1]].astype(before.dtype)
                start += before.shape[-1]
            kept.append(mask * before + (1 - mask) * now)
        state = jax.tree.unflatten(tree, kept)
        return state, self.cell.hidden(state)


def _check_splits(cell: Any, what: str) -> None:
    """Raises ValueError unless the cell has project, mix, gate and hidden."""
    if not splits(cell) or not hasattr(cell, "hidden"):
        raise ValueError(
            f"{what} needs a cell with project, mix, gate and hidden, but "
            f"{type(cell).__name__} has not all four; give one derived from rnnlab.Recurrent"
        )


def keep_mask(key: Key, rate: float, like: Array) -> Array:
    """The factors of dropout, 0 or 1/(1 − rate), in the shape of ``like``."""
    if rate == 0:
        return jnp.ones_like(like)
    kept = jax.random.bernoulli(key, 1 - rate, like.shape)
    return kept.astype(like.dtype) / (1 - rate)
