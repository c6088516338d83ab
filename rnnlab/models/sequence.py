"""The base of the models that read one sequence by one cell, or by a network without recurrence."""

import dataclasses
from typing import Any, NamedTuple

import jax

from rnnlab import _check
from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.data.batch import Batch
from rnnlab.driver import unroll
from rnnlab.models.base import Model, check_params, drop, float_dtype, inputs, output_size, split
from rnnlab.models.embedding import Embedding, check_inputs, check_sizes
from rnnlab.models.network import Network
from rnnlab.models.pooling import PoolingParams
from rnnlab.typing import Array, Key, PyTree


class SequenceParams(NamedTuple):
    """The parameters of a classifier, a regressor or a tagger.

    embedding ``[V, E]``, those of the cell, of attention pooling, and the readout from the outputs
    of the cell. What the model does not have is None.
    """

    embedding: Array | None
    cell: Any
    pooling: PoolingParams | None
    readout: ReadoutParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceModel(Model):
    """A cell on codes or vectors, and a readout.

    Attributes:
        cell: any cell or layer of rnnlab, or a network without recurrence, to which ``engine``
            does not apply.
        outputs: O, the number of outputs of the readout.
        vocabulary_size: V, for inputs that are codes; None for vectors.
        embedding_size: E; the ``hidden_size`` of the cell by default.
    """

    cell: Any
    outputs: int
    vocabulary_size: int | None = None
    embedding_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.cell, Network):
            output_size("cell", self.cell)
        check_sizes(self.vocabulary_size, self.embedding_size)

    @property
    def codes(self) -> int | None:
        return self.vocabulary_size

    @property
    def embedding(self) -> Embedding | None:
        """The embedding of codes; None where the inputs are vectors."""
        if self.vocabulary_size is None:
            return None
        return embedding_for(self.cell, self.vocabulary_size, self.embedding_size)

    @property
    def readout(self) -> Readout:
        """The last layer, from the outputs of the cell."""
        return Readout(self.outputs, param_dtype=float_dtype(self.cell))

    def init(self, key: Key, batch: Batch) -> Any:
        k_embedding, k_cell, k_pooling, k_readout = init_keys(key, 4)
        embedding = self.embedding
        matrix = None if embedding is None else embedding.init(k_embedding)
        return SequenceParams(
            embedding=matrix,
            cell=self.cell.init(k_cell, input_size(inputs(batch), embedding)),
            pooling=self.init_pooling(k_pooling),
            readout=self.readout.init(k_readout, self.cell.output_size),
        )

    def head(self, params: Any, ys: Array, batch: Batch) -> Array:
        """The outputs of the model from those of its cell, ``[T, B, H]``."""
        raise NotImplementedError

    def init_pooling(self, key: Key) -> PoolingParams | None:
        """The parameters of attention pooling; None for models that do not pool."""
        del key
        return None

    def read(
        self,
        params: Any,
        xs: Array,
        state: PyTree | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Key | None = None,
    ) -> tuple[PyTree, Array]:
        """The final state and the outputs ``[T, B, H]`` of the cell, with dropout on them.

        The state is None for a network without recurrence.
        """
        k_embedding, k_cell, k_outputs = split(key, 3)
        embedding = self.embedding
        xs = checked(self, params, xs, embedding)
        if embedding is not None:
            with jax.named_scope("embedding"):
                xs = drop(k_embedding, self.dropout, embedding(params.embedding, xs))
        with jax.named_scope("cell"):
            if isinstance(self.cell, Network):
                ys = self.cell(params.cell, xs, lengths=lengths, resets=resets)
            else:
                state, ys = unroll(
                    self.cell,
                    params.cell,
                    xs,
                    state,
                    lengths=lengths,
                    resets=resets,
                    key=k_cell,
                    engine=self.engine,
                )
        return state, drop(k_outputs, self.dropout, ys)


def embedding_for(cell: Any, vocabulary_size: int, embedding_size: int | None) -> Embedding:
    """The embedding before a cell, of H features by default."""
    size = getattr(cell, "hidden_size", None) if embedding_size is None else embedding_size
    if size is None:
        raise ValueError(
            f"{type(cell).__name__} has no hidden_size, which is the default size of the "
            "embedding; give embedding_size"
        )
    return Embedding(vocabulary_size, size, float_dtype(cell))


def checked(
    model: Model,
    params: Any,
    xs: Any,
    embedding: Embedding | None,
    option: str = "vocabulary_size",
) -> Array:
    """``xs`` as an array; ValueError unless inputs and parameters are those of the model."""
    xs = _check.array("xs", xs)
    check_inputs(xs, embedding, option)
    check_params(model, params, xs)
    return xs


def input_size(xs: Any, embedding: Embedding | None, option: str = "vocabulary_size") -> int:
    """The number of features that the cell reads at each step."""
    check_inputs(xs, embedding, option)
    return xs.shape[-1] if embedding is None else embedding.size


def init_keys(key: Key, count: int) -> Any:
    """``count`` keys for initial parameters."""
    _check.key("key", key)
    return jax.random.split(key, count)
