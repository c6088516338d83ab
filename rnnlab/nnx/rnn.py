"""A cell over a sequence, as a Flax NNX module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rnnlab import _check
from rnnlab.driver import check_params, unroll
from rnnlab.engines.choose import parse_engine
from rnnlab.interop import from_flax
from rnnlab.nnx.calls import flip, options_of, time_first
from rnnlab.nnx.keys import Rngs, dropout_key, has_dropout, params_key, stream
from rnnlab.typing import Array, Cell, Key, PyTree


class RNN(nnx.Module):
    """Any cell over a sequence: ``flax.nnx.RNN`` on rnnlab's engines.

    ``cell`` is one of Flax's (SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell) or any of
    rnnlab's, also a stack, a bidirectional cell or a :class:`rnnlab.Step`. A Flax cell stays a part
    of the module with its own parameters, so that names, checkpoints and shared weights remain;
    its carry has Flax's form. The parameters of an rnnlab cell are ``nnx.Param`` in ``params``, and
    its carry is the cell's state. The values and gradients are those of ``flax.nnx.RNN``, except
    that outputs beyond ``seq_lengths`` are zero (Flax goes on computing in the padding), and that
    a carry of length 0 is the initial one.

    >>> layer = RNN(nnx.LSTMCell(3, 8, rngs=nnx.Rngs(0)))
    >>> layer(jnp.ones((4, 20, 3))).shape
    (4, 20, 8)
    >>> import rnnlab
    >>> layer = RNN(rnnlab.GRU(8), 3, return_carry=True, rngs=nnx.Rngs(0))
    >>> carry, outputs = layer(jnp.ones((4, 20, 3)))
    >>> carry.h.shape, layer.params.w_h.shape
    ((4, 8), (8, 24))

    Args:
        cell: a cell of Flax NNX or of rnnlab.
        in_features: I, the features of an input; a Flax cell knows its own.
        time_major: whether inputs and outputs are ``[T, B, ...]`` in place of ``[B, T, ...]``.
        return_carry: whether a call returns ``(carry, outputs)``.
        reverse: runs from the last step to the first.
        keep_order: with ``reverse``, whether outputs stay at the steps of their inputs; if not,
            they are in the order in which they were computed.
        unroll: for Flax's signature; the engine decides this itself.
        params: initial parameters of an rnnlab cell, in place of drawn ones.
        engine: see :func:`rnnlab.unroll`.
        deterministic: whether dropout inside the cell is off; ``eval()`` and ``train()`` set it.
        rngs: draws the parameters of an rnnlab cell (stream "params"), the masks of its dropout
            ("dropout"), and the carry of a Flax cell with a ``carry_init`` ("carry").

    Raises:
        ValueError: for a Flax cell that rnnlab has no counterpart of, missing ``in_features`` or
            ``rngs``, and wherever :func:`rnnlab.unroll` does.
    """

    def __init__(
        self,
        cell: Any,
        in_features: int | None = None,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        unroll: int = 1,
        params: PyTree | None = None,
        engine: str = "auto",
        deterministic: bool = False,
        rngs: Rngs | bool = None,
    ) -> None:
        parse_engine(engine)
        self.cell: Any = cell
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.unroll = unroll
        self.engine = engine
        self.deterministic = deterministic
        self.is_flax = isinstance(cell, nnx.Module)
        if self.is_flax:
            self._adopt_flax(cell, in_features, params, rngs)
        else:
            self._adopt(cell, in_features, params, rngs)

    def _adopt_flax(self, cell: Any, in_features: Any, params: Any, rngs: Any) -> None:
        from_flax(cell)
        if params is not None:
            raise ValueError("a Flax cell has its own parameters; leave params out")
        if in_features not in (None, cell.in_features):
            raise ValueError(
                f"in_features is {in_features}, but the cell has {cell.in_features}; leave it out"
            )
        self.in_features = cell.in_features
        self.has_dropout = False
        self.params = nnx.data(None)
        # As in Flax, where True stands for a stream from the seed 0.
        is_default = rngs is None or rngs is True
        source = nnx.RngStream(0, tag="carry") if is_default else stream(rngs, "carry")
        self.rngs = nnx.data(source if cell.carry_init is not None else None)

    def _adopt(self, cell: Cell, in_features: Any, params: Any, rngs: Any) -> None:
        _check.hashable(cell)
        if in_features is None:
            raise ValueError(
                f"in_features is missing; give the features of an input, such as "
                f"RNN({type(cell).__name__}(...), 64, rngs=nnx.Rngs(0))"
            )
        self.in_features = _check.positive_int("in_features", in_features)
        if params is None:
            params = cell.init(params_key(rngs), self.in_features)
        else:
            check_params(cell, params, self.in_features, "in_features is {}")
        self.has_dropout = has_dropout(cell, params, self.in_features)
        self.params = nnx.data(jax.tree.map(_param, params))
        self.rngs = nnx.data(stream(rngs, "dropout") if self.has_dropout else None)

    def cell_and_params(self) -> tuple[Cell, PyTree]:
        """The cell and its parameters, as rnnlab's functions and instruments take them.

        >>> import rnnlab
        >>> layer = RNN(nnx.GRUCell(3, 8, rngs=nnx.Rngs(0)))
        >>> xs = jnp.ones((20, 4, 3))
        >>> flow = rnnlab.gradient_flow(*layer.cell_and_params(), xs, lambda ys: ys[-1].sum())
        """
        if self.is_flax:
            return from_flax(self.cell)
        return self.cell, jax.tree.map(_array, self.params, is_leaf=_is_param)

    def __call__(
        self,
        inputs: Array,
        *,
        initial_carry: PyTree | None = None,
        seq_lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
        rngs: Any = None,
    ) -> Any:
        """Outputs ``[B, T, H]``, or ``(carry, outputs)``; each option overrides the module's.

        Args:
            inputs: ``[B, T, I]``, with any number of batch axes; ``[T, B, I]`` with ``time_major``.
            initial_carry: the state before the first step; the cell's initial state by default.
            seq_lengths: ``[B]``: the steps beyond are padding.
            mask: ``[B, T]``, or ``[T, B]`` with ``time_major``: a step that is False is left out.
            resets: as ``mask``; where True the state is reset before that step.
            return_carry, time_major, reverse, keep_order, deterministic: as for the module.
            rngs: a source of keys in place of the module's own.
        """
        time_major, return_carry, reverse, keep_order = options_of(
            self,
            time_major=time_major,
            return_carry=return_carry,
            reverse=reverse,
            keep_order=keep_order,
        )
        xs, mask, resets = time_first(inputs, mask, resets, time_major)
        self._check_features(xs.shape[-1])
        cell, params = self.cell_and_params()
        state, ys = unroll(
            cell,
            params,
            xs,
            self._state(cell, initial_carry, xs.shape[1:-1], rngs),
            lengths=seq_lengths,
            mask=mask,
            resets=resets,
            reverse=reverse,
            engine=self.engine,
            key=self._key(deterministic, rngs),
        )
        if reverse and not keep_order:
            ys = flip(ys, seq_lengths)
        if not time_major:
            ys = jnp.moveaxis(ys, 0, -2)
        return (self._carry(state), ys) if return_carry else ys

    def _check_features(self, size: int) -> None:
        if size == self.in_features:
            return
        name = type(self.cell).__name__
        made = f"nnx.{name}({size}, ...)" if self.is_flax else f"RNN({name}(...), {size}, ...)"
        raise ValueError(
            f"inputs has {size} features, but the module was made for {self.in_features}; give "
            f"inputs [B, T, {self.in_features}], or make it as {made}"
        )

    def _state(self, cell: Cell, carry: Any, batch: tuple[int, ...], rngs: Any) -> PyTree | None:
        """The initial state of the cell from a carry in any form with its leaves."""
        if carry is None:
            if not self.is_flax or self.cell.carry_init is None:
                return None
            source = self.rngs if rngs is None else rngs
            carry = self.cell.initialize_carry((*batch, self.in_features), source)
        default = jax.eval_shape(lambda: cell.initial_state(batch))
        leaves, form = jax.tree.leaves(carry), jax.tree.structure(default)
        # The leaves of Flax's carries are in the order of rnnlab's: (c, h), or h alone.
        return jax.tree.unflatten(form, leaves) if len(leaves) == form.num_leaves else carry

    def _carry(self, state: Any) -> Any:
        if not self.is_flax:
            return state
        return tuple(state) if len(state) > 1 else state[0]

    def set_view(self, deterministic: bool | None = None) -> None:
        """Called by ``nnx.view``: whether dropout is off."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, deterministic: bool | None, rngs: Any) -> Key | None:
        off = self.deterministic if deterministic is None else deterministic
        return None if off or not self.has_dropout else dropout_key(self.rngs, rngs)


def _param(leaf: Array) -> nnx.Param:
    return nnx.Param(jnp.asarray(leaf))


def _array(param: nnx.Variable) -> Array:
    return param[...]


def _is_param(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
