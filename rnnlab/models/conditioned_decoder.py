"""The conditioned decoder: from one vector to a sequence of symbols."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.data.batch import Batch
from rnnlab.data.checks import check_is_batch, check_ranges
from rnnlab.driver import unroll
from rnnlab.models.base import check_params, float_dtype, inputs, shape_of, unpacked
from rnnlab.models.decoder import DecoderModel
from rnnlab.models.loops import step_with
from rnnlab.models.sequence import init_keys
from rnnlab.models.start import start_map, start_state
from rnnlab.typing import Array, Cell, Key, PyTree


class ConditionedDecoderParams(NamedTuple):
    """``start`` maps the vector to the first state, ``inputs`` adds it to every input, or is None.

    embedding ``[V, E]``, those of the cell, and the readout to the logits.
    """

    start: ReadoutParams
    inputs: ReadoutParams | None
    embedding: Array
    decoder: Any
    readout: ReadoutParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionedDecoder(DecoderModel):
    """A sequence made of a vector; see :func:`conditioned_decoder`.

    Attributes:
        every_input: whether the vector is also added to the input of every step.
    """

    every_input: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        start_map("cell", self.decoder)
        _check.flag("every_input", self.every_input)

    @property
    def added(self) -> Readout:
        """The linear map from the vector to what is added to every input."""
        return Readout(self.embedding.size, bias=False, param_dtype=float_dtype(self.decoder))

    def init(self, key: Key, batch: Batch) -> ConditionedDecoderParams:
        k_start, k_inputs, k_embedding, k_cell, k_readout = init_keys(key, 5)
        size = _vector_size(inputs(batch))
        return ConditionedDecoderParams(
            start=start_map("cell", self.decoder).init(k_start, size),
            inputs=self.added.init(k_inputs, size) if self.every_input else None,
            embedding=self.embedding.init(k_embedding),
            decoder=self.decoder.init(k_cell, self.embedding.size),
            readout=self.readout.init(k_readout, self.decoder.output_size),
        )

    def begin(self, params: Any, batch: Batch, key: Key | None) -> tuple[Array | None, PyTree]:
        vector = unpacked(batch)
        _vector_size(vector)
        check_params(self, params, vector)
        with jax.named_scope("start"):
            state = start_state(self.decoder, params.start, vector)
        if not self.every_input:
            return None, state
        with jax.named_scope("inputs"):
            return self.added(params.inputs, vector), state

    def advance(
        self, params: Any, memory: Array | None, state: PyTree, x: Array, key: Key | None
    ) -> tuple[PyTree, tuple[Array, None]]:
        x = x if memory is None else x + memory
        with jax.named_scope("decoder"):
            state, y = step_with(self.decoder, params.decoder, state, x, key)
        return state, (y, None)

    def advance_all(
        self, params: Any, memory: Array | None, state: PyTree, xs: Array, key: Key | None
    ) -> tuple[Array, None]:
        xs = xs if memory is None else xs + memory[None]
        with jax.named_scope("decoder"):
            _, ys = unroll(self.decoder, params.decoder, xs, state, key=key, engine=self.engine)
        return ys, None

    def check_batch(self, batch: Batch) -> None:
        check_is_batch(batch)
        # The lengths are those of the targets: xs have no steps.
        check_ranges(batch._replace(xs=batch.targets), labels=self.labels)

    def target_lengths(self, batch: Batch) -> Array | None:
        return batch.lengths


def _vector_size(xs: Any) -> int:
    """C; ValueError unless ``xs`` are vectors ``[B, C]``."""
    shape, dtype = shape_of(xs)
    if len(shape) != 2 or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"xs are {dtype}{list(shape)}; a conditioned decoder reads one vector of floats for "
            "each sequence, so give [B, C]"
        )
    return shape[-1]


def conditioned_decoder(
    cell: Cell,
    vocabulary_size: int,
    *,
    every_input: bool = False,
    embedding_size: int | None = None,
    start: int = 0,
    dropout: float = 0.0,
    engine: str = "auto",
) -> ConditionedDecoder:
    """A model that writes a sequence of symbols about a vector, such as the caption of an image.

    s₀ = W v + b, for every leaf of the state (Vinyals et al. 2015, arXiv 1411.4555, give the vector
    as a first input instead); ``every_input`` also adds U v to every input.

    A batch has vectors xs ``[B, C]``, targets ``[T, B]``, their lengths ``[B]`` and a mask
    ``[T, B]``. ``apply`` returns logits ``[T, B, V]`` with teacher forcing, and ``generate``
    writes. The loss is the mean cross-entropy, in nats; its ``sampling`` is that of scheduled
    sampling.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import conditioned_decoder
    >>> model = conditioned_decoder(rnnlab.LSTM(8), 5)
    >>> batch = rnnlab.data.Batch(jnp.ones((4, 3)), jnp.zeros((7, 4), int))
    >>> params = model.init(jax.random.key(0), batch)
    >>> model.apply(params, batch).shape, model.generate(params, batch, steps=6).shape
    ((7, 4, 5), (6, 4))

    Args:
        cell: any cell or layer that reads in one direction.
        vocabulary_size: V, the number of symbols.
        every_input: whether the vector is also added to every input.
        embedding_size: E, the size of the embedding; ``cell.hidden_size`` by default.
        start: the code that the cell reads first.
        dropout: on the embedding and before the readout, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: for sizes below 1, a bidirectional cell or one without a state, a start outside
            of the vocabulary; when used, for inputs, targets and parameters that do not fit, and
            for a batch with resets, which pack several sequences into one.
    """
    return ConditionedDecoder(
        decoder=cell,
        vocabulary_size=_check.positive_int("vocabulary_size", vocabulary_size),
        every_input=every_input,
        embedding_size=embedding_size,
        start=start,
        dropout=dropout,
        engine=engine,
    )
