"""The base of layers around one cell: they share its parameters, its state and its sizes."""

import dataclasses
from typing import Any

from rnnlab import _check
from rnnlab.typing import Array, Key, PyTree


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """A cell around another one, with the parameters and the state of that one."""

    cell: Any

    def __post_init__(self) -> None:
        _check.hashable(self.cell)

    @property
    def cells(self) -> tuple[Any]:
        """The cell inside."""
        return (self.cell,)

    @property
    def hidden_size(self) -> int:
        return self.cell.hidden_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def init(self, key: Key, input_size: int) -> PyTree:
        """The parameters of the cell inside."""
        return self.cell.init(key, input_size)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return self.cell.initial_state(batch_shape)

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Array]:
        """The step of the cell inside."""
        return self.cell.step(params, state, x)
