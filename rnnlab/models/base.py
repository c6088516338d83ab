"""The base of the models: options that they share, and checks of the cell and of the batch."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.checks import check_is_batch, check_ranges
from rnnlab.engines.choose import parse_engine
from rnnlab.layers.dropout import keep_mask
from rnnlab.models.network import Network
from rnnlab.models.scores import Scored
from rnnlab.models.table import Table, count
from rnnlab.typing import Array, Dtype, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A network and its loss. Frozen and hashable: equal models share one compiled program.

    Attributes:
        dropout: the probability of dropping a feature of an embedding, and of the outputs of the
            cell before the readout; on only where a ``key`` is given (Zaremba et al. 2014, arXiv
            1409.2329). Vectors that are inputs are not dropped.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.
    """

    dropout: float = 0.0
    engine: str = "auto"

    def __post_init__(self) -> None:
        _check.fraction("dropout", self.dropout, closed=False)
        parse_engine(self.engine)

    @property
    def codes(self) -> int | None:
        """The number of symbols that ``batch.xs`` may hold; None for vectors."""
        return None

    @property
    def labels(self) -> int | None:
        """The number of labels that ``batch.targets`` may hold; None for numbers."""
        return None

    def check_batch(self, batch: Batch) -> None:
        """ValueError for a code, a label or a length out of range; for arrays, not traced ones."""
        check_is_batch(batch)
        check_ranges(batch, codes=self.codes, labels=self.labels)

    def init(self, key: Key, batch: Batch) -> Any:
        """Initial parameters; only the shapes and dtypes of ``batch`` matter."""
        raise NotImplementedError

    def apply(self, params: Any, batch: Batch, *, key: Key | None = None) -> Array:
        """The outputs; ``key`` enables dropout."""
        raise NotImplementedError

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The loss and the metrics of ``outputs``, from :meth:`apply`."""
        raise NotImplementedError

    def loss(self, params: Any, batch: Batch, key: Key | None = None) -> Scored:
        """``(value, metrics)``: the mean over the targets that count, and a dict of scalars.

        Without a ``key`` it is that of evaluation: nothing is dropped.
        """
        return self.score(self.apply(params, batch, key=key), batch)

    def table(self, batch: Batch) -> Table:
        """The parameters and operations of each part for the sizes of ``batch``; print it."""
        # The steps of the scan are those of the equations, one after the other.
        return count(dataclasses.replace(self, engine="scan"), batch)


def split(key: Key | None, count: int) -> Sequence[Key | None]:
    """``count`` keys; all None where ``key`` is None."""
    if key is None:
        return (None,) * count
    _check.key("key", key)
    return tuple(jax.random.split(key, count))


def drop(key: Key | None, rate: float, x: Array) -> Array:
    """``x`` with dropout; unchanged where ``key`` is None."""
    if key is None or rate == 0:
        return x
    return x * keep_mask(key, rate, x)


def output_size(name: str, cell: Any) -> int:
    """The number of features of a cell's outputs; ValueError where it does not say it."""
    _check.hashable(cell)
    size = getattr(cell, "output_size", None)
    if size is None:
        raise ValueError(
            f"{name} is a {type(cell).__name__}, which has no output_size, so no layer can be put "
            "on it; give a cell that has one, such as rnnlab.LSTM(128)"
        )
    return size


def causal(name: str, cell: Any, purpose: str) -> None:
    """ValueError for a cell that reads the future."""
    if reads_future(cell):
        raise ValueError(
            f"{name} is bidirectional, so its outputs depend on the future, but {purpose}; give a "
            "cell that reads in one direction, such as rnnlab.LSTM(128)"
        )


def reads_future(cell: Any) -> bool:
    """Whether a cell, or a cell inside of it, runs against time."""
    if hasattr(cell, "backward"):
        return True
    inner = getattr(cell, "cells", ())
    if hasattr(cell, "stack"):
        inner = (*inner, cell.stack)
    return any(map(reads_future, inner))


def float_dtype(cell: Any) -> Dtype:
    """The dtype of the layers around a cell: that of its state, float32 where it has none."""
    if isinstance(cell, Network):
        return cell.param_dtype
    for leaf in jax.tree.leaves(jax.eval_shape(lambda: cell.initial_state((1,)))):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.dtype
    return jnp.dtype(jnp.float32)


def inputs(batch: Any) -> Any:
    """The inputs of a batch; ValueError for anything but a batch."""
    check_is_batch(batch)
    if isinstance(batch.xs, jax.ShapeDtypeStruct):
        return batch.xs
    return _check.array("xs", batch.xs)


def unpacked(batch: Any) -> Any:
    """The inputs of a batch with one sequence in each column.

    ValueError for resets, which pack several sequences into a column: the model has one output for
    all of it.
    """
    xs = inputs(batch)
    if batch.resets is not None:
        raise ValueError(
            "batch has resets, which pack several sequences into a column, but the model reads one "
            "sequence in each; give every sequence a column of its own, with lengths"
        )
    return xs


def targets(batch: Batch) -> Array:
    """The targets of a batch as an array; ValueError where there are none."""
    check_is_batch(batch)
    if batch.targets is None:
        raise ValueError(
            "batch has no targets, but they are needed here; give rnnlab.data.Batch(xs, targets)"
        )
    return _check.array("targets", batch.targets)


def shape_of(value: Any) -> tuple[tuple[int, ...], Dtype]:
    """The shape and dtype of an array or of a ``jax.ShapeDtypeStruct``."""
    return np.shape(value), jnp.result_type(value)


def check_params(model: Model, params: Any, xs: Any) -> None:
    """ValueError unless ``params`` are those of the model for such inputs.

    The parameters of a foreign cell may be any arrays.
    """
    shape, dtype = shape_of(xs)
    # Parameters depend on the features alone, and codes have none.
    features = shape[-1:] if jnp.issubdtype(dtype, jnp.floating) else (1,)
    needed = _params_shapes(model, (*(1,) * (len(shape) - 1), *features), dtype)
    if needed is None:
        return
    _check.same_tree("params", params, needed, "make them with model.init(key, batch)")


# Tracing init takes milliseconds, and every call of a model asks for these shapes.
@functools.lru_cache(maxsize=256)
def _params_shapes(model: Model, shape: tuple[int, ...], dtype: Dtype) -> Any:
    """The shapes of the parameters for inputs of a shape; None for a foreign cell."""
    batch = Batch(jax.ShapeDtypeStruct(shape, dtype), None)
    try:
        return jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    except _check.ForeignCellError:
        return None
