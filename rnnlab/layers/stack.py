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
    """Layers of cells, each reading the outputs of the one below; made by :func:`stack`."""

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
        for below, above in zip(self.cells, self.cells[1:], strict=False):
            widths = getattr(below, "output_size", None), getattr(above, "output_size", None)
            if (
                self.residual
                and hasattr(above, "hidden_size")
                and None not in widths
                and widths[0] != widths[1]
            ):
                raise ValueError(
                    f"a residual connection adds {widths[0]} features to {widths[1]}; give neighbouring layers one size"
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
        """Fresh parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        layers = []
        for k, cell in zip(jax.random.split(key, len(self.cells)), self.cells, strict=True):
            layers.append(cell.init(k, input_size))
            input_size = cell.output_size
        return StackParams(tuple(layers))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> StackState:
        return StackState(tuple(cell.initial_state(batch_shape) for cell in self.cells))

    def step(self, params: StackParams, state: StackState, x: Array) -> tuple[StackState, Array]:
        """All layers, one time step, without dropout."""
        self._check_params(params)
        after = []
        for number, cell in enumerate(self.cells):
            layer, y = cell.step(params.layers[number], state.layers[number], x)
            after.append(layer)
            x = self._above(number, x, y, 0)
        return StackState(tuple(after)), x

    def run_cells(
        self, params: StackParams, xs: Array, state: StackState, options: RunOptions, run: RunCell
    ) -> tuple[StackState, Array]:
        """Each layer over the whole sequence, one after the other."""
        self._check_params(params)
        states = []
        for number, (cell, key) in enumerate(zip(self.cells, self.keys(options.key), strict=True)):
            k_drop, k_inner = self.keys(key, 2)
            mask = self.mask(number, k_drop, xs)
            seen = xs if mask is None else xs * mask
            after, ys = run(
                cell,
                params.layers[number],
                seen,
                state.layers[number],
                options.replace(key=k_inner),
            )
            states.append(after)
            xs = self._above(number, xs, ys, 1)
        return StackState(tuple(states)), xs

    def _check_params(self, params: Any) -> None:
        """ValueError unless there are parameters for each layer, which foreign layers leave unchecked."""
        if not isinstance(params, StackParams) or len(params.layers) != len(self.cells):
            raise ValueError(
                f"params has the structure {_check.outline(params)}, but {len(self.cells)} layers "
                "are needed; give rnnlab.layers.StackParams((of the first layer, ...))"
            )

    def _above(self, number: int, xs: Array, ys: Any, lead: int) -> Array:
        """What leaves layer ``number``: its outputs, plus its inputs where a connection skips it."""
        if number < len(self.cells) - 1:
            _check.one_output(ys, xs.shape[lead:-1], lead, "the layer above needs")
        if not self.skips(number):
            return ys
        if xs.shape != ys.shape:
            raise ValueError(
                f"a residual connection adds {xs.shape[-1]} features to {ys.shape[-1]}; give "
                "neighbouring layers one size"
            )
        return xs + ys

    def skips(self, number: int) -> bool:
        """Whether a connection leads around layer ``number``: not around the first, a readout or a Step."""
        return self.residual and number > 0 and hasattr(self.cells[number], "hidden_size")

    def mask(self, number: int, key: Key | None, xs: Array) -> Array | None:
        """What dropout multiplies the inputs of layer ``number`` with: 0 or 1/(1 − p); None where it is off."""
        if key is None or number == 0 or self.dropout == 0:
            return None
        return keep_mask(key, self.dropout, xs)

    def keys(self, key: Key | None, number: int | None = None) -> Sequence[Key | None]:
        """One key for each layer, or ``number`` keys; None for each where there is none."""
        number = len(self.cells) if number is None else number
        return (None,) * number if key is None else tuple(jax.random.split(key, number))


def stack(cells: Sequence[Cell], *, residual: bool = False, dropout: float = 0.0) -> Stack:
    """A cell made of layers: each cell reads the outputs of the one before.

    yₜ⁽ˡ⁾ = cellₗ(dropout(yₜ⁽ˡ⁻¹⁾)), plus yₜ⁽ˡ⁻¹⁾ itself where ``residual`` (from the second on; no readout, no Step).

    Args:
        cells: cells, bidirectional cells, readouts or :class:`rnnlab.Step`, first to last.
        residual: adds to each layer's outputs its inputs, as in Wu et al. 2016, arXiv 1609.08144.
        dropout: the probability of dropping an output between two layers (not before the first), drawn afresh at
            each step; on only where ``unroll`` is given a ``key`` (Zaremba et al. 2014, arXiv 1409.2329).

    Raises:
        ValueError: for no cells, a dropout outside [0, 1), or residual layers of different sizes.
    """
    if not isinstance(cells, Iterable):
        raise ValueError(
            f"cells is {_check.brief(cells)}; give a list of them, such as stack([cell, ...])"
        )
    return Stack(tuple(cells), residual=residual, dropout=dropout)
