"""Layers of cells, with residual connections and dropout between them."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from rnnlab import _check
from rnnlab.driver import RunCell, RunOptions
from rnnlab.layers.dropout import keep_mask
from rnnlab.typing import Array, Cell, Key


class StackParams(NamedTuple):
    """The parameters of each layer, first to last."""

    layers: tuple[Any, ...]


class StackState(NamedTuple):
    """The state of each layer, first to last."""

    layers: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Stack:
    """Layers of cells, each reading the outputs of the one below; see :func:`stack`."""

    cells: tuple[Any, ...]
    _: dataclasses.KW_ONLY
    residual: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("a stack needs at least one cell; give stack([cell, ...])")
        for cell in self.cells:
            _check.hashable(cell)
        _check.flag("residual", self.residual)
        _check.fraction("dropout", self.dropout, closed=False)
        if not self.residual:
            return
        for below, above in zip(self.cells, self.cells[1:], strict=False):
            if not hasattr(above, "hidden_size"):
                continue
            inputs = getattr(below, "output_size", None)
            outputs = getattr(above, "output_size", None)
            # A foreign cell does not tell its size. It is checked at the first step instead.
            if inputs is not None and outputs is not None and inputs != outputs:
                raise ValueError(
                    f"a residual connection adds {inputs} features to {outputs}; give "
                    "neighbouring layers the same size"
                )

    @property
    def hidden_size(self) -> int:
        """H of the last layer that has one."""
        for cell in reversed(self.cells):
            if hasattr(cell, "hidden_size"):
                return cell.hidden_size
        raise AttributeError("no layer has a hidden_size")

    @property
    def output_size(self) -> int:
        return self.cells[-1].output_size

    def init(self, key: Key, input_size: int) -> StackParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        keys = jax.random.split(key, len(self.cells))
        layers = []
        for layer_key, cell in zip(keys, self.cells, strict=True):
            layers.append(cell.init(layer_key, input_size))
            input_size = cell.output_size
        return StackParams(tuple(layers))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> StackState:
        return StackState(tuple(cell.initial_state(batch_shape) for cell in self.cells))

    def step(self, params: StackParams, state: StackState, x: Array) -> tuple[StackState, Array]:
        """All layers, one time step, without dropout."""
        self._check_params(params)
        states = []
        for index, cell in enumerate(self.cells):
            after, y = cell.step(params.layers[index], state.layers[index], x)
            states.append(after)
            x = self._above(index, x, y, 0)
        return StackState(tuple(states)), x

    def run_cells(
        self, params: StackParams, xs: Array, state: StackState, options: RunOptions, run: RunCell
    ) -> tuple[StackState, Array]:
        """Each layer over the whole sequence, one after the other."""
        self._check_params(params)
        keys = self.keys(options.key)
        states = []
        for index, cell in enumerate(self.cells):
            k_drop, k_inner = self.keys(keys[index], 2)
            mask = self.mask(index, k_drop, xs)
            # A residual connection adds the inputs themselves, not what dropout left of them.
            inputs = xs if mask is None else xs * mask
            own_options = options.replace(key=k_inner).for_part(
                lambda state, index=index: state.layers[index]
            )
            after, ys = run(cell, params.layers[index], inputs, state.layers[index], own_options)
            states.append(after)
            xs = self._above(index, xs, ys, 1)
        return StackState(tuple(states)), xs

    def _check_params(self, params: Any) -> None:
        """ValueError unless there are parameters for each layer.

        The driver checks nothing more of a stack with a foreign layer.
        """
        if not isinstance(params, StackParams) or len(params.layers) != len(self.cells):
            raise ValueError(
                f"params has the structure {_check.outline(params)}, but {len(self.cells)} layers "
                "are needed; give rnnlab.layers.StackParams((params_0, ...))"
            )

    def _above(self, index: int, xs: Array, ys: Any, lead: int) -> Array:
        """The inputs of the next layer: outputs, plus inputs where a connection skips it."""
        if index < len(self.cells) - 1:
            _check.one_output(ys, xs.shape[lead:-1], lead, "the layer above needs")
        if not self.skips(index):
            return ys
        if xs.shape != ys.shape:
            raise ValueError(
                f"a residual connection adds {xs.shape[-1]} features to {ys.shape[-1]}; give "
                "neighbouring layers the same size"
            )
        return xs + ys

    def skips(self, index: int) -> bool:
        """Whether a connection skips this layer: never the first, a readout or a Step."""
        return self.residual and index > 0 and hasattr(self.cells[index], "hidden_size")

    def mask(self, index: int, key: Key | None, xs: Array) -> Array | None:
        """The factors of dropout on the inputs of a layer, 0 or 1/(1 − p); None where it is off."""
        if key is None or index == 0 or self.dropout == 0:
            return None
        return keep_mask(key, self.dropout, xs)

    def keys(self, key: Key | None, count: int | None = None) -> Sequence[Key | None]:
        """``count`` keys, by default one for each layer; all None where ``key`` is None."""
        count = len(self.cells) if count is None else count
        return (None,) * count if key is None else tuple(jax.random.split(key, count))


def stack(cells: Sequence[Cell], *, residual: bool = False, dropout: float = 0.0) -> Stack:
    """A cell made of layers: each cell reads the outputs of the one before.

    yₜ⁽ˡ⁾ = cellₗ(dropout(yₜ⁽ˡ⁻¹⁾)), plus yₜ⁽ˡ⁻¹⁾ itself where ``residual`` (from the second layer
    on, except for a readout or a Step).

    >>> import rnnlab
    >>> cell = rnnlab.stack([rnnlab.GRU(8), rnnlab.GRU(8)], residual=True, dropout=0.1)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> len(params.layers)
    2

    Args:
        cells: cells, bidirectional cells, readouts or :class:`rnnlab.Step`, first to last.
        residual: adds the inputs of each layer to its outputs (Wu et al. 2016, arXiv 1609.08144).
        dropout: the probability of dropping an output between two layers (not before the first),
            drawn anew at each step; on only where ``unroll`` is given a ``key`` (Zaremba et al.
            2014, arXiv 1409.2329).

    Raises:
        ValueError: for no cells, a dropout outside [0, 1), or residual layers of different sizes.
    """
    if not isinstance(cells, Iterable):
        raise ValueError(
            f"cells is {_check.brief(cells)}; give a list of them, such as stack([cell, ...])"
        )
    return Stack(tuple(cells), residual=residual, dropout=dropout)
